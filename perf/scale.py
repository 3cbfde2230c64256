"""Measures what docs/scale.md counts on, and makes the page's tables and pictures.

    python perf/scale.py            # measure (a minute on a quiet machine), then make tables and pictures
    python perf/scale.py --made     # make them of what docs/performance/scale.json has

Everything measured is in docs/performance/scale.json, with the machine and the date. The rest is computed.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from figures import filled, machine

from featurestore import Definition, FeatureStore
from featurestore.contract.resp import Word, encode_call
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH, WRITE_AND_READ
from featurestore.keys import SLOTS, Keys, partition_of, slot_of, tags
from featurestore.schema.types import Value

try:
    import numpy as np
    from plots import DPI, canvas
    from servers import redis_server
except ModuleNotFoundError as missing:
    sys.exit(f"{missing.name} is missing: pip install -e '.[perf]' in a checkout")

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURES = DOCS / "scale.md", DOCS / "performance" / "scale.json"
ROUNDS = 5
USERS, FEATURES, PARTITIONS = 4000, (10, 50, 100), (64, 256)
SHARE_IDS = 1_000_000
ZIPF = (0.8, 1.0, 1.2)
Numbers = np.ndarray[Any, Any]
Drawn = dict[tuple[float, int], list[float]]
NODES = (3, 6, 8, 12, 16, 24, 32)
STEPS = [(users, rate) for users in (10**7, 10**8, 10**9) for rate in (10**4, 10**5, 10**6)]

# What was measured elsewhere: docs/performance.md, and the prototype on a cluster.
WORKER_GET, WORKER_BATCH = 1 / 7e-6, 1 / 113e-6  # requests/s of a worker's processor: 7 us a GET, 113 us a batch of 100
CLUSTER_WORKER_GET, CLUSTER_WORKER_BATCH = 1.28, 1.8  # what a request may take of a worker in a cluster: the goal
CLUSTER_REDIS = 1.25  # a server in cluster mode takes so much more a call
BATCH_RELATIVE = {16: 1.00, 32: 1.14, 64: 1.31, 128: 1.52, 256: 1.61}  # Redis's time; without partitions 0.75
CALLS_OF_BATCH = {16: 16, 32: 31, 64: 51, 128: 70, 256: 83}

# What is left free.
BUSY = 0.6  # of a Redis's one thread, and of a worker: beyond, waiting times grow
FEW_NODES = 16  # for which 64 partitions are enough
HEADROOM = 1.6  # memory for copy-on-write while a snapshot or a log is written, buffers of replicas, and fragments
NODE_BYTES = 24 << 30  # of data on a node: a fork, a failover and a full resync stay short
MOST_IDS_MOVED = 50_000  # of a partition whose slots are moved the old way


# Measured


def measured() -> dict[str, Any]:
    """Return bytes a user and us a lookup, by features and partitions, on a server of this machine."""
    rows = []
    for count in FEATURES:
        for partitions in (0, *PARTITIONS):
            with redis_server() as port, FeatureStore.connect(f"redis://127.0.0.1:{port}/0", timeout=10) as store:
                rows.append(_of_one(store, count, partitions))
    return {"machine": machine(), "users": USERS, "rows": rows}


def _of_one(store: FeatureStore, count: int, partitions: int) -> dict[str, Any]:
    """Fill a server as a partitioned store is filled, and measure."""
    command = store.transport.command
    definition = Definition(
        {f"feature_{number:02}": ("float", "int", "string", "bool")[number % 4] for number in range(count)}
    )
    parts = [Keys("user", tag=tag) for tag in tags(partitions)] if partitions else [Keys()]
    stores = [FeatureStore(store.transport, part) for part in parts]
    for each in stores:
        each.apply(definition)
    schema = int(command("MEMORY", "USAGE", parts[0].schema, "SAMPLES", 0))
    empty = _used(store)
    ids = [f"user{number:08}" for number in range(USERS)]
    held: dict[int, list[str]] = {}
    for each_id in ids:
        held.setdefault(partition_of(each_id.encode(), partitions) if partitions else 0, []).append(each_id)
    for part, some in held.items():
        kinds = definition.features.items()
        rows = [(each, {name: _value(str(kind), int(each[4:])) for name, kind in kinds}) for each in some]
        stores[part].upsert(rows)
    users = _used(store) - empty
    members = sum(int(command("MEMORY", "USAGE", part.members, "SAMPLES", 0) or 0) for part in parts)
    layout = stores[0].schema().layout
    one = _us(store, _singles(parts, ids, partitions, layout))
    batch = _us(store, _batches(parts, ids, partitions, layout))
    return {"features": count, "partitions": partitions, "bytes_a_user": users / USERS, "schema_copy": schema,
            "members_a_user": members / USERS, "us_a_get": one, "us_a_batch": batch}  # fmt: skip


def _value(kind: str, number: int) -> Value:
    """Return a value of that type."""
    of_kind: dict[str, Value] = {"float": number / 7, "int": number, "string": f"text {number % 100}"}
    return of_kind.get(kind, number % 2 == 0)


def _used(store: FeatureStore) -> int:
    text = store.transport.command("INFO", "memory").decode()
    return int(re.search(r"used_memory_dataset:(\d+)", text)[1])  # type: ignore[index]


def _singles(parts: Sequence[Keys], ids: Sequence[str], partitions: int, layout: str) -> Iterator[list[bytes]]:
    for each in ids[:1000]:
        part = parts[partition_of(each.encode(), partitions)] if partitions else parts[0]
        keys: list[Word] = [part.members, part.schema, part.features(each)]
        yield [encode_call(GET_FEATURES, keys, [each, layout])]


def _batches(parts: Sequence[Keys], ids: Sequence[str], partitions: int, layout: str) -> Iterator[list[bytes]]:
    draw = np.random.default_rng(7)
    for _ in range(100):
        held: dict[int, list[str]] = {}
        for number in draw.integers(0, len(ids), 100):
            each = ids[number]
            held.setdefault(partition_of(each.encode(), partitions) if partitions else 0, []).append(each)
        calls = []
        for part, some in held.items():
            keys: list[Word] = [parts[part].members, parts[part].schema, *map(parts[part].features, some)]
            if len(some) == 1:
                calls.append(encode_call(GET_FEATURES, keys, [*some, layout]))
            else:
                calls.append(encode_call(GET_FEATURES_BATCH, keys, [1, layout, *some]))
        yield calls


def _us(store: FeatureStore, requests: Iterator[list[bytes]]) -> float:
    """Return Redis's time a request, by its own statistics of EVALSHA."""
    made, command, found = list(requests), store.transport.command, []
    for _ in range(ROUNDS):  # the first loads the scripts
        command("CONFIG", "RESETSTAT")
        for calls in made:
            store.transport.run_many_encoded(WRITE_AND_READ, calls)  # which takes replies of any script
        text = command("INFO", "commandstats").decode()
        found.append(float(re.search(r"cmdstat_evalsha:calls=\d+,usec=(\d+)", text)[1]))  # type: ignore[index]
    return min(found) / len(made)


