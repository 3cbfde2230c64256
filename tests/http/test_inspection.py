"""The routes of people: entities, samples of ids, and what is stored, on a single Redis and in a cluster."""

from collections.abc import Iterator
from typing import Any

import pytest
from falcon.testing import Result, TestClient
from support.backends import ONE_OF_EACH, Backend, Clusters, opened
from support.servers import Server

from featurestore import Definition, FeatureStore
from featurestore.api.app import create_app
from featurestore.keys import keys_of

IDS = [f"u{number}" for number in range(300)]


@pytest.fixture(scope="module", params=ONE_OF_EACH)
def backend(request: pytest.FixtureRequest, servers: dict[str, Server], clusters: Clusters) -> Iterator[Backend]:
    with opened(request.param, servers, clusters) as found:
        found.empty()
        yield found


@pytest.fixture(scope="module")
def store(backend: Backend) -> FeatureStore:
    store = FeatureStore(backend.transport)
    clustered = backend.transport.clustered
    features: dict[str, Any] = {"age": "float", "name": "string", "shape": "float32[2]", "seen": "count(10m)"}
    store.apply(Definition(features=features, services={"short": ["age"]}))
    items = FeatureStore(backend.transport, keys_of("item", clustered=clustered))
    items.apply(Definition(entity="item", features={"price": "int"}, description="What is sold"))
    store.upsert([(each, {"age": float(place)}) for place, each in enumerate(IDS)])
    return store


def ask(store: FeatureStore, target: str) -> Result:
    return TestClient(create_app(store)).simulate_get(target)


