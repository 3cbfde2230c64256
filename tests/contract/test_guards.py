"""A caller's mistake costs no data: keys of others, misaligned rows, missing permissions, rows that are none."""

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from support.fake import FakeTransport
from support.names import single_redis
from support.servers import EVERYDAY, Server, real

from featurestore import AccessDeniedError, BadArgumentsError, Definition, FeatureStore, SyncTransport, Transport
from featurestore.contract.resp import Reply, Word, encode_call
from featurestore.contract.scripts import (
    APPLY_SCHEMA,
    CLEAR_HASHES,
    CONTRACT,
    COPY_ENTITIES,
    DELETE_ENTITY,
    DESCRIBE_ENTITY,
    DROP_ENTITY,
    FREE_NAMES,
    GET_FEATURES,
    GET_FEATURES_BATCH,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    REPACK_ROWS,
    REPLACE_ROWS,
    RETIRE_FEATURES,
    SCRIPTS,
    SWEEP_MEMBERS,
    UPSERT_FEATURES,
    Script,
    script_folder,
)
from featurestore.errors import BadValueError, FeatureStoreError, NoSchemaError, RedisError

pytestmark = single_redis("tries names of keys that do not belong together, which a cluster refuses itself")

FEATURES: dict[str, Any] = {"age": "float", "n": "int"}
WINDOW: dict[str, Any] = {"plays": "count(1d)"}
SHARED = ("all_users", "user:schema")
TIME = 1_700_000_000_000
NO_KEYS_OF_ANN = [
    "user:bob:features", "user:schema", "all_users", "a:list", "item:ann:features", "user:ann", "user:xann:features",
    "user:annx:features", "user::features",
]  # fmt: skip


def hashes(*entity_ids: str) -> list[str]:
    return [f"user:{entity_id}:features" for entity_id in entity_ids]


def copied(entity_id: str, age: str) -> list[Word]:
    return [entity_id, "1", "", 2, "age", age, "@event_time", TIME + 5]


def row(layout: str, *values: Any, texts: Sequence[Any], entity_id: Any = "ann", time: Any = None) -> list[Any]:
    packed = layout.encode() + msgspec.msgpack.encode(values)
    return [entity_id, *([] if time is None else [time]), packed, *texts]


def words(*rows: list[Any]) -> bytes:
    """Return rows as replace_rows takes them: one msgpack array, whose strings may be any bytes."""
    parts = []
    for word in [word for each in rows for word in each]:
        raw = word.encode() if isinstance(word, str) else word
        parts.append(
            b"\xda%b%b" % (len(raw).to_bytes(2), raw) if isinstance(raw, bytes) else msgspec.msgpack.encode(raw)
        )
    return b"\xdd" + len(parts).to_bytes(4) + b"".join(parts)


def everything(transport: Transport) -> dict[Any, Any]:
    """Return all that is stored."""
    read = {b"hash": ("HGETALL",), b"set": ("SMEMBERS",), b"list": ("LRANGE", 0, -1), b"string": ("GET",)}
    found = {}
    for key in transport.command("KEYS", "*"):
        command, *rest = read[transport.command("TYPE", key)]
        value = transport.command(command, key, *rest)
        found[key] = sorted(value) if isinstance(value, list) else value
    return found


@pytest.fixture
def stocked(store: FeatureStore, transport: Transport) -> Iterator[FeatureStore]:
    """A store with ann and bob, beside a list of another application."""
    store.apply(Definition(features=FEATURES))
    store.upsert([("ann", {"age": 1.5, "n": 1}), ("bob", {"age": 2.5, "n": 2})], event_time=TIME)
    transport.command("RPUSH", "a:list", "x", "y")
    yield store
    transport.command("DEL", "a:list")


def calls_of_ann(layout: str, key: str) -> list[tuple[Script, list[str], list[Word]]]:
    """Return a call of each script that takes the keys of entities, for ann."""
    keys = [*SHARED, key]
    return [
        (GET_FEATURES, keys, ["ann"]),
        (GET_FEATURES, keys, ["ann", layout]),
        (GET_FEATURES, keys, ["ann", "?current", layout]),
        (GET_FEATURES, keys, ["ann", "age"]),
        (GET_FEATURES_BATCH, [*keys, *hashes("bob")], [1, layout, "ann", "bob"]),
        (GET_FEATURES_BATCH, [*SHARED, *hashes("bob"), key], [2, "?current", layout, "bob", "ann"]),
        (GET_FEATURES_BATCH, [*SHARED, *hashes("bob"), key], [1, "n", "bob", "ann"]),
        (INCREMENT_FEATURES, keys, ["ann", "", "n", "1"]),
        (DELETE_ENTITY, keys, ["ann"]),
        (DELETE_ENTITY, keys, ["ann", "", "1000"]),
        (REPACK_ROWS, [*keys, *hashes("bob")], ["ann", "bob"]),
        (SWEEP_MEMBERS, [*SHARED, *hashes("bob"), key], ["bob", "ann"]),
        (COPY_ENTITIES, [*SHARED, *hashes("bob"), key], ["none", *copied("bob", "1"), *copied("ann", "1")]),
        (CLEAR_HASHES, [*SHARED, *hashes("bob"), key], ["bob", "ann"]),
    ]


