"""What commands do behind Sentinels, and where replicas answer reads: consume, retire, doctor, health."""

from collections.abc import Iterator
from typing import Any

import falcon.testing
import pytest
from featurestore.ingest.streams.consumer import Consumer
from featurestore.ingest.streams.counts import Counts
from featurestore.ingest.streams.redis_link import RedisLink
from featurestore.ingest.streams.redis_streams import RedisStreams
from featurestore.ingest.streams.writing import Target
from support.cluster import Watched, ask
from support.servers import wait_until

from featurestore import Definition, FeatureStore
from featurestore.api.app import create_app
from featurestore.errors import UnavailableError
from featurestore.store.doctor import diagnose
from featurestore.store.retirement import clear, retire

DEFINITION = Definition({"n": "int", "m": "int"})


@pytest.fixture
def store(watched: Watched) -> Iterator[FeatureStore]:
    with FeatureStore.connect(watched.url, timeout=5) as store:
        store.apply(DEFINITION)
        yield store


def fail_over(watched: Watched) -> None:
    before = watched.primary()
    ask(watched.sentinels[0], "SENTINEL", "FAILOVER", watched.NAME)
    wait_until(lambda: watched.primary() is not before, timeout=30, what="another primary")
    watched.settle()


def drain(url: str) -> Counts:
    link, counts = RedisLink(url, 5.0), Counts()
    source = RedisStreams(link, ("clicks",), group="featurestore", dead=".dead", batch=100, claim_after=60.0,
                          start="0", passing=True, consumer="one")  # fmt: skip
    target = Target(url, "user", timeout=5, call="scripts")
    assert Consumer(source, target, counts, tries=5).run(until_drained=True)
    source.close()
    target.close()
    return counts


def test_streams_are_consumed_from_the_primary_whoever_that_is(watched: Watched, store: FeatureStore) -> None:
    store.transport.command("XADD", "clicks", "*", "id", "ann", "n", "1")
    drain(watched.url)
    fail_over(watched)
    store.transport.command("XADD", "clicks", "*", "id", "bob", "n", "2")
    drain(watched.url)
    assert store.get_many(["ann", "bob"], ["n"]) == [{"n": 1}, {"n": 2}]
    several = ",".join(f"127.0.0.1:{server.port}" for server in watched.servers)
    ask(watched.primary(), "XADD", "clicks", "*", "id", "cem", "n", "3")
    drain(f"redis+replicas://{several}")
    wait_until(lambda: store.get("cem", ["n"]) == {"n": 3}, what="the row")


def test_a_link_looks_again_for_the_primary_that_was_replaced(watched: Watched) -> None:
    link = RedisLink(watched.url, 5.0)
    link.command("SET", "before", "1")
    fail_over(watched)

    def is_set() -> bool:
        try:
            link.command("SET", "after", "1")
        except UnavailableError:
            return False
        return True

    wait_until(is_set, what="a write to the new primary")
    assert ask(watched.primary(), "EXISTS", "after") == 1
    link.close()


def test_no_sentinel_that_answers_is_told(watched: Watched) -> None:
    for sentinel in watched.sentinels:
        sentinel.stop()
    with pytest.raises(UnavailableError, match="Sentinel"):
        RedisLink(watched.url, 1.0).command("PING")


def test_a_retirement_takes_every_value_out_though_another_server_takes_over(
    watched: Watched, store: FeatureStore
) -> None:
    ids = [f"u{number}" for number in range(3000)]
    store.upsert([(each, {"n": 1, "m": 2}) for each in ids])
    wait_until(lambda: all(ask(server, "SCARD", "all_users") == len(ids) for server in watched.servers))
    retire(store, ["n"])
    steps = clear(store)
    next(steps)
    fail_over(watched)
    wait_until(lambda: isinstance(store.count(), int), what="the store")
    *_, last = steps
    assert last.freed == 1
    primary = watched.primary()
    assert [each for each in ids if ask(primary, "HEXISTS", f"user:{each}:features", "n")] == []


def test_doctor_names_the_primary_its_replicas_and_the_sentinels(watched: Watched, store: FeatureStore) -> None:
    found = {finding.text: finding.good for finding in diagnose(store)}
    primary, *replicas = sorted(watched.servers, key=lambda server: ask(server, "ROLE")[0] != "master")
    (told,) = [text for text in found if "is the primary, with the replicas" in text]
    assert f"127.0.0.1:{primary.port} is the primary" in told
    for each in (*replicas, *watched.sentinels):
        assert f"127.0.0.1:{each.port}" in told
    assert found[told]
    assert any("min-replicas-to-write is 0" in text for text in found)
    assert any("replicas have heard of their primaries" in text for text in found)
    ask(primary, "CONFIG", "SET", "min-replicas-to-write", 1)
    assert any("min-replicas-to-write is 1" in finding.text for finding in diagnose(store))


def test_health_has_the_servers_behind_sentinels(watched: Watched, store: FeatureStore) -> None:
    def asked() -> Any:
        return falcon.testing.TestClient(create_app(store)).simulate_get("/health")

    wait_until(lambda: len(asked().json["nodes"]) == 3, what="all servers")
    assert sorted(each["role"] for each in asked().json["nodes"]) == ["primary", "replica", "replica"]
    assert all(each["answers"] for each in asked().json["nodes"])
