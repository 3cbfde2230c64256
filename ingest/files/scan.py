"""The known ids and what is stored of them, read in small steps beside live traffic."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from featurestore.contract.costs import hash_us, rows_per_call
from featurestore.contract.hashes import READ_HASHES, StoredEntity, known_words, read_words, stored_entity
from featurestore.contract.resp import Word
from featurestore.errors import BadReplyError, FeatureStoreError, RedisError, UnavailableError
from featurestore.keys import Keys
from featurestore.store.blocking import FeatureStore
from featurestore.store.nodes import node_of, primaries, process_of, serves
from featurestore.store.publishing import Commands

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
        replies = self._send(Commands(self._reads(ids)), len(ids))
        return [None if reply is None else stored_entity(reply) for reply in replies]

    def read_known(self, ids: Sequence[bytes]) -> list[tuple[bool, StoredEntity | None]]:
        """Return for each of `ids` whether it is in the set of known ids, and what `read` does."""
        groups: dict[Keys, list[int]] = {}
        for place, each in enumerate(ids):
            groups.setdefault(self.store.keys.holding(each), []).append(place)
        asked = [known_words(keys.members, [ids[place] for place in places]) for keys, places in groups.items()]
        replies = self._send(Commands([*asked, *self._reads(ids)]), len(ids) + 1)
        known = [False] * len(ids)
        for (keys, places), reply in zip(groups.items(), replies, strict=False):
            if reply is None:
                raise RedisError(f"{keys.members} is no set of ids")
            for place, is_known in zip(places, reply, strict=True):
                known[place] = is_known == 1
        stored = [None if reply is None else stored_entity(reply) for reply in replies[len(groups) :]]
        return list(zip(known, stored, strict=True))

    def page(self, keys: Keys, cursor: bytes) -> tuple[bytes, list[bytes]]:
        """Return the cursor of the next page of a partition's known ids, and the ids of the one at `cursor`."""
        words = ("SSCAN", keys.members, cursor, "COUNT", _SCAN_COUNT)
        following, ids = self.patience.run(
            lambda: self.throttle.run(lambda: self.store.transport.command(*words, writes=True), 0)
        )
        return following, ids

    def _reads(self, ids: Sequence[bytes]) -> list[tuple[Word, ...]]:
        keys = self.store.keys
        return [read_words(keys.holding(each).features_of_raw(each), self._names) for each in ids]

    def _send(self, commands: Commands, weight: int) -> list[Any]:
        """Send commands in one write, to primaries; return the replies, None where a key holds something else."""

        def send() -> list[Any]:
            replies = self.store.transport.run_many_encoded(
                READ_HASHES, commands, writes=True
            )  # replicas may lack some
            return [_checked(reply) for reply in replies]

        return self.patience.run(lambda: self.throttle.run(send, weight))


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

    In a cluster one partition follows the other. The ids of each are read as a whole before they are given, and read
    again where another server has taken over meanwhile: what is given is whole.

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
        reader = self._reader
        self.is_whole = False
        for keys in reader.store.parts():
            ways = self._pages_of(keys) if not keys.tag else self._gathered(keys)
            for ids in ways:
                for first in range(0, len(ids), reader.in_call):
                    yield ids[first : first + reader.in_call]
            if not self.is_whole:
                return

    def _gathered(self, keys: Keys) -> Iterator[list[bytes]]:
        """Yield the ids of a partition, all of them at once, however many servers it takes."""
        while True:
            ids = [each for page in self._pages_of(keys) for each in page]
            if self.is_whole:
                yield list(dict.fromkeys(ids))
                return
            _logger.warning("another server has the ids of %s now: they are read again", keys.members)

    def _pages_of(self, keys: Keys) -> Iterator[list[bytes]]:
        """Yield the ids of a set by and by; `is_whole` tells at the end whether they are all."""
        reader, patience = self._reader, self._reader.patience
        self.is_whole = False
        server, outages, looked = self._server(keys), patience.outages, self._clock()
        recent, cursor = _Recent(_REMEMBERED), b""
        while cursor != b"0":
            cursor, ids = reader.page(keys, cursor or b"0")
            yield recent.fresh(ids)
            if cursor == b"0" or patience.outages > outages or self._clock() - looked > _LOOK_S:
                is_unsure = server is None and patience.outages > outages
                if is_unsure or self._server(keys) != server:
                    return
                outages, looked = patience.outages, self._clock()
        self.is_whole = True

    def _server(self, keys: Keys) -> str | None:
        """Return what names the process of the server that has a partition; None where it does not tell."""
        return self._reader.patience.run(lambda: self._ask_server(keys))

    def _ask_server(self, keys: Keys) -> str | None:
        transport = self._reader.store.transport
        if keys.tag:
            transport.command("EXISTS", keys.schema)  # goes where it is served now, and so tells who that is
        node = node_of(primaries(transport), keys)
        if node is None:
            raise UnavailableError(f"no node of the cluster has the slot of {keys.members}")
        process = process_of(node)
        if keys.tag and not serves(node, keys):
            raise UnavailableError(f"{node.address} has not the slot of {keys.members} any more")
        return process


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
