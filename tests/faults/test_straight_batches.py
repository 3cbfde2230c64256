"""Batches in a cluster that go straight to its primaries, and what becomes of them where something is amiss."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import gevent
import pytest
from support.cluster import Cluster
from support.partitioned import three_primaries, write_by_hand
from support.servers import wait_until

from featurestore import DeadlineExceededError, Definition, FeatureStore, OverloadedError, UnavailableError
from featurestore.keys import slot_of
from featurestore.transport import gevent_cluster
from featurestore.transport.gevent_cluster import GeventClusterTransport
from featurestore.transport.gevent_link import GeventLink

IDS = [f"u{number}" for number in range(150)]
ROWS = [{"n": number} for number in range(150)]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three primaries with some users."""
    with three_primaries(tmp_path_factory.mktemp("three")) as cluster:
        with FeatureStore.connect(cluster.url, timeout=10) as store:
            store.apply(Definition({"n": "int"}))
            store.schema()
            write_by_hand(store, dict(zip(IDS, ROWS, strict=True)))
        yield cluster


def opened(cluster: Cluster, timeout: float = 20.0) -> Any:
    """Return a store that knows the schema, with a connection to every node."""
    store = FeatureStore(GeventClusterTransport(cluster.url, timeout=timeout, connect_timeout=20))

    def reads() -> bool:
        with contextlib.suppress(UnavailableError):  # the first calls may be late on a busy machine
            return bool(store.get_many(IDS) == ROWS)
        return False

    wait_until(reads, what="a batch")
    return store


@pytest.fixture
def store(three: Cluster) -> Iterator[Any]:
    with opened(three) as made:
        yield made


def test_a_batch_is_not_routed_where_all_nodes_are_well(store: Any) -> None:
    sent = store.transport.writes
    with mock.patch.object(gevent_cluster, "routed", side_effect=AssertionError("it was routed")):
        assert store.get_many(IDS) == ROWS
        assert store.get_many([*reversed(IDS), "nobody", "u1"]) == [*reversed(ROWS), None, {"n": 1}]
    assert store.transport.writes - sent <= 6  # one a node, each time


def test_batches_of_many_greenlets_come_back_in_order(store: Any) -> None:
    def read(first: int) -> Any:
        ids = IDS[first:] + IDS[:first]
        return store.get_many(ids) == ROWS[first:] + ROWS[:first]

    readers = [gevent.spawn(read, first) for first in range(60)]
    gevent.joinall(readers, raise_error=True)
    assert [reader.value for reader in readers] == [True] * 60


def test_lost_scripts_are_loaded_again(three: Cluster, store: Any) -> None:
    for node in three.nodes[:2]:
        node.command("SCRIPT", "FLUSH")
    assert store.get_many(IDS) == ROWS


def test_a_batch_is_sent_again_to_the_node_whose_connection_broke(three: Cluster, store: Any) -> None:
    for node in three.nodes[:2]:
        node.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert store.get_many(IDS) == ROWS


def test_a_batch_under_way_when_a_connection_breaks_is_sent_again(three: Cluster, store: Any) -> None:
    node = three.nodes[0]
    node.command("CLIENT", "PAUSE", "400", "ALL")
    reader = gevent.spawn(store.get_many, IDS)
    gevent.sleep(0.1)
    (link,) = [made.link for target, made in store.transport._made.items() if target.address.endswith(f":{node.port}")]
    link.lose("it was cut")
    assert reader.get(timeout=20) == ROWS


def test_a_node_that_hangs_is_told_by_name(three: Cluster) -> None:
    with opened(three, timeout=0.3) as store, three.nodes[1].frozen():
        with pytest.raises(DeadlineExceededError, match=rf"node 127.0.0.1:{three.nodes[1].port}"):
            store.get_many(IDS)
        others = [each for each in IDS if three.primary_of(slot_of(store.keys.holding(each.encode()).schema.encode()))
                  is not three.nodes[1]]  # fmt: skip
        assert store.get_many(others) == [ROWS[int(each[1:])] for each in others]
    with opened(three) as store:
        assert store.get_many(IDS) == ROWS


def test_a_slot_that_has_moved_is_followed(three: Cluster, store: Any) -> None:
    slot = slot_of(store.keys.holding(b"u1").schema.encode())
    source = three.primary_of(slot)
    target = next(node for node in three.nodes if node is not source)
    three.move(slot, target)
    try:
        assert store.get_many(IDS) == ROWS
        assert store.get_many(IDS) == ROWS  # by the new topology
    finally:
        three.move(slot, source)
    assert store.get_many(IDS) == ROWS


def test_a_batch_that_one_node_has_no_time_for_is_refused(store: Any) -> None:
    refusal = OverloadedError("it has too much to do")
    with (
        mock.patch.object(GeventLink, "submit_in_turns", side_effect=refusal),
        pytest.raises(OverloadedError, match=r"too much to do \(node "),
    ):
        store.get_many(IDS)
    assert store.get_many(IDS) == ROWS


def test_a_reader_that_is_killed_leaves_nothing_behind(three: Cluster, store: Any) -> None:
    three.nodes[0].command("CLIENT", "PAUSE", "300", "ALL")
    reader = gevent.spawn(store.get_many, IDS)
    gevent.sleep(0.05)
    reader.kill()
    assert store.get_many(IDS) == ROWS
    assert store.transport.in_flight == 0
