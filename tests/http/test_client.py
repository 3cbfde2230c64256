"""The Python clients, blocking and asyncio, against the real HTTP server; faults by transports that fail on demand."""

import asyncio
import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.http import serving
from support.servers import Server, free_port

from featurestore import (
    AccessDeniedError,
    AsyncClient,
    BadArgumentsError,
    BadValueError,
    Client,
    ConfigurationError,
    DeadlineExceededError,
    Definition,
    Description,
    FeatureStore,
    FeatureStoreError,
    FeatureTable,
    Health,
    Keys,
    NoSchemaError,
    Outcome,
    SchemaChangedError,
    SyncTransport,
    UnavailableError,
    UndeclaredFeatureError,
    UnknownEntityError,
    read_definition,
)
from featurestore.contract import arrow
from featurestore.contract.columns import bools, column_of
from featurestore.errors import BadTimeError, OverloadedError

FEATURES: dict[str, Any] = {"age": "float", "n": "int", "premium": "bool", "city": "string", "e": "float32[2]"}
SERVICES = {"ads": ["n", "age"], "carts": ["age", "item:price"]}
IDS = ["u1", "a/b", "é€😀", "batch", "ingest", "query", "%41", "a b", "x" * 256, "..", ".", "a?b#c", "a,b", "u;v"]
KEY = "right"


