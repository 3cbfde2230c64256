"""Redis down, slow, restarted, full, read-only, or without its scripts: clear answers, in time, and a recovery."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.http import HttpServer, serving
from support.servers import Server, wait_until

from featurestore import (
    DeadlineExceededError,
    Definition,
    FeatureStore,
    Keys,
    OverloadedError,
    RedisError,
    SyncTransport,
    UnavailableError,
    WriteRefusedError,
    read_definition,
)
from featurestore.serving.gunicorn_settings import WORKER_CLASSES


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore(SyncTransport(valkey.url, timeout=1, connect_timeout=1)) as opened:
        opened.apply(read_definition())
        opened.upsert([("u", {"age": 1.0})])
        yield opened


@pytest.fixture(params=list(WORKER_CLASSES))
def server(request: pytest.FixtureRequest, valkey: Server, store: FeatureStore, tmp_path: Path) -> Iterator[HttpServer]:
    with serving(valkey.url, tmp_path, worker_class=request.param) as running:
        assert running.get("/features/u").status == 200
        yield running


def test_every_new_connection_by_tls_is_usable_at_once(tls_url: str) -> None:
    for number in range(30):
        with FeatureStore(SyncTransport(tls_url, timeout=10, connect_timeout=10)) as store:
            assert store.transport.command("INCR", "n") == number + 1


def test_scripts_that_were_flushed_are_loaded_again(store: FeatureStore) -> None:
    for call in (
        lambda: store.get("u"),
        lambda: store.get_many(["u"] * 250),
        lambda: store.upsert((f"v{index}", {"age": 1.0}) for index in range(250)),
        lambda: store.delete("v1"),
    ):
        store.transport.command("SCRIPT", "FLUSH")
        assert call()
    assert store.count() == 250


def test_a_restart_is_survived_with_the_data(valkey: Server, store: FeatureStore) -> None:
    valkey.stop()
    with pytest.raises(UnavailableError, match="cannot be reached") as raised:
        store.get("u")
    assert raised.value.__cause__ is not None  # what redis-py met
    valkey.start()
    assert store.get("u", ["age"]) == {"age": 1.0}


def test_a_frozen_redis_is_a_deadline_and_leaves_no_stale_reply(valkey: Server, store: FeatureStore) -> None:
    with FeatureStore(SyncTransport(valkey.url, timeout=0.05, connect_timeout=0.05)) as hurried:
        assert hurried.get("u", ["age"]) == {"age": 1.0}
        with valkey.frozen(), pytest.raises(DeadlineExceededError):
            hurried.get("u")
        store.upsert([("v", {"age": 2.0})])
        assert hurried.get("v", ["age"]) == {"age": 2.0}


def test_a_full_redis_still_reads_and_says_that_it_does_not_write(store: FeatureStore) -> None:
    store.transport.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(WriteRefusedError, match="OOM"):
        store.upsert([("w", {"age": 2.0})])
    assert store.get("u", ["age"]) == {"age": 1.0}
    assert store.get("w") is None


def test_a_replica_still_reads_and_says_that_it_does_not_write(valkey: Server, store: FeatureStore) -> None:
    store.transport.command("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(WriteRefusedError, match="READONLY"):
        store.upsert([("w", {"age": 2.0})])
    assert store.get("u", ["age"]) == {"age": 1.0}


def test_http_says_503_while_redis_is_down_and_recovers(server: HttpServer, valkey: Server) -> None:
    valkey.stop()
    for target in ("/features/u", "/schema"):
        answer = server.get(target)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"
    health = server.get("/health")
    assert (health.status, health.json["status"]) == (503, "unhealthy")
    assert "Redis" in health.json["reason"]
    assert server.get("/livez").status == 200
    valkey.start()
    wait_until(lambda: server.get("/features/u").status == 200)
    assert server.get("/health").status == 200


def test_http_says_504_while_redis_is_slow_and_recovers(server: HttpServer, valkey: Server) -> None:
    with valkey.frozen():
        started = time.monotonic()
        answer = server.get("/features/u")
        assert (answer.status, answer.headers["content-type"]) == (504, "application/problem+json")
        assert time.monotonic() - started < 5
        assert server.get("/health").status == 503
    wait_until(lambda: server.get("/features/u").status == 200)


def test_http_without_a_schema_says_which_command_to_run(server: HttpServer, store: FeatureStore) -> None:
    store.transport.command("DEL", "user:schema")
    assert server.get("/features/u").status == 200  # its packed row says everything
    store.transport.command("HDEL", "user:u:features", "@row")
    answer = server.get("/features/u")
    assert (answer.status, answer.json["detail"]) == (
        503,
        "no schema is stored at user:schema: featurestore apply FILE declares features",
    )
    assert (
        server.get("/health").json["reason"] == "no schema of user is stored: featurestore apply FILE declares features"
    )
    store.apply(read_definition())
    assert server.get("/features/u").status == 200


def test_http_is_ready_where_another_entity_has_a_schema(server: HttpServer, store: FeatureStore) -> None:
    store.transport.command("FLUSHALL")
    for target in ("/health", "/readyz"):
        assert (server.get(target).status, server.get("/livez").status) == (503, 200)
    item = FeatureStore(store.transport, Keys.of("item"))
    item.apply(Definition(features={"price": "float"}, entity="item"))
    item.upsert([("i", {"price": 1.0})])
    for target in ("/health", "/readyz"):
        answer = server.get(target)
        assert (answer.status, answer.json) == (200, {"status": "healthy"})
    assert server.get("/entities/item/features/i").json["features"] == {"price": 1.0}
    store.transport.command("DEL", "item:schema")
    assert server.get("/readyz").status == 503
    item.apply(Definition(features={"price": "float"}, entity="item"))
    store.apply(read_definition())
    assert server.get("/readyz").status == 200
    store.transport.command("DEL", "user:schema")  # as where Redis evicts: reads and writes of users fail
    assert server.get("/readyz").json["reason"][:28] == "no schema of user is stored:"


def test_http_says_503_and_not_404_while_the_store_is_empty(server: HttpServer, store: FeatureStore) -> None:
    store.transport.command("FLUSHALL")
    for answer in (
        *(server.get("/features/u") for _ in range(3)),
        server.get("/features/u?features=age"),
        server.request("POST", "/features/batch", {"user_ids": ["u", "v"]}),
        server.request("POST", "/features/batch", {"user_ids": ["u"], "features": ["age"]}),
    ):
        assert (answer.status, answer.json["detail"]) == (
            503,
            "no schema is stored at user:schema: featurestore apply FILE declares features",
        )
    store.apply(read_definition())
    assert server.get("/features/u").status == 404
    store.upsert([("u", {"age": 1.0})])
    assert server.get("/features/u").status == 200


def test_the_log_tells_once_that_redis_went_away_and_that_it_is_back(
    valkey: Server, store: FeatureStore, tmp_path: Path
) -> None:
    with serving(valkey.url, tmp_path, workers="1") as server:
        assert server.get("/features/u").status == 200
        valkey.stop()
        assert [server.get("/features/u").status for _ in range(20)] == [503] * 20
        valkey.start()
        wait_until(lambda: server.get("/features/u").status == 200)
        lines = [line for line in server.log.read_text().splitlines() if "Redis at" in line]
    assert len(lines) == 2
    assert "WARNING Redis at" in lines[0]
    assert lines[1].endswith("is connected again")
    assert store.count() == 1


def test_a_database_that_does_not_exist_is_what_redis_says_it_is(valkey: Server) -> None:
    with FeatureStore(SyncTransport(f"{valkey.socket_url}?db=99", timeout=1, connect_timeout=1)) as lost:
        with pytest.raises(RedisError, match="DB index is out of range"):
            lost.ping()
        with pytest.raises(RedisError, match="DB index is out of range"):
            lost.get("u")


def test_more_calls_than_connections_are_refused_as_overload(valkey: Server) -> None:
    transport = SyncTransport(valkey.url, timeout=1, connect_timeout=1, max_connections=1)
    taken = transport._pool.take()
    with pytest.raises(OverloadedError):
        transport.command("PING")
    taken.give_back()
    assert transport.command("PING") == b"PONG"
    transport.close()
