"""Event times, freshness, defaults, vectors, windows and counters, on every backend."""

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from support.fake import FakeTransport
from support.names import beside, hash_of, names_of, remove
from support.servers import wait_until

from featurestore import BadArgumentsError, Definition, FeatureStore, SchemaChangedError, SchemaError, Transport
from featurestore.contract.scripts import APPLY_SCHEMA, DESCRIBE_ENTITY, GET_FEATURES, SWEEP_MEMBERS, UPSERT_FEATURES
from featurestore.errors import BadValueError, UndeclaredFeatureError
from featurestore.schema.definition import FeatureDefinition
from featurestore.store.maintenance import repack, sweep

FEATURES: dict[str, Any] = {"age": "float", "n": "int", "city": "string"}
DAY = 86_400_000


def now_ms(transport: Transport) -> int:
    seconds, micros = (int(part) for part in transport.command("TIME"))
    return seconds * 1000 + micros // 1000


def declare(store: FeatureStore, features: dict[str, Any] | None = None, **options: Any) -> FeatureStore:
    store.apply(Definition(features=features or FEATURES, **options))
    store.schema()
    return store


# Event time of each feature


def test_two_pipelines_do_not_block_each_other(store: FeatureStore) -> None:
    declare(store)
    assert store.upsert([("u", {"age": 1.0, "n": 1})], event_time=2000).verdicts == "C"
    assert store.upsert([("u", {"city": "Rome"})], event_time=1000).verdicts == "A"
    assert store.upsert([("u", {"n": 2, "city": "Oslo"})], event_time=1500).verdicts == "P"
    assert store.upsert([("u", {"n": 3})], event_time=1999).verdicts == "S"
    assert store.upsert([("u", {"n": 1})], event_time=2000).verdicts == "D"
    assert store.get("u") == {"age": 1.0, "n": 1, "city": "Oslo"}
    _, (fresh,) = store.fetch_fresh(["u"])
    assert fresh is not None
    assert (fresh.event_time, fresh.event_times) == (2000, (2000, 2000, 1500))


def test_a_row_written_whole_keeps_one_time_alone(store: FeatureStore, transport: Transport) -> None:
    declare(store)
    store.upsert([("u", {"age": 1.0})], event_time=1000)
    store.upsert([("u", {"age": 1.0, "n": 1, "city": "Rome"})], event_time=3000)
    row = transport.command("HGET", hash_of(store, "u"), "@row")
    assert row[8] >= 0x90  # an array follows the layout at once


def test_each_row_may_have_a_time_of_its_own_as_text_or_number(store: FeatureStore) -> None:
    declare(store)
    rows: list[tuple[str, dict[str, Any]]] = [
        ("a", {"n": 1, "@event_time": "1970-01-01T00:00:02.5+00:00"}),
        ("b", {"n": 2, "@event_time": 1000}),
        ("c", {"n": 3}),
        ("d", {"n": 4, "@event_time": "yesterday"}),
        ("e", {"n": 4, "@event_time": 1.5}),
    ]
    result = store.upsert(rows, event_time=7)
    assert result.verdicts == "CCCRR"
    assert [(bad.row, bad.code) for bad in result.rejected] == [(3, "BADTIME"), (4, "BADTIME")]
    _, entries = store.fetch_fresh(["a", "b", "c", "d"])
    assert [entry and entry.event_time for entry in entries] == [2500, 1000, 7, None]


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-12-01", 1_796_083_200_000),
        ("2026-12-01T10:00", 1_796_119_200_000),
        ("2026-12-01T10:00Z", 1_796_119_200_000),
        ("2026-12-01T10:00+01", 1_796_115_600_000),
        ("2026-12-01T10:00:30.5-0130", 1_796_124_630_500),
        ("2026-12-01 10:00:30+01:00", 1_796_115_630_000),
        ("1970-04-01", 7_776_000_000),
    ],
)
def test_a_time_may_leave_out_what_is_nought(store: FeatureStore, text: str, ms: int) -> None:
    declare(store, max_ahead="9999d")
    store.upsert([("u", {"n": 1})], event_time=text)
    _, (fresh,) = store.fetch_fresh(["u"])
    assert fresh is not None
    assert fresh.event_time == ms


