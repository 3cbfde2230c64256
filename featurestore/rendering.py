"""Replies of the read scripts as the JSON of a response: by the C extension, by msgspec where that was not built."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

transcoder_type: Callable[..., Any] | None
"""The extension's type; None where it was not built, for want of a compiler."""

try:
    from featurestore._transcode import Transcoder
except ImportError:
    transcoder_type = None
else:
    transcoder_type = Transcoder

_TRANSCODED = {"float", "int", "bool", "string"}

encode = msgspec.json.Encoder().encode
"""Any value to JSON."""


class Entity(msgspec.Struct, gc=False):
    """One entity in a response; `features` is null for an unknown id."""

    user_id: str
    features: Any


class Renderer:
    """Makes JSON of the replies for one selection of features.

    Both ways give the same bytes. A reply that the extension does not know what to make of goes to msgspec, which
    reads some odd ones too and says what is wrong with the others.

    Args:
        names: The features.
        types: Their types.
        decode: From a reply of get_features to a row.
        decode_many: From a reply of get_features_batch to rows, None for an unknown id.
        encodable: From a row to what encodes to the object of the features.
        head: How many bytes are in front of a row that stands alone.
    """

    __slots__ = ("_decode", "_decode_many", "_encodable", "_transcoder")

    def __init__(  # noqa: PLR0913, PLR0917 - a selection's parts
        self,
        names: Sequence[str],
        types: Sequence[str],
        decode: Callable[[bytes], Any],
        decode_many: Callable[[Any], Any],
        encodable: Callable[[Any], Any],
        head: int = 0,
    ) -> None:
        self._decode, self._decode_many, self._encodable = decode, decode_many, encodable
        self._transcoder = None
        if transcoder_type is not None and _TRANSCODED.issuperset(types):
            self._transcoder = transcoder_type(names, types, "user_id", head)

    def one(self, entity_id: str, reply: bytes) -> bytes:
        """Return an entity's JSON from the reply of get_features.

        Raises:
            msgspec.ValidationError: The reply was made under another schema.
        """
        if self._transcoder is not None:
            try:
                written: bytes = self._transcoder.one(entity_id, reply)
            except ValueError:
                pass
            else:
                return written
        return encode(Entity(entity_id, self._encodable(self._decode(reply))))

    def each(self, entity_ids: list[str], rows: list[bytes | None]) -> list[bytes | None]:
        """Return each entity's JSON from rows that stand alone, None where there is none; errors as in `one`."""
        if self._transcoder is not None:
            try:
                written: list[bytes | None] = self._transcoder.each(entity_ids, rows)
            except ValueError:
                pass
            else:
                return written
        return [
            None if row is None else encode(Entity(entity_id, self._encodable(self._decode(row))))
            for entity_id, row in zip(entity_ids, rows, strict=True)
        ]

    def many(self, entity_ids: list[str], replies: list[Any]) -> bytes:
        """Return the JSON of a list of entities from the replies that cover them in order; errors as in `one`."""
        if self._transcoder is not None:
            try:
                written: bytes = self._transcoder.many(entity_ids, replies)
            except ValueError:
                pass
            else:
                return written
        rows = [row for reply in replies for row in self._decode_many(reply)]
        encodable = self._encodable
        return encode(
            [
                Entity(entity_id, None if row is None else encodable(row))
                for entity_id, row in zip(entity_ids, rows, strict=True)
            ]
        )
