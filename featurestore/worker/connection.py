"""One client's connection, in a greenlet of its own."""

import contextlib
import socket as plain_socket
import sys
from collections.abc import Callable
from ssl import SSLWantReadError
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent import Timeout, getcurrent

from featurestore.worker.budget import Budget
from featurestore.worker.framing import Framing, Refusal
from featurestore.worker.requests import Environ, Request, RequestReader
from featurestore.worker.sockets import send, take

_RECEIVE_BYTES = 65_536
_FIRST_BYTES = 4096  # most requests; a large buffer for each read would be cut to size by the allocator
_SLOWEST_BYTES_PER_S = 65_536
_FAREWELL_S = 2.0
_READABLE = 1


Answer = tuple[str, list[tuple[str, str]], bytes]
"""Status, headers and body."""

Begin = Callable[[str, Callable[[Answer | None], None]], bool]


class ClientGoneError(Exception):
    """The client closed the connection, or takes no more bytes."""


class Server(Protocol):
    """What a connection has to know of its server.

    Attributes:
        alive: Whether the server takes further requests.
        framing: What a request may be made of.
        budget: What counts the bytes that connections hold.
        request_timeout: Seconds within which a request has to arrive, from its first byte to its last.
        send_timeout: Seconds without the client taking any of a response; also for all of it, and more for a large one.
        idle_timeout: Seconds that a connection may wait for its next request.
        date_field: The header field with the time, and its line end.
        begin: Begins to answer a GET of a plain path, in the hub; False where it has to be answered by other means.
    """

    alive: bool
    begin: Begin | None
    framing: Framing
    budget: Budget
    request_timeout: float
    send_timeout: float
    idle_timeout: float
    date_field: bytes

    def answer(self, request: Request, send: Callable[[bytes], None]) -> bool:
        """Have the app answer `request`; return whether the connection may go on."""

    def finish(self, answer: Answer) -> tuple[bytes, ...]:
        """Return the response to a request that `begin` took, in pieces."""

    def shortcut(self, path: str) -> bytes | None:
        """Return the response to a GET of `path` like others before it; None where `answer` has to give it."""

    def refused(self, refusal: Refusal, client: str) -> None:
        """Take note of a request that the app does not get."""


