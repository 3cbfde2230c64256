"""Health checks on a cluster: which nodes are missing, and how many of the ids."""

import contextlib
import time
from collections.abc import Iterator

import pytest
from falcon.testing import Result, TestClient
from support.cluster import Cluster, Node

from featurestore import Definition, FeatureStore
from featurestore.api.app import create_app
from featurestore.errors import RedisError
from featurestore.keys import slot_of
from featurestore.transport.opening import gevent_transport


@pytest.fixture
def store(cluster: Cluster) -> Iterator[FeatureStore]:
    """A store over a cluster, with a schema in 16 partitions."""
    with FeatureStore.connect(cluster.url, timeout=0.3) as found:
        found.apply(Definition(features={"n": "int"}), partitions=16)
        found.schema()
        yield found


def ask(store: FeatureStore, target: str = "/readyz", share: float = 1.0) -> Result:
    return TestClient(create_app(store, ready_share=share)).simulate_get(target)


def primary_without_root(cluster: Cluster, store: FeatureStore) -> Node:
    root = cluster.primary_of(slot_of(store.keys.root.encode()))
    return next(node for node in cluster.nodes if node.is_primary and node is not root)


def test_a_whole_cluster_is_ready(store: FeatureStore, cluster: Cluster) -> None:
    answer = ask(store)
    assert (answer.status_code, answer.json) == (200, {"status": "healthy"})
    told = ask(store, "/health").json
    assert told["status"] == "healthy"
    assert len(told["nodes"]) == len(cluster.nodes)
    assert {each["role"] for each in told["nodes"]} == {"primary", "replica"}
    assert all(each["answers"] for each in told["nodes"])


def test_a_node_that_is_away_is_named_with_its_share_of_the_ids(store: FeatureStore, cluster: Cluster) -> None:
    away = primary_without_root(cluster, store)
    (replica,) = cluster.replicas_of(away)
    with away.frozen(), replica.frozen():  # so that it is not replaced
        answer = ask(store)
        assert answer.status_code == 503
        assert answer.json["status"] == "unhealthy"
        (missing,) = answer.json["missing"]
        assert missing["node"] == f"127.0.0.1:{away.port}"
        assert missing["partitions"] in {5, 6}
        assert missing["share"] == missing["partitions"] / 16
        assert answer.json["share"] == 1 - missing["share"]
        assert f"127.0.0.1:{away.port}" in answer.json["reason"]
        assert "FEATURESTORE_READY_SHARE" in answer.json["reason"]
        lenient = ask(store, share=0.6)
        assert (lenient.status_code, lenient.json["status"]) == (200, "degraded")
        assert lenient.json["missing"][0]["node"] == missing["node"]
        told = ask(store, "/health", share=0.6).json
        assert f"127.0.0.1:{away.port}" in [each["node"] for each in told["nodes"] if not each["answers"]]
    cluster.settle()
    assert ask(store).json == {"status": "healthy"}


def test_servers_stay_ready_while_the_node_of_the_root_is_away(store: FeatureStore, cluster: Cluster) -> None:
    root = cluster.primary_of(slot_of(store.keys.root.encode()))
    (replica,) = cluster.replicas_of(root)
    with root.frozen(), replica.frozen():
        answer = ask(store, share=0.6)
        assert (answer.status_code, answer.json["status"]) == (200, "degraded")
        with FeatureStore.connect(cluster.url, timeout=0.3) as fresh:
            assert ask(fresh, share=0.6).status_code == 503  # it knows no schema
    cluster.settle()


def test_a_partition_that_lost_its_schema_is_missing(store: FeatureStore) -> None:
    part = store.keys.parts[3]
    store.transport.command("DEL", part.schema)
    answer = ask(store)
    assert answer.status_code == 503
    assert answer.json["share"] == 15 / 16
    assert "NOSCHEMA" in answer.json["missing"][0]["reason"] or "no schema" in answer.json["missing"][0]["reason"]
    store.apply(Definition(features={"n": "int"}))
    assert ask(store).status_code == 200


def test_a_cluster_without_a_schema_is_not_ready(cluster: Cluster) -> None:
    with FeatureStore.connect(cluster.url, timeout=1) as store:
        assert ask(store).status_code == 503
        store.apply(Definition(features={"n": "int"}), partitions=4)
        assert ask(store).status_code == 200


def test_the_address_of_one_node_is_not_that_of_the_cluster(cluster: Cluster) -> None:
    other = next(node for node in cluster.nodes if node is not cluster.primary_of(slot_of(b"user:schema")))
    with FeatureStore.connect(f"redis://127.0.0.1:{other.port}", timeout=5) as store:
        answer = ask(store)
        with pytest.raises(RedisError, match=r"node of a cluster: REDIS_URL wants redis\+cluster://"):
            store.get("ann")
    assert answer.status_code == 503
    assert "redis+cluster://" in answer.json["reason"]


def test_the_first_answer_of_a_fresh_server_is_that_of_a_whole_cluster(store: FeatureStore, cluster: Cluster) -> None:
    with FeatureStore.connect(cluster.url, timeout=0.001, write_timeout=5) as fresh:
        answer = ask(fresh)
        assert "was asked yet" not in answer.text


def test_nodes_that_are_away_cost_about_one_time_out(store: FeatureStore, cluster: Cluster) -> None:
    root = cluster.primary_of(slot_of(store.keys.root.encode()))
    away = [node for node in cluster.nodes if node.is_primary and node is not root]
    frozen = [*away, *(replica for node in away for replica in cluster.replicas_of(node))]
    link = gevent_transport(cluster.url, timeout=0.6, connect_timeout=0.6)  # as the server has it
    with FeatureStore(link) as hurried, contextlib.ExitStack() as held:
        assert ask(hurried).status_code == 200
        for node in frozen:
            held.enter_context(node.frozen())
        began = time.monotonic()
        answer = ask(hurried)
        took = time.monotonic() - began
        assert took < 1.5, took  # a read and its stand-ins may take up to two time-outs, however many nodes are away
        assert answer.status_code == 503
        assert len(answer.json["missing"]) == 2
    cluster.settle()
