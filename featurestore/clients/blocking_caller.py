"""How `Client` sends a request: by a blocking client of httpx."""

import os
from collections.abc import Iterable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar

from featurestore.clients.calling import Caller, MakeHeaders
from featurestore.clients.exchanges import Exchange
from featurestore.clients.responses import response_of
from featurestore.errors import UnavailableError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

_LEAST_WAIT_S = 0.001
_STEPS = ("connect", "read", "write", "pool")


class BlockingCaller(Caller):
    """Sends requests by `httpx.Client`; `AsyncCaller` is its twin.

    Args:
        base_url: Where the server is, such as `http://features:8000`.
        api_key: Sent as `X-API-Key`; writes need one.
        timeout: The seconds that a call may take in all.
        request_headers: Called for each request; returns header fields to send with it.
        options: Further arguments of `httpx.Client`.
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
        self._make_http = partial(self._httpx.Client, **self._options(api_key, options))
        self._http: httpx.Client = self._make_http()
        self._process = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, exchange: Exchange[T], timeout: float | None) -> T:
        """Send the request, once more where it may be repeated, and return what the response means."""
        deadline = monotonic() + self._seconds(timeout)
        if self._http.is_closed:
            raise UnavailableError("this client is closed")
        if self._process != os.getpid():  # forked: the connections and what arrives on them are the parent's
            self._http, self._process = self._make_http(), os.getpid()
        request = self._request(exchange) | {"extensions": {"timeout": _TimeLeft(deadline)}}
        tries = exchange.tries
        while tries:
            tries -= 1
            try:
                with self._http.stream(**request) as response:
                    body = self._read(response.iter_bytes(), deadline)
            except (self._httpx.RequestError, self._httpx.InvalidURL) as error:
                self._judge(error, exchange, tries)
            else:
                return exchange.read(response_of(response, body))
        known: T = exchange.known
        return known

    def _read(self, pieces: Iterable[bytes], deadline: float) -> bytes:
        read = []
        for piece in pieces:
            read.append(piece)
            if monotonic() > deadline:
                raise self._httpx.ReadTimeout("the time is over and the answer not whole")
        return b"".join(read)


class _TimeLeft(dict[str, float]):
    """The time-outs of httpx's steps: httpx gets one when a step begins, and that is the time left until then."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        super().__init__(dict.fromkeys(_STEPS, self._left()))

    def get(self, _step: str, _default: Any = None) -> float:
        return self._left()

    def _left(self) -> float:
        return max(self._deadline - monotonic(), _LEAST_WAIT_S)