@pytest.mark.parametrize("key", NO_KEYS_OF_ANN)
def test_a_key_that_is_not_the_ids_own_is_neither_read_nor_written(stocked: FeatureStore, key: str) -> None:
    transport, before = stocked.transport, everything(stocked.transport)
    for script, keys, arguments in calls_of_ann(stocked.schema().layout, key):
        with pytest.raises(BadArgumentsError, match=f"the key of the features of ann is user:ann:features, not {key}"):
            transport.run(script, keys, arguments)
    assert everything(transport) == before


@pytest.mark.parametrize("key", NO_KEYS_OF_ANN)
def test_a_row_with_another_key_is_rejected_and_the_others_are_written(stocked: FeatureStore, key: str) -> None:
    transport, before = stocked.transport, everything(stocked.transport)
    keys = [*SHARED, key, *hashes("eve")]
    written, skipped, rejected = transport.run(UPSERT_FEATURES, keys, ["", 1, "n", "ann", "7", "eve", "8"])
    assert (written, skipped) == (1, 0)
    reason = f"the key of the features of ann is user:ann:features, not {key}"
    assert rejected == [[0, b"BADID", reason.encode()]]
    layout = stocked.schema().layout
    rows = [row(layout, 9.5, 9, texts=["9.5", "9"], entity_id=entity_id) for entity_id in ("ann", "eve")]
    assert transport.run(REPLACE_ROWS, keys, [layout, "", 2, "age", "n", words(*rows)]) == [1, [0]]
    after = everything(transport)
    assert stocked.get("eve") == {"age": 9.5, "n": 9}
    for changed in (b"user:eve:features", b"all_users"):
        after.pop(changed)
        before.pop(changed, None)
    assert after == before


@pytest.mark.parametrize("members", ["all_items", "otherapp:set", "all_user", "featurestore:schemas", "user:schema"])
def test_a_set_of_ids_that_is_not_the_schemas_is_not_written(stocked: FeatureStore, members: str) -> None:
    transport, layout = stocked.transport, stocked.schema().layout
    if members in {"all_items", "otherapp:set"}:
        transport.command("SADD", members, "ann", "gone")
    before = everything(transport)
    whole = words(row(layout, 3.5, 3, texts=["3.5", "3"]))
    keys = [members, "user:schema", *hashes("ann")]
    calls: list[tuple[Script, list[str], list[Word]]] = [
        (UPSERT_FEATURES, keys, ["", 1, "n", "ann", "7"]),
        (REPLACE_ROWS, keys, [layout, "", 2, "age", "n", whole]),
        (INCREMENT_FEATURES, keys, ["ann", "", "n", "1"]),
        (DELETE_ENTITY, keys, ["ann"]),
        (SWEEP_MEMBERS, [members, "user:schema", *hashes("gone")], ["gone"]),
        (DROP_ENTITY, [members, "user:schema"], []),
    ]
    for script, names, arguments in calls:
        with pytest.raises(
            (BadArgumentsError, RedisError), match=f"the set of ids is all_users, not {members}|WRONGTYPE"
        ):
            transport.run(script, names, arguments)
    assert everything(transport) == before
    transport.command("DEL", *({members} - {"user:schema"} or ["otherapp:set"]))


def test_the_schema_may_name_another_set_of_ids(stocked: FeatureStore) -> None:
    stocked.transport.run(APPLY_SCHEMA, ["user:schema"], ["@members", "all_people"])
    keys = ["all_people", "user:schema", *hashes("ann")]
    assert stocked.transport.run(UPSERT_FEATURES, keys, ["", 1, "n", "ann", "7"])[0] == 1
    with pytest.raises(BadArgumentsError, match="the set of ids is all_people, not all_users"):
        stocked.transport.run(DELETE_ENTITY, [*SHARED, *hashes("ann")], ["ann"])
    stocked.transport.command("DEL", "all_people")


@pytest.mark.parametrize(
    ("schema", "members"),
    [("user:schema", "all_users"), ("{7}user:schema", "all_{7}users"), ("{u}:schema", "all_{u}s")],
)
def test_the_set_of_ids_is_told_and_is_in_the_schemas_slot(store: FeatureStore, schema: str, members: str) -> None:
    store.transport.run(APPLY_SCHEMA, [schema], ["n", "int"])
    assert msgspec.msgpack.decode(store.transport.run(DESCRIBE_ENTITY, [schema], []))["members"] == members
    keys = [members, schema, f"{schema.removesuffix('schema')}ann:features"]
    assert store.transport.run(UPSERT_FEATURES, keys, ["", 1, "n", "ann", "7"])[0] == 1
    assert store.transport.run(GET_FEATURES, keys, ["ann", "n"]) == b"\x91\x07"
    store.transport.command("DEL", *keys)


