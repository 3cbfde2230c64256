"""What is refused: with an answer, after which the connection is closed and nothing more is read."""

import contextlib
import re
from pathlib import Path

import pytest
from support.gunicorn import Gunicorn, close, read_all, request
from support.reading import LIMITS, reader, taken

from featurestore.worker.framing import Limits

EMPTY = b"0\r\n\r\n"


def chunks(body: bytes) -> bytes:
    return request("/x", "Transfer-Encoding: chunked", method="POST", body=body)


CASES = [
    (request("  /x", "X: GET   /x HTTP/1.1"), 400),
    (b"GET /x RTSP/1.0\r\nHost: h\r\nX: GET /x HTTP/1.1\r\n\r\n", 400),
    (
        request("/x", "X: POST /x HTTP/1.1", "Transfer-Encoding: chunked", method="POST", version="1.0", body=EMPTY),
        400,
    ),
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
    (request("/x", "Transfer-Encoding: chunked ", method="POST", body=EMPTY), 400),
    (request("/x", "Transfer-Encoding: \x0bchunked", method="POST", body=EMPTY), 400),
    (request("/x", 'Transfer-Encoding: "chunked"', method="POST", body=EMPTY), 400),
    (request("/x", "Transfer-Encoding: chunked;a", method="POST", body=EMPTY), 400),
    (request("/x", "Transfer-Encoding: ,chunked", method="POST", body=EMPTY), 400),
    (request("/x", "Transfer-Encoding:", method="POST", body=EMPTY), 400),
    (request("/x", "Content-Length: 1,", method="POST", body=b"a"), 400),
    (request("/x", "Content-Length: 1.0", method="POST", body=b"a"), 400),
    (request("/x", "Content-Length: 1", "content-length: 1", method="POST", body=b"a"), 400),
    (request("/x", "Content-Type: a", "Content-Type: b"), 400),
    (request("/x", "A: b\x01c"), 400),
    (request("/x", "A: b\x7fc"), 400),
    (request("/x", "A(b: c"), 400),
    (b"GET  /x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET /x  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET\t/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET /x HTTP/1.1 \r\nHost: h\r\n\r\n", 400),
    (b"GET /x HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    (b"GET /x HTTP/0.9\r\nHost: h\r\n\r\n", 400),
    (b"GET /x HTTP/1.10\r\nHost: h\r\n\r\n", 400),
    (b"GET /x http/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET /x RTSP/1.0\r\nHost: h\r\n\r\n", 400),
    (b"OPTIONS * RTSP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"SOURCE /x ICE/1.0\r\nHost: h\r\n\r\n", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET ftp://h/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    (chunks(b"1 \r\na\r\n0\r\n\r\n"), 400),
    (chunks(b" 1\r\na\r\n0\r\n\r\n"), 400),
    (chunks(b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n"), 400),
    (chunks(b"\r\na\r\n0\r\n\r\n"), 400),
    (chunks(b"1;a\nb\r\na\r\n0\r\n\r\n"), 400),
    (chunks(b"1;a\rb\r\na\r\n0\r\n\r\n"), 400),
    (chunks(b"1;a\x00\r\na\r\n0\r\n\r\n"), 400),
    (chunks(b"1;\r\na\r\n0\r\n\r\n"), 400),
    (chunks(b"1\r\na\r\n0\r\nA: b\n\r\n"), 400),
    (chunks(b"1\r\na\r\n0\r\nA: b\r\n c\r\n\r\n"), 400),
    (chunks(b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n"), 400),
    (chunks(b"1\r\na\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
    (chunks(b"1\r\na\r\n0\n\r\n"), 400),
    (chunks(b"1\r\na\r\n0\r\n" + b"A: b\r\n" * 101 + b"\r\n"), 431),
    (chunks(b"1\r\na\r\n0\r\nA: " + b"b" * 9000 + b"\r\n\r\n"), 431),
    (chunks(b"1\r\na\r\n0\r\nA: " + b"b" * 2_000_000), 431),
    (chunks(b"1;" + b"a" * 2_000_000), 413),
    (request("/x", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 1", "Content-Length: 2"), 400),
    (request("/x", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 1048577", method="POST"), 413),
]


@pytest.mark.parametrize(("sent", "status"), CASES)
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


@pytest.mark.parametrize(("sent", "status"), [case for case in CASES if len(case[0]) < 20_000])
def test_segments_do_not_change_what_is_refused(sent: bytes, status: int) -> None:
    data = request("/before") + sent + close("/smuggled")
    torn = reader()
    requests = taken(torn, *(data[at : at + 1] for at in range(len(data))))
    assert torn.refusal
    assert torn.refusal.status == status
    assert [each.environ["RAW_URI"] for each in requests] == ["/before"]


@pytest.mark.parametrize(
    ("start", "status"),
    [(b"GET /", 414), (b"GET /x HTTP/1.1\r\nA: ", 431), (b"GET /x HTTP/1.1\r\nA", 431), (b"\r\nGET /x?", 414)],
)
def test_a_head_that_never_ends_is_not_kept(start: bytes, status: int) -> None:
    endless = reader()
    assert taken(endless, start) == []
    fed = 0
    while not endless.refusal:
        assert taken(endless, b"a" * 1000) == []
        fed += 1000
        assert fed <= LIMITS.head + 1000
    assert endless.refusal.status == status


def test_requests_that_come_together_are_not_taken_for_one() -> None:
    busy, requests = reader(Limits(40, 3, 50, 10)), []
    echo = request("/echo", "Content-Length: 10", method="POST", body=b"x" * 10)
    for half in (echo[:9], echo[:-10], echo[:-3]):
        requests += taken(busy, request("/x") * 2000 + half, echo[len(half) :])
    assert busy.refusal is None
    assert len(requests) == 6003


def test_the_limits_are_gunicorns_settings(tmp_path: Path) -> None:
    limits = ["--limit-request-line", "40", "--limit-request-fields", "3", "--limit-request-field_size", "50"]
    server = Gunicorn(tmp_path, *limits, FEATURESTORE_MAX_BODY_BYTES="10")
    length = len("GET / HTTP/1.1")
    try:
        for sent, status in [
            (close("/" + "x" * (40 - length)), b"200"),
            (close("/" + "x" * (41 - length)), b"414"),
            (close("/x", "A: b"), b"200"),
            (close("/x", "A: b", "C: d"), b"431"),
            (close("/x", "A: " + "b" * 45), b"200"),
            (close("/x", "A: " + "b" * 46), b"431"),
            (close("/echo", "Content-Length: 10", method="POST", body=b"x" * 10), b"200"),
            (close("/echo", "Content-Length: 11", method="POST"), b"413"),
            (close("/echo", "Transfer-Encoding: chunked", method="POST", body=b"b\r\n" + b"x" * 11), b"413"),
            (request("/x") * 2000 + close("/echo", "Content-Length: 10", method="POST", body=b"x" * 10), b"200"),
        ]:
            answers = server.exchange(sent)
            assert re.findall(rb"HTTP/1\.1 (\d+)", answers)[-1] == status, sent[:80]
        assert "Invalid request from ip=127.0.0.1: " in server.text()
    finally:
        assert server.stop() == 0


def test_a_limit_of_0_is_none(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--limit-request-line", "0", "--limit-request-fields", "0",
                      "--limit-request-field_size", "0")  # fmt: skip
    try:
        fields = [f"A{number}: b" for number in range(2000)]
        assert server.exchange(close("/" + "x" * 8000, *fields)).startswith(b"HTTP/1.1 200 ")
    finally:
        assert server.stop() == 0
