"""The gunicorn worker, byte by byte, in a real gunicorn."""

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import free_port, wait_until

HOST = b"Host: h\r\n"
CHUNKS = b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\n"
EMPTY = b"0\r\n\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"


class Gunicorn:
    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.port = free_port()
        self.log = folder / f"gunicorn-{self.port}.log"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **settings}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", "featurestore.worker.Worker", "-w", "1",
                 "-b", f"127.0.0.1:{self.port}", *options, "probe_app:app"],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        wait_until(lambda: "Booting worker" in self.text(), what="a worker")

    def text(self) -> str:
        return self.log.read_text()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def exchange(self, data: bytes) -> bytes:
        """Send `data` and return everything until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(20)


def read_all(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            received += piece
    return received


def read_response(client: socket.socket) -> tuple[bytes, bytes]:
    """Return head and body of one response that has a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(1)
    found = re.search(rb"content-length: (\d+)", received, re.IGNORECASE)
    body = b""
    while found and len(body) < int(found[1]):
        body += client.recv(int(found[1]) - len(body))
    return received, body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    running = Gunicorn(tmp_path_factory.mktemp("gunicorn"), "--access-logfile", "-")
    yield running
    assert running.stop() == 0


def request(path: str, *lines: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: h", *lines, "", ""]).encode() + body


def close(path: str, *lines: str, **rest: Any) -> bytes:
    return request(path, *lines, "Connection: close", **rest)


def environ_of(response: bytes) -> dict[str, str]:
    shown: dict[str, str] = json.loads(response.partition(b"\r\n\r\n")[2])
    return shown


# What the app sees


def test_the_environment(server: Gunicorn) -> None:
    sent = close("/a%2Fb/%C3%A9%20c?q=%20&r", "X-Two: a", "X-Two: b", "Content-Type: t", "Accept: é")
    shown = environ_of(server.exchange(sent))
    expected = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/a/b/Ã© c",
        "RAW_URI": "/a%2Fb/%C3%A9%20c?q=%20&r",
        "QUERY_STRING": "q=%20&r",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_X_TWO": "a,b",
        "CONTENT_TYPE": "t",
        "SCRIPT_NAME": "",
        "wsgi.url_scheme": "http",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "HTTP_HOST": "h",
    }
    assert shown.items() >= expected.items()


def test_targets(server: Gunicorn) -> None:
    assert environ_of(server.exchange(close("http://other/p/q?r=s"))).items() >= {
        "PATH_INFO": "/p/q", "QUERY_STRING": "r=s"}.items()  # fmt: skip
    assert environ_of(server.exchange(close("*", method="OPTIONS")))["PATH_INFO"] == "/*"


def test_every_byte_in_its_own_segment(server: Gunicorn) -> None:
    sent = close("/echo", "Transfer-Encoding: chunked", method="POST", body=b"3\r\nab\n\r\n2\r\ncd\r\n0\r\n\r\n")
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(sent)):
            client.sendall(sent[index : index + 1])
        assert read_all(client).endswith(b"\r\n\r\nab\ncd")


def test_bodies(server: Gunicorn) -> None:
    assert server.exchange(close("/echo", "Content-Length: 5", method="POST", body=b"hello")).endswith(b"\r\n\r\nhello")
    chunked = close(
        "/echo", "Transfer-Encoding: Chunked", method="POST", body=b"2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\n"
    )
    assert server.exchange(chunked).endswith(b"\r\n\r\nhello")
    large = os.urandom(900_000)
    assert server.exchange(close("/echo", f"Content-Length: {len(large)}", method="POST", body=large)).endswith(large)


def test_an_unread_body_does_not_become_a_request(server: Gunicorn) -> None:
    body = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    answers = server.exchange(request("/x", f"Content-Length: {len(body)}", method="POST", body=body) + close("/last"))
    assert answers.count(b"HTTP/1.1 200") == 2
    assert b"/smuggled" not in answers


def test_expect_100_continue(server: Gunicorn) -> None:
    with server.connect() as client:
        client.sendall(close("/echo", "Content-Length: 2", "Expect: 100-continue", method="POST"))
        assert client.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert read_all(client).endswith(b"\r\n\r\nok")


# Keeping and closing the connection


def test_keep_alive_and_pipelining_answer_in_order(server: Gunicorn) -> None:
    sent = b"".join(request(f"/{number}") for number in range(50)) + close("/last")
    answers = server.exchange(sent)
    paths = re.findall(rb'"PATH_INFO": "/(\w+)"', answers)
    assert paths == [str(number).encode() for number in range(50)] + [b"last"]
    assert answers.count(b"connection: close") == 1


