"""Feast's wire contract, against a real server, in process."""

from collections.abc import Iterator
from typing import Any

import falcon.testing
import msgspec
import pytest
from support.servers import Server

from featurestore import Definition, FeatureStore, Keys, SyncTransport
from featurestore.access import Access
from featurestore.app import create_app

KEY = {"Authorization": "Bearer right"}


@pytest.fixture
def client(servers: dict[str, Server]) -> Iterator[falcon.testing.TestClient]:
    link = SyncTransport(servers["valkey9"].socket_url, timeout=5, connect_timeout=5)
    link.command("FLUSHALL")
    store = FeatureStore(link)
    store.apply(Definition(features={"n": "int"}, services={"model": ["stats:ctr"]}))
    views = FeatureStore(link, Keys.of("stats"))
    features: dict[str, Any] = {"ctr": "float", "age": "int", "e": "float32[2]"}
    views.apply(Definition(features=features, entity="stats", join_key="user_id"))
    yield falcon.testing.TestClient(create_app(store, access=Access("right")))
    link.close()


def write(client: falcon.testing.TestClient, **columns: list[Any]) -> falcon.testing.Result:
    body = {"feature_view_name": "stats", "df": columns, "allow_registry_cache": False}
    return client.simulate_post("/write-to-online-store", json=body, headers=KEY)


def feast_error(result: falcon.testing.Result) -> tuple[int, str]:
    inner = msgspec.json.decode(result.json)
    assert inner["module"] == "feast.errors"
    return result.status_code, inner["class"]


def test_what_was_written_is_read_by_columns(client: falcon.testing.TestClient) -> None:
    written = write(
        client,
        user_id=[1, 2],
        ctr=[1.0, None],
        age=[33, 34],
        e=[[0.1, 2.0], None],
        event_timestamp=["2026-08-21T10:00:00.123", "2026-08-21T10:00:00"],
        created=[None, None],
    )
    assert (written.status_code, written.text) == (200, "null")
    body = {"entities": {"user_id": [1, 2, 3]}, "features": ["stats:ctr", "stats:age", "stats:e"]}
    answer = client.simulate_post("/get-online-features", json=body)
    never = "1970-01-01T00:00:00Z"
    times = ["2026-08-21T10:00:00.123Z", "2026-08-21T10:00:00Z", never]
    assert answer.json == {
        "results": [
            {"values": [1, 2, 3], "statuses": ["PRESENT"] * 3, "event_timestamps": [never] * 3},
            {
                "values": [1.0, None, None],
                "statuses": ["PRESENT", "NOT_FOUND", "NOT_FOUND"],
                "event_timestamps": [times[0], never, never],
            },
            {"values": [33, 34, None], "statuses": ["PRESENT", "PRESENT", "NOT_FOUND"], "event_timestamps": times},
            {
                "values": [[0.1, 2.0], None, None],
                "statuses": ["PRESENT", "NOT_FOUND", "NOT_FOUND"],
                "event_timestamps": [times[0], never, never],
            },
        ],
        "metadata": {"feature_names": ["user_id", "ctr", "age", "e"]},
    }
    assert '"values":[1.0,null,null]' in answer.text  # a float stays one: the client infers types


def test_a_service_and_full_names(client: falcon.testing.TestClient) -> None:
    write(client, user_id=["u"], ctr=[0.5])
    body = {"entities": {"user_id": ["u"]}, "feature_service": "model", "full_feature_names": True}
    answer = client.simulate_post("/get-online-features", json=body).json
    assert answer["metadata"]["feature_names"] == ["user_id", "stats__ctr"]
    assert answer["results"][1]["values"] == [0.5]


def test_an_older_table_changes_nothing(client: falcon.testing.TestClient) -> None:
    write(client, user_id=[1], ctr=[2.0], event_timestamp=["2026-08-21T10:00:00"])
    assert write(client, user_id=[1], ctr=[1.0], event_timestamp=["2026-08-21T09:00:00"]).status_code == 200
    body = {"entities": {"user_id": [1]}, "features": ["stats:ctr"]}
    assert client.simulate_post("/get-online-features", json=body).json["results"][1]["values"] == [2.0]


def test_errors_are_those_that_the_client_knows(client: falcon.testing.TestClient) -> None:
    online = {"entities": {"user_id": [1]}, "features": ["nope:x"]}
    assert feast_error(client.simulate_post("/get-online-features", json=online)) == (
        404,
        "FeatureViewNotFoundException",
    )
    unknown = {"entities": {"user_id": [1]}, "feature_service": "nope"}
    assert feast_error(client.simulate_post("/get-online-features", json=unknown)) == (
        404,
        "FeatureServiceNotFoundException",
    )
    push = {"push_source_name": "nope", "df": {"user_id": [1]}}
    assert feast_error(client.simulate_post("/push", json=push, headers=KEY)) == (422, "PushSourceNotFoundException")
    push["push_source_name"] = "stats"
    assert client.simulate_post("/push", json=push, headers=KEY).status_code == 200
    wrong = write(client, user_id=[1, 2], ctr=["x", 1.0])
    assert (wrong.status_code, "row 0: BADTYPE ctr is float, not x" in wrong.json["detail"]) == (422, True)
    assert write(client, ctr=[1.0]).status_code == 422
    assert client.simulate_post("/push", json=push).status_code == 401
    malformed: list[dict[str, Any]] = [
        {"entities": {}},
        {"entities": {"x": [1]}, "features": ["stats:ctr"]},
        {"entities": {"user_id": [1]}},
    ]
    for body in malformed:
        assert client.simulate_post("/get-online-features", json=body).status_code == 422
