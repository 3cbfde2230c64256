"""The store for threads: what callers may ask of an entity's features."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from featurestore.contract.arguments import (
    EventTime,
    Rows,
    plain_ids,
    plain_name,
    plain_names,
    plain_timeout,
)
from featurestore.contract.columns import Column, Table
from featurestore.contract.frame_rows import Nulls, Reading, TimeUnit
from featurestore.contract.selection import Fresh, Selection
from featurestore.contract.served import Occasion
from featurestore.contract.upsert_calls import UpsertResult
from featurestore.schema.definition import Definition, as_definition
from featurestore.schema.stored import Schema
from featurestore.schema.types import Row, Value
from featurestore.store.blocking_driver import BlockingDriver
from featurestore.store.query_table import QueryTable
from featurestore.store.results import Description, MaxAge, ReadFrom
from featurestore.store.table import FeatureTable


class FeatureStore(BlockingDriver):
    """An entity's features in Redis, by the Lua scripts; `connect` makes one from a URL.

    Every method may raise `UnavailableError` and its kin when Redis cannot serve, and `NoSchemaError` when no schema
    has been applied.

    One store may be shared by all threads of a process.

    A method's `timeout` is the seconds that the call may take in all, whatever it needs to ask. A call that takes
    longer raises `DeadlineExceededError`; whether a write took place is unknown then. Without `timeout`, each reply may
    take the transport's own time-out: that of writes for methods that write, whatever they ask.

    Two waits have time-outs of the transport's instead: to connect, and to send. Only `SyncTransport` can bound a call;
    other transports refuse `timeout` with `BadArgumentsError`.

    Reads with `read_from="primary"` see every write that was answered before, also where replicas answer reads.

    Args:
        transport: The link to Redis.
        keys: The entity's keys.
        plans: What is known of the entity; made of `keys` when left out.
        writes: Whether all that is asked belongs to writes; see `for_writes`.
        primary_only: Whether no replica is asked; see `from_primary`.
    """

    def entity(self, name: str) -> "FeatureStore":
        """Return the store of another entity over the same transport.

        Raises:
            NoSchemaError: No schema of that name is stored.
        """
        if name == self.keys.entity:
            return self
        return FeatureStore(
            self.transport,
            plans=self._run(self._plans.entity(name)),
            writes=self._writes,
            primary_only=self._primary_only,
        )

    # Reading

    def get(  # noqa: PLR0913 - what a read may ask for
        self,
        entity_id: str,
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> dict[str, Value | None] | None:
        """Return an entity's features by name, None where there is no value; None when the id is unknown.

        Args:
            entity_id: Any text of up to 256 bytes in UTF-8.
            features: The features wanted; all of the packed row when left out.
            service: In their place, the features that the schema lists under this name.
            max_age: Older values are None: a span such as `10m`, or ms. The schema's own `max_age` counts too.
            timeout: See the class.
            read_from: See the class.

        Raises:
            UndeclaredFeatureError: A feature or the service is not declared.
            BadArgumentsError: The id is empty or too long, or an argument cannot be used.
        """
        return self._run(
            self._plans.get(entity_id, features, service, max_age), plain_timeout(timeout), read_from=read_from
        )

    def get_many(  # noqa: PLR0913 - what a read may ask for
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> list[dict[str, Value | None] | None]:
        """Return what `get` returns for each id, in their order, duplicates included, in one round trip.

        Args:
            entity_ids: The ids: any iterable of text.
            features: As in `get`.
            service: As in `get`.
            max_age: As in `get`.
            passed: Values of the caller's own context by name, which take the place of stored ones in the row of every
                id that is known.
            timeout: See the class.
            read_from: See the class.

        Raises:
            UndeclaredFeatureError: A feature or the service is not declared.
            BadArgumentsError: An id is empty or too long, or a passed value is not among the features asked for.
            BadValueError: A passed value is not of its feature's type.
        """
        plan = self._plans.get_many(entity_ids, features, service, max_age, passed)
        return self._run(plan, plain_timeout(timeout), read_from=read_from)

    def describe(  # noqa: PLR0913 - what a read may ask for
        self,
        entity_id: str,
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> Description | None:
        """Return an entity's features with their age and statuses, None when the id is unknown; see `get`."""
        plan = self._plans.describe_many([entity_id], features, service, max_age, None)
        (description,) = self._run(plan, plain_timeout(timeout), read_from=read_from)
        return description

    def describe_many(  # noqa: PLR0913 - what a read may ask for
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> list[Description | None]:
        """Return what `describe` returns for each id, in one round trip; see `get_many`."""
        plan = self._plans.describe_many(entity_ids, features, service, max_age, passed)
        return self._run(plan, plain_timeout(timeout), read_from=read_from)

    def get_json(self, entity_id: str, features: Iterable[str] | None = None) -> bytes | None:
        """Return an entity's id and features as the JSON of a response, None when the id is unknown.

        Arguments and errors are those of `get`.
        """
        return self._run(self._plans.get_json(entity_id, plain_names(features, None)))

    def get_many_json(self, entity_ids: list[str], features: Iterable[str] | None = None) -> bytes:
        """Return the JSON of a list: what `get_json` does for each id, with null features for an unknown one.

        The ids are plain text already. The other arguments and the errors are those of `get_many`.
        """
        return self._run(self._plans.get_many_json(entity_ids, plain_names(features, None)))

    def fetch(self, entity_id: str, features: Iterable[str] | None = None) -> tuple[Selection, Row | None]:
        """Return a selection, which names the columns, and the entity's row; None if the id is unknown.

        Arguments are those of `get_json`.
        """
        return self._run(self._plans.fetch(entity_id, plain_names(features, None)))

    def fetch_many(
        self, entity_ids: list[str], features: Iterable[str] | None = None
    ) -> tuple[Selection, list[Row | None]]:
        """Return a selection, which names the columns, and a row for each id; None for an unknown one.

        Arguments are those of `get_many_json`.
        """
        return self._run(self._plans.fetch_many(entity_ids, plain_names(features, None)))

    def fetch_columns(self, entity_ids: list[str], features: Iterable[str] | None = None) -> tuple[Selection, Table]:
        """Return a selection, which names the columns, and the columns as buffers, with a row for each id.

        Arguments are those of `get_many_json`.
        """
        return self._run(self._plans.fetch_columns(entity_ids, plain_names(features, None)))

    def fetch_fresh(
        self, entity_ids: Iterable[str], features: Iterable[str] | None = None, *, max_age_ms: int | None = None
    ) -> tuple[Selection, list[Fresh | None]]:
        """Return for each id its row with the age and status of each value, by Redis's clock; None for an unknown one.

        Args:
            entity_ids: The ids; duplicates are fine.
            features: The features wanted; all of the packed row when left out.
            max_age_ms: Values older than that are STALE and None, as those beyond the schema's own `max_age` are.
        """
        return self._run(self._plans.fetch_fresh(plain_ids(entity_ids), plain_names(features, None), max_age_ms))

    def fetch_fresh_of(
        self, wanted: Sequence[tuple[str, Sequence[str], Sequence[str]]]
    ) -> list[tuple[Selection, list[Fresh | None]]]:
        """Return what `fetch_fresh` does for each of several entities, in one round trip.

        Args:
            wanted: For each the entity's name, the ids and the features.

        Raises:
            NoSchemaError: An entity has no schema.
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: An id is empty or too long.
        """
        return self._run(self._plans.fetch_fresh_of(wanted))

    @property
    def known_selection(self) -> Selection | None:
        """The selection of all features; None if Redis would have to be asked."""
        return self._plans.selections.get(None)

    def selection_known(self, features: tuple[str, ...]) -> Selection | None:
        """Return the selection of these features, each named once; None if Redis may have to be asked."""
        return self._plans.selections.get(features)

    def service_known(self, name: str) -> tuple[str, ...] | None:
        """Return the features of a service, each once, as `service` does; None if Redis would have to be asked."""
        return self._plans.service_seen(name)

    @property
    def unsure(self) -> bool:
        """Whether the next read by layout has to make sure of the schema, as `get_json` does."""
        return self._plans.unsure

    def has_seen(self, entity: str) -> bool:
        """Return whether that is this entity, or one whose schema was found by its name; nothing is asked."""
        return self._plans.has_seen(entity)

    def versions_seen(self) -> dict[str, int]:
        """Return the version of each entity's schema as last seen, of those that were asked for: entity → version."""
        return self._plans.versions()

    def query(  # noqa: PLR0913 - what a read may ask for
        self,
        rows: Iterable[Mapping[str, str]],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> FeatureTable:
        """Return features of several entities side by side, a row for each of `rows`, in one round trip.

        Args:
            rows: The id of each entity by the entity's name. Where a row has no id of an entity, its features are None
                there, as they are for an unknown id.
            features: `entity:feature`, or the feature alone for this entity.
            service: In their place, what this entity's schema lists under this name; `item:ranking` is what the schema
                of `item` does.
            max_age: As in `get`.
            passed: As in `get_many`, by the names of `features`; in every row.
            timeout: See the class.
            read_from: See the class.

        Returns:
            A table whose columns have the names asked for, and whose ids are texts such as `user:u1 item:i9`.

        Raises:
            UndeclaredFeatureError: A feature or the service is not declared.
            NoSchemaError: An entity has no schema.
            BadArgumentsError: A row names an entity of which no feature is wanted, or an argument cannot be used.
            BadValueError: A passed value is not of its feature's type.
        """
        return self._run(
            self._plans.query(rows, features, service, max_age, passed), plain_timeout(timeout), read_from=read_from
        )

    def query_table(
        self,
        rows: Sequence[Mapping[str, str]],
        names: Sequence[str],
        *,
        max_age_ms: int | None = None,
        metadata: bool = False,
    ) -> QueryTable:
        """Return what `query` does as the HTTP server wants it: with types, statuses and ages.

        Args:
            rows: As in `query`, of plain text.
            names: The features, as in `query`.
            max_age_ms: Values older than that are None.
            metadata: Whether to tell the age and the status of the values.
        """
        return self._run(self._plans.query_table(rows, names, max_age_ms, metadata=metadata))

    def query_json(self, rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> bytes:
        """Return what `query` does as JSON: an object with the names, and a list of values for each row.

        Arguments are those of `query_table`.
        """
        return self._run(self._plans.query_json(rows, names))

    def query_columns(
        self, rows: Sequence[Mapping[str, str]], names: Sequence[str]
    ) -> tuple[dict[str, Column], list[Column]] | None:
        """Return what `query` does as buffers: for each entity which ids are known, and a column for each of `names`.

        None if a row lacks the id of an entity. Arguments are those of `query_table`.
        """
        return self._run(self._plans.query_columns(rows, names))

    # Reading by a service of which is kept what it was served

    def serve(  # noqa: PLR0913 - what a read may ask for
        self,
        service: str,
        entity_ids: Iterable[str],
        *,
        request_id: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> list[dict[str, Value | None] | None]:
        """Return what `get_many` by a service does, and keep what was served, if the schema says so (docs/training.md).

        Which part of the requests is kept is told by the schema. Nothing waits for that: what could not be kept is
        counted, and told in a line of the log.

        Args:
            service: What the schema lists under this name.
            entity_ids: As in `get_many`.
            request_id: The id of the caller's own request, by which what was served is found again. Of all that is
                served under one id, everything is kept or nothing.
            max_age: As in `get_many`.
            passed: As in `get_many`; it is kept, too.
            timeout: See the class.
            read_from: See the class.

        Raises:
            UndeclaredFeatureError: There is no such service.
            BadArgumentsError: As in `get_many`.
            BadValueError: As in `get_many`.
        """
        plan = self._plans.serve(service, entity_ids, request_id, max_age, passed)
        found, served = self._run(plan, plain_timeout(timeout), read_from=read_from)
        self.keep(served)
        return found

    def serve_query(  # noqa: PLR0913 - what a read may ask for
        self,
        service: str,
        rows: Iterable[Mapping[str, str]],
        *,
        request_id: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> FeatureTable:
        """Return what `query` by a service does, and keep what was served, as `serve` does.

        `rows` and what is returned are those of `query`, the other arguments and the errors those of `serve`.
        """
        plan = self._plans.serve_query(service, rows, request_id, max_age, passed)
        table, served = self._run(plan, plain_timeout(timeout), read_from=read_from)
        self.keep(served)
        return table

    def occasion(self, service: str, request_id: str) -> Occasion | None:
        """Return what is to be told of a request by that service, if what it is served is to be kept; else None.

        The features of the service were asked for just now, by `service` or `query_names`. `keep` takes what was
        served; `request_id` is empty for none.
        """
        return self._plans.occasion_of(service, request_id)

    @property
    def served_counts(self) -> tuple[int, int]:
        """How many rows that were served are kept, and how many of those that were chosen are lost."""
        return self._plans.served.kept, self._plans.served.lost

    # Writing

    def upsert(
        self, rows: Rows, *, event_time: EventTime = None, overwrite: bool = False, timeout: float | None = None
    ) -> UpsertResult:
        """Write features of many entities; each row stands or falls by itself.

        Args:
            rows: Pairs of id and features. Two rows of one id are both applied, in order.
            event_time: When the values came to be. A value is left out where a newer one of that feature is stored.
                Without one they count as of now and are always written.
            overwrite: Write values that are older than the stored ones too, for backfills.
            timeout: See the class.

        Raises:
            BadArgumentsError: The event time is not usable.
        """
        return self._run(self._plans.upsert(rows, event_time, overwrite=overwrite), plain_timeout(timeout), writes=True)

    def put(
        self, entity_id: str, features: Mapping[str, Any], *, event_time: EventTime = None, overwrite: bool = False
    ) -> tuple[UpsertResult, Selection | None, Row | None]:
        """Write features of one entity, and read them in the same round trip.

        Return the outcome. If the row was written, also return its selection and the values that a read finds now.
        Arguments and errors are those of `upsert`.
        """
        return self._run(self._plans.put(entity_id, features, event_time, overwrite=overwrite), writes=True)

    def upsert_table(
        self,
        columns: Iterable[str],
        rows: Iterable[Sequence[Any]],
        *,
        event_time: EventTime = None,
        overwrite: bool = False,
        timeout: float | None = None,
    ) -> UpsertResult:
        """Write rows that all have the same columns; see `upsert`.

        Args:
            columns: The features' names; before them there may be `@event_time`.
            rows: Each an id followed by a value for each column.
            event_time: As in `upsert`.
            overwrite: As in `upsert`.
            timeout: See the class.
        """
        plan = self._plans.upsert_table(columns, rows, event_time, overwrite=overwrite)
        return self._run(plan, plain_timeout(timeout), writes=True)

    def write(  # noqa: PLR0913 - what can be said of a table
        self,
        data: Any,
        *,
        id: str | None = None,  # noqa: A002 - the column of the ids
        time_column: str | None = None,
        unit: TimeUnit | None = None,
        event_time: EventTime = None,
        rename: Mapping[str, str] | None = None,
        overwrite: bool = False,
        nulls: Nulls = "remove",
        ignore_undeclared: bool = False,
        timeout: float | None = None,
    ) -> UpsertResult:
        """Write a data frame or another table, a row for each id; each row stands or falls by itself.

        A column for each feature, one of the ids, and perhaps one of event times. A column `FEATURE@event_time` has the
        event times of that feature's values, where they differ from the row's. Values are taken as `upsert` takes them;
        the ids may be ints. `ingest.BulkWriter` writes the same tables, with several calls under way.

        Args:
            data: Whatever has Arrow's C stream interface (pyarrow, polars, duckdb, a `FeatureTable`) or is a record
                batch, a data frame of pandas, a structured array of numpy, or a list or iterator of dicts. A dict that
                lacks a name leaves that feature as it is stored.
            id: The column of the ids; without it, the schema's `join_key`, `<entity>_id` or `id`.
            time_column: The column of event times: moments (without a zone: UTC), numbers, or text of ISO 8601. Without
                it, `@event_time` or `event_time`, if there is one.
            unit: The unit of event times that are numbers: `s`, `ms`, `us` or `ns`; ms if left out.
            event_time: The event time of rows that have none of their own; without one, now, whatever is stored.
            rename: Column → feature, for columns that are called otherwise.
            overwrite: As in `upsert`.
            nulls: What becomes of a feature where a row has no value (null, NaN, NA, NaT or None): `remove` it, or
                `keep` what is stored.
            ignore_undeclared: Leave out columns that are no features; otherwise they are refused, and those of dicts
                reject their rows.
            timeout: See the class.

        Returns:
            What became of the rows; `rejected` has their positions in the table, `counts` how many have each verdict.

        Raises:
            BadArgumentsError: It is no table, a column is missing or no feature, or event times are in another unit.
            ConfigurationError: It takes pyarrow, which is not installed.
        """
        reading = Reading(id, time_column, unit, rename or {}, nulls, ignore_undeclared=ignore_undeclared)
        plan = self._plans.write(data, reading, event_time, overwrite=overwrite)
        return self._run(plan, plain_timeout(timeout), writes=True)

    def record(
        self,
        events: Iterable[tuple[str, Mapping[str, Any]]],
        *,
        event_time: EventTime = None,
        timeout: float | None = None,
    ) -> UpsertResult:
        """Count events in the sliding windows that the schema declares.

        Args:
            events: Pairs of id and the event's numbers; under `@event_time` its own time, under `@event_id` text that
                tells it from others: an event whose id is among the last 64 of its entity is not counted again.
            event_time: When the events were; without one, now.
            timeout: See the class.

        Raises:
            UndeclaredFeatureError: The schema has no sliding window.
            BadArgumentsError: The event time is not usable.
        """
        return self._run(self._plans.record(events, event_time), plain_timeout(timeout), writes=True)

    def increment(
        self,
        entity_id: str,
        amounts: Mapping[str, float],
        *,
        event_time: EventTime = None,
        timeout: float | None = None,
    ) -> dict[str, Value | None] | None:
        """Add to numeric features, all or none, without a read before the write; return their new values.

        None means that the entity was deleted at or after `event_time`.

        Args:
            entity_id: The entity; it need not be known yet.
            amounts: Feature name → what to add; int features take ints.
            event_time: When it happened; without one, now.
            timeout: See the class.

        Raises:
            BadValueError: An amount or a result does not fit the feature.
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: The id or the event time is not usable, or nothing is to be added.
        """
        return self._run(self._plans.increment(entity_id, amounts, event_time), plain_timeout(timeout), writes=True)

    def delete(self, entity_id: str, *, event_time: EventTime = None, timeout: float | None = None) -> bool:
        """Remove an entity's features and its membership; return whether anything was removed.

        For a while, late events up to that time do not bring the entity back.

        Args:
            entity_id: The entity.
            event_time: When it was deleted; what is newer stays. Without one, now.
            timeout: See the class.
        """
        return self._run(self._plans.delete(entity_id, event_time), plain_timeout(timeout), writes=True)

    def count(self) -> int:
        """Return how many ids are known."""
        return self._run(self._plans.count())

    # Schema

    def join_key(self) -> str | None:
        """Return the name of the id in tables, None where the schema does not say."""
        schema = self._run(self._plans.seen_schema())
        return schema.join_key

    def id_name(self) -> str:
        """Return what tables and responses call the id: the schema's `join_key`, else `<entity>_id`."""
        schema = self._run(self._plans.seen_schema())
        return schema.id_name(self.keys.entity)

    def service(self, name: str) -> list[str]:
        """Return the features that the schema lists under that name, those of this entity without its prefix.

        Raises:
            UndeclaredFeatureError: There is no such service.
        """
        return self._run(self._plans.service(plain_name(name, "a service's name")))

    def query_names(self, service: str) -> list[str]:
        """Return what a query by that service asks for; see `query`.

        Raises:
            UndeclaredFeatureError: There is no such service.
            NoSchemaError: The entity that is named has no schema.
        """
        return self._run(self._plans.query_names(plain_name(service, "a service's name")))

    def declared(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return the declared features' types; read anew where one of `names` is not among those last seen."""
        return self._run(self._plans.declared(names))

    def schema(self) -> Schema:
        """Read the schema from Redis and use it from now on.

        Raises:
            NoSchemaError: None is stored.
        """
        return self._run(self._plans.schema())

    def entities(self) -> list[str]:
        """Return the names of all entities that have a schema, be it this store's or another."""
        return self._run(self._plans.entities())

    def apply(
        self, definition: Definition | str | PathLike[str], *, dry_run: bool = False, partitions: int | None = None
    ) -> int:
        """Declare the features of `definition` beside those that are declared already; return the schema's version.

        Args:
            definition: What to declare, or the path of a schema file of this entity.
            dry_run: Whether all is checked and nothing changed; the version is then the one that there would be.
            partitions: In a cluster, how many partitions an entity without a schema is to have, a power of two;
                FEATURESTORE_PARTITIONS if left out. An entity with a schema keeps its number.

        Raises:
            SchemaError: Something in the definition is not allowed, such as a feature's name or a default; or the file
                is of another entity.
            NoSchemaError: It declares no feature, and none is declared already.
            TypeChangeError: A declared feature would get another type. Nothing is changed.
            UndeclaredFeatureError: A service lists a feature that is not declared. An entity without a schema may have
                any.
            BadArgumentsError: There are too many features, or one is being retired.
        """
        declared = as_definition(definition, self.keys.entity)
        return self._run(self._plans.apply(declared, dry_run=dry_run, partitions=partitions), writes=True)
