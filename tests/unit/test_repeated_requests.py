"""Requests that need not be parsed: exactly those that differ from one before in nothing but a plain path."""

from typing import Any

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


@pytest.mark.parametrize("path", ["/features/user2", "/", "/a.b~c-d_e/../F", "/a?b=c,d", "/features/" + "x" * 70])
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
        b"GET /a?b=c&d HTTP/1.1" + FIELDS,
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
        b"GET /a HTTP/1.1\r\nHost: h\r\nAccept: application/msgpack\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nAccept: application/json;q=0, */*\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nAccept: application/msgpack\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 400 + b"\r\nY: " + b"y" * 4000 + b"\r\n\r\n",
    ],
)
def test_fields_that_mean_more_are_not_remembered(first: bytes) -> None:
    fields = first[first.index(b"\r\n") :]
    assert plain_path_of(reader_after(first), b"GET /b HTTP/1.1" + fields) is None


@pytest.mark.parametrize("accept", [b"*/*", b"application/json", b"application/json, text/plain, */*"])
def test_who_wants_json_is_plain(accept: bytes) -> None:
    fields = b"\r\nHost: h\r\naccept:  " + accept + b" \r\n\r\n"
    assert plain_path_of(reader_after(b"GET /a HTTP/1.1" + fields), b"GET /b HTTP/1.1" + fields) == "/b"


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


# Heads before bodies, which need not be parsed a second time


def post(body: bytes, path: bytes = b"/b", *fields: bytes) -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join([*lines, b"", body])


def seen(ours: RequestReader, *pieces: bytes) -> list[tuple[dict[str, Any], bytes, bool]]:
    """Return what the app gets of the requests that the pieces complete."""
    requests = []
    for each in taken(ours, *pieces):
        environ = {name: value for name, value in each.environ.items() if isinstance(value, str)}
        requests.append((environ, each.environ["wsgi.input"].read(), each.keep_alive))
    return requests


def bodies_of(before: list[bytes], data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[list[bytes], int]:
    """Return the bodies in `data` behind other requests, and how many of its heads were parsed; check all else."""
    ours = reader()
    seen(ours, *before)
    parsed: list[bytes] = []
    parse = ours._parse

    def note(head: bytes) -> bool:
        parsed.append(head)
        return parse(head)

    monkeypatch.setattr(ours, "_parse", note)
    found = seen(ours, data)
    assert found == seen(reader(), data)
    in_pieces = reader()
    seen(in_pieces, *before)
    assert found == seen(in_pieces, *(data[at : at + 1] for at in range(len(data))))
    return [body for _, body, _ in found], len(parsed)


def test_a_head_that_is_repeated_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bodies_of([post(b"one")], post(b"two") + post(b"six"), monkeypatch) == ([b"two", b"six"], 0)
    assert bodies_of([post(b"one"), FIRST], post(b"two") + FIRST + post(b"six"), monkeypatch)[0] == [
        b"two",
        b"",
        b"six",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (post(b"one"), post(b"four")),
        (post(b"one"), post(b"two", b"/c")),
        (post(b"one"), post(b"two", b"/b", b"X: y")),
        (post(b"one"), post(b"two").replace(b"1.1", b"1.0")),
        (post(b"one", b"/b", b"Connection: upgrade", b"Upgrade: x"),) * 2,
        (post(b"one", b"/b", b"X: " + b"x" * 2100),) * 2,
        (post(b""),) * 2,
        (post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"2\r\nab\r\n0\r\n\r\n",) * 2,
    ],
)
def test_another_head_and_one_that_means_more_is_parsed(
    first: bytes, second: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bodies_of([first], second, monkeypatch)[1] == 1


def test_an_expectation_is_met_each_time() -> None:
    ours = reader()
    head, body = post(b"one", b"/b", b"Expect: 100-continue")[:-3], b"one"
    for _ in range(3):
        assert taken(ours, head) == []
        assert ours.wants_continue
        assert len(taken(ours, body)) == 1


def test_what_an_app_does_to_its_environment_is_not_seen_by_the_next() -> None:
    ours = reader()
    for _ in range(3):
        (request,) = taken(ours, post(b"one"))
        assert "HTTP_X" not in request.environ
        request.environ["HTTP_X"] = "y"
        del request.environ["HTTP_HOST"]
