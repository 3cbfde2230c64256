"""The store as Python sees it: get, get_many, upsert, delete and the schema, over any transport."""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar

import msgspec

from featurestore.embedded import embedded_url
from featurestore.errors import (
    BadArgumentsError,
    BadValueError,
    FeatureStoreError,
    NoSchemaError,
    SchemaChangedError,
    UndeclaredFeatureError,
)
from featurestore.keys import Keys
from featurestore.packing import Packer
from featurestore.query import Query, Table
from featurestore.schema import Definition, Fresh, Row, Schema, Selection, Value
from featurestore.scripts import (
    APPLY_SCHEMA,
    DELETE_ENTITY,
    GET_FEATURES,
    GET_FEATURES_BATCH,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    UPSERT_FEATURES,
    Script,
)
from featurestore.settings import Settings
from featurestore.text import EVENT_TIME, LEAVE, UnsuitableValueError, encode_id, to_text, to_time
from featurestore.transport import Reply, SyncTransport, Transport
from featurestore.upsert import Upsert, UpsertResult

IDS_PER_CALL = 100
"""Most ids or rows in one script call: about 0.5 ms of Redis's one thread, during which nobody else is served."""

_MOST_SELECTIONS = 256
_SCHEMA_RECHECK_S = 1.0

ROWS_PER_WRITE = 2000
"""Most rows whose calls leave in one write."""

_OUTDATED = (SchemaChangedError, UndeclaredFeatureError, msgspec.ValidationError)
"""What a read meets when Redis has another schema than was last seen."""

Rows = Iterable[tuple[str, Mapping[str, Any]]]
"""Ids with their features; None removes a feature, one that is not named stays as it is stored. A vector is a sequence
of numbers. Under `@event_time` a row may have an event time of its own."""

EventTime = int | str | datetime | None
"""ms since 1970, ISO 8601 text or an aware datetime; None: now."""

_ENTITY = re.compile(r"[A-Za-z_][\w-]{0,63}")
_MOST_ENTITIES = 256


T = TypeVar("T")


