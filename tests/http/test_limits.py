"""What a read may ask for at most, and what happens when more is asked than can be done."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.http import HttpServer, serving
from support.servers import Server

from featurestore import Definition, FeatureStore, Keys, SyncTransport

WIDE = {f"f{number:03d}": "float" for number in range(200)}
IDS = [f"u{number}" for number in range(1000)]


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore(SyncTransport(valkey.url, timeout=10, connect_timeout=10)) as opened:
        opened.apply(Definition(features={**WIDE, "e": "float32[64]"}))
        opened.upsert((name, dict.fromkeys(WIDE, number / 7)) for number, name in enumerate(IDS))
        yield opened


@pytest.fixture
def server(valkey: Server, store: FeatureStore, tmp_path: Path) -> Iterator[HttpServer]:
    with serving(valkey.url, tmp_path, max_cells="1000", timeout_ms="5000", connect_timeout_ms="5000") as running:
        yield running


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/features/batch", {"ids": IDS[:6]}),
        ("/features/batch", {"ids": IDS[:501], "features": ["f000", "f001"]}),
        ("/features/batch", {"ids": IDS[:501], "features": ["f000", "f001"], "metadata": True}),
        ("/features/batch", {"ids": IDS[:334], "features": ["e"]}),  # 64 numbers count as 2
        ("/features/query", {"rows": [{"user": name} for name in IDS[:501]], "features": ["f000", "f001"]}),
        ("/get-online-features", {"entities": {"user_id": IDS[:501]}, "features": ["user:f000", "user:f001"]}),
    ],
)
def test_too_many_values_are_refused_by_the_name_of_the_limit(server: HttpServer, path: str, body: Any) -> None:
    refused = server.request("POST", path, body)
    assert refused.status == 422
    assert b"at most 1,000 at once (FEATURESTORE_MAX_CELLS)" in refused.body


@pytest.mark.parametrize(
    "body", [{"ids": IDS[:5]}, {"ids": IDS[:500], "features": ["f000", "f001"]}, {"ids": IDS[:333], "features": ["e"]}]
)
def test_as_many_as_the_limit_says_are_answered(server: HttpServer, body: Any) -> None:
    answer = server.request("POST", "/features/batch", body)
    assert (answer.status, len(answer.json)) == (200, len(body["ids"]))


def test_the_limit_holds_for_other_entities_too(server: HttpServer, store: FeatureStore, valkey: Server) -> None:
    with FeatureStore(SyncTransport(valkey.url, timeout=10, connect_timeout=10), Keys("item")) as items:
        items.apply(Definition(dict.fromkeys(("a", "b", "c"), "int"), entity="item"))
    assert server.request("POST", "/entities/item/features/batch", {"ids": IDS[:333]}).status == 200
    assert server.request("POST", "/entities/item/features/batch", {"ids": IDS[:334]}).status == 422


@pytest.mark.parametrize("bad", ["", "x" * 257, "\u00e9" * 129])
def test_a_bad_id_among_many_is_its_own_requests_matter(server: HttpServer, bad: str) -> None:
    ids = [*IDS[:300], bad, *IDS[300:400]]
    refused = server.request("POST", "/features/batch", {"ids": ids, "features": ["f000"]})
    assert (refused.status, refused.json["code"]) == (422, "BADID")
    assert server.get("/features/u1").status == 200
    assert server.request("POST", "/features/batch", {"ids": IDS[:400], "features": ["f000"]}).status == 200


class Client(threading.Thread):
    """Sends the same batch again and again, and counts the answers."""

    def __init__(self, port: int, body: Any, times: int) -> None:
        super().__init__()
        self._port, self._body, self._times = port, json.dumps(body), times
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            for _ in range(self._times):
                connection.request("POST", "/features/batch", self._body)
                response = connection.getresponse()
                body = response.read()
                self.statuses[response.status] += 1
                if response.status == 200 and len(json.loads(body)) != 1000:
                    self.wrong.append(f"{len(body)} bytes")
                if response.status == 503 and response.headers["Retry-After"] != "1":
                    self.wrong.append(str(response.headers))
        finally:
            connection.close()


def test_a_wide_batch_of_a_thousand_is_answered(valkey: Server, store: FeatureStore, tmp_path: Path) -> None:
    with serving(valkey.url, tmp_path) as server:  # with the time-out of 50 ms
        for features in (list(WIDE), None):
            client = Client(server.port, {"ids": IDS, **({"features": features} if features else {})}, 5)
            client.run()
            assert (client.statuses, client.wrong) == ({200: 5}, [])
        store.apply(Definition(features={"more": "int"}))  # after which no row is stored ready
        client = Client(server.port, {"ids": IDS}, 2)
        client.run()
        assert (client.statuses, client.wrong) == ({200: 2}, [])


def test_what_is_too_much_is_refused_and_nothing_is_done_for_it(
    valkey: Server, store: FeatureStore, tmp_path: Path
) -> None:
    with serving(valkey.url, tmp_path, timeout_ms="100") as server:
        body = {"ids": IDS, "features": list(WIDE)[:150]}
        assert server.request("POST", "/features/batch", body).status == 200
        clients = [Client(server.port, body, 3) for _ in range(80)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        statuses = sum((client.statuses for client in clients), Counter())
        assert {200} <= statuses.keys() <= {200, 503}  # how many are refused depends on how quickly they come
        assert [client.wrong for client in clients] == [[]] * 80
        assert server.request("POST", "/features/batch", body).status == 200
        assert server.get("/features/u1").status == 200
