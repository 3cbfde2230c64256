"""The pauses between attempts that fail: longer each time, and at random."""

import random
from time import monotonic

FIRST_S = 0.05
_MOST_S = 1.0
_MOST_DOUBLINGS = 10


class Backoff:
    """The pause before the next attempt: at first up to 50 ms, then twice as long each time, at most 1 s.

    Each pause is between half of that and all of it, at random, so that callers do not all come back at once.

    Args:
        most: The longest pause, in seconds, if not 1.
    """

    __slots__ = ("_failures", "_most", "_until")

    def __init__(self, most: float = _MOST_S) -> None:
        self._failures, self._until, self._most = 0, 0.0, most

    @property
    def left(self) -> float:
        """Seconds until the pause is over; 0 or less if it is."""
        return self._until - monotonic()

    def grow(self) -> None:
        """Begin a pause, after a failure."""
        longest = min(self._most, FIRST_S * 2 ** min(self._failures, _MOST_DOUBLINGS))
        self._failures += 1
        self._until = monotonic() + longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, no secret

    def reset(self, *, at_once: bool = False) -> None:
        """Make the next pause short again; `at_once` ends the current one too."""
        self._failures = 0
        if at_once:
            self._until = 0.0
