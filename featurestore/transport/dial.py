"""All that reaches into redis-py: it makes connections, and no other module knows how they look inside.

redis-py has no public way to give a connected socket away, to bound a reply as a whole, or to take an event loop's
transport over. What is used here of its insides may change in any release, so setup.cfg bounds its version and
tests/unit/test_dial.py names whatever is missing. Exceptions of redis-py are mapped here too.
"""

import asyncio
import math
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis._parsers import _HiredisParser
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.utils import SENTINEL

from featurestore.contract.resp import Reply
from featurestore.errors import (
    AccessDeniedError,
    BadReplyError,
    ConfigurationError,
    DeadlineExceededError,
    FeatureStoreError,
    OverloadedError,
    UnavailableError,
    error_from_reply,
)
from featurestore.settings import CallBy
from featurestore.transport.addresses import UNREADABLE, is_unsafe
from featurestore.transport.greeting import Refusal, Role, greeting
from featurestore.transport.pipeline import GIVEN_UP, Failure

PoolT = TypeVar("PoolT")

TROUBLE = (redis.RedisError, OSError)
"""What a connection may raise; `failure_of` maps it."""

_FINAL = (
    redis.TimeoutError,
    redis.AuthenticationError,
    redis.ResponseError,
    redis.exceptions.MaxConnectionsError,
)
"""Failures that another connection would meet as well."""

_OUR_SCHEMES = (
    "Redis URL must specify one of the following schemes (redis://, rediss://, unix://; redis+cluster://,"
    " redis+sentinel://, redis+replicas:// for several servers, or rediss+…)"
)

_ERROR_REPLIES = (redis.ResponseError, redis.BusyLoadingError)

Confirm = Callable[[], bool]
"""Whether a server is still the one to connect to."""

_greeted_by: ContextVar[float] = ContextVar("_greeted_by", default=math.inf)
"""Deadline of the first replies on a new connection, by `time.monotonic`, beside the time-out of each reply."""


# Connections that block


class PooledConnection:
    """A connection taken out of a pool, for one thread.

    Args:
        pool: Where it came from.
        connection: redis-py's.
    """

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: "Pool", connection: Any) -> None:
        self._pool, self._connection = pool, connection

    def send(self, encoded: bytes, timeout: float | None = None) -> None:
        """Send encoded commands, within `timeout` seconds; within the pool's time-out when left out."""
        connection = self._connection
        if timeout is None:
            connection.send_packed_command([encoded], check_health=False)
            return
        connected = connection._sock  # noqa: SLF001 - redis-py has no time-out for what is sent
        connected.settimeout(timeout)
        connection.send_packed_command([encoded], check_health=False)
        connected.settimeout(connection.socket_timeout)

    def read(self, deadline: float | None = None, timeout: float | None = None) -> Reply | FeatureStoreError:
        """Read one reply; an error reply is returned, not raised. After what is raised, the connection is to be closed.

        Args:
            deadline: When it has to be there, by `time.monotonic`.
            timeout: Seconds that it may take where there is no deadline; the pool's time-out when left out.
        """
        read_response = self._connection.read_response
        try:
            if deadline is not None:
                timeout = time_left(deadline)
            if timeout is None:
                return read_response(disable_decoding=True, disconnect_on_error=False)
            return read_response(disable_decoding=True, timeout=timeout, disconnect_on_error=False)
        except _ERROR_REPLIES as error:
            return error_from_reply(reply_text(error))

    def close(self) -> None:
        """Close it. This is a must while replies are under way: the next user would read them as its own."""
        self._connection.disconnect()

    def give_back(self) -> None:
        """Put it back into the pool; if it is closed, free its place."""
        self._pool.take_back(self._connection)


class Pool:
    """Connections for threads; see `open_pool`.

    Args:
        pool: redis-py's.
        greeted: Counts the connections that were made.

    Attributes:
        in_trouble: Whether no connection was to be had when one was last asked for.
    """

    def __init__(self, pool: redis.ConnectionPool, greeted: "_Greeted") -> None:
        self._pool, self._greeted, self._retired = pool, greeted, False
        self.in_trouble = False

    @property
    def in_use(self) -> int:
        """How many connections have been taken out."""
        return len(self._pool._in_use_connections)  # noqa: SLF001 - redis-py gives no other way

    @property
    def connected(self) -> int:
        """How many connections are open."""
        pool: Any = self._pool
        made = [*pool._in_use_connections, *pool._available_connections]  # noqa: SLF001 - likewise
        return sum(each._sock is not None for each in made)  # noqa: SLF001 - likewise

    @property
    def reconnects(self) -> int:
        """Connections made in the place of earlier ones."""
        return max(0, self._greeted.count - self._pool._created_connections)  # noqa: SLF001 - likewise

    def take(self, deadline: float | None = None) -> PooledConnection:
        """Take a connection out, which may have to be made.

        Args:
            deadline: When the first replies on a new connection have to be there, by `time.monotonic`.
        """
        before = _greeted_by.set(math.inf if deadline is None else deadline)
        try:
            connection = self._pool.get_connection()
        except (*TROUBLE, UnicodeError) as error:
            self.in_trouble = True
            if isinstance(error, UnicodeError):
                raise _bad_name(error) from error
            raise
        else:
            self.in_trouble = False
            return PooledConnection(self, connection)
        finally:
            _greeted_by.reset(before)

    def close(self) -> None:
        """Close every connection."""
        self._pool.disconnect()

    def take_back(self, connection: Any) -> None:
        """Put a connection back, for others."""
        if self._retired:
            connection.disconnect()
        self._pool.release(connection)

    def retire(self) -> None:
        """Close the connections that nobody uses, and each of the others when it is given back."""
        self._retired = True
        self._pool.disconnect(inuse_connections=False)


