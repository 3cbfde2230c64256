"""The known ids and what is stored of them, read in small steps beside live traffic."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from featurestore.contract.costs import hash_us, rows_per_call
from featurestore.contract.hashes import READ_HASHES, StoredEntity, encode_known, encode_read, stored_entity
from featurestore.errors import BadReplyError, FeatureStoreError, RedisError, UnavailableError
from featurestore.store.blocking import FeatureStore

_logger = logging.getLogger("featurestore.ingest")
T = TypeVar("T")

MOST_IDS = 500
"""Most ids in one call, however little they take of Redis's time."""

_SCAN_COUNT = 500
_RETRY_S = 1.0
_LOOK_S = 5.0
_REMEMBERED = 100_000
_WAITS_AT_LEAST = 10  # calls a second, so that a low rate is kept smoothly


class Throttle:
    """Leaves Redis to others for as long as each call took, and keeps to a rate.

    A busy Redis answers late. So the pauses grow with what others ask of it.

    Args:
        rate: Most ids a second; None for any number.
        clock: Tells the time in seconds.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        rate: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.rate, self._clock, self._sleep = rate, clock, sleep
        self._next = 0.0

    def run(self, call: Callable[[], T], ids: int) -> T:
        """Wait until the next call may be made, and make it; it is for so many ids."""
        pause = self._next - self._clock()
        if pause > 0:
            self._sleep(pause)
        began = self._clock()
        answer = call()
        ended = self._clock()
        self._next = max(ended + (ended - began), began + (ids / self.rate if self.rate else 0.0))
        return answer


class ReadRetries:
    """Repeats what only reads until Redis answers.

    Args:
        revive: Called before each further attempt; it may raise where there is nothing to wait for.
        pause: Seconds between attempts.

    Attributes:
        outages: How often Redis was away.
    """

    def __init__(self, revive: Callable[[], object] = lambda: None, *, pause: float = _RETRY_S) -> None:
        self._revive, self._pause = revive, pause
        self.outages = 0

    def run(self, read: Callable[[], T]) -> T:
        """Return what `read` does, once Redis answers. A reply that makes no sense is raised."""
        away = False
        while True:
            try:
                answer = read()
            except BadReplyError:
                raise
            except UnavailableError as error:
                if not away:
                    self.outages += 1
                    _logger.warning("waiting for Redis: %s", error)
                away = True
                time.sleep(self._pause)
                self._revive()
            else:
                if away:
                    _logger.info("Redis is back")
                return answer


class HashReader:
    """Reads the hashes of an entity's ids as they are stored, in calls that take Redis 1 ms at most.

    Args:
        store: The entity's store.
        features: The features to read, with their types.
        throttle: When calls may be made.
        patience: What to do while Redis is away.
        most: Most ids in a call.
    """

    def __init__(
        self,
        store: FeatureStore,
        features: Mapping[str, str],
        throttle: Throttle,
        patience: ReadRetries,
        most: int = MOST_IDS,
    ) -> None:
        self.store, self.throttle, self.patience = store, throttle, patience
        self._names = list(features)
        self.in_call = rows_per_call(hash_us(features), most)
        if throttle.rate is not None:
            self.in_call = max(1, min(self.in_call, int(throttle.rate / _WAITS_AT_LEAST)))

    def read(self, ids: Sequence[bytes]) -> list[StoredEntity | None]:
        """Return what is stored of each of `ids`, which are those of one call: None where nothing is, or no hash.

        Raises:
            RedisError: Redis refuses the read, say for want of permission.
        """
        key_of = self.store.keys.features_of_raw
        replies = self._send([encode_read(key_of(each), self._names) for each in ids])
        return [None if reply is None else stored_entity(reply) for reply in replies]

    def read_known(self, ids: Sequence[bytes]) -> list[tuple[bool, StoredEntity | None]]:
        """Return for each of `ids` whether it is in the set of known ids, and what `read` does."""
        keys = self.store.keys
        reads = [encode_read(keys.features_of_raw(each), self._names) for each in ids]
        known, *replies = self._send([encode_known(keys.members, ids), *reads])
        if known is None:
            raise RedisError(f"{keys.members} is no set of ids")
        pairs = zip(known, replies, strict=True)
        return [(is_known == 1, None if reply is None else stored_entity(reply)) for is_known, reply in pairs]

    def page(self, cursor: bytes) -> tuple[bytes, list[bytes]]:
        """Return the cursor of the next page of known ids, and the ids of the one at `cursor`."""
        words = ("SSCAN", self.store.keys.members, cursor, "COUNT", _SCAN_COUNT)
        following, ids = self.patience.run(lambda: self.throttle.run(lambda: self.store.transport.command(*words), 0))
        return following, ids

    def _send(self, encoded: list[bytes]) -> list[Any]:
        """Send commands in one write; return the replies, None where a key holds something else."""

        def send() -> list[Any]:
            replies = self.store.transport.run_many_encoded(READ_HASHES, encoded)
            return [_checked(reply) for reply in replies]

        return self.patience.run(lambda: self.throttle.run(send, len(encoded)))


def _checked(reply: list[Any] | FeatureStoreError) -> list[Any] | None:
    if not isinstance(reply, FeatureStoreError):
        return reply
    if str(reply).startswith("WRONGTYPE"):
        return None
    raise reply


class Scan:
    """All known ids once each, by SSCAN.

    A cursor of SSCAN is worth something only to the process that gave it: another one orders its ids otherwise, and
    would leave some out. So who the server is is looked at now and then, and at the end.

    SSCAN gives an id twice only where the set shrinks meanwhile, and then soon: what it gives again shares a bucket of
    the smaller table. So the last 100,000 ids are remembered, which is enough unless the set becomes 100,000 times
    smaller.

    Args:
        reader: Asks Redis.
        clock: Tells the time in seconds.

    Attributes:
        is_whole: Once all ids were given: whether one server gave them all. Otherwise some may be missing: scan again.
    """

    def __init__(self, reader: HashReader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader, self._clock = reader, clock
        self.is_whole = False

    def parts(self) -> Iterator[list[bytes]]:
        """Yield the ids, as many at a time as one call of the reader may have."""
        reader, patience = self._reader, self._reader.patience
        server, outages, looked = self._server(), patience.outages, self._clock()
        recent, cursor = _Recent(_REMEMBERED), b""
        self.is_whole = False
        while cursor != b"0":
            cursor, ids = reader.page(cursor or b"0")
            fresh = recent.fresh(ids)
            for first in range(0, len(fresh), reader.in_call):
                yield fresh[first : first + reader.in_call]
            if cursor == b"0" or patience.outages > outages or self._clock() - looked > _LOOK_S:
                is_unsure = server is None and patience.outages > outages
                if is_unsure or self._server() != server:
                    return
                outages, looked = patience.outages, self._clock()
        self.is_whole = True

    def _server(self) -> bytes | None:
        """Return what names the server's process; None where it does not tell."""
        command = self._reader.store.transport.command
        try:
            text: bytes = self._reader.patience.run(lambda: command("INFO", "server"))
        except UnavailableError:
            raise
        except RedisError:  # the user may not ask, or INFO has another name
            return None
        lines = (line.partition(b":") for line in text.splitlines())
        return next((value.strip() for name, _, value in lines if name == b"run_id"), None)


class _Recent:
    """The ids given last: at least so many, at most twice as many."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._newer: set[bytes] = set()
        self._older: set[bytes] = set()

    def fresh(self, ids: Sequence[bytes]) -> list[bytes]:
        """Return those of `ids` that are not among the last ones, once each; they are among them from now on."""
        fresh = [each for each in dict.fromkeys(ids) if each not in self._newer and each not in self._older]
        self._newer.update(fresh)
        if len(self._newer) >= self._count:
            self._older, self._newer = self._newer, set()
        return fresh
