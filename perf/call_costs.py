"""Measure the constants of featurestore/contract/costs.py, and how long calls hold Redis that are sized by them.

The stores do what callers have them do, with rows of 10 to 500 features, and Redis's slow log has each call: how many
entities, how long. Each line tells what an entity takes beside what the constants say, how many are in a call, and how
long a call usually is, and at most; a call should hold Redis for no more than 1 ms. A straight line through the widths
of each kind of call (least squares) gives the constants. The constants are for sizing, so they may lie on the dear
side. Takes half a minute by its defaults.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np
import redis
from featurestore.ingest.writer import BulkWriter
from figures import Figures, add_out
from servers import redis_server

from featurestore import Definition, FeatureStore, Keys
from featurestore.contract import costs, scripts
from featurestore.contract.scripts import Script
from featurestore.store.maintenance import repack, sweep
from featurestore.store.retirement import clear, retire

MOST_US = 1000.0
WIDTHS = (10, 50, 200, 500)
WINDOWS = (1, 4, 16)
LENGTHS = (128, 1024)
FEW = 100  # entities that are incremented or deleted, one a call
TYPES = ("float", "float", "int", "string")


class Call(msgspec.Struct):
    """One call in the slow log: how many entities it had, and how long it took."""

    entities: int
    us: int


class Entity:
    """Entities of one kind with their store, and the rows that are written.

    Args:
        url: Redis's address.
        name: The entity's.
        features: Its features and their types.
        rows: How many there are.
    """

    def __init__(self, url: str, name: str, features: dict[str, str], rows: int) -> None:
        self.features, self.columns = features, [*features]
        self.keys = Keys.of(name)
        self.store = FeatureStore.connect(url, timeout=30, keys=self.keys)
        self.store.apply(Definition(features, entity=name))  # type: ignore[arg-type]
        self.writer = BulkWriter(url, keys=self.keys, timeout=30)
        self.ids = [f"user{number:05d}" for number in range(rows)]
        kinds = list(enumerate(features.values()))
        self.rows = [
            (each, *(value_of(kind, row + place) for place, kind in kinds)) for row, each in enumerate(self.ids)
        ]
        self.client = redis.Redis.from_url(url)

    def write(self) -> None:
        """Write all rows whole."""
        assert self.store.upsert_table(self.columns, self.rows).written == len(self.rows)

    def forget_rows(self) -> None:
        """Drop the packed rows, so that nothing is stored ready."""
        pipeline = self.client.pipeline(transaction=False)
        for each in self.ids:
            pipeline.hdel(self.keys.features(each), "@row")
        pipeline.execute()

    def calls(self, script: Script, work: Callable[[], Any]) -> list[Call]:
        """Do the work, and return its calls of the script."""
        self.client.slowlog_reset()
        work()
        entries = self.client.slowlog_get(1_000_000)
        words = [(entry["command"].split(b" ", 3), entry["duration"]) for entry in entries]
        return [Call(int(word[2]) - 2, us) for word, us in words
                if word[0].upper() == b"EVALSHA" and word[1] == script.sha.encode()]  # fmt: skip

    def close(self) -> None:
        """Close the connections."""
        self.store.close()
        self.writer.close()
        self.client.close()


def value_of(kind: str, number: int) -> Any:
    """Return a value of that type."""
    if kind == "string":
        return f"text{number % 50}"
    if kind.startswith("float32"):
        return np.random.default_rng(number).normal(0, 0.1, int(kind[8:-1])).astype("<f4")
    return number if kind == "int" else number / 7


class Lines:
    """The lines of the table, and the times of an entity by the number of its features."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._times: dict[str, list[tuple[int, float]]] = {}

    def add(
        self, what: str, size: int, unit: str, rounds: list[list[Call]], *, served: int, said: float | None
    ) -> None:
        """Add a line.

        Args:
            what: The kind of call.
            size: How many features or windows an entity has, or numbers a vector.
            unit: Which of them.
            rounds: What the slow log has of each.
            served: How many entities were read or written in a round. A call may leave some to the next.
            said: What the constants say that an entity takes, in µs; None if they say nothing.
        """
        each = statistics.median(sum(call.us for call in calls) / served for calls in rounds)
        took = [call.us for calls in rounds for call in calls]
        most, usual = max(call.entities for calls in rounds for call in calls), statistics.median(took)
        self._times.setdefault(what, []).append((size, each))
        constants = "" if said is None else f" (the constants say {said:.1f})"
        self._figures.add(f"{what}, {size} {unit}", f"{each:.2f} µs an entity{constants}, up to {most} a call: "
                          f"usually {usual:.0f} µs, at most {max(took)} µs", wanted="usually at most 1 ms",
                          reached=usual <= MOST_US)  # fmt: skip

    def fit(self) -> None:
        """Tell the constants that fit best."""
        for what, times in self._times.items():
            if len(times) > 1:
                sizes, took = zip(*times, strict=True)
                each, once = np.polyfit(sizes, took, 1, w=1 / np.array(took))  # by how far off in proportion
                self._figures.add(f"{what}: the straight line", f"{once:.1f} µs once and {each:.3f} µs for each")


def said(once: str, each: str, count: float) -> float | None:
    """Return what two constants say that an entity takes, None if there is none of that name."""
    constants = vars(costs)
    if once not in constants or each not in constants:
        return None
    return float(constants[once]) + float(constants[each]) * count


