"""Files of what was served: Parquet, CSV, or a JSON object a line. A file gets its name once it is whole."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from featurestore.contract import arrow
from featurestore.contract.columns import shown_kind
from featurestore.contract.served import STATUSES, Kept
from featurestore.contract.vector_json import write_vector
from featurestore.errors import BadArgumentsError
from featurestore.schema.types import vector_length

from .outputs import STDOUT, Partial, vectors_of
from .served import ServedColumns

REQUEST, SERVED_AT, VERSION, PASSED = "@request_id", "@served_at", "@schema_version", "@passed"
"""Columns beside the features. No feature's name has an @."""

FORMATS = (".parquet", ".csv", ".ndjson")
ABOUT_SERVED = "featurestore.served"
"""The metadata of such a Parquet file, as JSON."""

_NAMES_KIND = "names"
_NOT_SERVED = (None, None)
_GROUP_ROWS, _GROUP_BYTES = 20_000, 32 << 20


class Table:
    """The columns of a file, and how rows become theirs.

    Args:
        columns: What the entries have.

    Attributes:
        kinds: Column → its type: a feature's, `time`, or `names`.
    """

    def __init__(self, columns: ServedColumns) -> None:
        own = columns.entity
        self._cells: list[Callable[[Kept], Any]] = []
        self.kinds: dict[str, str] = {}
        self._add(REQUEST, "string", lambda kept: kept.request or None)
        self._add(SERVED_AT, arrow.TIME_KIND, lambda kept: kept.served_ms)
        self._add(VERSION, "int", lambda kept: kept.version)
        self._add(columns.id_name, "string", _id_of(own))
        self._add(arrow.EVENT_TIME, arrow.TIME_KIND, _time_of(own))
        for entity in columns.others:
            self._add(f"{entity}:{arrow.ID}", "string", _id_of(entity))
            self._add(f"{entity}:{arrow.EVENT_TIME}", arrow.TIME_KIND, _time_of(entity))
        self._add(PASSED, _NAMES_KIND, _passed)
        self._features = list(columns.features)
        for (_, kind), column in columns.features.items():
            self.kinds[column], self.kinds[f"{column}{arrow.STATUS}"] = shown_kind(kind), "string"

    def row(self, kept: Kept) -> list[Any]:
        """Return what an entry has in each column; a vector is the bytes of its numbers, a time is in ms.

        A feature that was not served, or with another type, is null, and so is its status.
        """
        row = [cell(kept) for cell in self._cells]
        found = {
            feature: (value, STATUSES[letter])
            for feature, value, letter in zip(kept.columns.items(), kept.row.values, kept.row.letters, strict=True)
        }
        for feature in self._features:
            row += found.get(feature, _NOT_SERVED)
        return row

    def _add(self, name: str, kind: str, cell: Callable[[Kept], Any]) -> None:
        self.kinds[name] = kind
        self._cells.append(cell)


def _id_of(entity: str) -> Callable[[Kept], Any]:
    return lambda kept: kept.row.entities.get(entity, (None, None))[0]


def _time_of(entity: str) -> Callable[[Kept], Any]:
    return lambda kept: kept.row.entities.get(entity, (None, None))[1]


def _passed(kept: Kept) -> list[str]:
    return [name for name, letter in zip(kept.columns, kept.row.letters, strict=True) if letter.islower()]


def check_path(path: str) -> None:
    """Make sure that a file can be written to a path.

    Raises:
        BadArgumentsError: It ends in no format, or is a folder.
        ConfigurationError: Parquet needs pyarrow.
    """
    if path == STDOUT:
        return
    if Path(path).is_dir():
        raise BadArgumentsError(f"{path} is a folder")
    if Path(path).suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise BadArgumentsError(f"{path} tells no format: end it in {known}, or give - for NDJSON on stdout")
    if Path(path).suffix == ".parquet":
        arrow.library()


