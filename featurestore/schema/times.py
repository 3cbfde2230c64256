"""Moments and spans of time, in ms."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(text: str) -> int:
    """Return ms since 1970 for a time that the scripts accept: digits, or ISO 8601, in UTC unless it has an offset."""
    if text.isdigit():
        return int(text)
    moment = datetime.fromisoformat(text)
    return ms_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def parse_duration(text: str) -> int:
    """Return the ms in `30d`, `12h`, `5m`, `10s`, `500ms` or plain digits (ms).

    Raises:
        ValueError: It is none of these.
    """
    match = re.fullmatch(r"([0-9]{1,13})(ms|s|m|h|d)?", text)
    if match is None:
        raise ValueError(f"{text!r} is no span of time such as 30d, 12h, 5m, 10s or 500ms")
    return int(match[1]) * _UNITS_MS[match[2] or "ms"]


def ms_of(moment: datetime) -> int:
    """Return an aware moment as ms since 1970."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)  # exact: float seconds would be 1 ms off for some


TIME_UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Units of event times given as numbers → ns."""

_FIRST_S, _LAST_S = 10**8, 10**11
"""Numbers in this span are seconds from 1973 to 5138, and those in a thousand times it ms of these years, and so on."""


def units_of(numbers: Iterable[float]) -> set[str]:
    """Return the units in which these numbers would be moments from 1973 to 5138; of each number there is one at most.

    The empty text stands for those that would not be in any.
    """
    return {_unit_of(number) for number in numbers}


def _unit_of(number: float) -> str:
    for unit, factor in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        if _FIRST_S * factor <= number < _LAST_S * factor:
            return unit
    return ""