def open_pool(  # noqa: PLR0913 - all but the URL by name
    url: str,
    *,
    timeout: float,
    connect_timeout: float,
    max_connections: int,
    call: CallBy = "scripts",
    role: Role = "any",
    confirm: Confirm | None = None,
) -> Pool:
    """Return a pool of connections to `url`, none of which is made yet; `role` as in `greeting`.

    `confirm` is asked before each connection is used whether the server still is what it was.

    Raises:
        ConfigurationError: The URL, or an option in it, is none of redis-py's.
    """
    greeted = _Greeted(partial(_greet, call=call, role=role, confirm=confirm))
    return Pool(_blocking_pool(url, timeout, connect_timeout, greeted, max_connections=max_connections), greeted)


class _Greeted:
    """Greets new connections, and counts those that may be used.

    Args:
        greet: Asks whether a connection may be used.
    """

    def __init__(self, greet: Callable[[Any], None]) -> None:
        self._greet, self.count = greet, 0

    def __call__(self, connection: Any) -> None:
        self._greet(connection)
        self.count += 1


class SocketDialler:
    """Makes connected sockets, blocking.

    Args:
        url: Redis's address.
        timeout: Seconds that each step may take: to connect, TLS, each reply.
        call: How Redis will run the scripts.
        role: See `greeting`.
    """

    def __init__(self, url: str, *, timeout: float, call: CallBy = "scripts", role: Role = "any") -> None:
        self._pool = _blocking_pool(url, timeout, timeout, partial(_greet, call=call, role=role))

    def dial(self) -> Any:
        """Return a connected and authenticated socket, the caller's from now on."""
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            connection.connect()
            connected, connection._sock = connection._sock, None  # noqa: SLF001 - there is no other way to keep it open
            return connected
        finally:
            connection.disconnect()


def _blocking_pool(
    url: str, timeout: float, connect_timeout: float, greet: Callable[[Any], None], **options: Any
) -> redis.ConnectionPool:
    return _pool_of(
        redis.ConnectionPool.from_url,
        url,
        timeout,
        connect_timeout,
        retry=Retry(NoBackoff(), 0),
        parser_class=_PunctualParser,
        redis_connect_func=greet,
        **options,
    )


# Connections of asyncio


class Stream:
    """A connection of an event loop, whose protocol may be replaced.

    Args:
        connection: redis-py's, whose streams would close it if they were collected.

    Attributes:
        transport: The event loop's.
    """

    __slots__ = ("_connection", "transport")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.transport: asyncio.Transport = connection._writer.transport  # noqa: SLF001 - redis-py gives no other way

    def release(self) -> None:
        """Mark it as closed, so that redis-py does not warn."""
        self._connection._reader = self._connection._writer = None  # noqa: SLF001 - likewise


