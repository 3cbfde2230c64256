"""Stores moved from one Redis to another: between single servers and clusters, under writers, killed, and compared."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from featurestore.ingest.files.scan import HashReader, ReadRetries, Throttle
from featurestore.ingest.moving.ends import End
from featurestore.ingest.moving.move import Manner, Move
from featurestore.ingest.moving.report import agrees, summary
from featurestore.ingest.moving.schemas import apply_missing, plan_entities
from featurestore.ingest.moving.state import State
from featurestore.ingest.moving.stored import Held, compared
from hypothesis import given, settings
from hypothesis import strategies as st
from support.binaries import binaries
from support.cluster import Cluster
from support.servers import Server, real, wait_until

from featurestore import Definition, FeatureStore
from featurestore.contract.hashes import state_of
from featurestore.errors import BadArgumentsError
from featurestore.keys import Keys, partition_of, tags
from featurestore.schema.definition import FeatureDefinition
from featurestore.schema.services import LogDefinition, ServiceDefinition
from featurestore.schema.types import FeatureType

FEATURES: dict[str, FeatureType | FeatureDefinition] = {
    "age": "int",
    "score": FeatureDefinition("float", default=0.5, max_age="30d"),
    "name": "string",
    "vip": "bool",
    "place": "float32[3]",
    "taste": FeatureDefinition("float32[2]", always=True),
    "plays": "count(1d)",
    "spent": "sum(amount, 7d)",
}
SERVICES: dict[str, Any] = {
    "ads": ["age", "item:price"],
    "all": ServiceDefinition(["age", "score"], LogDefinition(0.25, keep="7d", max_entries=5000)),
}
NOW = 1_764_000_000_000


def url_of(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}"


@pytest.fixture(params=real("redis7"))
def single(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    """An empty single server."""
    server = servers[request.param]
    with FeatureStore.connect(url_of(server)) as store:
        store.transport.command("FLUSHALL")
    return server


@pytest.fixture
def partitions(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say how many partitions entities get that are new in a cluster."""
    return lambda count: monkeypatch.setenv("FEATURESTORE_PARTITIONS", str(count))


def fill(url: str, users: int = 300) -> None:
    """Store users of every kind: whole, partial, with times of their own, removed features, windows, deleted ones."""
    draw = random.Random(7)
    with FeatureStore.connect(url, timeout=20) as store:
        store.apply(Definition(FEATURES, description="who plays", owner="games"))
        goods = Definition({"price": "float"}, entity="item", ttl="9999d", members="goods", join_key="sku")
        FeatureStore(store.transport, Keys("item")).apply(goods)
        items = store.entity("item")
        store.apply(Definition(FEATURES, services=SERVICES))
        store.upsert([(user, row_of(draw, user)) for user in map(name_of, range(users))], event_time=NOW)
        store.upsert([(name_of(user), {"age": user}) for user in range(0, users, 3)], event_time=NOW + 5)
        store.upsert(
            [(name_of(user), {"name": None, "place": None}) for user in range(0, users, 4)], event_time=NOW + 6
        )
        store.record([(name_of(user), {"amount": user / 3}) for user in range(0, users, 5)])
        for user in range(0, users, 11):
            store.delete(name_of(user), event_time=NOW + 7 if user % 2 else NOW - 1)
            store.delete(name_of(user))
        store.upsert([(name_of(0), {"age": 1})])
        items.upsert([(f"i{number}", {"price": number / 7}) for number in range(50)])


def name_of(user: int) -> str:
    return f"{{u}}:{user}" if user % 7 == 0 else f"usér {user}" if user % 7 == 1 else f"u{user}"


def row_of(draw: random.Random, user: str) -> dict[str, Any]:
    row: dict[str, Any] = {"age": draw.randrange(-(2**60), 2**60), "score": draw.random(), "name": f"{user} é" * 3}
    return {
        **row,
        "vip": draw.random() < 0.5,
        "place": [draw.random() for _ in range(3)],
        "taste": [1.0, draw.random()],
    }