def test_keys_in_another_order_than_the_ids_remove_nobody(stocked: FeatureStore) -> None:
    transport = stocked.transport
    transport.command("SADD", "all_users", "gone")
    with pytest.raises(BadArgumentsError, match="not user:gone:features"):
        transport.run(SWEEP_MEMBERS, [*SHARED, *hashes("gone", "ann")], ["ann", "gone"])
    assert stocked.count() == 3
    assert transport.run(SWEEP_MEMBERS, [*SHARED, *hashes("ann", "gone")], ["ann", "gone"]) == 1


def test_events_with_another_key_are_rejected(store: FeatureStore) -> None:
    store.apply(Definition(features=WINDOW))
    keys = [*SHARED, *hashes("bob", "ann")]
    counted, skipped, rejected, verdicts = store.transport.run(RECORD_EVENTS, keys, ["", 0, "ann", "ann"])
    assert (counted, skipped, [bad[:2] for bad in rejected], verdicts) == (1, 0, [[0, b"BADID"]], b"RC")
    assert store.get("bob") is None


def test_a_key_of_another_is_found_behind_one_that_holds_no_hash(stocked: FeatureStore) -> None:
    transport, layout = stocked.transport, stocked.schema().layout
    transport.command("SADD", "all_users", "x")
    transport.command("SET", "user:x:features", "no hash")
    for head in ([1, layout], [2, "?current", layout], [0], [1, "n"]):
        with pytest.raises(BadArgumentsError, match="the key of the features of ann is user:ann:features"):
            transport.run(GET_FEATURES_BATCH, [*SHARED, *hashes("x", "bob")], [*head, "x", "ann"])
    keys = [*SHARED, *hashes("x", "ann")]
    none, ann = transport.run(GET_FEATURES_BATCH, keys, [1, layout, "x", "ann"])
    assert (none, msgspec.msgpack.decode(ann[8:])) == (None, [1.5, 1])
    transport.command("DEL", "user:x:features")


@pytest.mark.parametrize("keep", ["00", "0070000", "0"])
def test_how_long_a_tombstone_stays_may_have_noughts_in_front(stocked: FeatureStore, keep: str) -> None:
    assert stocked.transport.run(DELETE_ENTITY, [*SHARED, *hashes("ann")], ["ann", TIME, keep]) == 1
    assert stocked.transport.command("PTTL", "user:ann:features") in (
        [-2] if int(keep) == 0 else range(1, int(keep) + 1)
    )
    assert stocked.get("ann") is None


def test_what_is_no_hash_is_not_deleted(stocked: FeatureStore) -> None:
    transport = stocked.transport
    transport.command("RPUSH", "user:odd:features", "x")
    calls: list[list[Word]] = [["odd"], ["odd", "", "1000"], ["odd", TIME]]
    for arguments in calls:
        with pytest.raises(RedisError, match="WRONGTYPE"):
            transport.run(DELETE_ENTITY, [*SHARED, *hashes("odd")], arguments)
    assert transport.command("LRANGE", "user:odd:features", 0, -1) == [b"x"]


@pytest.mark.parametrize("key", ["all_users", "user:ann:features", "schema", ":schema", "a:list"])
def test_a_schema_is_stored_where_a_schema_belongs(stocked: FeatureStore, key: str) -> None:
    before = everything(stocked.transport)
    with pytest.raises(BadArgumentsError, match="the key of a schema is ENTITY:schema"):
        stocked.transport.run(APPLY_SCHEMA, [key], ["later", "int"])
    assert everything(stocked.transport) == before


def test_without_a_schema_nothing_is_removed(stocked: FeatureStore) -> None:
    transport = stocked.transport
    transport.command("DEL", "user:schema", "user:ann:features")
    for script in (SWEEP_MEMBERS, DELETE_ENTITY):
        with pytest.raises(NoSchemaError):
            transport.run(script, [*SHARED, *hashes("ann")], ["ann"])
    assert transport.command("SCARD", "all_users") == 2


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_wrong_number_tells_what_was_given(store: FeatureStore, script: Script) -> None:
    with pytest.raises(BadArgumentsError, match=r"^want .*; given 0 keys and 1 arguments$"):
        store.transport.run(script, [], ["x"])


def test_an_uneven_number_of_values_tells_what_there_should_be(stocked: FeatureStore) -> None:
    with pytest.raises(BadArgumentsError, match=r"given 4 keys and 7 arguments, which should be 10$"):
        stocked.transport.run(UPSERT_FEATURES, [*SHARED, *hashes("a", "b")], ["", 2, "n", "age", "a", "1", "2"])


# Whole rows


