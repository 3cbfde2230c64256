"""The stores that ask Redis themselves, blocking and asyncio: the same calls, results, errors and round trips."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from support.fake import FakeTransport
from support.servers import Server, real

from featurestore import (
    AsyncFeatureStore,
    BadArgumentsError,
    BadValueError,
    DeadlineExceededError,
    Definition,
    Description,
    FeatureStore,
    FeatureTable,
    Keys,
    NoSchemaError,
    UndeclaredFeatureError,
)
from featurestore.schema.definition import FeatureDefinition

FEATURES: dict[str, Any] = {
    "age": "float",
    "n": "int",
    "city": FeatureDefinition("string", default="ZZ"),
    "e": "float32[2]",
    "clicks": "count(10m)",
    "spent": "sum(amount, 1h)",
}
USERS = Definition(features=FEATURES, services={"ads": ["n", "age"], "carts": ["age", "item:price"]})
ITEMS = Definition(features={"price": "float"}, entity="item", members="goods")


class Awaited:
    """An AsyncFeatureStore whose methods are awaited at once, to run the same tests on."""

    def __init__(self, store: AsyncFeatureStore, runner: asyncio.Runner) -> None:
        self._store, self._runner = store, runner
        self.keys = store.keys

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def entity(self, name: str) -> "Awaited":
        return Awaited(self._runner.run(self._store.entity(name)), self._runner)

    def writes_of(self, call: Callable[[], Any]) -> int:
        before = self._store.transport.writes
        call()
        return self._store.transport.writes - before


class Blocking(FeatureStore):
    """A FeatureStore that tells how often it writes."""

    def writes_of(self, call: Callable[[], Any]) -> int:
        transport: Any = self.transport
        exchange, counted = type(transport)._exchange, []

        def count(*arguments: Any, **options: Any) -> Any:
            counted.append(1)
            return exchange(*arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(transport), "_exchange", count)
            call()
        return len(counted)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURESTORE_CONNECT_TIMEOUT_MS", "20000")


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes stores of either kind, which are closed after the test."""
    made: list[Any] = []
    with asyncio.Runner() as runner:

        def make(url: str, *, timeout: float = 20.0, keys: Keys | None = None) -> Any:
            if request.param == "blocking":
                made.append(Blocking.connect(url, timeout=timeout, keys=keys))
            else:
                made.append(Awaited(AsyncFeatureStore.connect(url, timeout=timeout, keys=keys), runner))
            return made[-1]

        yield make
        for store in made:
            store.close()


@pytest.fixture(params=real("valkey9"))
def url(request: pytest.FixtureRequest, servers: dict[str, Server]) -> str:
    """The address of a server that all tests share."""
    return servers[request.param].url


@pytest.fixture
def store(connect: Callable[..., Any], url: str) -> Any:
    """A store over an empty server with the schemas of users and items."""
    with FeatureStore.connect(url, timeout=20) as admin:
        admin.transport.command("FLUSHALL")
        admin.apply(USERS)
    connect(url, keys=Keys.of("item")).apply(ITEMS)
    return connect(url)


def test_reads_and_writes(store: Any) -> None:
    result = store.upsert([("a", {"age": 1.5, "n": 2**63 - 1}), ("b", {"age": "rubbish"}), ("c", {"city": "Rome"})])
    assert (result.written, result.verdicts, result.rejected[0].code) == (2, "CRC", "BADTYPE")
    assert store.get("a") == {"age": 1.5, "n": 2**63 - 1, "city": "ZZ", "clicks": 0, "spent": 0.0}
    assert store.get("a", ["e", "age", "age"]) == {"e": None, "age": 1.5}
    assert store.get("b") is None
    assert store.get_many(["c", "b", "a", "c"], ["city"]) == [{"city": "Rome"}, None, {"city": "ZZ"}, {"city": "Rome"}]
    assert store.upsert_table(["age", "e"], [("a", 2.0, [0.5, 1.0])]).verdicts == "A"
    assert store.get("a", ["e", "age"]) == {"e": [0.5, 1.0], "age": 2.0}
    assert store.increment("c", {"n": 2, "age": 0.5}) == {"n": 2, "age": 0.5}
    assert store.record([("c", {"amount": 2.5}), ("c", {"amount": 1.0})]).written == 2
    assert store.get("c", ["clicks", "spent"]) == {"clicks": 2, "spent": 3.5}
    assert (store.count(), store.delete("a"), store.delete("a"), store.count()) == (2, True, False, 1)
    assert store.upsert([("a", {"age": 1.0})], event_time=1000).verdicts == "S"
    assert store.upsert([("a", {"age": 1.0})], event_time=1000, overwrite=True).verdicts == "C"
    assert store.schema().services["ads"] == store.service("ads") == ["n", "age"]
    assert store.ping() is None


