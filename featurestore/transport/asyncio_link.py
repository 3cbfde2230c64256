"""One connection that all tasks of an event loop use at once: what they send in a tick leaves in one write."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

import hiredis

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

_DEAD_AFTER_TIMEOUTS = 3.0
_FULL_READ_BYTES = 16_384  # a read this long may have left some behind; a TLS record is not longer
_INCOMPLETE = object()


class Waiter:
    """Who waits for the next `count` replies: a place in the order that outlives the task's patience.

    Attributes:
        expected: What the replies may be.
        outcome: Becomes the replies or a `Failure`; cancelled with the task that waits.
    """

    __slots__ = ("count", "deadline", "expected", "outcome", "replies", "start", "timer")

    def __init__(
        self, outcome: "asyncio.Future[Any]", deadline: float, start: int, count: int, expected: Expected
    ) -> None:
        self.outcome = outcome
        self.expected = expected
        self.deadline = deadline
        self.start = start
        self.count = count
        self.replies: list[Reply] = []
        self.timer: asyncio.TimerHandle | None = None

    def answer(self, outcome: list[Reply] | Failure) -> None:
        """Give the task what it waits for, unless it does not any more."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class AsyncLink(asyncio.Protocol):
    """A connection in use, for the tasks of the event loop that made it.

    Args:
        connected: A connected, authenticated connection of redis-py with no reply under way, the link's from now on.
        timeout: Seconds that a reply may take; a connection silent for several times as long is given up.
        max_in_flight: Most calls that may wait at once.
        on_lost: Called once, with the link and the reason, when it has come to its end.
        on_served: Called once, when the first call is answered.

    Attributes:
        in_flight: Calls sent or to be sent whose reply has not been read, given up ones included.
        lost: Whether it has come to its end.
        proved: Whether Redis has answered on it.
        writes: How often data were handed to the event loop's transport.
        load_error: Why the scripts could not be loaded, None when they were.
        closed: Done when the descriptor is closed.
    """

    def __init__(
        self,
        connected: Any,
        *,
        timeout: float,
        max_in_flight: int,
        on_lost: Callable[["AsyncLink", FeatureStoreError], None],
        on_served: Callable[[], None],
    ) -> None:
        self.in_flight = self.writes = 0
        self.lost = self.proved = self._served = False
        self.load_error: FeatureStoreError | None = None
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        self._timeout, self._max_in_flight, self._on_lost = timeout, max_in_flight, on_lost
        self._on_served = on_served
        self._reader = hiredis.Reader(replyError=error_from_reply, notEnoughData=_INCOMPLETE)
        self._waiters: deque[Waiter] = deque()
        self._loading: Waiter | None = None
        self._retiring = False
        self._outbox: list[bytes] = []
        self._queued = self._handed = 0  # bytes ever put into the outbox, and ever handed to the event loop
        self._flushing = self._blocked = self._final = False
        self._reads, self._more_to_read = 0, False
        self._doubting: asyncio.TimerHandle | None = None
        self._connected = connected  # whose streams would close the connection if they were collected
        self._transport: asyncio.Transport = connected._writer.transport  # noqa: SLF001 - redis-py gives no other way
        # What the kernel does not take at once stays here, so that of it we know that it was not sent. (Not 0: there
        # TLS transports of asyncio count even an empty buffer as full.)
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._transport.set_protocol(self)

    async def exchange(
        self, encoded: bytes, expected: Expected, count: int, deadline: float | None = None
    ) -> list[Reply] | Failure:
        """Send `count` encoded commands and wait until they are answered.

        Return the replies, error replies in place as exceptions; a `Failure` when there are none.

        Args:
            encoded: The commands as RESP.
            expected: What the replies may be.
            count: How many they are.
            deadline: When to give up, by `time.monotonic`; the link's time-out from now when left out.

        Raises:
            OverloadedError: Too many calls wait already.
        """
        if self.lost:
            reason = "the transport was closed" if self._final else "the connection to Redis was lost"
            return Failure(UnavailableError(reason), lost=not self._final, unsent=True)
        if self.in_flight + count > self._max_in_flight:
            raise OverloadedError(
                f"{self.in_flight} calls wait for Redis and {count} more are too many: at most {self._max_in_flight}"
            )
        now = monotonic()
        allowed = self._timeout if deadline is None else deadline - now
        if allowed <= 0:
            return Failure(DeadlineExceededError("the time was over before the call was sent"), unsent=True)
        waiter = self._submit(encoded, count, expected, allowed)
        self.in_flight += count
        outcome: list[Reply] | Failure = await waiter.outcome
        return outcome

    def load_scripts(self) -> None:
        """Send every script to Redis, ahead of whatever is sent next, unless that is under way already."""
        if self._loading is None and not self.lost:
            encoded = load_commands()
            self._loading = self._submit(b"".join(encoded), len(encoded), LOADED, self._timeout)

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
        self.lost, self._final = True, final
        self._transport.abort()
        for waiter in self._waiters:
            unsent = waiter.start >= self._handed
            waiter.answer(Failure(kind(reason), lost=not final, unsent=unsent))
        self._waiters.clear()
        self._outbox.clear()
        self.in_flight = 0
        if self._doubting is not None:
            self._doubting.cancel()
        self._on_lost(self, kind(reason))

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are complete."""
        if self.lost:
            return
        self._reads += 1
        self._more_to_read = len(data) >= _FULL_READ_BYTES
        try:
            self._reader.feed(data)
            self._hand_out()
        except Exception as error:  # noqa: BLE001 - whatever a malformed reply sets off, only the link may suffer
            self._lose(BadReplyError, f"Redis sent a reply that cannot be read: {error}; {GIVEN_UP}")

    def pause_writing(self) -> None:
        """Keep what is to be sent: the kernel does not take more now."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Send what has gathered meanwhile."""
        self._blocked = False
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell everyone who waits."""
        self.lose("Redis closed the connection" if error is None else f"the connection to Redis broke: {error}")
        self._connected._reader = self._connected._writer = None  # noqa: SLF001 - closed, so nothing to warn of
        self.closed.set_result(None)

    # Inside

    def _submit(self, encoded: bytes, count: int, expected: Expected, allowed: float) -> Waiter:
        waiter = Waiter(self._loop.create_future(), monotonic() + allowed, self._queued, count, expected)
        waiter.timer = self._loop.call_later(allowed, self._expire, waiter, allowed)
        self._waiters.append(waiter)
        self._outbox.append(encoded)
        self._queued += len(encoded)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return waiter

    def _flush(self) -> None:
        """Send what has gathered, unless the event loop has yet to get rid of what it was given before."""
        if self._blocked or self.lost:
            return
        self._flushing = False
        if self._outbox:
            data = b"".join(self._outbox)
            self._outbox.clear()
            self._handed += len(data)
            self.writes += 1
            self._transport.write(data)

    def _hand_out(self) -> None:
        """Give each complete reply to its waiter, in order."""
        waiters, next_reply = self._waiters, self._reader.gets
        while (reply := next_reply()) is not _INCOMPLETE:
            if not waiters or waiters[0].start >= self._handed:  # of whose call no byte has left
                self._lose(BadReplyError, f"{unfit('no call', reply)}; {GIVEN_UP}")
                return
            waiter = waiters[0]
            waiter.replies.append(reply)
            if len(waiter.replies) < waiter.count:
                continue
            misfit = waiter.expected.misfit(waiter.replies)
            if misfit:
                self._lose(BadReplyError, f"{misfit}; {GIVEN_UP}")
                return
            waiters.popleft()
            self.proved = True
            if waiter is self._loading:
                self._loading = None
                self.load_error = next((each for each in waiter.replies if isinstance(each, FeatureStoreError)), None)
                waiter.answer(waiter.replies)
                continue
            self.in_flight -= waiter.count
            if not self._served:
                self._served = True
                self._on_served()
            waiter.answer(waiter.replies)
        if self._retiring and not waiters:
            self.lose("the connection to Redis was given up")

    def _expire(self, waiter: Waiter, allowed: float, reads: int | None = None) -> None:
        """Give up a call that is overdue; its reply is dropped when it comes.

        What has arrived is not late, however long this process was busy: the event loop gets a turn to read it all,
        in which `reads` is how often it had read before. But a reply that goes on arriving for a time-out is late.
        """
        left = waiter.deadline + self._timeout - monotonic()
        if reads is None or (self._more_to_read and reads != self._reads and left > 0):
            waiter.timer = self._loop.call_later(0, self._expire, waiter, allowed, self._reads)
            return
        waiter.timer = None
        waiter.answer(Failure(DeadlineExceededError(f"Redis did not answer in {allowed * 1000:g} ms")))
        if self._doubting is None:
            self._doubt()

    def _doubt(self) -> None:
        """Give up the connection when its oldest call is hopeless; look again later when that is overdue only."""
        self._doubting = None
        now = monotonic()
        if not self._waiters or self._waiters[0].deadline > now:
            return
        hopeless = self._waiters[0].deadline + self._timeout * _DEAD_AFTER_TIMEOUTS
        if now >= hopeless:
            self.lose(f"Redis has not answered for {self._timeout * (1 + _DEAD_AFTER_TIMEOUTS) * 1000:g} ms")
        else:
            self._doubting = self._loop.call_later(hopeless - now, self._doubt)
