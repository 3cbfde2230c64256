"""Rows of tables: what each column is for, and chunks as the parts that bulk writes are made of."""

import difflib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, groupby
from typing import Any, Literal

import msgspec

from featurestore.contract import arrow, row_calls
from featurestore.contract.bulk_calls import Encoded, Part, Row
from featurestore.contract.frame_columns import (
    fitted,
    id_column,
    native_column,
    time_column,
    values_at,
)
from featurestore.contract.frames import MISSING, Chunk
from featurestore.contract.partitions import in_turns, places_by_partition
from featurestore.contract.words import EVENT_TIME, LEAVE, to_time
from featurestore.errors import BadArgumentsError, BadTimeError, UnsuitableValueError
from featurestore.keys import EntityKeys, Keys, PartitionedKeys
from featurestore.schema.times import TIME_UNITS_NS, time_of
from featurestore.schema.values import held, row_value, shown

Nulls = Literal["remove", "keep"]
"""What becomes of a feature where a row has no value: it is removed, or stays as it is stored."""

TimeUnit = Literal["s", "ms", "us", "ns"]


class Reading(msgspec.Struct, frozen=True):
    """How the columns of a table are read.

    Attributes:
        id: The column of the ids; without it, the first that there is of those that ids are called by.
        time_column: The column of event times; without it, `@event_time` or `event_time`, where there is one.
        unit: The unit of event times that are numbers; ms if left out.
        rename: Column → feature, for columns that are called otherwise.
        nulls: What becomes of features without a value.
        text: Whether texts stand for values of any type, as those of CSV do.
        ignore_undeclared: Whether columns that are no features are left out without a word.
    """

    id: str | None = None
    time_column: str | None = None
    unit: TimeUnit | None = None
    rename: Mapping[str, str] = {}
    nulls: Nulls = "remove"
    text: bool = False
    ignore_undeclared: bool = False

    def __post_init__(self) -> None:
        """Refuse words that are none of those that there are."""
        if self.nulls not in {"remove", "keep"}:
            raise BadArgumentsError(f"nulls is remove or keep, not {shown(self.nulls)}")
        if self.unit not in {None, *TIME_UNITS_NS}:
            raise BadArgumentsError(f"unit is s, ms, us or ns, not {shown(self.unit)}")


class Roles(msgspec.Struct, frozen=True):
    """What the columns of a table are for, by their places.

    Attributes:
        id: The ids.
        time: The rows' event times, if they have their own.
        features: Feature → its values.
        times: Feature → event times of its values, which differ from the row's.
    """

    id: int
    time: int | None
    features: dict[str, int]
    times: dict[str, int]

    @property
    def columns(self) -> tuple[str, ...]:
        """What rows have behind their ids."""
        return (*(() if self.time is None and not self.times else (EVENT_TIME,)), *self.features)


def roles_of(names: Sequence[str], reading: Reading, id_names: Sequence[str]) -> Roles:
    """Return what columns with these names are for.

    Args:
        names: The columns' names.
        reading: What the caller says of them.
        id_names: What the column of the ids may be called.

    Raises:
        BadArgumentsError: A column is not there, or two of them are the same feature.
    """
    for name in reading.rename:
        _place_of(name, names)
    if reading.id is not None:
        id_place = _place_of(reading.id, names)
    else:
        found = [name for name in id_names if name in names]
        if not found:
            raise BadArgumentsError(
                f"no column is called {' or '.join(id_names)}: name theirs (there are {', '.join(names)})"
            )
        id_place = names.index(found[0])
    if reading.time_column is not None:
        time: int | None = _place_of(reading.time_column, names)
    else:
        time = next((names.index(name) for name in (EVENT_TIME, arrow.TIME_COLUMN) if name in names), None)
    features: dict[str, int] = {}
    times: dict[str, int] = {}
    for place, name in enumerate(names):
        if place in {id_place, time}:
            continue
        plain = reading.rename.get(name, name)
        feature, at, what = plain.rpartition("@")
        group = times if at and feature and f"@{what}" == arrow.TIME else features
        feature = feature if group is times else plain
        if feature in group:
            raise BadArgumentsError(f"two columns are {plain}")
        group[feature] = place
    return Roles(id_place, time, features, {name: place for name, place in times.items() if name in features})


def _place_of(name: str, names: Sequence[str]) -> int:
    if name in names:
        return names.index(name)
    close = difflib.get_close_matches(name, names, 1)
    hint = f", did you mean {close[0]}" if close else ""
    raise BadArgumentsError(f"there is no column {name}{hint} (there are {', '.join(names)})")


