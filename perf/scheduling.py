"""Load the same workers under both of Linux's policies in turn: SCHED_OTHER, and SCHED_BATCH, which they choose.

With `--hogs`, so many processes compute all the while: what does it cost latency when workers do not interrupt them?
Prints the medians of requests/s and latencies for each number of connections.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys

from checkouts import children
from compare import fill
from servers import Run, feature_store, load, redis_server

POLICIES = {"SCHED_OTHER": os.SCHED_OTHER, "SCHED_BATCH": os.SCHED_BATCH}
_HOG = "while True: sum(range(1000))"


def main() -> None:
    """Serve, load under each policy in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 10, 64, 256])
    parser.add_argument("--hogs", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = f"redis://127.0.0.1:{stack.enter_context(redis_server())}/0"
        fill(url, arguments.users)
        port, master = stack.enter_context(feature_store(url, "featurestore", arguments.workers))
        for _ in range(arguments.hogs):
            hog = stack.enter_context(subprocess.Popen([sys.executable, "-c", _HOG]))
            stack.callback(hog.kill)
        for connections in arguments.connections:
            runs: dict[str, list[Run]] = {name: [] for name in POLICIES}
            for _ in range(arguments.rounds):
                for name, policy in POLICIES.items():
                    for worker in children(master):
                        os.sched_setscheduler(worker, policy, os.sched_param(0))
                    run = load(name, port, "uniform", connections, seconds=arguments.seconds, users=arguments.users)
                    assert run.failed == 0
                    runs[name].append(run)
            for name, found in runs.items():
                rate = statistics.median(run.rate for run in found)
                p50, p99 = (statistics.median(values) for values in zip(*((r.p50, r.p99) for r in found), strict=True))
                print(f"{connections:4} connections  {name}  {rate:9,.0f}/s   p50 {p50:6.0f}  p99 {p99:6.0f} us")


if __name__ == "__main__":
    main()
