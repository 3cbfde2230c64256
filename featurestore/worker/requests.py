"""HTTP/1.1 requests: bytes of a connection in, requests out. Checks what llhttp does not."""

import io
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from httptools.parser.errors import HttpParserInvalidURLError

from featurestore.worker.budget import Budget
from featurestore.worker.forwarded import Proxies
from featurestore.worker.framing import Chunks, Framing, HeadFinder
from featurestore.worker.interface import BEGIN, PLAIN_ACCEPTS
from featurestore.worker.refusal import Refusal
from featurestore.worker.sockets import is_plain_line

Environ = dict[str, Any]

_NAMES: dict[bytes, str] = {b"Content-Type": "CONTENT_TYPE", b"Content-Length": "CONTENT_LENGTH"}
_MOST_NAMES = 1000
_LONGEST_NAME_KEPT = 64
_FRAMING = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}
_ONCE = {*_FRAMING, "CONTENT_TYPE", "HTTP_HOST"}
_UNUSUAL = {
    *(*_FRAMING, "HTTP_UPGRADE", "HTTP_FEATURESTORE_READ_FROM"),
    *("HTTP_X_REQUEST_ID", "HTTP_TRACEPARENT"),  # a response has the id of its own request
}
_LONGEST_FIELDS_KEPT = 4096
_LONGEST_HEAD_KEPT = 2048
_CR = 0x0D
_MOST_DIGITS = 20
_UNCOUNTED = 8192
"""Bytes that a connection may hold without being counted. Nearly all requests are smaller."""


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


class KnownHead(msgspec.Struct, frozen=True):
    """The head of an earlier request with a Content-Length. Batches of equal size often repeat it.

    Attributes:
        text: Its bytes.
        environ: The WSGI environment made of it.
        length: Bytes of the body.
    """

    text: bytes
    environ: Environ
    length: int


