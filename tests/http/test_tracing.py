"""Traces, as a real collector gets them from a real server."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.collector import Collector, Span
from support.gunicorn import read_response, request
from support.http import HttpServer, serving
from support.servers import Server, free_port, wait_until

from featurestore import Definition, FeatureStore, SyncTransport
from featurestore.errors import ConfigurationError
from featurestore.serving.tracing import check_telemetry

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
SERVER, CLIENT = 2, 3


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore(SyncTransport(valkey.url, timeout=5, connect_timeout=5)) as opened:
        opened.apply(Definition(features={"age": "int"}))
        opened.upsert([("ann", {"age": 31})])
        yield opened


@contextlib.contextmanager
def traced(valkey: Server, folder: Path, url: str, *, delay_ms: int = 50, **settings: str) -> Iterator[HttpServer]:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": str(delay_ms)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with serving(valkey.url, folder, otel="true", **{"timeout_ms": "2000", **settings}) as server:
            yield server


def requests_in(collector: Collector, route: str) -> list[Span]:
    return [each for each in list(collector.spans) if each.attributes.get("http.route") == route]


def awaited(collector: Collector, route: str, count: int = 1) -> list[Span]:
    wait_until(lambda: len(requests_in(collector, route)) >= count, what=f"spans of {route}")
    return requests_in(collector, route)


def asked_until_gathered(client: socket.socket, path: str) -> int:
    """Send a plain GET until it is answered in the event loop; return how many were sent."""
    for sent in range(1, 100):
        client.sendall(request(path))
        if b"x-request-id" not in read_response(client)[0]:
            return sent
    raise AssertionError(f"{path} is never gathered")


def test_a_batch_is_a_span_below_its_callers_with_its_stages_below_it(
    valkey: Server, store: FeatureStore, tmp_path: Path
) -> None:
    assert store.count() == 1
    with Collector() as collector, traced(valkey, tmp_path, collector.url) as server:
        body = {"user_ids": ["ann"] * 150}
        answer = server.request("POST", "/features/batch", body, traceparent=SAMPLED, **{"X-Request-Id": "b-1"})
        assert answer.status == 200
        (span,) = awaited(collector, "/features/batch")
        wait_until(lambda: [each.name for each in collector.below(span)][-2:] == ["encode", "send"])
        below = collector.below(span)
    assert (span.trace, span.parent, span.kind, span.service) == (TRACE, CALLER, SERVER, "featurestore")
    assert span.name == "POST /features/batch"
    assert not span.failed
    assert span.attributes.items() >= {
        "http.request.method": "POST", "http.response.status_code": 200, "url.scheme": "http",
        "client.address": "127.0.0.1", "featurestore.request_id": "b-1",
    }.items()  # fmt: skip
    assert not {"url.path", "url.query"} & span.attributes.keys()
    asked = [each for each in below if each.kind == CLIENT]
    scripts = [each for each in asked if each.attributes.get("db.stored_procedure.name") == "get_features_batch"]
    assert scripts[-1].name == "EVALSHA get_features_batch"
    assert scripts[-1].attributes == {
        "db.system.name": "redis", "db.operation.name": "EVALSHA", "db.operation.batch.size": 2,
        "db.stored_procedure.name": "get_features_batch",
    }  # fmt: skip
    assert {each.trace for each in below} == {TRACE}
    assert all(span.began <= each.began <= each.ended <= span.ended for each in below)


def test_a_gathered_get_is_a_trace_of_its_own_and_a_rejected_one_says_its_status(
    valkey: Server, store: FeatureStore, tmp_path: Path
) -> None:
    assert store.count() == 1
    with Collector() as collector, traced(valkey, tmp_path, collector.url) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            sent = sum(asked_until_gathered(client, path) for path in ("/features/ann", "/features/nobody"))
        spans = awaited(collector, "/features/{id}", sent)
        gathered = [each for each in spans if "featurestore.request_id" not in each.attributes]
        wait_until(lambda: all(len(collector.below(each)) == 2 for each in gathered))
        below = [collector.below(each) for each in gathered]
    assert len({each.trace for each in spans}) == len(spans) == sent
    assert sorted(each.attributes["http.response.status_code"] for each in gathered) == [200, 404]
    for script, encode in below:
        assert (script.name, encode.name) == ("EVALSHA get_features", "encode")
        assert script.ended <= encode.began + 1000


def test_what_the_caller_did_not_sample_is_not_sent_nor_what_the_ratio_leaves_out(
    valkey: Server, store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.count() == 1
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with Collector() as collector, traced(valkey, tmp_path, collector.url) as server:
        for header in (None, f"00-{TRACE}-{CALLER}-00", "garbage", f"00-{'0' * 32}-{CALLER}-01"):
            assert server.request("GET", "/features/ann", **({"traceparent": header} if header else {})).status == 200
        server.request("GET", "/schema", traceparent=SAMPLED)
        awaited(collector, "/schema")
        assert {each.attributes.get("http.route") for each in collector.spans if each.kind == SERVER} == {"/schema"}


def test_a_request_that_fails_is_an_error_and_so_is_its_call(
    valkey: Server, store: FeatureStore, tmp_path: Path
) -> None:
    assert store.count() == 1
    with Collector() as collector, traced(valkey, tmp_path, collector.url) as server:
        server.get("/features/ann")
        valkey.stop()
        assert server.request("GET", "/features/ann", traceparent=SAMPLED).status == 503
        wait_until(lambda: [each for each in collector.spans if each.trace == TRACE and each.kind == SERVER])
        (span,) = (each for each in collector.spans if each.trace == TRACE and each.kind == SERVER)
        below = collector.below(span)
    assert span.failed
    assert (span.attributes["error.type"], span.attributes["http.response.status_code"]) == ("503", 503)
    assert any(each.failed and each.attributes["error.type"] == "UnavailableError" for each in below)


def test_requests_go_on_without_a_collector_and_the_log_says_once_that_traces_are_lost(
    valkey: Server, store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.count() == 1
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    port = free_port()
    with traced(valkey, tmp_path, f"http://127.0.0.1:{port}") as server:

        def told(words: str) -> int:
            assert server.get("/features/ann").status == 200
            return server.log.read_text().count(words)

        wait_until(lambda: told("traces cannot be sent"), what="the log saying so")
        with Collector(port) as collector:
            wait_until(lambda: told("traces are sent again"), what="the log saying that it is over")
            assert collector.spans
        lines = server.log.read_text()
    assert lines.count("traces cannot be sent") == 1
    assert len(re.findall(r"traces are sent again; \d+ spans were lost", lines)) == 1
    assert "Traceback" not in lines


@pytest.mark.parametrize("worker_class", ["featurestore", "gthread"])
def test_a_worker_that_stops_sends_what_is_left(
    valkey: Server, store: FeatureStore, tmp_path: Path, worker_class: str
) -> None:
    assert store.count() == 1
    with Collector() as collector:
        with traced(valkey, tmp_path, collector.url, delay_ms=60_000, worker_class=worker_class) as server:
            for _ in range(3):
                assert server.request("GET", "/features/ann?metadata=true").status == 200
            assert not requests_in(collector, "/features/{id}")
            assert server.stop() == 0
        assert len(requests_in(collector, "/features/{id}")) == 3
    assert "Exception" not in server.log.read_text()


def test_a_worker_stops_in_time_where_no_collector_answers(valkey: Server, store: FeatureStore, tmp_path: Path) -> None:
    assert store.count() == 1
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with traced(valkey, tmp_path, url, delay_ms=60_000) as server:
            assert server.request("GET", "/features/ann?metadata=true").status == 200
            assert server.stop() == 0
    assert "could not be sent in 2 s" in server.log.read_text()


def test_without_tracing_nothing_of_it_is_imported() -> None:
    code = (
        "import sys; OURS = ('opentelemetry.exporter', 'opentelemetry.sdk.trace.export');"  # redis-py imports others
        "import featurestore.serving.build, featurestore.worker.worker;"
        "from featurestore.serving.build import build_app;"
        "app = build_app(); print(type(app).__name__, any(name.startswith(OURS) for name in sys.modules))"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "FEATURESTORE_"))
    }
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env=environment | {"REDIS_URL": "redis://127.0.0.1:1"},
    ).stdout  # fmt: skip
    assert told.split() == ["GatheredReads", "False"]


def test_a_protocol_that_is_not_spoken_is_named() -> None:
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_PROTOCOL='grpc'"):
        check_telemetry({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
