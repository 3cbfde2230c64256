"""Full memory: what takes memory is refused and leaves everything as it was, what takes none is done."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from featurestore.ingest.writer import BulkWriter
from support.servers import EVERYDAY, Server, real

from featurestore import Definition, FeatureStore, WriteRefusedError
from featurestore.store.retirement import clear, drop, retire

FEATURES: dict[str, Any] = {"n": "int", "city": "string"}


@pytest.fixture(params=real(*EVERYDAY))
def writer(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[BulkWriter]:
    """A writer to an empty server."""
    writer = BulkWriter(servers[request.param].socket_url)
    writer.store.transport.command("FLUSHALL")
    yield writer
    writer.store.transport.command("CONFIG", "SET", "maxmemory", 0)
    writer.store.transport.command("FLUSHALL")
    writer.close()


def stored(store: FeatureStore) -> dict[bytes, Any]:
    command = store.transport.command
    return {key: command("DUMP", key) for key in command("KEYS", "*") if command("TYPE", key) == b"hash"}


def check_refusal(writer: BulkWriter, definition: Definition, write: Callable[[BulkWriter], object]) -> None:
    store = writer.store
    store.apply(definition)
    store.upsert([("ann", {"n": 1, "city": "Oslo"})])
    before = stored(store)
    store.transport.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(WriteRefusedError, match=r"^OOM "):
        write(writer)
    assert stored(store) == before
    assert store.count() == 1


@pytest.mark.parametrize("ttl", [None, "1h"])
@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda writer: writer.store.upsert([("ann", {"n": 2})]), id="upsert"),
        pytest.param(lambda writer: writer.store.upsert([("new", {"n": 2})]), id="upsert_of_a_new_one"),
        pytest.param(lambda writer: writer.write_table(("n", "city"), [("ann", 2, "Rome")]), id="bulk_write"),
        pytest.param(lambda writer: writer.store.increment("ann", {"n": 1}), id="increment"),
        pytest.param(lambda writer: writer.store.apply(Definition(features={"new": "int"})), id="schema"),
    ],
)
def test_what_takes_memory_is_refused(
    writer: BulkWriter, ttl: str | None, write: Callable[[BulkWriter], object]
) -> None:
    check_refusal(writer, Definition(features=FEATURES, ttl=ttl), write)


@pytest.mark.parametrize("ttl", [None, "1h"])
def test_events_are_refused(writer: BulkWriter, ttl: str | None) -> None:
    definition = Definition(features={**FEATURES, "often": "count(1h)"}, ttl=ttl)
    check_refusal(writer, definition, lambda writer: writer.store.record([("ann", {})]))


def test_reads_and_deletions_go_on(writer: BulkWriter) -> None:
    store = writer.store
    store.apply(Definition(features=FEATURES))
    store.upsert([("ann", {"n": 1, "city": "Oslo"}), ("ben", {"n": 2})])
    store.transport.command("CONFIG", "SET", "maxmemory", 1)
    assert store.get("ann") == {"n": 1, "city": "Oslo"}
    assert store.delete("ann")
    seconds, _ = store.transport.command("TIME")
    assert store.delete("ben", event_time=int(seconds) * 1000 + 2000)
    assert store.get_many(["ann", "ben"]) == [None, None]
    assert store.transport.command("EXISTS", store.keys.features("ben")) == 1  # the tombstone


@pytest.mark.parametrize("ttl", [None, "1h"])
def test_features_and_entities_go(writer: BulkWriter, ttl: str | None) -> None:
    store = writer.store
    store.apply(Definition(features=FEATURES, ttl=ttl, services={"ads": ["n", "city"]}))
    store.upsert([("ann", {"n": 1, "city": "Oslo"}), ("ben", {"n": 2})])
    store.transport.command("CONFIG", "SET", "maxmemory", 1)
    retire(store, ["n"], from_services=True)
    assert [step.freed for step in clear(store)] == [0, 1]
    assert store.get_many(["ann", "ben"]) == [{"city": "Oslo"}, {"city": None}]
    assert store.get("ann", service="ads") == {"city": "Oslo"}
    assert store.transport.command("HEXISTS", "user:ann:features", "n") == 0
    drop(store)
    assert [step.freed for step in clear(store)] == [0, 1]
    assert store.transport.command("KEYS", "*") == []