class Awaited:
    """An AsyncClient whose methods are awaited at once, to run the same tests on."""

    def __init__(self, base_url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(base_url, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


KINDS: dict[str, Callable[..., Any]] = {"blocking": Client, "asyncio": Awaited}


@pytest.fixture(params=list(KINDS))
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of either kind, which are closed after the test."""
    made = []

    def make(base_url: str, **options: Any) -> Any:
        made.append(KINDS[request.param](base_url, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="module")
def url(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server over an empty Redis with the schemas of users and items."""
    transport = SyncTransport(servers["valkey9"].url, timeout=5, connect_timeout=5)
    transport.command("FLUSHALL")
    FeatureStore(transport).apply(Definition(features=FEATURES, services=SERVICES))
    FeatureStore(transport, Keys.of("item")).apply(Definition(features={"price": "float"}, entity="item"))
    windows: dict[str, Any] = {"clicks": "count(10m)", "spent": "sum(amount, 1h)"}
    FeatureStore(transport, Keys.of("shop")).apply(Definition(features=windows, entity="shop"))
    transport.close()
    settings = {"timeout_ms": "5000", "write_keys": KEY, "max_batch": "20"}
    with serving(servers["valkey9"].url, tmp_path_factory.mktemp("client"), **settings) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture
def client(connect: Callable[..., Any], url: str) -> Any:
    return connect(url, api_key=KEY, timeout=10)


# Reading


def test_an_entity_is_a_dict_and_an_unknown_one_none(client: Any) -> None:
    features = {"age": 31.0, "n": 2**63 - 1, "premium": True, "city": "00123", "e": [0.5, 2.0]}
    assert client.upsert("reader", features) in {"created", "applied"}
    found = client.get("reader")
    assert found == {"age": 31.0, "n": 2**63 - 1, "premium": True, "city": "00123"}  # vectors when asked for alone
    assert [type(value) for value in found.values()] == [float, int, bool, str]
    assert client.get("reader", ["e", "age", "e"]) == {"e": [0.5, 2.0], "age": 31.0}
    assert client.get("nope") is None
    assert client.get("nope", ["age"]) is None


@pytest.mark.parametrize("entity_id", IDS)
def test_any_text_is_an_id(client: Any, entity_id: str) -> None:
    (outcome,) = client.upsert_many([(entity_id, {"age": 7.0})])
    assert outcome.verdict in {"created", "applied"}
    assert client.get(entity_id, ["age"]) == {"age": 7.0}
    assert client.get_many([entity_id], ["age"]).to_dict() == [{"age": 7.0}]
    if entity_id in {"batch", "ingest", "query"}:
        with pytest.raises(BadArgumentsError, match="upsert_many alone"):
            client.upsert(entity_id, {"age": 8.0})
        with pytest.raises(BadArgumentsError, match="upsert_many alone"):
            client.delete(entity_id)
    else:
        assert client.upsert(entity_id, {"age": 8.0}) == "applied"
        assert client.get(entity_id) == {"age": 8.0, "n": None, "premium": None, "city": None}
        assert client.delete(entity_id) is True


def test_many_entities_are_a_table_in_the_order_asked(client: Any) -> None:
    client.upsert_many([("t1", {"age": 1.5, "premium": False, "city": "Rome"}), ("t2", {"n": 3})])
    table = client.get_many(["t2", "nope", "t1", "t2"])
    assert isinstance(table, FeatureTable)
    assert (table.ids, table.names) == (("t2", "nope", "t1", "t2"), ("age", "n", "premium", "city"))
    assert table[1] is None
    assert table[0] == table[3] == {"age": None, "n": 3, "premium": None, "city": None}
    matrix = client.get_many(["t1", "nope"], ["premium", "age", "premium"]).to_numpy()
    np.testing.assert_array_equal(matrix, [[0.0, 1.5], [np.nan, np.nan]])
    assert client.get_many(["nope"], ["age", "n"]).to_numpy().shape == (1, 2)


def test_services_and_ages(client: Any) -> None:
    now = int(time.time() * 1000)
    client.upsert("s", {"age": 1.5}, event_time=now - 3_600_000)
    client.upsert("s", {"n": 7}, event_time=now - 1_000)
    assert client.get("s", service="ads") == {"n": 7, "age": 1.5}
    assert client.get("s", service="ads", max_age="10m") == {"n": 7, "age": None}
    assert client.get("s", ["age"], max_age=60_000) == {"age": None}
    table = client.get_many(["nope", "s"], service="ads", max_age="10m")
    assert (table.names, table.to_dict()) == (("n", "age"), [None, {"n": 7, "age": None}])
    found = client.describe("s", ["n", "age", "city"], max_age="10m")
    assert isinstance(found, Description)
    assert (found.features, found.event_time) == ({"n": 7, "age": None, "city": None}, now - 1_000)
    assert found.statuses == {"n": "PRESENT", "age": "STALE", "city": "MISSING"}
    assert client.query([{"user": "s"}], ["n", "age"], max_age="10m")[0] == {"n": 7, "age": None}
    assert found.age_ms is not None
    assert 1_000 <= found.age_ms < 60_000
    assert client.describe("nope") is None
    nobody, same = client.describe_many(["nope", "s"], ["n", "age"])
    assert nobody is None
    assert (same.features, same.statuses) == ({"n": 7, "age": 1.5}, {"n": "PRESENT", "age": "PRESENT"})


def test_passed_values_take_the_place_of_stored_ones(client: Any) -> None:
    client.upsert("p", {"age": 1.5, "n": 7})
    passed = {"n": np.int64(8), "e": np.array([0.5, 2.0])}
    assert client.get_many(["p", "nope"], ["age", "n", "e"], passed=passed).to_dict() == [
        {"age": 1.5, "n": 8, "e": [0.5, 2.0]}, None]  # fmt: skip
    (found,) = client.describe_many(["p"], ["e", "n"], passed={"e": [1, 2]})
    assert (found.features["e"], found.statuses) == ([1.0, 2.0], {"e": "PRESENT", "n": "PRESENT"})
    assert client.query([{"user": "p"}], ["age", "n"], passed={"age": 2.5}).to_dict() == [{"age": 2.5, "n": 7}]


def test_several_entities_side_by_side(client: Any) -> None:
    client.upsert("q", {"age": 1.5, "city": "Rome"})
    client.upsert("i9", {"price": 9.5}, entity="item")
    rows = [{"user": "q", "item": "i9"}, {"user": "nope", "item": "i9"}, {"user": "q"}]
    table = client.query(rows, service="carts")
    assert table.names == ("age", "item:price")
    assert table.ids == ("user:q item:i9", "user:nope item:i9", "user:q")
    np.testing.assert_array_equal(table.to_numpy(), [[1.5, 9.5], [np.nan, 9.5], [1.5, np.nan]])
    assert client.query(rows, ["item:price", "city"])[0] == {"item:price": 9.5, "city": "Rome"}


def test_tables_come_as_columns_with_the_types_of_the_schema(client: Any) -> None:
    client.upsert_many([("c1", {"age": 1.5, "e": [0.5, 1]}), ("c2", {"premium": True})])
    names = ["e", "age", "n", "premium", "city"]
    table = client.get_many(["c1", "nope", "c2"], names)
    assert table.types == {name: FEATURES[name] for name in names}
    np.testing.assert_array_equal(table.column("e"), [[0.5, 1.0], [np.nan, np.nan], [np.nan, np.nan]])
    assert table.column("e").dtype == "float32"
    assert [str(kind) for kind in table.to_pandas().dtypes] == ["object", "float64", "Int64", "boolean", "object"]
    read = pa.table(table)
    assert read.schema.names == ["user_id", "@known", *names]
    assert read["@known"].to_pylist() == [True, False, True]
    side_by_side = client.query([{"user": "c1", "item": "nope"}], ["n", "item:price", "e"])
    assert side_by_side.types == {"n": "int", "item:price": "float", "e": "float32[2]"}
    assert side_by_side.to_arrow().schema.names[:4] == ["user:@id", "user:@known", "item:@id", "item:@known"]
    windows = client.get_many(["nope"], entity="shop")
    assert windows.types == {"clicks": "int", "spent": "float"}
    assert windows.to_arrow().schema.names[:2] == ["shop_id", "@known"]


def test_without_the_library_tables_come_as_json(
    connect: Callable[..., Any], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(url, api_key=KEY, timeout=10)
    client.upsert_many([("j1", {"age": 1.5, "e": [0.5, 1]}), ("j2", {"n": 3})])
    names, rows = ["e", "age", "n"], [{"user": "j1"}, {"user": "j2"}]
    tables = []
    for usable in (True, False):
        monkeypatch.setattr(arrow, "is_there", lambda usable=usable: usable)
        tables.append((client.get_many(["j1", "nope", "j2"], names), client.query(rows, names)))
    (columns, columns_of_query), (plain, plain_of_query) = tables
    assert (plain.types, plain_of_query.types) == ({}, {})
    assert (columns, columns_of_query) == (plain, plain_of_query)
    np.testing.assert_array_equal(columns.to_numpy(["n", "age"]), plain.to_numpy(["n", "age"]))


def test_an_answer_of_json_is_read_too_and_damaged_columns_are_told(connect: Callable[..., Any]) -> None:
    asked: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:  # as a server does that has no columns
        asked.append(request.headers["accept"])
        return httpx.Response(200, json=[{"user_id": "a", "features": {"age": 1.5}}])

    table = connect("http://x", transport=httpx.MockTransport(note)).get_many(["a"], ["age"])
    assert (table.to_dict(), table.types) == ([{"age": 1.5}], {})
    assert asked == [f"{arrow.MEDIA_ARROW}, application/json;q=0.5"]
    two = arrow.stream_of(2, ["user_id", "@known", "age"], [column_of("string", "ab"), bools([True] * 2),
                                                           column_of("float", [1.0, 2.0])])  # fmt: skip
    for body in (b"", two[:-60], b"[]", two):
        answer = httpx.Response(200, content=body, headers={"content-type": arrow.MEDIA_ARROW})
        client = connect("http://x", transport=httpx.MockTransport(lambda _, answer=answer: answer))
        with pytest.raises(FeatureStoreError, match="this is no answer of a feature server"):
            client.get_many(["a"], ["age"])


def test_no_ids_are_an_empty_table_without_a_request(connect: Callable[..., Any]) -> None:
    nowhere = connect(f"http://127.0.0.1:{free_port()}")
    assert nowhere.get_many([], ["age"]).to_numpy().shape == (0, 1)
    assert nowhere.describe_many([]) == []
    assert nowhere.query([], ["age", "item:price"]).to_numpy().shape == (0, 2)
    assert nowhere.upsert_many([]) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda client: client.get("u", ["nope"]), UndeclaredFeatureError, "^nope is not declared in the schema$"),
        (lambda client: client.get_many(["u"], ["a&b=c"]), UndeclaredFeatureError, "a&b=c is not declared"),
        (lambda client: client.get("u", ["a&b=c"]), UndeclaredFeatureError, "^a&b=c is not declared"),
        (lambda client: client.get(""), BadArgumentsError, "256 bytes of UTF-8 long, not 0"),
        (lambda client: client.get("x" * 257), BadArgumentsError, "not 257"),
        (lambda client: client.get("\ud800"), BadArgumentsError, "unicode text"),
        (lambda client: client.get_many(["u", ""]), BadArgumentsError, "not 0"),
        (lambda client: client.get_many(["u"] * 21), BadArgumentsError, "21 ids, at most 20"),
        (lambda client: client.get("u", []), BadArgumentsError, "at least one feature"),
        (lambda client: client.get_many(["u"], "age"), BadArgumentsError, "not the text 'age'"),
        (lambda client: client.get("u", ["age"], service="ads"), BadArgumentsError, "not both"),
        (lambda client: client.get_many(["u"], ["age"], service="ads"), BadArgumentsError, "not both"),
        (lambda client: client.get("u", service="a&b=c"), UndeclaredFeatureError, "no service a&b=c is"),
        (lambda client: client.describe_many(["u"], service="nope"), UndeclaredFeatureError, "no service nope"),
        (lambda client: client.get("u", max_age="soon"), BadArgumentsError, "'soon' is no span of time"),
        (lambda client: client.get_many(["u"], max_age=-1), BadArgumentsError, "'-1' is no span of time"),
        (lambda client: client.get_many(["u"], ["n"], passed={"age": 1.0}), BadArgumentsError, "age is not asked for"),
        (lambda client: client.get_many(["u"], passed={"age": "x"}), BadValueError, "age is float, not 'x'"),
        (lambda client: client.get_many(["u"], passed={"age": float("inf")}), BadValueError, "age cannot be inf"),
        (lambda client: client.query([{"user": "u"}]), BadArgumentsError, "name the features or a service"),
        (lambda client: client.query([{"user": "u"}], ["nope"]), UndeclaredFeatureError, "nope is not declared"),
        (lambda client: client.query([{"item": "i"}], ["age"]), BadArgumentsError, "no feature of 'item'"),
        (lambda client: client.query([{"nope": "i"}], ["nope:x"]), NoSchemaError, "no entity nope has a schema"),
        (lambda client: client.query([{"user": ""}], ["age"]), BadArgumentsError, "not 0"),
        (lambda client: client.query([{"user": "u"}] * 21, ["age"]), BadArgumentsError, "21 rows, at most 20"),
        (lambda client: client.record("u", {"amount": 1}), UndeclaredFeatureError, "no sliding window"),
        (lambda client: client.record("u", {"amount": float("inf")}), BadValueError, "amount cannot be inf"),
        (lambda client: client.get("u", entity="nope"), NoSchemaError, "no entity nope has a schema"),
        (lambda client: client.get_many(["u"], entity="nope"), NoSchemaError, "no entity nope has a schema"),
        (lambda client: client.delete("u", entity="nope"), NoSchemaError, "no entity nope has a schema"),
        (lambda client: client.upsert("u", {"nope": 1}), UndeclaredFeatureError, "^nope is not declared"),
        (lambda client: client.upsert("u", {"age": "x"}), BadValueError, "^age is float, not 'x'$"),
        (lambda client: client.upsert("u", {"age": 1.0}, event_time="soon"), BadArgumentsError, "soon"),
        (lambda client: client.upsert("u", {"age": float("inf")}), BadValueError, "age cannot be inf"),
        (lambda client: client.upsert("u", {"e": [1.0, float("inf")]}), BadValueError, "e cannot be inf"),
        (lambda client: client.upsert("u", {"n": 2**63}), BadValueError, "n cannot be 9223372036854775808"),
        (lambda client: client.upsert("u", {"city": b"Rome"}), BadValueError, "city cannot be b'Rome'"),
        (lambda client: client.upsert("u", {"city": "\ud800"}), BadValueError, "city cannot be"),
        (lambda client: client.upsert("u", {"age": 1.0}, event_time=1.5), BadTimeError, "ms since 1970"),
        (lambda client: client.upsert_many([("u", {})], event_time=-1), BadTimeError, "ms since 1970"),
        (lambda client: client.upsert_many([("u", {"city": "x" * 2**20})]), BadArgumentsError, "at most 1048576 bytes"),
        (lambda client: client.increment("u", {"n": 1.5}), BadValueError, "n is int, not 1.5"),
        (lambda client: client.increment("u", {"nope": 1}), UndeclaredFeatureError, "nope is not declared"),
    ],
)
def test_what_cannot_be_asked_is_told(client: Any, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(client)


# Writing


def test_an_upsert_tells_its_verdict(client: Any) -> None:
    client.delete("w")
    assert client.upsert("w2", {"age": 1.0, "n": 1}, event_time=2000, overwrite=True) in {"created", "applied"}
    assert client.upsert("w2", {"age": 2.0}, event_time=1000) == "stale"
    assert client.get("w2", ["age"]) == {"age": 1.0}
    assert client.upsert("w2", {"age": 2.0}, event_time=1000, overwrite=True) == "applied"
    assert client.upsert("w2", {"age": 3.0}, event_time=datetime(2020, 1, 1, tzinfo=UTC)) == "applied"
    assert client.upsert("w2", {"age": 4.0}, event_time="1999-01-01T00:00:00Z") == "stale"
    assert client.upsert("w2", {"age": None, "n": np.int64(7), "e": np.array([1, 2.5])}) == "applied"
    assert client.get("w2", ["age", "n", "e"]) == {"age": None, "n": 7, "e": [1.0, 2.5]}


def test_many_upserts_have_an_outcome_each(client: Any) -> None:
    rows: list[Any] = [
        ("m1", {"age": 1.0, "@event_time": 5_000}),
        ("m2", {"age": "x"}),
        ("m3", {"age": float("inf")}),
        ("", {"age": 1.0}),
        ("m4", {"nope": 1}),
        ("m1", {"age": 2.0}),
        ("m5", {"age": 1.0, "@event_time": 1.5}),
    ]
    outcomes = client.upsert_many(rows, event_time=4_000)
    assert [outcome.code for outcome in outcomes] == [
        None, "BADTYPE", "BADTYPE", "BADID", "UNDECLARED", None, "BADTIME"]  # fmt: skip
    assert (outcomes[1].verdict, outcomes[1].reason) == ("rejected", "age is float, not 'x'")
    assert outcomes[5] == Outcome("stale")
    assert client.upsert_many(rows[5:6], event_time=4_000, overwrite=True) == [Outcome("applied")]
    assert client.upsert_many(rows[2:3]) == [Outcome("rejected", "BADTYPE", "age cannot be inf")]
    assert client.get("m1", ["age"]) == {"age": 2.0}


def test_tables_are_written_as_columns(client: Any) -> None:
    one, two = (f"{type(client).__name__}{number}" for number in (1, 2))
    columns = {
        "id": [one, two, one],
        "age": [1.5, None, 2.5],
        "city": pa.array(["x", None, "y"]).dictionary_encode(),
    }
    told = client.upsert_many(pa.table(columns))
    assert told == [Outcome("created"), Outcome("created"), Outcome("applied")]
    assert client.get_many([one, two], ["age", "city"]).to_dict() == [
        {"age": 2.5, "city": "y"}, {"age": None, "city": None}]  # fmt: skip
    frame = pd.DataFrame({"age": [7.5, 8.5]}, index=pd.Index([one, two], name="user_id"))
    assert [each.verdict for each in client.upsert_many(frame, event_time=datetime(2001, 5, 1, tzinfo=UTC))] == [
        "stale"
    ] * 2
    older = client.upsert_many(frame, event_time="2001-05-01T12:00:00Z", overwrite=True)
    assert [each.verdict for each in older] == ["applied"] * 2
    table = client.get_many([one, two], ["age", "n"])
    assert [each.verdict for each in client.upsert_many(table)] == ["applied"] * 2
    assert client.get_many([one, two], ["age", "n"]) == table
    wrong = client.upsert_many(
        pa.table({"id": [one, two], "n": [1, 2.5], "city": pa.array(["x", "y"], pa.string_view())})
    )
    assert [each.code for each in wrong] == [None, "BADTYPE"]
    assert client.upsert_many(pa.table({"item_id": ["i1"], "price": [1]}), entity="item")[0].code is None
    for rows, message in (
        (pa.table({"age": [1.5]}), "no column is called user_id or id"),
        (pa.table({"id": ["a"], "age": [b"x"]}), "column 'age' is binary"),
    ):
        with pytest.raises(BadArgumentsError, match=message):
            client.upsert_many(rows)
    with pytest.raises(BadArgumentsError, match="the table has event times of its own"):
        client.upsert_many(pa.table({"id": ["a"], "event_time": [1]}), event_time=7)


def test_increments_answer_the_sums(client: Any) -> None:
    client.upsert("c", {"n": 5})
    assert client.increment("c", {"n": 2}) == {"n": 7}
    assert client.delete("c") is True
    assert client.increment("c", {"n": 2}, event_time=1000) is None


def test_events_are_counted_in_windows(client: Any) -> None:
    shop = type(client).__name__  # of its own for each kind of client
    assert client.record(shop, {"amount": 2.5}, entity="shop") == "created"
    assert client.record(shop, {"amount": np.float64(1)}, event_time=datetime.now(UTC), entity="shop") == "applied"
    assert client.record(shop, {"amount": 1.0}, event_time=1000, entity="shop") == "stale"
    verdicts = [client.record(shop, {"amount": 4.0}, event_id="e1", entity="shop") for _ in range(2)]
    assert verdicts == ["applied", "duplicate"]
    assert client.get(shop, entity="shop") == {"clicks": 3, "spent": 7.5}


def test_deleting_tells_whether_there_was_one(client: Any) -> None:
    client.upsert("d", {"age": 1.0})
    assert [client.delete("d"), client.delete("d")] == [True, False]
    assert client.get("d") is None


def test_a_forked_process_has_connections_of_its_own(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(url, timeout=10) as client:
        before = client._http
        assert client.health().status == "healthy"
        assert client._http is before
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert client.health().status == "healthy"
        assert client._http is not before
        before.close()


def test_other_entities_have_paths_of_their_own(client: Any) -> None:
    assert client.upsert("i.9", {"price": 9.5}, entity="item") in {"created", "applied"}
    assert client.upsert_many([("i8", {"price": 8.0})], entity="item")[0].code is None
    assert client.get("i.9", entity="item") == {"price": 9.5}
    assert client.get_many(["i8", "i.9"], ["price"], entity="item").to_dict() == [{"price": 8.0}, {"price": 9.5}]
    assert client.get("i8") is None
    assert client.delete("i.9", entity="item") is True


def test_writing_needs_a_key_that_may(connect: Callable[..., Any], url: str) -> None:
    for options, message in (({}, "needs an API key"), ({"api_key": "wrong"}, "API key is not known")):
        with pytest.raises(AccessDeniedError, match=message):
            connect(url, timeout=10, **options).upsert("u", {"age": 1.0})
    assert "wrong" not in repr(connect(url, api_key="wrong"))


# Health and faults


def test_health(client: Any, connect: Callable[..., Any]) -> None:
    assert client.health() == Health("healthy")
    sick = connect("http://x", transport=answering(503, b'{"status":"unhealthy","reason":"Redis is down"}'))
    assert sick.health() == Health("unhealthy", "Redis is down")


def test_a_server_whose_redis_is_gone(connect: Callable[..., Any], tmp_path: Path) -> None:
    with serving(f"redis://127.0.0.1:{free_port()}/0", tmp_path, timeout_ms="2000") as server:
        client = connect(f"http://127.0.0.1:{server.port}", timeout=10)
        assert client.health().status == "unhealthy"
        with pytest.raises(UnavailableError, match="Redis"):
            client.get("u")


def test_nobody_listens(connect: Callable[..., Any]) -> None:
    client = connect(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError, match=r"GET http://127.0.0.1:\d+/features/u failed"):
        client.get("u", ["age"])
    with pytest.raises(UnavailableError) as caught:
        client.upsert("u", {"age": 1.0})
    assert "unknown" not in str(caught.value)  # it cannot have taken place


def test_a_server_that_does_not_answer(connect: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=30)
        with pytest.raises(DeadlineExceededError, match=r"took too long \((ReadTimeout|TimeoutError)\)$"):
            client.get("u", timeout=0.05)
        with pytest.raises(DeadlineExceededError, match="whether the write took place is unknown"):
            client.increment("u", {"n": 1}, timeout=0.05)


@contextlib.contextmanager
def trickling(at_once: bytes) -> Iterator[str]:
    """The URL of a server that answers `at_once`, then a byte at a time for as long as the client listens."""
    stop = threading.Event()

    def trickle(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.recv(65536)
            peer.sendall(at_once)
            while not stop.wait(0.02):
                peer.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        thread.join(10)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"


def test_a_time_out_holds_for_the_call_and_not_for_each_piece(connect: Callable[..., Any]) -> None:
    with trickling(HEAD) as url:
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError, match="took too long"):
            connect(url, timeout=30).get("u", timeout=0.2)
        assert 0.2 <= time.monotonic() - started < 1.0


def test_under_asyncio_a_time_out_holds_whatever_the_server_does() -> None:
    with trickling(HEAD[:20]) as url:
        client = Awaited(url, timeout=0.2)
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError, match="took too long"):
            client.get("u")
        assert 0.2 <= time.monotonic() - started < 1.0
        client.close()


def test_a_repeat_has_what_is_left_of_the_time(connect: Callable[..., Any]) -> None:
    """A server that hangs up on the first request after a while, and is silent on the second."""
    seen: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            seen.append(peer.recv(65536))
            threading.Event().wait(0.3)
        peer, _ = listener.accept()
        with peer:
            seen.append(peer.recv(65536))
            peer.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            client.get("u", timeout=0.4)
        assert 0.4 <= time.monotonic() - started < 0.65
        thread.join(10)
    assert len(seen) == 2


def test_connections_are_used_again_and_closed_ones_replaced(connect: Callable[..., Any]) -> None:
    """A server that closes without a word after the second request of its first connection."""
    seen: list[int] = []
    body = b'{"user_id":"u","features":{"age":1.0}}'
    response = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    def serve(listener: socket.socket) -> None:
        for connection in range(2):
            peer, _ = listener.accept()
            with peer:
                while received := peer.recv(65536):
                    assert received.startswith(b"GET /features/u HTTP/1.1\r\n")
                    seen.append(connection)
                    if seen == [0, 0]:
                        break
                    peer.sendall(response)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10)
        assert [client.get("u"), client.get("u"), client.get("u")] == [{"age": 1.0}] * 3
        client._http.close() if isinstance(client, Client) else client._runner.run(client._client._http.aclose())
        thread.join(10)
    assert seen == [0, 0, 1, 1]


