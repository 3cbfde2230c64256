"""Features that are read together: the words that ask for them, and how replies become rows and JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from featurestore.contract.columns import ColumnReader
from featurestore.contract.json_rows import Renderer, encodable_value
from featurestore.contract.read_calls import ReadCalls
from featurestore.errors import UndeclaredFeatureError
from featurestore.schema.stored import Schema
from featurestore.schema.types import Row, Status, Value, python_type, vector_length
from featurestore.schema.values import numbers_of

_STATUSES: Mapping[int, Status] = {ord("P"): "PRESENT", ord("M"): "MISSING", ord("D"): "DEFAULT", ord("S"): "STALE"}


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

    Attributes:
        names: The features, in the order of every row.
        types: Their types.
        words: The names as the scripts take them.
        vectors: The positions of vectors. Rows hold them as bytes; `values` and `encodable` convert those.
        vector_type: A struct type with a field for each feature, in order. It encodes to a JSON object under the
            features' own names.
        renderer: Turns replies into JSON; the id is called `id_name` there.
        columns: Turns replies into columns.
        calls: Makes the calls; set by the store, which knows the keys.
    """

    __slots__ = (
        "_head",
        "_one",
        "_rows",
        "calls",
        "columns",
        "names",
        "renderer",
        "types",
        "vector_type",
        "vectors",
        "words",
    )

    calls: ReadCalls

    def __init__(self, names: Sequence[str], types: Sequence[str], words: Sequence[str], id_name: str) -> None:
        self.names = tuple(names)
        self.types = tuple(types)
        self.words = tuple(words)
        # Asked for by layout, each row comes in a string of its own, behind the layout.
        last = self.words[-1] if self.words else ""
        self._head = len(last) if last.startswith("@") else 0
        self.vectors = tuple(index for index, kind in enumerate(types) if vector_length(kind))
        python_types = [python_type(kind) for kind in types]
        row = tuple.__class_getitem__(tuple(python_types))
        self._one = msgspec.msgpack.Decoder(row)
        self._rows = msgspec.msgpack.Decoder(list[row | None])  # type: ignore[valid-type]
        fields = [f"feature_{index}" for index in range(len(self.names))]
        self.vector_type = msgspec.defstruct(
            "Features",
            list(zip(fields, python_types, strict=True)),
            rename=dict(zip(fields, self.names, strict=True)),
            gc=False,
        )
        self.renderer = Renderer(
            self.names, _rendered_types(types), self.decode, self.decode_many, self.encodable, id_name, self._head
        )
        kinds = _rendered_types(types)
        self.columns = ColumnReader(kinds, self.decode_many, kinds, len(kinds), None, self._head)

    @property
    def kinds(self) -> dict[str, str]:
        """The types by the features' names."""
        return dict(zip(self.names, self.types, strict=True))

    def decode(self, reply: bytes) -> Row:
        """Return the row in a reply of get_features.

        Raises:
            msgspec.ValidationError: The reply was made under another schema.
        """
        row: Row = self._one.decode(reply[self._head :] if self._head else reply)
        return row

    def decode_many(self, reply: bytes | list[bytes | None]) -> list[Row | None]:
        """Return the rows in a reply of get_features_batch; None for an unknown id. Errors as in `decode`."""
        if isinstance(reply, list):
            return [None if row is None else self.decode(row) for row in reply]
        rows: list[Row | None] = self._rows.decode(reply)
        return rows

    def decode_fresh(self, reply: list[Any]) -> list[Fresh | None]:
        """Return the rows with ages in a reply of get_features_batch with `?metadata`; errors as in `decode`."""
        return [entry and self._fresh_of(*entry) for entry in reply]

    def _fresh_of(
        self, packed: bytes, event_time: int | None, age_ms: int | None, letters: bytes, times: list[int | None]
    ) -> Fresh:
        row = self.decode(packed)
        if not len(letters) == len(times) == len(row) or not _STATUSES.keys() >= set(letters):
            raise msgspec.ValidationError(f"Expected a status and a time for each of {len(row)} values")
        return Fresh(row, event_time, age_ms, tuple(_STATUSES[letter] for letter in letters), tuple(times))

    def values(self, row: Row) -> dict[str, Value | None]:
        """Return the row's values by name, vectors as lists of numbers."""
        if self.vectors:
            row = tuple(numbers_of(value) if isinstance(value, bytes) else value for value in row)
        return dict(zip(self.names, row, strict=True))

    def encodable(self, row: Row) -> Any:
        """Return what encodes to a JSON object of the row's values by name."""
        if self.vectors:
            row = tuple(map(encodable_value, row))
        return self.vector_type(*row)


def selection_of(schema: Schema, names: Sequence[str] | None, id_name: str, *, current: bool = False) -> Selection:
    """Return the selection of `names`, or of every feature of the packed row.

    Args:
        schema: What declares them.
        names: The features.
        id_name: What responses call the id.
        current: Whether the script checks the schema first, instead of trusting packed rows that match it.

    Raises:
        UndeclaredFeatureError: A name is not declared.
    """
    if names is None:
        row = schema.row
        words = ["?current"] * current + [schema.layout]
        return Selection(list(row), list(row.values()), words, id_name)
    for name in names:
        if name not in schema.features:
            hint = ": a feature of another entity is asked for by a query" if ":" in name else ""
            raise UndeclaredFeatureError(f"{name} is not declared in the schema{hint}")
    return Selection(names, [schema.features[name] for name in names], names, id_name)


def _rendered_types(kinds: Sequence[str]) -> list[str]:
    """Return the types of the values in replies: a count is an int, a sum a float."""
    return ["int" if kind.startswith("count(") else "float" if kind.startswith("sum(") else kind for kind in kinds]
