"""The same arguments to all four clients, the odd ones too: the same outcome, or the same error of the package."""

import asyncio
import enum
from collections import OrderedDict, UserDict, UserString, deque
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from support.http import serving
from support.servers import Server

from featurestore import (
    AsyncClient,
    AsyncFeatureStore,
    BadArgumentsError,
    BadValueError,
    Client,
    ConfigurationError,
    Definition,
    FeatureStore,
    Keys,
    UndeclaredFeatureError,
    UnknownEntityError,
)
from featurestore.contract.arguments import plain_event_id, plain_ids, plain_max_age, plain_names, plain_timeout
from featurestore.errors import BY_CODE, BadIdError, BadTimeError
from featurestore.schema.values import shown

USERS = Definition(
    features={"age": "float", "n": "int", "city": "string", "ok": "bool", "e": "float32[2]"},
    services={"ads": ["n", "user:age"], "carts": ["age", "item:price"]},
)
ITEMS = Definition(features={"price": "float"}, entity="item", services={"ranking": ["price", "user:n"]})
SHOPS = Definition(features={"clicks": "count(10m)", "spent": "sum(amount, 1h)"}, entity="shop")


class Name(enum.StrEnum):
    ANN = "ann"
    AGE = "age"
    N = "n"


class Label(str, enum.Enum):  # noqa: UP042 - it is not StrEnum: its str() and hash() are those of the member's name
    ANN = "ann"
    W = "w"
    GONE = "gone"
    AGE = "age"
    USER = "user"
    ADS = "ads"
    OLD = "1d"
    TIME = "2020-01-01T00:00:00Z"


class Own(str):
    """Text whose own methods say something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "other"

    def encode(self, *_: Any) -> bytes:
        return b"other"


class Silent:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise ValueError("no")


class Nowhere(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, _moment: datetime | None) -> None:
        return None

    def dst(self, _moment: datetime | None) -> None:
        return None

    def tzname(self, _moment: datetime | None) -> None:
        return None


def word_of(verdict: str) -> str:
    """Return a verdict, but the same for all that write."""
    return "written" if verdict in {"created", "applied", "duplicate"} else verdict


class Direct:
    """A store that is asked as an HTTP client is."""

    def __init__(self, store: Any, run: Callable[[Any], Any]) -> None:
        self._store, self._run = store, run

    def _of(self, entity: str | None) -> Any:
        return self._store if entity is None else self._run(self._store.entity(entity))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, entity: str | None = None, **options: Any) -> Any:
            return self._run(getattr(self._of(entity), name)(*arguments, **options))

        return call

    def upsert_many(self, rows: Any, **options: Any) -> list[tuple[str, str | None]]:
        result = self._run(self._store.upsert(rows, **options))
        codes = {rejected.row: rejected.code for rejected in result.rejected}
        words = {"S": "stale", "P": "partly stale", "R": "rejected"}
        return [(words.get(letter, "written"), codes.get(row)) for row, letter in enumerate(result.verdicts)]

    def upsert(self, entity_id: Any, features: Any, **options: Any) -> str:
        return self._only(self._run(self._store.upsert([(entity_id, features)], **options)))

    def record(self, entity_id: Any, event: Any, *, entity: str, event_id: Any = None, **options: Any) -> str:
        if event_id is not None:
            event = {**event, "@event_id": event_id}
        return self._only(self._run(self._of(entity).record([(entity_id, event)], **options)))

    def _only(self, result: Any) -> str:
        if result.rejected:
            raise BY_CODE[result.rejected[0].code](result.rejected[0].reason)
        return {"S": "stale", "P": "partly stale"}.get(result.verdicts, "written")


class Http:
    """An HTTP client whose answers are as `Direct`'s."""

    def __init__(self, client: Any, run: Callable[[Any], Any]) -> None:
        self._client, self._run = client, run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **options: self._run(getattr(self._client, name)(*arguments, **options))

    def get_many(self, *arguments: Any, **options: Any) -> list[Any]:
        return list(self._run(self._client.get_many(*arguments, **options)))

    def upsert_many(self, *arguments: Any, **options: Any) -> list[tuple[str, str | None]]:
        outcomes = self._run(self._client.upsert_many(*arguments, **options))
        return [(word_of(outcome.verdict), outcome.code) for outcome in outcomes]

    def upsert(self, *arguments: Any, **options: Any) -> str:
        return word_of(self._run(self._client.upsert(*arguments, **options)))

    def record(self, *arguments: Any, **options: Any) -> str:
        return word_of(self._run(self._client.record(*arguments, **options)))


