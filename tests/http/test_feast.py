"""Feast's wire contract, against a real server, in process; tests/feast_client asks with Feast's own client."""

from collections.abc import Iterator, Sequence
from typing import Any

import falcon.testing
import msgspec
import pytest
from support.servers import Server

from featurestore import Definition, FeatureStore, Keys, SyncTransport
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.contract.resp import Reply
from featurestore.contract.scripts import Script
from featurestore.errors import FeatureStoreError

KEY = {"Authorization": "Bearer right"}


class CountingTransport(SyncTransport):
    """Counts how often it waits for Redis."""

    round_trips = 0

    def run_many_encoded(
        self, script: Script, encoded: Sequence[bytes], **options: Any
    ) -> list[Reply | FeatureStoreError]:
        self.round_trips += 1
        return super().run_many_encoded(script, encoded, **options)

    def run_encoded(self, script: Script, encoded: bytes) -> Reply:
        self.round_trips += 1
        return super().run_encoded(script, encoded)

    def command(self, *words: str | bytes | int, **options: bool) -> Reply:
        self.round_trips += 1
        return super().command(*words, **options)


@pytest.fixture
def transport(servers: dict[str, Server]) -> Iterator[CountingTransport]:
    link = CountingTransport(servers["valkey9"].socket_url, timeout=5, connect_timeout=5)
    link.command("FLUSHALL")
    store = FeatureStore(link)
    store.apply(Definition(features={"n": "int"}, services={"model": ["stats:ctr", "n"]}))
    views: dict[str, dict[str, Any]] = {
        "stats": {"ctr": "float", "age": "int", "e": "float32[2]"},
        "shop": {"risk": "float", "ctr": "float"},
    }
    for entity, features in views.items():
        join_key = "user_id" if entity == "stats" else None
        definition = Definition(features=features, entity=entity, join_key=join_key)
        FeatureStore(link, Keys.of(entity)).apply(definition)
    yield link
    link.close()


@pytest.fixture
def client(transport: CountingTransport) -> falcon.testing.TestClient:
    return falcon.testing.TestClient(create_app(FeatureStore(transport), access=Access("right")))


def write(client: falcon.testing.TestClient, **columns: list[Any]) -> falcon.testing.Result:
    body = {"feature_view_name": "stats", "df": columns, "allow_registry_cache": False}
    return client.simulate_post("/write-to-online-store", json=body, headers=KEY)


def write_to(client: falcon.testing.TestClient, view: str, **columns: list[Any]) -> falcon.testing.Result:
    return client.simulate_post("/write-to-online-store", json={"feature_view_name": view, "df": columns}, headers=KEY)


def read(client: falcon.testing.TestClient, features: list[str], **entities: list[Any]) -> dict[str, Any]:
    """Return each column's values and statuses."""
    answer = client.simulate_post("/get-online-features", json={"entities": entities, "features": features}).json
    names = answer["metadata"]["feature_names"]
    columns = dict(zip(names, answer["results"], strict=True))
    return {name: (column["values"], column["statuses"]) for name, column in columns.items() if name not in entities}


def feast_error(result: falcon.testing.Result) -> tuple[int, str, str]:
    inner = msgspec.json.decode(result.json)
    assert inner.pop("module") == "feast.errors"
    return result.status_code, inner["class"], inner["message"]


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
                "statuses": ["PRESENT", "NULL_VALUE", "NOT_FOUND"],
                "event_timestamps": [times[0], never, never],
            },
            {"values": [33, 34, None], "statuses": ["PRESENT", "PRESENT", "NOT_FOUND"], "event_timestamps": times},
            {
                "values": [[0.1, 2.0], None, None],
                "statuses": ["PRESENT", "NULL_VALUE", "NOT_FOUND"],
                "event_timestamps": [times[0], never, never],
            },
        ],
        "metadata": {"feature_names": ["user_id", "ctr", "age", "e"]},
    }
    assert '"values":[1.0,null,null]' in answer.text  # a float stays one: the client infers types


def test_a_service_and_full_names(client: falcon.testing.TestClient) -> None:
    write(client, user_id=["u"], ctr=[0.5])
    write_to(client, "user", user_id=["u"], n=[3])
    body = {"entities": {"user_id": ["u"]}, "feature_service": "model", "full_feature_names": True, "features": []}
    answer = client.simulate_post("/get-online-features", json=body).json
    assert answer["metadata"]["feature_names"] == ["user_id", "stats__ctr", "user__n"]
    assert [result["values"] for result in answer["results"]] == [["u"], [0.5], [3]]


