"""One client's connection, in a greenlet of its own."""

import contextlib
import socket as plain_socket
import sys
from collections.abc import Callable, Mapping
from enum import Enum, auto
from ssl import SSLWantReadError
from time import monotonic
from typing import Any, Literal, Protocol

import gevent
from gevent import Timeout, getcurrent

from featurestore.worker.budget import Budget
from featurestore.worker.forwarded import Proxies
from featurestore.worker.framing import Framing
from featurestore.worker.interface import BEGIN, KEY, Answer, Begin
from featurestore.worker.refusal import Refusal
from featurestore.worker.requests import Environ, Request, RequestReader
from featurestore.worker.responses import Server
from featurestore.worker.sockets import TlsSocket, send, take

_RECEIVE_BYTES = 65_536
_FIRST_BYTES = 4096  # enough for most requests: a larger buffer would be reallocated after each read
_SLOWEST_BYTES_PER_S = 65_536
_FAREWELL_S = 2.0
_READABLE = 1


class ConnectionState(Enum):
    """What a connection is doing."""

    AWAKE = auto()
    """The greenlet runs: it reads requests, lets the app answer them, or sends."""

    IDLE = auto()
    """The greenlet waits for the first bytes of a request."""

    READING = auto()
    """The greenlet waits for the rest of a request."""

    ANSWERING = auto()
    """The app answers a plain GET in the hub. The greenlet sleeps, and nothing is read."""

    OVERDUE = auto()
    """The wait is over. The greenlet reads once more before it gives up."""

    CLOSED = auto()
    """The connection has ended."""


# In Python 3.11 each look at a member of an Enum costs a call.
_AWAKE, _IDLE, _READING, _ANSWERING, _OVERDUE, _CLOSED = ConnectionState

TRANSITIONS: Mapping[ConnectionState, frozenset[ConnectionState]] = {
    _AWAKE: frozenset({_IDLE, _READING, _CLOSED}),
    _IDLE: frozenset({_AWAKE, _ANSWERING, _OVERDUE, _CLOSED}),
    _READING: frozenset({_AWAKE, _OVERDUE, _CLOSED}),
    # Answered; given back, or the response could not leave at once; killed.
    _ANSWERING: frozenset({_IDLE, _AWAKE, _CLOSED}),
    _OVERDUE: frozenset({_AWAKE, _CLOSED}),
    _CLOSED: frozenset(),
}
"""State → the states that may follow. Whoever ends a wait changes the state first, so the greenlet is woken once."""


class ClientGoneError(Exception):
    """The client closed the connection, or takes no more bytes."""


class ConnectionServer(Server, Protocol):
    """What a connection needs of its server, beside what its responses need.

    Attributes:
        framing: What a request may be made of.
        budget: What counts the bytes that connections hold.
        request_timeout: Seconds within which a request has to arrive, from its first byte to its last.
        send_timeout: Most seconds in which a client takes nothing of a response; also for the whole response, with 1 s
            more for each 64 KiB.
        idle_timeout: Seconds that a connection may wait for its next request.
    """

    framing: Framing
    budget: Budget
    request_timeout: float
    send_timeout: float
    idle_timeout: float

    def begin_for(self, client: str, lane: Begin | None = None, key: str = "") -> Begin | None:
        """Return what begins to answer a client's plain GETs, see `FastApp.begin`; None if all go to `answer`.

        `lane` is what the app has put into `BEGIN`, and `key` into `KEY`.
        """

    def answer(self, request: Request, send: Callable[[bytes], None]) -> float | None:
        """Let the app answer `request`; return how many seconds to read nothing, None if the connection ends."""

    def finish(self, answer: Answer) -> tuple[bytes, ...]:
        """Return the response to a request that `begin` took, in pieces."""

    def refused(self, refusal: Refusal, client: str) -> None:
        """Note a request that was refused before the app saw it."""


