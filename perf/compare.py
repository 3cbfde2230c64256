"""Measure the HTTP server against what people would use instead: same machine, same Redis, same data, one run.

Peers: nginx with LuaJIT in front of Redis (perf/peers/nginx), which is what an engineer who wants speed would write; a
FastAPI and redis.asyncio service (perf/peers/); webdis on plain HGETALL. nginx with a constant of the same size is the
floor that HTTP sets on the machine, and redis-benchmark on the same EVALSHA, with one command in flight a connection,
the ceiling of any client that pays a round trip a request. The peers' answers are compared with ours first.
Needs wrk; Debian's packages of the others (nginx-light, libnginx-mod-http-lua, lua-nginx-redis and lua-cjson; webdis;
redis-tools) are left out where they are not installed. Writes JSON, a table and plots. Takes five minutes.
"""

import argparse
import contextlib
import datetime as dt
import http.client
import json
import math
import os
import platform
import shutil
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import redis
from featurestore.ingest.simulator import COLUMNS, Simulator
from featurestore.ingest.writer import BulkWriter
from figures import commit, keep_all, machine
from plots import plot
from servers import (
    Run,
    fastapi,
    feature_store,
    load,
    nginx_binary,
    nginx_constant,
    nginx_has_lua,
    nginx_lua,
    redis_benchmark,
    redis_server,
    webdis,
)

from featurestore import Definition, FeatureStore, read_definition
from featurestore.contract.scripts import GET_FEATURES

OURS = ("featurestore", "gevent", "gthread", "sync")
PLAIN_DB = 2  # the peers read hashes as they would write them: the same users, plain fields alone
CONNECTIONS = (1, 16, 64, 256)
WIDE = {f"feature_{index:02d}": "float" for index in range(50)}


def main() -> None:
    """Run everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=2, help="length of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind; the one of median rate counts")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "performance")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed (Debian package wrk)")
    users, workers = arguments.users, arguments.workers
    runs: list[Run] = []

    def measure(server: str, port: int, kind: str, connections: int, path: str | None = None) -> None:
        runs.append(load(server, port, kind, connections, seconds=arguments.seconds, users=users, path=path))
        run = runs[-1]
        print(f"{server:14} {kind:8} {connections:4} connections {run.rate:10,.0f}/s   p50 {run.p50 / 1000:8.2f}  "
              f"p90 {run.p90 / 1000:8.2f}  p99 {run.p99 / 1000:8.2f}  p99.9 {run.p999 / 1000:8.2f} ms  "
              f"failed {run.failed}", flush=True)  # fmt: skip

    ceilings: dict[str, float] = {}
    with redis_server() as redis_port:
        url = f"redis://127.0.0.1:{redis_port}/0"
        plain = f"redis://127.0.0.1:{redis_port}/{PLAIN_DB}"
        fill(url, users)
        fill_plainly(plain, users)
        settings = describe(url, arguments)
        print(json.dumps(settings, indent=1))
        with contextlib.ExitStack() as stack:
            ports: dict[str, tuple[int, str | None]] = {}
            for worker_class in OURS:
                ports[worker_class] = (stack.enter_context(feature_store(url, worker_class, workers))[0], None)
            ports["fastapi"] = (stack.enter_context(fastapi(plain, workers)), None)
            if nginx_has_lua():
                ports["nginx lua"] = (stack.enter_context(nginx_lua(redis_port, PLAIN_DB, workers)), None)
            check_alike({server: port for server, (port, _) in ports.items()}, users)
            if shutil.which("webdis"):
                port = stack.enter_context(webdis(redis_port, PLAIN_DB, workers))
                ports["webdis"] = (port, "/HGETALL/user:%s:features")
            batches = [server for server, (_, path) in ports.items() if path is None]
            if nginx_binary():
                body = ask(ports["featurestore"][0], "/features/" + user_id(1))
                ports["nginx constant"] = (stack.enter_context(nginx_constant(body, workers)), None)
            # In turn, several times: the machine's speed drifts, and all servers should have their share of it.
            for connections in CONNECTIONS:
                for _ in range(arguments.rounds):
                    for server, (port, path) in ports.items():
                        measure(server, port, "uniform", connections, path)
            for _ in range(arguments.rounds):
                for server in batches:
                    measure(server, ports[server][0], "batch", 16)
            for kind, connections in (("zipf", 64), ("miss", 64), ("mixed", 64), ("uniform", 10)):
                measure("featurestore", ports["featurestore"][0], kind, connections)
        if shutil.which("redis-benchmark"):
            words = [GET_FEATURES.sha, "3", "all_users", "user:schema", "user:user00042:features", "user00042"]
            layout = FeatureStore.connect(url, timeout=5).schema().layout
            for connections in CONNECTIONS[1:]:
                ceilings[str(connections)] = redis_benchmark(redis_port, connections, ["EVALSHA", *words, layout])
                print(f"redis-benchmark EVALSHA at {connections} connections: {ceilings[str(connections)]:,.0f}/s")
        wide = f"redis://127.0.0.1:{redis_port}/1"
        fill_wide(wide)
        with feature_store(wide, "featurestore", workers) as (port, _):
            runs.append(load("featurestore", port, "batch", 10, seconds=arguments.seconds, users=1000))
            runs[-1].kind = "batch of 100 x 50 features"
            print(f"100 users x 50 features at 10 connections: p99 {runs[-1].p99 / 1000:.2f} ms")
    report(arguments.out, settings, medians(runs), ceilings)


def check_alike(ports: dict[str, int], users: int) -> None:
    """Exit unless all servers answer a read and a batch as ours does, but for digits that JSON libraries leave away."""
    some = [user_id(number) for number in range(0, users, max(1, users // 100))][:100]
    ours = ports["featurestore"]
    for server, port in ports.items():
        for path, body in (("/features/" + some[-1], None), ("/features/batch", {"user_ids": [*some, "nobody"]})):
            expected, found = (json.loads(ask(each, path, body)) for each in (ours, port))
            assert alike(expected, found), f"{server} answers {found}, not {expected}"


def alike(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same, but for the last digits of numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)


def ask(port: int, path: str, body: Any = None) -> bytes:
    """Return the answer to one request."""
    content = None if body is None else json.dumps(body).encode()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET" if content is None else "POST", path, content, {"Content-Type": "application/json"})
        return connection.getresponse().read()


def user_id(number: int) -> str:
    """Return the id of a simulated user."""
    return f"user{number:05d}"


def medians(runs: list[Run]) -> list[Run]:
    """Return, of the runs of each kind, the one of median rate."""
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.server, run.kind, run.connections), []).append(run)
    return [sorted(group, key=lambda run: run.rate)[len(group) // 2] for group in groups.values()]


def fill(url: str, users: int) -> None:
    """Write the simulated users."""
    with FeatureStore.connect(url, timeout=5) as store:
        store.apply(read_definition())
    writer = BulkWriter(url)
    result = writer.write_table(COLUMNS, Simulator(users, seed=7).everyone())
    assert result.written == users
    writer.close()


def fill_plainly(url: str, users: int) -> None:
    """Write the same users as services without this store do."""
    client = redis.Redis.from_url(url)
    rows = Simulator(users, seed=7).everyone()
    while part := list(islice(rows, 1000)):
        pipeline = client.pipeline(transaction=False)
        for entity_id, *values in part:
            pipeline.hset(f"user:{entity_id}:features", mapping=dict(zip(COLUMNS, values, strict=True)))
            pipeline.sadd("all_users", entity_id)
        pipeline.execute()
    client.close()


def fill_wide(url: str) -> None:
    """Write 1,000 users of 50 features."""
    with FeatureStore.connect(url, timeout=5) as store:
        store.apply(Definition(features=WIDE))  # type: ignore[arg-type]
        rows = [(f"user{number:05d}", {name: number / 7 + len(name) for name in WIDE}) for number in range(1000)]
        assert store.upsert(rows).written == len(rows)


def describe(url: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the settings of the run."""
    info = redis.Redis.from_url(url).info("server")
    return {
        "commit": commit(),
        "date": f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}",
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "redis": f"Redis {info['redis_version']}",
        "users": arguments.users,
        "features": len(COLUMNS),
        "workers": arguments.workers,
        "seconds a run": arguments.seconds,
        "rounds": arguments.rounds,
        "wrk threads": 1,
    }


