"""Make Parquet files of users, and keep them: ids, event times, and the simulator's ten features.

Prints the path. A file that is there already is taken as it is. It is written in parts, so that any number of rows fits
into memory.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PART = 100_000
"""Rows of a row group, as writers of data frames make them."""

FIRST_MS = 1_717_200_000_000
DAY_MS = 86_400_000
CATEGORIES = ("food", "fashion", "electronics", "home", "sports", "books", "beauty", "toys")
COUNTRIES = ("DE", "FR", "GB", "US", "IN", "BR", "JP", "NG", "PL", "ES", "IT", "SE")
DEVICES = ("mobile", "desktop", "tablet")


def users(first: int, count: int, gaps: float, vector: int) -> pa.Table:
    """Return so many users; of their features a share of `gaps` is null."""
    random = np.random.default_rng(first)

    def column(values: Any, kind: pa.DataType | None = None) -> pa.Array:
        return pa.array(values, kind, mask=random.random(count) < gaps if gaps else None)

    def one_of(words: tuple[str, ...]) -> pa.Array:
        return column(np.array(words, object)[random.integers(0, len(words), count)], pa.string())

    columns = {
        "user_id": pa.array([f"user{number:05d}" for number in range(first, first + count)]),
        "ts": pa.array(FIRST_MS + random.integers(0, DAY_MS, count), pa.timestamp("ms", "UTC")),
        "age": column(random.integers(18, 91, count).astype(float)),
        "purchase_count_30d": column(random.integers(0, 50, count).astype(float)),
        "avg_session_duration_min": column(np.round(random.random(count) * 60, 2)),
        "preferred_category": one_of(CATEGORIES),
        "country": one_of(COUNTRIES),
        "device": one_of(DEVICES),
        "ctr_7d": column(np.round(random.random(count), 4)),
        "spend_90d": column(np.round(random.random(count) * 1000, 2)),
        "score": column(random.random(count)),
        "n_logins": column(random.integers(0, 1000, count)),
    }
    if vector:
        numbers = pa.array(random.random(count * vector, dtype=np.float32))
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(numbers, vector)
    return pa.table(columns)


def main() -> None:
    """Make a file and print its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--gaps", type=float, default=0.0, help="share of the features that are null")
    parser.add_argument("--vector", type=int, default=0, help="numbers of a further feature, a vector")
    options = parser.parse_args()
    folder = Path(tempfile.gettempdir()) / "featurestore-perf"
    folder.mkdir(exist_ok=True)
    path = folder / f"users-{options.rows}-{options.gaps:g}-{options.vector}.parquet"
    if not path.exists():
        part = path.with_suffix(".part")
        with pq.ParquetWriter(part, users(0, 1, options.gaps, options.vector).schema) as writer:
            for first in range(0, options.rows, PART):
                count = min(PART, options.rows - first)
                writer.write_table(users(first, count, options.gaps, options.vector))
        part.rename(path)
    print(path)


if __name__ == "__main__":
    main()