@pytest.mark.parametrize(
    ("text", "hint"),
    [("20260821", "a date"), ("000001755770400", "ms since 1970"), ("1700000000", "are these seconds"),
     ("1700000000.5", "are these seconds"), ("1700000000000000", "microseconds"), ("2026-12-01T10", "ISO 8601"),
     ("2026-12-01T10:00:30.5+1", "ISO 8601"), ("2026-12-01Z", "ISO 8601")],
)  # fmt: skip
def test_a_time_that_is_none_is_refused_with_a_hint(store: FeatureStore, text: str, hint: str) -> None:
    declare(store)
    assert store.upsert([("u", {"n": 1, "@event_time": text}), ("v", {"n": 1})]).verdicts == "RC"
    for write in (lambda: store.increment("u", {"n": 1}, event_time=text), lambda: store.delete("u", event_time=text)):
        with pytest.raises(BadArgumentsError, match=hint):
            write()


def test_a_time_far_ahead_would_keep_out_all_others_and_is_refused(store: FeatureStore, transport: Transport) -> None:
    declare(store, max_ahead="1h")
    ahead = now_ms(transport) + 3_500_000
    assert (
        store.upsert([("u", {"n": 1}), ("v", {"n": 1, "@event_time": ahead + 200_000})], event_time=ahead).verdicts
        == "CR"
    )
    with pytest.raises(BadArgumentsError, match="further ahead of the clock of Redis"):
        store.delete("u", event_time=ahead + 200_000)
    assert store.get("u", ["n"]) == {"n": 1}
    declare(store, max_ahead="2h")
    assert store.upsert([("v", {"n": 1})], event_time=ahead + 200_000).verdicts == "C"


@pytest.mark.parametrize("text", ["2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-01", "1e3", "-5", "1" * 16])
def test_a_time_that_is_none_is_refused(store: FeatureStore, text: str) -> None:
    declare(store)
    with pytest.raises(BadArgumentsError, match="event time"):
        store.upsert([("u", {"n": 1})], event_time=text)


def test_overwrite_takes_older_values(store: FeatureStore) -> None:
    declare(store)
    store.upsert([("u", {"n": 1, "age": 1.0})], event_time=2000)
    assert store.upsert([("u", {"n": 9})], event_time=1000, overwrite=True).verdicts == "A"
    assert store.get("u", ["n", "age"]) == {"n": 9, "age": 1.0}
    assert store.upsert([("u", {"n": 5})], event_time=1500).verdicts == "A"


def test_a_deleted_entity_does_not_come_back_by_late_events(store: FeatureStore, transport: Transport) -> None:
    declare(store, tombstone="1h")
    store.upsert([("u", {"n": 1})], event_time=1000)
    assert store.delete("u") is True
    assert store.delete("u") is False
    assert 0 < transport.command("PTTL", hash_of(store, "u")) <= 3_600_000
    late = store.upsert([("u", {"n": 2})], event_time=now_ms(transport) - 1000)
    assert (late.verdicts, store.get("u"), store.count()) == ("S", None, 0)
    assert store.upsert([("u", {"n": 3, "age": 1.0, "city": "x"})]).verdicts == "C"
    assert transport.command("PTTL", hash_of(store, "u")) == -1
    assert store.get("u", ["n"]) == {"n": 3}


def test_a_write_of_the_time_of_a_deletion_is_stale_whenever_it_arrives(store: FeatureStore) -> None:
    declare(store)
    store.delete("u", event_time=2000)
    assert store.upsert([("u", {"n": 1})], event_time=2000).verdicts == "S"
    assert store.upsert([("u", {"age": 1.0})], event_time=2001).verdicts == "C"
    assert store.upsert([("u", {"n": 1})], event_time=2000).verdicts == "S"
    assert store.upsert([("u", {"n": 1, "age": 2.0})], event_time=1999).verdicts == "S"
    assert store.get("u", ["n", "age"]) == {"n": None, "age": 1.0}
    assert store.upsert([("u", {"n": 1})], event_time=2000, overwrite=True).verdicts == "A"
    assert store.get("u", ["n"]) == {"n": 1}


