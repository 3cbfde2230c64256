"""What people write to load a Parquet file into Redis: pandas in batches, HSET and SADD in pipelines of 1,000."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import redis

BATCH = 50_000
PIPELINE = 1000


def main(path: str, url: str, *, gaps: bool) -> None:
    """Write every user's features. With gaps, NaN and None are left out."""
    client = redis.Redis.from_url(url)
    for batch in pq.ParquetFile(path).iter_batches(BATCH):
        frame = batch.to_pandas().drop(columns="ts")
        records: list[dict[str, Any]] = frame.to_dict("records")
        for first in range(0, len(records), PIPELINE):
            pipeline: Any = client.pipeline(transaction=False)
            for record in records[first : first + PIPELINE]:
                user = record.pop("user_id")
                if gaps:
                    record = {name: value for name, value in record.items() if pd.notna(value)}  # noqa: PLW2901
                if "embedding" in record:
                    record["embedding"] = np.asarray(record["embedding"], np.float32).tobytes()
                if record:
                    pipeline.hset(f"user:{user}:features", mapping=record)
                pipeline.sadd("all_users", user)
            pipeline.execute()
    client.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], gaps=sys.argv[3:] == ["gaps"])
