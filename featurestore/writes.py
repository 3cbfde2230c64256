"""The plans of the writes, beside those of the reads: see featurestore/plans.py."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from featurestore.errors import BadArgumentsError, BadValueError, NoSchemaError
from featurestore.plans import IDS_PER_CALL, Calls, Command, Plan, ReadPlans, call
from featurestore.replies import reading
from featurestore.scripts import DELETE_ENTITY, INCREMENT_FEATURES, RECORD_EVENTS, UPSERT_FEATURES, Script
from featurestore.text import EVENT_ID, EVENT_TIME, LEAVE, UnsuitableValueError, encode_id, to_text, to_time
from featurestore.transport import pack_call
from featurestore.upsert import Upsert, UpsertResult
from featurestore.values import Value

ROWS_PER_WRITE = 2000
"""Most rows whose calls leave in one write."""

Rows = Iterable[tuple[str, Mapping[str, Any]]]
"""Ids with their features; None removes a feature, one that is not named stays as it is stored. A vector is a sequence
of numbers. Under `@event_time` a row may have an event time of its own."""

EventTime = int | str | datetime | None
"""ms since 1970, ISO 8601 text or an aware datetime; None: now."""


class Plans(ReadPlans):
    """The plans of all that a store of one entity does."""

    def upsert(self, rows: Rows, event_time: EventTime, *, overwrite: bool) -> Plan[UpsertResult]:
        """Write features of many entities; each row stands or falls by itself."""
        columns, table = _table(rows)
        return self.upsert_table(columns, table, event_time, overwrite=overwrite)

    def upsert_table(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]], event_time: EventTime, *, overwrite: bool
    ) -> Plan[UpsertResult]:
        """Write rows that all have the same columns."""
        declared = yield from self.declared([name for name in columns if name != EVENT_TIME])
        options = ("?verdicts", *["?overwrite"] * overwrite)
        upsert = Upsert(self.keys, declared, columns, event_time, options=options, verdicts=True)
        return (yield from _write(UPSERT_FEATURES, upsert, rows))

    def record(self, events: Iterable[tuple[str, Mapping[str, Any]]], event_time: EventTime) -> Plan[UpsertResult]:
        """Count events in the sliding windows that the schema declares."""
        columns, table = _table((entity_id, _without_no_id(event)) for entity_id, event in events)
        fields = dict.fromkeys(columns, "float")
        upsert = Upsert(self.keys, fields, columns, event_time, verdicts=True)
        return _write(RECORD_EVENTS, upsert, table)

    def increment(
        self, entity_id: str, amounts: Mapping[str, float], event_time: EventTime
    ) -> Plan[dict[str, Value | None] | None]:
        """Add to numeric features, all or none; None when the entity was deleted at or after that time."""
        if not amounts:
            raise BadArgumentsError("name at least one feature to add to")
        try:
            words = [word for name, amount in amounts.items() for word in (name, to_text(amount))]
        except UnsuitableValueError as error:
            raise BadValueError(str(error)) from None
        keys = (self.keys.members, self.keys.schema, self.keys.features(entity_id))
        arguments = (encode_id(entity_id), to_time(event_time), *words)
        reply = yield from call(INCREMENT_FEATURES, pack_call(INCREMENT_FEATURES, keys, arguments))
        if reply is None:
            return None
        selection = yield from self.select(list(amounts))
        with reading(INCREMENT_FEATURES.name):
            return selection.values(selection.decode(reply))

    def delete(self, entity_id: str, event_time: EventTime) -> Plan[bool]:
        """Remove an entity's features and its membership; return whether anything was removed."""
        try:
            keep = (yield from self.seen_schema()).tombstone_ms
        except NoSchemaError:
            keep = 0
        keys = (self.keys.features(entity_id), self.keys.members)
        words = (encode_id(entity_id), to_time(event_time), keep)
        return bool((yield from call(DELETE_ENTITY, pack_call(DELETE_ENTITY, keys, words))) == 1)

    def count(self) -> Plan[int]:
        """Return how many ids are known."""
        return int((yield Command(("SCARD", self.keys.members))))


def _write(script: Script, upsert: Upsert, rows: Sequence[Sequence[Any]]) -> Plan[UpsertResult]:
    for first in range(0, len(rows), ROWS_PER_WRITE):
        parts = (
            range(start, min(start + IDS_PER_CALL, len(rows)))
            for start in range(first, min(first + ROWS_PER_WRITE, len(rows)), IDS_PER_CALL)
        )
        calls = [upsert.call(rows[part.start : part.stop], part) for part in parts]
        sent = [call for call in calls if call.positions]
        replies = yield Calls(script, [pack_call(script, call.keys, call.arguments) for call in sent])
        with reading(script.name):
            for each, reply in zip(sent, replies, strict=True):
                upsert.settle(each, reply)
    return upsert.finish()


def _without_no_id(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event without its id where that is None: as a value, None would stand for removal."""
    if EVENT_ID in event and event[EVENT_ID] is None:
        return {name: value for name, value in event.items() if name != EVENT_ID}
    return event


def _table(rows: Rows) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the names that occur in the rows as columns, the event time first, and the rows with a place for each."""
    rows = list(rows)
    names = dict.fromkeys(name for _, values in rows for name in values)
    columns = tuple(sorted(names, key=lambda name: name != EVENT_TIME))
    return columns, [(entity_id, *(values.get(name, LEAVE) for name in columns)) for entity_id, values in rows]
