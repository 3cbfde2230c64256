"""Blocking calls over a pool of connections, for libraries, tools and threads."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from time import monotonic
from typing import Self

import redis
from redis.connection import Connection

from featurestore.contract.replies import Expected, answer_to_command
from featurestore.contract.resp import Call, Reply, Word, encode_call, encode_command, load_commands
from featurestore.contract.scripts import LOADED, Script, answer_to
from featurestore.errors import (
    BadReplyError,
    DeadlineExceededError,
    FeatureStoreError,
    OverloadedError,
    UnavailableError,
    error_from_reply,
)
from featurestore.transport.dial import address_of, greeted_by, open_pool, refused, reply_text
from featurestore.transport.pipeline import GIVEN_UP, has_code, to_repeat

_FINAL = (
    redis.TimeoutError,
    redis.AuthenticationError,
    redis.ResponseError,
    redis.exceptions.MaxConnectionsError,
)
"""Failures of the link that another connection would meet as well."""


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
        self.address = address_of(url)
        self._deadline: float | None = None

    def __repr__(self) -> str:
        return f"<SyncTransport {self.address}>"

    def within(self, seconds: float) -> Self:
        """Return this transport, over the same connections, for one call; see `Timed.within`.

        To connect and to send have the transport's own time-outs still; replies have the call's, also the first ones on
        a new connection.
        """
        hurried = copy(self)
        hurried._deadline = monotonic() + seconds  # noqa: SLF001 - a copy of this object
        return hurried

    def run(self, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Reply:
        """Call `script` once; see `Transport.run`."""
        return self.run_encoded(script, encode_call(script, keys, arguments))

    def run_encoded(self, script: Script, encoded: bytes) -> Reply:
        """Call `script` once; see `Transport.run_encoded`."""
        (reply,) = self.run_many_encoded(script, [encoded])
        if isinstance(reply, FeatureStoreError):
            raise reply
        return reply

    def run_many(self, script: Script, calls: Sequence[Call]) -> list[Reply | FeatureStoreError]:
        """Call `script` for each of `calls` in one write; see `Transport.run_many`."""
        return self.run_many_encoded(script, [encode_call(script, keys, arguments) for keys, arguments in calls])

    def run_many_encoded(self, script: Script, encoded: list[bytes]) -> list[Reply | FeatureStoreError]:
        """Call `script` for each of `encoded` in one write; see `Transport.run_many_encoded`."""
        answers = script.answers(encoded)
        return self._exchange(encoded, answers, repeatable=not script.writes, in_order=script.in_order)

    def command(self, *words: Word) -> Reply:
        """Run one plain command; see `Transport.command`."""
        encoded = encode_command(words)
        (reply,) = self._exchange([encoded], answer_to_command(words, encoded), repeatable=False)
        if isinstance(reply, FeatureStoreError):
            raise reply
        return reply

    def stream(self, calls: Iterable[bytes | None], *, in_flight: int) -> Iterator[Reply | FeatureStoreError]:
        """Send encoded calls of scripts in order on one connection and yield their replies in order.

        A call is sent as soon as fewer than `in_flight` wait for their replies, so that Redis works while the caller
        makes the next one. None in a call's place: the next one is asked for when all replies so far have been yielded.
        """
        connection = self._connect()
        try:
            waiting: deque[bytes] = deque()
            for call in calls:
                if call is not None:
                    waiting.append(call)
                    connection.send_packed_command([call], check_health=False)
                while len(waiting) >= in_flight or (call is None and waiting):
                    yield from _settle(connection, waiting)
            while waiting:
                yield from _settle(connection, waiting)
        except (redis.RedisError, OSError) as error:
            connection.disconnect()
            raise _link_error(error) from error
        except BaseException:
            connection.disconnect()  # left half-way, with replies under way
            raise
        finally:
            self._pool.release(connection)

    def close(self) -> None:
        """Close every connection of the pool."""
        self._pool.disconnect()

    def _exchange(
        self, encoded: list[bytes], expected: Expected, *, repeatable: bool, in_order: bool = False
    ) -> list[Reply | FeatureStoreError]:
        """Send `encoded` in one write and read a reply for each; a broken connection is replaced once for reads."""
        try:
            return self._exchange_once(encoded, expected, in_order=in_order)
        except _FINAL as error:
            raise _link_error(error) from error
        except BadReplyError:
            if not repeatable:
                raise
        except (redis.RedisError, OSError) as error:
            if not repeatable:
                raise _link_error(error) from error
        try:
            return self._exchange_once(encoded, expected, in_order=in_order)
        except (redis.RedisError, OSError) as error:
            raise _link_error(error) from error

    def _connect(self) -> Connection:
        try:
            return self._taken()
        except (redis.RedisError, OSError) as error:
            raise _link_error(error) from error

    def _taken(self) -> Connection:
        """Take a connection out of the pool, which may have to make it."""
        before = greeted_by.set(math.inf if self._deadline is None else self._deadline)
        try:
            return self._pool.get_connection()
        except UnicodeError as error:
            raise OSError(f"the host's name cannot be one: {error}") from error
        finally:
            greeted_by.reset(before)

    def _exchange_once(
        self, encoded: list[bytes], expected: Expected, *, in_order: bool
    ) -> list[Reply | FeatureStoreError]:
        connection = self._taken()
        try:
            replies = _send_and_read(connection, encoded, self._deadline)
            _repair(connection, encoded, replies, self._deadline, in_order=in_order)
            mapped = [_mapped(reply) for reply in replies]
            _check(connection, expected, mapped)
            if any(has_code(reply, "READONLY") for reply in mapped):
                connection.disconnect()  # demoted by a failover: the address may lead to the new primary by now
        finally:
            self._pool.release(connection)
        return mapped


def _check(connection: Connection, expected: Expected, replies: Sequence[Reply | FeatureStoreError]) -> None:
    """Close the connection where the replies cannot be those to the calls.

    Raises:
        BadReplyError: They cannot.
    """
    misfit = expected.misfit(replies)
    if misfit:
        connection.disconnect()
        raise BadReplyError(f"{misfit}; {GIVEN_UP}")


def _send_and_read(connection: Connection, encoded: list[bytes], deadline: float | None = None) -> list[Reply]:
    """Send in one write, then read one reply for each command; error replies come back as exceptions in place."""
    _time_left(deadline)  # while nothing is sent
    connection.send_packed_command([b"".join(encoded)], check_health=False)
    try:
        return [_read(connection, deadline) for _ in encoded]
    except BaseException:
        # Replies are still under way: whoever gets this connection next would read them as its own.
        connection.disconnect()
        raise


def _read(connection: Connection, deadline: float | None = None) -> Reply:
    """Read one reply; an error reply is returned, not raised."""
    try:
        if deadline is None:
            return connection.read_response(disable_decoding=True)
        return connection.read_response(disable_decoding=True, timeout=_time_left(deadline))
    except redis.ResponseError as error:
        return error


def _time_left(deadline: float | None) -> float:
    """Return the seconds until then.

    Raises:
        redis.TimeoutError: There are none.
    """
    left = math.inf if deadline is None else deadline - monotonic()
    if left <= 0:
        raise redis.TimeoutError("the call's time is over")
    return left


def _repair(
    connection: Connection,
    encoded: Sequence[bytes],
    replies: list[Reply],
    deadline: float | None = None,
    *,
    in_order: bool = False,
) -> None:
    """Where the reply to a call is NOSCRIPT, load the scripts, repeat the call, and put the new reply in place.

    Where the scripts cannot be loaded, that is what the reply says.
    """
    unknown = to_repeat([isinstance(reply, redis.exceptions.NoScriptError) for reply in replies], in_order=in_order)
    if unknown:
        again = _send_and_read(connection, load_commands() + [encoded[index] for index in unknown], deadline)
        loaded = [_mapped(reply) for reply in again[: -len(unknown)]]
        _check(connection, LOADED, loaded)
        refusal = next((reply for reply in loaded if isinstance(reply, FeatureStoreError)), None)
        for index, reply in zip(unknown, again[-len(unknown) :], strict=True):
            replies[index] = refusal if refusal and isinstance(reply, redis.exceptions.NoScriptError) else reply


def _settle(connection: Connection, waiting: deque[bytes]) -> list[Reply | FeatureStoreError]:
    """Read the reply to the oldest of the waiting calls; all their replies, when it must be repeated."""
    replies = [_read(connection)]
    if isinstance(replies[0], redis.exceptions.NoScriptError):
        replies += [_read(connection) for _ in range(len(waiting) - 1)]
        _repair(connection, waiting, replies)
    mapped = [_mapped(reply) for reply in replies]
    for reply in mapped:
        _check(connection, answer_to(waiting.popleft()), [reply])
    return mapped


def _mapped(reply: Reply) -> Reply | FeatureStoreError:
    return error_from_reply(reply_text(reply)) if isinstance(reply, redis.ResponseError) else reply


def _link_error(error: Exception) -> FeatureStoreError:
    """Return what a failure of the link itself means."""
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return DeadlineExceededError(f"Redis did not answer in time: {error}")
    if isinstance(error, redis.InvalidResponse):
        return BadReplyError(f"Redis sent a reply that cannot be read: {error}; {GIVEN_UP}")
    if isinstance(error, redis.AuthenticationError):
        return refused(error)
    if isinstance(error, redis.exceptions.MaxConnectionsError):
        return OverloadedError(f"every connection to Redis is in use: {error}")
    if isinstance(error, redis.ResponseError):
        return error_from_reply(reply_text(error))  # while connecting: no such database, no permission for SELECT
    return UnavailableError(f"Redis cannot be reached: {error}")
