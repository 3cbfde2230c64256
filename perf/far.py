"""Measure reads by checkouts of this project where Redis is 0, 0.1, 0.5, 1 and 2 ms away: loaded in turn, same data.

A proxy on this machine makes the distance (perf/distance.py); at 0 there is none. Beside each figure stands the round
trip that a blocking PING has through the same proxy while nothing else runs: a GET's median should be little more than
that. A request waits for Redis as long as FEATURESTORE_TIMEOUT_MS has by default. Medians of the rounds.
Without arguments, this checkout alone is measured. Takes a minute and a half for each checkout by its defaults.
"""

import argparse
import contextlib
import os
import statistics
import sys
from pathlib import Path

from compare import fill
from distance import distance, round_trip_of
from figures import Figures, add_out
from servers import Run, feature_store, load, python_of, redis_server

DISTANCES = (0.0, 0.1, 0.5, 1.0, 2.0)
LOADS = (("uniform", 16), ("uniform", 64), ("batch", 16))
WANTED = (0.5, "uniform", 16, 0.2)
"""The distance, load and connections at which a GET may take so many ms more than the round trip."""


def main() -> None:
    """Serve every checkout at each distance, load each in turn and print a line for each kind of load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="*", help="each with an environment made by `make install`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    add_out(parser)
    arguments = parser.parse_args()
    if arguments.out is not None:
        arguments.out = arguments.out.resolve()
    pythons = {path.resolve().name: python_of(path.resolve()) for path in arguments.checkouts} or {"": sys.executable}
    os.chdir("/")  # or the servers would find what is here first
    with redis_server() as redis_port, Figures("far", "A Redis that is far", arguments) as figures:
        fill(f"redis://127.0.0.1:{redis_port}/0", arguments.users)
        for away in DISTANCES:
            with contextlib.ExitStack() as stack:
                port = stack.enter_context(distance(redis_port, away)) if away else redis_port
                ping = round_trip_of(port)
                url = f"redis://127.0.0.1:{port}/0"
                servers = {
                    name: stack.enter_context(feature_store(url, "featurestore", arguments.workers, python, None))[0]
                    for name, python in pythons.items()
                }
                for kind, connections in LOADS:
                    runs: dict[str, list[Run]] = {name: [] for name in servers}
                    for _ in range(arguments.rounds):
                        for name, server in servers.items():
                            runs[name].append(
                                load(name, server, kind, connections, seconds=arguments.seconds, users=arguments.users)
                            )
                    first = statistics.median(run.rate for run in next(iter(runs.values())))
                    for name, found in runs.items():
                        tell(figures, name, away, ping, found, first=first)


def tell(figures: Figures, name: str, away: float, ping: float, runs: list[Run], *, first: float) -> None:
    """Tell the figures of one kind of load, and its rate as a ratio to that of the first checkout."""
    rate, p50, p99 = (statistics.median(column) for column in zip(*((r.rate, r.p50, r.p99) for r in runs), strict=True))
    kind, connections, failed = runs[0].kind, runs[0].connections, sum(run.failed for run in runs)
    request = "GET" if kind == "uniform" else "batch of 100"
    what = f"{away:g} ms away, {request} at {connections} connections{f', {name}' if name else ''}"
    more = p50 / 1000 - ping
    ratio = f" ({rate / first:.2f} of the first checkout's)" if name else ""
    figure = (f"{rate:,.0f}/s{ratio}, p50 {p50 / 1000:.3f} (PING {ping:.3f} + {more:.3f}), p99 {p99 / 1000:.3f} ms"
              f"{f', {failed} failed' if failed else ''}")  # fmt: skip
    if (away, kind, connections) == WANTED[:3]:
        figures.add(what, figure, wanted=f"at most {WANTED[3]} ms more than a PING", reached=more <= WANTED[3])
    else:
        figures.add(what, figure)


if __name__ == "__main__":
    main()
