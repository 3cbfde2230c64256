"""The client for services that ask over HTTP under asyncio, on httpx; see client.py."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from featurestore.clients import exchanges
from featurestore.clients.calling import Caller
from featurestore.clients.exchanges import Exchange, Wanted
from featurestore.clients.responses import Response
from featurestore.contract.arguments import EventTime, Rows
from featurestore.errors import UnavailableError
from featurestore.schema.types import Value
from featurestore.store.results import Description, Health, MaxAge, Outcome
from featurestore.store.table import FeatureTable, TableRow

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class AsyncClient(Caller):
    """`Client` for asyncio: the same arguments, methods, results and errors, each method to be awaited.

    Here `timeout` holds for a call as a whole, whatever the server does.
    """

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout: float = 1.0, **options: Any) -> None:
        super().__init__(base_url, timeout)
        self._http: httpx.AsyncClient = self._httpx.AsyncClient(**self._options(api_key, {"timeout": None, **options}))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, exchange: Exchange[T], timeout: float | None) -> T:  # noqa: ASYNC109 - of the clients' own
        if self._http.is_closed:
            raise UnavailableError("this client is closed")
        request = self._request(exchange)
        tries = exchange.tries
        try:
            async with asyncio.timeout(self._seconds(timeout)):
                while tries:
                    tries -= 1
                    try:
                        response = await self._http.request(**request)
                    except (self._httpx.RequestError, self._httpx.InvalidURL) as error:
                        self._judge(error, exchange, tries)
                    else:
                        return exchange.read(Response(response.status_code, response.content))
        except TimeoutError as error:
            self._judge(error, exchange, 0)
        known: T = exchange.known
        return known

    async def get(  # noqa: PLR0913 - what a read may ask for
        self,
        entity_id: str,
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> TableRow:
        """Do what `Client.get` does."""
        return await self._send(exchanges.get(entity_id, Wanted.of(features, service, max_age), entity), timeout)

    async def get_many(  # noqa: PLR0913 - likewise
        self,
        ids: Iterable[str],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> FeatureTable:
        """Do what `Client.get_many` does."""
        wanted = Wanted.of(features, service, max_age, passed=passed)
        return await self._send(exchanges.get_many(ids, wanted, entity), timeout)

    async def describe(  # noqa: PLR0913 - likewise
        self,
        entity_id: str,
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Description | None:
        """Do what `Client.describe` does."""
        wanted = Wanted.of(features, service, max_age, metadata=True)
        return await self._send(exchanges.describe(entity_id, wanted, entity), timeout)

    async def describe_many(  # noqa: PLR0913 - likewise
        self,
        ids: Iterable[str],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[Description | None]:
        """Do what `Client.describe_many` does."""
        wanted = Wanted.of(features, service, max_age, metadata=True, passed=passed)
        return await self._send(exchanges.describe_many(ids, wanted, entity), timeout)

    async def query(  # noqa: PLR0913 - likewise
        self,
        rows: Iterable[Mapping[str, str]],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> FeatureTable:
        """Do what `Client.query` does."""
        return await self._send(exchanges.query(rows, Wanted.of(features, service, max_age, passed=passed)), timeout)

    async def upsert(  # noqa: PLR0913 - what a write is made of
        self,
        entity_id: str,
        features: Mapping[str, Any],
        *,
        event_time: EventTime = None,
        overwrite: bool = False,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> str:
        """Do what `Client.upsert` does."""
        return await self._send(exchanges.upsert(entity_id, features, event_time, entity, overwrite=overwrite), timeout)

    async def upsert_many(
        self,
        rows: Rows,
        *,
        event_time: EventTime = None,
        overwrite: bool = False,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[Outcome]:
        """Do what `Client.upsert_many` does."""
        return await self._send(exchanges.upsert_many(rows, event_time, entity, overwrite=overwrite), timeout)

    async def increment(
        self,
        entity_id: str,
        amounts: Mapping[str, float],
        *,
        event_time: EventTime = None,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> dict[str, Value | None] | None:
        """Do what `Client.increment` does."""
        return await self._send(exchanges.increment(entity_id, amounts, event_time, entity), timeout)

    async def record(  # noqa: PLR0913 - all but the first two by name
        self,
        entity_id: str,
        event: Mapping[str, float],
        *,
        event_time: EventTime = None,
        event_id: str | None = None,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> str:
        """Do what `Client.record` does."""
        return await self._send(exchanges.record(entity_id, event, event_time, event_id, entity), timeout)

    async def delete(
        self,
        entity_id: str,
        *,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bool:
        """Do what `Client.delete` does."""
        return await self._send(exchanges.delete(entity_id, entity), timeout)

    async def health(self, *, timeout: float | None = None) -> Health:  # noqa: ASYNC109
        """Do what `Client.health` does."""
        return await self._send(exchanges.health(), timeout)
