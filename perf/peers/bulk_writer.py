"""Load a Parquet file by the bulk writer, row by row: for checkouts that have no `featurestore load`."""

import sys
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
from featurestore.ingest.writer import BulkWriter

BATCH = 10_000


def rows(file: pq.ParquetFile) -> Iterator[tuple[Any, ...]]:
    """Yield an id, an event time in ms and the values of each row."""
    for batch in file.iter_batches(BATCH):
        columns = [column.cast("int64") if name == "ts" else column
                   for name, column in zip(batch.schema.names, batch.columns, strict=True)]  # fmt: skip
        yield from zip(*(column.to_pylist() for column in columns), strict=True)


def main(path: str, url: str) -> None:
    """Write every row; fail if one is rejected."""
    writer = BulkWriter(url)
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        result = writer.write(["@event_time", *names[2:]], rows(file))
    writer.close()
    if result.rejected:
        sys.exit(f"{len(result.rejected)} rows were rejected, the first: {result.rejected[0]}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
