"""How `AsyncClient` sends a request: by an asynchronous client of httpx."""

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

from featurestore.clients.calling import Caller, MakeHeaders
from featurestore.clients.exchanges import Exchange
from featurestore.clients.responses import response_of
from featurestore.errors import UnavailableError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class AsyncCaller(Caller):
    """Sends requests by `httpx.AsyncClient`; `BlockingCaller` is its twin.

    Args:
        base_url: Where the server is, such as `http://features:8000`.
        api_key: Sent as `X-API-Key`; writes need one.
        timeout: The seconds that a call may take in all.
        request_headers: Called for each request; returns header fields to send with it.
        options: Further arguments of `httpx.AsyncClient`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = 1.0,
        request_headers: MakeHeaders | None = None,
        **options: Any,
    ) -> None:
        super().__init__(base_url, timeout, request_headers)
        self._http: httpx.AsyncClient = self._httpx.AsyncClient(**self._options(api_key, {"timeout": None, **options}))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, exchange: Exchange[T], timeout: float | None) -> T:
        """Send the request, once more where it may be repeated, and return what the response means."""
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
                        return exchange.read(response_of(response, response.content))
        except TimeoutError as error:
            self._judge(error, exchange, 0)
        known: T = exchange.known
        return known
