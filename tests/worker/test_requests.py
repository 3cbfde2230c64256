"""What the app gets to see of requests, and how connections carry them."""

import json
import os
import re
import socket
from pathlib import Path

import pytest
from support.gunicorn import Gunicorn, close, environ_of, read_all, read_response, request

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
    assert one_by_one(server, sent).endswith(b"\r\n\r\nab\ncd")
    assert one_by_one(server, close("/x")).startswith(b"HTTP/1.1 200 ")


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


def test_an_expectation_waits_for_its_turn(server: Gunicorn) -> None:
    with server.connect() as client:
        client.sendall(request("/first") + close("/echo", "Content-Length: 2", "Expect: 100-continue", method="POST"))
        assert b'"/first"' in read_response(client)[1]
        assert client.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert read_all(client).endswith(b"\r\n\r\nok")


def test_who_does_not_wait_is_not_told_to_continue(server: Gunicorn) -> None:
    waits = ("Content-Length: 2", "Expect: 100-continue")
    for sent in (
        request("/echo", *waits, method="POST", body=b"ok"),
        request("/echo", *waits, "Connection: keep-alive", method="POST", version="1.0", body=b"ok"),
    ):
        with server.connect() as client:
            client.sendall(sent)
            assert read_response(client)[1] == b"ok"
            client.sendall(close("/x"))
            assert read_all(client).startswith(b"HTTP/1.1 200 ")


def test_wsgi_input(server: Gunicorn) -> None:
    body = b"abc\nde\nf\ng"
    answer = server.exchange(close("/read", f"Content-Length: {len(body)}", method="POST", body=body))
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == ["ab", "c\n", "de", "\n", "f\n", "g", "", ""]


@pytest.mark.parametrize(
    "upgrade",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
        ("Connection: keep-alive, Upgrade", "Upgrade: websocket"),
    ],
)
def test_an_upgrade_is_answered_as_a_plain_request(server: Gunicorn, upgrade: tuple[str, ...]) -> None:
    hidden = request("/hidden")
    sent = [
        request("/one", *upgrade),
        request("/read", *upgrade, f"Content-Length: {len(hidden)}", method="POST", body=hidden),
        request("/read", *upgrade, "Transfer-Encoding: chunked", method="POST", body=b"2\r\nhi\r\n0\r\n\r\n"),
        close("/last"),
    ]
    for answers in (server.exchange(b"".join(sent)), one_by_one(server, b"".join(sent))):
        assert re.findall(rb'"PATH_INFO": "(.+?)"', answers) == [b"/one", b"/last"]
        assert answers.count(b"HTTP/1.1 200 ") == 4
        assert b"/hidden" in answers  # as a body
        assert b'["hi", "", "", "", ""]' in answers


def test_after_an_upgrade_that_says_close_nothing_is_read(server: Gunicorn) -> None:
    answers = server.exchange(request("/one", "Connection: Upgrade, close", "Upgrade: h2c") + request("/two"))
    assert answers.count(b"HTTP/1.1 ") == 1


def test_a_unix_socket(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "-b", f"unix:{tmp_path}/s")
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/s")
            client.sendall(close("/x"))
            assert environ_of(read_all(client)).items() >= {"REMOTE_ADDR": "", "SERVER_NAME": "localhost"}.items()
    finally:
        assert server.stop() == 0


def one_by_one(server: Gunicorn, data: bytes) -> bytes:
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(data)):
            client.sendall(data[index : index + 1])
        return read_all(client)
