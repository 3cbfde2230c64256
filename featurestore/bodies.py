"""Request bodies: read up to a limit, and decoded with errors that say what is wrong and where."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import falcon
import msgspec
from falcon import Request

T = TypeVar("T")
Decoded_co = TypeVar("Decoded_co", covariant=True)
S = TypeVar("S", bound=msgspec.Struct)


class Decoder(Protocol[Decoded_co]):
    """What turns a body into a request, as msgspec's decoders do."""

    def decode(self, body: bytes, /) -> Decoded_co:
        """Return the request; raise `msgspec.MsgspecError` where the body is none."""


class AliasDecoder(Generic[S]):
    """Decodes requests one field of which, which they must have, may go by several names.

    Args:
        kind: The request; `field` is among its fields, optional and None by default.
        field: The field's name.
        aliases: Its other names; one that is a name of another field already is left out.
    """

    def __init__(self, kind: type[S], field: str, aliases: Sequence[str]) -> None:
        fields = {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
        self._aliases = [alias for alias in dict.fromkeys(aliases) if alias not in fields]
        names = [f"alias_{index}" for index in range(len(self._aliases))]
        with_aliases = msgspec.defstruct(
            kind.__name__,
            [(name, fields[field], None) for name in names],
            bases=(kind,),
            rename=dict(zip(names, self._aliases, strict=True)),
            forbid_unknown_fields=True,
        )
        self._field = field
        self._names = (field, *names)
        self._decoder = msgspec.json.Decoder(with_aliases)

    def decode(self, body: bytes, /) -> tuple[S, Any]:
        """Return the request and the value of the field.

        Raises:
            msgspec.MsgspecError: The body is no such request, or has the field not once.
        """
        request: Any = self._decoder.decode(body)
        given = [value for name in self._names if (value := getattr(request, name)) is not None]
        if len(given) != 1:
            names = " or ".join(f"`{name}`" for name in (*self._aliases, self._field))
            raise msgspec.ValidationError(f"Object wants exactly one of {names}")
        return request, given[0]


@lru_cache(maxsize=1024)
def alias_decoder(kind: type[S], field: str, *aliases: str) -> AliasDecoder[S]:
    """Return the decoder, made at its first use."""
    return AliasDecoder(kind, field, aliases)


def read_body(req: Request, most: int) -> bytes:
    """Return the request's body.

    Raises:
        falcon.HTTPContentTooLarge: It has more than `most` bytes.
        falcon.HTTPBadRequest: It did not arrive whole.
    """
    length = req.content_length
    if length is not None and length > most:
        raise falcon.HTTPContentTooLarge(description=f"the body may have at most {most} bytes")
    try:
        body: bytes = req.env["wsgi.input"].read(most + 1 if length is None else length)
    except OSError as error:
        raise falcon.HTTPBadRequest(description=f"the body cannot be read: {error}") from error
    if len(body) > most:
        raise falcon.HTTPContentTooLarge(description=f"the body may have at most {most} bytes")
    return body


def decode_body(decoder: Decoder[T], body: bytes) -> T:
    """Return what the body holds.

    Raises:
        falcon.HTTPUnprocessableEntity: It is JSON of another shape.
        falcon.HTTPBadRequest: It is no JSON.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise falcon.HTTPUnprocessableEntity(description=str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise falcon.HTTPBadRequest(title="Malformed JSON", description=str(error)) from error
