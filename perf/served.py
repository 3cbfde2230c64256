"""What it costs to keep what a service is served: GETs and batches by services that keep nothing, 1 % and all of it.

One server and one Redis; the services list the same features, and take turns, so that all meet the same machine. Of the
rounds the medians count, and the ratio is to the service that keeps nothing. Tells how many rows were lost, too: a
server that is asked for more than Redis takes loses some, and counts them. Takes half a minute by its defaults.
"""

import argparse
import re
import statistics
from urllib.request import urlopen

from featurestore.ingest.simulator import COLUMNS, Simulator
from servers import feature_store, load, redis_server

from featurestore import Definition, FeatureStore, read_definition
from featurestore.schema.services import LogDefinition, ServiceDefinition

SAMPLES = {"nothing": None, "hundredth": 0.01, "all": 1.0}
"""Service → which part of the requests is kept."""

MOST_ENTRIES = 100_000


def declare(store: FeatureStore) -> None:
    """Declare the features of the package's schema, and services of all of them."""
    names = list(COLUMNS)
    services = {
        name: ServiceDefinition(names, None if sample is None else LogDefinition(sample, max_entries=MOST_ENTRIES))
        for name, sample in SAMPLES.items()
    }
    store.apply(Definition(read_definition().features, services=services))


def rows_of(port: int) -> dict[str, float]:
    """Return how many rows the server has kept and lost, as it counts them."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'^featurestore_served_rows_total\{outcome="(\w+)"\} (\S+)', text, re.MULTILINE)
    return {outcome: float(count) for outcome, count in found}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=1, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    shapes = {"GET": ("uniform", 1), "batch of 100": ("batch", 100)}
    rates: dict[tuple[str, str], list[float]] = {}
    kept: dict[tuple[str, str], list[float]] = {}
    with redis_server() as redis_port:
        url = f"redis://127.0.0.1:{redis_port}/0"
        with FeatureStore.connect(url, timeout=10) as store:
            declare(store)
            rows = list(Simulator(options.users, seed=7).everyone())
            for first in range(0, len(rows), 1000):
                store.upsert_table(COLUMNS, rows[first : first + 1000])
        with feature_store(url, "featurestore", 1) as (port, _):
            for _ in range(options.rounds):
                for shape, (kind, ids) in shapes.items():
                    for service in SAMPLES:
                        before = rows_of(port)
                        run = load(
                            service, port, kind, options.connections, seconds=options.seconds, users=options.users,
                            path=f"/features/%s?service={service}", ids=ids, rest=f',"service":"{service}"',
                        )  # fmt: skip
                        after = rows_of(port)
                        assert not run.errors, f"{run.errors} requests of {run.requests} failed"
                        rates.setdefault((shape, service), []).append(run.rate)
                        lost, done = (after[each] - before[each] for each in ("lost", "kept"))
                        kept.setdefault((shape, service), []).append(lost / max(1.0, lost + done))
    print("| requests | kept | requests/s | ratio | lost of what was chosen |\n|---|---|---:|---:|---:|")
    for (shape, service), found in rates.items():
        rate, base = statistics.median(found), statistics.median(rates[shape, "nothing"])
        lost = statistics.median(kept[shape, service])
        print(f"| {shape} | {service} | {rate:,.0f} | {rate / base:.2f} | {lost:.1%} |")


if __name__ == "__main__":
    main()
