"""How long the stages of a request take: for the log of slow requests, and for traces."""

from contextvars import ContextVar
from time import monotonic

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


class Timings:
    """The times of one request, by the monotonic clock.

    Attributes:
        began: When the app got it.
        answered: When the app had its answer; 0 before. What is noted later is somebody else's.
        status: The status line of the answer.
        asked: The first round trips to Redis.
        further: How many there were beyond those.
        turn_s: How long calls waited for their turn before they were sent.
    """

    __slots__ = ("answered", "asked", "began", "further", "status", "turn_s")

    def __init__(self) -> None:
        self.began, self.answered = monotonic(), 0.0
        self.status = ""
        self.asked: list[Asked] = []
        self.further = 0
        self.turn_s = 0.0

    def note(self, what: str, count: int, began: float, error: Exception | None) -> None:
        """Note a round trip that is over."""
        if self.answered:
            return
        if len(self.asked) < _MOST_ASKED:
            self.asked.append(Asked(what, count, began, monotonic(), None if error is None else type(error).__name__))
        else:
            self.further += 1

    def note_turn(self, waited_s: float) -> None:
        """Note that calls have waited for their turn."""
        if not self.answered:
            self.turn_s += waited_s


noted: ContextVar[Timings | None] = ContextVar("noted", default=None)
"""Where the request of this greenlet or thread notes its times; None where nobody wants to know."""
