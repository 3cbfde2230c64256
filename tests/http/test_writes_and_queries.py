"""Freshness, entities, queries and writes over HTTP, against a real server, in process."""

import time
from collections.abc import Iterator
from typing import Any

import falcon.testing
import msgspec
import pytest
from support.backends import ONE_OF_EACH, Clusters, opened
from support.names import beside
from support.servers import Server

from featurestore import Definition, FeatureStore, Keys, Transport
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.api.counters import Board, Meter
from featurestore.api.fast_reads import FastReads
from featurestore.contract.scripts import APPLY_SCHEMA
from featurestore.schema.definition import FeatureDefinition

KEY = {"X-API-Key": "right"}
USER = {
    "age": "float",
    "n": FeatureDefinition("int", default=7),
    "e": "float32[2]",
    "clicks": "count(10m)",
}


@pytest.fixture(params=ONE_OF_EACH)
def transport(request: pytest.FixtureRequest, servers: dict[str, Server], clusters: Clusters) -> Iterator[Transport]:
    with opened(request.param, servers, clusters) as backend:
        backend.empty()
        link = backend.transport
        FeatureStore(link).apply(
            Definition(features=USER, services={"fraud": ["age", "item:price"], "plain": ["n"]})  # type: ignore[arg-type]
        )
        beside(link, "item").apply(Definition(features={"price": "float"}, entity="item"))
        yield link


@pytest.fixture
def client(transport: Transport) -> falcon.testing.TestClient:
    store = FeatureStore(transport)
    meter = Meter(Board())
    app = create_app(store, max_batch=5, access=Access("other, right"), meter=meter)
    return falcon.testing.TestClient(FastReads(store, app, meter))


def put(client: falcon.testing.TestClient, path: str, **body: Any) -> falcon.testing.Result:
    return client.simulate_put(path, json=body, headers=KEY)


def test_writing_needs_a_key_that_may(client: falcon.testing.TestClient, transport: Transport) -> None:
    body = {"features": {"age": 1.0}}
    missing = client.simulate_put("/features/u", json=body)
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert client.simulate_put("/features/u", json=body, headers={"X-API-Key": "wrong"}).status_code == 401
    assert client.simulate_delete("/features/u").status_code == 401
    assert client.simulate_post("/features/ingest", body=b"{}").status_code == 401
    bearer = {"Authorization": "Bearer other"}
    assert client.simulate_put("/features/u", json=body, headers=bearer).status_code == 200
    off = falcon.testing.TestClient(create_app(FeatureStore(transport)))
    refused = off.simulate_put("/features/u", json=body, headers=KEY)
    assert (refused.status_code, "FEATURESTORE_WRITE_KEYS" in refused.json["detail"]) == (405, True)


def test_put_tells_what_became_of_the_row(client: falcon.testing.TestClient) -> None:
    first = put(client, "/features/u", features={"age": 1.5, "e": [0.1, 2]}, event_time=2000)
    assert first.text == '{"user_id":"u","verdict":"created","features":{"age":1.5,"e":[0.1,2.0]}}'
    assert put(client, "/features/u", features={"age": 1.0}, event_time=1000).status_code == 409
    newer = "1970-01-01T00:00:03Z"
    assert put(client, "/features/u", features={"age": 3.0}, event_time=newer).json["verdict"] == "applied"
    assert put(client, "/features/u", features={"age": 4.0}, event_time=1, mode="overwrite").status_code == 200
    wrong = put(client, "/features/u", features={"age": "x"})
    assert wrong.status_code == 422
    assert wrong.text == (
        '{"title":"Unprocessable Entity","status":422,"detail":"age is float, not \'x\'","code":"BADTYPE"}'
    )
    assert put(client, "/features/u", features={"nope": 1}).status_code == 422
    assert put(client, "/features/u", features={"age": 1.0}, event_time="soon").status_code == 422
    assert client.simulate_get("/features/u").json["features"] == {"age": 4.0, "n": 7, "clicks": 0}
    assert client.simulate_get("/features/u", params={"features": "e"}).text == (
        '{"user_id":"u","features":{"e":[0.1,2.0]}}'
    )


