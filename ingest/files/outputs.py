"""Where exported rows go: Parquet, or a JSON object a line. A file gets its name once it is whole."""

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from featurestore.contract.arrow import TIME_KIND, library, type_of
from featurestore.contract.vector_json import write_vector
from featurestore.contract.words import EVENT_TIME
from featurestore.errors import BadArgumentsError
from featurestore.schema.types import vector_length

from .rows import ABOUT, Columns, Rows, own_time_column

STDOUT = "-"
"""In a path's place: the process's output, as NDJSON."""

GROUP_ROWS, GROUP_BYTES = 65_536, 32 << 20
"""A row group of Parquet has so many rows, or fewer where these take so many bytes."""


class Output(Protocol):
    """Takes rows."""

    def begin(self) -> None:
        """Make the file that takes them."""

    def write(self, rows: Rows) -> None:
        """Take some rows."""

    def restart(self) -> bool:
        """Forget all rows taken so far; return False where they are gone already."""

    def finish(self) -> None:
        """Make the file of that name of all rows taken."""

    def discard(self) -> None:
        """Leave nothing behind but a file that is finished."""


def output_to(path: str, columns: Columns) -> Output:
    """Return what writes to `path`: `….parquet`, `….ndjson` or `-`. There is no file before it begins.

    Raises:
        BadArgumentsError: The path ends otherwise, or is a folder.
        ConfigurationError: Parquet needs pyarrow.
    """
    if path == STDOUT:
        return NdjsonOutput(None, columns)
    target = Path(path)
    if target.is_dir():  # or it would be found at the end
        raise BadArgumentsError(f"{path} is a folder")
    if target.suffix == ".parquet":
        return ParquetOutput(target, columns)
    if target.suffix == ".ndjson":
        return NdjsonOutput(target, columns)
    raise BadArgumentsError(f"{path} tells no format: end it in .parquet or .ndjson, or give - for NDJSON on stdout")


