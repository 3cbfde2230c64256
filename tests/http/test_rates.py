"""Rates of API keys over HTTP: what is refused and how, and what several workers let through together."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from time import monotonic
from typing import NamedTuple

import pytest
from support.api_keys import made
from support.http import HttpServer, serving
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, SyncTransport
from featurestore.access.key import Key
from featurestore.api.rates import Lease
from featurestore.keys import bucket_of

IDS = [f"u{number}" for number in range(30)]
RATE, BURST, WORKERS = 60, 12, 2


@pytest.fixture(scope="module")
def store(servers: dict[str, Server]) -> Iterator[FeatureStore]:
    with FeatureStore(SyncTransport(servers["valkey9"].url, timeout=5, connect_timeout=5)) as found:
        found.transport.command("FLUSHALL")
        found.apply(Definition(features={"n": "int"}))
        found.upsert([(each, {"n": 1}) for each in IDS])
        yield found
        found.transport.command("FLUSHALL")


class Site(NamedTuple):
    """A server, and the secrets of its keys."""

    server: HttpServer
    slow: str
    batches: str
    people: str
    quick: str


@pytest.fixture(scope="module", params=["featurestore", "gthread"])
def site(
    request: pytest.FixtureRequest,
    store: FeatureStore,
    servers: dict[str, Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    for name in ("slow", "batches", "people", "quick"):
        store.transport.command("DEL", bucket_of(name))
    folder = tmp_path_factory.mktemp("rates")
    path = folder / "keys.toml"
    slow = made(path, "slow", "read", "write", rate=0.01, burst=5)
    batches = made(path, "batches", "read", rate=0.01, burst=100)
    people = made(path, "people", "read", rate=0.01, burst=100)
    quick = made(path, "quick", "read", rate=RATE, burst=BURST)
    settings = {"keys_file": str(path), "workers": str(WORKERS), "timeout_ms": "5000"}
    with serving(servers["valkey9"].url, folder, worker_class=request.param, **settings) as server:
        yield Site(server, slow, batches, people, quick)


def test_what_is_too_much_is_refused_and_told_when_to_come_again(site: Site, store: FeatureStore) -> None:
    server, secret = site.server, site.slow
    key = {"X-API-Key": secret}
    wait_until(lambda: server.request("GET", "/features/u1", **key).status == 429)
    for method, target, body in (
        ("GET", "/features/u1", None),
        ("GET", "/features/u1?metadata=true", None),
        ("POST", "/features/batch", {"ids": IDS}),
        ("PUT", "/features/u1", {"features": {"n": 1}}),
    ):
        answer = server.request(method, target, body, **key)
        assert answer.status == 429
        assert answer.json["code"] == "RATELIMIT"
        assert answer.json["detail"].startswith("the API key slow may read and write 0.01 rows a second, 5 at once")
        wait = int(answer.headers["Retry-After"])
        assert 50 < wait <= 100
        assert answer.headers["RateLimit"] == f'"slow";r=0;t={wait}'
        assert answer.headers["RateLimit-Policy"] == '"slow";q=5;w=500'
    assert server.request("GET", "/livez", **key).status == 200
    assert server.request("GET", "/health", **key).status == 200
    assert store.get("u1") == {"n": 1}


def test_a_batch_costs_as_many_tokens_as_it_has_rows(site: Site, store: FeatureStore) -> None:
    server, secret = site.server, site.batches
    key = {"X-API-Key": secret}
    wait_until(lambda: server.request("POST", "/features/batch", {"ids": IDS}, **key).status == 429)
    left = int(float(str(store.transport.command("PTTL", bucket_of("batches"))))) / 1000 * 0.01
    assert 90 < left <= 101  # three of 30; a fourth would have been 120, and the leases hold no more than one each


def test_looking_at_ids_costs_as_many_tokens_as_there_are(site: Site, store: FeatureStore) -> None:
    key = {"X-API-Key": site.people}
    stored = "/entities/user/stored?" + "&".join(f"id={each}" for each in IDS)
    assert site.server.request("GET", "/entities/user/sample?count=60", **key).status == 200
    assert site.server.request("GET", stored, **key).status == 200
    for target in (stored, "/entities/user/sample?count=60"):
        assert site.server.request("GET", target, **key).status == 429
    left = int(float(str(store.transport.command("PTTL", bucket_of("people"))))) / 1000 * 0.01
    assert 89 < left <= 100


@pytest.mark.parametrize("site", ["featurestore"], indirect=True)
def test_workers_together_let_through_what_the_rate_permits(site: Site, store: FeatureStore) -> None:
    server, secret = site.server, site.quick
    wait_until(lambda: server.request("GET", "/features/u1", **{"X-API-Key": secret}).status == 200)
    answers: Counter[int] = Counter()
    end = monotonic() + 2

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        mine: Counter[int] = Counter()
        while monotonic() < end:
            connection.request("GET", "/features/u1", headers={"X-API-Key": secret})
            response = connection.getresponse()
            response.read()
            mine[response.status] += 1
        connection.close()
        answers.update(mine)

    began = monotonic()
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = monotonic() - began
    assert answers.keys() <= {200, 401, 429}  # a worker may see the new key a second later
    assert answers[429] > 0
    assert store.get("u1") == {"n": 1}
    chunk = Lease(Key(name="quick", digest=b"", may=frozenset(), rate=RATE, burst=BURST)).chunk
    assert answers[200] <= RATE * took + BURST + WORKERS * chunk
    assert answers[200] > RATE * took * 0.5
