"""Parts of files as batches for the writer: the id, `@event_time` in ms, and features by their names."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from featurestore.contract import arrow
from featurestore.contract.words import EVENT_TIME
from featurestore.errors import BadTimeError

from .columns import ColumnPlanner, Columns
from .lines import flat
from .parts import Given, Part
from .times import Unit, time_of, to_ms

_ID = "@id"
"""What the ids' column is called in a batch that has a feature of the column's name."""


class Clock(msgspec.Struct, frozen=True):
    """How event times are read.

    Attributes:
        started_ms: The time of rows that have none.
        unit: The unit of numbers, but of `@event_time`, which is in ms; None: ms.
        told: Whether the caller told the unit. If not, it was found by what is plausible, and what is not is refused.
    """

    started_ms: int
    unit: Unit | None = None
    told: bool = False

    def reading(self, column: str | None) -> tuple[Unit | None, bool]:
        """Return the unit of a column's numbers, and whether they have to be plausible in it."""
        if column == EVENT_TIME:
            return "ms", False  # as the store's own files have it, whatever unit other columns have
        return self.unit, not self.told


Wrong = tuple[int, str, str]
"""A row's index in its part, a code and a reason."""


class Prepared(msgspec.Struct, frozen=True):
    """A batch for the writer.

    Attributes:
        batch: A record batch, or a list of objects.
        id: The column of the ids.
        kept: The index in the part of each row of the batch.
        wrong: The rows of the part that are left out.
    """

    batch: Any
    id: str
    kept: Sequence[int]
    wrong: Sequence[Wrong]


def prepare(part: Part, columns: Columns | None, planner: ColumnPlanner, clock: Clock) -> Prepared:
    """Return the batch of a part.

    Args:
        part: Rows of a file.
        columns: What its columns are for; None where each row tells.
        planner: Tells it for such rows.
        clock: How event times are read.
    """
    if isinstance(part.rows, list):
        return _objects(part, planner, clock)
    if columns is None:
        raise TypeError("columns are planned for files that have them")
    return _columns(part, columns, clock)


def has_time(row: Given, columns: Columns | None, planner: ColumnPlanner) -> bool:
    """Return whether a row tells its event time; arguments are those of `prepare`."""
    if not isinstance(row, dict):
        return False
    values = flat(row)
    name = columns.time if columns is not None else planner.time_name(values)
    value = None if name is None else values.get(name)
    return value is not None and value != ""


def _columns(part: Part, columns: Columns, clock: Clock) -> Prepared:
    pa = arrow.library()
    rows = part.rows
    times: Any = [None] * rows.num_rows
    wrong: dict[int, str] = {}
    if columns.time is not None:
        unit, plausible = clock.reading(columns.time)
        times, wrong = to_ms(rows.column(columns.time), unit, plausible=plausible)
    start = clock.started_ms
    arrays = [rows.column(columns.id), _array(times).fill_null(start)]
    for name, feature in columns.features.items():
        column = rows.column(name)
        if feature.endswith(EVENT_TIME):
            own_times, no_times = to_ms(column, "ms", plausible=False)
            column, wrong = _array(own_times), {**no_times, **wrong}
        arrays.append(column)
    named = _ID if columns.id in columns.features.values() else columns.id
    batch = pa.RecordBatch.from_arrays(arrays, names=[named, EVENT_TIME, *columns.features.values()])
    kept: Sequence[int] = range(rows.num_rows)
    if wrong:
        kept = [index for index in kept if index not in wrong]
        batch = batch.take(pa.array(kept, pa.int64()))
    return Prepared(batch, named, kept, [(index, BadTimeError.code, reason) for index, reason in wrong.items()])


def _array(times: Any) -> Any:
    """Return event times as an array of int64 of Arrow, which they may be already."""
    pa = arrow.library()
    return pa.array(times, pa.int64()) if isinstance(times, list) else times


def _objects(part: Part, planner: ColumnPlanner, clock: Clock) -> Prepared:
    wished = planner.wishes.id or planner.id_names[0]
    named = _ID if wished in planner.features else wished
    read = row_reader(planner, clock, named)
    batch: list[dict[str, Any]] = []
    kept: list[int] = []
    wrong: list[Wrong] = []
    for index, row in enumerate(part.rows):
        time = part.times[index] if part.times else None
        try:
            batch.append(read(row, clock.started_ms if time is None else time))
            kept.append(index)
        except BadTimeError as error:
            wrong.append((index, BadTimeError.code, str(error)))
        except UnfitRowError as error:
            wrong.append((index, error.code, str(error)))
    return Prepared(batch, named, kept, wrong)


class UnfitRowError(Exception):
    """A row that is not for the writer; `code` says why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def row_reader(planner: ColumnPlanner, clock: Clock, named: str) -> Callable[[dict[str, Any], int], dict[str, Any]]:
    """Return what makes an object for the writer of one of a file, and of the time that it has if it tells none.

    Args:
        planner: Tells what its names are for.
        clock: How event times are read.
        named: What the id is called.
    """
    wishes, id_names = planner.wishes, planner.id_names
    ids = [wishes.id] if wishes.id is not None else id_names
    lenient = wishes.ignore_undeclared or wishes.only is not None

    def read(row: dict[str, Any], time: int) -> dict[str, Any]:
        found = next((name for name in ids if name in row), None)
        timed = planner.time_name(row)
        batch_row = {named: row[found] if found else None, EVENT_TIME: time}
        if timed is not None:
            unit, plausible = clock.reading(timed)
            own = time_of(row[timed], unit or "ms", plausible=plausible)
            batch_row[EVENT_TIME] = time if own is None else own
        for name, value in row.items():
            if name in {found, timed} and name not in wishes.rename:
                continue
            feature = wishes.rename.get(name, name)
            if wishes.only is not None and name not in wishes.only and name not in wishes.rename:
                continue
            if not planner.is_known(feature):
                if lenient:
                    continue
                raise UnfitRowError("UNDECLARED", f"{name} is not declared in the schema")
            if feature in batch_row:
                raise UnfitRowError("BADARGS", f"the feature {feature} is there twice")
            batch_row[feature] = time_of(value, "ms") if feature.endswith(EVENT_TIME) else value
        return batch_row

    return read
