"""A primary that Sentinels watch: who is asked, and what is lost, while it is replaced, killed or stopped."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from featurestore.ingest.writer import BulkWriter
from support.cluster import Watched, ask
from support.kinds import Kind, over_each
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore
from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.transport.blocking_cluster import SyncClusterTransport
from featurestore.transport.replicas import Reading
from featurestore.transport.watched import OneShard

TIMES: dict[str, Any] = {"timeout": 0.25, "write_timeout": 2.0, "connect_timeout": 0.25}
DEFINITION = Definition(features={"n": "int"})


def primary_of(transport: Any) -> int:
    topology = getattr(transport, "inner", transport).cluster.topology
    assert isinstance(topology, OneShard)
    return int(topology.one.primary.rpartition(":")[2])


def replicas_of(transport: Any) -> tuple[str, ...]:
    topology = getattr(transport, "inner", transport).cluster.topology
    return topology.one.replicas if isinstance(topology, OneShard) else ()


class Writing:
    """Somebody who counts up, and knows what was acknowledged; and somebody who reads what was.

    Attributes:
        written: The last number that was acknowledged.
        refused: The errors of writes.
        failed: The errors of reads.
    """

    def __init__(self, kind: Kind, store: Any) -> None:
        self._kind, self._store, self._over = kind, store, False
        self.written = 0
        self.refused: list[FeatureStoreError] = []
        self.failed: list[FeatureStoreError] = []
        self._tasks = [kind.start(self._write()), kind.start(self._read())]

    async def _write(self) -> None:
        number = 0
        while not self._over:
            number += 1
            try:
                await self._store.upsert([("ann", {"n": number}), (f"id{number}", {"n": number})])
                self.written = number
            except FeatureStoreError as error:
                self.refused.append(error)
            await self._kind.sleep(0.001)

    async def _read(self) -> None:
        while not self._over:
            least = self.written
            try:
                found = await self._store.get("ann")
                assert least == 0 or found["n"] >= least, f"{found} is older than {least}"
            except FeatureStoreError as error:
                self.failed.append(error)
            await self._kind.sleep(0.001)

    async def more(self, condition: Callable[[], Any] = lambda: True) -> None:
        """Return once the condition holds and, after that, another write was acknowledged."""
        await self._kind.eventually(condition)
        before = self.written
        await self._kind.eventually(lambda: self.written > before + 10, what="further writes")

    async def end(self) -> None:
        """Stop; every write that was acknowledged is there."""
        self._over = True
        for task in self._tasks:
            outcome = await task
            assert outcome is None, outcome
        assert (await self._store.get("ann"))["n"] >= self.written
        assert await self._store.get(f"id{self.written}") == {"n": self.written}


async def begin(kind: Kind, url: str, **options: Any) -> tuple[Any, Any, Writing]:
    transport = kind.connect(url, **{**TIMES, **options})
    store = kind.store(transport)
    await store.apply(DEFINITION)
    writing = Writing(kind, store)
    await writing.more(lambda: len(replicas_of(transport)) == 2)
    return transport, store, writing


@over_each
async def test_a_healthy_primary_that_is_replaced_acknowledges_nothing_that_is_lost(
    kind: Kind, watched: Watched
) -> None:
    transport, _, writing = await begin(kind, watched.url)
    before = primary_of(transport)
    ask(watched.sentinels[0], "SENTINEL", "FAILOVER", watched.NAME)
    await writing.more(lambda: primary_of(transport) != before)
    old = next(server for server in watched.servers if server.port == before)
    await writing.more(lambda: ask(old, "ROLE")[0] == "slave")
    await writing.end()
    assert (writing.refused, writing.failed) == ([], [])


@over_each
async def test_replicas_answer_while_a_killed_primary_is_replaced_and_it_comes_back_as_a_replica(
    kind: Kind, watched: Watched
) -> None:
    transport, _, writing = await begin(kind, watched.url)
    old = next(server for server in watched.servers if server.port == primary_of(transport))
    old.stop()
    await writing.more(lambda: primary_of(transport) != old.port)
    assert writing.failed == []
    assert all(isinstance(error, UnavailableError) for error in writing.refused)
    old.start()  # as a primary, until a Sentinel tells it otherwise
    await writing.more(lambda: ask(old, "ROLE")[0] == "slave")
    assert primary_of(transport) != old.port
    await writing.end()


@over_each
async def test_replicas_answer_while_the_primary_stands_still(kind: Kind, watched: Watched) -> None:
    transport, _, writing = await begin(kind, watched.url)
    old = next(server for server in watched.servers if server.port == primary_of(transport))
    with old.frozen():
        await writing.more(lambda: primary_of(transport) != old.port)
    await writing.more(lambda: ask(old, "ROLE")[0] == "slave")
    await writing.end()
    assert writing.failed == []


@over_each
async def test_sentinels_that_are_away_are_done_without(kind: Kind, watched: Watched) -> None:
    for sentinel in watched.sentinels[:2]:
        sentinel.stop()
    transport = kind.connect(watched.url, **TIMES)
    store = kind.store(transport)
    await store.apply(DEFINITION)
    assert await store.get("ann") is None
    watched.sentinels[2].stop()
    assert await store.get("ann") is None
    other = kind.store(kind.connect(watched.url, **TIMES))
    with pytest.raises(UnavailableError, match="Sentinel"):
        await other.get("ann")


@over_each
async def test_a_name_that_no_sentinel_knows_is_told(kind: Kind, watched: Watched) -> None:
    store = kind.store(kind.connect(watched.url.replace("/mymaster", "/other"), **TIMES))
    with pytest.raises(UnavailableError, match="watches no primary called 'other'"):
        await store.get("ann")


def test_bulk_writes_lose_nothing_while_a_healthy_primary_is_replaced(watched: Watched) -> None:
    writer = BulkWriter(watched.url, timeout=5)
    writer.store.apply(DEFINITION)
    transport = writer.store.transport
    before, last = primary_of(transport), 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal last
        until = 200_000
        while last < until:
            last += 1
            if last == 40_000:
                ask(watched.sentinels[0], "SENTINEL", "FAILOVER", watched.NAME)
            if primary_of(transport) == before:
                until = last + 100_000
            yield {"user_id": f"id{last % 5000}", "n": last}

    assert writer.write(rows()).rejected == []
    old = next(server for server in watched.servers if server.port == before)
    wait_until(lambda: ask(old, "ROLE")[0] == "slave")
    newest = range(last - 4999, last + 1)
    assert writer.store.get_many([f"id{number % 5000}" for number in newest]) == [{"n": number} for number in newest]
    writer.close()


# Replicas


@over_each
async def test_replicas_answer_by_choice_but_for_ids_that_they_do_not_know(kind: Kind, watched: Watched) -> None:
    await kind.store(kind.connect(watched.url, **TIMES)).apply(DEFINITION)
    wait_until(lambda: all(ask(server, "EXISTS", "user:schema") for server in watched.servers))
    transport = kind.connect(watched.url, **TIMES, reading=Reading("replicas"))
    store = kind.store(transport)
    await store.upsert([("ann", {"n": 1})])
    wait_until(lambda: all(ask(server, "EXISTS", "user:ann:features") for server in watched.servers))
    primary, *replicas = _with_primary_first(watched)
    calls = _calls(primary)
    for _ in range(20):
        assert await store.get("ann") == {"n": 1}
    assert _calls(primary) == calls
    for replica in replicas:  # what they have stays as it is from now on
        ask(replica, "REPLICAOF", "127.0.0.1", "1")
    await store.upsert([("ann", {"n": 2}), ("bob", {"n": 3})])
    assert await store.get("bob") == {"n": 3}
    assert await store.get_many(["ann", "bob", "eve"]) == [{"n": 2}, {"n": 3}, None]
    assert await store.get("ann") == {"n": 1}
    assert await store.get("ann", read_from="primary") == {"n": 2}
    assert await store.get_many(["ann"], read_from="primary") == [{"n": 2}]


@over_each
async def test_replicas_that_lag_by_more_than_the_bound_do_not_answer(kind: Kind, watched: Watched) -> None:
    transport = kind.connect(watched.url, **TIMES, reading=Reading("replicas", max_lag=0.3))
    store = kind.store(transport)
    await store.apply(DEFINITION)
    await store.upsert([("ann", {"n": 1})])
    primary, *replicas = _with_primary_first(watched)
    reading = getattr(transport, "inner", transport).cluster.reading
    await kind.eventually(lambda: all(map(reading.is_current, replicas_of(transport))) and replicas_of(transport))
    calls = _calls(primary)
    await kind.eventually(lambda: _answered_elsewhere(primary, calls, store), what="replicas that answer")
    for replica in replicas:
        ask(replica, "REPLICAOF", "127.0.0.1", "1")
    await store.upsert([("ann", {"n": 2})])
    await kind.eventually(lambda: not any(map(reading.is_current, replicas_of(transport))))
    for _ in range(10):
        assert await store.get("ann") == {"n": 2}


async def _answered_elsewhere(primary: Server, calls: int, store: Any) -> bool:
    assert await store.get("ann") == {"n": 1}
    before = _calls(primary)
    assert await store.get("ann") == {"n": 1}
    return _calls(primary) == before


@over_each
async def test_a_plain_primary_tells_of_its_replicas(kind: Kind, watched: Watched) -> None:
    for sentinel in watched.sentinels:
        sentinel.stop()
    primary, *replicas = _with_primary_first(watched)
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in replicas)
    store = kind.store(kind.connect(f"redis+replicas://{hosts}", **TIMES))
    await store.apply(DEFINITION)
    await store.upsert([("ann", {"n": 1})])
    wait_until(lambda: all(ask(server, "EXISTS", "user:ann:features") for server in watched.servers))
    assert await store.get("ann") == {"n": 1}
    primary.stop()
    for _ in range(20):
        assert await store.get("ann") == {"n": 1}
    assert await store.get("nobody") is None  # nobody knows better
    with pytest.raises(UnavailableError):
        await store.upsert([("ann", {"n": 2})])
    primary.start()
    await kind.eventually(lambda: _upserted(store), what="a write after the primary is back")


async def _upserted(store: Any) -> bool:
    try:
        await store.upsert([("ann", {"n": 3})])
    except UnavailableError:
        return False
    return True


def test_users_who_may_only_read_read_from_replicas(watched: Watched) -> None:
    for server in watched.servers:
        ask(server, "ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "-@all", "+@read", "+ping", "+role",
            "+evalsha_ro", "+script|load", "+acl|whoami")  # fmt: skip
    store = FeatureStore(SyncClusterTransport(watched.url, **TIMES))
    store.apply(DEFINITION)
    store.upsert([("ann", {"n": 1})])
    wait_until(lambda: all(ask(server, "EXISTS", "user:ann:features") for server in watched.servers))
    url = watched.url.replace("://", "://reader:secret@")
    reader = FeatureStore(SyncClusterTransport(url, **TIMES, reading=Reading("replicas")))
    assert reader.get("ann") == {"n": 1}
    reader.close()
    store.close()


def test_sentinels_have_credentials_of_their_own(watched: Watched) -> None:
    for sentinel in watched.sentinels:
        ask(sentinel, "ACL", "SETUSER", "watcher", "on", ">s:1", "~*", "&*", "+@all")
        ask(sentinel, "ACL", "SETUSER", "default", "off")
    store = FeatureStore.connect(f"{watched.url}?sentinel_username=watcher&sentinel_password=s%3A1", timeout=2)
    store.apply(DEFINITION)
    assert store.get("ann") is None
    store.close()
    with pytest.raises(UnavailableError, match="Sentinel"):
        FeatureStore.connect(watched.url, timeout=0.5).get("ann")


@over_each
async def test_a_sentinel_that_lets_nobody_subscribe_is_told_of_once_and_done_without(
    kind: Kind, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for sentinel in watched.sentinels:
        ask(sentinel, "ACL", "SETUSER", "watcher", "on", ">s1", "~*", "resetchannels", "+@all", "-subscribe")
    url = f"{watched.url}?sentinel_username=watcher&sentinel_password=s1"
    transport = kind.connect(url, **TIMES)
    store = kind.store(transport)
    await store.apply(DEFINITION)
    await kind.eventually(lambda: caplog.text.count("does not let us hear of new primaries") == 3, what="warnings")
    assert "NOPERM" in caplog.text
    assert await store.get("ann") is None


def _with_primary_first(watched: Watched) -> list[Server]:
    return sorted(watched.servers, key=lambda server: ask(server, "ROLE")[0] != "master")


def _calls(server: Server) -> int:
    """Return how often scripts were called on a server."""
    told = ask(server, "INFO", "commandstats")
    return sum(stats["calls"] for name, stats in told.items() if name.startswith("cmdstat_evalsha"))
