"""From replies of the read scripts to the JSON of a response: by the C extension, or by msgspec where it is missing."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from featurestore.contract.vector_json import write_vector

transcoder_type: Callable[..., Any] | None
"""The extension's type; None where it was not built, for want of a compiler."""

try:
    from featurestore.native.transcode import Transcoder
except ImportError:
    transcoder_type = None
else:
    transcoder_type = Transcoder

_TRANSCODED = ("float", "int", "bool", "string", "float32[")

_NIL = b"\xc0"
_cut = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

StoredRow = bytes | list[bytes]
"""A row that stands alone; with features outside of it, their array stands behind it."""

encode = msgspec.json.Encoder().encode
"""Any value to JSON."""


def entity_type(id_name: str) -> Any:
    """Return the struct of one entity in a response: its id, called `id_name`, and its features, null when unknown."""
    return msgspec.defstruct("Entity", [("entity_id", str), ("features", Any)], rename={"entity_id": id_name}, gc=False)


class Rows(Protocol):
    """What a renderer wants of a selection, which has the meaning of each."""

    names: tuple[str, ...]
    head: int
    row_types: tuple[str, ...]
    row_count: int
    picks: tuple[int, ...] | None

    def decode(self, reply: Any) -> Any:
        """Return the row in a reply of get_features."""

    def decode_many(self, reply: Any) -> list[Any]:
        """Return the rows in a reply of get_features_batch, None for an unknown id."""

    def encodable(self, row: Any) -> Any:
        """Return what encodes to the object of the features."""


class Renderer:
    """Makes JSON of the replies for one selection of features.

    Both ways give the same bytes. The extension refuses replies that are unusual. Then msgspec reads the reply, or says
    what is wrong with it.

    Args:
        selection: The features, and how their values are found in replies.
        id_name: What responses call an entity's id.
    """

    __slots__ = ("_decode", "_decode_many", "_encodable", "_entity", "_transcoder")

    def __init__(self, selection: "Rows", id_name: str) -> None:
        self._decode, self._decode_many = selection.decode, selection.decode_many
        self._encodable = selection.encodable
        self._entity = entity_type(id_name)
        self._transcoder = _transcoder_of(selection, id_name)

    def one(self, entity_id: str, reply: StoredRow) -> bytes:
        """Return an entity's JSON from the reply of get_features.

        Raises:
            msgspec.ValidationError: The reply was made under another schema.
        """
        if self._transcoder is not None:
            try:
                written: bytes = self._transcoder.one(entity_id, reply)
            except (TypeError, ValueError):
                pass
            else:
                return written
        return encode(self._entity(entity_id, self._encodable(self._decode(reply))))

    def each(self, entity_ids: list[str], rows: Sequence[StoredRow | None] | bytes) -> list[bytes | None]:
        """Return each entity's JSON from a reply of get_features_batch, None for an unknown id; errors as in `one`.

        By layout the rows stand alone; by names they are one array of msgpack, which is cut here.
        """
        if isinstance(rows, bytes):
            rows = [None if row == _NIL else row for row in map(bytes, _cut(rows))]
        if self._transcoder is not None:
            try:
                written: list[bytes | None] = self._transcoder.each(entity_ids, rows)
            except (TypeError, ValueError):
                pass
            else:
                return written
        return [
            None if row is None else encode(self._entity(entity_id, self._encodable(self._decode(row))))
            for entity_id, row in zip(entity_ids, rows, strict=True)
        ]

    def nothing(self, entity_id: str) -> bytes:
        """Return the JSON that `many` has for an unknown id."""
        return encode(self._entity(entity_id, None))

    def many(self, entity_ids: list[str], replies: list[Any]) -> bytes:
        """Return the JSON of a list of entities from the replies that cover them in order; errors as in `one`."""
        if self._transcoder is not None:
            try:
                written: bytes = self._transcoder.many(entity_ids, replies)
            except (TypeError, ValueError):
                pass
            else:
                return written
        rows = [row for reply in replies for row in self._decode_many(reply)]
        entity, encodable = self._entity, self._encodable
        return encode(
            [
                entity(entity_id, None if row is None else encodable(row))
                for entity_id, row in zip(entity_ids, rows, strict=True)
            ]
        )


class TableRenderer:
    """Makes JSON of the replies for one selection of features: for each entity a list of values, as queries answer.

    Args:
        selection: The features, and how their values are found in replies.
    """

    __slots__ = ("_decode", "_decode_many", "_nothing", "_transcoder")

    def __init__(self, selection: "Rows") -> None:
        self._decode, self._decode_many = selection.decode, selection.decode_many
        self._nothing = [None] * len(selection.names)
        self._transcoder = _transcoder_of(selection, None)

    def each(self, entity_ids: list[str], rows: Sequence[StoredRow | None]) -> list[bytes | None]:
        """Return each row's JSON, None for an unknown id; errors as in `Renderer.one`."""
        if self._transcoder is not None:
            try:
                written: list[bytes | None] = self._transcoder.each(entity_ids, rows)
            except (TypeError, ValueError):
                pass
            else:
                return written
        return [None if row is None else encode(list(map(encodable_value, self._decode(row)))) for row in rows]

    def nothing(self, _entity_id: str) -> bytes:
        """Return the JSON that `many` has for an unknown id."""
        return encode(self._nothing)

    def many(self, entity_ids: list[str], replies: list[Any]) -> bytes:
        """Return the JSON of a list of rows from the replies that cover the ids; errors as in `Renderer.one`.

        The row of an unknown id has nulls.
        """
        if self._transcoder is not None:
            try:
                written: bytes = self._transcoder.many(entity_ids, replies)
            except (TypeError, ValueError):
                pass
            else:
                return written
        rows = [row for reply in replies for row in self._decode_many(reply)]
        if len(rows) != len(entity_ids):
            raise ValueError("the replies are not of so many entities")
        return encode([self._nothing if row is None else list(map(encodable_value, row)) for row in rows])


def _transcoder_of(selection: "Rows", id_name: str | None) -> Any:
    """Return what transcodes the selection's replies; None where the extension is missing or does not know a type."""
    types = selection.row_types
    if transcoder_type is None or not selection.names or not all(kind.startswith(_TRANSCODED) for kind in types):
        return None
    return transcoder_type(selection.names, types, id_name, selection.head, selection.row_count, selection.picks)


def encodable_value(value: Any) -> Any:
    """Return a value of a row as msgspec encodes it; of a vector, that is its JSON."""
    return msgspec.Raw(write_vector(value)) if isinstance(value, bytes) else value