def retire_one(entity: Entity) -> None:
    """Write one feature more of every entity, and retire it."""
    entity.store.apply(Definition({"going": "int"}, entity=entity.store.keys.entity))
    entity.store.upsert_table(["going"], [(each, 1) for each in entity.ids])
    retire(entity.store, ["going"])
    for _ in clear(entity.store):
        pass


def measure(entity: Entity, lines: Lines, rounds: int) -> None:
    """Measure reads, writes and maintenance of entities with scalar features."""
    count, store, write = len(entity.columns), entity.store, entity.columns[:1]
    stored = said("STORED_ROW_US", "STORED_VALUE_US", count)
    made = (stored or 0) + vars(costs).get("CAST_VALUE_US", 0) * count
    written = said("WRITTEN_ROW_US", "WRITTEN_VALUE_US", count)
    merged = said("MERGED_ROW_US", "MERGED_VALUE_US", count + 1)
    replaced = said("REPLACED_ROW_US", "REPLACED_VALUE_US", count)
    repacked = said("REPACKED_ROW_US", "REPACKED_VALUE_US", count)
    member = vars(costs).get("MEMBER_US")
    one_feature = [(row[0], row[1]) for row in entity.rows]
    work: dict[str, tuple[Script, Callable[[], Any], float | None, bool]] = {
        "read, stored ready": (scripts.GET_FEATURES_BATCH, lambda: store.get_many(entity.ids), stored, False),
        "read, nothing stored ready": (scripts.GET_FEATURES_BATCH, lambda: store.get_many(entity.ids), made, True),
        "upsert of whole rows": (scripts.UPSERT_FEATURES, entity.write, written, False),
        "upsert of one feature": (
            scripts.UPSERT_FEATURES, lambda: store.upsert_table(write, one_feature), merged, False),
        "bulk write of whole rows": (
            scripts.REPLACE_ROWS, lambda: entity.writer.write_table(entity.columns, entity.rows), replaced, False),
        "increment": (
            scripts.INCREMENT_FEATURES, lambda: [store.increment(each, {write[0]: 1}) for each in entity.ids[:FEW]],
            merged, False),
        "repack": (scripts.REPACK_ROWS, lambda: list(repack(store)), repacked, True),
        "sweep": (scripts.SWEEP_MEMBERS, lambda: list(sweep(store)), member, False),
    }  # fmt: skip
    for what, (script, does, constants, unready) in work.items():
        found = []
        for _ in range(rounds):
            if unready:
                entity.forget_rows()
            else:
                entity.write()
            found.append(entity.calls(script, does))
        served = FEW if script == scripts.INCREMENT_FEATURES else len(entity.ids)
        lines.add(what, count, "features", found, served=served, said=constants)
    cleared = said("REPACKED_ROW_US", "REPACKED_VALUE_US", count)
    once = sum(vars(costs).get(name, 0.0) for name in ("CLEARED_ROW_US", "CLEARED_NAME_US"))
    found = [entity.calls(scripts.CLEAR_HASHES, partial(retire_one, entity)) for _ in range(rounds)]
    lines.add("retirement", count, "features", found, served=len(entity.ids), said=cleared and cleared + once)
    entity.write()
    deleted = entity.calls(scripts.DELETE_ENTITY, lambda: [store.delete(each) for each in entity.ids[:FEW]])
    lines.add("deletion", count, "features", [deleted], served=FEW, said=None)


def measure_windows(entity: Entity, windows: int, lines: Lines, options: argparse.Namespace) -> None:
    """Measure events of entities with sliding windows."""
    events = [(f"user{row:05d}", {"amount": 2.5}) for row in range(options.rows)]
    found = [entity.calls(scripts.RECORD_EVENTS, lambda: entity.store.record(events)) for _ in range(options.rounds)]
    lines.add("event", windows, "windows", found, served=options.rows, said=said("EVENT_US", "WINDOW_US", windows))


def measure_vectors(entity: Entity, length: int, lines: Lines, options: argparse.Namespace) -> None:
    """Measure entities with one vector."""
    found = [entity.calls(scripts.UPSERT_FEATURES, entity.write) for _ in range(options.rounds)]
    lines.add("upsert of a vector", length, "numbers", found, served=options.rows, said=None)
    found = [entity.calls(scripts.GET_FEATURES_BATCH, lambda: entity.store.get_many(entity.ids, ["embedding"]))
             for _ in range(options.rounds)]  # fmt: skip
    lines.add("read of a vector", length, "numbers", found, served=options.rows, said=None)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000, help="entities of each width")
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    with redis_server() as port, Figures("call_costs", "What calls take of Redis's one thread", options) as figures:
        url, lines = f"redis://127.0.0.1:{port}/0", Lines(figures)
        client = redis.Redis.from_url(url)
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 1_000_000)
        client.close()
        for width in WIDTHS:
            features = {f"feature_{place:03d}": TYPES[place % len(TYPES)] for place in range(width)}
            entity = Entity(url, f"wide{width}", features, options.rows)
            entity.write()
            measure(entity, lines, options.rounds)
            entity.close()
        for windows in WINDOWS:
            features = {"age": "float", **{f"spent_{place}": f"sum(amount, {place + 1}h)" for place in range(windows)}}
            entity = Entity(url, f"windows{windows}", features, 0)
            measure_windows(entity, windows, lines, options)
            entity.close()
        for length in LENGTHS:
            entity = Entity(url, f"vector{length}", {"embedding": f"float32[{length}]"}, options.rows)
            measure_vectors(entity, length, lines, options)
            entity.close()
        lines.fit()


if __name__ == "__main__":
    main()