def test_a_late_deletion_leaves_what_is_newer(store: FeatureStore) -> None:
    declare(store)
    store.upsert([("u", {"n": 1})], event_time=2000)
    assert store.delete("u", event_time=1000) is False
    assert store.get("u", ["n"]) == {"n": 1}


def test_a_writer_of_an_older_schema_is_told(store: FeatureStore, transport: Transport) -> None:
    layout = declare(store).schema().layout
    words: list[str | int] = ["", 2, layout, "n", "u", "1"]
    assert transport.run(UPSERT_FEATURES, names_of(store, "u"), words)[0] == 1
    assert transport.run(UPSERT_FEATURES, names_of(store, "u"), ["", 1, layout, "u", "2", "2", "Rome"])[0] == 1
    assert store.get("u") == {"age": 2.0, "n": 2, "city": "Rome"}
    store.apply(Definition(features={"later": "int"}))
    with pytest.raises(SchemaChangedError):
        transport.run(UPSERT_FEATURES, names_of(store, "u"), words)


# Freshness and defaults


def test_statuses_and_ages_come_beside_the_values(store: FeatureStore, transport: Transport) -> None:
    features = {
        "age": FeatureDefinition("float", max_age="1h"),
        "n": FeatureDefinition("int", default=7),
        "city": "string",
    }
    declare(store, features)
    now = now_ms(transport)
    store.upsert([("u", {"age": 1.0})], event_time=now - 2 * 3_600_000)
    store.upsert([("v", {"age": 1.0, "city": "Rome"})], event_time=now - 1000)
    assert store.get_many(["u", "v"]) == [
        {"age": None, "n": 7, "city": None},
        {"age": 1.0, "n": 7, "city": "Rome"},
    ]
    assert store.get("u", ["n", "age"]) == {"n": 7, "age": None}
    _, (u, v, nobody) = store.fetch_fresh(["u", "v", "x"])
    assert u is not None
    assert v is not None
    assert nobody is None
    assert u.statuses == ("STALE", "DEFAULT", "MISSING")
    assert v.statuses == ("PRESENT", "DEFAULT", "PRESENT")
    assert v.age_ms is not None
    assert 1000 <= v.age_ms < 60_000
    _, (strict,) = store.fetch_fresh(["v"], ["city"], max_age_ms=500)
    assert strict is not None
    assert (strict.values, strict.statuses) == ((None,), ("STALE",))


def test_a_value_grows_stale_while_its_packed_row_stays(store: FeatureStore, transport: Transport) -> None:
    declare(store, max_age="300ms")
    store.upsert([("u", {"age": 1.0, "n": 1, "city": "Rome"})])
    assert store.get("u") == {"age": 1.0, "n": 1, "city": "Rome"}
    wait_until(lambda: store.get("u") == dict.fromkeys(FEATURES), timeout=10)
    assert store.get_many(["u"], ["age"]) == [{"age": None}]
    store.upsert([("u", {"n": 2})])
    assert store.get("u") == {"age": None, "n": 2, "city": None}  # one pipeline does not keep another's values alive


def test_one_pipeline_does_not_keep_alive_what_another_let_expire(store: FeatureStore, transport: Transport) -> None:
    declare(store, ttl="1s")
    store.upsert([("u", {"age": 1.0})], event_time=now_ms(transport) - 400)  # the next one has 600 ms

    def age_after_another_write() -> Any:
        store.upsert([("u", {"n": 1})])  # which puts off the expiry of the whole hash
        return store.get("u", ["age", "n"])

    wait_until(lambda: age_after_another_write() == {"age": None, "n": 1}, timeout=10)
    assert store.get("u") == {"age": None, "n": 1, "city": None}
    assert transport.command("HGET", hash_of(store, "u"), "age") == b"1.0"  # it is there, and not served