def ends(source: str, target: str) -> tuple[End, End]:
    return End(source, Throttle(), ReadRetries()), End(target, Throttle(), ReadRetries())


def moved(source: str, target: str, manner: Manner | None = None) -> State:
    """Move a store in this process; return how it ended."""
    both = ends(source, target)
    try:
        plans = plan_entities(*both, ())
        if manner is None or manner.passes:
            apply_missing(*both, plans)
        return Move(both, plans, manner or Manner(), State("test")).run()
    finally:
        for end in both:
            end.close()


def everything(url: str) -> dict[tuple[str, bytes], tuple[Any, ...]]:
    """Return all that a store holds of its entities, read node by node without the code that moves it."""
    with FeatureStore.connect(url, timeout=20) as store:
        counts = {name: FeatureStore(store.transport, None).entity(name).schema() for name in store.entities()}
        found = {}
        for node in store.transport.nodes():
            command = node.transport.command
            if node.role != "primary":
                continue
            for key in command("KEYS", "*:features"):
                end = key.index(b"}") + 1 if store.transport.clustered else 0
                tag, (entity, _, tail) = key[:end], key[end:].partition(b":")
                raw_id = tail.removesuffix(b":features")
                schema = counts[entity.decode()]
                if store.transport.clustered:
                    assert tag.decode() == tags(schema.partitions)[partition_of(raw_id, schema.partitions)]
                members = tag + schema.members.encode() if schema.members else b"all_%b%bs" % (tag, entity)
                reply = command("HGETALL", key)
                fields = dict(zip(reply[::2], reply[1::2], strict=True))
                state = state_of(fields)
                packed = fields.pop(b"@row", b"")
                known = command("SISMEMBER", members, raw_id)
                expires = command("PEXPIRETIME", key)
                found[entity.decode(), raw_id] = (fields, state.times, state.deleted, packed, known, expires)
        return found


def schemas(url: str) -> dict[str, Any]:
    """Return the schemas of a store, without what differs with where it is."""
    with FeatureStore.connect(url, timeout=20) as store:
        found = {name: store.entity(name).schema() for name in store.entities()}
        return {name: msgspec.structs.replace(schema, version=0, partitions=0) for name, schema in found.items()}


def test_a_store_moves_into_a_cluster_to_other_partitions_and_back_as_it_is(
    single: Server, cluster: Cluster, servers: dict[str, Server], tmp_path: Path, partitions: Callable[[int], None]
) -> None:
    fill(url_of(single))
    before, declared = everything(url_of(single)), schemas(url_of(single))
    tombstones = sum(deleted for _, _, deleted, *_ in before.values())
    assert tombstones > 10
    partitions(16)
    state = moved(url_of(single), cluster.url)
    assert everything(cluster.url) == before
    assert schemas(cluster.url) == declared
    with FeatureStore.connect(cluster.url) as store:
        assert store.schema().partitions == 16
    first, second = state.passes
    assert (first.seen, first.created, second.equal) == (len(before),) * 3
    assert state.compared.equal == state.compared.seen == len(before)

    back = Server(binaries()["redis7"], tmp_path)
    back.start()
    try:
        moved(cluster.url, url_of(back))
        assert everything(url_of(back)) == before
        assert schemas(url_of(back)) == declared
        cluster.empty()
        partitions(64)
        moved(url_of(back), cluster.url)
        assert everything(cluster.url) == before
        with FeatureStore.connect(cluster.url) as store:
            assert store.schema().partitions == 64
    finally:
        back.stop()


@pytest.fixture
def pair(servers: dict[str, Server]) -> Iterator[tuple[FeatureStore, FeatureStore]]:
    """Two empty stores on single servers."""
    stores = [FeatureStore.connect(url_of(servers[name]), timeout=5) for name in ("valkey9", "redis7")]
    for store in stores:
        store.transport.command("FLUSHALL")
    yield stores[0], stores[1]
    for store in stores:
        store.close()


def urls(pair: tuple[FeatureStore, FeatureStore]) -> tuple[str, str]:
    return tuple(store.transport.address for store in pair)  # type: ignore[attr-defined]


