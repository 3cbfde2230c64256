"""Rows of files as the store would have them: which column is what, and what its values are."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from featurestore.contract.frame_columns import fitted, id_column, time_column, values_at
from featurestore.contract.frame_rows import TimeUnit
from featurestore.contract.words import encode_id
from featurestore.errors import BadArgumentsError, BadIdError, UnsuitableValueError
from featurestore.schema.times import time_of
from featurestore.schema.values import row_value, shown

from .rows import EVENT_TIME, own_time_column


class Unsuitable(msgspec.Struct, frozen=True, eq=False):
    """Stands for a value of a file that is not of its feature's type, and so is like no value of the store.

    Attributes:
        value: What the file has.
    """

    value: Any


class FileRows(msgspec.Struct, frozen=True):
    """Some rows of a file.

    Attributes:
        ids: The id of each row, as it is stored; None where it is none.
        times: The event time of each row in ms; None for none.
        values: Feature → the value in each row as rows of the store have it; None for none.
        own_times: Feature → the event time of its own in each row, for features that have such a column.
    """

    ids: list[bytes | None]
    times: list[int | None]
    values: dict[str, list[Any]]
    own_times: dict[str, list[int | None]]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, first: int, count: int) -> "FileRows":
        """Return `count` rows from `first` on."""
        rows = slice(first, first + count)
        values = {name: column[rows] for name, column in self.values.items()}
        own_times = {name: column[rows] for name, column in self.own_times.items()}
        return FileRows(self.ids[rows], self.times[rows], values, own_times)

    @property
    def names(self) -> tuple[Sequence[str], Sequence[str]]:
        """The features that the rows have, and those with event times of their own."""
        return tuple(self.values), tuple(self.own_times)


def joined(parts: Sequence[FileRows]) -> Iterator[FileRows]:
    """Yield the rows of the parts, those next to each other as one where they have the same columns."""
    for _, group in groupby(parts, key=lambda part: part.names):
        rows = list(group)
        ids, times = [each for part in rows for each in part.ids], [each for part in rows for each in part.times]
        values = {name: [each for part in rows for each in part.values[name]] for name in rows[0].values}
        own = {name: [each for part in rows for each in part.own_times[name]] for name in rows[0].own_times}
        yield FileRows(ids, times, values, own)


class Layout:
    """Which column of a file is what.

    Args:
        names: The columns.
        features: The features of the entity that can be compared, with their types.
        id_names: What the column of ids may be called, the likeliest first.
        event_time: The column of event times; None: `@event_time` or `event_time`, where there is one.
        unit: The unit of event times that are numbers.
        renamed: Column → the feature that it holds.

    Attributes:
        features: The features that the file has, with their types.
        ignored: The columns that are nothing of it.

    Raises:
        BadArgumentsError: There is no such column, or there are two for the same.
    """

    def __init__(  # noqa: PLR0913 - what a caller may say of a file
        self,
        names: Sequence[str],
        features: Mapping[str, str],
        *,
        id_names: Sequence[str],
        event_time: str | None = None,
        unit: TimeUnit = "ms",
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        renamed = renamed or {}
        self._unit = unit
        for name in (*renamed, *([event_time] if event_time else ())):
            if name not in names:
                raise BadArgumentsError(f"there is no column {shown(name)}: {_columns_told(names)}")
        found = next((name for name in id_names if name in names), None)
        if found is None:
            raise BadArgumentsError(
                f"no column has the ids ({', '.join(id_names)}), --id names it: {_columns_told(names)}"
            )
        self._id_name = found
        self._time = event_time or next((name for name in (EVENT_TIME, "event_time") if name in names), None)
        self._columns: dict[str, str] = {}
        own = {own_time_column(name): name for name in features}
        self._own = {own[name]: name for name in names if name in own}
        rest = [name for name in names if name not in {found, self._time, *self._own.values()}]
        for name in rest:
            self._place(name, renamed.get(name, name), features)
        self.ignored = [name for name in rest if name not in self._columns.values()]
        self.features = {name: kind for name, kind in features.items() if name in self._columns}

    def _place(self, column: str, feature: str, features: Mapping[str, str]) -> None:
        if feature in self._columns:
            raise BadArgumentsError(f"two columns hold {feature}: {self._columns[feature]} and {column}")
        if feature in features:
            self._columns[feature] = column
        elif feature != column:
            raise BadArgumentsError(f"{shown(feature)}, which column {column} is to hold, is no feature")

    def rows(self, columns: Mapping[str, Any], count: int, *, text: bool = False) -> FileRows:
        """Return rows of a file with these columns.

        Args:
            columns: Name → an array of pyarrow, or a list.
            count: How many rows there are.
            text: Whether all columns are text, as in CSV: then empty text is no value.
        """
        times: list[int | None] = [None] * count
        if self._time is not None:
            times = _times(columns[self._time], self._time, self._unit)
        values = {name: _values(columns[self._columns[name]], kind, text=text) for name, kind in self.features.items()}
        own = {name: _times(columns[column], column, self._unit) for name, column in self._own.items()}
        ids = values_at(id_column(columns[self._id_name]), "string", None, as_text=False)
        return FileRows([_id(each) for each in ids], times, values, own)


def part_columns(rows: Any) -> Mapping[str, Any]:
    """Return the columns of rows of a file: of a record batch, or of objects, None where one lacks a name."""
    if isinstance(rows, list):
        return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    return dict(zip(rows.schema.names, rows.columns, strict=True))


def _columns_told(names: Sequence[str]) -> str:
    return f"the columns are {', '.join(names)}" if names else "there are no columns"


def _times(column: Any, name: str, unit: TimeUnit) -> list[int | None]:
    """Return a column of event times in ms.

    Raises:
        BadArgumentsError: One of them is no time.
    """
    return [_ms(value, unit) for value in values_at(time_column(column, name, unit), "", None, as_text=False)]


def _ms(value: Any, unit: TimeUnit) -> int | None:
    if value is None or isinstance(value, int):
        return value
    try:
        return time_of(value) if value else None
    except (TypeError, ValueError):
        raise BadArgumentsError(f"{shown(value)} is no event time: a number of {unit}, or ISO 8601") from None


def _id(value: Any) -> bytes | None:
    """Return an id as it is stored; None where it is none."""
    try:
        return encode_id(value)
    except BadIdError:
        return None


def _values(column: Any, kind: str, *, text: bool) -> list[Any]:
    """Return the values of a feature as rows of the store have them."""
    return [_stored(kind, value) for value in values_at(fitted(column, kind), kind, None, as_text=text)]


def _stored(kind: str, value: Any) -> Any:
    try:
        return row_value(kind, value)
    except UnsuitableValueError:
        return Unsuitable(value)


class Sample:
    """Rows chosen at random, all with the same chance, of rows whose number is not known.

    Args:
        count: How many to choose.
        seed: Start of the random numbers.

    Attributes:
        chosen: The rows chosen so far, each by itself.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._random = count, random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._seen = 0
        self.chosen: list[FileRows] = []

    def offer(self, rows: FileRows) -> None:
        """Choose among further rows: the one of number n takes a place with a chance of `count` in n."""
        for position in range(len(rows)):
            self._seen += 1
            if len(self.chosen) < self._count:
                self.chosen.append(rows.part(position, 1))
                continue
            place = self._random.randrange(self._seen)
            if place < self._count:
                self.chosen[place] = rows.part(position, 1)
