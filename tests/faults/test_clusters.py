"""Calls to real clusters: each reaches the node that has its keys, whatever happens to nodes and slots meanwhile."""

from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.binaries import binaries
from support.cluster import Cluster, Node
from support.kinds import Kind, Shared, outcome, over_each, over_shared
from support.scripted import eventually
from support.servers import real
from support.tls import make_certificate

from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import APPLY_SCHEMA, DELETE_ENTITY, GET_FEATURES
from featurestore.errors import AccessDeniedError, UnavailableError
from featurestore.keys import PartitionedKeys, slot_of
from featurestore.transport.blocking_cluster import SyncClusterTransport
from featurestore.transport.gevent_cluster import GeventClusterTransport

IDS = [f"user{number}" for number in range(100)]
KEYS = PartitionedKeys("user", 64)
WRITE_S = 20.0


def slot_for(entity_id: str) -> int:
    return slot_of(KEYS.holding(entity_id.encode()).schema.encode())


def read(entity_id: str) -> bytes:
    return encode_call(GET_FEATURES, *parts(entity_id))


def value(reply: Any) -> Any:
    return msgspec.msgpack.decode(reply)[0] if isinstance(reply, bytes) else reply


async def values(transport: Any, ids: list[str] = IDS, **options: Any) -> list[Any]:
    return [value(reply) for reply in await transport.run_many_encoded(GET_FEATURES, list(map(read, ids)), **options)]


@pytest.fixture
def filled(cluster: Cluster) -> Cluster:
    """A cluster with a number for each id."""
    fill(cluster.url)
    return cluster


def fill(url: str) -> None:
    transport = SyncClusterTransport(url, timeout=WRITE_S, connect_timeout=WRITE_S)
    for keys in KEYS.parts:
        transport.run(APPLY_SCHEMA, (keys.schema,), ("n", "int"))
    for number, entity_id in enumerate(IDS):
        keys = KEYS.holding(entity_id.encode())
        transport.command("SADD", keys.members, entity_id)
        transport.command("HSET", keys.features(entity_id), "n", number)
    transport.close()


ALL = list(range(len(IDS)))


# Where calls go


@over_each
async def test_replies_come_in_the_order_of_the_calls(kind: Kind, filled: Cluster) -> None:
    transport = kind.connect(filled.url)
    assert await values(transport) == ALL
    assert await values(transport, IDS[::-1], each_us=20.0) == ALL[::-1]
    assert [value(await transport.run(GET_FEATURES, *parts(entity_id))) for entity_id in IDS[:5]] == ALL[:5]
    assert await transport.command("PING") == b"PONG"


def parts(entity_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    keys = KEYS.holding(entity_id.encode())
    return (keys.members, keys.schema, keys.features(entity_id)), (entity_id, "n")


@over_shared
async def test_a_batch_is_one_write_a_node(kind: Shared, filled: Cluster) -> None:
    transport = kind.connect(filled.url)
    await values(transport)
    for each_us in (0.0, 5.0):
        nodes = [node for node in await transport.nodes() if node.role == "primary"]
        before, in_all = [node.transport.writes for node in nodes], transport.writes
        await values(transport, each_us=each_us)
        assert transport.writes == in_all + 3
        assert [node.transport.writes for node in nodes] == [count + 1 for count in before]
    assert (transport.in_flight, transport.reconnects) == (0, 0)


class LazyCalls:
    def __init__(self, ids: list[str]) -> None:
        self.ids, self.slots, self.looks = ids, list(map(slot_for, ids)), 0

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> bytes:
        self.looks += 1
        return read(self.ids[place])

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(len(self.ids)))


@over_each
async def test_calls_that_are_encoded_when_they_are_sent_say_where_they_go(kind: Kind, filled: Cluster) -> None:
    transport = kind.connect(filled.url)
    taken: list[int] = []

    def take(reply: Any) -> Any:
        taken.append(value(reply))
        return value(reply) + 1000

    for each_us in (0.0, 50.0):
        calls = LazyCalls(IDS)
        replies = await transport.run_many_encoded(GET_FEATURES, calls, each_us=each_us, takes=[take] * len(IDS))
        assert replies == [number + 1000 for number in ALL]
        assert calls.looks >= len(IDS)
    assert sorted(taken) == sorted(ALL * 2)


