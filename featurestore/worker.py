"""gunicorn's gevent worker with a C parser for HTTP in place of gunicorn's own: `featurestore.worker.Worker`."""

import contextlib
import socket as plain_socket
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from email.utils import formatdate
from time import monotonic, time
from types import TracebackType
from typing import Any

import gevent
from gevent import Timeout, getcurrent
from gunicorn.http.wsgi import base_environ
from gunicorn.workers.ggevent import GeventWorker

from featurestore.http1 import Environ, Limits, Refusal, Request, RequestReader
from featurestore.settings import Settings

_RECEIVE_BYTES = 65_536
_REQUEST_TIMEOUT_S = 10.0
_SEND_TIMEOUT_S = 10.0
_SWEEP_S = 0.1
_NO_BODY = ("1", "204", "304")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class ClientGoneError(Exception):
    """The client closed the connection, or takes no more bytes."""


class Response:
    """What the app answers to one request, and the WSGI callables that it answers by.

    `status`, `headers`, `sent` and `response_length` are what gunicorn's access log reads.
    """

    def __init__(self, worker: "Worker", send: Callable[[bytes], None], request: Request) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent = 0
        self.headers_sent = False
        self.close = not request.keep_alive
        self._send = send
        self._worker = worker
        self._request = request
        self._chunked = False
        self._bodiless = False

    @property
    def response_length(self) -> int:
        """Bytes of the body."""
        return self.sent

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take status and headers, as PEP 3333 has it."""
        if exc_info:
            try:
                if self.headers_sent and exc_info[1]:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status:
            raise AssertionError("start_response was called twice")
        self.status, self.headers = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of the body, after the head if that has not been sent."""
        head = b"" if self.headers_sent else self._head(None)
        self._send_body(head, data)

    def answer(self, body: Iterable[bytes]) -> None:
        """Send the response: in one write when the body is a single piece."""
        if type(body) is list and len(body) == 1 and not self.headers_sent:
            self._send_body(self._head(len(body[0])), body[0])
        else:
            for data in body:
                if data:
                    self.write(data)
            if not self.headers_sent:
                self._send_body(self._head(0), b"")
        if self._chunked and not self._bodiless:
            self._send(b"0\r\n\r\n")

    def _send_body(self, head: bytes, data: bytes) -> None:
        self.sent += len(data)
        if self._bodiless:
            data = b""
        elif self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if head or data:
            self._send(head + data)

    def _head(self, length: int | None) -> bytes:
        """Return the head; `length` is the body's when it is known."""
        if not self.status:
            raise AssertionError("the app did not call start_response")
        lines = [f"HTTP/1.1 {self.status}\r\ndate: {self._worker.date}\r\n"]
        sized = False
        for name, value in self.headers:
            lines.append(f"{name}: {value}\r\n")
            lowered = name.lower()
            sized = sized or lowered == "content-length"
            if lowered == "connection" and value.lower() == "close":
                self.close = True
        extra = 2
        self._bodiless = self._request.environ["REQUEST_METHOD"] == "HEAD" or self.status.startswith(_NO_BODY)
        if not sized and not self.status.startswith(_NO_BODY):
            if length is not None:
                lines.append(f"content-length: {length}\r\n")
                extra += 1
            elif self._request.http11:
                lines.append("transfer-encoding: chunked\r\n")
                extra += 1
                self._chunked = True
            else:
                self.close = True
        if self.close or not self._worker.alive:
            self.close = True
            lines.append("connection: close\r\n")
            extra += 1
        elif not self._request.http11:
            lines.append("connection: keep-alive\r\n")
            extra += 1
        head = "".join(lines)
        if head.count("\n") != len(self.headers) + extra or head.count("\r") != len(self.headers) + extra:
            raise ValueError("a response header holds a line break")
        self.headers_sent = True
        return head.encode("latin-1") + b"\r\n"


