"""Vectors over HTTP, against a real server, in process: up to 2,048 numbers, and read by those alone who ask."""

from collections.abc import Iterator

import falcon.testing
import numpy as np
import pytest
import redis
from support.servers import Server

from featurestore import Definition, FeatureStore, SyncTransport
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.api.counters import Board, Meter
from featurestore.api.fast_reads import FastReads

KEY = {"X-API-Key": "right"}
LONGEST = 2048
FEATURES = {"n": "int", "small": "float32[3]", "embedding": f"float32[{LONGEST}]"}


@pytest.fixture
def store(servers: dict[str, Server]) -> Iterator[FeatureStore]:
    link = SyncTransport(servers["valkey9"].socket_url, timeout=5, connect_timeout=5)
    link.command("FLUSHALL")
    store = FeatureStore(link)
    store.apply(Definition(features=FEATURES))  # type: ignore[arg-type]
    yield store
    link.close()


@pytest.fixture
def client(store: FeatureStore) -> falcon.testing.TestClient:
    meter = Meter(Board())
    return falcon.testing.TestClient(FastReads(store, create_app(store, access=Access("right"), meter=meter), meter))


def numbers(seed: int, length: int = LONGEST) -> list[float]:
    vector = np.random.default_rng(seed).normal(0, 0.1, length).astype("<f4")
    return [float(str(number)) for number in vector]  # the digits that tell float32s apart


def test_the_longest_vectors_are_written_and_read_end_to_end(client: falcon.testing.TestClient) -> None:
    vector = numbers(1)
    body = {"features": {"embedding": vector, "small": [1, 2.5, -3e-7]}}
    assert client.simulate_put("/features/u", json=body, headers=KEY).json["verdict"] == "created"
    answer = client.simulate_get("/features/u", params={"features": "embedding,small"})
    assert answer.json["features"] == {"embedding": vector, "small": [1.0, 2.5, -3e-7]}
    assert answer.text.endswith('"small":[1.0,2.5,-3e-7]}}')
    for wrong in (vector[1:], [*vector, 1.0], "text", [*vector[1:], 1e39], [*vector[1:], None]):
        refused = client.simulate_put("/features/u", json={"features": {"embedding": wrong}}, headers=KEY)
        assert (refused.status_code, refused.json["code"]) == (422, "BADTYPE")
    query = {"rows": [{"user": "u"}, {"user": "x"}], "features": ["n", "embedding"]}
    assert client.simulate_post("/features/query", json=query).json["rows"] == [[None, vector], [None, None]]


def test_a_batch_of_the_longest_vectors(client: falcon.testing.TestClient, store: FeatureStore) -> None:
    vectors = {f"u{number}": numbers(number) for number in range(120)}
    assert store.upsert((entity_id, {"embedding": vector}) for entity_id, vector in vectors.items()).written == 120
    ids = [*vectors, "x", "u7"]
    answer = client.simulate_post("/features/batch", json={"ids": ids, "features": ["embedding", "n"]}).json
    assert [row["user_id"] for row in answer] == ids
    expected = [{"embedding": vectors[each], "n": None} if each in vectors else None for each in ids]
    assert [row["features"] for row in answer] == expected


def test_who_does_not_ask_for_a_vector_does_not_read_it(
    client: falcon.testing.TestClient, servers: dict[str, Server]
) -> None:
    body = {"features": {"embedding": numbers(1), "n": 1}}
    assert client.simulate_put("/features/u", json=body, headers=KEY).status_code == 200
    with redis.Redis(unix_socket_path=f"{servers['valkey9'].folder}/s") as link:
        with link.monitor() as monitor:
            client.simulate_get("/features/u")
            client.simulate_get("/features/u", params={"features": "n"})
            client.simulate_get("/features/u", params={"metadata": "true"})
            client.simulate_post("/features/batch", json={"ids": ["u", "x"]})
            client.simulate_post("/features/query", json={"rows": [{"user": "u"}], "features": ["n"]})
            client.simulate_put("/features/u", json={"features": {"n": 2}}, headers=KEY)
            client.simulate_post("/features/u", json={"incr": {"n": 2}}, headers=KEY)
            link.echo("end")
            seen: list[str] = []
            while not seen or seen[-1] != "ECHO end":
                seen.append(monitor.next_command()["command"])
        reads = [command for command in seen if command.startswith(("HGET", "HMGET")) and "u:features" in command]
        assert "HGET user:u:features @row" in reads
        assert [command for command in reads if "embedding" in command] == []
        row = link.hget("user:u:features", "@row")
        assert isinstance(row, bytes)
        assert len(row) < 64  # nor is it copied into the packed row


def test_passed_vectors_are_checked_and_served_like_stored_ones(client: falcon.testing.TestClient) -> None:
    client.simulate_put("/features/u", json={"features": {"small": [1, 2, 3]}}, headers=KEY)
    body = {"ids": ["u"], "features": ["n", "small"]}
    passed = client.simulate_post("/features/batch", json={**body, "passed": {"small": [0.1, 2, 1e-7]}})
    assert passed.text == '[{"user_id":"u","features":{"n":null,"small":[0.1,2.0,1e-7]}}]'
    query = {"rows": [{"user": "u"}], "features": ["small"], "passed": {"small": [0.5, 2, 3]}}
    assert client.simulate_post("/features/query", json=query).text == '{"names":["small"],"rows":[[[0.5,2.0,3.0]]]}'
    for wrong in ([0.1, 2], [0.1, 2, 3, 4], [0.1, 2, "x"], [0.1, 2, 1e39], "abc", 7):
        refused = client.simulate_post("/features/batch", json={**body, "passed": {"small": wrong}})
        assert (refused.status_code, refused.json["detail"].endswith(" - at `$.passed`")) == (422, True)