def test_a_move_to_redis_without_pexpiretime_keeps_when_entities_expire(servers: dict[str, Server]) -> None:
    old, new = (url_of(servers[name]) for name in ("redis62", "valkey9"))
    with FeatureStore.connect(old) as store, FeatureStore.connect(new) as other:
        for each in (store, other):
            each.transport.command("FLUSHALL")
        store.apply(Definition({"age": "int"}, ttl="9d"))
        store.upsert([("ann", {"age": 1})])
        state = moved(old, new)
        assert state.compared.equal == 1
        left = other.transport.command("PTTL", "user:ann:features")
        assert abs(left - store.transport.command("PTTL", "user:ann:features")) < 2000
        other.transport.command("PERSIST", "user:ann:features")
        assert moved(new, old).passes[0].replaced == 1  # what does not expire there is made to stay
        assert store.transport.command("PTTL", "user:ann:features") == -1


def test_what_is_newer_at_the_target_stays_and_what_is_older_is_copied(pair: tuple[FeatureStore, FeatureStore]) -> None:
    source, target = pair
    for store in pair:
        store.apply(Definition({"age": "int", "n": "int"}))
    source.upsert(
        [("ann", {"age": 1, "n": 1}), ("bob", {"age": 1, "n": 1}), ("cy", {"age": 1, "n": 1})], event_time=NOW
    )
    target.upsert([("ann", {"age": 2})], event_time=NOW + 1)
    target.upsert([("bob", {"age": 2, "n": 2})], event_time=NOW - 1)
    target.upsert([("dan", {"age": 2})], event_time=NOW)
    state = moved(*urls(pair), Manner(passes=1))
    assert target.get_many(["ann", "bob", "cy", "dan"]) == [
        {"age": 2, "n": 1}, {"age": 1, "n": 1}, {"age": 1, "n": 1}, {"age": 2, "n": None},
    ]  # fmt: skip
    (copied,) = state.passes
    assert (copied.merged, copied.replaced, copied.created) == (1, 1, 1)
    assert (state.compared.newer, state.compared.extra) == (1, 1)
    assert not agrees(state, Manner())


def test_after_the_switch_an_increment_of_the_same_event_time_stays(pair: tuple[FeatureStore, FeatureStore]) -> None:
    source, target = pair
    source.apply(Definition({"n": "int"}))
    source.upsert([("ann", {"n": 1})], event_time=NOW)
    moved(*urls(pair))
    target.increment("ann", {"n": 5}, event_time=NOW)
    moved(*urls(pair), Manner(keeps="same"))
    assert target.get("ann") == {"n": 6}
    moved(*urls(pair))
    assert target.get("ann") == {"n": 1}


def test_ids_that_are_new_at_the_target_do_not_count_after_the_switch(
    pair: tuple[FeatureStore, FeatureStore],
) -> None:
    source, target = pair
    source.apply(Definition({"n": "int"}))
    source.upsert([("ann", {"n": 1})], event_time=NOW)
    moved(*urls(pair))
    target.upsert([("new", {"n": 1})])
    switched = Manner(keeps="same")
    state = moved(*urls(pair), switched)
    assert state.compared.extra == 1
    assert agrees(state, switched)
    assert any("1 ids are at the target alone" in line for line in summary(state, switched))
    assert not agrees(moved(*urls(pair)), Manner())


def test_a_move_reads_primaries_alone(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURESTORE_READ_FROM", "replicas")

    def read(is_primary: bool) -> int:  # noqa: FBT001 - which half
        found = 0
        for node in cluster.nodes:
            if node.is_primary == is_primary:
                stats = node.command("INFO", "commandstats")
                found += sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("hgetall", "hmget", "scard"))
        return found

    with FeatureStore.connect(cluster.url, timeout=5) as store:
        store.apply(Definition({"n": "int"}), partitions=8)
        store.upsert([(f"u{number}", {"n": number}) for number in range(30)])
    wait_until(lambda: sum(len(node.command("KEYS", "*:features")) for node in cluster.nodes) == 60, what="replicas")
    end = End(cluster.url, Throttle(), ReadRetries())
    end.schema("user")
    before = read(True), read(False)
    ids = [("user", b"u%d" % number) for number in range(30)]
    assert all(end.read(ids))
    assert end.count("user") == 30
    reader = HashReader(end.of_entity("user"), {"n": "int"}, Throttle(), ReadRetries())
    reader.store.schema()
    assert all(known for known, _ in reader.read_known([raw_id for _, raw_id in ids]))
    assert read(False) == before[1]
    assert read(True) >= before[0] + 60
    end.close()


