"""The contract of docs/direct.md, case by case, on every backend."""

import re
from typing import Any

import msgspec
import pytest
from support.fake import FakeTransport
from support.names import single_redis

from featurestore import (
    BadArgumentsError,
    Definition,
    FeatureStore,
    NoSchemaError,
    RedisError,
    SchemaChangedError,
    Transport,
    TypeChangeError,
    UndeclaredFeatureError,
    read_definition,
)
from featurestore.contract.scripts import (
    APPLY_SCHEMA,
    DELETE_ENTITY,
    GET_FEATURES,
    GET_FEATURES_BATCH,
    REPACK_ROWS,
    UPSERT_FEATURES,
)
from featurestore.schema.definition import FeatureDefinition
from featurestore.store.maintenance import repack, sweep

pytestmark = single_redis("calls the scripts with the names of a single Redis; stores make those of a cluster")

FEATURES = {"age": "float", "n": "int", "vip": "bool", "city": "string"}
SHARED = ("all_users", "user:schema")


def key(entity_id: str) -> str:
    return f"user:{entity_id}:features"


@pytest.fixture
def declared(store: FeatureStore) -> FeatureStore:
    store.apply(Definition(features=FEATURES))  # type: ignore[arg-type]
    return store


def upsert(transport: Transport, names: list[str], *rows: tuple[Any, ...], time: str = "") -> Any:
    keys = [*SHARED, *(key(row[0]) if isinstance(row[0], str) else b"user:%b:features" % row[0] for row in rows)]
    return transport.run(UPSERT_FEATURES, keys, [time, len(names), *names, *(word for row in rows for word in row)])


def get(transport: Transport, entity_id: str, *names: str) -> Any:
    reply = transport.run(GET_FEATURES, [*SHARED, key(entity_id)], [entity_id, *names])
    if reply is None:
        return None
    return msgspec.msgpack.decode(reply if names else reply[8:])  # without names, behind the layout


