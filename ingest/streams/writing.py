"""Writes of entries into the store: grouped by what they give, in an order that keeps that of each entity."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from featurestore.contract.costs import event_us, increment_us, rows_per_call
from featurestore.contract.partitions import cuts
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import COUNT_ENTRIES
from featurestore.contract.upsert_calls import Upsert, UpsertResult
from featurestore.contract.words import EVENT_ID, EVENT_TIME
from featurestore.settings import CallBy
from featurestore.store.blocking import FeatureStore

from ..writer import BulkWriter  # noqa: TID252 - the package has one name in a wheel and another in a checkout
from .decoding import Kind, Write
from .interface import DeadLetter, Entry, id_numbers

_ENTRY_ID = "@entry_id"
_SCAN_COUNT = 500
_OPTIONS: dict[Kind, str] = {"increments": "?increments", "events": "?events"}

write_rows = BulkWriter.write_table
"""Writes rows that have the same columns."""


class Group(msgspec.Struct):
    """Entries that leave together.

    Attributes:
        kind: What they write.
        columns: What they give.
        source: By which they are counted once; empty for rows.
        rows: A row of each.
        entries: The entries.
    """

    kind: Kind
    columns: tuple[str, ...]
    source: str
    rows: list[list[Any]]
    entries: list[Entry]


def grouped(writes: Iterable[tuple[Entry, Write]]) -> list[Group]:
    """Return writes in groups. No group has a write of an entity for which a later group has an earlier one."""
    groups: list[Group] = []
    open_groups: dict[tuple[Kind, tuple[str, ...], str], int] = {}
    last_of: dict[str, int] = {}
    for entry, (kind, columns, row, (source, entry_id)) in writes:
        key = kind, columns, "" if kind == "rows" else source
        if kind != "rows":
            row.insert(2, entry_id)
        number = open_groups.get(key, -1)
        if number < last_of.get(row[0], 0):
            number = open_groups[key] = len(groups)
            groups.append(Group(*key, [], []))
        last_of[row[0]] = number
        groups[number].rows.append(row)
        groups[number].entries.append(entry)
    return groups


class Target:
    """An entity of the store, for a consumer.

    Args:
        url: The store's Redis.
        entity: Whose features.
        timeout: Seconds that each reply may take.
        call: How Redis runs the scripts.
        fair: Whether rows leave most of Redis's time to others while it serves some; other consumers are such too.
    """

    def __init__(self, url: str, entity: str, *, timeout: float, call: CallBy, fair: bool = False) -> None:
        self._url, self._entity, self._timeout, self._call, self._fair = url, entity, timeout, call, fair
        self._opened: BulkWriter | None = None

    def open(self) -> None:
        """Find the entity.

        Raises:
            NoSchemaError: It has no schema.
        """
        with FeatureStore.connect(self._url, timeout=self._timeout, call=self._call) as store:
            keys = store.entity(self._entity).keys
        self._opened = BulkWriter(self._url, keys=keys, timeout=self._timeout, call=self._call, fair=self._fair)
        self.store.schema()

    @property
    def store(self) -> FeatureStore:
        """The entity's store."""
        return self._writer.store

    @property
    def _writer(self) -> BulkWriter:
        if self._opened is None:
            raise RuntimeError("open() comes first")
        return self._opened

    def write(self, group: Group) -> tuple[UpsertResult, list[DeadLetter]]:
        """Write a group; return what became of it, and the entries that were rejected.

        What was written may be written again: rows do not undo newer ones, and the others count once.
        """
        if group.kind == "rows":
            result = write_rows(self._writer, (EVENT_TIME, *group.columns), group.rows)
        else:
            result = self._count(group)
        return result, [DeadLetter(group.entries[each.row], each.code, each.reason) for each in result.rejected]

    def forget(self, groups: Iterable[Group]) -> None:
        """Take entries that cannot be delivered again out of what is known as counted."""
        for group in groups:
            if group.kind != "rows":
                keys = self.store.keys
                for cut in cuts(keys, group.rows, range(len(group.rows)), len(group.rows)):
                    counted = cut.keys.counted(group.source)
                    self.store.transport.command("SREM", counted, *(row[2] for row in cut.rows))

    def forget_below(self, source: str, bound: tuple[int, ...]) -> None:
        """Take entries of a source whose ids are below `bound` out of what is known as counted."""
        for part in self.store.keys.parts:
            key, cursor = part.counted(source), b""
            while cursor != b"0":
                cursor, listed = self.store.transport.command("SSCAN", key, cursor or "0", "COUNT", _SCAN_COUNT)
                old = [each for each in listed if (id_numbers(each) or bound) < bound]
                if old:
                    self.store.transport.command("SREM", key, *old)

    def ping(self) -> None:
        """Raise an error where the store does not answer."""
        self.store.schema()

    def close(self) -> None:
        """Give the connections back."""
        if self._opened is not None:
            self._opened.close()

    def _count(self, group: Group) -> UpsertResult:
        """Count increments or events, each entry once."""
        features = self.store.schema().features
        is_event = group.kind == "events"
        named = features if not is_event else {**dict.fromkeys(group.columns, "float"), EVENT_ID: "string"}
        columns = (EVENT_TIME, _ENTRY_ID, *group.columns)
        upsert = Upsert({**named, _ENTRY_ID: "string"}, columns, None, options=(_OPTIONS[group.kind],), verdicts=True)
        in_call = rows_per_call(event_us(features) if is_event else increment_us(features))
        sent, encoded = [], []
        for cut in cuts(self.store.keys, group.rows, range(len(group.rows)), in_call):
            call = upsert.call(*cut)
            if call.positions:
                sent.append(call)
                keys = _with_counted(call.keys, cut.keys.counted(group.source))
                encoded.append(encode_call(COUNT_ENTRIES, keys, call.arguments))
        for call, reply in zip(sent, self.store.transport.run_many_encoded(COUNT_ENTRIES, encoded), strict=True):
            upsert.settle(call, reply)
        self._writer.note_own(len(sent))
        result = upsert.finish()
        result.check_confirmed()  # the group is written again: no entry counts twice
        return result


def _with_counted(keys: Sequence[Any], counted: str) -> list[Any]:
    return [*keys[:2], counted, *keys[2:]]
