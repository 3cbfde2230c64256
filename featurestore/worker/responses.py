"""One response: what a WSGI app answers, as HTTP/1.1 has it."""

import re
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol

import msgspec

from featurestore.worker.interface import ID_FIELD, Headers
from featurestore.worker.requests import Request

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")
_STATUS = re.compile(r"[1-5][0-9]{2}(?: [ \t\x21-\x7e\x80-\xff]*)?")
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
_MOST_HEADS = 512
_LENGTHS_KEPT = 4096
_LENGTHS = [b"content-length: %d\r\n" % size for size in range(_LENGTHS_KEPT)]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Server(Protocol):
    """What a response needs of its server.

    Attributes:
        date_field: The header field with the time, and its line end.
        alive: Whether the server takes further requests.
    """

    date_field: bytes
    alive: bool


class ResponseHead(msgspec.Struct, frozen=True):
    """Status and headers of the app, checked and put into bytes.

    Attributes:
        text: Status line and header fields, each with its line end.
        length: The body's length, where the app told it.
        bodiless: Whether the status rules out a body.
        dated: Whether the app has set a Date.
        closes: Whether the app wants the connection closed.
    """

    text: bytes
    length: int | None
    bodiless: bool
    dated: bool
    closes: bool


_heads: dict[tuple[Any, ...], ResponseHead] = {}


def head_of(status: str, headers: Headers) -> bytes:
    """Return status line and header fields, each with its line end.

    Args:
        status: Status and reason, not one that rules out a body.
        headers: Without Content-Length, Date and Connection.
    """
    key = (status, *headers)
    return (_heads.get(key) or _make_head(key, status, headers)).text


def whole(server: Server, head: bytes, body: bytes) -> tuple[bytes, ...]:
    """Return the response, in pieces, to a GET by HTTP/1.1 whose connection goes on as long as the server does.

    Args:
        server: Whose response it is.
        head: What `head_of` returns.
        body: All of it.
    """
    size = len(body)
    length = _LENGTHS[size] if size < _LENGTHS_KEPT else b"content-length: %d\r\n" % size
    return head, length, server.date_field, b"\r\n" if server.alive else b"connection: close\r\n\r\n", body


class Response:
    """What the app answers to one request, and the WSGI callables that it answers by.

    `status`, `headers` and `sent` are what gunicorn's access log reads.

    Args:
        server: Whose response it is.
        send: Sends bytes to the client.
        request: What is answered.

    Attributes:
        sent: Bytes of the body.
        headers_sent: Whether the head is on its way, after which no other response can take this one's place.
        close: Whether the connection ends with this response.
    """

    __slots__ = (
        "_bodiless", "_chunked", "_left", "_request", "_send", "_server", "close", "headers", "headers_sent", "sent",
        "status",
    )  # fmt: skip

    def __init__(self, server: Server, send: Callable[[bytes], None], request: Request) -> None:
        self.status = ""
        self.headers: Headers = []
        self.sent = 0
        self.headers_sent = False
        self.close = not request.keep_alive
        self._send = send
        self._server = server
        self._request = request
        self._chunked = False
        self._bodiless = False
        self._left: int | None = None

    def start_response(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Callable[[bytes], None]:
        """Take status and headers, as PEP 3333 has it."""
        if exc_info:
            try:
                if self.headers_sent and exc_info[1]:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status:
            raise AssertionError("start_response was called twice")
        self.status, self.headers = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of the body, after the head if that has not been sent."""
        self._put(b"" if self.headers_sent else self._begin(None), data)

    def answer(self, body: Iterable[bytes]) -> None:
        """Send the response: in one write when the body is a single piece.

        Raises:
            ValueError: The body is shorter or longer than its Content-Length; nothing beyond that is sent.
        """
        if isinstance(body, list) and len(body) == 1 and not self.headers_sent:
            self._put(self._begin(len(body[0])), body[0])
        else:
            for data in body:
                if data:
                    self.write(data)
            if not self.headers_sent:
                self._put(self._begin(0), b"")
        if self._bodiless:
            return
        if self._chunked:
            self._send(b"0\r\n\r\n")
        elif self._left:
            raise ValueError(f"the body ended {self._left} bytes before its Content-Length")

    def _begin(self, length: int | None) -> bytes:
        """Settle how the body is framed, and return the head; `length` is the body's when it is known."""
        headers, identity = self.headers, b""
        if headers and headers[-1][0] == ID_FIELD and _VALUE.fullmatch(headers[-1][1]):
            # It is another one each time: heads that have it would not be found again.
            identity = f"{ID_FIELD}: {headers[-1][1]}\r\n".encode("latin-1")
            headers = headers[:-1]
        key = (self.status, *headers)
        head = _heads.get(key) or _make_head(key, self.status, headers)
        request = self._request
        self._bodiless = head.bodiless or request.environ["REQUEST_METHOD"] == "HEAD"
        self._left = head.length
        framing = connection = b""
        if head.length is None and not head.bodiless:
            if length is not None:
                self._left = length
                framing = b"content-length: %d\r\n" % length
            elif request.http11:
                self._chunked = True
                framing = b"transfer-encoding: chunked\r\n"
            else:
                self.close = True
        if self.close or head.closes or not self._server.alive:
            self.close = True
            connection = b"connection: close\r\n"
        elif not request.http11:
            connection = b"connection: keep-alive\r\n"
        date = b"" if head.dated else self._server.date_field
        return b"%b%b%b%b%b\r\n" % (head.text, identity, framing, date, connection)

    def _put(self, head: bytes, data: bytes) -> None:
        """Send the head, where it is given, and a piece of the body."""
        if self._bodiless:
            data = b""
        elif self._left is not None:
            if len(data) > self._left:
                raise ValueError(f"the body has {len(data) - self._left} bytes more than its Content-Length")
            self._left -= len(data)
        self.sent += len(data)
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        message = head + data
        if message:
            self.headers_sent = True
            self._send(message)


def _make_head(key: tuple[Any, ...], status: str, headers: Headers) -> ResponseHead:
    """Return the head for the app's status and headers, and keep it: an app has few different ones.

    Raises:
        ValueError: They would not be read as they were meant, as when a value holds a line break.
        TypeError: They are no strings.
    """
    if not status:
        raise ValueError("the app did not call start_response")
    if not _STATUS.fullmatch(status):
        raise ValueError(f"the status {status!r} is not one of HTTP")
    bodiless = status.startswith(("1", "204", "304"))
    lines = [f"HTTP/1.1 {status}"]
    length, dated, closes = None, False, False
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"the response header {name!r} holds what a header may not hold")
        lowered = name.lower()
        if lowered == "content-length":
            if length is not None or not (value.isascii() and value.isdigit()):
                raise ValueError("a response has one Content-Length, a number")
            length = int(value)
            if bodiless and not status.startswith("304"):
                continue
        elif lowered in _HOP_BY_HOP:
            closes = closes or (lowered == "connection" and value.lower() == "close")
            continue
        dated = dated or lowered == "date"
        lines.append(f"{name}: {value}")
    text = "\r\n".join([*lines, ""]).encode("latin-1")
    head = ResponseHead(text, length, bodiless=bodiless, dated=dated, closes=closes)
    if len(_heads) >= _MOST_HEADS:
        _heads.clear()
    _heads[key] = head
    return head