class FeatureStore:
    """An entity's features in Redis, by the Lua scripts.

    Every method may raise `UnavailableError` and its kin when Redis cannot serve, and `NoSchemaError` when no schema
    has been applied. One store may be shared by all threads of a process.

    Args:
        transport: The link to Redis.
        keys: The entity's keys.
    """

    def __init__(self, transport: Transport, keys: Keys | None = None) -> None:
        self.transport = transport
        self.keys = keys or Keys()
        self._schema: Schema | None = None
        self._schema_read_at = 0.0
        self._selections: dict[tuple[str, ...] | None, Selection] = {}
        self._entities: dict[str, FeatureStore] = {}

    @classmethod
    def connect(cls, url: str | None = None, *, timeout: float | None = None, keys: Keys | None = None) -> Self:
        """Return a store over blocking connections.

        Args:
            url: Redis's address; without one, the environment's `REDIS_URL` or `REDIS_HOST`, else the embedded server.
            timeout: Seconds a reply may take; without one, FEATURESTORE_TIMEOUT_MS.
            keys: The entity's keys.
        """
        settings = Settings.from_environment()
        transport = SyncTransport(
            url or settings.url or embedded_url(settings.data_dir),
            timeout=timeout or settings.timeout_ms / 1000,
            connect_timeout=settings.connect_timeout_ms / 1000,
        )
        return cls(transport, keys)

    def __repr__(self) -> str:
        return f"<FeatureStore {self.keys.entity} over {self.transport!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self.transport.close()

    def ping(self) -> None:
        """Return when Redis answers; raise `UnavailableError` or its kin when it does not."""
        self.transport.command("PING")

    def entity(self, name: str) -> "FeatureStore":
        """Return the store of another entity over the same transport.

        Raises:
            NoSchemaError: No schema of that name is stored.
        """
        if name == self.keys.entity:
            return self
        store = self._entities.get(name)
        if store is None:
            if not _ENTITY.fullmatch(name):
                raise NoSchemaError(f"{name[:64]!r} is no entity's name")
            store = FeatureStore(self.transport, Keys.of(name))
            members = store.schema().members
            if members:
                store.keys = Keys.of(name, members)
            if len(self._entities) >= _MOST_ENTITIES:
                self._entities = {}
            self._entities[name] = store
        return store

    # Reading

    def get(self, entity_id: str, features: Sequence[str] | None = None) -> dict[str, Value | None] | None:
        """Return an entity's features by name, None where there is no value; None when the id is unknown.

        Args:
            entity_id: Any text of up to 256 bytes in UTF-8.
            features: The features wanted; all declared ones when left out.

        Raises:
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: The id is empty or too long.
        """
        selection, row = self.fetch(entity_id, features)
        return None if row is None else selection.values(row)

    def get_many(
        self, entity_ids: Sequence[str], features: Sequence[str] | None = None
    ) -> list[dict[str, Value | None] | None]:
        """Return what `get` returns for each id, in their order, duplicates included, in one round trip."""
        selection, rows = self.fetch_many(entity_ids, features)
        return [None if row is None else selection.values(row) for row in rows]

    def fetch(self, entity_id: str, features: Sequence[str] | None = None) -> tuple[Selection, Row | None]:
        """Return an entity's row, None when the id is unknown, and the selection that names its columns.

        Arguments and errors are those of `get`.
        """
        raw_id = encode_id(entity_id)

        def read(selection: Selection) -> Row | None:
            reply = self.transport.run_packed(GET_FEATURES, selection.packer.one(raw_id))
            return None if reply is None else selection.decode(reply)

        return self._read(features, read)

    def fetch_many(
        self, entity_ids: Sequence[str], features: Sequence[str] | None = None
    ) -> tuple[Selection, list[Row | None]]:
        """Return a row for each id, None for an unknown one, and the selection that names their columns.

        Arguments and errors are those of `get_many`.
        """

        def read(selection: Selection) -> list[Row | None]:
            replies = self._call_many(selection.packer, entity_ids)
            return [row for reply in replies for row in selection.decode_many(reply)]

        return self._read(features, read)

    def fetch_fresh(
        self, entity_ids: Sequence[str], features: Sequence[str] | None = None, *, max_age_ms: int | None = None
    ) -> tuple[Selection, list[Fresh | None]]:
        """Return for each id its row with the age and status of each value, by Redis's clock; None for an unknown one.

        Args:
            entity_ids: The ids; duplicates are fine.
            features: The features wanted; all of the packed row when left out.
            max_age_ms: Values older than that are STALE and None, as those beyond the schema's own `max_age` are.
        """
        options = ["?metadata"] if max_age_ms is None else ["?metadata", f"?max_age={max_age_ms}"]

        def read(selection: Selection) -> list[Fresh | None]:
            packer = Packer(self.keys, (*options, *selection.words))
            replies = self._call_many(packer, entity_ids)
            return [entry for reply in replies for entry in selection.decode_fresh(reply)]

        return self._read(features, read)

    def fetch_json(self, entity_id: str, features: Sequence[str] | None = None) -> bytes | None:
        """Return an entity's features as the JSON of a response, None when the id is unknown.

        Arguments and errors are those of `get`.
        """
        raw_id = encode_id(entity_id)
        selection = self.select(features)
        try:
            return self._json_of(selection, entity_id, raw_id)
        except _OUTDATED:
            self.schema()
            return self._json_of(self.select(features), entity_id, raw_id)

    def fetch_many_json(self, entity_ids: list[str], features: Sequence[str] | None = None) -> bytes:
        """Return many entities' features as the JSON of a response: a list, with null features for an unknown id.

        Arguments and errors are those of `get_many`.
        """

        def read(selection: Selection) -> bytes:
            return selection.renderer.many(entity_ids, self._call_many(selection.packer, entity_ids))

        return self._read(features, read)[1]

    def query(
        self,
        rows: Sequence[Mapping[str, str]],
        names: Sequence[str],
        *,
        metadata: bool = False,
        max_age_ms: int | None = None,
    ) -> Table:
        """Return features of several entities side by side, in one round trip.

        Args:
            rows: For each row the id of each entity, by the entity's name. Where a row has no id of an entity, its
                features are None there, as they are for an unknown id.
            names: `entity:feature`, or the feature alone for this entity.
            metadata: Whether to tell the age and the status of the values.
            max_age_ms: Values older than that are None.

        Raises:
            UndeclaredFeatureError: A feature is not declared.
            NoSchemaError: An entity has no schema.
            BadArgumentsError: A row names an entity of which no feature is wanted.
        """
        query = Query(self.keys.entity, rows, names, metadata=metadata, max_age_ms=max_age_ms)
        try:
            return self._query(query)
        except _OUTDATED:
            for entity in query.wanted:
                self.entity(entity).schema()
            return self._query(query)

    def _query(self, query: Query) -> Table:
        parts = []
        calls: list[bytes] = []
        for entity, features in query.wanted.items():
            store = self.entity(entity)
            selection = store.select(features)
            packer = Packer(store.keys, (*query.options, *selection.words)) if query.options else selection.packer
            made = _packed_batches(packer, query.ids_of(entity))
            parts.append((entity, selection, len(made)))
            calls += made
        replies = iter(self._batch_replies(calls))
        table = Table(query)
        for entity, selection, count in parts:
            table.add(entity, selection, [next(replies) for _ in range(count)])
        return table

    def _json_of(self, selection: Selection, entity_id: str, raw_id: bytes) -> bytes | None:
        reply = self.transport.run_packed(GET_FEATURES, selection.packer.one(raw_id))
        return None if reply is None else selection.renderer.one(entity_id, reply)

    def _call_many(self, packer: Packer, entity_ids: Sequence[str]) -> list[Reply]:
        """Return the replies of get_features_batch that cover the ids, in order."""
        return self._batch_replies(_packed_batches(packer, entity_ids))

    def _batch_replies(self, packed: list[bytes]) -> list[Reply]:
        replies = self.transport.run_many_packed(GET_FEATURES_BATCH, packed)
        for reply in replies:
            if isinstance(reply, FeatureStoreError):
                raise reply
        return replies

    def _read(self, features: Sequence[str] | None, read: Callable[[Selection], T]) -> tuple[Selection, T]:
        """Read with the schema as last seen; read the schema again when Redis turns out to have another one."""
        selection = self.select(features)
        try:
            return selection, read(selection)
        except _OUTDATED:
            self.schema()
            selection = self.select(features)
            return selection, read(selection)

    # Writing

    def upsert(self, rows: Rows, *, event_time: EventTime = None, overwrite: bool = False) -> UpsertResult:
        """Write features of many entities; each row stands or falls by itself.

        Args:
            rows: Pairs of id and features. Two rows of one id are both applied, in order.
            event_time: When the values came to be. A value is left out where a newer one of that feature is stored.
                Without one they count as of now and are always written.
            overwrite: Write values that are older than the stored ones too, for backfills.

        Raises:
            BadArgumentsError: The event time is not usable.
        """
        columns, table = _table(rows)
        return self.upsert_table(columns, table, event_time=event_time, overwrite=overwrite)

    def upsert_table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        event_time: EventTime = None,
        overwrite: bool = False,
    ) -> UpsertResult:
        """Write rows that all have the same columns; see `upsert`.

        Args:
            columns: The features' names; before them there may be `@event_time`.
            rows: Each an id followed by a value for each column.
            event_time: As in `upsert`.
            overwrite: As in `upsert`.
        """
        declared = self._declared([name for name in columns if name != EVENT_TIME])
        upsert = Upsert(self.keys, declared, columns, event_time, overwrite=overwrite, verdicts=True)
        return self._write(UPSERT_FEATURES, upsert, rows)

    def record(self, events: Iterable[tuple[str, Mapping[str, Any]]], *, event_time: EventTime = None) -> UpsertResult:
        """Count events in the sliding windows that the schema declares.

        Args:
            events: Pairs of id and the event's numbers; under `@event_time` its own time, under `@event_id` text that
                tells it from others: an event whose id is among the last 64 of its entity is not counted again.
            event_time: When the events were; without one, now.

        Raises:
            UndeclaredFeatureError: The schema has no sliding window.
            BadArgumentsError: The event time is not usable.
        """
        columns, table = _table(events)
        fields = dict.fromkeys(columns, "float")
        upsert = Upsert(self.keys, fields, columns, event_time, verdicts=True, options=False)
        return self._write(RECORD_EVENTS, upsert, table)

    def _write(self, script: Script, upsert: Upsert, rows: Sequence[Sequence[Any]]) -> UpsertResult:
        for first in range(0, len(rows), ROWS_PER_WRITE):
            calls = [
                upsert.call(rows[start : start + IDS_PER_CALL], start)
                for start in range(first, min(first + ROWS_PER_WRITE, len(rows)), IDS_PER_CALL)
            ]
            sent = [call for call in calls if call.positions]
            replies = self.transport.run_many(script, [(call.keys, call.arguments) for call in sent])
            for call, reply in zip(sent, replies, strict=True):
                upsert.settle(call, reply)
        return upsert.finish()

    def increment(
        self, entity_id: str, amounts: Mapping[str, float], *, event_time: EventTime = None
    ) -> dict[str, Value | None] | None:
        """Add to numeric features, all or none, without a read before the write; return their new values.

        None means that the entity was deleted at or after `event_time`.

        Args:
            entity_id: The entity; it need not be known yet.
            amounts: Feature name → what to add; int features take ints.
            event_time: When it happened; without one, now.

        Raises:
            BadValueError: An amount or a result does not fit the feature.
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: The id or the event time is not usable, or nothing is to be added.
        """
        if not amounts:
            raise BadArgumentsError("name at least one feature to add to")
        try:
            words = [word for name, amount in amounts.items() for word in (name, to_text(amount))]
        except UnsuitableValueError as error:
            raise BadValueError(str(error)) from None
        keys = (self.keys.members, self.keys.schema, self.keys.features(entity_id))
        reply = self.transport.run(INCREMENT_FEATURES, keys, (encode_id(entity_id), to_time(event_time), *words))
        if reply is None:
            return None
        selection = self.select(list(amounts))
        return selection.values(selection.decode(reply))

    def delete(self, entity_id: str, *, event_time: EventTime = None) -> bool:
        """Remove an entity's features and its membership; return whether anything was removed.

        For a while, late events up to that time do not bring the entity back.

        Args:
            entity_id: The entity.
            event_time: When it was deleted; what is newer stays. Without one, now.
        """
        schema = self._schema or self._try_schema()
        keep = schema.tombstone_ms if schema else 0
        keys = (self.keys.features(entity_id), self.keys.members)
        words = (encode_id(entity_id), to_time(event_time), keep)
        return bool(self.transport.run(DELETE_ENTITY, keys, words) == 1)

    def count(self) -> int:
        """Return how many ids are known."""
        return int(self.transport.command("SCARD", self.keys.members))

    @property
    def join_key(self) -> str | None:
        """The name of the id in tables, where the schema says so."""
        return (self._schema or self.schema()).join_key

    @property
    def id_name(self) -> str:
        """What tables and responses call the id: the schema's `join_key`, else `<entity>_id`."""
        return (self._schema or self.schema()).id_name(self.keys.entity)

    def service(self, name: str) -> list[str]:
        """Return the features that the schema lists under that name.

        Raises:
            UndeclaredFeatureError: There is no such service.
        """
        schema = self._schema or self.schema()
        if self._may_be_outdated():  # no reply of the scripts tells of a list that changed
            self._schema_read_at = time.monotonic()  # one look is enough, for all who ask meanwhile
            schema = self.schema()
        return schema.service(name)

    # Schema

    def schema(self) -> Schema:
        """Read the schema from Redis and use it from now on.

        Raises:
            NoSchemaError: None is stored.
        """
        schema = Schema.from_reply(self.transport.command("HGETALL", self.keys.schema))
        if schema != self._schema:
            self._selections = {}
        self._schema, self._schema_read_at = schema, time.monotonic()
        return schema

    def apply(self, definition: Definition) -> int:
        """Declare the features of `definition` beside those that are declared already; return the schema's version.

        Raises:
            TypeChangeError: A declared feature would get another type. Nothing is changed.
            BadArgumentsError: A feature's name is not allowed, or there are too many.
        """
        return int(self.transport.run(APPLY_SCHEMA, (self.keys.schema,), definition.words()))

    def _try_schema(self) -> Schema | None:
        try:
            return self.schema()
        except NoSchemaError:
            return None

    def select(self, features: Sequence[str] | None = None) -> Selection:
        """Return the selection of `features`, all declared ones when left out; asks Redis only when it must.

        Raises:
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: The list is empty.
        """
        wanted = None if features is None else tuple(dict.fromkeys(features))
        selection = self._selections.get(wanted)
        if selection is None:
            if wanted == ():
                raise BadArgumentsError("name at least one feature, or leave the names out for all")
            schema = self._schema or self.schema()
            try:
                selection = schema.select(wanted, schema.id_name(self.keys.entity))
            except UndeclaredFeatureError:
                if not self._may_be_outdated():
                    raise
                schema = self.schema()
                selection = schema.select(wanted, schema.id_name(self.keys.entity))
            if len(self._selections) >= _MOST_SELECTIONS:
                self._selections = {}
            selection.packer = Packer(self.keys, selection.words)
            self._selections[wanted] = selection
        return selection

    def _declared(self, columns: Sequence[str]) -> Mapping[str, str]:
        """Return the declared features' types, read anew where one of `columns` is not among those last seen."""
        schema = self._schema or self.schema()
        if not schema.features.keys() >= set(columns) and self._may_be_outdated():
            schema = self.schema()
        return schema.features

    def _may_be_outdated(self) -> bool:
        return time.monotonic() - self._schema_read_at > _SCHEMA_RECHECK_S


def _table(rows: Rows) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the names that occur in the rows as columns, the event time first, and the rows with a place for each."""
    rows = list(rows)
    names = dict.fromkeys(name for _, values in rows for name in values)
    columns = tuple(sorted(names, key=lambda name: name != EVENT_TIME))
    return columns, [(entity_id, *(values.get(name, LEAVE) for name in columns)) for entity_id, values in rows]


def _packed_batches(packer: Packer, entity_ids: Sequence[str]) -> list[bytes]:
    """Return the calls of get_features_batch that cover the ids, in order."""
    firsts = range(0, len(entity_ids), IDS_PER_CALL)
    return [packer.many(list(entity_ids[first : first + IDS_PER_CALL])) for first in firsts]
