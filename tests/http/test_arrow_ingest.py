"""Rows written as a stream of Arrow, over HTTP, against a real server, in process."""

import gzip
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import falcon.testing
import pandas as pd
import pyarrow as pa
import pytest
from support.backends import ONE_OF_EACH, Clusters, opened
from support.names import beside
from support.servers import Server

from featurestore import Definition, FeatureStore
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.api.counters import Board, Meter
from featurestore.api.fast_reads import FastReads

ARROW = "application/vnd.apache.arrow.stream"
FEATURES: dict[str, Any] = {"age": "float", "n": "int", "premium": "bool", "city": "string", "e": "float32[2]"}


@pytest.fixture(params=ONE_OF_EACH)
def store(request: pytest.FixtureRequest, servers: dict[str, Server], clusters: Clusters) -> Iterator[FeatureStore]:
    with opened(request.param, servers, clusters) as backend:
        backend.empty()
        link = backend.transport
        store = FeatureStore(link)
        store.apply(Definition(features=FEATURES))
        beside(link, "item").apply(Definition(features={"price": "float"}, entity="item"))
        yield store


@pytest.fixture
def client(store: FeatureStore) -> falcon.testing.TestClient:
    meter = Meter(Board())
    app = create_app(store, access=Access("right"), meter=meter, max_body_bytes=100_000)
    return falcon.testing.TestClient(FastReads(store, app, meter))


def stream(table: pa.Table) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return out.getvalue()


def ingest(
    client: falcon.testing.TestClient, body: bytes, path: str = "/features/ingest", **headers: str
) -> falcon.testing.Result:
    return client.simulate_post(path, body=body, headers={"X-API-Key": "right", "Content-Type": ARROW, **headers})


def outcomes(answer: falcon.testing.Result) -> list[dict[str, Any]]:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_rows_are_written_and_told_of_one_by_one(client: falcon.testing.TestClient, store: FeatureStore) -> None:
    vector = pa.list_(pa.float32(), 2)
    table = pa.table(
        {
            "user_id": ["ann", "bob", "", "eve"],
            "age": pa.array([31, 40, 1, None], pa.int16()),
            "n": pa.array([2.0, 2.5, 1.0, 2.0**40]),
            "premium": [True, None, False, False],
            "city": pa.array(["Zürich", None, "x", ""], pa.large_utf8()),
            "e": pa.array([[0.5, 1], None, None, [3, 4]], vector),
        }
    )
    assert outcomes(ingest(client, stream(table))) == [
        {"line": 1, "verdict": "created"},
        {"line": 2, "verdict": "rejected", "code": "BADTYPE", "reason": "n is int, not 2.5"},
        {"line": 3, "verdict": "rejected", "code": "BADID", "reason": "an id is 1 to 256 bytes of UTF-8 long, not 0"},
        {"line": 4, "verdict": "created"},
    ]
    assert store.get("ann", FEATURES) == {"age": 31.0, "n": 2, "premium": True, "city": "Zürich", "e": [0.5, 1.0]}
    assert store.get("eve", FEATURES) == {"age": None, "n": 2**40, "premium": False, "city": "", "e": [3.0, 4.0]}
    assert store.get("bob") is None


def test_a_null_removes_and_a_column_that_is_not_there_leaves(
    client: falcon.testing.TestClient, store: FeatureStore
) -> None:
    store.upsert([("ann", {"age": 1.0, "n": 1, "city": "x"})])
    table = pa.table({"id": ["ann"], "age": pa.nulls(1), "n": [2]})
    assert outcomes(ingest(client, stream(table))) == [{"line": 1, "verdict": "applied"}]
    assert store.get("ann") == {"age": None, "n": 2, "premium": None, "city": "x"}
    same = b'{"id":"ann","features":{"age":null,"n":2}}'
    answer = ingest(client, same, **{"Content-Type": "application/x-ndjson"})
    assert outcomes(answer)[0]["verdict"] == "applied"
    assert store.get("ann") == {"age": None, "n": 2, "premium": None, "city": "x"}


