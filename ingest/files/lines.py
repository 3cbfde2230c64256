"""NDJSON as a source of rows: an object a line, flat, with `features`, or a rejected row."""

import json
import os
import select
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from featurestore.contract.words import EVENT_TIME
from featurestore.errors import SourceError
from featurestore.schema.values import shown

from .delimited import TROUBLE, CountedFile, open_bytes, read_head
from .parts import Given, Part, UnreadRow
from .paths import STDIN
from .rejects import Rejection, decode_rejection

_MOST_LINE = 16 << 20
_PART_BYTES = 8 << 20
_READ_BYTES = 1 << 16
_QUIET_S = 1.0
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder().decode


class NdjsonSource:
    """A file of NDJSON, perhaps packed by gzip, or standard input. Empty lines are no rows.

    Raises:
        SourceError: It cannot be read, or is a JSON array.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.columns: dict[str, Any] | None = None
        self.count: int | None = None
        self._counted: CountedFile | None = None
        self.size = 0
        if path != STDIN:
            self.size = Path(path).stat().st_size
            self._refuse_array()

    @property
    def done(self) -> int:
        """How many bytes of the file have been read."""
        return self._counted.count if self._counted else 0

    def _refuse_array(self) -> None:
        file, _ = open_bytes(self.path)
        try:
            with file:
                start = read_head(file, 4096).removeprefix(_BYTE_ORDER_MARK).lstrip()
        except TROUBLE as error:
            raise SourceError(f"{self.path} cannot be read: {error}") from error
        if start.startswith(b"["):
            raise SourceError(f"{self.path} is a JSON array, and NDJSON has an object a line: jq -c '.[]' makes it so")

    def parts(self, start: int, most: int, columns: Sequence[str] | None = None) -> Iterator[Part]:  # noqa: ARG002 - each row tells its own
        """Yield the rows from `start` on; see `Source.parts`."""
        if self.path == STDIN:
            yield from _parts(_piped_lines(0), start, most)
            return
        file, self._counted = open_bytes(self.path)
        try:
            with file:
                yield from _parts(_lines(file), start, most)
        except TROUBLE as error:
            raise SourceError(f"{self.path} cannot be read on: {error}") from error


class _Gathered:
    """Rows on the way to a part, all of them text or none."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.given: list[Given] = []
        self.positions: list[int] = []
        self.times: list[int | None] = []
        self.unread: list[UnreadRow] = []
        self.text = False
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.rows) + len(self.unread)

    def take(self, position: int, row: "Row | Unread") -> None:
        """Add a row, or one that cannot be read."""
        if isinstance(row, Unread):
            self.unread.append(UnreadRow(position, row.given, row.reason, row.time))
            return
        self.text = row.text
        self.rows.append(row.features)
        self.given.append(row.given)
        self.positions.append(position)
        self.times.append(row.time)

    def part(self, end: int) -> Part:
        """Return what was gathered as a part."""
        return Part(end, self.rows, self.positions, self.unread, self.text, self.given, self.times)


_Line = tuple[bytes, bool] | None
"""A line, and whether only its start is there, being too long; None: no line has come for a while."""


def _parts(lines: Iterable[_Line], start: int, most: int) -> Iterator[Part]:  # noqa: C901 - a row more, or a part
    gathered = _Gathered()
    position = -1
    try:
        for each in lines:
            if each is None:
                if gathered:
                    yield gathered.part(position + 1)
                    gathered = _Gathered()
                continue
            line, is_long = each if position >= 0 else (each[0].removeprefix(_BYTE_ORDER_MARK), each[1])
            if not line or line.isspace():
                continue
            position += 1
            if position < start:
                continue
            row = Unread(_shown(line), "a line longer than 16 MiB") if is_long else read_line(line)
            if isinstance(row, Row) and row.text != gathered.text and gathered.rows:
                yield gathered.part(position)
                gathered = _Gathered()
            gathered.take(position, row)
            gathered.bytes += len(line)
            if len(gathered) >= most or gathered.bytes >= _PART_BYTES:
                yield gathered.part(position + 1)
                gathered = _Gathered()
    except TROUBLE:  # what was read before counts
        if gathered:
            yield gathered.part(position + 1)
        raise
    if gathered:
        yield gathered.part(position + 1)


