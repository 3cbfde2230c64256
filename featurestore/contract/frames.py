"""Tables of whatever library, cut into chunks of columns.

Taken are what has Arrow's C stream interface (pyarrow, polars, duckdb, a `FeatureTable`), data frames of pandas,
structured arrays of numpy, and lists of dicts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from featurestore.contract import arrow
from featurestore.errors import BadArgumentsError
from featurestore.schema.values import shown

CHUNK_ROWS = 32_768
"""Most rows in a chunk: its columns are made and checked together."""

_WANTED = (
    "want a table: a data frame, a table or record batch of Arrow, a structured array of numpy, or a list of dicts"
)


class Missing:
    """In a dict's place for a name that it does not have: the feature is left as it is stored."""


MISSING = Missing()


class Chunk(msgspec.Struct, frozen=True):
    """Some rows of a table, as columns.

    Attributes:
        names: The columns' names, each once.
        columns: For each an array of pyarrow, or a list of values.
        rows: How many rows there are.
        first: The position of the first of them in the table.
        is_of_dicts: Whether each row told its own columns.
    """

    names: tuple[str, ...]
    columns: Sequence[Any]
    rows: int
    first: int
    is_of_dicts: bool = False


def chunks_of(data: Any) -> Iterator[Chunk]:
    """Yield a table in chunks; at least one, so that the columns of an empty table are seen.

    Raises:
        BadArgumentsError: It is no table, has two columns of one name or one whose name is no text, or rows of unknown
            ids (`@known`).
        ConfigurationError: It takes pyarrow, which is not installed.
    """
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        yield from _chunks_of_pandas(data)
    elif getattr(getattr(data, "dtype", None), "names", None):
        yield from _chunks_of_numpy(data)
    elif hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        yield from _chunks_of_arrow(data)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping):
        yield from _chunks_of_dicts(data)
    else:
        raise BadArgumentsError(f"{_WANTED}, not {shown(data)}")


def _chunks_of_arrow(data: Any) -> Iterator[Chunk]:
    pa = arrow.library()
    try:
        if hasattr(data, "__arrow_c_stream__"):
            batches = pa.RecordBatchReader.from_stream(data)
            schema = batches.schema
        else:
            batches = [pa.record_batch(data)]
            schema = batches[0].schema
        names = _checked_names(schema.names)
        first = 0
        for batch in batches:
            for start in range(0, batch.num_rows, CHUNK_ROWS):
                part = batch.slice(start, CHUNK_ROWS)
                part.validate(full=True)
                yield _known_only(Chunk(names, part.columns, part.num_rows, first))
                first += part.num_rows
        if first == 0:
            yield Chunk(names, [pa.array([], kind) for kind in schema.types], 0, 0)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise BadArgumentsError(f"the table cannot be read: {error}") from error


def _known_only(chunk: Chunk) -> Chunk:
    """Return a chunk without the column that tells which ids are known, all of which are."""
    if arrow.KNOWN not in chunk.names:
        return chunk
    at = chunk.names.index(arrow.KNOWN)
    unknown = chunk.columns[at].to_pylist().count(False)
    if unknown:  # to write them would make them known
        raise BadArgumentsError(f"{unknown} rows are of ids of which nothing is known ({arrow.KNOWN}): leave them out")
    names = (*chunk.names[:at], *chunk.names[at + 1 :])
    return Chunk(names, [*chunk.columns[:at], *chunk.columns[at + 1 :]], chunk.rows, chunk.first)


def _chunks_of_pandas(frame: Any) -> Iterator[Chunk]:
    levels = [name for name in frame.index.names if name is not None and name not in frame.columns]
    if levels:
        frame = frame.reset_index(level=levels)
    names = _checked_names(list(frame.columns))
    for first in range(0, max(len(frame), 1), CHUNK_ROWS):
        part = frame.iloc[first : first + CHUNK_ROWS]
        yield Chunk(names, [_of_series(part.iloc[:, at]) for at in range(len(names))], len(part), first)


def _of_series(series: Any) -> Any:
    """Return a column of pandas as an array of pyarrow; as a list where it holds values of several types."""
    if arrow.is_there():
        pa = arrow.library()
        try:
            array = pa.Array.from_pandas(series)
            return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass
    return series.tolist()


def _chunks_of_numpy(table: Any) -> Iterator[Chunk]:
    names = _checked_names(table.dtype.names)
    if table.ndim != 1:
        raise BadArgumentsError(f"a structured array has one dimension, not {table.ndim}")
    for first in range(0, max(len(table), 1), CHUNK_ROWS):
        part = table[first : first + CHUNK_ROWS]
        yield Chunk(names, [_of_array(part[name]) for name in names], len(part), first)


def _of_array(values: Any) -> Any:
    """Return a column of numpy as an array of pyarrow where that is possible, else as a list."""
    if arrow.is_there():
        pa = arrow.library()
        try:
            if values.ndim == 2 and values.dtype.kind == "f":  # noqa: PLR2004 - vectors
                flat = pa.array(values.reshape(-1).astype("float32"))
                return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
            return pa.array(values, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError):
            pass
    return list(values)


def _chunks_of_dicts(rows: Iterable[Any]) -> Iterator[Chunk]:
    source, first = iter(rows), 0
    known: dict[Any, None] = {}  # so that all chunks have the columns of those before
    while True:
        part = list(islice(source, CHUNK_ROWS))
        if not part and first:
            return
        if part and not any(isinstance(row, Mapping) for row in part):
            raise BadArgumentsError(f"{_WANTED}; a row is no dict: {shown(part[0])}")
        part = [row if isinstance(row, Mapping) else {} for row in part]  # which has no id, and is rejected for that
        known |= dict.fromkeys(name for row in part for name in row)
        names = _checked_names(known)
        columns = [[row.get(name, MISSING) for row in part] for name in names]
        yield Chunk(names, columns, len(part), first, is_of_dicts=True)
        if not part:
            return
        first += len(part)


def _checked_names(names: Iterable[Any]) -> tuple[str, ...]:
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise BadArgumentsError(f"a column's name is text, not {shown(name)}")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise BadArgumentsError(f"there are several columns {', '.join(map(shown, twice))}")
    return tuple(str(name) for name in names)
