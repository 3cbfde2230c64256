"""A schema of scalars, rows that give all of its features, and what Redis did with them."""

from typing import Any

from featurestore import Definition, FeatureStore

FEATURES: dict[str, Any] = {"f": "float", "i": "int", "b": "bool", "s": "string", "f.2": "float"}
COLUMNS = ("s", "f", "f.2", "i", "b")  # not in the schema's order
PLAIN = ("x", 1.5, 2.0, 7, True)
TIME = 1_700_000_000_123


def empty(store: FeatureStore) -> None:
    """Take all entities away."""
    store.transport.command("FLUSHALL")
    store.apply(Definition(features=FEATURES))


def calls_of(store: FeatureStore) -> dict[str, int]:
    """Return how often each command ran since the statistics were reset."""
    lines = store.transport.command("INFO", "commandstats").decode().splitlines()
    found = dict(line.removeprefix("cmdstat_").split(":", 1) for line in lines if line.startswith("cmdstat_"))
    return {name: int(stats.removeprefix("calls=").split(",")[0]) for name, stats in found.items()}
