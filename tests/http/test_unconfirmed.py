"""Writes over HTTP that replicas do not confirm: 503 with what took place, and what clients make of it."""

import json
import threading
from collections.abc import Iterator
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from falcon.testing import TestClient
from support.cluster import Watched, ask
from support.servers import wait_until

from featurestore import Client, Definition, FeatureStore
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.errors import UnconfirmedWriteError
from featurestore.store.doctor import diagnose
from featurestore.store.results import UnconfirmedRows
from featurestore.transport.blocking_cluster import SyncClusterTransport
from featurestore.transport.confirming import Durability


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(watched: Watched) -> Iterator[FeatureStore]:
    """A store whose writes two replicas have to confirm, one of which stands still."""
    transport = SyncClusterTransport(watched.url, timeout=5, connect_timeout=5, durability=Durability(2, 50))
    store = FeatureStore(transport)
    store.apply(Definition(features={"n": "int"}))
    assert store.upsert([("ann", {"n": 1})]).unconfirmed == 0
    primary = watched.primary()
    replica = next(server for server in watched.servers if server is not primary)
    with replica.frozen():
        yield store
    wait_until(lambda: ask(primary, "WAIT", 2, 1000) == 2, what="replicas that follow")
    store.close()


@pytest.fixture
def app(store: FeatureStore) -> TestClient:
    return TestClient(create_app(store, access=Access("key")), headers={"X-API-Key": "key"})


def test_a_write_of_one_entity_is_503_with_its_counts(app: TestClient) -> None:
    answer = app.simulate_put("/features/ann", json={"features": {"n": 2}})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json
    assert "1 of 2 replicas confirmed it within 50 ms" in told.pop("detail")
    assert told == {
        "title": "Service Unavailable", "status": 503, "code": "UNCONFIRMED",
        "written": 1, "skipped": 0, "rejected": 0, "unconfirmed": 1,
    }  # fmt: skip
    assert app.simulate_get("/features/ann").json["features"] == {"n": 2}


def test_many_rows_are_503_with_their_counts(app: TestClient) -> None:
    lines = [
        {"id": "ann", "features": {"n": 3}},
        {"id": "eve", "features": {"n": 1}},
        {"id": "x", "features": {"n": "y"}},
    ]
    answer = app.simulate_post("/features/ingest", body="\n".join(map(json.dumps, lines)))
    assert (answer.status_code, answer.json["code"]) == (503, "UNCONFIRMED")
    assert {name: answer.json[name] for name in ("written", "skipped", "rejected", "unconfirmed")} == {
        "written": 2, "skipped": 0, "rejected": 1, "unconfirmed": 2,
    }  # fmt: skip
    assert app.simulate_get("/features/eve").json["features"] == {"n": 1}


def test_a_row_that_is_rejected_is_in_no_doubt(app: TestClient) -> None:
    assert app.simulate_put("/features/ann", json={"features": {"n": "x"}}).status_code == 422


def test_clients_raise_what_the_server_says(store: FeatureStore) -> None:
    served = make_server("127.0.0.1", 0, create_app(store, access=Access("key")), handler_class=Quiet)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    try:
        with Client(f"http://127.0.0.1:{served.server_port}", api_key="key", timeout=10) as client:
            with pytest.raises(UnconfirmedWriteError, match="1 of 2 replicas") as found:
                client.upsert("ann", {"n": 2})
            assert found.value.result == UnconfirmedRows(1, 0, 0, 1)
            with pytest.raises(UnconfirmedWriteError) as found:
                client.upsert_many([("ann", {"n": 3}), ("eve", {"n": 1})])
            assert found.value.result == UnconfirmedRows(2, 0, 0, 2)
            with pytest.raises(UnconfirmedWriteError):
                client.increment("ann", {"n": 1})
            with pytest.raises(UnconfirmedWriteError):
                client.delete("eve")
            assert client.get("ann") == {"n": 4}
            assert client.get("eve") is None
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


def test_the_doctor_tells_of_too_few_replicas(watched: Watched) -> None:
    with FeatureStore.connect(watched.url, timeout=5) as store:
        store.apply(Definition(features={"n": "int"}))
        for wanted, good in ((2, True), (3, False)):
            (finding,) = [each for each in diagnose(store, confirmed_by=wanted) if "confirm" in each.text]
            assert finding.good is good
            if not good:
                address = f"127.0.0.1:{watched.primary().port}"
                assert finding.text.startswith(
                    f"FEATURESTORE_WAIT_REPLICAS is 3, and of replicas that are online {address} has 2"
                )
