"""The plans of the writes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from featurestore.contract.arguments import (
    EventTime,
    Rows,
    listed_columns,
    listed_rows,
    listed_values,
    pair_of,
    plain_event_id,
    plain_id_text,
    plain_mapping,
    plain_numbers,
    plain_time,
    time_among,
)
from featurestore.contract.bulk_calls import Bulk, Part
from featurestore.contract.costs import DELETED_US, MOST_US, event_us, increment_us, rows_per_call, upsert_us
from featurestore.contract.frame_rows import Reading
from featurestore.contract.replies import reading as reading_replies
from featurestore.contract.resp import Word, encode_call
from featurestore.contract.scripts import (
    DELETE_ENTITY,
    GET_FEATURES,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    UPSERT_FEATURES,
    WRITE_AND_READ,
    Script,
)
from featurestore.contract.selection import Selection
from featurestore.contract.upsert_calls import RejectedRow, Upsert, UpsertResult
from featurestore.contract.words import EVENT_ID, EVENT_TIME, LEAVE, encode_id, to_text, to_time
from featurestore.errors import (
    BadArgumentsError,
    BadValueError,
    FeatureStoreError,
    NoSchemaError,
    UndeclaredFeatureError,
    UnsuitableValueError,
)
from featurestore.schema.types import Row, Value
from featurestore.schema.values import is_unicode
from featurestore.store.frames import FrameWrite
from featurestore.store.plan import Calls, Command, Plan, T, call, refreshed
from featurestore.store.query import QueryPlans

ROWS_PER_WRITE = 2000
"""Most rows whose calls are made before the first is sent."""

_CALLS_TOGETHER = 4
"""Calls of a bulk write that leave in one write."""

_PLAIN_TIMES = frozenset({int, str, type(None)})


class Given(msgspec.Struct, frozen=True):
    """Rows of a caller in Python's own types: those that can be sent, and those that cannot.

    Attributes:
        rows: Those that can be sent.
        positions: Their positions among all rows.
        rejected: The others.
    """

    rows: Sequence[Any]
    positions: Sequence[int]
    rejected: Sequence[RejectedRow] = ()


class Plans(QueryPlans):
    """The plans of everything that the store of an entity does."""

    def upsert(self, rows: Rows, event_time: EventTime, *, overwrite: bool) -> Plan[UpsertResult]:
        """Write features of many entities; each row stands or falls by itself."""
        given = _given(listed_rows(rows, "pairs of id and features"), _is_plain, _plain_row)
        columns, table = _table(given)
        return self._upsert(columns, table, plain_time(event_time), overwrite=overwrite)

    def upsert_table(
        self, columns: Iterable[str], rows: Iterable[Sequence[Any]], event_time: EventTime, *, overwrite: bool
    ) -> Plan[UpsertResult]:
        """Write rows that all have the same columns."""
        names = listed_columns(columns)
        timed = EVENT_TIME in names[:1]
        listed = listed_rows(rows, "rows of an id and its values")
        table = _given(listed, _is_plain_timed if timed else _is_plain_values, _timed_values if timed else _values)
        return self._upsert(names, table, plain_time(event_time), overwrite=overwrite)

    def write(self, data: Any, reading: Reading, event_time: EventTime, *, overwrite: bool) -> Plan[UpsertResult]:
        """Write a table of whatever library."""
        schema = yield from self.schema()
        frame = FrameWrite(self.keys, schema, reading, plain_time(event_time), overwrite=overwrite)
        for step in frame.steps(data, lambda: MOST_US):
            yield from _run_bulk(step.bulk, step.parts)
            frame.add(step)
        return frame.result

    def _upsert(self, columns: Sequence[str], table: Given, time: Any, *, overwrite: bool) -> Plan[UpsertResult]:
        def write() -> Plan[UpsertResult]:
            upsert, row_us = yield from self._begin(columns, time, overwrite=overwrite)
            return (yield from _write(UPSERT_FEATURES, upsert, table, row_us))

        return (yield from self._by_current_schema(write, lambda result: result))

    def _by_current_schema(self, write: Callable[[], Plan[T]], outcome: Callable[[T], UpsertResult]) -> Plan[T]:
        """Write, and once more where the schema may be the reason that rows were refused, and has changed since.

        A feature may have been retired, and declared again with another type. Rows that were written before are written
        again, which changes nothing.
        """
        seen = yield from self.seen_schema()
        try:
            written = yield from write()
        except (UndeclaredFeatureError, NoSchemaError) as error:
            yield from refreshed(self.schema, error)
            return (yield from write())
        refused = any(row.code == BadValueError.code for row in outcome(written).rejected)
        if refused and self._may_be_outdated() and (yield from self.schema()).features != seen.features:
            return (yield from write())
        return written

    def _begin(self, columns: Sequence[str], time: Any, *, overwrite: bool) -> Plan[tuple[Upsert, float]]:
        """Return an upsert of rows with these columns, with a verdict for each, and what a row takes of Redis."""
        names = [name for name in columns if name != EVENT_TIME]
        declared = yield from self.declared(names)
        options = ("?verdicts", "?overwrite") if overwrite else ("?verdicts",)
        upsert = Upsert(self.keys, declared, columns, time, options=options, verdicts=True)
        return upsert, upsert_us(names, declared)

    def put(
        self, entity_id: str, features: Mapping[str, Any], event_time: EventTime, *, overwrite: bool
    ) -> Plan[tuple[UpsertResult, Selection | None, Row | None]]:
        """Write features of one entity and read them back, in one round trip, to answer with what is stored.

        Return what became of the row, and for a written row the selection and the values that the read found; None if
        the entity is unknown by then.
        """

        def write() -> Plan[tuple[UpsertResult, Selection | None, Row | None]]:
            return self._put(entity_id, features, event_time, overwrite=overwrite)

        return (yield from self._by_current_schema(write, lambda written: written[0]))

    def _put(
        self, entity_id: str, features: Mapping[str, Any], event_time: EventTime, *, overwrite: bool
    ) -> Plan[tuple[UpsertResult, Selection | None, Row | None]]:
        columns, table = _table(Given([(entity_id, features)], range(1)))
        upsert, row_us = yield from self._begin(columns, event_time, overwrite=overwrite)
        write = upsert.call(table.rows, table.positions)
        if not write.positions:
            return upsert.finish(), None, None
        calls = [encode_call(UPSERT_FEATURES, write.keys, write.arguments)]
        selection = None
        if features:
            selection = yield from self.select(list(features))
            calls.append(selection.calls.one(encode_id(entity_id)))
        written, *rest = yield Calls(WRITE_AND_READ, calls, row_us / len(calls))
        with reading_replies(UPSERT_FEATURES.name):
            upsert.settle(write, written)
        result = upsert.finish()
        if selection is None or not result.written:
            return result, None, None
        (found,) = rest
        if isinstance(found, FeatureStoreError):  # the write took place: read again
            return result, *(yield from self.fetch(entity_id, list(features)))
        with reading_replies(GET_FEATURES.name):
            return result, selection, None if found is None else selection.decode(found)

    def record(self, events: Iterable[tuple[str, Mapping[str, Any]]], event_time: EventTime) -> Plan[UpsertResult]:
        """Count events in the sliding windows that the schema declares."""
        columns, table = _table(_given(listed_rows(events, "pairs of id and event"), None, _plain_event))
        fields = {**dict.fromkeys(columns, "float"), EVENT_ID: "string"}
        upsert = Upsert(self.keys, fields, columns, plain_time(event_time), verdicts=True)
        row_us = event_us((yield from self.seen_schema()).features)
        return (yield from _write(RECORD_EVENTS, upsert, table, row_us))

    def increment(
        self, entity_id: str, amounts: Mapping[str, float], event_time: EventTime
    ) -> Plan[dict[str, Value | None] | None]:
        """Add to numeric features, all or none; return None if the entity was deleted at or after that time."""
        entity_id = plain_id_text(entity_id)
        numbers = plain_numbers(amounts, "amounts")
        if not numbers:
            raise BadArgumentsError("name at least one feature to add to")
        declared = yield from self.declared(list(numbers))
        words: list[Word] = []
        for name, amount in numbers.items():
            words += (name, _amount(name, "int" if declared.get(name) == "int" else "float", amount))
        keys = (self.keys.members, self.keys.schema, self.keys.features(entity_id))
        arguments = (encode_id(entity_id), to_time(time_among(amounts, event_time)), *words)
        reply = yield from call(
            INCREMENT_FEATURES, encode_call(INCREMENT_FEATURES, keys, arguments), increment_us(declared)
        )
        if reply is None:
            return None
        selection = yield from self.select(list(numbers))
        with reading_replies(INCREMENT_FEATURES.name):
            return selection.values(selection.decode_named(reply))

    def delete(self, entity_id: str, event_time: EventTime) -> Plan[bool]:
        """Remove an entity's features and its membership; return whether anything was removed."""
        entity_id = plain_id_text(entity_id)
        raw_id, time = encode_id(entity_id), to_time(plain_time(event_time))
        keys = (self.keys.members, self.keys.schema, self.keys.features(entity_id))
        return bool((yield from call(DELETE_ENTITY, encode_call(DELETE_ENTITY, keys, (raw_id, time)), DELETED_US)) == 1)

    def count(self) -> Plan[int]:
        """Return how many ids are known."""
        return int((yield Command(("SCARD", self.keys.members))))