@pytest.mark.parametrize(
    "bad",
    [
        {"time": "1e999"}, {"time": "inf"}, {"time": "1700000000"}, {"time": "99999999999999"}, {"time": ""},
        {"time": "-1"}, {"time": 7}, {"time": ["x"]}, {"entity_id": ""}, {"entity_id": "x" * 257},
        {"entity_id": ["ann"]},
        {"entity_id": 5}, {"values": []}, {"values": [1.5]}, {"values": [1.5, 1, 1]}, {"texts": ["1.5", ["x"]]},
        {"layout": "@0000000"}, {"layout": ""}, {"texts": ["1.5", None]}, {"time": False},
    ],
    ids=str,
)  # fmt: skip
def test_a_whole_row_that_does_not_fit_is_left(stocked: FeatureStore, bad: dict[str, Any]) -> None:
    transport, layout = stocked.transport, stocked.schema().layout
    entity_id, values = bad.get("entity_id", "ann"), bad.get("values", [3.5, 3])
    odd = row(
        bad.get("layout", layout), *values, texts=bad.get("texts", ["3.5", "3"]), entity_id=entity_id,
        time=bad.get("time", str(TIME + 1)),
    )  # fmt: skip
    good = row(layout, 4.5, 4, texts=["4.5", "4"], entity_id="bob", time=str(TIME + 1))
    key = hashes(entity_id if isinstance(entity_id, str) else "ann")[0]
    before = everything(transport)
    arguments: list[Word] = [layout, "@", 2, "age", "n"]
    if isinstance(transport, FakeTransport) and any(
        word is None or isinstance(word, list | int) for word in [*odd, *bad.values()]
    ):
        pytest.skip("the cmsgpack of the tests has strings alone")
    keys = [*SHARED, key, *hashes("bob")]
    assert transport.run(REPLACE_ROWS, keys, [*arguments, words(odd, good)]) == [1, [0]]
    assert stocked.get("bob") == {"age": 4.5, "n": 4}
    after = everything(transport)
    after.pop(b"user:bob:features")
    before.pop(b"user:bob:features")
    assert after == before


@pytest.mark.parametrize("time", ["1e999", "1700000000", "99999999999999", "soon"])
def test_a_time_of_all_whole_rows_is_checked(stocked: FeatureStore, time: str) -> None:
    layout = stocked.schema().layout
    array = words(row(layout, 3.5, 3, texts=["3.5", "3"]))
    with pytest.raises(BadArgumentsError, match="event time"):
        stocked.transport.run(REPLACE_ROWS, [*SHARED, *hashes("ann")], [layout, time, 2, "age", "n", array])


def test_a_deletion_is_remembered_behind_whole_rows(stocked: FeatureStore) -> None:
    assert stocked.delete("ann", event_time=TIME + 10)
    stocked.upsert_table(["age", "n"], [("ann", 1.5, 1)], event_time=TIME + 20)
    stocked.upsert_table(["age", "n"], [("ann", 1.5, 1)])
    assert stocked.increment("ann", {"n": 1}, event_time=TIME + 10) is None
    stocked.apply(Definition(features=WINDOW | {"later": "int"}))
    stocked.schema()
    assert stocked.record([("ann", {})], event_time=TIME + 10).verdicts == "S"
    assert stocked.upsert([("ann", {"later": 1})], event_time=TIME + 10).verdicts == "S"
    assert stocked.upsert([("ann", {"later": 1})], event_time=TIME + 11).verdicts == "A"


def test_a_backfill_does_not_take_the_time_of_a_deletion_back(stocked: FeatureStore) -> None:
    whole, layout = [("ann", 1.5, 1)], stocked.schema().layout
    stocked.delete("ann", event_time=TIME + 1000)
    stocked.upsert([("ann", {"n": 1})], event_time=TIME, overwrite=True)
    assert stocked.upsert_table(["age", "n"], whole, event_time=TIME + 500).verdicts == "S"
    array = words(row(layout, 1.5, 1, texts=["1.5", "1"]))
    arguments: list[Word] = [layout, TIME + 500, 2, "age", "n", array]
    assert stocked.transport.run(REPLACE_ROWS, [*SHARED, *hashes("ann")], arguments) == [0, [0]]
    assert stocked.delete("ann", event_time=TIME + 600)
    assert stocked.upsert([("ann", {"n": 1})], event_time=TIME + 700).verdicts == "S"


@pytest.mark.parametrize("stored", ["abc", "", "nan", "-5", None])
def test_a_damaged_time_does_not_take_the_time_of_a_deletion_away(stocked: FeatureStore, stored: str | None) -> None:
    stocked.delete("ann", event_time=TIME + 1000)
    stocked.upsert([("ann", {"n": 1})], event_time=TIME + 2000)
    key = "user:ann:features"
    for _ in range(2):
        stocked.transport.command(
            *(("HDEL", key, "@event_time") if stored is None else ("HSET", key, "@event_time", stored))
        )
        assert stocked.upsert_table(["age", "n"], [("ann", 1.5, 1)], event_time=TIME + 500).verdicts == "S"
        array = words(row(stocked.schema().layout, 1.5, 1, texts=["1.5", "1"]))
        arguments: list[Word] = [stocked.schema().layout, TIME + 500, 2, "age", "n", array]
        assert stocked.transport.run(REPLACE_ROWS, [*SHARED, *hashes("ann")], arguments) == [0, [0]]
        stocked.delete("ann", event_time=TIME + 1000)  # and of a tombstone


