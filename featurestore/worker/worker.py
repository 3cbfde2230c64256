"""gunicorn's gevent worker with a C parser for HTTP in place of gunicorn's own: `featurestore.worker.worker.Worker`."""

import contextlib
import errno
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import formatdate
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent import Timeout
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http.wsgi import base_environ
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker

from featurestore.settings import Settings
from featurestore.worker.budget import Budget, trim_memory
from featurestore.worker.capacity import clients_within, limit_of_files, scarcity
from featurestore.worker.connection import ClientGoneError, Connection
from featurestore.worker.forwarded import Proxies
from featurestore.worker.framing import Framing, Limits
from featurestore.worker.interface import NO_ROOM, PLAIN_ROUTE, REFUSED, Answer, Begin, FastApp, Headers, Respond
from featurestore.worker.pacing import Pacer
from featurestore.worker.refusal import Refusal
from featurestore.worker.requests import Environ, Request
from featurestore.worker.responses import Response, head_of, whole

_TICK_S = 0.1
_MADE_ROOM_FOR = 64  # new connections at a tick, where there are as many as there may be; fewer where those are few
_TRIM_EVERY_S = 5.0
_TELL_EVERY_S = 10.0
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_MOST_FIELDS = 32_768
_FIELD_BYTES = 8190  # both as gunicorn reads a 0

LogPlain = Callable[[str, str, Answer, float, str, str], None]
"""Logs a plain GET: target, route, answer, seconds, client's address, the name of its key."""