@pytest.mark.parametrize(
    ("sent", "stays"),
    [
        (request("/x"), True),
        (request("/x", "Connection: close"), False),
        (request("/x", version="1.0"), False),
        (request("/x", "Connection: keep-alive", version="1.0"), True),
        (b"GET /x HTTP/1.0\r\n\r\n", False),
    ],
)
def test_who_keeps_the_connection(server: Gunicorn, sent: bytes, *, stays: bool) -> None:
    with server.connect() as client:
        client.sendall(sent)
        head, body = read_response(client)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert json.loads(body)
        if stays:
            client.sendall(close("/again"))
            assert b'"/again"' in read_all(client)
        else:
            assert client.recv(1) == b""


def test_head_204_and_bodies_of_unknown_length(server: Gunicorn) -> None:
    head = server.exchange(close("/x", method="HEAD"))
    assert head.endswith(b"\r\n\r\n")
    assert b"content-length: " in head
    assert server.exchange(close("/204")).endswith(b"\r\n\r\n")
    assert b"content-length" not in server.exchange(close("/204"))
    chunked = server.exchange(close("/pieces"))
    assert b"transfer-encoding: chunked" in chunked
    assert chunked.endswith(b"\r\n\r\n4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert server.exchange(close("/pieces", method="HEAD")).endswith(b"\r\n\r\n")
    assert server.exchange(request("/pieces", version="1.0")).endswith(b"\r\n\r\none,two")
    assert server.exchange(close("/write")).endswith(b"8\r\nwritten,\r\n8\r\nreturned\r\n0\r\n\r\n")
    assert "closed" in server.text()


def test_a_slow_reader_gets_everything(server: Gunicorn) -> None:
    with server.connect() as client:
        client.sendall(close("/large"))
        assert len(read_all(client)) > 20_000_000


def test_an_upgrade_is_answered_as_a_plain_request(server: Gunicorn) -> None:
    upgrade = request("/x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA")
    answers = server.exchange(upgrade + close("/last"))
    assert re.findall(rb'"PATH_INFO": "/(\w+)"', answers) == [b"x", b"last"]
    body = request("/echo", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 5", method="POST", body=b"hello")
    assert b"\r\n\r\nhelloHTTP/1.1 200" in server.exchange(body + close("/last"))


# Errors of the app


def test_an_app_that_raises_is_500_and_the_next_client_is_served(server: Gunicorn) -> None:
    answer = server.exchange(request("/raise"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"on purpose" not in answer
    assert "on purpose" in server.text()
    assert server.exchange(close("/exc_info")).startswith(b"HTTP/1.1 500 Oh")
    assert server.exchange(close("/split")).startswith(b"HTTP/1.1 500 ")
    assert server.exchange(close("/x")).startswith(b"HTTP/1.1 200 ")


def test_an_app_that_raises_half_way_leaves_a_response_that_is_visibly_cut(server: Gunicorn) -> None:
    answer = server.exchange(request("/half"))
    assert b"3\r\none\r\n" in answer
    assert not answer.endswith(b"0\r\n\r\n")


# What is refused


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("/x", "Content-Length: 1", "Transfer-Encoding: chunked", method="POST", body=EMPTY), 400),
        (request("/x", "Transfer-Encoding: chunked", "Content-Length: 1", method="POST", body=EMPTY), 400),
        (request("/x", "Content-Length: 1", "Content-Length: 1", method="POST", body=b"a"), 400),
        (request("/x", "Content-Length: 1, 1", method="POST", body=b"a"), 400),
        (request("/x", "Content-Length: +1", method="POST", body=b"a"), 400),
        (request("/x", "Content-Length: 0x1", method="POST", body=b"a"), 400),
        (request("/x", "Content-Length: -1", method="POST", body=b"a"), 400),
        (request("/x", "Content-Length:", method="POST", body=b"a"), 400),
        (request("/x", "Content-Length: 1 1", method="POST", body=b"a"), 400),
        (request("/x", "Transfer-Encoding: gzip, chunked", method="POST", body=EMPTY), 400),
        (request("/x", "Transfer-Encoding: chunked, identity", method="POST", body=EMPTY), 400),
        (request("/x", "Transfer-Encoding: identity", method="POST", body=EMPTY), 400),
        (request("/x", "Transfer-Encoding: xchunked", method="POST", body=EMPTY), 400),
        (
            request("/x", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", method="POST", body=EMPTY),
            400,
        ),
        (request("/x", "Transfer-Encoding: chunked", method="POST", version="1.0", body=EMPTY), 400),
        (request("/x", "Transfer-Encoding : chunked", method="POST", body=EMPTY), 400),
        (request("/x", " Transfer-Encoding: chunked", method="POST", body=EMPTY), 400),
        (request("/x", "A: b", " folded: c"), 400),
        (request("/x", "A: b", "\tfolded"), 400),
        (request("/x", "A B: c"), 400),
        (request("/x", "A : c"), 400),
        (request("/x", ": c"), 400),
        (request("/x", "no colon"), 400),
        (request("/x", "X_Forwarded: c"), 400),
        (request("/x", "Content_Length: 5"), 400),
        (request("/x", "A: b\x00c"), 400),
        (request("/x", "A: b\rc"), 400),
        (b"GET /x HTTP/1.1\nHost: h\n\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost: h\r\n\n", 400),
        (b"GET /x HTTP/1.1\r\n\r\n", 400),
        (request("/x", "Host: other"), 400),
        (b"GET /x HTTP/2.0\r\nHost: h\r\n\r\n", 400),
        (b"GET /x HTTP/1.2\r\nHost: h\r\n\r\n", 400),
        (b"GET /x\r\nHost: h\r\n\r\n", 400),
        (b"GET /x y HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"G@T /x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"get /x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more of a TLS hello", 400),
        (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 501),
        (request("/x", "Transfer-Encoding: chunked", method="POST", body=b"xyz\r\n"), 400),
        (request("/x", "Transfer-Encoding: chunked", method="POST", body=b"-1\r\n"), 400),
        (request("/x", "Transfer-Encoding: chunked", method="POST", body=b"0x1\r\na\r\n0\r\n\r\n"), 400),
        (request("/x", "Transfer-Encoding: chunked", method="POST", body=b"1\na\r\n0\r\n\r\n"), 400),
        (request("/x", "Transfer-Encoding: chunked", method="POST", body=b"1\r\nab\r\n0\r\n\r\n"), 400),
        (request("/x", "Transfer-Encoding: chunked", method="POST", body=b"1\r\na\n0\r\n\r\n"), 400),
        (request("/x", "Transfer-Encoding: chunked", method="POST", body=b"11111111111111111\r\na"), 400),
        (request("/" + "x" * 5000), 414),
        (request("/x", *(f"A{number}: b" for number in range(101))), 431),
        (request("/x", "A: " + "b" * 9000), 431),
        (request("/x", "A: " + "b" * 2_000_000), 431),
        (request("/x", "Content-Length: 1048577", method="POST"), 413),
        (request("/x", "Content-Length: 99999999999999999999", method="POST"), 400),
        (request("/x", "Content-Length: 1048577", "Expect: 100-continue", method="POST"), 413),
        (request("/x", "Transfer-Encoding: chunked", method="POST", body=b"100001\r\n" + b"x" * 1_048_577), 413),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(
    server: Gunicorn, sent: bytes, status: int
) -> None:
    with server.connect() as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(request("/before") + sent + b"\r\n" + close("/smuggled"))
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 200") == 1, answers
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"200", str(status).encode()]
    assert b"smuggled" not in answers
    assert b'{"title":' in answers


# Slow and vanishing clients, limits, stopping


def test_slow_clients_are_cut_off(tmp_path: Path) -> None:
    code = "import featurestore.worker as w; w.Worker.request_timeout = 0.3"
    (tmp_path / "conf.py").write_text(f"def post_fork(server, worker):\n    {code}\n")
    server = Gunicorn(tmp_path, "-c", str(tmp_path / "conf.py"), "--keep-alive", "1")
    try:
        with server.connect() as head, server.connect() as body, server.connect() as idle, server.connect() as silent:
            head.sendall(b"GET /x HT")
            body.sendall(request("/echo", "Content-Length: 5", method="POST", body=b"ab"))
            idle.sendall(GET)
            read_response(idle)
            assert read_all(head).startswith(b"HTTP/1.1 408 ")
            assert read_all(body).startswith(b"HTTP/1.1 408 ")
            assert read_all(idle) == b""
            assert read_all(silent) == b""
        assert server.exchange(close("/x")).startswith(b"HTTP/1.1 200")
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


def test_max_requests_replaces_the_worker(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--max-requests", "5")
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


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = Gunicorn(tmp_path, "--certfile", str(certificate), "--keyfile", str(key))
    context = ssl.create_default_context(cafile=str(certificate))
    try:
        with server.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(GET)
            _, body = read_response(client)
            assert json.loads(body)["wsgi.url_scheme"] == "https"
            large = b"x" * 500_000
            client.sendall(close("/echo", f"Content-Length: {len(large)}", method="POST", body=large))
            assert read_all(client).endswith(large)
    finally:
        assert server.stop() == 0
