"""What other feature stores get wrong, and is right here: a test for each defect, on every backend.

Numbers are those of issues and pull requests of Feast, unless another project is named. Where a defect shows over HTTP,
it is asked for over Feast's own route.
"""

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import falcon.testing
import pytest
from support.fake import FakeTransport
from support.names import beside, hash_of, remove
from support.servers import wait_until

from featurestore import Definition, FeatureStore, Transport
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.contract.resp import Reply
from featurestore.contract.scripts import Script
from featurestore.errors import FeatureStoreError
from featurestore.schema.definition import FeatureDefinition
from featurestore.store.maintenance import repack

FEATURES: dict[str, Any] = {
    "ctr": "float",
    "n": "int",
    "ok": "bool",
    "city": "string",
    "e": "float32[2]",
    "old": FeatureDefinition("float", max_age="1h"),
}
NEVER = "1970-01-01T00:00:00Z"
MINUTE, HOUR = 60_000, 3_600_000
BIG = 2**53 + 1


@pytest.fixture
def store(transport: Transport) -> FeatureStore:
    """A store with features of every type."""
    store = FeatureStore(transport)
    store.apply(Definition(features=FEATURES))
    return store


@pytest.fixture
def shop(store: FeatureStore, transport: Transport) -> Iterator[FeatureStore]:
    """A second entity, which is a second feature view."""
    other = beside(transport, "shop")
    other.apply(Definition(features={"risk": "float"}, entity="shop"))
    yield other
    remove(other)


@pytest.fixture
def client(store: FeatureStore) -> falcon.testing.TestClient:
    return falcon.testing.TestClient(create_app(store, access=Access("key")))


def now_ms(transport: Transport) -> int:
    seconds, micros = (int(part) for part in transport.command("TIME"))
    return seconds * 1000 + micros // 1000


def push(client: falcon.testing.TestClient, source: str = "user", **df: list[Any]) -> falcon.testing.Result:
    body = {"push_source_name": source, "df": df}
    return client.simulate_post("/push", json=body, headers={"X-API-Key": "key"})


def online(client: falcon.testing.TestClient, feature: str, ids: Sequence[Any]) -> list[tuple[Any, str, str]]:
    """Return value, status and event time of one feature for each id, over Feast's route."""
    body = {"entities": {"user_id": ids}, "features": [f"user:{feature}"]}
    result = client.simulate_post("/get-online-features", json=body).json["results"][1]
    return list(zip(result["values"], result["statuses"], result["event_timestamps"], strict=True))


# What is missing, stale or null


def test_a_missing_entity_is_not_found(client: falcon.testing.TestClient) -> None:
    """Feast's Redis store: null, PRESENT, 1970."""
    assert online(client, "ctr", ["nobody"]) == [(None, "NOT_FOUND", NEVER)]


def test_a_null_is_told_from_a_missing_entity(client: falcon.testing.TestClient) -> None:
    """#278; NULL_VALUE, which Feast's own path never says."""
    push(client, user_id=["u"], ctr=[None], n=[1])
    assert online(client, "ctr", ["u", "nobody"]) == [(None, "NULL_VALUE", NEVER), (None, "NOT_FOUND", NEVER)]


def test_a_stale_value_is_null_and_says_so(store: FeatureStore, client: falcon.testing.TestClient) -> None:
    """#6821, #4133: served as PRESENT, whatever the ttl; OUTSIDE_MAX_AGE, which Feast's own path never says."""
    time = now_ms(store.transport) - 2 * HOUR
    store.upsert([("u", {"old": 1.0, "ctr": 1.0})], event_time=time)
    ((value, status, at),) = online(client, "old", ["u"])
    assert (value, status, at != NEVER) == (None, "OUTSIDE_MAX_AGE", True)
    assert online(client, "ctr", ["u"])[0][:2] == (1.0, "PRESENT")


def test_an_entity_past_its_ttl_is_gone_at_once(store: FeatureStore) -> None:
    """SageMaker: removed in the background, within days."""
    store.apply(Definition(features={"n": "int"}, ttl="50ms"))
    store.upsert([("u", {"n": 1})])
    wait_until(lambda: store.get_many(["u"]) == [None], timeout=10)