class Connection:
    """One client: reads requests, lets the app answer them in order, and closes.

    A plain GET is answered in the hub if possible, while the greenlet sleeps. The greenlet does everything else.

    Args:
        server: Whose connection it is.
        client: gevent's socket; for TLS, with the handshake done.
        base: The part of the WSGI environment that all requests share.
        tls: Whether `client` speaks TLS.
        proxies: What to take of a proxy that is trusted; None if the client is none.

    Attributes:
        deadline: By when the client must have sent something; only in states that wait for it.
        state: What the connection is doing.
    """

    def __init__(
        self, server: ConnectionServer, client: Any, base: Environ, *, tls: bool, proxies: Proxies | None = None
    ) -> None:
        self.state = _AWAKE
        self._patience = server.request_timeout  # the time-out in `deadline` while no request is under way
        self.deadline = monotonic() + self._patience
        self._server = server
        self._client = client
        self._address: str = base["REMOTE_ADDR"]
        self._greenlet = getcurrent()
        self._hub = gevent.get_hub()
        self._reader = RequestReader(base, server.framing, server.budget, proxies)
        self._longest_line = server.framing.limits.line
        self._tls = tls
        self._plain = client if tls else client._sock  # noqa: SLF001 - the socket inside gevent's, which does not wait
        self._take, self._send_now = take, send
        if tls:
            client.settimeout(0.0)
            secure = TlsSocket(client)
            self._take, self._send_now = secure.take, secure.send
        self._descriptor: int = client.fileno()
        self._watcher: Any = self._hub.loop.io(self._descriptor, _READABLE)
        self._begin = server.begin_for(self._address)
        self._asked = ""  # the path of the plain GET that is answered in the hub

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self.state is _IDLE

    @property
    def idle_since(self) -> float:
        """When the last request was answered, or the client connected; only while `idle`."""
        return self.deadline - self._patience

    def serve(self) -> None:
        """Answer requests until one side ends the connection."""
        try:
            while self._answer_complete():
                data = self._receive()
                if not data:
                    return
                self._reader.feed(data)
        except (ClientGoneError, OSError):
            return
        finally:
            self.state = _CLOSED
            self._reader.drop()
            self._watcher.stop()
            self._watcher.close()

    def expire(self) -> None:
        """End the wait for the client, if there is one; called from another greenlet."""
        if self.state is _IDLE or self.state is _READING:
            self.state = _OVERDUE
            self._hub.loop.run_callback(self._greenlet.switch, None)

    def _answer_complete(self) -> bool:
        """Let the app answer the complete requests; return whether to wait for more bytes."""
        reader, server = self._reader, self._server
        had_begun, answered = reader.begun, False
        while (request := reader.next()) is not None:
            pause = server.answer(request, self.send)
            if pause is None:
                return False
            if BEGIN in request.environ:
                self._follow(request.environ)
            if pause:
                request = None  # what is not needed any more takes no memory meanwhile
                gevent.sleep(pause)
            answered = True
        if reader.refusal:
            self._refuse(reader.refusal)
            return False
        if reader.wants_continue:
            reader.wants_continue = False
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif answered and not reader.begun and not server.alive:
            return False
        if answered:
            self._patience = server.idle_timeout
            self.deadline = monotonic() + (server.request_timeout if reader.begun else server.idle_timeout)
        elif reader.begun and not had_begun:
            self.deadline = monotonic() + server.request_timeout
        return True

    def _follow(self, environ: Environ) -> None:
        """Begin plain GETs with the header fields of the last one as the app says; see `BEGIN`."""
        begin: Begin | Literal[False] | None = environ[BEGIN]
        if begin is False:
            self._reader.forget_usual()
            self._begin = self._begin and self._server.begin_for(self._address)
        elif self._begin is not None:
            self._begin = self._server.begin_for(environ["REMOTE_ADDR"], begin, environ.get(KEY, ""))

    def _receive(self) -> bytes:
        """Return the client's next bytes; empty if it is gone or too slow, or if the server stops."""
        while True:
            woken_with = self._wait()
            if self.state is _OVERDUE:
                self.state = _AWAKE
                return self._last_bytes()
            if isinstance(woken_with, memoryview):
                self._send_rest(woken_with)
                if not self._server.alive:
                    return b""
            else:
                data = self._read() if woken_with is None else woken_with
                if data is not None:
                    return data

    def _wait(self) -> bytes | memoryview | None:
        """Wait until the hub or `expire` wakes the greenlet.

        Return bytes of the client, or the rest of a response to send; None if there may be something to read.
        """
        if not self._watcher.active:
            self._watcher.start(self._on_readable)
        self.state = _READING if self._reader.begun else _IDLE
        woken_with: bytes | memoryview | None = self._hub.switch()
        return woken_with

    def _wake(self, woken_with: bytes | memoryview | None) -> None:
        """Run the greenlet until it waits again; only in the hub."""
        self.state = _AWAKE
        self._greenlet.switch(woken_with)

    def _read(self) -> bytes | None:
        """Return what the client has sent; None if there is nothing now."""
        try:
            data: bytes = self._plain.recv(_RECEIVE_BYTES if self._reader.begun or self._tls else _FIRST_BYTES)
        except (BlockingIOError, SSLWantReadError):
            return None
        return data

    def _last_bytes(self) -> bytes:
        """Return a request's start that arrived just in time; answer 408 if half a request is there."""
        if self._reader.begun:
            self._refuse(Refusal(408, "the request did not arrive in time"))
            return b""
        data = self._read() or b""
        return data if data.strip(b"\r\n") else b""  # or a client could send empty lines for ever

    def _refuse(self, refusal: Refusal) -> None:
        """Answer instead of the app, and let the client read the answer before the connection closes."""
        self._reader.drop()
        self._server.refused(refusal, self._address)
        self.send(refusal.response(self._server.date_field))
        with contextlib.suppress(OSError, Timeout), Timeout(_FAREWELL_S):
            self._client.settimeout(None)
            self._client.shutdown(plain_socket.SHUT_WR)
            # Unread bytes would make the kernel reset the connection, and the answer with it.
            while self._client.recv(_RECEIVE_BYTES):
                gevent.sleep(0)

    # Sending

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            ClientGoneError: The client is gone or does not take it.
        """
        try:
            sent = 0
            if not self._tls:
                try:
                    sent = self._plain.send(data)
                except BlockingIOError:
                    sent = 0
                if sent == len(data):
                    return
            self._send_slowly(memoryview(data)[sent:])
        except OSError as error:
            raise ClientGoneError from error

    def _send_slowly(self, data: memoryview) -> None:
        """Send `data` as fast as the client reads it; give up if it stops or is very slow."""
        client, patience = self._client, self._server.send_timeout
        size, budget = len(data), self._server.budget
        end = monotonic() + patience + size / _SLOWEST_BYTES_PER_S
        budget.add(size)
        try:
            client.settimeout(patience)
            while data:
                if monotonic() > end:
                    raise ClientGoneError
                data = data[client.send(data) :]
        finally:
            budget.give_back(size)
            client.settimeout(0.0 if self._tls else None)

    def _send_rest(self, rest: memoryview) -> None:
        """Send the rest of a response whose start was sent in the hub; errors as in `send`."""
        if rest:
            try:
                self._send_slowly(rest)
            except OSError as error:
                raise ClientGoneError from error
        self.deadline = monotonic() + self._server.idle_timeout

    # A plain GET, in the hub. The watcher stays on between requests, which saves two system calls for each.

    def _on_readable(self) -> None:
        """Begin to answer a plain GET; leave everything else to the greenlet."""
        state, begin = self.state, self._begin
        if state is _IDLE and begin is not None:
            taken = self._take(self._descriptor, self._reader.usual, self._longest_line)
            if taken is None:
                return
            if isinstance(taken, str):
                self.state, self._asked = _ANSWERING, taken
                try:
                    if begin(taken, self._respond):
                        return
                except Exception:  # noqa: BLE001 - whatever happened, a WSGI call can still answer the request
                    self._begin = None  # `begin` may still respond, which must not answer a later request
                    self._hub.handle_error(self, *sys.exc_info())
                    if self.state is not _ANSWERING:
                        return
                taken = self._reader.unparsed(taken)
            self._wake(taken)
        elif state is _IDLE or state is _READING:
            self._wake(None)
        else:
            self._watcher.stop()

    def _respond(self, answer: Answer | None) -> None:
        """Send the answer to the plain GET, and wait for the next request. The greenlet does what this cannot."""
        if self.state is not _ANSWERING:
            return
        server = self._server
        rest: bytes | memoryview
        try:
            if answer is None:
                rest = self._reader.unparsed(self._asked)
            else:
                response = server.finish(answer)
                try:
                    left = self._send_now(self._descriptor, response)
                except OSError:  # the greenlet will meet it again
                    left = sum(map(len, response))
                if not left and server.alive:
                    self.deadline = monotonic() + server.idle_timeout
                    self.state = _IDLE
                    if not self._watcher.active:
                        self._watcher.start(self._on_readable)
                    return
                whole = b"".join(response)
                rest = memoryview(whole)[len(whole) - left :]
        except Exception:  # noqa: BLE001 - whatever happened, without an answer the connection must end
            self._hub.handle_error(self, *sys.exc_info())
            rest = b""
        self._wake(rest)