@pytest.mark.parametrize("time", [1_078_625_331_860, 1_092_748_005_452, 1_787_306_400_123])
def test_event_times_of_datetimes_are_exact_to_the_ms(store: FeatureStore, time: int) -> None:
    declare(store)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        milliseconds=time
    )  # the first two are not so in float seconds
    store.upsert([("u", {"n": 1})], event_time=moment)
    _, (fresh,) = store.fetch_fresh(["u"])
    assert fresh is not None
    assert fresh.event_time == time


def test_an_entity_without_writes_expires_and_is_swept(store: FeatureStore, transport: Transport) -> None:
    declare(store, ttl="200ms")
    store.upsert([("u", {"n": 1}), ("v", {"age": 1.0, "n": 1, "city": "x"})])
    assert store.upsert([("w", {"n": 1})], event_time=1000).verdicts == "S"
    wait_until(lambda: store.get("u") is None and store.get_many(["v"]) == [None], timeout=10)
    assert store.fetch_fresh(["u", "v"])[1] == [None, None]
    assert store.count() == 2
    if not isinstance(transport, FakeTransport):
        assert [progress.removed for progress in sweep(store)][-1:] == [2]
        assert transport.run(SWEEP_MEMBERS, names_of(store, "u"), ["u"]) == 0
        assert store.count() == 0


def test_a_ttl_taken_back_leaves_nothing_to_expire(store: FeatureStore, transport: Transport) -> None:
    declare(store, ttl="1d")
    store.upsert([("u", {"age": 1.0, "n": 1, "city": "x"}), ("v", {"n": 1})])
    assert transport.command("PTTL", hash_of(store, "u")) > 0
    declare(store, ttl="none")
    store.upsert([("u", {"age": 1.0, "n": 1, "city": "x"})])
    assert transport.command("PTTL", hash_of(store, "u")) == -1
    for _ in repack(store):
        pass
    assert transport.command("PTTL", hash_of(store, "v")) == -1


# Vectors


def test_vectors_are_stored_as_bytes_and_read_when_asked_for(store: FeatureStore, transport: Transport) -> None:
    declare(store, {"n": "int", "e": "float32[3]"})
    result = store.upsert(
        [
            ("u", {"n": 1, "e": [0.1, -2.5, 3.0]}),
            ("short", {"e": [1.0]}),
            ("inf", {"e": [1.0, 1e39, 1.0]}),
            ("text", {"e": "abcdefghijkl"}),
            ("list", {"n": [1.0]}),
        ]
    )
    assert [(bad.row, bad.code) for bad in result.rejected] == [(row, "BADTYPE") for row in (1, 2, 3, 4)]
    assert transport.command("HGET", hash_of(store, "u"), "e") == struct.pack("<3f", 0.1, -2.5, 3.0)
    assert store.get("u") == {"n": 1}
    row = store.get("u", ["e", "n"])
    assert row == {"e": [struct.unpack("<f", struct.pack("<f", 0.1))[0], -2.5, 3.0], "n": 1}
    assert store.get_json("u", ["e"]) == b'{"user_id":"u","features":{"e":[0.1,-2.5,3.0]}}'
    store.upsert([("u", {"n": 2})])
    store.upsert([("u", {"e": None})])
    assert store.get("u", ["n", "e"]) == {"n": 2, "e": None}


def test_an_entity_may_have_vectors_alone(store: FeatureStore) -> None:
    declare(store, {"e": "float32[2]"})
    first = [("u", {"e": [1.0, 2.0]})]
    assert [store.upsert(first, event_time=time).verdicts for time in (100, 100, 50, 200)] == ["C", "D", "S", "A"]
    assert store.get_many(["u", "v"], ["e"]) == [{"e": [1.0, 2.0]}, None]
    assert store.get_many(["u", "v"]) == [{}, None]
    assert store.get("u") == {}
    assert store.get_json("u") == b'{"user_id":"u","features":{}}'
    store.upsert([("u", {"e": None})])
    assert store.get("u", ["e"]) == {"e": None}


