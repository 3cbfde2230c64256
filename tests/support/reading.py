"""Requests read without a socket: bytes in pieces of any size, and what came of them."""

from featurestore.worker.budget import Budget
from featurestore.worker.framing import Framing, Limits
from featurestore.worker.requests import Request, RequestReader
from featurestore.worker.sockets import plain_path

LIMITS = Limits(4094, 100, 8190, 1_048_576)


def reader(limits: Limits = LIMITS, budget: Budget | None = None) -> RequestReader:
    """Return the reader of a new connection."""
    return RequestReader({}, Framing(limits), budget or Budget(1 << 30))


def taken(reader: RequestReader, *pieces: bytes) -> list[Request]:
    """Return the requests that the pieces complete, each read before the next piece comes."""
    requests = []
    for piece in pieces:
        reader.feed(piece)
        while (request := reader.next()) is not None:
            requests.append(request)
    return requests


def plain_path_of(reader: RequestReader, data: bytes) -> str | None:
    """Return the path where the worker takes `data` for a plain GET."""
    return plain_path(data, reader.usual, reader._framing.limits.line)


def is_fresh(reader: RequestReader) -> bool:
    """Return whether nothing is held of a request, nor of an empty line before one."""
    return not (reader._in_body or reader._data or reader._ended)
