"""Measure batches of 100 users with an embedding each: as JSON, as Arrow, and JSON text in a FastAPI service.

All have the same numbers, in one Redis. Loaded in turn over several rounds; tells the median of each figure, the
ratios, and what a batch costs in processor time: of Redis for the script alone, and of the workers. perf/matrices.py
measures what the client makes of the answers. Takes a minute by its defaults.
"""

import argparse
import contextlib
import http.client
import json
import statistics
from typing import Any

import numpy as np
import redis
from checkouts import children, spent
from figures import Figures, add_out
from servers import fastapi, feature_store, load, redis_server

from featurestore import Definition, FeatureStore

PLAIN_DB = 1  # of the peer: the same users, with JSON text
ROWS = 500  # a write


ARROW = "application/vnd.apache.arrow.stream"


def main() -> None:
    """Fill, load all in turn and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--length", type=int, default=128, help="numbers in a vector")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    add_out(parser)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        figures = stack.enter_context(Figures("vectors", "Vectors", options))
        redis_port = stack.enter_context(redis_server())
        url, plain = (f"redis://127.0.0.1:{redis_port}/{database}" for database in (0, PLAIN_DB))
        vectors = np.random.default_rng(7).normal(0, 0.1, (options.users, options.length)).astype("<f4")
        fill(url, vectors)
        fill_plainly(plain, vectors)
        port, master = stack.enter_context(feature_store(url, "featurestore", options.workers))
        theirs = stack.enter_context(fastapi(plain, options.workers))
        client = stack.enter_context(redis.Redis.from_url(url))
        ways: dict[str, tuple[int, str | None]] = {
            "JSON": (port, None),
            "Arrow": (port, ARROW),
            "FastAPI": (theirs, None),
        }
        if not answers_arrow(port):
            print("the server does not answer with Arrow: is pyarrow installed?")
            del ways["Arrow"]
        found: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, (server, accept) in ways.items():
                client.config_resetstat()
                before = spent(children(master))
                run = load(way, server, "batch", options.connections, seconds=options.seconds, users=options.users,
                           rest=',"features":["embedding"]', accept=accept)  # fmt: skip
                assert run.failed == 0, run
                stats: Any = client.info("commandstats")
                in_redis = sum(stats.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in ("evalsha", "evalsha_ro"))
                in_workers = (spent(children(master)) - before) * 1e6
                found[way].append((run.rate, run.p50, run.p99, in_redis / run.requests, in_workers / run.requests))
        rates = {}
        what = f"100 users with {options.length} numbers each, {options.connections} connections"
        for way, runs in found.items():
            rates[way], p50, p99, in_redis, in_workers = (
                statistics.median(column) for column in zip(*runs, strict=True)
            )
            cost = f", {in_redis:.0f} µs of Redis in the script, {in_workers:.0f} µs of a worker" if in_redis else ""
            figures.add(f"{what}, {way}", f"{rates[way]:,.0f}/s, p50 {p50 / 1000:.2f}, p99 {p99 / 1000:.2f} ms{cost}")
        figures.add("JSON here to FastAPI", f"{rates['JSON'] / rates['FastAPI']:.1f}")
        if "Arrow" in rates:
            ratio = rates["Arrow"] / rates["JSON"]
            figures.add("Arrow to JSON here", f"{ratio:.1f}", wanted="at least 4", reached=ratio >= 4)  # noqa: PLR2004


def answers_arrow(port: int) -> bool:
    """Return whether the server answers a batch as Arrow."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        body = json.dumps({"user_ids": ["user00001"], "features": ["embedding"]})
        connection.request("POST", "/features/batch", body, {"Content-Type": "application/json", "Accept": ARROW})
        response = connection.getresponse()
        response.read()
        return response.status == 200 and response.headers.get_content_type() == ARROW  # noqa: PLR2004


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