def test_an_exact_move_makes_the_target_the_source(pair: tuple[FeatureStore, FeatureStore]) -> None:
    source, target = pair
    fill(urls(pair)[0], users=60)
    moved(*urls(pair))
    target.upsert([("u2", {"age": 5}), ("stranger", {"age": 5})])
    source.transport.command("DEL", "user:u3:features")
    source.transport.command("SREM", "all_users", "u3")
    source.upsert([("u4", {"age": 5})], event_time=NOW + 50)
    source.transport.command("HDEL", "user:u5:features", "name")
    assert not agrees(moved(*urls(pair)), Manner())
    manner = Manner(passes=1, keeps="none", removes=True)
    state = moved(*urls(pair), manner)
    assert state.removed == 2
    assert agrees(state, manner)
    assert everything(urls(pair)[1]) == everything(urls(pair)[0])
    assert target.get("stranger") is None


def test_a_comparison_finds_what_was_planted_and_changes_nothing(pair: tuple[FeatureStore, FeatureStore]) -> None:
    source, target = pair
    fill(urls(pair)[0], users=60)
    moved(*urls(pair))
    command = target.transport.command
    command("HSET", "user:u2:features", "age", "77")
    command("DEL", "user:u3:features")
    command("SREM", "all_users", "u4")
    command("PEXPIREAT", "user:u5:features", NOW * 2)
    source.upsert([("u6", {"age": 6})])
    target.upsert([("u9", {"age": 6}), ("stranger", {"age": 6})])
    before = everything(urls(pair)[1])
    manner = Manner(passes=0)
    state = moved(*urls(pair), manner)
    found = state.compared
    assert (found.different, found.missing, found.behind, found.newer, found.extra) == (2, 2, 1, 1, 1)
    assert found.equal == found.seen - 6
    planted = [(each.kind, each.id, each.field, each.target) for each in found.examples]
    assert ("different", "u2", "age", "77") in planted
    assert ("different", "u5", "when it expires", None) in planted
    assert ("extra", "stranger", None, None) in planted
    assert not agrees(state, manner)
    assert everything(urls(pair)[1]) == before


def test_a_move_is_refused_where_the_schemas_contradict(pair: tuple[FeatureStore, FeatureStore]) -> None:
    source, target = pair
    source.apply(Definition({"age": "int"}))
    target.apply(Definition({"age": "float"}))
    with pytest.raises(BadArgumentsError, match="age of user is int at the source and float at the target"):
        moved(*urls(pair))
    source.transport.command("HSET", "user:schema", "@retiring", '["gone","5"]')
    with pytest.raises(BadArgumentsError, match="gone of user are being retired"):
        moved(*urls(pair))


def test_a_target_that_declares_more_takes_a_move_and_serves_it(pair: tuple[FeatureStore, FeatureStore]) -> None:
    source, target = pair
    source.apply(Definition({"age": "int", "n": "int"}))
    target.apply(Definition({"more": "string", "age": "int"}))
    source.upsert([("ann", {"age": 1, "n": 2})], event_time=NOW)
    assert moved(*urls(pair)).compared.equal == 1
    assert target.get("ann") == {"more": None, "age": 1, "n": 2}
    target.upsert([("ann", {"more": "x"})], event_time=NOW - 1)
    assert target.get("ann") == {"more": "x", "age": 1, "n": 2}


