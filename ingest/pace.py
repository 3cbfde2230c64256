"""How fast a bulk write may be: a bound on rows a second, and room for those whom Redis serves meanwhile."""

import time
from collections.abc import Callable, Iterable, Iterator

from featurestore.contract.bulk_calls import Part
from featurestore.contract.costs import MOST_US
from featurestore.errors import RedisError, UnavailableError
from featurestore.transport.interface import Transport

FAIR_US = 200.0
"""µs of Redis's time that one call takes while others are served: so long each of them may wait for it."""

_FAIR_REST = 3.0
"""While others are served, a call is followed by so many times as long as it took, in which Redis is theirs alone."""

_SERVED_A_S = 100.0
"""Calls of scripts a second by others, from which on these are served."""

_FRESH_S = 0.1
"""For so long what was seen holds."""

_FIRST_LOOK_S = 0.05
"""So long a writer watches before its first write."""

_SCRIPT_CALLS = (b"cmdstat_evalsha:", b"cmdstat_evalsha_ro:", b"cmdstat_fcall:", b"cmdstat_fcall_ro:")


class Pace:
    """Holds the parts of a bulk write back.

    Redis has one thread: while it writes, nobody is served. If others call scripts meanwhile, calls are short, one at a
    time, and pauses lie between them; otherwise Redis is kept at work. Redis's own counts of calls tell, once a chunk
    of rows. A user who may not ask for them gets no such pauses. In a cluster each primary has one call at a time then,
    and the pauses are the same for all of them.

    Args:
        transport: Asks for the counts; None to be at full speed whoever else is served.
        rate: Most rows a second; no bound if None.
        call_us: µs of Redis's time that one call may take at full speed.
        in_flight: Calls that may wait for their replies at full speed.
        clock: Tells the time in seconds.
        sleep: Waits so many seconds.
    """

    def __init__(  # noqa: PLR0913 - what a pace is made of
        self,
        transport: Transport | None,
        rate: float | None = None,
        *,
        call_us: float = MOST_US,
        in_flight: int = 1,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport, self._rate = transport, rate
        self._call_us, self._in_flight = call_us, in_flight
        self._clock, self._sleep = clock, sleep
        self._next = clock()
        self._own, self._seen_at = 0, clock()
        self._seen: dict[str, int] = {}
        self.fair = False

    @property
    def call_us(self) -> float:
        """µs of Redis's time that one call may take now."""
        return min(self._call_us, FAIR_US) if self.fair else self._call_us

    @property
    def in_flight(self) -> int:
        """Calls that may wait for their replies now, on each node."""
        return 1 if self.fair else self._in_flight

    def look(self) -> None:
        """See whether Redis serves others, unless that was seen a moment ago."""
        if self._transport is None or (self._seen and self._clock() - self._seen_at < _FRESH_S):
            return
        if not self._seen:  # a first part at full speed would be felt by those who are served
            self._take_counts()
            self._sleep(_FIRST_LOOK_S)
        self._take_counts()

    def _take_counts(self) -> None:
        if self._transport is None:
            return
        try:
            calls = _counts_of(self._transport)
        except UnavailableError:
            raise
        except RedisError:  # it may not be asked, or knows no such command
            self._transport, self.fair = None, False
            return
        now, before = self._clock(), self._seen
        since = {node: count - before[node] for node, count in calls.items() if node in before}
        if since and min(since.values()) >= 0:  # the counts may have been reset
            by_others = sum(since.values()) - self._own
            self.fair = by_others > _SERVED_A_S * (now - self._seen_at)
        self._own, self._seen, self._seen_at = 0, calls, now

    def note_own(self, calls: int) -> None:
        """Count calls of scripts that the caller has made beside `calls`: they are not those of others."""
        self._own += calls

    def calls(self, encoded: Iterable[bytes | None]) -> Iterator[bytes | None]:
        """Yield calls, each when Redis has been others' for long enough.

        In a cluster so many are yielded in a row as there are primaries, and None, so that all of them are answered.
        """
        under_way, began = 0, 0.0
        for call in encoded:
            began = began if under_way else self._clock()
            yield call
            if call is None:
                continue
            self._own += 1
            under_way += 1
            if not self.fair:
                under_way = 0
            elif under_way >= len(self._seen):
                if under_way > 1:
                    yield None
                self._sleep(_FAIR_REST * (self._clock() - began))
                under_way = 0

    def parts(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield parts, each not before its time."""
        for part in parts:
            if self._rate is not None:
                now = self._clock()
                if self._next > now:
                    self._sleep(self._next - now)
                self._next = max(self._next, now - 1) + part.size / self._rate
            yield part


def _counts_of(transport: Transport) -> dict[str, int]:
    """Return how many calls of scripts each primary has had, by its address; in a cluster, of those that answer.

    Raises:
        UnavailableError: Redis does not answer. What is written next asks a cluster where its primaries are now.
    """
    found, away = {}, None
    for node in transport.nodes():
        if transport.clustered and node.role != "primary":
            continue
        try:
            found[node.address] = _script_calls(node.transport.command("INFO", "commandstats"))
        except UnavailableError as error:
            if not transport.clustered:
                raise
            away = error
    if not found and away is not None:
        raise away
    return found


def _script_calls(stats: bytes) -> int:
    """Return how many calls of scripts and functions a server has had, by its INFO commandstats."""
    found = 0
    for line in stats.splitlines():
        if line.startswith(_SCRIPT_CALLS):
            found += int(line.partition(b"calls=")[2].partition(b",")[0])
    return found
