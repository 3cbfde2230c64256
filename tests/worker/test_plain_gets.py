"""Plain GETs, which the app begins to answer in the event loop: taken from there, and otherwise the same HTTP."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gunicorn import GET, Gunicorn, read_all, read_response, request
from support.servers import wait_until
from support.tls import Certificate, make_certificate


@pytest.fixture(scope="module", params=["plain", "tls"])
def certificate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Certificate | None:
    return None if request.param == "plain" else make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def silent(certificate: Certificate | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A server without an access log, for which every request would be a WSGI call."""
    running = Gunicorn(tmp_path_factory.mktemp("gunicorn"), certificate=certificate)
    yield running
    assert running.stop() == 0


def test_the_first_request_is_parsed_and_plain_ones_like_it_are_begun(silent: Gunicorn) -> None:
    with silent.connect() as client:
        for path, kind, status in [
            ("/begin", b"application/json", b"200 OK"),
            ("/begin", b"text/begun", b"200 OK"),
            ("/begin/unknown", b"text/begun", b"404 Not Found"),
            ("/x", b"application/json", b"200 OK"),
            ("/begin?a=b,c", b"text/begun", b"200 OK"),
            ("/begin?a=b&c", b"application/json", b"200 OK"),
            ("/begin/%61", b"application/json", b"200 OK"),
            ("/begin/a", b"text/begun", b"200 OK"),
        ]:
            client.sendall(request(path))
            head, body = read_response(client)
            assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
            assert b"\r\nContent-Type: " + kind + b"\r\n" in head
            assert head.count(b"\r\ndate: ") == 1
            assert b"\r\nconnection:" not in head
            if kind == b"text/begun":
                assert body == path.encode()


def test_requests_in_one_read_or_in_pieces_are_parsed(silent: Gunicorn) -> None:
    with silent.connect() as client:
        client.sendall(GET)
        read_response(client)
        client.sendall(request("/begin/1") * 3)
        for _ in range(3):
            assert b"application/json" in read_response(client)[0]
        client.sendall(request("/begin/2")[:15])
        client.sendall(request("/begin/2")[15:])
        read_response(client)
        client.sendall(request("/begin/3"))
        assert read_response(client)[1] == b"/begin/3"


def test_a_request_that_an_app_fails_to_begin_is_parsed_and_so_are_later_ones(silent: Gunicorn) -> None:
    with silent.connect() as client:
        for path in ("/x", "/begin/raise", "/begin/then/raise", "/begin/1", "/x"):
            client.sendall(request(path))
            head, body = read_response(client)
            assert b"application/json" in head
            assert f'"PATH_INFO": "{path}"'.encode() in body
    assert "ValueError: on purpose" in silent.text()


def test_an_answer_of_an_app_that_failed_to_begin_is_nobodys(silent: Gunicorn) -> None:
    with silent.connect() as client:
        for path in ("/x", "/begin/then/raise", "/begin/1", "/x"):
            client.sendall(request(path))
            head, body = read_response(client)
            assert b"application/json" in head
            assert f'"PATH_INFO": "{path}"'.encode() in body


def test_the_access_log_has_every_request(server: Gunicorn) -> None:
    with server.connect() as client:
        for number in range(3):
            client.sendall(request(f"/begin/{number}"))
            read_response(client)
    for number in range(3):
        line = f'"GET /begin/{number} HTTP/1.1" 200'
        wait_until(lambda line=line: line in server.text(), what="a line of the access log")  # type: ignore[misc]


