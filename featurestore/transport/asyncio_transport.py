"""Calls of all tasks of an event loop over one connection, for asyncio."""

import asyncio
from collections.abc import Sequence
from time import monotonic

from featurestore.contract.replies import Take
from featurestore.contract.resp import Reply, Word, encode_call
from featurestore.contract.scripts import Script
from featurestore.errors import DeadlineExceededError, FeatureStoreError, UnavailableError
from featurestore.settings import CallBy
from featurestore.transport.asyncio_link import AsyncioLink
from featurestore.transport.confirming import has_written
from featurestore.transport.dial import Stream, StreamDialler
from featurestore.transport.greeting import Role
from featurestore.transport.interface import Node, whole
from featurestore.transport.pipeline import Failure
from featurestore.transport.reconnect import Sharing, opened
from featurestore.transport.repeats import Exchange, Exchanges, Replies, calls_of, command_of, only


class AsyncTransport(Sharing[AsyncioLink]):
    """Calls over one connection that all tasks of an event loop share.

    The calls of one turn of the event loop leave in one write: a round trip costs 85 us alone, 7 us when 50 share it.
    A call that gets no reply in time fails, and so does one whose task is cancelled; its reply is dropped when it
    comes. When the connection breaks, reads are repeated once on a new one; writes only if they cannot have reached
    Redis. While Redis is away calls fail at once, but for one attempt to connect after each pause; pauses grow from
    50 ms to 1 s and vary at random.

    Every method may be given a deadline, by `time.monotonic`: when the call is to give up, whatever it waits for.
    Without one, each reply may take `timeout`.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with credentials, database and TLS options as redis-py takes them.
        timeout: Seconds that one reply may take to arrive.
        write_timeout: The same for writes; `timeout` when left out.
        connect_timeout: Seconds that a new connection may take, credentials included.
        max_in_flight: Most calls that may wait for a reply at once; more are refused with `OverloadedError`.
        call: How Redis runs the scripts, see FEATURESTORE_CALL.
        role: What the server is to be; see `greeting`.

    Attributes:
        address: The URL without credentials and options.
        calls: Calls taken on so far.
        connections: Connections made so far.
    """

    clustered = False

    def __init__(  # noqa: PLR0913 - all but the URL by name
        self,
        url: str,
        *,
        timeout: float,
        write_timeout: float | None = None,
        connect_timeout: float,
        max_in_flight: int = 4096,
        call: CallBy = "scripts",
        role: Role = "any",
    ) -> None:
        super().__init__(url, timeout=timeout, write_timeout=write_timeout, max_in_flight=max_in_flight, call=call)
        self._loads = role != "sentinel"
        self._dialler = StreamDialler(url, timeout=connect_timeout, call=call, role=role)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._attempt: asyncio.Task[AsyncioLink | FeatureStoreError] | None = None

    async def run(
        self, script: Script, keys: Sequence[Word], arguments: Sequence[Word], *, deadline: float | None = None
    ) -> Reply:
        """Call `script` once; see `Transport.run`."""
        return only(await self.run_many_encoded(script, [encode_call(script, keys, arguments)], deadline=deadline))

    async def run_many_encoded(  # noqa: PLR0913 - all but the first two by name
        self,
        script: Script,
        encoded: Sequence[bytes],
        *,
        each_us: float = 0.0,
        takes: Sequence[Take] | None = None,
        follows: bool = False,
        writes: bool = False,
        deadline: float | None = None,
    ) -> Replies:
        """Call `script` for each of `encoded`; see `Transport.run_many_encoded`."""
        self.calls += len(encoded)
        if self._converted:
            encoded = list(map(self._converted, encoded))
        return await self._drive(calls_of(script, encoded, each_us, takes, follows=follows, writes=writes), deadline)

    async def command(self, *words: Word, writes: bool = False, deadline: float | None = None) -> Reply:
        """Run one plain command; see `Transport.command`."""
        self.calls += 1
        return only(await self._drive(command_of(words, writes=writes), deadline))

    async def nodes(self) -> list[Node]:
        """Return the one server; see `Transport.nodes`."""
        return [whole(self.address, self)]

    @property
    def is_open(self) -> bool:
        """Whether it is connected, in the running event loop."""
        return self._link is not None and self._loop is asyncio.get_running_loop()

    async def attempt(self, exchange: Exchange, deadline: float | None) -> Replies | Failure:
        """Send an exchange, over a new connection if need be, and wait until there is an outcome."""
        self.calls += len(exchange.encoded)
        try:
            if not self.is_open:
                await self._open(deadline, writes=exchange.writes)
        except FeatureStoreError as error:
            return Failure(error, lost=True, unsent=True)
        try:
            return await self._exchange(exchange, deadline)
        except FeatureStoreError as error:
            return Failure(error, unsent=True)

    async def close(self) -> None:
        """Close the connection; calls that wait fail at once, later ones open a new one."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._move_to(loop)
        attempt, self._attempt = self._attempt, None
        if attempt:
            attempt.cancel()
            await asyncio.wait({attempt})
        for link in self._let_go():
            await asyncio.shield(link.closed)

    async def _drive(self, exchanges: Exchanges, deadline: float | None) -> Replies:
        """Have everything sent that is yielded, and return the replies in the end; see `repeats.drive`."""
        try:
            exchange = next(exchanges)
            while True:
                exchange = exchanges.send(await self._exchange(exchange, deadline))
        except StopIteration as end:
            replies: Replies = end.value
            return replies

    async def _exchange(self, exchange: Exchange, deadline: float | None) -> Replies | Failure:
        link = self._link
        if link is None or self._loop is not asyncio.get_running_loop():
            link = await self._open(deadline, writes=exchange.writes)
        if exchange.load:
            link.load_scripts()
        outcome: Reply | Replies | Failure
        big = exchange.big
        if big and exchange.answers and not link.is_free_for(exchange):
            outcome = await link.exchange_in_turns(exchange, exchange.answers, deadline)
        else:
            count = len(exchange.encoded)
            allowed = self._write_timeout if exchange.writes else exchange.allowed
            encoded = b"".join(exchange.encoded)
            outcome = await link.exchange(encoded, exchange.expected, count, deadline, allowed, small=not big)
            if not isinstance(outcome, Failure):
                outcome = exchange.taken([outcome] if count == 1 else outcome)
        exchange.load_error = link.pipeline.load_error
        if exchange.wait and has_written(outcome):
            exchange.waited = await link.confirming.outcome(exchange.wait, exchange.wait_s, deadline)
        return self._replies(outcome)

    async def _open(self, deadline: float | None, *, writes: bool = False) -> AsyncioLink:
        """Return a connection, new if need be; all who ask meanwhile share one attempt.

        Args:
            deadline: When to give up, by `time.monotonic`.
            writes: Whether one that was set aside will do.

        Raises:
            UnavailableError: Redis cannot be reached, or could not a moment ago.
            AccessDeniedError: Redis refuses the credentials, or did a moment ago.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._move_to(loop)
        known = self._link or (self._link_for_writes() if writes else None)
        if known:
            return known
        if self._attempt is None:
            self._check_pause()
            # In a task of its own: those who wait for it may be cancelled.
            self._attempt = loop.create_task(self._connect())
        attempt = self._attempt
        left = None if deadline is None else deadline - monotonic()
        done, _ = await asyncio.wait({attempt}, timeout=left)
        if not done:
            raise DeadlineExceededError("no connection to Redis came about in time, so nothing was sent")
        if attempt.cancelled():
            raise UnavailableError("the transport was closed while it connected")
        return opened(attempt.result())

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve that event loop from now on, if the one served before is closed.

        Raises:
            RuntimeError: It is not.
        """
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("this transport serves another event loop: make one for each")
        self._loop, self._link, self._attempt = loop, None, None
        self._retired.clear()

    async def _connect(self) -> AsyncioLink | FeatureStoreError:
        """Return a new connection, or why there is none."""
        try:
            dialled = await self._dial()
        except Exception as error:  # noqa: BLE001 - those who wait are told of any
            return self._refused(error)
        finally:
            if self._attempt is asyncio.current_task():
                self._attempt = None
        return self._take_up(AsyncioLink(dialled, self._new_pipeline(), self._on_lost))

    async def _dial(self) -> Stream:
        """Return a connection that is ready for commands."""
        return await self._dialler.dial()
