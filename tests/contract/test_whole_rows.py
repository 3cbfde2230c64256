"""replace_rows with rows that the client makes: byte for byte what the upsert makes of them."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from featurestore.ingest.writer import BulkWriter
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.keys import single
from support.names import names_of, single_redis
from support.whole_rows import COLUMNS, FEATURES, PLAIN, TIME, empty, expires_at

from featurestore import (
    BadArgumentsError,
    Definition,
    FeatureStore,
    NoSchemaError,
    RedisError,
    SchemaChangedError,
    Transport,
)
from featurestore.contract import row_calls
from featurestore.contract.row_calls import row_calls_for
from featurestore.contract.scripts import REPLACE_ROWS
from featurestore.schema.definition import FeatureDefinition

pytestmark = pytest.mark.skipif(row_calls.writer_type is None, reason="the extension was not built")

floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.builds(lambda digits, power: float(f"{digits}e{power}"), st.integers(-(10**17), 10**17), st.integers(-24, 4)),
    st.integers(-(2**63), 2**63 - 1),
)
near_ends = st.builds(
    lambda power, sign, off: max(-(2**63), min(2**63 - 1, sign * 2**power + off)),
    st.integers(0, 63), st.sampled_from([1, -1]), st.integers(-2, 2),
)  # fmt: skip
ints = st.one_of(st.integers(-(2**63), 2**63 - 1), near_ends)
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    ints.map(str), st.sampled_from(["", "0", "-0", "00", "-", "1.0", "9223372036854775808", "-9223372036854775809"]),
    st.builds(lambda letter, count: letter * count, st.sampled_from("aé😀"), st.integers(0, 256)),
)  # fmt: skip
ids = st.one_of(texts, st.sampled_from(["u", "user:*", "a/b", " "])).filter(lambda text: 0 < len(text.encode()) <= 256)
ROW = b"\x93\xa1u\xa1a\xa11"
"""An array of an id, a packed row and a text."""

rows = st.lists(
    st.tuples(ids, texts, floats, floats, ints, st.booleans()), min_size=1, max_size=6, unique_by=lambda row: row[0]
)


def replace(
    store: FeatureStore, table: Sequence[Any], *, columns: Sequence[str] = COLUMNS, event_time: str = ""
) -> Any:
    """Return how many rows a call of the script alone wrote and which it left, None where the rows are not for it."""
    calls = row_calls_for(store.schema(), columns, event_time)
    encoded = calls and calls.encode(store.keys.parts[0], list(table))
    if not encoded:
        return None
    written, left, letters = store.transport.run_encoded(REPLACE_ROWS, encoded)
    assert [place for place, letter in enumerate(letters.decode()) if letter == "L"] == left
    return [written, left]


def forget(store: FeatureStore, *ids: str) -> None:
    """Take entities away without a trace."""
    store.transport.command("DEL", "all_users", *map(single(store).features, ids))


def dumps(store: FeatureStore, table: Sequence[Any]) -> list[tuple[bytes, int]]:
    """Return the hash of each row as Redis has it, and when it expires."""
    command = store.transport.command
    keys = [single(store).features(row[0]) for row in table]
    return [(command("DUMP", key), expires_at(store, key)) for key in keys]


@given(rows, st.sampled_from([TIME, 0, 127, 128, 99_999_999_999]))
@example([("u", "x" * 1024, 0.0, -0.0, 2**53, True), ("v", "", 1e-4, 9007199254740993.0, -(2**53), False)], TIME)
@example([("u", "a" * 63, 5e-324, 1.7976931348623157e308, 2**53 - 1, True)], TIME)
@example([("u", "é" * 128, 3.4028235677973366e38, 2.0**63, 1 - 2**53, True)], TIME)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_hash_is_what_the_upsert_makes_of_the_row(loading: BulkWriter, table: list[Any], event_time: int) -> None:
    store = loading.store
    empty(store)
    assert store.upsert_table(COLUMNS, table, event_time=event_time).verdicts == "C" * len(table)
    expected, members = dumps(store, table), sorted(store.transport.command("SMEMBERS", "all_users"))
    forget(store, *[row[0] for row in table])
    assert replace(store, table, event_time=str(event_time)) == [len(table), []]
    assert dumps(store, table) == expected
    assert sorted(store.transport.command("SMEMBERS", "all_users")) == members


@pytest.mark.parametrize("count", [1, 15, 16, 300, 1000])
def test_rows_of_any_width_are_written(loading: BulkWriter, count: int) -> None:
    store = loading.store
    store.transport.command("FLUSHALL")
    names = [f"f{index}" for index in range(count)]
    store.apply(Definition(features=dict.fromkeys(names, "int")))
    table = [("u", *range(count)), ("v", *range(-count, 0))]
    store.upsert_table(names, table, event_time=TIME)
    expected = store.get_many(["u", "v"])
    encodings = [store.transport.command("OBJECT", "ENCODING", "user:u:features")]
    forget(store, "u", "v")
    for _ in range(2):
        assert replace(store, table, columns=names, event_time=str(TIME)) == [2, []]
        assert store.get_many(["u", "v"]) == expected
        assert store.get_many(["u", "v"], names) == expected
        assert [store.transport.command("OBJECT", "ENCODING", "user:u:features")] == encodings


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"max_age": "1h"},
        {"ttl": "2h"},
        {"ttl": "2h", "max_age": "3h"},
        {
            "features": {
                **FEATURES,
                "f": FeatureDefinition("float", max_age="30m"),
                "s": FeatureDefinition("string", "x"),
            }
        },
        {"features": {**FEATURES, "s": FeatureDefinition("string", "x")}},
    ],
)
def test_rules_of_the_schema_hold(loading: BulkWriter, options: Any, *, timed: bool) -> None:
    store = loading.store
    store.apply(Definition(**{"features": FEATURES, **options}))
    now = int(time.time() * 1000)
    columns = ("@event_time", *COLUMNS) if timed else COLUMNS
    times = [[now], [now - 60_000]] if timed else [[], []]
    table = [(entity_id, *own, "x", 1.5, -2.0, 7, True) for entity_id, own in zip("uv", times, strict=True)]
    store.upsert_table(columns, table, event_time=now)
    expected = dumps(store, table)
    for _ in range(2):
        assert replace(store, table, columns=columns, event_time=str(now)) == [2, []]
        assert dumps(store, table) == expected
        forget(store, "u", "v")
    store.apply(Definition(features=FEATURES, ttl="none"))
    assert replace(store, [("w", "x", 1.5, 2.0, 7, True)])[0] == 1
    assert store.transport.command("PTTL", "user:w:features") == -1
    expiry = now + 100_000_000
    store.transport.command("PEXPIREAT", "user:w:features", expiry)
    assert replace(store, [("w", "y", 1.5, 2.0, 7, True)])[0] == 1
    assert expires_at(store, "user:w:features") == (-1 if "ttl" in options else expiry)


@pytest.mark.parametrize("limit", ["ttl", "max_age"])
def test_rows_past_their_end_are_left(loading: BulkWriter, limit: str) -> None:
    loading.store.apply(Definition(features=FEATURES, **{limit: "1h"}))  # type: ignore[arg-type]
    row = ("u", "x", 1.5, 2.0, 7, True)
    now = int(time.time() * 1000)
    assert replace(loading.store, [row], event_time=str(now - 3_700_000)) == [0, [0]]
    assert loading.store.get("u") is None
    assert replace(loading.store, [row], event_time=str(now - 3_500_000)) == [1, []]
    result = loading.write_table(COLUMNS, [("v", *row[1:])], event_time=now - 3_700_000)
    assert (result.written, result.skipped) == ((0, 1) if limit == "ttl" else (1, 0))


@pytest.mark.parametrize(
    "words",
    [
        [], ["L"], ["L", "", 0], ["L", "", 1, "n"], ["L", "x", 1, "n", ROW], ["L", "", 1, "n", b"\x92\xa1u\xa1a"],
        ["L", "", 1, "m", ROW], ["L", "@", 1, "n", ROW], ["L", "", "?", "n", ROW], ["L", "", 1, "n", ROW, ROW],
        ["L", "", 2, "n", "n", b"\x94\xa1u\xa1a\xa11\xa11"], ["L", "", 2, "n", "x", b"\x94\xa1u\xa1a\xa11\xa11"],
        ["L", "", 1, "n", ""], ["L", "", 1, "n", "\x05"], ["L", "", 1, "n", ROW[:-1]], ["L", "", 1, "n", b"\xc1"],
    ],
)  # fmt: skip
def test_replace_rows_refuses_arguments_that_do_not_fit(transport: Transport, words: list[Any]) -> None:
    store = FeatureStore(transport)
    layout = (store.apply(Definition(features={"n": "int"})), store.schema().layout)[1]
    words = [layout if word == "L" else word for word in words]
    with pytest.raises(BadArgumentsError, match=r"want keys members|the names must be those|event time"):
        transport.run(REPLACE_ROWS, names_of(store, "u"), words)
    assert [transport.command("EXISTS", names_of(store, "u")[place]) for place in (0, 2)] == [0, 0]


@single_redis("one call of the script has rows of one partition; test_bulk_writing.py writes to all")
def test_rows_are_replaced_on_every_backend_and_the_others_left(transport: Transport) -> None:
    store = FeatureStore(transport)
    store.apply(Definition(features=FEATURES))
    table = [(name, "x", 1.5, 2.0, 7, True) for name in ("new", "older", "newer", "odd", "gone", "same")]
    store.upsert([("older", {"i": 1})], event_time=TIME - 1)
    store.upsert([("newer", {"i": 1})], event_time=TIME + 1)
    store.delete("gone", event_time=TIME)
    store.upsert_table(COLUMNS, table[-1:], event_time=TIME)
    transport.command("SET", "user:odd:features", "x")
    assert replace(store, table, event_time=str(TIME)) == [3, [2, 3, 4]]
    whole = {"s": "x", "f": 1.5, "f.2": 2.0, "i": 7, "b": True}
    assert store.get_many(["new", "older", "same"]) == [whole] * 3
    assert store.get_many(["newer", "gone"], ["i", "s"]) == [{"i": 1, "s": None}, None]
    assert replace(store, table) == [5, [3]]  # without a time, whatever is stored
    assert store.get_many([row[0] for row in table if row[0] != "odd"]) == [whole] * 5
    array = b"\x97\xa1u\xa1a\xa1x\xa11\xa12\xa13\xa4true"
    other: list[Any] = [store.schema().layout[::-1], "", 5, *COLUMNS, array]
    with pytest.raises(SchemaChangedError):
        transport.run(REPLACE_ROWS, ["all_users", "user:schema", "user:u:features"], other)
    with pytest.raises(NoSchemaError):
        transport.run(REPLACE_ROWS, ["all_users", "user:none", "user:u:features"], other)
    for keys in (["user:schema", "user:schema"], ["all_users", "all_users"]):
        with pytest.raises(RedisError, match="WRONGTYPE"):
            transport.run(REPLACE_ROWS, [*keys, "user:u:features"], [store.schema().layout, *other[1:]])
    assert transport.command("EXISTS", "user:u:features") == 0


@single_redis("one call of the script has rows of one partition; test_bulk_writing.py writes to all")
def test_rows_are_compared_with_those_before_them_on_every_backend(transport: Transport) -> None:
    store = FeatureStore(transport)
    store.apply(Definition(features=FEATURES))
    columns = ("@event_time", *COLUMNS)
    table = [("u", TIME + late, f"{late}", *PLAIN[1:]) for late in (1, 0, 2, 1, 2)]
    assert replace(store, [("v", TIME, *PLAIN), *table], columns=columns) == [4, [2, 4]]  # nothing is stored yet
    assert store.get_many(["u", "v"], ["s"]) == [{"s": "2"}, {"s": "x"}]
    assert replace(store, table, columns=columns) == [2, [0, 1, 3]]
    assert replace(store, [(name, TIME, *PLAIN) for name in "vw"], columns=columns) == [2, []]
    assert store.count() == 3


@pytest.mark.parametrize(
    "odd",
    [
        ("", *PLAIN), ("x" * 257, *PLAIN), (5, *PLAIN), ("\ud800", *PLAIN), ("u", *PLAIN, 1), ("u", *PLAIN[:4]),
        "uabcde", ("u", "\udfff", *PLAIN[1:]), ("u", "x" * 1025, *PLAIN[1:]), ("u", b"x", *PLAIN[1:]),
        ("u", None, *PLAIN[1:]),
        ("u", "x", float("nan"), *PLAIN[2:]), ("u", "x", float("inf"), *PLAIN[2:]), ("u", "x", "1.5", *PLAIN[2:]),
        ("u", "x", True, *PLAIN[2:]), ("u", "x", 2**63, *PLAIN[2:]), ("u", "x", None, *PLAIN[2:]),
        ("u", "x", 1.5, 2.0, 2**63, True), ("u", "x", 1.5, 2.0, -(2**63) - 1, True), ("u", "x", 1.5, 2.0, 1.5, True),
        ("u", "x", 1.5, 2.0, 2.0**53, True),
        ("u", "x", 1.5, 2.0, True, True), ("u", "x", 1.5, 2.0, 7, 1), ("u", "x", 1.5, 2.0, 7, "true"), 5, None,
    ],
)  # fmt: skip
def test_a_row_that_is_not_plain_is_not_encoded(loading: BulkWriter, odd: Any) -> None:
    fine = ("v", *PLAIN)
    assert replace(loading.store, [fine, odd]) is None
    assert replace(loading.store, [odd, fine]) is None
    assert replace(loading.store, [list(fine)])[0] == 1


@pytest.mark.parametrize("event_time", ["-1", "1e3", "2026-01-01T00:00:00Z", "9" * 16, "9" * 40])
def test_other_times_and_columns_are_for_the_upsert(loading: BulkWriter, event_time: str) -> None:
    store = loading.store
    assert replace(store, [("u", *PLAIN)], event_time=event_time) is None
    assert replace(store, [("u", *PLAIN[1:])], columns=COLUMNS[1:]) is None
    assert replace(store, [("u", *PLAIN, 1.0)], columns=(*COLUMNS, "f")) is None
    timed = ("@event_time", *COLUMNS)
    for own in (-1, 10**15, 2**70, "5", None, 1.0, True):
        assert replace(store, [("u", own, *PLAIN)], columns=timed) is None
    store.apply(Definition(features={"e": "float32[2]"}))
    for odd in (b"1234", b"\0\0\x80\x7f1234", [1.0, 2.0], "12345678"):  # too short, infinity, no bytes
        assert replace(store, [("u", *PLAIN, odd)], columns=(*COLUMNS, "e")) is None
    store.apply(Definition(features={"clicks": "count(10m)"}))
    assert replace(store, [("u", *PLAIN, b"12345678", 1)], columns=(*COLUMNS, "e", "clicks")) is None
