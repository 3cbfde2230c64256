"""Measure how many entries of a Redis Stream one `featurestore consume` writes and acknowledges in a second.

The stream is filled beforehand: entries of 10 features as text, for so many users in turn. One Redis holds stream and
store. The command starts on the full stream and ends when it is drained; what it takes for an empty stream, the start
of Python above all, is measured beside it and taken off. Prints both for every run, and the median.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time

import redis
from featurestore.ingest.simulator import COLUMNS, Simulator
from servers import redis_server

from featurestore import FeatureStore, read_definition

PIPELINE = 1000


def fill(client: "redis.Redis", entries: int, users: int, seed: int, *, as_json: bool) -> None:
    """Add entries, each with every feature of a user."""
    rows = Simulator(users, seed).some(users)
    draw = random.Random(seed)
    for first in range(0, entries, PIPELINE):
        pipeline = client.pipeline(transaction=False)
        for _ in range(first, min(first + PIPELINE, entries)):
            user_id, *values = rows[draw.randrange(users)]
            features = dict(zip(COLUMNS, values, strict=True))
            flat = {"user_id": user_id, **features}
            pipeline.xadd("clicks", {"payload": json.dumps({"id": user_id, "features": features})} if as_json else flat)
        pipeline.execute()


def consume(url: str, batch: int, profile: str | None) -> float:
    """Run the command until the stream is drained; return the seconds that it took."""
    program = ["-m", "featurestore"] if profile is None else ["-m", "cProfile", "-o", profile, "-m", "featurestore"]
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *program, "consume", "clicks", "--until-drained", "--batch", str(batch)],
        env={**os.environ, "REDIS_URL": url},
        check=True,
    )
    return time.perf_counter() - started


def idle(url: str) -> float:
    """Return the seconds that the command takes for a stream without entries: its start, its last look, its end."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "featurestore", "consume", "nothing", "--until-drained"],
        env={**os.environ, "REDIS_URL": url},
        check=True,
    )
    return time.perf_counter() - started


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=300_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="entries with one field, a JSON object")
    parser.add_argument("--profile", metavar="FILE", help="write a profile of the last run there")
    arguments = parser.parse_args()
    rates = []
    with contextlib.ExitStack() as stack:
        url = f"redis://127.0.0.1:{stack.enter_context(redis_server())}/0"
        client = stack.enter_context(redis.Redis.from_url(url))
        for run in range(arguments.runs):
            client.flushall()
            with FeatureStore.connect(url, timeout=5) as store:
                store.apply(read_definition())
            fill(client, arguments.entries, arguments.users, run, as_json=arguments.json)
            took = consume(url, arguments.batch, arguments.profile if run == arguments.runs - 1 else None)
            rest = idle(url)
            (group,) = client.xinfo_groups("clicks")
            assert (group["pending"], client.xlen("clicks.dead")) == (0, 0)
            last = client.xinfo_stream("clicks")["last-generated-id"]
            assert group["last-delivered-id"] == last
            if not arguments.json:
                assert client.scard("all_users") == len({fields[b"user_id"] for _, fields in client.xrange("clicks")})
            rates.append(arguments.entries / (took - rest))
            print(
                f"{arguments.entries} entries in {took:.2f} s, of which {rest:.2f} s are start and end: "
                f"{rates[-1]:,.0f} entries/s ({arguments.entries / took:,.0f} with start and end)"
            )
    print(f"median {statistics.median(rates):,.0f} entries/s")


if __name__ == "__main__":
    main()
