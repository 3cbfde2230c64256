"""Slow and vanishing clients, bounds, stopping, and TLS."""

import contextlib
import json
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import gevent
import pytest
from support.gunicorn import GET, Gunicorn, close, read_all, read_response, request
from support.servers import wait_until
from support.tls import Certificate, make_certificate

from featurestore.worker.budget import Budget
from featurestore.worker.connection import Connection
from featurestore.worker.framing import Framing, Limits


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Gunicorn]:
    running = Gunicorn(tmp_path, "--keep-alive", "1", "--access-logfile", "-", worker="probe_workers.Impatient")
    yield running
    assert running.stop() == 0


def test_slow_clients_are_cut_off(impatient: Gunicorn) -> None:
    connect = impatient.connect
    with connect() as head, connect() as body, connect() as idle, connect() as silent:
        head.sendall(b"GET /x HT")
        body.sendall(request("/echo", "Content-Length: 5", method="POST", body=b"ab"))
        idle.sendall(GET)
        read_response(idle)
        assert read_all(head).startswith(b"HTTP/1.1 408 ")
        assert read_all(body).startswith(b"HTTP/1.1 408 ")
        assert read_all(idle) == b""
        assert read_all(silent) == b""
    assert impatient.exchange(close("/x")).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux only")
@pytest.mark.parametrize(
    ("setting", "chosen", "kept"),
    [
        ("", "SCHED_OTHER", "SCHED_BATCH"),
        ("true", "SCHED_IDLE", "SCHED_IDLE"),
        ("false", "SCHED_OTHER", "SCHED_OTHER"),
    ],
)
def test_workers_are_batch_processes_unless_another_policy_was_chosen(
    tmp_path: Path, setting: str, chosen: str, kept: str
) -> None:
    choose = "import os, sys; os.sched_setscheduler(0, os.%s, os.sched_param(0)); os.execv(sys.argv[1], sys.argv[1:])"
    server = Gunicorn(tmp_path, before=(sys.executable, "-c", choose % chosen), FEATURESTORE_BATCH_SCHEDULING=setting)
    try:
        assert server.exchange(close("/x")).startswith(b"HTTP/1.1 200")
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
        assert [os.sched_getscheduler(int(pid)) for pid in children.split()] == [getattr(os, kept)]
        assert os.sched_getscheduler(server.process.pid) == getattr(os, chosen)
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("drop", [b"x", b"\r\n"])
def test_a_client_that_drips_is_cut_off(impatient: Gunicorn, drop: bytes) -> None:
    with impatient.connect() as client:
        client.sendall(b"\r\n" if drop == b"\r\n" else b"GET /")
        client.settimeout(0.05)
        deadline = monotonic() + 10
        answer: bytes | None = None
        while answer is None:
            assert monotonic() < deadline
            with contextlib.suppress(TimeoutError):
                answer = read_all(client)
            with contextlib.suppress(OSError):
                client.sendall(drop)
        assert answer.startswith(b"HTTP/1.1 408 ") if drop == b"x" else answer == b""


def test_a_client_that_always_has_half_a_request_under_way_is_not_cut_off(impatient: Gunicorn) -> None:
    deadline = monotonic() + 1.2
    with impatient.connect() as client:
        client.sendall(GET[:9])
        while monotonic() < deadline:
            client.sendall(GET[9:] + GET[:9])
            assert read_response(client)[0].startswith(b"HTTP/1.1 200 ")


def test_a_client_that_takes_no_response_is_cut_off(impatient: Gunicorn) -> None:
    with impatient.connect() as client:
        client.sendall(close("/large"))
        wait_until(lambda: '"GET /large' in impatient.text(), what="the end of the response")
        assert len(read_all(client)) < 20_000_000