def test_a_row_with_a_vector_that_is_sent_again_is_a_duplicate(store: FeatureStore) -> None:
    declare(store, {"n": "int", "e": "float32[2]"})
    row, other = {"n": 1, "e": [1.0, 2.0]}, {"n": 1, "e": [1.0, 3.0]}
    verdicts = [store.upsert([("u", given)], event_time=100).verdicts for given in (row, row, other, other)]
    assert verdicts == ["C", "D", "A", "D"]
    assert store.get("u", ["e"]) == {"e": [1.0, 3.0]}


def test_numpy_arrays_are_vectors(store: FeatureStore) -> None:
    declare(store, {"n": "int", "e": "float32[2]"})
    rows: list[tuple[str, dict[str, Any]]] = [
        ("u", {"e": np.array([0.5, 2.0], "<f4")}),
        ("v", {"e": np.array([1, 2]), "n": np.int64(7)}),
        ("w", {"n": 1}),
        ("flat", {"e": np.ones((2, 1))}),
        ("long", {"e": np.ones(3)}),
        ("scalar", {"n": np.ones(2)}),
    ]
    result = store.upsert(rows)
    assert [(bad.row, bad.code) for bad in result.rejected] == [(3, "BADTYPE"), (4, "BADTYPE"), (5, "BADTYPE")]
    found = store.get_many(["u", "v", "w"], ["e"])
    assert found == [{"e": [0.5, 2.0]}, {"e": [1.0, 2.0]}, {"e": None}]


def test_a_vector_may_be_part_of_every_read(store: FeatureStore) -> None:
    declare(store, {"n": "int", "e": FeatureDefinition("float32[2]", always=True), "s": "string"})
    store.upsert([("u", {"n": 1, "e": [1.0, 2.0], "s": "x"}), ("v", {"s": "y"})])
    expected = [{"n": 1, "e": [1.0, 2.0], "s": "x"}, {"n": None, "e": None, "s": "y"}]
    assert store.get_many(["u", "v"]) == expected
    store.upsert([("v", {"n": 3})])
    assert store.get("v") == {"n": 3, "e": None, "s": "y"}


# Counters and windows


def test_increments_are_all_or_none(store: FeatureStore) -> None:
    declare(store, {"n": "int", "x": FeatureDefinition("float", default=10.0), "s": "string"})
    assert store.increment("u", {"n": 2, "x": 0.5}) == {"n": 2, "x": 10.5}
    assert store.increment("u", {"n": -5}) == {"n": -3}
    for amounts in ({"n": 1, "s": 1}, {"n": 1.5}, {"n": 2**53}):
        with pytest.raises(BadValueError):
            store.increment("u", amounts)
    with pytest.raises(UndeclaredFeatureError):
        store.increment("u", {"nope": 1})
    assert store.get("u") == {"n": -3, "x": 10.5, "s": None}
    store.delete("u")
    assert store.increment("u", {"n": 1}, event_time=1000) is None
    assert store.get("u") is None


def test_an_increment_gives_each_feature_its_own_time(store: FeatureStore) -> None:
    declare(store, {"a": "int", "b": "int", "c": "int"})
    store.upsert([("u", {"a": 1})], event_time=200)
    store.upsert([("u", {"b": 1})], event_time=100)
    assert store.increment("u", {"a": 1, "b": 1}, event_time=150) == {"a": 2, "b": 2}
    assert store.increment("u", {"c": 1}, event_time=120) == {"c": 1}
    _, (fresh,) = store.fetch_fresh(["u"])
    assert fresh is not None
    assert fresh.event_times == (200, 150, 120)
    assert store.upsert([("u", {"b": 9})], event_time=170).verdicts == "A"
    assert store.upsert([("u", {"c": 9})], event_time=130).verdicts == "A"


