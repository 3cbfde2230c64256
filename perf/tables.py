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
READS = {
    "HGETALL": "`HGETALL`, one at a time",
    "get_features, packed row": "`get_features`, packed row, one at a time",
    "HGETALL, the same user again and again": "`HGETALL`, the same user again and again",
    "get_features, likewise": "`get_features`, likewise",
    "100 x HGETALL in a pipeline": "100 `HGETALL` in a pipeline",
    "100 x get_features, packed rows": "100 `get_features` in one write",
    "get_features_batch of 100, packed rows": "`get_features_batch` of 100, packed rows",
    "get_features_batch of 100, names": "`get_features_batch` of 100 by names: fields fetched and cast",
}
LOADS = {
    "plain redis-py": "plain redis-py: HSET and SADD in pipelines of 1,000 users, nothing checked",
    "bulk writer": "bulk writer: every value checked, packed row kept",
}
PARTS = {
    "HSET and SADD, no script": "no script: `HSET` and `SADD` of each row, encoded beforehand",
    "a script that does nothing": "nothing but its arguments",
    "+ HSET of the ten fields": "and `HSET` of the ten fields",
    "+ tonumber of each text": "and `tonumber` of each text",
    "+ the row packed, and stored with a time": "and the row packed, and stored with a time",
    "upsert_features: all checks, and the members": "`upsert_features`: all checks, and the members",
    "replace_rows: rows made by the client": "`replace_rows`: rows that the client has made, in one argument",
}
IN_README = ("featurestore", "nginx lua", "webdis", "fastapi")


class RedisTime(msgspec.Struct):
    """What perf/redis_time.py stored: of each read, Redis's time in µs, and what that is of HGETALL's."""

    commit: str
    date: str
    figures: Mapping[str, tuple[float, float]]


class Ingest(msgspec.Struct):
    """What perf/ingest.py stored: users/s by kind of users, and by what wrote them."""

    commit: str
    date: str
    figures: Mapping[str, Mapping[str, float]]


class Floor(msgspec.Struct):
    """What perf/ingest_floor.py stored: Redis's time a row in µs."""

    commit: str
    date: str
    figures: Mapping[str, float]


class Stored(msgspec.Struct):
    """What was measured last. The first three are of perf/compare.py."""

    settings: Mapping[str, str | int]
    runs: Sequence[Measured]
    redis_time: RedisTime
    ingest: Ingest
    ingest_floor: Floor
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


def of_redis_time(measured: RedisTime) -> str:
    """Return the table of Redis's time."""
    rows = [
        f"| {READS[name]} | {time:.1f} | {ratio:.2f} |"
        for name, (time, ratio) in measured.figures.items()
        if name in READS
    ]
    return "\n".join(["| | µs | of HGETALL |", "|---|---:|---:|", *rows, "", recorded(measured)])


def of_ingest(measured: Ingest) -> str:
    """Return the table of users that are written in a second."""
    new, known = measured.figures["new users"], measured.figures["known users"]
    rows = [f"| {LOADS[name]} | {new[name]:,.0f} | {known[name]:,.0f} |" for name in LOADS]
    plain, bulk = LOADS
    rows.append(f"| ratio | {new[bulk] / new[plain]:.2f} | {known[bulk] / known[plain]:.2f} |")
    return "\n".join(["| users/s | new users | known users |", "|---|---:|---:|", *rows, "", recorded(measured)])


def of_floor(measured: Floor) -> str:
    """Return the table of what parts of a write take of Redis."""
    rows = [f"| {PARTS[name]} | {time:.1f} |" for name, time in measured.figures.items()]
    return "\n".join(["| script, 250 rows a call | µs a row |", "|---|---:|", *rows, "", recorded(measured)])


def recorded(measured: RedisTime | Ingest | Floor) -> str:
    """Return when this was measured, in a sentence."""
    return f"Of {measured.date}, commit {measured.commit}."


def writing(measured: Ingest) -> str:
    """Return what the bulk writer does, in sentences."""
    new, known = measured.figures["new users"], measured.figures["known users"]
    plain, bulk = LOADS
    rates = [thousands(rate) for rate in (new[bulk], known[bulk], new[plain], known[plain])]
    what = f"which checks every value, writes {rates[0]} new users a second, or {rates[1]} known ones"
    return (
        f"The bulk writer (`featurestore.ingest.BulkWriter`), {what}.\nA plain loop writes {rates[2]} and {rates[3]}."
    )


def thousands(rate: float) -> str:
    """Return a rate in whole thousands."""
    return f"{round(rate, -3):,.0f}"


def of_readme() -> dict[str, str]:
    """Return what README.md has of the figures, by place."""
    measured = stored()
    found = measured.found
    return {
        "compared": f"{source(measured.settings)}\n\n{comparison(IN_README, found, {})}\n\n{floor(found)}",
        "latencies": latencies(found),
        "writing": writing(measured.ingest),
    }


def of_performance() -> dict[str, str]:
    """Return what docs/performance.md has of the figures, by place."""
    measured = stored()
    found = measured.found
    table = comparison(tuple(SERVERS), found, measured.ceilings)
    return {
        "compared": f"{source(measured.settings)}\n\n{table}\n\n{latencies(found)}\n{ratios(found)}",
        "redis_time": of_redis_time(measured.redis_time),
        "ingest": of_ingest(measured.ingest),
        "ingest_floor": of_floor(measured.ingest_floor),
    }
