"""What GETs on connections that stay open ask of the app and of Redis, with and without TLS."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from support.gunicorn import Gunicorn, read_response, request
from support.servers import Server, wait_until
from support.tls import make_certificate

from featurestore import Definition, FeatureStore, SyncTransport

FEATURES = {"n": "int", "name": "string"}
USERS = 40
CONNECTIONS = 16


class Asked(NamedTuple):
    """How often the app was asked, Redis was, and how many requests were counted."""

    begin: int
    wsgi: int
    evalsha: int
    hgetall: int
    counted: int

    def __sub__(self, other: "Asked") -> "Asked":
        return Asked(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


class Site:
    """A server with the real app in it, and the store that it serves."""

    def __init__(self, server: Gunicorn, store: FeatureStore) -> None:
        self.server, self.store = server, store

    def get(self, client: socket.socket, path: str) -> tuple[bytes, bytes]:
        client.sendall(request(path))
        head, body = read_response(client)
        return head.split()[1], body

    def user(self, client: socket.socket, number: int) -> dict[str, object]:
        status, body = self.get(client, f"/features/u{number}")
        assert status == b"200", body
        answer = json.loads(body)
        assert answer["user_id"] == f"u{number}"
        features: dict[str, object] = answer["features"]
        return features

    def asked(self) -> Asked:
        with self.server.connect() as client:
            app = json.loads(self.get(client, "/asked")[1])
            metrics = self.get(client, "/metrics")[1].decode()
        commands = self.store.transport.command("INFO", "commandstats").decode()
        calls = {name: int(count) for name, count in re.findall(r"cmdstat_(\w+):calls=(\d+)", commands)}
        series = 'featurestore_requests_total{entity="user",method="GET",route="/features/{id}"'
        counted = sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(series))
        return Asked(app.get("begin", 0), app.get("wsgi", 0), calls.get("evalsha", 0), calls.get("hgetall", 0),
                     int(counted))  # fmt: skip


@pytest.fixture(params=["plain", "tls"])
def site(request: pytest.FixtureRequest, valkey: Server, tmp_path: Path) -> Iterator[Site]:
    certificate = make_certificate(tmp_path) if request.param == "tls" else None
    with FeatureStore(SyncTransport(valkey.url, timeout=5, connect_timeout=5)) as store:
        store.apply(Definition(features=FEATURES))  # type: ignore[arg-type]
        store.upsert([(f"u{number}", {"n": number, "name": f"name {number}"}) for number in range(USERS)])
        server = Gunicorn(tmp_path, app="counting_app:app", certificate=certificate, REDIS_URL=valkey.url,
                          FEATURESTORE_WORKER_CLASS="featurestore", FEATURESTORE_TIMEOUT_MS="5000",
                          FEATURESTORE_CONNECT_TIMEOUT_MS="5000")  # fmt: skip
        yield Site(server, store)
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def expected(number: int) -> dict[str, object]:
    return {"n": number, "name": f"name {number}"}


def test_each_get_but_a_connections_first_is_one_begin_and_one_call(site: Site) -> None:
    with site.server.connect() as client:
        assert site.user(client, 0) == expected(0)
        before = site.asked()
        for number in range(USERS):
            assert site.user(client, number) == expected(number)
        assert site.get(client, "/features/nobody")[0] == b"404"
        assert site.asked() - before == (USERS + 1, 0, USERS + 1, 0, USERS + 1)


def test_gets_that_come_together_share_calls(site: Site) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(site.server.connect()) for _ in range(CONNECTIONS)]
        for client in clients:
            site.user(client, 0)
        before = site.asked()
        site.store.transport.command(
            "CLIENT", "PAUSE", 300, "ALL"
        )  # so that all of them come while a few are under way
        for number, client in enumerate(clients):
            client.sendall(request(f"/features/u{number}"))
        for number, client in enumerate(clients):
            assert json.loads(read_response(client)[1])["features"] == expected(number)
        asked = site.asked() - before
        assert (asked.begin, asked.wsgi, asked.counted) == (CONNECTIONS, 0, CONNECTIONS)
        assert asked.evalsha <= 4  # three under way, and one of all that had to wait for them


def test_a_get_that_meets_lost_scripts_is_given_back_once(site: Site) -> None:
    with site.server.connect() as client:
        site.user(client, 0)
        before = site.asked()
        site.store.transport.command("SCRIPT", "FLUSH")
        assert site.user(client, 1) == expected(1)
        # The gathered call and the waiting one meet NOSCRIPT; the latter has the scripts loaded, and is made again.
        assert site.asked() - before == (1, 1, 3, 0, 1)
        before = site.asked()
        assert site.user(client, 2) == expected(2)
        assert site.asked() - before == (1, 0, 1, 0, 1)


def test_a_get_that_meets_another_schema_is_given_back_once(site: Site) -> None:
    with site.server.connect() as client:
        site.user(client, 0)
        site.store.apply(Definition(features={"new": "float"}))
        site.store.upsert([("u1", {"n": 7})])  # which stores the row by the new schema
        before = site.asked()
        assert site.user(client, 1) == {"n": 7, "name": "name 1", "new": None}
        # The gathered call and the waiting one meet the change; then the schema is read, and the call made again.
        assert site.asked() - before == (1, 1, 3, 1, 1)
        before = site.asked()
        assert site.user(client, 2) == {**expected(2), "new": None}
        assert site.asked() - before == (1, 0, 1, 0, 1)


def test_a_get_that_meets_a_broken_link_is_given_back_once(site: Site) -> None:
    with site.server.connect() as client:
        site.user(client, 0)
        before = site.asked()
        site.store.transport.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert site.user(client, 1) == expected(1)
        asked = site.asked() - before
        assert (asked.begin, asked.wsgi, asked.evalsha, asked.counted) == (1, 1, 1, 1)
        wait_until(lambda: site.user(client, 2) == expected(2))
