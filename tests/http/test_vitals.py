"""Metrics of what is behind the requests: problems, refusals, Redis's calls and links, workers, samples."""

import contextlib
import http.client
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.http import HttpServer, serving
from support.metrics import scraped, total
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore
from featurestore.keys import Keys
from featurestore.schema.definition import FeatureDefinition
from featurestore.serving.gunicorn_settings import WORKER_CLASSES

KEY = {"X-API-Key": "key"}
FEATURES = Definition(
    features={
        "age": "int",
        "city": FeatureDefinition(type="string", max_age="1h"),
        "visits": FeatureDefinition(type="int", default=0),
    }
)


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore.connect(valkey.url, timeout=5) as opened:
        opened.apply(FEATURES)
        opened.upsert([(f"u{number}", {"age": number}) for number in range(10)])
        yield opened


@pytest.fixture
def server(store: FeatureStore, valkey: Server, tmp_path: Path) -> Iterator[HttpServer]:
    with serving(valkey.url, tmp_path, write_keys="key", timeout_ms="5000", connect_timeout_ms="5000") as started:
        yield started


def reads(server: HttpServer, *ids: str) -> None:
    """Read each on one connection, so that all but the first are gathered where the worker does that."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        for entity_id in ids:
            connection.request("GET", f"/features/{entity_id}")
            answer = connection.getresponse()
            assert answer.read()
            assert answer.status == 200


def workers_of(server: HttpServer) -> list[int]:
    assert server.process is not None
    pid = server.process.pid
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# Requests


def test_problems_are_counted_by_code(server: HttpServer) -> None:
    server.get("/features/nobody")
    server.get("/features/u1?features=nothing")
    server.get("/entities/nothing/features/u1")
    server.get("/nowhere")
    server.request("PUT", "/features/u1", {"features": {"age": "x"}}, **KEY)
    server.request("POST", "/get-online-features", {"entities": {"user_id": ["u1"]}, "features": ["user:nothing"]})
    found = scraped(server)
    counts = {each.labels["code"]: each.value for each in found if each.name == "featurestore_problems_total"}
    assert {code: count for code, count in counts.items() if count} == {
        "UNKNOWN": 1, "UNDECLARED": 2, "NOENTITY": 1, "http": 1, "BADTYPE": 1,
    }  # fmt: skip
    assert total(found, "featurestore_rows_rejected_total", code="BADTYPE") == 1
    assert total(found, "featurestore_rows_total", entity="user", verdict="rejected") == 1


def test_an_entity_is_a_label_only_if_it_has_a_schema(server: HttpServer, store: FeatureStore) -> None:
    items = FeatureStore(store.transport, Keys("item"))
    items.apply(Definition(features={"price": "float"}, entity="item"))
    items.upsert([("i1", {"price": 2.5})])
    for name in ("item", "made", "up"):
        server.get(f"/entities/{name}/features/i1")
    route = {"route": "/entities/{entity}/features/{id}"}
    found = scraped(server)
    assert total(found, "featurestore_requests_total", entity="item", status="200", **route) == 1
    assert total(found, "featurestore_requests_total", status="404", **route) == 2
    assert {each.labels["entity"] for each in found if "entity" in each.labels} <= {"item", "user"}


REFUSED = {
    "malformed": b"rubbish\r\n\r\n",
    "head_too_large": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "body_too_large": b"POST /features/batch HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n",
    "unsupported": b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
}


def test_refusals_are_counted_by_reason(server: HttpServer) -> None:
    for count, (reason, sent) in enumerate(REFUSED.items(), 1):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(sent)
            assert client.recv(4096).startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
        found = scraped(server)
        assert total(found, "featurestore_refused_total", reason=reason) == 1
        assert total(found, "featurestore_refused_total") == count
    assert total(found, "featurestore_requests_total", status="400") == 0


# Redis


@pytest.mark.parametrize("worker_class", list(WORKER_CLASSES))
def test_calls_of_redis_are_timed_by_script(
    store: FeatureStore, valkey: Server, tmp_path: Path, worker_class: str
) -> None:
    options = {"worker_class": worker_class, "timeout_ms": "5000", "connect_timeout_ms": "5000", "write_keys": "key"}
    with serving(valkey.url, tmp_path, **options) as server:
        reads(server, *[f"u{number}" for number in range(10)])
        server.request("PUT", "/features/u1", {"features": {"age": 3}}, **KEY)
        server.request("POST", "/features/batch", {"ids": ["u1", "u2"]})
        found = scraped(server)
        name = "featurestore_redis_call_duration_seconds_count"
        assert total(found, name, script="get_features") >= 10
        assert total(found, name, script="upsert_and_get") >= 1
        assert total(found, name, script="get_features_batch") >= 1
        assert 0 < total(found, "featurestore_redis_call_duration_seconds_sum", script="get_features") < 10
        assert total(found, "featurestore_redis_links", state="connected") >= 1
        assert total(found, "featurestore_workers") == 1


def test_a_call_that_gets_no_reply_is_timed_too(store: FeatureStore, valkey: Server, tmp_path: Path) -> None:
    with serving(valkey.url, tmp_path, timeout_ms="2000") as server:
        reads(server, "u1")
        with valkey.frozen():
            assert server.get("/features/u1").status == 504
            found = scraped(server)
        name = "featurestore_redis_call_duration_seconds"
        assert total(found, f"{name}_count", script="get_features") - total(
            found, f"{name}_bucket", script="get_features", le="1.0"
        ) == pytest.approx(1)
        assert total(found, "featurestore_problems_total", code="timeout") == 1


@pytest.mark.parametrize("worker_class", ["featurestore", "gthread"])
def test_links_that_break_are_made_again_and_counted(
    store: FeatureStore, valkey: Server, tmp_path: Path, worker_class: str
) -> None:
    options = {"worker_class": worker_class, "timeout_ms": "5000", "connect_timeout_ms": "5000"}
    with serving(valkey.url, tmp_path, **options) as server:
        reads(server, "u1")
        assert total(scraped(server), "featurestore_redis_reconnects_total") == 0
        store.transport.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        def mended() -> bool:
            server.get("/features/u1")
            found = scraped(server)
            return (
                total(found, "featurestore_redis_reconnects_total") >= 1
                and total(found, "featurestore_redis_links", state="connected") >= 1
            )

        wait_until(mended, what="a new connection")


def test_a_redis_that_is_away_shows_as_a_link_that_is_down(store: FeatureStore, valkey: Server, tmp_path: Path) -> None:
    other = Server(valkey.binary, tmp_path)
    other.start()
    try:
        with FeatureStore.connect(other.url, timeout=5) as opened:
            opened.apply(FEATURES)
        with serving(other.url, tmp_path, timeout_ms="5000", connect_timeout_ms="5000") as server:
            server.get("/features/u1")
            assert total(scraped(server), "featurestore_redis_links", state="down") == 0
            assert server.get("/readyz").status == 200
            assert total(scraped(server), "featurestore_ready") == 1
            other.stop()

            def down() -> bool:
                assert server.get("/readyz").status == 503
                found = scraped(server)
                return (
                    total(found, "featurestore_redis_links", state="down") == 1
                    and total(found, "featurestore_redis_links", state="connected") == 0
                    and total(found, "featurestore_ready") == 0
                )

            wait_until(down, what="a link that is down")
            assert total(scraped(server), "featurestore_problems_total", code="unavailable") == 0  # nobody asked
            server.get("/features/u1")
            assert total(scraped(server), "featurestore_problems_total", code="unavailable") == 1
    finally:
        other.stop()


def test_the_links_to_all_nodes_of_a_cluster_are_counted(cluster: Cluster, tmp_path: Path) -> None:
    with FeatureStore.connect(cluster.url, timeout=5) as opened:
        opened.apply(FEATURES)
        opened.upsert([(f"u{number}", {"age": number}) for number in range(50)])
    with serving(cluster.url, tmp_path, timeout_ms="5000", connect_timeout_ms="5000") as server:
        reads(server, *[f"u{number}" for number in range(50)])
        found = scraped(server)
        assert total(found, "featurestore_redis_links", state="connected") >= 3
        assert total(found, "featurestore_redis_call_duration_seconds_count", script="reads") > 0


# Workers


def test_gauges_end_with_their_worker_and_counts_do_not(server: HttpServer) -> None:
    reads(server, "u1")
    before = scraped(server)
    assert total(before, "featurestore_workers") == total(before, "featurestore_worker_starts_total") == 1
    assert total(before, "featurestore_worker_resident_memory_bytes", worker="0") > 10_000_000
    assert 3 < total(before, "featurestore_worker_open_fds") < total(before, "featurestore_worker_max_fds")
    began = total(before, "featurestore_worker_start_time_seconds")
    (worker,) = workers_of(server)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: workers_of(server) not in ([], [worker]), what="another worker")
    after = scraped(server)
    assert total(after, "featurestore_workers") == 1
    assert total(after, "featurestore_worker_starts_total") == 2
    assert total(after, "featurestore_worker_start_time_seconds") > began
    cpu = "featurestore_worker_cpu_seconds_total"
    assert total(after, cpu, worker="0") >= total(before, cpu, worker="0") > 0
    assert total(after, "featurestore_redis_reconnects_total") == 0


def test_what_runs_is_told(server: HttpServer) -> None:
    (build,) = [each for each in scraped(server) if each.name == "featurestore_build_info"]
    assert build.value == 1
    assert build.labels.keys() == {"version", "python", "redis_client", "extensions"}
    assert all(build.labels.values())


# Samples


@pytest.mark.parametrize("worker_class", ["featurestore", "gthread"])
def test_statuses_and_ages_of_what_is_read_are_sampled(
    store: FeatureStore, valkey: Server, tmp_path: Path, worker_class: str
) -> None:
    hours_ago = 7_200_000
    now, _ = store.transport.command("TIME")
    store.upsert([("old", {"age": 1, "city": "Rome"})], event_time=int(now) * 1000 - hours_ago)
    options = {"worker_class": worker_class, "timeout_ms": "5000", "connect_timeout_ms": "5000"}
    with serving(valkey.url, tmp_path, **options) as server:

        def sampled() -> bool:
            server.get("/features/old")
            return total(scraped(server), "featurestore_sampled_row_age_seconds_count") > 0

        wait_until(sampled, what="a sample")
        found = scraped(server)
        rows = total(found, "featurestore_sampled_row_age_seconds_count", entity="user")
        statuses = {each.labels["status"]: each.value for each in found
                    if each.name == "featurestore_sampled_features_total"}  # fmt: skip
        assert statuses == {"present": rows, "stale": rows, "default": rows, "missing": 0}
        ages = "featurestore_sampled_row_age_seconds_bucket"
        assert total(found, ages, le="3600.0") == 0
        assert total(found, ages, le="21600.0") == rows
        assert total(found, "featurestore_schema_version", entity="user") == store.schema().version


def test_no_more_rows_are_sampled_than_a_second_may_have(server: HttpServer) -> None:
    ids = [f"u{number % 10}" for number in range(200)]

    def sampled() -> float:
        server.request("POST", "/features/batch", {"ids": ids})
        return total(scraped(server), "featurestore_sampled_row_age_seconds_count")

    wait_until(sampled, what="a sample")
    assert sampled() % 10 == 0
