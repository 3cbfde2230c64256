"""Clients for services that ask over HTTP, blocking and for asyncio, on httpx.

Both send the same exchanges (featurestore/exchanges.py). A read whose connection breaks is sent once more; a write is
not, since it may have taken place.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from featurestore import exchanges
from featurestore.errors import ConfigurationError, DeadlineExceededError, UnavailableError
from featurestore.exchanges import Answer, Exchange
from featurestore.results import Health, Outcome
from featurestore.schema import Value
from featurestore.table import FeatureTable, TableRow

if TYPE_CHECKING:
    import httpx

    from featurestore.writes import EventTime, Rows  # brings redis along, which callers over HTTP do without

__all__ = ["AsyncClient", "Client", "FeatureTable", "Health", "Outcome"]

T = TypeVar("T")

_MOST_CONNECTIONS = 100
_IDLE_S = 30.0


class _Caller:
    """What both clients know of their server, and how they judge a request that failed."""

    def __init__(self, base_url: str, timeout: float) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
            raise ConfigurationError(f"the base URL must be like http://host:8000, not {base_url!r}")
        self._base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._httpx = _import_httpx()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._base_url}>"

    def _options(self, api_key: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for httpx's client: ours, then what the caller has set."""
        headers = dict(options.get("headers") or {})
        if api_key is not None:
            if not api_key.isascii() or not api_key.isprintable():
                raise ConfigurationError("an API key is printable ASCII, and this one is not")
            headers["X-API-Key"] = api_key
        limits = self._httpx.Limits(
            max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS, keepalive_expiry=_IDLE_S
        )
        return {"limits": limits, **options, "headers": headers}

    def _request(self, exchange: Exchange[Any], timeout: float | None) -> dict[str, Any]:
        """Return the arguments for httpx's `request`."""
        return {
            "method": exchange.method,
            "url": self._base_url + exchange.target,
            "content": exchange.body,
            "headers": exchange.headers,
            "timeout": self._timeout if timeout is None else timeout,
        }

    def _judge(self, error: Exception, exchange: Exchange[Any], tries_left: int) -> None:
        """Return when the request may be sent again, else raise what `error` stands for.

        Raises:
            DeadlineExceededError: It took too long.
            UnavailableError: The server cannot be reached, or broke the connection.
        """
        httpx = self._httpx
        what = f"{exchange.method} {self._base_url}{exchange.target.partition('?')[0]}"
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        doubt = "" if exchange.repeats or unsent else "; whether the write took place is unknown"
        if isinstance(error, httpx.TimeoutException):
            raise DeadlineExceededError(f"{what} took too long ({type(error).__name__}){doubt}") from error
        broken = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
        if not broken or tries_left == 0:
            raise UnavailableError(f"{what} failed: {error or type(error).__name__}{doubt}") from error


