"""A WSGI app that shows what it was given and misbehaves on request."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent import Timeout
from gevent.event import Event

from featurestore.worker.interface import Answer, Respond

_never = Event()
_hoard: list[int] = []
FAULTS = {
    "/raise": ValueError("on purpose"),
    "/raise/os": FileNotFoundError("on purpose"),
    "/raise/timeout": Timeout(1),
    "/raise/exit": SystemExit(3),  # with which gunicorn's master gives up
}
HEADERS: dict[str, Any] = {
    "/bad/crlf": ("200 OK", [("X", "a\r\nSet-Cookie: b")]),
    "/bad/cr": ("200 OK", [("X", "a\rb")]),
    "/bad/lf": ("200 OK", [("X", "a\nb")]),
    "/bad/nul": ("200 OK", [("X", "a\0b")]),
    "/bad/name": ("200 OK", [("X: a\r\nY", "b")]),
    "/bad/space": ("200 OK", [("X ", "b")]),
    "/bad/wide": ("200 OK", [("X", "\N{SNOWMAN}")]),
    "/bad/bytes": ("200 OK", [("X", b"a")]),
    "/bad/status": ("200 OK\r\nX: a", []),
    "/bad/number": ("OK", []),
    "/bad/length": ("200 OK", [("Content-Length", "a")]),
    "/bad/lengths": ("200 OK", [("Content-Length", "0"), ("content-length", "0")]),
}


class Closing:
    """An iterable whose close() is seen in the log."""

    def __init__(self, pieces: list[bytes], *, error: bool = False, close_error: bool = False) -> None:
        self._pieces, self._error, self._close_error = pieces, error, close_error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error:
            raise RuntimeError("half-way")

    def close(self) -> None:
        sys.stderr.write("closed\n")
        sys.stderr.flush()
        if self._close_error:
            raise ValueError("on purpose")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    path = environ["PATH_INFO"]
    text = [("Content-Type", "text/plain")]
    if path == "/echo":
        source = environ["wsgi.input"]
        body = source.readline() + b"".join(source)
        start_response("200 OK", [*text, ("Content-Length", str(len(body)))])
        return [body]
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
    if path == "/large":
        start_response("200 OK", text)
        return [b"x" * 20_000_000]
    if path == "/read":
        source = environ["wsgi.input"]
        parts = [
            source.read(2),
            source.readline(),
            source.readline(2),
            *source.readlines(),
            source.read(),
            source.read(9),
        ]
        start_response("200 OK", text)
        return [json.dumps([part.decode() for part in parts]).encode()]
    if path in FAULTS:
        raise FAULTS[path]
    if path == "/no_start":
        return [b"x"]
    if path == "/twice":
        start_response("200 OK", text)
        start_response("200 OK", text)
    if path == "/exc_info_late":
        start_response("200 OK", text)(b"begun")
        try:
            raise ValueError("on purpose")
        except ValueError:
            start_response("500 Oh", text, sys.exc_info())
    if path == "/close_fails":
        start_response("200 OK", [*text, ("Content-Length", "2")])
        return Closing([b"ok"], close_error=True)
    if path.startswith("/length/"):
        start_response("200 OK", [*text, ("Content-Length", path.removeprefix("/length/"))])
        return Closing([b"abc", b"def"])
    if path == "/304":
        start_response("304 Not Modified", [("ETag", '"a"'), ("Content-Length", "6")])
        return [b"abcdef"]
    if path == "/204/length":
        start_response("204 No Content", [("Content-Length", "3")])
        return [b"abc"]
    if path == "/hop":
        start_response("200 OK", [("Transfer-Encoding", "chunked"), ("Keep-Alive", "x"), ("Date", "now"), *text])
        return [b"abc"]
    if path == "/says_close":
        start_response("200 OK", [("Connection", "close")])
        return [b"abc"]
    if path in HEADERS:
        status, headers = HEADERS[path]
        start_response(status, headers)
        return [b""]
    if path == "/hoard":  # all descriptors that are left
        with contextlib.suppress(OSError):
            while True:
                _hoard.append(os.dup(2))
    if path == "/release":
        while _hoard:
            os.close(_hoard.pop())
    if path == "/forever":
        sys.stderr.write("waiting\n")
        sys.stderr.flush()
        _never.wait()
    if path == "/wait":
        sys.stderr.write("waiting\n")
        sys.stderr.flush()
        _never.wait(2)
    shown = {key: value for key, value in environ.items() if isinstance(value, str)}
    data = json.dumps(shown).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [data]


def begin(path: str, respond: Respond) -> bool:
    """What the worker asks for plain GETs, in the event loop."""
    if path == "/begin/raise":
        raise ValueError("on purpose")
    if not path.startswith("/begin"):
        return False
    body = b"x" * 20_000_000 if path == "/begin/large" else path.encode()
    status = "404 Not Found" if path == "/begin/unknown" else "200 OK"
    answer: Answer | None = None if path == "/begin/none" else (status, [("Content-Type", "text/begun")], body)
    if path == "/begin/no/answer":
        answer = ("200 OK", [("Content-Type", "text/begun")], None)  # type: ignore[assignment]
    if path == "/begin/at/once":
        respond(answer)
        return True
    loop = gevent.get_hub().loop
    if path == "/begin/wait":
        sys.stderr.write("waiting\n")
        sys.stderr.flush()
        timer = loop.timer(0.5)
        timer.start(lambda: (timer.close(), respond(answer)))
    else:
        loop.run_callback(respond, answer)
    if path == "/begin/then/raise":
        raise ValueError("on purpose")
    return True


def count_refusal(status: str) -> None:
    """What the worker tells of requests that it refuses for want of memory."""
    sys.stderr.write(f"refused: {status}\n")
    sys.stderr.flush()


app.begin = begin  # type: ignore[attr-defined]
app.count_refusal = count_refusal  # type: ignore[attr-defined]