def test_an_age_may_be_of_ms_and_of_one_feature(store: FeatureStore) -> None:
    """#1988, #555, #3338: days, and a whole view."""
    store.apply(Definition(features={"n": FeatureDefinition("int", max_age="1500ms"), "ctr": "float"}))
    store.upsert([("u", {"n": 1, "ctr": 1.0})], event_time=now_ms(store.transport) - 2000)
    assert store.get("u", ["n", "ctr"]) == {"n": None, "ctr": 1.0}


def test_a_null_key_does_not_fail_the_rows_beside_it(client: falcon.testing.TestClient) -> None:
    """#3270: one bad entity, no answer."""
    push(client, user_id=["u"], n=[1])
    assert [row[:2] for row in online(client, "n", [None, "u"])] == [(None, "NOT_FOUND"), (1, "PRESENT")]


def test_rubbish_under_one_key_does_not_last(store: FeatureStore) -> None:
    """Chronon #932, #964: a failure was kept in a cache."""
    store.upsert([("u", {"n": 1}), ("v", {"n": 2})])
    store.transport.command("DEL", hash_of(store, "u"))
    store.transport.command("SET", hash_of(store, "u"), "rubbish")
    assert store.get_many(["u", "v"], ["n"]) == [None, {"n": 2}]
    store.transport.command("DEL", hash_of(store, "u"))
    store.upsert([("u", {"n": 3})])
    assert store.get_many(["u", "v"], ["n"]) == [{"n": 3}, {"n": 2}]


# Rows in the right places


def test_duplicates_and_order_have_each_their_own_values(
    store: FeatureStore, client: falcon.testing.TestClient
) -> None:
    """#6805: values of another entity."""
    store.upsert([(f"u{number}", {"n": number}) for number in range(150)])
    ids = [f"u{number}" for number in range(200)] * 2
    random.Random(6805).shuffle(ids)
    expected = [(number, "PRESENT") if number < 150 else (None, "NOT_FOUND") for number in (int(i[1:]) for i in ids)]
    assert [row[:2] for row in online(client, "n", ids)] == expected


def test_each_view_is_read_by_its_own_join_key(shop: FeatureStore, client: falcon.testing.TestClient) -> None:
    """#6488: the first join key for all of them."""
    push(client, user_id=["1"], n=[1])
    shop.upsert([("2", {"risk": 0.5})])
    body = {"entities": {"user_id": ["1", "2"], "shop_id": ["2", "1"]}, "features": ["shop:risk", "user:n"]}
    results = client.simulate_post("/get-online-features", json=body).json["results"]
    assert [result["values"] for result in results[2:]] == [[0.5, None], [1, None]]