def answering(status: int, body: bytes) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, content=body))


@pytest.mark.parametrize(
    ("failure", "tries", "error"),
    [
        (httpx.ConnectError("refused"), 2, UnavailableError),
        (httpx.ReadError("reset"), 2, UnavailableError),
        (httpx.RemoteProtocolError("closed"), 2, UnavailableError),
        (httpx.ProxyError("no way"), 1, UnavailableError),
        (httpx.ReadTimeout("late"), 1, DeadlineExceededError),
        (httpx.ConnectTimeout("late"), 1, DeadlineExceededError),
        (httpx.PoolTimeout("late"), 1, DeadlineExceededError),
    ],
)
def test_reads_are_sent_once_more_and_writes_are_not(
    connect: Callable[..., Any], failure: Exception, tries: int, error: type[Exception]
) -> None:
    sent: list[str] = []

    def fail(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        raise failure

    client = connect("http://x", transport=httpx.MockTransport(fail))
    reads: list[Callable[[], Any]] = [
        lambda: client.get("u"),
        lambda: client.get_many(["u"]),
        lambda: client.describe("u"),
        lambda: client.describe_many(["u"]),
        lambda: client.query([{"user": "u"}], ["age"]),
        client.health,
    ]
    for read in reads:
        sent.clear()
        with pytest.raises(error):
            read()
        assert len(sent) == tries
    writes: list[Callable[[], Any]] = [
        lambda: client.upsert("u", {"age": 1.0}),
        lambda: client.upsert_many([("u", {"age": 1.0})]),
        lambda: client.increment("u", {"n": 1}),
        lambda: client.record("u", {}),
        lambda: client.delete("u"),
    ]
    for write in writes:
        sent.clear()
        with pytest.raises(error):
            write()
        assert len(sent) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadArgumentsError),
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (405, AccessDeniedError),
        (413, BadArgumentsError),
        (422, BadArgumentsError),
        (429, OverloadedError),
        (500, FeatureStoreError),
        (502, UnavailableError),
        (503, UnavailableError),
        (504, DeadlineExceededError),
    ],
)
def test_statuses_become_the_packages_own_errors(
    connect: Callable[..., Any], status: int, error: type[Exception]
) -> None:
    problem = msgspec.json.encode({"title": "T", "status": status, "detail": "what was wrong"})
    client = connect("http://x", transport=answering(status, problem))
    calls: list[Callable[[], Any]] = [
        lambda: client.get("u"),
        lambda: client.get_many(["u"]),
        lambda: client.upsert("u", {}),
    ]
    for call in calls:
        with pytest.raises(FeatureStoreError, match="what was wrong") as caught:
            call()
        assert type(caught.value) is error


