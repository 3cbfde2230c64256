"""How much of big requests is sent beside small ones, so that the small ones stay quick."""

from math import inf

_QUICK_S = 0.0006
_TRIPS = 3.0
_LEAST, _MOST = 0.02, 2.0
_SLOWER, _QUICKER = 0.7, 1.15
_EVERY_S = 0.01
_LATELY_S = 0.02
_WEIGHT = 0.125


class Pace:
    """Bounds what is sent of big requests while small ones are slower than they could be.

    Big requests take Redis, this process and its processor, and small ones wait for all three. Which of them is the
    bottleneck is not known, so what is measured is how long small requests take. While that is longer than a few round
    trips, less is sent of big ones, and more again when it is not. Without small requests there is no bound.

    Args:
        burst_us: µs of Redis's time that may be sent at once.
    """

    def __init__(self, burst_us: float) -> None:
        self._share = _MOST  # µs of Redis's time in a µs of the clock
        self._burst_us = self._credit_us = burst_us
        self._at = self._noted_at = self._adjusted_at = -inf
        self._took = 0.0

    def note(self, took: float, nearest: float, now: float) -> None:
        """Take the time of a small request into account.

        Args:
            took: Seconds from sending it to its reply.
            nearest: Seconds of the least round trip.
            now: The time.
        """
        self._took = took if now - self._noted_at > _LATELY_S else self._took + (took - self._took) * _WEIGHT
        self._noted_at = now
        if now - self._adjusted_at >= _EVERY_S:
            self._adjusted_at = now
            slow = self._took > _QUICK_S + _TRIPS * nearest
            self._share = min(max(self._share * (_SLOWER if slow else _QUICKER), _LEAST), _MOST)

    def credit(self, now: float) -> float:
        """Return how many µs of Redis's time may be sent now; what is below 0 was sent ahead."""
        if now - self._noted_at > _LATELY_S:
            return inf
        self._credit_us = min(self._credit_us + (now - self._at) * 1e6 * self._share, self._burst_us)
        self._at = now
        return self._credit_us

    def spend(self, us: float) -> None:
        """Count what was sent."""
        self._credit_us = max(self._credit_us - us, -self._burst_us)
