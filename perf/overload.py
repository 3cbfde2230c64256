"""What the server does with its default settings where wide batches come beside GETs, and more than it can do.

(a) Batches of 1,000 ids with 200 of 500 features by name, alone and beside GETs. (b) Batches of 1,000 ids with 10
features each by more and more clients. (c) GETs beside 256 of these clients. (d) Four times what the server can do, for
half a minute, by an open loop (perf/open_loop.py): batches and GETs, then with writes too. (e) Wide rows to ingest, and
direct clients that ask for much at once. Each part has a server of its own, which is loaded a little first. Clients of
(a) to (c) send the next request when the last is answered, so a refused one comes back at once. Takes three minutes by
its defaults.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import numpy as np
from checkouts import children
from compare import fill
from figures import Figures, add_out
from memory import Memory
from open_loop import KEY, Answers, Kind, batches, gets, ingests, percentiles, run, seconds_to_normal, user, with_probe
from servers import Run, feature_store, load, redis_server

from featurestore import AsyncFeatureStore, Definition, FeatureStore, Keys

WIDE = {f"feature_{number:03d}": "float" for number in range(500)}
WIDE_USERS, WIDE_IDS, WIDE_NAMES = 2000, 1000, 200
IDS = 1000  # of a batch
CLIENTS = (8, 64, 256, 2000)
TIMES = 4  # what can be done, in (d)
ROWS = 100  # of a request that writes
WIDE_WRITTEN = 450  # features of wide rows that are written
SETTLE_S, QUICK_S = 5.0, 0.01  # how long to wait for a GET that takes no longer


class Setting:
    """A Redis with users, and what the options say.

    Attributes:
        port: Of the server under load.
        workers: Its processes.
    """

    def __init__(self, url: str, options: argparse.Namespace, figures: Figures) -> None:
        self.url, self.options, self.figures = url, options, figures
        self.port, self.workers = 0, [0]

    @contextlib.contextmanager
    def server(self, warm_up: str = "batch") -> Iterator[None]:
        """Run a server, and load it a little so that its memory is what it usually has."""
        settings = {"FEATURESTORE_WRITE_KEYS": KEY, "FEATURESTORE_LOG_LEVEL": "error"}
        with feature_store(
            self.url, "featurestore", self.options.workers, timeout_ms=self.options.timeout_ms, **settings
        ) as (self.port, master):
            self.workers = children(master)
            self.load("uniform", 16, 1)
            self.load(warm_up, 8, 2)
            yield

    def load(self, kind: str, connections: int, seconds: int | None = None) -> Run:
        """Load the server with GETs or batches."""
        return load("featurestore", self.port, kind, connections, seconds=seconds or self.options.seconds,
                    users=self.options.users, ids=IDS)  # fmt: skip


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="abcde", help="which of them")
    parser.add_argument("--seconds", type=int, default=5, help="of each run of wrk")
    parser.add_argument("--long", type=float, default=30, help="seconds of (d)")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout-ms", type=int, help="FEATURESTORE_TIMEOUT_MS; its default if left out")
    add_out(parser)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with redis_server() as redis_port, Figures("overload", "Overload", options) as figures:
        setting = Setting(f"redis://127.0.0.1:{redis_port}/0", options, figures)
        fill(setting.url, options.users)
        parts: dict[str, Callable[[Setting], None]] = {
            "a": wide,
            "b": crowds,
            "c": beside,
            "d": far_too_much,
            "e": much_at_once,
        }
        for name in options.parts:
            parts[name](setting)


def wide(setting: Setting) -> None:
    """(a) One client that asks for much."""
    fill_wide(setting.url)
    figures = setting.figures
    with setting.server():
        once: Counter[int] = Counter()
        took: list[float] = []
        ask(setting.port, once, took, threading.Event(), 10)
        name = f"{WIDE_IDS:,} ids x {WIDE_NAMES} of {len(WIDE)} features by name"
        figures.add(f"{name}, ten times", f"{statuses(once)}, median {sorted(took)[len(took) // 2] * 1000:.0f} ms",
                    wanted="all 200", reached=set(once) == {200})  # fmt: skip
        settle(setting.port)
        alone = setting.load("uniform", 16)
        stop, repeated = threading.Event(), Counter[int]()
        with ThreadPoolExecutor(1) as pool:
            client = pool.submit(ask, setting.port, repeated, [], stop)
            both = setting.load("uniform", 16)
            stop.set()
            client.result()
        figures.add("GETs at 16 connections alone", tell(alone))
        figures.add(f"GETs at 16 connections while one client repeats {name}", f"{tell(both)}, {both.failed} failed; "
                    f"the client's: {statuses(repeated)}", wanted="none fails", reached=both.failed == 0)  # fmt: skip
        ratio = both.p99 / alone.p99
        figures.add("p99 of these GETs to that alone", f"{ratio:.1f}", wanted="at most 4", reached=ratio <= 4)  # noqa: PLR2004


def crowds(setting: Setting) -> None:
    """(b) More and more clients that send batches."""
    with setting.server(), Memory(setting.workers) as memory:
        rates = []
        for clients in CLIENTS:
            found = setting.load("batch", clients)
            settled = settle(setting.port)
            rates.append(found.good)
            ratio = rates[-1] / rates[0]
            figure = f"{tell(found)}; {ratio:.2f} of that at {CLIENTS[0]}; GETs quick again after {settled:.1f} s"
            setting.figures.add(f"batches of {IDS:,} x 10 at {clients:,} connections", figure,
                                wanted="at least 0.8", reached=ratio >= 0.8)  # fmt: skip  # noqa: PLR2004
    tell_memory(setting, memory, "these batches")


def beside(setting: Setting) -> None:
    """(c) Small requests beside many big ones."""
    with setting.server(), Memory(setting.workers) as memory:
        alone = setting.load("uniform", 16)
        with ThreadPoolExecutor(1) as pool:
            crowd = pool.submit(setting.load, "batch", 256, setting.options.seconds + 2)
            time.sleep(1)  # until the crowd is there
            both = setting.load("uniform", 16)
            batch = crowd.result()
        settled = settle(setting.port)
    ratio = both.good / alone.good
    setting.figures.add("GETs at 16 connections alone", tell(alone))
    setting.figures.add("GETs at 16 connections beside 256 clients with batches",
                        f"{tell(both)}; {ratio:.2f} of that alone; the batches: {tell(batch)}",
                        wanted="at least 0.25", reached=ratio >= 0.25)  # fmt: skip  # noqa: PLR2004
    setting.figures.add("GETs are quick again after these batches", f"{settled:.1f} s",
                        wanted="within 1 s", reached=settled <= 1)  # fmt: skip
    tell_memory(setting, memory, "these requests")


def far_too_much(setting: Setting) -> None:
    """(d) An open loop at four times what the server can do."""
    for writes in (False, True):
        with setting.server(), Memory(setting.workers) as memory:
            kinds, alone = shares(setting, writes=writes)
            answers = run(setting.port, with_probe(kinds, setting.options.users))
        what = "reads and writes" if writes else "reads"
        for name, each in answers.items():
            setting.figures.add(f"{what} at {TIMES} times what can be done: {name}", told(each))
        done = sum(answers[name].good() / rate for name, rate in alone.items())
        setting.figures.add(f"work done of these {what}, 1 being what can be done", f"{done:.2f}")
        lag = np.concatenate([each.lag for each in answers.values()])
        setting.figures.add(f"the sender of the {what} was late by", percentiles(lag))
        back = seconds_to_normal(answers)
        when = "never" if back is None else f"{back:.1f} s after their end"
        setting.figures.add(f"GETs are as before the {what}", when,
                            wanted="within 1 s", reached=back is not None and back <= 1)  # fmt: skip
        tell_memory(setting, memory, f"the {what}")


def much_at_once(setting: Setting) -> None:
    """(e) Wide rows in one request, and many ids by clients that ask Redis themselves."""
    fill_wide(setting.url)
    with setting.server():
        seen: Counter[int] = Counter()
        for first in range(5):
            features = dict.fromkeys([*WIDE][:WIDE_WRITTEN], first + 0.5)
            rows = [json.dumps({"id": user(row), "features": features}) for row in range(ROWS)]
            fields = {"Content-Type": "application/x-ndjson", "X-API-Key": KEY}
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", setting.port, timeout=10)) as connection:
                connection.request("POST", "/entities/wide/features/ingest", "\n".join(rows), fields)
                response = connection.getresponse()
                outcomes = response.read().decode()
                seen[response.status] += 1
                assert response.status != HTTPStatus.OK or outcomes.count("\n") in {ROWS - 1, ROWS}, outcomes
        setting.figures.add(f"{ROWS} rows x {WIDE_WRITTEN} features to ingest, five times", statuses(seen),
                            wanted="all 200", reached=set(seen) == {200})  # fmt: skip
    for tasks, ids in ((10, 500), (10, 1000)):
        failed = asyncio.run(direct(setting.url, tasks, ids))
        setting.figures.add(f"{tasks} concurrent get_many of {ids:,} ids by AsyncFeatureStore, five times",
                            f"{len(failed)} of {5 * tasks} failed{': ' + failed[0] if failed else ''}",
                            wanted="none fails", reached=not failed)  # fmt: skip


async def direct(url: str, tasks: int, ids: int) -> list[str]:
    """Return the failures of so many concurrent reads by a store with its default time-out, five times."""
    failures = []
    async with AsyncFeatureStore.connect(url) as store:
        await store.get("user00001")
        for _ in range(5):
            reads = (store.get_many([user(number) for number in range(ids)]) for _ in range(tasks))
            found = await asyncio.gather(*reads, return_exceptions=True)
            failures += [repr(each) for each in found if isinstance(each, BaseException)]
    return failures


def shares(setting: Setting, *, writes: bool) -> tuple[list[Kind], dict[str, float]]:
    """Return kinds of requests that together are four times what the server can do, and how many of each it can."""
    parts = {"batch": 0.6, "GET": 0.1, "ingest": 0.3} if writes else {"batch": 0.9, "GET": 0.1}
    seconds, users = setting.options.long, setting.options.users
    alone = {"batch": setting.load("batch", 8).good, "GET": setting.load("uniform", 16).good}
    messages = {"batch": batches(users, IDS), "GET": gets(users)}
    if writes:
        messages["ingest"] = ingests(users, ROWS)
        alone["ingest"] = ingested(setting, messages["ingest"])
    print("alone, a second: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in alone.items()))
    settle(setting.port)
    kinds = [Kind(name, messages[name], TIMES * share * alone[name], seconds, connections=1500)
             for name, share in parts.items()]  # fmt: skip
    return kinds, alone


def ingested(setting: Setting, messages: list[bytes], seconds: float = 2) -> float:
    """Return how many requests that write the server does in a second: more come than it can do, over 8 connections."""
    answers = run(setting.port, [Kind("ingest", messages, 4000, seconds, connections=8)], patience_ms=1000)["ingest"]
    return answers.good()


def ask(port: int, seen: "Counter[int]", took: list[float], stop: threading.Event, times: int = 1 << 30) -> None:
    """Ask for many features of many ids by name, one time after the other, and count the statuses."""
    body = {"ids": [user(number) for number in range(WIDE_IDS)], "features": [*WIDE][::2][:WIDE_NAMES]}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        for _ in range(times):
            if stop.is_set():
                return
            started = time.perf_counter()
            connection.request(
                "POST", "/entities/wide/features/batch", json.dumps(body), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            response.read()
            seen[response.status] += 1
            took.append(time.perf_counter() - started)


def fill_wide(url: str) -> None:
    """Write entities of 500 features beside the users."""
    with FeatureStore.connect(url, timeout=10, keys=Keys.of("wide")) as store:
        store.apply(Definition(WIDE, entity="wide"))  # type: ignore[arg-type]
        for first in range(0, WIDE_USERS, 100):
            rows = [(user(first + row), *(first + row + place / 7 for place in range(len(WIDE)))) for row in range(100)]
            assert store.upsert_table(tuple(WIDE), rows).written == len(rows)


def settle(port: int) -> float:
    """Return after how many seconds the server answers GETs quickly again, five at most."""
    began = time.monotonic()
    while time.monotonic() - began < SETTLE_S:
        with (
            contextlib.suppress(OSError),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=1)) as one,
        ):
            started = time.monotonic()
            one.request("GET", "/features/user00001")
            if one.getresponse().status == HTTPStatus.OK and time.monotonic() - started < QUICK_S:
                return started - began
        time.sleep(0.02)
    return SETTLE_S


def tell(found: Run) -> str:
    """Return the rate and latencies of a run of wrk in words."""
    refused = f", {found.errors / found.seconds:,.0f}/s refused" if found.errors else ""
    return f"{found.good:,.0f}/s{refused}, p50 {found.p50 / 1000:.2f}, p99 {found.p99 / 1000:.2f} ms"


def told(answers: Answers) -> str:
    """Return what became of one kind of requests in words."""
    refused, other = answers.refused(), answers.others()
    fine = percentiles(answers.took[answers.fine()])
    return (f"{answers.kind.rate:,.0f}/s sent; 200: {answers.good():,.0f}/s {fine}; "
            f"refused: {refused.sum() / answers.kind.seconds:,.0f}/s {percentiles(answers.took[refused])}"
            + "".join(f"; {name} {count}" for name, count in other.items()))  # fmt: skip


def statuses(seen: "Counter[int]") -> str:
    """Return how often each status was seen in words."""
    return ", ".join(f"{count} x {status}" for status, count in sorted(seen.items()))


def tell_memory(setting: Setting, memory: Memory, during: str) -> None:
    """Tell how much the workers grew."""
    setting.figures.add(f"memory of the workers during {during}", f"{memory}; growth {memory.growth:.2f}",
                        wanted="at most 1.5", reached=memory.growth <= 1.5)  # fmt: skip  # noqa: PLR2004


if __name__ == "__main__":
    main()