@pytest.mark.timeout(60)
def test_calls_with_a_callback_go_to_the_node_of_their_tag(filled: Cluster) -> None:
    transport = GeventClusterTransport(filled.url, timeout=WRITE_S, connect_timeout=WRITE_S)
    assert transport.submit(GET_FEATURES, read(IDS[0]), print) is None  # nothing is known of the cluster
    transport.run_many_encoded(GET_FEATURES, list(map(read, IDS)))
    slot = slot_for(IDS[0])
    source = filled.primary_of(slot)
    found: dict[str, Any] = {}

    def read_all() -> None:
        found.clear()
        for entity_id in IDS:
            submitted = transport.submit(GET_FEATURES, read(entity_id), partial(found.__setitem__, entity_id))
            assert submitted is not None
        eventually(lambda: len(found) == len(IDS))

    before = transport.writes
    read_all()
    assert [value(found[entity_id].outcome) for entity_id in IDS] == ALL
    assert transport.writes == before + 3
    assert transport.overload() is None
    assert transport.note_small(0.001, 0.001) == inf

    filled.move(slot, other_primary(filled, source))
    read_all()
    assert found[IDS[0]].outcome.args[0].startswith("MOVED")  # whoever submits calls repeats them by `run_encoded`
    assert value(transport.run_encoded(GET_FEATURES, read(IDS[0]))) == 0
    read_all()
    assert [value(found[entity_id].outcome) for entity_id in IDS] == ALL
    filled.move(slot, source)
    transport.close()


@over_each
async def test_every_node_is_told_with_what_it_is(kind: Kind, filled: Cluster) -> None:
    transport = kind.connect(filled.url)
    nodes = await transport.nodes()
    assert [node.role for node in nodes].count("primary") == 3
    assert sorted(int(node.address.rpartition(":")[2]) for node in nodes) == sorted(n.port for n in filled.nodes)
    covered = sorted(run for node in nodes if node.role == "primary" for run in node.ranges)
    assert covered[0][0] == 0
    assert covered[-1][1] == 16383
    for node in nodes:
        asked = node.transport.command("ROLE")
        told = (await asked if kind.name == "asyncio" else asked)[0]
        assert told == {"primary": b"master", "replica": b"slave"}[node.role]


def test_a_stream_goes_to_all_nodes_and_its_replies_come_in_order(filled: Cluster) -> None:
    transport = SyncClusterTransport(filled.url, timeout=WRITE_S, connect_timeout=WRITE_S)
    calls: list[bytes | None] = [*map(read, IDS * 5)]
    calls[77:77] = [None]
    assert list(map(value, transport.stream(calls, in_flight=4))) == ALL * 5
    transport.close()


def test_a_stream_loads_scripts_and_follows_a_slot_while_it_goes_on(filled: Cluster) -> None:
    transport = SyncClusterTransport(filled.url, timeout=WRITE_S, connect_timeout=WRITE_S)
    slot = slot_for(IDS[0])
    source = filled.primary_of(slot)
    target = other_primary(filled, source)

    def calls() -> Iterator[bytes]:
        for turn in range(4):
            yield from map(read, IDS)
            if turn == 1:
                source.command("SCRIPT", "FLUSH")
                filled.move(slot, target)

    assert list(map(value, transport.stream(calls(), in_flight=4))) == ALL * 4
    filled.move(slot, source)
    transport.close()


@over_each
async def test_calls_of_functions_go_to_their_nodes(kind: Kind, filled: Cluster) -> None:
    transport = kind.connect(filled.url, call="functions")
    assert await values(transport) == ALL
    for node in filled.nodes:
        if node.is_primary:
            node.command("FUNCTION", "FLUSH")
    assert await values(transport) == ALL
    assert await values(transport, each_us=50.0) == ALL


