"""What each script costs Redis's one thread, by INFO commandstats: the table of docs/direct.md.

Users have the 10 features of the package's schema, places these and a vector of 128. Each call is for others of 20,000,
so that their data are in no cache. Calls are sent one at a time, in turn by EVALSHA and by FCALL. Of the rounds the
medians count: of the times by EVALSHA, and of what FCALL took of the same round's.
"""

import argparse
import itertools
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis
from featurestore.ingest.simulator import COLUMNS, Simulator
from featurestore.ingest.writer import BulkWriter
from servers import redis_server

from featurestore import Definition, FeatureStore, Keys, read_definition
from featurestore.contract.doors import as_function_call
from featurestore.contract.library import function_library
from featurestore.contract.resp import Word, encode_call, encode_command
from featurestore.contract.row_calls import row_calls_for
from featurestore.contract.scripts import (
    APPLY_SCHEMA,
    CLEAR_HASHES,
    COPY_ENTITIES,
    COPY_SCHEMA,
    COUNT_ENTRIES,
    DELETE_ENTITY,
    DESCRIBE_ENTITY,
    DROP_ENTITY,
    FREE_NAMES,
    GET_FEATURES,
    GET_FEATURES_BATCH,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    REPACK_ROWS,
    RETIRE_FEATURES,
    SWEEP_MEMBERS,
    TAKE_TOKENS,
    UPSERT_FEATURES,
    Script,
)
from featurestore.contract.served import Occasion, ServedRow, served_calls
from featurestore.keys import bucket_of
from featurestore.schema.services import LogDefinition, ServiceDefinition

SCHEMA = "user:schema"
VECTOR = 128
ROWS = 100
Calls = Iterator[bytes]


class Users:
    """Twenty thousand users, whom calls take in turn."""

    def __init__(self, count: int) -> None:
        self.rows = list(Simulator(count, seed=7).everyone())
        self._turns = itertools.cycle(self.rows)

    def some(self, count: int) -> list[Sequence[Any]]:
        """Return the next rows."""
        return list(itertools.islice(self._turns, count))

    def calls(
        self, script: Script, count: int, words: Callable[[list[Sequence[Any]]], list[Word]], entity: str = "user"
    ) -> Calls:
        """Yield calls for the next users, or what else has their ids, without an end."""
        while True:
            rows = self.some(count)
            keys = [f"all_{entity}s", f"{entity}:schema", *(f"{entity}:{row[0]}:features" for row in rows)]
            yield encode_call(script, keys, words(rows))