STEP = st.tuples(
    st.sampled_from(["upsert", "delete", "forget", "move", "increment"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["x", "y"]),
    st.integers(0, 6),
    st.integers(0, 9),
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEP, max_size=12))
def test_whatever_was_written_a_moved_store_is_equal(
    two_servers: tuple[FeatureStore, FeatureStore], steps: list[tuple[str, str, str, int, int]]
) -> None:
    source, _ = two_servers
    for store in two_servers:
        store.transport.command("FLUSHALL")
    source.apply(Definition({"x": "int", "y": "int"}))
    for what, user, feature, time_, value in steps:
        if what == "upsert":
            source.upsert([(user, {feature: value})], event_time=NOW + time_)
        elif what == "forget":
            source.upsert([(user, {feature: None})], event_time=NOW + time_)
        elif what == "increment":
            source.increment(user, {feature: value}, event_time=NOW + time_)
        elif what == "delete":
            source.delete(user, event_time=NOW + time_)
        else:
            moved(*urls(two_servers), Manner(passes=1, share=0.0))
    state = moved(*urls(two_servers))
    ours, theirs = everything(urls(two_servers)[0]), everything(urls(two_servers)[1])
    assert {key: row[:3] + row[4:5] for key, row in theirs.items()} == {
        key: row[:3] + row[4:5] for key, row in ours.items()
    }
    assert agrees(state, Manner())


@pytest.fixture(scope="module")
def two_servers(servers: dict[str, Server]) -> Iterator[tuple[FeatureStore, FeatureStore]]:
    stores = [FeatureStore.connect(url_of(servers[name]), timeout=5) for name in ("valkey9", "redis7")]
    yield stores[0], stores[1]
    for store in stores:
        store.close()


def test_of_a_packed_row_the_times_alone_are_compared() -> None:
    def held(row: bytes, *, known: bool = True) -> Held:
        return Held({b"age": b"1", b"@event_time": b"9", b"@row": row}, known, None)

    assert compared(held(b"@0000000\x91\x01"), held(b"@1111111\x91\x01")) == ("equal", [])
    assert compared(held(b"@0000000|5=age|\x91\x01"), held(b"@1111111\x91\x01")) == ("different", ["event times"])
    assert compared(held(b""), held(b"", known=False)) == ("missing", ["whether its id is known"])
    assert compared(held(b""), None) == ("missing", [])


# As a command


def command_of(*words: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "FEATURESTORE_DATA_DIR": str(folder)}
    program = [sys.executable, "-m", "featurestore", "migrate", *words]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(*words: str, folder: Path) -> tuple[int, str, str]:
    process = command_of(*words, folder=folder)
    out, told = process.communicate(timeout=100)
    return process.returncode, out, told


def seen_by(state: Path) -> int:
    """Return how many ids the first pass of a move has seen that is kept there."""
    seen: int = json.loads(state.read_bytes())["passes"][0]["seen"]
    return seen


def test_a_move_that_is_killed_goes_on_and_copies_what_writers_wrote_meanwhile(
    single: Server, cluster: Cluster, tmp_path: Path
) -> None:
    source = url_of(single)
    fill(source, users=4000)
    with FeatureStore.connect(source) as store:
        stop, written = threading.Event(), {}

        def write() -> None:
            for number in range(10**9):
                if stop.is_set():
                    return
                user = f"u{2 + 7 * (number % 700)}"
                store.upsert([(user, {"age": number})])
                written[user] = number
                store.upsert([(f"new {number % 300}", {"age": number})])
                stop.wait(0.002)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            words = (source, cluster.url, "--partitions", "16", "--rate", "2500", "--json", "--passes", "1")
            process = command_of(*words, folder=tmp_path)
            kept = tmp_path / "moves"
            wait_until(lambda: any(map(seen_by, kept.glob("*.json"))), timeout=60, what="a state on disk")
            process.send_signal(signal.SIGKILL)
            process.communicate()
            (state,) = kept.glob("*.json")
            assert seen_by(state) < 4000
            code, out, told = outcome(*words, folder=tmp_path)
            assert f"going on in step 1 of 3 ({state})" in told
            assert code == 0, (out, told)
            assert not state.exists()
        finally:
            stop.set()
            writer.join()
        code, out, _ = outcome(source, cluster.url, "--json", folder=tmp_path)
        assert code == 0, out
        assert json.loads(out)["compared"]["behind"] == 0
        assert json.loads(out)["passes"][0]["equal"] > 3000
    assert everything(cluster.url) == everything(source)
    assert written