class Client(_Caller):
    """A blocking client of the HTTP server; threads may share one, and it keeps its connections open for reuse.

    Every method may raise `UnavailableError` where the server or its Redis cannot serve, `DeadlineExceededError` where
    either takes too long, and `AccessDeniedError` where the API key does not permit the call. `timeout` is the seconds
    that each step may take: to connect, to send, and to wait for a piece of the answer; a method's own takes the place
    of the client's. `entity` names another entity than the server's default one; where it has no schema, that raises
    `NoSchemaError`.

    Args:
        base_url: Where the server is, such as `http://features:8000`.
        api_key: Sent as `X-API-Key`; writes need one.
        timeout: As above.
        options: Further arguments of `httpx.Client`, such as `verify`, `transport` or `headers`.

    Raises:
        ConfigurationError: httpx is not installed, or an argument is unusable.
    """

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout: float = 1.0, **options: Any) -> None:
        super().__init__(base_url, timeout)
        self._http: httpx.Client = self._httpx.Client(**self._options(api_key, options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, exchange: Exchange[T], timeout: float | None) -> T:
        request = self._request(exchange, timeout)
        tries = exchange.tries
        while tries:
            tries -= 1
            try:
                response = self._http.request(**request)
            except self._httpx.RequestError as error:
                self._judge(error, exchange, tries)
            else:
                return exchange.read(Answer(response.status_code, response.content))
        known: T = exchange.known
        return known

    def get(
        self,
        user_id: str,
        features: Sequence[str] | None = None,
        *,
        entity: str | None = None,
        timeout: float | None = None,
    ) -> TableRow:
        """Return an entity's features by name, None where there is no value; None when the id is unknown.

        Args:
            user_id: Any text of up to 256 bytes in UTF-8.
            features: The features wanted; all of the packed row when left out.
            entity: See the class.
            timeout: See the class.

        Raises:
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: The id is empty or too long, or `features` is empty.
        """
        return self._send(exchanges.get(user_id, features, entity), timeout)

    def get_many(
        self,
        ids: Sequence[str],
        features: Sequence[str] | None = None,
        *,
        entity: str | None = None,
        timeout: float | None = None,
    ) -> FeatureTable:
        """Return what `get` returns for each id, in their order, duplicates included, by one request.

        Raises:
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: An id is empty or too long, or there are more than the server takes at once
                (its FEATURESTORE_MAX_BATCH).
        """
        return self._send(exchanges.get_many(ids, features, entity), timeout)

    def upsert(  # noqa: PLR0913 - what a write is made of
        self,
        user_id: str,
        features: Mapping[str, Any],
        *,
        event_time: "EventTime" = None,
        overwrite: bool = False,
        entity: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Write some features of an entity; None removes one, and those that are not named stay.

        Args:
            user_id: Any text of up to 256 bytes in UTF-8.
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
        return self._send(exchanges.upsert(user_id, features, event_time, entity, overwrite=overwrite), timeout)

    def upsert_many(
        self,
        rows: "Rows",
        *,
        event_time: "EventTime" = None,
        overwrite: bool = False,
        entity: str | None = None,
        timeout: float | None = None,
    ) -> list[Outcome]:
        """Write features of many entities by one request; each row stands or falls by itself.

        Args:
            rows: Pairs of id and features; under `@event_time` a row may have a time of its own.
            event_time: As in `upsert`, for the rows that have none.
            overwrite: As in `upsert`.
            entity: See the class.
            timeout: See the class.

        Returns:
            What became of each row, in their order.

        Raises:
            BadArgumentsError: The event time is unusable, or the rows are longer than the server takes at once
                (its FEATURESTORE_MAX_BODY_BYTES).
        """
        return self._send(exchanges.upsert_many(rows, event_time, entity, overwrite=overwrite), timeout)

    def increment(
        self,
        user_id: str,
        amounts: Mapping[str, float],
        *,
        event_time: "EventTime" = None,
        entity: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Value | None] | None:
        """Add to numbers, and return them as they are then; None where the entity was deleted at a later time.

        Raises:
            BadValueError: An amount is not finite.
            UndeclaredFeatureError: A feature is not declared.
            BadArgumentsError: The id or the time is unusable, or an amount does not fit the feature's type.
        """
        return self._send(exchanges.increment(user_id, amounts, event_time, entity), timeout)

    def delete(self, user_id: str, *, entity: str | None = None, timeout: float | None = None) -> bool:
        """Remove an entity; return whether there was one."""
        return self._send(exchanges.delete(user_id, entity), timeout)

    def health(self, *, timeout: float | None = None) -> Health:
        """Return whether the server can serve, and the reason where it cannot."""
        return self._send(exchanges.health(), timeout)


class AsyncClient(_Caller):
    """`Client` for asyncio: the same arguments, methods, results and errors, each method to be awaited."""

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout: float = 1.0, **options: Any) -> None:
        super().__init__(base_url, timeout)
        self._http: httpx.AsyncClient = self._httpx.AsyncClient(**self._options(api_key, options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, exchange: Exchange[T], timeout: float | None) -> T:  # noqa: ASYNC109 - httpx's, a step
        request = self._request(exchange, timeout)
        tries = exchange.tries
        while tries:
            tries -= 1
            try:
                response = await self._http.request(**request)
            except self._httpx.RequestError as error:
                self._judge(error, exchange, tries)
            else:
                return exchange.read(Answer(response.status_code, response.content))
        known: T = exchange.known
        return known

    async def get(
        self,
        user_id: str,
        features: Sequence[str] | None = None,
        *,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> TableRow:
        """Do what `Client.get` does."""
        return await self._send(exchanges.get(user_id, features, entity), timeout)

    async def get_many(
        self,
        ids: Sequence[str],
        features: Sequence[str] | None = None,
        *,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> FeatureTable:
        """Do what `Client.get_many` does."""
        return await self._send(exchanges.get_many(ids, features, entity), timeout)

    async def upsert(  # noqa: PLR0913 - what a write is made of
        self,
        user_id: str,
        features: Mapping[str, Any],
        *,
        event_time: "EventTime" = None,
        overwrite: bool = False,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> str:
        """Do what `Client.upsert` does."""
        return await self._send(exchanges.upsert(user_id, features, event_time, entity, overwrite=overwrite), timeout)

    async def upsert_many(
        self,
        rows: "Rows",
        *,
        event_time: "EventTime" = None,
        overwrite: bool = False,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[Outcome]:
        """Do what `Client.upsert_many` does."""
        return await self._send(exchanges.upsert_many(rows, event_time, entity, overwrite=overwrite), timeout)

    async def increment(
        self,
        user_id: str,
        amounts: Mapping[str, float],
        *,
        event_time: "EventTime" = None,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> dict[str, Value | None] | None:
        """Do what `Client.increment` does."""
        return await self._send(exchanges.increment(user_id, amounts, event_time, entity), timeout)

    async def delete(
        self,
        user_id: str,
        *,
        entity: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bool:
        """Do what `Client.delete` does."""
        return await self._send(exchanges.delete(user_id, entity), timeout)

    async def health(self, *, timeout: float | None = None) -> Health:  # noqa: ASYNC109
        """Do what `Client.health` does."""
        return await self._send(exchanges.health(), timeout)


def _import_httpx() -> Any:
    try:
        return importlib.import_module("httpx")
    except ImportError as error:
        raise ConfigurationError("the HTTP client needs httpx: pip install 'redis-featurestore[client]'") from error