@over_each
async def test_many_large_calls_at_once_come_to_an_end(kind: Kind, filled: Cluster) -> None:
    transport = kind.connect(filled.url, max_in_flight=100_000) if kind.name != "pool" else kind.connect(filled.url)
    keys = [f"{tag}text" for tag in ("{1}", "{2}", "{3}", "{4}")]
    for key in keys:
        await transport.command("SET", key, "x" * 10_000)
    assert await values(transport, IDS * 100) == ALL * 100


# What happens to slots


def other_primary(cluster: Cluster, than: Node) -> Node:
    return next(node for node in cluster.nodes if node.is_primary and node is not than)


@over_each
async def test_a_slot_on_its_way_is_asked_for_where_its_keys_are(kind: Kind, filled: Cluster) -> None:
    entity_id, number = IDS[7], 7
    keys, slot = KEYS.holding(entity_id.encode()), slot_for(entity_id)
    source = filled.primary_of(slot)
    target = other_primary(filled, source)
    transport = kind.connect(filled.url, timeout=WRITE_S)
    assert await values(transport) == ALL

    filled.begin_move(slot, target)
    filled.move_keys(slot, target, keys.features(entity_id))
    before = again(source)
    reading = kind.start(values(transport, [entity_id]))  # TRYAGAIN: some keys are here, some there
    await kind.eventually(lambda: again(source) > before, what="a call that is to be tried again")
    filled.move_keys(slot, target)
    assert await reading == [number]
    assert await values(transport) == ALL  # ASK
    assert source.port == int(shard_of(transport, slot).rpartition(":")[2])

    filled.end_move(slot, target)
    assert await values(transport) == ALL  # MOVED
    assert target.port == int(shard_of(transport, slot).rpartition(":")[2])
    filled.move(slot, source)
    assert await values(transport) == ALL


def shard_of(transport: Any, slot: int) -> str:
    shard = transport.cluster.shard(slot)
    assert shard is not None
    address: str = shard.primary
    return address


def again(node: Node) -> int:
    told = node.command("INFO", "errorstats")
    if isinstance(told, dict):
        return int(told.get("errorstat_TRYAGAIN", {}).get("count", 0))
    found = [line for line in told.splitlines() if line.startswith("errorstat_TRYAGAIN")]
    return int(found[0].rpartition("=")[2]) if found else 0


@over_each
async def test_one_node_that_has_lost_its_scripts_gets_them_again(kind: Kind, filled: Cluster) -> None:
    transport = kind.connect(filled.url)
    assert await values(transport) == ALL
    filled.primary_of(0).command("SCRIPT", "FLUSH")
    assert await values(transport) == ALL
    filled.primary_of(0).command("SCRIPT", "FLUSH")
    assert await values(transport, each_us=50.0) == ALL


# What happens to nodes


SLOT_OF_KIND = {"gevent": 0, "asyncio": 8192, "pool": 16383}
"""Of a shard each: primaries do not vote twice for one shard within twice the time-out of nodes."""


@over_each
async def test_a_failover_under_calls_is_not_seen(kind: Kind, filled: Cluster) -> None:
    transport = kind.connect(filled.url)
    assert await values(transport) == ALL
    slot = SLOT_OF_KIND[kind.name]
    primary = filled.primary_of(slot)
    (replica,) = filled.replicas_of(primary)
    over = False
    seen: list[Any] = []

    async def go_on() -> None:
        while not over:
            seen.append(await values(transport))
            await kind.sleep(0.001)

    going = kind.start(go_on())
    await kind.eventually(lambda: len(seen) > 5)
    replica.command("CLUSTER", "FAILOVER")
    await kind.eventually(lambda: replica.is_primary and not primary.is_primary, what="a replica that takes over")
    before = len(seen)
    await kind.eventually(lambda: len(seen) > before + 20)
    over = True
    assert await going is None
    assert all(found == ALL for found in seen)
    await kind.eventually(lambda: int(shard_of(transport, slot).rpartition(":")[2]) == replica.port)
    deleted = await transport.run(DELETE_ENTITY, *deletion(IDS[0]))
    assert deleted == 1


