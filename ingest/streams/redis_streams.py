"""Redis Streams, read as a consumer of a group."""

import logging
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

from featurestore.contract.resp import Reply, Word
from featurestore.errors import ConfigurationError, RedisError
from featurestore.keys import slot_of

from .interface import ALONE, DeadLetter, Entry, Lag, id_numbers
from .redis_link import Command, RedisLink, mapping_of

_logger = logging.getLogger("featurestore.ingest")

BLOCK_MS = 500
"""How long a read waits for entries: so long SIGTERM may have to wait."""

_MS = 1000


class RedisStreams:
    """Entries of one or several streams of one Redis; see `Source`.

    What a consumer was given and did not acknowledge stands in the group's list of pending entries. Such entries come
    first: at the start, after a failure, and after this consumer took over what another one has held for too long.

    Args:
        link: The Redis that holds the streams.
        streams: Their keys.
        group: The group; it is made where it is missing.
        consumer: This consumer's name; no other may have it at the same time.
        batch: Most entries of a stream in one read.
        claim_after: Seconds after which what a consumer holds is taken over.
        start: Where a new group starts: an id, `0` for the first entry, `$` for those to come.
        dead: What is put behind a stream's key to name its dead letters. In a cluster these are in the stream's slot:
            where its key has no hash tag, it becomes that of the dead letters', as in `{events}.dead`.
        passing: Whether the name is of this process alone, so that the group forgets it in the end.

    Raises:
        ConfigurationError: In a cluster, the streams are in several slots, or one and its dead letters are.
    """

    def __init__(  # noqa: PLR0913 - what a consumer is told
        self,
        link: RedisLink,
        streams: Sequence[str],
        *,
        group: str,
        consumer: str,
        batch: int,
        claim_after: float,
        start: str,
        dead: str,
        passing: bool,
    ) -> None:
        self._link, self._streams, self._group, self._consumer = link, list(streams), group, consumer
        self._batch, self._claim_after, self._start = batch, claim_after, start
        self._dead = _dead_streams(streams, dead, clustered=link.clustered)
        if link.clustered:
            link.keep_to(_common_slot(streams))
        self._passing = passing
        self._behind = True
        self._claim_at = 0.0
        self._read_at = 0.0
        self._may_have_moved = False  # whether a transaction was sent of which the reply is not known
        self._new: Command = (
            *("XREADGROUP", "GROUP", group, consumer, "COUNT", batch, "BLOCK", BLOCK_MS, "STREAMS"),
            *(*streams, *(">" for _ in streams)),
        )
        self.drained = False
        self.lost = 0

    def __repr__(self) -> str:
        return f"<RedisStreams {self}>"

    def __str__(self) -> str:
        return f"{' '.join(self._streams)} as {self._consumer} of group {self._group}"

    def open(self) -> None:
        """Make the streams and the group where they are missing."""
        for stream in self._streams:
            (reply,) = self._link.ask(("XGROUP", "CREATE", stream, self._group, self._start, "MKSTREAM"))
            if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
                raise reply

    def read(self) -> list[Entry]:
        """Return the next entries; see `Source.read`."""
        self.drained = False
        with self._surely():
            entries = self._delivered_before()
            self._read_at = _now()
            self._may_have_moved = False
            if entries:
                return entries
            found = self._command(*self._new)
            self.drained = not found
            return [_entry(stream.decode(), each) for stream, listed in found or () for each in listed]

    def settle(self, entries: Sequence[Entry], dead: Sequence[DeadLetter]) -> bool:
        """Acknowledge entries, and move dead ones to `<stream>.dead`, in one transaction."""
        acknowledged: list[Command] = [
            ("XACK", stream, self._group, *ids) for stream, ids in _by_source(entries).items()
        ]
        with self._surely():
            if dead:
                self._move(dead, acknowledged)
            else:
                self._acknowledge(acknowledged)
        # Whoever takes entries over does so after they were held for `claim_after`, and before they were acknowledged.
        return _now() - self._read_at < self._claim_after and all(entry.deliveries == 1 for entry in entries)

    def give_up(self, entries: Sequence[Entry]) -> None:  # noqa: ARG002 - Redis knows what this consumer holds
        """Have entries delivered again: they come before any other."""
        self._behind = True

    def hold(self, entries: Sequence[Entry]) -> None:
        """Take entries once more, which neither counts as a delivery nor lets others take them over."""
        for stream, ids in _by_source(entries).items():
            self._command("XCLAIM", stream, self._group, self._consumer, 0, *ids, "JUSTID")

    def lags(self) -> list[Lag]:
        """Return how far each stream is consumed. Redis 6.2 does not tell how many entries are left."""
        return [self._lag(stream) for stream in self._streams]

    def settled_below(self) -> dict[str, tuple[int, ...]]:
        """Return for each stream the least pending id; none where dead letters, which keep their ids, are in hand."""
        found = {}
        for stream in self._streams:
            (given,) = [
                group[b"last-delivered-id"]
                for group in map(mapping_of, self._command("XINFO", "GROUPS", stream))
                if group[b"name"] == self._group.encode()
            ] or [b"0-0"]
            pending, least, *_ = self._command("XPENDING", stream, self._group)  # later: what was given since is above
            bound = id_numbers(least if pending else given)
            if bound is not None and not self._has_dead_in_hand(stream):
                found[stream] = bound
        return found

    def close(self) -> None:
        """Have the group forget a passing name that holds nothing, and close the connection."""
        if self._passing:
            for stream in self._streams:
                held, _ = self._link.ask(*(("XPENDING", stream, self._group, "-", "+", 1, self._consumer), ("PING",)))
                if held == []:
                    self._link.ask(("XGROUP", "DELCONSUMER", stream, self._group, self._consumer))
        self._link.close()

    # What was delivered before

    def _delivered_before(self) -> list[Entry]:
        """Return entries that this consumer holds already, or takes over now."""
        entries = self._held()
        if entries or _now() < self._claim_at:
            return entries
        self._claim_at = _now() + self._claim_after / 2
        self._behind = self._take_over()
        return self._held()

    def _held(self) -> list[Entry]:
        """Return entries that this consumer holds, while it may hold some."""
        while self._behind:
            self._behind = False
            for stream in self._streams:
                held = self._command("XPENDING", stream, self._group, "-", "+", self._batch, self._consumer)
                self._behind = self._behind or bool(held)
                entries = self._again(stream, held)
                if entries:
                    return entries
        return []

    def _take_over(self) -> bool:
        """Take what others have held for too long; return whether there is such. It counts as delivered once read."""
        found = False
        for stream in self._streams:
            cursor: Word = "0-0"
            while cursor not in {b"0-0", b""}:
                cursor, ids, *gone = self._command(
                    *("XAUTOCLAIM", stream, self._group, self._consumer, int(self._claim_after * _MS), cursor),
                    *("COUNT", self._batch, "JUSTID"),
                )
                self._note_lost(stream, len(gone[0]) if gone else 0)
                found = found or bool(ids)
        return found

    def _again(self, stream: str, held: Sequence[Any]) -> list[Entry]:
        """Return the first of the entries that this consumer holds: one to come alone, or those before."""
        if not held:
            return []
        several = [position for position, (*_, delivered) in enumerate(held) if delivered >= ALONE]
        first = held[: (several[0] or 1) if several else len(held)]
        counts = {entry_id: delivered + 1 for entry_id, _, _, delivered in first}
        claimed = self._command("XCLAIM", stream, self._group, self._consumer, 0, *counts)
        entries = [
            _entry(stream, each, counts[each[0]]) for each in claimed if each is not None and each[1] is not None
        ]
        gone = counts.keys() - {entry.id.encode() for entry in entries}
        if gone:
            self._command("XACK", stream, self._group, *gone)
            self._note_lost(stream, len(gone))
        return entries

    def _move(self, dead: Sequence[DeadLetter], acknowledged: Sequence[Command]) -> None:
        """Write dead letters and acknowledge entries: once, also where a reply is lost and the call repeated."""
        self._check_dead({self._dead[letter.entry.source] for letter in dead})
        if self._may_have_moved:
            # A transaction that Redis has got but not run yet has run by now: the check above came after it.
            dead = self._pending_of(dead)
        self._may_have_moved = True
        moved = [("XADD", self._dead[letter.entry.source], "*", *letter_fields(letter)) for letter in dead]
        self._link.transact([*moved, *acknowledged])
        self._may_have_moved = False

    def _pending_of(self, dead: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Return the letters whose entries are not acknowledged: what acknowledges them writes their letters too."""
        entries = [letter.entry for letter in dead]
        replies = self._link.ask(*(("XPENDING", entry.source, self._group, entry.id, entry.id, 1) for entry in entries))
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return [letter for letter, found in zip(dead, replies, strict=True) if found]

    def _acknowledge(self, commands: Sequence[Command]) -> None:
        for reply in self._link.ask(*commands):
            if isinstance(reply, Exception):
                raise reply

    def _check_dead(self, streams: AbstractSet[str]) -> None:
        """Refuse to write dead letters where something else is stored: a transaction would acknowledge all the same."""
        for stream in streams:
            kind = self._command("TYPE", stream)
            if kind not in {b"stream", b"none"}:
                raise RedisError(f"WRONGTYPE {stream}, for dead letters, is a {kind.decode()}: want a stream")

    def _has_dead_in_hand(self, stream: str) -> bool:
        (groups,) = self._link.ask(("XINFO", "GROUPS", self._dead[stream]))
        if isinstance(groups, Exception):
            if "no such key" in str(groups):
                return False
            raise groups
        return any(group[b"pending"] for group in map(mapping_of, groups))

    def _note_lost(self, stream: str, count: int) -> None:
        if count:
            self.lost += count
            _logger.warning("%d entries of %s were trimmed before they were written", count, stream)

    # Commands

    def _lag(self, stream: str) -> Lag:
        groups, about = (self._command("XINFO", *words, stream) for words in (("GROUPS",), ("STREAM",)))
        told = next((group for group in map(mapping_of, groups) if group[b"name"] == self._group.encode()), None)
        if told is None:
            raise RedisError(f"NOGROUP {stream} has no group {self._group}")
        stream_told = mapping_of(about)
        newest, given = _time_of(stream_told[b"last-generated-id"]), _time_of(told[b"last-delivered-id"])
        if not given and stream_told[b"first-entry"]:  # nobody was given anything yet
            given = _time_of(stream_told[b"first-entry"][0])
        behind = max(0, newest - (given or newest)) / _MS
        return Lag(stream, told.get(b"lag"), told[b"pending"], behind)

    def _command(self, *words: Word) -> Reply:
        return self._link.command(*words)

    @contextmanager
    def _surely(self) -> Iterator[None]:
        """After a failure, look first at what may have been delivered; make groups again that are gone."""
        try:
            yield
        except BaseException as error:
            self._behind = True
            if isinstance(error, RedisError) and "NOGROUP" in str(error):
                _logger.warning("%s: a stream or its group is gone, and is made again", error)
                self.open()
            raise


def _common_slot(streams: Sequence[str]) -> int:
    """Return the slot that all streams are in.

    Raises:
        ConfigurationError: They are in several.
    """
    slots = {stream: slot_of(stream.encode()) for stream in streams}
    if len(set(slots.values())) > 1:
        told = ", ".join(f"{stream} ({slot})" for stream, slot in slots.items())
        raise ConfigurationError(
            f"the streams are in different slots of the cluster: {told}. Run a consumer for each of them, or give their"
            " keys one hash tag, as in {events}:clicks and {events}:orders"
        )
    return next(iter(slots.values()))


def _dead_streams(streams: Sequence[str], suffix: str, *, clustered: bool) -> dict[str, str]:
    """Return the stream of the dead letters of each stream, in a cluster in the same slot.

    Raises:
        ConfigurationError: There is no such key for one of them.
    """
    if not clustered:
        return {stream: stream + suffix for stream in streams}
    found = {}
    for stream in streams:
        slot = slot_of(stream.encode())
        names = (stream + suffix, f"{{{stream}}}{suffix}")
        name = next((each for each in names if slot_of(each.encode()) == slot), None)
        if name is None:
            raise ConfigurationError(
                f"the dead letters of {stream} cannot be in its slot of the cluster: give its key a hash tag, as in"
                " {events}:clicks"
            )
        found[stream] = name
    return found


def letter_fields(letter: DeadLetter) -> list[Word]:
    """Return the fields of a dead letter: those of the entry, and beside them, with @, what it is about.

    A dead letter that was consumed and died again keeps telling where it came from first.
    """
    entry = letter.entry
    pairs = list(zip(entry.fields[::2], entry.fields[1::2], strict=False))
    told = dict(pairs)
    origin = (told.get(b"@stream", entry.source), told.get(b"@id", entry.id))
    return [
        *(word for pair in pairs if not pair[0].startswith(b"@") for word in pair),
        *("@code", letter.code, "@reason", letter.reason),
        *("@stream", origin[0], "@id", origin[1], "@deliveries", entry.deliveries),
    ]


def _by_source(entries: Sequence[Entry]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.source, []).append(entry.id)
    return found


def _entry(stream: str, raw: Any, deliveries: int = 1) -> Entry:
    entry_id = raw[0].decode()
    return Entry(stream, entry_id, int(entry_id[: entry_id.index("-")]), raw[1], deliveries)


def _time_of(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _now() -> float:
    """Return seconds by a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