def test_rows_may_have_event_times(client: falcon.testing.TestClient, store: FeatureStore) -> None:
    time = datetime(2026, 5, 1, tzinfo=UTC)
    times = [time, time - timedelta(days=1), None, datetime(2126, 5, 1, tzinfo=UTC)]
    columns = {"user_id": ["ann", "ann", "bob", "eve"], "event_time": times, "n": [1, 2, 3, 4]}
    told = outcomes(ingest(client, stream(pa.table(columns))))
    assert [outcome["verdict"] for outcome in told] == ["created", "stale", "created", "rejected"]
    assert told[3]["code"] == "BADTIME"
    (described,) = store.describe_many(["ann"], ["n"])
    assert described is not None
    assert (described.event_time, described.features) == (1_777_593_600_000, {"n": 1})
    older = outcomes(ingest(client, stream(pa.table(columns).slice(1, 1)), "/features/ingest?mode=overwrite"))
    assert older == [{"line": 1, "verdict": "applied"}]
    assert store.get("ann", ["n"]) == {"n": 2}


def test_a_data_frame_is_written_for_another_entity(client: falcon.testing.TestClient, store: FeatureStore) -> None:
    frame = pd.DataFrame({"item_id": ["i1", "i2"], "price": [2.5, float("nan")]})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    told = outcomes(ingest(client, gzip.compress(stream(table)), "/entities/item/features/ingest",
                           **{"Content-Encoding": "gzip", "Content-Type": f"{ARROW}; charset=binary"}))  # fmt: skip
    assert [outcome["verdict"] for outcome in told] == ["created", "created"]
    assert store.entity("item").get_many(["i1", "i2"]) == [{"price": 2.5}, {"price": None}]


def test_what_cannot_be_written_is_told(client: falcon.testing.TestClient, store: FeatureStore) -> None:
    undeclared = outcomes(ingest(client, stream(pa.table({"id": ["a"], "nope": [1]}))))
    assert (undeclared[0]["code"], undeclared[0]["reason"]) == ("UNDECLARED", "nope is not declared in the schema")
    wrong = outcomes(ingest(client, stream(pa.table({"id": ["a"], "age": ["31"]}))))
    assert (wrong[0]["code"], wrong[0]["reason"]) == ("BADTYPE", "age is float, not '31'")
    short = outcomes(ingest(client, stream(pa.table({"id": ["a"], "e": pa.array([[1]], pa.list_(pa.float32(), 1))}))))
    assert short[0]["reason"] == "e is float32[2], not 1 numbers"
    table = stream(pa.table({"id": ["a"], "n": [1]}))
    assert ingest(client, table[:-40]).json["title"] == "Malformed Arrow"
    assert ingest(client, b"{}").status_code == 400
    assert ingest(client, stream(pa.table({"n": [1]}))).json["detail"] == "no column is called user_id or id"
    assert ingest(client, table, "/features/ingest?mode=x").status_code == 422
    assert ingest(client, bytes(100_001)).status_code == 413
    assert ingest(client, table, **{"X-API-Key": "wrong"}).status_code == 401
    csv = ingest(client, b"a,b", **{"Content-Type": "text/csv"})
    assert (csv.status_code, ARROW in csv.headers["accept"]) == (415, True)
    assert outcomes(ingest(client, stream(pa.table({"id": pa.array([], pa.utf8())})))) == []
    assert store.count() == 0


def test_what_was_read_can_be_written_back(client: falcon.testing.TestClient, store: FeatureStore) -> None:
    store.upsert([("ann", {"age": 31.0, "n": 1, "e": [1, 2]}), ("bob", {"city": "x"})])
    body = {"ids": ["ann", "bob"], "features": ["age", "n", "e", "city"]}
    read = client.simulate_post("/features/batch", json=body, headers={"Accept": ARROW})
    table = pa.ipc.open_stream(read.content).read_all().drop_columns(["@known"])
    before = store.get_many(["ann", "bob"], FEATURES)
    assert [each["verdict"] for each in outcomes(ingest(client, stream(table)))] == ["applied", "applied"]
    assert store.get_many(["ann", "bob"], FEATURES) == before
