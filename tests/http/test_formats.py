"""What reads are answered as: JSON, msgpack, a stream of Arrow; against a real server, in process and as a whole."""

import http.client
import io
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import falcon.testing
import msgspec
import pyarrow as pa
import pytest
from support.backends import ONE_OF_EACH, Clusters, opened
from support.http import serving
from support.names import beside, single_redis
from support.servers import Server

from featurestore import Definition, FeatureStore
from featurestore.api import formats
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.api.counters import Board, Meter
from featurestore.api.fast_reads import FastReads
from featurestore.contract import arrow, columns
from featurestore.contract.read_calls import ReadCalls
from featurestore.schema.definition import FeatureDefinition
from featurestore.worker.interface import PLAIN_ACCEPTS

ARROW, MSGPACK, JSON = "application/vnd.apache.arrow.stream", "application/msgpack", "application/json"
FEATURES: dict[str, Any] = {
    "age": "float",
    "n": FeatureDefinition("int", default=7),
    "premium": "bool",
    "city": "string",
    "e": "float32[2]",
    "clicks": "count(10m)",
    "spent": "sum(amount, 1h)",
}
ROWS: dict[str, dict[str, Any]] = {
    "ann": {"age": 31.0, "n": 2**62, "premium": True, "city": "Zürich", "e": [0.5, -1.5]},
    "bob": {"age": -0.125, "premium": False, "city": ""},
    "eve": {},
}
IDS = ["ann", "nobody", "bob", "eve", "ann"]
NAMES = ["e", "age", "n", "premium", "city", "clicks", "spent"]


@pytest.fixture(scope="module", params=ONE_OF_EACH)
def store(request: pytest.FixtureRequest, servers: dict[str, Server], clusters: Clusters) -> Iterator[FeatureStore]:
    with opened(request.param, servers, clusters) as backend:
        backend.empty()
        link = backend.transport
        store = FeatureStore(link)
        store.apply(Definition(features=FEATURES, services={"wide": NAMES}))
        store.upsert(list(ROWS.items()), event_time=1_700_000_000_000)
        items = beside(link, "item")
        items.apply(Definition(features={"price": "float"}, entity="item"))
        items.upsert([("i1", {"price": 2.5})])
        yield store


@pytest.fixture
def client(store: FeatureStore) -> falcon.testing.TestClient:
    meter = Meter(Board())
    app = create_app(store, max_batch=20, access=Access("right"), meter=meter)
    return falcon.testing.TestClient(FastReads(store, app, meter))


def post(client: falcon.testing.TestClient, path: str, accept: str, **body: Any) -> falcon.testing.Result:
    return client.simulate_post(f"/features/{path}", json=body, headers={"Accept": accept})


def table(answer: falcon.testing.Result) -> pa.Table:
    assert (answer.status_code, answer.headers["content-type"]) == (200, ARROW)
    with pa.ipc.open_stream(answer.content) as reader:
        batches = list(reader)
    assert len(batches) == 1
    batches[0].validate(full=True)
    return pa.Table.from_batches(batches)


# Arrow