class Partial:
    """A file beside another one, whose place it takes once it is whole.

    Args:
        target: The other one.

    Attributes:
        path: Where it is.
        file: Itself, once it is open.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        self.file: BinaryIO | None = None

    def open(self) -> BinaryIO:
        """Make it, and return it."""
        self.file = self.path.open("xb")
        return self.file

    def publish(self) -> None:
        """Put it onto the disk and into the other one's place."""
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
        self.path.replace(self._target)
        folder = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Remove it, unless it was published."""
        with contextlib.suppress(OSError):  # what a full disk did not take is still to be flushed
            if self.file is not None:
                self.file.close()
        self.path.unlink(missing_ok=True)


class NdjsonOutput:
    """Writes each row as a JSON object on a line of its own; event times in ms, vectors as lists.

    A row has the features of which a value is stored, and null for those that were removed. It has a feature's own
    event time where that differs from the entity's, and for each that was removed.

    Args:
        target: The file; None for the process's output.
        columns: What rows have.
    """

    def __init__(self, target: Path | None, columns: Columns) -> None:
        self._columns, self._target = columns, target
        self._partial = Partial(target) if target else None
        self._file: BinaryIO = sys.stdout.buffer
        self._vectors = [name for name, kind in columns.features.items() if vector_length(kind)]
        self._encoder = msgspec.json.Encoder()
        self._written = False

    def begin(self) -> None:
        """Make the file."""
        if self._partial:
            self._file = self._partial.open()

    def write(self, rows: Rows) -> None:
        """Write some rows."""
        values = dict(rows.values)
        for name in self._vectors:
            values[name] = [None if vector is None else msgspec.Raw(write_vector(vector)) for vector in values[name]]
        names = (self._columns.id_name, EVENT_TIME, *values)
        lines: list[dict[str, Any]] = [
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
            for row in zip(rows.ids, rows.event_times, *values.values(), strict=True)
        ]
        for name, times in rows.times.items():
            for row, ms in times.items():
                lines[row].setdefault(name, None)
                lines[row][own_time_column(name)] = ms
        self._file.write(self._encoder.encode_lines(lines))
        self._written = True

    def restart(self) -> bool:
        """Empty the file."""
        if self._partial is None:
            return not self._written
        self._file.seek(0)
        self._file.truncate()
        return True

    def finish(self) -> None:
        """Give the file its name."""
        if self._partial:
            self._partial.publish()
        else:
            self._file.flush()

    def discard(self) -> None:
        """Remove the file, unless it is finished."""
        if self._partial:
            self._partial.discard()


class ParquetOutput:
    """Writes row groups of a bounded size, typed by the schema.

    A file tells its columns before its rows, and which features have event times of their own is known only at the end.
    So there is a column for these once a first row has one: a new part of the file begins there, and several parts are
    made into one in the end.

    Args:
        target: The file.
        columns: What rows have.
    """

    def __init__(self, target: Path, columns: Columns) -> None:
        self._pa, self._parquet = library(), import_module("pyarrow.parquet")
        self._target, self._columns = target, columns
        self._parts: list[_Part] = []
        self._partials: list[Partial] = []

    def begin(self) -> None:
        """Begin the first part."""
        self._parts, self._partials = [], []
        self._timed: set[str] = set()
        self._batches: list[Any] = []
        self._rows = self._bytes = 0
        self._open_part()

    def write(self, rows: Rows) -> None:
        """Take some rows, and write a row group once there are enough."""
        self._timed |= rows.times.keys()
        batch = self._batch(rows)
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()

    def restart(self) -> bool:
        """Throw the parts away."""
        self.discard()
        self.begin()
        return True

    def finish(self) -> None:
        """Make one file of the parts, and give it its name."""
        if self._batches:
            self._write_group()
        for part in self._parts:
            part.writer.close()
        (whole, *_) = self._parts
        if len(self._parts) > 1:
            parts, whole = self._parts.copy(), self._open_part()
            for part in parts:
                self._copy(part, whole)
            whole.writer.close()
        whole.partial.publish()
        self.discard()

    def discard(self) -> None:
        """Remove the parts, unless one was made the file."""
        for part in self._parts:
            part.discard()
        for partial in self._partials:
            partial.discard()

    def _open_part(self) -> "_Part":
        """Begin a part that has columns for all event times seen so far."""
        partial = Partial(self._target)
        self._partials.append(partial)  # before there is a file, since a signal may end this at any point
        schema, file = self._schema(), partial.open()
        texts = [name for name, kind in self._columns.features.items() if kind == "string"]
        writer = self._parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=texts)
        self._parts.append(_Part(partial, file, writer, schema))
        return self._parts[-1]

    def _schema(self) -> Any:
        pa, features, times = self._pa, self._columns.features, type_of(TIME_KIND)
        fields = [pa.field(self._columns.id_name, pa.utf8(), nullable=False), pa.field(EVENT_TIME, times)]
        fields += [pa.field(name, type_of(kind)) for name, kind in features.items()]
        fields += [pa.field(own_time_column(name), times) for name in features if name in self._timed]
        about = {"entity": self._columns.entity, "features": features, "exported_ms": time.time_ns() // 1_000_000}
        return pa.schema(fields, metadata={ABOUT: msgspec.json.encode(about)})

    def _write_group(self) -> None:
        """Write what was taken as one row group, to a new part if it has event times that the last one has not."""
        part = self._parts[-1]
        wanted = {own_time_column(name) for name in self._timed}
        if not wanted <= {*part.schema.names}:
            part = self._open_part()
        batches, self._batches = self._batches, []
        self._rows = self._bytes = 0
        self._write_to(part, batches)

    def _write_to(self, part: "_Part", batches: list[Any]) -> None:
        table = self._pa.Table.from_batches([self._completed(batch, part.schema) for batch in batches])
        part.writer.write_table(table, row_group_size=max(1, len(table)))

    def _copy(self, part: "_Part", whole: "_Part") -> None:
        """Write the row groups of a part once more, and remove it."""
        part.file.flush()
        with self._parquet.ParquetFile(part.partial.path) as file:
            for group in range(file.num_row_groups):
                self._write_to(whole, file.read_row_group(group).to_batches())
        part.discard()

    def _completed(self, batch: Any, schema: Any) -> Any:
        """Return the batch with all columns of the schema, null where it has them not."""
        there = {*batch.schema.names}
        columns = [
            batch.column(field.name) if field.name in there else self._pa.nulls(batch.num_rows, field.type)
            for field in schema
        ]
        return self._pa.RecordBatch.from_arrays(columns, schema=schema)

    def _batch(self, rows: Rows) -> Any:
        pa, times = self._pa, type_of(TIME_KIND)
        arrays = {self._columns.id_name: pa.array(rows.ids, pa.utf8()), EVENT_TIME: pa.array(rows.event_times, times)}
        for name, kind in self._columns.features.items():
            length, values = vector_length(kind), rows.values[name]
            arrays[name] = vectors_of(pa, length, values) if length else pa.array(values, type_of(kind))
        for name, own in rows.times.items():
            arrays[own_time_column(name)] = pa.array(map(own.get, range(len(rows.ids))), times)
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


class _Part(msgspec.Struct, frozen=True):
    """A part of a file under way.

    Attributes:
        partial: Where it is.
        file: Itself.
        writer: Takes its row groups.
        schema: Its columns.
    """

    partial: Partial
    file: BinaryIO
    writer: Any
    schema: Any

    def discard(self) -> None:
        """Remove it, unless it was published."""
        with contextlib.suppress(OSError, ValueError):  # what a full disk did not take is still to be written
            self.writer.close()
        self.writer.is_open = False  # or it would be closed once more, when nobody looks
        self.partial.discard()


def vectors_of(pa: Any, length: int, values: list[bytes | None]) -> Any:
    """Return vectors of so many numbers as an array over their bytes."""
    gap = bytes(4 * length)
    data = pa.py_buffer(b"".join(gap if vector is None else vector for vector in values))
    numbers = pa.Array.from_buffers(pa.float32(), len(values) * length, [None, data], 0)
    bits = pa.array([vector is not None for vector in values], pa.bool_()).buffers()[1]
    return pa.Array.from_buffers(pa.list_(pa.float32(), length), len(values), [bits], children=[numbers])


@contextlib.contextmanager
def opened(path: str, columns: Columns) -> Iterator[Output]:
    """Yield what writes to `path`; on leaving, nothing is left of a file that was not finished."""
    output = output_to(path, columns)
    try:
        output.begin()
        yield output
    finally:
        output.discard()
