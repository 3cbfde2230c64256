"""Parquet and Arrow IPC as sources of rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from featurestore.contract import arrow
from featurestore.errors import ConfigurationError, SourceError

from .parts import Part
from .rows import ABOUT

_PART_BYTES = 4 << 20
"""Bytes of a part, about: wide rows come in parts of fewer rows."""

_READ_BYTES = 1 << 20


def _trouble() -> tuple[type[Exception], ...]:
    return (arrow.library().ArrowException, OSError, ValueError)


def refuse_twins(path: str, names: Sequence[str]) -> None:
    """Refuse a file that has a column twice.

    Raises:
        ConfigurationError: It has.
    """
    twin = next((name for name in names if names.count(name) > 1), None)
    if twin is not None:
        raise ConfigurationError(f"{path} has the column {twin or 'without a name'} {names.count(twin)} times")


class _Columnar(ABC):
    """What Parquet and Arrow IPC have in common: typed columns, and batches of rows.

    Attributes:
        is_exported: Whether an export wrote it, so that null says that nothing was stored.
    """

    def __init__(self, path: str, schema: Any) -> None:
        self.path = path
        self.size = Path(path).stat().st_size
        self.count: int | None = None
        self.names: list[str] = schema.names
        refuse_twins(path, self.names)
        self.columns: dict[str, Any] | None = dict(zip(schema.names, schema.types, strict=True))
        self.is_exported = ABOUT.encode() in (schema.metadata or {})
        self.done = 0

    def parts(self, start: int, most: int, columns: Sequence[str] | None = None) -> Iterator[Part]:
        """Yield the rows from `start` on; see `Source.parts`."""
        wanted = self.names if columns is None else [name for name in self.names if name in columns]
        try:
            for position, batch in self._batches(start, most, wanted):
                skipped = max(0, start - position)
                for at in range(skipped, batch.num_rows, most):
                    rows = batch.slice(at, most)
                    first = position + at
                    end = first + rows.num_rows
                    yield Part(end, rows, range(first, end))
        except _trouble() as error:
            raise SourceError(f"{self.path} cannot be read on: {error}") from error
        self.done = self.size

    @abstractmethod
    def _batches(self, start: int, most: int, wanted: list[str]) -> Iterator[tuple[int, Any]]:
        """Yield record batches, each with the position of its first row."""


class ParquetSource(_Columnar):
    """A Parquet file, read a few pages at a time, however large its row groups are.

    Raises:
        SourceError: It is no Parquet file, or is truncated.
        ConfigurationError: It has a column twice.
    """

    def __init__(self, path: str) -> None:
        arrow.library()
        from pyarrow import parquet  # noqa: PLC0415 - an extra

        try:
            self._file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES)
            schema = self._file.schema_arrow
        except _trouble() as error:
            raise SourceError(f"{path} is no Parquet file, or not all of one: {error}") from error
        super().__init__(path, schema)
        self._metadata = self._file.metadata
        self.count = self._metadata.num_rows

    def _batches(self, start: int, most: int, wanted: list[str]) -> Iterator[tuple[int, Any]]:
        groups = [self._metadata.row_group(index) for index in range(self._metadata.num_row_groups)]
        position, first = 0, 0
        while first < len(groups) and position + groups[first].num_rows <= start:
            position += groups[first].num_rows
            first += 1
        bytes_of_row = sum(group.total_byte_size for group in groups) // max(1, self.count or 0)
        rows = max(1, min(most, _PART_BYTES // max(1, bytes_of_row)))
        for batch in self._file.iter_batches(
            batch_size=rows, row_groups=list(range(first, len(groups))), columns=wanted, use_threads=False
        ):
            yield position, batch
            position += batch.num_rows
            self.done = self.size * position // max(1, self.count or 0)

    def ends(self, column: str) -> list[tuple[Any, Any]] | None:
        """Return the least and the largest value of a column in each row group; None if the file does not tell all."""
        index = self.names.index(column)
        if self._metadata.num_columns != len(self.names):  # nested columns come before it, perhaps
            return None
        ends = []
        for number in range(self._metadata.num_row_groups):
            statistics = self._metadata.row_group(number).column(index).statistics
            if statistics is None or not statistics.has_min_max:
                return None
            ends.append((statistics.min, statistics.max))
        return ends


class ArrowSource(_Columnar):
    """A file or a stream of Arrow IPC, mapped into memory: the kernel takes back what was read.

    Raises:
        SourceError: It is neither, or is truncated.
        ConfigurationError: It has a column twice.
    """

    def __init__(self, path: str) -> None:
        self._place = path
        try:
            with Path(path).open("rb") as file:
                self._is_file = file.read(6) == b"ARROW1"
            reader = self._open()
        except _trouble() as error:
            raise SourceError(f"{path} is no Arrow IPC, or not all of it: {error}") from error
        super().__init__(path, reader.schema)

    def _open(self) -> Any:
        pa = arrow.library()
        self._mapped = pa.memory_map(self._place, "rb")
        return pa.ipc.open_file(self._mapped) if self._is_file else pa.ipc.open_stream(self._mapped)

    def _batches(self, start: int, most: int, wanted: list[str]) -> Iterator[tuple[int, Any]]:  # noqa: ARG002 - batches are mapped, and sliced
        reader = self._open()
        position = 0
        for batch in map(reader.get_batch, range(reader.num_record_batches)) if self._is_file else reader:
            if position + batch.num_rows > start:
                yield position, batch.select(wanted)
            position += batch.num_rows
            self.done = self.size if self._is_file else self._mapped.tell()
