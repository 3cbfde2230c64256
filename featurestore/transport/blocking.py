"""Blocking calls over a pool of connections, for libraries, tools and threads."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from time import monotonic
from typing import Any, Self

from featurestore.contract.doors import DOORS, Door, is_unknown
from featurestore.contract.replies import Take
from featurestore.contract.resp import Reply, Word, encode_call
from featurestore.contract.scripts import Script, answer_to, keeps_order
from featurestore.errors import BadReplyError, FeatureStoreError
from featurestore.settings import CallBy
from featurestore.transport.confirming import WAIT_REPLIES, WAITED
from featurestore.transport.dial import TROUBLE, Confirm, PooledConnection, address_of, failure_of, open_pool, time_left
from featurestore.transport.greeting import Role
from featurestore.transport.interface import CallTimes, Census, Node, whole
from featurestore.transport.pipeline import GIVEN_UP, Failure
from featurestore.transport.repeats import (
    Exchange,
    Replies,
    calls_of,
    command_of,
    drive,
    is_refused_write,
    only,
    repaired,
)

_LEAST_S = 0.002  # in which what has arrived is read


class SyncTransport:
    """Blocking calls over a pool of redis-py connections: one connection for each thread that is in a call.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with credentials, database and TLS options as redis-py takes them.
        timeout: Seconds that one reply may take to arrive.
        write_timeout: The same for writes, and to send them; `timeout` when left out.
        connect_timeout: Seconds that a new connection may take.
        max_connections: Upper bound of the pool.
        call: How Redis runs the scripts, see FEATURESTORE_CALL.
        role: What the server is to be; see `greeting`.
        confirm: Asked on each new connection whether that server is still wanted.
        times: Takes note of how long calls take.
    """

    clustered = False

    def __init__(  # noqa: PLR0913 - all but the URL by name
        self,
        url: str,
        *,
        timeout: float,
        write_timeout: float | None = None,
        connect_timeout: float,
        max_connections: int = 64,
        call: CallBy = "scripts",
        role: Role = "any",
        confirm: Confirm | None = None,
        times: CallTimes | None = None,
    ) -> None:
        self._times = times
        self._pool = open_pool(
            url,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_connections=max_connections,
            call=call,
            role=role,
            confirm=confirm,
        )
        self._door: Door = DOORS[call]
        self._converted = self._door.converted
        self.address = address_of(url)
        self._timeout, self._write_timeout = timeout, write_timeout
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
        return only(self.run_many_encoded(script, [encoded]))

    def run_many_encoded(  # noqa: PLR0913 - all but the first two by name
        self,
        script: Script,
        encoded: Sequence[bytes],
        *,
        each_us: float = 0.0,  # noqa: ARG002 - it matters where a connection is shared
        takes: Sequence[Take] | None = None,
        follows: bool = False,  # noqa: ARG002 - likewise
        writes: bool = False,
    ) -> Replies:
        """Call `script` for each of `encoded` in one write; see `Transport.run_many_encoded`."""
        calls = list(map(self._converted, encoded)) if self._converted else list(encoded)
        return drive(calls_of(script, calls, takes=takes, writes=writes), self._exchange)

    def command(self, *words: Word, writes: bool = False) -> Reply:
        """Run one plain command; see `Transport.command`."""
        return only(drive(command_of(words, writes=writes), self._exchange))

    def stream(self, calls: Iterable[bytes | None], *, in_flight: int) -> Iterator[Reply | FeatureStoreError]:
        """Send encoded calls of scripts in order on one connection and yield their replies in order.

        A call is sent as soon as fewer than `in_flight` wait for their replies, so that Redis works while the caller
        makes the next one. None in a call's place: the next one is asked for when all replies so far have been yielded.
        """
        try:
            connection = self._pool.take(self._deadline)
        except TROUBLE as error:
            raise failure_of(error).error from error
        try:
            waiting: deque[bytes] = deque()
            for call in calls:
                if call is not None:
                    sent = self._converted(call) if self._converted else call
                    waiting.append(sent)
                    connection.send(sent)
                while len(waiting) >= in_flight or (call is None and waiting):
                    yield from _settle(connection, waiting, self._door)
            while waiting:
                yield from _settle(connection, waiting, self._door)
        except TROUBLE as error:
            connection.close()
            raise failure_of(error).error from error
        except BaseException:
            connection.close()  # left half-way, with replies under way
            raise
        finally:
            connection.give_back()

    def nodes(self) -> list[Node]:
        """Return the one server; see `Transport.nodes`."""
        return [whole(self.address, self)]

    def census(self) -> Census:
        """Return what the pool's connections do; see `Counted`."""
        pool = self._pool
        connected = pool.connected
        return Census(connected, 0, int(pool.in_trouble and not connected), pool.in_use, pool.reconnects)

    def close(self) -> None:
        """Close every connection of the pool."""
        self._pool.close()

    def retire(self) -> None:
        """Close the connections that nobody uses, and each of the others when it is given back."""
        self._pool.retire()

    def take(self) -> PooledConnection:
        """Take a connection out of the pool, for calls one after the other; the caller gives it back.

        Raises:
            UnavailableError: It cannot be had.
            AccessDeniedError: Redis refuses the credentials.
        """
        try:
            return self._pool.take(self._deadline)
        except TROUBLE as error:
            raise failure_of(error).error from error

    def begin(self, exchange: Exchange, deadline: float | None, connected_by: float) -> "Begun | Failure":
        """Send an exchange, and return what reads its replies, or why it could not be sent.

        Args:
            exchange: The commands.
            deadline: When all replies have to be there, by `time.monotonic`.
            connected_by: When a new connection has to be ready, where there is no deadline.
        """
        try:
            connection = self._pool.take(connected_by if deadline is None else deadline)
        except TROUBLE as error:
            return failure_of(error, unsent=True)
        timeout = self._write_timeout if exchange.writes else exchange.allowed
        try:
            allowed = self._timeout if timeout is None else timeout
            return Begun(connection, self._door, exchange, deadline, allowed, self._times)
        except TROUBLE as error:
            connection.give_back()
            return failure_of(error)
        except BaseException:
            connection.close()
            connection.give_back()
            raise

    def _exchange(self, exchange: Exchange) -> Replies | Failure:
        try:
            connection = self._pool.take(self._deadline)
        except TROUBLE as error:
            return failure_of(error, unsent=True)
        began = monotonic()
        try:
            timeout = self._write_timeout if exchange.writes else None
            return _exchange_on(connection, self._door, exchange, self._deadline, timeout)
        except TROUBLE as error:
            return failure_of(error)
        finally:
            connection.give_back()
            if self._times is not None:
                self._times.took(exchange.expected.name, monotonic() - began, len(exchange.encoded))