def test_each_request_has_the_headers_that_are_made_for_it_and_errors_have_its_id(connect: Callable[..., Any]) -> None:
    numbers = count(1)

    def answer(request: httpx.Request) -> httpx.Response:
        given = request.headers["x-request-id"]
        return httpx.Response(503, content=b'{"title":"T","status":503}', headers={"X-Request-Id": given})

    client = connect(
        "http://x",
        transport=httpx.MockTransport(answer),
        request_headers=lambda: {"X-Request-Id": f"r{next(numbers)}"},
    )
    for number in (1, 2):
        with pytest.raises(UnavailableError) as caught:
            client.get("u")
        assert caught.value.request_id == f"r{number}"
    with pytest.raises(UnavailableError) as caught:
        connect("http://x", transport=answering(503, b"")).get("u")
    assert caught.value.request_id is None
    with pytest.raises(ConfigurationError, match="request_headers is a function"):
        connect("http://x", request_headers={"X-Request-Id": "r"})


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (422, "UNDECLARED", UndeclaredFeatureError),
        (422, "BADTYPE", BadValueError),
        (422, "BADTIME", BadTimeError),
        (422, "BADARGS", BadArgumentsError),
        (422, "a later server's", BadArgumentsError),
        (404, "NOENTITY", UnknownEntityError),
        (503, "NOSCHEMA", NoSchemaError),
        (503, "SCHEMA_CHANGED", SchemaChangedError),
    ],
)
def test_codes_become_the_packages_own_errors(
    connect: Callable[..., Any], status: int, code: str, error: type[Exception]
) -> None:
    problem = msgspec.json.encode({"title": "T", "status": status, "detail": "whatever the words", "code": code})
    client = connect("http://x", transport=answering(status, problem))
    with pytest.raises(error, match=r"^whatever the words$") as caught:
        client.get("u")
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>welcome</html>"),
        (200, b'{"user_id":"u"}'),
        (200, b"\xff"),
        (302, b""),
        (404, b"<html>not here</html>"),
        (404, b'{"title":"Not Found","status":404,"detail":"no such resource"}'),
        (404, b'{"title":"Not Found","status":404,"detail":"User u not found"}'),  # by another service
    ],
)
def test_a_url_that_leads_elsewhere_is_no_unknown_user(connect: Callable[..., Any], status: int, body: bytes) -> None:
    client = connect("http://x", transport=answering(status, body))
    calls: list[Callable[[], Any]] = [
        lambda: client.get("u"),
        lambda: client.describe("u"),
        lambda: client.query([{"user": "u"}], ["age"]),
    ]
    for call in calls:
        with pytest.raises(FeatureStoreError):
            call()


