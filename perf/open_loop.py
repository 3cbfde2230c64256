"""Load a server with requests whose times are fixed beforehand, whatever it answers: what overload looks like.

Latencies count from the time that was planned, so a server that stalls is seen to stall. Several kinds of requests come
at once, each at its own rate, by Poisson arrivals. Small GETs at a steady 100 a second, the probe, start a second
before the load and go on after its end: they tell when the server is back to normal. perf/tools/open_loop.c sends.

By itself it starts a Redis, fills it, starts this project's server with its default settings, and prints a line for
each kind of request. perf/overload.py uses it for the figures.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from checkouts import children
from compare import fill
from compiled import compiled
from memory import Memory
from servers import feature_store, redis_server

LOST, LATE, NO_CONNECTION = 0, 1, 2  # in place of a status
REFUSED = (413, 429, 503)
KEY = "perf"
"""The API key of writes."""
BEFORE_S, AFTER_S = 1.0, 3.0
"""How long the probe runs before the load, and after it."""
PROBE = "probe"
_REQUEST = np.dtype([("planned", "<u8"), ("kind", "<u4"), ("message", "<u4")])
_RESULT = np.dtype([("took", "<i8"), ("status", "<u2"), ("waited", "<u2"), ("lag", "<u4")])
_MESSAGES = 200
_WINDOW_S = 0.1
_NORMAL_WINDOWS = 3


class Kind(msgspec.Struct):
    """Requests of one kind: which, how many a second, from when to when, and over how many connections at most."""

    name: str
    messages: list[bytes]
    rate: float
    seconds: float
    connections: int = 256
    start: float = 0.0
    steady: bool = False
    """Sent at equal distances."""

    def arrivals(self, random: np.random.Generator) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """Return when the requests are sent, in seconds."""
        if self.steady:
            return self.start + np.arange(0, self.seconds, 1 / self.rate)
        gaps = random.exponential(1 / self.rate, int(self.rate * self.seconds * 1.2) + 100)
        times = np.cumsum(gaps)
        return self.start + times[times < self.seconds]


class Answers:
    """What became of the requests of one kind.

    Attributes:
        planned: When each was to be sent, in seconds.
        took: How long its answer took from then, in ms.
        status: Its status; LOST, LATE or NO_CONNECTION where there was no answer.
        waited: Whether all connections of the kind were busy at that time.
        lag: How much later than planned the sender took it up, in ms.
    """

    def __init__(self, kind: Kind, plan: "np.ndarray[Any, Any]", results: "np.ndarray[Any, Any]") -> None:
        self.kind = kind
        self.planned = plan["planned"] / 1e9
        self.took = results["took"] / 1e6
        self.status = results["status"]
        self.waited = results["waited"]
        self.lag = results["lag"] / 1e3

    def fine(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Return which were answered with a status below 300."""
        return (self.status >= 200) & (self.status < 300)  # noqa: PLR2004

    def refused(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Return which were refused."""
        return np.isin(self.status, REFUSED)

    def good(self) -> float:
        """Return the answers a second with a status below 300."""
        return float(self.fine().sum() / self.kind.seconds)

    def others(self) -> dict[str, int]:
        """Return how many had each other status, or none."""
        rest = self.status[~self.fine() & ~self.refused()]
        names = {LOST: "connection lost", LATE: "too late", NO_CONNECTION: "no connection"}
        return {names.get(int(status), str(status)): int((rest == status).sum()) for status in np.unique(rest)}

    def __str__(self) -> str:
        fine, refused = self.fine(), self.refused()
        others = ", ".join(f"{name} {count}" for name, count in self.others().items())
        return (f"{self.kind.name:14} {self.kind.rate:8,.0f}/s planned, {len(self.status):7,} in all; "
                f"good {self.good():8,.0f}/s {percentiles(self.took[fine])}; "
                f"refused {refused.sum() / self.kind.seconds:8,.0f}/s {percentiles(self.took[refused])}; "
                f"other: {others or 'none'}; waited for a connection {int(self.waited.sum())}")  # fmt: skip


def percentiles(values: "np.ndarray[Any, Any]") -> str:
    """Return the median, the 99th percentile and the greatest of latencies in ms."""
    if not len(values):
        return "(none)"
    return "(p50 {:.1f}, p99 {:.1f}, most {:.0f} ms)".format(*np.percentile(values, (50, 99, 100)))


def run(port: int, kinds: Sequence[Kind], *, patience_ms: int = 2000, seed: int = 7) -> dict[str, Answers]:
    """Send all requests as planned, and return what became of them.

    Args:
        port: Where the server listens, on loopback.
        kinds: What to send.
        patience_ms: How long a request may take, and how long it may wait for a connection.
        seed: Of the arrivals and the choice of messages.
    """
    random = np.random.default_rng(seed)
    parts = []
    for number, kind in enumerate(kinds):
        times = kind.arrivals(random)
        part = np.empty(len(times), _REQUEST)
        part["planned"], part["kind"] = times * 1e9, number
        part["message"] = random.integers(0, len(kind.messages), len(times))
        parts.append(part)
    plan = np.concatenate(parts)
    plan = plan[np.argsort(plan["planned"], kind="stable")]
    with tempfile.TemporaryDirectory() as folder:
        planned, done = Path(folder, "plan"), Path(folder, "results")
        with planned.open("wb") as file:
            file.write(words("4", len(kinds), patience_ms) + words("8", len(plan)))
            for kind in kinds:
                file.write(words("4", kind.connections, len(kind.messages)))
                for message in kind.messages:
                    file.write(words("4", len(message)) + message)
            file.write(plan.tobytes())
        subprocess.run([compiled("open_loop"), str(port), str(planned), str(done)], check=True)
        results = np.fromfile(done, _RESULT)
    return {kind.name: Answers(kind, plan[mine], results[mine])
            for number, kind in enumerate(kinds) for mine in [plan["kind"] == number]}  # fmt: skip


def words(size: str, *numbers: int) -> bytes:
    """Return unsigned numbers of that many bytes each as the program reads them."""
    return np.array(numbers, f"<u{size}").tobytes()


def message(method: str, target: str, body: bytes = b"", *fields: str) -> bytes:
    """Return a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def user(number: int) -> str:
    """Return a user's id."""
    return f"user{number:05d}"


def gets(users: int) -> list[bytes]:
    """Return reads of one user each."""
    numbers = np.random.default_rng(1).integers(0, users, 10 * _MESSAGES)
    return [message("GET", f"/features/{user(number)}") for number in numbers]


def batches(users: int, ids: int, rest: dict[str, Any] | None = None) -> list[bytes]:
    """Return reads of `ids` users each."""
    numbers = np.random.default_rng(2).integers(0, users, (_MESSAGES, ids))
    return [
        message("POST", "/features/batch", json.dumps({"user_ids": [*map(user, row)], **(rest or {})}).encode(),
                "Content-Type: application/json")
        for row in numbers
    ]  # fmt: skip


def ingests(users: int, rows: int) -> list[bytes]:
    """Return writes of two features of `rows` users each."""
    random = np.random.default_rng(3)

    def row() -> str:
        features = {"age": 31.5, "ctr_7d": random.random()}
        return json.dumps({"user_id": user(int(random.integers(0, users))), "features": features})

    fields = "Content-Type: application/x-ndjson", f"X-API-Key: {KEY}"
    bodies = ["\n".join(row() for _ in range(rows)) for _ in range(_MESSAGES)]
    return [message("POST", "/features/ingest", body.encode(), *fields) for body in bodies]


def with_probe(kinds: Sequence[Kind], users: int) -> list[Kind]:
    """Return the kinds, moved so that the probe runs for a second before, and the probe, which outlasts them."""
    end = max(kind.start + kind.seconds for kind in kinds)
    moved = [msgspec.structs.replace(kind, start=kind.start + BEFORE_S) for kind in kinds]
    probe = Kind(PROBE, gets(users), 100.0, BEFORE_S + end + AFTER_S, connections=50, steady=True)
    return [*moved, probe]


def seconds_to_normal(answers: dict[str, Answers]) -> float | None:
    """Return how long after the end of the load the probe was as before, in seconds; None if it was not.

    As before: in three tenths of a second on end all GETs are answered, with a median of at most twice that before the
    load, or of 2 ms.
    """
    probe = answers[PROBE]
    end = max(float(each.planned.max()) for name, each in answers.items() if name != PROBE)
    usual = max(2.0, 2 * float(np.median(probe.took[probe.planned < BEFORE_S])))
    normal = 0
    for window in range(int((float(probe.planned.max()) - end) / _WINDOW_S)):
        start = end + window * _WINDOW_S
        within = (probe.planned >= start) & (probe.planned < start + _WINDOW_S)
        fine = (probe.status[within] == 200).all() and np.median(probe.took[within]) <= usual  # noqa: PLR2004
        normal = normal + 1 if fine else 0
        if normal == _NORMAL_WINDOWS:
            return (window + 1 - _NORMAL_WINDOWS) * _WINDOW_S
    return None


def tell(answers: dict[str, Answers], memory: Memory) -> None:
    """Print a line for each kind, when the server was back to normal, and its workers' memory."""
    for each in answers.values():
        print(each)
    lag = np.concatenate([each.lag for each in answers.values()])
    print(f"the sender itself was late by {percentiles(lag)}")
    back = seconds_to_normal(answers)
    print("back to normal " + ("not within the time looked at" if back is None else f"{back:.1f} s after the load"))
    print(f"memory of the workers: {memory}; growth {memory.growth:.2f}", flush=True)


def main() -> None:
    """Start a server, load it and print what became of the requests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--get", type=float, default=0, metavar="RATE", help="reads of one user a second")
    parser.add_argument("--batch", type=float, default=0, metavar="RATE", help="batches a second")
    parser.add_argument("--ids", type=int, default=1000, help="of a batch")
    parser.add_argument("--ingest", type=float, default=0, metavar="RATE", help="requests that write, a second")
    parser.add_argument("--rows", type=int, default=100, help="of a request that writes")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=1000, help="of each kind, at most")
    parser.add_argument("--patience", type=int, default=2000, help="how long a request may take, in ms")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout-ms", type=int, help="FEATURESTORE_TIMEOUT_MS; its default if left out")
    arguments = parser.parse_args()
    users, options = arguments.users, {"seconds": arguments.seconds, "connections": arguments.connections}
    kinds = []
    if arguments.get:
        kinds.append(Kind("GET", gets(users), arguments.get, **options))
    if arguments.batch:
        kinds.append(Kind(f"batch of {arguments.ids}", batches(users, arguments.ids), arguments.batch, **options))
    if arguments.ingest:
        kinds.append(Kind(f"ingest of {arguments.rows}", ingests(users, arguments.rows), arguments.ingest, **options))
    if not kinds:
        parser.error("--get, --batch or --ingest tells what to send")
    with redis_server() as redis_port:
        url = f"redis://127.0.0.1:{redis_port}/0"
        fill(url, users)
        settings = {"FEATURESTORE_WRITE_KEYS": KEY, "FEATURESTORE_LOG_LEVEL": "error"}
        with feature_store(
            url, "featurestore", arguments.workers, timeout_ms=arguments.timeout_ms, **settings
        ) as (port, master), Memory(children(master)) as memory:  # fmt: skip
            tell(run(port, with_probe(kinds, users), patience_ms=arguments.patience), memory)


if __name__ == "__main__":
    main()