def test_several_views_are_one_round_trip_with_times_and_statuses_of_their_own(
    client: falcon.testing.TestClient, transport: CountingTransport
) -> None:
    ids = [f"u{number}" for number in range(150)]  # two calls of the script
    times = ["2026-08-21T10:00:00"] * 150
    write(client, user_id=ids, ctr=[0.5] * 150, event_timestamp=times)
    write_to(client, "shop", shop_id=[7], risk=[0.25], event_timestamp=["2026-08-21T11:00:00"])
    body = {
        "entities": {"user_id": [*ids[:149], "nobody"], "shop_id": [8] + [7] * 149},
        "features": ["stats:ctr", "user:n", "shop:risk"],
    }
    client.simulate_post("/get-online-features", json=body)  # after which every schema is known
    before = transport.round_trips
    answer = client.simulate_post("/get-online-features", json=body).json
    assert transport.round_trips == before + 1
    assert answer["metadata"]["feature_names"] == ["user_id", "shop_id", "ctr", "n", "risk"]
    ctr, n, risk = answer["results"][2:]
    never = "1970-01-01T00:00:00Z"
    assert ctr == {
        "values": [0.5] * 149 + [None],
        "statuses": ["PRESENT"] * 149 + ["NOT_FOUND"],
        "event_timestamps": ["2026-08-21T10:00:00Z"] * 149 + [never],
    }
    assert n == {"values": [None] * 150, "statuses": ["NOT_FOUND"] * 150, "event_timestamps": [never] * 150}
    assert risk == {
        "values": [None] + [0.25] * 149,
        "statuses": ["NOT_FOUND"] + ["PRESENT"] * 149,
        "event_timestamps": [never] + ["2026-08-21T11:00:00Z"] * 149,
    }


def test_a_schema_that_was_replaced_is_read_again(
    client: falcon.testing.TestClient, transport: CountingTransport
) -> None:
    write(client, user_id=["u"], age=[3])
    assert read(client, ["stats:age"], user_id=["u"]) == {"age": ([3], ["PRESENT"])}
    transport.command("DEL", "stats:schema", "stats:u:features")
    views = FeatureStore(transport, Keys.of("stats"))
    views.apply(Definition(features={"age": "string"}, entity="stats", join_key="user_id"))
    views.upsert([("u", {"age": "old"})])
    assert read(client, ["stats:age"], user_id=["u"]) == {"age": (["old"], ["PRESENT"])}


def test_ints_that_became_floats_beside_gaps_are_ints(client: falcon.testing.TestClient) -> None:
    assert write(client, user_id=[1.0, 2], age=[33.0, None], ctr=[1, 2.5]).status_code == 200
    assert read(client, ["stats:age", "stats:ctr"], user_id=[1, 2.0]) == {
        "age": ([33, None], ["PRESENT", "NULL_VALUE"]),
        "ctr": ([1.0, 2.5], ["PRESENT", "PRESENT"]),
    }
    _, _, message = feast_error(write(client, user_id=[3], age=[33.5]))
    assert message == "1 of 1 rows were rejected; the first is row 0: BADTYPE age is int, not 33.5"


def test_a_row_without_a_key_is_not_found_and_not_written(client: falcon.testing.TestClient) -> None:
    status, _, message = feast_error(write(client, user_id=[None, True, "u"], age=[1, 2, 3]))
    assert (status, message.startswith("2 of 3 rows were rejected; the first is row 0: BADID")) == (422, True)
    assert read(client, ["stats:age"], user_id=[None, "u", "None", "True"]) == {
        "age": ([None, 3, None, None], ["NOT_FOUND", "PRESENT", "NOT_FOUND", "NOT_FOUND"])
    }
    assert read(client, ["stats:age"], user_id=[None]) == {"age": ([None], ["NOT_FOUND"])}
    body = {"entities": {"user_id": [1.5]}, "features": ["stats:age"]}
    assert feast_error(client.simulate_post("/get-online-features", json=body))[0] == 422


def test_times_that_rfc_3339_cannot_tell_are_its_last(
    client: falcon.testing.TestClient, transport: CountingTransport
) -> None:
    FeatureStore(transport).upsert([("u", {"n": 1})])
    transport.command("HSET", "user:u:features", "@event_time", 10**15 - 1)
    body = {"entities": {"user_id": ["u"]}, "features": ["user:n"]}
    answer = client.simulate_post("/get-online-features", json=body).json
    assert answer["results"][1]["event_timestamps"] == ["9999-12-31T23:59:59.999Z"]


