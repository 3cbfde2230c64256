"""How ids and values become the text that the scripts take."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from operator import index
from typing import Any

from featurestore.errors import BadIdError, BadTimeError
from featurestore.keys import MAX_ID_BYTES
from featurestore.values import held, row_value, shown


class Mark(bytes):
    """Bytes that stand in a value's place and mean something else; bytes from a caller are never taken for one."""


FORGET = Mark(b"\xff")
"""In a value's place: remove the feature."""

LEAVE = Mark(b"\xfe")
"""In a value's place: leave what is stored."""

_MOST_TIME = 10**15
_INT64 = 2**63
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_WRITERS: Mapping[type, Callable[[Any], str | bytes]] = {
    float: float.__repr__,
    int: int.__repr__,
    str: str.encode,
    bool: lambda value: "true" if value else "false",
    bytes: lambda value: value,
    type(None): lambda _: FORGET,
}
"""What rows hold, as the scripts take it; floats with as many digits as reproduce them bit for bit."""


VERDICTS = {"C": "created", "A": "applied", "P": "partly stale", "S": "stale", "D": "duplicate", "R": "rejected"}
"""What the letters of the scripts' verdicts mean."""

EVENT_TIME = "@event_time"
"""The column with the event time of each row."""

EVENT_ID = "@event_id"
"""The column with the text that tells events apart."""


def to_text(kind: str, value: object) -> str | bytes:
    """Return what a value of a feature of that kind is sent as; None as the mark that removes the feature.

    Raises:
        UnsuitableValueError: It is not of that kind; see `row_value`.
    """
    if isinstance(value, Mark):
        return value
    plain = row_value(kind, value)
    if type(plain) is float:  # the sign of a zero, and ints, are for the script to read
        number = held(value)
        plain = int(number) if isinstance(number, int) and -_INT64 <= number < _INT64 else float(number)
    return _WRITERS[type(plain)](plain)


def to_time(value: object) -> str:
    """Return an event time as the scripts take it: ms since 1970, ISO 8601 text as it is, nothing for None.

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
        value = _ms_of(value)
    try:
        ms = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]  # numpy's ints have it too
    except TypeError:
        ms = -1
    if not 0 <= ms < _MOST_TIME:
        raise BadTimeError(f"the event time must be ms since 1970, ISO 8601 or an aware datetime, not {shown(value)}")
    return str(ms)


def time_of(text: str) -> int:
    """Return the ms since 1970 of a time that the scripts took: digits, or ISO 8601 where no offset means UTC."""
    if text.isdigit():
        return int(text)
    moment = datetime.fromisoformat(text)
    return _ms_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def parse_duration(text: str) -> int:
    """Return the ms in `30d`, `12h`, `5m`, `10s`, `500ms` or plain digits (ms).

    Raises:
        ValueError: It is none of these.
    """
    match = re.fullmatch(r"([0-9]{1,13})(ms|s|m|h|d)?", text)
    if match is None:
        raise ValueError(f"{text!r} is no span of time such as 30d, 12h, 5m, 10s or 500ms")
    return int(match[1]) * _UNITS_MS[match[2] or "ms"]


def _ms_of(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)  # seconds as a float would be a ms off for some


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
