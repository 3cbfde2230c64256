"""What the doctor finds of a cluster, and the library of functions on all its nodes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.cluster import Cluster
from support.servers import wait_until

from featurestore import Definition, FeatureStore
from featurestore.cli import commands
from featurestore.contract.library import LIBRARY
from featurestore.keys import slot_of
from featurestore.store.doctor import diagnose


@pytest.fixture
def store(cluster: Cluster) -> Iterator[FeatureStore]:
    """A store over a cluster, with a user in each of 16 partitions."""
    for node in cluster.nodes:
        node.command("CONFIG", "SET", "hash-max-ziplist-value", 1024)
    with FeatureStore.connect(cluster.url, timeout=5) as found:
        found.apply(Definition(features={"n": "int"}), partitions=16)
        found.schema()
        missing, number = set(found.keys.parts), 0
        while missing:
            part = found.keys.holding(f"u{number}".encode())
            FeatureStore(found.transport, part).upsert([(f"u{number}", {"n": number})])
            missing -= {part}
            number += 1
        yield found


def warnings(store: FeatureStore) -> list[str]:
    return [finding.text for finding in diagnose(store) if not finding.good]


def test_a_sound_cluster_has_good_findings_only(store: FeatureStore, cluster: Cluster) -> None:
    findings = list(diagnose(store))
    assert [finding.text for finding in findings if not finding.good] == []
    told = "\n".join(finding.text for finding in findings)
    for what in (
        "3 primaries have all 16384 slots",
        "every primary has a replica",
        "all 6 nodes: what is written is kept in an append-only file",
        "all 6 nodes: hash-max-listpack-value is 1024",
        "all 3 primaries: cluster-require-full-coverage is no",
        "all 3 primaries: min-replicas-to-write is 0",
        "all 3 replicas: replicas have heard of their primaries within",
        "of 16 partitions, 1.12 times the mean",
        "user: all 16 partitions have the schema",
        "may do what the scripts do",
        "sampled hashes have a row of this layout",
    ):
        assert what in told


@pytest.fixture
def set_on(cluster: Cluster) -> Iterator[Any]:
    """Changes a setting of some node, for the time of a test."""
    changed: list[tuple[Any, str, str]] = []

    def change(node: Any, name: str, value: str) -> None:
        before = node.command("CONFIG", "GET", name)
        changed.append((node, name, before[name] if isinstance(before, dict) else before[1]))
        node.command("CONFIG", "SET", name, value)

    yield change
    for node, name, value in reversed(changed):
        node.command("CONFIG", "SET", name, value)


def test_settings_of_nodes_are_told_with_the_node(store: FeatureStore, cluster: Cluster, set_on: Any) -> None:
    first = next(node for node in cluster.nodes if node.is_primary)
    set_on(first, "save", "")
    set_on(first, "appendonly", "no")
    set_on(first, "cluster-require-full-coverage", "yes")
    set_on(first, "hash-max-ziplist-value", "64")
    told = warnings(store)
    address = f"127.0.0.1:{first.port} (primary): "
    assert [text for text in told if not text.startswith(address)] == []
    for what in ("nothing is kept on disk", "comes back empty", "cluster-require-full-coverage is yes", "set 1024"):
        assert any(what in text for text in told), told


def test_old_copies_of_the_schema_are_told_with_their_node(store: FeatureStore, cluster: Cluster) -> None:
    part = store.keys.parts[5]
    store.transport.command("DEL", part.schema)
    told = warnings(store)
    where = cluster.primary_of(slot_of(part.tag.encode())).port
    assert (
        f"user: 1 of 16 partitions have an old schema, or none, on 127.0.0.1:{where}: give featurestore apply again"
        in told
    )
    store.apply(Definition(features={"n": "int"}))
    assert warnings(store) == []


def test_a_node_that_does_not_answer_is_told(cluster: Cluster, store: FeatureStore) -> None:
    root = cluster.primary_of(slot_of(store.keys.root.encode()))
    away = next(node for node in cluster.replicas_of(root))
    with FeatureStore.connect(cluster.url, timeout=0.3) as hurried:
        hurried.schema()
        with away.frozen():
            told = warnings(hurried)
    assert any(text.startswith(f"127.0.0.1:{away.port} (replica) does not answer") for text in told)
    cluster.settle()


def test_a_node_that_the_cluster_has_given_up_is_named(cluster: Cluster, store: FeatureStore) -> None:
    primary = cluster.primary_of(0)
    (replica,) = cluster.replicas_of(primary)
    replica.stop()
    try:
        port = str(replica.port)
        wait_until(lambda: port not in str(primary.command("CLUSTER", "SLOTS")), what="a replica that is given up")
        with FeatureStore.connect(cluster.url, timeout=5) as fresh:
            fresh.schema()
            told = warnings(fresh)
        assert any(text.startswith(f"127.0.0.1:{port} (a replica, node ") and "CLUSTER FORGET" in text for text in told)
        assert any(f"127.0.0.1:{primary.port} has no replica: when it is lost, its ids are" in text for text in told)
    finally:
        replica.start()
        cluster.settle()


def test_a_shard_that_is_down_is_not_taken_for_somebody_elses_key(cluster: Cluster, store: FeatureStore) -> None:
    root = cluster.primary_of(slot_of(store.keys.root.encode()))
    away = next(node for node in cluster.nodes if node.is_primary and node is not root)
    (replica,) = cluster.replicas_of(away)
    with FeatureStore.connect(cluster.url, timeout=0.3) as hurried:
        hurried.schema()
        with away.frozen(), replica.frozen():
            told = warnings(hurried)
    assert any("cannot be read" in text for text in told)
    assert not any("something else's" in text for text in told)
    cluster.settle()


def test_an_empty_target_is_told_what_brings_a_schema(cluster: Cluster) -> None:
    with FeatureStore.connect(cluster.url, timeout=5) as empty:
        assert any("featurestore migrate" in text for text in warnings(empty))


def test_slots_that_are_being_moved_are_told(store: FeatureStore, cluster: Cluster) -> None:
    one, other, *_ = [node for node in cluster.nodes if node.is_primary]
    slot = next(slot for slot in range(16384) if cluster.primary_of(slot) is one)
    one.command("CLUSTER", "SETSLOT", slot, "MIGRATING", other.node_id)
    try:
        assert any("slots are being moved" in text and f"[{slot}->-" in text for text in warnings(store))
    finally:
        one.command("CLUSTER", "SETSLOT", slot, "STABLE")


def run(cluster: Cluster, *words: str) -> Result:
    return CliRunner().invoke(commands, words, env={"REDIS_URL": cluster.url})


def test_functions_are_loaded_on_every_primary_and_shown(cluster: Cluster) -> None:
    for node in cluster.nodes:
        if node.is_primary:
            node.command("FUNCTION", "FLUSH")
    before = run(cluster, "functions", "show")
    assert before.exit_code == 1
    assert before.output.count("127.0.0.1:") == 3
    loaded = run(cluster, "functions", "load")
    assert loaded.exit_code == 0, loaded.output
    for node in cluster.nodes:
        if node.is_primary:
            assert LIBRARY in str(node.command("FUNCTION", "LIST"))
    after = run(cluster, "functions", "show")
    assert (after.exit_code, after.output.count("this build")) == (0, 3)
    for node in cluster.nodes:
        if node.is_primary:
            node.command("FUNCTION", "FLUSH")


def test_the_commands_take_the_address_of_a_cluster(cluster: Cluster) -> None:
    applied = run(cluster, "apply")
    assert applied.exit_code == 0, applied.output
    assert "in 64 partitions" in applied.output
    assert json.loads(run(cluster, "schema").output)["partitions"] == 64
    listed = run(cluster, "entities").output
    assert listed.startswith("user\t1\t")
    assert listed.endswith("\tok\t64\n")
    assert json.loads(run(cluster, "entities", "--json").output)["partitions"] == 64
    again = CliRunner().invoke(commands, ["apply"], env={"REDIS_URL": cluster.url, "FEATURESTORE_PARTITIONS": "128"})
    assert "FEATURESTORE_PARTITIONS is 128, and this entity has 64 partitions, which stay" in again.output
    assert "partitions, which stay" not in run(cluster, "apply").output
    retired = run(cluster, "retire", "--service", "nobody", "--yes")
    assert "no service nobody" in str(retired.exception)
    dropped = run(cluster, "drop-entity", "user", "--yes")
    assert dropped.exit_code == 0, dropped.output
    assert run(cluster, "entities").output == ""