@pytest.mark.parametrize("names", [None, NAMES, ["city"]])
@pytest.mark.parametrize("way", ["extension", "python"])
def test_a_batch_as_arrow_has_the_values_of_the_one_as_json(
    client: falcon.testing.TestClient, names: list[str] | None, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "python":
        monkeypatch.setattr(columns, "filler_type", None)
    wanted = {} if names is None else {"features": names}
    found = table(post(client, "batch", ARROW, ids=IDS, **wanted))
    rows = post(client, "batch", JSON, ids=IDS, **wanted).json
    shown = list(rows[0]["features"])
    assert found.schema.names == ["user_id", "@known", *shown]
    types = {"age": pa.float64(), "n": pa.int64(), "premium": pa.bool_(), "city": pa.utf8(),
             "e": pa.list_(pa.float32(), 2), "clicks": pa.int64(), "spent": pa.float64()}  # fmt: skip
    assert found.schema.types == [pa.utf8(), pa.bool_(), *(types[name] for name in shown)]
    assert found["user_id"].to_pylist() == IDS
    assert found["@known"].to_pylist() == [True, False, True, True, True]
    for name in shown:
        assert found[name].to_pylist() == [row["features"] and row["features"][name] for row in rows]


def test_types_are_those_of_the_schema_where_nothing_is_known(client: falcon.testing.TestClient) -> None:
    found = table(post(client, "batch", ARROW, ids=["x", "y"], service="wide"))
    assert [found[name].null_count for name in NAMES] == [2] * len(NAMES)
    assert found.schema.field("n").type == pa.int64()
    assert found.schema.field("e").type == pa.list_(pa.float32(), 2)


def test_metadata_are_columns_behind_the_features(client: falcon.testing.TestClient) -> None:
    body = {"ids": ["ann", "nobody", "bob"], "features": ["age", "n"], "metadata": True, "passed": {"age": 5}}
    found = table(post(client, "batch", ARROW, **body))
    rows = post(client, "batch", JSON, **body).json
    assert found.schema.names == ["user_id", "@known", "age", "n", "@event_time", "@age_ms", "age@status",
                                  "age@event_time", "n@status", "n@event_time"]  # fmt: skip
    time = datetime.fromtimestamp(1_700_000_000, UTC)
    assert found.schema.field("@event_time").type == pa.timestamp("ms", "UTC")
    assert found["@event_time"].to_pylist() == [time, None, time]
    assert found["n@event_time"].to_pylist() == [time, None, None]
    assert found["age"].to_pylist() == [5.0, None, 5.0]
    for name in ("age", "n"):
        statuses = [row["features"] and row["metadata"]["statuses"][name] for row in rows]
        assert found[f"{name}@status"].to_pylist() == statuses
    assert statuses == ["PRESENT", None, "DEFAULT"]
    ages = found["@age_ms"].to_pylist()
    assert ages[1] is None
    assert 0 <= ages[0] - rows[0]["metadata"]["age_ms"] + 60_000 <= 60_000


def test_passed_values_and_ages_need_no_metadata(client: falcon.testing.TestClient) -> None:
    body = {"ids": ["ann", "nobody"], "features": ["e", "age"], "passed": {"e": [1, 2]}, "max_age": "1ms"}
    found = table(post(client, "batch", ARROW, **body))
    assert found.schema.names == ["user_id", "@known", "e", "age"]
    assert found["e"].to_pylist() == [[1.0, 2.0], None]
    assert found["age"].to_pylist() == [None, None]


@pytest.mark.parametrize("told", ["features", "metadata"])
def test_a_query_as_arrow_has_the_ids_of_each_entity(client: falcon.testing.TestClient, told: str) -> None:
    rows = [{"user": "ann", "item": "i1"}, {"user": "bob", "item": "x"}, {"item": "i1"}, {"user": "nobody"}]
    body: dict[str, Any] = {"rows": rows, "features": ["item:price", "e", "user:n"]}
    body["metadata"] = told == "metadata"
    found, answer = table(post(client, "query", ARROW, **body)), post(client, "query", JSON, **body).json
    names = found.schema.names
    assert names[:7] == ["item:@id", "item:@known", "user:@id", "user:@known", "item:price", "e", "user:n"]
    for place, name in enumerate(answer["names"]):
        assert found[name].to_pylist() == [row[place] for row in answer["rows"]]
    assert found["item:@id"].to_pylist() == ["i1", "x", "i1", None]
    assert found["item:@known"].to_pylist() == [True, False, True, False]
    assert found["user:@known"].to_pylist() == [True, True, False, False]
    if told == "features":
        assert len(names) == 7
        return
    assert names[7:] == ["item:@event_time", "item:@age_ms", "user:@event_time", "user:@age_ms", "item:price@status",
                         "e@status", "user:n@status"]  # fmt: skip
    for place, name in enumerate(answer["names"]):
        assert found[f"{name}@status"].to_pylist() == [row["statuses"][place] for row in answer["metadata"]]
    time = datetime.fromtimestamp(1_700_000_000, UTC)
    assert found["user:@event_time"].to_pylist() == [time, time, None, None]


def test_a_query_whose_rows_have_all_ids_is_filled_like_a_batch(client: falcon.testing.TestClient) -> None:
    rows = [{"user": each, "item": item} for each, item in zip(IDS, ["i1", "x", "i1", "i1", "y"], strict=True)]
    names = ["city", "item:price", *[f"user:{name}" for name in NAMES], "n"]
    found = table(post(client, "query", ARROW, rows=rows, features=names))
    answer = post(client, "query", JSON, rows=rows, features=names).json
    assert found.schema.names == ["user:@id", "user:@known", "item:@id", "item:@known", *names]
    assert found["user:@id"].to_pylist() == IDS
    assert found["user:@known"].to_pylist() == [True, False, True, True, True]
    assert found["item:@known"].to_pylist() == [True, False, True, True, False]
    for place, name in enumerate(names):
        assert found[name].to_pylist() == [row[place] for row in answer["rows"]]
    assert post(client, "query", ARROW, rows=[{"shop": "s"}], features=["age"]).status_code == 422
    assert post(client, "query", ARROW, rows=[{"user": ""}], features=["age"]).json["code"] == "BADID"


# msgpack


def test_msgpack_has_the_structure_of_json_and_the_types_of_the_schema(client: falcon.testing.TestClient) -> None:
    accept = {"Accept": MSGPACK}
    for path in ("ann", "bob", "eve", "ann?features=e,age,n", "ann?service=wide", "batch?max_age=1h"):
        plain, packed = (client.simulate_get(f"/features/{path}", headers=each) for each in ({}, accept))
        assert plain.status_code == packed.status_code
        if plain.status_code == 200:
            assert packed.headers["content-type"] == MSGPACK
            assert packed.headers["vary"] == "Accept"
            assert msgspec.msgpack.decode(packed.content) == plain.json
        else:
            assert packed.json == plain.json
    packed = client.simulate_get("/features/ann?features=age,n,e&metadata=true", headers=accept)
    answer = msgspec.msgpack.decode(packed.content)
    assert answer["metadata"]["statuses"] == dict.fromkeys(["age", "n", "e"], "PRESENT")
    assert b"\xa3age\xcb\x40\x3f" in packed.content  # 31.0 is a float of 64 bits
    assert b"\xa1e\x92\xca\x3f\x00\x00\x00\xca\xbf\xc0\x00\x00" in packed.content  # a vector has floats of 32
    for path, body in (
        ("batch", {"ids": IDS}),
        ("batch", {"ids": IDS, "features": NAMES}),
        ("batch", {"ids": IDS, "features": ["e", "n"], "passed": {"e": [1, 2]}}),
        ("query", {"rows": [{"user": "ann", "item": "i1"}, {}], "features": ["item:price", "e"]}),
    ):
        plain, packed = (post(client, path, each, **body) for each in (JSON, MSGPACK))
        assert (packed.status_code, packed.headers["content-type"]) == (200, MSGPACK)
        assert msgspec.msgpack.decode(packed.content) == plain.json


def test_long_vectors_are_arrays_of_32_bit_floats() -> None:
    numbers = [float(number) for number in range(20)]
    written = formats.MSGPACK.encode(
        formats.MSGPACK.value(pa.array(numbers, pa.float32()).buffers()[1].to_pybytes()[:80])
    )
    assert written[:4] == b"\xdc\x00\x14\xca"
    assert msgspec.msgpack.decode(written) == numbers


# What is accepted


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        ("Application/JSON", JSON),
        (MSGPACK, MSGPACK),
        (ARROW, ARROW),
        (f"{ARROW}, {JSON};q=0.5", ARROW),
        (f"{ARROW};q=0.4, {JSON};q=0.5, */*;q=0.1", JSON),
        (f"{MSGPACK}, {ARROW};q=0.9", MSGPACK),
        (f"{MSGPACK}, */*;q=0.1", MSGPACK),
        (f"{JSON};q=0, */*", MSGPACK),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("text/html", None),
        (f"{JSON};q=0", None),
        ("image/png, text/*", None),
        ("nonsense", JSON),
        ("", JSON),
    ],
)
def test_the_most_wanted_type_is_answered(client: falcon.testing.TestClient, accept: str, expected: str | None) -> None:
    for path, body in (("batch", {"ids": ["ann"]}), ("query", {"rows": [{"user": "ann"}], "features": ["age"]})):
        answer = post(client, path, accept, **body)
        assert answer.headers["content-type"] == (expected or "application/problem+json")
        assert answer.headers["vary"] == "Accept"
        assert answer.status_code == (200 if expected else 406)
    read = client.simulate_get("/features/ann", headers={"Accept": accept})
    assert read.headers["vary"] == "Accept"
    of_one = expected if expected != ARROW or JSON not in accept else JSON
    if of_one in {JSON, MSGPACK}:
        assert (read.status_code, read.headers["content-type"]) == (200, of_one)
    else:
        assert (read.status_code, read.json["detail"]) == (406, f"the answer can be {JSON}, {MSGPACK}")