def test_a_request_leaves_nothing_behind_for_the_next(
    store: FeatureStore, transport: Transport, client: falcon.testing.TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """#6841, #3597: a list that grew by an entry a request."""
    push(client, user_id=["u"], n=[1])
    sent: list[list[bytes]] = []
    run = transport.run_many_encoded

    def noted(script: Script, encoded: Sequence[bytes], **options: Any) -> list[Reply | FeatureStoreError]:
        sent.append(list(encoded))
        return run(script, encoded, **options)

    monkeypatch.setattr(transport, "run_many_encoded", noted)
    answers = [online(client, "n", ["u"]) for _ in range(20)]
    assert (answers, sent) == ([answers[0]] * 20, [sent[0]] * 20)


@pytest.mark.parametrize("count", [993, 5000])
def test_a_batch_has_no_size_at_which_it_fails(store: FeatureStore, count: int) -> None:
    """RonDB #313, #577, #701; Redisson #5903: `unpack` of 8,000 values."""
    ids = [f"u{number}" for number in range(count)]
    assert store.upsert([(name, {"n": 1}) for name in ids]).written == count
    assert store.get_many(ids, ["n"]) == [{"n": 1}] * count


# Types


def test_numbers_are_exact(client: falcon.testing.TestClient) -> None:
    """Redis #7520, #1118: cjson prints 14 digits; Tecton: an int64 is a string; SageMaker: everything is."""
    push(client, user_id=["u"], n=[BIG], ctr=[0.1234567890123456])
    assert online(client, "n", ["u"])[0][0] == BIG
    assert online(client, "ctr", ["u"])[0][0] == 0.1234567890123456


def test_a_float32_has_the_digits_that_were_written(client: falcon.testing.TestClient) -> None:
    """#4031: 0.1 becomes 0.10000000149011612."""
    push(client, user_id=["u"], e=[[0.1, 16777216.0]])
    assert online(client, "e", ["u"])[0][0] == [0.1, 16777216.0]


def test_a_float32_takes_4_bytes(store: FeatureStore) -> None:
    """#1904: floats are kept as doubles."""
    store.upsert([("u", {"e": [0.1, 2.0]})])
    assert len(store.transport.command("HGET", hash_of(store, "u"), "e")) == 8


@pytest.mark.parametrize("key", [1, 1.0, "1", BIG, -5])
def test_a_key_is_the_same_however_it_was_typed(client: falcon.testing.TestClient, key: Any) -> None:
    """#4110, #3565, #2343: an INT32 key finds None or NaN."""
    push(client, user_id=[key], n=[7])
    assert online(client, "n", [key, str(int(key))]) == [online(client, "n", [key])[0]] * 2
    assert online(client, "n", [key])[0][:2] == (7, "PRESENT")


def test_an_int_is_taken_for_a_float_and_comes_back_as_one(client: falcon.testing.TestClient) -> None:
    """#3884: TypeError."""
    assert push(client, user_id=["u"], ctr=[1]).status_code == 200
    ((value, _, _),) = online(client, "ctr", ["u"])
    assert (value, type(value)) == (1.0, float)


def test_no_nan_makes_an_answer_impossible(store: FeatureStore, client: falcon.testing.TestClient) -> None:
    """Feast's server: `allow_nan=False`, 500 for the whole response."""
    assert store.upsert([("u", {"ctr": float("inf"), "n": 1})]).rejected[0].code == "BADTYPE"
    assert store.upsert([("u", {"ctr": float("nan"), "n": 1})]).written == 1  # it is no value
    assert online(client, "ctr", ["u"])[0][0] is None
    store.transport.command("HSET", hash_of(store, "u"), "ctr", "nan")
    assert online(client, "ctr", ["u"])[0][:2] == (None, "NULL_VALUE")


# Writes


def test_event_times_order_a_batch(client: falcon.testing.TestClient) -> None:
    """#5163: the last row wins."""
    push(
        client, user_id=["u"] * 3, n=[1, 3, 2], event_timestamp=[f"2026-08-21T10:00:0{second}" for second in (1, 3, 2)]
    )
    assert online(client, "n", ["u"]) == [(3, "PRESENT", "2026-08-21T10:00:03Z")]


def test_times_are_kept_to_the_ms(client: falcon.testing.TestClient) -> None:
    """#5807: whole seconds; #2260, #2355: other event times than were written."""
    for value, at in ((1, "2026-08-21T10:00:00.002"), (2, "2026-08-21T10:00:00.001")):
        push(client, user_id=["u"], n=[value], event_timestamp=[at])
    assert online(client, "n", ["u"]) == [(1, "PRESENT", "2026-08-21T10:00:00.002Z")]
    push(client, user_id=["u"], n=[3], event_timestamp=["2026-08-21T12:00:01.5+02:00"])
    assert online(client, "n", ["u"]) == [(3, "PRESENT", "2026-08-21T10:00:01.500Z")]


def test_a_null_time_counts_as_now(store: FeatureStore, client: falcon.testing.TestClient) -> None:
    """#2803: null timestamps."""
    before = now_ms(store.transport)
    assert push(client, user_id=["u", "v"], n=[1, 2], event_timestamp=[None, "2026-08-21T10:00:00"]).status_code == 200
    _, (entry,) = store.fetch_fresh(["u"], ["n"])
    assert entry is not None
    assert before <= (entry.event_time or 0) <= now_ms(store.transport)


def test_a_backfill_may_rewrite_with_older_times(store: FeatureStore) -> None:
    """#2795: cannot."""
    store.upsert([("u", {"n": 1})], event_time=2000)
    assert store.upsert([("u", {"n": 2})], event_time=1000).verdicts == "S"
    assert store.upsert([("u", {"n": 2})], event_time=1000, overwrite=True).verdicts == "A"
    assert store.get("u", ["n"]) == {"n": 2}


def test_features_that_a_write_does_not_name_stay(client: falcon.testing.TestClient) -> None:
    """#5369, #3313, #1461: the row is replaced; Meesho: they get their defaults."""
    push(client, user_id=["u"], n=[1], ctr=[0.5])
    push(client, user_id=["u"], n=[2])
    assert (online(client, "n", ["u"])[0][0], online(client, "ctr", ["u"])[0][0]) == (2, 0.5)


def test_an_unknown_push_source_is_refused(client: falcon.testing.TestClient) -> None:
    """#3210: 200."""
    assert push(client, "nope", user_id=["u"], n=[1]).status_code == 422


def test_concurrent_writers_leave_the_newest_value(store: FeatureStore) -> None:
    """Feast: a read, then a write, with a race between the two; Meesho: a lost update."""
    if isinstance(store.transport, FakeTransport):
        pytest.skip("fakeredis is not for threads")
    times = list(range(1, 201))
    random.Random(3).shuffle(times)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: store.upsert([("u", {"n": at, "ctr": 1.0})], event_time=at), times))
        list(pool.map(lambda name: store.upsert([("u", {name: 2})], event_time=300), ["n", "ctr"]))
    assert store.get("u", ["n", "ctr"]) == {"n": 2, "ctr": 2.0}


