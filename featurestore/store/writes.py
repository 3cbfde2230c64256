"""The plans of the writes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from featurestore.contract.bulk_calls import Bulk, BulkCall, Part
from featurestore.contract.costs import DELETED_US, MOST_US, event_us, increment_us, rows_per_call, upsert_us
from featurestore.contract.frame_rows import Reading
from featurestore.contract.partitions import Cut, cuts
from featurestore.contract.replies import reading as reading_replies
from featurestore.contract.resp import Reply, Word, encode_call
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
    UnconfirmedWriteError,
    UndeclaredFeatureError,
    UnsuitableValueError,
)
from featurestore.keys import EntityKeys, PartitionedKeys
from featurestore.schema.types import Row, Value
from featurestore.schema.values import is_unicode
from featurestore.store.frames import FrameWrite
from featurestore.store.plan import Calls, Commands, Plan, T, call, refreshed
from featurestore.store.serve import ServePlans

ROWS_PER_WRITE = 2000
"""Most rows whose calls are made before the first is sent."""

_CALLS_TOGETHER = 4
"""Full calls of a bulk write that leave in one write."""

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


class Plans(ServePlans):
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
            return (yield from _write(UPSERT_FEATURES, upsert, self.keys, table, row_us))

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
            yield from refreshed(self.reread, error)
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
        upsert = Upsert(declared, columns, time, options=options, verdicts=True)
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
        cut = next(cuts(self.keys, table.rows, table.positions, 1), None)
        write = None if cut is None else upsert.call(*cut)
        if write is None or not write.positions:
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
        result.check_confirmed()
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
        time = plain_time(event_time)

        def write() -> Plan[UpsertResult]:
            upsert = Upsert(fields, columns, time, verdicts=True)
            row_us = event_us((yield from self.seen_schema()).features)
            return (yield from _write(RECORD_EVENTS, upsert, self.keys, table, row_us))

        return (yield from self._in_current_partitions(write))

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
        arguments = (encode_id(entity_id), to_time(time_among(amounts, event_time)), *words)
        doubt: UnconfirmedWriteError | None = None
        try:
            reply = yield from self._call_for(INCREMENT_FEATURES, entity_id, arguments, increment_us(declared))
        except UnconfirmedWriteError as error:
            doubt, reply = error, error.result
        values = None
        if reply is not None:
            selection = yield from self.select(list(numbers))
            with reading_replies(INCREMENT_FEATURES.name):
                values = selection.values(selection.decode_named(reply))
        if doubt is not None:
            raise UnconfirmedWriteError(str(doubt), values)
        return values

    def delete(self, entity_id: str, event_time: EventTime) -> Plan[bool]:
        """Remove an entity's features and its membership; return whether anything was removed."""
        entity_id = plain_id_text(entity_id)
        arguments = (encode_id(entity_id), to_time(plain_time(event_time)))
        try:
            return bool((yield from self._call_for(DELETE_ENTITY, entity_id, arguments, DELETED_US)) == 1)
        except UnconfirmedWriteError as error:
            raise UnconfirmedWriteError(str(error), error.result == 1) from error

    def count(self) -> Plan[int]:
        """Return how many ids are known."""
        if isinstance(self.keys, PartitionedKeys):
            yield from self.schema()
        return sum((yield Commands([("SCARD", part.members) for part in self.keys.parts])))

    def _call_for(self, script: Script, entity_id: str, arguments: Sequence[Word], us: float) -> Plan[Reply]:
        """Call a script that writes one entity, which takes about `us` µs of Redis's time."""

        def write() -> Plan[Reply]:
            keys = self.keys.holding(encode_id(entity_id))
            words = (keys.members, keys.schema, keys.features(entity_id))
            return call(script, encode_call(script, words, arguments), us)

        return (yield from self._in_current_partitions(write))

    def _in_current_partitions(self, act: Callable[[], Plan[T]]) -> Plan[T]:
        """Do what an entity's partitions are needed for, in a cluster.

        They are read with the schema; and once more where they have no schema, since the entity may have been dropped
        and declared again with another number of them.
        """
        before = self.keys
        if not isinstance(before, PartitionedKeys):
            return (yield from act())
        if not before.count:
            yield from self.schema()
        try:
            return (yield from act())
        except NoSchemaError as error:
            yield from refreshed(self.schema, error)
            if self.keys == before:
                raise
            return (yield from act())


def _write(script: Script, upsert: Upsert, keys: EntityKeys, table: Given, row_us: float) -> Plan[UpsertResult]:
    """Write rows that take `row_us` of Redis's time each."""
    upsert.result.rejected += table.rejected
    in_call = rows_per_call(row_us)
    most = max(ROWS_PER_WRITE // in_call, 1) * in_call
    follows = False
    for together in _together(cuts(keys, table.rows, table.positions, in_call), most):
        sent = [call for call in (upsert.call(*cut) for cut in together) if call.positions]
        encoded = [encode_call(script, call.keys, call.arguments) for call in sent]
        rows = sum(len(cut.rows) for cut in together) / len(together) if isinstance(keys, PartitionedKeys) else in_call
        replies = yield Calls(script, encoded, row_us * rows, follows=follows)
        follows = True
        with reading_replies(script.name):
            for each, reply in zip(sent, replies, strict=True):
                upsert.settle(each, reply)
    return upsert.finish()


def _together(each: Iterable[Cut], most: int) -> Iterator[list[Cut]]:
    """Yield calls of up to so many rows together."""
    together: list[Cut] = []
    rows = 0
    for cut in each:
        if together and rows + len(cut.rows) > most:
            yield together
            together, rows = [], 0
        together.append(cut)
        rows += len(cut.rows)
    if together:
        yield together


def _run_bulk(bulk: Bulk, parts: Iterable[Part]) -> Plan[None]:
    """Send the calls of a bulk write, as many together as Redis takes some ms for."""
    together: list[BulkCall] = []
    for each in bulk.calls(parts):
        if together and (each is None or each.script is not together[0].script or _are_enough(together)):
            yield from _send(bulk, together)
            together = []
        if each is not None:
            together.append(each)
    if together:
        yield from _send(bulk, together)


def _are_enough(calls: Sequence[BulkCall]) -> bool:
    return len(calls) >= _CALLS_TOGETHER and sum(each.share for each in calls) >= _CALLS_TOGETHER


def _send(bulk: Bulk, calls: Sequence[BulkCall]) -> Plan[None]:
    script = calls[0].script
    each_us = MOST_US * sum(each.share for each in calls) / len(calls)
    replies = yield Calls(script, [each.encoded for each in calls], each_us, follows=True)
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
