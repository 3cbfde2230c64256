"""Reads in a cluster: every way to read answers what it does on a single Redis, by as few calls as can be."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from support.cluster import Cluster
from support.partitioned import three_primaries, write_by_hand
from support.servers import Server
from support.ways import asking

from featurestore import BadIdError, Definition, FeatureStore, UndeclaredFeatureError
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.keys import keys_of, partition_of, slot_of
from featurestore.schema.definition import FeatureDefinition
from featurestore.store import partitioned
from featurestore.store.results import Description

PLAIN: dict[str, Any] = {"age": "int", "score": "float", "name": "string", "vip": "bool", "shape": "float32[3]"}
WIDE = PLAIN | {f"n{number}": "int" for number in range(40)}
"""So many features that a call leaves rows that would have to be made."""
MOVIES: dict[str, Any] = {"title": "string", "year": "int"}
IDS = [f"user{number:03}" for number in range(120)]


def row_of(number: int, features: dict[str, str]) -> dict[str, Any]:
    """Return a row of which some features are missing."""
    values: dict[str, Any] = {"int": number, "float": number / 4, "string": f"é{number}", "bool": number % 2 == 0}
    return {
        name: values.get(kind, b"\0\0\0\x3f" * 3)
        for place, (name, kind) in enumerate(features.items())
        if (number + place) % 7
    }


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three primaries."""
    with three_primaries(tmp_path_factory.mktemp("three")) as cluster:
        yield cluster


@pytest.fixture(params=["plain", "wide, after a change of the schema"])
def stores(request: pytest.FixtureRequest, three: Cluster, servers: dict[str, Server]) -> Iterator[list[FeatureStore]]:
    """A store on a single Redis and one in the cluster, with the same rows."""
    three.empty()
    features = PLAIN if request.param == "plain" else WIDE
    made = [FeatureStore.connect(url, timeout=10) for url in (servers["valkey9"].socket_url, three.url)]
    made[0].transport.command("FLUSHALL")
    for store in made:
        services = {"short": ["age", "name"], "both": ["age", "movie:year"]}
        movies = FeatureStore(store.transport, keys_of("movie", clustered=store.transport.clustered))
        movies.apply(Definition(entity="movie", features=MOVIES))
        store.apply(Definition(features=features, services=services))
        movies.schema()
        store.schema()
        write_by_hand(movies, {f"m{number}": {"title": f"m{number}", "year": 1990 + number} for number in range(20)})
        write_by_hand(store, {each: row_of(number, features) for number, each in enumerate(IDS)})
        if features is WIDE:
            store.apply(Definition(features={"later": "int"}))
    yield made
    for store in made:
        store.close()


ASKED = [*IDS[::-1], "nobody", IDS[3], "é", IDS[3], "nobody"]
SOME = ["vip", "age"]
QUERY = [{"user": each, "movie": f"m{number % 25}"} for number, each in enumerate(ASKED)]
WAYS: dict[str, Callable[[FeatureStore], Any]] = {
    "one": lambda store: [store.get(each) for each in ASKED[-8:]],
    "one, some features": lambda store: [store.get(each, SOME) for each in ASKED[-8:]],
    "one, with metadata": lambda store: [without_age(store.describe(each)) for each in ASKED[-8:]],
    "one, JSON": lambda store: [store.get_json(each) for each in ASKED[-8:]],
    "many": lambda store: store.get_many(ASKED),
    "many, some features": lambda store: store.get_many(ASKED, SOME),
    "many, with a vector": lambda store: store.get_many(ASKED, ["shape", *SOME]),
    "many, a service": lambda store: store.get_many(ASKED, service="short"),
    "many, of an age": lambda store: store.get_many(ASKED, max_age="1d"),
    "many, with metadata": lambda store: list(map(without_age, store.describe_many(ASKED, ["shape", "age"]))),
    "JSON": lambda store: store.get_many_json(ASKED),
    "JSON, a vector": lambda store: store.get_many_json(ASKED, ["shape", "age"]),
    "JSON of few": lambda store: [store.get_many_json(ASKED[:count]) for count in range(4)],
    "JSON of nobody": lambda store: store.get_many_json(["nobody", "nobody"]),
    "columns": lambda store: store.fetch_columns(ASKED)[1],
    "columns, some features": lambda store: store.fetch_columns(ASKED, ["shape", *SOME])[1],
    "rows": lambda store: store.fetch_many(ASKED)[1],
    "query": lambda store: list(store.query(QUERY, ["user:age", "movie:title", "movie:year", "user:shape"])),
    "query, a service": lambda store: list(store.query(QUERY, service="both")),
    "query of one entity, JSON": lambda store: store.query_json([{"user": each} for each in ASKED], ["vip", "age"]),
    "query of several, JSON": lambda store: store.query_json(QUERY, ["age", "movie:year"]),
    "query, columns": lambda store: store.query_columns(QUERY, ["age", "movie:title"]),
    "several entities": lambda store: [
        [entry and (entry.values, entry.event_time, entry.statuses) for entry in entries]
        for _, entries in store.fetch_fresh_of([("user", ASKED, SOME), ("movie", ["m1", "no"], ["year"])])
    ],
}


