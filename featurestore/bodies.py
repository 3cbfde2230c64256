"""Request bodies: read up to a limit, and decoded with errors that say what is wrong and where."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import falcon
import msgspec
from falcon import Request

MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoders raise for bytes that are no such JSON, be it for how deep they are nested."""

_NAME_SHOWN = 64
"""How much of a name that is refused is shown."""

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
    except MALFORMED as error:
        raise falcon.HTTPBadRequest(title="Malformed JSON", description=str(error)) from error


def refuse_undecodable(req: Request) -> None:
    """Refuse a path with bytes that are not UTF-8, in whose place Falcon puts U+FFFD; but not an id that has U+FFFD.

    Raises:
        falcon.HTTPUnprocessableEntity: The path has such bytes.
    """
    if "\ufffd" not in req.path:
        return
    try:
        req.env["PATH_INFO"].encode("latin-1").decode()
    except UnicodeDecodeError as error:
        raise falcon.HTTPUnprocessableEntity(description="the id is not valid UTF-8") from error


def refuse_repeated(names: Sequence[str]) -> None:
    """Refuse features that are asked for twice: a short request could make a long response.

    Raises:
        falcon.HTTPUnprocessableEntity: A name is among them twice.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise falcon.HTTPUnprocessableEntity(description=f"{name[:_NAME_SHOWN]} is asked for twice")
        seen.add(name)


def check_parameters(req: Request, allowed: Collection[str]) -> None:
    """Refuse a query string with parameters that nobody would heed.

    Raises:
        falcon.HTTPUnprocessableEntity: A parameter is not among those allowed, or is empty.
    """
    for name, value in req.params.items() if req.query_string else ():
        if name not in allowed:
            known = f"; known are {', '.join(sorted(allowed))}" if allowed else "; options go into the body"
            raise falcon.HTTPUnprocessableEntity(description=f"there is no parameter {name[:_NAME_SHOWN]} here{known}")
        if not value:
            raise falcon.HTTPUnprocessableEntity(description=f"{name}= is empty")
