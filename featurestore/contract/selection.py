"""Features that are read together: the words that ask for them, and how replies become rows and JSON."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from operator import itemgetter
from typing import Any, Self

import msgspec

from featurestore.contract.columns import ColumnReader, shown_kind
from featurestore.contract.costs import MOST_ROWS, MOST_US, rows_per_call, weight
from featurestore.contract.json_rows import Renderer, TableRenderer, encodable_value
from featurestore.contract.partitioned_calls import PartitionedCalls
from featurestore.contract.read_calls import ReadCalls
from featurestore.contract.read_costs import (
    MOST_MADE,
    ages_us,
    by_layout_is_cheaper,
    cast_row_us,
    made_row_us,
    stored_row_us,
)
from featurestore.errors import UndeclaredFeatureError
from featurestore.keys import EntityKeys, Keys
from featurestore.schema.stored import Schema
from featurestore.schema.types import Row, Status, Value, python_type, vector_length
from featurestore.schema.values import numbers_of

_STATUSES: Mapping[int, Status] = {ord("P"): "PRESENT", ord("M"): "MISSING", ord("D"): "DEFAULT", ord("S"): "STALE"}
_MOST_STATUSES = 64
"""So many strings of letters are kept as statuses."""


class Fresh(msgspec.Struct, frozen=True):
    """An entity's row with the age of its values, by Redis's clock.

    Attributes:
        values: The row.
        event_time: The newest event time of its features, in ms since 1970.
        age_ms: How long ago that was.
        statuses: PRESENT, MISSING, DEFAULT or STALE for each value.
        event_times: The event time of each value, in ms since 1970, None where there is none.
    """

    values: Row
    event_time: int | None
    age_ms: int | None
    statuses: tuple[Status, ...]
    event_times: tuple[int | None, ...]


class Selection:
    """Features that are read together, with all that can be prepared once: words, decoders, calls, JSON.

    A reply by names has the features' values, in order. A reply by layout has the whole packed row, of which the
    features' values are picked here: that costs Redis far less than to fetch and cast each of them. Features outside of
    the row are named behind the layout; their values are an array of their own.

    Args:
        names: The features, in the order of every row.
        types: Their types.
        words: What is sent to the scripts: the names; or the layout, and behind it the names that are not in the row.
        id_name: What the id is called in JSON.
        row: By layout, the features of the packed row with their types, unless the features are just those.

    Attributes:
        names: The features, in the order of every row.
        types: Their types.
        words: What is sent to the scripts.
        head: How many bytes are in front of a row that stands alone.
        row_types: The types of all values in a reply: of those in the row, then of those outside of it. A count is an
            int, a sum a float.
        row_count: How many of them are in the row.
        picks: For each feature the position of its value among those; None where they are the features, in order.
        by_layout: Whether replies have the packed row.
        row_us: About what a row takes of Redis's time, in µs, where packed rows serve.
        made_us: The same where they do not.
        ids_per_call: How many rows a call may have that takes so long.
        aged_row_us: The same with statuses and times.
        weight: How many values a row has; numbers of vectors count for less (`costs.weight`).
        vectors: The positions of vectors. Rows hold them as bytes; `values` and `encodable` convert those.
        vector_type: A struct type with a field for each feature, in order. It encodes to a JSON object under the
            features' own names.
        renderer: Turns replies into JSON; the id is called `id_name` there.
        table_renderer: Turns replies into JSON without ids, a list a row.
        columns: Turns replies into columns.
        calls: Makes the calls; set by `for_keys`. In a cluster these are of partitions.
        asks_again: Whether replies may lack rows that would have to be made: a zero stands in their places.
        checking: The same features by calls that make sure of the schema; None by names, where every call does.
    """

    __slots__ = (
        "_extra",
        "_extra_count",
        "_named",
        "_one",
        "_pick",
        "_rows",
        "_statuses",
        "aged_row_us",
        "asks_again",
        "by_layout",
        "calls",
        "checking",
        "columns",
        "head",
        "ids_per_call",
        "made_us",
        "names",
        "picks",
        "renderer",
        "row_count",
        "row_types",
        "row_us",
        "table_renderer",
        "types",
        "vector_type",
        "vectors",
        "weight",
        "words",
    )

    calls: ReadCalls | PartitionedCalls

    def __init__(
        self,
        names: Sequence[str],
        types: Sequence[str],
        words: Sequence[str],
        id_name: str,
        row: Mapping[str, str] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.types = tuple(types)
        self.words = tuple(words)
        self.checking: Selection | None = None
        # Asked for by layout, each row comes in a string of its own, behind the layout.
        layout = next((word for word in self.words if word.startswith("@")), "")
        self.by_layout, self.head = bool(layout), len(layout)
        columns = self._set_columns(row)
        self._set_costs(columns)
        self.weight = weight(self.types)
        self.vectors = tuple(index for index, kind in enumerate(types) if vector_length(kind))
        self._set_decoders(columns)
        fields = [f"feature_{index}" for index in range(len(self.names))]
        self.vector_type = msgspec.defstruct(
            "Features",
            list(zip(fields, map(python_type, types), strict=True)),
            rename=dict(zip(fields, self.names, strict=True)),
            gc=False,
        )
        self.renderer, self.table_renderer = Renderer(self, id_name), TableRenderer(self)
        self.columns = ColumnReader(self)

    def _set_columns(self, row: Mapping[str, str] | None) -> dict[str, str]:
        """Find where in a reply the features are; return all of its values' names with their types, in order."""
        wanted = self.kinds
        self.picks: tuple[int, ...] | None = None
        columns = wanted if row is None else {**row, **wanted}
        if row is not None and tuple(columns) != self.names:
            places = {name: place for place, name in enumerate(columns)}
            self.picks = tuple(places[name] for name in self.names)
        self.row_count = len(columns if row is None else row)
        self._extra_count = len(columns) - self.row_count
        self.row_types = tuple(map(shown_kind, columns.values()))
        return columns

    def _set_costs(self, columns: Mapping[str, str]) -> None:
        types = [*columns.values()]
        stored, extra = types[: self.row_count], types[self.row_count :]
        self.row_us = stored_row_us(stored) if self.by_layout else cast_row_us(stored)
        if extra:
            self.row_us += cast_row_us(extra)
        self.asks_again = self.by_layout and made_row_us(stored) * MOST_ROWS > MOST_US
        self.ids_per_call = rows_per_call(self.row_us)
        self.made_us = made_row_us(types)
        self.aged_row_us = self.row_us + ages_us(types)

    def _set_decoders(self, columns: Mapping[str, str]) -> None:
        # What is not picked is passed over.
        wanted = {*self.names}
        kinds = [python_type(kind) if name in wanted else msgspec.Raw for name, kind in columns.items()]
        row = tuple.__class_getitem__(tuple(kinds[: self.row_count]))
        self._one = msgspec.msgpack.Decoder(row)
        # By layout, every row stands alone.
        self._rows = None if self.by_layout else msgspec.msgpack.Decoder(list[row | None])  # type: ignore[valid-type]
        self._extra = msgspec.msgpack.Decoder(tuple.__class_getitem__(tuple(kinds[self.row_count :])))
        self._named: msgspec.msgpack.Decoder[Row] | None = None
        self._pick = None if self.picks is None else _picking(self.picks)
        self._statuses: dict[bytes, tuple[Status, ...]] = {}

    def for_keys(self, keys: EntityKeys) -> Self:
        """Prepare the calls for the entity that has these keys; return the selection."""
        most = (f"?most={MOST_MADE}",) if self.asks_again else ()
        self.calls = _calls_for(keys, self.words, most)
        if self.by_layout:
            checking = copy(self)
            checking.words = ("?current", *self.words)
            checking.calls = _calls_for(keys, checking.words, most)
            self.checking = checking
        return self

    @property
    def kinds(self) -> dict[str, str]:
        """The types by the features' names."""
        return dict(zip(self.names, self.types, strict=True))

    def decode(self, reply: bytes | list[bytes]) -> Row:
        """Return the row in a reply of get_features.

        Raises:
            msgspec.ValidationError: The reply was made under another schema.
        """
        stored: Any = reply
        extra: Row = ()
        if self._extra_count:
            if type(reply) is not list or len(reply) != 2:  # noqa: PLR2004 - the row, and what is outside of it
                raise msgspec.ValidationError("Expected a row and an array behind it")
            stored, extra = reply[0], self._extra.decode(reply[1])
        row: Row = self._one.decode(stored[self.head :] if self.head else stored) + extra
        return row if self._pick is None else self._pick(row)

    def decode_named(self, reply: bytes) -> Row:
        """Return the row in an array of just the features' values; errors as in `decode`."""
        if self._named is None:
            self._named = msgspec.msgpack.Decoder(tuple.__class_getitem__(tuple(map(python_type, self.types))))
        row: Row = self._named.decode(reply)
        return row

    def decode_many(self, reply: bytes | list[bytes | list[bytes] | None]) -> list[Row | None]:
        """Return the rows in a reply of get_features_batch; None for an unknown id. Errors as in `decode`."""
        if isinstance(reply, list):
            return [None if row is None else self.decode(row) for row in reply]
        if self._rows is None:
            raise msgspec.ValidationError("Expected a row by itself for each id")
        rows: list[Row | None] = self._rows.decode(reply)
        return rows

    def decode_fresh(self, reply: list[Any]) -> list[Fresh | None]:
        """Return the rows with ages in a reply of get_features_batch with `?metadata`; errors as in `decode`."""
        return [None if entry is None else self._fresh_of(*entry) for entry in reply]

    def _fresh_of(  # noqa: PLR0913, PLR0917 - what a reply has
        self,
        packed: bytes,
        event_time: int | None,
        age_ms: int | None,
        letters: bytes,
        times: list[int | None],
        extra: bytes = b"",
    ) -> Fresh:
        row = self.decode([packed, extra] if self._extra_count else packed)
        if not len(letters) == len(times) == len(self.row_types) or not _STATUSES.keys() >= set(letters):
            raise msgspec.ValidationError(f"Expected a status and a time for each of {len(self.row_types)} values")
        event_times = tuple(times)
        if self._pick is not None:
            event_times = self._pick(event_times)
        return Fresh(row, event_time, age_ms, self._statuses_of(letters), event_times)

    def _statuses_of(self, letters: bytes) -> tuple[Status, ...]:
        """Return the features' statuses; few rows have others than the row before."""
        statuses = self._statuses.get(letters)
        if statuses is None:
            wanted = letters if self._pick is None else self._pick(letters)
            statuses = tuple(_STATUSES[letter] for letter in wanted)
            if len(self._statuses) >= _MOST_STATUSES:
                self._statuses.clear()
            self._statuses[letters] = statuses
        return statuses

    def values(self, row: Row) -> dict[str, Value | None]:
        """Return the row's values by name, vectors as lists of numbers."""
        if self.vectors:
            row = tuple(numbers_of(value) if isinstance(value, bytes) else value for value in row)
        return dict(zip(self.names, row, strict=True))

    def with_values(self, row: Row, values: Mapping[str, Any]) -> Row:
        """Return a row with these values, by name, in place of its own."""
        return tuple(values.get(name, value) for name, value in zip(self.names, row, strict=True))

    def encodable(self, row: Row) -> Any:
        """Return what encodes to a JSON object of the row's values by name."""
        if self.vectors:
            row = tuple(map(encodable_value, row))
        return self.vector_type(*row)