def test_without_keep_alive(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--keep-alive", "0")
    try:
        answers = server.exchange(request("/one") + request("/two"))
        assert answers.count(b"HTTP/1.1 200 ") == 1
        assert b"\r\nconnection: close\r\n" in answers
    finally:
        assert server.stop() == 0


def test_worker_connections(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--worker-connections", "2", "--keep-alive", "60")
    try:
        with server.connect() as first, server.connect() as second, server.connect() as third:
            for client in (first, second):
                client.sendall(GET + GET[:9])
                read_response(client)
            third.sendall(GET)
            third.settimeout(0.3)
            with pytest.raises(TimeoutError):  # as both others have half a request under way
                third.recv(1)
            third.settimeout(10)
            first.close()
            assert read_response(third)[0].startswith(b"HTTP/1.1 200 ")
            with server.connect() as fourth:
                fourth.sendall(GET)
                assert read_response(fourth)[0].startswith(b"HTTP/1.1 200 ")
                assert third.recv(1) == b""  # it was idle, and made room
            second.sendall(GET[9:])
            assert read_response(second)[0].startswith(b"HTTP/1.1 200 ")
    finally:
        assert server.stop() == 0


def test_clients_that_vanish_harm_nobody(server: Gunicorn) -> None:
    for data in (b"", b"GET /x", request("/echo", "Content-Length: 9", method="POST"), request("/large"), GET * 100):
        with server.connect() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(data)
    assert server.exchange(close("/x")).startswith(b"HTTP/1.1 200")


def test_a_graceful_stop_finishes_what_is_in_flight_and_closes_idle_connections(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path)
    with server.connect() as idle, server.connect() as busy:
        idle.sendall(GET)
        read_response(idle)
        busy.sendall(request("/wait"))
        wait_until(lambda: "waiting" in server.text())
        server.process.terminate()
        assert read_all(idle) == b""  # at once, though a request is in flight
        assert server.process.poll() is None
        head, body = read_response(busy)
        assert b"connection: close" in head
        assert b"/wait" in body
    assert server.process.wait(20) == 0


def test_a_request_that_comes_with_the_stop_is_finished(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path)
    with server.connect() as client, server.connect() as idle:
        idle.sendall(GET)
        read_response(idle)
        client.sendall(GET[:9])
        server.process.terminate()
        assert read_all(idle) == b""
        client.sendall(GET[9:] + GET)
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert b"\r\nconnection: close\r\n" in answers
    assert server.process.wait(20) == 0


def test_a_request_that_takes_longer_than_the_graceful_timeout_is_cut(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--graceful-timeout", "1")
    with server.connect() as client:
        client.sendall(request("/forever"))
        wait_until(lambda: "waiting" in server.text())
        server.process.terminate()
        assert read_all(client) == b""
    assert server.process.wait(20) == 0


def test_max_requests_replaces_the_worker(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--max-requests", "5", "--max-requests-jitter", "2")
    try:

        def restarted() -> bool:
            with contextlib.suppress(OSError):
                server.exchange(close("/x"))
            return server.text().count("Booting worker") >= 3

        wait_until(restarted, what="two restarts")
        assert "Autorestarting" in server.text()
    finally:
        assert server.stop() == 0


def test_the_access_log(server: Gunicorn) -> None:
    server.exchange(close("/logged?a=b"))
    wait_until(lambda: '"GET /logged?a=b HTTP/1.1" 200' in server.text(), what="a line of the access log")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def secure(tmp_path: Path, certificate: Certificate) -> Iterator[Gunicorn]:
    running = Gunicorn(tmp_path, *certificate.options, "--keep-alive", "60", worker="probe_workers.Impatient")
    yield running
    assert running.stop() == 0


@pytest.fixture
def context(certificate: Certificate) -> ssl.SSLContext:
    return certificate.context()


def test_tls(secure: Gunicorn, context: ssl.SSLContext) -> None:
    with secure.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(GET)
        _, body = read_response(client)
        assert json.loads(body)["wsgi.url_scheme"] == "https"
        large = b"x" * 500_000
        client.sendall(request("/echo", f"Content-Length: {len(large)}", method="POST", body=large))
        assert read_response(client)[1] == large
        client.sendall(GET * 500 + close("/large"))
        answers = read_all(client)
        assert answers.count(b"HTTP/1.1 200 ") == 501
        assert len(answers) > 20_000_000


class Endless:
    """A TLS client that has another request there whenever it is asked, up to a thousand."""

    def __init__(self, descriptor: int) -> None:
        self.reads, self._descriptor = 0, descriptor

    def fileno(self) -> int:
        return self._descriptor

    def settimeout(self, _seconds: float | None) -> None:
        """It never waits."""

    def recv(self, _size: int) -> bytes:
        self.reads += 1
        return GET if self.reads <= 1000 else b""


class Agreeable:
    """What a connection has to know of its server, which answers every request with nothing."""

    alive, date_field = True, b""
    framing, budget = Framing(Limits(4094, 100, 8190, 1_048_576)), Budget(1 << 26)
    request_timeout = send_timeout = idle_timeout = 10.0

    def begin_for(self, _client: str, _lane: object = None, _key: str = "") -> None:
        return None

    def answer(self, _request: object, _send: object) -> float:
        return 0.0


def test_a_tls_client_that_never_pauses_does_not_keep_out_others() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"x")  # there is always something to read
    with ours, theirs:
        client = Endless(ours.fileno())
        turns: list[int] = []
        other = gevent.spawn(lambda: turns.append(client.reads))
        Connection(Agreeable(), client, {"REMOTE_ADDR": ""}, tls=True).serve()  # type: ignore[arg-type]
        assert client.reads == 1001
        assert turns
        assert turns[0] <= 1
        other.join()


def test_tls_clients_that_are_slow_or_speak_no_tls_are_cut_off(secure: Gunicorn, context: ssl.SSLContext) -> None:
    with secure.connect() as silent, secure.connect() as plain:
        plain.sendall(GET)
        assert b"HTTP" not in read_all(plain)
        assert read_all(silent) == b""
        with secure.connect() as raw, context.wrap_socket(raw, server_hostname="localhost") as slow:
            slow.sendall(b"GET /x")
            assert read_all(slow).startswith(b"HTTP/1.1 408 ")


def test_tls_idle_connections_are_closed_when_the_worker_stops(secure: Gunicorn, context: ssl.SSLContext) -> None:
    with secure.connect() as raw, context.wrap_socket(raw, server_hostname="localhost") as idle:
        idle.sendall(GET)
        read_response(idle)
        secure.process.terminate()
        assert read_all(idle) == b""
