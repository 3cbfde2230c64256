"""What running servers make of a schema that changes: retired features, dropped entities, notes for people."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.http import HttpServer, serving
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, Keys
from featurestore.schema.definition import FeatureDefinition
from featurestore.store.retirement import clear, drop, retire

KEY = {"X-API-Key": "secret"}


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        features: dict[str, Any] = {"age": FeatureDefinition("float", description="years", tags=["pii"]), "n": "int"}
        store.apply(Definition(features, services={"ads": ["n", "age"]}, owner="crm"))
        store.upsert([("ann", {"age": 1.5, "n": 7})])
        yield store


@pytest.fixture
def server(valkey: Server, store: FeatureStore, tmp_path: Path) -> Iterator[HttpServer]:
    assert store.count() == 1
    with serving(valkey.url, tmp_path, timeout_ms="5000", write_keys="secret") as server:
        yield server


def body(server: HttpServer, target: str) -> Any:
    return msgspec.json.decode(server.request("GET", target).body)


def put(server: HttpServer, features: dict[str, Any]) -> tuple[int, Any]:
    answer = server.request("PUT", "/features/ann", msgspec.json.encode({"features": features}).decode(), **KEY)
    return answer.status, msgspec.json.decode(answer.body)


def test_the_schema_shows_notes(server: HttpServer) -> None:
    assert body(server, "/schema") == {
        "entity": "user", "owner": "crm", "version": 1, "features": {"age": "float", "n": "int"},
        "options": {"age": {"description": "years", "tags": ["pii"]}}, "services": {"ads": ["n", "age"]},
    }  # fmt: skip


def test_servers_notice_a_retirement_within_a_second(server: HttpServer, store: FeatureStore) -> None:
    assert body(server, "/features/ann")["features"] == {"age": 1.5, "n": 7}
    assert body(server, "/features/ann?service=ads")["features"] == {"n": 7, "age": 1.5}
    retire(store, ["n"], from_services=True)
    assert put(server, {"n": 8})[0] == 422  # at once
    wait_until(lambda: body(server, "/features/ann")["features"] == {"age": 1.5}, timeout=5)
    wait_until(lambda: server.request("GET", "/features/ann?features=n").status == 422, timeout=5)
    wait_until(lambda: body(server, "/features/ann?service=ads").get("features") == {"age": 1.5}, timeout=5)
    for _ in clear(store):
        pass
    store.apply(Definition({"n": "string"}))
    wait_until(lambda: put(server, {"n": "eight"})[0] == 200, timeout=5)
    assert body(server, "/features/ann")["features"] == {"age": 1.5, "n": "eight"}


def test_a_dropped_entity_is_unknown_and_the_others_are_served(server: HttpServer, store: FeatureStore) -> None:
    with FeatureStore(store.transport, Keys("item")) as items:
        items.apply(Definition({"price": "float"}, entity="item"))
        items.upsert([("i1", {"price": 2.5})])
        target = "/entities/item/features/i1"
        wait_until(lambda: server.request("GET", target).status == 200, timeout=5)
        drop(items)
        answer = server.request("GET", target)
        assert (answer.status, msgspec.json.decode(answer.body)["code"]) == (404, "NOENTITY")
        told = server.request("PUT", target, '{"features":{"price":1}}', **KEY)
        assert (told.status, msgspec.json.decode(told.body)["code"]) == (404, "NOENTITY")
        assert body(server, "/features/ann")["features"] == {"age": 1.5, "n": 7}
        for _ in clear(items):
            pass
        items.apply(Definition({"price": "string"}, entity="item"))
        drop(store)
        assert server.request("GET", "/features/ann").status == 503
        assert body(server, "/features/ann")["code"] == "NOSCHEMA"
        assert server.request("GET", "/readyz").status == 200  # there is another entity