def test_put_tells_what_was_written_and_not_what_was_stale(client: falcon.testing.TestClient) -> None:
    put(client, "/features/u", features={"n": 1, "e": [1, 2]}, event_time="2026-08-21T10:00:00.123Z")
    late = {"features": {"n": 2, "age": 5, "e": None}, "event_time": "2026-08-21T10:00:00.122Z"}
    answer = put(client, "/features/u", **late)
    assert answer.text == '{"user_id":"u","verdict":"partly stale","features":{"age":5.0}}'
    answer = put(client, "/features/u", features={"age": 6, "n": None, "e": None}, event_time="2026-08-21T10:00:00.122")
    assert answer.json == {"user_id": "u", "verdict": "partly stale", "features": {"age": 6.0}}
    assert client.simulate_get("/features/u").json["features"] == {"age": 6.0, "n": 1, "clicks": 0}
    misplaced = put(client, "/features/u", features={"age": 1.0, "@event_time": 5})
    assert (misplaced.status_code, misplaced.json["detail"][:26]) == (422, "@event_time is no feature:")


@pytest.mark.parametrize(
    "time",
    ["1000 overwrite", "?overwrite", "", "2026-01", "2131-05-01T12:00:00Z", "2026-08-2 1T10:00:00", 1_700_000_000, 1e9,
     -1, 10**15, True, [1]],
)  # fmt: skip
def test_an_event_time_is_a_time_and_no_option(client: falcon.testing.TestClient, time: Any) -> None:
    put(client, "/features/u", features={"age": 1.0}, event_time=2000)
    refused = put(client, "/features/u", features={"age": 2.0}, event_time=time)
    assert (refused.status_code, refused.json["code"]) == (422, "BADTIME")
    assert client.simulate_get("/features/u").json["features"]["age"] == 1.0
    bodies: list[dict[str, Any]] = [{"incr": {"n": 1}}, {"event": {}}]
    for body in bodies:
        refused = client.simulate_post("/features/u", json={**body, "event_time": time}, headers=KEY)
        assert (refused.status_code, refused.json["code"]) == (422, "BADTIME")
    line = {"id": "u", "features": {"age": 2.0}, "event_time": time}
    assert client.simulate_post("/features/ingest", json=line, headers=KEY).json["code"] == "BADTIME"
    spaced = put(client, "/features/u", features={"age": 2.0}, event_time="2026-08-21 10:00:00")
    assert spaced.json["verdict"] == "applied"


def test_json_that_is_nested_too_deeply_is_malformed(client: falcon.testing.TestClient) -> None:
    deep = "[" * 100_000 + "]" * 100_000  # Python 3.13 reads 5,000 levels
    value = f'{{"features":{{"age":{deep}}}}}'
    assert client.simulate_put("/features/u", body=value, headers=KEY).status_code == 400
    batch = f'{{"user_ids":["u"],"passed":{{"age":{deep}}}}}'
    assert client.simulate_post("/features/batch", body=batch).status_code == 400
    lines = f'{{"user_id":"a","features":{{"age":1}}}}\n{{"user_id":"b","features":{{"age":{deep}}}}}\n'
    answer = client.simulate_post("/features/ingest", body=lines, headers=KEY)
    first, second = (msgspec.json.decode(line) for line in answer.content.splitlines())
    assert (first["verdict"], second["code"]) == ("created", "BADROW")


def test_queries_say_what_is_wrong_with_their_names(client: falcon.testing.TestClient) -> None:
    for names, detail in (
        ([":age"], "':age' names no entity before the colon"),
        (["age", "n", "age"], "age is asked for twice"),
    ):
        answer = client.simulate_post("/features/query", json={"rows": [{"user": "u"}], "features": names})
        assert (answer.status_code, answer.json["detail"]) == (422, detail)


def test_options_that_nobody_would_heed_are_refused(client: falcon.testing.TestClient) -> None:
    misplaced = client.simulate_post("/features/batch", params={"metadata": "true"}, json={"user_ids": ["u"]})
    assert misplaced.json["detail"] == "there is no parameter metadata here; options go into the body"
    both = client.simulate_post("/features/batch", json={"user_ids": ["u"], "features": ["age"], "service": "s"})
    assert both.json["detail"] == "want either `features` or `service`"
    empty = client.simulate_post("/features/batch", json={"user_ids": ["u"], "max_age": ""})
    assert {misplaced.status_code, both.status_code, empty.status_code} == {422}


