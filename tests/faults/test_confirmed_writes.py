"""Writes that wait for replicas: what is answered while replicas are there, and while they stand still."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from featurestore.ingest.streams.writing import Group, Target
from featurestore.ingest.writer import BulkWriter
from support.cluster import Cluster, Node, ask
from support.kinds import Kind, over_each, over_shared
from support.servers import wait_until

from featurestore import Definition, FeatureStore
from featurestore.contract.words import EVENT_TIME
from featurestore.errors import UnavailableError, UnconfirmedWriteError
from featurestore.transport.confirming import Durability

SHORT, LONG = Durability(1, 50), Durability(1, 30_000)
TIMES: dict[str, Any] = {"timeout": 10.0, "write_timeout": 60.0, "connect_timeout": 10.0}
ROWS = [(f"u{number}", {"n": number}) for number in range(40)]


@pytest.fixture
def ready(cluster: Cluster) -> Cluster:
    """A cluster with a schema, which the replicas have too."""
    with FeatureStore.connect(cluster.url, timeout=10) as store:
        store.apply(Definition(features={"n": "int"}), partitions=16)
        store.upsert(ROWS)
    wait_until(lambda: sum(node.command("DBSIZE") for node in cluster.nodes) == 2 * _keys(cluster), what="copies")
    return cluster


def _keys(cluster: Cluster) -> int:
    return sum(node.command("DBSIZE") for node in cluster.nodes if node.is_primary)


def primaries(cluster: Cluster) -> list[Node]:
    """Return the nodes that take writes, to ask them while others stand still."""
    return [node for node in cluster.nodes if node.is_primary]


def waits(nodes: list[Node]) -> int:
    """Return how many WAITs the nodes have got."""
    told = [node.command("INFO", "commandstats").get("cmdstat_wait", {"calls": 0}) for node in nodes]
    return sum(stats["calls"] for stats in told)


@contextlib.contextmanager
def still(cluster: Cluster) -> Iterator[Any]:
    """While this lasts, the replicas stand still, until what is yielded is closed."""
    with contextlib.ExitStack() as frozen:
        for node in cluster.nodes:
            if not node.is_primary:
                frozen.enter_context(node.frozen())
        yield frozen
    cluster.settle()


async def begin(kind: Kind, cluster: Cluster, durability: Durability) -> tuple[Any, Any]:
    transport = kind.connect(cluster.url, **TIMES, durability=durability)
    store = kind.store(transport)
    await store.schema()
    return transport, store


@over_each
async def test_a_write_is_confirmed_by_one_wait_a_node(kind: Kind, ready: Cluster) -> None:
    nodes = primaries(ready)
    _, store = await begin(kind, ready, LONG)
    before = waits(nodes)
    result = await store.upsert([(name, {"n": 7}) for name, _ in ROWS])
    assert (result.written, result.unconfirmed) == (len(ROWS), 0)
    assert waits(nodes) == before + 3
    assert await store.increment("u1", {"n": 1}) == {"n": 8}
    assert await store.delete("u2") is True
    assert waits(nodes) == before + 5
    assert await store.get_many(["u1", "u2"]) == [{"n": 8}, None]
    assert waits(nodes) == before + 5


@over_each
async def test_without_the_setting_nothing_waits(kind: Kind, ready: Cluster) -> None:
    nodes = primaries(ready)
    _, store = await begin(kind, ready, Durability())
    before = waits(nodes)
    with still(ready):
        assert (await store.upsert(ROWS)).unconfirmed == 0
    assert waits(nodes) == before


@over_each
async def test_what_no_replica_confirms_is_told_and_is_on_the_primary(kind: Kind, ready: Cluster) -> None:
    _, store = await begin(kind, ready, SHORT)
    with still(ready):
        result = await store.upsert([(name, {"n": 7}) for name, _ in ROWS])
        assert (result.written, result.skipped, result.unconfirmed) == (len(ROWS), 0, len(ROWS))
        assert "0 of 1 replicas confirmed it within 50 ms" in result.doubt
        with pytest.raises(UnconfirmedWriteError, match="0 of 1 replicas") as found:
            await store.increment("u1", {"n": 1})
        assert found.value.result == {"n": 8}
        with pytest.raises(UnconfirmedWriteError) as found:
            await store.delete("u2")
        assert found.value.result is True
        assert await store.get_many(["u1", "u2"]) == [{"n": 8}, None]
        rejected = await store.upsert([("u3", {"n": "x"})])
        assert (len(rejected.rejected), rejected.unconfirmed) == (1, 0)
    again = await store.upsert([(name, {"n": 7}) for name, _ in ROWS])
    assert again.unconfirmed == 0


@over_each
async def test_rows_that_another_connection_wrote_are_no_more_certain(kind: Kind, ready: Cluster) -> None:
    row = [("ann", {"n": 1, EVENT_TIME: 1_700_000_000_000})]
    (_, first), (_, second) = [await begin(kind, ready, SHORT) for _ in range(2)]
    await second.upsert([("eve", {"n": 1})])
    with still(ready):
        assert (await first.upsert(row)).unconfirmed == 1
        repeated = await second.upsert(row)
        assert (repeated.verdicts, repeated.unconfirmed) == ("D", 1)
    assert (await second.upsert(row)).unconfirmed == 0


@over_each
async def test_reads_do_not_stand_behind_writes_that_wait(kind: Kind, ready: Cluster) -> None:
    nodes = primaries(ready)
    _, store = await begin(kind, ready, LONG)
    await store.get("u1")
    with still(ready) as frozen:
        blocked = _blocked(nodes)
        writing = kind.start(store.upsert([("u1", {"n": 99})]))
        await kind.eventually(lambda: _blocked(nodes) == blocked + 1, what="a WAIT that is under way")
        assert await store.get("u1") == {"n": 99}
        assert _blocked(nodes) == blocked + 1  # it still waits
        frozen.close()
        result = await writing
        assert (result.written, result.unconfirmed) == (1, 0)


def _blocked(nodes: list[Node]) -> int:
    return sum(node.command("INFO", "clients")["blocked_clients"] for node in nodes)


@over_shared
async def test_writes_that_come_while_others_wait_share_the_next_wait(kind: Kind, ready: Cluster) -> None:
    nodes = primaries(ready)
    _, store = await begin(kind, ready, LONG)
    before = waits(nodes)
    with still(ready) as frozen:
        first = kind.start(store.upsert([("u1", {"n": 1})]))
        await kind.eventually(lambda: _blocked(nodes) == 1, what="a WAIT that is under way")
        others = [kind.start(store.upsert([("u1", {"n": number})])) for number in range(30)]
        await kind.sleep(0)
        frozen.close()
        results = [await each for each in [first, *others]]
    assert [result.unconfirmed for result in results] == [0] * 31
    assert waits(nodes) - before <= 6


@over_each
async def test_a_lost_primary_confirms_nothing(kind: Kind, ready: Cluster) -> None:
    nodes = primaries(ready)
    _, store = await begin(kind, ready, LONG)
    await store.upsert(ROWS)
    with still(ready) as frozen:
        writing = kind.start(store.upsert([("u1", {"n": 99})]))
        await kind.eventually(lambda: _blocked(nodes) == 1, what="a WAIT that is under way")
        for node in nodes:
            node.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        frozen.close()
        outcome = await writing
    if isinstance(outcome, UnavailableError):  # the pool reads the replies to the write and to WAIT together
        assert kind.name == "pool"
    else:
        assert (outcome.written, outcome.unconfirmed) == (1, 1)
        assert "could not be asked" in outcome.doubt


def test_a_bulk_write_that_replicas_do_not_confirm_fails_and_may_be_repeated(
    ready: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = primaries(ready)
    monkeypatch.setenv("FEATURESTORE_WAIT_REPLICAS", "1")
    monkeypatch.setenv("FEATURESTORE_WAIT_MS", "50")
    table = [{"id": name, "n": 5} for name, _ in ROWS]
    newer = [{"id": name, "n": 6} for name, _ in ROWS]
    with BulkWriter(ready.url) as writer:
        before = waits(nodes)
        assert writer.write(table).written == len(ROWS)
        assert waits(nodes) == before + 3
        with still(ready), pytest.raises(UnconfirmedWriteError, match="0 of 1 replicas"):
            writer.write(newer)
        monkeypatch.setenv("FEATURESTORE_WAIT_MS", "900")
    with BulkWriter(ready.url) as writer:
        assert writer.write(newer).written == len(ROWS)
        assert writer.store.get("u1") == {"n": 6}


def test_a_table_that_replicas_do_not_confirm_is_counted(ready: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURESTORE_WAIT_REPLICAS", "1")
    monkeypatch.setenv("FEATURESTORE_WAIT_MS", "50")
    table = [{"id": name, "n": 5} for name, _ in ROWS]
    with FeatureStore.connect(ready.url) as store, still(ready):
        result = store.write(table)
        assert (result.written, result.unconfirmed) == (len(ROWS), len(ROWS))


def test_a_single_primary_is_waited_for_too(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURESTORE_WAIT_REPLICAS", "2")
    monkeypatch.setenv("FEATURESTORE_WAIT_MS", "900")
    primary = watched.primary()
    replica = next(server for server in watched.servers if server is not primary)
    for url in (f"redis://127.0.0.1:{primary.port}", watched.url):
        with FeatureStore.connect(url) as store:
            store.apply(Definition(features={"n": "int"}))
            assert store.upsert([("ann", {"n": 1})]).unconfirmed == 0
            with replica.frozen():
                result = store.upsert([("ann", {"n": 2})])
                assert (result.written, result.unconfirmed) == (1, 1)
                assert "1 of 2 replicas" in result.doubt
            wait_until(lambda: ask(primary, "WAIT", 2, 1000) == 2, what="replicas that follow")


@pytest.mark.parametrize("kind", ["rows", "increments"])
def test_entries_of_a_stream_are_written_again_until_replicas_have_them(
    ready: Cluster, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setenv("FEATURESTORE_WAIT_REPLICAS", "1")
    monkeypatch.setenv("FEATURESTORE_WAIT_MS", "50")
    target = Target(ready.url, "user", timeout=10, call="scripts")
    target.open()
    time = 1_700_000_000_000
    row = ["stranger", time, 3] if kind == "rows" else ["stranger", time, "1-1", 3]
    group = Group(kind, ("n",), "" if kind == "rows" else "clicks", [row], [])
    with still(ready):
        for _ in range(2):
            with pytest.raises(UnconfirmedWriteError, match="0 of 1 replicas"):
                target.write(group)
    wait_until(lambda: _is_written(target, group), what="a replica that confirms")
    assert target.store.get("stranger") == {"n": 3}
    target.close()


def _is_written(target: Target, group: Group) -> bool:
    try:
        target.write(group)
    except UnconfirmedWriteError:
        return False
    return True


def test_a_load_goes_on_once_replicas_have_its_rows(
    ready: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nodes = primaries(ready)
    monkeypatch.setenv("FEATURESTORE_WAIT_REPLICAS", "1")
    monkeypatch.setenv("FEATURESTORE_WAIT_MS", "50")
    monkeypatch.setenv("REDIS_URL", ready.url)
    (tmp_path / "users.csv").write_text("id,n\n" + "".join(f"{name},11\n" for name, _ in ROWS))
    with still(ready) as frozen:
        asked = waits(nodes)
        command = [sys.executable, "-m", "featurestore", "load", str(tmp_path / "users.csv")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as loading:
            wait_until(lambda: waits(nodes) >= asked + 6, what="a load that tries again")
            frozen.close()
            told, warned = loading.communicate(timeout=60)
    assert (loading.returncode, json.loads(told)["written"]) == (0, len(ROWS))
    assert "0 of 1 replicas confirmed it" in warned
    with FeatureStore.connect(ready.url, timeout=10) as store:
        assert store.get("u39") == {"n": 11}
