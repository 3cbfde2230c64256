"""Rows of files as the store would have them: which column is what, and what its values are."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from featurestore.contract.frame_columns import fitted, id_column, values_at
from featurestore.contract.words import encode_id
from featurestore.errors import BadIdError, UnsuitableValueError
from featurestore.schema.values import row_value

from .columns import Columns
from .preparing import Clock
from .rows import own_time_column
from .times import to_ms


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

    def without(self, places: Collection[int]) -> "FileRows":
        """Return the rows but those at some places."""
        kept = [place for place in range(len(self)) if place not in places]

        def picked(column: list[Any]) -> list[Any]:
            return [column[place] for place in kept]

        values = {name: picked(column) for name, column in self.values.items()}
        own_times = {name: picked(column) for name, column in self.own_times.items()}
        return FileRows(picked(self.ids), picked(self.times), values, own_times)

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
    """How rows of a file with some columns are read.

    Args:
        columns: What they are for.
        kinds: The features that can be compared, with their types.

    Attributes:
        columns: What they are for.
    """

    def __init__(self, columns: Columns, kinds: Mapping[str, str]) -> None:
        self.columns = columns
        column_of = {feature: column for column, feature in columns.features.items()}
        self._values = {name: (column_of[name], kind) for name, kind in kinds.items() if name in column_of}
        own = {name: own_time_column(name) for name in kinds}
        self._own = {name: column_of[time] for name, time in own.items() if time in column_of}

    def rows(
        self, columns: Mapping[str, Any], count: int, clock: Clock, *, text: bool = False
    ) -> tuple[FileRows, dict[int, str]]:
        """Return rows, and of those that are left out, since their event times are none, what is wrong.

        Args:
            columns: Name → an array of pyarrow, or a list.
            count: How many rows there are.
            clock: How event times are read.
            text: Whether all columns are text, as in CSV: then empty text is no value.
        """
        times: Any = [None] * count
        wrong: dict[int, str] = {}
        if self.columns.time is not None:
            unit, plausible = clock.reading(self.columns.time)
            times, wrong = to_ms(columns[self.columns.time], unit, plausible=plausible)
        own = {}
        for name, column in self._own.items():
            own_times, no_times = to_ms(columns[column], "ms", plausible=False)
            own[name], wrong = _listed(own_times), {**no_times, **wrong}
        values = {name: _values(columns[column], kind, text=text) for name, (column, kind) in self._values.items()}
        ids = values_at(id_column(columns[self.columns.id]), "string", None, as_text=False)
        rows = FileRows([_id(each) for each in ids], _listed(times), values, own)
        return (rows.without(wrong) if wrong else rows), wrong


def _listed(times: Any) -> list[int | None]:
    found: list[int | None] = times if isinstance(times, list) else times.to_pylist()
    return found


def part_columns(rows: Any) -> Mapping[str, Any]:
    """Return the columns of rows of a file: of a record batch, or of objects, None where one lacks a name."""
    if isinstance(rows, list):
        return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    return dict(zip(rows.schema.names, rows.columns, strict=True))


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
