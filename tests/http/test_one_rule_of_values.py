"""What counts as a value is one rule at every door, and an answer to a write is what the next read says."""

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import falcon.testing
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.backends import ONE_OF_EACH, Clusters, opened
from support.names import names_of, single_redis
from support.servers import Server

from featurestore import Definition, FeatureStore, Keys, Transport
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.contract.scripts import APPLY_SCHEMA
from featurestore.schema.definition import FeatureDefinition

KEY = {"X-API-Key": "right"}
FEATURES = {
    "age": "float",
    "n": "int",
    "vip": "bool",
    "zip": "string",
    "e": "float32[2]",
    "country": FeatureDefinition("string", default="ZZ"),
    "ctr": FeatureDefinition("float", max_age="1d"),
}


@pytest.fixture(params=ONE_OF_EACH)
def transport(request: pytest.FixtureRequest, servers: dict[str, Server], clusters: Clusters) -> Iterator[Transport]:
    with opened(request.param, servers, clusters) as backend:
        backend.empty()
        link = backend.transport
        FeatureStore(link).apply(Definition(features=FEATURES))  # type: ignore[arg-type]
        yield link


@pytest.fixture
def store(transport: Transport) -> FeatureStore:
    return FeatureStore(transport)


@pytest.fixture
def client(store: FeatureStore) -> falcon.testing.TestClient:
    return falcon.testing.TestClient(create_app(store, access=Access("right")))


Door = Callable[[falcon.testing.TestClient, FeatureStore, str, Any], str | None]
"""Writes, or passes, one value of a feature; returns why it was refused, None where it was taken."""


def by_put(client: falcon.testing.TestClient, _: FeatureStore, name: str, value: Any) -> str | None:
    answer = client.simulate_put("/features/u", json={"features": {name: value}}, headers=KEY)
    return None if answer.status_code == 200 else f"{answer.json['code']} {answer.json['detail']}"


def by_ndjson(client: falcon.testing.TestClient, _: FeatureStore, name: str, value: Any) -> str | None:
    line = json.dumps({"id": "u", "features": {name: value}})
    outcome = client.simulate_post("/features/ingest", body=line, headers=KEY).json
    return f"{outcome['code']} {outcome['reason']}" if outcome["verdict"] == "rejected" else None


def by_feast(client: falcon.testing.TestClient, _: FeatureStore, name: str, value: Any) -> str | None:
    body = {"push_source_name": "user", "df": {"user_id": ["u"], name: [value]}}
    answer = client.simulate_post("/push", json=body, headers=KEY)
    if answer.status_code == 200:
        return None
    return str(json.loads(answer.json)["message"].partition("the first is row 0: ")[2])


def by_python(_: falcon.testing.TestClient, store: FeatureStore, name: str, value: Any) -> str | None:
    rejected = store.upsert([("u", {name: value})]).rejected
    return f"{rejected[0].code} {rejected[0].reason}" if rejected else None


def by_passed(client: falcon.testing.TestClient, _: FeatureStore, name: str, value: Any) -> str | None:
    body = {"ids": ["u"], "features": [name], "passed": {name: value}}
    answer = client.simulate_post("/features/batch", json=body)
    return None if answer.status_code == 200 else f"BADTYPE {answer.json['detail'].removesuffix(' - at `$.passed`')}"


DOORS = [by_put, by_ndjson, by_feast, by_python, by_passed]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("zip", 1234, "zip is string, not 1234"),
        ("zip", True, "zip is string, not True"),
        ("zip", 1e2, "zip is string, not 100.0"),
        ("zip", ["a"], "zip is string, not ['a']"),
        ("age", "31", "age is float, not '31'"),
        ("age", True, "age is float, not True"),
        ("n", "7", "n is int, not '7'"),
        ("n", 7.5, "n is int, not 7.5"),
        ("n", 2**63, "n is int, not 9223372036854775808"),
        ("vip", 1, "vip is bool, not 1"),
        ("vip", "true", "vip is bool, not 'true'"),
        ("e", [1], "e is float32[2], not 1 numbers"),
        ("e", [1, "2"], "e is float32[2], not [1, '2']"),
        ("e", "12", "e is float32[2], not '12'"),
    ],
)
def test_every_door_refuses_what_is_of_another_type(  # noqa: PLR0913, PLR0917 - what a case is made of
    client: falcon.testing.TestClient, store: FeatureStore, door: Door, name: str, value: Any, reason: str
) -> None:
    assert door(client, store, name, value) == f"BADTYPE {reason}"
    assert store.get("u", [name]) in (None, {name: None})


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("zip", "1234"), ("zip", "true"), ("age", 31), ("n", 7), ("n", 7.0), ("vip", False), ("e", [1, 0.5]), ("n", None)],
)
def test_every_door_takes_what_is_of_the_type(
    client: falcon.testing.TestClient, store: FeatureStore, door: Door, name: str, value: Any
) -> None:
    assert door(client, store, name, value) is None
    if door is not by_passed:
        assert store.get("u", [name]) == {name: value}