def test_what_was_counted_before_a_deletion_stays_deleted_when_the_entity_is_back(
    store: FeatureStore, transport: Transport
) -> None:
    declare(store, {"a": "int", "spent": "sum(amount, 1h)"})
    now = now_ms(transport)
    event: list[tuple[str, dict[str, Any]]] = [("u", {"amount": 7.0, "@event_id": "e", "@event_time": now - 9000})]
    assert store.record(event).verdicts == "C"
    assert store.delete("u", event_time=now - 5000)
    assert store.upsert([("u", {"a": 1})], event_time=now).verdicts == "C"
    assert store.record(event).verdicts == "S"
    assert store.increment("u", {"a": 1}, event_time=now - 6000) is None
    assert store.get("u") == {"a": 1, "spent": 0.0}


def test_what_would_have_expired_is_not_counted(store: FeatureStore, transport: Transport) -> None:
    declare(store, {"n": "int", "clicks": "count(1d)"}, ttl="1h")
    old = now_ms(transport) - 2 * 3_600_000
    assert store.increment("u", {"n": 1}, event_time=old) is None
    assert store.record([("v", {"@event_time": old})]).verdicts == "S"
    assert store.count() == 0
    store.upsert([("u", {"n": 1})])
    assert store.increment("u", {"n": 1}, event_time=old) == {"n": 2}


def test_an_event_that_would_make_a_sum_infinite_is_rejected(store: FeatureStore, transport: Transport) -> None:
    declare(store, {"spent": "sum(amount, 1h)", "clicks": "count(1h)"})
    now = now_ms(transport)
    result = store.record([("u", {"amount": 1e308, "@event_time": now - age}) for age in (0, 0, 300_000)])
    assert (result.verdicts, result.rejected[0].reason) == ("CRR", "spent would be beyond a float")
    assert store.get("u") == {"spent": 1e308, "clicks": 1}


def test_windows_count_events_and_forget_them(store: FeatureStore, transport: Transport) -> None:
    declare(store, {"age": "float", "clicks": "count(10m)", "spent": "sum(amount, 1h)"})
    now = now_ms(transport)
    result = store.record(
        [
            ("u", {"amount": 10.5, "@event_time": now - 30 * 60_000}),
            ("u", {"amount": 2.0, "@event_time": now}),
            ("u", {"@event_time": now - 60_000}),
            ("u", {"amount": 99.0, "@event_time": now - 2 * 3_600_000}),
            ("u", {"amount": 99.0, "@event_time": now + DAY}),
        ]
    )
    assert (result.written, result.skipped, result.verdicts) == (3, 2, "CAASS")
    assert store.get("u") == {"age": None, "clicks": 2, "spent": 12.5}
    assert store.get("u", ["spent"]) == {"spent": 12.5}
    store.upsert([("u", {"age": 3.0})])
    assert store.get_many(["u"]) == [{"age": 3.0, "clicks": 2, "spent": 12.5}]
    assert store.upsert([("v", {"age": 1.0})]).written == 1
    assert store.get("v") == {"age": 1.0, "clicks": 0, "spent": 0.0}
    assert store.upsert([("v", {"clicks": 5})]).rejected[0].code == "BADTYPE"


def test_an_event_with_an_id_counts_once(store: FeatureStore, transport: Transport) -> None:
    declare(store, {"clicks": "count(1h)", "spent": "sum(amount, 1h)"})
    events: list[tuple[str, dict[str, Any]]] = [
        ("u", {"amount": 1.0, "@event_id": "a"}),
        ("u", {"amount": 1.0, "@event_id": "a"}),
        ("u", {"amount": 2.0, "@event_id": "b€"}),
        ("v", {"amount": 4.0, "@event_id": "a"}),
        ("u", {"amount": 8.0}),
        ("u", {"amount": 8.0, "@event_id": ""}),
        ("u", {"amount": 9.0, "@event_id": "late", "@event_time": 1000}),
    ]
    result = store.record(events)
    assert (result.written, result.skipped, result.verdicts) == (5, 2, "CDACAAS")
    assert store.record(events[:4]).verdicts == "DDDD"
    assert store.get_many(["u", "v"]) == [{"clicks": 4, "spent": 19.0}, {"clicks": 1, "spent": 4.0}]
    assert store.record([("u", {"@event_id": "late"})]).verdicts == "A"  # it was not counted the first time


