"""What both links do around their pipeline: flush once a turn, watch the clock, and close."""

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from math import inf
from time import monotonic
from typing import Any

from featurestore.contract.replies import Expected, Take
from featurestore.errors import UnavailableError
from featurestore.transport.interface import CallTimes
from featurestore.transport.pipeline import PENDING, Pipeline, PipelineState, Resume, Waiter
from featurestore.transport.repeats import Exchange
from featurestore.transport.turns import LATELY_S, ON_THE_WIRE_US, BigRequest, Turns

_LITTLE = 8
_ACTIVE, _ENDED = PipelineState.ACTIVE, PipelineState.ENDED


class Sending(enum.Enum):
    """When queued calls are sent."""

    IDLE = "there are none"
    DUE = "they leave at the end of this turn of the event loop"
    BLOCKED = "they leave when the connection takes more"


IDLE, DUE, BLOCKED = Sending  # a global is cheaper to look up than a member of an Enum


class Link(ABC):
    """A connection that all callers of an event loop share: a shell that does the I/O of a `Pipeline`.

    Args:
        pipeline: The link's own.
        call_soon: Makes the event loop call a function with arguments after this turn.
        on_lost: Called with the link when it has ended, and before that when its pipeline is set aside.

    Attributes:
        pipeline: The link's own.
        turns: The big requests, whose calls are sent a few at a time.
        writes: Number of writes so far.
        times: Takes note of how long calls take, if somebody wants to know.
    """

    times: CallTimes | None = None

    def __init__(self, pipeline: Pipeline, call_soon: Callable[..., object], on_lost: Callable[[Any], object]) -> None:
        self.pipeline = pipeline
        self.turns = Turns(pipeline, pipeline.timeout)
        self.writes = 0
        self._call_soon, self._on_lost = call_soon, on_lost
        self._sending: Sending = IDLE
        self._timer_at = inf  # inf while there is no timer
        self._aside = self._replaced = False

    def submit(  # noqa: PLR0913 - a call, and what is known of it
        self,
        encoded: bytes,
        expected: Expected,
        resume: Resume,
        count: int = 1,
        allowed: float | None = None,
        *,
        small: bool = True,
    ) -> Waiter | None:
        """Send `count` encoded commands without waiting; `resume` is called once there is an outcome.

        Return None if no call can be taken on now.

        Args:
            encoded: The commands as RESP.
            expected: Checks the replies.
            resume: Called in the event loop, with the waiter, at most once.
            count: Number of commands.
            allowed: Seconds that the replies may take, if not the time-out.
            small: Whether it is a small request, which big ones make room for.
        """
        now = monotonic()
        if small:
            self.turns.small_at = now
        waiter = self.pipeline.submit(encoded, expected, resume, now, count, allowed)
        if waiter is not None and (self._sending is IDLE or waiter.deadline < self._timer_at):
            self._arrange(waiter.deadline)
        if self.turns.send_at <= now:
            self._send_next(now)
        return waiter

    def submit_in_turns(  # noqa: PLR0913, PLR0917 - as in `Turns.admit`
        self,
        calls: Sequence[bytes],
        answers: Callable[[list[bytes]], Expected],
        each_us: float,
        resume: Callable[[BigRequest], object],
        allowed: float | None = None,
        takes: Sequence[Take] | None = None,
        *,
        follows: bool = False,
        writes: bool = False,
    ) -> BigRequest | None:
        """Send calls a few at a time; `resume` is called once there is an outcome, see `Turns.admit`.

        Return None if no call can be taken on now.

        Raises:
            OverloadedError: The request would not be answered in time.
        """
        if self.pipeline.state is not _ACTIVE:
            return None
        now = monotonic()
        request = self.turns.admit(calls, answers, each_us, resume, now, allowed, takes, follows=follows, writes=writes)
        self._send_next(now)
        if request.until < self._timer_at:
            self._set_timer(request.until)
        return request

    def note_small(self, took: float, nearest: float) -> float:
        """Take into account how long a small request took, and return the pace; see `Pace.note`."""
        now = monotonic()
        pace = self.turns.note_small(took, nearest, now)
        if self.turns.send_at <= now:
            self._send_next(now)
        return pace

    def is_free_for(self, exchange: Exchange) -> bool:
        """Return whether a big request that is one call can be sent at once: nobody waits, and little is under way."""
        turns = self.turns
        return (
            len(exchange.encoded) == 1
            and not turns.waiting
            and self.pipeline.in_flight < _LITTLE
            and exchange.each_us <= ON_THE_WIRE_US
            and monotonic() - turns.small_at > LATELY_S
        )

    def load_scripts(self) -> None:
        """Load every script, ahead of whatever is sent next, unless that is under way already."""
        waiter = self.pipeline.load_scripts(monotonic())
        if waiter is not None:
            self._arrange(waiter.deadline)

    def retire(self) -> None:
        """Close once the calls that are under way have been answered."""
        if self.pipeline.state is not _ENDED:
            self.pipeline.retire()
            self._deliver([])

    def replace(self) -> None:
        """Retire when all calls of big requests have been sent: another connection takes what comes."""
        self._replaced = True
        self._retire_if_done()

    def lose(self, reason: str, *, final: bool = False) -> None:
        """Close the connection and tell all who wait; `final` means that their calls are not repeated."""
        if self.pipeline.state is not _ENDED:
            failed = self.pipeline.end(UnavailableError(reason), final=final)
            self._deliver([])
            if failed:
                self._call_soon(self._wake, failed)  # not at once: the caller may be a greenlet that waits itself

    def _send_next(self, now: float) -> None:
        """Queue the calls of big requests whose turn it is."""
        turns = self.turns
        deadline = turns.send(now, self._settle)
        if deadline < inf:
            self._arrange(deadline)
        if turns.send_at < self._timer_at:
            self._set_timer(turns.send_at)
        if turns.broken:
            broken, turns.broken = turns.broken, []
            self._call_soon(self._wake, broken)

    def _settle(self, request: BigRequest, waiter: Waiter) -> None:
        """Take the outcome of a call of a big request; only in the event loop."""
        now = monotonic()
        if self.turns.settle(request, waiter, now):
            self._wake([request])
        if self.turns.waiting:
            self._send_next(now)
        self._retire_if_done()

    def leave(self, request: BigRequest) -> None:
        """Nobody waits for a big request any more, whether it has its outcome or not."""
        request.resume = None
        if request.outcome is PENDING:
            self.turns.drop(request)
            self._retire_if_done()

    def _expire(self, now: float, *, patience: float = 0.0) -> None:
        """Give up what is overdue, or the connection when its oldest call is hopeless."""
        timeout = self.pipeline.timeout
        if now - self._timer_at > timeout / 4:  # this process was not running, and is not to take that for silence
            patience = max(patience, timeout)
        late = self.pipeline.expire(now, patience=patience, lasting=self.turns.lasting)
        if late and self.times is not None:
            self.times.given_up(late)
        overdue: list[Waiter | BigRequest] = [*late]
        if self.pipeline.set_aside and not self._aside:
            self._aside = True
            overdue += self.turns.end(self.pipeline.ending, but_lasting=True)
            self._on_lost(self)
        if self.turns.look_at <= now:
            overdue += self.turns.expire(now, patience=patience)
        self._set_timer(min(self.pipeline.look_at, self.turns.look_at))
        if self.turns.waiting and self.pipeline.state is _ACTIVE:
            self._send_next(now)
        self._deliver(overdue)
        self._retire_if_done()

    def _retire_if_done(self) -> None:
        """Retire if another connection is in use, and this one has all calls that it will get."""
        if self._replaced and not self.turns.waiting:
            self.retire()

    def _arrange(self, deadline: float) -> None:
        """Make the event loop send what is queued, and watch the clock."""
        if self._sending is IDLE:
            self._sending = DUE
            self._call_soon(self._flush)
        if deadline < self._timer_at:  # also if only calls that were given up are waited for
            self._set_timer(deadline)

    def _deliver(self, finished: Sequence[Waiter | BigRequest]) -> None:
        """Close if the pipeline has ended, then resume the finished waiters; only in the event loop.

        Closing comes first, so that a call that is repeated does not find this link in the transport.
        """
        pipeline = self.pipeline
        if pipeline.state is _ENDED:
            self._close()
            self._on_lost(self)
            failed = self.turns.end(pipeline.ending, final=pipeline.final)
            if failed:
                self._call_soon(self._wake, failed)
        if finished:
            self._wake(finished)

    def _wake(self, waiters: Iterable[Any]) -> None:
        """Call `resume` of each waiter, at most once; only in the event loop."""
        for waiter in waiters:
            resume, waiter.resume = waiter.resume, None
            if resume is not None:
                try:
                    resume(waiter)
                except BaseException as error:  # noqa: BLE001 - an error of a caller must not stop the link
                    self._report(resume, error)

    @abstractmethod
    def _flush(self) -> None:
        """Send as much of the queued bytes as the connection takes now."""

    @abstractmethod
    def _set_timer(self, at: float) -> None:
        """Make the event loop call `pipeline.expire` at that time, instead of any time set before."""

    @abstractmethod
    def _close(self) -> None:
        """Close the descriptor, and stop all watchers and timers."""

    @abstractmethod
    def _report(self, resume: Resume, error: BaseException) -> None:
        """Report an exception of a `resume` callback to the event loop, since nobody else will see it."""
