# Made from featurestore/clients/client.py by tests/generate_twins.py: change that module, then run the program.
"""The client under asyncio for services that ask over HTTP.

A read whose connection breaks is sent once more. A write is not, since it may have taken place.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from featurestore.clients import exchanges, write_exchanges
from featurestore.clients.asyncio_caller import AsyncCaller
from featurestore.clients.exchanges import Wanted
from featurestore.clients.write_exchanges import Tabular
from featurestore.contract.arguments import EventTime, Rows
from featurestore.schema.types import Value
from featurestore.store.results import Description, Health, MaxAge, Outcome, ReadFrom
from featurestore.store.table import FeatureTable, TableRow


class AsyncClient(AsyncCaller):
    """A client of the HTTP server. It keeps its connections open for reuse.

    One client may be shared by all tasks of an event loop.

    Every method may raise `UnavailableError` where the server or its Redis cannot serve, `DeadlineExceededError` where
    either takes too long, and `AccessDeniedError` where the API key does not permit the call.

    `timeout` is the seconds that a call may take in all, a repeat included. A method's own takes the place of the
    client's.

    No call takes longer, whatever the server does.

    `entity` names another entity than the server's default one. Where that has no schema, the call raises
    `NoSchemaError`.

    Args:
        base_url: Where the server is, such as `http://features:8000`.
        api_key: Sent as `X-API-Key`; writes need one.
        timeout: As above.
        request_headers: A function without arguments that returns header fields for a request: `X-Request-Id` and
            `traceparent` of what the caller is doing, so that the server's log and traces tell of it. Errors that the
            server reports have its id of the request as `request_id`.
        options: Further arguments of `httpx.AsyncClient`, such as `verify`, `transport` or `headers`.

    Raises:
        ConfigurationError: httpx is not installed, or an argument is unusable.
    """

    async def get(  # noqa: PLR0913 - what a read may ask for
        self,
        entity_id: str,
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        entity: str | None = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> TableRow:
        """Return an entity's features by name, None where there is no value; None when the id is unknown.

        Args:
            entity_id: Any text of up to 256 bytes in UTF-8.
            features: The features wanted; all of the packed row when left out.
            service: In their place, the features that the schema lists under this name.
            max_age: Values older than that are None: `10m`, or ms.
            entity: See the class.
            timeout: See the class.
            read_from: `primary` to see every write that was answered before, also where replicas answer reads.

        Raises:
            UndeclaredFeatureError: A feature or the service is not declared.
            BadArgumentsError: The id is empty or too long, `features` is empty, or an argument cannot be used.
        """
        return await self._send(
            exchanges.get(entity_id, Wanted.of(features, service, max_age), entity).preferring(read_from), timeout
        )

    async def get_many(  # noqa: PLR0913 - likewise
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        entity: str | None = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> FeatureTable:
        """Return what `get` returns for each id, in their order, duplicates included, by one request.

        Args:
            entity_ids: The ids: any iterable of text.
            features: As in `get`.
            service: As in `get`. When every id is unknown, the table has no columns then.
            max_age: As in `get`.
            passed: Values of the caller's own context by name, which take the place of stored ones in every row.
            entity: See the class.
            timeout: See the class.
            read_from: `primary` to see every write that was answered before, also where replicas answer reads.

        Raises:
            UndeclaredFeatureError: A feature or the service is not declared.
            BadArgumentsError: An id is empty or too long, there are more than the server takes at once (its
                FEATURESTORE_MAX_BATCH), or a passed value is not asked for.
            BadValueError: A passed value is not of its feature's type.
        """
        wanted = Wanted.of(features, service, max_age, passed=passed)
        return await self._send(exchanges.get_many(entity_ids, wanted, entity).preferring(read_from), timeout)

    async def describe(  # noqa: PLR0913 - likewise
        self,
        entity_id: str,
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        entity: str | None = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> Description | None:
        """Return an entity's features with their age and statuses, None when the id is unknown; see `get`."""
        wanted = Wanted.of(features, service, max_age, metadata=True)
        return await self._send(exchanges.describe(entity_id, wanted, entity).preferring(read_from), timeout)

    async def describe_many(  # noqa: PLR0913 - likewise
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        entity: str | None = None,
        timeout: float | None = None,
        read_from: ReadFrom = None,
    ) -> list[Description | None]:
        """Return what `describe` returns for each id, by one request; see `get_many`."""
        wanted = Wanted.of(features, service, max_age, metadata=True, passed=passed)
        return await self._send(exchanges.describe_many(entity_ids, wanted, entity).preferring(read_from), timeout)

    async def query(  # noqa: PLR0913 - likewise
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
        """Return features of several entities side by side, a row for each of `rows`, by one request.

        Args:
            rows: The id of each entity by the entity's name. Where a row has no id of an entity, its features are None
                there, as they are for an unknown id.
            features: `entity:feature`, or the feature alone for the server's default entity.
            service: In their place, what that entity's schema lists under this name; `item:ranking` is what the schema
                of `item` does.
            max_age: As in `get`.
            passed: As in `get_many`, by the names of `features`.
            timeout: See the class.
            read_from: `primary` to see every write that was answered before, also where replicas answer reads.

        Returns:
            A table whose columns have the names asked for, and whose ids are texts such as `user:u1 item:i9`.

        Raises:
            UndeclaredFeatureError: A feature or the service is not declared.
            NoSchemaError: An entity has no schema.
            BadArgumentsError: A row names an entity of which no feature is wanted, or an argument cannot be used.
        """
        return await self._send(
            exchanges.query(rows, Wanted.of(features, service, max_age, passed=passed)).preferring(read_from), timeout
        )

    async def upsert(  # noqa: PLR0913 - what a write is made of
        self,
        entity_id: str,
        features: Mapping[str, Any],
        *,
        event_time: EventTime = None,
        overwrite: bool = False,
        entity: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Write some features of an entity; None removes one, and those that are not named stay.

        Args:
            entity_id: Any text of up to 256 bytes in UTF-8.
            features: Name → value; a vector is a sequence of numbers.
            event_time: When the values came to be: ms since 1970, ISO 8601 or an aware datetime; now when left out.
            overwrite: Write values that are older than the stored ones too.
            entity: See the class.
            timeout: See the class.

        Returns:
            `created`, `applied`, `partly stale`, `duplicate`, or `stale` where newer values are stored for all of them.

        Raises:
            BadValueError: A value is not of its feature's type.
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: The id or the event time is unusable.
        """
        return await self._send(
            write_exchanges.upsert(entity_id, features, event_time, entity, overwrite=overwrite), timeout
        )

    async def upsert_many(
        self,
        rows: Rows | Tabular,
        *,
        event_time: EventTime = None,
        overwrite: bool = False,
        entity: str | None = None,
        timeout: float | None = None,
    ) -> list[Outcome]:
        """Write features of many entities by one request; each row stands or falls by itself.

        Args:
            rows: Pairs of id and features; under `@event_time` a row may have a time of its own. Or, with the extra
                `arrow`, a table or data frame that has Arrow's C stream interface: a column of ids, called as the
                server calls them or `id`, one for each feature, and event times in `@event_time` or `event_time`. A
                null there removes the feature, as None does.
            event_time: As in `upsert`, for the rows that have none.
            overwrite: As in `upsert`.
            entity: See the class.
            timeout: See the class.

        Returns:
            What became of each row, in their order.

        Raises:
            BadArgumentsError: The event time is unusable, the rows are longer than the server takes at once (its
                FEATURESTORE_MAX_BODY_BYTES), or a table has no column of ids, or one of a type that no feature has.
        """
        return await self._send(write_exchanges.upsert_many(rows, event_time, entity, overwrite=overwrite), timeout)

    async def increment(
        self,
        entity_id: str,
        amounts: Mapping[str, float],
        *,
        event_time: EventTime = None,
        entity: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Value | None] | None:
        """Add to numbers, and return them as they are then; None where the entity was deleted later, or is too old.

        Raises:
            BadValueError: An amount is no finite number.
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: The id or the time is unusable, or an amount does not fit the feature's type.
        """
        return await self._send(write_exchanges.increment(entity_id, amounts, event_time, entity), timeout)

    async def record(  # noqa: PLR0913 - all but the first two by name
        self,
        entity_id: str,
        event: Mapping[str, float],
        *,
        event_time: EventTime = None,
        event_id: str | None = None,
        entity: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Count an event in the sliding windows that the schema declares.

        Args:
            entity_id: Any text of up to 256 bytes in UTF-8.
            event: The event's numbers, by the names that the windows sum.
            event_time: When it was; now when left out.
            event_id: Text or an int that tells the event from others: sent again, it is not counted again.
            entity: See the class.
            timeout: See the class.

        Returns:
            `applied`; `created` where it is the first thing known of the entity; `duplicate` where an event of that
            id was counted already; `stale` where it is out of every window, or from before the entity's deletion.

        Raises:
            UndeclaredFeatureError: The schema has no sliding window.
            BadArgumentsError: The id or the event time is unusable.
        """
        return await self._send(write_exchanges.record(entity_id, event, event_time, event_id, entity), timeout)

    async def delete(self, entity_id: str, *, entity: str | None = None, timeout: float | None = None) -> bool:
        """Remove an entity; return whether there was one."""
        return await self._send(write_exchanges.delete(entity_id, entity), timeout)

    async def health(self, *, timeout: float | None = None) -> Health:
        """Return whether the server can serve, and the reason where it cannot."""
        return await self._send(exchanges.health(), timeout)
