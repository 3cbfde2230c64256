"""Measure the HTTP server against what people would use instead: same machine, same Redis, same data, one run.

Peers: a FastAPI and redis.asyncio service (perf/peers/), webdis on plain HGETALL, and redis-benchmark on the same
EVALSHA with one command in flight a connection, the ceiling of any client that pays a round trip a request.
Needs wrk; webdis and redis-benchmark are left out where they are not installed. Writes JSON, a table and plots.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import msgspec
import redis
from featurestore.ingest.simulator import COLUMNS, Simulator
from featurestore.ingest.writer import BulkWriter
from servers import Run, fastapi, feature_store, load, redis_benchmark, redis_server, webdis

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
        print(f"{server:13} {kind:8} {connections:4} connections {run.rate:10,.0f}/s   p50 {run.p50 / 1000:8.2f}  "
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
            if shutil.which("webdis"):
                port = stack.enter_context(webdis(redis_port, PLAIN_DB, workers))
                ports["webdis"] = (port, "/HGETALL/user:%s:features")
            # In turn, several times: the machine's speed drifts, and all servers should have their share of it.
            for connections in CONNECTIONS:
                for _ in range(arguments.rounds):
                    for server, (port, path) in ports.items():
                        measure(server, port, "uniform", connections, path)
            for _ in range(arguments.rounds):
                for server, (port, path) in ports.items():
                    if path is None:
                        measure(server, port, "batch", 16)
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
    result = writer.write(COLUMNS, Simulator(users, seed=7).everyone())
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
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "redis": info["redis_version"],
        "users": arguments.users,
        "features": len(COLUMNS),
        "workers": arguments.workers,
        "seconds a run": arguments.seconds,
        "rounds": arguments.rounds,
        "wrk threads": 1,
    }


def report(folder: Path, settings: dict[str, object], runs: list[Run], ceilings: dict[str, float]) -> None:
    """Write results.json, table.md and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"settings": settings, "runs": msgspec.to_builtins(runs), "redis-benchmark": ceilings}
    (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n")
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
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    plot(folder, [run for run in runs if run.kind == "uniform" and run.connections in CONNECTIONS])
    ratios(runs, ceilings)


def plot(folder: Path, runs: list[Run]) -> None:
    """Draw throughput by connections, and latency percentiles at 64 connections."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    servers = list(dict.fromkeys(run.server for run in runs))
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for server in servers:
        mine = [run for run in runs if run.server == server]
        axes.plot([run.connections for run in mine], [run.rate for run in mine], marker="o", label=server)
    axes.set(xscale="log", xlabel="connections", ylabel="requests a second", title="GET of one user, 10 features")
    axes.set_xticks(CONNECTIONS, [str(count) for count in CONNECTIONS])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "throughput.png", dpi=110)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for server in servers:
        for run in runs:
            if run.server == server and run.connections == 64:  # noqa: PLR2004
                values = [value / 1000 for value in (run.p50, run.p90, run.p99, run.p999)]
                axes.plot(["p50", "p90", "p99", "p99.9"], values, marker="o", label=server)
    axes.set(yscale="log", ylabel="ms", title="Latency of a GET at 64 connections")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "latency.png", dpi=110)


def ratios(runs: list[Run], ceilings: dict[str, float]) -> None:
    """Print how the server compares."""
    found = {(run.server, run.kind, run.connections): run for run in runs}
    ours, peer = found["featurestore", "uniform", 64], found["fastapi", "uniform", 64]
    print(f"GET at 64 connections: {ours.rate / peer.rate:.2f} of fastapi; p99 {ours.p99 / peer.p99:.3f} of fastapi")
    if ("webdis", "uniform", 64) in found:
        print(f"GET at 64 connections: {ours.rate / found['webdis', 'uniform', 64].rate:.2f} of webdis on HGETALL")
    if "64" in ceilings:
        print(f"GET at 64 connections: {ours.rate / ceilings['64']:.2f} of redis-benchmark on the same EVALSHA")
    one, other = found["featurestore", "uniform", 1], found["fastapi", "uniform", 1]
    print(f"GET at 1 connection: median {one.p50 / 1000:.3f} ms, {one.p50 / other.p50:.2f} of fastapi")
    batch, theirs = found["featurestore", "batch", 16], found["fastapi", "batch", 16]
    print(f"batch of 100 at 16 connections: {batch.rate / theirs.rate:.2f} of fastapi")


if __name__ == "__main__":
    main()
