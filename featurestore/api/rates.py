"""Rates of API keys: tokens are taken from a bucket in Redis some at a time, and spent without asking Redis again.

A lease is what this process has taken and not spent. What was spent is at most what was granted, however many workers
and servers there are.
"""

import logging
import threading
from collections.abc import Callable
from math import ceil, inf
from time import monotonic
from typing import Any

from featurestore.access.key import Key
from featurestore.contract.scripts import TAKE_TOKENS
from featurestore.errors import FeatureStoreError, RateLimitedError
from featurestore.keys import bucket_of
from featurestore.transport.interface import Transport

_LEASES_A_SECOND = 20
_IDLE_S = 2.0
_ALONE_S = 1.0
"""While Redis does not tell, a worker grants itself what a key's rate gives in so long, and asks again after that."""

_TELL_EACH_S = 10.0

_logger = logging.getLogger("featurestore")


class Lease:
    """The tokens that this process may spend for the keys of one name.

    Args:
        key: One of these keys.

    Attributes:
        tokens: What is left. Below zero, the next lease pays for it.
        low: From how few tokens on more are asked for, beside the requests; below 0 where the key's own requests alone
            ask: of a rate so slow, a token that is taken in advance and not spent is missed.
        closed_until: Until when no token is to be had; by the monotonic clock.
        closed_for: How many tokens were asked for when that was told: fewer may be had earlier.
        paid_at: When the rate has paid for what was granted without Redis.
        fetching: Whether tokens are being asked for beside the requests.
        used: When tokens were last asked for.
    """

    __slots__ = ("chunk", "closed_for", "closed_until", "fetching", "key", "lock", "low", "paid_at", "tokens", "used")

    def __init__(self, key: Key) -> None:
        assert key.rate is not None  # noqa: S101 - for mypy
        self.key, self.lock = key, threading.Lock()
        self.chunk = max(1, min(ceil(key.rate / _LEASES_A_SECOND), key.burst))
        self.low = self.chunk // 2 if key.rate > _LEASES_A_SECOND else -1
        self.tokens = 0
        self.closed_until, self.closed_for = 0.0, inf
        self.paid_at = -inf
        self.fetching, self.used = False, monotonic()


class Rates:
    """The leases of a process.

    Args:
        transport: Leads to the Redis that holds the buckets.
        spawn: Starts a greenlet, which asks for tokens while others are left; without it requests alone ask.
    """

    def __init__(self, transport: Transport, spawn: Callable[[Callable[[], None]], object] | None = None) -> None:
        self._transport, self._spawn = transport, spawn
        self._leases: dict[str, Lease] = {}
        self._told = -inf

    def lease_of(self, key: Key) -> Lease | None:
        """Return the lease of a key; None where it has no rate."""
        if key.rate is None:
            return None
        lease = self._leases.get(key.name)
        if lease is None or (lease.key.rate, lease.key.burst) != (key.rate, key.burst):
            lease = self._leases[key.name] = Lease(key)
        return lease

    def spend(self, key: Key, rows: int) -> None:
        """Take tokens for that many rows, asking Redis where the lease has not as many.

        Raises:
            RateLimitedError: There are not as many to be had now.
        """
        lease = self.lease_of(key)
        if lease is None:
            return
        with lease.lock:
            if lease.tokens < rows:
                self._fetch(lease, rows - lease.tokens)
            lease.tokens -= rows
        self.look(lease)

    def look(self, lease: Lease) -> None:
        """Ask for more tokens, beside the requests, where few are left."""
        if lease.fetching or lease.tokens > lease.low or self._spawn is None:
            return
        if lease.closed_for <= 1 and monotonic() < lease.closed_until:
            return
        lease.fetching = True
        self._spawn(lambda: self._refill(lease))

    def drop_idle(self) -> None:
        """Give up tokens that nobody has spent for a while: they were for the time when they were taken."""
        now = monotonic()
        for lease in self._leases.values():
            if now - lease.used > _IDLE_S and not lease.fetching and not lease.lock.locked():
                lease.tokens = min(lease.tokens, 0)

    def refusal(self, lease: Lease, now: float) -> RateLimitedError:
        """Return the error of a request for which there are no tokens."""
        key, wait = lease.key, max(lease.closed_until - now, 0.001)
        return RateLimitedError(
            f"the API key {key.name} may read and write {key.rate:g} rows a second, {key.burst} at once:"
            f" ask again in {wait:.3g} s",
            retry_s=wait,
            policy=(key.name, key.burst, key.rate or 0.0),
        )

    def _refill(self, lease: Lease) -> None:
        try:
            with lease.lock:
                if lease.tokens <= lease.low:
                    self._fetch(lease, 1)
        except RateLimitedError:
            pass  # whoever needs the tokens is told
        finally:
            lease.fetching = False

    def _fetch(self, lease: Lease, least: int) -> None:
        """Add at least so many tokens to a lease, whose lock is held.

        Raises:
            RateLimitedError: There are not as many now.
        """
        now = monotonic()
        if now < lease.closed_until and least >= lease.closed_for:
            raise self.refusal(lease, now)
        lease.used = now
        key = lease.key
        try:
            reply: Any = self._transport.run(
                TAKE_TOKENS, (bucket_of(key.name),), (repr(key.rate), str(key.burst), str(lease.chunk), str(least))
            )
            granted, wait_ms, _left = reply
        except (FeatureStoreError, ValueError, TypeError) as error:
            self._go_on_alone(lease, least, error)
            return
        if granted < least:
            lease.closed_until, lease.closed_for = monotonic() + wait_ms / 1000, least
            raise self.refusal(lease, monotonic())
        lease.tokens += granted
        lease.closed_until = 0.0

    def _go_on_alone(self, lease: Lease, least: int, error: Exception) -> None:
        """Grant tokens without Redis: a limit that cannot be counted must not end what can be served.

        Raises:
            RateLimitedError: The rate has not paid yet for what was granted so before.
        """
        now = monotonic()
        if now - self._told > _TELL_EACH_S:
            self._told = now
            _logger.warning("rates are counted by each worker alone, since Redis does not tell: %s", error)
        lease.closed_until, lease.closed_for = now + _ALONE_S, 1  # then Redis is asked again
        if now < lease.paid_at:
            raise self.refusal(lease, now)
        rate = lease.key.rate or 1
        granted = max(least, ceil(rate * _ALONE_S))
        lease.tokens += granted
        lease.paid_at = now + granted / rate