# Writing and reading back


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("age", "69", 69),
        ("age", "69.0", 69),
        ("age", "-0.5", -0.5),
        ("age", "1e5", 100000),
        ("age", "5.", 5),
        ("age", "-0.0", 0),
        ("age", "0.1", 0.1),
        ("age", "1e-999", 0),
        ("n", "0", 0),
        ("n", "-7", -7),
        ("n", "9007199254740991", 2**53 - 1),
        ("n", "9007199254740993", 9007199254740993),
        ("n", "-9223372036854775808", -9223372036854775808),
        ("vip", "true", True),
        ("vip", "1", True),
        ("vip", "false", False),
        ("vip", "0", False),
        ("city", "00123", "00123"),
        ("city", "1e5", "1e5"),
        ("city", "null", "null"),
        ("city", "", ""),
        ("city", "Zürich €😀", "Zürich €😀"),
        ("city", "x" * 70_000, "x" * 70_000),
    ],
)
def test_a_value_of_its_type_comes_back(
    declared: FeatureStore, transport: Transport, name: str, text: str, value: Any
) -> None:
    assert upsert(transport, [name], ("u", text)) == [1, 0, []]
    assert get(transport, "u", name) == [value]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("age", text) for text in ("abc", "nan", "inf", "-inf", "1e999", "0x10", " 12", "12 ", "+5", "007", "-01",
                                     "", "1,5", ".5", "1e", "1-5", "12\x003", "12\n", "1_0", "--1", "true")),
        *(("n", text) for text in ("abc", "1.0", "1e3", "+5", "007", "-0", " 1", "", "0x10", "9223372036854775808",
                                   "-9223372036854775809", "1" * 30)),
        *(("vip", text) for text in ("True", "yes", "2", "", "TRUE", "null")),
        *(("city", text) for text in (b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ab\xe2\x82")),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_rejected_and_named(
    declared: FeatureStore, transport: Transport, name: str, text: str | bytes
) -> None:
    written, skipped, rejected = upsert(transport, [name], ("good", b"\xfe"), ("bad", text))
    assert (written, skipped) == (1, 0)
    assert [(row, code) for row, code, _ in rejected] == [(1, b"BADTYPE")]
    assert rejected[0][2].startswith(f"{name} is {FEATURES[name]}, not ".encode())
    assert get(transport, "bad") is None
    assert get(transport, "good") == [None] * 4


def test_no_names_means_every_feature_in_declared_order(declared: FeatureStore, transport: Transport) -> None:
    upsert(transport, ["city", "age"], ("u", "Rome", "1.5"))
    assert get(transport, "u") == [1.5, None, None, "Rome"]
    layout = declared.schema().layout
    reply = transport.run(GET_FEATURES, [*SHARED, key("u")], ["u", layout])
    assert (reply[:8], msgspec.msgpack.decode(reply[8:])) == (layout.encode(), [1.5, None, None, "Rome"])
    with pytest.raises(SchemaChangedError):
        get(transport, "u", "@0000000")


def test_by_layout_a_batch_has_rows_as_they_are_stored_and_makes_those_that_are_not(
    declared: FeatureStore, transport: Transport
) -> None:
    upsert(transport, ["city", "age"], ("u", "Rome", "1.5"), ("v", "Oslo", "2"), ("w", "Bonn", "3"))
    transport.command("HDEL", key("v"), "@row")
    transport.command("DEL", key("w"))
    transport.command("SET", key("w"), "no hash")
    layout = declared.schema().layout
    ids = ["v", "u", "nobody", "w", "u"]
    call = [*SHARED, *map(key, ids)], ["1", layout, *ids]
    rows = transport.run(GET_FEATURES_BATCH, *call)
    transport.command("DEL", key("w"))
    decoded = [row and (row[:8].decode(), msgspec.msgpack.decode(row[8:])) for row in rows]
    oslo, rome = [2, None, None, "Oslo"], [1.5, None, None, "Rome"]
    assert decoded == [(layout, oslo), (layout, rome), None, None, (layout, rome)]
    with pytest.raises(SchemaChangedError):
        transport.run(GET_FEATURES_BATCH, [*SHARED, key("u"), key("v")], ["1", "@0000000", "u", "v"])


def test_rows_stored_under_a_layout_tell_of_another_one_only_when_they_are_asked_to(
    declared: FeatureStore, transport: Transport
) -> None:
    upsert(transport, ["age"], ("u", "1.5"))
    word = declared.schema().layout
    single = [*SHARED, key("u")]
    batch = [*SHARED, key("u")]
    row = transport.run(GET_FEATURES, single, ["u", word])
    assert transport.run(GET_FEATURES, single, ["u", "?current", word]) == row
    assert transport.run(GET_FEATURES_BATCH, batch, ["2", "?current", word, "u"]) == [row]
    declared.apply(Definition(features=FEATURES, max_age="1ms"))  # type: ignore[arg-type]
    assert transport.run(GET_FEATURES, single, ["u", word]) == row
    assert transport.run(GET_FEATURES_BATCH, batch, ["1", word, "u"]) == [row]
    with pytest.raises(SchemaChangedError):
        transport.run(GET_FEATURES, single, ["u", "?current", word])
    with pytest.raises(SchemaChangedError):
        transport.run(GET_FEATURES_BATCH, batch, ["2", "?current", word, "u"])
    transport.command("DEL", "user:schema")
    assert transport.run(GET_FEATURES, single, ["u", "?current", word]) == row


def test_a_store_notices_another_schema_within_a_second_though_no_row_tells_of_it(
    declared: FeatureStore, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared.upsert([("u", {"age": 1.5}), ("v", {"age": 2.5})], event_time=1)
    other = FeatureStore(transport)
    known = {"age": 1.5, "n": None, "vip": None, "city": None}
    assert other.get("u") == known
    declared.apply(Definition(features={"age": FeatureDefinition("float", max_age="1d")}))
    assert other.get("u") == known
    monkeypatch.setattr(other._plans, "_sure_until", 0.0)
    assert other.get("u") == {**known, "age": None}
    declared.apply(Definition(features={"new": "int"}))
    monkeypatch.setattr(other._plans, "_sure_until", 0.0)
    assert other.get_many(["u", "v"]) == [{**known, "age": None, "new": None}] * 2


def test_many_features_are_packed_with_a_long_head(store: FeatureStore, transport: Transport) -> None:
    wide = {f"f{index}": "int" for index in range(300)}
    store.apply(Definition(features=wide))  # type: ignore[arg-type]
    values = {name: index for index, name in enumerate(wide)}
    assert store.upsert([("u", values)]).written == 1
    assert store.get("u") == values
    assert store.get_many(["u", "x"], list(wide)[:20]) == [dict(list(values.items())[:20]), None]


def test_two_rows_of_one_id_are_applied_in_order(declared: FeatureStore, transport: Transport) -> None:
    assert upsert(transport, ["age", "n"], ("u", "1", "1"), ("u", "2", b"\xfe"), time="5") == [2, 0, []]
    assert get(transport, "u", "age", "n") == [2, 1]


def test_an_older_event_time_is_skipped_and_counted(declared: FeatureStore, transport: Transport) -> None:
    assert upsert(transport, ["age"], ("u", "1"), time="1000") == [1, 0, []]
    assert upsert(transport, ["age"], ("u", "2"), ("v", "2"), time="999") == [1, 1, []]
    assert upsert(transport, ["age"], ("u", "3"), time="1000") == [1, 0, []]
    assert get(transport, "u", "age") == [3]
    assert get(transport, "v", "age") == [2]


def test_without_an_event_time_rows_count_as_of_now(declared: FeatureStore, transport: Transport) -> None:
    upsert(transport, ["age"], ("u", "1"))
    seconds, micros = (int(part) for part in transport.command("TIME"))
    stored = int(transport.command("HGET", key("u"), "@event_time"))
    assert 0 <= seconds * 1000 + micros // 1000 - stored < 60_000
    assert upsert(transport, ["age"], ("u", "2"), time="1000") == [0, 1, []]


def test_marks_remove_a_feature_or_leave_it(declared: FeatureStore, transport: Transport) -> None:
    upsert(transport, ["age", "city"], ("u", "1", "Rome"))
    assert upsert(transport, ["age", "city"], ("u", b"\xff", b"\xfe")) == [1, 0, []]
    assert get(transport, "u", "age", "city") == [None, "Rome"]
    assert transport.command("HEXISTS", key("u"), "age") == 0


def test_a_row_may_name_no_feature_and_makes_the_id_known(declared: FeatureStore, transport: Transport) -> None:
    assert upsert(transport, [], ("u",)) == [1, 0, []]
    assert get(transport, "u") == [None] * 4


def test_ids_may_be_any_bytes_but_not_empty_nor_long(declared: FeatureStore, transport: Transport) -> None:
    _, _, rejected = upsert(transport, ["n"], (b"\xff\x00", "1"), ("", "1"), ("x" * 257, "1"), ("x" * 256, "1"))
    assert [(row, code) for row, code, _ in rejected] == [(1, b"BADID"), (2, b"BADID")]
    assert transport.command("SISMEMBER", "all_users", b"\xff\x00") == 1


@pytest.mark.parametrize(
    ("keys", "arguments"),
    [
        ([*SHARED, key("u")], ["", 1, "age", "u"]),
        ([*SHARED, key("u")], ["", 1, "age", "u", "1", "2"]),
        ([*SHARED, key("u")], ["", "x", "age", "u", "1"]),
        ([*SHARED, key("u")], ["", "0.5", "age", "u", "1"]),
        ([*SHARED, key("u")], ["yesterday", 1, "age", "u", "1"]),
        ([*SHARED, key("u")], ["-5", 1, "age", "u", "1"]),
        ([*SHARED], ["", 1, "age"]),
        ([], []),
    ],
)
def test_upsert_refuses_arguments_that_do_not_fit(
    declared: FeatureStore, transport: Transport, keys: list[str], arguments: list[Any]
) -> None:
    with pytest.raises(BadArgumentsError):
        transport.run(UPSERT_FEATURES, keys, arguments)
    assert transport.command("EXISTS", key("u")) == 0


def test_reads_and_deletes_refuse_arguments_that_do_not_fit(declared: FeatureStore, transport: Transport) -> None:
    for script, keys, arguments in (
        (GET_FEATURES, [key("u")], ["u"]),
        (GET_FEATURES, [*SHARED, key("u")], []),
        (GET_FEATURES_BATCH, [*SHARED], [0]),
        (GET_FEATURES_BATCH, [*SHARED, key("u")], [0]),
        (GET_FEATURES_BATCH, [*SHARED, key("u")], ["x", "u"]),
        (DELETE_ENTITY, [key("u")], ["u"]),
        (DELETE_ENTITY, [*SHARED, key("u")], []),
    ):
        with pytest.raises(BadArgumentsError):
            transport.run(script, keys, arguments)


def test_an_undeclared_name_is_refused_by_name(declared: FeatureStore, transport: Transport) -> None:
    upsert(transport, ["age"], ("u", "1"))
    with pytest.raises(UndeclaredFeatureError, match="nope"):
        upsert(transport, ["nope"], ("u", "1"))
    with pytest.raises(UndeclaredFeatureError, match="nope"):
        get(transport, "u", "age", "nope")
    with pytest.raises(BadArgumentsError, match="@event_time"):
        get(transport, "u", "@event_time", "age")


def test_without_a_schema_the_error_says_which_command_to_run(store: FeatureStore, transport: Transport) -> None:
    transport.command("SADD", "all_users", "u")
    for call in (
        lambda: upsert(transport, ["age"], ("u", "1")),
        lambda: get(transport, "u"),
        lambda: get(transport, "u", "age"),
        lambda: store.get_many(["u"]),
    ):
        with pytest.raises(NoSchemaError, match="featurestore apply"):
            call()


# Batches


def test_a_batch_keeps_order_and_duplicates(declared: FeatureStore) -> None:
    declared.upsert([("a", {"age": 1.0}), ("b", {"age": 2.0})])
    rows = declared.get_many(["b", "nope", "a", "b"], ["age"])
    assert rows == [{"age": 2.0}, None, {"age": 1.0}, {"age": 2.0}]
    assert declared.get_many(["nope"] * 3) == [None] * 3
    assert declared.get_many([]) == []


def test_a_large_batch_is_answered_whole(declared: FeatureStore) -> None:
    ids = [f"u{index}" for index in range(1000)]
    declared.upsert((entity_id, {"n": index}) for index, entity_id in enumerate(ids))
    assert [row and row["n"] for row in declared.get_many(ids, ["n"])] == list(range(1000))


def test_an_unknown_id_costs_no_hash_read(declared: FeatureStore, transport: Transport) -> None:
    transport.command("HSET", key("ghost"), "age", "1")
    assert declared.get("ghost") is None
    assert declared.get_many(["ghost"]) == [None]


# Hashes that something else wrote


def test_rubbish_is_null_for_that_feature_alone(declared: FeatureStore, transport: Transport) -> None:
    declared.upsert([("u", {"city": "Rome"}), ("v", {"age": 2.0, "city": "Oslo"})])
    transport.command("HDEL", key("u"), "@row")  # whatever wrote this knows nothing of packed rows
    transport.command(
        "HSET", key("u"), "age", "0x10", "n", "1.5", "vip", "maybe", "undeclared", "1", "city", b"\xff\xfe"
    )
    assert declared.get("u") == dict.fromkeys(FEATURES)
    transport.command("HSET", key("u"), "city", "Rome")
    nothing = dict.fromkeys(FEATURES)
    assert declared.get_many(["u", "v"]) == [{**nothing, "city": "Rome"}, {**nothing, "age": 2.0, "city": "Oslo"}]


def test_a_member_whose_key_is_no_hash_is_not_known_and_takes_no_features(
    declared: FeatureStore, transport: Transport
) -> None:
    transport.command("SET", key("u"), "text")
    transport.command("SADD", "all_users", "u")
    declared.upsert([("v", {"n": 1})])
    assert declared.get("u") is None
    assert declared.get_many(["u", "v"], ["n"]) == [None, {"n": 1}]
    for time in (5, None):
        result = declared.upsert([("u", {"n": 1}), ("w", {"n": 2})], event_time=time)
        assert (result.written, [(bad.row, bad.code) for bad in result.rejected]) == (1, [(0, "WRONGTYPE")])


def test_a_member_without_a_hash_is_not_known_however_it_is_asked_for(
    declared: FeatureStore, transport: Transport
) -> None:
    """As Redis leaves it where it may evict: the set has the id, and the features are gone."""
    defaults = {"n": FeatureDefinition("int", default=7), "e": "float32[2]", "clicks": "count(10m)"}
    declared.apply(Definition(features=defaults, services={"s": ["n"]}))  # type: ignore[arg-type]
    declared.schema()
    declared.upsert([("u", {"n": 1}), ("v", {"n": 2, "e": [1, 2]}), ("w", {})])
    transport.command("DEL", key("u"))
    assert declared.get("u") is declared.get("u", ["n"]) is declared.get("u", ["e", "n"]) is None
    assert declared.get("u", service="s") is declared.get("u", max_age="1h") is None
    assert declared.describe("u") is None
    assert [row and row["n"] for row in declared.get_many(["u", "v", "w"])] == [None, 2, 7]
    assert declared.get_many(["u", "v"], ["e", "n"]) == [None, {"e": [1, 2], "n": 2}]
    assert declared.describe_many(["u", "v"])[0] is None
    *_, swept = sweep(declared)
    assert (swept.removed, declared.count()) == (1, 2)
    assert declared.upsert([("u", {"n": 3})]).verdicts == "C"
    assert declared.get("u", ["n"]) == {"n": 3}


def test_a_members_key_of_another_type_is_an_error_before_any_write(
    declared: FeatureStore, transport: Transport
) -> None:
    transport.command("SET", "all_users", "text")
    for call in (
        lambda: declared.upsert([("u", {"n": 1})]),
        lambda: declared.get("u"),
        lambda: declared.get_many(["u"]),
        lambda: declared.delete("u"),
    ):
        with pytest.raises(RedisError, match="WRONGTYPE"):
            call()
    assert transport.command("EXISTS", key("u")) == 0


# Deleting


def test_delete_removes_hash_and_membership(declared: FeatureStore, transport: Transport) -> None:
    declared.upsert([("u", {"n": 1})])
    assert transport.run(DELETE_ENTITY, [*SHARED, key("u")], ["u"]) == 1
    assert transport.command("EXISTS", key("u"), "all_users") == 0
    assert transport.run(DELETE_ENTITY, [*SHARED, key("u")], ["u"]) == 0


# The schema


def test_apply_is_additive_and_counts_changes(store: FeatureStore, transport: Transport) -> None:
    assert store.apply(read_definition()) == 1
    assert store.apply(read_definition()) == 1
    first = store.schema()
    store.upsert([("u", {"age": 1.0})])
    assert transport.run(APPLY_SCHEMA, ["user:schema"], ["vip", "bool"]) == 2
    second = store.schema()
    assert list(second.features) == [*first.features, "vip"]
    assert second.layout != first.layout
    assert store.get("u", ["vip", "age"]) == {"vip": None, "age": 1.0}


def test_a_type_is_not_changed_in_place(declared: FeatureStore, transport: Transport) -> None:
    before = declared.schema()
    with pytest.raises(TypeChangeError, match="age is declared as float and cannot become int"):
        transport.run(APPLY_SCHEMA, ["user:schema"], ["new", "int", "age", "int"])
    assert declared.schema() == before


@pytest.mark.parametrize(
    "words",
    [[], ["age"], ["a b", "int"], ["@age", "int"], ["", "int"], ["é", "int"], ["x" * 129, "int"], ["a", "number"]],
)
def test_apply_refuses_names_and_types_that_are_not_allowed(transport: Transport, words: list[str]) -> None:
    with pytest.raises(BadArgumentsError):
        transport.run(APPLY_SCHEMA, ["user:schema"], words)
    assert transport.command("EXISTS", "user:schema") == 0


def test_a_reader_notices_a_schema_that_was_replaced_under_it(declared: FeatureStore, transport: Transport) -> None:
    declared.upsert([("u", {"age": 1.0})])
    assert declared.get("u") == {**dict.fromkeys(FEATURES), "age": 1.0}
    transport.command("DEL", "user:schema")
    other = FeatureStore(transport)
    other.apply(Definition(features={"city": "string", "vip": "bool", "n": "int", "age": "float"}))
    other.upsert([("u", {"age": 2.0, "city": "Rome"})])
    assert declared.get("u") == {"city": "Rome", "vip": None, "n": None, "age": 2.0}
    assert declared.get_many(["u"]) == [{"city": "Rome", "vip": None, "n": None, "age": 2.0}]


def test_a_feature_is_named_once(declared: FeatureStore, transport: Transport) -> None:
    with pytest.raises(BadArgumentsError, match="age is named twice"):
        upsert(transport, ["age", "n", "age"], ("u", "1", "2", "3"))


@pytest.mark.parametrize("names", ['[["a"]]', "[null]", '["a b"]', "[]", "{}", '"a"', '["@layout"]'])
def test_services_are_lists_of_names(declared: FeatureStore, transport: Transport, names: str) -> None:
    with pytest.raises(BadArgumentsError, match="wants a JSON array of feature names"):
        transport.run(APPLY_SCHEMA, ["user:schema"], ["@service:s", names])
    assert transport.run(APPLY_SCHEMA, ["user:schema"], ["@service:s", '["age","item:price"]']) == 2


def test_later_deletions_count_whatever_is_stored(declared: FeatureStore) -> None:
    declared.upsert([("u", {"age": 1.0})], event_time=100)
    assert declared.delete("u", event_time=150)
    assert not declared.delete("u", event_time=300)
    assert not declared.delete("u", event_time=200)
    assert not declared.delete("unknown", event_time=300)
    assert declared.upsert([("u", {"age": 1.0}), ("unknown", {"age": 1.0})], event_time=250).verdicts == "SS"
    assert declared.upsert([("u", {"age": 1.0}), ("unknown", {"age": 1.0})], event_time=350).verdicts == "CC"


# The packed row


def test_without_a_schema_nobody_is_just_unknown(declared: FeatureStore, transport: Transport) -> None:
    layout = declared.schema().layout
    transport.command("FLUSHALL")
    for words in (["u"], ["u", "age"], ["u", layout], ["u", "?current", layout]):
        with pytest.raises(NoSchemaError):
            transport.run(GET_FEATURES, [*SHARED, key("u")], words)
    for names in ([], ["age"], [layout], ["?current", layout]):
        with pytest.raises(NoSchemaError):
            transport.run(GET_FEATURES_BATCH, [*SHARED, key("u"), key("v")], [len(names), *names, "u", "v"])


def test_a_whole_read_costs_one_membership_call_and_one_field(declared: FeatureStore, transport: Transport) -> None:
    if isinstance(transport, FakeTransport):
        pytest.skip("fakeredis keeps no command statistics")
    declared.upsert((f"u{index}", {"age": 1.0}) for index in range(100))
    declared.get("u1")
    transport.command("CONFIG", "RESETSTAT")
    declared.get("u1")
    declared.get_many([f"u{index}" for index in range(100)])
    stats = transport.command("INFO", "commandstats").decode()
    counts = dict(re.findall(r"cmdstat_(\w+):calls=(\d+)", stats))
    counts.pop("config", None)
    assert counts.pop("fcall" if "fcall" in counts else "evalsha") == "2"
    assert counts == {"sismember": "1", "smismember": "1", "hget": "101"}


def test_repack_builds_what_is_missing_and_nothing_else(declared: FeatureStore, transport: Transport) -> None:
    declared.upsert((f"u{index}", {"age": float(index)}) for index in range(250))
    for index in range(120):
        transport.command("HDEL", key(f"u{index}"), "@row")
    transport.command("SADD", "all_users", "ghost", b"\xff")
    transport.command("SET", key("text"), "no hash")
    transport.command("SADD", "all_users", "text")
    *_, last = repack(declared)
    assert (last.built, last.total) == (120, 253)
    assert [progress.built for progress in repack(declared)][-1] == 0
    declared.apply(Definition(features={"later": "int"}))
    declared.schema()
    *_, last = repack(declared)
    assert last.built == 250
    assert declared.get("u7") == {"age": 7.0, "n": None, "vip": None, "city": None, "later": None}


def test_repack_refuses_arguments_that_do_not_fit(declared: FeatureStore, transport: Transport) -> None:
    for keys, arguments in (([*SHARED], []), ([*SHARED, key("u")], []), ([*SHARED, key("u")], ["u", "v"])):
        with pytest.raises(BadArgumentsError):
            transport.run(REPACK_ROWS, keys, arguments)
