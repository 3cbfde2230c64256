"""Features that are retired and entities that are dropped: nothing of them is served, kept, or comes back to life."""

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from support.names import beside, hash_of, names_of, single_redis

from featurestore import BadArgumentsError, Definition, FeatureStore, Transport
from featurestore.contract.scripts import CLEAR_HASHES, FREE_NAMES, GET_FEATURES, GET_FEATURES_BATCH, REPLACE_ROWS
from featurestore.errors import NoSchemaError, SchemaChangedError, UndeclaredFeatureError
from featurestore.schema.definition import FeatureDefinition
from featurestore.store.inventory import entities_held
from featurestore.store.retirement import clear, drop, is_dropping, remove_services, retire, services_naming

FEATURES: dict[str, Any] = {"age": "float", "n": "int", "city": "string"}
TIME = 1_700_000_000_000


@pytest.fixture
def stocked(store: FeatureStore) -> FeatureStore:
    """A store with three users: a whole row, one of several times, and one that has the feature `n` alone."""
    store.apply(Definition(features=FEATURES))
    store.upsert([("ann", {"age": 1.5, "n": 7, "city": "Bonn"})], event_time=TIME)
    store.upsert([("bob", {"age": 2.5})], event_time=TIME)
    store.upsert([("bob", {"n": 8})], event_time=TIME + 1000)
    store.upsert([("cid", {"n": 9})], event_time=TIME)
    return store


def fields(store: FeatureStore, entity_id: str) -> dict[bytes, bytes]:
    flat: Any = store.transport.command("HGETALL", hash_of(store, entity_id))
    return dict(zip(flat[::2], flat[1::2], strict=True))


def cleared(store: FeatureStore) -> tuple[int, int, int]:
    """Clear all hashes; return how many were seen and changed, and how many names were freed."""
    progress = list(clear(store))
    return (progress[-1].seen, progress[-1].changed, progress[-1].freed) if progress else (0, 0, 0)


def test_a_retired_feature_is_refused_at_once_and_then_leaves_the_hashes(
    stocked: FeatureStore, transport: Transport
) -> None:
    layout = stocked.schema().layout
    assert retire(stocked, ["n"]) == 2
    assert stocked.schema().features == {"age": "float", "city": "string"}
    assert stocked.schema().retiring == {"n"}
    assert stocked.schema().layout != layout
    with pytest.raises(UndeclaredFeatureError):
        stocked.get("ann", ["n"])
    with pytest.raises(UndeclaredFeatureError):
        stocked.increment("ann", {"n": 1})
    assert [row.code for row in stocked.upsert([("ann", {"n": 1})]).rejected] == ["UNDECLARED"]
    assert stocked.get("ann") == {"age": 1.5, "city": "Bonn"}
    assert fields(stocked, "ann")[b"n"] == b"7"
    assert cleared(stocked) == (3, 3, 1)
    for entity_id in ("ann", "bob", "cid"):
        stored = fields(stocked, entity_id)
        assert b"n" not in stored
        assert stored[b"@row"].startswith(stocked.schema().layout.encode())
        assert b"=n" not in stored[b"@row"]
    assert stocked.get_many(["ann", "bob", "cid"]) == [
        {"age": 1.5, "city": "Bonn"}, {"age": 2.5, "city": None}, {"age": None, "city": None},
    ]  # fmt: skip
    assert stocked.schema().retiring == frozenset()
    assert cleared(stocked) == (0, 0, 0)


def test_the_event_times_of_what_stays_are_as_before(stocked: FeatureStore) -> None:
    retire(stocked, ["n"])
    cleared(stocked)
    stocked.upsert([("bob", {"age": 9.0})], event_time=TIME - 1)
    assert stocked.get("bob", ["age"]) == {"age": 2.5}
    stocked.upsert([("bob", {"age": 3.5})], event_time=TIME)
    assert stocked.get("bob", ["age"]) == {"age": 3.5}