def test_concurrent_writers_of_other_features_lose_nothing(store: FeatureStore) -> None:
    """Meesho: the group is read, merged and set."""
    if isinstance(store.transport, FakeTransport):
        pytest.skip("fakeredis is not for threads")
    now = int(time.time() * 1000)
    writes = [{name: round_} for round_ in range(50) for name in ("n", "ctr", "old")]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda values: store.upsert([("u", values)], event_time=now), writes))
    row = store.get("u", ["n", "ctr", "old"])
    assert row is not None
    assert None not in row.values()


def test_an_older_value_of_one_pipeline_goes_in_beside_a_newer_one_of_another(store: FeatureStore) -> None:
    """FeatHub, Azure ML: one time for the row."""
    store.upsert([("u", {"n": 1})], event_time=2000)
    store.upsert([("u", {"ctr": 0.5})], event_time=1000)
    assert store.get("u", ["n", "ctr"]) == {"n": 1, "ctr": 0.5}


# Expiry and deletion


def test_a_write_of_one_view_does_not_extend_another(store: FeatureStore, shop: FeatureStore) -> None:
    """Feast: EXPIRE covers the hash of all views."""
    for view, name in ((store, "n"), (shop, "risk")):
        view.apply(Definition(features={name: "int" if name == "n" else "float"}, ttl="1h"))
    time = now_ms(store.transport)
    store.upsert([("u", {"n": 1})], event_time=time - 50 * MINUTE)
    shop.upsert([("u", {"risk": 0.5})], event_time=time)
    assert store.transport.command("PTTL", hash_of(store, "u")) <= 10 * MINUTE
    assert store.transport.command("PTTL", hash_of(shop, "u")) > 50 * MINUTE


def test_a_ttl_counts_from_the_event_however_often_it_is_written(store: FeatureStore) -> None:
    """#3275: the same time written again, under another ttl too, left the expiry as it was."""
    store.apply(Definition(features={"n": "int"}, ttl="1h"))
    time = now_ms(store.transport) - 10 * MINUTE
    for _ in range(2):
        store.upsert([("u", {"n": 1})], event_time=time)
        assert 45 * MINUTE < store.transport.command("PTTL", hash_of(store, "u")) <= 50 * MINUTE
    store.apply(Definition(features={"n": "int"}, ttl="2h"))
    store.upsert([("u", {"n": 1})], event_time=time)
    assert 105 * MINUTE < store.transport.command("PTTL", hash_of(store, "u")) <= 110 * MINUTE


def test_a_ttl_may_change_for_what_is_stored(store: FeatureStore) -> None:
    """#4679: cannot change."""
    store.apply(Definition(features={"n": "int"}, ttl="1h"))
    time = now_ms(store.transport) - 10 * MINUTE
    store.upsert([("u", {"n": 1})], event_time=time)
    store.apply(Definition(features={"n": "int"}, ttl="5m"))
    assert store.get("u", ["n"]) is None
    store.apply(Definition(features={"n": "int"}, ttl="2h"))
    for _ in repack(store):
        pass
    assert 105 * MINUTE < store.transport.command("PTTL", hash_of(store, "u")) <= 110 * MINUTE
    assert store.get("u", ["n"]) == {"n": 1}


def test_a_deletion_is_of_one_entity_at_once_and_for_good(store: FeatureStore) -> None:
    """#2254, #2150, #3857: slow, or of what should stay."""
    time = now_ms(store.transport)
    store.upsert([("u", {"n": 1}), ("v", {"n": 2})], event_time=time)
    assert store.delete("u")
    assert store.get_many(["u", "v"], ["n"]) == [None, {"n": 2}]
    store.upsert([("u", {"n": 1})], event_time=time)
    assert store.get("u") is None
