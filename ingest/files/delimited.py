"""CSV as a source of rows: every value is text until its feature's type is known."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from featurestore.contract import arrow
from featurestore.errors import ConfigurationError, SourceError

from .columnar import refuse_twins
from .parts import Part, UnreadRow

BLOCK_BYTES = 1 << 20
"""Bytes that are parsed at once, of which Arrow reads up to 32 ahead. A row must fit."""

_HEAD_BYTES = 1 << 16
_DELIMITERS = ",;\t|"
_GZIP = b"\x1f\x8b"
TROUBLE = (OSError, EOFError, zlib.error)
"""What the reading of a file, packed or not, may raise."""


class CsvForm(msgspec.Struct, frozen=True):
    """How a CSV file is written.

    Attributes:
        delimiter: What stands between values; None: that of `, ; | tab` which the first line has most of.
        header: The columns of files without a header line; None: the first line has them.
        encoding: The text's encoding.
        null_texts: Texts that are no value, beside the empty one.
    """

    delimiter: str | None = None
    header: tuple[str, ...] | None = None
    encoding: str = "utf-8"
    null_texts: tuple[str, ...] = ()


class CountedFile(io.RawIOBase):
    """A file that counts how many bytes were read of it."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by `close`
        self.count = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; return how many bytes came."""
        came = self._file.readinto(buffer) or 0
        self.count += came
        return came

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """What a file packed by gzip has, all of it before an error: GzipFile's own `readinto` loses what it read last."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed, self._file = packed, gzip.GzipFile(fileobj=packed)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Put the next bytes into a buffer, and return how many; 0 at the end."""
        came = self._file.read1(len(buffer))
        buffer[: len(came)] = came
        return len(came)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._packed.close()
        super().close()


