"""One connection that many greenlets use at once: the commands of a tick leave in one write, replies come in order."""

import ssl
import sys
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Protocol

import hiredis
from gevent import getcurrent

from featurestore.contract.replies import Expected, unfit
from featurestore.contract.resp import Reply, load_commands
from featurestore.contract.scripts import LOADED
from featurestore.errors import (
    BadReplyError,
    DeadlineExceededError,
    FeatureStoreError,
    OverloadedError,
    UnavailableError,
    error_from_reply,
)
from featurestore.transport.pipeline import GIVEN_UP, Failure

_READ_BYTES = 65_536  # more than a TLS record holds: nothing stays behind where no event would tell of it
_TLS_RECORD_BYTES = 16_384
_ROUNDS = 16  # reads or writes in a row before other connections get their turn
_DEAD_AFTER_TIMEOUTS = 3.0
_LEAST_TIMER_S = 0.001

_READABLE, _WRITABLE = 1, 2  # libev's names for what a watcher waits for
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_PENDING, _INCOMPLETE = object(), object()


class NonBlockingSocket(Protocol):
    """What a link needs of a socket; an operation that would block raises, or returns 0 in `send`."""

    def recv(self, size: int, /) -> bytes:
        """Return what has arrived, nothing at the end of the stream."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Return how many bytes were taken."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """Close the descriptor."""


Resume = Callable[["Waiter"], object]


class Waiter:
    """Who waits for the next `count` replies: a place in the order that outlives the caller's patience.

    Attributes:
        resume: Called in the hub, with this waiter, when there is an outcome; None once nobody waits any more.
        expected: What the replies may be.
        outcome: The reply, the replies, or a `Failure`.
    """

    __slots__ = ("count", "deadline", "expected", "outcome", "replies", "resume", "start")

    def __init__(self, resume: Resume | None, deadline: float, start: int, count: int, expected: Expected) -> None:
        self.resume = resume
        self.expected = expected
        self.deadline = deadline
        self.start = start
        self.count = count
        self.replies: list[Reply] | None = None if count == 1 else []
        self.outcome: Any = _PENDING


class Link:
    """A connection in use, for the greenlets of the thread that made it.

    Everything but `exchange` runs in the hub, or without giving way to other greenlets.

    Args:
        connected: A connected, authenticated socket with no reply under way. The link owns it from now on.
        hub: gevent's hub of this thread.
        timeout: Seconds that a reply may take; a connection silent for several times as long is given up.
        max_in_flight: Most calls that may wait at once.
        on_lost: Called once, with the link and the reason, when it has come to its end.
        on_served: Called once, when the first call is answered.

    Attributes:
        in_flight: Calls sent or to be sent whose reply has not been read, given up ones included.
        lost: Whether it has come to its end.
        proved: Whether Redis has answered on it.
        writes: How often `send` was called.
        load_error: Why the scripts could not be loaded, None when they were.
    """

    def __init__(  # noqa: PLR0913 - what it needs of its transport
        self,
        connected: NonBlockingSocket,
        hub: Any,
        *,
        timeout: float,
        max_in_flight: int,
        on_lost: Callable[["Link", FeatureStoreError], None],
        on_served: Callable[[], None],
    ) -> None:
        self.in_flight = self.writes = 0
        self.lost = self.proved = self._served = False
        self.load_error: FeatureStoreError | None = None
        self._socket = connected
        self._secure = hasattr(connected, "pending")
        self._full_read = _TLS_RECORD_BYTES if self._secure else _READ_BYTES
        self._hub, self._loop, self._switch_to_hub = hub, hub.loop, hub.switch
        self._timeout, self._max_in_flight, self._on_lost = timeout, max_in_flight, on_lost
        self._on_served = on_served
        self._reader = hiredis.Reader(replyError=error_from_reply, notEnoughData=_INCOMPLETE)
        self._waiters: deque[Waiter] = deque()
        self._loading: Waiter | None = None
        self._retiring = False
        self._outbox: list[bytes] = []
        self._unsent: bytes | memoryview = b""
        self._queued = self._touched = 0  # bytes ever put into the outbox, and ever shown to the kernel
        self._flushing = False
        self._timer: Any = None
        self._timer_at = 0.0
        # Watching for the end of the stream must not keep a program alive; the timer of a waiting call does.
        self._readable = self._loop.io(connected.fileno(), _READABLE, ref=False)
        self._writable = self._loop.io(connected.fileno(), _WRITABLE)
        self._readable.start(self._receive)

    def exchange(self, encoded: bytes, expected: Expected, count: int = 1) -> Reply | Failure:
        """Send `count` encoded commands and give way until they are answered.

        Return the reply, or the list of replies where `count` is more than 1; error replies are returned in place as
        exceptions. Return a `Failure` when there is none.

        Raises:
            OverloadedError: Too many calls wait already.
        """
        if self.lost:
            return Failure(UnavailableError("the connection to Redis was lost"), lost=True, unsent=True)
        if self.in_flight + count > self._max_in_flight:
            raise OverloadedError(
                f"{self.in_flight} calls wait for Redis and {count} more are too many: at most {self._max_in_flight}"
            )
        current = getcurrent()
        if current is self._hub:
            raise RuntimeError("a callback of the event loop cannot wait for Redis: spawn a greenlet")
        waiter = self._submit(current.switch, encoded, count, expected)
        self.in_flight += count
        try:
            while waiter.outcome is _PENDING:
                self._switch_to_hub()
        finally:
            waiter.resume = None  # whatever happens, nobody may switch here for this call again
        return waiter.outcome

    def submit(self, encoded: bytes, expected: Expected, resume: Resume) -> Waiter | None:
        """Send one encoded command without waiting; `resume` is called in the hub when the waiter has its outcome.

        Return None when no call can be taken on now.
        """
        if self.lost or self.in_flight >= self._max_in_flight:
            return None
        self.in_flight += 1
        return self._submit(resume, encoded, 1, expected)

    def load_scripts(self) -> None:
        """Send every script to Redis, ahead of whatever is sent next, unless that is under way already."""
        if self._loading is None and not self.lost:
            encoded = load_commands()
            self._loading = self._submit(None, b"".join(encoded), len(encoded), LOADED)

    def retire(self) -> None:
        """Come to the end once the calls under way are answered."""
        self._retiring = True
        if not self._waiters:
            self.lose("the connection to Redis was given up")

    def lose(self, reason: str, *, final: bool = False) -> None:
        """Close the connection and tell everyone who waits at once; when `final`, their calls are not repeated."""
        self._lose(UnavailableError, reason, final=final)

    def _lose(self, kind: type[UnavailableError], reason: str, *, final: bool = False) -> None:
        if self.lost:
            return
        waiting = [waiter for waiter in self._waiters if waiter.resume is not None]
        for waiter in waiting:
            unsent = waiter.start >= self._touched
            waiter.outcome = Failure(kind(reason), lost=not final, unsent=unsent)
        if waiting:
            self._loop.run_callback(self._wake, waiting)  # the caller may be a greenlet that would not be resumed
        self.forget()
        self._on_lost(self, kind(reason))

    def forget(self) -> None:
        """Close this process's side of the connection without telling anyone, as a forked child must."""
        self.lost = True
        for watcher in (self._readable, self._writable, self._timer):
            if watcher is not None:
                watcher.close()
        self._socket.close()
        self._waiters.clear()
        self._outbox.clear()
        self._unsent = b""
        self.in_flight = 0

    def _submit(self, resume: Resume | None, encoded: bytes, count: int, expected: Expected) -> Waiter:
        deadline = monotonic() + self._timeout
        waiter = Waiter(resume, deadline, self._queued, count, expected)
        self._waiters.append(waiter)
        self._outbox.append(encoded)
        self._queued += len(encoded)
        if not self._flushing:
            self._flushing = True
            self._loop.run_callback(self._flush)
        if self._timer is None or self._timer_at > deadline:  # as while only calls given up were waited for
            self._start_timer(self._timeout)
        return waiter

    def _flush(self) -> None:
        """Send what has gathered; go on when the socket is writable again where it does not take it all."""
        if self.lost:
            return
        for _ in range(_ROUNDS):
            if not self._unsent:
                if not self._outbox:
                    self._flushing = False
                    self._writable.stop()
                    return
                self._unsent = b"".join(self._outbox)
                self._outbox.clear()
            try:
                sent = self._send(self._unsent)
            except OSError as error:
                self.lose(f"the connection to Redis broke: {error}")
                return
            self._unsent = b"" if sent == len(self._unsent) else memoryview(self._unsent)[sent:]
            if not sent:
                break
        if not self._writable.active:
            self._writable.start(self._on_writable)

    def _send(self, data: bytes | memoryview) -> int:
        self.writes += 1
        if self._secure:
            self._touched = self._queued  # OpenSSL may have passed on a part of what it reports as not taken
        try:
            sent = self._socket.send(data)
        except _BLOCKED:
            return 0
        if not self._secure:
            self._touched += sent
        return sent

    def _on_writable(self) -> None:
        self._flush()
        if self._secure and not self.lost:
            self._receive()  # a TLS read may have been waiting for the write side

    def _receive(self) -> None:
        """Read what has arrived and hand out the replies in it."""
        for _ in range(_ROUNDS):
            try:
                data = self._socket.recv(_READ_BYTES)
            except _BLOCKED as error:
                if isinstance(error, ssl.SSLWantWriteError) and not self._writable.active:
                    self._writable.start(self._on_writable)
                return
            except OSError as error:
                self.lose(f"the connection to Redis broke: {error}")
                return
            if not data:
                self.lose("Redis closed the connection")
                return
            try:
                self._reader.feed(data)
                self._hand_out()
            except Exception as error:  # noqa: BLE001 - whatever a malformed reply sets off, only the link may suffer
                self._lose(BadReplyError, f"Redis sent a reply that cannot be read: {error}; {GIVEN_UP}")
            if self.lost or len(data) < self._full_read:
                return

    def _hand_out(self) -> None:
        """Give each complete reply to its waiter, in order, and let those go on who have all they wait for."""
        waiters, next_reply = self._waiters, self._reader.gets
        while (reply := next_reply()) is not _INCOMPLETE:
            if not waiters or waiters[0].start >= self._touched:  # of whose call no byte has left
                self._lose(BadReplyError, f"{unfit('no call', reply)}; {GIVEN_UP}")
                return
            waiter, outcome = waiters[0], reply
            if waiter.replies is not None:
                outcome = waiter.replies
                outcome.append(reply)
                if len(outcome) < waiter.count:
                    continue
            misfit = waiter.expected.misfit((reply,) if waiter.replies is None else outcome)
            if misfit:
                self._lose(BadReplyError, f"{misfit}; {GIVEN_UP}")
                return
            waiters.popleft()
            self.proved = True
            if waiter is self._loading:
                self._loading = None
                self.load_error = next((each for each in outcome if isinstance(each, FeatureStoreError)), None)
                continue
            self.in_flight -= waiter.count
            if not self._served:
                self._served = True
                self._on_served()
            waiter.outcome = outcome
            self._run(waiter)
            if self.lost:
                return
        if self._retiring and not waiters:
            self.lose("the connection to Redis was given up")

    def _wake(self, waiting: Iterable[Waiter]) -> None:
        """Let each of these go on until it gives way; only in the hub."""
        for waiter in waiting:
            self._run(waiter)

    def _run(self, waiter: Waiter) -> None:
        """Call `resume`, once at most."""
        resume, waiter.resume = waiter.resume, None
        if resume is None:
            return
        try:
            resume(waiter)
        except BaseException:  # noqa: BLE001 - the failure of who waited is not the link's
            self._hub.handle_error(resume, *sys.exc_info())

    def _start_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.close()
        self._timer, self._timer_at = self._loop.timer(seconds), monotonic() + seconds
        self._timer.start(self._on_timer, update=True)

    def _on_timer(self) -> None:
        """Give up the calls that are overdue, or the connection when its oldest one is hopeless."""
        self._receive()  # what has arrived is not late, however long this process was busy
        if self.lost:
            return
        self._timer.close()
        self._timer = None
        if not self._waiters:
            return
        now = monotonic()
        hopeless = self._waiters[0].deadline + self._timeout * _DEAD_AFTER_TIMEOUTS
        if now >= hopeless:
            self.lose(f"Redis has not answered for {self._timeout * (1 + _DEAD_AFTER_TIMEOUTS) * 1000:g} ms")
            return
        overdue: list[Waiter] = []
        for waiter in self._waiters:
            if waiter.deadline > now:
                hopeless = min(hopeless, waiter.deadline)
                break
            if waiter.resume is not None:
                overdue.append(waiter)
        self._start_timer(max(hopeless - now, _LEAST_TIMER_S))
        for waiter in overdue:
            waiter.outcome = Failure(DeadlineExceededError(f"Redis did not answer in {self._timeout * 1000:g} ms"))
        self._wake(overdue)
