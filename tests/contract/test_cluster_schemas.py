"""Schemas in a cluster: one order of changes, a copy in every partition, nothing left by what ended half-way."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.cluster import Cluster
from support.servers import wait_until

from featurestore import BadArgumentsError, Definition, FeatureStore
from featurestore.contract.scripts import APPLY_SCHEMA, COPY_SCHEMA, DROP_ENTITY, GET_FEATURES, UPSERT_FEATURES
from featurestore.errors import NoSchemaError, SchemaChangedError, UnavailableError
from featurestore.keys import Keys, PartitionedKeys, slot_of
from featurestore.schema.stored import Schema
from featurestore.store.inventory import entities_held
from featurestore.store.maintenance import sweep
from featurestore.store.retirement import clear, drop, is_dropping, retire

FEATURES: dict[str, Any] = {"age": "float", "n": "int"}
PARTITIONS = 16
USERS = [f"u{number}" for number in range(200)]
TIME = 1_700_000_000_000


@pytest.fixture
def store(cluster: Cluster) -> Iterator[FeatureStore]:
    """A store over an empty cluster."""
    with FeatureStore.connect(cluster.url, timeout=10) as found:
        yield found


def keys_of(store: FeatureStore) -> PartitionedKeys:
    assert isinstance(store.keys, PartitionedKeys)
    return store.keys


def stored_at(store: FeatureStore, key: str) -> dict[str, str]:
    flat = store.transport.command("HGETALL", key)
    return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}


def without_place(stored: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in stored.items() if name != "@members_key"}


def versions(store: FeatureStore, count: int = PARTITIONS) -> list[int]:
    keys = PartitionedKeys("user", count)
    return [int(stored_at(store, part.schema).get("@version", 0)) for part in keys.parts]


def check_copies(store: FeatureStore, count: int = PARTITIONS) -> Schema:
    """Every partition has the root's schema, and the draft is no further; return it."""
    schema = store.schema()
    root = without_place(stored_at(store, keys_of(store).root))
    assert without_place(stored_at(store, keys_of(store).draft)) == root
    for part in keys_of(store).with_count(count).parts:
        stored = stored_at(store, part.schema)
        assert without_place(stored) == root
        assert stored["@members_key"] == part.members
    return schema


def put(store: FeatureStore, entity_id: str, features: dict[str, Any], time: int = TIME) -> None:
    """Write one row by the script itself."""
    part = store.keys.holding(entity_id.encode())
    words = ["@event_time", *features]
    values = [str(time), *map(str, features.values())]
    reply = store.transport.run(
        UPSERT_FEATURES,
        [part.members, part.schema, part.features(entity_id)],
        ["", len(words), *words, entity_id, *values],
    )
    assert reply[0] == 1, reply


def stock(store: FeatureStore) -> None:
    store.apply(Definition(features=FEATURES), partitions=PARTITIONS)
    store.schema()
    for number, entity_id in enumerate(USERS):
        put(store, entity_id, {"age": number + 0.5, "n": number})


def fields_of(store: FeatureStore, entity_id: str) -> dict[str, str]:
    flat = store.transport.command("HGETALL", store.keys.holding(entity_id.encode()).features(entity_id))
    return {name.decode(): value.decode(errors="replace") for name, value in zip(flat[::2], flat[1::2], strict=True)}


def half_apply(store: FeatureStore, words: list[str], copies: int) -> None:
    """Do what an apply does that ends when it has reached some of the partitions."""
    keys = keys_of(store)
    store.transport.run(APPLY_SCHEMA, [keys.draft], words)
    flat = store.transport.command("HGETALL", keys.draft)
    for part in keys.with_count(PARTITIONS).parts[:copies]:
        store.transport.run(COPY_SCHEMA, [part.schema], flat)


