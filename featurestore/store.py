"""The store as Python sees it: get, get_many, upsert, delete and the schema, over any transport."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar

import msgspec

from featurestore.embedded import embedded_url
from featurestore.errors import (
    BadArgumentsError,
    FeatureStoreError,
    SchemaChangedError,
    UndeclaredFeatureError,
)
from featurestore.keys import Keys
from featurestore.schema import Definition, Row, Schema, Selection, Value
from featurestore.scripts import APPLY_SCHEMA, DELETE_ENTITY, GET_FEATURES, GET_FEATURES_BATCH, UPSERT_FEATURES
from featurestore.settings import Settings
from featurestore.text import LEAVE, encode_id
from featurestore.transport import Call, SyncTransport, Transport
from featurestore.upsert import Upsert, UpsertResult

IDS_PER_CALL = 100
"""Most ids or rows in one script call: about 0.5 ms of Redis's one thread, during which nobody else is served."""

_MOST_SELECTIONS = 256
_SCHEMA_RECHECK_S = 1.0

ROWS_PER_WRITE = 2000
"""Most rows whose calls leave in one write."""

Rows = Iterable[tuple[str, Mapping[str, Value | None]]]
"""Ids with their features; None removes a feature, one that is not named stays as it is stored."""


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
        return None if row is None else dict(zip(selection.names, row, strict=True))

    def get_many(
        self, entity_ids: Sequence[str], features: Sequence[str] | None = None
    ) -> list[dict[str, Value | None] | None]:
        """Return what `get` returns for each id, in their order, duplicates included, in one round trip."""
        selection, rows = self.fetch_many(entity_ids, features)
        return [None if row is None else dict(zip(selection.names, row, strict=True)) for row in rows]

    def fetch(self, entity_id: str, features: Sequence[str] | None = None) -> tuple[Selection, Row | None]:
        """Return an entity's row, None when the id is unknown, and the selection that names its columns.

        Arguments and errors are those of `get`.
        """
        raw_id = encode_id(entity_id)
        keys = (self.keys.features(entity_id), self.keys.members, self.keys.schema)

        def read(selection: Selection) -> Row | None:
            reply = self.transport.run(GET_FEATURES, keys, (raw_id, *selection.words))
            return None if reply is None else selection.decode(reply)

        return self._read(features, read)

    def fetch_many(
        self, entity_ids: Sequence[str], features: Sequence[str] | None = None
    ) -> tuple[Selection, list[Row | None]]:
        """Return a row for each id, None for an unknown one, and the selection that names their columns.

        Arguments and errors are those of `get_many`.
        """
        raw_ids = [encode_id(entity_id) for entity_id in entity_ids]
        hashes = [self.keys.features(entity_id) for entity_id in entity_ids]

        def read(selection: Selection) -> list[Row | None]:
            calls: list[Call] = []
            for first in range(0, len(raw_ids), IDS_PER_CALL):
                part = slice(first, first + IDS_PER_CALL)
                keys = (self.keys.members, self.keys.schema, *hashes[part])
                calls.append((keys, (len(selection.words), *selection.words, *raw_ids[part])))
            rows: list[Row | None] = []
            for reply in self.transport.run_many(GET_FEATURES_BATCH, calls):
                if isinstance(reply, FeatureStoreError):
                    raise reply
                rows += selection.decode_many(reply)
            return rows

        return self._read(features, read)

    def _read(self, features: Sequence[str] | None, read: Callable[[Selection], T]) -> tuple[Selection, T]:
        """Read with the schema as last seen; read the schema again when Redis turns out to have another one."""
        selection = self.select(features)
        try:
            return selection, read(selection)
        except (SchemaChangedError, UndeclaredFeatureError, msgspec.ValidationError):
            self.schema()
            selection = self.select(features)
            return selection, read(selection)

    # Writing

    def upsert(self, rows: Rows, *, event_time: int | datetime | None = None) -> UpsertResult:
        """Write features of many entities; each row stands or falls by itself.

        Args:
            rows: Pairs of id and features. Two rows of one id are both applied, in order.
            event_time: When the values came to be: ms since 1970 or an aware datetime. Rows whose stored event time is
                newer are skipped. Without one they count as of now and are always written.

        Raises:
            BadArgumentsError: The event time is not usable.
        """
        rows = list(rows)
        columns = tuple(dict.fromkeys(name for _, features in rows for name in features))
        table = [(entity_id, *(features.get(name, LEAVE) for name in columns)) for entity_id, features in rows]
        return self.upsert_table(columns, table, event_time=event_time)

    def upsert_table(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, event_time: int | datetime | None = None
    ) -> UpsertResult:
        """Write rows that all have the same columns; see `upsert`.

        Args:
            columns: The features' names.
            rows: Each an id followed by a value for each column.
            event_time: As in `upsert`.
        """
        upsert = Upsert(self.keys, self._declared(columns), columns, event_time)
        for first in range(0, len(rows), ROWS_PER_WRITE):
            calls = [
                upsert.call(rows[start : start + IDS_PER_CALL], start)
                for start in range(first, min(first + ROWS_PER_WRITE, len(rows)), IDS_PER_CALL)
            ]
            sent = [call for call in calls if call.positions]
            replies = self.transport.run_many(UPSERT_FEATURES, [(call.keys, call.arguments) for call in sent])
            for call, reply in zip(sent, replies, strict=True):
                upsert.settle(call, reply)
        upsert.result.rejected.sort(key=lambda rejected: rejected.row)
        return upsert.result

    def delete(self, entity_id: str) -> bool:
        """Remove an entity's features and its membership; return whether there was anything to remove."""
        keys = (self.keys.features(entity_id), self.keys.members)
        return bool(self.transport.run(DELETE_ENTITY, keys, (encode_id(entity_id),)))

    def count(self) -> int:
        """Return how many ids are known."""
        return int(self.transport.command("SCARD", self.keys.members))

    # Schema

    def schema(self) -> Schema:
        """Read the schema from Redis and use it from now on.

        Raises:
            NoSchemaError: None is stored.
        """
        reply = self.transport.command("HMGET", self.keys.schema, "@version", "@layout", "@features")
        schema = Schema.from_reply(*reply)
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
        words = [word for pair in definition.features.items() for word in pair]
        return int(self.transport.run(APPLY_SCHEMA, (self.keys.schema,), words))

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
                selection = schema.select(wanted)
            except UndeclaredFeatureError:
                if not self._may_be_outdated():
                    raise
                selection = self.schema().select(wanted)
            if len(self._selections) >= _MOST_SELECTIONS:
                self._selections = {}
            self._selections[wanted] = selection
        return selection

    def _declared(self, columns: Sequence[str]) -> frozenset[str]:
        """Return the declared features, read anew where one of `columns` is not among those last seen."""
        schema = self._schema or self.schema()
        if not schema.features.keys() >= set(columns) and self._may_be_outdated():
            schema = self.schema()
        return frozenset(schema.features)

    def _may_be_outdated(self) -> bool:
        return time.monotonic() - self._schema_read_at > _SCHEMA_RECHECK_S