def test_increments_and_events(client: falcon.testing.TestClient) -> None:
    counted = client.simulate_post("/features/u", json={"incr": {"n": 2}}, headers=KEY)
    assert counted.json == {"user_id": "u", "features": {"n": 9}}
    assert client.simulate_post("/features/u", json={"event": {}}, headers=KEY).json["verdict"] == "applied"
    assert client.simulate_get("/features/u").json["features"] == {"age": None, "n": 9, "clicks": 1}
    for verdict in ("applied", "duplicate", "duplicate"):
        event = {"event": {}, "event_id": "order-17"}
        assert client.simulate_post("/features/u", json=event, headers=KEY).json == {"user_id": "u", "verdict": verdict}
    assert client.simulate_get("/features/u", params={"features": "clicks"}).json["features"] == {"clicks": 2}
    wrong: list[tuple[dict[str, Any], int]] = [
        ({}, 422),
        ({"incr": {"n": 1.5}}, 422),
        ({"event": {}, "event_time": 5}, 409),
        ({"event": {}, "event_id": ""}, 422),
        ({"incr": {"n": 1}, "event_id": "a"}, 422),
    ]
    for body, status in wrong:
        assert client.simulate_post("/features/u", json=body, headers=KEY).status_code == status


def test_deleting_twice_is_204_then_404(client: falcon.testing.TestClient) -> None:
    put(client, "/features/u", features={"age": 1.0})
    assert client.simulate_delete("/features/u", headers=KEY).status_code == 204
    assert client.simulate_delete("/features/u", headers=KEY).status_code == 404
    assert client.simulate_get("/features/u").status_code == 404
    assert put(client, "/features/u", features={"age": 1.0}, event_time=5).status_code == 409


def test_ingest_has_an_outcome_for_each_line(client: falcon.testing.TestClient) -> None:
    lines = [
        b'{"user_id":"a","features":{"age":1.0},"event_time":5}',
        b"",
        b"not json",
        b'{"user_id":"a","features":{"age":2.0},"event_time":4}',
        b'{"user_id":"b","features":{"age":"x"}}',
        b'{"user_id":"","features":{}}',
    ]
    result = client.simulate_post("/features/ingest", body=b"\n".join(lines), headers=KEY)
    outcomes = [msgspec.json.decode(line) for line in result.content.splitlines()]
    assert [(each["line"], each["verdict"], each.get("code")) for each in outcomes] == [
        (1, "created", None),
        (3, "rejected", "BADROW"),
        (4, "stale", None),
        (5, "rejected", "BADTYPE"),
        (6, "rejected", "BADID"),
    ]


def test_metadata_and_max_age(client: falcon.testing.TestClient) -> None:
    put(client, "/features/u", features={"age": 1.5}, event_time=1000)
    answer = client.simulate_get("/features/u", params={"metadata": "true", "features": "age,n"}).json
    assert answer["features"] == {"age": 1.5, "n": 7}
    assert answer["metadata"]["event_time"] == 1000
    assert answer["metadata"]["age_ms"] > 1_000_000
    assert answer["metadata"]["statuses"] == {"age": "PRESENT", "n": "DEFAULT"}
    assert client.simulate_get("/features/u", params={"max_age": "1h", "features": "age"}).json["features"] == {
        "age": None
    }
    assert client.simulate_get("/features/x", params={"metadata": "true"}).status_code == 404
    assert client.simulate_get("/features/u", params={"max_age": "soon"}).status_code == 422
    body = {"user_ids": ["u", "x"], "features": ["age", "e"], "metadata": True, "max_age": "1d"}
    user, nobody = client.simulate_post("/features/batch", json=body).json
    assert user["metadata"]["statuses"] == {"age": "STALE", "e": "MISSING"}
    assert nobody == {"user_id": "x", "features": None}


def test_passed_values_override_stored_ones_and_are_checked(client: falcon.testing.TestClient) -> None:
    put(client, "/features/u", features={"age": 1.5})
    body = {"user_ids": ["u"], "features": ["age", "n"], "passed": {"age": 9.0}}
    assert client.simulate_post("/features/batch", json=body).json == [
        {"user_id": "u", "features": {"age": 9.0, "n": 7}}
    ]
    whole = {**body, "passed": {"age": 9, "n": None}, "metadata": True}
    answer = client.simulate_post("/features/batch", json=whole)
    assert answer.text.startswith('[{"user_id":"u","features":{"age":9.0,"n":null}')  # a float is one however it came
    assert answer.json[0]["metadata"]["statuses"] == {"age": "PRESENT", "n": "MISSING"}
    for passed in ({"age": "x"}, {"clicks": 1}, {"n": 1.5}, {"n": 2**63}, {"n": True}):
        assert client.simulate_post("/features/batch", json={**body, "passed": passed}).status_code == 422