def test_services_and_ages(store: Any) -> None:
    now = int(time.time() * 1000)
    store.upsert([("a", {"age": 1.5})], event_time=now - 3_600_000)
    store.upsert([("a", {"n": 7})], event_time=now - 1_000)
    assert store.get("a", service="ads") == {"n": 7, "age": 1.5}
    assert store.get("a", service="ads", max_age="10m") == {"n": 7, "age": None}
    assert store.get_many(["x", "a"], service="ads", max_age=600_000) == [None, {"n": 7, "age": None}]
    assert store.get_many(["x", "a"], service="ads") == [None, {"n": 7, "age": 1.5}]
    found = store.describe("a", ["n", "age", "city", "e"], max_age="10m")
    assert isinstance(found, Description)
    assert found.features == {"n": 7, "age": None, "city": "ZZ", "e": None}
    assert found.statuses == {"n": "PRESENT", "age": "STALE", "city": "DEFAULT", "e": "MISSING"}
    assert found.event_time == now - 1_000
    assert found.age_ms is not None
    assert 1_000 <= found.age_ms < 60_000
    assert store.describe("x") is None
    assert [each and each.features for each in store.describe_many(["x", "a"], service="ads")] == [
        None, {"n": 7, "age": 1.5}]  # fmt: skip


def test_several_entities_side_by_side(store: Any) -> None:
    items = store.entity("item")
    assert items.keys == Keys.of("item", "goods")
    assert items.upsert([("i", {"price": 9.5})]).written == 1
    assert items.get("i") == {"price": 9.5}
    store.upsert([("a", {"age": 1.5})])
    rows = [{"user": "a", "item": "i"}, {"user": "x", "item": "i"}, {"user": "a"}]
    table = store.query(rows, service="carts")
    assert isinstance(table, FeatureTable)
    assert table.ids == ("user:a item:i", "user:x item:i", "user:a")
    assert table.names == ("age", "item:price")
    assert [list((row or {}).values()) for row in table] == [[1.5, 9.5], [None, 9.5], [1.5, None]]
    assert store.query(rows, store.service("carts")) == table
    store.upsert([("a", {"e": [0.5, 2.0]})])
    passed = {"age": np.float32(2.5), "item:price": 3}
    assert store.query(rows[1:], ["item:price", "age", "e"], passed=passed, max_age="1h").to_dict() == [
        {"item:price": 3.0, "age": 2.5, "e": None}, {"item:price": 3.0, "age": 2.5, "e": [0.5, 2.0]}]  # fmt: skip
    assert store.query([], ["age"]) == FeatureTable((), (), ("age",))
    assert store.writes_of(lambda: store.query(rows, ["age", "item:price"])) == 1


def test_a_read_is_one_round_trip_whatever_its_size(store: Any) -> None:
    ids = [f"u{number}" for number in range(250)]
    store.upsert([(entity_id, {"n": number}) for number, entity_id in enumerate(ids)])
    store.get("u1", ["n"])
    items = store.entity("item")
    items.upsert([(entity_id, {"price": 0.5}) for entity_id in ids])
    items.get("u1")
    reads: Sequence[Callable[[], Any]] = [
        lambda: store.get("u1"),
        lambda: store.get_many(ids),
        lambda: store.describe_many(ids, ["n"]),
        lambda: store.get("u1", service="ads"),
        lambda: items.get_many(ids),
        lambda: items.get_many(ids * 4),
    ]
    found = [store.writes_of(read) for read in reads]
    if isinstance(store, Blocking):
        assert found == [1] * len(reads)
    else:  # on a shared connection others' calls go between them, and each call of rows with windows is a turn
        assert [found[0], found[3]] == [1, 1]
        assert found[4] <= 2  # of 3 calls
        assert found[5] <= 5  # of 10 calls
    assert [row["n"] for row in store.get_many(ids)] == list(range(250))
    rows = [(f"u{number}", {"n": number}) for number in range(4_500)]
    writes = store.writes_of(lambda: store.upsert(rows))
    assert writes == 3 if isinstance(store, Blocking) else 3 < writes <= 45  # one a call where Redis is quick


