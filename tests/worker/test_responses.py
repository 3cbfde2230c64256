"""What clients get of the app's responses."""

import re
import time
from email.utils import parsedate_to_datetime

import pytest
from probe_app import HEADERS
from support.gunicorn import Gunicorn, close, read_all, read_response, request
from support.servers import wait_until


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


# Errors of the app


@pytest.mark.parametrize("path", ["/raise", "/raise/os", "/raise/timeout", "/raise/exit"])
def test_an_app_that_raises_is_500_and_others_are_served(server: Gunicorn, path: str) -> None:
    with server.connect() as other:
        other.sendall(request("/x"))
        read_response(other)
        answer = server.exchange(request(path) + request("/after"))
        assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"500"]
        assert b'{"title":"Internal Server Error"' in answer
        assert b"on purpose" not in answer
        wait_until(lambda: f'"GET {path} HTTP/1.1" 500' in server.text(), what="a line of the access log")
        assert f"Error handling request {path}\n" in server.text()
        other.sendall(close("/again"))
        assert b'"/again"' in read_all(other)


@pytest.mark.parametrize("path", ["/no_start", "/twice", "/length/2", *HEADERS])
def test_a_response_that_would_be_misread_is_500(server: Gunicorn, path: str) -> None:
    answer = server.exchange(request(path))
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"Cookie" not in answer


def test_a_failure_under_head_has_no_body(server: Gunicorn) -> None:
    assert server.exchange(request("/raise", method="HEAD")).endswith(b"\r\n\r\n")


def test_exc_info(server: Gunicorn) -> None:
    mended = server.exchange(close("/exc_info"))
    assert mended.startswith(b"HTTP/1.1 500 Oh\r\n")
    assert mended.endswith(b"mended")
    cut = server.exchange(request("/exc_info_late") + request("/after"))
    assert cut.endswith(b"5\r\nbegun\r\n")


def test_a_body_that_is_not_as_long_as_it_says_ends_the_connection(server: Gunicorn) -> None:
    assert server.exchange(request("/length/9") + request("/after")).endswith(b"\r\n\r\nabcdef")
    assert server.exchange(request("/length/4") + request("/after")).endswith(b"\r\n\r\nabc")
    assert server.exchange(request("/length/6") + close("/length/6")).count(b"abcdef") == 2
    assert "the body ended 3 bytes before its Content-Length" in server.text()
    assert "the body has 2 bytes more than its Content-Length" in server.text()


def test_an_iterable_is_closed_in_the_face_of_errors(server: Gunicorn) -> None:
    for path in ("/pieces", "/half", "/length/9", "/close_fails"):
        before = server.text().count("closed\n")
        server.exchange(close(path))
        assert server.text().count("closed\n") == before + 1


def test_an_app_that_raises_half_way_leaves_a_response_that_is_visibly_cut(server: Gunicorn) -> None:
    answer = server.exchange(request("/half"))
    assert b"3\r\none\r\n" in answer
    assert not answer.endswith(b"0\r\n\r\n")


# Headers that are the server's


def test_hop_by_hop_headers_are_the_servers_own(server: Gunicorn) -> None:
    head, _, body = server.exchange(close("/hop")).partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Type: text/plain\r\ncontent-length: 3\r\nconnection: close"
    assert body == b"abc"
    assert server.exchange(request("/says_close") + request("/after")).count(b"onnection: close") == 1


def test_statuses_without_a_body(server: Gunicorn) -> None:
    unchanged = server.exchange(request("/304") + close("/last"))
    assert b'ETag: "a"\r\nContent-Length: 6\r\n' in unchanged
    assert b"abcdef" not in unchanged
    assert b'"/last"' in unchanged
    empty = server.exchange(request("/204/length") + close("/last"))
    assert b"abc" not in empty
    assert b'"/last"' in empty
    assert b"ontent-" not in empty.partition(b"\r\n\r\n")[0]


def test_the_date_is_now(server: Gunicorn) -> None:
    found = re.search(rb"\r\ndate: (.+)\r\n", server.exchange(close("/x")))
    assert found
    assert abs(parsedate_to_datetime(found[1].decode()).timestamp() - time.time()) < 5
