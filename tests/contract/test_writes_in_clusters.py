"""Writes in a cluster: what is stored and told is what a single Redis would store and tell."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from featurestore.ingest import BulkProgress, BulkWriter
from featurestore.ingest.pace import Pace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cluster import Cluster, entities, forget_entities
from support.servers import Server
from support.whole_rows import COLUMNS, FEATURES, PLAIN, TIME

from featurestore import AsyncFeatureStore, Definition, FeatureStore, NoSchemaError, UpsertResult
from featurestore.contract.words import LEAVE
from featurestore.errors import BadIdError
from featurestore.keys import Keys, slot_of

WINDOWS: dict[str, Any] = {**FEATURES, "often": "count(999999d)", "spent": "sum(amount, 999999d)"}
READABLE = dict(FEATURES)


@pytest.fixture
def store(cluster: Cluster) -> Iterator[FeatureStore]:
    with FeatureStore.connect(cluster.url, timeout=5) as made:
        made.apply(Definition(features=FEATURES))
        yield made


@pytest.fixture
def writer(cluster: Cluster, store: FeatureStore) -> Iterator[BulkWriter]:
    with BulkWriter(cluster.url) as made:
        yield made


@pytest.fixture
def single(servers: dict[str, Server]) -> Iterator[FeatureStore]:
    """A store on one Redis, with the same schema."""
    with FeatureStore.connect(servers["valkey9"].socket_url, timeout=5) as made:
        made.transport.command("FLUSHALL")
        made.apply(Definition(features=FEATURES))
        yield made


def outcome(result: UpsertResult) -> Any:
    rejected = [(row.row, row.code, row.reason) for row in result.rejected]
    return result.written, result.skipped, rejected, result.verdicts, result.counts


ids = st.sampled_from(["a", "b", "c", "d", "é", "{x}", "}", "", "x" * 257, "\ud800", 7, None]) | st.text(max_size=3)
values = st.tuples(
    st.sampled_from(["x", "y", None, b"\xfe", "\ud800", 3]) | st.just("x"),
    st.sampled_from([1.5, 2.5, 7, "3.5", float("nan"), None]),
    st.floats(0, 9), st.integers(0, 3), st.booleans(),
)  # fmt: skip
tables = st.lists(st.tuples(ids, st.integers(TIME, TIME + 3), values), max_size=30)
patient = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(
    st.lists(tables, min_size=1, max_size=3), st.sampled_from(["newest", "overwrite"]), st.sampled_from(["one", "own"])
)
@patient
def test_rows_are_judged_written_and_told_as_on_a_single_redis(
    store: FeatureStore, single: FeatureStore, steps: list[Any], mode: str, times: str
) -> None:
    overwrite, timed = mode == "overwrite", times == "own"
    columns = ["@event_time", *COLUMNS, "unknown"] if timed else [*COLUMNS, "unknown"]
    event_time = None if timed else TIME
    found = []
    for each in (store, single):
        forget_entities(each)
        told = []
        for table in steps:
            rows = [
                (entity_id, *((time,) if timed else ()), *cells, "u" if time % 4 == 0 else LEAVE)
                for entity_id, time, cells in table
            ]
            narrow = [row[:-1] for row in rows]
            told.append(outcome(each.upsert_table(columns[:-1], narrow, event_time=event_time, overwrite=overwrite)))
            told.append(outcome(each.upsert_table(columns, rows, event_time=event_time, overwrite=overwrite)))
        found.append((told, entities(each), each.count()))
    assert found[0] == found[1]


@given(st.lists(tables, min_size=1, max_size=3), st.sampled_from([1, 2, 5]))
@patient
def test_a_bulk_write_leaves_what_one_to_a_single_redis_does(
    writer: BulkWriter, servers: dict[str, Server], steps: list[Any], per_call: int
) -> None:
    columns = ["@event_time", *COLUMNS]
    found = []
    with BulkWriter(servers["valkey9"].socket_url) as other:
        other.store.transport.command("FLUSHALL")
        other.store.apply(Definition(features=FEATURES))
        for each in (writer, other):
            each._pace = Pace(None, call_us=per_call * 5.0, in_flight=4)
            forget_entities(each.store)
            told = []
            for table in steps:
                rows = [(entity_id, time, *cells) for entity_id, time, cells in table]
                result = each.write_table(columns, rows)
                told.append((result.written + result.skipped, [(row.row, row.code) for row in result.rejected]))
            found.append((told, entities(each.store)))
    assert found[0] == found[1]


def arrow_of(count: int, users: int, first: int = 0) -> pa.Table:
    """A table in which users come again and again; some rows are not plain, some cannot be written."""
    numbers = range(first, first + count)
    return pa.table(
        {
            "id": pa.array([None if row % 211 == 7 else f"u{row % users}" for row in numbers]),
            "@event_time": pa.array([TIME + row for row in numbers], pa.int64()),
            "s": pa.array(["y" * 1500 if row % 97 == 5 else f"s{row}" for row in numbers]),
            "f": pa.array([row / 3 for row in numbers]),
            "f.2": pa.array([None if row % 5 == 0 else float(row) for row in numbers], pa.float64()),
            "i": pa.array(list(numbers), pa.int64()),
            "b": pa.array([row % 2 == 0 for row in numbers]),
        }
    )


@pytest.mark.parametrize("kind", ["arrow", "dicts"])
@pytest.mark.parametrize("nulls", ["remove", "keep"])
def test_tables_leave_what_they_leave_on_a_single_redis(
    writer: BulkWriter, servers: dict[str, Server], kind: str, nulls: Any
) -> None:
    table = arrow_of(4000, 700)
    data: Any = table if kind == "arrow" else table.to_pylist()
    found = []
    with BulkWriter(servers["valkey9"].socket_url) as other:
        other.store.transport.command("FLUSHALL")
        other.store.apply(Definition(features=FEATURES))
        for each in (writer, other):
            told = []
            for write in (each.write, each.store.write):
                forget_entities(each.store)
                checked = each.check(data, nulls=nulls)
                result = write(data, nulls=nulls)
                assert [(row.row, row.code) for row in checked] == [(row.row, row.code) for row in result.rejected]
                told.append(([(row.row, row.code, row.reason) for row in result.rejected], entities(each.store)))
                assert result.written + result.skipped + len(result.rejected) == len(table)
                assert sum(result.counts.values()) == len(table)
            found.append(told)
    assert found[0] == found[1]
    assert len(found[0][0][0]) == len([row for row in range(4000) if row % 211 == 7])


def test_an_entitys_rows_keep_their_order_among_many_others(writer: BulkWriter) -> None:
    rows = [(f"u{number % 300}", f"s{number}", *PLAIN[1:]) for number in range(40_000)]  # more than a chunk
    result = writer.write_table(COLUMNS, rows)
    assert (result.written, result.skipped, result.rejected) == (40_000, 0, [])
    last = {f"u{number % 300}".encode(): f"s{number}".encode() for number in range(40_000)}
    assert {raw_id: fields[b"s"] for raw_id, fields in entities(writer.store).items()} == last
    store = writer.store
    assert store.upsert_table(COLUMNS, rows[:9000]).counts["applied"] == 9000
    assert entities(store)[b"u299"][b"s"] == b"s8999"


def test_calls_stay_full_and_go_to_all_nodes(cluster: Cluster, writer: BulkWriter) -> None:
    primaries = [node for node in cluster.nodes if node.is_primary]

    def calls() -> list[int]:
        stats = [node.command("INFO", "commandstats") for node in primaries]
        return [int(each.get("cmdstat_evalsha", {"calls": 0})["calls"]) for each in stats]

    for node in primaries:
        node.command("CONFIG", "RESETSTAT")
    told: list[BulkProgress] = []
    table = arrow_of(30_000, 30_000).set_column(0, "id", pa.array([f"u{row}" for row in range(30_000)]))
    table = table.set_column(2, "s", pa.array(["x"] * 30_000))
    result = writer.write(table, progress=told.append)
    assert (result.written, [each.rows for each in told]) == (30_000, [30_000])
    partitions = len(writer.store.keys.parts)
    most = -(-30_000 // 150) + 2 * partitions  # a call has room for 200 rows of these five features, or more
    assert sum(calls()) <= most
    assert all(each > sum(calls()) / 5 for each in calls())


def test_single_entities_are_written_counted_and_deleted(store: FeatureStore) -> None:
    store.apply(Definition(features=WINDOWS))
    names = [f"u{number}" for number in range(200)]
    told = store.record([(name, {"amount": 2.5}) for name in names] + [("", {"amount": 1}), (names[0], {"amount": 1})])
    assert (told.written, [row.row for row in told.rejected]) == (201, [200])
    assert told.verdicts == "C" * 200 + "RA"
    assert store.count() == 200
    assert store.increment("u7", {"i": 5, "f": 0.5}) == {"i": 5, "f": 0.5}
    assert store.increment("u7", {"i": 5}, event_time=TIME) == {"i": 10}
    assert [store.delete(name) for name in ("u7", "u8", "nobody")] == [True, True, False]
    assert store.count() == 198
    with pytest.raises(BadIdError):
        store.delete("")
    assert store.upsert([("u8", {"s": "old"})], event_time=TIME).verdicts == "S"  # its tombstone stays


def test_a_put_writes_and_reads_back_in_one_round_trip(store: FeatureStore) -> None:
    result, _, row = store._run(store._plans.put("ann", {"s": "x", "i": 3}, None, overwrite=False))
    assert (result.written, row) == (1, ("x", 3))
    result, selection, row = store._run(store._plans.put("", {"s": "x"}, None, overwrite=False))
    assert ([each.code for each in result.rejected], selection, row) == (["BADID"], None, None)


def test_without_a_schema_every_write_says_so(cluster: Cluster) -> None:
    with FeatureStore.connect(cluster.url, timeout=5) as store, BulkWriter(cluster.url) as writer:
        acts: Sequence[Any] = (
            lambda: store.upsert([("u", {"s": "x"})]),
            lambda: store.write([{"id": "u", "s": "x"}]),
            lambda: store.record([("u", {"amount": 1})]),
            lambda: store.increment("u", {"i": 1}),
            lambda: store.delete("u"),
            store.count,
            lambda: writer.write([{"id": "u", "s": "x"}]),
            lambda: writer.write_table(COLUMNS, [("u", *PLAIN)]),
        )
        for act in acts:
            with pytest.raises(NoSchemaError):
                act()


def test_scripts_lost_on_a_node_are_loaded_again(cluster: Cluster, writer: BulkWriter) -> None:
    rows = [(f"u{number}", *PLAIN) for number in range(500)]
    writer.write_table(COLUMNS, rows)
    for node in cluster.nodes:
        if node.is_primary:
            node.command("SCRIPT", "FLUSH")
    assert writer.write_table(COLUMNS, rows).written == 500
    assert writer.store.upsert_table(COLUMNS, rows).written == 500
    assert len(entities(writer.store)) == 500


def test_keys_of_a_call_on_a_single_redis_are_as_ever(single: FeatureStore) -> None:
    sent: list[bytes] = []
    send = single.transport.run_many_encoded

    def noting(script: Any, encoded: Any, **options: Any) -> Any:
        sent.extend(encoded)
        return send(script, encoded, **options)

    single.transport.run_many_encoded = noting  # type: ignore[method-assign]
    single.upsert([("a", {"i": 1}), ("b", {"i": 2})])
    single.write([{"id": "a", "i": 1}])
    single.increment("a", {"i": 1})
    single.delete("a")
    heads = [call.split(b"\r\n")[6 : 6 + 2 * int(call.split(b"\r\n")[6]) + 1] for call in sent]
    keys = [[head[place] for place in range(2, len(head), 2)] for head in heads]
    a, b = b"user:a:features", b"user:b:features"
    both = [b"all_users", b"user:schema"]
    assert keys == [[*both, a, b], [*both, a], [*both, a], [*both, a]]
    assert Keys().features("a") == a.decode()
    assert slot_of(b"{19713}user:schema") == slot_of(b"19713")


def test_the_asyncio_store_writes_and_counts_likewise(cluster: Cluster, store: FeatureStore) -> None:
    rows = [(f"u{number}", *PLAIN) for number in range(300)]

    async def write() -> Any:
        async with AsyncFeatureStore.connect(cluster.url, timeout=5) as made:
            results = [await made.upsert_table(COLUMNS, rows), await made.write([{"id": "u0", "i": 9}])]
            return [result.written for result in results], await made.delete("u7"), await made.count()

    assert asyncio.run(write()) == ([300, 1], True, 299)
    assert entities(store)[b"u0"][b"i"] == b"9"
