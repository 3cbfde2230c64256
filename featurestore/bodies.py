"""Request bodies: read up to a limit, and decoded with errors that say what is wrong and where."""

from typing import TypeVar

import falcon
import msgspec
from falcon import Request

T = TypeVar("T")


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


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
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