def text_of(value: Any) -> str:
    """Return a value as a script takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def ids_of(rows: list[Sequence[Any]]) -> list[Any]:
    """Return the ids of rows."""
    return [row[0] for row in rows]


def measured(users: Users, store: FeatureStore, places: str, writer: Any) -> dict[str, tuple[Calls, int]]:
    """Return the calls of each line of the table, and how many rows one has; `places` is the layout of places."""
    layout, names = store.schema().layout, list(COLUMNS)
    plain = (encode_command(("HGETALL", f"plain:{users.some(1)[0][0]}")) for _ in itertools.count())

    def upsert(time: str, columns: list[str]) -> Callable[[list[Sequence[Any]]], list[Word]]:
        places = [names.index(column) + 1 for column in columns]
        return lambda rows: [
            time,
            len(columns),
            *columns,
            *(w for row in rows for w in (row[0], *(text_of(row[place]) for place in places))),
        ]

    def copied(row: Sequence[Any]) -> list[Word]:
        fields = [word for name, value in zip(names, row[1:], strict=True) for word in (name, text_of(value))]
        return [row[0], "1", "", len(names) + 2, *fields, "@event_time", "1700000000000", "@row", f"{layout}\x90"]

    def whole() -> Calls:
        while True:
            encoded = writer.encode(Keys(), users.some(ROWS))
            assert encoded is not None
            yield encoded

    def events() -> Calls:
        while True:
            ids = ids_of(users.some(ROWS))
            keys = ["all_items", "item:schema", *(f"item:{each}:features" for each in ids)]
            yield encode_call(RECORD_EVENTS, keys, ["", 1, "amount", *(w for each in ids for w in (each, "2.5"))])

    def entries() -> Calls:
        for number in itertools.count():
            ids = ids_of(users.some(ROWS))
            keys = ["all_users", "user:schema", "user:clicks:counted", *(f"user:{each}:features" for each in ids)]
            words = (w for place, each in enumerate(ids) for w in (each, f"{number}-{place}", "1"))
            yield encode_call(COUNT_ENTRIES, keys, ["", 3, "?increments", "@entry_id", "n_logins", *words])

    def served() -> Calls:
        columns = {name: store.schema().features[name] for name in names}
        occasion = Occasion(Keys(), "kept", 1, "request-1")
        while True:
            rows = [
                ServedRow({"user": (row[0], 1_700_000_000_000)}, row[1:], "P" * len(names)) for row in users.some(ROWS)
            ]
            ((encoded, _),) = served_calls(occasion.pieces(columns, rows))
            yield encoded

    def again(script: Script, keys: list[Word], *words: Word) -> Calls:
        return itertools.repeat(encode_call(script, keys, words))

    def same(script: Script, *words: Word) -> Calls:
        return again(script, [SCHEMA], *words)

    one, many = 1, ROWS
    flat = store.transport.command("HGETALL", SCHEMA)
    copy = [*flat, "@partitions", "1"]
    store.transport.run(COPY_SCHEMA, ["{1}copy:schema"], copy)
    return {
        "plain `HGETALL`, for comparison": (plain, one),
        "`get_features` by layout": (users.calls(GET_FEATURES, 1, lambda rows: [*ids_of(rows), layout]), one),
        "`get_features` by 10 names": (users.calls(GET_FEATURES, 1, lambda rows: [*ids_of(rows), *names]), one),
        "`get_features` by layout with `?metadata`": (
            users.calls(GET_FEATURES, 1, lambda rows: [*ids_of(rows), "?metadata", layout]), one),
        "`get_features` by layout, and a vector of 128": (
            users.calls(GET_FEATURES, 1, lambda rows: [*ids_of(rows), places, "embedding"], "place"), one),
        "`get_features_batch` by layout, an entity": (
            users.calls(GET_FEATURES_BATCH, ROWS, lambda rows: [1, layout, *ids_of(rows)]), many),
        "`get_features_batch` by layout, and a vector of 128, an entity": (
            users.calls(GET_FEATURES_BATCH, ROWS, lambda rows: [2, places, "embedding", *ids_of(rows)], "place"), many),
        "`get_features_batch` by layout with `?metadata`, an entity": (
            users.calls(GET_FEATURES_BATCH, ROWS, lambda rows: [2, "?metadata", layout, *ids_of(rows)]), many),
        "`get_features_batch` by 10 names, an entity": (
            users.calls(GET_FEATURES_BATCH, ROWS, lambda rows: [10, *names, *ids_of(rows)]), many),
        "`describe_entity`": (same(DESCRIBE_ENTITY), one),
        "`upsert_features`, one whole row a call": (users.calls(UPSERT_FEATURES, 1, upsert("", names)), one),
        "`upsert_features`, whole rows, a row": (users.calls(UPSERT_FEATURES, ROWS, upsert("", names)), many),
        "`upsert_features`, one feature, a row": (users.calls(UPSERT_FEATURES, ROWS, upsert("", names[:1])), many),
        "`replace_rows`, a row": (whole(), many),
        "`increment_features`, one number": (
            users.calls(INCREMENT_FEATURES, 1, lambda rows: [*ids_of(rows), "", "n_logins", "1"]), one),
        "`record_events`, two windows, an event": (events(), many),
        "`count_entries`, one number, an entry": (entries(), many),
        "`log_served`, 10 features, a row": (served(), many),
        "`repack_rows` where nothing is to do, an entity": (users.calls(REPACK_ROWS, ROWS, ids_of), many),
        "`copy_entities` in place of what is there, an entity": (
            users.calls(COPY_ENTITIES, ROWS, lambda rows: ["none", *(w for row in rows for w in copied(row))]), many),
        "`sweep_members` where nobody is gone, an entity": (users.calls(SWEEP_MEMBERS, ROWS, ids_of), many),
        "`apply_schema` where nothing changes": (same(APPLY_SCHEMA, "n_logins", "int"), one),
        "`delete_entity` with a tombstone": (users.calls(DELETE_ENTITY, 1, lambda rows: [*ids_of(rows), ""]), one),
        "`retire_features` where that is done": (same(RETIRE_FEATURES, "going"), one),
        "`clear_hashes` where nothing is to do, an entity": (users.calls(CLEAR_HASHES, ROWS, ids_of), many),
        "`free_names` where nothing is free": (same(FREE_NAMES, "going", "0"), one),
        "`drop_entity` where that is done": (again(DROP_ENTITY, ["all_gones", "gone:schema"]), one),
        "`copy_schema` where the copy is as new": (again(COPY_SCHEMA, ["{1}copy:schema"], *copy), one),
        "`take_tokens` of a bucket that has some": (
            again(TAKE_TOKENS, [bucket_of("a")], "1000000000", "1000000000", "1"), one),
    }  # fmt: skip


def declare_places(places: FeatureStore, users: Users) -> str:
    """Store a place for each user, with what the user has and a vector; return the layout of places."""
    features = {**read_definition().features, "embedding": f"float32[{VECTOR}]"}
    places.apply(Definition(features, entity="place"))
    draw = random.Random(7)
    vectors = [[draw.gauss(0, 1) for _ in range(VECTOR)] for _ in range(100)]
    rows = (
        (row[0], {**dict(zip(COLUMNS, row[1:], strict=True)), "embedding": draw.choice(vectors)}) for row in users.rows
    )
    places.upsert(rows)
    return places.schema().layout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=200, help="of each kind in a round")
    parser.add_argument("--rounds", type=int, default=10, help="an even number: each door is first in half of them")
    options = parser.parse_args()
    with redis_server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        client, users = redis.Redis.from_url(url), Users(options.users)
        connection = client.connection_pool.get_connection()
        with FeatureStore.connect(url, timeout=5) as store:
            store.apply(read_definition())
            store.apply(Definition({"going": "int"}))
            kept = ServiceDefinition(list(COLUMNS), LogDefinition(max_entries=10_000))
            store.apply(Definition({}, services={"kept": kept}))
            store.transport.run(RETIRE_FEATURES, [SCHEMA], ["going"])
            names = Keys.of("gone")
            with FeatureStore.connect(url, timeout=5, keys=names) as gone:
                gone.apply(Definition({"n": "int"}, entity="gone"))
                gone.transport.run(DROP_ENTITY, [names.members, names.schema], [])
            with FeatureStore.connect(url, timeout=5, keys=Keys.of("item")) as items:
                items.apply(Definition({"often": "count(1h)", "spent": "sum(amount, 1h)"}, entity="item"))
            with FeatureStore.connect(url, timeout=5, keys=Keys.of("place")) as stored:
                places = declare_places(stored, users)
            writer = BulkWriter(url)
            writer.write_table(COLUMNS, users.rows)
            writer.close()
            for row in users.rows:
                client.hset(f"plain:{row[0]}", mapping=dict(zip(COLUMNS, map(text_of, row[1:]), strict=True)))
            lines = measured(users, store, places, row_calls_for(store.schema(), list(COLUMNS), ""))
            client.function_load(function_library(), replace=True)

            def used(name: str, convert: Callable[[bytes], bytes], command: str) -> float:
                calls, rows = lines[name]
                client.config_resetstat()
                for call in itertools.islice(calls, options.calls):
                    connection.send_packed_command([convert(call)])
                    reply = connection.read_response()
                    assert reply is not None, name
                took: float = client.info("commandstats")[f"cmdstat_{command}"]["usec"]
                return took / int(options.calls) / rows

            found: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
            for number, name in itertools.product(range(options.rounds), lines):
                if "HGETALL" in name:
                    found[name].append((used(name, bytes, "hgetall"), 0.0))
                    continue
                doors: list[tuple[Callable[[bytes], bytes], str]] = [(bytes, "evalsha"), (as_function_call, "fcall")]
                times = {command: used(name, convert, command) for convert, command in doors[:: 1 - 2 * (number % 2)]}
                found[name].append((times["evalsha"], times["fcall"] / times["evalsha"]))
        connection.disconnect()
        client.close()
    print("| call | µs | by `FCALL` |\n|---|---:|---:|")
    for name, pairs in found.items():
        time, ratio = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"| {name} | {time:.1f} | {f'{ratio:.2f}' if ratio else ''} |")


if __name__ == "__main__":
    main()
