"""One connection that all tasks of an event loop use at once: what they send in a tick leaves in one write."""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any

from featurestore.contract.replies import Expected
from featurestore.contract.resp import Reply
from featurestore.errors import DeadlineExceededError
from featurestore.transport.asyncio_confirming import Confirming
from featurestore.transport.dial import Stream
from featurestore.transport.link import BLOCKED, DUE, IDLE, Link
from featurestore.transport.pipeline import Failure, Pipeline, PipelineState, Resume, Waiter
from featurestore.transport.repeats import Exchange, Replies
from featurestore.transport.turns import BigRequest

_FULL_READ_BYTES = 16_384  # a read this long may have left some behind; a TLS record is not longer
_ENDED = PipelineState.ENDED


class AsyncioLink(Link, asyncio.Protocol):
    """A connection in use, for the tasks of the event loop that made it.

    Args:
        connected: A connected, authenticated stream with no reply under way. The link owns it from now on.
        pipeline: See `Link`.
        on_lost: See `Link`.

    Attributes:
        closed: Done when the descriptor is closed.
    """

    def __init__(self, connected: Stream, pipeline: Pipeline, on_lost: Callable[["AsyncioLink"], object]) -> None:
        self._loop = asyncio.get_running_loop()
        super().__init__(pipeline, self._loop.call_soon, on_lost)
        self.closed = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self.confirming = Confirming(self)
        self._reads, self._more_to_read = 0, False
        self._connected = connected
        self._transport = connected.transport
        # What the kernel does not take at once stays here, so that of it we know that it was not sent. (Not 0: there
        # TLS transports of asyncio count even an empty buffer as full.)
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._transport.set_protocol(self)

    async def exchange(  # noqa: PLR0913 - as in `Link.submit`
        self,
        encoded: bytes,
        expected: Expected,
        count: int = 1,
        deadline: float | None = None,
        allowed: float | None = None,
        *,
        small: bool = True,
    ) -> Reply | Failure:
        """Send `count` encoded commands and wait until they are answered.

        Return the reply, or the list of replies where `count` is more than 1; error replies are returned in place as
        exceptions. Return a `Failure` when there is none.

        Args:
            encoded: The commands as RESP.
            expected: What the replies may be.
            count: How many they are.
            deadline: When to give up, by `time.monotonic`.
            allowed: Without it, seconds from now; the link's time-out when left out.
            small: See `Link.submit`.

        Raises:
            OverloadedError: Too many calls wait already.
        """
        if deadline is not None:
            allowed = deadline - monotonic()
            if allowed <= 0 and self.pipeline.state is not _ENDED:
                return _too_late()
        answered: asyncio.Future[Waiter] = self._loop.create_future()
        waiter = self.submit(encoded, expected, _resume(answered), count, allowed, small=small)
        if waiter is None:
            return self.pipeline.refusal(count)
        try:
            await answered
        finally:
            waiter.resume = None
        return waiter.outcome

    async def exchange_in_turns(
        self, exchange: Exchange, answers: Callable[[list[bytes]], Expected], deadline: float | None = None
    ) -> Replies | Failure:
        """Send the calls of a big request a few at a time, and wait until all are answered; see `exchange`.

        Raises:
            OverloadedError: It would not be answered in time.
        """
        allowed = None if deadline is None else deadline - monotonic()
        if allowed is not None and allowed <= 0 and self.pipeline.state is not _ENDED:
            return _too_late()
        answered: asyncio.Future[BigRequest] = self._loop.create_future()
        request = self.submit_in_turns(
            exchange.encoded,
            answers,
            exchange.each_us,
            _resume(answered),
            allowed,
            exchange.takes,
            follows=exchange.follows,
            writes=exchange.writes,
        )
        if request is None:
            return self.pipeline.refusal(len(exchange.encoded))
        try:
            await answered
        finally:
            self.leave(request)
        outcome: Replies | Failure = request.outcome
        return outcome

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        """Let those go on who have all they wait for."""
        if self.pipeline.state is not _ENDED:
            self._reads += 1
            self._more_to_read = len(data) >= _FULL_READ_BYTES
            self._deliver(self.pipeline.receive(data))

    def pause_writing(self) -> None:
        """Keep what is to be sent: the kernel does not take more now."""
        self._sending = BLOCKED

    def resume_writing(self) -> None:
        """Send what has gathered meanwhile."""
        self._sending = DUE
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell everyone who waits."""
        self.lose("Redis closed the connection" if error is None else f"the connection to Redis broke: {error}")
        self._connected.release()
        self.closed.set_result(None)

    # Inside

    def _flush(self) -> None:
        """Send what has gathered, unless the event loop has yet to get rid of what it was given before."""
        pipeline = self.pipeline
        if self._sending is BLOCKED or pipeline.state is _ENDED:
            return
        self._sending = IDLE
        if pipeline.taken < pipeline.queued:
            self.writes += 1
            self._transport.write(pipeline.to_send())

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at, self._timer = at, None
        if at < inf:
            self._timer = self._loop.call_later(max(0.0, at - monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        """Give the event loop a turn to read what has arrived: it is not late, however long this process was busy."""
        self._timer = self._loop.call_later(0, self._give_up, self._reads)

    def _give_up(self, reads_before: int) -> None:
        """Give up the calls that are overdue, or the connection when its oldest one is hopeless.

        While a read brings all that it can hold, more may have arrived: that gets its turn too, for a time-out at most.
        """
        arriving = self._more_to_read and self._reads != reads_before
        self._expire(monotonic(), patience=self.pipeline.timeout if arriving else 0.0)

    def _close(self) -> None:
        self._set_timer(inf)
        self._transport.abort()

    def _report(self, resume: Resume, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": f"{getattr(resume, 'func', resume)} failed", "exception": error})


def _too_late() -> Failure:
    return Failure(DeadlineExceededError("the time was over before the call was sent"), unsent=True)


def _resume(answered: "asyncio.Future[Any]") -> Callable[[Any], None]:
    """Return what ends the wait, unless the task was cancelled."""

    def resume(waiter: Any) -> None:
        if not answered.done():
            answered.set_result(waiter)

    return resume
