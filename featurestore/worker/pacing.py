"""How often refused clients may come again."""

from math import inf

REFUSALS_PER_S = 2000.0
"""So many refusals of a worker in a second take about a twentieth of a processor."""

_AT_ONCE = 200
_SHORTEST_S, _LONGEST_S = 0.001, 1.0


class Pacer:
    """Spreads the requests of clients that were refused.

    A client that asks again as soon as it is refused, whatever Retry-After says, would have the worker do nothing else
    than refuse. So the next request of a refused client is looked at later, if there are many of them; until then it
    waits in the socket's buffer.
    """

    def __init__(self) -> None:
        self._due = -inf

    def pause(self, now: float) -> float:
        """Count a refusal; return how many seconds its client is not read from, 0 for a few at once."""
        self._due = max(self._due, now - _AT_ONCE / REFUSALS_PER_S) + 1 / REFUSALS_PER_S
        pause = self._due - now
        return min(pause, _LONGEST_S) if pause >= _SHORTEST_S else 0.0