def test_an_event_whose_id_is_none_has_none(store: FeatureStore) -> None:
    declare(store, {"clicks": "count(1h)"})
    for _ in range(2):
        assert store.record([("u", {"@event_id": None}), ("u", {"@event_id": "a"})]).written > 0
    assert store.get("u") == {"clicks": 3}


def test_the_last_64_ids_of_events_are_remembered(store: FeatureStore, transport: Transport) -> None:
    declare(store, {"clicks": "count(1h)"})
    for number in range(70):
        assert store.record([("u", {"@event_id": str(number)})]).verdicts in {"C", "A"}
    assert transport.command("HSTRLEN", hash_of(store, "u"), "@seen") == 1024  # within hash-max-listpack-value
    assert store.record([("u", {"@event_id": "6"})]).verdicts == "D"
    assert store.record([("u", {"@event_id": "5"})]).verdicts == "A"
    store.delete("u")
    assert store.record([("u", {"@event_id": "69", "@event_time": now_ms(transport) + 1000})]).verdicts == "C"


def test_a_window_moves_without_another_event(store: FeatureStore) -> None:
    declare(store, {"clicks": "count(1s)"})
    store.record([("u", {})])
    assert store.get("u") == {"clicks": 1}
    wait_until(lambda: store.get("u") == {"clicks": 0}, timeout=10)


# Schema options and services


def test_a_service_is_a_list_of_features_by_name(store: FeatureStore, transport: Transport) -> None:
    declare(store, services={"fraud": ["n", "age"]})
    store.upsert([("u", {"n": 1, "age": 2.0})])
    reply = transport.run(GET_FEATURES, names_of(store, "u"), ["u", "?service=fraud"])
    (service,) = msgspec.msgpack.decode(transport.run(DESCRIBE_ENTITY, [names_of(store, "u")[1]], []))["services"]
    assert service == ["fraud", reply[:8].decode(), ["n", "age"]]
    assert msgspec.msgpack.decode(reply[8:]) == [1, 2]
    assert store.schema().service("fraud") == ["n", "age"]
    with pytest.raises(UndeclaredFeatureError):
        transport.run(GET_FEATURES, names_of(store, "u"), ["u", "?service=nope"])


def test_a_service_that_changes_is_noticed(store: FeatureStore, transport: Transport) -> None:
    declare(store, services={"fraud": ["n", "age"]})
    assert store.service("fraud") == ["n", "age"]
    FeatureStore(transport).apply(Definition(features=FEATURES, services={"fraud": ["city"]}))
    wait_until(lambda: store.service("fraud") == ["city"], timeout=10)


def test_options_are_checked_and_may_be_taken_back(store: FeatureStore) -> None:
    version = declare(store, {"n": FeatureDefinition("int", default=7)}).schema().version
    with pytest.raises(SchemaError, match=r"^features.n.default = 'x': a default of type int is an integer"):
        store.apply(Definition(features={"n": FeatureDefinition("int", default="x")}))
    with pytest.raises(BadArgumentsError, match="the default of n must be int, not x"):
        store.transport.run(APPLY_SCHEMA, [store.keys.root], ["@default:n", "x"])
    assert store.schema().version == version
    store.upsert([("u", {})])
    assert store.get("u") == {"n": 7}
    declare(store, {"n": "int"})
    assert store.get("u") == {"n": None}


def test_entities_share_a_transport_and_nothing_else(store: FeatureStore, transport: Transport) -> None:
    declare(store, {"n": "int"}, entity="user")
    merchant = beside(transport, "user_shop", "all_users_shops")
    merchant.apply(Definition(features={"risk": "float"}, entity="user_shop", members="all_users_shops"))
    try:
        shop = store.entity("user_shop")
        shop.upsert([("u", {"risk": 0.5})])
        assert (shop.get("u"), store.get("u")) == ({"risk": 0.5}, None)
        assert shop.keys.parts[0].members.removeprefix(shop.keys.parts[0].tag) == "all_users_shops"
    finally:
        remove(merchant)
