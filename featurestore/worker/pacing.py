"""How often refused clients may come again."""

from math import inf

_SHARE = 0.15
_UNSEEN = 2.0  # to read a request takes about as long again as to refuse it
_AT_ONCE_S = 0.1
_SHORTEST_S, _LONGEST_S = 0.001, 1.0


class Pacer:
    """Spreads the requests of clients that were refused, so that refusals take a small share of a worker's time.

    A client that asks again as soon as it is refused, whatever Retry-After says, would have the worker do nothing else
    than refuse. So the next request of a refused client is looked at later, if there are many of them; until then it
    waits in the socket's buffer.
    """

    def __init__(self) -> None:
        self._due = -inf

    def pause(self, now: float, took: float) -> float:
        """Count a refusal; return how many seconds its client is not read from, 0 for a few at once.

        Args:
            now: The time.
            took: Seconds that the refusal took.
        """
        self._due = max(self._due, now - _AT_ONCE_S) + took * _UNSEEN / _SHARE
        pause = self._due - now
        return min(pause, _LONGEST_S) if pause >= _SHORTEST_S else 0.0
