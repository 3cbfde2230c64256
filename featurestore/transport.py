"""How calls of scripts reach Redis: the interface, and the blocking transport for libraries, tools and threads."""

from collections.abc import Sequence
from typing import Any, Protocol

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool
from redis.retry import Retry

from featurestore.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadlineExceededError,
    FeatureStoreError,
    UnavailableError,
    error_from_reply,
)
from featurestore.scripts import SCRIPTS, Script

Word = str | bytes | int
"""One word of a command; text goes out as UTF-8."""

Reply = Any
"""A decoded RESP2 reply: bytes, int, None or a list of replies."""

Call = tuple[Sequence[Word], Sequence[Word]]
"""KEYS and ARGV of one call."""


class Transport(Protocol):
    """One logical link to Redis, safe to share between the threads or greenlets that it is made for.

    Errors: `UnavailableError` and its kin when Redis cannot be reached or does not answer in time, else what
    `error_from_reply` makes of the reply. NOSCRIPT is never seen: the script is loaded and the call repeated once.
    """

    def run(self, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Reply:
        """Call `script` once: one EVALSHA, one round trip."""

    def run_many(self, script: Script, calls: Sequence[Call]) -> list[Reply | FeatureStoreError]:
        """Call `script` once for each of `calls`, all in one write, and return their replies in order.

        An error reply to one call stands in its place as an exception; the others are unaffected. Only failures of
        the link itself are raised.
        """

    def command(self, *words: Word) -> Reply:
        """Run one plain command, such as PING."""

    def close(self) -> None:
        """Give the connections back; later calls may open new ones."""


def pack_call(script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> bytes:
    """Return EVALSHA with `keys` and `arguments` as RESP."""
    packed: bytes = hiredis.pack_command(("EVALSHA", script.sha, len(keys), *keys, *arguments))
    return packed


def load_commands() -> list[bytes]:
    """Return the SCRIPT LOAD commands that put every script into a server's cache."""
    return [hiredis.pack_command(("SCRIPT", "LOAD", script.source)) for script in SCRIPTS]


def open_pool(url: str, *, timeout: float, connect_timeout: float, max_connections: int) -> ConnectionPool:
    """Return redis-py's pool for `url`: RESP2, no retries of its own, no commands beyond what the URL asks for."""
    try:
        return ConnectionPool.from_url(
            url,
            protocol=2,
            driver_info=None,
            socket_timeout=timeout,
            socket_connect_timeout=connect_timeout,
            retry=Retry(NoBackoff(), 0),
            max_connections=max_connections,
        )
    except ValueError as error:
        raise ConfigurationError(f"cannot use the Redis URL: {error}") from error


class SyncTransport:
    """Blocking calls over a pool of redis-py connections: one connection for each thread that is in a call.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with credentials, database and TLS options as redis-py takes them.
        timeout: Seconds that one reply may take to arrive.
        connect_timeout: Seconds that a new connection may take.
        max_connections: Upper bound of the pool.
    """

    def __init__(self, url: str, *, timeout: float, connect_timeout: float, max_connections: int = 64) -> None:
        self._pool = open_pool(url, timeout=timeout, connect_timeout=connect_timeout, max_connections=max_connections)

    def __repr__(self) -> str:
        return f"<SyncTransport {self._pool!r}>"

    def run(self, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Reply:
        """Call `script` once; see `Transport.run`."""
        (reply,) = self.run_many(script, [(keys, arguments)])
        if isinstance(reply, FeatureStoreError):
            raise reply
        return reply

    def run_many(self, script: Script, calls: Sequence[Call]) -> list[Reply | FeatureStoreError]:
        """Call `script` for each of `calls` in one write; see `Transport.run_many`."""
        packed = [pack_call(script, keys, arguments) for keys, arguments in calls]
        return self._exchange(packed, repeatable=not script.writes)

    def command(self, *words: Word) -> Reply:
        """Run one plain command; see `Transport.command`."""
        (reply,) = self._exchange([hiredis.pack_command(words)], repeatable=False)
        if isinstance(reply, FeatureStoreError):
            raise reply
        return reply

    def close(self) -> None:
        """Close every connection of the pool."""
        self._pool.disconnect()

    def _exchange(self, packed: list[bytes], *, repeatable: bool) -> list[Reply | FeatureStoreError]:
        """Send `packed` in one write and read a reply for each; a broken connection is replaced once for reads."""
        try:
            return self._exchange_once(packed)
        except (redis.TimeoutError, redis.AuthenticationError) as error:
            raise _link_error(error) from error
        except (redis.ConnectionError, OSError) as error:
            if not repeatable:
                raise _link_error(error) from error
        try:
            return self._exchange_once(packed)
        except (redis.RedisError, OSError) as error:
            raise _link_error(error) from error

    def _exchange_once(self, packed: list[bytes]) -> list[Reply | FeatureStoreError]:
        connection = self._pool.get_connection()
        try:
            replies = _send_and_read(connection, packed)
            unknown = [index for index, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
            if unknown:
                # Not one of these calls took place, so to repeat them is safe for writes too.
                again = _send_and_read(connection, load_commands() + [packed[index] for index in unknown])
                for index, reply in zip(unknown, again[-len(unknown) :], strict=True):
                    replies[index] = reply
            if any(isinstance(reply, redis.ReadOnlyError) for reply in replies):
                connection.disconnect()  # demoted by a failover: the address may lead to the new primary by now
        finally:
            self._pool.release(connection)
        return [error_from_reply(reply_text(r)) if isinstance(r, redis.ResponseError) else r for r in replies]


def _send_and_read(connection: Connection, packed: list[bytes]) -> list[Reply]:
    """Send in one write, then read one reply for each command; error replies come back as exceptions in place."""
    connection.send_packed_command([b"".join(packed)], check_health=False)
    replies: list[Reply] = []
    for _ in packed:
        try:
            replies.append(connection.read_response(disable_decoding=True))
        except redis.ResponseError as error:  # noqa: PERF203 - an error reply belongs to its call alone
            replies.append(error)
        except BaseException:
            # Replies are still under way: whoever gets this connection next would read them as its own.
            connection.disconnect()
            raise
    return replies


def reply_text(error: redis.RedisError) -> str:
    """Return an error reply as Redis sent it; redis-py takes the codes it knows off the text."""
    return f"{error.status_code} {error}" if error.status_code else str(error)


def _link_error(error: Exception) -> FeatureStoreError:
    """Return what a failure of the link itself means."""
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return DeadlineExceededError(f"Redis did not answer in time: {error}")
    if isinstance(error, redis.AuthenticationError):
        return AccessDeniedError(f"Redis refused the credentials: {error}")
    return UnavailableError(f"Redis cannot be reached: {error}")
