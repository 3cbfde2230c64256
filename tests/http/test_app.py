"""The HTTP interface through real sockets, under every worker class."""

import http.client
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backends import ONE_OF_EACH, Backend, Clusters, opened
from support.http import HttpServer, serving
from support.names import single_redis
from support.servers import Server

from featurestore import FeatureStore, read_definition
from featurestore.contract.scripts import APPLY_SCHEMA
from featurestore.schema.types import Value
from featurestore.serving.gunicorn_settings import WORKER_CLASSES

FEATURES: dict[str, Value | None] = {
    "age": 69.0,
    "purchase_count_30d": 32.0,
    "avg_session_duration_min": 12.5,
    "preferred_category": "food",
    "country": "00123",
    "device": None,
    "ctr_7d": 0.1,
    "spend_90d": 1e21,
    "score": -0.5,
    "n_logins": 2**63 - 1,
}
IDS = ["user00001", "a/b", "user:*", "é€😀", "batch", "%41", "a b", "x" * 256, "\ufffd", "..", "a?b"]


@pytest.fixture(scope="module", params=ONE_OF_EACH)
def backend(request: pytest.FixtureRequest, servers: dict[str, Server], clusters: Clusters) -> Iterator[Backend]:
    with opened(request.param, servers, clusters) as found:
        found.empty()
        yield found


@pytest.fixture(scope="module")
def redis_store(backend: Backend) -> FeatureStore:
    store = FeatureStore(backend.transport)
    store.apply(read_definition())
    present = {name: value for name, value in FEATURES.items() if value is not None}
    assert store.upsert((entity_id, present) for entity_id in IDS).written == len(IDS)
    return store


