"""How often refused clients may come again."""

from math import inf

REFUSALS_PER_S = 2000.0
"""Refusals of a worker in a second: about a tenth of its time. Clients beyond wait in their sockets' buffers."""

_AT_ONCE = 200
_SHORTEST_S, _LONGEST_S = 0.001, 1.0


class Pacer:
    """Spreads the requests of clients that were refused.

    A client that asks again as soon as it is refused, whatever Retry-After says, would have the worker do nothing else
    than refuse. So the next request of a refused client is looked at later, if there are many of them.

    Args:
        rate: How many may be looked at in a second.
    """

    def __init__(self, rate: float = REFUSALS_PER_S) -> None:
        self._interval = 1 / rate
        self._ahead = _AT_ONCE / rate
        self._due = -inf

    def pause(self, now: float) -> float:
        """Count a refusal; return how many seconds its client is not read from, 0 for a few at once."""
        self._due = max(self._due, now - self._ahead) + self._interval
        pause = self._due - now
        return min(pause, _LONGEST_S) if pause >= _SHORTEST_S else 0.0
