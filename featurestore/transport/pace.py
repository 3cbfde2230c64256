"""How much of big requests is sent beside small ones, so that the small ones stay quick."""

from math import inf

_QUICK_S = 0.0002
_TRIPS = 1.5
_LEAST, _MOST = 0.05, 2.0
_SLOWER, _QUICKER = 0.7, 1.15
_EVERY_S = 0.01
_LATELY_S = 0.04
_TOLD_S = 0.1
_WEIGHT = 0.125
_SAVED_S = 0.002
_US_PER_S = 1e6
_SOME_US = 10.0


class Pace:
    """Bounds what is sent of big requests while small ones are slower than they could be.

    Big requests take Redis, this process and its processor, and small ones wait for all three. Which of them is the
    bottleneck is not known, so what is measured is how long small requests take. While that is far longer than without
    big ones, less is sent of these, and more again when it is not. Without small requests there is no bound.

    Args:
        burst_us: µs of Redis's time that may be sent at once, however little is to be sent.
    """

    def __init__(self, burst_us: float) -> None:
        self._rate = _MOST  # µs of Redis's time that are sent in a µs of the clock
        self._burst_us = self._credit_us = burst_us
        self._at = self._noted_at = self._adjusted_at = -inf
        self._told_rate, self._told_at = inf, -inf
        self._effective = inf
        self._alone = self._beside = 0.0  # seconds that small requests take, without and beside big ones

    def note(self, took: float, nearest: float, now: float, *, beside: bool) -> float:
        """Take the time of a small request into account; return how much may be sent, in µs a µs.

        Args:
            took: Seconds from sending it to its reply.
            nearest: Seconds of the least round trip.
            now: The time.
            beside: Whether big requests were under way.
        """
        fresh = now - self._noted_at > _LATELY_S
        self._noted_at = now
        if not beside:
            self._alone += (took - self._alone) * _WEIGHT
            return inf
        self._beside = took if fresh else self._beside + (took - self._beside) * _WEIGHT
        if now - self._adjusted_at >= _EVERY_S:
            self._adjusted_at = now
            slow = self._beside > _QUICK_S + _TRIPS * max(nearest, self._alone)
            self._rate = min(max(self._rate * (_SLOWER if slow else _QUICKER), _LEAST), _MOST)
        return self._rate

    def hear(self, rate: float, at: float) -> None:
        """Take into account what another process, whose small requests wait for the same Redis, found at that time."""
        self._told_rate, self._told_at = rate, at

    def credit(self, now: float) -> float:
        """Return how many µs of Redis's time may be sent now; what is below 0 was sent ahead."""
        rate = self._rate if now - self._noted_at <= _LATELY_S else inf
        if now - self._told_at <= _TOLD_S:
            rate = min(rate, self._told_rate)
        if rate == inf:
            return inf
        self._effective = rate
        most = max(self._burst_us, _SAVED_S * _US_PER_S * rate)
        self._credit_us = min(self._credit_us + (now - self._at) * _US_PER_S * rate, most)
        self._at = now
        return self._credit_us

    def until_credit(self) -> float:
        """Return in how many seconds there is credit again, as of the last call of `credit`."""
        return min((max(0.0, -self._credit_us) + _SOME_US) / (_US_PER_S * self._effective), _LATELY_S)

    def spend(self, us: float) -> None:
        """Count what was sent."""
        self._credit_us -= us
