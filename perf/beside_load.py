"""Measure GETs while `featurestore load` runs: how much slower the slowest of them are than without it.

wrk sends GETs over 16 connections to a server with default settings, once alone, once while a Parquet file is loaded
into the same Redis, and once while it is loaded at a bounded rate. Each on servers of its own, in turn, several times.
wrk, the server, Redis and the load share the machine's processors. Tells requests/s and p99 (medians of the rounds),
how many GETs failed, and the ratio of the p99s. Takes three minutes by its defaults.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Iterator

import redis
from featurestore.ingest.simulator import COLUMNS, Simulator
from featurestore.ingest.writer import BulkWriter
from figures import Figures, add_out
from loading import declare, load_command, user_file
from servers import Run, feature_store, load, redis_server

CONNECTIONS = 16
MOST = 2.0
_BEGUN_WITHIN_S = 30.0


@contextlib.contextmanager
def loading(url: str, users: int, rows: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Load a file of users until the end of the block, which starts when the first new users are there."""
    command, environment = load_command(user_file(rows), url, *options)
    running = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        deadline = time.monotonic() + _BEGUN_WITHIN_S
        with redis.Redis.from_url(url) as client:
            while client.exists(f"user:user{users + 1:05d}:features") == 0:
                assert running.poll() is None, "the load has ended before it began"
                assert time.monotonic() < deadline, "the load does not begin"
                time.sleep(0.01)
        yield running
    finally:
        running.terminate()
        running.wait()


def measure(way: list[str] | None, options: argparse.Namespace) -> tuple[Run, float]:
    """Return a run of wrk on servers of its own, and the rows/s of the load beside it.

    Args:
        way: Options of the load; None for no load.
        options: Of this program.
    """
    with contextlib.ExitStack() as stack:
        url = f"redis://127.0.0.1:{stack.enter_context(redis_server())}/0"
        declare(url)
        writer = BulkWriter(url)
        writer.write_table(COLUMNS, Simulator(options.users, 7).everyone())
        writer.close()
        port, _ = stack.enter_context(feature_store(url, "featurestore", options.workers, timeout_ms=None))
        load("", port, "uniform", CONNECTIONS, seconds=1, users=options.users)
        if way is None:
            return load("", port, "uniform", CONNECTIONS, seconds=options.seconds, users=options.users), 0.0
        client = stack.enter_context(redis.Redis.from_url(url))
        running = stack.enter_context(loading(url, options.users, options.rows, *way))
        before, started = client.scard("all_users"), time.perf_counter()
        run = load("", port, "uniform", CONNECTIONS, seconds=options.seconds, users=options.users)
        loaded, seconds = client.scard("all_users") - before, time.perf_counter() - started
        assert running.poll() is None, "the load has ended before wrk did: more --rows, or fewer --seconds"
        return run, loaded / seconds


def main() -> None:
    """Measure all in turn and tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000, help="of the file, which has to last longer than wrk")
    parser.add_argument("--users", type=int, default=10_000, help="who are asked for")
    parser.add_argument("--rate", type=int, default=20_000, help="rows/s of the bounded load")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    ways: dict[str, list[str] | None] = {
        "alone": None,
        "beside load": [],
        f"beside load --rate {options.rate:,}": ["--rate", str(options.rate)],
    }
    user_file(options.rows)
    found: dict[str, list[tuple[Run, float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            found[name].append(measure(way, options))
    with Figures("beside_load", "GETs while a file is loaded", options) as figures:
        alone = statistics.median(run.p99 for run, _ in found["alone"])
        for name, runs in found.items():
            p99s = [run.p99 for run, _ in runs]
            rate, p99, loaded = (statistics.median(column) for column in
                                 ([run.rate for run, _ in runs], p99s, [rows for _, rows in runs]))  # fmt: skip
            each = " ".join(f"{value / 1000:.2f}" for value in p99s)
            failed, asked = sum(run.failed for run, _ in runs), sum(run.requests for run, _ in runs)
            figure = f"{rate:,.0f}/s, p99 {p99 / 1000:.2f} ms ({each}), {failed} of {asked:,} failed"
            if name == "alone":
                figures.add(f"GET at {CONNECTIONS} connections, {name}", figure)
                continue
            figures.add(f"GET at {CONNECTIONS} connections, {name}",
                        f"{figure}, {p99 / alone:.2f} times that alone; {loaded:,.0f} rows/s",
                        wanted=f"at most {MOST:g} times", reached=p99 / alone <= MOST)  # fmt: skip


if __name__ == "__main__":
    main()
