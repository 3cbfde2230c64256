"""HTTP/1.1 requests: a connection's bytes in, requests out, checked for what llhttp lets pass."""

import io
from collections import deque
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from httptools.parser.errors import HttpParserInvalidURLError

from featurestore.wire import is_plain_line, plain_path

Environ = dict[str, Any]

_NAMES: dict[bytes, str] = {b"Content-Type": "CONTENT_TYPE", b"Content-Length": "CONTENT_LENGTH"}
_MOST_NAMES = 1000
_LONGEST_NAME_KEPT = 64
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")}
_FRAMING = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}
_ONCE = {*_FRAMING, "CONTENT_TYPE", "HTTP_HOST"}
_UNUSUAL = {*_FRAMING, "HTTP_EXPECT", "HTTP_UPGRADE"}
_MOST_HELD = 131_072
_LONGEST_FIELDS_KEPT = 4096
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
        line: Bytes of the request line; 0 for no limit of its own.
        fields: Header fields.
        field_size: Bytes of one header field.
        body: Bytes of the body.
    """

    line: int
    fields: int
    field_size: int
    body: int

    @property
    def head(self) -> int:
        """Bytes of the whole head, and of the requests that one read may bring before it."""
        return (self.line or self.field_size) + self.fields * self.field_size + 65_536


class Refusal(Exception):  # noqa: N818 - it is an answer rather than an error of ours
    """A request that is answered by the server itself, after which the connection is closed."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status

    @property
    def line(self) -> str:
        """Status and reason, as WSGI has them."""
        return f"{self.status} {_REASONS[self.status]}"

    def response(self, date_field: bytes, *, bodiless: bool = False) -> bytes:
        """Return the whole response; `date_field` is the header field with the time, and its line end."""
        problem = {"title": _REASONS[self.status], "status": self.status, "detail": str(self)}
        body = msgspec.json.encode(problem)
        head = (
            f"HTTP/1.1 {self.line}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n"
        )
        return head.encode() + date_field + b"\r\n" + (b"" if bodiless else body)


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

    Attributes:
        requests: Complete requests, oldest first.
        begun: Whether a request has begun that is not complete.
        refusal: Why nothing more is read; to be sent after the responses to `requests`.
        wants_continue: Whether the client waits for `100 Continue`; whoever sends that resets it.
        usual: The header fields of an earlier plain GET, by which `repeated` knows others; None where there was none.
    """

    def __init__(self, base: Environ, limits: Limits) -> None:
        self.requests: deque[Request] = deque()
        self.begun = False
        self.refusal: Refusal | None = None
        self.wants_continue = False
        self._base = base
        self._limits = limits
        self._most_head = limits.head
        self._parser = HttpRequestParser(self)
        self._window = self._held = self._url = b""
        self._environ: Environ = {}
        self._body: io.BytesIO | None = None
        self._in_head = self._http11 = self._upgrading = self._resuming = self._keep_alive = False
        self._fields = self._head_bytes = self._body_bytes = self._wire_bytes = 0
        self.usual: bytes | None = None

    def repeated(self, data: bytes) -> str | None:
        """Return the path when `data` is one GET whose header fields are, byte for byte, those of one before.

        Such a request need not be parsed: the parser has taken the same fields, and the path has plain characters
        alone. Otherwise return None; `data` has to be fed then.
        """
        return None if self.begun else plain_path(data, self.usual, self._limits.line)

    def unparsed(self, path: str) -> bytes:
        """Return the request whose path `wire.take` returned."""
        return b"GET %b HTTP/1.1%b" % (path.encode(), self.usual or b"")

    def feed(self, data: bytes) -> None:
        """Take bytes of the client; what they complete is in `requests`, what is wrong with them in `refusal`."""
        if self.refusal:
            return
        length = len(data)
        self._window = self._held + data if self._held else data
        try:
            while data:
                try:
                    self._parser.feed_data(data)
                    break
                except HttpParserUpgrade as stop:
                    data = self._resume() + data[stop.args[0] :]
            if self.begun:
                self._bound(length)
            else:
                self._held = b""
                self._head_bytes = 0
                if self.usual is None and len(self.requests) == 1:
                    self._remember(self.requests[0])
        except Refusal as refusal:
            self.refusal = refusal
        except HttpParserError as error:
            cause = error.__context__
            self.refusal = cause if isinstance(cause, Refusal) else Refusal(400, f"malformed HTTP: {error}")

    def _remember(self, request: Request) -> None:
        """Keep the header fields of `request`, the only one in the window, if they mean no more than to answer it."""
        start = self._window.find(b"\r\n")
        if (
            request.http11
            and request.keep_alive
            and len(self._window) - start <= _LONGEST_FIELDS_KEPT
            and is_plain_line(self._window[:start])
            and self._window.find(b"\r\n\r\n") == len(self._window) - 4
            and request.environ.keys().isdisjoint(_UNUSUAL)
        ):
            self.usual = self._window[start:]

    # Called by the parser; what they raise stops it.

    def on_message_begin(self) -> None:
        """A request starts."""
        self.begun = self._in_head = True
        if not self._resuming:
            self._environ = self._base.copy()
            self._url = b""
            self._fields = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        if not self._resuming:
            self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header field."""
        if self._resuming:
            return
        limits = self._limits
        self._fields += 1
        if self._fields > limits.fields:
            raise Refusal(431, f"more than {limits.fields} header fields")
        if len(name) + len(value) + 4 > limits.field_size:
            raise Refusal(431, f"a header field is longer than {limits.field_size} bytes")
        if not self._in_head:
            return  # a trailer; the parser has refused those that frame, and the app is told of none
        key = _NAMES.get(name) or _key_of(name)
        text = value.decode("latin-1")
        if key not in self._environ:
            self._environ[key] = text if key in _FRAMING else text.rstrip(" \t")
        elif key in _ONCE:
            raise Refusal(400, f"more than one {name.decode('latin-1')}")
        else:
            self._environ[key] += "," + text.rstrip(" \t")

    def on_headers_complete(self) -> None:
        """The header ends: everything that can be refused without the body is refused here."""
        self._in_head = False
        if self._resuming:
            self._resuming = False
            return
        environ, method, url = self._environ, self._parser.get_method(), self._url
        # llhttp also takes RTSP, ICE and more than one space; the line is compared with what it has to be.
        version = self._parser.get_http_version()
        http11, line = version == "1.1", b"%b %b HTTP/%b\r\n" % (method, url, version.encode())
        here = self._window.startswith(line) or b"\n" + line in self._window
        if not here or version not in {"1.1", "1.0"}:
            raise Refusal(400, "the request line is a method, a target and HTTP/1.1 or HTTP/1.0, one space between")
        if len(line) - 2 > self._limits.line > 0:
            raise Refusal(414, f"the request line is longer than {self._limits.line} bytes")
        if http11 and "HTTP_HOST" not in environ:
            raise Refusal(400, "a request has one Host")
        environ["REQUEST_METHOD"] = _METHODS.get(method) or method.decode("latin-1")
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if http11 else "HTTP/1.0"
        self._http11 = http11
        self._check_framing(environ, http11=http11)
        _put_target(environ, url.decode("latin-1"))
        environ["wsgi.input"] = self._body = io.BytesIO()
        self._body_bytes = self._wire_bytes = 0
        self._upgrading = "HTTP_UPGRADE" in environ and bool(self._parser.should_upgrade())
        if "HTTP_EXPECT" in environ and http11:
            self.wants_continue = environ["HTTP_EXPECT"].lower() == "100-continue"

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.body:
            raise Refusal(413, f"the body may have at most {self._limits.body} bytes")
        assert self._body is not None  # noqa: S101 - for mypy; a body follows a head
        self._body.write(data)

    def on_message_complete(self) -> None:
        """The request is complete, unless it asks for an upgrade: then the parser has not looked at its body."""
        if self._upgrading:
            self._keep_alive = self._parser.should_keep_alive()
            return
        if self._body_bytes and self._body is not None:
            self._body.seek(0)
        self.requests.append(Request(self._environ, keep_alive=self._parser.should_keep_alive(), http11=self._http11))
        self.begun = self.wants_continue = False

    def _resume(self) -> bytes:
        """Return a head that has a fresh parser read the request's body, as if no upgrade had been asked for.

        A server may ignore `Upgrade` (RFC 9110, 7.8). What llhttp leaves unread then is the body, which must not be
        taken for a request.
        """
        self._parser = HttpRequestParser(self)
        self._upgrading, self._resuming = False, True
        lines = ["POST / HTTP/1.1"]
        if "HTTP_TRANSFER_ENCODING" in self._environ:
            lines.append("transfer-encoding: chunked")
        elif "CONTENT_LENGTH" in self._environ:
            lines.append("content-length: " + self._environ["CONTENT_LENGTH"])
        if not self._keep_alive:
            lines.append("connection: close")
        return "\r\n".join([*lines, "", ""]).encode()

    def _bound(self, length: int) -> None:
        """Bound what a request that is not complete may take, after another `length` bytes of it."""
        if self._in_head:
            if len(self._window) < _MOST_HELD:
                self._held = self._window
            self._head_bytes += length
            if len(self._url) > self._limits.line > 0:
                raise Refusal(414, f"the request line is longer than {self._limits.line} bytes")
            if self._head_bytes > self._most_head:
                raise Refusal(431, "the header is too long")
        else:
            self._held = b""
            self._head_bytes = 0
            self._wire_bytes += length
            if self._wire_bytes > self._most_head + 6 * self._body_bytes:  # a chunk of one byte has five around it
                raise Refusal(413, "the body's chunks have too much around them")

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


