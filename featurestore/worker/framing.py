"""Where the parts of an HTTP/1.1 message end, and what they may hold.

The result depends on the bytes alone, not on how reads cut them. Lines are checked one after the other. The start of a
line is refused as soon as no continuation could make the line valid, with the same status however it goes on.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto
from io import BytesIO

import msgspec

from featurestore.worker.refusal import Refusal

_METHODS = (
    "ACL", "BIND", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LINK", "LOCK", "M-SEARCH", "MERGE",
    "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "NOTIFY", "OPTIONS", "PATCH", "POST", "PROPFIND", "PROPPATCH", "PURGE",
    "PUT", "QUERY", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "TRACE", "UNBIND", "UNLINK", "UNLOCK",
    "UNSUBSCRIBE",
)  # fmt: skip
"""The methods of HTTP that llhttp knows."""

_VERSIONS = ("HTTP/1.1", "HTTP/1.0")
_CR = 0x0D
_LEAST_HEAD = 65_536
_LONGEST_SIZE_LINE = 4096
_BYTES_AROUND_CHUNK = 5  # the fewest bytes around a chunk of one byte


class Limits(msgspec.Struct, frozen=True):
    """The largest request that is accepted.

    Attributes:
        line: Bytes of the request line; 0 means no limit of its own.
        fields: Number of header fields, those of a trailer included.
        field_size: Bytes of one header field, with its line end.
        body: Bytes of the body.
    """

    line: int
    fields: int
    field_size: int
    body: int

    @property
    def head(self) -> int:
        """Bytes of a whole head: 64 KiB, or as much as a request line and one field of the largest sizes."""
        return max(_LEAST_HEAD, self.line + self.field_size + 4)


def _starts(words: Iterable[str]) -> bytes:
    """Return a pattern for every start of one of `words`, the whole word included."""
    starts = {word[:end] for word in words for end in range(len(word) + 1)}
    return b"(?:%b)" % b"|".join(re.escape(start.encode()) for start in sorted(starts, key=len, reverse=True))


_METHOD = b"(?:%b)" % b"|".join(re.escape(method.encode()) for method in sorted(_METHODS, key=len, reverse=True))
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
_REQUEST_LINE = rb"%b [!-~]++ HTTP/1\.[01]" % _METHOD
_FIELD = rb"%b++:%b*+" % (_TOKEN, _TEXT)
_QUOTED = rb"(?:[\t\x20!#-\[\]-~\x80-\xff]|\\%b)" % _TEXT
_EXTENSION = rb';%b++(?:=(?:%b++|"%b*+"))?' % (_TOKEN, _TOKEN, _QUOTED)
_EXTENSION_SO_FAR = rb'(?:;(?:%b++(?:=(?:%b*+|"%b*+\\?))?)?)?' % (_TOKEN, _TOKEN, _QUOTED)

_SMALL_HEAD = re.compile(rb"%b\r\n(?:%b\r\n)*+\r\n" % (_REQUEST_LINE, _FIELD))
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")


class Line:
    """One kind of line, and what it may be.

    Args:
        whole: The pattern of a whole line, without its end.
        so_far: The pattern of every start of such a line, the whole line included.
        wrong: Why other lines are refused, with status 400.
        most: The most bytes of a line.
        too_long: Status and reason for a longer line.
    """

    def __init__(self, whole: bytes, so_far: bytes, wrong: str, most: int, too_long: tuple[int, str]) -> None:
        self._whole, self._so_far = re.compile(whole), re.compile(so_far)
        self._wrong, self._most, self._too_long = wrong, most, too_long

    def find_end(self, data: bytearray, start: int, stop: int) -> int:
        """Return where the line at `start` ends; -1 if its end is not before `stop`.

        Raises:
            Refusal: The line, or what there is of it, is refused.
        """
        end = data.find(b"\r\n", start, stop)
        if end >= 0:
            if end - start > self._most or not self._whole.fullmatch(data, start, end):
                self._check_start(data, start, end)
                raise Refusal(400, self._wrong)
        else:
            # A CR at the end may be the first half of the line's end.
            self._check_start(data, start, stop - (stop > start and data[stop - 1] == _CR))
        return end

    def _check_start(self, data: bytearray, start: int, end: int) -> None:
        """Refuse bytes that no valid line starts with. Bytes beyond the longest line do not count."""
        if not self._so_far.fullmatch(data, start, min(end, start + self._most + 1)):
            raise Refusal(400, self._wrong)
        if end - start > self._most:
            raise Refusal(*self._too_long)


class Framing:
    """The kinds of lines in a request, for given limits.

    Args:
        limits: The largest request that is accepted.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.most_head = limits.head
        self._small = min(limits.line or limits.field_size, limits.field_size)
        self.request_line = Line(
            _REQUEST_LINE,
            rb"%b|%b [!-~]*+|%b [!-~]++ %b" % (_starts(_METHODS), _METHOD, _METHOD, _starts(_VERSIONS)),
            "the request line is a method, a target and HTTP/1.1 or HTTP/1.0, one space between",
            limits.line or limits.head,
            (414, f"the request line is longer than {limits.line or limits.head} bytes"),
        )
        self.field = Line(
            _FIELD,
            rb"(?:%b++(?::%b*+)?)?" % (_TOKEN, _TEXT),
            "a header field is a name, a colon and a value, on one line",
            limits.field_size - 2,
            (431, f"a header field is longer than {limits.field_size} bytes"),
        )
        self.size_line = Line(
            rb"[0-9A-Fa-f]{1,16}(?:%b)*+" % _EXTENSION,
            rb"[0-9A-Fa-f]{0,16}|[0-9A-Fa-f]{1,16}(?:%b)*%b" % (_EXTENSION, _EXTENSION_SO_FAR),
            "a chunk begins with its size, in hexadecimal digits",
            _LONGEST_SIZE_LINE,
            (413, "the body's chunks have too much around them"),
        )

    def skip_empty_lines(self, data: bytearray) -> None:
        """Remove empty lines, which a client may send before a request."""
        empty = _EMPTY_LINES.match(data)
        if empty and empty.end():
            del data[: empty.end()]

    def fields_of_small(self, data: bytearray, end: int) -> int:
        """Return the number of fields in the head that ends at `end`; -1 if it must be checked line by line.

        No line can be too long here: the whole head is no longer than the longest line.
        """
        if end > self._small or not _SMALL_HEAD.fullmatch(data, 0, end):
            return -1
        fields = data.count(b"\r\n", 0, end) - 2
        return fields if fields <= self.limits.fields else -1


