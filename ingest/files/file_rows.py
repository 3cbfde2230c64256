"""Rows of files as the store would have them: which column is what, and what its values are."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby, pairwise
from math import isnan
from typing import Any

import msgspec

from featurestore.contract.arrow import library
from featurestore.contract.hashes import caster
from featurestore.contract.words import encode_id
from featurestore.errors import BadArgumentsError, BadIdError, UnsuitableValueError
from featurestore.schema.times import ms_of, time_of
from featurestore.schema.types import vector_length
from featurestore.schema.values import row_value, shown

from .rows import EVENT_TIME, time_column

UNITS: Mapping[str, tuple[int, int]] = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}
"""Unit of event times that are numbers → how many ms so many of it are."""


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
        unit: str = "ms",
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        renamed = renamed or {}
        self._unit = unit
        for name in (*renamed, *([event_time] if event_time else ())):
            if name not in names:
                raise BadArgumentsError(f"there is no column {shown(name)}: {_columns_told(names)}")
        self._id = next((name for name in id_names if name in names), None)
        if self._id is None:
            raise BadArgumentsError(
                f"no column has the ids ({', '.join(id_names)}), --id names it: {_columns_told(names)}"
            )
        self._time = event_time or next((name for name in (EVENT_TIME, "event_time") if name in names), None)
        self._columns: dict[str, str] = {}
        own = {time_column(name): name for name in features}
        self._own = {own[name]: name for name in names if name in own}
        rest = [name for name in names if name not in {self._id, self._time, *self._own.values()}]
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

    def rows(self, batch: Any, *, text: bool = False) -> FileRows:
        """Return the rows of a record batch of pyarrow with these columns.

        Args:
            batch: The record batch.
            text: Whether all columns are text, as in CSV: then empty text is no value.
        """
        columns = {name: batch.column(position) for position, name in enumerate(batch.schema.names)}
        times: list[int | None] = [None] * batch.num_rows
        if self._time is not None:
            times = _times(columns[self._time], self._unit)
        values = {name: _values(columns[self._columns[name]], kind, text=text) for name, kind in self.features.items()}
        own = {name: _times(columns[column], self._unit) for name, column in self._own.items()}
        return FileRows([_id_of(each) for each in columns[self._id].to_pylist()], times, values, own)


def _columns_told(names: Sequence[str]) -> str:
    return f"the columns are {', '.join(names)}" if names else "there are no columns"


def _times(column: Any, unit: str) -> list[int | None]:
    """Return a column of event times in ms; Python's own times know no ns, so those of Arrow are not made such."""
    kind = str(column.type)
    if kind.startswith("timestamp["):
        zone = kind.partition("tz=")[2].rstrip("]")
        found: list[int | None] = (
            column.cast(library().timestamp("ms", zone or None), safe=False).cast("int64").to_pylist()
        )
        return found
    return [None if value is None or value == "" else _ms(value, unit) for value in column.to_pylist()]


def _ms(value: Any, unit: str) -> int:
    """Return an event time in ms.

    Raises:
        BadArgumentsError: It is none.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        return ms_of(value if value.tzinfo else value.replace(tzinfo=UTC))
    try:
        if isinstance(value, str) and not value.isdigit():
            return time_of(value)
        times, divided = UNITS[unit]
        return int(value) * times // divided
    except (TypeError, ValueError, OverflowError):
        raise BadArgumentsError(f"{shown(value)} is no event time: a number of {unit}, or ISO 8601") from None


def _id_of(value: Any) -> bytes | None:
    """Return an id as it is stored; None where it is none. Whole numbers are ids, too."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    try:
        return encode_id(text)
    except BadIdError:
        return None


def _values(column: Any, kind: str, *, text: bool) -> list[Any]:
    """Return the values of a feature as rows of the store have them."""
    length = vector_length(kind)
    vectors = _vectors(column, length) if length else None
    if vectors is not None:
        return vectors
    listed: list[Any] = column.to_pylist()
    if str(column.type) == _ARROW_NAMES.get(kind) and not text:
        return listed
    read = _text_reader(kind) if text else _reader(kind)
    return [None if value is None else read(value) for value in listed]


def _vectors(column: Any, length: int) -> list[Any] | None:
    """Return the bytes of each vector, without a Python object for each number; None where numbers are missing.

    What is not finite stays as it is: no stored vector has such bytes.
    """
    pa = library()
    is_fixed = pa.types.is_fixed_size_list(column.type)
    if not (is_fixed or pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return None
    if not pa.types.is_floating(column.type.value_type) or column.values.null_count:
        return None
    if is_fixed:
        size = column.type.list_size
        starts = [(column.offset + row) * size for row in range(len(column) + 1)]
    else:
        starts = column.offsets.to_pylist()
    numbers = column.values.cast(pa.float32(), safe=False)
    first, data = numbers.offset, memoryview(numbers.buffers()[1] or b"")
    cuts = [(4 * (first + start), 4 * (first + end)) for start, end in pairwise(starts)]
    return [
        None
        if not is_valid
        else bytes(data[start:end])
        if end - start == 4 * length
        else Unsuitable(column[row].as_py())
        for row, ((start, end), is_valid) in enumerate(zip(cuts, column.is_valid().to_pylist(), strict=True))
    ]


_ARROW_NAMES: Mapping[str, str] = {"int": "int64", "bool": "bool", "string": "string"}
"""Type of a feature → the type of columns whose values are like the store's already."""


def _reader(kind: str) -> Callable[[Any], Any]:
    cast = caster(kind)

    def read(value: Any) -> Any:
        if isinstance(value, float) and isnan(value):
            return None
        if isinstance(value, Decimal):
            value = int(value) if value == value.to_integral_value() else float(value)
        if isinstance(value, str) and kind in {"float", "int", "bool"}:
            found = cast(value.encode(errors="replace"))
            return Unsuitable(value) if found is None else found
        try:
            return row_value(kind, value)
        except UnsuitableValueError:
            return Unsuitable(value)

    return read


def _text_reader(kind: str) -> Callable[[Any], Any]:
    read = _reader(kind)
    return lambda value: None if value == "" else read(value)


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
