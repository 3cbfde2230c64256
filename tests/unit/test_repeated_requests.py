"""Requests that need not be parsed: exactly those that differ from one before in nothing but a plain path."""

import pytest
from support.reading import plain_path_of, reader, taken

from featurestore.worker.framing import Limits
from featurestore.worker.requests import RequestReader

FIELDS = b"\r\nHost: h\r\nAccept: */*\r\n\r\n"
FIRST = b"GET /features/user1 HTTP/1.1" + FIELDS


def reader_after(data: bytes, *, line: int = 100) -> RequestReader:
    after = reader(Limits(line=line, fields=20, field_size=500, body=1000))
    taken(after, data)
    return after


@pytest.mark.parametrize("path", ["/features/user2", "/", "/a.b~c-d_e/../F", "/features/" + "x" * 70])
def test_a_plain_path_is_taken(path: str) -> None:
    assert plain_path_of(reader_after(FIRST), b"GET " + path.encode() + b" HTTP/1.1" + FIELDS) == path


@pytest.mark.parametrize(
    "data",
    [
        b"GET /a HTTP/1.1\r\nHost: g\r\nAccept: */*\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nX: y\r\n\r\n",
        b"GET /a HTTP/1.1\r\nX: y" + FIELDS,
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1" + FIELDS,
        b"GET /a HTTP/1.1" + FIELDS + b"GET /b HTTP/1.1" + FIELDS,
        b"GET /a HTTP/1.1" + FIELDS + b"G",
        b"\r\nGET /a HTTP/1.1" + FIELDS,
        b"GET /a HTTP/1.0" + FIELDS,
        b"GET  /a HTTP/1.1" + FIELDS,
        b"GET /a  HTTP/1.1" + FIELDS,
        b"GET a HTTP/1.1" + FIELDS,
        b"HEAD /a HTTP/1.1" + FIELDS,
        b"POST /a HTTP/1.1" + FIELDS,
        b"GET /a?b=c HTTP/1.1" + FIELDS,
        b"GET /a#b HTTP/1.1" + FIELDS,
        b"GET /%61 HTTP/1.1" + FIELDS,
        b"GET /\xc3\xa9 HTTP/1.1" + FIELDS,
        b"GET http://h/a HTTP/1.1" + FIELDS,
        b"GET /" + b"x" * 100 + b" HTTP/1.1" + FIELDS,
        FIELDS,
        b"\r\n",
        b"",
    ],
)
def test_anything_else_is_parsed(data: bytes) -> None:
    assert plain_path_of(reader_after(FIRST), data) is None


@pytest.mark.parametrize(
    "first",
    [
        b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 400 + b"\r\nY: " + b"y" * 4000 + b"\r\n\r\n",
    ],
)
def test_fields_that_mean_more_are_not_remembered(first: bytes) -> None:
    fields = first[first.index(b"\r\n") :]
    assert plain_path_of(reader_after(first), b"GET /b HTTP/1.1" + fields) is None


def test_fields_are_remembered_from_the_first_plain_get() -> None:
    for start in (b"GET /%61 HTTP/1.1", b"HEAD /a HTTP/1.1", b"OPTIONS * HTTP/1.1"):
        after = reader_after(start + FIELDS)
        assert plain_path_of(after, FIRST) is None
        taken(after, FIRST)
        assert plain_path_of(after, FIRST) == "/features/user1"


def test_a_request_that_came_in_pieces_is_remembered_too_and_one_under_way_is_gone_on_with() -> None:
    after = reader_after(FIRST[:20])
    assert plain_path_of(after, FIRST) is None
    assert len(taken(after, FIRST[20:])) == 1
    assert plain_path_of(after, FIRST) == "/features/user1"
    taken(after, b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 200\r\n\r\n")
    assert plain_path_of(after, FIRST) is None


@pytest.mark.parametrize("rest", [b"\r", b"\r\n\r", b"G"])
def test_what_is_left_of_an_earlier_read_comes_before_it(rest: bytes) -> None:
    after = reader_after(FIRST + rest)
    assert plain_path_of(after, FIRST) is None


def test_the_parser_goes_on_after_a_request_that_it_has_not_seen() -> None:
    after = reader_after(FIRST)
    assert plain_path_of(after, FIRST)
    (request,) = taken(after, b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
    assert request.environ["wsgi.input"].read() == b"hi"
