"""What comes of a client's bytes does not depend on how reads cut them, and agrees with what others make of them."""

import contextlib
import re
from itertools import pairwise
from typing import Any, NamedTuple

import h11
import pytest
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.gunicorn import Gunicorn, close, read_all, read_response, request
from support.reading import LIMITS, is_fresh, plain_path_of, reader, taken

from featurestore.worker.framing import Limits

SMALL = Limits(40, 4, 40, 60)
"""So small that examples meet all of them; but a head may always have 64 KiB."""

IDS = b'{"user_ids":["a"]}'
BATCH = request("/features/batch", "Content-Length: 18", method="POST", body=IDS)


class Seen(NamedTuple):
    """One request, as whoever reads it sees it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class Outcome(NamedTuple):
    """What came of a connection's bytes."""

    requests: list[tuple[dict[str, Any], bytes, bool, bool]]
    refusal: tuple[int, str] | None
    begun: bool
    fresh: bool


def outcome(pieces: list[bytes], limits: Limits = LIMITS, *, short: bool = False) -> Outcome:
    """Return what comes of the pieces; with `short`, those that repeat a plain GET are not parsed."""
    ours, requests = reader(limits), []
    for piece in pieces:
        path = plain_path_of(ours, piece) if short else None
        if path is not None:
            environ = {"RAW_URI": path, "REQUEST_METHOD": "GET"}
            requests.append((environ, b"", True, True))
            continue
        for each in taken(ours, piece):
            body = each.environ.pop("wsgi.input").read()
            del each.environ["featurestore.hold"]  # the reader's own
            environ = each.environ
            if short and environ["REQUEST_METHOD"] == "GET":
                environ = {name: environ[name] for name in ("RAW_URI", "REQUEST_METHOD")}
            requests.append((environ, body, each.keep_alive, each.http11))
    refusal = (ours.refusal.status, str(ours.refusal)) if ours.refusal else None
    return Outcome(requests, refusal, ours.begun, is_fresh(ours))


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


# Requests that are right, nearly right, and wrong

METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"M-SEARCH", b"get", b"GE", b"G@T", b"FOO", b""]
TARGETS = [b"/", b"/a", b"/%61?b=c#d", b"http://h/x?y", b"*", b"x", b"//", b"/\x7f", b"/\xc3\xa9", b"/ b", b"ftp://h/"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"RTSP/1.0", b"HTTP/2.0", b"http/1.1", b""]
SPACES = [b" "] * 8 + [b"  ", b"\t", b"", b"\r", b"\n"]
ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\r\n"]
FIELDS = [
    b"Host: h", b"Host: h", b"Host: h", b"Host:", b"Content-Type: t", b"X-A: b", b"x-a:c ", b"X:", b"A: b\tc",
    b"A: \xe9", b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: h2c",
    b"Connection: Upgrade, close", b"Expect: 100-continue", b"Content-Length: 0", b"Content-Length: 3",
    b"Content-Length: 03", b"Content-Length: +3", b"Content-Length: 99999", b"Content-Length: 3 ",
    b"Content-Length: " + b"0" * 20 + b"3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: gzip", b"Transfer-Encoding : chunked", b"A: b\x00", b"A: b\rc", b"A_B: c", b": c", b" folded",
    b"no colon", b"A b: c", b"A: " + b"x" * 35, b"A:" + b" " * 40 + b"b",
]  # fmt: skip
SIZES = [b"3", b"3", b"1", b"A", b"0a", b"0", b"00", b"3;x", b"3;x=y", b'3;x="y;\\""', b"3 ", b"3;", b"0x3", b"-3", b"",
         b"FFFF", b"1" * 17, b"0" * 15 + b"3", b"3;" + b"x" * 50]  # fmt: skip


def joined(*parts: "st.SearchStrategy[bytes] | bytes") -> "st.SearchStrategy[bytes]":
    return st.tuples(*(st.just(part) if isinstance(part, bytes) else part for part in parts)).map(b"".join)


def one_of(pieces: list[bytes]) -> "st.SearchStrategy[bytes]":
    return st.sampled_from(pieces)