def test_what_was_written_before_an_error_stays_known(servers: dict[str, Server]) -> None:
    """A row may fail for what is only allowed for another's key; see docs/decisions/0019."""
    server = servers["redis7"]
    admin = SyncTransport(server.socket_url, timeout=5, connect_timeout=5)
    limited = SyncTransport(f"redis://limited:secret@127.0.0.1:{server.port}", timeout=5, connect_timeout=5)
    admin.command("FLUSHALL")
    FeatureStore(admin).apply(Definition(features=FEATURES))
    rights = [*READER, *(right for right in WRITER if right != "+hset"), *KEY_RIGHTS]
    admin.command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "+ping", *rights, "(+hset ~user:ann:*)")
    admin.command("SCRIPT", "LOAD", UPSERT_FEATURES.source)
    try:
        with pytest.raises(FeatureStoreError):
            limited.run(UPSERT_FEATURES, [*SHARED, *hashes("ann", "eve")], ["", 1, "n", "ann", "7", "eve", "8"])
        assert admin.command("SMEMBERS", "all_users") == [b"ann"]
    finally:
        admin.command("ACL", "DELUSER", "limited")
        admin.command("FLUSHALL")
        admin.close()
        limited.close()


@pytest.mark.parametrize("stored", ["nan", "inf", "-inf", "1e999", "9" * 20, "-5", "x", ""])
def test_a_time_that_no_script_has_written_is_none(stocked: FeatureStore, stored: str) -> None:
    transport, keys = stocked.transport, [*SHARED, *hashes("ann")]
    for ttl in (None, "9999d"):
        stocked.apply(Definition(features=FEATURES, ttl=ttl))
        transport.command("HSET", "user:ann:features", "@event_time", stored)
        assert transport.run(GET_FEATURES, keys, ["ann", "?metadata", "n"])[1:3] == [None, None]
        transport.run(REPACK_ROWS, keys, ["ann"])
        assert stocked.upsert([("eve", {"n": 1}), ("ann", {"n": 5})], event_time=TIME + 5).verdicts[1] in "AC"
        assert stocked.get_many(["ann", "eve"], ["n"]) == [{"n": 5}, {"n": 1}]


def test_thousands_of_services_are_declared_in_one_call(store: FeatureStore) -> None:
    services = [word for number in range(3000) for word in (f"@service:s{number}", '["n"]')]
    assert store.transport.run(APPLY_SCHEMA, ["user:schema"], ["n", "int", *services]) == 1
    nothing = [word for number in range(3000) for word in (f"@service:s{number}", "")]
    assert store.transport.run(APPLY_SCHEMA, ["user:schema"], nothing) == 2
    assert store.schema().services == {}


def test_of_an_option_that_is_given_twice_the_last_counts(store: FeatureStore) -> None:
    apply = ["n", "int", "@tombstone", "", "@tombstone", "7", "@service:a", '["n"]', "@service:a", ""]
    store.transport.run(APPLY_SCHEMA, ["user:schema"], apply)
    assert (store.schema().tombstone_ms, store.schema().services) == (7, {})
    for word in ("@ttl:", "@max_age:", "@tombstone:", "@members:"):
        with pytest.raises(BadArgumentsError, match=f"no such option: {word}"):
            store.transport.run(APPLY_SCHEMA, ["user:schema"], [word, "7"])


def test_options_that_are_no_text_or_no_set_of_ids_are_refused(store: FeatureStore) -> None:
    run = store.transport.run
    run(APPLY_SCHEMA, ["user:schema"], ["n", "int", "e", "float32[1]"])
    for word in ("@join_key", "@members", "@always:e", "@default:n"):
        with pytest.raises(BadArgumentsError):
            run(APPLY_SCHEMA, ["user:schema"], [word, b"\xff"])
    for members in ("user:schema", "featurestore:schemas"):
        with pytest.raises(BadArgumentsError, match="is no set of ids"):
            run(APPLY_SCHEMA, ["user:schema"], ["@members", members])
    layout = store.schema().layout
    assert run(APPLY_SCHEMA, ["user:schema"], ["@ttl", "5", "@ttl", ""]) == 1
    assert store.schema().layout == layout


