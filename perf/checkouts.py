"""Measure checkouts of this project against each other: one Redis, same data, loaded in turn.

What a change is worth shows best in the processor time that a worker spends on a request: it hardly depends on what
else the machine does. Medians over the rounds. Each checkout needs an environment of its own, made by `make install`.
"""

import argparse
import contextlib
import os
import statistics
from pathlib import Path

from compare import fill
from servers import feature_store, load, python_of, redis_server

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Serve every checkout, load each in turn, and print a line for each kind of load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = f"redis://127.0.0.1:{stack.enter_context(redis_server())}/0"
        fill(url, arguments.users)
        servers: dict[Path, tuple[int, list[int]]] = {}
        checkouts = [checkout.resolve() for checkout in arguments.checkouts]
        os.chdir("/")  # or the servers would find what is here first
        for checkout in checkouts:
            port, master = stack.enter_context(
                feature_store(url, "featurestore", arguments.workers, python_of(checkout))
            )
            servers[checkout] = port, children(master)
        for kind, connections in (("uniform", 64), ("batch", 16)):
            found: dict[Path, list[tuple[float, float]]] = {checkout: [] for checkout in servers}
            for _ in range(arguments.rounds):
                for checkout, (port, workers) in servers.items():
                    before = spent(workers)
                    run = load(str(checkout), port, kind, connections, seconds=arguments.seconds, users=arguments.users)
                    assert run.failed == 0
                    found[checkout].append((run.rate, (spent(workers) - before) / run.requests * 1e6))
            for checkout, figures in found.items():
                rate, microseconds = (statistics.median(column) for column in zip(*figures, strict=True))
                print(f"{kind:8} at {connections} connections {rate:9,.0f}/s {microseconds:7.1f} us each  {checkout}")


def children(process: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def spent(processes: list[int]) -> float:
    """Return the processor time of the processes so far, in seconds."""
    fields = [Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in processes]
    return sum(int(each[11]) + int(each[12]) for each in fields) * _TICK_S


if __name__ == "__main__":
    main()