right_fields = st.lists(one_of([b"X-A: b", b"x-a:c ", b"Accept: */*", b"Connection: keep-alive"]), max_size=2).map(
    lambda fields: b"".join(field + b"\r\n" for field in fields)
)
right_chunks = st.lists(st.binary(min_size=1, max_size=12), max_size=4).map(
    lambda chunks: b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
)
right = st.one_of(
    joined(b"GET /a", one_of([b"", b"?b", b"/c", b"%61"]), b" HTTP/1.1\r\nHost: h\r\n", right_fields, b"\r\n"),
    st.binary(max_size=20).flatmap(
        lambda body: joined(
            b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % len(body), right_fields, b"\r\n" + body
        )
    ),
    joined(b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: h\r\n", right_fields, b"\r\n", right_chunks),
    joined(b"GET /d HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
)  # fmt: skip
nearly_chunks = joined(
    st.lists(joined(one_of(SIZES), one_of(ENDS), one_of([b"abc", b"a", b""]), one_of(ENDS)), max_size=3).map(b"".join),
    one_of([b"0\r\n", b"0\r\n", b"0", b""]),
    st.lists(joined(one_of(FIELDS), one_of(ENDS)), max_size=3).map(b"".join),
    one_of(ENDS),
)
nearly = joined(
    one_of([b"", b"", b"", b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" "]),
    one_of(METHODS),
    one_of(SPACES),
    one_of(TARGETS),
    one_of(SPACES),
    one_of(VERSIONS),
    one_of(ENDS),
    st.lists(joined(one_of(FIELDS), one_of(ENDS)), max_size=5).map(b"".join),
    one_of(ENDS),
    st.one_of(nearly_chunks, one_of([b"", b"abc", b"a"])),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Requests that are right, but for a byte or two."""
    data = bytearray(b"".join(draw(st.lists(right, min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data) - 1))
        change = draw(one_of([b"", b"\r", b"\n", b" ", b"\r\n", b"\x00", b":", b"0", b"a"]))
        data[at : at + draw(st.integers(0, 1))] = change
        data = data or bytearray(b"\r")
    return bytes(data)


streams = st.one_of(
    mutated(),
    st.lists(right, max_size=4).map(b"".join),
    st.lists(st.one_of(right, nearly), max_size=4).map(b"".join),
    joined(right, st.binary(max_size=30)),
)


@given(streams, st.lists(st.integers(0, 10_000), max_size=6), st.sampled_from([LIMITS, SMALL]))
@settings(max_examples=3000, deadline=None)
@example(BATCH + request("/features/b"), [len(BATCH)], LIMITS)
@example(BATCH + request("  /x"), [], LIMITS)
@example(BATCH + b"GET /x RTSP/1.0\r\n", [], LIMITS)
@example(
    request("/x", "Content-Length: 19", method="POST", body=b"\nGET /x HTTP/1.1\r\n ") + request("  /x"), [80], LIMITS
)
@example(b"\rGET /x HTTP/1.1\r\nHost: h\r\n\r\n", [1], LIMITS)
@example(b"\r\n\rGET /x HTTP/1.1\r\nHost: h\r\n\r\n", [3], LIMITS)
@example(b"\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n", [1], LIMITS)
@example(request("/x", "A:" + " " * 8190 + "b"), [5000], LIMITS)
@example(request("/x", *["A: " + "b" * 8000] * 9), [65_536], LIMITS)
def test_the_outcome_does_not_depend_on_the_cuts(data: bytes, places: list[int], limits: Limits) -> None:
    whole = outcome([data], limits)
    assert outcome(cut(data, places), limits) == whole
    assert outcome(bytewise(data), limits) == whole


@given(st.lists(st.one_of(right, right, nearly), min_size=1, max_size=5), st.lists(st.integers(0, 500), max_size=3))
@settings(max_examples=1000, deadline=None)
def test_requests_that_are_not_parsed_are_what_they_would_be_if_they_were(
    parts: list[bytes], places: list[int]
) -> None:
    data = b"".join(parts)
    whole = outcome([data], short=True)
    assert outcome(parts, short=True) == whole
    assert outcome(cut(data, places), short=True) == whole
    assert [environ["RAW_URI"] for environ, *_ in whole.requests] == [
        environ["RAW_URI"] for environ, *_ in outcome([data]).requests
    ]


# Others' opinions


def ours(data: bytes) -> list[Seen]:
    """Return the requests that we take: fields that are repeated in one, in the order of their names."""
    found = []
    for each in taken(reader(), data):
        environ = each.environ
        body = environ["wsgi.input"].read()
        headers = sorted((name.replace("-", "_").lower(), value) for name, value in each.headers)
        found.append(Seen(environ["REQUEST_METHOD"], environ["RAW_URI"], headers, body))
    return found


def shown(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], body: bytes) -> Seen:
    """Return a request as `ours` does."""
    headers: dict[str, str] = {}
    for name, value in fields:
        key, text = name.decode().lower().replace("-", "_"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return Seen(method.decode(), target.decode("latin-1"), sorted(headers.items()), body)


def as_h11_reads(data: bytes) -> list[Seen]:
    """Return the requests that h11 takes, up to the first that it refuses or that is not complete.

    Each is read by a connection of its own: h11 keeps none that speaks HTTP/1.0 or asks for an upgrade.
    """
    found: list[Seen] = []
    with contextlib.suppress(h11.RemoteProtocolError):
        while data:
            while data.startswith(b"\r\n"):  # which may stand before a request (RFC 9112, 2.2); h11 takes none
                data = data[2:]
            peer = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
            peer.receive_data(data)
            head = peer.next_event()
            if not isinstance(head, h11.Request):
                break
            body = b""
            while isinstance(event := peer.next_event(), h11.Data):
                body += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                break
            found.append(shown(head.method, head.target, list(head.headers), body))
            data = peer.trailing_data[0]
    return found


class Parser:
    """What llhttp makes of a connection's bytes."""

    def __init__(self) -> None:
        self.found: list[Seen] = []
        self._parser = HttpRequestParser(self)
        self._target = self._body = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._in_trailer = False

    def on_message_begin(self) -> None:
        self._target = self._body = b""
        self._fields, self._in_trailer = [], False

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_trailer:
            self._fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_trailer = True

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        self.found.append(shown(self._parser.get_method(), self._target, self._fields, self._body))

    def read(self, data: bytes) -> list[Seen]:
        with contextlib.suppress(HttpParserError, HttpParserUpgrade):
            self._parser.feed_data(data)
        return self.found


def comparable(requests: list[Seen]) -> list[Seen]:
    """Return the requests with `chunked` in small letters, as h11 shows it."""
    return [
        each._replace(headers=[(n, v.lower() if n == "transfer_encoding" else v) for n, v in each.headers])
        for each in requests
    ]


@given(streams)
@settings(max_examples=3000, deadline=None)
@example(request("/x", "Transfer-Encoding: chunked", method="POST", body=b'1;a="b;c"\r\nx\r\n0\r\nA: b\r\n\r\n'))
def test_nothing_is_taken_that_h11_refuses_and_both_see_the_same(data: bytes) -> None:
    mine = comparable(ours(data))
    assert mine == comparable(as_h11_reads(data))[: len(mine)]


@given(streams)
@settings(max_examples=3000, deadline=None)
def test_nothing_is_taken_that_llhttp_refuses_and_both_see_the_same(data: bytes) -> None:
    mine = ours(data)
    for count, each in enumerate(mine):
        if any(name == "upgrade" for name, _ in each.headers):  # behind it llhttp reads nothing
            mine = mine[:count]
            break
    assert mine == Parser().read(data)[: len(mine)]


# As soon as it is clear

HOPELESS = [
    b"\x16", b"\x80", b"\rG", b"\n", b" ", b"G@", b"GET  ", b"GET\t", b"GEX", b"g", b"SS", b"HEL",
    b"GET /x R", b"GET /x HTTP/1.1 ", b"GET /x HTTP/1.2", b"GET /x HTTP/2", b"GET /x\r\n", b"GET /\xe9", b"GET /x\n",
    b"PRI", b"\r\n\r\n\rG", b"GET /x HTTP/1.1\n", b"GET /x HTTP/1.1\r\nA ", b"GET /x HTTP/1.1\r\n ",
    b"GET /x HTTP/1.1\r\n:", b"GET /x HTTP/1.1\r\nA: \0", b"GET /x HTTP/1.1\r\nHost: h\r\n\rx",
    b"GET /x HTTP/1.1\r\nA\r\n",
]  # fmt: skip


@pytest.mark.parametrize("before", [b"", request("/x"), BATCH], ids=["first", "behind a GET", "behind a body"])
@pytest.mark.parametrize("start", HOPELESS)
def test_what_can_become_no_request_is_refused_at_the_byte_that_shows_it(before: bytes, start: bytes) -> None:
    for pieces in ([before + start], bytewise(before + start)):
        wrong = reader()
        assert len(taken(wrong, *pieces)) == bool(before)
        assert wrong.refusal
        assert wrong.refusal.status == 400
    hopeful = reader()
    taken(hopeful, before + start[:-1])
    assert hopeful.refusal is None


# The same over a socket


def test_a_get_behind_a_batch_in_one_write_is_answered_and_the_connection_goes_on(server: Gunicorn) -> None:
    with server.connect() as client:
        for _ in range(2):
            client.sendall(request("/echo", "Content-Length: 18", method="POST", body=IDS) + request("/features/b"))
            assert read_response(client)[1] == IDS
            head, body = read_response(client)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b'"/features/b"' in body
        client.sendall(close("/last"))
        assert b'"/last"' in read_all(client)


@pytest.mark.parametrize("start", HOPELESS)
def test_what_can_become_no_request_is_answered_at_once(server: Gunicorn, start: bytes) -> None:
    with server.connect() as client:
        client.settimeout(5)  # half of what a request may take to arrive
        client.sendall(request("/echo", "Content-Length: 18", method="POST", body=IDS) + start)
        assert re.findall(rb"HTTP/1\.1 (\d+)", read_all(client)) == [b"200", b"400"]
