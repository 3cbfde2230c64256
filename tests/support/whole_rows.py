"""A schema of scalars, rows that give all of its features, and what Redis did with them."""

from typing import Any

from featurestore import Definition, FeatureStore

FEATURES: dict[str, Any] = {"f": "float", "i": "int", "b": "bool", "s": "string", "f.2": "float"}
COLUMNS = ("s", "f", "f.2", "i", "b")  # not in the schema's order
PLAIN = ("x", 1.5, 2.0, 7, True)
TIME = 1_700_000_000_123
_TIME_AND_TTL = """
local time = redis.call('TIME')
local left = redis.call('PTTL', KEYS[1])
return left < 0 and left or time[1] * 1000 + math.floor(time[2] / 1000) + left
"""


def empty(store: FeatureStore) -> None:
    """Take all entities away."""
    store.transport.command("FLUSHALL")
    store.apply(Definition(features=FEATURES))


def calls_of(store: FeatureStore) -> dict[str, int]:
    """Return how often each command did its work since the statistics were reset.

    Calls that failed do not count: on Redis 6.2 a script asks by them what its user may do.
    """
    lines = store.transport.command("INFO", "commandstats").decode().splitlines()
    found = dict(line.removeprefix("cmdstat_").split(":", 1) for line in lines if line.startswith("cmdstat_"))
    counts = {name: dict(part.split("=") for part in stats.split(",")) for name, stats in found.items()}
    return {name: int(count["calls"]) - int(count["failed_calls"]) for name, count in counts.items()}


def expires_at(store: FeatureStore, key: str) -> int:
    """Return when a key expires, in ms since 1970; -1 if never. Redis 6.2 tells how long that is from now."""
    command = store.transport.command
    if command("COMMAND", "INFO", "PEXPIRETIME") != [None]:
        return int(command("PEXPIRETIME", key))
    # Another ms may begin between the two, and makes the sum too small.
    return max(int(command("EVAL", _TIME_AND_TTL, 1, key)) for _ in range(5))
