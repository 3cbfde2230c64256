"""What the blocking HTTP client and the one for asyncio have in common: everything but the waiting."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from featurestore.clients.exchanges import Exchange
from featurestore.contract import arrow
from featurestore.contract.arguments import lasting_timeout, plain_timeout
from featurestore.errors import (
    BadArgumentsError,
    ConfigurationError,
    DeadlineExceededError,
    InDoubtError,
    UnavailableError,
)
from featurestore.schema.values import shown

_MOST_CONNECTIONS = 100
_IDLE_S = 30.0
_DEFAULT_TIMEOUT_S = 1.0

MakeHeaders = Callable[[], Mapping[str, str]]
"""Returns the header fields that a request is to have, such as those of the request that is being served."""


class Caller:
    """What both clients know of their server, and how they judge a request that failed.

    pyarrow is imported when a client is made, if it is installed: that takes a tenth of a second, which an event loop
    does not have once it serves.
    """

    def __init__(self, base_url: str, timeout: float, request_headers: MakeHeaders | None = None) -> None:
        if request_headers is not None and not callable(request_headers):
            raise ConfigurationError("request_headers is a function that returns header fields, such as X-Request-Id")
        self._request_headers = request_headers
        self._httpx = _import_httpx()
        arrow.is_there()  # imported now, so that no call waits for it
        if not isinstance(base_url, str) or not self._is_base(base_url):
            raise ConfigurationError(f"the base URL must be like http://host:8000, not {shown(base_url)}")
        self._base_url = str.__str__(base_url).rstrip("/")
        self._timeout = lasting_timeout(timeout) or _DEFAULT_TIMEOUT_S

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._base_url}>"

    def _is_base(self, url: str) -> bool:
        try:
            self._httpx.URL(url)
            parts = urlsplit(url)
            known = parts.scheme in {"http", "https"} and parts.port != 0
        except (ValueError, self._httpx.InvalidURL):
            return False
        return bool(known and parts.netloc) and not (parts.query or parts.fragment)

    def _seconds(self, timeout: float | None) -> float:
        """Return how long a call may take: as it says itself, else as its client does."""
        return self._timeout if timeout is None else (plain_timeout(timeout) or self._timeout)

    def _options(self, api_key: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for httpx's client: ours, then what the caller has set."""
        headers = dict(options.get("headers") or {})
        if api_key is not None:
            if not isinstance(api_key, str) or not api_key.isascii() or not api_key.isprintable():
                raise ConfigurationError("an API key is printable ASCII, and this one is not")
            headers["X-API-Key"] = str.__str__(api_key)
        limits = self._httpx.Limits(
            max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS, keepalive_expiry=_IDLE_S
        )
        return {"limits": limits, **options, "headers": headers}

    def _request(self, exchange: Exchange[Any]) -> dict[str, Any]:
        """Return the arguments for httpx's `request` and `stream`."""
        own = {} if self._request_headers is None else dict(self._request_headers())
        return {
            "method": exchange.method,
            "url": self._base_url + exchange.target,
            "content": exchange.body,
            "headers": {**own, **exchange.headers},
        }

    def _judge(self, error: Exception, exchange: Exchange[Any], tries_left: int) -> None:
        """Return when the request may be sent again, else raise what `error` stands for.

        Raises:
            BadArgumentsError: The names asked for are too long for a URL.
            DeadlineExceededError: It took too long.
            UnavailableError: The server cannot be reached, or broke the connection.
            InDoubtError: It broke the connection of a write.
        """
        httpx = self._httpx
        if isinstance(error, httpx.InvalidURL):
            raise BadArgumentsError(f"the request cannot be sent: {error}") from error
        what = f"{exchange.method} {self._base_url}{exchange.target.partition('?')[0]}"
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        doubt = "" if exchange.repeats or unsent else "; whether the write took place is unknown"
        if isinstance(error, httpx.TimeoutException | TimeoutError):
            raise DeadlineExceededError(f"{what} took too long ({type(error).__name__}){doubt}") from error
        broken = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
        if not broken or tries_left == 0:
            kind = InDoubtError if doubt else UnavailableError
            raise kind(f"{what} failed: {error or type(error).__name__}{doubt}") from error


def _import_httpx() -> Any:
    try:
        return importlib.import_module("httpx")
    except ImportError as error:
        raise ConfigurationError("the HTTP client needs httpx: pip install 'redis-featurestore[client]'") from error
