"""One connection that many greenlets use at once: the commands of a tick leave in one write, replies come in order."""

import ssl
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Protocol

from gevent import getcurrent

from featurestore.contract.replies import Expected
from featurestore.contract.resp import Reply
from featurestore.transport.gevent_confirming import Confirming
from featurestore.transport.link import BLOCKED, IDLE, Link
from featurestore.transport.pipeline import PENDING, Failure, Pipeline, PipelineState, Resume
from featurestore.transport.repeats import Exchange, Replies

_READ_BYTES = 65_536  # more than a TLS record holds: nothing stays behind where no event would tell of it
_TLS_RECORD_BYTES = 16_384
_ROUNDS = 16  # reads or writes in a row before other connections get their turn
_LEAST_TIMER_S = 0.001

_READABLE, _WRITABLE = 1, 2  # libev's names for what a watcher waits for
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_ENDED = PipelineState.ENDED


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


class GeventLink(Link):
    """A connection in use, for the greenlets of the thread that made it.

    Everything but `exchange` runs in the hub, or without giving way to other greenlets.

    Args:
        connected: A connected, authenticated socket with no reply under way. The link owns it from now on.
        hub: gevent's hub of this thread.
        pipeline: See `Link`.
        on_lost: See `Link`.
    """

    def __init__(
        self,
        connected: NonBlockingSocket,
        hub: Any,
        pipeline: Pipeline,
        on_lost: Callable[["GeventLink"], object],
    ) -> None:
        super().__init__(pipeline, hub.loop.run_callback, on_lost)
        self._socket = connected
        self._secure = hasattr(connected, "pending")
        self._full_read = _TLS_RECORD_BYTES if self._secure else _READ_BYTES
        self._hub, self._loop, self._switch_to_hub = hub, hub.loop, hub.switch
        self._timer: Any = None
        self.confirming = Confirming(self)
        # Watching for the end of the stream must not keep a program alive; the timer of a waiting call does.
        self._readable = self._loop.io(connected.fileno(), _READABLE, ref=False)
        self._writable = self._loop.io(connected.fileno(), _WRITABLE)
        self._readable.start(self._receive)

    def exchange(
        self,
        encoded: bytes,
        expected: Expected,
        count: int = 1,
        allowed: float | None = None,
        *,
        small: bool = True,
    ) -> Reply | Failure:
        """Send `count` encoded commands and give way until they are answered; see `Link.submit` for the arguments.

        Return the reply, or the list of replies where `count` is more than 1; error replies are returned in place as
        exceptions. Return a `Failure` when there is none.

        Raises:
            OverloadedError: Too many calls wait already.
        """
        current = self._waiting_greenlet()
        waiter = self.submit(encoded, expected, current.switch, count, allowed, small=small)
        if waiter is None:
            return self.pipeline.refusal(count)
        try:
            while waiter.outcome is PENDING:
                self._switch_to_hub()
        finally:
            waiter.resume = None  # whatever happens, nobody may switch here for this call again
        return waiter.outcome

    def exchange_in_turns(self, exchange: Exchange, answers: Callable[[list[bytes]], Expected]) -> Replies | Failure:
        """Send the calls of a big request a few at a time, and give way until all are answered; see `exchange`.

        Raises:
            OverloadedError: It would not be answered in time.
        """
        current = self._waiting_greenlet()
        request = self.submit_in_turns(
            exchange.encoded,
            answers,
            exchange.each_us,
            current.switch,
            None,
            exchange.takes,
            follows=exchange.follows,
            writes=exchange.writes,
        )
        if request is None:
            return self.pipeline.refusal(len(exchange.encoded))
        try:
            while request.outcome is PENDING:
                self._switch_to_hub()
        finally:
            self.leave(request)
        outcome: Replies | Failure = request.outcome
        return outcome

    def forget(self) -> None:
        """Close this process's side of the connection without telling anyone, as a forked child must."""
        self.pipeline.forget()
        self._close()

    def _waiting_greenlet(self) -> Any:
        current = getcurrent()
        if current is self._hub:
            raise RuntimeError("a callback of the event loop cannot wait for Redis: spawn a greenlet")
        return current

    def _flush(self) -> None:
        """Send what has gathered; go on when the socket is writable again where it does not take it all."""
        pipeline = self.pipeline
        if pipeline.state is _ENDED:
            return
        for _ in range(_ROUNDS):
            if pipeline.taken == pipeline.queued:
                self._sending = IDLE
                self._writable.stop()
                return
            data = pipeline.to_send()
            self.writes += 1
            try:
                sent = self._socket.send(data)
            except _WOULD_BLOCK:
                sent = 0
            except OSError as error:
                pipeline.put_back(data, in_doubt=self._secure)
                self.lose(f"the connection to Redis broke: {error}")
                return
            if sent < len(data):
                pipeline.put_back(memoryview(data)[sent:], in_doubt=self._secure)
                if not sent:
                    break
        self._sending = BLOCKED
        if not self._writable.active:
            self._writable.start(self._on_writable)

    def _on_writable(self) -> None:
        self._flush()
        if self._secure and self.pipeline.state is not _ENDED:
            self._receive()  # a TLS read may have been waiting for the write side

    def _receive(self) -> None:
        """Read what has arrived and let those go on who have all they wait for."""
        pipeline = self.pipeline
        for _ in range(_ROUNDS):
            try:
                data = self._socket.recv(_READ_BYTES)
            except _WOULD_BLOCK as error:
                if isinstance(error, ssl.SSLWantWriteError) and not self._writable.active:
                    self._writable.start(self._on_writable)
                return
            except OSError as error:
                self.lose(f"the connection to Redis broke: {error}")
                return
            if not data:
                self.lose("Redis closed the connection")
                return
            finished = pipeline.receive(data)
            times = self.times
            if times is not None:
                times.reads += 1
                if not times.reads & times.mask:
                    times.answered(finished)
            if pipeline.state is _ENDED:
                self._deliver(finished)
                return
            self._wake(finished)
            if len(data) < self._full_read or pipeline.state is _ENDED:
                return

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.close()
        self._timer_at, self._timer = at, None
        if at < inf:
            self._timer = self._loop.timer(max(at - monotonic(), _LEAST_TIMER_S))
            self._timer.start(self._on_timer, update=True)

    def _on_timer(self) -> None:
        """Give up the calls that are overdue, or the connection when its oldest one is hopeless."""
        self._receive()  # what has arrived is not late, however long this process was busy
        if self.pipeline.state is _ENDED:
            return
        self._expire(monotonic())

    def _close(self) -> None:
        for watcher in (self._readable, self._writable, self._timer):
            if watcher is not None:
                watcher.close()
        self._socket.close()

    def _report(self, resume: Resume, error: BaseException) -> None:
        self._hub.handle_error(getattr(resume, "func", resume), type(error), error, error.__traceback__)
