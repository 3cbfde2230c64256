"""Columns as a stream of Apache Arrow: one schema, one record batch. pyarrow frames it.

pyarrow is an extra, and is imported when it is first asked for, by servers as they start and by clients as they are
made: it takes 40 MB and a tenth of a second.
"""

import sys
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from featurestore.contract.columns import Column
from featurestore.errors import BadArgumentsError, ConfigurationError
from featurestore.schema.types import vector_length

MEDIA_ARROW = "application/vnd.apache.arrow.stream"
EXTRA = "pip install 'redis-featurestore[arrow]'"
"""How to get the library."""

ID, KNOWN, EVENT_TIME, AGE = "@id", "@known", "@event_time", "@age_ms"
"""Columns beside the features. No feature's name has an @."""
TIME_COLUMN = "event_time"
"""What the event times of rows that are written may also be called."""
STATUS, TIME = "@status", "@event_time"
"""What stands behind a feature's name in the names of the columns of its statuses and event times."""

TIME_KIND = "time"
"""The kind of a column of event times, in ms since 1970; beside those of features."""

_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # of a stream


def is_there() -> bool:
    """Return whether pyarrow is installed; it is imported then."""
    return _library() is not None


def library() -> Any:
    """Return the module `pyarrow`.

    Raises:
        ConfigurationError: It is not installed.
    """
    found = _library()
    if found is None:
        raise ConfigurationError(f"Arrow needs pyarrow: {EXTRA}")
    return found


@cache
def _library() -> Any:
    if sys.byteorder != "little":  # as the buffers are
        return None
    try:
        import_module("pyarrow.ipc")
    except ImportError:
        return None
    return import_module("pyarrow")


@cache
def type_of(kind: str) -> Any:
    """Return pyarrow's type for the values of a feature."""
    pa = library()
    length = vector_length(kind)
    if length is not None:
        return pa.list_(pa.float32(), length)
    types = {"float": pa.float64, "int": pa.int64, "bool": pa.bool_, "string": pa.utf8}
    return pa.timestamp("ms", "UTC") if kind == TIME_KIND else types[kind]()


def kind_of(kind: Any) -> str | None:
    """Return the feature's type whose values have this type of pyarrow's; None if no feature's have."""
    name = _kinds_by_id().get(kind.id)  # which is quick: hashes of types are those of their texts
    if name is None and library().types.is_fixed_size_list(kind) and kind.value_type == library().float32():
        return f"float32[{kind.list_size}]"
    return name


@cache
def _kinds_by_id() -> dict[int, str]:
    return {type_of(kind).id: kind for kind in ("float", "int", "bool", "string")}


@lru_cache(maxsize=64)
def _schema(names: tuple[str, ...], kinds: tuple[str, ...]) -> tuple[Any, bytes]:
    """Return the schema of columns with these names and kinds, and the message that begins their stream."""
    schema = library().schema([(name, type_of(kind)) for name, kind in zip(names, kinds, strict=True)])
    return schema, schema.serialize().to_pybytes()


def stream_of(rows: int, names: Sequence[str], columns: Sequence[Column]) -> bytes:
    """Return the stream of columns of so many rows."""
    schema, beginning = _schema(tuple(names), tuple([column.kind for column in columns]))
    batch = library().RecordBatch.from_arrays([array_of(rows, column) for column in columns], schema=schema)
    return b"".join((beginning, batch.serialize(), _END))


def array_of(rows: int, column: Column) -> Any:
    """Return a column of so many rows as an array of pyarrow, over the same memory."""
    kind, nulls, buffers = column
    pa, arrow_type = library(), type_of(kind)
    own = [each if each is None else pa.py_buffer(each) for each in buffers]
    if not kind.startswith("float32["):
        return pa.Array.from_buffers(arrow_type, rows, own, nulls)
    numbers = pa.Array.from_buffers(arrow_type.value_type, rows * arrow_type.list_size, [None, own[1]], 0)
    return pa.Array.from_buffers(arrow_type, rows, own[:1], nulls, children=[numbers])


def stream_of_table(rows: Any, time: int | str | None) -> tuple[bytes, int]:
    """Return the stream of a table or data frame of whatever library, as the server takes rows, and how many these are.

    Text of dictionaries and views becomes plain text; the column `@known` of what was read is left out.

    Args:
        rows: It has Arrow's C stream interface.
        time: The event time of all rows.

    Raises:
        BadArgumentsError: It is no table, has event times already, or rows of unknown ids.
    """
    pa = library()
    try:
        table = pa.table(rows)
        plain = [(field.name, _plain_type(pa, field.type)) for field in table.schema]
        table = table.cast(pa.schema(plain))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise BadArgumentsError(f"rows is no table: {error}") from error
    if KNOWN in table.column_names:
        unknown = table[KNOWN].to_pylist().count(False)
        if unknown:  # to write them would make them known
            raise BadArgumentsError(f"{unknown} rows are of ids of which nothing is known ({KNOWN}): leave them out")
        table = table.drop_columns([KNOWN])
    if time is not None:
        if {EVENT_TIME, TIME_COLUMN} & {*table.column_names}:
            raise BadArgumentsError("the table has event times of its own")
        table = table.append_column(EVENT_TIME, pa.array([time] * len(table)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes(), len(table)


def _plain_type(pa: Any, kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.large_utf8() if pa.types.is_string_view(kind) else kind


def read_batch(stream: bytes) -> Any:
    """Return the record batch in a stream of one, over the same memory.

    Raises:
        ValueError: It is no such stream.
    """
    pa = library()
    try:
        batch = pa.ipc.open_stream(stream, options=reading()).read_next_batch()
        batch.validate()
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise ValueError(f"no stream of Arrow: {error}") from error
    return batch


@cache
def reading() -> Any:
    """Return how streams are read: by this thread alone, since a worker is one process among others."""
    return library().ipc.IpcReadOptions(use_threads=False)