@pytest.fixture(scope="module", params=list(WORKER_CLASSES))
def server(
    request: pytest.FixtureRequest,
    redis_store: FeatureStore,
    backend: Backend,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[HttpServer]:
    assert redis_store.count() == len(IDS)
    folder = tmp_path_factory.mktemp(request.param)
    # The functional tests must pass on a busy machine; tests/faults holds the short timeouts.
    with serving(backend.url, folder, worker_class=request.param, timeout_ms="5000") as running:
        yield running


def quote(entity_id: str) -> str:
    return "".join(f"%{byte:02X}" for byte in entity_id.encode())


def problem(title: str, status: int, detail: str) -> dict[str, object]:
    return {"title": title, "status": status, "detail": detail}


def test_a_known_user_is_answered_with_every_feature(server: HttpServer) -> None:
    answer = server.get("/features/user00001")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.body == (
        b'{"user_id":"user00001","features":{"age":69.0,"purchase_count_30d":32.0,"avg_session_duration_min":12.5,'
        b'"preferred_category":"food","country":"00123","device":null,"ctr_7d":0.1,"spend_90d":1e21,"score":-0.5,'
        b'"n_logins":9223372036854775807}}'
    )


def test_an_unknown_user_is_a_problem(server: HttpServer) -> None:
    answer = server.get("/features/nope")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json == problem("Not Found", 404, "User nope not found") | {"code": "UNKNOWN"}


@pytest.mark.parametrize("entity_id", IDS)
def test_any_text_is_an_id(server: HttpServer, entity_id: str) -> None:
    answer = server.get(f"/features/{quote(entity_id)}")
    assert (answer.status, answer.json["user_id"]) == (200, entity_id)
    batch = server.request("POST", "/features/batch", {"user_ids": [entity_id], "features": ["age"]})
    assert batch.json == [{"user_id": entity_id, "features": {"age": 69.0}}]


@pytest.mark.parametrize(
    ("target", "status", "detail"),
    [
        ("/features/%FF", 422, "the id is not valid UTF-8"),
        ("/features/" + "x" * 257, 422, "an id is 1 to 256 bytes of UTF-8 long, not 257"),
        ("/features/", 422, "an id is 1 to 256 bytes of UTF-8 long, not 0"),
        ("/features/user00001?features=nope", 422, "nope is not declared in the schema"),
        ("/features/user00001?features=", 422, "features= is empty"),
        ("/features/user00001?features=,", 422, "features= names no feature"),
        ("/features/user00001?max_age=", 422, "max_age= is empty"),
        ("/features/user00001?features=age&service=x", 422, "want either features= or service="),
        (
            "/features/user00001?feature=age",
            422,
            "there is no parameter feature here; known are features, max_age, metadata, service",
        ),
        ("/features/a%2Fc", 404, "User a/c not found"),
        ("/features", 404, "no such resource"),
        ("/nowhere", 404, "no such resource"),
        ("/docs/..%2Fpage.css", 404, "no such resource"),
        ("/health/", 404, "no such resource"),
    ],
)
def test_wrong_gets_are_told_why(server: HttpServer, target: str, status: int, detail: str) -> None:
    answer = server.get(target)
    assert (answer.status, answer.json["detail"]) == (status, detail)


def test_features_can_be_chosen(server: HttpServer) -> None:
    for target in ("?features=n_logins,age", "?features=n_logins&features=age", "?features=n_logins,age,age"):
        assert server.get(f"/features/user00001{target}").body == (
            b'{"user_id":"user00001","features":{"n_logins":9223372036854775807,"age":69.0}}'
        )


def test_a_batch_keeps_order_and_duplicates(server: HttpServer) -> None:
    ids = ["user00001", "nope", "a/b", "user00001"]
    answer = server.request("POST", "/features/batch", {"user_ids": ids, "features": ["age"]})
    assert answer.status == 200
    assert [row["user_id"] for row in answer.json] == ids
    assert [row["features"] for row in answer.json] == [{"age": 69.0}, None, {"age": 69.0}, {"age": 69.0}]
    whole = server.request("POST", "/features/batch", {"user_ids": ["user00001"]})
    assert whole.json == [{"user_id": "user00001", "features": FEATURES}]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"{bad", 400, "JSON is malformed"),
        (b"", 400, "truncated"),
        (b'{"user_ids":["\xff"]}', 400, ""),
        ({"user_ids": []}, 422, "$.user_ids"),
        ({"user_ids": "user00001"}, 422, "$.user_ids"),
        ({"user_ids": ["a", 1]}, 422, "$.user_ids[1]"),
        ({"user_ids": ["a"], "features": []}, 422, "$.features"),
        ({"user_ids": ["a"], "features": [None]}, 422, "$.features[0]"),
        ({"user_ids": ["a"], "feature": ["age"]}, 422, "feature"),
        ({}, 422, "user_ids"),
        ([], 422, "object"),
        ({"user_ids": ["a", ""]}, 422, "an id is 1 to 256 bytes"),
        ({"user_ids": ["a"], "features": ["age", "nope"]}, 422, "nope is not declared"),
        ({"user_ids": ["a"] * 1001}, 422, "1001 ids, at most 1000 (FEATURESTORE_MAX_BATCH) - at `$.user_ids`"),
    ],
)
def test_a_wrong_batch_is_told_why(server: HttpServer, body: object, status: int, detail: str) -> None:
    answer = server.request("POST", "/features/batch", body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json["detail"]


def test_a_body_over_the_limit_is_413(server: HttpServer) -> None:
    huge = b" " * 1_048_577
    assert server.request("POST", "/features/batch", huge).status == 413
    assert server.request("POST", "/features/batch", iter([huge]), **{"Transfer-Encoding": "chunked"}).status == 413


def test_wrong_methods_are_405_and_name_the_right_ones(server: HttpServer) -> None:
    answer = server.request("DELETE", "/features/batch")
    assert (answer.status, answer.json["detail"]) == (405, "DELETE is not allowed here")
    assert "POST" in answer.headers["allow"]
    assert server.request("POST", "/health", b"").status == 405
    assert server.request("PUT", "/features/u", b"").status == 405


def test_health_and_schema(server: HttpServer, redis_store: FeatureStore) -> None:
    for target in ("/health", "/readyz"):
        answer = server.get(target)
        assert (answer.status, answer.json["status"]) == (200, "healthy")
        assert answer.json.keys() == {"status"} or redis_store.transport.clustered  # which tells of its nodes
    assert server.get("/livez").json == {"status": "alive"}
    schema = redis_store.schema()
    told = {"entity": "user", "version": 1, "features": schema.features}
    if redis_store.transport.clustered:
        told["partitions"] = 64
    assert server.get("/schema").json == told


@single_redis("counts the calls of one server; in a cluster a batch is a call for each partition")
def test_requests_cost_exactly_their_evalshas(server: HttpServer, redis_store: FeatureStore) -> None:
    server.get("/features/user00001")  # the schema has been read from here on
    redis_store.transport.command("CONFIG", "RESETSTAT")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(20):
        assert server.get("/features/user00001").status == 200
        assert server.get("/features/nope").status == 404
    for _ in range(20):
        connection.request("GET", "/features/nope")
        assert b"User nope not found" in connection.getresponse().read()
    connection.close()
    for size in (1, 100, 101, 250):
        assert server.request("POST", "/features/batch", {"user_ids": ["user00001"] * size}).status == 200
    assert calls(redis_store, {"evalsha"}) == {"evalsha": 60 + 1 + 1 + 2 + 3}


def test_a_kept_connection_gets_the_same_answers_again_and_again(server: HttpServer) -> None:
    targets = [f"/features/{quote(entity_id)}" for entity_id in IDS]
    targets += [
        "/features/user00001",
        "/features/nope",
        "/features/",
        "/features/" + "x" * 256,
        "/features/" + "x" * 257,
    ]
    targets += ["/features", "/livez", "/health", "/features/batch", "/features/user00001?features=age"]
    alone = {target: server.get(target) for target in targets}
    own = {"date", "x-request-id"}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for target in targets * 3:
        connection.request("GET", target)
        response = connection.getresponse()
        headers = {name: value for name, value in response.getheaders() if name.lower() not in own}
        expected = {name: value for name, value in alone[target].headers.items() if name.lower() not in own}
        assert (response.status, headers, response.read()) == (alone[target].status, expected, alone[target].body)
    connection.close()


def calls(store: FeatureStore, counted: set[str]) -> dict[str, int]:
    """Return how often each command came from clients; the scripts' own commands and ours to ask are left out."""
    inside = {"sismember", "smismember", "exists", "hget", "hmget", "time", "info", "config|resetstat"}
    found = {}
    for line in store.transport.command("INFO", "commandstats").decode().splitlines():
        if line.startswith("cmdstat_"):
            name, _, figures = line.removeprefix("cmdstat_").partition(":")
            found[name] = int(figures.split(",")[0].removeprefix("calls="))
    assert set(found) <= inside | counted, found
    return {name: found[name] for name in counted}


@single_redis("applies by the script alone, which makes no copies for partitions")
def test_a_cached_schema_learns_a_new_feature(server: HttpServer, redis_store: FeatureStore) -> None:
    name = f"later_{os.getpid()}_{time.monotonic_ns()}"
    assert name not in server.get("/features/user00001").json["features"]
    redis_store.transport.run(APPLY_SCHEMA, ["user:schema"], [name, "int"])
    try:
        redis_store.upsert([("user00001", {"age": 69.0})])
        assert server.get("/features/user00001").json["features"][name] is None
    finally:
        redis_store.transport.command("DEL", "user:schema")
        redis_store.apply(read_definition())


def test_ids_that_are_no_text_are_refused_by_every_method(valkey: Server, tmp_path: Path) -> None:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        store.apply(read_definition())
        store.upsert([("\ufffd", {"age": 1.0})])
    with serving(valkey.url, tmp_path, write_keys="key", timeout_ms="5000") as server:
        for method, body in (
            ("GET", None), ("PUT", {"features": {"age": 2.0}}), ("POST", {"incr": {"n_logins": 1}}), ("DELETE", None),
        ):  # fmt: skip
            answer = server.request(method, "/features/%E9", body, **{"X-API-Key": "key"})
            assert (answer.status, answer.json["detail"]) == (422, "the id is not valid UTF-8")
        assert server.get("/features/%EF%BF%BD?features=age").json["features"] == {"age": 1.0}
