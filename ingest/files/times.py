"""Event times in files: in which unit they count, and as ms since 1970."""

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal, cast

from featurestore.contract import arrow
from featurestore.contract.words import EVENT_TIME
from featurestore.errors import BadTimeError, ConfigurationError
from featurestore.schema.times import ms_of
from featurestore.schema.values import shown

Unit = Literal["s", "ms", "us", "ns"]

AUTO = "auto"
"""Stands for a unit that is to be found."""

PER_SECOND: dict[Unit, int] = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}

_FIRST_S, _LAST_S = 10**8, 4_133_980_800  # March 1973 and 2101: in these years a number's magnitude tells its unit
_YEARS = "between 1973 and 2100"
_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_MOST_MS = 10**15
_DIGITS = re.compile(r"[+-]?\d+(\.\d*)?([eE]\+?\d{1,2})?")


def told_unit(option: str, column: str | None) -> Unit | None:
    """Return the unit that `--event-time-unit` tells; None for `auto`.

    Args:
        option: Its value.
        column: The column of event times that the caller names; None for none.

    Raises:
        ConfigurationError: The column is `@event_time`, and the unit another than ms.
    """
    if column == EVENT_TIME and option not in {AUTO, "ms"}:
        raise ConfigurationError(f"{EVENT_TIME} is in ms, whatever file has it: leave --event-time-unit {option} out")
    return None if option == AUTO else cast("Unit", option)


def likely_unit(number: float) -> Unit | None:
    """Return the unit in which a number is a moment between 1973 and 2100; None if it is in none."""
    for unit, scale in PER_SECOND.items():
        if _FIRST_S * scale <= number < _LAST_S * scale:
            return unit
    return None


class UnitFinder:
    """Finds the unit of a column of event times by the magnitude of its numbers.

    Text that is no number and Arrow's own times have no unit to be found.
    """

    def __init__(self) -> None:
        self._seen: dict[Unit | None, tuple[float, str, int]] = {}

    def look(self, values: Any, path: str, positions: Sequence[int]) -> None:
        """Take note of the values of a column, an array of Arrow or a list; null is none."""
        if not isinstance(values, list):
            ends = _ends_of(values)
            if ends is not None and (ends == () or self._knows(ends)):
                return
            values = values.to_pylist()
        for value, position in zip(values, positions, strict=True):
            number = _number_of(value)
            if number is not None:
                self._seen.setdefault(likely_unit(number), (number, path, position))

    @property
    def units(self) -> set[Unit | None]:
        """The units of the numbers so far; None stands for numbers that are in no unit a plausible moment."""
        return set(self._seen)

    def forget(self, path: str) -> None:
        """Forget what was seen of a file."""
        self._seen = {unit: seen for unit, seen in self._seen.items() if seen[1] != path}

    def _knows(self, ends: tuple[float, ...]) -> bool:
        """Return whether the least and the largest number are of one unit that has been seen already."""
        units = {likely_unit(end) for end in ends}
        return len(units) == 1 and None not in units and units <= self._seen.keys()

    def unit(self, column: str) -> Unit | None:
        """Return the unit that all numbers have; None if there was no number.

        Numbers that are in none of the units are left to `to_ms`, unless there are no others.

        Raises:
            ConfigurationError: They are of several units, or of none.
        """
        found = [unit for unit in self._seen if unit is not None]
        if len(found) > 1:
            examples = ", ".join(
                f"{self._seen[unit][0]} ({_NAMES[unit]}; {self._seen[unit][1]}, row {self._seen[unit][2]})"
                for unit in found
            )
            raise ConfigurationError(
                f"the event times of column {column} are of several units: {examples}. Nothing was written. "
                f"--event-time-unit {found[0]} takes all numbers for {_NAMES[found[0]]}"
            )
        if not found and self._seen:
            number, path, position = self._seen[None]
            raise ConfigurationError(
                f"column {column} has {number} ({path}, row {position}): in no unit is that a moment {_YEARS}. "
                "Is it the column of event times? --event-time-unit s, ms, us or ns takes the numbers as they are"
            )
        return found[0] if found else None


def _ends_of(values: Any) -> tuple[float, ...] | None:
    """Return an array's least and largest number; () if it has none, None if each value has to be looked at."""
    pa = arrow.library()
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type) or values.null_count == len(values):
        return ()
    if not pa.types.is_integer(values.type):
        return None
    ends = _compute().min_max(values).as_py()
    return (ends["min"], ends["max"])


def _compute() -> Any:
    from pyarrow import compute  # noqa: PLC0415 - an extra

    return compute