class Connection:
    """One client: reads requests, has the app answer them in order, and closes.

    A request like one before may be answered in the hub, while the greenlet goes on waiting for the client.

    Args:
        server: Whose connection it is.
        client: gevent's socket; for TLS, with the handshake done.
        base: What the environments of the requests have in common.
        tls: Whether `client` speaks TLS.

    Attributes:
        deadline: When the client must have sent what is awaited; only while `waiting`.
        waiting: Whether bytes of the client are awaited.
        expired: Whether the waiting was ended by `expire()`.
    """

    def __init__(self, server: Server, client: Any, base: Environ, *, tls: bool) -> None:
        self._patience = server.request_timeout  # which `deadline` has, where no request is under way
        self.deadline = monotonic() + self._patience
        self.waiting = False
        self.expired = False
        self._server = server
        self._client = client
        self._address: str = base["REMOTE_ADDR"]
        self._greenlet = getcurrent()
        self._hub = gevent.get_hub()
        self._reader = RequestReader(base, server.framing, server.budget)
        self._longest_line = server.framing.limits.line
        self._tls = tls
        self._plain = client if tls else client._sock  # noqa: SLF001 - past gevent's wrapper, which would wait
        if tls:
            client.settimeout(0.0)
        self._descriptor: int = client.fileno()
        self._watcher: Any = self._hub.loop.io(self._descriptor, _READABLE)
        self._begin = None if tls else server.begin
        self._closed = False
        self._asked = ""  # the path of the request that was begun in the hub
        self._received: bytes | None = None  # in the hub, for the greenlet to take
        self._late: memoryview | None = None  # what the greenlet has to send of a response that was begun in the hub
        self._answered = False  # since `deadline` was set
        self._pardoned = False  # true after the one grace read that a missed deadline allows
        self._begun = False  # as it was when `deadline` was set

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self.waiting and not self._reader.begun

    @property
    def idle_since(self) -> float:
        """When the last request was answered, or the client connected; only while `idle`."""
        return self.deadline - self._patience

    def serve(self) -> None:
        """Answer requests until one side ends the connection."""
        reader, server = self._reader, self._server
        try:
            while True:
                while (request := reader.next()) is not None:
                    if not server.answer(request, self.send):
                        return
                    self._answered = True
                if reader.refusal:
                    self._refuse(reader.refusal)
                    return
                if reader.wants_continue:
                    reader.wants_continue = False
                    self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                elif self._answered and not reader.begun and not server.alive:
                    return
                data = self._receive()
                if not data:
                    return
                path = reader.repeated(data)
                response = None if path is None else server.shortcut(path)
                if response is None:
                    reader.feed(data)
                else:
                    self.send(response)
                    self._answered = True
        except (ClientGoneError, OSError):
            return
        finally:
            self._closed = True
            reader.drop()
            self._watcher.stop()
            self._watcher.close()

    def expire(self) -> None:
        """Stop waiting for the client; called from another greenlet."""
        if self.waiting:
            self.waiting, self.expired = False, True
            self._hub.loop.run_callback(self._greenlet.switch)

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
        """Send `data` as the client takes it: it may neither stop nor dawdle for long."""
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

    def _receive(self) -> bytes:
        """Return the client's next bytes; none when it is gone or too slow."""
        begun = self._reader.begun
        if self._answered:
            self.deadline = monotonic() + (self._server.request_timeout if begun else self._server.idle_timeout)
            self._patience = self._server.idle_timeout
            self._pardoned = False
        elif begun and not self._begun:
            self.deadline = monotonic() + self._server.request_timeout
        self._answered, self._begun = False, begun
        if self._tls:  # which may have bytes that came with earlier ones
            gevent.sleep(0)  # a client that always has some must not keep out the others
            data = self._read()
            if data is not None:
                return data
        while True:
            self._wait()
            if self._late is not None:
                self._send_late()
                if not self._server.alive:
                    return b""
            elif self.expired:
                return self._last_bytes()
            else:
                data, self._received = self._received, None
                data = self._read() if data is None else data
                if data is not None:
                    return data

    def _wait(self) -> None:
        """Wait until there is something to read, or `expire()`."""
        if not self._watcher.active:
            self._watcher.start(self._on_readable)
        self.waiting = True
        try:
            self._hub.switch()
        finally:
            self.waiting = False

    def _on_readable(self) -> None:
        """Begin to answer or wake the greenlet, in the hub. The watcher stays on, which saves two system calls each."""
        if not self.waiting:
            self._watcher.stop()
            return
        begin = self._begin
        if begin is not None:
            reader = self._reader
            taken = take(self._descriptor, reader.usual if reader.fresh else None, self._longest_line)
            if taken is None:
                return
            self.waiting = False
            if isinstance(taken, str):
                self._asked = taken
                if begin(taken, self._respond):
                    return
                taken = reader.unparsed(taken)
            self._received = taken
        self.waiting = False
        self._greenlet.switch()

    def _respond(self, answer: Answer | None) -> None:
        """Send the answer to the request that was begun, in the hub; what this cannot do is left to the greenlet."""
        if self._closed:
            return
        try:
            if self._responded(answer):
                return
        except Exception:  # noqa: BLE001 - whatever it was: without an answer, and a deadline, the connection must end
            self._hub.handle_error(self, *sys.exc_info())
            self._received, self._late = b"", None
        self._greenlet.switch()

    def _responded(self, answer: Answer | None) -> bool:
        """Return whether the answer has gone out, and the next request is waited for."""
        if answer is None:
            self._received = self._reader.unparsed(self._asked)
        else:
            response = self._server.finish(answer)
            try:
                left = send(self._descriptor, response)
            except OSError:  # the greenlet will meet it again
                left = sum(map(len, response))
            if not left and self._server.alive:
                self.deadline = monotonic() + self._server.idle_timeout
                self.waiting = True
                if not self._watcher.active:
                    self._watcher.start(self._on_readable)
                return True
            whole = b"".join(response)
            self._late = memoryview(whole)[len(whole) - left :]
        return False

    def _send_late(self) -> None:
        """Send what is left of a response; errors as in `send`."""
        late, self._late = self._late, None
        if late:
            try:
                self._send_slowly(late)
            except OSError as error:
                raise ClientGoneError from error
        self.deadline = monotonic() + self._server.idle_timeout

    def _read(self) -> bytes | None:
        """Return what the client has sent, or None where that is nothing."""
        try:
            data: bytes = self._plain.recv(_RECEIVE_BYTES if self._reader.begun or self._tls else _FIRST_BYTES)
        except (BlockingIOError, SSLWantReadError):
            return None
        return data

    def _last_bytes(self) -> bytes:
        """Return what came just before the waiting was over; answer 408 where that is only half a request."""
        if self._reader.begun:
            self._refuse(Refusal(408, "the request did not arrive in time"))
            return b""
        if self._pardoned:
            return b""
        self.expired, self._pardoned = False, True
        return self._read() or b""

    def _refuse(self, refusal: Refusal) -> None:
        """Answer for the app, and let the client read that before the connection goes."""
        self._reader.drop()
        self._server.refused(refusal, self._address)
        self.send(refusal.response(self._server.date_field))
        with contextlib.suppress(OSError, Timeout), Timeout(_FAREWELL_S):
            self._client.settimeout(None)
            self._client.shutdown(plain_socket.SHUT_WR)
            # Unread bytes would make the kernel reset the connection, and the answer with it.
            while self._client.recv(_RECEIVE_BYTES):
                gevent.sleep(0)