def write_served(path: str, columns: ServedColumns, entries: Iterable[Kept], service: str) -> None:
    """Write entries to a file, or as NDJSON to stdout."""
    table = Table(columns)
    if path == STDOUT:
        _write_ndjson(sys.stdout.buffer, table, entries)
        sys.stdout.buffer.flush()
        return
    with contextlib.closing(_Discarding(Path(path))) as discarding:
        file = discarding.partial.open()
        if path.endswith(".parquet"):
            about = {"entity": columns.entity, "service": service, "exported_ms": time.time_ns() // 1_000_000}
            _write_parquet(file, table, entries, about)
        elif path.endswith(".csv"):
            _write_csv(file, table, entries)
        else:
            _write_ndjson(file, table, entries)
        discarding.partial.publish()


class _Discarding:
    """A partial file that leaves nothing behind unless it is published."""

    def __init__(self, target: Path) -> None:
        self.partial = Partial(target)

    def close(self) -> None:
        self.partial.discard()


def _write_ndjson(file: BinaryIO, table: Table, entries: Iterable[Kept]) -> None:
    encoder, vectors = msgspec.json.Encoder(), _vector_places(table)
    for kept in entries:
        row = table.row(kept)
        for place in vectors:
            row[place] = None if row[place] is None else msgspec.Raw(write_vector(row[place]))
        file.write(encoder.encode(dict(zip(table.kinds, row, strict=True))) + b"\n")


def _write_csv(file: BinaryIO, table: Table, entries: Iterable[Kept]) -> None:
    """Write a header and rows. Null is an empty cell, and text is in quotes, so that empty text is told from it."""
    kinds = list(table.kinds.values())
    file.write(",".join(map(_quoted, table.kinds)).encode() + b"\n")
    for kept in entries:
        cells = [_cell(kind, value) for kind, value in zip(kinds, table.row(kept), strict=True)]
        file.write(",".join(cells).encode() + b"\n")


def _cell(kind: str, value: Any) -> str:
    if value is None:
        return ""
    if kind == arrow.TIME_KIND:
        moment = datetime.fromtimestamp(value // 1000, UTC).replace(microsecond=value % 1000 * 1000)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if kind == _NAMES_KIND:
        return _quoted(",".join(value))
    if isinstance(value, bytes):
        return _quoted(write_vector(value).decode())
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _write_parquet(file: BinaryIO, table: Table, entries: Iterable[Kept], about: Any) -> None:
    pa, parquet = arrow.library(), import_module("pyarrow.parquet")
    fields = [pa.field(name, _type_of(pa, kind)) for name, kind in table.kinds.items()]
    schema = pa.schema(fields, metadata={ABOUT_SERVED: msgspec.json.encode(about)})
    vectors = sum(4 * (vector_length(kind) or 0) for kind in table.kinds.values())
    in_group = max(1, min(_GROUP_ROWS, _GROUP_BYTES // (vectors or 1)))
    texts = [name for name, kind in table.kinds.items() if kind == "string"]
    with parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=texts) as writer:
        for rows in _groups(map(table.row, entries), in_group):
            columns = zip(*rows, strict=True)
            arrays = [_array(pa, kind, column) for kind, column in zip(table.kinds.values(), columns, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=len(rows))


def _groups(rows: Iterable[list[Any]], size: int) -> Iterator[list[list[Any]]]:
    each = iter(rows)
    while group := list(islice(each, size)):
        yield group


def _type_of(pa: Any, kind: str) -> Any:
    return pa.list_(pa.utf8()) if kind == _NAMES_KIND else arrow.type_of(kind)


def _array(pa: Any, kind: str, column: tuple[Any, ...]) -> Any:
    length = vector_length(kind)
    return vectors_of(pa, length, list(column)) if length else pa.array(column, _type_of(pa, kind))


def _vector_places(table: Table) -> list[int]:
    return [place for place, kind in enumerate(table.kinds.values()) if vector_length(kind)]
