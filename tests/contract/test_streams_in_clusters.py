"""Streams in a cluster, consumed into a store in a cluster: every entry once, wherever slots are."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from featurestore.ingest.streams.consumer import Consumer
from featurestore.ingest.streams.counts import Counts
from featurestore.ingest.streams.interface import id_numbers
from featurestore.ingest.streams.redis_link import RedisLink
from featurestore.ingest.streams.redis_streams import RedisStreams
from featurestore.ingest.streams.writing import Target
from support.cluster import Cluster
from support.streams import declare, expected_of, mixed_entries, stored_of

from featurestore import ConfigurationError, FeatureStore, UnavailableError
from featurestore.keys import slot_of


@pytest.fixture
def store(cluster: Cluster) -> Iterator[FeatureStore]:
    with FeatureStore.connect(cluster.url, timeout=5) as store:
        declare(store)
        store.schema()
        yield store


def source_of(cluster: Cluster, *streams: str, dead: str = ".dead", **options: Any) -> RedisStreams:
    told = {"batch": 100, "claim_after": 60.0, "start": "0", "passing": True, "consumer": "one", **options}
    return RedisStreams(RedisLink(cluster.url, 5.0), streams or ("clicks",), group="featurestore", dead=dead, **told)


def target_of(cluster: Cluster) -> Target:
    return Target(cluster.url, "user", timeout=5, call="scripts")


def on(cluster: Cluster, key: str, *words: Any) -> Any:
    """Run a command on the primary that has a key."""
    return cluster.primary_of(slot_of(key.encode())).command(*words)


def add(cluster: Cluster, stream: str, entries: Sequence[dict[str, str]]) -> None:
    for entry in entries:
        on(cluster, stream, "XADD", stream, "*", *(word for pair in entry.items() for word in pair))


def drain(source: RedisStreams, target: Target, **options: Any) -> Counts:
    counts = Counts()
    assert Consumer(source, target, counts, tries=5, **options).run(until_drained=True)
    source.close()
    target.close()
    return counts


def counted(store: FeatureStore, stream: str) -> list[bytes]:
    """Return what is known as counted, in any partition."""
    return [entry for part in store.keys.parts for entry in store.transport.command("SMEMBERS", part.counted(stream))]


def test_entries_of_every_kind_are_written_once(cluster: Cluster, store: FeatureStore) -> None:
    entries = mixed_entries(400, 30, 1, timed=False)
    add(cluster, "clicks", entries)
    counts = drain(source_of(cluster), target_of(cluster))
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected
    assert counts.outcomes["written"] == 400
    assert on(cluster, "clicks", "XPENDING", "clicks", "featurestore")["pending"] == 0
    assert counted(store, "clicks") == []


def test_entries_that_come_twice_are_counted_once_and_forgotten_later(cluster: Cluster, store: FeatureStore) -> None:
    entries = [{"user_id": f"u{number % 9}", "incr": '{"logins": 1}'} for number in range(60)]
    add(cluster, "clicks", entries)
    first, target = source_of(cluster, passing=False), target_of(cluster)
    first.open()
    read = first.read()
    consumer = Consumer(first, target, Counts(), tries=5)
    target.open()
    writes, _ = consumer._decoded(read)
    from featurestore.ingest.streams.writing import grouped  # noqa: PLC0415 - what a consumer does between two crashes

    for group in grouped(writes):
        target.write(group)  # and the process dies
    assert len(counted(store, "clicks")) == 60
    drain(source_of(cluster, passing=False), target)
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected
    again = target_of(cluster)
    again.open()
    bound = id_numbers(max(counted(store, "clicks"), key=id_numbers))
    assert bound is not None
    again.forget_below("clicks", bound)
    assert len(counted(store, "clicks")) == 1
    again.close()


def test_dead_letters_are_beside_their_stream(cluster: Cluster, store: FeatureStore) -> None:
    add(cluster, "clicks", [{"user_id": "ann", "age": "old"}, {"user_id": "ann", "age": "7"}, {"nobody": "x"}])
    counts = drain(source_of(cluster), target_of(cluster))
    assert (counts.outcomes["written"], counts.outcomes["rejected"]) == (1, 2)
    letters = on(cluster, "clicks", "XRANGE", "{clicks}.dead", "-", "+")
    assert [fields["@stream"] for _, fields in letters] == ["clicks", "clicks"]
    assert sorted(fields["@code"] for _, fields in letters) == ["BADROW", "BADTYPE"]
    on(cluster, "clicks", "XDEL", "{clicks}.dead", letters[0][0])
    counts = drain(source_of(cluster, "{clicks}.dead"), target_of(cluster))
    assert counts.outcomes["rejected"] == 1
    assert on(cluster, "clicks", "XLEN", "{clicks}.dead.dead") == 1


@pytest.mark.parametrize("streams", [("{x}:a", "{x}:b"), ("one",)])
def test_streams_of_one_slot_are_read_together(cluster: Cluster, store: FeatureStore, streams: tuple[str, ...]) -> None:
    for stream in streams:
        add(cluster, stream, [{"user_id": stream, "age": "1"}, {"nobody": "x"}])
    counts = drain(source_of(cluster, *streams), target_of(cluster))
    assert (counts.outcomes["written"], counts.outcomes["rejected"]) == (len(streams), len(streams))
    name = "{one}.dead" if streams == ("one",) else "{x}:b.dead"
    assert on(cluster, name, "XLEN", name) == 1


def test_streams_of_several_slots_and_dead_letters_elsewhere_are_refused(cluster: Cluster) -> None:
    with pytest.raises(ConfigurationError, match=r"different slots .*clicks \(\d+\), orders \(\d+\).*one hash tag"):
        source_of(cluster, "clicks", "orders")
    with pytest.raises(ConfigurationError, match=r"the dead letters of a\}b cannot be in its slot"):
        source_of(cluster, "a}b")


def test_a_stream_that_moves_to_another_node_is_followed(cluster: Cluster, store: FeatureStore) -> None:
    add(cluster, "clicks", [{"user_id": "ann", "age": "1"}])
    slot = slot_of(b"clicks")
    source = source_of(cluster)
    source.open()
    read = source.read()
    assert [entry.fields[1] for entry in read] == [b"ann"]
    source.give_up(read)
    before = cluster.primary_of(slot)
    after = next(node for node in cluster.nodes if node.is_primary and node is not before)
    after.command("CLUSTER", "SETSLOT", slot, "IMPORTING", before.node_id)
    before.command("CLUSTER", "SETSLOT", slot, "MIGRATING", after.node_id)
    try:
        keys = before.command("CLUSTER", "GETKEYSINSLOT", slot, 10)
        before.command("MIGRATE", "127.0.0.1", after.port, "", 0, 5000, "KEYS", *keys)
        with pytest.raises(UnavailableError, match="another node of the cluster has the stream"):
            source._link.command("XLEN", "clicks")
    finally:
        for node in (after, before):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", after.node_id)
    add_to = after.command("XADD", "clicks", "*", "user_id", "bob", "age", "2")
    counts = drain(source, target_of(cluster))
    assert (counts.outcomes["written"], bool(add_to)) == (2, True)
    assert stored_of(store, ["ann", "bob"])["bob"]["age"] == 2.0  # type: ignore[index]
