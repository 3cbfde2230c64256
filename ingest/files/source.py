"""Files as record batches of pyarrow."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from featurestore.contract.arrow import library
from featurestore.errors import BadArgumentsError

_ROWS = 1024


def open_source(paths: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of the files as record batches: Parquet, and NDJSON with a flat object a line.

    Raises:
        BadArgumentsError: A file is of another format, or damaged.
        ConfigurationError: pyarrow is not installed.
    """
    pa = library()
    for path in paths:
        read = _BY_SUFFIX.get(Path(path).suffix)
        if read is None:
            raise BadArgumentsError(f"{path} tells no format: .parquet or .ndjson")
        if not Path(path).is_file():
            raise BadArgumentsError(f"there is no file {path}")
        try:
            yield from read(pa, path)
        except (pa.ArrowException, msgspec.DecodeError) as error:
            raise BadArgumentsError(f"{path} cannot be read: {error}") from error


def _parquet(_pa: Any, path: str) -> Iterator[Any]:
    with import_module("pyarrow.parquet").ParquetFile(path, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=_ROWS)


def _ndjson(pa: Any, path: str) -> Iterator[Any]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    with Path(path).open("rb") as file:
        while lines := list(islice(file, _ROWS)):
            rows = [decoder.decode(line) for line in lines if line.strip()]
            if rows:
                names = dict.fromkeys(name for row in rows for name in row)
                yield pa.RecordBatch.from_pydict({name: [row.get(name) for row in rows] for name in names})


_BY_SUFFIX = {".parquet": _parquet, ".ndjson": _ndjson}
