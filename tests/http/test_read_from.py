"""Requests that say whom they want features read from: replicas answer others, and lack the last write."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from support.cluster import Watched, ask
from support.servers import wait_until

from featurestore import Client, Definition, FeatureStore
from featurestore.api.app import create_app
from featurestore.api.counters import Board, Meter
from featurestore.api.fast_reads import FastReads
from featurestore.errors import BadArgumentsError
from featurestore.transport.blocking_cluster import SyncClusterTransport
from featurestore.transport.replicas import Reading


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def client(watched: Watched) -> Iterator[Client]:
    """A client of a server whose replicas have an older value than the primary."""
    transport = SyncClusterTransport(watched.url, timeout=2, connect_timeout=2, reading=Reading("replicas"))
    store = FeatureStore(transport)
    store.apply(Definition(features={"n": "int"}))
    store.upsert([("ann", {"n": 1})])
    wait_until(lambda: all(ask(server, "EXISTS", "user:ann:features") for server in watched.servers))
    for server in watched.servers:
        if ask(server, "ROLE")[0] == "slave":
            ask(server, "REPLICAOF", "127.0.0.1", "1")
    store.upsert([("ann", {"n": 2})])
    served = make_server("127.0.0.1", 0, FastReads(store, create_app(store), Meter(Board())), handler_class=Quiet)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    with Client(f"http://127.0.0.1:{served.server_port}") as made:
        yield made
    served.shutdown()
    thread.join()
    served.server_close()
    store.close()


def test_a_request_may_ask_for_what_the_primary_has(client: Client) -> None:
    assert client.get("ann") == {"n": 1}
    assert client.get("ann", read_from="primary") == {"n": 2}
    assert list(client.get_many(["ann"], read_from="primary")) == [{"n": 2}]
    described = client.describe("ann", read_from="primary")
    assert described is not None
    assert described.features == {"n": 2}
    assert client.get("ann") == {"n": 1}


def test_feast_may_ask_for_what_the_primary_has(client: Client) -> None:
    assert _asked_as_feast_does(client, {}) == (200, [1])
    assert _asked_as_feast_does(client, {"Featurestore-Read-From": "primary"}) == (200, [2])
    assert _asked_as_feast_does(client, {"Featurestore-Read-From": "replica"})[0] == 422


def _asked_as_feast_does(client: Client, headers: dict[str, str]) -> tuple[int, Any]:
    body = {"entities": {"user_id": ["ann"]}, "features": ["user:n"]}
    request = urllib.request.Request(
        f"{client._base_url}/get-online-features",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)["results"][1]["values"]
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_whoever_else_is_asked_for_is_refused(client: Client) -> None:
    with pytest.raises(BadArgumentsError, match="read_from is 'primary' or left out, not 'replica'"):
        client.get("ann", read_from="replica")  # type: ignore[arg-type]