def test_the_layout_does_not_depend_on_the_servers_locale(store: FeatureStore) -> None:
    """Lua compares texts as the locale has it: `cards` may come before `card_total` there."""
    words = ["cards", "int", "card_total", "int", "@default:cards", "0", "@default:card_total", "0"]
    store.transport.run(APPLY_SCHEMA, ["user:schema"], words)
    rules = msgspec.json.decode(store.transport.command("HGET", "user:schema", "@rules"))
    assert rules[::2] == ["@default:card_total", "@default:cards"]
    used = (script_folder() / "include" / "stored_schema.lua").read_text()
    assert "table.sort(words, is_before)" in used


def test_an_increment_stores_no_negative_nought(store: FeatureStore) -> None:
    store.apply(Definition(features=FEATURES))
    store.transport.run(INCREMENT_FEATURES, [*SHARED, *hashes("u")], ["u", "", "age", "-0"])
    assert store.transport.command("HGET", "user:u:features", "age") == b"0"


def test_by_layout_nobody_is_known_without_a_schema(stocked: FeatureStore) -> None:
    layout = stocked.schema().layout
    stocked.transport.command("DEL", "user:schema")
    stocked.transport.command("SREM", "all_users", "ann")
    with pytest.raises(NoSchemaError):
        stocked.transport.run(GET_FEATURES, [*SHARED, *hashes("ann")], ["ann", layout])


def test_an_error_has_its_own_code_whatever_a_caller_has_sent(stocked: FeatureStore) -> None:
    """On Redis 6.2, which puts its line in front of errors of commands."""
    keys = [*SHARED, *hashes("ann")]
    with pytest.raises(BadValueError, match="user_script:1: NOSCRIPT boo"):
        stocked.transport.run(INCREMENT_FEATURES, keys, ["ann", "", "n", "user_script:1: NOSCRIPT boo"])


# Rows that something else wrote


ODD_ROWS = [
    b"", b"x", b"L", b"L\x90", b"L\x91", b"L\x93\x01\x02\x03", b"L\xc1", b"L|", b"L||", b"L|||", b"L||\x90", b"L5||",
    b"L99999999999999||\x92\x01", b"Lx||\x92\x01\x02", b"L|5=n|\x92\xa1x\xa1y", b"deleted\x00",
    b"L\x92\xa1x\xa1y", b"L\x92", b"\xff" * 300, b"L\xdd\xff\xff\xff\xff", b"L\x92\x81\xa1a\x01\x01",
]  # fmt: skip


@pytest.mark.parametrize("stored", ODD_ROWS)
def test_whatever_a_stored_row_is_nothing_fails_on_it(stocked: FeatureStore, stored: bytes) -> None:
    """By names, and in every write, the fields count; by layout a row of the layout's own start is handed on."""
    transport, layout = stocked.transport, stocked.schema().layout
    transport.command("HSET", "user:ann:features", "@row", stored.replace(b"L", layout.encode()))
    keys = [*SHARED, *hashes("ann")]
    assert msgspec.msgpack.decode(transport.run(GET_FEATURES, keys, ["ann", "age", "n"])) == [1.5, 1]
    assert transport.run(GET_FEATURES, keys, ["ann", "?metadata", "age"])[1] == TIME
    calls: list[tuple[Script, list[Word]]] = [
        (GET_FEATURES, ["ann", layout]),
        (GET_FEATURES_BATCH, [1, layout, "ann"]),
    ]
    for script, arguments in calls:
        reply = transport.run(script, keys, arguments)
        (found,) = reply if isinstance(reply, list) else [reply]
        assert found.startswith(layout.encode())
    assert stocked.upsert([("ann", {"n": 5})], event_time=TIME + 1).verdicts == "A"
    assert stocked.get("ann") == {"age": 1.5, "n": 5}


# Permissions

READER = ["+evalsha", "+eval", "+sismember", "+smismember", "+hget", "+hmget", "+hgetall", "+exists", "+time", "+type"]
WRITER = ["+scard", "+sadd", "+srem", "+hset", "+hexists", "+hdel", "+del", "+pexpire", "+pexpireat", "+persist"]
KEEPER = ["+unlink"]
KEY_RIGHTS = ["~user:*", "~all_users", "~featurestore:schemas"]


