"""Replicas that answer reads of a cluster, in single calls of each kind."""

import contextlib
import time
from typing import Any

import gevent
import msgspec
import pytest
from gevent.event import AsyncResult
from support.cluster import Cluster
from support.kinds import Kind, over_each
from support.servers import wait_until

from featurestore import Definition, FeatureStore
from featurestore.contract.partitioned_calls import READS
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import APPLY_SCHEMA, GET_FEATURES, GET_FEATURES_BATCH
from featurestore.errors import UnavailableError
from featurestore.keys import PartitionedKeys, slot_of
from featurestore.transport.blocking_cluster import SyncClusterTransport
from featurestore.transport.gevent_cluster import GeventClusterTransport
from featurestore.transport.pipeline import Failure
from featurestore.transport.replicas import Reading

KEYS = PartitionedKeys("user", 64)
ANN, EVE = KEYS.holding(b"ann"), KEYS.holding(b"eve")
TIMES: dict[str, Any] = {"timeout": 2.0, "connect_timeout": 2.0}


@pytest.fixture
def filled(cluster: Cluster) -> Cluster:
    """A cluster with the features of ann, on primaries and replicas."""
    transport = SyncClusterTransport(cluster.url, timeout=20, connect_timeout=20)
    for keys in {ANN, EVE}:
        transport.run(APPLY_SCHEMA, (keys.schema,), ("n", "int"))
    transport.command("SADD", ANN.members, "ann")
    transport.command("HSET", ANN.features("ann"), "n", 7)
    for each in (ANN, EVE):
        _wait_for_copies(cluster, each.schema)
    _wait_for_copies(cluster, ANN.features("ann"))
    transport.close()
    return cluster


def _wait_for_copies(cluster: Cluster, key: str) -> None:
    wait_until(lambda: sum(_holds(node, key) for node in cluster.nodes) == 2, what="copies of a key")


def _holds(node: Any, key: str) -> bool:
    return bool(node.command("DBSIZE")) and key in node.command("KEYS", "*")


def call(entity_id: str) -> bytes:
    keys = KEYS.holding(entity_id.encode())
    return encode_call(GET_FEATURES, (keys.members, keys.schema, keys.features(entity_id)), (entity_id, "n"))


@over_each
async def test_replicas_of_a_cluster_answer_by_choice(kind: Kind, filled: Cluster) -> None:
    transport = kind.connect(filled.url, **TIMES, reading=Reading("replicas"))
    primary = filled.primary_of(_slot("ann"))
    await transport.run_many_encoded(GET_FEATURES, [call("ann")])
    before = _calls(primary)
    for _ in range(10):
        (reply,) = await transport.run_many_encoded(GET_FEATURES, [call("ann")])
        assert msgspec.msgpack.decode(reply) == [7]
    assert _calls(primary) == before
    (reply,) = await transport.run_many_encoded(GET_FEATURES, [call("ann")], primary_only=True)
    assert (msgspec.msgpack.decode(reply), _calls(primary)) == ([7], before + 1)


def _slot(entity_id: str) -> int:
    return slot_of(KEYS.holding(entity_id.encode()).schema.encode())


def _calls(node: Any) -> int:
    told = node.command("INFO", "commandstats")
    return sum(stats["calls"] for name, stats in told.items() if name.startswith("cmdstat_evalsha"))


def test_gathered_reads_that_a_replica_cannot_tell_are_given_back(filled: Cluster) -> None:
    transport = GeventClusterTransport(filled.url, **TIMES, reading=Reading("replicas"))

    def submitted(encoded: bytes, script: Any = GET_FEATURES) -> Any:
        answered: AsyncResult = AsyncResult()
        if transport.submit(script, encoded, answered.set) is None:
            return None
        return answered.get(timeout=10).outcome

    def whole() -> tuple[Any, Any, Any]:
        for entity_id in ("ann", "eve"):
            transport.run_encoded(GET_FEATURES, call(entity_id))
        hashes = [ANN.features(each) for each in ("ann", "x")]
        batch = encode_call(GET_FEATURES_BATCH, (ANN.members, ANN.schema, *hashes), ("1", "n"))
        transport.run_many_encoded(GET_FEATURES_BATCH, [batch])
        return submitted(call("ann")), submitted(call("eve")), submitted(batch, GET_FEATURES_BATCH)

    known, unknown, some = gevent.spawn(whole).get(timeout=30)
    assert msgspec.msgpack.decode(known) == [7]
    assert isinstance(unknown, Failure)
    assert unknown.lost
    assert isinstance(some, Failure)
    transport.close()


@over_each
async def test_ids_that_replicas_do_not_know_are_asked_of_the_primary_in_batches_too(
    kind: Kind, cluster: Cluster
) -> None:
    transport = kind.connect(cluster.url, **TIMES, reading=Reading("replicas"))
    store = kind.store(transport)
    await store.apply(Definition({"n": "int"}))
    ids = [f"id{number}" for number in range(200)]
    await store.upsert([(each, {"n": 1}) for each in ids])
    await store.get_many(ids)
    await kind.eventually(lambda: _all_known(kind, store, ids), what="copies of all rows")
    primaries = [node for node in cluster.nodes if node.is_primary]
    asked = sum(map(_calls, primaries))
    assert await store.get_many(ids) == [{"n": 1}] * 200
    assert sum(map(_calls, primaries)) == asked
    for batch in (
        ["nobody"],
        [f"nobody{number}" for number in range(70)],
        ["id7", *(f"x{each}" for each in range(30))],
    ):
        asked = sum(map(_calls, primaries))
        found = await store.get_many(batch)
        assert [each is not None for each in found] == [each == "id7" for each in batch]
        assert sum(map(_calls, primaries)) > asked


async def _all_known(_kind: Kind, store: Any, ids: list[str]) -> bool:
    return None not in await store.get_many(ids)


def test_a_gathered_round_gives_back_what_replicas_do_not_know(filled: Cluster) -> None:
    transport = GeventClusterTransport(filled.url, **TIMES, reading=Reading("replicas"))

    def whole() -> list[Any]:
        for each in ("ann", "eve"):
            transport.run_encoded(GET_FEATURES, call(each))
        found = []
        for encoded in (call("ann"), call("eve")):
            answered: AsyncResult = AsyncResult()
            assert transport.submit(READS, encoded, answered.set) is not None
            found.append(answered.get(timeout=10).outcome)
        return found

    known, unknown = gevent.spawn(whole).get(timeout=30)
    assert msgspec.msgpack.decode(known) == [7]
    assert isinstance(unknown, Failure)
    transport.close()


def test_nodes_that_all_stand_still_cost_threads_one_time_out_not_one_each(cluster: Cluster) -> None:
    store = FeatureStore(SyncClusterTransport(cluster.url, timeout=0.5, connect_timeout=0.5))
    store.apply(Definition({"n": "int"}))
    ids = [f"id{number}" for number in range(100)]
    store.get_many(ids)
    with contextlib.ExitStack() as frozen:
        for node in cluster.nodes:
            frozen.enter_context(node.frozen())
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            store.get_many(ids)
        assert time.monotonic() - began < 2.0  # it was 7 s
    store.close()