class Connection:
    """One client: reads requests, has the app answer them in order, and closes.

    Attributes:
        deadline: When the client must have sent what is awaited; only while `waiting`.
        waiting: Whether bytes of the client are awaited.
    """

    def __init__(self, worker: "Worker", client: Any, base: Environ) -> None:
        self.deadline = 0.0
        self.waiting = False
        self.expired = False
        self._worker = worker
        self._client = client
        self._greenlet = getcurrent()
        self._hub = gevent.get_hub()
        self._reader = RequestReader(base, worker.limits, self._send_continue)
        self._socket = getattr(client, "_sock", client)
        self._tls = hasattr(client, "pending")
        self._watcher: Any = None if self._tls else self._hub.loop.io(client.fileno(), 1)

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self.waiting and not self._reader.begun

    def serve(self) -> None:
        """Answer requests until one side ends the connection."""
        reader, worker = self._reader, self._worker
        try:
            while True:
                while reader.requests:
                    request = reader.requests.popleft()
                    if not worker.answer(request, self._send) or (not reader.requests and not worker.alive):
                        return
                if reader.refusal:
                    self._refuse(reader.refusal)
                    return
                data = self._receive()
                if not data:
                    return
                reader.feed(data)
        except (ClientGoneError, OSError):
            return
        finally:
            if self._watcher is not None:
                self._watcher.stop()
                self._watcher.close()

    def expire(self) -> None:
        """Stop waiting for the client; called from another greenlet."""
        if self.waiting and self._watcher is not None:
            self.waiting, self.expired = False, True
            self._hub.loop.run_callback(self._greenlet.switch)

    def _receive(self) -> bytes:
        """Return the client's next bytes; none when it is gone or too slow."""
        patience = _REQUEST_TIMEOUT_S if self._reader.begun else self._worker.cfg.keepalive
        if not self._reader.begun or not self.deadline:
            self.deadline = monotonic() + patience
        if self._tls:
            return self._receive_tls()
        while True:
            if not self._watcher.active:
                self._watcher.start(self._on_readable)
            self.waiting = True
            try:
                self._hub.switch()
            finally:
                self.waiting = False
            if self.expired:
                self._timed_out()
                return b""
            try:
                data: bytes = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                continue
            if not self._reader.begun:
                self.deadline = monotonic() + _REQUEST_TIMEOUT_S
            return data

    def _on_readable(self) -> None:
        """Wake the greenlet, in the hub. The watcher stays on between requests, which saves two system calls each."""
        if self.waiting:
            self.waiting = False
            self._greenlet.switch()
        else:
            self._watcher.stop()

    def _receive_tls(self) -> bytes:
        self.waiting = True
        try:
            while self._worker.alive or self._reader.begun:
                left = self.deadline - monotonic()
                if left <= 0:
                    self._timed_out()
                    break
                self._client.settimeout(min(left, 1.0))
                with contextlib.suppress(TimeoutError):
                    data: bytes = self._client.recv(_RECEIVE_BYTES)
                    return data
            return b""
        finally:
            self.waiting = False
            self._client.settimeout(_SEND_TIMEOUT_S)

    def _timed_out(self) -> None:
        if self._reader.begun:
            self._refuse(Refusal(408, "the request did not arrive in time"))

    def _send(self, data: bytes) -> None:
        """Send all of `data`."""
        if self._tls:
            self._client.sendall(data)
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            with Timeout(_SEND_TIMEOUT_S, ClientGoneError):
                self._client.sendall(memoryview(data)[sent:])

    def _send_continue(self) -> None:
        self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, refusal: Refusal) -> None:
        """Answer for the app, and let the client read that before the connection goes."""
        self._send(refusal.response())
        with contextlib.suppress(OSError, Timeout), Timeout(1.0):
            self._client.shutdown(plain_socket.SHUT_WR)
            for _ in range(64):  # unread bytes would make the kernel reset the connection, and the answer with it
                if not self._client.recv(_RECEIVE_BYTES):
                    break


class Worker(GeventWorker):  # type: ignore[misc]
    """A gunicorn worker: accept loop, graceful stop, `max_requests` and TLS are those of gunicorn's gevent worker.

    Attributes:
        limits: How much of a request is taken.
        date: The time as responses have it.
    """

    alive: bool
    limits: Limits
    date: str

    def init_process(self) -> None:
        """Set what all connections share, then run."""
        cfg = self.cfg
        self.limits = Limits(
            cfg.limit_request_line,
            cfg.limit_request_fields,
            cfg.limit_request_field_size,
            Settings.from_environment().max_body_bytes,
        )
        self._connections: set[Connection] = set()
        self.date = formatdate(usegmt=True)
        self._base = base_environ(cfg)
        self._logs_access = bool(cfg.accesslog or (cfg.logger_class is not None and cfg.statsd_host))
        super().init_process()

    def run(self) -> None:
        """Accept connections until told to stop."""
        sweeper = gevent.spawn(self._sweep)
        try:
            super().run()
        finally:
            sweeper.kill()

    def handle(self, listener: Any, client: Any, address: Any) -> None:
        """Serve one connection, in a greenlet of its own."""
        connection = None
        try:
            client.setblocking(True)
            connection = Connection(self, client, self._environ_of(listener, client, address))
            self._connections.add(connection)
            connection.serve()
        except Exception:
            self.log.exception("a connection failed")
        finally:
            if connection is not None:
                self._connections.discard(connection)
            with contextlib.suppress(OSError):
                client.close()

    def answer(self, request: Request, send: Callable[[bytes], None]) -> bool:
        """Have the app answer `request`; return whether the connection may go on."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        response = Response(self, send, request)
        started = datetime.now() if self._logs_access else None  # noqa: DTZ005 - as gunicorn's log wants it
        try:
            self._call_app(request, response)
        except (ClientGoneError, OSError):
            if sys.exc_info()[0] is ClientGoneError or response.headers_sent:
                return False
            raise
        except Exception:
            self.log.exception("Error handling request %s", request.environ.get("RAW_URI"))
            if not response.headers_sent:
                send(Refusal(500, "the request failed inside the server; its log says why").response())
            return False
        if started is not None:
            took: timedelta = datetime.now() - started  # noqa: DTZ005 - likewise
            self.log.access(response, request, request.environ, took)
        return not response.close

    def _call_app(self, request: Request, response: Response) -> None:
        body = self.wsgi(request.environ, response.start_response)
        try:
            response.answer(body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _environ_of(self, listener: Any, client: Any, address: Any) -> Environ:
        """Return what the environments of a connection's requests have in common."""
        tls = hasattr(client, "pending")
        environ: Environ = self._base.copy()
        server = listener.getsockname()
        environ.update(
            {
                "SCRIPT_NAME": "",
                "wsgi.url_scheme": "https" if tls else "http",
                "REMOTE_ADDR": address[0] if isinstance(address, tuple) else "",
                "REMOTE_PORT": str(address[1]) if isinstance(address, tuple) else "",
                "SERVER_NAME": server[0] if isinstance(server, tuple) else "localhost",
                "SERVER_PORT": str(server[1]) if isinstance(server, tuple) else "",
            }
        )
        return environ

    def _sweep(self) -> None:
        """Every tenth of a second: end the waits of slow clients, and all idle ones once the worker stops."""
        while True:
            gevent.sleep(_SWEEP_S)
            self.date = formatdate(time(), usegmt=True)
            now = monotonic()
            for connection in list(self._connections):
                if connection.waiting and (now > connection.deadline or (not self.alive and connection.idle)):
                    connection.expire()