def stored(store: FeatureStore, *ids: str) -> list[dict[str, object]]:
    query = "&".join(f"id={each}" for each in ids)
    answer = ask(store, f"/entities/user/stored?{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json["stored"]
    return found


def test_all_entities_are_listed_with_their_counts(store: FeatureStore) -> None:
    answer = ask(store, "/entities").json
    assert answer["default"] == "user"
    item, user = answer["entities"]
    assert (item["entity"], item["features"], item["ids"], item["description"]) == ("item", 1, 0, "What is sold")
    assert (user["entity"], user["version"], user["features"], user["services"]) == ("user", 1, 4, ["short"])
    assert user["ids"] == store.count() >= len(IDS)
    assert ask(store, "/entities?all=1").status_code == 422


def test_a_sample_has_as_many_known_ids_as_asked_for_and_each_once(store: FeatureStore) -> None:
    for count in (1, 7, 100):
        answer = ask(store, f"/entities/user/sample?count={count}").json
        assert answer["entity"] == "user"
        assert answer["known"] == store.count()
        assert len(answer["ids"]) == len(set(answer["ids"])) <= count
        assert len(answer["ids"]) >= (count * 3) // 4  # in a cluster partitions may have fewer than their share
        assert None not in store.get_many(answer["ids"])
    assert len(ask(store, "/entities/user/sample").json["ids"]) > 70
    assert set(IDS) <= set(ask(store, "/entities/user/sample?count=1000").json["ids"])
    drawn = {ask(store, "/entities/user/sample?count=1").json["ids"][0] for _ in range(30)}
    assert len(drawn) > 1
    assert ask(store, "/entities/item/sample").json == {"entity": "item", "known": 0, "ids": []}


@pytest.mark.parametrize("count", ["0", "1001", "many", "-1", ""])
def test_a_sample_has_bounds(store: FeatureStore, count: str) -> None:
    answer = ask(store, f"/entities/user/sample?count={count}")
    assert answer.status_code in {400, 422}
    assert "count" in answer.json["detail"]


def test_ids_that_are_no_text_are_left_out_of_a_sample(store: FeatureStore, backend: Backend) -> None:
    part = store.parts()[0]
    backend.transport.command("SADD", part.members, b"\xff\xfe")
    try:
        answer = ask(store, "/entities/user/sample?count=1000").json
        assert answer["known"] > len(answer["ids"]) >= len(IDS)
    finally:
        backend.transport.command("SREM", part.members, b"\xff\xfe")


def test_what_is_stored_of_an_id_is_told(store: FeatureStore) -> None:
    store.upsert([("ann", {"age": 31.0, "name": "Ann", "shape": [1.0, 2.0]})], event_time=1_700_000_000_000)
    store.upsert([("ann", {"age": 32.0})], event_time=1_700_000_001_000)
    (ann,) = stored(store, "ann")
    layout = store.schema().layout
    assert ann["user_id"] == "ann"
    assert (ann["known"], ann["row"], ann["layout"]) == (True, "current", layout)
    assert ann["texts"] == {"age": "32.0", "name": "Ann"}
    assert (ann["event_time"], ann["event_times"]) == (
        1_700_000_001_000,
        {"name": 1_700_000_000_000, "shape": 1_700_000_000_000},
    )
    assert (ann["fields"], ann["expires_ms"], ann["deleted"]) == (5, None, None)
    assert ann["row_bytes"] > 8  # type: ignore[operator]


def test_the_states_of_rows_are_told_apart(store: FeatureStore, backend: Backend) -> None:
    command = backend.transport.command
    key = {each: store.keys.holding(each.encode()).features(each) for each in ("hand", "other", "text", "gone", "back")}
    members = {each: store.keys.holding(each.encode()).members for each in key}
    command("HSET", key["hand"], "age", "12", "name", b"\xff")
    command("SADD", members["hand"], "hand")
    store.upsert([("other", {"age": 1.0}), ("gone", {"age": 1.0}), ("back", {"age": 1.0})])
    command("HSET", key["other"], "@row", b"@0000000" + b"\x90")
    command("SET", key["text"], "x")
    store.delete("gone")
    store.delete("back")
    store.upsert([("back", {"age": 2.0})])
    command("PEXPIRE", key["back"], 100_000)
    nobody, hand, other, text, gone, back = stored(store, "nobody", "hand", "other", "text", "gone", "back")
    assert (nobody["known"], nobody["row"], nobody["fields"]) == (False, "nothing", None)
    assert (hand["known"], hand["row"], hand["texts"]) == (True, "missing", {"age": "12", "name": "\ufffd"})
    assert (other["row"], other["layout"]) == ("older", "@0000000")
    assert (text["known"], text["row"]) == (False, "no hash")
    assert (gone["known"], gone["row"], gone["layout"]) == (False, "deleted", None)
    assert isinstance(gone["deleted"], int)
    assert (back["row"], back["deleted"]) == ("current", gone["deleted"]) or isinstance(back["deleted"], int)
    assert 0 < back["expires_ms"] <= 100_000  # type: ignore[operator]
    for each in ("hand", "text"):
        command("DEL", key[each])
        command("SREM", members[each], each)


def test_ids_of_every_form_can_be_asked_for(store: FeatureStore) -> None:
    ids = ["..", "a/b", "a,b", "é€😀", "{1}", "sample"]
    store.upsert([(each, {"age": 1.0}) for each in ids])
    client = TestClient(create_app(store))
    answer = client.simulate_get("/entities/user/stored", params={"id": ids}, params_csv=False)
    assert [(each["user_id"], each["row"]) for each in answer.json["stored"]] == [(each, "current") for each in ids]
    for each in ids:
        store.delete(each)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "0 ids: want 1 to 50"),
        ("?id=", "id= is empty"),
        ("?" + "&".join(["id=a"] * 51), "51 ids: want 1 to 50"),
        ("?id=" + "x" * 257, "an id is 1 to 256 bytes"),
        ("?ids=a", "there is no parameter ids here"),
    ],
)
def test_a_wrong_question_about_what_is_stored_is_refused(store: FeatureStore, query: str, told: str) -> None:
    answer = ask(store, f"/entities/user/stored{query}")
    assert answer.status_code == 422
    assert told in answer.json["detail"]


@pytest.mark.parametrize("target", ["/entities/none/sample", "/entities/none/stored?id=a"])
def test_an_entity_without_a_schema_is_unknown(store: FeatureStore, target: str) -> None:
    answer = ask(store, target)
    assert (answer.status_code, answer.json["code"]) == (404, "NOENTITY")


@pytest.mark.parametrize("target", ["/entities", "/entities/user/sample", "/entities/user/stored?id=ann"])
def test_the_read_preference_and_head_are_understood(store: FeatureStore, target: str) -> None:
    client = TestClient(create_app(store))
    assert client.simulate_head(target).status_code == 200
    if target != "/entities":
        wrong = client.simulate_get(target, headers={"Featurestore-Read-From": "moon"})
        assert wrong.status_code == 422
        assert client.simulate_get(target, headers={"Featurestore-Read-From": "primary"}).status_code == 200