def write_calls(layout: str) -> list[tuple[Script, list[str], list[Word]]]:
    """Return a call of each script that writes, each of which changes something."""
    keys = [*SHARED, *hashes("ann", "eve")]
    whole = words(row(layout, 3.5, 3, texts=["3.5", "3"]), row(layout, 3.5, 3, texts=["3.5", "3"], entity_id="eve"))
    return [
        (UPSERT_FEATURES, keys, [TIME + 1, 1, "n", "ann", "7", "eve", "8"]),
        (UPSERT_FEATURES, keys, ["", 2, "age", "n", "ann", "1", "7", "eve", "1", "8"]),
        (UPSERT_FEATURES, keys, [TIME + 1, 1, "n", "ann", b"\xff", "eve", b"\xff"]),
        (
            UPSERT_FEATURES,
            [*SHARED, *hashes("eve", "ann")],
            [TIME - 1, 2, "age", "n", "eve", "1", "7", "ann", "1", "8"],
        ),
        (REPLACE_ROWS, keys, [layout, TIME + 1, 2, "age", "n", whole]),
        (INCREMENT_FEATURES, keys[:3], ["ann", "", "n", "1"]),
        (DELETE_ENTITY, keys[:3], ["ann"]),
        (DELETE_ENTITY, keys[:3], ["ann", TIME + 1]),
        (REPACK_ROWS, keys[:3], ["ann"]),
        (SWEEP_MEMBERS, [*SHARED, *hashes("gone")], ["gone"]),
        (APPLY_SCHEMA, ["user:schema", "featurestore:schemas"], ["later", "int", "@service:ads", ""]),
        (RETIRE_FEATURES, ["user:schema"], ["?from_services", "n"]),
        (DROP_ENTITY, [*SHARED], []),
        (CLEAR_HASHES, keys[:3], ["ann"]),
        (FREE_NAMES, ["user:schema"], ["gone", "5"]),
        (CLEAR_HASHES, keys[:3], ["ann"]),
        (FREE_NAMES, ["user:schema", "featurestore:schemas"], ["@dropping", "5"]),
        (COPY_ENTITIES, keys, ["none", *copied("ann", "7"), *copied("eve", "8")]),
        (COPY_ENTITIES, keys[:3], ["newer", "ann", "1", "9999999999999", *copied("ann", "9")[3:]]),
    ]


@pytest.mark.parametrize("ttl", [None, "9999d"])
@pytest.mark.parametrize("missing", [right for right in [*READER[2:], *WRITER, *KEEPER] if right != "+type"])
@pytest.mark.parametrize("name", real(*EVERYDAY))
def test_under_a_user_who_lacks_a_command_a_write_is_whole_or_an_error(
    servers: dict[str, Server], name: str, missing: str, ttl: str | None
) -> None:
    server = servers[name]
    admin = SyncTransport(server.socket_url, timeout=5, connect_timeout=5)
    limited = SyncTransport(f"redis://limited:secret@127.0.0.1:{server.port}", timeout=5, connect_timeout=5)
    rights = [*(right for right in [*READER, *WRITER, *KEEPER] if right != missing), *KEY_RIGHTS]
    try:
        admin.command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "+ping", *rights)
        for index in range(len(write_calls("@0000000"))):
            admin.command("FLUSHALL")
            store = FeatureStore(admin)
            store.apply(Definition(features=FEATURES, ttl=ttl, services={"ads": ["n"]}))
            store.upsert([("ann", {"age": 1.5, "n": 1})], event_time=TIME)
            if index == 8:  # a row to be repacked
                admin.command("HDEL", "user:ann:features", "@row")
            admin.command("SADD", "all_users", "gone")
            if index in {13, 14}:  # a feature to be taken out, a name to be freed
                admin.command("HSET", "user:schema", "@retiring", '["gone","5","more","6"]')
                admin.command("HSET", "user:ann:features", "gone", "x")
                admin.command("HSET", "user:ann:features", "@row", "@1234567\x93")
            layout = store.schema().layout
            if index in {15, 16}:
                admin.command("HSET", "user:schema", "@dropping", "5")
            script, keys, arguments = write_calls(layout)[index]
            before = everything(admin)
            admin.command("SCRIPT", "LOAD", script.source)
            try:
                outcome: Reply | FeatureStoreError = limited.run(script, keys, arguments)
            except AccessDeniedError as error:
                outcome = error
            _check_whole(outcome, before, everything(admin), script.name)
    finally:
        admin.command("ACL", "DELUSER", "limited")
        admin.command("FLUSHALL")
        admin.close()
        limited.close()


def _check_whole(outcome: Any, before: dict[Any, Any], after: dict[Any, Any], name: str) -> None:
    if isinstance(outcome, AccessDeniedError):
        assert after == before, (name, str(outcome))
        assert "NOPERM" in str(outcome)
    elif isinstance(outcome, list) and outcome[2:] and outcome[2]:  # rows that needed more than the others
        assert {code for _, code, _ in outcome[2]} == {b"NOPERM"}
        assert after == before
    else:
        assert after != before, name


@pytest.mark.parametrize("name", real(*EVERYDAY))
def test_errors_start_with_their_code_on_every_server(servers: dict[str, Server], name: str) -> None:
    transport = SyncTransport(servers[name].socket_url, timeout=5, connect_timeout=5)
    transport.command("FLUSHALL")
    store = FeatureStore(transport)
    store.apply(Definition(features=FEATURES))
    transport.command("SADD", "user:u:features", "x")
    transport.command("CONFIG", "SET", "maxmemory", "1")
    try:
        for code, arguments in (("OOM", ["", 1, "n", "ann", "1"]), ("BADARGS", [""])):
            reply = _raw(servers[name], UPSERT_FEATURES, [*SHARED, *hashes("ann")], arguments)
            assert reply.startswith(f"-{code} ".encode()), reply
    finally:
        transport.command("CONFIG", "SET", "maxmemory", "0")
        transport.command("FLUSHALL")
        transport.close()


