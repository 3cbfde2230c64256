"""The tables of the README and of docs/performance.md, made of docs/performance/results.json.

tests/generate_pages.py puts them into the pages, so that no figure of perf/compare.py is typed.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import figures
import msgspec

BENCHMARK = "redis-benchmark"


class Measured(msgspec.Struct):
    """A run of wrk, as perf/compare.py stores it. Latencies are in µs."""

    server: str
    kind: str
    connections: int
    seconds: float
    requests: int
    p50: int
    p99: int


class Line(NamedTuple):
    """A line of a table: the runs that it is about, and which of their figures."""

    what: str
    kind: str
    connections: int
    figure: str


Found = Mapping[tuple[str, str, int], Measured]
LINES = (
    Line("GET at 64 connections, requests/s", "uniform", 64, "rate"),
    Line("the same, p99", "uniform", 64, "p99"),
    Line("GET at 256 connections, requests/s", "uniform", 256, "rate"),
    Line("GET at 1 connection, median", "uniform", 1, "p50"),
    Line("batch of 100 at 16 connections, requests/s", "batch", 16, "rate"),
)
SERVERS = {
    "featurestore": "this server",
    "nginx lua": "nginx + LuaJIT",
    "nginx constant": "nginx, a constant",
    "webdis": "webdis, `HGETALL`",
    "fastapi": "FastAPI + redis.asyncio",
}
IN_README = ("featurestore", "nginx lua", "webdis", "fastapi")


class Stored(msgspec.Struct):
    """What perf/compare.py stored of its last run."""

    settings: Mapping[str, str | int]
    runs: Sequence[Measured]
    ceilings: Mapping[str, float] = msgspec.field(name=BENCHMARK)

    @property
    def found(self) -> Found:
        """The runs by server, kind of requests and connections."""
        return {(run.server, run.kind, run.connections): run for run in self.runs}


def stored() -> Stored:
    """Return what was measured last."""
    return msgspec.json.decode((figures.FOLDER / "results.json").read_bytes(), type=Stored)


def source(settings: Mapping[str, str | int]) -> str:
    """Return under which conditions the figures were measured, in sentences."""
    rounds = "one round" if settings["rounds"] == 1 else f"the run of median rate of {settings['rounds']} rounds"
    where = f"{settings['processors']} processors that also run {settings['redis']} and wrk"
    what = f"{settings['users']:,} users of {settings['features']} features, {settings['workers']} workers"
    how = f"{rounds} of {settings['seconds a run']} s, {settings['date']}, commit {settings['commit']}"
    return f"{what}, {where}; Python {settings['python']}; {how}."


def rate_of(run: Measured) -> float:
    """Return the requests a second of a run."""
    return run.requests / run.seconds


def told(run: Measured | None, figure: str) -> str:
    """Return a figure of a run in words; empty where there was no such run."""
    if run is None:
        return ""
    return f"{rate_of(run):,.0f}" if figure == "rate" else f"{getattr(run, figure) / 1000:.2f} ms"


def comparison(servers: Sequence[str], found: Found, ceilings: Mapping[str, float]) -> str:
    """Return the table of some servers; with redis-benchmark's rates in a last column where there are any."""
    heads = ["", *(SERVERS[server] for server in servers), *([BENCHMARK] if ceilings else [])]
    rows = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for line in LINES:
        cells = [told(found.get((server, line.kind, line.connections)), line.figure) for server in servers]
        if ceilings:
            ceiling = ceilings.get(str(line.connections))
            cells.append(f"{ceiling:,.0f}" if ceiling and (line.kind, line.figure) == ("uniform", "rate") else "")
        rows.append(f"| {' | '.join([line.what, *cells])} |")
    return "\n".join(rows)


def floor(found: Found) -> str:
    """Return what nginx does without Redis, in a sentence."""
    rate = told(found["nginx constant", "uniform", 64], "rate")
    return f"nginx answers a constant of the same size {rate} times a second: the floor that HTTP sets there."


def latencies(found: Found) -> str:
    """Return the p99 of a few clients, in sentences."""
    one, many = found["featurestore", "uniform", 10], found["featurestore", "batch of 100 x 50 features", 10]
    return (f"One user at 10 connections: p99 {told(one, 'p99')}. 100 users of 50 features at 10 connections: p99 "
            f"{told(many, 'p99')}.")  # fmt: skip


def ratios(found: Found) -> str:
    """Return how this server compares, in a sentence."""

    def times(peer: str, kind: str, connections: int) -> str:
        ours = rate_of(found["featurestore", kind, connections])
        return f"{ours / rate_of(found[peer, kind, connections]):.2f}"

    return (f"This server answers {times('nginx lua', 'uniform', 64)} times as many GETs as nginx with LuaJIT, and "
            f"{times('nginx constant', 'uniform', 64)} of what nginx answers without Redis;\n"
            f"{times('nginx lua', 'batch', 16)} times as many batches.")  # fmt: skip


def of_readme() -> dict[str, str]:
    """Return what README.md has of the figures, by place."""
    measured = stored()
    found = measured.found
    return {
        "compared": f"{source(measured.settings)}\n\n{comparison(IN_README, found, {})}\n\n{floor(found)}",
        "latencies": latencies(found),
    }


def of_performance() -> dict[str, str]:
    """Return what docs/performance.md has of the figures, by place."""
    measured = stored()
    found = measured.found
    table = comparison(tuple(SERVERS), found, measured.ceilings)
    return {"compared": f"{source(measured.settings)}\n\n{table}\n\n{latencies(found)}\n{ratios(found)}"}
