"""How ids and values become the text that the scripts take."""

import re
import sys
from array import array
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from featurestore.errors import BadArgumentsError, BadTimeError
from featurestore.keys import MAX_ID_BYTES

FORGET = b"\xff"
"""In a value's place: remove the feature."""

LEAVE = b"\xfe"
"""In a value's place: leave what is stored."""

_MOST_SHOWN = 150
_MOST_TIME = 10**15
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


class UnsuitableValueError(ValueError):
    """A value that has no text: a list, an object, text with a lone surrogate."""


VERDICTS = {"C": "created", "A": "applied", "P": "partly stale", "S": "stale", "D": "duplicate", "R": "rejected"}
"""What the letters of the scripts' verdicts mean."""

EVENT_TIME = "@event_time"
"""The column with the event time of each row."""

EVENT_ID = "@event_id"
"""The column with the text that tells events apart."""


def to_text(value: object) -> str | bytes:
    """Return what a feature's value is sent as; the script decides whether it fits the feature's type.

    Floats are written with as many digits as reproduce them bit for bit. numpy's scalars count as what they hold.

    Raises:
        UnsuitableValueError: The value cannot be any feature's.
    """
    writer = _WRITERS.get(type(value))
    if writer is None:
        scalar = getattr(value, "item", None)
        writer = _WRITERS.get(type(scalar())) if scalar is not None and getattr(value, "ndim", 1) == 0 else None
        if scalar is None or writer is None:
            raise UnsuitableValueError(f"{_shown(value)} of type {type(value).__name__} is no feature value")
        value = scalar()
    try:
        return writer(value)
    except UnicodeEncodeError:
        raise UnsuitableValueError(f"{ascii(value)[:64]} is not valid unicode") from None
    except ValueError:
        raise UnsuitableValueError(f"{_shown(value)} is no feature value") from None


def to_vector(value: object) -> bytes:
    """Return a vector as it is stored: 4 bytes a number, little-endian. Bytes are taken to be that already.

    Raises:
        UnsuitableValueError: The value is no sequence of numbers.
    """
    if value is None:
        return FORGET
    if isinstance(value, bytes):
        return value
    try:
        numbers = array("f", value.tolist() if hasattr(value, "tolist") else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise UnsuitableValueError(f"{_shown(value)} of type {type(value).__name__} is no vector of numbers") from None
    if sys.byteorder != "little":
        raise UnsuitableValueError(f"{_shown(value)} is no vector of numbers")
    return numbers.tobytes()


def _shown(value: object) -> str:
    """Return what messages say of a value."""
    try:
        return repr(value)[:_MOST_SHOWN]
    except ValueError:
        return "a number of thousands of digits"


def to_time(value: object) -> str:
    """Return an event time as the scripts take it: ms since 1970, ISO 8601 text as it is, nothing for None.

    Raises:
        BadTimeError: It is none of these, nor an aware datetime.
    """
    if value is None or value == LEAVE:
        return ""
    if isinstance(value, str) and value and value.isascii():
        return value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadTimeError(f"the event time {value} has no time zone")
        value = _ms_of(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_TIME:
        raise BadTimeError(f"the event time must be ms since 1970, ISO 8601 or an aware datetime, not {_shown(value)}")
    return str(value)


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
        BadArgumentsError: It is empty, longer than 256 bytes, or no text that UTF-8 can hold.
    """
    try:
        raw = entity_id.encode()
    except (AttributeError, UnicodeEncodeError):
        raise BadArgumentsError(f"an id is unicode text, not {ascii(entity_id)[:64]}") from None
    if not 0 < len(raw) <= MAX_ID_BYTES:
        raise BadArgumentsError(f"an id is 1 to {MAX_ID_BYTES} bytes of UTF-8 long, not {len(raw)}")
    return raw
