"""How connections to Redis come about, by redis-py: its pools as the transports want them, and the first words said."""

import math
import re
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
from redis._parsers import _HiredisParser
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry
from redis.utils import SENTINEL

from featurestore.errors import AccessDeniedError, ConfigurationError, FeatureStoreError, error_from_reply

PoolT = TypeVar("PoolT")

greeted_by: ContextVar[float] = ContextVar("greeted_by", default=math.inf)
"""When the first replies on a new connection have to be there, by `time.monotonic`, whatever a reply may take else."""


def open_pool(url: str, *, timeout: float, connect_timeout: float, max_connections: int) -> ConnectionPool:
    """Return redis-py's pool for `url`; see `pool_of`."""
    retry = Retry(NoBackoff(), 0)
    return pool_of(
        ConnectionPool.from_url,
        url,
        timeout,
        connect_timeout,
        retry=retry,
        max_connections=max_connections,
        parser_class=_PunctualParser,
        redis_connect_func=_greet,
    )


def pool_of(kind: Callable[..., PoolT], url: str, timeout: float, connect_timeout: float, **options: Any) -> PoolT:
    """Return what `kind`, a `from_url` of redis-py's pools, makes: RESP2, no commands beyond what the URL asks for.

    Raises:
        ConfigurationError: The URL, or an option in it, is none of redis-py's.
    """
    try:
        pool: Any = kind(
            url, driver_info=None, socket_timeout=timeout, socket_connect_timeout=connect_timeout, **options
        )
        pool.connection_kwargs["protocol"] = 2  # whatever the URL says
        pool.connection_class(**pool.connection_kwargs)  # not opened: this rejects unknown URL options
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"cannot use the Redis URL: {_reason(url, error)}") from error
    made: PoolT = pool
    return made


def _reason(url: str, error: Exception) -> str:
    """Return what is wrong with a URL, without a part of its password, which the parser's text may have."""
    rest = url.partition("://")[2]
    if "@" in rest and "@" not in re.split("[/?#]", rest, maxsplit=1)[0]:
        return "it cannot be parsed; in a password, / ? # @ are written as %2F %3F %23 %40"
    return str(error)


def _greet(connection: Any) -> None:
    """Do what redis-py does with a new connection, then ask whether it may be used.

    Redis cuts off whoever sends it something as large as a script before the password, without saying why. And TLS 1.3
    sends tickets behind its handshake: where nothing has been read yet, redis-py takes them for a reply that nobody
    waits for, and the connection for unusable.

    Raises:
        redis.RedisError: It may not.
    """
    connection.on_connect()
    connection.send_command("PING", check_health=False)
    try:
        check_pong(connection.read_response(disconnect_on_error=False))
    except (redis.ResponseError, redis.BusyLoadingError) as error:
        check_pong(error)


def check_pong(answer: object) -> None:
    """Return where the answer to the first PING on a connection lets calls follow.

    Other errors than these may concern PING alone, or be over soon: the calls will meet them if they matter.

    Raises:
        redis.ResponseError: Redis talks to nobody from here.
        redis.ConnectionError: It is no answer to PING.
    """
    if isinstance(answer, Exception):
        if str(answer).startswith("DENIED"):
            raise answer
    elif answer not in ("PONG", b"PONG"):
        raise redis.ConnectionError(f"PING was answered with {str(answer)[:100]!r}")


class _PunctualParser(_HiredisParser):
    """redis-py's parser, where a time-out is for a reply as a whole, not for each piece of it that arrives."""

    _until = math.inf

    def on_connect(self, connection: Any, **options: Any) -> None:
        super().on_connect(connection, **options)  # type: ignore[no-untyped-call]  # redis-py has no types there
        self._hiredis_PushNotificationType = None  # nobody asks for pushed messages: they are not to be skipped

    def read_response(
        self,
        disable_decoding: bool = False,  # noqa: FBT001, FBT002 - redis-py's signature
        push_request: bool = False,  # noqa: FBT001, FBT002 - likewise
        timeout: Any = SENTINEL,
    ) -> Any:
        allowed = self._socket_timeout if timeout is SENTINEL else timeout
        self._until = min(greeted_by.get(), math.inf if allowed is None else monotonic() + allowed)
        return super().read_response(disable_decoding, push_request, timeout)

    def read_from_socket(self, timeout: Any = SENTINEL, raise_on_timeout: bool = True) -> Any:  # noqa: ARG002, FBT001, FBT002 - redis-py's
        left = self._until - monotonic()
        if left <= 0:
            raise redis.TimeoutError("Timeout reading from socket")
        allowed = None if left == math.inf else left
        return super().read_from_socket(allowed, raise_on_timeout)  # type: ignore[no-untyped-call]  # likewise


def address_of(url: str) -> str:
    """Return `url` without credentials and options, fit for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def reply_text(error: redis.RedisError) -> str:
    """Return an error reply as Redis sent it; redis-py takes the codes it knows off the text."""
    return f"{error.status_code} {error}" if error.status_code else str(error)


def refused(error: redis.AuthenticationError) -> FeatureStoreError:
    """Return what it means that Redis lets nobody in without the right credentials."""
    known = error_from_reply(reply_text(error))
    if isinstance(known, AccessDeniedError):
        return known
    return AccessDeniedError(f"Redis refused the credentials of its URL: {error}")