class Batch:
    """A chunk of a table, read by its roles.

    Args:
        chunk: The chunk.
        roles: What its columns are for.
        reading: How they are read.
        declared: Declared feature → its type.
    """

    def __init__(self, chunk: Chunk, roles: Roles, reading: Reading, declared: Mapping[str, str]) -> None:
        self.rows, self.first, self.text = chunk.rows, chunk.first, reading.text
        self.roles = roles
        self._reading, self._kinds = reading, [declared.get(name, "") for name in roles.features]
        columns = chunk.columns
        self._ids = id_column(columns[roles.id])
        time = roles.time
        self._times = None if time is None else time_column(columns[time], chunk.names[time], reading.unit)
        self._values = [
            fitted(columns[place], kind) for place, kind in zip(roles.features.values(), self._kinds, strict=True)
        ]
        self._own_times = {
            name: time_column(columns[place], chunk.names[place], reading.unit) for name, place in roles.times.items()
        }
        self.native = self._native()

    def _native(self) -> Any:
        """Return the columns as the extension takes them; None where one of them cannot be taken so."""
        if row_calls.columns_type is None or self._own_times:
            return None
        columns = [self._ids, *([] if self._times is None else [self._times]), *self._values]
        found = [native_column(column) for column in columns]
        known = [column for column in found if column is not None]
        return row_calls.columns_type(self.rows, known) if len(known) == len(found) else None

    def parts(self, size: int, keys: EntityKeys) -> Iterator[Part]:
        """Yield the rows in parts of so many, each of one partition of the entity that has these keys."""
        if not isinstance(keys, PartitionedKeys):
            for start in range(0, self.rows, size):
                yield _BatchPart(self, keys, start, min(start + size, self.rows))
            return
        parts = keys.parts
        order, sizes = self._by_partition(keys.count)
        firsts = [0, *accumulate(sizes)]
        for number, start, stop in in_turns(sizes, size):
            first = firsts[number]
            yield _BatchPart(self, parts[number], first + start, first + stop, order)

    def _by_partition(self, count: int) -> tuple[bytes, list[int]]:
        """Return the numbers of the rows, as 32-bit ints, sorted by partition, and how many rows each partition has."""
        if self.native is not None:
            found: tuple[bytes, list[int]] = self.native.by_partition(count)
            return found
        groups = places_by_partition(values_at(self._ids, "string", None, as_text=False), count)
        return array("I", chain.from_iterable(groups)).tobytes(), [len(group) for group in groups]

    def rows_at(self, places: Sequence[int]) -> list[Row]:
        """Return rows with their positions in the table; several steps for one whose values have times of their own."""
        columns = [
            self._marked(values_at(column, kind, places, as_text=self.text))
            for column, kind in zip(self._values, self._kinds, strict=True)
        ]
        ids = values_at(self._ids, "string", places, as_text=False)
        timed = EVENT_TIME in self.roles.columns[:1]
        if timed:
            times = [None] * len(places) if self._times is None else values_at(self._times, "", places, as_text=False)
            rows: list[Any] = list(zip(ids, times, *columns, strict=True))
        else:
            rows = list(zip(ids, *columns, strict=True))
        numbered = [(self.first + place, row) for place, row in zip(places, rows, strict=True)]
        return self._in_steps(numbered, places) if self._own_times else numbered

    def _marked(self, values: list[Any]) -> list[Any]:
        """Return values with a mark where the feature is to be left as it is stored."""
        if self._reading.nulls == "remove":
            return [LEAVE if value is MISSING else value for value in values]
        return [LEAVE if value is MISSING or held(value) is None else value for value in values]

    def _in_steps(self, rows: list[Row], places: Sequence[int]) -> list[Row]:
        """Return rows cut by the times of their values, the oldest first."""
        own = {name: values_at(column, "", places, as_text=False) for name, column in self._own_times.items()}
        names = list(self.roles.features)
        steps: list[Row] = []
        for at, (position, (entity_id, time, *values)) in enumerate(rows):
            times = [own[name][at] if name in own else None for name in names]
            wrong = next((each for each in times if not _is_time(each)), None)
            if wrong is not None or not _is_time(time) or not self._are_fine(values):
                # The row stands or falls as one: it is rejected for what is wrong with it.
                steps.append((position, (entity_id, time if wrong is None else wrong, *values)))
                continue
            moments = [own_time if own_time is not None else time for own_time in times]
            # Where a time is told, a feature without a value was removed then, whatever `nulls` says of others.
            told = [
                None if value is LEAVE and own_time is not None else value
                for value, own_time in zip(values, times, strict=True)
            ]
            older = sorted({moment for moment in moments if moment not in {time, None}}, key=_in_order)
            for moment in (*older, time):
                step = [value if its == moment else LEAVE for value, its in zip(told, moments, strict=True)]
                if not older or any(value is not LEAVE for value in step):
                    steps.append((position, (entity_id, moment, *step)))
        return steps

    def _are_fine(self, values: Sequence[Any]) -> bool:
        """Return whether values are of their features' types."""
        try:
            for kind, value in zip(self._kinds, values, strict=True):
                if value is not LEAVE:
                    row_value(kind, value)
        except (UnsuitableValueError, ValueError):
            return False
        return all(kind or value is LEAVE for kind, value in zip(self._kinds, values, strict=True))

    def refused_times(self, latest: int) -> list[tuple[int, str]]:
        """Return the rows, by their positions in the table, whose event times Redis would refuse, and why.

        Args:
            latest: The latest event time that a row may have, in ms.
        """
        if self._times is None:
            return []
        times = values_at(self._times, "", None, as_text=False)
        found = ((self.first + place, _refusal(time, latest)) for place, time in enumerate(times))
        return [(position, reason) for position, reason in found if reason is not None]