class StreamDialler:
    """Makes connections of the running event loop.

    Args:
        url: Redis's address.
        timeout: Seconds that a new connection may take, credentials included.
        call: How Redis will run the scripts.
        role: See `greeting`.
    """

    def __init__(self, url: str, *, timeout: float, call: CallBy = "scripts", role: Role = "any") -> None:
        retry = AsyncRetry(NoBackoff(), 0)
        self._pool = _pool_of(redis.asyncio.ConnectionPool.from_url, url, timeout, timeout, retry=retry)
        self._timeout, self._call, self._role = timeout, call, role

    async def dial(self) -> Stream:
        """Return a connection that is ready for commands, the caller's from now on."""
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()
                await _greet_async(connection, self._call, role=self._role)
            _check_open(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return Stream(connection)


async def _greet_async(connection: Any, call: CallBy, role: Role = "any") -> None:
    """Ask whether the connection may be used; see `_greet`."""
    steps, answer = greeting(call, role), None
    try:
        while True:
            await connection.send_command(*steps.send(answer), check_health=False)
            try:
                answer = await connection.read_response(disable_decoding=True, disconnect_on_error=False)
            except _ERROR_REPLIES as error:
                answer = error_from_reply(reply_text(error))
    except StopIteration as end:
        _check_welcome(end.value)


def _check_open(connection: Any) -> None:
    """Raise ConnectionResetError if Redis has closed the connection: the event loop told redis-py, and does so once."""
    if connection._reader.at_eof() or connection._writer.is_closing():  # noqa: SLF001 - redis-py gives no other way
        raise ConnectionResetError("it closed the connection")


# What both have in common


def _pool_of(kind: Callable[..., PoolT], url: str, timeout: float, connect_timeout: float, **options: Any) -> PoolT:
    """Return what `kind`, a `from_url` of redis-py's pools, makes: RESP2, no commands beyond what the URL asks for.

    Raises:
        ConfigurationError: The URL, or an option in it, is none of redis-py's.
    """
    try:
        pool: Any = kind(
            url, driver_info=None, socket_timeout=timeout, socket_connect_timeout=connect_timeout, **options
        )
        pool.connection_kwargs["protocol"] = 2  # whatever the URL says
        # Builds a connection without opening it, to reject unknown URL options.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"cannot use the Redis URL: {_reason(url, error)}") from error
    made: PoolT = pool
    return made


def _reason(url: str, error: Exception) -> str:
    """Return what is wrong with a URL. The parser's text may have a part of the password, and is not shown then."""
    if is_unsafe(url):
        return UNREADABLE
    return _OUR_SCHEMES if "must specify one of" in str(error) else str(error)


def _greet(connection: Any, call: CallBy = "scripts", role: Role = "any", confirm: Confirm | None = None) -> None:
    """Do what redis-py does with a new connection, then ask whether it may be used.

    Raises:
        redis.RedisError: It may not.
    """
    connection.on_connect()
    if confirm is not None and not confirm():
        raise redis.ConnectionError("another server is the primary now")
    steps, answer = greeting(call, role), None
    try:
        while True:
            connection.send_command(*steps.send(answer), check_health=False)
            try:
                answer = connection.read_response(disable_decoding=True, disconnect_on_error=False)
            except _ERROR_REPLIES as error:
                answer = error_from_reply(reply_text(error))
    except StopIteration as end:
        _check_welcome(end.value)


def _check_welcome(refusal: Refusal | None) -> None:
    """Raise if a new connection is of no use."""
    if refusal is not None:
        raise redis.ConnectionError(refusal.reason) if refusal.lost else redis.ResponseError(refusal.reason)


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
        self._until = min(_greeted_by.get(), math.inf if allowed is None else monotonic() + allowed)
        return super().read_response(disable_decoding, push_request, timeout)

    def read_from_socket(self, timeout: Any = SENTINEL, raise_on_timeout: bool = True) -> Any:  # noqa: ARG002, FBT001, FBT002 - redis-py's
        left = self._until - monotonic()
        if left <= 0:
            raise redis.TimeoutError("Timeout reading from socket")
        allowed = None if left == math.inf else left
        return super().read_from_socket(allowed, raise_on_timeout)  # type: ignore[no-untyped-call]  # likewise


# Addresses and errors


def address_of(url: str) -> str:
    """Return `url` without credentials and options, fit for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def reply_text(error: redis.RedisError) -> str:
    """Return an error reply as Redis sent it; redis-py takes the codes it knows off the text."""
    return f"{error.status_code} {error}" if error.status_code else str(error)


def _refused(error: redis.AuthenticationError) -> FeatureStoreError:
    """Return what it means that Redis lets nobody in without the right credentials."""
    known = error_from_reply(reply_text(error))
    if isinstance(known, AccessDeniedError):
        return known
    return AccessDeniedError(f"Redis refused the credentials of its URL: {error}")


def time_left(deadline: float | None) -> float:
    """Return the seconds until then.

    Raises:
        redis.TimeoutError: There are none.
    """
    left = math.inf if deadline is None else deadline - monotonic()
    if left <= 0:
        raise redis.TimeoutError("the call's time is over")
    return left


def _bad_name(error: UnicodeError) -> OSError:
    return OSError(f"the host's name cannot be one: {error}")


def failure_of(error: Exception, *, unsent: bool = False) -> Failure:
    """Return what a failure of a connection that blocks means; `lost` where another connection might serve."""
    meaning = _meaning(error)
    meaning.__cause__ = error
    return Failure(meaning, lost=not isinstance(error, _FINAL), unsent=unsent)


def _meaning(error: Exception) -> FeatureStoreError:
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return DeadlineExceededError(f"Redis did not answer in time: {error}")
    if isinstance(error, redis.InvalidResponse):
        return BadReplyError(f"Redis sent a reply that cannot be read: {error}; {GIVEN_UP}")
    if isinstance(error, redis.exceptions.MaxConnectionsError):
        return OverloadedError(f"every connection to Redis is in use: {error}")
    return connect_error(error)


def connect_error(error: Exception) -> FeatureStoreError:
    """Return what it means that no connection came about."""
    if isinstance(error, redis.AuthenticationError):
        return _refused(error)
    if isinstance(error, redis.ResponseError):
        return error_from_reply(reply_text(error))  # no such database, no permission for SELECT
    return UnavailableError(f"Redis cannot be reached: {str(error) or 'it took too long'}")