def _write(script: Script, upsert: Upsert, table: Given, row_us: float) -> Plan[UpsertResult]:
    """Write rows that take `row_us` of Redis's time each."""
    rows, positions = table.rows, table.positions
    upsert.result.rejected += table.rejected
    in_call = rows_per_call(row_us)
    together = max(ROWS_PER_WRITE // in_call, 1) * in_call
    for first in range(0, len(rows), together):
        starts = range(first, min(first + together, len(rows)), in_call)
        calls = [upsert.call(rows[at : at + in_call], positions[at : at + in_call]) for at in starts]
        sent = [call for call in calls if call.positions]
        encoded = [encode_call(script, call.keys, call.arguments) for call in sent]
        replies = yield Calls(script, encoded, row_us * in_call, follows=first > 0)
        with reading_replies(script.name):
            for each, reply in zip(sent, replies, strict=True):
                upsert.settle(each, reply)
    return upsert.finish()


def _run_bulk(bulk: Bulk, parts: Iterable[Part]) -> Plan[None]:
    """Send the calls of a bulk write, as many together as Redis takes some ms for."""
    script: Script = UPSERT_FEATURES
    together: list[bytes] = []
    for step in bulk.calls(parts):
        if together and (step is None or step[0] is not script or len(together) == _CALLS_TOGETHER):
            yield from _send(bulk, script, together)
            together = []
        if step is not None:
            script, encoded = step
            together.append(encoded)
    if together:
        yield from _send(bulk, script, together)


def _send(bulk: Bulk, script: Script, encoded: list[bytes]) -> Plan[None]:
    replies = yield Calls(script, encoded, MOST_US, follows=True)
    with reading_replies(script.name):
        for reply in replies:
            bulk.settle(reply)


def _amount(name: str, kind: str, amount: float) -> Word:
    """Return an amount as the script takes it. The script checks whether the feature is numeric."""
    try:
        return to_text(kind, amount)
    except UnsuitableValueError as error:
        raise BadValueError(f"{name} {error}") from None


def _given(rows: list[Any], is_plain: Callable[[Any], bool] | None, plain_of: Callable[[Any], Any]) -> Given:
    """Return rows in Python's own types; `plain_of` is skipped if `is_plain` holds for all."""
    if is_plain is not None and all(map(is_plain, rows)):
        return Given(rows, range(len(rows)))
    plain, positions, rejected = [], [], []
    for position, row in enumerate(rows):
        try:
            plain.append(plain_of(row))
            positions.append(position)
        except (BadArgumentsError, BadValueError) as error:
            rejected.append(RejectedRow(position, error.code or "", str(error)))
    return Given(plain, positions, rejected)


def _is_plain(row: Any) -> bool:
    """Return whether a row is a pair of a str and a dict: the common case, which must be quick."""
    return (
        type(row) is tuple
        and len(row) == 2  # noqa: PLR2004 - a pair
        and type(row[0]) is str
        and type(row[1]) is dict
        and type(row[1].get(EVENT_TIME)) in _PLAIN_TIMES
    )


def _plain_row(row: Any) -> tuple[str, dict[str, Any]]:
    entity_id, features = pair_of(row)
    values = dict(plain_mapping(features, "features"))
    if EVENT_TIME in values:
        values[EVENT_TIME] = time_among(values, None)
    return plain_id_text(entity_id), values


def _plain_event(row: Any) -> tuple[str, dict[str, Any]]:
    entity_id, event = pair_of(row)
    values: dict[str, Any] = plain_numbers(event, "an event")
    time, event_id = time_among(event, None), plain_event_id(event.get(EVENT_ID))
    own = {EVENT_TIME: time, EVENT_ID: event_id}
    return plain_id_text(entity_id), values | {name: value for name, value in own.items() if value is not None}


def _is_plain_values(row: Any) -> bool:
    return type(row) in {tuple, list} and bool(row) and type(row[0]) is str


def _is_plain_timed(row: Any) -> bool:
    return _is_plain_values(row) and len(row) > 1 and type(row[1]) in _PLAIN_TIMES


def _values(row: Any) -> list[Any]:
    entity_id, *values = listed_values(row)
    return [plain_id_text(entity_id), *values]


def _timed_values(row: Any) -> list[Any]:
    entity_id, *values = listed_values(row)
    return [plain_id_text(entity_id), *map(plain_time, values[:1]), *values[1:]]


def _table(given: Given) -> tuple[tuple[str, ...], Given]:
    """Return the names in the rows as columns, the event time first, and the rows with a value for each column."""
    names = dict.fromkeys(name for _, values in given.rows for name in values)
    if not all(type(name) is str and is_unicode(name) for name in names):
        again = _given(list(given.rows), None, _plain_row)
        return _table(Given(again.rows, again.positions, again.rejected))
    columns = tuple(sorted(names, key=lambda name: name != EVENT_TIME))
    rows = [(entity_id, *(values.get(name, LEAVE) for name in columns)) for entity_id, values in given.rows]
    return columns, Given(rows, given.positions, given.rejected)
