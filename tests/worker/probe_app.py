"""A WSGI app that shows what it was given and misbehaves on request."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from gevent.event import Event

_never = Event()


class Closing:
    """An iterable whose close() is seen in the log."""

    def __init__(self, pieces: list[bytes], *, error: bool = False) -> None:
        self._pieces, self._error = pieces, error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error:
            raise RuntimeError("half-way")

    def close(self) -> None:
        sys.stderr.write("closed\n")
        sys.stderr.flush()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    path = environ["PATH_INFO"]
    text = [("Content-Type", "text/plain")]
    if path == "/echo":
        source = environ["wsgi.input"]
        body = source.readline() + b"".join(source)
        start_response("200 OK", [*text, ("Content-Length", str(len(body)))])
        return [body]
    if path == "/raise":
        raise ValueError("on purpose")
    if path == "/exc_info":
        start_response("200 OK", text)
        try:
            raise ValueError("on purpose")
        except ValueError:
            start_response("500 Oh", text, sys.exc_info())
        return [b"mended"]
    if path == "/pieces":
        start_response("200 OK", text)
        return Closing([b"one,", b"", b"two"])
    if path == "/half":
        start_response("200 OK", text)
        return Closing([b"one"], error=True)
    if path == "/write":
        start_response("200 OK", text)(b"written,")
        return [b"returned"]
    if path == "/204":
        start_response("204 No Content", [])
        return []
    if path == "/split":
        start_response("200 OK", [("X", "a\r\nSet-Cookie: b")])
        return [b""]
    if path == "/large":
        start_response("200 OK", text)
        return [b"x" * 20_000_000]
    if path == "/wait":
        sys.stderr.write("waiting\n")
        sys.stderr.flush()
        _never.wait(2)
    shown = {key: value for key, value in environ.items() if isinstance(value, str)}
    data = json.dumps(shown).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [data]
