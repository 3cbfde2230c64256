"""How far Redis is: the least time that a call took lately."""

from math import inf

_LASTING_S = 10.0


class RoundTrip:
    """The least round trip of the last ten or twenty seconds, by a clock of the caller's.

    Most calls wait, here or in Redis. The quickest of many have hardly waited, so they tell the way there and back.

    Attributes:
        least: Seconds; 0 until a call was noted.
    """

    __slots__ = ("_before", "_now", "_until", "least")

    def __init__(self) -> None:
        self.least = 0.0
        self._before = self._now = inf
        self._until = -inf

    def note(self, began: float, ended: float) -> None:
        """Take a call into account."""
        took = ended - began
        if ended >= self._until:
            self._before = self._now if ended < self._until + _LASTING_S else inf
            self._now, self._until = took, ended + _LASTING_S
        elif took < self._now:
            self._now = took
        else:
            return
        self.least = min(self._before, self._now)
