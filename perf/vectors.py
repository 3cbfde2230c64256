"""Compare batches of 100 users with an embedding each: float32 vectors here, JSON text in a FastAPI service.

Both have the same numbers, in one Redis. Loaded in turn over several rounds; prints the median of each figure, the
ratio, and what a batch costs in processor time: of Redis for the script alone, and of the workers.
"""

import argparse
import contextlib
import json
import statistics
from typing import Any

import numpy as np
import redis
from checkouts import children, spent
from servers import Run, fastapi, feature_store, load, redis_server

from featurestore import Definition, FeatureStore

PLAIN_DB = 1  # of the peer: the same users, with JSON text
ROWS = 500  # a write


def main() -> None:
    """Fill, load both in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--length", type=int, default=128, help="numbers in a vector")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(redis_server())
        url, plain = (f"redis://127.0.0.1:{port}/{database}" for database in (0, PLAIN_DB))
        vectors = np.random.default_rng(7).normal(0, 0.1, (arguments.users, arguments.length)).astype("<f4")
        fill(url, vectors)
        fill_plainly(plain, vectors)
        ours, master = stack.enter_context(feature_store(url, "featurestore", arguments.workers))
        theirs = stack.enter_context(fastapi(plain, arguments.workers))
        client = stack.enter_context(redis.Redis.from_url(url))
        workers = children(master)
        runs: dict[str, list[Run]] = {"featurestore": [], "fastapi": []}
        costs: list[tuple[float, float]] = []
        for _ in range(arguments.rounds):
            for server, server_port in (("featurestore", ours), ("fastapi", theirs)):
                client.config_resetstat()
                before = spent(workers)
                run = load(server, server_port, "batch", arguments.connections, seconds=arguments.seconds,
                           users=arguments.users, rest=',"features":["embedding"]')  # fmt: skip
                assert run.failed == 0
                runs[server].append(run)
                if server == "featurestore":
                    in_redis: Any = client.info("commandstats")["cmdstat_evalsha"]["usec"]
                    costs.append((in_redis / run.requests, (spent(workers) - before) / run.requests * 1e6))
    print(f"batches of 100 users with {arguments.length} numbers each, {arguments.connections} connections:")
    for server, found in runs.items():
        rate, p50, p99 = (
            statistics.median(column) for column in zip(*((run.rate, run.p50, run.p99) for run in found), strict=True)
        )
        print(f"{server:13} {rate:8,.0f}/s   p50 {p50 / 1000:8.2f}  p99 {p99 / 1000:8.2f} ms")
    redis_us, worker_us = (statistics.median(column) for column in zip(*costs, strict=True))
    print(f"featurestore: {redis_us:.0f} us of Redis's thread in the script, {worker_us:.0f} us of a worker, a batch")
    rates = {server: statistics.median(run.rate for run in found) for server, found in runs.items()}
    print(f"ratio: {rates['featurestore'] / rates['fastapi']:.1f}")


def fill(url: str, vectors: np.ndarray[Any, Any]) -> None:
    """Write the users as this store has them."""
    with FeatureStore.connect(url, timeout=10) as store:
        store.apply(Definition(features={"age": "float", "embedding": f"float32[{vectors.shape[1]}]"}))
        for first in range(0, len(vectors), ROWS):
            rows = [
                (f"user{first + row:05d}", 23.0, vector) for row, vector in enumerate(vectors[first : first + ROWS])
            ]
            assert store.upsert_table(("age", "embedding"), rows).written == len(rows)


def fill_plainly(url: str, vectors: np.ndarray[Any, Any]) -> None:
    """Write the same users with each vector as JSON text, of the digits that tell float32s apart."""
    client = redis.Redis.from_url(url)
    for first in range(0, len(vectors), ROWS):
        pipeline = client.pipeline(transaction=False)
        for row, vector in enumerate(vectors[first : first + ROWS], first):
            text = json.dumps([float(str(number)) for number in vector])
            pipeline.hset(f"user:user{row:05d}:features", mapping={"age": "23.0", "embedding": text})
            pipeline.sadd("all_users", f"user{row:05d}")
        pipeline.execute()
    client.close()


if __name__ == "__main__":
    main()