def _number_of(value: object) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        if not _DIGITS.fullmatch(text):
            return None
        return int(text) if text.isdigit() else float(text)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value):
        return value if isinstance(value, int | float) else float(value)
    return None


def to_ms(values: Any, unit: Unit | None, *, plausible: bool) -> tuple[Any, dict[int, str]]:
    """Return event times as ms since 1970, and what is wrong with those that are no times.

    They are an array of int64 where a whole column could be read at once, else a list; null where there is none.

    Args:
        values: An array of Arrow, or a list.
        unit: The unit of numbers; ms if it is None.
        plausible: Whether numbers have to be moments between 1973 and 2100, since their unit was found by that.
    """
    whole = None if isinstance(values, list) else _whole_column(values, unit or "ms", plausible=plausible)
    if whole is not None:
        return whole, {}
    times: list[int | None] = []
    wrong: dict[int, str] = {}
    for index, value in enumerate(values if isinstance(values, list) else _pythons(values)):
        try:
            times.append(time_of(value, unit or "ms", plausible=plausible))
        except BadTimeError as error:
            wrong[index] = str(error)
            times.append(None)
    return times, wrong


def _pythons(values: Any) -> Iterable[Any]:
    pa = arrow.library()
    if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)  # Python's moments have no ns
    found: Iterable[Any] = values.to_pylist()
    return found


def _whole_column(values: Any, unit: Unit, *, plausible: bool) -> Any:
    """Return the times of a column that has none that is wrong, as an array; None if each is to be looked at."""
    pa = arrow.library()
    compute = _compute()
    kind = values.type
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            values, kind = _parsed(values), None
        if kind is None and pa.types.is_timestamp(values.type):
            kind = values.type
        if kind is not None and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            values, unit, plausible = values.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()), "ms", False
        if not pa.types.is_integer(values.type):
            return None
        values = values.cast(pa.int64())
        ends = compute.min_max(values).as_py()
        if ends["min"] is None:
            return values
        if any(_misfit(end, unit, plausible=plausible) for end in ends.values()):
            return None
        scale = PER_SECOND[unit]
        if scale > 1000:  # noqa: PLR2004 - ms in a second
            values = compute.divide(values, scale // 1000)
        elif scale == 1:
            values = compute.multiply(values, 1000)
    except pa.ArrowException:
        return None
    return values


def _parsed(values: Any) -> Any:
    """Return a column of text as integers, or as moments; raise ArrowException where it is neither."""
    pa = arrow.library()
    values = _compute().replace_with_mask(values, _compute().equal(values, ""), pa.scalar(None, values.type))
    for kind in (pa.int64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return values.cast(kind)
        except pa.ArrowInvalid:
            continue
    raise pa.ArrowInvalid("of several kinds")


def time_of(value: object, unit: Unit, *, plausible: bool = False) -> int | None:
    """Return one event time as ms since 1970, None if there is none: null, NaN, empty text.

    Raises:
        BadTimeError: It is no time.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, datetime):
        return _checked(ms_of(value if value.tzinfo else value.replace(tzinfo=UTC)), value)
    if isinstance(value, date):
        return _checked(ms_of(datetime(value.year, value.month, value.day, tzinfo=UTC)), value)
    number = _number_of(value)
    if number is not None:
        wrong = _misfit(number, unit, plausible=plausible)
        if wrong:
            raise BadTimeError(wrong)
        if isinstance(number, int):
            return number * 1000 // PER_SECOND[unit]
        return round(number * 1000 / PER_SECOND[unit])
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise BadTimeError(f"the event time is a number or ISO 8601, not {shown(value)}") from None
        return _checked(ms_of(moment if moment.tzinfo else moment.replace(tzinfo=UTC)), value)
    raise BadTimeError(f"the event time is a number or ISO 8601, not {shown(value)}")


def _checked(ms: int, value: object) -> int:
    if not 0 <= ms < _MOST_MS:
        raise BadTimeError(f"the event time {value} is before 1970")
    return ms


def _misfit(number: float, unit: Unit, *, plausible: bool) -> str | None:
    """Return what is wrong with a number as an event time in that unit, None if nothing is."""
    if plausible and likely_unit(number) != unit:
        return f"the event time {number} is no moment {_YEARS} in {_NAMES[unit]} (--event-time-unit tells the unit)"
    if not 0 <= number * 1000 // PER_SECOND[unit] < _MOST_MS:
        return f"the event time {number} in {_NAMES[unit]} is no time since 1970"
    return None