VALUES = {
    "age": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70)),
    "n": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**52), 2**52).map(float)),
    "vip": st.one_of(st.none(), st.booleans()),
    "zip": st.one_of(st.none(), st.text(max_size=20)),
    "country": st.one_of(st.none(), st.text(max_size=3)),
    "ctr": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    "e": st.one_of(
        st.none(), st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2)
    ),
}
ROWS = st.lists(st.sampled_from(sorted(VALUES)), unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: VALUES[name] for name in names})
)
TIMES = st.sampled_from([None, 1000, 2000, "1970-01-01T00:00:03Z"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(st.tuples(ROWS, TIMES, st.sampled_from(["newest", "overwrite"])), min_size=1, max_size=3))
def test_an_answer_to_a_write_is_what_the_next_read_says(
    client: falcon.testing.TestClient, transport: Transport, writes: list[tuple[dict[str, Any], Any, str]]
) -> None:
    store = FeatureStore(transport)
    store.schema()
    members, _, features_of_u = names_of(store, "u")
    transport.command("DEL", features_of_u, members)
    for features, time, mode in writes:
        body = {"features": features, "event_time": time, "mode": mode}
        answer = client.simulate_put("/features/u", json=body, headers=KEY)
        assert answer.status_code in {200, 409}
        if answer.status_code == 200:
            echo = answer.text.partition('"features":')[2]
            names = list(answer.json["features"])
            assert set(names) <= set(features)
            if names:
                read = client.simulate_get("/features/u", params={"features": ",".join(names)})
                assert echo == read.text.partition('"features":')[2]  # to the letter: 31.0 is not 31, -0.0 not 0.0


@single_redis("counts what one connection sends")
def test_a_put_is_one_round_trip(client: falcon.testing.TestClient, store: FeatureStore) -> None:
    store.get("u", ["age", "zip"])  # the schema is known from now on
    exchanges: list[int] = []
    exchange = store.transport._exchange  # type: ignore[attr-defined]

    def counted(sent: Any) -> Any:
        exchanges.append(len(sent.encoded))
        return exchange(sent)

    store.transport._exchange = counted  # type: ignore[attr-defined]
    answer = client.simulate_put("/features/u", json={"features": {"age": -0.0, "zip": "1"}}, headers=KEY)
    assert (answer.text.partition('"features":')[2], exchanges) == ('{"age":0.0,"zip":"1"}}', [2])


def test_a_put_of_nothing_and_one_that_is_rejected_are_one_call(store: FeatureStore) -> None:
    result, selection, row = store.put("u", {})
    assert (result.verdicts, selection, row, store.get("u", ["age"])) == ("C", None, None, {"age": None})
    result, selection, row = store.put("u", {"age": "x"})
    assert ([rejected.reason for rejected in result.rejected], selection, row) == (
        ["age is float, not 'x'"],
        None,
        None,
    )


def test_names_that_mark_rows_are_no_features(client: falcon.testing.TestClient) -> None:
    for name in ("@event_time", "@event_id"):
        answer = client.simulate_put("/features/u", json={"features": {"age": 1.0, name: 5}}, headers=KEY)
        assert (answer.status_code, f"{name} is no feature" in answer.json["detail"]) == (422, True)
        answer = client.simulate_post("/features/u", json={"event": {name: 5}}, headers=KEY)
        assert (answer.status_code, f"{name} is no feature" in answer.json["detail"]) == (422, True)
    line = b'{"id":"u","features":{"age":1.0,"@event_time":5}}'
    assert client.simulate_post("/features/ingest", body=line, headers=KEY).json["code"] == "BADROW"
    assert client.simulate_get("/features/u").status_code == 404


@single_redis("applies by the script alone, which makes no copies for partitions")
@pytest.mark.parametrize("name", ["created", "event_timestamp"])
def test_a_column_that_feasts_routes_need_is_not_lost(
    transport: Transport, client: falcon.testing.TestClient, name: str
) -> None:
    words = ["age", "float", name, "int", "@join_key", "customer"]
    transport.run(APPLY_SCHEMA, [Keys.of("view").schema], words)  # by a caller of the script
    df = {"customer": ["u"], "event_timestamp": [1000], "created": [7], "age": [1.0]}
    answer = client.simulate_post("/push", json={"push_source_name": "view", "df": df}, headers=KEY)
    assert answer.status_code == 422
    assert f"view declares a feature {name}, and these routes need that column" in answer.json
    assert transport.command("SMEMBERS", "all_views") == []


LINES = b'{"id":"u","features":{"age":1.0}}\n{"id":"v","features":{"age":2}}\n'


def zipped(data: bytes, level: int = 9) -> bytes:
    """Return gzip without the time, which would be part of a test's name and another one each second."""
    return gzip.compress(data, level, mtime=0)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (LINES, {}),
        (LINES, {"Content-Type": "application/x-ndjson; charset=utf-8"}),
        (LINES, {"Content-Type": "application/x-www-form-urlencoded"}),
        (zipped(LINES), {"Content-Encoding": "gzip"}),
        (zipped(LINES[:20]) + zipped(LINES[20:]), {"Content-Encoding": "GZIP"}),
        (zipped(b"") * 998 + zipped(LINES), {"Content-Encoding": "gzip"}),
        (zipped(LINES + b" " * 400_000, 0), {"Content-Encoding": "gzip"}),  # longer than is inflated at once
        (LINES, {"Content-Encoding": "identity"}),
        (b"\xef\xbb\xbf" + LINES, {}),
    ],
)
def test_ingest_takes_ndjson_as_it_is_or_as_gzip(
    client: falcon.testing.TestClient, store: FeatureStore, body: bytes, headers: dict[str, str]
) -> None:
    answer = client.simulate_post("/features/ingest", body=body, headers=KEY | headers)
    assert [json.loads(line)["verdict"] for line in answer.content.splitlines()] == ["created", "created"]
    assert store.get_many(["u", "v"], ["age"]) == [{"age": 1.0}, {"age": 2.0}]