@pytest.fixture(scope="module")
def clients(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All four clients of one Redis, with an entity of each kind."""
    url = servers["valkey9"].url
    store = FeatureStore.connect(url, timeout=10)
    store.transport.command("FLUSHALL")
    for definition in (USERS, ITEMS, SHOPS):
        FeatureStore(store.transport, Keys(definition.entity)).apply(definition)
    store.upsert([("ann", {"age": 1.5, "n": 7}), ("x", {"age": 2.0}), ("late", {"n": 1})])
    store.entity("item").upsert([("i", {"price": 9.5})])
    settings = {"timeout_ms": "5000", "write_keys": "k", "max_batch": "200"}
    with serving(url, tmp_path_factory.mktemp("arguments"), **settings) as server, asyncio.Runner() as runner:
        base = f"http://127.0.0.1:{server.port}"
        later = AsyncFeatureStore.connect(url, timeout=10)
        client, async_client = Client(base, api_key="k", timeout=10), AsyncClient(base, api_key="k", timeout=10)
        run = lambda answer: runner.run(answer) if asyncio.iscoroutine(answer) else answer  # noqa: E731
        yield {
            "FeatureStore": Direct(store, run),
            "AsyncFeatureStore": Direct(later, run),
            "Client": Http(client, run),
            "AsyncClient": Http(async_client, run),
        }
        runner.run(later.close())
        runner.run(async_client.close())
        client.close()
        store.close()


def outcome_of(call: Callable[[Any], Any], client: Any) -> Any:
    try:
        return call(client)
    except (BadArgumentsError, BadValueError, UndeclaredFeatureError, UnknownEntityError) as error:
        return type(error)


ANN, X = {"age": 1.5}, {"age": 2.0}
BAD, BAD_ID = BadArgumentsError, BadIdError
WRITTEN = ("written", None)
NAN = float("nan")


def rejected(code: str) -> tuple[str, str]:
    return "rejected", code


READS: list[tuple[Callable[[Any], Any], Any]] = [
    # Ids: any iterable of text but a text.
    (lambda c: c.get_many(["ann", "x"], ["age"]), [ANN, X]),
    (lambda c: c.get_many(("ann", "x"), ["age"]), [ANN, X]),
    (lambda c: c.get_many((name for name in ("ann", "x")), ["age"]), [ANN, X]),
    (lambda c: c.get_many(np.array(["ann", "x"]), ["age"]), [ANN, X]),
    (lambda c: c.get_many(np.array(["ann"], object), ["age"]), [ANN]),
    (lambda c: c.get_many(pd.Index(["ann", "x"]), ["age"]), [ANN, X]),
    (lambda c: c.get_many(pd.Series(["ann"], index=[7]), ["age"]), [ANN]),
    (lambda c: c.get_many({"ann": 1}.keys(), ["age"]), [ANN]),
    (lambda c: c.get_many(deque(["ann"]), ["age"]), [ANN]),
    (lambda c: c.get_many([np.str_("ann"), Name.ANN, Label.ANN, Own("ann")], ["age"]), [ANN] * 4),
    (lambda c: c.get_many(np.array([], str), ["age"]), []),
    (lambda c: c.get_many(iter([]), service="nope"), []),
    (lambda c: c.get_many([], ["nope"]), []),
    (lambda c: c.describe_many([]), []),
    (lambda c: [each.features for each in c.describe_many(np.array(["ann"]), np.array(["age"]))], [ANN]),
    *[
        (call, BAD)
        for ids in (
            "t1", np.str_("t1"), Label.ANN, b"t1", bytearray(b"t1"), 7, None, NAN, np.array("t1"), np.array(7),
            Silent(),
        )
        for call in (lambda c, ids=ids: c.get_many(ids, ["age"]), lambda c, ids=ids: c.describe_many(ids, ["age"]))
    ],
    *[
        (call, BAD_ID)
        for ids in (
            ["ann", 7.5], ["ann", None], [b"ann"], [NAN], [pd.NA], [["ann"]], [("ann",)], np.array([1.5, 2]),
            np.array([["ann"]]), pd.Series(["ann", None]), [np.array("ann")], [UserString("ann")], [Silent()], [""],
            ["x" * 257], ["\ud800"],
        )
        for call in (lambda c, ids=ids: c.get_many(ids, ["age"]), lambda c, ids=ids: c.describe_many(ids, ["age"]))
    ],
    # One id.
    *[
        (call, ANN)
        for one in (np.str_("ann"), Name.ANN, Label.ANN, Own("ann"))
        for call in (
            lambda c, one=one: c.get(one, ["age"]),
            lambda c, one=one: c.get(one, ["age"], max_age="1d"),
            lambda c, one=one: c.describe(one, ["age"]).features,
        )
    ],
    *[
        (call, BAD_ID)
        for one in (b"ann", 7.5, True, 2**63, None, NAN, pd.NA, ["ann"], np.array(["ann"]), "", "x" * 257, "\ud800")
        for call in (
            lambda c, one=one: c.get(one),
            lambda c, one=one: c.get(one, ["age"], max_age="1d"),
            lambda c, one=one: c.describe(one),
            lambda c, one=one: c.upsert(one, {"age": 1.0}),
            lambda c, one=one: c.increment(one, {"n": 1}),
            lambda c, one=one: c.record(one, {"amount": 1.0}, entity="shop"),
            lambda c, one=one: c.delete(one),
        )
    ],
    # Features.
    *[
        (call, ANN)
        for names in (
            ("age",), {"age"}, {"age": 1}, np.array(["age"]), np.array(["age", "age"]), pd.Index(["age"]),
            pd.Series(["age"]), [np.str_("age")], [Name.AGE], [Label.AGE], [Own("age")], deque(["age"]),
        )
        for call in (
            lambda c, names=names: c.get("ann", names),
            lambda c, names=names: c.get_many(["ann"], names)[0],
            lambda c, names=names: c.describe("ann", names).features,
            lambda c, names=names: c.query([{"user": "ann"}], names)[0],
        )
    ],
    (lambda c: c.get("ann", (name for name in ["age"])), ANN),
    (lambda c: c.get_many(["ann"], (name for name in ["age"])), [ANN]),
    (lambda c: c.query([{"user": "ann"}], (name for name in ["age"]))[0], ANN),
    *[
        (call, BAD)
        for names in (
            "age", np.str_("age"), Label.AGE, b"age", 7, NAN, [], (), np.array([], str), pd.Index([]), [7], [None],
            [b"age"], [["age"]], [""], ["age", ""], ["\ud800"], [NAN], np.array("age"), np.array([1]), Silent(),
        )
        for call in (
            lambda c, names=names: c.get("ann", names),
            lambda c, names=names: c.get_many(["ann"], names),
            lambda c, names=names: c.describe("ann", names),
            lambda c, names=names: c.describe_many(["ann"], names),
            lambda c, names=names: c.query([{"user": "ann"}], names),
        )
    ],
    (lambda c: c.get("ann", ["nope"]), UndeclaredFeatureError),
    (lambda c: c.get("ann", ["item:price"]), UndeclaredFeatureError),
    # Services.
    *[
        (lambda c, service=service: c.get("ann", service=service), {"n": 7, "age": 1.5})
        for service in ("ads", np.str_("ads"), Label.ADS, Own("ads"))
    ],
    *[
        (call, BAD)
        for service in (7, b"ads", ["ads"], "", "\ud800", NAN, True, np.array(["ads"]))
        for call in (
            lambda c, service=service: c.get("ann", service=service),
            lambda c, service=service: c.get_many(["ann"], service=service),
            lambda c, service=service: c.describe_many(["ann"], service=service),
            lambda c, service=service: c.query([{"user": "ann"}], service=service),
            lambda c, service=service: c.get_many(["ann"], ["age"], service=service),
        )
    ],
    (lambda c: c.get("ann", ["age"], service="ads"), BAD),
    (lambda c: c.get("ann", service="nope"), UndeclaredFeatureError),
    (lambda c: c.get("ann", service="carts"), UndeclaredFeatureError),  # price is for queries
    # Ages.
    *[
        (lambda c, age=age: c.get("ann", ["age"], max_age=age), ANN)
        for age in ("1d", 86_400_000, np.int64(86_400_000), np.str_("1d"), Label.OLD)
    ],
    *[
        (call, BAD)
        for age in ("", "soon", -1, 1.5, NAN, True, b"1d", ["1d"], 10**30, 10**5000, "\ud800", np.array([1]), Silent())
        for call in (
            lambda c, age=age: c.get("ann", max_age=age),
            lambda c, age=age: c.get_many(["ann"], max_age=age),
            lambda c, age=age: c.query([{"user": "ann"}], ["age"], max_age=age),
        )
    ],
    # Passed values.
    *[
        (lambda c, passed=passed: c.get_many(["ann", "nope"], ["age", "e"], passed=passed), [expected, None])
        for passed, expected in (
            ({}, {"age": 1.5, "e": None}),
            ({"age": np.float32(2.5)}, {"age": 2.5, "e": None}),
            ({"age": 2}, {"age": 2.0, "e": None}),
            ({"age": None}, {"age": None, "e": None}),
            ({Label.AGE: np.float64(2.5)}, {"age": 2.5, "e": None}),
            (OrderedDict({np.str_("age"): 2.5}), {"age": 2.5, "e": None}),
            (UserDict({"e": np.array([0.5, 2.0])}), {"age": 1.5, "e": [0.5, 2.0]}),
            ({"e": (1, 2)}, {"age": 1.5, "e": [1.0, 2.0]}),
        )
    ],
    (lambda c: c.get_many(["ann"], passed={"n": 8})[0], {"age": 1.5, "n": 8, "city": None, "ok": None}),
    (lambda c: c.get_many(["ann"], service="ads", max_age="1d", passed={"n": 8}), [{"n": 8, "age": 1.5}]),
    (lambda c: c.get_many(["ann"], ["city"], passed={"city": np.str_("Rome")}), [{"city": "Rome"}]),
    (lambda c: c.get_many(["ann"], ["ok"], passed={"ok": np.bool_(True)}), [{"ok": True}]),
    (lambda c: c.describe_many(["ann"], ["age", "n"], passed={"n": None})[0].statuses,
     {"age": "PRESENT", "n": "MISSING"}),
    (lambda c: c.describe_many(["ann", "nope"], ["e"], passed={"e": [1, 2]})[0].features, {"e": [1.0, 2.0]}),
    (lambda c: list(c.query([{"user": "ann"}, {}], ["user:age"], passed={"user:age": 3})), [{"user:age": 3.0}] * 2),
    (lambda c: list(c.query([{"user": "ann"}], ["e"], passed={"e": [1, 2]})), [{"e": [1.0, 2.0]}]),
    *[
        (call, BAD)
        for passed in (7, "age", ["age"], [("age", 1.0)], {7: 1.0}, {"n": 1}, {"\ud800": 1.0}, Silent())
        for call in (
            lambda c, passed=passed: c.get_many(["ann"], ["age"], passed=passed),
            lambda c, passed=passed: c.describe_many(["ann"], ["age"], passed=passed),
            lambda c, passed=passed: c.query([{"user": "ann"}], ["age"], passed=passed),
        )
    ],
    *[
        (call, BadValueError)
        for value in (
            "x", float("inf"), [1.0], {}, object(), b"1", True, date(2020, 1, 1), 1j, Silent(),
            Decimal("inf"), np.timedelta64(1, "s"), 10**30, 10**5000, np.float64,
        )
        for call in (
            lambda c, value=value: c.get_many(["ann"], ["age"], passed={"age": value}),
            lambda c, value=value: c.describe_many(["ann"], ["age"], passed={"age": value}),
            lambda c, value=value: c.query([{"user": "ann"}], ["age"], passed={"age": value}),
        )
    ],
    (lambda c: c.get_many(["ann"], ["e"], passed={"e": [1.0]}), BadValueError),
    (lambda c: c.get_many(["ann"], ["e"], passed={"e": [[1.0, 2.0]]}), BadValueError),
    # Several entities.
    *[
        (lambda c, rows=rows: list(c.query(rows, ["user:age", "item:price"])), [{"user:age": 1.5, "item:price": 9.5}])
        for rows in (
            [{"user": "ann", "item": "i"}], ({"item": "i", "user": "ann"},), np.array([{"user": "ann", "item": "i"}]),
            [UserDict({"user": np.str_("ann"), "item": "i"})], [{Label.USER: Label.ANN, np.str_("item"): Own("i")}],
            pd.Series([{"user": "ann", "item": "i"}]),
        )
    ],
    (lambda c: c.query(({"user": name} for name in ["ann"]), ["age"]).ids, ("user:ann",)),
    (lambda c: (c.query([], ["age", "item:price"]).names, len(c.query([], service="carts"))),
     (("age", "item:price"), 0)),
    *[
        (lambda c, rows=rows: c.query(rows, ["age"]), BAD)
        for rows in (
            {"user": "ann"}, "ann", b"ann", 7, None, ["ann"], [7], [None], [["user", "ann"]], [("user", "ann")],
            [{7: "ann"}], [{"item": "i"}], [{"\ud800": "ann"}], pd.DataFrame({"user": ["ann"]}), Silent(),
        )
    ],
    *[
        (lambda c, entity_id=entity_id: c.query([{"user": entity_id}], ["age"]), BAD_ID)
        for entity_id in (7.5, None, b"ann", "", ["ann"], NAN, "\ud800")
    ],
    (lambda c: c.query([{"user": "ann"}]), BAD),
    (lambda c: c.query([{"user": "ann"}], [":age"]), BAD),
    (lambda c: c.query([{"nope": "x"}], ["nope:age"]), UnknownEntityError),
    (lambda c: c.query([{"no pe": "x"}], ["no pe:age"]), UnknownEntityError),
    (lambda c: c.query([{"item": "i"}], ["item:age"]), UndeclaredFeatureError),
    # Services of queries: a bare name is the default entity's, `item:ranking` the item's.
    (lambda c: c.query([{"user": "ann", "item": "i"}], service="carts")[0], {"age": 1.5, "item:price": 9.5}),
    (lambda c: c.query([{"user": "ann"}], service=Label.ADS)[0], {"n": 7, "user:age": 1.5}),
    (lambda c: c.query([{"user": "ann"}], service="user:ads")[0], {"user:n": 7, "user:age": 1.5}),
    (lambda c: c.query([{"item": "i"}], service="item:ranking")[0], {"item:price": 9.5, "user:n": None}),
    (lambda c: c.query([{"user": "ann"}], service="ranking"), UndeclaredFeatureError),
    (lambda c: c.query([{"user": "ann"}], service="item:nope"), UndeclaredFeatureError),
    (lambda c: c.query([{"user": "ann"}], service="nope:ranking"), UnknownEntityError),
    # Entities.
    *[(lambda c, entity=entity: c.get("i", entity=entity), {"price": 9.5}) for entity in ("item", np.str_("item"))],
    *[(lambda c, entity=entity: c.get("i", entity=entity), BAD) for entity in (7, b"item", "", ["item"], "\ud800")],
    *[
        (lambda c, entity=entity: c.get("i", entity=entity), UnknownEntityError)
        for entity in ("nope", "no pe", "a/b", "..", "x" * 65)
    ],
    # Time-outs.
    *[(lambda c, t=t: c.get("ann", ["age"], timeout=t), ANN)
      for t in (5, 5.0, np.float32(5), np.int64(5), float("inf"))],
    *[
        (call, BAD)
        for t in (-1, 0, NAN, "1", "soon", True, b"1", [1], np.array([1.0, 2.0]), 1j, float("-inf"), Silent())
        for call in (
            lambda c, t=t: c.get("ann", timeout=t),
            lambda c, t=t: c.get_many(["ann"], timeout=t),
            lambda c, t=t: c.describe("ann", timeout=t),
            lambda c, t=t: c.describe_many(["ann"], timeout=t),
            lambda c, t=t: c.query([{"user": "ann"}], ["age"], timeout=t),
            lambda c, t=t: c.upsert("w", {"age": 1.0}, timeout=t),
            lambda c, t=t: c.upsert_many([("w", {"age": 1.0})], timeout=t),
            lambda c, t=t: c.increment("w", {"n": 1}, timeout=t),
            lambda c, t=t: c.record("w", {}, entity="shop", timeout=t),
            lambda c, t=t: c.delete("w", timeout=t),
        )
    ],
]  # fmt: skip

WRITES: list[tuple[Callable[[Any], Any], Any]] = [
    *[
        (lambda c, one=one: (c.upsert(one, {"n": 5}), c.get("w", ["n"]), c.increment(one, {"n": 1})),
         ("written", {"n": 5}, {"n": 6}))
        for one in (np.str_("w"), Own("w"), Label.W)
    ],
    *[
        (lambda c, one=one: (c.upsert("gone", {"n": 5}), c.delete(one), c.get("gone")), ("written", True, None))
        for one in (np.str_("gone"), Own("gone"), Label.GONE)
    ],
    *[
        (lambda c, features=features: (c.upsert("w", features), c.get("w", ["age", "city"])),
         ("written", {"age": 3.0, "city": "Rome"}))
        for features in (
            {"age": 3, "city": "Rome"}, UserDict({"age": 3.0, "city": "Rome"}),
            {np.str_("age"): np.int64(3), "city": "Rome"},
            {Label.AGE: np.float32(3), "city": "Rome"}, {Own("age"): 3.0},
        )
    ],
    *[
        (lambda c, features=features: c.upsert("w", features), BAD)
        for features in (None, 7, "age", ["age"], [("age", 1.0)], {7: 1.0}, {None: 1}, {b"age": 1.0}, {"\ud800": 1},
                         Silent())
    ],
    *[
        (lambda c, value=value: c.upsert("w", {"age": value}), BadValueError)
        for value in ("x", [1.0], {}, object(), 1j, date(2020, 1, 1), "\ud800", np.float64,
                      np.array([1.0, 2.0]), Decimal("inf"), np.timedelta64(1, "s"))
    ],
    # No value, numbers of other libraries, moments.
    *[
        (lambda c, value=value: (c.upsert("w", {"age": 1.0}), c.upsert("w", {"age": value}), c.get("w", ["age"])),
         ("written", "written", {"age": None}))
        for value in (None, NAN, np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), np.ma.masked, Decimal("nan"))
    ],
    *[
        (lambda c, name=name, value=value: (c.upsert("w", {name: value}), c.get("w", [name])),
         ("written", {name: expected}))
        for name, value, expected in (
            ("age", Decimal("2.5"), 2.5), ("age", Decimal(2), 2.0), ("n", Decimal("5.0"), 5), ("n", 5.0, 5),
            ("n", Decimal(2**62 + 1), 2**62 + 1), ("n", np.datetime64("2020-01-01"), 1577836800000),
            ("n", pd.Timestamp("2020-01-01"), 1577836800000), ("n", np.float64(7), 7),
            ("n", datetime(2020, 1, 1, tzinfo=UTC), 1577836800000), ("n", datetime(2020, 1, 1), 1577836800000),  # noqa: DTZ001
            ("ok", np.bool_(True), True),
        )
    ],
    # Ids that are ints.
    *[
        (lambda c, one=one: (c.upsert(one, {"n": 5}), c.get(7, ["n"]), c.get_many(["7", one], ["n"]), c.delete(one)),
         ("written", {"n": 5}, [{"n": 5}] * 2, True))
        for one in (7, np.int64(7), np.uint8(7))
    ],
    (lambda c: (c.upsert_many([(7, {"n": 6}), (np.int32(-8), {"n": 6})]), c.get_many(["7", "-8"], ["n"])),
     ([WRITTEN] * 2, [{"n": 6}] * 2)),
    (lambda c: c.upsert("w", {"nope": 1}), UndeclaredFeatureError),
    (lambda c: (c.upsert("w", {"e": np.array([1, 2])}), c.get("w", ["e"])), ("written", {"e": [1.0, 2.0]})),
    (lambda c: (c.upsert("w", {"e": range(2)}), c.get("w", ["e"])), ("written", {"e": [0.0, 1.0]})),
    (lambda c: (c.upsert("w", {"e": deque([2, 3])}), c.get("w", ["e"])), ("written", {"e": [2.0, 3.0]})),
    (lambda c: (c.upsert("w", {"e": (np.float32(0.5), np.int8(3))}), c.get("w", ["e"])),
     ("written", {"e": [0.5, 3.0]})),
    # Rows.
    *[
        (lambda c, rows=rows: (c.upsert_many(rows), c.get("w", ["n"])), ([WRITTEN], {"n": 8}))
        for rows in (
            [("w", {"n": 8})], [["w", {"n": 8}]], (("w", {"n": 8}),), {"w": {"n": 8}}.items(),
            [("w", UserDict({"n": 8}))],
            [(np.str_("w"), {Name.N: np.int64(8)})], np.array([["w", {"n": 8}]], object),
            pd.Series([("w", {"n": 8})]), [(Own("w"), {np.str_("n"): 8})],
        )
    ],
    (lambda c: c.upsert_many((name, {"n": 1}) for name in ["w", "w2"]), [WRITTEN] * 2),
    (lambda c: c.upsert_many([]), []),
    *[
        (lambda c, rows=rows: c.upsert_many(rows), BAD)
        for rows in ({"w": {"n": 1}}, "ab", b"ab", 7, None, np.array("ab"), Silent())
    ],
    (lambda c: c.upsert_many([
        ("w", {"n": 1}), ("w",), ("w", {"n": 1}, 2), "ab", 7, None, {"w": 1}, {}, ("w", None), ("w", "age"),
        ("w", [("n", 1)]), ("w", {7: 1}), ("w", {"\ud800": 1}), Silent(), ("w", Silent()), (7.5, {"n": 1}),
        (None, {"n": 1}), (b"w", {"n": 1}), (NAN, {"n": 1}), (["w"], {"n": 1}), ("", {"n": 1}), ("\ud800", {"n": 1}),
        (pd.NA, {"n": 1}), ("w", {"n": "x"}), ("w", {"n": Silent()}), ("w", {"n": [1]}), ("w", {"n": 2**63}),
        ("w", {"n": 10**5000}), ("w", {"nope": 1}), (np.str_("w"), {Label.AGE: np.float32(1), "city": "Rome"}),
     ]), [WRITTEN, *[rejected("BADARGS")] * 14, *[rejected("BADID")] * 8, *[rejected("BADTYPE")] * 5,
          rejected("UNDECLARED"), WRITTEN]),
    # Event times.
    *[
        (lambda c, time=time: (c.upsert("late", {"n": 1}), c.upsert("late", {"n": 1}, event_time=time))[1], expected)
        for time, expected in (
            (None, "written"), (5, "stale"), (np.int64(5), "stale"), (np.uint32(5), "stale"), (Label.TIME, "stale"),
            (np.str_("2020-01-01T00:00:00Z"), "stale"), (datetime(2020, 1, 1, tzinfo=UTC), "stale"),
            (pd.Timestamp("2020-01-01", tz="UTC"), "stale"), (np.datetime64("2020-01-01"), "stale"),
        )
    ],
    *[
        (call, BadTimeError)
        for time in (
            1.5, NAN, True, -1, 10**30, "", "\ud800", b"5", [5], date(2020, 1, 1), datetime(2020, 1, 1), pd.NaT, pd.NA,  # noqa: DTZ001
            np.array([5, 6]), np.float64(5), datetime(2020, 1, 1, tzinfo=Nowhere()), np.datetime64("NaT"),
            Silent(),
        )
        for call in (
            lambda c, time=time: c.upsert("w", {"n": 1}, event_time=time),
            lambda c, time=time: c.upsert_many([("w", {"n": 1})], event_time=time),
            lambda c, time=time: c.upsert_many([], event_time=time),
            lambda c, time=time: c.increment("w", {"n": 1}, event_time=time),
            lambda c, time=time: c.record("w", {}, entity="shop", event_time=time),
        )
    ],
    (lambda c: c.upsert_many([("late", {"n": 1, "@event_time": time}) for time in (
        np.int64(5), Label.TIME, datetime(2020, 1, 1, tzinfo=UTC), None, 1.5, np.array([5, 6]), b"\xfe", True,
        Silent())]),
     [*[("stale", None)] * 3, WRITTEN, *[rejected("BADTIME")] * 5]),
    (lambda c: c.upsert("late", {"n": 1, "@event_time": np.int64(5)}), "stale"),
    # Amounts to add.
    *[
        (lambda c, amounts=amounts: (c.upsert("w", {"n": 1, "age": 1.0}), c.increment("w", amounts)),
         ("written", expected))
        for amounts, expected in (
            ({"n": 2}, {"n": 3}), ({"n": np.int64(2), "age": np.float32(0.5)}, {"n": 3, "age": 1.5}),
            (UserDict({Label.AGE: 1}), {"age": 2.0}), ({np.str_("n"): -1}, {"n": 0}),
        )
    ],
    *[
        (lambda c, amounts=amounts: c.increment("w", amounts), BAD)
        for amounts in (None, 7, "n", ["n"], [("n", 1)], {}, {7: 1}, {"\ud800": 1}, {"@event_time": 5}, Silent())
    ],
    *[
        (lambda c, amount=amount: c.increment("w", {"n": amount}), BadValueError)
        for amount in (None, "1", True, np.bool_(True), NAN, float("inf"), 1.5, [1], b"1", 2**63, 10**5000,
                       Decimal("1.5"), 1j, pd.NA, Silent())
    ],
    (lambda c: c.increment("w", {"nope": 1}), UndeclaredFeatureError),
    # Events.
    *[
        (lambda c, event=event: c.record("w", event, entity="shop"), "written")
        for event in ({}, {"amount": 1}, {"amount": np.float32(1)}, UserDict({np.str_("amount"): 1}),
                      {"amount": 1, "@event_id": None}, {"amount": 1, "@event_id": ""},
                      {"amount": 1, "@event_id": np.str_("a")}, {"amount": 1, "@event_id": 7})
    ],
    *[
        (lambda c, event_id=event_id: c.record("w", {}, event_id=event_id, entity="shop"), "written")
        for event_id in ("a", np.str_("a"), Label.AGE, 7, np.int64(7), "")
    ],
    *[
        (lambda c, event_id=event_id: c.record("w", {}, event_id=event_id, entity="shop"), BAD)
        for event_id in (1.5, NAN, True, b"a", ["a"], "\ud800", Silent())
    ],
    *[
        (lambda c, event=event: c.record("w", event, entity="shop"), BAD)
        for event in (7, "amount", ["amount"], {7: 1}, {"\ud800": 1}, Silent())
    ],
    *[
        (lambda c, amount=amount: c.record("w", {"amount": amount}, entity="shop"), BadValueError)
        for amount in (None, "1", True, NAN, float("inf"), [1], b"1", 2**63, Decimal("inf"), Silent())
    ],
    (lambda c: c.record("w", {"nope": 1.0}, entity="shop"), UndeclaredFeatureError),
    (lambda c: c.record("w", {"amount": 1.0, "@event_time": np.int64(5)}, entity="shop"), "stale"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "expected"), [*READS, *WRITES])
def test_every_client_takes_the_same_and_says_the_same(clients: dict[str, Any], call: Any, expected: Any) -> None:
    assert {name: outcome_of(call, client) for name, client in clients.items()} == dict.fromkeys(clients, expected)


def test_names_that_no_url_can_hold_are_refused(clients: dict[str, Any]) -> None:
    names = [f"{'x' * 120}{number}" for number in range(700)]
    for name in ("Client", "AsyncClient"):
        with pytest.raises(BadArgumentsError, match="cannot be sent"):
            clients[name].get("ann", names)


def test_a_table_takes_whatever_holds_rows(clients: dict[str, Any]) -> None:
    frame = pd.DataFrame({"id": ["w", "w2"], "age": [1.0, 2.0], "city": ["Rome", "Bonn"]})
    for name in ("FeatureStore", "AsyncFeatureStore"):
        store = clients[name]
        for columns, rows in (
            (["age", "city"], [("w", 1.0, "Rome"), ["w2", 2.0, "Bonn"]]),
            (frame.columns[1:], frame.to_numpy()),
            (np.array(["age", "city"]), frame.itertuples(index=False)),
            ((column for column in ["age", "city"]), iter([np.array(row, object) for row in frame.to_numpy()])),
            ([Label.AGE, np.str_("city")], [(np.str_("w"), np.float32(1), "Rome"), (Own("w2"), 2, "Bonn")]),
        ):
            assert store.upsert_table(columns, rows).written == 2
            assert store.get_many(["w", "w2"], ["age", "city"]) == [
                {"age": 1.0, "city": "Rome"}, {"age": 2.0, "city": "Bonn"}]  # fmt: skip
        rows = [("w", 1.0), "ab", 7, None, {"w": 1}, (), (7.5, 1.0), ("", 1.0), ("w", [1]), ("w", 2.0)]
        result = store.upsert_table(["age"], rows)
        assert (result.verdicts, [(bad.row, bad.code) for bad in result.rejected]) == (
            "ARRRRRRRRA",
            [*((row, "BADARGS") for row in range(1, 6)), (6, "BADID"), (7, "BADID"), (8, "BADTYPE")],
        )
        timed = [("w", time, 1.0) for time in (np.int64(5), 5, Label.TIME, None, NAN, np.array([1, 2]))] + [("w",)]
        result = store.upsert_table(["@event_time", "age"], timed)
        assert (result.verdicts, [bad.code for bad in result.rejected]) == (
            "SSSARRR",
            ["BADTIME", "BADTIME", "BADARGS"],
        )
        for columns, rows in (("age", [("w", 1.0)]), (b"age", []), ([7], []), ([""], []), (None, []),
                              (["age"], {"w": 1.0}), (["age"], "ab"), (["age"], 7)):  # fmt: skip
            with pytest.raises(BadArgumentsError):
                store.upsert_table(columns, rows)


def test_what_is_wrong_is_shown() -> None:
    with pytest.raises(BadArgumentsError, match=r"^ids is a list of ids, not the text 't1'$"):
        plain_ids("t1")
    with pytest.raises(BadArgumentsError, match=r"^an id is unicode text, not b'a'$"):
        plain_ids([b"a"])  # type: ignore[list-item]
    with pytest.raises(BadArgumentsError, match=r"^features is a list of names, not the text 'age'$"):
        plain_names("age", None)
    with pytest.raises(BadArgumentsError, match=r"^timeout is a number of seconds above 0, not nan$"):
        plain_timeout(NAN)
    with pytest.raises(BadArgumentsError, match=r"^max_age: '1\.5' is no span of time"):
        plain_max_age(1.5)
    with pytest.raises(BadArgumentsError, match=r"^an event's id is unicode text, not 1.5$"):
        plain_event_id(1.5)
    assert shown("x" * 100) == "'" + "x" * 63 + "…"
    assert (shown(10**5000), shown(Silent())) == ("a value of type int", "a value of type Silent")


@pytest.mark.parametrize("timeout", [-1, 0, NAN, "1", True, [1]])
def test_time_outs_of_clients_and_stores_are_checked_when_they_are_made(timeout: Any) -> None:
    makers: list[Callable[[], Any]] = [
        lambda: Client("http://x", timeout=timeout),
        lambda: AsyncClient("http://x", timeout=timeout),
        lambda: FeatureStore.connect("redis://127.0.0.1", timeout=timeout),
        lambda: AsyncFeatureStore.connect("redis://127.0.0.1", timeout=timeout),
    ]
    for make in makers:
        with pytest.raises(ConfigurationError, match="timeout is a number of seconds above 0"):
            make()


@pytest.mark.parametrize(
    "base_url", [7, None, b"http://x", "http://[", "http://x:abc", "http://x:99999", "http://x:-1"]
)
def test_base_urls_of_any_kind_are_checked(base_url: Any) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigurationError, match="the base URL must be like"):
            kind(base_url)


def test_keys_of_any_kind_are_checked() -> None:
    for kind in (Client, AsyncClient):
        keys: list[Any] = [7, b"k", ["k"], "é"]
        for key in keys:
            with pytest.raises(ConfigurationError, match="printable ASCII"):
                kind("http://x", api_key=key)
        assert kind("http://x", api_key=np.str_("k"))


def test_feast_asks_for_services_of_any_entity(clients: dict[str, Any]) -> None:
    def ask(service: str, **entities: list[str]) -> Any:
        url = f"{clients['Client']._client._base_url}/get-online-features"
        return httpx.post(url, json={"feature_service": service, "entities": entities}).json()

    answer = ask("item:ranking", item_id=["i"], user_id=["ann"])
    assert answer["metadata"]["feature_names"] == ["item_id", "user_id", "price", "n"]
    assert [result["values"] for result in answer["results"]] == [["i"], ["ann"], [9.5], [7]]
    assert ask("ads", user_id=["ann"])["metadata"]["feature_names"] == ["user_id", "n", "age"]
    for service in ("ranking", "item:nope", "nope:ranking"):
        assert "FeatureServiceNotFoundException" in ask(service, user_id=["ann"])
