"""The consumer: reads entries, writes them, acknowledges them; waits where a server is away."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from featurestore.errors import (
    AccessDeniedError,
    BadReplyError,
    DeadlineExceededError,
    FeatureStoreError,
    NoSchemaError,
    UnavailableError,
    WriteRefusedError,
)

from .counts import Counts, Told
from .decoding import Decoder, MalformedEntryError, Write
from .interface import ALONE, DeadLetter, Entry, Source
from .writing import Group, Target, grouped

_logger = logging.getLogger("featurestore.ingest")

POISON = "POISON"
"""The code of an entry that was delivered too often without having been written."""

_AWAY = (UnavailableError, WriteRefusedError, AccessDeniedError, NoSchemaError)
"""What the store says when it takes no writes at all: entries wait then."""

_UNSURE = (DeadlineExceededError, BadReplyError)
"""Of these, what an entry itself may have caused."""

_LEAST_PAUSE_S, _MOST_PAUSE_S = 0.1, 5.0
_SCHEMA_S = 10.0
_LAG_S = 5.0
_MOST_TOLD = 10  # dead letters of a batch in the log

T = TypeVar("T")


class StoppedError(Exception):
    """The consumer was told to stop while it waited for a server."""


class Consumer:
    """Consumes a source into a store until it is told to stop.

    Args:
        source: Where entries are from.
        target: Where they go to.
        counts: What is counted.
        tries: After so many deliveries an entry that could not be written is a dead letter, once it was tried alone.
        ignores_undeclared: Whether fields that are no features are left out.
        log_every: Seconds between lines in the log.
        forget_after: Seconds after which an entry that was acknowledged is no longer known as counted, where it was
            delivered more than once: nobody has it in hand for so long.
        check: Called while a server is away; it raises where waiting is in vain.
    """

    def __init__(  # noqa: PLR0913 - what a consumer is made of
        self,
        source: Source,
        target: Target,
        counts: Counts,
        *,
        tries: int,
        ignores_undeclared: bool = False,
        log_every: float = 10.0,
        forget_after: float = 600.0,
        check: Callable[[], object] | None = None,
    ) -> None:
        self._source, self._target, self._counts = source, target, counts
        self._tries, self._ignores_undeclared, self._log_every = tries, ignores_undeclared, log_every
        self._check, self._stop = check, threading.Event()
        self._decoder: Decoder | None = None
        self._schema_at = self._lag_at = 0.0
        self._told: Told | None = None
        self._in_hand: Sequence[Entry] = ()
        self._forget_after, self._looked_at = forget_after, 0.0
        self._settled_below: dict[str, tuple[int, ...]] = {}

    def stop(self) -> None:
        """Have `run` return once the entries in hand are settled."""
        self._stop.set()

    def run(self, *, until_drained: bool = False) -> bool:
        """Consume; return whether everything in hand is settled. Otherwise it is delivered again, to whoever comes.

        Args:
            until_drained: Whether to stop once the source has nothing for this consumer.
        """
        _logger.info("consuming %s", self._source)
        self._told = self._counts.told(None)
        try:
            self._patiently(self._target.open, waits_for=(UnavailableError,))
            self._patiently(self._source.open, waits_for=(UnavailableError, WriteRefusedError))
            while not self._stop.is_set():
                entries = self._patiently(self._source.read)
                if entries:
                    self._in_hand = entries
                    self._take(entries)
                    self._in_hand = ()
                elif until_drained and self._source.drained:
                    break
                self._report()
                self._forget_old()
        except StoppedError:
            _logger.warning(
                "stopped; %d entries in hand are not acknowledged and will be delivered again", len(self._in_hand)
            )
        self._report(last=True)
        return not self._in_hand

    # Entries

    def _take(self, entries: Sequence[Entry]) -> None:
        """Write entries and settle them; have them delivered again where they could not be written."""
        most = max(
            self._tries, ALONE + 1
        )  # before, it may have come in a batch, and another entry may be the guilty one
        dead = [self._poisoned(entry) for entry in entries if entry.deliveries > most]
        writes, malformed = self._decoded([entry for entry in entries if entry.deliveries <= most])
        dead += malformed
        groups, written, skipped = grouped(writes), 0, 0
        for group in groups:
            try:
                result, rejected = self._patiently(partial(self._target.write, group), waits_for=_AWAY, but_not=_UNSURE)
            except FeatureStoreError as error:
                failed = self._failed(entries, error)
                if failed is None:
                    return
                rejected = [failed]
            else:
                written, skipped = written + result.written, skipped + result.skipped
            dead += rejected
        if dead and self._schema_has_changed():
            _logger.info("the schema has changed: %d entries are read again by it", len(entries))
            self._source.give_up(entries)
            return
        self._settle(entries, dead, groups)
        self._counts.add(entries, written, skipped, dead)

    def _settle(self, entries: Sequence[Entry], dead: Sequence[DeadLetter], groups: Sequence[Group]) -> None:
        for letter in dead[:_MOST_TOLD]:
            _logger.warning("%s %s is dead: %s %s", letter.entry.source, letter.entry.id, letter.code, letter.reason)
        if len(dead) > _MOST_TOLD:
            _logger.warning("and %d more of this batch are dead", len(dead) - _MOST_TOLD)
        surely = self._patiently(lambda: self._source.settle(entries, dead))
        if surely:
            self._patiently(lambda: self._target.forget(groups))

    def _decoded(self, entries: Sequence[Entry]) -> tuple[list[tuple[Entry, Write]], list[DeadLetter]]:
        decoder = self._current_decoder()
        writes, dead = [], []
        for entry in entries:
            try:
                writes.append((entry, decoder.decode(entry)))
            except MalformedEntryError as error:
                dead.append(DeadLetter(entry, error.code or "", str(error)))
        return writes, dead

    def _current_decoder(self, least_age: float = _SCHEMA_S) -> Decoder:
        """Return what reads entries by the schema, which is read again once it is so many seconds old."""
        now = time.monotonic()
        if self._decoder is None or now - self._schema_at > least_age:
            store = self._target.store
            schema = self._patiently(store.schema)
            self._schema_at = now
            if self._decoder is None or dict(schema.features) != self._decoder.features:
                names = (schema.id_name(store.keys.entity), *(("user_id",) if store.keys.entity == "user" else ()))
                self._decoder = Decoder(names, dict(schema.features), ignores_undeclared=self._ignores_undeclared)
        return self._decoder

    def _schema_has_changed(self) -> bool:
        """Return whether what was refused was read by an older schema; Redis is asked once a second at most."""
        before = self._decoder
        return self._current_decoder(least_age=1.0) is not before

    def _poisoned(self, entry: Entry) -> DeadLetter:
        reason = f"delivered {entry.deliveries - 1} times, and never acknowledged: whoever had it ended, or gave it up"
        return DeadLetter(entry, POISON, reason)

    def _failed(self, entries: Sequence[Entry], error: FeatureStoreError) -> DeadLetter | None:
        """Return a dead letter for an entry that failed too often, alone; have others delivered again."""
        self._patiently(self._target.ping)
        if len(entries) == 1 and entries[0].deliveries >= self._tries:
            return DeadLetter(entries[0], error.code or POISON, f"after {entries[0].deliveries} tries: {error}")
        if len(entries) == 1:
            entries[0].deliveries += 1  # for sources that do not count
        _logger.warning("%d entries could not be written, and will be tried again: %s", len(entries), error)
        self._source.give_up(entries)
        self._stop.wait(_LEAST_PAUSE_S)
        return None

    def _forget_old(self) -> None:
        """Forget what was acknowledged by the last look, long ago: entries that came more than once stay until then."""
        now = time.monotonic()
        if self._looked_at and now - self._looked_at < self._forget_after:
            return
        self._looked_at, before, self._settled_below = now, self._settled_below, {}
        try:
            for source, bound in before.items():
                self._target.forget_below(source, bound)
            self._settled_below = self._source.settled_below()
        except FeatureStoreError as error:
            _logger.debug("nothing is forgotten of what was counted: %s", error)

    # Waiting

    def _patiently(
        self,
        act: Callable[[], T],
        *,
        waits_for: tuple[type[FeatureStoreError], ...] = (FeatureStoreError,),
        but_not: tuple[type[FeatureStoreError], ...] = (),
    ) -> T:
        """Return what `act` returns, as soon as the servers are there.

        Args:
            act: What is tried again where a server is away.
            waits_for: The failures after which it is tried again; others are raised.
            but_not: Of these, those that are raised.

        Raises:
            StoppedError: The consumer is to stop, and cannot finish.
        """
        pause, since = _LEAST_PAUSE_S, time.monotonic()
        while True:
            try:
                result = act()
            except FeatureStoreError as error:
                if isinstance(error, but_not) or not isinstance(error, waits_for):
                    raise
                if self._counts.waiting != str(error):
                    self._counts.waiting = str(error)
                    _logger.warning("waiting, and nothing is read: %s", error)
            else:
                if self._counts.waiting:
                    self._counts.waiting = None
                    _logger.info("going on after %.1f s", time.monotonic() - since)
                return result
            if self._stop.wait(pause):
                raise StoppedError
            pause = min(2 * pause, _MOST_PAUSE_S)
            if self._check is not None:
                self._check()
            self._hold()

    def _hold(self) -> None:
        """Keep what is in hand from being given to others, where the source can be reached."""
        if self._in_hand:
            try:
                self._source.hold(self._in_hand)
            except FeatureStoreError as error:
                _logger.debug("entries in hand may go to others: %s", error)

    # Reports

    def _report(self, *, last: bool = False) -> None:
        now = time.monotonic()
        tells = self._told is None or last or now - self._told.at >= self._log_every
        if tells or now - self._lag_at >= _LAG_S:
            self._lag_at = now
            self._counts.lost = self._source.lost
            try:
                self._counts.lags = self._source.lags()
            except FeatureStoreError as error:
                _logger.debug("the lag is unknown: %s", error)
        if tells:
            self._told = self._counts.told(self._told)
            _logger.info("%s", self._told.text)
