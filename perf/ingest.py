"""Compare loading users through the upsert script with a plain redis-py loop, in turn, on the same server.

The plain loop is what people write: HSET and SADD in pipelines of 1,000 users. Rows are made beforehand and are the
same for both. Prints users/s of every run and the ratio of the medians.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import redis
from featurestore.ingest.simulator import COLUMNS, Simulator
from featurestore.ingest.writer import BulkWriter
from servers import redis_server

from featurestore import FeatureStore, read_definition

PIPELINE = 1000


def load_plainly(url: str, rows: list[tuple[Any, ...]]) -> None:
    """Write `rows` with redis-py alone."""
    client = redis.Redis.from_url(url)
    for first in range(0, len(rows), PIPELINE):
        pipeline = client.pipeline(transaction=False)
        for entity_id, *values in rows[first : first + PIPELINE]:
            pipeline.hset(f"user:{entity_id}:features", mapping=dict(zip(COLUMNS, values, strict=True)))
            pipeline.sadd("all_users", entity_id)
        pipeline.execute()
    client.close()


def load_by_script(url: str, rows: list[tuple[Any, ...]]) -> None:
    """Write `rows` through the upsert script."""
    writer = BulkWriter(url)
    result = writer.write(COLUMNS, rows)
    assert (result.written, result.rejected) == (len(rows), [])
    writer.close()


def measure(load: Callable[[str, list[tuple[Any, ...]]], None], url: str, rows: list[tuple[Any, ...]]) -> float:
    """Return users/s of one load into an empty server that has the schema."""
    client = redis.Redis.from_url(url)
    client.flushall()
    with FeatureStore.connect(url, timeout=5) as store:
        store.apply(read_definition())
        started = time.perf_counter()
        load(url, rows)
        elapsed = time.perf_counter() - started
        assert store.count() == len(rows)
    client.close()
    return len(rows) / elapsed


def main() -> None:
    """Run both in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="an empty Redis to use; its data are deleted. Default: one of its own")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    rows = list(Simulator(arguments.users, seed=7).everyone())
    figures: dict[str, list[float]] = {"plain redis-py": [], "upsert script": []}
    print(f"{arguments.users} users of {len(COLUMNS)} features, {arguments.runs} runs each in turn")
    with contextlib.ExitStack() as stack:
        url = arguments.url or f"redis://127.0.0.1:{stack.enter_context(redis_server())}/0"
        for _ in range(arguments.runs):
            figures["plain redis-py"].append(measure(load_plainly, url, rows))
            figures["upsert script"].append(measure(load_by_script, url, rows))
    for name, values in figures.items():
        print(f"{name:15} {statistics.median(values):9,.0f} users/s   (" + " ".join(f"{v:,.0f}" for v in values) + ")")
    ratio = statistics.median(figures["upsert script"]) / statistics.median(figures["plain redis-py"])
    print(f"ratio           {ratio:9.2f}")


if __name__ == "__main__":
    main()