def test_every_partition_gets_the_schema_and_its_own_set_of_ids(store: FeatureStore) -> None:
    definition = Definition(
        features=FEATURES, entity="item", members="things", services={"ads": ["n"]}, join_key="item_key", ttl="3d"
    )
    items = FeatureStore(store.transport, Keys("item"))
    assert items.apply(definition, partitions=4, dry_run=True) == 1
    assert store.entities() == []
    assert items.apply(definition, partitions=4) == 1
    schema = check_copies(items, 4)
    assert schema.partitions == 4
    assert keys_of(items).parts[0].members == keys_of(items).parts[0].tag + "things"
    assert items.apply(definition) == 1
    more = Definition(features={"more": "bool"}, entity="item")
    assert items.apply(more, dry_run=True) == 2
    assert items.apply(more) == 2
    assert list(check_copies(items, 4).features) == ["age", "n", "more"]
    assert store.entities() == ["item"]
    assert [(each.entity, each.ids) for each in entities_held(store)] == [("item", 0)]


def test_how_many_partitions_there_are_is_said_once(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURESTORE_PARTITIONS", "8")
    store.apply(Definition(features=FEATURES))
    assert check_copies(store, 8).partitions == 8
    monkeypatch.setenv("FEATURESTORE_PARTITIONS", "32")
    assert store.apply(Definition(features={"x": "int"})) == 2
    assert check_copies(store, 8).partitions == 8
    with pytest.raises(BadArgumentsError, match=r"has 8 partitions, and cannot have 32 .* featurestore migrate"):
        store.apply(Definition(features=FEATURES), partitions=32)
    with pytest.raises(BadArgumentsError, match="power of two from 1 to 4096, not 12"):
        FeatureStore(store.transport, Keys("item")).apply(Definition(FEATURES, entity="item"), partitions=12)
    check_copies(store, 8)


@pytest.mark.parametrize("copies", [0, 5, PARTITIONS])
def test_an_apply_that_ended_half_way_is_finished_by_the_next(store: FeatureStore, copies: int) -> None:
    store.apply(Definition(features=FEATURES), partitions=PARTITIONS)
    store.schema()
    half_apply(store, ["x", "int", "@service:ads", '["x"]'], copies)
    assert store.schema().version == 1
    assert versions(store) == [2] * copies + [1] * (PARTITIONS - copies)
    assert store.apply(Definition(features={"y": "int"})) == 3
    assert list(check_copies(store).features) == ["age", "n", "x", "y"]


def test_a_first_apply_that_ended_half_way_is_finished_by_the_next(store: FeatureStore) -> None:
    half_apply(store, ["age", "float", "@partitions", str(PARTITIONS)], 3)
    with pytest.raises(NoSchemaError):
        store.schema()
    assert store.apply(Definition(features={"age": "float"}), partitions=PARTITIONS) == 1
    assert check_copies(store).features == {"age": "float"}


def test_a_lost_root_is_made_of_the_newest_copy(store: FeatureStore) -> None:
    store.apply(Definition(features=FEATURES), partitions=PARTITIONS)
    for name in ("x", "y"):
        store.apply(Definition(features={name: "int"}))
    store.schema()
    keys = keys_of(store)
    store.transport.command("DEL", keys.root, keys.draft)
    store.transport.command("DEL", keys.parts[3].schema)
    assert store.apply(Definition(features={"z": "int"}), partitions=PARTITIONS) == 4
    assert list(check_copies(store).features) == ["age", "n", "x", "y", "z"]


def test_a_draft_that_lost_changes_gets_them_back(store: FeatureStore) -> None:
    store.apply(Definition(features=FEATURES), partitions=PARTITIONS)
    store.schema()
    keys = keys_of(store)
    before = store.transport.command("HGETALL", keys.draft)
    for name in ("x", "y"):
        store.apply(Definition(features={name: "int"}))
    for key in (keys.root, keys.draft):  # as after a failover to a replica that lagged
        store.transport.command("DEL", key)
        store.transport.command("HSET", key, *before)
    assert store.apply(Definition(features={"z": "int"})) == 4
    assert list(check_copies(store).features) == ["age", "n", "x", "y", "z"]


def test_a_read_that_meets_a_half_way_change_publishes_it(store: FeatureStore) -> None:
    stock(store)
    half_apply(store, ["x", "int"], 9)
    for entity_id in USERS:
        part = store.keys.holding(entity_id.encode())
        assert store.transport.command("HDEL", part.features(entity_id), "@row") == 1  # so that no row is handed on
    layout = store.schema().layout
    newer = [each for each in USERS if store.keys.holding(each.encode()) in store.keys.parts[:9]]
    part = store.keys.holding(newer[0].encode())
    with pytest.raises(SchemaChangedError):
        store.transport.run(GET_FEATURES, [part.members, part.schema, part.features(newer[0])], [newer[0], layout])
    assert list(store.carry_out(store._plans.reread()).features) == ["age", "n", "x"]
    assert check_copies(store).version == 2


APPLIER = """
import sys
from featurestore import Definition, FeatureStore, Keys
url, name, count = sys.argv[1:]
with FeatureStore.connect(url, timeout=20) as store:
    print("ready", flush=True)
    for number in range(int(count)):
        store.apply(Definition({f"{name}_{number}": "int"}), partitions=16)
"""


def test_many_that_apply_at_once_of_whom_some_are_killed_leave_one_schema(
    cluster: Cluster, store: FeatureStore
) -> None:
    store.apply(Definition(features=FEATURES), partitions=PARTITIONS)
    with watched_copies(cluster) as older:
        for turn in range(4):
            apply_and_kill(cluster, store, turn)
    assert older == []
    store.apply(Definition(features={"last": "int"}))
    features = check_copies(store).features
    for turn in range(4):
        for who in (2, 3):
            assert {f"f{turn}_{who}_{number}" for number in range(6)} <= features.keys()


@contextlib.contextmanager
def watched_copies(cluster: Cluster) -> Iterator[list[tuple[int, list[int]]]]:
    """Look all the time whether a copy is older than the root; yield what was seen of that."""
    older: list[tuple[int, list[int]]] = []
    done = threading.Event()

    def watch() -> None:
        with FeatureStore.connect(cluster.url, timeout=10) as watching:
            while not done.is_set():
                root = watching.schema().version
                found = versions(watching)
                if min(found) < root:
                    older.append((root, found))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield older
    finally:
        done.set()
        watcher.join()


def apply_and_kill(cluster: Cluster, store: FeatureStore, turn: int) -> None:
    """Have four processes apply at once, and kill two of them at some time."""
    appliers = [
        subprocess.Popen(
            [sys.executable, "-c", APPLIER, cluster.url, f"f{turn}_{who}", "6"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for who in range(4)
    ]  # fmt: skip
    for applier in appliers:
        assert applier.stdout
        assert applier.stdout.readline() == b"ready\n"
    goal = store.schema().version
    for step, applier in enumerate(appliers[:2]):
        goal += 1 + (turn + step) % 3
        wait_until(
            lambda goal=goal: max(versions(store)) >= goal or appliers[2].poll() is not None,  # type: ignore[misc]
            what="further changes",
        )
        applier.kill()
    for applier in appliers:
        applier.communicate(timeout=60)
    assert [applier.returncode for applier in appliers[2:]] == [0, 0]


def test_an_apply_while_a_node_is_away_says_so_and_the_next_heals(cluster: Cluster, store: FeatureStore) -> None:
    store.apply(Definition(features=FEATURES), partitions=PARTITIONS)
    store.schema()
    keys = keys_of(store)
    away = next(
        node for part in keys.parts if (node := cluster.primary_of(slot_of(part.tag.encode())))
        is not cluster.primary_of(slot_of(keys.root.encode()))
    )  # fmt: skip
    with FeatureStore.connect(cluster.url, timeout=0.5) as hurried:
        hurried.schema()
        with away.frozen(), pytest.raises(UnavailableError, match="give the same command again"):
            hurried.apply(Definition(features={"x": "int"}))
        assert hurried.schema().version == 1
    cluster.settle()
    assert store.apply(Definition(features={"x": "int"})) == 2
    assert check_copies(store).version == 2


def cleared(store: FeatureStore) -> tuple[int, int, int]:
    progress = list(clear(store))
    return progress[-1].seen, progress[-1].changed, progress[-1].freed


def test_a_retired_feature_leaves_every_partition(store: FeatureStore) -> None:
    stock(store)
    assert retire(store, ["n"]) == 2
    assert check_copies(store).retiring == {"n"}
    stranger = store.keys.holding(b"stranger")
    store.transport.command("HSET", stranger.features("stranger"), "n", "7", "age", "1")
    assert fields_of(store, USERS[0])["n"] == "0"
    assert cleared(store) == (len(USERS) + 1, len(USERS) + 1, 1)
    assert check_copies(store).retiring == frozenset()
    assert all("n" not in fields_of(store, each) and "age" in fields_of(store, each) for each in (*USERS, "stranger"))
    assert store.apply(Definition(features={"n": "string"})) == 4
    check_copies(store)


def test_a_retirement_that_ended_at_any_step_goes_on(store: FeatureStore) -> None:
    stock(store)
    retire(store, ["n"])
    steps = clear(store)
    next(steps)
    del steps
    assert any("n" in fields_of(store, each) for each in USERS)
    with pytest.raises(BadArgumentsError, match="being retired"):
        store.apply(Definition(features={"n": "string"}))
    assert cleared(store)[2] == 1
    assert not any("n" in fields_of(store, each) for each in USERS)


def test_no_name_is_freed_where_a_partition_has_lost_the_retirement(store: FeatureStore) -> None:
    stock(store)
    part = keys_of(store).parts[2]
    before = store.transport.command("HGETALL", part.schema)
    retire(store, ["n"])
    steps = clear(store)
    next(steps)
    store.transport.command("DEL", part.schema)  # as after a failover to a replica that lagged
    store.transport.command("HSET", part.schema, *before)
    with pytest.raises(UnavailableError, match="1 partitions have lost the newest schema"):
        list(steps)
    assert cleared(store)[2] == 1
    assert check_copies(store).retiring == frozenset()


def test_a_dropped_entity_leaves_nothing(store: FeatureStore, cluster: Cluster) -> None:
    stock(store)
    store.transport.command("SADD", store.keys.parts[0].counted("stream"), "1-1")
    drop(store)
    assert is_dropping(store)
    with pytest.raises(NoSchemaError, match="being dropped"):
        store.schema()
    with pytest.raises(BadArgumentsError, match="being dropped"):
        store.apply(Definition(features=FEATURES), partitions=PARTITIONS)
    assert cleared(store) == (len(USERS), len(USERS), 1)
    assert [key for node in cluster.nodes if node.is_primary for key in node.command("KEYS", "*")] == []
    assert FeatureStore(store.transport).apply(Definition(features={"n": "string"}), partitions=4) == 1


@pytest.mark.parametrize("copies", [-1, 0, 7])
def test_a_drop_that_ended_half_way_goes_on(store: FeatureStore, cluster: Cluster, copies: int) -> None:
    """With -1 only the draft is being dropped; else the root, too, and so many partitions."""
    stock(store)
    keys = keys_of(store)
    done = [keys.draft, keys.root, *(part.schema for part in keys.parts)][: copies + 2]
    for schema in done:
        (members,) = store.transport.command("HMGET", schema, "@members_key")
        assert store.transport.run(DROP_ENTITY, [members, schema], []) == 1
    again = FeatureStore(store.transport)
    with pytest.raises(BadArgumentsError, match="being dropped"):
        again.apply(Definition(features={"x": "int"}))
    assert is_dropping(again) == (copies >= 0)
    if copies < 0:
        drop(again)
    assert cleared(again) == (len(USERS), len(USERS), 1)
    assert [key for node in cluster.nodes if node.is_primary for key in node.command("KEYS", "*")] == []


def test_repack_and_sweep_go_through_every_partition(store: FeatureStore) -> None:
    stock(store)
    for entity_id in USERS[:50]:
        store.transport.command("DEL", store.keys.holding(entity_id.encode()).features(entity_id))
    store.apply(Definition(features={"x": "int"}))
    assert list(sweep(FeatureStore(store.transport)))[-1].removed == 50
    progress = list(sweep(store))
    assert (progress[-1].seen, progress[-1].removed) == (150, 0)
    assert [(each.entity, each.ids, each.features) for each in entities_held(store)] == [("user", 150, 3)]


def test_clear_hashes_follows_a_failover(store: FeatureStore, cluster: Cluster) -> None:
    stock(store)
    retire(store, ["n"])
    steps = clear(store)
    next(steps)
    primary = cluster.primary_of(slot_of(store.keys.parts[-1].tag.encode()))
    cluster.fail_over(cluster.replicas_of(primary)[0])
    assert list(steps)[-1].freed == 1
    assert not any("n" in fields_of(store, each) for each in USERS)