def _raw(server: Server, script: Script, keys: list[str], arguments: list[Any]) -> bytes:
    """Return the reply as it comes from the socket."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(encode_call(script, keys, arguments))
        return connection.recv(65536)


# Types


@pytest.mark.parametrize(
    ("name", "text", "packed"),
    [
        ("n", "9007199254740991", b"\xcf\x00\x1f\xff\xff\xff\xff\xff\xff"),
        ("n", "9007199254740992", b"\xcf\x00\x20\x00\x00\x00\x00\x00\x00"),
        ("n", "9223372036854775807", b"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("n", "-9007199254740992", b"\xd3\xff\xe0\x00\x00\x00\x00\x00\x00"),
        ("n", "-9007199254740993", b"\xd3\xff\xdf\xff\xff\xff\xff\xff\xff"),
        ("n", "-9223372036854775808", b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
        ("n", "4294967296", b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00"),
        ("age", "4294967295", b"\xce\xff\xff\xff\xff"),
        ("age", "4294967296", b"\xcb\x41\xf0\x00\x00\x00\x00\x00\x00"),
        ("age", "-2147483648", b"\xd2\x80\x00\x00\x00"),
        ("age", "-2147483649", b"\xcb\xc1\xe0\x00\x00\x00\x20\x00\x00"),
        ("age", "1e308", b"\xcb\x7f\xe1\xcc\xf3\x85\xeb\xc8\xa0"),
        ("age", "9007199254740993", b"\xcb\x43\x40\x00\x00\x00\x00\x00\x00"),
    ],
)
def test_a_type_does_not_depend_on_the_value(
    store: FeatureStore, transport: Transport, name: str, text: str, packed: bytes
) -> None:
    store.apply(Definition(features=FEATURES))
    keys = [*SHARED, *hashes("u")]
    transport.run(UPSERT_FEATURES, keys, [TIME, 1, name, "u", text])  # merged
    assert transport.run(GET_FEATURES, keys, ["u", name]) == b"\x91" + packed
    nothing = {"age": b"\x92%b\xc0", "n": b"\x92\xc0%b"}[name] % packed
    assert transport.run(GET_FEATURES, keys, ["u"])[8:] == nothing
    texts = [text if each == name else "1" for each in ("age", "n")]
    transport.run(UPSERT_FEATURES, keys, [TIME + 1, 2, "age", "n", "u", *texts])  # replaced
    other = "n" if name == "age" else "age"
    transport.run(UPSERT_FEATURES, keys, [TIME + 2, 1, other, "u", "1"])  # beside what was unpacked
    assert transport.run(GET_FEATURES, keys, ["u", name]) == b"\x91" + packed
    row_of_both = {"age": b"\x92%b\x01", "n": b"\x92\x01%b"}[name] % packed
    assert transport.run(GET_FEATURES, keys, ["u"])[8:] == row_of_both


def test_a_sum_beyond_32_bits_is_a_float_and_an_increment_keeps_its_type(store: FeatureStore) -> None:
    store.apply(Definition(features={"age": "float", "n": "int", "spent": "sum(amount, 1d)"}))
    keys = [*SHARED, *hashes("u")]
    store.transport.run(RECORD_EVENTS, keys, ["", 1, "amount", "u", "4294967296"])
    assert store.transport.run(GET_FEATURES, keys, ["u", "spent"]) == b"\x91\xcb\x41\xf0\x00\x00\x00\x00\x00\x00"
    added = store.transport.run(INCREMENT_FEATURES, keys, ["u", "", "age", "4294967296", "n", "4294967296"])
    assert added == b"\x92\xcb\x41\xf0\x00\x00\x00\x00\x00\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00"


def test_a_description_has_all_that_a_caller_needs_at_its_start(store: FeatureStore) -> None:
    store.apply(
        Definition(
            features={"age": "float", "e": "float32[2]", "plays": "count(1d)"},
            services={"b": ["age"], "a": ["e", "age"]}, ttl="9d", join_key="uid", max_ahead="1h",
        )
    )  # fmt: skip
    found = msgspec.msgpack.decode(store.transport.run(DESCRIBE_ENTITY, ["user:schema"], []))
    services = found.pop("services")
    assert [(name, names) for name, _, names in services] == [("a", ["e", "age"]), ("b", ["age"])]
    assert all(len(digest) == 8 and digest.startswith("@") for _, digest, _ in services)
    assert found == {
        "contract": CONTRACT, "version": 1, "layout": store.schema().layout, "row": ["age", "plays"], "options": [],
        "features": [["age", "float"], ["e", "float32[2]"], ["plays", "count(1d)"]], "join_key": "uid",
        "members": "all_users",
        "ttl": 777_600_000, "max_age": None, "tombstone": 86_400_000, "max_ahead": 3_600_000,
    }  # fmt: skip
