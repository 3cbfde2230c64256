"""Many clients on connections that stay open, while Redis loses scripts, stalls, hangs up and gets another schema."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.http import HttpServer, serving
from support.scripted_proxy import LIES, LyingProxy
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, SyncTransport

CLIENTS = 24
IDS = 200


class Client(threading.Thread):
    """Reads one user after the other, and notes every answer that is not the user's or an honest failure."""

    def __init__(self, port: int, number: int, stop: threading.Event) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._number, self._stop_reading = number, stop
        self.good = self.failures = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        number = self._number
        try:
            while not self._stop_reading.is_set():
                number = (number * 7 + 11) % (IDS + 20)  # the last 20 are unknown
                self._connection.request("GET", f"/features/u{number}")
                response = self._connection.getresponse()
                self._judge(number, response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(repr(error))
        finally:
            self._connection.close()

    def _judge(self, number: int, status: int, body: bytes) -> None:
        answer = json.loads(body)
        if status in {503, 504}:
            self.failures += 1
        elif status == 404 and number >= IDS:
            self.good += answer["detail"] == f"User u{number} not found"
        elif (
            status == 200
            and number < IDS
            and answer["user_id"] == f"u{number}"
            and {**answer["features"], "new": None} == {"n": number, "name": f"name {number}", "new": None}
        ):
            self.good += 1
        else:
            self.wrong.append(f"{number}: {status} {body.decode()}")


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore(SyncTransport(valkey.url, timeout=5, connect_timeout=5)) as opened:
        opened.apply(Definition(features={"n": "int", "name": "string"}))
        opened.upsert((f"u{number}", {"n": number, "name": f"name {number}"}) for number in range(IDS))
        yield opened


@pytest.fixture
def server(valkey: Server, store: FeatureStore, tmp_path: Path) -> Iterator[HttpServer]:
    with serving(valkey.url, tmp_path, timeout_ms="1000") as running:
        yield running


def test_every_client_gets_its_own_answers_whatever_happens_to_redis(
    server: HttpServer, valkey: Server, store: FeatureStore
) -> None:
    stop = threading.Event()
    clients = [Client(server.port, number, stop) for number in range(CLIENTS)]

    def go_on() -> None:
        """Return when every client has had good answers since."""
        before = [client.good for client in clients]
        wait_until(
            lambda: all(client.wrong or client.good > past + 5 for client, past in zip(clients, before, strict=True)),
            what="good answers for every client",
        )

    for client in clients:
        client.start()
    try:
        go_on()
        store.transport.command("CONFIG", "RESETSTAT")
        before = sum(client.good for client in clients)
        go_on()
        calls = store.transport.command("INFO", "commandstats").decode().partition("cmdstat_evalsha:calls=")[2]
        assert int(calls.partition(",")[0]) <= sum(client.good for client in clients) - before + CLIENTS
        for _ in range(20):
            store.transport.command("SCRIPT", "FLUSH")
            go_on()
        assert sum(client.failures for client in clients) == 0
        for _ in range(10):
            store.transport.command("CLIENT", "KILL", "TYPE", "normal")
            go_on()
        with valkey.frozen():
            wait_until(lambda: all(client.failures for client in clients), what="a failure for every client")
        go_on()
        valkey.stop()
        valkey.start()
        go_on()
        store.apply(Definition(features={"new": "float"}))
        go_on()
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert [client.wrong for client in clients] == [[]] * CLIENTS
    features = {"n": 1, "name": "name 1", "new": None}
    wait_until(lambda: server.get("/features/u1").json["features"] == features, what="the new feature")


def worker_of(server: HttpServer) -> int:
    """Return the pid of the server's worker: the process that has no children."""
    assert server.process is not None
    pid = server.process.pid
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[-1])
    return pid


def sockets_of(pid: int) -> int:
    """Return how many sockets a process has open."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # closed meanwhile
    return sum(link.startswith("socket:") for link in links)


def together(port: int, targets: list[str]) -> list[tuple[int, Any]]:
    """Send two GETs on a connection of its own for each target, all before the first answer; each has to come."""
    clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in targets]
    answers = []
    try:
        for _ in range(2):  # the second repeats the first's header fields: it may be gathered
            for client, target in zip(clients, targets, strict=True):
                client.request("GET", target)
            for client in clients:
                response = client.getresponse()
                answers.append((response.status, json.loads(response.read())))
    finally:
        for client in clients:
            client.close()
    return answers


@pytest.mark.parametrize("worker_class", ["featurestore", "gthread"])
def test_every_client_is_answered_in_time_whatever_comes_in_place_of_replies(
    valkey: Server, store: FeatureStore, tmp_path: Path, worker_class: str
) -> None:
    targets = ["/features/u1", "/features/u2", "/features/nobody"] * 4
    with (
        LyingProxy(valkey.port) as proxy,
        serving(proxy.url, tmp_path, worker_class=worker_class, write_keys="k", timeout_ms="5000") as server,
    ):
        truth = together(server.port, targets)
        assert [status for status, _ in truth] == [200, 200, 404] * 8
        worker = worker_of(server)
        before = sockets_of(worker)
        for lie in LIES.values():
            proxy.lie = lie
            started = time.monotonic()
            for status, answer in together(server.port, targets):
                assert (status, answer["status"]) == (503, 503), answer
            for answer in (
                server.request("POST", "/features/batch", {"user_ids": ["u1", "u2"]}),
                server.request("PUT", "/features/u1", {"features": {"n": 1}}, **{"X-API-Key": "k"}),
                server.get("/features/u1?features=n"),
            ):
                in_doubt = answer.json.get("code") == "IN_DOUBT"  # as a write is that Redis was given
                assert answer.status == answer.json["status"] == (504 if in_doubt else 503)
                assert answer.headers["content-type"] == "application/problem+json"
            assert time.monotonic() - started < 5
            proxy.lie = None
            wait_until(lambda: server.get("/features/u1").status == 200, what="the truth")
        assert together(server.port, targets) == truth
        wait_until(lambda: sockets_of(worker) <= before, what="as few sockets as before")
        assert "Traceback" not in server.log.read_text()


def test_one_lie_among_many_replies_costs_no_client_anything(
    valkey: Server, store: FeatureStore, tmp_path: Path
) -> None:
    with LyingProxy(valkey.port) as proxy, serving(proxy.url, tmp_path, timeout_ms="5000") as server:
        targets = ["/features/u1", "/features/u2"] * 4
        truth = together(server.port, targets)
        reply = proxy._reply

        def lie_once(server: socket.socket, command: Any) -> bytes:
            proxy._reply = reply  # type: ignore[method-assign]
            reply(server, command)
            return b"*1\r\n$1\r\nx\r\n"

        proxy._reply = lie_once  # type: ignore[method-assign]
        assert together(server.port, targets) == truth
        assert proxy._reply == reply