# Computed


def nodes_for(us_a_request: float, rate: int, users: int, bytes_a_user: float) -> tuple[int, str]:
    """Return how many primaries it takes, and what decides it."""
    by_time = math.ceil(rate * us_a_request * 1e-6 / BUSY)
    by_memory = math.ceil(users * bytes_a_user / NODE_BYTES)
    return max(by_time, by_memory, 1), "memory" if by_memory >= by_time else "Redis's thread"


def partitions_for(users: int, nodes: int) -> int:
    """Return how many partitions to begin with: by nodes, and by the ids that one holds."""
    wanted = max(64 if nodes <= FEW_NODES else 256, users / MOST_IDS_MOVED)
    return min(4096, 1 << math.ceil(math.log2(wanted)))


def step_rows(figures: Mapping[str, Any], *, batch: bool) -> Iterator[Sequence[Any]]:
    """Yield a row for each step: users, requests/s, primaries, what decides, memory, workers, partitions."""
    found = {(row["features"], row["partitions"]): row for row in figures["rows"]}
    single = found[10, 0]
    for users, rate in STEPS:
        own = found[10, PARTITIONS[partitions_for(users, 3) > PARTITIONS[0]]]
        us = single["us_a_batch"] if batch else single["us_a_get"]
        nodes, why = nodes_for(us, rate, users, single["bytes_a_user"])
        if nodes > 1:
            us = (own["us_a_batch"] if batch else own["us_a_get"]) * CLUSTER_REDIS
            nodes, why = nodes_for(us, rate, users, own["bytes_a_user"])
            nodes = max(3, nodes)
        each = WORKER_BATCH if batch else WORKER_GET
        slower = (CLUSTER_WORKER_BATCH if batch else CLUSTER_WORKER_GET) if nodes > 1 else 1.0
        workers = math.ceil(rate * slower / each / BUSY)
        data = users * (own if nodes > 1 else single)["bytes_a_user"] / nodes / 2**30
        parts = partitions_for(users, nodes) if nodes > 1 else 1
        yield (f"{users // 10**6:,} M", f"{rate:,}", nodes, nodes, why, f"{data:.1f}", f"{max(1, data * HEADROOM):.0f}",
               f"{2 * nodes * max(1, data * HEADROOM):,.0f}", workers, parts)  # fmt: skip