def test_a_name_is_taken_until_all_hashes_are_cleared(stocked: FeatureStore) -> None:
    retire(stocked, ["n"])
    with pytest.raises(BadArgumentsError, match=r"^n is being retired: featurestore retire goes on with that"):
        stocked.apply(Definition(features={"n": "string"}))
    steps = clear(stocked)
    next(steps)
    with pytest.raises(BadArgumentsError, match=r"^n is being retired"):
        stocked.apply(Definition(features={"n": "string"}))
    assert list(steps)[-1].freed == 1
    stocked.apply(Definition(features={"n": "string"}))
    assert stocked.get("ann") == {"age": 1.5, "city": "Bonn", "n": None}
    stocked.upsert([("ann", {"n": "seven"})], event_time=TIME - 1000)  # what was retired keeps no time
    assert stocked.get("ann", ["n"]) == {"n": "seven"}


@pytest.mark.parametrize("name", ["n", "city"])
def test_no_old_row_comes_back_to_life_with_the_same_features(
    stocked: FeatureStore, transport: Transport, name: str
) -> None:
    """The feature that is declared last has the layout of before again when it is declared again."""
    before = stocked.schema().layout
    retire(stocked, [name])
    cleared(stocked)
    stocked.apply(Definition(features={name: FEATURES[name]}))
    assert (stocked.schema().layout == before) is (name == "city")
    for entity_id in ("ann", "bob", "cid"):
        row = stocked.get(entity_id)
        assert row is not None
        assert row[name] is None
        assert not fields(stocked, entity_id)[b"@row"].startswith(before.encode())


def test_a_row_that_is_written_meanwhile_has_nothing_of_it(stocked: FeatureStore, transport: Transport) -> None:
    layout = stocked.schema().layout
    retire(stocked, ["city"])
    whole = names_of(stocked, "ann")
    with pytest.raises(SchemaChangedError):
        transport.run(
            REPLACE_ROWS, whole, [layout, "", 3, "age", "n", "city", msgspec.msgpack.encode(["ann", "", "1", "2", "c"])]
        )
    stocked.upsert([("ann", {"age": 4.5, "n": 4})])  # complete: replaced without a look at what is stored
    assert fields(stocked, "ann")[b"city"] == b"Bonn"
    cleared(stocked)
    assert b"city" not in fields(stocked, "ann")
    assert stocked.get("ann") == {"age": 4.5, "n": 4}


def test_a_writer_that_knows_the_older_schema_has_only_the_rows_of_the_feature_rejected(
    stocked: FeatureStore, transport: Transport
) -> None:
    late = FeatureStore(transport)
    assert late.declared(["n"])["n"] == "int"
    retire(stocked, ["n"])
    result = late.upsert([("ann", {"n": 1}), ("dee", {"age": 3.5}), ("bob", {"age": 4.5, "n": 2})])
    assert (result.written, [row.code for row in result.rejected]) == (1, ["UNDECLARED", "UNDECLARED"])
    assert stocked.get_many(["dee", "bob"], ["age"]) == [{"age": 3.5}, {"age": 2.5}]
    assert fields(stocked, "ann")[b"n"] == b"7"


