"""Behind a proxy, and on a unix socket: whose word counts, and who may connect."""

import socket
import stat
from pathlib import Path

from support.gunicorn import Gunicorn, close, environ_of, read_all
from support.http import HttpServer
from support.servers import Server, wait_until

FORWARDED = ("X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https")


def test_a_trusted_proxy_tells_the_client_and_its_scheme(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--forwarded-allow-ips", "127.0.0.1", "--access-logfile", "-")
    shown = environ_of(server.exchange(close("/x", *FORWARDED)))
    assert (shown["REMOTE_ADDR"], shown["wsgi.url_scheme"]) == ("203.0.113.9", "https")
    wait_until(lambda: "203.0.113.9 - - [" in server.text(), what="the client's address in the access log")
    assert server.exchange(close("/x", *FORWARDED, "X-Forwarded-Ssl: off")).startswith(b"HTTP/1.1 400 ")
    assert server.stop() == 0


def test_of_anybody_else_nothing_is_taken(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--forwarded-allow-ips", "10.0.0.1", "--access-logfile", "-")
    shown = environ_of(server.exchange(close("/x", *FORWARDED, "X-Forwarded-Ssl: off")))
    assert (shown["REMOTE_ADDR"], shown["wsgi.url_scheme"]) == ("127.0.0.1", "http")
    wait_until(lambda: "127.0.0.1 - - [" in server.text())
    assert "203.0.113.9 - - [" not in server.text()
    assert server.stop() == 0


def test_a_unix_socket_has_the_mode_of_the_settings(valkey: Server, tmp_path: Path) -> None:
    for mode, settings in ((0o660, {}), (0o600, {"socket_mode": "600"}), (0o666, {"socket_mode": "0666"})):
        path = tmp_path / f"{mode:o}.sock"
        server = HttpServer(valkey.url, tmp_path, bind=f"unix:{path}", **settings)
        server._alive = lambda path=path: path.exists() and answers(path)  # type: ignore[method-assign,misc]
        server.start()
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert server.stop() == 0


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(str(path))
        except OSError:
            return False
        client.sendall(close("/livez"))
        return read_all(client).startswith(b"HTTP/1.1 200 ")