class RequestReader:
    """Turns a connection's bytes into requests, one after the other.

    This class finds where each part of a request ends, and the parser gets one whole head at a time. So the result does
    not depend on how reads cut the bytes. Bodies are read whole before the app is called, up to a limit, so that
    `wsgi.input` never waits for a client.

    Args:
        base: The part of the WSGI environment that all requests share.
        framing: What a request may be made of.
        budget: What counts the bytes that are held.
        proxies: Takes what a trusted proxy says of its client; None if the peer is none.

    Attributes:
        begun: Whether a request has begun that is not complete.
        refusal: Why nothing more is read. It is sent after the responses to earlier requests.
        wants_continue: Whether the client waits for `100 Continue`; the sender of that resets it.
        usual: The header fields of an earlier plain GET, by which `sockets.take` recognises others. None if there was
            none yet, or while bytes of another request, or of an empty line before one, are held.
    """

    def __init__(self, base: Environ, framing: Framing, budget: Budget, proxies: Proxies | None = None) -> None:
        self.begun = False
        self.refusal: Refusal | None = None
        self.wants_continue = False
        self.usual: bytes | None = None
        self._usual: bytes | None = None  # `usual` whenever nothing else is buffered; the first plain GET sets it
        self._base, self._framing, self._budget = base, framing, budget
        self._proxies = proxies
        self._head = HeadFinder(framing)
        self._parser = HttpRequestParser(self)
        self._data = bytearray()  # what no request has taken yet
        self._known: KnownHead | None = None  # the last that may be repeated
        self._environ: Environ = {}
        self._body = io.BytesIO()
        self._chunks: Chunks | None = None
        self._wrong = ""  # with the header fields
        self._missing = 0  # bytes of a body whose length is known
        self._head_bytes = self._body_bytes = self._counted = 0
        self._in_body = self._answering = self._ended = self._keep_alive = False

    def unparsed(self, path: str) -> bytes:
        """Return the request whose path `sockets.take` found by `usual`."""
        return b"GET %b HTTP/1.1%b" % (path.encode(), self.usual or b"")

    def feed(self, data: bytes) -> None:
        """Take bytes of the client. `next` returns the requests that they complete."""
        if self._ended:
            return
        if self._missing:
            piece = data[: self._missing]
            self._write(piece)
            data = data[len(piece) :]
        self._data += data
        self._count()

    def next(self) -> Request | None:
        """Return the next complete request; the one before must have been answered.

        Return None if more bytes are needed, or if there is a `refusal`.
        """
        if self._answering:
            self._answering = False
            self._head_bytes = self._body_bytes = 0
            self._count()
        try:
            if (self._in_body or self._read_head()) and self._read_body():
                return self._complete()
        except Refusal as refusal:
            self._refuse(Refusal(refusal.status, str(refusal)))  # the raised one's traceback holds the request
        self.usual = None if self._in_body or self._data or self._ended else self._usual
        self.begun = self._in_body or (bool(self._data) and self._data != b"\r")
        return None

    def forget_usual(self) -> None:
        """Take the next plain GET for the first one: the last one was refused for its header fields."""
        self.usual = self._usual = None

    def hold(self, size: int) -> bool:
        """Count another `size` bytes until the current request is answered; return False if that is too much.

        The app finds this method as `featurestore.hold` in the environment, and calls it for what it makes of the body.
        """
        if not self._budget.take(size):
            return False
        self._counted += size
        return True

    def drop(self) -> None:
        """Drop all that is held, and read nothing more."""
        self._ended = True
        self._in_body = self._answering = self.begun = False
        self._data, self._environ, self._body, self._chunks = bytearray(), {}, io.BytesIO(), None
        self._missing = self._head_bytes = self._body_bytes = 0
        self._count()

    def _refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.wants_continue = False
        self.drop()

    def _count(self) -> None:
        """Count what is held in the budget; refuse the request if that is too much."""
        size = self._head_bytes + self._body_bytes + len(self._data)
        if size <= _UNCOUNTED:
            size = 0
        more = size - self._counted
        if more <= 0:
            self._budget.give_back(-more)
        elif not self._budget.take(more):
            self._refuse(Refusal(503, "the server holds as many bytes of requests as it may; try again"))
            return
        self._counted = size

    def _read_head(self) -> bool:
        """Take the head once it is complete, and check it; return whether it was complete."""
        data = self._data
        if data and data[0] == _CR:
            self._framing.skip_empty_lines(data)
        known = self._known
        if known is not None and not self._head.at and data.startswith(known.text):
            self._environ, self._keep_alive = known.environ.copy(), True
            self._begin_body(len(known.text), known.length)
            return True
        end = self._head.find_end(data) if data else -1
        if end < 0:
            return False
        self._begin_body(end, self._take_head(bytes(data[:end])))
        return True

    def _begin_body(self, head_bytes: int, length: int | None) -> None:
        """Prepare for the body, of known length or in chunks, after a head of so many bytes."""
        del self._data[:head_bytes]
        self._head_bytes = head_bytes
        self._environ["wsgi.input"] = self._body = io.BytesIO()
        if length is None:
            self._chunks = Chunks(self._framing, self._head.fields, self._body)
        else:
            self._missing = length
        self._in_body = True

    def _take_head(self, head: bytes) -> int | None:
        """Put a head into the environment; return the body's length, None if it is chunked."""
        line = head[: head.index(b"\r\n")]
        method, target, version = line.decode("ascii").split(" ")
        environ = self._environ = self._base.copy()
        upgrading = self._parse(head)
        http11 = version == "HTTP/1.1"
        if http11 and "HTTP_HOST" not in environ:
            raise Refusal(400, "a request has one Host")
        environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"] = method, version
        if self._proxies is not None:
            self._proxies.tell(environ)
        length = self._check_framing(environ, http11=http11)
        _put_target(environ, target)
        if http11 and "HTTP_EXPECT" in environ:
            self.wants_continue = environ["HTTP_EXPECT"].lower() == "100-continue"
        elif http11 and self._keep_alive and not upgrading:
            self._remember(head, line, length)
        if upgrading or length != 0:
            self._parser = HttpRequestParser(self)  # the old parser waits for a body that it will not get
        return length

    def _remember(self, head: bytes, line: bytes, length: int | None) -> None:
        """Remember what later requests may repeat: the fields of a plain GET, or the head of a request with a body."""
        environ = self._environ
        if length:
            if len(head) <= _LONGEST_HEAD_KEPT:
                self._known = KnownHead(head, environ.copy(), length)
        elif (
            self._usual is None
            and environ.keys().isdisjoint(_UNUSUAL)
            and environ.get("HTTP_ACCEPT") in PLAIN_ACCEPTS
            and is_plain_line(line)
        ):
            fields = head[len(line) :]
            if len(fields) <= _LONGEST_FIELDS_KEPT:
                self._usual, environ[BEGIN] = fields, None

    def _parse(self, head: bytes) -> bool:
        """Let the parser put the header fields into the environment; return whether it sees an upgrade.

        A server may ignore `Upgrade` (RFC 9110, 7.8), and this one does: the request has the body that it says.
        """
        upgrading = False
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            upgrading = True
        except HttpParserError as error:
            raise Refusal(400, self._wrong or f"malformed HTTP: {error}") from error
        if self._wrong:
            raise Refusal(400, self._wrong)
        return upgrading

    # Called by the parser. An exception raised here would keep the request alive by its traceback.

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header field."""
        key = _NAMES.get(name) or _key_of(name)
        text = value.decode("latin-1")
        if not key:
            self._wrong = self._wrong or "a header name may have no underscore"
        elif key not in self._environ:
            self._environ[key] = text if key in _FRAMING else text.rstrip(" \t")
        elif key in _ONCE:
            self._wrong = self._wrong or f"more than one {name.decode('latin-1')}"
        else:
            self._environ[key] += "," + text.rstrip(" \t")

    def on_headers_complete(self) -> None:
        """The head ends."""
        self._keep_alive = self._parser.should_keep_alive()

    def _check_framing(self, environ: Environ, *, http11: bool) -> int | None:
        """Return the length of the body, None for one in chunks.

        Refuse what different servers could read differently, which is how requests are smuggled.
        """
        if environ["REQUEST_METHOD"] == "CONNECT":
            raise Refusal(501, "no tunnels here")
        encoding = environ.get("HTTP_TRANSFER_ENCODING")
        length = environ.get("CONTENT_LENGTH")
        if encoding is not None:
            if encoding.lower() != "chunked" or not http11 or length is not None:
                raise Refusal(400, "a body is chunked, or has one Content-Length, and not both")
            return None
        if length is None:
            return 0
        if not (length.isascii() and length.isdigit() and len(length) <= _MOST_DIGITS):
            raise Refusal(400, "Content-Length is a number")
        size = int(length)
        if size > self._framing.limits.body:
            raise Refusal(413, f"the body may have at most {self._framing.limits.body} bytes")
        return size

    def _read_body(self) -> bool:
        """Take what there is of the body; return whether it is complete."""
        if self._chunks is not None:
            complete = self._chunks.take(self._data)
            self._body_bytes = self._chunks.size
            return complete
        if self._missing and self._data:
            piece = bytes(self._data[: self._missing])
            del self._data[: len(piece)]
            self._write(piece)
        return not self._missing

    def _write(self, piece: bytes) -> None:
        """Take a piece of a body whose length is known."""
        self._body.write(piece)
        self._missing -= len(piece)
        self._body_bytes += len(piece)

    def _complete(self) -> Request:
        """Return the request that is complete, and get ready for the next."""
        self._body.seek(0)
        environ, keep_alive = self._environ, self._keep_alive
        environ["featurestore.hold"] = self.hold
        self._environ, self._body, self._chunks = {}, io.BytesIO(), None
        self._in_body = self.begun = self.wants_continue = False
        self._answering = True
        if not keep_alive:
            self._ended, self._data = True, bytearray()
        return Request(environ, keep_alive=keep_alive, http11=environ["SERVER_PROTOCOL"] == "HTTP/1.1")


def _key_of(name: bytes) -> str:
    """Return a header's key in the environment; none for `a_b`, which would have that of `a-b`."""
    if b"_" in name:
        return ""
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