def test_an_older_table_changes_nothing(client: falcon.testing.TestClient) -> None:
    write(client, user_id=[1], ctr=[2.0], event_timestamp=["2026-08-21T10:00:00"])
    assert write(client, user_id=[1], ctr=[1.0], event_timestamp=["2026-08-21T09:00:00"]).status_code == 200
    body = {"entities": {"user_id": [1]}, "features": ["stats:ctr"]}
    assert client.simulate_post("/get-online-features", json=body).json["results"][1]["values"] == [2.0]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"features": ["nope:x"]}, (404, "FeatureViewNotFoundException", "Feature view nope does not exist")),
        ({"features": ["n@v2:x"]}, (404, "FeatureViewNotFoundException", "Feature view n@v2 does not exist")),
        ({"feature_service": "x"}, (404, "FeatureServiceNotFoundException", "Feature service x does not exist")),
        ({"features": ["stats:x"]}, (422, "FeastError", "x is not declared in the schema")),
        ({"features": ["ctr"]}, (422, "FeastError", "a feature is asked for as view:feature, not 'ctr'")),
        ({"features": ["shop:risk"]}, (422, "FeastError", "shop wants the join key shop_id - at `$.entities`")),
        ({}, (422, "FeastError", "want `features` or `feature_service`")),
        ({"entities": {}}, (422, "FeastError", "want the same number of values, 1 to 1000, for every join key")),
        ({"entities": {"user_id": [""]}, "features": ["stats:age"]}, (422, "FeastError", "an id is 1 to 256 bytes")),
        ({"entities": 1}, (422, "FeastError", "Expected `object`, got `int` - at `$.entities`")),
        (
            {"features": ["stats:ctr", "shop:ctr"]},
            (422, "FeatureNameCollisionError", "Duplicate features named ctr found"),
        ),
    ],
)
def test_what_cannot_be_read_is_an_error_of_the_clients_own(
    client: falcon.testing.TestClient, body: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    result = client.simulate_post("/get-online-features", json={"entities": {"user_id": [1]}, **body})
    *kind, message = feast_error(result)
    assert (*kind, message[: len(expected[2])]) == expected


def test_one_name_in_two_views_is_told_apart_by_full_names(client: falcon.testing.TestClient) -> None:
    entities = {"user_id": [1], "shop_id": [1]}
    body = {"entities": entities, "features": ["stats:ctr", "shop:ctr"], "full_feature_names": True}
    answer = client.simulate_post("/get-online-features", json=body).json
    assert answer["metadata"]["feature_names"] == ["user_id", "shop_id", "stats__ctr", "shop__ctr"]


def test_what_cannot_be_written_is_an_error_of_the_clients_own(client: falcon.testing.TestClient) -> None:
    push: dict[str, Any] = {"push_source_name": "nope", "df": {"user_id": [1]}}
    post = client.simulate_post
    assert feast_error(post("/push", json=push, headers=KEY))[:2] == (422, "PushSourceNotFoundException")
    push["push_source_name"] = "stats"
    assert post("/push", json={**push, "to": "online"}, headers=KEY).status_code == 200
    for to in ("offline", "online_and_offline"):
        assert feast_error(post("/push", json={**push, "to": to}, headers=KEY))[:2] == (422, "FeastError")
    assert feast_error(write_to(client, "nope", user_id=[1]))[:2] == (404, "FeatureViewNotFoundException")
    wrong = write(client, user_id=[1, 2], ctr=["x", 1.0])
    message = "1 of 2 rows were rejected; the first is row 0: BADTYPE ctr is float, not 'x'"
    assert feast_error(wrong) == (422, "FeastError", message)
    assert feast_error(write(client, ctr=[1.0]))[0] == 422
    assert feast_error(write(client, user_id=[1], ctr=[1.0, 2.0]))[0] == 422
    refused = post("/push", json=push)
    assert (feast_error(refused)[:2], refused.headers["WWW-Authenticate"]) == ((401, "FeastPermissionError"), "Bearer")
    refused = post("/push", json=push, headers={"Authorization": "Bearer wrong"})
    assert feast_error(refused) == (401, "FeastPermissionError", "this API key is not known")
    assert feast_error(post("/push", body=b"{", headers=KEY))[:2] == (400, "FeastError")


def test_a_server_without_keys_takes_no_writes(transport: CountingTransport) -> None:
    readonly = falcon.testing.TestClient(create_app(FeatureStore(transport)))
    refused = write(readonly, user_id=[1], ctr=[1.0])
    assert feast_error(refused)[:2] == (405, "FeastPermissionError")


def test_a_body_that_is_too_large_is_refused(transport: CountingTransport) -> None:
    small = falcon.testing.TestClient(create_app(FeatureStore(transport), access=Access("right"), max_body_bytes=99))
    assert feast_error(write(small, user_id=["u" * 99]))[:2] == (413, "FeastError")


def test_a_view_without_a_schema_is_not_found_even_the_default_one(
    client: falcon.testing.TestClient, transport: CountingTransport
) -> None:
    transport.command("DEL", "user:schema")
    entities = {"user_id": [1]}
    for wanted in ({"features": ["user:n"]}, {"feature_service": "model"}):
        result = client.simulate_post("/get-online-features", json={"entities": entities, **wanted})
        assert feast_error(result)[0] == 404


def test_materialization_is_for_where_the_offline_store_is(client: falcon.testing.TestClient) -> None:
    for path in ("/materialize", "/materialize-incremental"):
        assert feast_error(client.simulate_post(path, json={}))[:2] == (501, "FeastError")