def test_a_schema_that_grew_meanwhile_is_noticed(store: Any, connect: Any, url: str) -> None:
    store.upsert([("a", {"age": 1.5})])
    store.get("a")
    connect(url).apply(Definition(features={"new": "int"}))
    connect(url).upsert([("a", {"new": 3})])
    assert store.get("a")["new"] == 3
    assert store.get_many(["a"], ["new"]) == [{"new": 3}]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda store: store.get("u", ["nope"]), UndeclaredFeatureError, "nope"),
        (lambda store: store.get("u", service="nope"), UndeclaredFeatureError, "no service nope"),
        (lambda store: store.get("u", ["age"], service="ads"), BadArgumentsError, "not both"),
        (lambda store: store.get("u", max_age="soon"), BadArgumentsError, "'soon' is no span of time"),
        (lambda store: store.describe("u", max_age=-1), BadArgumentsError, "'-1' is no span of time"),
        (lambda store: store.get(""), BadArgumentsError, "256 bytes"),
        (lambda store: store.get_many(["u", ""]), BadArgumentsError, "256 bytes"),
        (lambda store: store.get("u", []), BadArgumentsError, "at least one feature"),
        (lambda store: store.increment("u", {}), BadArgumentsError, "at least one feature"),
        (lambda store: store.increment("u", {"n": 1.5}), BadValueError, "n"),
        (lambda store: store.upsert([("u", {})], event_time=1.5), BadArgumentsError, "event time"),
        (lambda store: store.entity("nope"), NoSchemaError, "no schema"),
        (lambda store: store.entity("no pe"), NoSchemaError, "'no pe' is no entity's name"),
        (lambda store: store.query([{"item": "i"}], ["age"]), BadArgumentsError, "no feature of 'item'"),
    ],
)
def test_what_cannot_be_asked_is_told(store: Any, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(store)


def test_every_call_may_have_a_time_out_of_its_own(valkey: Server, connect: Callable[..., Any]) -> None:
    store = connect(valkey.url)
    store.apply(USERS)
    store.upsert([("a", {"age": 1.5})], timeout=20)
    assert store.get("a", ["age"], timeout=20) == {"age": 1.5}
    calls: Sequence[Callable[[], Any]] = [
        lambda: store.get("a", timeout=0.05),
        lambda: store.get("a", max_age="1d", timeout=0.05),
        lambda: store.get_many(["a"], timeout=0.05),
        lambda: store.describe("a", timeout=0.05),
        lambda: store.query([{"user": "a"}], ["age"], timeout=0.05),
        lambda: store.upsert([("a", {"age": 2.5})], timeout=0.05),
        lambda: store.upsert_table(["age"], [("a", 2.5)], timeout=0.05),
        lambda: store.record([("a", {})], timeout=0.05),
        lambda: store.increment("a", {"n": 1}, timeout=0.05),
        lambda: store.delete("x", timeout=0.05),
    ]
    with valkey.frozen():
        for call in calls:
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                call()
            assert 0.04 < time.monotonic() - started < 1.0
    # A pool connects anew after a time-out, and sends nothing before Redis has said that it may.
    assert store.get("a", ["age"]) == {"age": 1.5 if isinstance(store, Blocking) else 2.5}


def test_a_time_out_holds_for_all_that_a_call_asks(valkey: Server, connect: Callable[..., Any]) -> None:
    connect(valkey.url).apply(USERS)
    store = connect(valkey.url)
    store.ping()
    with pytest.raises(DeadlineExceededError):
        store.get("a", timeout=1e-9)
    with pytest.raises(DeadlineExceededError):
        store.upsert([("a", {"age": 1.5})], timeout=1e-9)
    assert store.get("a") is None  # the time was over before anything was sent


def test_a_transport_that_cannot_bound_a_call_says_so() -> None:
    with pytest.raises(BadArgumentsError, match="FakeTransport have no time-out of their own"):
        FeatureStore(FakeTransport()).get("a", timeout=1.0)


def test_stores_are_context_managers(valkey: Server) -> None:
    async def use() -> str:
        async with AsyncFeatureStore.connect(valkey.url, timeout=20) as store:
            await store.ping()
            assert " connected, 0 in flight, " in repr(store)
        return repr(store)

    address = f"AsyncTransport redis://127.0.0.1:{valkey.port}/0"
    assert asyncio.run(use()).startswith(f"<AsyncFeatureStore user over <{address} not connected, ")
