"""Plain GETs at the socket: the extension does what Python does, whatever a client sends."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from featurestore.worker import sockets
from featurestore.worker.sockets import plain_path, send_in_python, take_in_python

FIELDS = b"\r\nHost: h\r\n\r\n"
BUILT = sockets.take is not take_in_python
WAYS = (
    pytest.param("extension", marks=pytest.mark.skipif(not BUILT, reason="the extension is not built")),
    "python",
)

Pair = tuple[socket.socket, socket.socket]

pieces = st.sampled_from(
    [b"GET ", b"GET", b" HTTP/1.1", b"HTTP/1.0", b"/", b"a~", b"-._", b"?a=b,c", b"&", b"%61", FIELDS, b"\r\n"]
)
requests = st.one_of(
    st.lists(st.one_of(pieces, st.binary(max_size=3)), max_size=8).map(b"".join),
    st.binary(max_size=20).map(lambda middle: b"GET /" + middle + b" HTTP/1.1" + FIELDS),
)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A server's non-blocking socket, and its client."""
    server, client = socket.socketpair()
    server.setblocking(False)
    with server, client:
        yield server, client


@pytest.fixture(params=WAYS)
def take(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return take_in_python if request.param == "python" else sockets.take


@pytest.fixture(params=WAYS)
def send(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return send_in_python if request.param == "python" else sockets.send


@given(requests, st.sampled_from([None, FIELDS, b"\r\n", b""]), st.sampled_from([0, 1, 15, 20, 100]))
@settings(max_examples=examples(1500), deadline=None)
def test_what_a_client_sends_is_a_path_or_stays_as_it_is(data: bytes, usual: bytes | None, longest: int) -> None:
    path = plain_path(data, usual, longest)
    for take in (sockets.take, take_in_python):
        server, client = socket.socketpair()
        server.setblocking(False)
        with server, client:
            client.sendall(data)
            expected = None if not data else data if path is None else path
            assert take(server.fileno(), usual, longest) == expected


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_is_plain_in_a_path_or_not(pair: Pair, take: Callable[..., Any], byte: int) -> None:
    server, client = pair
    data = b"GET /%c HTTP/1.1" % byte + FIELDS
    client.sendall(data)
    assert take(server.fileno(), FIELDS, 0) == (plain_path(data, FIELDS, 0) or data)


def test_at_the_end_of_the_stream_there_are_no_bytes(pair: Pair, take: Callable[..., Any]) -> None:
    server, client = pair
    assert take(server.fileno(), FIELDS, 0) is None
    client.close()
    assert take(server.fileno(), FIELDS, 0) == b""


def test_a_connection_that_was_reset_has_no_bytes(take: Callable[..., Any]) -> None:
    def told(read: Callable[[socket.socket], object]) -> object:
        server, client = socket.socketpair()
        with server:
            server.setblocking(False)
            server.sendall(b"unread")
            client.close()  # which resets the connection, since bytes are left unread
            return read(server)

    with pytest.raises(ConnectionResetError):
        told(lambda server: server.recv(1))
    assert told(lambda server: take(server.fileno(), None, 0)) == b""


def test_more_than_a_read_takes_stays_in_the_socket(pair: Pair, take: Callable[..., Any]) -> None:
    server, client = pair
    client.sendall(b"x" * 5000)
    assert [len(take(server.fileno(), None, 0)), len(take(server.fileno(), None, 0))] == [4096, 904]


@pytest.mark.parametrize("size", [0, 1, 4090, 4096, 4097, 20_000])
def test_pieces_leave_one_behind_the_other(pair: Pair, send: Callable[..., Any], size: int) -> None:
    server, client = pair
    assert send(server.fileno(), (b"a", b"", b"x" * size, b"z")) == 0
    received = b""
    while len(received) < size + 2:
        received += client.recv(65_536)
    assert received == b"a" + b"x" * size + b"z"


def test_what_the_socket_does_not_take_is_told(pair: Pair, send: Callable[..., Any]) -> None:
    server, client = pair
    whole = b"y" * 10_000_000
    left = send(server.fileno(), (whole, b"z"))
    assert 0 < left < len(whole)
    assert send(server.fileno(), (b"full",)) == 4
    client.settimeout(5)
    sent = len(whole) + 1 - left
    received = 0
    while received < sent:
        received += len(client.recv(sent - received))


def test_a_client_that_is_gone_is_an_error(pair: Pair, send: Callable[..., Any]) -> None:
    server, client = pair
    client.close()
    with pytest.raises(OSError, match="pipe"):
        send(server.fileno(), (b"a",))


@pytest.mark.skipif(sockets.take is take_in_python, reason="the extension was not built")
def test_wrong_calls_are_told(pair: Pair) -> None:
    take, send, descriptor = sockets.take, sockets.send, pair[0].fileno()
    wrong: list[Callable[[], Any]] = [
        lambda: take(descriptor, "text", 0),  # type: ignore[arg-type]
        lambda: take("x", None, 0),  # type: ignore[arg-type]
        lambda: take(descriptor, None),  # type: ignore[call-arg]
        lambda: send(descriptor, [b"a"]),  # type: ignore[arg-type]
        lambda: send(descriptor, ("a",)),  # type: ignore[arg-type]
        lambda: send(descriptor),  # type: ignore[call-arg]
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    for call in (lambda: take(descriptor + 2**32, None, 0), lambda: send(descriptor + 2**32, (b"a",))):
        with pytest.raises(OverflowError):
            call()
    assert take(descriptor, None, 0) is None