class HeadFinder:
    """Finds the end of a request's head, as bytes of it arrive.

    Args:
        framing: What lines may be.

    Attributes:
        at: Where the next line to check starts; 0 until the first line is complete.
        fields: The header fields so far.
    """

    __slots__ = ("_framing", "at", "fields")

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self.at = 0
        self.fields = 0

    def find_end(self, data: bytearray) -> int:
        """Return where the head at the start of `data` ends; -1 if its end has not arrived.

        Raises:
            Refusal: The head, or what there is of it, is refused.
        """
        framing = self._framing
        if not self.at:
            self.fields = 0
            end = data.find(b"\r\n\r\n") + 4
            if end > 3:  # noqa: PLR2004 - it was found
                self.fields = framing.fields_of_small(data, end)
                if self.fields >= 0:
                    return end
                self.fields = 0
        stop = min(len(data), framing.most_head)
        while not self.at or not data.startswith(b"\r\n", self.at, stop):
            line = framing.field if self.at else framing.request_line
            end = line.find_end(data, self.at, stop)
            if end < 0:
                if len(data) > framing.most_head:
                    raise Refusal(431, f"the header is longer than {framing.most_head} bytes")
                return -1
            if self.at:
                self.fields += 1
                if self.fields > framing.limits.fields:
                    raise Refusal(431, f"more than {framing.limits.fields} header fields")
            self.at = end + 2
        end, self.at = self.at + 2, 0
        return end


class _Part(Enum):
    """What comes next in a chunked body."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()


class Chunks:
    """Reads a chunked body, as bytes of it arrive. The fields of a trailer are checked, and dropped.

    Args:
        framing: What lines may be.
        fields: How many header fields the head has.
        sink: Where the body goes.

    Attributes:
        size: Bytes of the body so far.
    """

    __slots__ = ("_around", "_fields", "_framing", "_left", "_part", "_promised", "_sink", "size")

    def __init__(self, framing: Framing, fields: int, sink: BytesIO) -> None:
        self.size = 0
        self._framing, self._fields, self._sink = framing, fields, sink
        self._part = _Part.SIZE
        self._left = self._promised = self._around = 0

    def take(self, data: bytearray) -> bool:
        """Take the bytes of the body off the start of `data`; return whether the body is complete.

        Raises:
            Refusal: The body, or what there is of it, is refused.
        """
        at, complete = 0, False
        while not complete:
            if self._part is _Part.DATA:
                piece = data[at : at + self._left]
                self._sink.write(piece)
                self.size += len(piece)
                self._left -= len(piece)
                at += len(piece)
                if self._left:
                    break
                self._part = _Part.DATA_END
            elif self._part is _Part.DATA_END:
                ending = data[at : at + 2]
                if ending == b"\r\n":
                    at, self._part = at + 2, _Part.SIZE
                elif b"\r\n".startswith(ending):
                    break
                else:
                    raise Refusal(400, "a chunk's data does not end where its size says")
            elif self._part is _Part.TRAILER and data.startswith(b"\r\n", at):
                at, complete = at + 2, True
            else:
                line = self._framing.size_line if self._part is _Part.SIZE else self._framing.field
                end = line.find_end(data, at, len(data))
                if end < 0:
                    break
                self._around += end + 2 - at
                if self._part is _Part.SIZE:
                    self._begin_chunk(data[at:end])
                else:
                    self._check_trailer(data[at:end])
                at = end + 2
        del data[:at]
        return complete

    def _begin_chunk(self, line: bytearray) -> None:
        """Read the line before a chunk's data."""
        limits = self._framing.limits
        self._left = int(line.partition(b";")[0], 16)
        self._around += 2
        self._promised += self._left
        if self._promised > limits.body:
            raise Refusal(413, f"the body may have at most {limits.body} bytes")
        self._part = _Part.DATA if self._left else _Part.TRAILER
        self._bound()

    def _check_trailer(self, line: bytearray) -> None:
        """Count a field of the trailer, and refuse those that say how long a body is."""
        self._fields += 1
        if self._fields > self._framing.limits.fields:
            raise Refusal(431, f"more than {self._framing.limits.fields} header fields")
        if bytes(line.partition(b":")[0]).lower() in {b"content-length", b"transfer-encoding"}:
            raise Refusal(400, "a trailer may not say how long the body is")
        self._bound()

    def _bound(self) -> None:
        """Refuse a body that spends far more bytes around its chunks than they need."""
        if self._around > self._framing.most_head + _BYTES_AROUND_CHUNK * self._promised:
            raise Refusal(413, "the body's chunks have too much around them")