def test_other_entities_and_queries_across_them(client: falcon.testing.TestClient) -> None:
    put(client, "/features/u1", features={"age": 1.5, "e": [1.0, 2.0]})
    put(client, "/entities/item/features/i9", features={"price": 9.5})
    assert client.simulate_get("/entities/item/features/i9").json["features"] == {"price": 9.5}
    assert client.simulate_get("/entities/item/features/u1").status_code == 404
    assert client.simulate_get("/entities/item/schema").json["features"] == {"price": "float"}
    assert client.simulate_get("/entities/nope/features/u").status_code == 404
    query = {"rows": [{"user": "u1", "item": "i9"}, {"user": "x", "item": "i9"}, {"item": "y"}]}
    named = {**query, "features": ["user:age", "item:price", "user:e"]}
    assert client.simulate_post("/features/query", json=named).json == {
        "names": ["user:age", "item:price", "user:e"],
        "rows": [[1.5, 9.5, [1.0, 2.0]], [None, 9.5, None], [None, None, None]],
    }
    service = {**query, "service": "fraud", "passed": {"item:price": 1.0}}
    assert client.simulate_post("/features/query", json=service).json["rows"] == [[1.5, 1.0], [None, 1.0], [None, 1.0]]
    wrong: list[dict[str, Any]] = [
        query,
        {**query, "features": ["age"]},
        {**query, "service": "nope"},
        {"rows": [{}] * 6, "features": ["age"]},
    ]
    for body in wrong:
        assert client.simulate_post("/features/query", json=body).status_code == 422
    missing = client.simulate_post("/features/query", json={"rows": [{"user": "u1"}], "features": ["age", "nope:x"]})
    assert (missing.status_code, missing.json["code"]) == (404, "NOENTITY")
    assert missing.json["detail"] == "no entity nope has a schema"


def test_a_query_of_one_entity_answers_as_one_of_several_does(client: falcon.testing.TestClient) -> None:
    for number in range(3):
        put(client, f"/features/u{number}", features={"age": number + 0.5, "e": [0.5, -number]})
    rows: list[dict[str, str]] = [{"user": f"u{number % 4}"} for number in range(5)]
    for names in (["age"], ["e", "user:age", "n"], ["user:n", "n", "age"]):
        alone = client.simulate_post("/features/query", json={"rows": rows, "features": names})
        assert alone.json["names"] == names
        beside = {"rows": [{**row, "item": "i"} for row in rows], "features": [*names, "item:price"]}
        several = client.simulate_post("/features/query", json=beside).json["rows"]
        assert alone.json["rows"] == [row[:-1] for row in several]
        assert alone.text == msgspec.json.encode({"names": names, "rows": alone.json["rows"]}).decode()
    gap = client.simulate_post("/features/query", json={"rows": [{"user": "u1"}, {}], "features": ["age"]})
    assert gap.json == {"names": ["age"], "rows": [[1.5], [None]]}


def test_a_query_tells_age_and_status_of_each_value(client: falcon.testing.TestClient) -> None:
    put(client, "/features/u1", features={"age": 1.5}, event_time=1000)
    ahead = int(time.time() * 1000) + 3_600_000
    put(client, "/entities/item/features/i9", features={"price": 9.5}, event_time=ahead)
    body = {
        "rows": [{"user": "u1", "item": "i9"}, {"user": "x"}, {"item": "i9"}],
        "features": ["user:age", "n", "item:price", "age"],
        "metadata": True,
    }
    answer = client.simulate_post("/features/query", json=body).json
    assert answer["rows"] == [[1.5, 7, 9.5, 1.5], [None] * 4, [None, None, 9.5, None]]
    first, second, third = answer["metadata"]
    assert first["statuses"] == ["PRESENT", "DEFAULT", "PRESENT", "PRESENT"]
    assert first["entities"]["item"] == {"event_time": ahead, "age_ms": 0}
    assert first["entities"]["user"]["event_time"] == 1000
    assert first["entities"]["user"]["age_ms"] > 1_000_000
    assert second == {"entities": {"user": None}, "statuses": ["MISSING"] * 4}
    assert third["statuses"] == ["MISSING", "MISSING", "PRESENT", "MISSING"]
    strict = {**body, "max_age": "1d", "passed": {"n": 5}}
    answer = client.simulate_post("/features/query", json=strict).json
    assert answer["rows"][0] == [None, 5, 9.5, None]
    assert answer["metadata"][0]["statuses"] == ["STALE", "PRESENT", "PRESENT", "STALE"]
    answer = client.simulate_post("/features/query", json={**strict, "metadata": False}).json
    assert (list(answer), answer["rows"][0]) == (["names", "rows"], [None, 5, 9.5, None])
    assert client.simulate_post("/features/query", json={**strict, "max_age": "soon"}).status_code == 422