class Batch(msgspec.Struct, frozen=True):
    """Entities of which the same features are read.

    Attributes:
        selection: The features.
        ids: Whose features are wanted.
        options: `?metadata` and `?max_age=MS`, or none.
    """

    selection: Selection
    ids: Sequence[str]
    options: tuple[str, ...] = ()

    @property
    def row_us(self) -> float:
        """About what a row takes of Redis's time."""
        return self.selection.aged_row_us if self.options else self.selection.row_us


def selection_of(schema: Schema, names: Sequence[str] | None, id_name: str, *, aged: bool = False) -> Selection:
    """Return the selection of `names`, or of every feature of the packed row.

    Args:
        schema: What declares them.
        names: The features.
        id_name: What responses call the id.
        aged: Whether statuses and times are wanted too, which cost more for each value of a reply.

    Raises:
        UndeclaredFeatureError: A name is not declared.
    """
    row = schema.row
    if names is None:
        return Selection(list(row), list(row.values()), [schema.layout], id_name)
    for name in names:
        if name not in schema.features:
            hint = ": a feature of another entity is asked for by a query" if ":" in name else ""
            raise UndeclaredFeatureError(f"{name} is not declared in the schema{hint}")
    types = [schema.features[name] for name in names]
    outside = [name for name in names if name not in row]
    inside = [row[name] for name in names if name in row]
    if by_layout_is_cheaper(row.values(), inside, aged=aged):
        return Selection(names, types, [schema.layout, *outside], id_name, row)
    return Selection(names, types, names, id_name)


def _calls_for(keys: EntityKeys, words: Sequence[str], most: Sequence[str]) -> ReadCalls | PartitionedCalls:
    if isinstance(keys, Keys):
        return ReadCalls(keys, words, before_many=most)
    return PartitionedCalls(keys, words, before_many=most)


def _picking(picks: Sequence[int]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what picks values at these positions, as a tuple."""
    if len(picks) == 1:
        (place,) = picks
        return lambda values: (values[place],)
    return itemgetter(*picks)
