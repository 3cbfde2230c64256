"""Pauses between attempts to connect."""

import random
from time import monotonic

_FIRST_S = 0.05
_MOST_S = 1.0
_MOST_DOUBLINGS = 10


class Backoff:
    """How long to wait before the next attempt: at first up to 50 ms, then twice as long each time, at most 1 s.

    Each pause is at random between half of that and all of it, so that the callers of a server do not all come back
    at once.
    """

    __slots__ = ("_failures", "_until")

    def __init__(self) -> None:
        self._failures, self._until = 0, 0.0

    @property
    def left(self) -> float:
        """Seconds of the pause that are left, 0 or less when it is over."""
        return self._until - monotonic()

    def grow(self) -> None:
        """Begin a pause, after a failure."""
        longest = min(_MOST_S, _FIRST_S * 2 ** min(self._failures, _MOST_DOUBLINGS))
        self._failures += 1
        self._until = monotonic() + longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, no secret

    def reset(self, *, at_once: bool = False) -> None:
        """Let the next pause be short again; `at_once`: end this one too."""
        self._failures = 0
        if at_once:
            self._until = 0.0
