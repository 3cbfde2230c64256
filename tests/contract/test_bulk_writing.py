"""The bulk writer: which way rows go, and that the outcome is the upsert's."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from featurestore.ingest.writer import BulkWriter, rows_in_calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.servers import EVERYDAY, Server, real, wait_until
from support.ways import asking
from support.whole_rows import COLUMNS, FEATURES, PLAIN, TIME, calls_of, empty, expires_at

from featurestore import (
    Definition,
    FeatureStore,
    UnavailableError,
    UpsertResult,
    WriteRefusedError,
)
from featurestore.contract import row_calls
from featurestore.contract.bulk_calls import RowsPerCall

ROWS_PER_CALL, ROWS_PER_UPSERT = rows_in_calls(COLUMNS, FEATURES)
UPSERTS_PER_CALL = math.ceil(ROWS_PER_CALL / ROWS_PER_UPSERT)

built = pytest.mark.skipif(row_calls.writer_type is None, reason="the extension was not built")

cells = st.tuples(
    st.sampled_from(["a", "b", "c", "d", "é", ""]),
    st.sampled_from(["x", "y", None, b"\xfe", "\ud800"]) | st.just("x"),
    st.sampled_from([1.5, 2.5, 7, "3.5", float("nan"), None]) | st.floats(0, 9),
    st.floats(0, 9), st.integers(0, 3), st.booleans(),
)  # fmt: skip


deletions = st.tuples(st.sampled_from("abcd"), st.integers(0, 4))


@given(
    st.lists(st.one_of(st.lists(cells, max_size=14), deletions), max_size=6),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([None, TIME, "own"]),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bulk_write_leaves_what_an_upsert_of_all_rows_does(
    loading: BulkWriter,
    steps: list[Any],
    per_call: int,
    event_time: Any,
) -> None:
    store, columns = loading.store, [*COLUMNS]
    if event_time == "own":
        columns = ["@event_time", *COLUMNS]
        steps = [
            [(row[0], TIME + row[4], *row[1:]) for row in step] if isinstance(step, list) else step for step in steps
        ]

    def outcome(result: UpsertResult) -> Any:
        return result.written, result.skipped, [(row.row, row.code) for row in result.rejected]

    def stored() -> Any:
        ids = sorted(store.transport.command("SMEMBERS", "all_users"))
        if event_time is None:  # else it matters whether two calls are of one ms
            names = [each.decode() for each in ids]
            if not names:
                return None
            with asking(by_layout=False):
                return store.get_many(names), FeatureStore(store.transport).get_many(names, list(FEATURES))
        fields = [store.transport.command("HGETALL", store.keys.features_of_raw(each)) for each in ids]
        return ids, [dict(zip(each[::2], each[1::2], strict=True)) for each in fields]

    results = []
    for bulk in (True, False):
        empty(store)
        outcomes: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("featurestore.ingest.writer.rows_in_calls", lambda *_: RowsPerCall(per_call, per_call))
            given_time = None if event_time == "own" else event_time
            for step in steps:
                if isinstance(step, tuple):
                    outcomes.append(store.delete(step[0], event_time=event_time and TIME + step[1]))
                elif bulk:
                    outcomes.append(outcome(loading.write_table(columns, step, event_time=given_time)))
                else:
                    outcomes.append(outcome(store.upsert_table(columns, step, event_time=given_time)))
        results.append((outcomes, stored()))
    assert results[0] == results[1]


@built
@pytest.mark.parametrize("event_time", [None, TIME])
def test_an_entity_costs_one_command_unless_it_has_to_be_compared(loading: BulkWriter, event_time: int | None) -> None:
    store, count = loading.store, 8 * ROWS_PER_CALL
    table = [(f"u{index}", *PLAIN) for index in range(count)]
    newer = [(row[0], "y", *row[2:]) for row in table]
    for known, rows in enumerate((table, newer)):
        store.transport.command("CONFIG", "RESETSTAT")
        assert loading.write_table(COLUMNS, rows, event_time=event_time).written == count
        calls = calls_of(store)
        assert (calls["evalsha"], calls["hset"], calls["sadd"]) == (8, count, 8)
        assert calls.get("exists", 0) == (8 if event_time else 0)
        assert calls["hmget"] == 8 + (count if event_time and known else 0)  # a call looks at the schema
    store.transport.command("CONFIG", "RESETSTAT")
    assert loading.write_table(COLUMNS, newer, event_time=event_time).written == count
    assert calls_of(store).get("hset", 0) == (0 if event_time else count)  # the same rows again
    assert store.count() == count


@pytest.mark.parametrize("event_time", [None, TIME])
def test_a_few_known_among_new_ones(loading: BulkWriter, event_time: int | None) -> None:
    store, count = loading.store, 8 * ROWS_PER_CALL
    table = [(f"u{index}", *PLAIN) for index in range(count)]
    for name, late in (("u5", -1), ("u1500", -1), ("u1600", 1)):
        store.upsert_table(COLUMNS, [(name, "old", *PLAIN[1:])], event_time=event_time and event_time + late)
    result = loading.write_table(COLUMNS, [*table, ("u7", "newest", *PLAIN[1:])], event_time=event_time)
    assert (result.written, result.skipped) == ((count, 1) if event_time else (count + 1, 0))
    assert store.get_many(["u5", "u1500", "u7"], ["s"]) == [{"s": "x"}, {"s": "x"}, {"s": "newest"}]
    assert store.get("u1600", ["s"]) == {"s": "old" if event_time else "x"}
    assert store.count() == count


@pytest.mark.parametrize("event_time", [None, TIME])
def test_without_the_extension_all_rows_go_through_the_upsert(
    loading: BulkWriter, monkeypatch: pytest.MonkeyPatch, event_time: int | None
) -> None:
    monkeypatch.setattr(row_calls, "writer_type", None)
    store, count = loading.store, 2 * ROWS_PER_CALL + 1
    table: list[Any] = [(f"u{index}", *PLAIN) for index in range(count)]
    table[3:3] = [("", *PLAIN), ("u0", "again", *PLAIN[1:]), ("u1", "x", "no number", *PLAIN[2:])]
    names = [f"u{index}" for index in range(count)]
    outcomes = []
    for write in (store.upsert_table, loading.write_table):
        empty(store)
        store.transport.command("CONFIG", "RESETSTAT")
        result = write(COLUMNS, iter(table), event_time=event_time)
        rejected = [(row.row, row.code) for row in result.rejected]
        calls = calls_of(store)["evalsha"]
        outcomes.append((result.written, result.skipped, rejected, store.get_many(names), store.count()))
    assert calls == 2 * UPSERTS_PER_CALL + 1  # of the bulk writer
    assert outcomes[0] == outcomes[1]
    written, skipped, rejected, rows, members = outcomes[0]
    assert (written, skipped, members) == (count + 1, 0, count)
    assert [row for row, _ in rejected] == [3, 5]
    assert rows[0] == {"f": 1.5, "i": 7, "b": True, "s": "again", "f.2": 2.0}
    assert rows.count(None) == 0


@built
def test_rows_that_are_not_plain_go_through_the_upsert(loading: BulkWriter) -> None:
    store, count = loading.store, 2 * ROWS_PER_CALL + 1
    table = [(f"u{index}", *PLAIN) for index in range(count)]
    table[ROWS_PER_CALL] = ("u0", "x" * 1025, *PLAIN[1:])
    store.transport.command("CONFIG", "RESETSTAT")
    assert loading.write_table(COLUMNS, table).written == count
    assert calls_of(store)["evalsha"] == 2 + UPSERTS_PER_CALL  # a call of them, in pieces
    assert store.get("u0", ["s", "f"]) == {"s": "x" * 1025, "f": 1.5}
    assert store.count() == count - 1


@pytest.mark.parametrize("name", real(*EVERYDAY))
def test_every_server_takes_bulk_writes(servers: dict[str, Server], name: str) -> None:
    writer = BulkWriter(servers[name].socket_url)
    writer.store.transport.command("FLUSHALL")
    writer.store.apply(Definition(features=FEATURES))
    table = [(f"u{index}", *PLAIN) for index in range(3 * ROWS_PER_CALL)]
    for _ in range(2):
        result = writer.write_table(COLUMNS, [*table, ("", *PLAIN)], event_time=TIME)
        assert (result.written, [row.row for row in result.rejected]) == (len(table), [len(table)])
    assert writer.store.count() == len(table)
    assert writer.store.get("u7") == {"f": 1.5, "i": 7, "b": True, "s": "x", "f.2": 2.0}
    writer.close()


def test_a_write_whose_link_broke_may_start_again(valkey: Server) -> None:
    writer = BulkWriter(valkey.url)
    writer.store.apply(Definition(features=FEATURES))
    table = [(f"u{index}", *PLAIN) for index in range(8 * ROWS_PER_CALL)]

    def broken() -> Iterator[Any]:
        for number, row in enumerate(table):
            if number == 6 * ROWS_PER_CALL:
                valkey.stop()
            yield row

    with pytest.raises(UnavailableError):
        writer.write_table(COLUMNS, broken())
    valkey.start()
    assert 0 < writer.store.count() < len(table)
    assert writer.write_table(COLUMNS, table).written == len(table)
    assert writer.store.count() == len(table)
    writer.close()


@built
def test_a_user_needs_no_dangerous_permission(loading: BulkWriter) -> None:
    store = loading.store
    store.transport.command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-@dangerous")
    socket_url = store.transport.address.removeprefix("unix://")
    limited = BulkWriter(f"unix://limited:secret@{socket_url}")
    table = [(f"u{index}", *PLAIN) for index in range(3 * ROWS_PER_CALL)]
    store.transport.command("CONFIG", "RESETSTAT")
    assert limited.write_table(COLUMNS, table, event_time=TIME).written == len(table)
    assert calls_of(store)["evalsha"] == 3
    assert store.count() == len(table)
    limited.close()
    store.transport.command("ACL", "DELUSER", "limited")


@built
def test_a_schema_that_changes_meanwhile_stops_nothing(loading: BulkWriter) -> None:
    def table() -> Iterator[Any]:
        for index in range(4 * ROWS_PER_CALL):
            if index == 2 * ROWS_PER_CALL:
                loading.store.apply(Definition(features={"later": "int"}))
            yield (f"u{index}", *PLAIN)

    assert loading.write_table(COLUMNS, table()).written == 4 * ROWS_PER_CALL
    assert loading.store.count() == 4 * ROWS_PER_CALL
    in_call, _ = rows_in_calls(COLUMNS, {**FEATURES, "later": "int"})
    table_of_all = [(f"v{index}", *PLAIN, 1) for index in range(in_call)]
    loading.store.transport.command("CONFIG", "RESETSTAT")
    loading.store.schema()
    assert loading.write_table((*COLUMNS, "later"), table_of_all).written == in_call
    assert calls_of(loading.store)["evalsha"] == 1  # of replace_rows again: upserts would be in pieces


@pytest.mark.parametrize("state", [("maxmemory", 1), ("replica",)])
def test_a_redis_that_takes_no_writes_says_so(valkey: Server, state: Sequence[Any]) -> None:
    writer = BulkWriter(valkey.url)
    writer.store.apply(Definition(features=FEATURES))
    if state == ("replica",):
        writer.store.transport.command("REPLICAOF", "127.0.0.1", 1)
    else:
        writer.store.transport.command("CONFIG", "SET", *state)
    with pytest.raises(WriteRefusedError):
        writer.write_table(COLUMNS, [("u", *PLAIN)])
    assert writer.store.count() == 0
    writer.close()


@built
def test_rows_survive_a_crash_with_an_append_only_file(valkey: Server) -> None:
    writer = BulkWriter(valkey.url)
    writer.store.apply(Definition(features=FEATURES, ttl="1h"))
    table = [(f"u{index}", *PLAIN) for index in range(ROWS_PER_CALL)]
    writer.store.transport.command("CONFIG", "RESETSTAT")
    assert writer.write_table(COLUMNS, table).written == len(table)
    assert calls_of(writer.store)["evalsha"] == 1  # of replace_rows: upserts would be in pieces
    before = writer.store.get_many(["u0", "u7"]), expires_at(writer.store, "user:u7:features")
    valkey.stop()
    valkey.start()
    after = writer.store.get_many(["u0", "u7"]), expires_at(writer.store, "user:u7:features")
    assert after == before
    assert writer.store.count() == len(table)
    writer.close()


def test_an_untimed_row_has_the_time_of_its_writing_by_redis_clock(loading: BulkWriter) -> None:
    def late() -> Iterator[Any]:
        yield ("u", *PLAIN)
        asked = time.monotonic()
        wait_until(lambda: time.monotonic() - asked > 0.3, what="300 ms by the clock")
        yield ("v", *PLAIN)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.ingest.writer.rows_in_calls", lambda *_: RowsPerCall(1, 1))
        before = time.time() * 1000
        loading.write_table(COLUMNS, late())
    first, second = (each.event_time for each in loading.store.describe_many(["u", "v"]) if each)
    assert first is not None
    assert second is not None
    assert before - 2 <= first <= before + 250
    assert second - first >= 299
