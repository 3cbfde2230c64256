"""`GET /metrics`: every request and row is counted, by all workers together."""

import os
import re
import signal
from pathlib import Path

import falcon.inspect
import pytest
from support.fake import FakeTransport
from support.http import HttpServer, serving
from support.metrics import scraped
from support.servers import Server, wait_until

from featurestore import FeatureStore, read_definition
from featurestore.api.app import create_app
from featurestore.api.counters import BUCKETS_S, ROUTES, Board, Meter
from featurestore.serving.gunicorn_settings import WORKER_CLASSES

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(server: HttpServer) -> Samples:
    """Return the value of each sample, over all entities, by its name and the values of its other labels."""
    found: Samples = {}
    for sample in scraped(server):
        labels = sample.name, tuple(value for name, value in sorted(sample.labels.items()) if name != "entity")
        found[labels] = found.get(labels, 0) + sample.value
    return found


def requests(found: Samples, *labels: str) -> float:
    return found.get(("featurestore_requests_total", labels), 0)


def write_users(url: str) -> None:
    with FeatureStore.connect(url, timeout=5) as store:
        store.apply(read_definition())
        store.upsert([("u1", {"age": 1.0}), ("u2", {"age": 2.0})])


def test_every_route_of_the_app_is_counted_by_its_name() -> None:
    app = create_app(FeatureStore(FakeTransport()))
    assert {route.path for route in falcon.inspect.inspect_routes(app)} == {*ROUTES} - {"other"}


@pytest.mark.parametrize("worker_class", list(WORKER_CLASSES))
def test_requests_are_counted_by_method_route_and_status(valkey: Server, tmp_path: Path, worker_class: str) -> None:
    write_users(valkey.url)
    with serving(valkey.url, tmp_path, worker_class=worker_class, workers="2", timeout_ms="5000") as server:
        for _ in range(20):
            assert server.get("/features/u1").status == 200
            assert server.get("/features/u2?features=age").status == 200
            assert server.get("/features/nobody").status == 404
        assert server.request("POST", "/features/batch", {"user_ids": ["u1"]}).status == 200
        assert server.request("POST", "/features/batch", {"user_ids": []}).status == 422
        assert server.request("PUT", "/features/u1", {"features": {"age": 1}}).status == 405
        assert server.get("/nowhere/at/all").status == 404
        assert server.request("BREW", "/features/u1").status in {400, 405}
        found = samples(server)
        assert requests(found, "GET", "/features/{id}", "200") == 40
        assert requests(found, "GET", "/features/{id}", "404") == 20
        assert requests(found, "POST", "/features/batch", "200") == 1
        assert requests(found, "POST", "/features/batch", "422") == 1
        assert requests(found, "PUT", "/features/{id}", "405") == 1
        assert requests(found, "GET", "other", "404") == 1
        assert found["featurestore_request_duration_seconds_count", ("GET", "/features/{id}")] == 60
        buckets = [
            found["featurestore_request_duration_seconds_bucket", (bound, "GET", "/features/{id}")]
            for bound in (*map(str, BUCKETS_S), "+Inf")
        ]
        assert buckets == sorted(buckets)
        assert buckets[-1] == 60
        assert 0 < found["featurestore_request_duration_seconds_sum", ("GET", "/features/{id}")] < 60 * 5
        assert "Warning" not in server.log.read_text()  # as from what is imported before gevent patches it


def test_counts_outlive_the_worker_that_made_them(valkey: Server, tmp_path: Path) -> None:
    write_users(valkey.url)
    with serving(valkey.url, tmp_path, timeout_ms="5000") as server:
        for _ in range(10):
            server.get("/features/u1")
        assert server.process is not None
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        (worker,) = children.read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        wait_until(lambda: children.read_text().split() not in ([], [worker]), what="another worker")
        server.get("/features/u1")
        assert requests(samples(server), "GET", "/features/{id}", "200") == 11


def test_rows_are_counted_by_verdict(valkey: Server, tmp_path: Path) -> None:
    write_users(valkey.url)
    with serving(valkey.url, tmp_path, write_keys="key", timeout_ms="5000") as server:
        new, old = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
        lines = (
            b'{"user_id":"u3","features":{"age":1},"event_time":"%b"}\n' % new.encode(),
            b'{"user_id":"u3","features":{"age":2},"event_time":"%b"}\n' % old.encode(),
            b'{"user_id":"u4","features":{"age":"rubbish"}}\n',
            b"rubbish\n",
        )
        key = {"X-API-Key": "key"}
        assert server.request("POST", "/features/ingest", b"".join(lines), **key).status == 200
        assert server.request("PUT", "/features/u3", {"features": {"age": 3}, "event_time": new}, **key).status == 200
        found = samples(server)
        verdicts = {labels[0]: count for (name, labels), count in found.items() if name == "featurestore_rows_total"}
        assert verdicts == {
            "created": 1, "applied": 1, "partly_stale": 0, "stale": 1, "duplicate": 0, "rejected": 2,
        }  # fmt: skip


def test_openmetrics_where_it_is_asked_for(valkey: Server, tmp_path: Path) -> None:
    with serving(valkey.url, tmp_path) as server:
        plain = server.get("/metrics")
        assert plain.headers["Content-Type"].startswith("text/plain")
        answer = server.request("GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.body.endswith(b"# EOF\n")


def test_processes_beyond_the_last_place_share_it() -> None:
    board = Board(2)
    for number in range(4):
        Meter(board, number).series("GET", "/health").add("200 OK", 0.001)
    (totals,) = board.requests()
    assert sum(totals.statuses) == sum(totals.buckets) == 4
    assert totals.seconds == pytest.approx(0.004)


def test_what_is_not_foreseen_is_counted_too() -> None:
    meter = Meter(Board())
    meter.series("BREW", "/teapot").add("418 I'm a teapot", 60.0)
    (totals,) = meter.board.requests()
    assert (totals.method, totals.route, totals.statuses[-1], totals.buckets[-1]) == ("other", "other", 1, 1)


def test_every_metric_is_documented(valkey: Server, tmp_path: Path) -> None:
    with serving(valkey.url, tmp_path) as server:
        names = set(re.findall(r"# TYPE (\S+)", server.get("/metrics").body.decode()))
    documented = set(re.findall(r"^\| `(featurestore_\w+)`", DOCS.read_text(), re.MULTILINE))
    assert names == documented