@pytest.mark.parametrize(
    ("body", "headers", "status", "detail"),
    [
        (b"id,age\nu,1\n", {"Content-Type": "text/csv"}, 415, "the body is text/csv: rows are taken as NDJSON"),
        (b"id,age\nu,1\n", {}, 415, "no line is a JSON object: rows are taken as NDJSON"),
        (b'["id"]\n', {}, 415, "no line is a JSON object"),
        (b"PAR1\x00\x01", {"Content-Type": "application/octet-stream"}, 415, "no line is a JSON object"),
        (zipped(LINES), {}, 415, "the body is gzip without Content-Encoding: gzip"),
        (LINES, {"Content-Encoding": "br"}, 415, "a body is sent as it is or as gzip, not as br"),
        (LINES, {"Content-Encoding": "gzip, gzip"}, 415, "a body is sent as it is or as gzip"),
        (LINES, {"Content-Encoding": "gzip"}, 400, "the body is no gzip"),
        (zipped(LINES)[:-9], {"Content-Encoding": "gzip"}, 400, "the body is gzip that ends too early"),
        (zipped(LINES) + b"x", {"Content-Encoding": "gzip"}, 400, "the body is"),
        (zipped(b"") * 1001, {"Content-Encoding": "gzip"}, 400, "the body has more than 1000 gzip members"),
        (zipped(b" " * 2_000_000), {"Content-Encoding": "gzip"}, 413, "the body may have at most 1048576 bytes"),
    ],
)
def test_ingest_refuses_other_bodies_and_says_what_it_takes(  # noqa: PLR0913, PLR0917 - likewise
    client: falcon.testing.TestClient,
    store: FeatureStore,
    body: bytes,
    headers: dict[str, str],
    status: int,
    detail: str,
) -> None:
    answer = client.simulate_post("/features/ingest", body=body, headers=KEY | headers)
    assert (answer.status_code, answer.json["detail"][: len(detail)]) == (status, detail)
    if status == 415:
        assert answer.headers["accept-encoding"] == "gzip"
    assert store.count() == 0


def test_every_body_may_be_gzip(client: falcon.testing.TestClient) -> None:
    headers = KEY | {"Content-Encoding": "gzip"}
    put = gzip.compress(b'{"features":{"age":1.5}}')
    assert client.simulate_put("/features/u", body=put, headers=headers).json["features"] == {"age": 1.5}
    batch = gzip.compress(b'{"ids":["u"],"features":["age"]}')
    assert client.simulate_post("/features/batch", body=batch, headers=headers).json[0]["features"] == {"age": 1.5}


def test_rows_with_numpys_values_and_strings_stand_or_fall_by_themselves(store: FeatureStore) -> None:
    rows = [
        (np.str_("a"), {"zip": np.str_("1"), "n": np.int64(7), "e": np.array([1, 2], np.float64)}),
        ("b", {"zip": np.int64(7)}),
        ("c", {"zip": "3"}),
    ]
    result = store.upsert(rows)  # type: ignore[arg-type]  # numpy's arrays are sequences of numbers too
    assert (result.verdicts, result.rejected[0].reason) == ("CRC", "zip is string, not 7")
    assert store.get_many(["a", "c"], ["zip", "n"]) == [{"zip": "1", "n": 7}, {"zip": "3", "n": None}]


def test_a_quick_row_is_judged_as_a_slow_one(store: FeatureStore) -> None:
    # Rows whose types were seen before go the quick way.
    times = store.upsert_table(("@event_time", "n"), [("a", "1000", 1), ("b", "", 2), ("c", "soon", 3), ("d", 2000, 4)])
    assert (times.verdicts, {row.code for row in times.rejected}) == ("CRRC", {"BADTIME"})
    result = store.upsert_table(("n", "age"), [("e", 7.0, 1), ("f", 8.0, 2), ("g", 8.5, 3), ("h", 9, 4.0)])
    assert (result.verdicts, result.rejected[0].reason) == ("CCRC", "n is int, not 8.5")
    assert store.get("f", ["n", "age"]) == {"n": 8, "age": 2.0}