def table(heads: Sequence[str], rows: Iterator[Sequence[Any]] | Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def owners(partitions: int, nodes: int) -> Numbers:
    """Return the node of each partition, where nodes have even runs of slots."""
    ends = [number * SLOTS // nodes for number in range(nodes + 1)]
    slots = [slot_of(tag.encode()) for tag in tags(partitions)]
    return np.array([next(n for n, (low, high) in enumerate(pairwise(ends)) if low <= slot < high) for slot in slots])


def skew(partitions: int, nodes: int, exponent: float, parts: Numbers) -> tuple[float, float]:
    """Return how much the fullest node has over the mean, of requests and of ids."""
    of = owners(partitions, nodes)[parts]
    weights = 1.0 / np.arange(1, len(parts) + 1) ** exponent
    requests = np.bincount(of, weights=weights, minlength=nodes)
    ids = np.bincount(of, minlength=nodes)
    return requests.max() / requests.mean(), ids.max() / ids.mean()


def skew_rows() -> tuple[list[Sequence[Any]], Drawn]:
    """Return the rows of the table of skew, and what is drawn."""
    rows: list[Sequence[Any]] = []
    drawn: Drawn = {}
    for partitions in PARTITIONS:
        parts = np.array([partition_of(b"user%08d" % number, partitions) for number in range(SHARE_IDS)])
        for exponent in ZIPF:
            found = [skew(partitions, nodes, exponent, parts) for nodes in NODES]
            drawn[exponent, partitions] = [requests for requests, _ in found]
            rows.append((partitions, f"requests, Zipf {exponent}", *(f"{requests:.2f}" for requests, _ in found)))
        rows.append((partitions, "ids", *(f"{ids:.2f}" for _, ids in found)))
    return rows, drawn


def hottest_rows() -> Iterator[Sequence[Any]]:
    """Yield which share of all requests the hottest ids have."""
    for exponent in ZIPF:
        weights = 1.0 / np.arange(1, SHARE_IDS + 1) ** exponent
        shares = np.cumsum(weights) / weights.sum()
        yield (exponent, *(f"{100 * shares[count - 1]:.1f} %" for count in (1, 10, 100, 1000)))


def draw(drawn: Drawn, path: Path) -> None:
    """Draw how much the fullest node has of the requests, over the mean."""
    figure, axes = canvas()
    colours = dict(zip(ZIPF, ("#0072B2", "#009E73", "#D55E00"), strict=True))
    for (exponent, partitions), ratios in drawn.items():
        few, colour = partitions == PARTITIONS[0], colours[exponent]
        line, mark, face = ("-", "o", colour) if few else ("--", "s", "white")
        label = f"Zipf {exponent}, {partitions} partitions"
        axes.plot(NODES, ratios, color=colour, linestyle=line, marker=mark, markerfacecolor=face, label=label)
    axes.set(xscale="log", yscale="log", xlabel="primaries (logarithmic)",
             ylabel="requests of the fullest node\nover the mean (logarithmic)",
             title=f"Hot ids fill one node: {SHARE_IDS:,} ids in the store's own partitions")  # fmt: skip
    axes.set_xticks(NODES, [str(nodes) for nodes in NODES])
    ticks = (1, 1.5, 2, 3, 4, 6, 8)
    axes.set_ylim(0.95, ticks[-1] * 1.05)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    lines = sorted(axes.get_lines(), key=lambda line: -line.get_ydata()[-1])  # as they lie, from above
    axes.legend(handles=lines, loc="upper left", frameon=False)
    figure.supxlabel(
        "Computed by perf/scale.py. Full and dashed lines meet where the number of primaries divides 64.",
        fontsize=8, x=0.01, ha="left",
    )  # fmt: skip
    figure.savefig(path, dpi=DPI)


def made_of(figures: Mapping[str, Any], skews: Sequence[Sequence[Any]]) -> dict[str, str]:
    """Return the page's tables by their names."""
    inputs = [
        (row["features"], row["partitions"] or "none", f"{row['bytes_a_user']:.0f}", f"{row['members_a_user']:.0f}",
         f"{row['schema_copy']:,.0f}", f"{row['us_a_get']:.1f}", f"{row['us_a_batch']:.0f}")
        for row in figures["rows"]
    ]  # fmt: skip
    heads = ("users", "requests/s", "primaries", "replicas", "decided by", "GiB of data a primary", "GiB a server",
             "GiB in all", "workers", "P")  # fmt: skip
    parts = [
        (p, CALLS_OF_BATCH[p], f"{BATCH_RELATIVE[p]:.2f}", f"{p * MOST_IDS_MOVED / 1e6:g} M") for p in BATCH_RELATIVE
    ]
    return {
        "machine": f"Measured: {figures['users']:,} users on {figures['machine']}.",
        "inputs": table(("features", "P", "bytes a user", "of it in the set of ids", "bytes a schema copy", "µs a GET",
                         "µs a batch of 100"), inputs),
        "gets": table(heads, step_rows(figures, batch=False)),
        "batches": table(heads, step_rows(figures, batch=True)),
        "skew": table(("P", "of", *(f"{nodes} nodes" for nodes in NODES)), skews),
        "hottest": table(("Zipf", "hottest id", "hottest 10", "hottest 100", "hottest 1,000"), hottest_rows()),
        "partitions": table(("P", "calls for 100 ids", "Redis's time a batch", "users at 50,000 a partition"), parts),
    }  # fmt: skip


def main() -> None:
    """Measure, and make the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--made", action="store_true", help="measure nothing")
    if not parser.parse_args().made:
        FIGURES.write_text(json.dumps(measured(), indent=1) + "\n")
    figures = msgspec.json.decode(FIGURES.read_bytes())
    skews, drawn = skew_rows()
    draw(drawn, DOCS / "performance" / "skew.png")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made_of(figures, skews)), encoding="utf-8")


if __name__ == "__main__":
    main()
