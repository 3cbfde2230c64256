"""The states of a connection: what leads from one to another, by the transitions of its table alone."""

import contextlib
import socket as plain_socket
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from support.gunicorn import request
from support.reading import LIMITS

from featurestore.worker.budget import Budget
from featurestore.worker.connection import TRANSITIONS, Connection, ConnectionState
from featurestore.worker.framing import Framing
from featurestore.worker.interface import Answer, Begin, Respond
from featurestore.worker.refusal import Refusal
from featurestore.worker.requests import Request


class Watched(Connection):
    """A connection whose transitions are noted."""

    @property
    def state(self) -> ConnectionState:
        return self.__dict__["state"]  # type: ignore[no-any-return]

    @state.setter
    def state(self, value: ConnectionState) -> None:
        self.seen = self.__dict__.get("seen") or set[tuple[ConnectionState, ConnectionState]]()
        if "state" in self.__dict__:
            self.seen.add((self.state, value))
        self.__dict__["state"] = value


class Site:
    """A server whose app answers plain GETs when the test says so."""

    request_timeout = send_timeout = idle_timeout = 10.0
    date_field = b""

    def __init__(self) -> None:
        self.alive = True
        self.framing, self.budget = Framing(LIMITS), Budget(1 << 26)
        self.asked: list[tuple[str, Respond]] = []
        self.refusals: list[int] = []
        self.takes = True

    def begin_for(self, _client: str, _lane: Begin | None = None, _key: str = "") -> Begin | None:
        return self._begin

    def _begin(self, path: str, respond: Respond) -> bool:
        if self.takes:
            self.asked.append((path, respond))
        return self.takes

    def answer(self, request: Request, send: Callable[[bytes], None]) -> float | None:
        send(b"long %b;" % request.environ["PATH_INFO"].encode())
        return 0.0

    def finish(self, answer: Answer) -> tuple[bytes, ...]:
        return answer[2], b";"

    def refused(self, refusal: Refusal, _client: str) -> None:
        self.refusals.append(refusal.status)


class Client:
    """The other end of a connection that is served, after its first request."""

    def __init__(self, site: Site) -> None:
        self.site = site
        ours, self.socket = socket.socketpair()
        self.served = gevent.spawn(self._serve, ours)
        gevent.sleep(0)
        assert self.send("/first") == b"long /first;"

    def _serve(self, ours: Any) -> None:
        self.connection = Watched(self.site, ours, {"REMOTE_ADDR": ""}, tls=False)
        with ours:
            self.connection.serve()

    def send(self, path: str) -> bytes:
        self.socket.sendall(request(path))
        return self.read()

    def begin(self, path: str) -> Respond:
        """Send a plain GET; return what answers it."""
        self.socket.sendall(request(path))
        with gevent.Timeout(10):
            while not self.site.asked:
                gevent.sleep(0.001)
        asked, respond = self.site.asked.pop()
        assert asked == path
        assert self.connection.state is ConnectionState.ANSWERING
        return respond

    def read(self) -> bytes:
        """Return what comes up to a semicolon, or to the end."""
        received = b""
        with gevent.Timeout(10):
            while not received.endswith(b";") and (piece := self.socket.recv(65_536)):
                received += piece
        return received


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client(Site())
    yield made
    made.socket.close()
    made.served.join(10)
    assert made.connection.state is ConnectionState.CLOSED
    assert all(after in TRANSITIONS[before] for before, after in made.connection.seen)


def in_hub(call: Callable[..., object], *arguments: object) -> None:
    gevent.get_hub().loop.run_callback(call, *arguments)


ANSWER: Answer = ("200 OK", [], b"short")


def test_a_plain_get_is_answered_while_the_greenlet_sleeps(client: Client) -> None:
    in_hub(client.begin("/a"), ANSWER)
    assert client.read() == b"short;"
    assert client.connection.state is ConnectionState.IDLE


