"""How long the stages of a request take: for the log of slow requests, and for traces."""

from contextvars import ContextVar
from time import monotonic
from typing import Protocol

import msgspec

_MOST_ASKED = 64


class Asked(msgspec.Struct, frozen=True):
    """A round trip to Redis.

    Attributes:
        what: The script or the command.
        count: How many calls left together.
        began: When, by the monotonic clock.
        ended: When the last of them was answered, or given up.
        error: Why there is no answer; None if there is one.
    """

    what: str
    count: int
    began: float
    ended: float
    error: str | None


class Sent(Protocol):
    """What left in a round trip."""

    @property
    def name(self) -> str:
        """The script or the command."""

    @property
    def count(self) -> int:
        """How many calls."""


class Timings:
    """The times of one request, by the monotonic clock.

    Attributes:
        began: When the app got it.
        answered: When the app had its answer; 0 before. What is noted later is somebody else's.
        status: The status line of the answer.
        further: How many round trips to Redis there were beyond those in `asked`.
        turn_s: How long calls waited for their turn before they were sent.
    """

    __slots__ = ("_noted", "answered", "began", "further", "status", "turn_s")

    def __init__(self) -> None:
        self.began, self.answered = monotonic(), 0.0
        self.status = ""
        self._noted: list[tuple[Sent, float, float, Exception | None]] = []
        self.further = 0
        self.turn_s = 0.0

    @property
    def asked(self) -> list[Asked]:
        """The first round trips to Redis. They are put into words here, since of most requests nobody looks at them."""
        return [
            Asked(sent.name, sent.count, began, ended, None if error is None else type(error).__name__)
            for sent, began, ended, error in self._noted
        ]

    def note(self, sent: Sent, began: float, error: Exception | None) -> None:
        """Note a round trip that is over."""
        if self.answered:
            return
        if len(self._noted) < _MOST_ASKED:
            self._noted.append((sent, began, monotonic(), error))
        else:
            self.further += 1

    def note_turn(self, waited_s: float) -> None:
        """Note that calls have waited for their turn."""
        if not self.answered:
            self.turn_s += waited_s


noted: ContextVar[Timings | None] = ContextVar("noted", default=None)
"""Where the request of this greenlet or thread notes its times; None where nobody wants to know."""