class Clock:
    """How long several servers have said nothing, whose replies are read one after the other.

    Attributes:
        heard_at: When one of them said something, or all were asked, by `time.monotonic`.
    """

    __slots__ = ("heard_at",)

    def __init__(self) -> None:
        self.heard_at = monotonic()

    def left(self, timeout: float) -> float:
        """Return the seconds that the next reply may take; what has arrived can be read when the time is over."""
        return max(_LEAST_S, self.heard_at + timeout - monotonic())

    def hear(self) -> None:
        """Take note of a reply."""
        self.heard_at = monotonic()


class Begun:
    """An exchange that was sent on a connection of its own, for a reader who has others to read, too.

    Args:
        connection: Where to; it is given back when the replies were read, or are not wanted any more.
        door: How scripts are loaded.
        exchange: The commands.
        deadline: When all replies have to be there, by `time.monotonic`.
        timeout: Without one, seconds that each reply may take, and to send.
        times: Takes note of how long the calls take.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what `_exchange_on` has
        self,
        connection: PooledConnection,
        door: Door,
        exchange: Exchange,
        deadline: float | None,
        timeout: float,
        times: CallTimes | None = None,
    ) -> None:
        self._times, self._began = times, monotonic()
        self._connection: PooledConnection | None = connection
        self._door, self._exchange, self._deadline, self._timeout = door, exchange, deadline, timeout
        self._loading = _send_on(connection, door, exchange, deadline, timeout)

    def finish(self, clock: Clock) -> Replies | Failure:
        """Read the replies.

        Args:
            clock: Of this one and others, which say nothing at the same time.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            raise RuntimeError("the replies were read already")
        exchange = self._exchange
        try:
            return _read_on(connection, self._door, exchange, self._loading, self._deadline, self._timeout, clock)
        except TROUBLE as error:
            return failure_of(error)
        finally:
            connection.give_back()
            if self._times is not None:
                self._times.took(exchange.expected.name, monotonic() - self._began, len(exchange.encoded))

    def abandon(self) -> None:
        """Close the connection, unless the replies were read."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            connection.give_back()


def _exchange_on(
    connection: PooledConnection,
    door: Door,
    exchange: Exchange,
    deadline: float | None = None,
    timeout: float | None = None,
) -> Replies | Failure:
    """Send in one write, then read one reply for each command.

    Args:
        connection: Where to.
        door: How scripts are loaded.
        exchange: The commands.
        deadline: When all replies have to be there, by `time.monotonic`.
        timeout: Without one, seconds that each reply may take, and to send; the pool's time-out when left out.
    """
    loading = _send_on(connection, door, exchange, deadline, timeout)
    return _read_on(connection, door, exchange, loading, deadline, timeout)


def _send_on(
    connection: PooledConnection, door: Door, exchange: Exchange, deadline: float | None, timeout: float | None
) -> int:
    """Send in one write; return how many replies to commands that load scripts are ahead of the others."""
    time_left(deadline)  # while nothing is sent
    loading = door.load_commands() if exchange.load else []
    connection.send(b"".join([*loading, *exchange.encoded, exchange.wait]), timeout)
    return len(loading)


def _read_on(  # noqa: PLR0913, PLR0917 - what `_exchange_on` has
    connection: PooledConnection,
    door: Door,
    exchange: Exchange,
    loading: int,
    deadline: float | None,
    timeout: float | None,
    clock: Clock | None = None,
) -> Replies | Failure:
    """Read one reply for each command."""

    def read() -> Reply | FeatureStoreError:
        if clock is None or timeout is None or deadline is not None:
            return connection.read(deadline, timeout)
        reply = connection.read(None, clock.left(timeout))
        clock.hear()
        return reply

    try:
        loaded = [read() for _ in range(loading)]
        replies = [read() for _ in exchange.encoded]
        waited = [connection.read(deadline, exchange.wait_s) for _ in range(WAIT_REPLIES if exchange.wait else 0)]
    except BaseException:
        connection.close()
        raise
    misfit = (door.loaded.misfit(loaded) if loaded else None) or exchange.expected.misfit(replies)
    if waited and not misfit:
        misfit, exchange.waited = WAITED.misfit(waited), waited
    if misfit:
        return _misfit(connection, misfit)
    exchange.load_error = next((reply for reply in loaded if isinstance(reply, FeatureStoreError)), None)
    if is_refused_write(replies):
        connection.close()
    return exchange.taken(replies)


def _misfit(connection: PooledConnection, misfit: str) -> Failure:
    """Close a connection that sent impossible replies, and return the failure."""
    connection.close()
    return Failure(BadReplyError(f"{misfit}; {GIVEN_UP}"), lost=True)


def _settle(connection: PooledConnection, waiting: deque[bytes], door: Door) -> Replies:
    """Read the oldest call's reply. If Redis lost the scripts, read all replies, and repeat what needs it."""
    replies = [connection.read()]
    if is_unknown(replies[0]):
        replies += [connection.read() for _ in range(len(waiting) - 1)]
        in_order = any(map(keeps_order, waiting))
        calls = list(waiting)
        first = Exchange(calls, AnswersOfAny(calls), AnswersOfAny)
        exchanges = repaired(first, replies, repeatable=False, in_order=in_order)
        replies = drive(exchanges, partial(_exchange_on, connection, door))
    for reply in replies:
        misfit = answer_to(waiting.popleft()).misfit([reply])
        if misfit:
            raise _misfit(connection, misfit).error
    return replies


class AnswersOfAny:
    """The replies to encoded calls of any scripts."""

    name = "calls"

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self._encoded = encoded

    def misfit(self, replies: Sequence[Any]) -> str | None:
        """Return what is wrong with the replies, None where nothing is."""
        pairs = zip(self._encoded, replies, strict=True)
        return next((wrong for call, reply in pairs if (wrong := answer_to(call).misfit([reply]))), None)