def test_a_plain_get_that_is_given_back_or_not_taken_is_parsed(client: Client) -> None:
    in_hub(client.begin("/a"), None)
    assert client.read() == b"long /a;"
    client.site.takes = False
    assert client.send("/b") == b"long /b;"


def test_a_second_answer_and_one_to_a_closed_connection_are_nobodys(client: Client) -> None:
    respond = client.begin("/a")
    in_hub(respond, ANSWER)
    assert client.read() == b"short;"
    in_hub(respond, ("200 OK", [], b"again"))
    in_hub(client.begin("/b"), ANSWER)
    assert client.read() == b"short;"
    late = client.begin("/c")
    client.served.kill()
    in_hub(late, ANSWER)
    gevent.sleep(0)
    assert client.read() == b""


def test_a_response_that_is_not_taken_at_once_is_the_greenlets(client: Client) -> None:
    client.socket.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_RCVBUF, 4096)
    in_hub(client.begin("/a"), ("200 OK", [], b"x" * 5_000_000))
    assert len(client.read()) == 5_000_001
    assert client.connection.state is ConnectionState.IDLE


def test_the_rest_of_a_request_is_read_by_the_greenlet(client: Client) -> None:
    client.socket.sendall(request("/a")[:9])
    with gevent.Timeout(10):
        while client.connection.state is not ConnectionState.READING:
            gevent.sleep(0.001)
    client.socket.sendall(request("/a")[9:])
    assert client.read() == b"long /a;"


@pytest.mark.parametrize("half", [b"", b"GET /"])
def test_whoever_is_overdue_is_looked_at_once_more_and_closed(client: Client, half: bytes) -> None:
    client.socket.sendall(half)
    gevent.sleep(0.01)
    client.connection.expire()
    client.connection.expire()
    assert client.connection.state is ConnectionState.OVERDUE
    assert client.read().startswith(b"HTTP/1.1 408 " if half else b"")
    client.socket.close()
    client.served.join(10)
    assert client.site.refusals == [408] * bool(half)


def test_a_request_that_came_just_before_the_wait_was_over_is_answered_and_empty_lines_are_not(client: Client) -> None:
    client.connection.expire()  # before the hub sees what comes now
    client.socket.sendall(request("/a"))
    assert client.read() == b"long /a;"
    client.connection.expire()
    client.socket.sendall(b"\r\n\r\n")
    assert client.read() == b""


def test_nobody_expires_while_a_request_is_answered(client: Client) -> None:
    respond = client.begin("/a")
    client.connection.expire()
    in_hub(respond, ANSWER)
    assert client.read() == b"short;"


def test_a_server_that_stops_answers_what_is_begun_and_closes(client: Client) -> None:
    respond = client.begin("/a")
    client.site.alive = False
    in_hub(respond, ANSWER)
    assert client.read() == b"short;"
    assert client.read() == b""


@pytest.mark.parametrize(
    "state", [ConnectionState.IDLE, ConnectionState.READING, ConnectionState.OVERDUE, ConnectionState.ANSWERING]
)
def test_a_connection_whose_greenlet_is_killed_is_closed(client: Client, state: ConnectionState) -> None:
    if state is ConnectionState.READING:
        client.socket.sendall(b"GET")
        gevent.sleep(0.01)
    elif state is ConnectionState.ANSWERING:
        client.begin("/a")
    elif state is ConnectionState.OVERDUE:
        client.connection.expire()
    assert client.connection.state is state
    client.served.kill()
    assert client.connection.state is ConnectionState.CLOSED
    with contextlib.suppress(ConnectionResetError):
        assert client.read() == b""


def test_a_connection_that_is_killed_before_it_could_look_again_is_closed(client: Client) -> None:
    client.served.kill(block=False)
    client.connection.expire()
    assert client.connection.state is ConnectionState.OVERDUE
    client.served.join(10)
    assert (ConnectionState.OVERDUE, ConnectionState.CLOSED) in client.connection.seen