def without_age(described: Description | None) -> Any:
    """Return what is the same whenever it is read."""
    return described and (described.features, described.event_time, described.statuses)


@pytest.mark.parametrize("at_once", [1000, 0], ids=["encoded at once", "encoded late"])
def test_a_cluster_answers_what_a_single_redis_does(
    stores: list[FeatureStore], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitioned, "_AT_ONCE", at_once)
    for by_layout in (True, False):
        with asking(by_layout=by_layout):
            single, clustered = (FeatureStore(store.transport) for store in stores)
            for way, read in WAYS.items():
                expected = read(single)
                assert read(clustered) == expected, way
                assert expected, way


def test_errors_name_what_is_wrong(stores: list[FeatureStore]) -> None:
    _, clustered = stores
    for ids in (["a", ""], ["a"] * 500 + ["x" * 257]):
        with pytest.raises(BadIdError):
            clustered.get_many_json(ids)
        with pytest.raises(BadIdError):
            clustered.get_many(ids)
    with pytest.raises(UndeclaredFeatureError):
        clustered.get_many(["a", "b"], ["nothing"])


class Counting:
    """A transport that counts the calls of each step."""

    clustered = True

    def __init__(self, inner: Any) -> None:
        self.steps: list[Sequence[bytes]] = []
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run_many_encoded(self, script: Any, encoded: Sequence[bytes], **options: Any) -> Any:
        """Keep the calls, and run them."""
        self.steps.append(list(encoded))
        assert [slot_of(call[60:]) for call in encoded] == encoded.slots  # type: ignore[attr-defined]
        return self._inner.run_many_encoded(script, encoded, **options)


@pytest.mark.parametrize("stores", ["plain"], indirect=True)
@pytest.mark.parametrize("ids", [IDS[:100], IDS[:100] * 10], ids=["100 ids", "1,000 ids"])
def test_a_batch_is_a_step_with_a_call_for_each_partition_and_by_its_size(
    stores: list[FeatureStore], ids: list[str]
) -> None:
    counting = Counting(stores[1].transport)
    store = FeatureStore(counting)
    store.get_many_json(ids)
    counting.steps.clear()
    store.get_many_json(ids)
    (step,) = counting.steps
    sizes = Counter(partition_of(each.encode(), 64) for each in ids)
    assert len(step) == sum(-(-size // 100) for size in sizes.values())
    called = Counter(GET_FEATURES.sha.encode() in call for call in step)
    assert called[True] == sum(size % 100 == 1 for size in sizes.values())
    assert all(GET_FEATURES.sha.encode() in call or GET_FEATURES_BATCH.sha.encode() in call for call in step)


@pytest.mark.parametrize("stores", ["plain"], indirect=True)
def test_schemas_that_change_are_read_again(stores: list[FeatureStore]) -> None:
    _, clustered = stores
    reader = FeatureStore(clustered.transport)
    assert "later" not in (reader.get(IDS[1]) or {})
    clustered.apply(Definition(features={"later": FeatureDefinition("int", default=7)}))
    clustered.schema()
    write_by_hand(clustered, {each: row_of(1, PLAIN) | {"later": 8} for each in IDS[:40]})
    assert [each and each["later"] for each in reader.get_many(IDS[:41])] == [8] * 40 + [7]
    assert reader.get_many(IDS[39:41], ["later"]) == [{"later": 8}, {"later": 7}]
