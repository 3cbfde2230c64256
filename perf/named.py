"""Named features: what they cost by name and by layout, and from how many on the packed row is the cheaper way.

Rows have floats, ints and short texts, like the package's schema. Of each width, some features are read of 100
entities at a time in both ways. Redis's share is by INFO commandstats; the caller's is its own processor time, from the
call to the JSON of a response. Both ways take turns, and of the rounds the medians count. µs an entity.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from servers import redis_server

from featurestore import Definition, FeatureStore, Keys
from featurestore.contract import read_costs
from featurestore.contract.selection import Batch, Selection
from featurestore.schema.stored import Schema
from featurestore.store.batches import read_many

IDS = 100
AGED = ("?metadata",)


def values_of(kinds: Sequence[str], chance: random.Random) -> list[Any]:
    """Return a row of values as users have them."""
    makers: dict[str, Callable[[], Any]] = {
        "float": lambda: round(chance.uniform(0, 1000), chance.choice([0, 2, 6])),
        "int": lambda: chance.randrange(100_000),
        "string": lambda: chance.choice(["DE", "tablet", "fashion", "electronics"]),
    }
    return [makers[kind]() for kind in kinds]


class Ways:
    """One entity's features, read by name and by layout.

    Args:
        url: Redis's address.
        width: How many features the packed row has.
        rows: How many entities there are.
    """

    def __init__(self, url: str, width: int, rows: int) -> None:
        chance = random.Random(width)
        kinds = [chance.choice(["float", "float", "int", "string"]) for _ in range(width)]
        self.features: dict[str, str] = {f"feature_{number:03d}": kind for number, kind in enumerate(kinds)}
        entity = f"wide{width}"
        self.store = FeatureStore.connect(url, timeout=10, keys=Keys.of(entity))
        self.store.apply(Definition({**self.features}, entity=entity))
        self.schema: Schema = self.store.schema()
        self.ids = [f"user{number:05d}" for number in range(rows)]
        table = [(each, *values_of(kinds, chance)) for each in self.ids]
        for first in range(0, rows, IDS):
            self.store.upsert_table(list(self.features), table[first : first + IDS])
        self._stats = redis.Redis.from_url(url)

    def close(self) -> None:
        """Close the connections."""
        self.store.close()
        self._stats.close()

    def selection(self, names: Sequence[str], *, by_layout: bool) -> Selection:
        """Return the selection of these features that asks in one of the two ways."""
        types = [self.features[name] for name in names]
        words = [self.schema.layout] if by_layout else names
        row = self.schema.row if by_layout else None
        return Selection(names, types, words, "user_id", row).for_keys(self.store.keys)

    def took(self, selection: Selection, options: tuple[str, ...], calls: int) -> tuple[float, float]:
        """Return what an entity takes of Redis and of the caller, in µs."""
        batches = [Batch(selection, random.sample(self.ids, IDS), options) for _ in range(calls)]
        self._stats.config_resetstat()
        began = time.process_time()
        for batch in batches:
            (replies,) = self.store._run(read_many([batch]))  # noqa: SLF001 - one way, not the store's choice
            if options:
                assert None not in [row for reply in replies for row in selection.decode_fresh(reply)]
            else:
                assert b"null" not in selection.renderer.many(list(batch.ids), replies)
        own = time.process_time() - began
        of_redis = self._stats.info("commandstats")["cmdstat_evalsha"]["usec"]
        return of_redis / calls / IDS, own * 1e6 / calls / IDS

    def measured(self, count: int, options: tuple[str, ...], rounds: int, calls: int) -> list[float]:
        """Return the medians of both ways: of Redis and the caller by names, then by layout."""
        names = random.sample(list(self.features), count)
        ways = [self.selection(names, by_layout=way) for way in (False, True)]
        found = [[share for way in ways for share in self.took(way, options, calls)] for _ in range(rounds)]
        return [statistics.median(column) for column in zip(*found, strict=True)]


def counts_of(width: int) -> list[int]:
    """Return how many of so many features are asked for."""
    return sorted({1, 2, 3, 5, 10, width // 10, width // 4, width // 2, width} & set(range(1, width + 1)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[14, 50, 200, 500])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20)
    options = parser.parse_args()
    print("| features | by name: Redis | caller | by layout: Redis | caller | cheaper | chosen |")
    print("|---|---:|---:|---:|---:|---|---|")
    with redis_server() as port:
        for width in options.widths:
            ways = Ways(f"redis://127.0.0.1:{port}/0", width, options.rows)
            for asked, words in (("", ()), (", with statuses", AGED)):
                for count in counts_of(width):
                    shares = ways.measured(count, words, options.rounds, options.calls)
                    kinds = list(ways.features.values())
                    chosen = read_costs.by_layout_is_cheaper(kinds, kinds[:count], aged=bool(words))
                    cheaper = sum(shares[2:]) <= sum(shares[:2])
                    cells = " | ".join(f"{share:.2f}" for share in shares)
                    way = [{True: "layout", False: "names"}[each] for each in (cheaper, chosen)]
                    print(f"| {count} of {width}{asked} | {cells} | {way[0]} | {way[1]} |", flush=True)
            ways.close()


if __name__ == "__main__":
    main()
