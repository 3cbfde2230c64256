"""How ids, values and times become the words that the scripts take."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import index
from typing import Any

from featurestore.errors import BadIdError, BadTimeError
from featurestore.keys import MAX_ID_BYTES
from featurestore.schema.times import ms_of
from featurestore.schema.values import held, row_value, shown


class Mark(bytes):
    """Bytes in a value's place that are no value. Bytes from a caller are never taken for one."""


FORGET = Mark(b"\xff")
"""In a value's place: remove the feature."""

LEAVE = Mark(b"\xfe")
"""In a value's place: leave what is stored."""

_MOST_TIME = 10**15
_INT64 = 2**63

_WRITERS: Mapping[type, Callable[[Any], str | bytes]] = {
    float: float.__repr__,
    int: int.__repr__,
    str: str.encode,
    bool: lambda value: "true" if value else "false",
    bytes: lambda value: value,
    type(None): lambda _: FORGET,
}
"""Python type → how its values are written for the scripts; floats with all digits that they need."""


VERDICTS = {"C": "created", "A": "applied", "P": "partly stale", "S": "stale", "D": "duplicate", "R": "rejected"}
"""Letter in the scripts' replies → what became of the row."""

EVENT_TIME = "@event_time"
"""Name of the column with each row's event time."""

EVENT_ID = "@event_id"
"""Name of the column with each event's id, which tells a repeated event from a new one."""


def to_text(kind: str, value: object) -> str | bytes:
    """Return the word for a value of a feature of that type; for None, the mark that removes the feature.

    Raises:
        UnsuitableValueError: The value is not of that type; see `row_value`.
    """
    if isinstance(value, Mark):
        return value
    plain = row_value(kind, value)
    if type(plain) is float:  # the script reads ints and the sign of a zero itself
        number = held(value)
        plain = int(number) if isinstance(number, int) and -_INT64 <= number < _INT64 else float(number)
    return _WRITERS[type(plain)](plain)


def to_time(value: object) -> str:
    """Return the word for an event time: ms since 1970, ISO 8601 text as it is, empty text for None.

    Raises:
        BadTimeError: It is none of these, nor an aware datetime.
    """
    if value is None or value is LEAVE:
        return ""
    if isinstance(value, str) and value and value.isascii():
        return str.__str__(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadTimeError(f"the event time {value} has no time zone")
        value = ms_of(value)
    try:
        ms = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]  # numpy's ints have it too
    except TypeError:
        ms = -1
    if not 0 <= ms < _MOST_TIME:
        raise BadTimeError(f"the event time must be ms since 1970, ISO 8601 or an aware datetime, not {shown(value)}")
    return str(ms)


def encode_id(entity_id: str) -> bytes:
    """Return an entity's id as it is stored.

    Raises:
        BadIdError: It is empty, longer than 256 bytes, or no text that UTF-8 can hold.
    """
    try:
        raw = entity_id.encode()
    except (AttributeError, UnicodeEncodeError):
        raise BadIdError(f"an id is unicode text, not {ascii(entity_id)[:64]}") from None
    if not 0 < len(raw) <= MAX_ID_BYTES:
        raise BadIdError(f"an id is 1 to {MAX_ID_BYTES} bytes of UTF-8 long, not {len(raw)}")
    return raw


def check_ids(ids: Sequence[str]) -> None:
    """Refuse ids that `encode_id` would refuse.

    Raises:
        BadIdError: One of them is no id.
    """
    try:
        if all(map(str.isascii, ids)) and all(0 < length <= MAX_ID_BYTES for length in set(map(len, ids))):
            return
    except TypeError:
        pass
    for entity_id in ids:
        encode_id(entity_id)