class Worker(GeventWorker):  # type: ignore[misc]
    """A gevent worker with its own HTTP/1.1.

    What trusted proxies say of their clients counts, see `forwarded.py`.

    Unsupported: HTTP/2, the PROXY protocol, request hooks, gunicorn's leniency settings.

    Attributes:
        request_timeout: Seconds within which a request has to arrive, from its first byte to its last.
        send_timeout: Most seconds in which a client takes nothing of a response; also for the whole response, with 1 s
            more for each 64 KiB.
        idle_timeout: Seconds that a connection may wait for its next request; gunicorn's `keepalive`.
        framing: What a request may be made of.
        budget: What counts the bytes that connections hold.
        date_field: The header field with the time.
        begin: The app's `begin` (see `FastApp`); None where the app has none, and where every request has to be a WSGI
            call: for an access log of gunicorn's own, and without keep-alive.
    """

    request_timeout = 10.0
    send_timeout = 10.0
    idle_timeout: float
    alive: bool
    worker_connections: int
    framing: Framing
    budget: Budget
    date_field: bytes
    begin: Begin | None = None

    def init_process(self) -> None:
        """Set what all connections share, then run."""
        cfg, settings = self.cfg, Settings.from_environment()
        limits = Limits(
            cfg.limit_request_line,
            min(cfg.limit_request_fields or _MOST_FIELDS, _MOST_FIELDS),
            cfg.limit_request_field_size or _FIELD_BYTES,
            settings.max_body_bytes,
        )
        self.framing = Framing(limits)
        self.budget = Budget(max(settings.max_buffered_bytes, limits.head + limits.body))
        self._no_room = Tally("no new client can be taken (%d attempts): %s")
        self._turned_away = Tally("%d requests were refused: %s")
        self._pacer = Pacer()
        self._trimmed = 0.0
        self._fit_clients()
        self.idle_timeout = cfg.keepalive
        self._connections: set[Connection] = set()
        self._paused: list[Acceptor] = []
        self._proxies = Proxies(cfg.forwarded_allow_ips, cfg.secure_scheme_headers)
        self._base = {**base_environ(cfg), "SCRIPT_NAME": "", "wsgi.multithread": True}
        logs = cfg.accesslog, cfg.logconfig, cfg.logconfig_dict, cfg.logconfig_json, cfg.syslog, cfg.statsd_host
        self._logs_access = any(logs)
        # Our log takes plain GETs that are answered in the event loop; to gunicorn's every request is a WSGI call.
        self._log_plain: LogPlain | None = getattr(self.log, "plain_access", None) if self._logs_access else None
        self._tls: Any = None
        self._count_refusal: Callable[[str], None] | None = None
        self._prepared: tuple[str, Headers, bytes] = "", [], b""
        self._set_date()
        if settings.batch_scheduling:
            _be_a_batch_process()
        super().init_process()

    def run(self) -> None:
        """Accept connections until told to stop, then finish what is under way, within `graceful_timeout`."""
        gevent.get_hub().print_exception = self._tell_of_the_loop
        self._tls = ssl_context(self.cfg) if self.cfg.is_ssl else None
        app = self.wsgi
        if isinstance(app, FastApp):
            self._count_refusal = app.count_refusal
            if self.idle_timeout and (self._log_plain or not self._logs_access):
                self.begin = app.begin
        pool = self._pool = Pool(self.worker_connections)
        servers = [self._listen(listener, pool) for listener in self.sockets]
        while self.alive:
            self._tick()
        for server in servers:
            server.close()
        end = monotonic() + self.cfg.graceful_timeout
        while len(pool):
            if monotonic() > end:
                self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
                for server in servers:
                    server.stop(timeout=1)
                return
            self._tick()

    def handle(self, listener: Any, client: Any, address: Any) -> None:
        """Serve one connection, in a greenlet of its own."""
        connection = None
        try:
            client.setblocking(True)
            if self._tls is not None:
                with Timeout(self.request_timeout, ClientGoneError):
                    client = self._tls.wrap_socket(
                        client, server_side=True, suppress_ragged_eofs=self.cfg.suppress_ragged_eofs
                    )
            environ = self._environ_of(listener, address)
            proxies = self._proxies if self._proxies.trusts(environ["REMOTE_ADDR"]) else None
            connection = Connection(self, client, environ, tls=self._tls is not None, proxies=proxies)
            self._connections.add(connection)
            connection.serve()
        except (ClientGoneError, OSError) as error:
            self.log.debug("Ignored a connection that failed: %s", error)
        except Exception:
            self.log.exception("A connection failed")
        finally:
            if connection is not None:
                self._connections.discard(connection)
            with contextlib.suppress(OSError):
                client.close()

    def answer(self, request: Request, send: Callable[[bytes], None]) -> float | None:
        """Have the app answer `request`; return how many seconds to read nothing, None if the connection ends."""
        self._count()
        response = Response(self, send, request)
        if not self.idle_timeout:
            response.close = True
        if not self._logs_access:
            return self._pause(request) if self._answer(request, response, send) else None
        started = datetime.now()  # noqa: DTZ005 - as gunicorn's log wants it
        try:
            return self._pause(request) if self._answer(request, response, send) else None
        finally:
            took: timedelta = datetime.now() - started  # noqa: DTZ005 - likewise
            response.status = response.status or "500"  # the client went before the app had begun to answer
            self.log.access(response, request, request.environ, took)

    def begin_for(self, client: str, lane: Begin | None = None, key: str = "") -> Begin | None:
        """Return what begins to answer the plain GETs of a client, by its lane, and logs them where that is wanted."""
        begin, log = lane or self.begin, self._log_plain
        if begin is None or log is None:
            return begin

        def begin_logged(path: str, respond: Respond) -> bool:
            began = monotonic()

            def respond_logged(answer: Answer | None) -> None:
                respond(answer)
                if answer is not None:
                    log(path, PLAIN_ROUTE, answer, monotonic() - began, client, key)

            return begin(path, respond_logged)

        return begin_logged

    def finish(self, answer: Answer) -> tuple[bytes, ...]:
        """Return the response to a request that `begin` took, in pieces."""
        self.nr += 1
        if self.nr >= self.max_requests:
            self._end()
        status, headers, body = answer
        prepared = self._prepared  # nearly all answers have the same status and headers
        if prepared[0] is not status or prepared[1] is not headers:
            self._prepared = prepared = status, headers, head_of(status, headers)
        return whole(self, prepared[2], body)

    def refused(self, refusal: Refusal, client: str) -> None:
        """Take note of a request that the app does not get."""
        if self._count_refusal is not None:
            self._count_refusal(refusal.line)
        if refusal.status == 503:  # noqa: PLR2004 - HTTP's number
            self._turned_away.add(f"{refusal}; {self.budget.most} is the most (FEATURESTORE_MAX_BUFFERED_BYTES)")
        else:
            self.log.warning("Invalid request from ip=%s: %s", client, refusal)

    def pause(self, server: "Acceptor", error: OSError) -> None:
        """Let `server` accept nothing until the next tick, for want of descriptors or memory."""
        server.stop_accepting()
        self._paused.append(server)
        self._no_room.add(str(error))
        if self._count_refusal is not None:
            self._count_refusal(NO_ROOM)

    def _count(self) -> None:
        """Count a request; the worker takes no more after the last that it may."""
        self.nr += 1
        if self.nr >= self.max_requests:
            self._end()

    def _end(self) -> None:
        """Take no more requests."""
        if self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    def _answer(self, request: Request, response: Response, send: Callable[[bytes], None]) -> bool:
        try:
            body = self.wsgi(request.environ, response.start_response)
            try:
                response.answer(body)
            finally:
                close = getattr(body, "close", None)
                if close is not None:
                    close()
        except ClientGoneError:
            return False
        # An app's sys.exit() would end the worker, and with some codes gunicorn; gevent's Timeout is no Exception.
        except (Exception, SystemExit, Timeout):
            self.log.exception("Error handling request %s", request.environ["RAW_URI"])
            if not response.headers_sent:
                self._fail(request, response, send)
            return False
        return not response.close

    def _pause(self, request: Request) -> float:
        """Return how many seconds a client waits that was refused, where there are many of them."""
        return self._pacer.pause(monotonic()) if REFUSED in request.environ else 0.0

    def _fail(self, request: Request, response: Response, send: Callable[[bytes], None]) -> None:
        """Answer for an app that raised before it had answered."""
        refusal = Refusal(500, "the request failed inside the server; its log says why")
        response.status, response.headers = refusal.line, []
        with contextlib.suppress(ClientGoneError):
            send(refusal.response(self.date_field, bodiless=request.environ["REQUEST_METHOD"] == "HEAD"))

    def _fit_clients(self) -> None:
        """Bound the number of clients by the limit of open files."""
        limit = limit_of_files()
        most = clients_within(limit)
        if self.worker_connections > most:
            self.log.warning(scarcity(most, limit))
            self.worker_connections = most

    def _listen(self, listener: Any, pool: Pool) -> "Acceptor":
        """Return a server that accepts connections from now on, as many at once as the pool takes from all of them."""
        listener.setblocking(True)
        server = Acceptor(self, listener, pool)
        if self.cfg.workers > 1:
            server.max_accept = 1
        server.start()
        return server

    def _environ_of(self, listener: Any, address: Any) -> Environ:
        """Return what the environments of a connection's requests have in common."""
        environ: Environ = self._base.copy()
        environ["wsgi.url_scheme"] = "http" if self._tls is None else "https"
        server = listener.getsockname()
        if isinstance(server, tuple):
            environ["SERVER_NAME"], environ["SERVER_PORT"] = server[0], str(server[1])
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address[0], str(address[1])
        else:
            environ["SERVER_NAME"], environ["SERVER_PORT"] = "localhost", "80"
            environ["REMOTE_ADDR"] = ""
        return environ

    def _tick(self) -> None:
        """Wait a little; then end the waits of slow clients, and all idle ones once the worker stops."""
        self.notify()
        gevent.sleep(_TICK_S)
        self._set_date()
        now = monotonic()
        for connection in list(self._connections):
            if now > connection.deadline or (not self.alive and connection.idle):
                connection.expire()
        paused, self._paused = self._paused, []
        if self.alive:
            if paused or self._pool.full():
                self._make_room()
            for server in paused:
                server.start_accepting()
        self._no_room.tell(self.log, now)
        self._turned_away.tell(self.log, now)
        if now - self._trimmed > _TRIM_EVERY_S and self.budget.ebbed():
            self._trimmed = now
            trim_memory()

    def _make_room(self) -> None:
        """End the connections that have been idle for longest, so that new clients need not wait for their time-out."""
        idle = sorted((each for each in self._connections if each.idle), key=lambda each: each.idle_since)
        for connection in idle[: min(_MADE_ROOM_FOR, self.worker_connections // 4 + 1)]:
            connection.expire()

    def _tell_of_the_loop(self, _context: object, kind: Any, error: Any, traceback: Any) -> None:
        """Log what failed in the event loop, or in a greenlet; gevent itself would write to stderr."""
        self.log.error("Something failed in the event loop", exc_info=(kind, error, traceback))

    def _set_date(self) -> None:
        self.date_field = f"date: {formatdate(usegmt=True)}\r\n".encode()


class Acceptor(StreamServer):  # type: ignore[misc]
    """Accepts a worker's connections from one listener.

    Args:
        worker: Whose connections they are.
        listener: The socket.
        pool: The greenlets of all connections of the worker.
    """

    def __init__(self, worker: Worker, listener: Any, pool: Pool) -> None:
        super().__init__(listener, partial(worker.handle, listener), spawn=pool)
        self._worker = worker

    def do_read(self) -> Any:
        """Accept a connection; without descriptors leave it in the kernel's queue for a while, and go on then."""
        try:
            return super().do_read()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._worker.pause(self, error)
            return None


class Tally:
    """Counts frequent events, and logs their number now and then.

    Args:
        text: What the log says of it, with the number and the reason last given.
    """

    def __init__(self, text: str) -> None:
        self._text, self._reason = text, ""
        self._count = 0
        self._told: float | None = None

    def add(self, reason: str) -> None:
        """Count one more."""
        self._count += 1
        self._reason = reason

    def tell(self, log: Any, now: float) -> None:
        """Log the number since the last time, unless that was only moments ago."""
        if self._count and (self._told is None or now - self._told > _TELL_EVERY_S):
            log.warning(self._text, self._count, self._reason)
            self._count, self._told = 0, now


def _be_a_batch_process() -> None:
    """Ask Linux not to interrupt other processes for each message that arrives for this one.

    On busy processors it then runs less often, with more to do each time. A policy that was chosen for the server is
    kept.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