def test_a_writer_learns_that_a_name_has_another_type(
    stocked: FeatureStore, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = FeatureStore(transport)
    assert late.declared(["n"])["n"] == "int"
    retire(stocked, ["n"])
    cleared(stocked)
    stocked.apply(Definition(features={"n": "string"}))
    monkeypatch.setattr("featurestore.store.catalog._SCHEMA_RECHECK_S", 0.0)
    result = late.upsert([("ann", {"n": "seven"}), ("bob", {"n": 8})])
    assert (result.written, [row.reason for row in result.rejected]) == (1, ["n is string, not 8"])
    assert stocked.get("ann", ["n"]) == {"n": "seven"}


def test_hashes_of_ids_that_nobody_knows_are_cleared_too(stocked: FeatureStore, transport: Transport) -> None:
    transport.command("SREM", names_of(stocked, "ann")[0], "ann")
    stocked.delete("cid")
    transport.command("HSET", hash_of(stocked, "bare"), "n", "3")
    transport.command("SET", hash_of(stocked, "text"), "n")
    retire(stocked, ["n"])
    assert cleared(stocked) == (5, 3, 1)
    assert b"n" not in fields(stocked, "ann")
    assert transport.command("EXISTS", hash_of(stocked, "bare")) == 0
    assert transport.command("GET", hash_of(stocked, "text")) == b"n"
    assert fields(stocked, "cid")[b"@row"] == b"deleted"
    assert stocked.get("cid") is None


def test_vectors_windows_options_and_notes_go_with_their_feature(store: FeatureStore, transport: Transport) -> None:
    definition = Definition(
        features={
            "age": FeatureDefinition("float", default=7, max_age="1d", description="years"),
            "e": "float32[2]",
            "w": FeatureDefinition("float32[1]", always=True),
            "often": "count(1d)",
            "n": "int",
        }
    )
    store.apply(definition)
    store.upsert([("ann", {"age": 1.5, "e": [1.0, 2.0], "w": [3.0], "n": 1})])
    store.record([("ann", {})])
    retire(store, ["age", "e", "w", "often"])
    schema = store.schema()
    assert (schema.features, schema.defaults, schema.max_ages_ms, schema.notes) == ({"n": "int"}, {}, {}, {})
    assert cleared(store) == (1, 1, 4)
    assert fields(store, "ann").keys() - {b"n"} == {b"@row", b"@event_time"}
    assert store.get("ann") == {"n": 1}
    retire(store, ["n"])
    assert cleared(store) == (1, 1, 1)
    assert store.schema().features == {}
    store.apply(Definition(features={"age": "string"}))
    assert store.get("ann") == {"age": None}


def test_a_ttl_goes_on_and_expired_ids_do_not_matter(store: FeatureStore, transport: Transport) -> None:
    store.apply(Definition(features=FEATURES, ttl="1h"))
    store.upsert([("ann", {"age": 1.5, "n": 7, "city": "Bonn"})])
    transport.command("SADD", names_of(store, "gone")[0], "gone")
    before = transport.command("PTTL", hash_of(store, "ann"))
    retire(store, ["n"])
    cleared(store)
    assert 0 < transport.command("PTTL", hash_of(store, "ann")) <= before
    assert store.get("gone") is None


def test_a_service_keeps_a_feature_unless_it_may_lose_it(stocked: FeatureStore, transport: Transport) -> None:
    services = {"ads": ["n", "age"], "own": ["user:n"], "other": ["age"]}
    stocked.apply(Definition(features={"age": "float"}, services=services))
    items = beside(transport, "user_item")
    item = Definition(
        features={"price": "float"}, entity="user_item", services={"both": ["price", "user:n"], "n": ["price"]}
    )
    items.apply(item)
    assert services_naming(stocked, ["n"]) == {
        "user": {"ads": ["n", "age"], "own": ["user:n"]}, "user_item": {"both": ["price", "user:n"]}
    }  # fmt: skip
    with pytest.raises(
        BadArgumentsError, match=r"user:ads, user:own, user_item:both|user:own, user:ads, user_item:both"
    ):
        retire(stocked, ["n"])
    assert "n" in stocked.schema().features
    retire(stocked, ["n"], from_services=True)
    assert stocked.schema().services == {"ads": ["age"], "other": ["age"]}
    assert items.schema().services == {"both": ["price"], "n": ["price"]}
    assert stocked.get("ann", service="ads") == {"age": 1.5}
    for key in ("user_item:schema", "all_user_items"):
        transport.command("DEL", key)


def test_a_service_is_removed_and_nothing_else(stocked: FeatureStore) -> None:
    stocked.apply(Definition(features={}, services={"ads": ["n"], "more": ["age"]}))
    with pytest.raises(UndeclaredFeatureError, match="no service adds is declared in the schema of user"):
        remove_services(stocked, ["ads", "adds"])
    remove_services(stocked, ["ads"])
    assert stocked.schema().services == {"more": ["age"]}
    assert stocked.get("cid", ["n"]) == {"n": 9}
    with pytest.raises(UndeclaredFeatureError):
        stocked.get("cid", service="ads")


def test_an_interrupted_retirement_goes_on_and_a_late_run_frees_nothing(
    stocked: FeatureStore, transport: Transport
) -> None:
    retire(stocked, ["n"])
    late = clear(stocked)
    next(late)  # another process, which stops here for long
    assert retire(stocked, ["n"]) == 2  # started again
    assert cleared(stocked)[2] == 1
    stocked.apply(Definition(features={"n": "int"}))
    stocked.upsert([("ann", {"n": 70})])
    for step in late:  # takes nothing from the new feature
        assert step.freed == 0
        assert step.changed == 3 or transport.clustered  # there, the first step was of one partition
    assert stocked.get("ann", ["n"]) == {"n": 70}
    late = clear(stocked)
    assert list(late) == []
    retire(stocked, ["n"])
    (token,) = [word for word in _retiring(stocked) if word != "n"]
    assert transport.run(FREE_NAMES, [stocked.keys.root], ["n", "1", "age", token]) == 0
    assert stocked.schema().retiring == {"n"}
    assert cleared(stocked)[2] == 1


def _retiring(store: FeatureStore) -> list[str]:
    return msgspec.json.decode(store.transport.command("HGET", store.keys.root, "@retiring"), type=list[str])


def test_two_retirements_at_a_time_free_each_its_own(stocked: FeatureStore) -> None:
    retire(stocked, ["n"])
    first = clear(stocked)
    next(first)
    retire(stocked, ["city"])
    assert list(first)[-1].freed == 1
    assert stocked.schema().retiring == {"city"}
    assert cleared(stocked)[2] == 1
    assert stocked.schema().features == {"age": "float"}


def test_a_feature_that_nobody_declared_is_not_retired(stocked: FeatureStore) -> None:
    with pytest.raises(UndeclaredFeatureError, match=r"^nope is not declared in the schema of user$"):
        retire(stocked, ["n", "nope"])
    assert stocked.schema().version == 1


def test_clearing_changes_nothing_where_nothing_is_retired(stocked: FeatureStore, transport: Transport) -> None:
    stocked.apply(Definition(features={"new": "int"}))
    before = fields(stocked, "ann")
    assert transport.run(CLEAR_HASHES, names_of(stocked, "ann"), ["ann"]) == 0
    assert fields(stocked, "ann") == before


# Entities


@pytest.fixture
def items(store: FeatureStore, transport: Transport) -> Iterator[FeatureStore]:
    """A store of items beside users; its set of ids has a name of its own."""
    store.apply(Definition(features=FEATURES, services={"mixed": ["user_item:price"]}))
    store.upsert([("ann", {"n": 1})])
    items = beside(transport, "user_item", "user:goods")
    items.apply(Definition(features={"price": "float"}, entity="user_item", members="user:goods"))
    items.upsert([(f"i{number}", {"price": 1.5}) for number in range(250)])
    yield items
    with contextlib.suppress(NoSchemaError):
        drop(items)
    for _ in clear(items):
        pass


@single_redis("makes calls with the names of a single Redis, and looks for keys that are left")
def test_a_dropped_entity_is_gone_at_once_and_then_its_hashes_are(
    items: FeatureStore, store: FeatureStore, transport: Transport
) -> None:
    layout = items.schema().layout
    assert store.entity("user_item").get("i1") == {"price": 1.5}
    drop(items)
    keys = ["user:goods", "user_item:schema"]
    for words in ([layout], ["?current", layout], ["price"], []):
        with pytest.raises(NoSchemaError):
            transport.run(GET_FEATURES, [*keys, "user_item:i1:features"], ["i1", *words])
        with pytest.raises(NoSchemaError):
            transport.run(GET_FEATURES_BATCH, [*keys, "user_item:i1:features"], [len(words), *words, "i1"])
    for refused in (lambda: items.upsert([("i1", {"price": 2.5})]), lambda: items.delete("i1"), items.schema):
        with pytest.raises(NoSchemaError):
            refused()
    with pytest.raises(NoSchemaError):
        store.entity("user_item").get("i1")
    assert store.entities() == ["user"]
    assert is_dropping(items)
    drop(items)  # again
    with pytest.raises(BadArgumentsError, match="the entity of user_item:schema is being dropped"):
        items.apply(Definition(features={"price": "int"}, entity="user_item"))
    held = {each.entity: each for each in entities_held(store)}
    assert held["user_item"].wrong == "user_item is being dropped: featurestore drop-entity user_item goes on with that"
    steps = clear(items)
    next(steps)  # and interrupted
    assert cleared(items)[2] == 1
    assert sorted(transport.command("KEYS", "*")) == [
        b"all_users", b"featurestore:schemas", b"user:ann:features", b"user:schema"
    ]  # fmt: skip
    assert transport.command("SMEMBERS", "featurestore:schemas") in ([b"user:schema"], {b"user:schema"})
    assert store.get("ann", ["n"]) == {"n": 1}
    with pytest.raises(NoSchemaError):
        drop(items)


@single_redis("counts the one set of ids")
def test_a_run_that_is_late_removes_nothing_of_the_new_entity(items: FeatureStore, transport: Transport) -> None:
    drop(items)
    late = clear(items)
    next(late)
    assert cleared(items)[2] == 1
    items.apply(Definition(features={"price": "string"}, entity="user_item", members="user:goods"))
    items.schema()
    assert items.upsert([("i1", {"price": "new"})]).written == 1
    assert [step.freed for step in late][-1] == 0
    assert items.get("i1") == {"price": "new"}
    assert transport.command("SCARD", "user:goods") == 1


def test_what_a_redis_holds_is_told(items: FeatureStore, store: FeatureStore) -> None:
    store.apply(Definition(features={}, description="people", owner="crm", tags=["pii"]))
    retire(store, ["n"])
    users, goods = entities_held(store)
    parts = {"partitions": len(store.keys.parts)} if store.transport.clustered else {}
    assert users.shown() == parts | {
        "entity": "user", "version": 3, "features": 2, "ids": 1, "services": ["mixed"], "description": "people",
        "owner": "crm", "tags": ["pii"], "retiring": ["n"],
    }  # fmt: skip
    assert (goods.entity, goods.version, goods.features, goods.ids, goods.wrong) == ("user_item", 1, 1, 250, "")
    assert items.count() == 250


def test_more_names_than_a_call_frees_are_freed_by_several(stocked: FeatureStore) -> None:
    for letter in "ab":
        stocked.apply(Definition(features={f"{letter}{number}": "int" for number in range(700)}))
        stocked.upsert([("ann", {f"{letter}7": 1})])
        retire(stocked, [f"{letter}{number}" for number in range(700)])
    assert len(stocked.schema().retiring) == 1400
    assert cleared(stocked) == (3, 1, 1400)
    assert stocked.schema().retiring == frozenset()
    stocked.apply(Definition(features={"a7": "string"}))
    assert stocked.get("ann", ["a7"]) == {"a7": None}


def test_so_many_features_at_most_are_being_retired(stocked: FeatureStore) -> None:
    for letter in "abc":
        stocked.apply(Definition(features={f"{letter}{number}": "int" for number in range(668)}))
        if letter < "c":
            retire(stocked, [f"{letter}{number}" for number in range(668)])
    version = stocked.schema().version
    names = [f"c{number}" for number in range(668)]
    with pytest.raises(BadArgumentsError, match=r"^2004 features would be being retired, want at most 2000"):
        retire(stocked, names)
    assert stocked.schema().version == version
    retire(stocked, names[:664])
    assert cleared(stocked)[2] == 2000
    retire(stocked, names[664:])


@single_redis("writes keys of other callers, which have no partition")
def test_what_is_known_of_counted_entries_goes_with_the_entity(stocked: FeatureStore, transport: Transport) -> None:
    transport.command("SADD", "user:clicks:counted", "1-1")
    transport.command("SADD", "user:t:0:counted", *range(1000))
    transport.command("SET", "user:text:counted", "somebody else's")
    transport.command("SADD", "item:clicks:counted", "1-1")
    drop(stocked)
    assert cleared(stocked) == (3, 3, 1)
    left = [
        transport.command("EXISTS", f"{key}:counted") for key in ("user:clicks", "user:t:0", "user:text", "item:clicks")
    ]
    assert left == [0, 0, 1, 1]
    transport.command("DEL", "item:clicks:counted")