@pytest.mark.parametrize("body", [b'{"user_id":"u","features":{"age":1.0}}', b'{"names":["age"],"rows":[[1.0,2.0]]}'])
def test_half_an_answer_is_none(connect: Callable[..., Any], body: bytes) -> None:
    client = connect("http://x", transport=answering(200, body))
    with pytest.raises(FeatureStoreError):
        client.describe("u")
    with pytest.raises(FeatureStoreError):
        client.query([{"user": "u"}], ["age"])


def test_requests_as_they_leave(connect: Callable[..., Any]) -> None:
    sent: list[httpx.Request] = []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, content=b'{"user_id":"u","features":null,"verdict":"applied"}')

    client = connect("http://x/base/", api_key="k", headers={"x-trace": "7"}, transport=httpx.MockTransport(note))
    client.get("a/.é", ["age", "n"])
    client.upsert("u", {"age": 1.5}, event_time=7, overwrite=True, entity="item")
    with pytest.raises(FeatureStoreError, match="no answer of a feature server"):
        client.get_many(["u"], service="s", max_age="10m", passed={"n": 1})
    read, write, batch, *_ = sent
    assert batch.content == b'{"ids":["u"],"service":"s","max_age":"600000","passed":{"n":1}}'
    assert read.url.raw_path == b"/base/features/a%2F%2E%C3%A9?features=age,n"
    assert (read.headers["x-api-key"], read.headers["x-trace"]) == ("k", "7")
    assert (write.method, write.url.raw_path) == ("PUT", b"/base/entities/item/features/u")
    assert write.headers["content-type"] == "application/json"
    assert write.content == b'{"features":{"age":1.5},"event_time":7,"mode":"overwrite"}'