def report(folder: Path, settings: dict[str, object], runs: list[Run], ceilings: dict[str, float]) -> None:
    """Write results.json, table.md and the plots."""
    keep_all(folder, {"settings": settings, "runs": msgspec.to_builtins(runs), "redis-benchmark": ceilings})
    lines = ["| server | requests | connections | requests/s | p50 ms | p90 ms | p99 ms | p99.9 ms | failed |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for run in runs:
        latencies = " | ".join(f"{value / 1000:.2f}" for value in (run.p50, run.p90, run.p99, run.p999))
        lines.append(
            f"| {run.server} | {run.kind} | {run.connections} | {run.rate:,.0f} | {latencies} | {run.failed} |"
        )
    lines += [
        f"| redis-benchmark, EVALSHA | uniform | {count} | {rate:,.0f} | | | | | |" for count, rate in ceilings.items()
    ]
    (folder / "table.md").write_text("\n".join([*ratios(runs, ceilings), "", *lines]) + "\n")
    caption = (f"{machine()}, which also runs {settings['redis']} and wrk\n{settings['workers']} workers; "
               f"{settings['date']}, {settings['commit']}")  # fmt: skip
    gets = [run for run in runs if run.kind == "uniform" and run.connections in CONNECTIONS]
    plot(folder, gets, CONNECTIONS, caption)


def ratios(runs: list[Run], ceilings: dict[str, float]) -> list[str]:
    """Return the lines of a table that tells how the server compares, and print them."""
    found = {(run.server, run.kind, run.connections): run for run in runs}
    lines = []

    def against(peer: str, kind: str, connections: int, wanted: float | None = None) -> None:
        if (peer, kind, connections) not in found:
            return
        ours, theirs = found["featurestore", kind, connections], found[peer, kind, connections]
        ratio = ours.rate / theirs.rate
        verdict = "" if wanted is None else f"at least {wanted}: {'reached' if ratio >= wanted else 'not reached'}"
        lines.append(
            f"| {kind} at {connections} connections | {peer} | {ratio:.2f} | {ours.p99 / theirs.p99:.2f} | {verdict} |"
        )

    against("nginx lua", "uniform", 64, 2.0)
    against("nginx constant", "uniform", 64, 0.7)
    against("nginx lua", "batch", 16, 4.0)
    for peer in ("fastapi", "webdis"):
        against(peer, "uniform", 64)
    against("fastapi", "batch", 16)
    if "64" in ceilings:
        ratio = found["featurestore", "uniform", 64].rate / ceilings["64"]
        lines.append(f"| uniform at 64 connections | redis-benchmark, EVALSHA | {ratio:.2f} | | |")
    head = ["| featurestore | to | requests/s, ratio | p99, ratio | wanted |", "|---|---|---:|---:|---|"]
    print("\n".join([*head, *lines]))
    return [*head, *lines]


if __name__ == "__main__":
    main()
