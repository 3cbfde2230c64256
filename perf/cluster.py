"""Compare one Redis with a cluster: the same users, the same loads, in turn, all on this machine's processors.

For each number of partitions a cluster of three primaries and a server in front of it run beside a single Redis and its
server. wrk sends GETs over 64 connections and over one, and batches of 100 over 16. Tells requests/s, what a request
takes of a worker's processor time and of the Redis processes' time in scripts, how many calls of scripts it is, and how
many times each node reads from its clients for it, which is how often it is written to. Medians of the rounds. Takes
five minutes by its defaults.
"""

import argparse
import contextlib
import os
import statistics
from collections.abc import Iterator
from typing import Any

import msgspec
import redis
from checkouts import children, spent
from compare import fill
from figures import Figures, add_out
from servers import feature_store, load, redis_cluster, redis_server

LOADS = (("uniform", 64, "GET"), ("uniform", 1, "GET"), ("batch", 16, "batch of 100"))
WANTED = {("uniform", 64): 0.78, ("batch", 16): 0.62}
"""Requests/s over those of a single Redis, at least, with as many partitions as a new entity has."""
USUAL, MOST_TIMES = 64, 1.8


class Site(msgspec.Struct, frozen=True):
    """A Redis or a cluster, and the server in front of it.

    Attributes:
        port: The HTTP server's.
        workers: Its processes.
        nodes: The ports of the Redis processes.
    """

    port: int
    workers: list[int]
    nodes: list[int]


class Took(msgspec.Struct, frozen=True):
    """What a request took.

    Attributes:
        rate: Requests a second.
        worker_us: Of a worker's processor time.
        redis_us: In scripts, over all nodes.
        calls: Calls of scripts.
        writes: Reads of a node from its clients: how many writes came there.
    """

    rate: float
    worker_us: float
    redis_us: float
    calls: float
    writes: float


@contextlib.contextmanager
def site(url: str, nodes: list[int], users: int, workers: int) -> Iterator[Site]:
    """Write the users, and run a server until the end of the block."""
    fill(url, users)
    with feature_store(url, "featurestore", workers) as (port, master):
        yield Site(port, children(master), nodes)


@contextlib.contextmanager
def cluster_site(primaries: int, partitions: int, users: int, workers: int) -> Iterator[Site]:
    """Do what `site` does over a cluster whose entity has so many partitions."""
    os.environ["FEATURESTORE_PARTITIONS"] = str(partitions)
    with redis_cluster(primaries) as (url, nodes), site(url, nodes, users, workers) as made:
        yield made


def counted(nodes: list[int]) -> tuple[float, float, float]:
    """Return µs in scripts, calls of these, and reads from clients so far, over the nodes."""
    us = calls = reads = 0.0
    for port in nodes:
        with redis.Redis(port=port) as client:
            commands: dict[str, Any] = client.info("commandstats")
            reads += client.info("stats")["total_reads_processed"] - 2  # this and the one before
        for name in ("cmdstat_evalsha", "cmdstat_fcall"):
            us += commands.get(name, {}).get("usec", 0)
            calls += commands.get(name, {}).get("calls", 0)
    return us, calls, reads


def measure(at: Site, kind: str, connections: int, options: argparse.Namespace) -> Took:
    """Load a server, and return what a request took."""
    load("", at.port, kind, connections, seconds=1, users=options.users)
    before, worker_before = counted(at.nodes), spent(at.workers)
    run = load("", at.port, kind, connections, seconds=options.seconds, users=options.users)
    worker_us = (spent(at.workers) - worker_before) * 1e6 / run.requests
    assert run.failed == 0, f"{run.failed} of {run.requests} requests failed"
    us, calls, reads = (now - then for now, then in zip(counted(at.nodes), before, strict=True))
    return Took(run.rate, worker_us, us / run.requests, calls / run.requests, reads / run.requests / len(at.nodes))


def told(took: Took) -> str:
    """Return what a request took in words."""
    return (f"{took.rate:,.0f}/s; of a worker {took.worker_us:.0f} µs, of Redis {took.redis_us:.0f} µs in "
            f"{took.calls:.1f} calls, {took.writes:.2f} writes a node")  # fmt: skip


def median(all_of_it: list[Took]) -> Took:
    """Return the median of each column."""
    return Took(*(statistics.median(column) for column in zip(*map(msgspec.structs.astuple, all_of_it), strict=True)))


def compare(figures: Figures, single: Site, clustered: Site, partitions: int, options: argparse.Namespace) -> None:
    """Load both in turn, and tell what a request took of each."""
    for kind, connections, name in LOADS:
        found: tuple[list[Took], list[Took]] = [], []
        for _ in range(options.rounds):
            for at, runs in zip((single, clustered), found, strict=True):
                runs.append(measure(at, kind, connections, options))
        alone, several = map(median, found)
        what = f"{name} at {connections} connection{'s' * (connections > 1)}"
        figures.add(f"{what}, single Redis beside {partitions} partitions", told(alone))
        ratio = statistics.median(each.rate / other.rate for other, each in zip(*found, strict=True))
        wanted = WANTED.get((kind, connections)) if partitions == USUAL else None
        verdict: dict[str, Any] = {}
        if wanted is not None:
            verdict = {"wanted": f"at least {wanted:g}", "reached": ratio >= wanted}
        figures.add(f"{what}, {partitions} partitions", f"{told(several)}; {ratio:.2f} of the single's rate", **verdict)
        if kind == "batch":
            times = several.worker_us / alone.worker_us
            verdict = {"wanted": f"at most {MOST_TIMES:g}", "reached": times <= MOST_TIMES} if wanted else {}
            figures.add(f"{what}, {partitions} partitions, a worker's time", f"{times:.2f} times", **verdict)
            verdict = {"wanted": "at most 1", "reached": several.writes <= 1.0} if wanted else {}
            figures.add(f"{what}, {partitions} partitions, writes a node", f"{several.writes:.3f}", **verdict)


def main() -> None:
    """Run everything in turn and tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, nargs="*", default=[16, 64, 256])
    parser.add_argument("--primaries", type=int, default=3)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=4, help="of each run of wrk")
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser)
    options = parser.parse_args()
    with Figures("cluster", "One Redis and a cluster", options) as figures, contextlib.ExitStack() as stack:
        redis_port = stack.enter_context(redis_server())
        url = f"redis://127.0.0.1:{redis_port}/0"
        single = stack.enter_context(site(url, [redis_port], options.users, options.workers))
        for partitions in options.partitions:
            with cluster_site(options.primaries, partitions, options.users, options.workers) as clustered:
                compare(figures, single, clustered, partitions, options)


if __name__ == "__main__":
    main()
