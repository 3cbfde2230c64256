"""Request bodies: read up to a limit, and decoded with errors that say what is wrong and where."""

import zlib
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import falcon
import msgspec
from falcon import Request

from featurestore.contract import arrow

MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoders raise for malformed JSON, JSON of another shape, or too deep nesting."""

_LEAST_LINE = 16  # bytes of a row; many more lines would have answers many times as long as the body
_NAME_SHOWN = 64
"""How many characters of a refused name an error shows."""

NDJSON_TYPES = ("application/x-ndjson", "application/jsonl", "application/json")
"""Media types of NDJSON bodies; `application/json` is among them because a single row is JSON."""

_UNTOLD_TYPES = frozenset(
    {
        "application/ndjson",
        "application/jsonlines",
        "application/x-jsonlines",
        "application/octet-stream",
        "application/x-www-form-urlencoded",  # what curl says of any body
        "text/plain",
    }
)
"""Other media types that clients send NDJSON under."""

_NO_ROOM = "the server holds as many bytes of requests as it may; try again"
_MOST_MEMBERS = 1000
_INFLATED_AT_ONCE = 65_536
_RETRY_AFTER_S = 1
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = 31  # how zlib spells: gzip only, with the largest window

T = TypeVar("T")
Decoded_co = TypeVar("Decoded_co", covariant=True)
S = TypeVar("S", bound=msgspec.Struct)


class Decoder(Protocol[Decoded_co]):
    """Turns a body into a request, as msgspec's decoders do."""

    def decode(self, body: bytes, /) -> Decoded_co:
        """Return the request; raise `msgspec.MsgspecError` if the body is no such request."""


class AliasDecoder(Generic[S]):
    """Decodes requests with a required field that may have several names.

    Args:
        kind: The request; `field` is among its fields, optional and None by default.
        field: The field's name.
        aliases: Its other names. One that is another field's name is ignored.
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
            msgspec.MsgspecError: The body is no such request, or does not have the field exactly once.
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
    """Return the request's body; inflate it if it is gzip.

    Raises:
        falcon.HTTPContentTooLarge: It has more than `most` bytes, as sent or inflated.
        falcon.HTTPBadRequest: It did not arrive whole, or is no gzip.
        falcon.HTTPUnsupportedMediaType: It came in another encoding.
    """
    length = req.content_length
    if length is not None and length > most:
        raise _too_large(most)
    coding = req.env.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if coding not in {"identity", "gzip", "x-gzip"}:
        description = f"a body is sent as it is or as gzip, not as {coding[:_NAME_SHOWN]}"
        raise falcon.HTTPUnsupportedMediaType(description=description, headers={"Accept-Encoding": "gzip"})
    try:
        body: bytes = req.env["wsgi.input"].read(most + 1 if length is None else length)
    except OSError as error:
        raise falcon.HTTPBadRequest(description=f"the body cannot be read: {error}") from error
    if len(body) > most:
        raise _too_large(most)
    return body if coding == "identity" else _inflated(body, most, req.env.get("featurestore.hold"))


def _inflated(body: bytes, most: int, hold: Callable[[int], bool] | None) -> bytes:
    """Inflate a gzip body, member after member, to at most `most` bytes.

    Our own worker passes `hold`, which counts these bytes among all that it holds of requests.
    """
    pieces: list[bytes] = []
    at, left = 0, most
    for _ in range(_MOST_MEMBERS):
        if at == len(body):
            return b"".join(pieces)
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            part = body[at : at + _INFLATED_AT_ONCE]  # a member copies what is behind its end
            if not part:
                raise falcon.HTTPBadRequest(description="the body is gzip that ends too early")
            try:
                piece = member.decompress(part, left + 1)
            except zlib.error as error:
                raise falcon.HTTPBadRequest(description=f"the body is no gzip: {error}") from error
            at += len(part) - len(member.unused_data) - len(member.unconsumed_tail)
            left -= len(piece)
            if left < 0:
                raise _too_large(most)
            pieces.append(piece)
            if hold is not None and piece and not hold(len(piece)):
                raise falcon.HTTPServiceUnavailable(description=_NO_ROOM, retry_after=_RETRY_AFTER_S)
    raise falcon.HTTPBadRequest(description=f"the body has more than {_MOST_MEMBERS} gzip members")


def _too_large(most: int) -> falcon.HTTPContentTooLarge:
    return falcon.HTTPContentTooLarge(description=f"the body may have at most {most} bytes")


def media_type_of(req: Request) -> str:
    """Return the media type of the body, without parameters; empty if none is told."""
    return (req.content_type or "").partition(";")[0].strip().lower()


def read_lines(req: Request, most: int) -> list[bytes]:
    """Return the lines of an NDJSON body; errors as in `read_body`.

    A body without any line that could be a JSON object is no NDJSON, whatever its media type says. It may be CSV,
    Parquet, or gzip that is not declared.

    Raises:
        falcon.HTTPUnsupportedMediaType: It is another kind of body.
    """
    kind = media_type_of(req)
    if kind and kind not in NDJSON_TYPES and kind not in _UNTOLD_TYPES:
        raise _no_ndjson(f"the body is {kind[:_NAME_SHOWN]}")
    body = read_body(req, most).removeprefix(_BYTE_ORDER_MARK)
    if body.count(b"\n") > most // _LEAST_LINE:
        raise falcon.HTTPContentTooLarge(description=f"the body may have at most {most // _LEAST_LINE} lines")
    lines = body.split(b"\n")
    if body.strip() and not any(line.lstrip().startswith(b"{") for line in lines):
        compressed = body.startswith(b"\x1f\x8b")
        raise _no_ndjson(
            "the body is gzip without Content-Encoding: gzip" if compressed else "no line is a JSON object"
        )
    return lines


def _no_ndjson(what: str) -> falcon.HTTPUnsupportedMediaType:
    types = ", ".join(NDJSON_TYPES)
    if arrow.is_there():
        types = f"{types}, {arrow.MEDIA_ARROW}"
    description = f"{what}: rows are taken as NDJSON, an object a line, or as Arrow, as they are or as gzip ({types})"
    return falcon.HTTPUnsupportedMediaType(
        description=description, headers={"Accept": types, "Accept-Encoding": "gzip"}
    )


def decode_body(decoder: Decoder[T], body: bytes) -> T:
    """Decode the body.

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
    """Refuse a path that is not UTF-8. Falcon puts U+FFFD in place of bad bytes; an id that has U+FFFD itself is fine.

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
    """Refuse features that are named twice: a short request could make a very long response.

    Raises:
        falcon.HTTPUnprocessableEntity: A name is among them twice.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise falcon.HTTPUnprocessableEntity(description=f"{name[:_NAME_SHOWN]} is asked for twice")
        seen.add(name)


def check_parameters(req: Request, allowed: Collection[str]) -> None:
    """Refuse a query string with unknown or empty parameters, which would be ignored.

    Raises:
        falcon.HTTPUnprocessableEntity: A parameter is not among those allowed, or is empty.
    """
    for name, value in req.params.items() if req.query_string else ():
        if name not in allowed:
            known = f"; known are {', '.join(sorted(allowed))}" if allowed else "; options go into the body"
            raise falcon.HTTPUnprocessableEntity(description=f"there is no parameter {name[:_NAME_SHOWN]} here{known}")
        if not value:
            raise falcon.HTTPUnprocessableEntity(description=f"{name}= is empty")