def deletion(entity_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    keys = KEYS.holding(entity_id.encode())
    return (keys.members, keys.schema, keys.features(entity_id)), (entity_id,)


@over_each
async def test_reads_of_a_dead_node_are_answered_by_its_replica_and_only_its_own_writes_fail(
    kind: Kind, filled: Cluster
) -> None:
    transport = kind.connect(filled.url, timeout=0.5, connect_timeout=0.5)
    assert await values(transport) == ALL
    dead = filled.primary_of(0)
    its = [entity_id for entity_id in IDS if filled.primary_of(slot_for(entity_id)) is dead]
    others = [entity_id for entity_id in IDS if entity_id not in its]
    dead.stop()
    try:
        for _ in range(20):
            assert await values(transport) == ALL
        failed = await outcome(values(transport, its[:1], writes=True))
        assert isinstance(failed, UnavailableError)
        assert f"node 127.0.0.1:{dead.port}, slot {slot_for(its[0])}" in str(failed)
        assert await values(transport, others, writes=True) == [IDS.index(each) for each in others]

        async def served() -> bool:
            return bool(await outcome(values(transport, its, writes=True)) == [IDS.index(each) for each in its])

        await kind.eventually(served, what="a replica that took over")
    finally:
        dead.start()
        filled.settle()
    assert await values(transport) == ALL


# How nodes are reached


@over_each
async def test_names_are_used_where_the_cluster_prefers_them(kind: Kind, filled: Cluster) -> None:
    for node in filled.nodes:
        node.command("CONFIG", "SET", "cluster-announce-hostname", "localhost")
        node.command("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
    try:
        await kind.eventually(lambda: "localhost" in str(filled.nodes[0].command("CLUSTER", "SLOTS")))
        await kind.eventually(lambda: all(told_by_name(node) for node in filled.nodes), what="names of all")
        transport = kind.connect(filled.url)
        assert await values(transport) == ALL
        assert {node.address.rpartition(":")[0] for node in await transport.nodes()} == {"localhost"}
    finally:
        for node in filled.nodes:
            node.command("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")
            node.command("CONFIG", "SET", "cluster-announce-hostname", "")


def told_by_name(node: Node) -> bool:
    return all(each[0] == "localhost" for run in node.command("CLUSTER", "SLOTS") for each in run[2:])


@pytest.fixture(scope="module", params=real("redis7"))
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that speaks TLS beside plain RESP, and has a user of the tests' own."""
    folder = tmp_path_factory.mktemp("secured")
    certificate = make_certificate(folder)
    cluster = Cluster(binaries()[request.param], folder, replicas=0, tls=certificate)
    cluster.start()
    for node in cluster.nodes:
        node.command("ACL", "SETUSER", "app", "on", ">p@ss/word", "~*", "&*", "+@all")
    fill(cluster.url)
    yield cluster
    cluster.stop()


def secure_url(cluster: Cluster, password: str = "p%40ss%2Fword") -> Callable[[Path], str]:
    def url(certificate: Path) -> str:
        nodes = ",".join(f"127.0.0.1:{node.tls_port}" for node in cluster.nodes)
        return f"rediss+cluster://app:{password}@{nodes}/?ssl_ca_certs={certificate}"

    return url


@over_each
async def test_tls_user_and_password_go_to_every_node(kind: Kind, secured: Cluster) -> None:
    certificate = secured.nodes[0].folder.parent / "c.pem"
    transport = kind.connect(secure_url(secured)(certificate))
    assert await values(transport) == ALL
    nodes = await transport.nodes()
    assert {int(node.address.rpartition(":")[2]) for node in nodes} == {node.tls_port for node in secured.nodes}
    for node in nodes:
        asked = node.transport.command("ACL", "WHOAMI")
        assert (await asked if kind.name == "asyncio" else asked) == b"app"
    refused = await outcome(values(kind.connect(secure_url(secured, "wrong")(certificate))))
    assert isinstance(refused, AccessDeniedError)
    assert "wrong" not in str(refused)
