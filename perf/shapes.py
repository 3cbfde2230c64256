"""Measure reads of other shapes than all of ten features: named features, services, wide rows, big batches.

Users of 14 features of all types, of whom all, 10 by name and 10 by service are read; and wide ones of 500 floats: all,
50 by name, 50 by service. Each by GETs and by batches of 100, in turn, several times: requests/s by wrk, and how much
of Redis's one thread a request takes, by INFO commandstats. Then batches of 1,000 ids. With checkouts as arguments,
each is measured, in turn. Takes two and a half minutes for each checkout by its defaults.
"""

import argparse
import contextlib
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import redis
from figures import Figures, add_out
from servers import feature_store, load, python_of, redis_server

from featurestore import Definition, FeatureStore

NARROW = {
    **{f"amount_{number}": "float" for number in range(8)},
    "logins": "int", "visits": "int", "country": "string", "device": "string", "language": "string", "member": "bool",
}  # fmt: skip
TEN = [name for place, name in enumerate(NARROW) if place not in {1, 4, 8, 12}]
WIDE = {f"feature_{number:03d}": "float" for number in range(500)}
FIFTY = list(WIDE)[::10]
BIG = 1000  # ids of the big batches
DATABASES = {"narrow": 0, "wide": 1}


class Read(msgspec.Struct, frozen=True):
    """A kind of read: of which users, which of their features, by which request."""

    users: str
    what: str
    kind: str
    connections: int
    query: str = ""
    rest: str = ""
    ids: int = 100


def reads() -> Iterator[tuple[list[Read], float | None]]:
    """Yield kinds of reads, and how many times dearer or slower than the first of them the others may be."""
    for users, names, service, wanted in (("narrow", TEN, "ten", 1.3), ("wide", FIFTY, "fifty", 1.0)):
        count = len(NARROW if users == "narrow" else WIDE)
        named = f"{len(names)} of {count} by name", f"features={','.join(names)}", {"features": names}
        served = f"{len(names)} of {count} by service", f"service={service}", {"service": service}
        for kind, connections in (("uniform", 64 if users == "narrow" else 16), ("batch", 16)):
            yield (
                [
                    Read(users, f"all {count}", kind, connections),
                    *(
                        Read(
                            users, what, kind, connections, f"?{query}", "," + msgspec.json.encode(body).decode()[1:-1]
                        )
                        for what, query, body in (named, served)
                    ),
                ],
                wanted,
            )
    yield [Read("narrow", f"all {len(NARROW)}", "batch", 8, ids=BIG)], None


def main() -> None:
    """Fill, serve every checkout, load each in turn and tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="*", help="each with an environment made by `make install`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--wide-users", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=2)
    add_out(parser)
    options = parser.parse_args()
    if options.out is not None:
        options.out = options.out.resolve()
    pythons = {path.resolve().name: python_of(path.resolve()) for path in options.checkouts} or {"": sys.executable}
    os.chdir("/")  # or the servers would find what is here first
    with contextlib.ExitStack() as stack:
        figures = stack.enter_context(Figures("shapes", "Named features, services, wide rows", options))
        redis_port = stack.enter_context(redis_server())
        client = stack.enter_context(redis.Redis(port=redis_port))
        urls = {users: f"redis://127.0.0.1:{redis_port}/{database}" for users, database in DATABASES.items()}
        counts = {"narrow": options.users, "wide": options.wide_users}
        fill(urls["narrow"], NARROW, {"ten": TEN}, options.users)
        fill(urls["wide"], WIDE, {"fifty": FIFTY}, options.wide_users)
        ports = {
            (name, users): stack.enter_context(feature_store(url, "featurestore", options.workers, python))[0]
            for name, python in pythons.items() for users, url in urls.items()
        }  # fmt: skip
        for kinds, wanted in reads():
            found: dict[tuple[str, Read], list[tuple[float, float, float]]] = {}
            for _ in range(options.rounds):
                for name in pythons:
                    for read in kinds:
                        client.config_resetstat()
                        run = load(name, ports[name, read.users], read.kind, read.connections, seconds=options.seconds,
                                   users=counts[read.users], path="/features/%s" + read.query, ids=read.ids,
                                   rest=read.rest)  # fmt: skip
                        assert run.failed == 0, (read, run)
                        found.setdefault((name, read), []).append((run.rate, in_redis(client) / run.requests, run.p99))
            for name in pythons:
                tell(figures, name, [(read, found[name, read]) for read in kinds], wanted)


def in_redis(client: redis.Redis) -> float:
    """Return the µs that calls of scripts have taken since the statistics were reset."""
    stats: dict[str, Any] = client.info("commandstats")
    return float(sum(stats[name]["usec"] for name in ("cmdstat_evalsha", "cmdstat_evalsha_ro") if name in stats))


def tell(
    figures: Figures, name: str, measured: list[tuple[Read, list[tuple[float, float, float]]]], wanted: float | None
) -> None:
    """Tell the rates and times of kinds of reads, as ratios to the first of them too."""
    first = None
    for read, runs in measured:
        rate, redis_us, p99 = (statistics.median(column) for column in zip(*runs, strict=True))
        first = first or (rate, redis_us)
        request = "GET" if read.kind == "uniform" else f"batch of {read.ids:,}"
        what = f"{request} at {read.connections} connections, {read.what}{f', {name}' if name else ''}"
        figure = f"{rate:,.0f}/s, p99 {p99 / 1000:.2f} ms, {redis_us:.1f} µs of Redis's time"
        if read is measured[0][0] or wanted is None:
            figures.add(what, figure)
            continue
        slower, dearer = first[0] / rate, redis_us / first[1]
        figures.add(what, f"{figure}; {slower:.2f} times slower than all, {dearer:.2f} of Redis's time",
                    wanted=f"both at most {wanted}", reached=max(slower, dearer) <= wanted)  # fmt: skip


def fill(url: str, features: dict[str, str], services: dict[str, list[str]], users: int) -> None:
    """Declare the features, and write users who have all of them."""
    with FeatureStore.connect(url, timeout=10) as store:
        store.apply(Definition(features, services=services))  # type: ignore[arg-type]
        kinds = list(features.values())
        for first in range(0, users, 500):
            rows = [(f"user{number:05d}", *(value(kind, number, place) for place, kind in enumerate(kinds)))
                    for number in range(first, min(users, first + 500))]  # fmt: skip
            assert store.upsert_table(tuple(features), rows).written == len(rows)


def value(kind: str, number: int, place: int) -> Any:
    """Return a value of that type, as long as usual ones are."""
    if kind == "string":
        return f"text{(number + place) % 50}"
    if kind == "bool":
        return number % 2 == 0
    return number * 7 + place if kind == "int" else number / 7 + place


if __name__ == "__main__":
    main()