def _lines(file: BinaryIO) -> Iterator[_Line]:
    """Yield each line of a file."""
    while line := file.readline(_MOST_LINE):
        is_long = len(line) == _MOST_LINE and not line.endswith(b"\n")
        rest = line
        while is_long and rest and not rest.endswith(b"\n"):
            rest = file.readline(_MOST_LINE)
        yield line, is_long


def _piped_lines(descriptor: int) -> Iterator[_Line]:
    """Yield each line that comes, and None when none has come for a while.

    The descriptor is read itself: at Python's end the lock of sys.stdin is wanted, which a thread that waits may hold.
    """
    start, is_long = b"", False
    while True:
        if not select.select([descriptor], [], [], _QUIET_S)[0]:
            yield None
            select.select([descriptor], [], [])
        piece = os.read(descriptor, _READ_BYTES)
        *lines, rest = piece.split(b"\n") if piece else (b"", b"")
        for line in lines:
            whole = start + line
            yield whole, is_long or len(whole) >= _MOST_LINE
            start, is_long = b"", False
        if not piece:
            return
        if not is_long:  # of one that is, the start will do
            start += rest
            is_long = len(start) >= _MOST_LINE


class Row(msgspec.Struct, frozen=True):
    """A line's row.

    Attributes:
        features: Its values by name, flat: the id, features, `@event_time`.
        given: The row as it was given.
        text: Whether its values are text.
        time: The event time in ms that it has if it tells none.
    """

    features: dict[str, Any]
    given: Given
    text: bool = False
    time: int | None = None


class Unread(msgspec.Struct, frozen=True):
    """A line that is no row.

    Attributes:
        given: What it has.
        reason: What is wrong with it.
        time: See `Row`.
    """

    given: Given
    reason: str
    time: int | None = None


def read_line(line: bytes) -> Row | Unread:
    """Return the row of a line of NDJSON, or what is wrong with it."""
    try:
        content = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            content = json.loads(line)  # it takes NaN, which Python writes
        except (ValueError, RecursionError):
            return Unread(_shown(line), f"no JSON: {error}")
    if not isinstance(content, dict):
        return Unread(_shown(line), f"a row is an object of JSON, not {shown(content)}")
    rejection = decode_rejection(content)
    return Row(flat(content), content) if rejection is None else _mended(rejection)


def _mended(rejection: Rejection) -> Row | Unread:
    """Return the row of a rejected one, which somebody has mended since, perhaps."""
    if isinstance(rejection.row, str):
        found = read_line(rejection.row.encode(errors="backslashreplace"))
        if isinstance(found, Unread):
            return Unread(rejection.row, rejection.reason, rejection.event_time)
        return msgspec.structs.replace(found, time=rejection.event_time)
    if not isinstance(rejection.row, dict):
        return Unread(rejection.row, f"the `row` of a rejected row is an object of JSON, not {shown(rejection.row)}")
    values = flat(rejection.row)
    if rejection.text:
        values = {name: _as_text(value) for name, value in values.items()}
    return Row(values, rejection.row, rejection.text, rejection.event_time)


def _shown(line: bytes) -> str:
    return line[:_PART_BYTES].decode(errors="backslashreplace").rstrip("\r\n")


def flat(content: dict[str, Any]) -> dict[str, Any]:
    """Return a row in the form of `POST /features/ingest` as a flat one; any other as it is."""
    features = content.get("features")
    if not isinstance(features, dict):
        return content
    rest = {name: value for name, value in content.items() if name != "features"}
    time = rest.pop("event_time", None)
    return {**rest, **({} if time is None else {EVENT_TIME: time}), **features}


def _as_text(value: Any) -> str | None:
    """Return a value of a row of text, which whoever mended it may have written as JSON."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
