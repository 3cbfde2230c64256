"""Write the first rows of a Parquet file by Feast's `write_to_online_store`, into its Redis online store.

Arguments: the file, Redis's port, how many rows. Prints the seconds that the write took, without what Feast takes to
start. Runs where Feast is installed, with its extra `redis`.
"""

import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

KINDS = {"string": String, "int64": Int64, "double": Float64}


def main(path: str, port: str, count: int) -> None:
    """Declare the features, then write them."""
    frame = next(pq.ParquetFile(path).iter_batches(count))
    fields = [Field(name=field.name, dtype=KINDS[str(field.type)]) for field in frame.schema
              if field.name not in {"user_id", "ts"}]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(config=RepoConfig(
            project="perf", registry=str(Path(folder) / "registry.db"), provider="local",
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{port}"},
            offline_store={"type": "file"}, entity_key_serialization_version=3,
        ))  # fmt: skip
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        source = FileSource(path=path, timestamp_field="ts")
        store.apply([user, FeatureView(name="users", entities=[user], schema=fields, source=source)])
        table = frame.to_pandas()
        started = time.perf_counter()
        store.write_to_online_store("users", table)
        print(time.perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