def test_the_command_says_what_it_will_do_and_refuses_what_cannot_be_meant(
    single: Server, cluster: Cluster, tmp_path: Path
) -> None:
    source = url_of(single)
    fill(source, users=20)
    code, out, told = outcome(source, cluster.url, "--dry-run", "--partitions", "8", folder=tmp_path)
    assert (code, out) == (0, "")
    assert "user: the target has no such entity; its schema is applied there, in 8 partitions" in told
    assert "item: 50 ids, 1 features" in told
    assert everything(cluster.url) == {}
    code, out, told = outcome(source, source, folder=tmp_path)
    assert (code, out) == (2, "")
    assert "SOURCE and TARGET are the same store" in told
    code, _, told = outcome(source, cluster.url, "--verify-only", folder=tmp_path)
    assert code == 2
    assert "the target has no schema of item, user" in told
    assert outcome(source, cluster.url, "--partitions", "8", folder=tmp_path)[0] == 0
    code, _, told = outcome(source, cluster.url, "--partitions", "16", folder=tmp_path)
    assert code == 2
    assert "has 8 partitions at the target, which stay: not 16" in told
    with FeatureStore.connect(source) as store:
        store.transport.command("DEL", *(f"user:{name_of(user)}:features" for user in range(20)), "all_users")
    code, _, told = outcome(source, cluster.url, "--exact", folder=tmp_path)
    assert code == 2
    assert "Are they the right way round?" in told
    assert "(see featurestore migrate --help)" in told
    assert outcome(source, cluster.url, "--exact", "--dry-run", folder=tmp_path)[::2] == (code, told)
    code, out, _ = outcome(source, cluster.url, "--verify-only", "--json", folder=tmp_path)
    assert code == 1
    assert json.loads(out)["compared"]["extra"] > 10
    code, out, _ = outcome(source, cluster.url, "--exact", "--yes", "--json", folder=tmp_path)
    assert code == 0
    assert json.loads(out)["removed"] > 10


def test_a_node_that_fails_over_while_a_move_runs_loses_nothing(
    single: Server, cluster: Cluster, tmp_path: Path
) -> None:
    source = url_of(single)
    fill(source, users=1500)
    process = command_of(source, cluster.url, "--partitions", "16", "--rate", "1500", "--json", folder=tmp_path)
    wait_until(lambda: any((tmp_path / "moves").glob("*.json")), timeout=60, what="a move under way")
    primary = cluster.primary_of(0)
    cluster.fail_over(cluster.replicas_of(primary)[0])
    out, told = process.communicate(timeout=100)
    assert process.returncode == 0, (out, told)
    assert everything(cluster.url) == everything(source)
    cluster.settle()


def test_a_copy_that_fails_tells_why_first_and_other_options_begin_anew(
    pair: tuple[FeatureStore, FeatureStore], tmp_path: Path
) -> None:
    source, target = pair
    source.apply(Definition({"n": "int"}))
    source.upsert([(f"u{number}", {"n": number}) for number in range(2000)])
    target.apply(Definition({"n": "int"}))
    target.transport.command("CONFIG", "SET", "maxmemory", "1")
    try:
        code, _, told = outcome(*urls(pair), folder=tmp_path)
    finally:
        target.transport.command("CONFIG", "SET", "maxmemory", "0")
    assert code == 1
    assert "OOM" in told
    assert told.index("OOM") < told.index("interrupted: the same command goes on from there")
    (state,) = (tmp_path / "moves").glob("*.json")
    code, out, told = outcome(*urls(pair), "--passes", "1", "--rate", "100000", "--json", folder=tmp_path)
    assert code == 0, told
    assert f"another --passes, --sample or --no-verify: it begins anew ({state})" in told
    assert json.loads(out)["passes"][0]["created"] == 2000
    assert list((tmp_path / "moves").iterdir()) == []