def test_an_id_is_called_by_its_entity(client: falcon.testing.TestClient, transport: Transport) -> None:
    shop = FeatureStore(transport, Keys.of("shop"))
    shop.apply(Definition(features={"risk": "float", "hits": "int"}, entity="shop", join_key="merchant"))
    for entity, name, feature in (
        ("item", "item_id", "price"),
        ("shop", "merchant", "risk"),
        ("user", "user_id", "age"),
    ):
        path = f"/entities/{entity}/features"
        known, unknown = {name: "x", "features": {feature: 1.0}}, {name: "y", "features": None}
        assert put(client, f"{path}/x", features={feature: 1.0}).json == {**known, "verdict": "created"}
        assert client.simulate_get(f"{path}/x", params={"features": feature}).json == known
        for ids in ("ids", f"{name}s"):
            body = {ids: ["x", "y"], "features": [feature]}
            assert client.simulate_post(f"{path}/batch", json=body).json == [known, unknown]
            described = client.simulate_post(f"{path}/batch", json={**body, "metadata": True}).json
            assert [row[name] for row in described] == ["x", "y"]
        described = client.simulate_get(f"{path}/x", params={"metadata": "true"}).json
        assert list(described) == [name, "features", "metadata"]
        lines = [{each: "z", "features": {feature: 2.0}} for each in ("id", name)]
        ndjson = b"\n".join(msgspec.json.encode(line) for line in lines)
        outcomes = client.simulate_post(f"{path}/ingest", body=ndjson, headers=KEY).content.splitlines()
        assert [msgspec.json.decode(line)["verdict"] for line in outcomes] == ["created", "applied"]
    counted = client.simulate_post("/entities/shop/features/x", json={"incr": {"hits": 1}}, headers=KEY)
    assert counted.json == {"merchant": "x", "features": {"hits": 1}}


def test_ids_of_another_entity_are_refused_by_name(client: falcon.testing.TestClient) -> None:
    path = "/entities/item/features"
    for body, wrong in (
        ({"user_ids": ["i9"]}, "Object contains unknown field `user_ids`"),
        ({}, "Object wants exactly one of `item_ids` or `ids`"),
        ({"ids": ["a"], "item_ids": ["a"]}, "Object wants exactly one of `item_ids` or `ids`"),
        ({"item_ids": ["a", 1]}, "Expected `str`, got `int` - at `$.item_ids[1]`"),
    ):
        refused = client.simulate_post(f"{path}/batch", json=body)
        assert (refused.status_code, refused.json["detail"]) == (422, wrong)
    line = b'{"user_id":"i9","features":{"price":1.0}}'
    outcome = client.simulate_post(f"{path}/ingest", body=line, headers=KEY).json
    assert (outcome["code"], outcome["reason"]) == ("BADROW", "Object contains unknown field `user_id`")


def test_the_default_entity_may_be_renamed_and_old_requests_still_work(
    client: falcon.testing.TestClient, transport: Transport
) -> None:
    FeatureStore(transport).apply(Definition(features={"age": "float"}, join_key="customer"))
    assert put(client, "/features/u", features={"age": 1.0}).json["customer"] == "u"
    for ids in ("ids", "customers", "user_ids"):
        answer = client.simulate_post("/features/batch", json={ids: ["u"], "features": ["age"]})
        assert answer.text == '[{"customer":"u","features":{"age":1.0}}]'
    for name in ("id", "customer", "user_id"):
        line = msgspec.json.encode({name: "v", "features": {"age": 2.0}})
        assert client.simulate_post("/features/ingest", body=line, headers=KEY).json["line"] == 1


@pytest.mark.parametrize("join_key", ["id", "feature", "features"])
def test_a_join_key_that_is_a_field_already_leaves_ids(
    client: falcon.testing.TestClient, transport: Transport, join_key: str
) -> None:
    transport.run(APPLY_SCHEMA, ["item:schema"], ["@join_key", join_key])  # which Definition refuses, if need be
    assert client.simulate_post("/entities/item/features/batch", json={"ids": ["i"]}).status_code == 200
    line = b'{"id":"i","features":{"price":1.0}}'
    assert client.simulate_post("/entities/item/features/ingest", body=line, headers=KEY).json["verdict"] == "created"


def test_a_service_stands_for_its_features(client: falcon.testing.TestClient) -> None:
    put(client, "/features/u", features={"age": 1.5})
    assert client.simulate_get("/features/u", params={"service": "plain"}).json["features"] == {"n": 7}
    body = {"user_ids": ["u"], "service": "plain"}
    assert client.simulate_post("/features/batch", json=body).json == [{"user_id": "u", "features": {"n": 7}}]
    assert client.simulate_get("/features/u", params={"service": "nope"}).status_code == 422