def _is_time(time: Any) -> bool:
    try:
        to_time(time)
    except BadTimeError:
        return False
    return True


def _refusal(time: Any, latest: int) -> str | None:
    """Return why the scripts refuse an event time that can be sent, None if they take it."""
    try:
        ms = time_of(to_time(time)) if time is not None else 0
    except ValueError:
        return f"the event time must be ms since 1970 or ISO 8601 such as 2026-08-21T10:00:00Z, not {shown(time)}"
    except BadTimeError:
        return None  # which is found where the row would be sent
    if ms > latest:
        return f"the event time {shown(time)} is further ahead of the clock than the schema permits: @max_ahead"
    return f"the event time must be ms since 1970, not {shown(time)}" if 10**7 <= ms < 10**10 else None


def _in_order(moment: Any) -> tuple[bool, Any]:
    """Return a key to sort event times by: ms, then texts."""
    return isinstance(moment, str), moment


class _BatchPart:
    """Rows of a batch, all of one partition.

    Args:
        batch: The batch.
        keys: The keys of the partition.
        start: The first place.
        stop: The place behind the last.
        order: The rows' numbers by their places, as 32-bit ints; if left out, rows are in their own places.
    """

    def __init__(self, batch: Batch, keys: Keys, start: int, stop: int, order: bytes | None = None) -> None:
        self._batch, self._start, self._stop, self._order = batch, start, stop, order
        self.keys, self.size = keys, stop - start

    def encode(self, calls: row_calls.RowCalls) -> Encoded:
        """Return the call of the plain rows; see `Part`."""
        batch, start, stop = self._batch, self._start, self._stop
        if batch.native is None:
            return Encoded(None, (), range(stop - start))
        call, left = calls.encode_columns(self.keys, batch.native, start, stop, order=self._order, as_text=batch.text)
        if not left:
            return Encoded(call, range(stop - start), ())
        gone = set(left)
        plain = [place - start for place in range(start, stop) if place not in gone]
        return Encoded(call, plain, [place - start for place in left])

    def rows(self, places: Sequence[int] | None = None) -> Sequence[Row]:
        """Return the rows at these places; see `Part`."""
        start = self._start
        wanted: Sequence[int] = range(start, self._stop) if places is None else [start + place for place in places]
        if self._order is not None:
            numbers = memoryview(self._order).cast("I")
            wanted = [numbers[place] for place in wanted]
        return self._batch.rows_at(wanted)


def batches(
    chunks: Iterator[Chunk], reading: Reading, declared: Mapping[str, str], id_names: Sequence[str]
) -> Iterator[Batch]:
    """Yield the batches of a table."""
    for names, group in groupby(chunks, key=lambda chunk: chunk.names):
        if not names:
            continue  # an empty list
        roles = _of_features(roles_of(names, reading, id_names), reading, declared)
        for chunk in group:
            if not chunk.is_of_dicts:
                _refuse_undeclared(roles, declared)
            yield Batch(chunk, roles, reading, declared)


def _of_features(roles: Roles, reading: Reading, declared: Mapping[str, str]) -> Roles:
    """Return the roles without columns that are no features, where these are to be left out."""
    if not reading.ignore_undeclared:
        return roles
    features = {name: place for name, place in roles.features.items() if name in declared}
    times = {name: place for name, place in roles.times.items() if name in declared}
    return Roles(roles.id, roles.time, features, times)


def _refuse_undeclared(roles: Roles, declared: Mapping[str, str]) -> None:
    """Refuse a table whose rows would all be rejected for the same columns.

    Raises:
        BadArgumentsError: A column is no feature.
    """
    undeclared = [name for name in roles.features if name not in declared]
    if undeclared:
        raise BadArgumentsError(
            f"the table has columns that are no features: {', '.join(undeclared)}. time_column names that of the event"
            " times, rename those of other names, ignore_undeclared=True leaves them out"
        )