def open_bytes(path: str) -> tuple[BinaryIO, CountedFile]:
    """Open a file, unpacked if it is gzip; return its content and the count of the bytes read.

    Raises:
        SourceError: It cannot be opened.
    """
    try:
        counted = CountedFile(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    buffered = io.BufferedReader(counted, 1 << 18)
    if buffered.peek(2)[:2] == _GZIP:
        return cast("BinaryIO", io.BufferedReader(_Unpacked(cast("BinaryIO", buffered)), 1 << 18)), counted
    return buffered, counted


def read_head(file: BinaryIO, count: int) -> bytes:
    """Return the first bytes of an opened file: at most `count`, fewer where it ends or cannot be read on.

    Raises:
        OSError, EOFError, zlib.error: Nothing of it can be read.
    """
    head = b""
    try:
        while len(head) < count and (piece := cast("io.BufferedReader", file).read1(count - len(head))):
            head += piece
    except TROUBLE:
        if not head:
            raise
    return head


class CsvSource:
    """A CSV file, perhaps packed by gzip.

    Rows with too few or too many values are told as unread; so are rows that are no text in the file's encoding.

    Raises:
        SourceError: It is empty or cannot be read.
        ConfigurationError: Its header has a column twice, or is no text of that encoding.
    """

    def __init__(self, path: str, form: CsvForm) -> None:
        self.path, self._form = path, form
        self.size = Path(path).stat().st_size
        self.count: int | None = None
        self._counted: CountedFile | None = None
        self._blanks = 0
        line, self._delimiter = self._first_line()
        self.names = list(form.header) if form.header is not None else line
        refuse_twins(path, self.names)
        if len(line) != len(self.names):
            raise ConfigurationError(f"{path} has {len(line)} columns, and --header names {len(self.names)}")
        self.columns: dict[str, Any] | None = dict.fromkeys(self.names)

    @property
    def done(self) -> int:
        """How many bytes of the file have been read."""
        return self._counted.count if self._counted else 0

    def _first_line(self) -> tuple[list[str], str]:
        file, _ = open_bytes(self.path)
        try:
            with file:
                head = read_head(file, _HEAD_BYTES)
        except TROUBLE as error:
            raise SourceError(f"{self.path} cannot be read: {error}") from error
        encoding = "utf-8-sig" if self._form.encoding.lower() in {"utf-8", "utf8"} else self._form.encoding
        try:
            text = head.decode(encoding, "replace")
        except LookupError as error:
            raise ConfigurationError(f"--encoding {self._form.encoding}: {error}") from error
        blanks = text[: len(text) - len(text.lstrip("\r\n"))]
        self._blanks = len(blanks.splitlines())
        text = text.removeprefix(blanks)
        first = text.partition("\n")[0]
        if "\ufffd" in first and self._form.header is None:
            raise ConfigurationError(
                f"the header of {self.path} is not {self._form.encoding}: --encoding tells another, such as latin-1"
            )
        if not text.strip():
            raise SourceError(f"{self.path} is empty: it has not even a header line")
        delimiter = self._form.delimiter or max(_DELIMITERS, key=lambda each: (first.count(each), each == ","))
        return next(csv.reader(io.StringIO(text), delimiter=delimiter)), delimiter

    def parts(self, start: int, most: int, columns: Sequence[str] | None = None) -> Iterator[Part]:
        """Yield the rows from `start` on; see `Source.parts`."""
        pa = arrow.library()
        file, self._counted = open_bytes(self.path)
        unread: list[UnreadRow] = []
        end = 0
        trouble: Exception | None = None
        try:
            with file:
                for batch in self._reader(file, columns, unread):
                    places, end = _places(end, batch.num_rows, unread)
                    yield from _cut(*self._as_text(batch, places, unread), end, start, most, unread)
        except (pa.ArrowException, *TROUBLE) as error:
            trouble = error
        if unread:
            end = max(row.position for row in unread) + 1
            yield from _cut(None, [], end, start, most, unread)
        if trouble is not None:
            raise SourceError(f"{self.path} cannot be read on behind row {end}: {_hint(str(trouble))}") from trouble

    def _reader(self, file: BinaryIO, columns: Sequence[str] | None, unread: list[UnreadRow]) -> Any:
        from pyarrow import csv as arrow_csv  # noqa: PLC0415 - an extra

        pa = arrow.library()
        heads = 0 if self._form.header is not None else 1
        before = 1 + self._blanks + heads  # lines are counted from 1, those before the first row among them

        def skip(row: Any) -> str:
            wrong = f"{row.actual_columns} values for {row.expected_columns} columns"
            unread.append(UnreadRow(row.number - before, row.text, wrong))
            return "skip"

        wanted = self.names if columns is None else [name for name in self.names if name in columns]
        return arrow_csv.open_csv(
            file,
            read_options=arrow_csv.ReadOptions(
                block_size=BLOCK_BYTES,
                use_threads=False,
                encoding=self._form.encoding,
                column_names=self.names,
                skip_rows=self._blanks,
                skip_rows_after_names=heads,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=skip
            ),
            convert_options=arrow_csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(self.names, pa.binary()),
                include_columns=wanted,
                null_values=["", *self._form.null_texts],
                strings_can_be_null=True,
            ),
        )

    def _as_text(self, batch: Any, places: Sequence[int], unread: list[UnreadRow]) -> tuple[Any, Sequence[int]]:
        """Return a batch with its bytes as text, and its rows' positions; rows that are no text go to `unread`."""
        pa = arrow.library()
        schema = pa.schema([(name, pa.string()) for name in batch.schema.names])
        try:
            return batch.cast(schema), places
        except pa.ArrowInvalid:
            kept = []
            for index, row in enumerate(batch.to_pylist()):
                values = [b"" if value is None else value for value in row.values()]
                try:
                    b"".join(values).decode()
                    kept.append(index)
                except UnicodeDecodeError as error:
                    given = self._delimiter.encode().join(values).decode(errors="backslashreplace")
                    wrong = f"it is not UTF-8 ({error.reason}): --encoding tells another encoding, such as latin-1"
                    unread.append(UnreadRow(places[index], given, wrong))
            return batch.take(pa.array(kept, pa.int64())).cast(schema), [places[index] for index in kept]


def _hint(text: str) -> str:
    if "straddling" in text:
        return f"a row is longer than {BLOCK_BYTES >> 20} MiB, or a quote is never closed"
    return text


def _places(first: int, count: int, unread: Sequence[UnreadRow]) -> tuple[Sequence[int], int]:
    """Return the positions of `count` rows from `first` on, and the next one: those of unread rows are left out."""
    holes = {row.position for row in unread if row.position >= first}
    if not holes:
        return range(first, first + count), first + count
    places: list[int] = []
    position = first
    while len(places) < count:
        if position not in holes:
            places.append(position)
        position += 1
    return places, position


def _cut(  # noqa: PLR0913, PLR0917 - a part's rows, and what is wanted of them
    batch: Any, places: Sequence[int], end: int, start: int, most: int, unread: list[UnreadRow]
) -> Iterator[Part]:
    """Yield rows from `start` on in parts of at most `most`, each with the unread rows before its end."""
    told = sorted((row for row in unread if row.position < end), key=lambda row: row.position)
    unread[:] = [row for row in unread if row.position >= end]
    told = [row for row in told if row.position >= start]
    skipped = sum(1 for place in places if place < start) if places and places[0] < start else 0
    for at in range(skipped, len(places), most):
        some = places[at : at + most]
        last = end if at + most >= len(places) else some[-1] + 1
        yield Part(last, batch.slice(at, most), some, [row for row in told if row.position < last], text=True)
        told = [row for row in told if row.position >= last]
    if told:
        yield Part(end, None, [], told, text=True)
