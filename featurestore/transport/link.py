"""What both links do around their pipeline: ask the event loop for a flush, watch the clock, and come to an end."""

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from math import inf
from time import monotonic
from typing import Any

from featurestore.contract.replies import Expected
from featurestore.errors import UnavailableError
from featurestore.transport.pipeline import Pipeline, Resume, State, Waiter

_ENDED = State.ENDED


class Sending(enum.Enum):
    """What becomes of queued calls."""

    IDLE = "there are none"
    DUE = "they leave at the end of this turn of the event loop"
    BLOCKED = "they leave when the connection takes more"


IDLE, DUE, BLOCKED = Sending  # to look up a member of an Enum costs more than a global


class Link(ABC):
    """A connection in use, for everyone in one event loop: a shell that does the I/O of a `Pipeline`.

    Args:
        pipeline: Knows what the bytes mean; the link's own.
        call_soon: Has the event loop call a function with arguments after this turn.
        on_lost: Called once, with the link, when it has come to its end.

    Attributes:
        pipeline: The same.
        writes: How often data were handed on to be sent.
    """

    def __init__(self, pipeline: Pipeline, call_soon: Callable[..., object], on_lost: Callable[[Any], object]) -> None:
        self.pipeline = pipeline
        self.writes = 0
        self._call_soon, self._on_lost = call_soon, on_lost
        self._sending: Sending = IDLE
        self._timer_at = inf  # inf while there is no timer

    def submit(
        self, encoded: bytes, expected: Expected, resume: Resume, count: int = 1, allowed: float | None = None
    ) -> Waiter | None:
        """Send `count` encoded commands without waiting; `resume` is called when the waiter has its outcome.

        Return None when no call can be taken on now.

        Args:
            encoded: The commands as RESP.
            expected: What the replies may be.
            resume: Called in the event loop, with the waiter, once at most.
            count: How many commands they are.
            allowed: Seconds that the replies may take, if that is not the time-out.
        """
        waiter = self.pipeline.submit(encoded, expected, resume, monotonic(), count, allowed)
        if waiter is not None and (self._sending is IDLE or waiter.deadline < self._timer_at):
            self._arrange(waiter.deadline)
        return waiter

    def load_scripts(self) -> None:
        """Send every script to Redis, ahead of whatever is sent next, unless that is under way already."""
        waiter = self.pipeline.load_scripts(monotonic())
        if waiter is not None:
            self._arrange(waiter.deadline)

    def retire(self) -> None:
        """Come to the end once the calls under way are answered."""
        if self.pipeline.state is not _ENDED:
            self.pipeline.retire()
            self._deliver([])

    def lose(self, reason: str, *, final: bool = False) -> None:
        """Close the connection and tell everyone who waits; when `final`, their calls are not repeated."""
        if self.pipeline.state is not _ENDED:
            failed = self.pipeline.end(UnavailableError(reason), final=final)
            self._deliver([])
            if failed:
                self._call_soon(self._wake, failed)  # the caller may be a greenlet that would not be resumed

    def _arrange(self, deadline: float) -> None:
        """Have the event loop send what is queued, and look at the clock then."""
        if self._sending is IDLE:
            self._sending = DUE
            self._call_soon(self._flush)
        if deadline < self._timer_at:  # also while only calls that were given up were waited for
            self._set_timer(deadline)

    def _deliver(self, finished: list[Waiter]) -> None:
        """Close where the pipeline has ended; then let those go on who have their outcome. Only in the event loop.

        In this order, so that a call that is repeated finds the transport without this link.
        """
        if self.pipeline.state is _ENDED:
            self._close()
            self._on_lost(self)
        if finished:
            self._wake(finished)

    def _wake(self, waiters: Iterable[Waiter]) -> None:
        """Call `resume` of each, once at most; only in the event loop."""
        for waiter in waiters:
            resume, waiter.resume = waiter.resume, None
            if resume is not None:
                try:
                    resume(waiter)
                except BaseException as error:  # noqa: BLE001 - the failure of who waited is not the link's
                    self._report(resume, error)

    @abstractmethod
    def _flush(self) -> None:
        """Send what is queued, as much of it as the connection takes now."""

    @abstractmethod
    def _set_timer(self, at: float) -> None:
        """Have `pipeline.expire` called then, and not when it was to be called before."""

    @abstractmethod
    def _close(self) -> None:
        """Close the descriptor and stop whatever the event loop would call."""

    @abstractmethod
    def _report(self, resume: Resume, error: BaseException) -> None:
        """Tell the event loop of an error that nobody else will see."""
