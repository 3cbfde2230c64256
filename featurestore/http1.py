"""One HTTP/1.1 connection: bytes in, requests out, checked for what llhttp lets pass."""

import io
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from httptools.parser.errors import HttpParserInvalidURLError

Environ = dict[str, Any]

_NAMES: dict[bytes, str] = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_MOST_NAMES = 1000
_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
}


class Limits(msgspec.Struct, frozen=True):
    """How much of a request is taken.

    Attributes:
        line: Bytes of the request line; 0 for no limit.
        fields: Header fields.
        field_size: Bytes of one header field; 0 for no limit.
        body: Bytes of the body.
    """

    line: int
    fields: int
    field_size: int
    body: int


class Refusal(Exception):  # noqa: N818 - it is an answer rather than an error of ours
    """A request that is answered by the server itself, after which the connection is closed."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status

    def response(self) -> bytes:
        """Return the whole response."""
        problem = {"title": _REASONS[self.status], "status": self.status, "detail": str(self)}
        body = msgspec.json.encode(problem)
        head = (
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        return head.encode() + body


class Request:
    """One request, complete with its body, as the WSGI app gets it.

    Attributes:
        environ: The WSGI environment.
        keep_alive: Whether the connection may take another request afterwards.
        http11: Whether the client speaks HTTP/1.1, and so understands chunks.
    """

    __slots__ = ("environ", "http11", "keep_alive")

    def __init__(self, environ: Environ, *, keep_alive: bool, http11: bool) -> None:
        self.environ = environ
        self.keep_alive = keep_alive
        self.http11 = http11

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header fields, as gunicorn's access log reads them."""
        return [
            (key.removeprefix("HTTP_").replace("_", "-"), value)
            for key, value in self.environ.items()
            if key.startswith(("HTTP_", "CONTENT_"))
        ]


class RequestReader:
    """Turns a connection's bytes into requests.

    Bodies are read whole before the app is called, up to a limit, so that `wsgi.input` never waits for a client.

    Args:
        base: What the environments of all requests have in common.
        limits: How much of a request is taken.
        send_continue: Called when the client waits for `100 Continue` before it sends a body.

    Attributes:
        requests: Complete requests, oldest first.
        begun: Whether a request has begun that is not complete.
        refusal: Why nothing more is read; to be sent after the responses to `requests`.
    """

    def __init__(self, base: Environ, limits: Limits, send_continue: Callable[[], None]) -> None:
        self.requests: deque[Request] = deque()
        self.begun = False
        self.refusal: Refusal | None = None
        self._base = base
        self._limits = limits
        self._most_head = limits.line + limits.fields * (limits.field_size + 4) + 1024
        self._send_continue = send_continue
        self._parser = HttpRequestParser(self)
        self._closing = False
        self.on_message_begin()
        self.begun = False

    def feed(self, data: bytes) -> None:
        """Take bytes of the client; what they complete is in `requests`, what is wrong with them in `refusal`."""
        if self._closing:
            return
        try:
            if self._in_head:
                self._head_bytes += len(data)
            self._parser.feed_data(data)
            if self._in_head and self.begun and self._head_bytes > self._most_head:
                self.refusal = self.refusal or Refusal(431, "the header is too long")
        except HttpParserUpgrade:
            self._closing = True  # what follows is another protocol, which we do not speak
            self.requests[-1].keep_alive = False
        except HttpParserError as error:
            cause = error.__context__
            self.refusal = cause if isinstance(cause, Refusal) else Refusal(400, f"malformed HTTP: {error}")
        if self.refusal:
            self._closing = True

    # Called by the parser; what they raise stops it.

    def on_message_begin(self) -> None:
        """A request starts."""
        self.begun = self._in_head = True
        self._head_bytes = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._url += url
        if self._limits.line and len(self._url) > self._limits.line:
            raise Refusal(414, f"the request line is longer than {self._limits.line} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header field."""
        headers = self._headers
        headers.append((name.lower(), value))
        if len(headers) > self._limits.fields:
            raise Refusal(431, f"more than {self._limits.fields} header fields")
        if self._limits.field_size and len(name) + len(value) + 4 > self._limits.field_size:
            raise Refusal(431, f"a header field is longer than {self._limits.field_size} bytes")

    def on_headers_complete(self) -> None:
        """The header ends: everything that can be refused without the body is refused here."""
        self._in_head = False
        environ = self._base.copy()
        http11 = self._parser.get_http_version() == "1.1"
        if not http11 and self._parser.get_http_version() != "1.0":
            raise Refusal(400, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        environ["REQUEST_METHOD"] = self._parser.get_method().decode("latin-1")
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if http11 else "HTTP/1.0"
        hosts = 0
        for name, value in self._headers:
            key = _NAMES.get(name) or _name_of(name)
            if key in environ:
                environ[key] += "," + value.decode("latin-1")
            else:
                environ[key] = value.decode("latin-1")
            hosts += name == b"host"
        if hosts != 1 and (http11 or hosts):
            raise Refusal(400, "a request has exactly one Host")
        self._check_framing(environ, http11=http11)
        _put_target(environ, self._url)
        self._environ, self._http11 = environ, http11

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.body:
            raise Refusal(413, f"the body may have at most {self._limits.body} bytes")
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is complete."""
        environ = self._environ
        environ["wsgi.input"] = io.BytesIO(b"".join(self._body))
        if "HTTP_TRANSFER_ENCODING" in environ:
            environ["wsgi.input_terminated"] = True
        self.requests.append(Request(environ, keep_alive=self._parser.should_keep_alive(), http11=self._http11))
        self.begun = False
        self._in_head = True
        self._head_bytes = 0

    def _check_framing(self, environ: Environ, *, http11: bool) -> None:
        """Refuse what different servers could read differently, which is how requests are smuggled."""
        if environ["REQUEST_METHOD"] == "CONNECT":
            raise Refusal(501, "no tunnels here")
        encoding = environ.get("HTTP_TRANSFER_ENCODING")
        length = environ.get("CONTENT_LENGTH")
        if encoding is not None:
            if encoding.lower() != "chunked" or not http11 or length is not None:
                raise Refusal(400, "a body is chunked, or has one Content-Length, and not both")
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise Refusal(400, "Content-Length is a number")
            if int(length[:20]) > self._limits.body:
                raise Refusal(413, f"the body may have at most {self._limits.body} bytes")
        if "HTTP_EXPECT" in environ and http11 and environ["HTTP_EXPECT"].lower() == "100-continue":
            self._send_continue()


def _name_of(name: bytes) -> str:
    """Return a header's key in the environment.

    Raises:
        Refusal: `a_b` and `a-b` would be the same key.
    """
    if b"_" in name:
        raise Refusal(400, "a header name may have no underscore")
    key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_NAMES) < _MOST_NAMES:
        _NAMES[name] = key
    return key


def _put_target(environ: Environ, url: bytes) -> None:
    """Set path and query from the request's target: a path, an absolute URL, or `*`."""
    raw = url
    if not url.startswith(b"/"):
        if url == b"*" and environ["REQUEST_METHOD"] == "OPTIONS":
            url = b"/*"
        else:
            try:
                parts = parse_url(url)
            except HttpParserInvalidURLError:
                parts = None
            if parts is None or not parts.schema:
                raise Refusal(400, "the target is neither a path nor a URL")
            url = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
    path, _, query = url.partition(b"#")[0].partition(b"?")
    environ["RAW_URI"] = environ["REQUEST_URI"] = raw.decode("latin-1")
    environ["PATH_INFO"] = (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")