def test_without_keep_alive_every_connection_has_one_request(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--keep-alive", "0")
    assert server.exchange(request("/begin")).count(b"HTTP/1.1 200 OK") == 1
    assert server.stop() == 0


def test_a_request_that_is_begun_in_the_event_loop_is_answered_when_its_answer_comes(silent: Gunicorn) -> None:
    with silent.connect() as client:
        client.sendall(GET)
        read_response(client)
        for path in ("/begin/1", "/begin/2", "/y", "/begin/4", "/x", "/begin/5", "/begin/at/once"):
            client.sendall(request(path))
            head, body = read_response(client)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert head.count(b"\r\ndate: ") == 1
            assert (b"text/begun" in head, path.startswith("/begin") and body == path.encode()) in (
                (True, True),
                (False, False),
            )
        client.sendall(request("/begin/none"))
        assert b"application/json" in read_response(client)[0]
        client.sendall(request("/begin/6"))
        assert read_response(client)[1] == b"/begin/6"


def test_what_the_client_sends_while_a_request_is_begun_waits_its_turn(silent: Gunicorn) -> None:
    with silent.connect() as client:
        client.sendall(GET)
        read_response(client)
        client.sendall(request("/begin/wait"))
        wait_until(lambda: "waiting" in silent.text())
        client.sendall(request("/begin/7") + request("/begin/8"))
        assert read_response(client)[1] == b"/begin/wait"
        assert b"application/json" in read_response(client)[0]  # two in one read are parsed
        assert b"application/json" in read_response(client)[0]
        client.sendall(request("/begin/9"))
        assert read_response(client)[1] == b"/begin/9"


def test_a_large_answer_is_sent_as_the_client_takes_it(silent: Gunicorn) -> None:
    with silent.connect() as client:
        client.sendall(GET)
        read_response(client)
        client.sendall(request("/begin/large"))
        assert len(read_response(client)[1]) == 20_000_000
        client.sendall(request("/begin/1"))
        assert read_response(client)[1] == b"/begin/1"


def test_a_request_whose_answer_cannot_be_sent_ends_its_connection_alone(silent: Gunicorn) -> None:
    with silent.connect() as client, silent.connect() as other:
        for each in (client, other):
            each.sendall(request("/x"))
            read_response(each)
        client.sendall(request("/begin/no/answer"))
        assert read_all(client) == b""
        other.sendall(request("/begin/1"))
        assert read_response(other)[1] == b"/begin/1"


def test_a_client_that_goes_while_its_request_is_begun_harms_nobody(silent: Gunicorn) -> None:
    failures = silent.text().count("Traceback")
    for farewell in (socket.SHUT_RDWR, socket.SHUT_WR):
        with silent.connect() as client, silent.connect() as other:
            for each in (client, other):
                each.sendall(GET)
                read_response(each)
            client.sendall(request("/begin/wait"))
            client.shutdown(farewell)
            other.sendall(request("/begin/wait"))
            assert read_response(other)[1] == b"/begin/wait"
    assert silent.text().count("Traceback") == failures


def test_a_graceful_stop_finishes_the_requests_that_are_begun_and_says_that_it_closes(
    tmp_path: Path, certificate: Certificate | None
) -> None:
    server = Gunicorn(tmp_path, certificate=certificate)
    with server.connect() as client, server.connect() as idle:
        for each in (client, idle):
            each.sendall(GET)
            read_response(each)
        client.sendall(request("/begin/wait"))
        wait_until(lambda: "waiting" in server.text())
        server.process.terminate()
        answer = read_all(client)
        assert read_all(idle) == b""
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"/begin/wait")
    assert server.process.wait(20) == 0


def test_requests_that_are_begun_count_towards_max_requests(tmp_path: Path, certificate: Certificate | None) -> None:
    server = Gunicorn(tmp_path, "--max-requests", "4", certificate=certificate)
    with server.connect() as client:
        for number in range(4):
            client.sendall(request(f"/begin/{number}"))
            head, _ = read_response(client)
            assert (b"\r\nconnection: close\r\n" in head) == (number == 3)
        assert read_all(client) == b""
    assert server.stop() == 0


def test_an_idle_connection_is_closed_after_requests_that_were_begun(
    tmp_path: Path, certificate: Certificate | None
) -> None:
    server = Gunicorn(tmp_path, "--keep-alive", "1", certificate=certificate)
    with server.connect() as client:
        for path in ("/x", "/begin/1", "/begin/2"):
            client.sendall(request(path))
            read_response(client)
        assert read_all(client) == b""
    assert server.stop() == 0