# Making clients


@pytest.mark.parametrize("base_url", ["", "localhost:8000", "ftp://x", "http://", "http://x?y=1", "redis://x"])
def test_base_urls_that_cannot_be_used(base_url: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigurationError, match="the base URL must be like"):
            kind(base_url)


def test_a_key_that_no_header_can_hold_is_not_told() -> None:
    with pytest.raises(ConfigurationError, match="printable ASCII") as caught:
        Client("http://x", api_key="secret\n")
    assert "secret" not in str(caught.value)


def test_without_httpx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigurationError, match=r"pip install 'redis-featurestore[-\[]client"):
            kind("http://x")


def test_clients_are_context_managers() -> None:
    with Client("http://x/", transport=answering(200, b'{"status":"healthy"}')) as client:
        assert repr(client) == "<Client of http://x>"
        assert client.health().status == "healthy"
    assert client._http.is_closed

    async def ask() -> AsyncClient:
        async with AsyncClient("http://x", transport=answering(200, b'{"status":"healthy"}')) as client:
            assert repr(client) == "<AsyncClient of http://x>"
            assert (await client.health()).status == "healthy"
        return client

    assert asyncio.run(ask())._http.is_closed


# Documentation


def test_the_examples_of_the_documentation_print_what_they_say(
    valkey: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURESTORE_CONNECT_TIMEOUT_MS", "20000")
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        store.apply(read_definition())
    page = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    with serving(valkey.url, tmp_path, timeout_ms="5000", write_keys="secret") as server:
        code = code.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        exec(code.replace("redis://127.0.0.1:6379/0", valkey.url), {})
    said = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(said) == 32
    assert capsys.readouterr().out.splitlines() == said
