"""How much of Redis's one thread reads take, by INFO commandstats, and what a user costs in memory.

Compares the scripts with native HGETALL on the same users, in turn. A batch is of the same 100 users each time, whose
data are in the processor's caches then; `script_time.py` has what a batch of others takes.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable
from typing import Any

import redis
from featurestore.ingest.simulator import COLUMNS, Simulator
from featurestore.ingest.writer import BulkWriter
from figures import add_out, keep
from servers import redis_server

from featurestore import FeatureStore, Keys, read_definition
from featurestore.contract.read_calls import ReadCalls
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.contract.words import encode_id


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000, help="100 or more")
    parser.add_argument("--repeats", type=int, default=300, help="reads of each kind in a round")
    parser.add_argument("--rounds", type=int, default=15)
    add_out(parser)
    options = parser.parse_args()
    users, repeats = options.users, options.repeats
    with redis_server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        client = redis.Redis.from_url(url)
        with FeatureStore.connect(url, timeout=5) as store:
            store.apply(read_definition())
            rows = list(Simulator(users, seed=7).everyone())
            writer = BulkWriter(url)
            writer.write_table(COLUMNS, rows)
            writer.close()
            ids = [f"user{number:05d}" for number in range(0, users, users // 100)]
            # One at a time, each read is for another user, as it is for those who serve: their data are in no cache.
            plain_turns, turns = itertools.cycle(row[0] for row in rows), itertools.cycle(row[0] for row in rows)
            names = list(COLUMNS)
            # The store would read the packed row, and pick.
            keys = Keys()
            calls, run = ReadCalls(keys, names), store.transport.run_many_encoded
            layout = (store.schema().layout,)
            singles = [
                encode_call(
                    GET_FEATURES,
                    (keys.members, keys.schema, keys.features(each)),
                    (each, *layout),
                )
                for each in ids
            ]

            def pipelined() -> None:
                pipeline = client.pipeline(transaction=False)
                for entity_id in ids:
                    pipeline.hgetall(f"plain:{entity_id}")
                pipeline.execute()

            for first in range(0, users, 1000):
                pipeline = client.pipeline(transaction=False)
                for entity_id, *values in rows[first : first + 1000]:
                    pipeline.hset(f"plain:{entity_id}", mapping=dict(zip(COLUMNS, values, strict=True)))
                pipeline.execute()
            one, hundred, again = "HGETALL", "100 x HGETALL in a pipeline", "HGETALL, the same user again and again"
            reads: dict[str, tuple[str, str, Callable[[], Any]]] = {
                one: (one, "hgetall", lambda: client.hgetall(f"plain:{next(plain_turns)}")),
                "get_features, packed row": (one, "evalsha", lambda: store.get(next(turns))),
                "get_features, names (fields and cast)": (
                    one,
                    "evalsha",
                    lambda: run(GET_FEATURES, [calls.one(encode_id(next(turns)))]),
                ),
                again: (again, "hgetall", lambda: client.hgetall(f"plain:{ids[0]}")),
                "get_features, likewise": (again, "evalsha", lambda: store.get(ids[0])),
                hundred: (hundred, "hgetall", pipelined),
                "100 x get_features, packed rows": (
                    hundred,
                    "evalsha",
                    lambda: store.transport.run_many_encoded(GET_FEATURES, singles),
                ),
                "get_features_batch of 100, packed rows": (hundred, "evalsha", lambda: store.get_many(ids)),
                "get_features_batch of 100, names": (
                    hundred,
                    "evalsha",
                    lambda: run(GET_FEATURES_BATCH, [calls.many(ids)]),
                ),
            }
            times: dict[str, list[float]] = {name: [] for name in reads}
            for _ in range(options.rounds):
                for name, (_, command, call) in reads.items():
                    for _ in range(repeats):  # uncounted: what the read before left for Lua's collector
                        call()
                    client.config_resetstat()
                    for _ in range(repeats):
                        call()
                    times[name].append(client.info("commandstats")[f"cmdstat_{command}"]["usec"] / repeats)
            found = {name: statistics.median(values) for name, values in times.items()}
            ratios = {name: microseconds / found[reads[name][0]] for name, microseconds in found.items()}
            keep(options.out, "redis_time", {name: [found[name], ratios[name]] for name in found})
            for name, microseconds in found.items():
                ratio = ratios[name]
                print(f"{name:40} {microseconds:8.1f} us   {ratio:5.2f} of HGETALL")

            def size(key: str) -> float:
                return statistics.mean(
                    float(client.memory_usage(key.format(entity_id), samples=0) or 0) for entity_id in ids
                )

            mean, plain_mean = size("user:{}:features"), size("plain:{}")
            client.config_set("hash-max-listpack-value", 64)
            store.upsert_table(names, [row for row in rows if row[0] in set(ids)])
            print(f"memory a user: {mean:.0f} bytes, {plain_mean:.0f} as plain fields alone: {mean / plain_mean:.2f}")
            print(f"with Redis's default for hash-max-listpack-value, 64: {size('user:{}:features'):.0f} bytes")
        client.close()


if __name__ == "__main__":
    main()
