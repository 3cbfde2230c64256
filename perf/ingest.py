"""Compare writing users by the bulk writer with a plain redis-py loop, in turn, on the same server.

The plain loop is what people write: HSET and SADD in pipelines of 1,000 users. Rows are made beforehand and are the
same for both. Each run writes users who are new, then new values for the same users. Prints users/s of every run and
the ratios of the medians.
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
from figures import add_out, keep
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


def load_by_writer(url: str, rows: list[tuple[Any, ...]]) -> None:
    """Write `rows` with the bulk writer."""
    writer = BulkWriter(url)
    result = writer.write_table(COLUMNS, rows)
    assert (result.written, result.rejected) == (len(rows), [])
    writer.close()


LOADS = {"plain redis-py": load_plainly, "bulk writer": load_by_writer}


def measure(
    load: Callable[[str, list[tuple[Any, ...]]], None], url: str, tables: list[list[tuple[Any, ...]]]
) -> list[float]:
    """Return users/s of the load of each table, the first into an empty server that has the schema."""
    client = redis.Redis.from_url(url)
    client.flushall()
    client.close()
    rates = []
    with FeatureStore.connect(url, timeout=5) as store:
        store.apply(read_definition())
        for rows in tables:
            started = time.perf_counter()
            load(url, rows)
            rates.append(len(rows) / (time.perf_counter() - started))
            assert store.count() == len(rows)
    return rates


def main() -> None:
    """Run both in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="an empty Redis to use; its data are deleted. Default: one of its own")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    add_out(parser)
    arguments = parser.parse_args()
    tables = [list(Simulator(arguments.users, seed).everyone()) for seed in (7, 8)]
    print(f"{arguments.users} users of {len(COLUMNS)} features, {arguments.runs} runs each in turn")
    with contextlib.ExitStack() as stack:
        url = arguments.url or f"redis://127.0.0.1:{stack.enter_context(redis_server())}/0"
        runs = [{name: measure(load, url, tables) for name, load in LOADS.items()} for _ in range(arguments.runs)]
    kept: dict[str, dict[str, float]] = {}
    for position, what in enumerate(("new users", "known users")):
        print(what)
        medians = []
        for name in LOADS:
            values = [run[name][position] for run in runs]
            medians.append(statistics.median(values))
            print(f"  {name:15} {medians[-1]:9,.0f} users/s   (" + " ".join(f"{value:,.0f}" for value in values) + ")")
        print(f"  ratio           {medians[1] / medians[0]:9.2f}")
        kept[what] = dict(zip(LOADS, medians, strict=True))
    keep(arguments.out, "ingest", kept)


if __name__ == "__main__":
    main()