@pytest.mark.parametrize("accept", sorted(filter(None, PLAIN_ACCEPTS)))
def test_what_the_worker_takes_for_plain_wants_json(accept: str) -> None:
    assert formats._best(accept, formats._ALL) is formats.JSON


def test_one_entity_as_msgpack_is_one_call_of_get_features(
    client: falcon.testing.TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReadCalls, "many", lambda *_: pytest.fail("a call of get_features_batch"))
    for query in ("", "?features=e,age"):
        answer = client.simulate_get(f"/features/ann{query}", headers={"Accept": MSGPACK})
        assert msgspec.msgpack.decode(answer.content)["features"]["age"] == 31.0


def test_what_there_is_is_told(client: falcon.testing.TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = post(client, "batch", "text/csv", ids=["ann"])
    assert (answer.status_code, answer.headers["vary"]) == (406, "Accept")
    assert answer.json == {
        "title": "Not Acceptable", "status": 406, "detail": f"the answer can be {JSON}, {MSGPACK}, {ARROW}",
    }  # fmt: skip
    monkeypatch.setattr(arrow, "is_there", lambda: False)
    lacking = post(client, "batch", ARROW, ids=["ann"])
    assert lacking.status_code == 406
    assert lacking.json["detail"] == (
        f"the answer can be {JSON}, {MSGPACK}; for {ARROW} the server needs pyarrow: {arrow.EXTRA}"
    )
    assert post(client, "batch", f"{ARROW}, {JSON};q=0.5", ids=["ann"]).headers["content-type"] == JSON
    assert post(client, "batch", "text/csv", ids=["ann"]).json["detail"] == f"the answer can be {JSON}, {MSGPACK}"
    assert client.simulate_post(
        "/features/ingest", body=b"", headers={"Content-Type": ARROW, "X-API-Key": "right"}
    ).status_code == 415  # fmt: skip


def test_errors_are_problems_whatever_is_accepted(client: falcon.testing.TestClient) -> None:
    for accept in (ARROW, MSGPACK):
        wrong = post(client, "batch", accept, ids=["ann"], features=["nope"])
        assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
        assert wrong.json["code"] == "UNDECLARED"
    unknown = client.simulate_get("/features/nobody", headers={"Accept": MSGPACK})
    assert (unknown.status_code, unknown.json["code"]) == (404, "UNKNOWN")


@single_redis("starts a server of its own over the single Redis")
def test_a_connection_is_answered_as_each_of_its_requests_asks(
    servers: dict[str, Server], store: FeatureStore, tmp_path: Path
) -> None:
    with serving(servers["valkey9"].url, tmp_path, timeout_ms="5000", connect_timeout_ms="5000") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        mixed = f"{JSON};q=0.1, {MSGPACK}"
        accepts = [MSGPACK, MSGPACK, MSGPACK, JSON, JSON, None, None, MSGPACK, mixed, "text/csv"]
        for accept, target in itertools.product(accepts, ["/features/ann", "/features/ann?features=n,age"]):
            connection.request("GET", target, headers={} if accept is None else {"Accept": accept})
            response = connection.getresponse()
            body = response.read()
            if accept == "text/csv":
                assert response.status == 406
                continue
            packed = accept is not None and MSGPACK in accept
            assert response.headers["vary"] == "Accept"
            assert response.headers["content-type"] == (MSGPACK if packed else JSON)
            found = msgspec.msgpack.decode(body) if packed else json.loads(body)
            assert found["features"]["n"] == 2**62
        body = json.dumps({"ids": IDS, "features": NAMES}).encode()
        connection.request("POST", "/features/batch", body, {"Accept": ARROW})
        read = pa.ipc.open_stream(io.BytesIO(connection.getresponse().read())).read_all()
        assert read["city"].to_pylist() == ["Zürich", None, "", None, "Zürich"]
        connection.close()
    assert store.count() == 3


def test_a_schema_that_changed_is_read_again(client: falcon.testing.TestClient, store: FeatureStore) -> None:
    assert "later" not in table(post(client, "batch", ARROW, ids=["ann"])).schema.names
    other = FeatureStore(store.transport)
    other.apply(Definition(features={"later": "int"}))
    other.upsert([("ann", {"later": 3})])
    assert table(post(client, "batch", ARROW, ids=["ann"]))["later"].to_pylist() == [3]


def test_values_that_are_passed_cost_no_more_than_the_read(
    store: FeatureStore, client: falcon.testing.TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("times and statuses were read")

    plain = client.simulate_post("/features/batch", json={"ids": ["ann", "nobody"]}).json
    monkeypatch.setattr(store, "fetch_fresh", refuse)
    name = next(name for name, value in plain[0]["features"].items() if type(value) is float)
    found = client.simulate_post("/features/batch", json={"ids": ["ann", "nobody"], "passed": {name: 9.5}}).json
    assert found == [{**plain[0], "features": {**plain[0]["features"], name: 9.5}}, plain[1]]