def _key_of(name: bytes) -> str:
    """Return a header's key in the environment.

    Raises:
        Refusal: `a_b` and `a-b` would be the same key.
    """
    if b"_" in name:
        raise Refusal(400, "a header name may have no underscore")
    key = name.decode("latin-1").upper().replace("-", "_")
    if key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
        key = "HTTP_" + key
    if len(_NAMES) < _MOST_NAMES and len(name) <= _LONGEST_NAME_KEPT:
        _NAMES[name] = key
    return key


def _put_target(environ: Environ, target: str) -> None:
    """Set path and query from the request's target: a path, an absolute URL, or `*`."""
    environ["RAW_URI"] = environ["REQUEST_URI"] = target
    if not target.startswith("/"):
        target = _path_of(target, environ["REQUEST_METHOD"])
    if "#" in target:
        target = target.partition("#")[0]
    path, _, environ["QUERY_STRING"] = target.partition("?")
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path


def _path_of(target: str, method: str) -> str:
    """Return path and query of a target that is no path."""
    if target == "*" and method == "OPTIONS":
        return "/*"  # PEP 3333 has paths start with a slash
    try:
        parts = parse_url(target.encode("latin-1"))
    except HttpParserInvalidURLError:
        parts = None
    if parts is None or not parts.schema or parts.schema.lower() not in {b"http", b"https"}:
        raise Refusal(400, "the target is neither a path nor a URL of HTTP")
    url: bytes = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
    return url.decode("latin-1")
