"""While a real Redis answers nothing for a moment, writes over HTTP wait for it, and reads do not."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.http import Answer, HttpServer, serving
from support.kinds import Kind, Shared, outcome, over_each, over_shared
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, SyncTransport
from featurestore.errors import UnavailableError

PAUSE_S = 0.5
"""So long Redis answers nothing: ten time-outs of reads."""

FEATURES = {"age": "int", "clicks": "int"}
KEY = {"Authorization": "Bearer secret"}
TABLE = {"user_id": ["ann"], "age": [31], "event_timestamp": ["2026-01-01T00:00:00Z"]}
WRITES: dict[str, tuple[str, str, Any]] = {
    "put": ("PUT", "/features/ann", {"features": {"age": 31}}),
    "post": ("POST", "/features/ann", {"incr": {"clicks": 1}}),
    "delete": ("DELETE", "/features/bob", None),
    "ingest": (
        "POST",
        "/features/ingest",
        b"".join(
            json.dumps({"id": f"u{number}", "features": {"age": number}}).encode() + b"\n" for number in range(500)
        ),
    ),
    "of feast": ("POST", "/write-to-online-store", {"feature_view_name": "user", "df": TABLE}),
    "push of feast": ("POST", "/push", {"push_source_name": "user", "df": TABLE}),
}
WORKERS = ("featurestore", "gevent", "gthread", "sync")


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore(SyncTransport(valkey.url, timeout=10, connect_timeout=10)) as opened:
        opened.transport.command("FLUSHALL")
        opened.apply(Definition(FEATURES))  # type: ignore[arg-type]
        opened.upsert([("bob", {"age": 1}), ("cid", {"age": 2})], event_time=1_700_000_000_000)
        yield opened


def pause(store: FeatureStore, seconds: float = PAUSE_S) -> float:
    """Have Redis answer nothing for a moment; return when that began."""
    store.transport.command("CLIENT", "PAUSE", str(int(seconds * 1000)), "ALL")
    return time.monotonic()


@pytest.mark.parametrize("worker", WORKERS)
def test_every_write_waits_for_redis(worker: str, valkey: Server, store: FeatureStore, tmp_path: Path) -> None:
    with serving(valkey.url, tmp_path, worker_class=worker, write_keys="secret", write_timeout_ms="9000") as server:
        for name, (method, path, body) in WRITES.items():
            wait_until(lambda: server.get("/features/cid").status == 200, what="a connection to Redis")
            began = pause(store)
            answer = server.request(method, path, body, **KEY)
            assert answer.status in {200, 204}, (name, answer.body)
            assert time.monotonic() - began > PAUSE_S * 0.9, name
        assert store.get("ann") == {"age": 31, "clicks": 1}
        assert store.count() == 502


@pytest.mark.parametrize("worker", WORKERS)
def test_a_write_fails_when_its_own_time_is_over(
    worker: str, valkey: Server, store: FeatureStore, tmp_path: Path
) -> None:
    with serving(valkey.url, tmp_path, worker_class=worker, write_keys="secret", write_timeout_ms="100") as server:
        wait_until(lambda: server.get("/features/cid").status == 200, what="a connection to Redis")
        began = pause(store)
        answer = server.request(*WRITES["put"], **KEY)
        took = time.monotonic() - began
        assert answer.status == 504
        assert 0.1 <= took < PAUSE_S


@pytest.mark.parametrize("worker", ["featurestore", "gevent"])
def test_reads_fail_in_their_time_beside_a_write_that_waits(
    worker: str, valkey: Server, store: FeatureStore, tmp_path: Path
) -> None:
    with serving(valkey.url, tmp_path, worker_class=worker, write_keys="secret", write_timeout_ms="9000") as server:
        wait_until(lambda: server.get("/features/cid").status == 200, what="a connection to Redis")
        answers: list[Answer] = []
        first, second = (threading.Thread(target=lambda: answers.append(server.request(*WRITES["put"], **KEY)))
                         for _ in range(2))  # fmt: skip
        began = pause(store, 2 * PAUSE_S)
        first.start()
        refused = []
        while not answers:
            status, took = timed_read(server)
            if status != 200:  # as it is when Redis goes on
                refused.append((status, took))
            if status == 503 and second.ident is None:  # reads have no connection any more
                second.start()
        first.join()
        second.join()
        assert time.monotonic() - began > 2 * PAUSE_S * 0.9
        assert [answer.status for answer in answers] == [200, 200], [answer.body for answer in answers]
        assert {status for status, _ in refused} == {503, 504}
        assert max(took for _, took in refused) < PAUSE_S
        wait_until(lambda: server.get("/features/ann").status == 200, what="reads as before")


def bytes_that_wait_for(server: Server) -> int:
    """Return how many bytes the kernel holds for a server that does not read."""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("only Linux tells what waits to be read")
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in table if row[1].endswith(f":{server.port:04X}"))


def timed_read(server: HttpServer) -> tuple[int, float]:
    """Read once; return the status, and how many seconds that took."""
    started = time.monotonic()
    return server.get("/features/cid").status, time.monotonic() - started


@over_each
async def test_a_store_that_has_not_seen_the_schema_writes_all_the_same(kind: Kind, valkey: Server) -> None:
    with FeatureStore(SyncTransport(valkey.url, timeout=10, connect_timeout=10)) as other:
        other.transport.command("FLUSHALL")
        other.apply(Definition(FEATURES))  # type: ignore[arg-type]
        transport = kind.connect(valkey.url, timeout=0.05, write_timeout=9.0)
        writer = kind.store(transport)
        assert await transport.command("PING") == b"PONG"
        pause(other)
        result = await writer.upsert([("ann", {"age": 31})])
        assert result.written == 1
        pause(other)
        assert await writer.increment("ann", {"age": 1}) == {"age": 32}


@over_shared
async def test_a_write_that_comes_while_there_is_no_other_connection_waits_on_the_old_one(
    kind: Shared, valkey: Server
) -> None:
    with FeatureStore(SyncTransport(valkey.url, timeout=10, connect_timeout=10)) as other:
        other.transport.command("FLUSHALL")
        other.apply(Definition(FEATURES))  # type: ignore[arg-type]
        transport = kind.connect(valkey.url, timeout=0.05, connect_timeout=0.05, write_timeout=9.0)
        writer = kind.store(transport)
        assert await writer.get("ann") is None
        link = transport._link
        pause(other, 2 * PAUSE_S)
        first = kind.start(writer.upsert([("ann", {"age": 31})]))
        while transport._link is link:
            assert isinstance(await outcome(writer.get("ann")), UnavailableError)
        second = kind.start(writer.upsert([("bob", {"age": 32})]))
        assert isinstance(await outcome(writer.get("ann")), UnavailableError)  # it finds no connection
        assert [(await first).written, (await second).written] == [1, 1]
        kind.without_pause(transport)
        assert await writer.get("bob") == {"age": 32, "clicks": None}
        await kind.eventually(lambda: not transport._retired)


@pytest.mark.parametrize("worker", WORKERS)
def test_a_write_whose_redis_dies_is_in_doubt_and_one_that_finds_none_is_not(
    worker: str, valkey: Server, store: FeatureStore, tmp_path: Path
) -> None:
    with serving(valkey.url, tmp_path, worker_class=worker, write_keys="secret", write_timeout_ms="9000") as server:
        wait_until(lambda: server.get("/features/cid").status == 200, what="a connection to Redis")
        answers: list[Answer] = []
        increase = threading.Thread(target=lambda: answers.append(server.request(*WRITES["post"], **KEY)))
        with valkey.frozen():
            increase.start()
            wait_until(lambda: bytes_that_wait_for(valkey), what="an increment that has arrived")
            assert valkey.process is not None
            valkey.process.kill()
        increase.join()
        assert (answers[0].status, answers[0].json["code"]) == (504, "IN_DOUBT")
        assert answers[0].json["detail"].endswith("; whether the write took place is unknown")
        refused = server.request(*WRITES["post"], **KEY)
        assert (refused.status, "code" in refused.json) == (503, False)
