"""Calls of all tasks of an event loop to a cluster, over one connection a node."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any

from featurestore.contract.replies import Take
from featurestore.contract.resp import Reply, Word, encode_call
from featurestore.contract.scripts import Script
from featurestore.errors import FeatureStoreError
from featurestore.settings import CallBy
from featurestore.transport.asyncio_keeping import TaskKeeper
from featurestore.transport.asyncio_transport import AsyncTransport
from featurestore.transport.cluster import Inquiry
from featurestore.transport.clustered import SharedCluster
from featurestore.transport.confirming import Durability
from featurestore.transport.greeting import Role
from featurestore.transport.interface import Node
from featurestore.transport.pipeline import Failure
from featurestore.transport.repeats import Replies, only
from featurestore.transport.replicas import Reading
from featurestore.transport.rounds import Leg, Refresh, Request, Round, calls_request
from featurestore.transport.routing import routed
from featurestore.transport.sent import Sent


class AsyncClusterTransport(SharedCluster[AsyncTransport]):
    """Calls over one connection a node, which all tasks of an event loop share; see `AsyncTransport` and `routing`.

    A request to several nodes is sent to all of them before its task waits: what is called in one turn of the event
    loop leaves in one write a node.

    Every method may be given a deadline, by `time.monotonic`, as those of `AsyncTransport`.

    Args:
        url: `redis+cluster://host:port,host:port` or `rediss+cluster://…`, with credentials and TLS options.
        timeout: Seconds that one reply may take to arrive, and in which reads are repeated.
        write_timeout: The same for writes; `timeout` when left out.
        connect_timeout: Seconds that a new connection may take, credentials included.
        max_in_flight: Most calls that may wait for a node's reply at once.
        call: How Redis runs the scripts, see FEATURESTORE_CALL.
        reached_at: FEATURESTORE_ADDRESS_MAP: where nodes are reached whose addresses are others from here.
        reading: Who answers reads.
        durability: How many replicas confirm a write.
    """

    def __init__(  # noqa: PLR0913 - all but the URL by name
        self,
        url: str,
        *,
        timeout: float,
        write_timeout: float | None = None,
        connect_timeout: float,
        max_in_flight: int = 4096,
        call: CallBy = "scripts",
        reached_at: str = "",
        reading: Reading | None = None,
        durability: Durability | None = None,
    ) -> None:
        def make(url: str, role: Role) -> AsyncTransport:
            made = AsyncTransport(
                url,
                timeout=timeout,
                write_timeout=write_timeout,
                connect_timeout=connect_timeout,
                max_in_flight=max_in_flight,
                call=call,
                role=role,
            )
            if role == "primary":
                made.on_loss = self.cluster.doubt
            return made

        super().__init__(url, make, reached_at, call, reading, durability)
        self._timeout, self._write_timeout = timeout, timeout if write_timeout is None else write_timeout
        self._connect_timeout = connect_timeout
        self._refreshing: asyncio.Task[None] | None = None

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
        primary_only: bool = False,
        deadline: float | None = None,
    ) -> Replies:
        """Call `script` for each of `encoded`; see `Transport.run_many_encoded`.

        With `primary_only` no replica answers.
        """
        self.calls += len(encoded)
        slots, calls = self._slots_of(encoded), self._converted_each(encoded)
        request = calls_request(
            script,
            calls,
            slots,
            each_us=each_us,
            takes=takes,
            follows=follows,
            writes=writes,
            primary_only=primary_only,
        )
        return await self._drive(request, deadline)

    async def command(
        self, *words: Word, writes: bool = False, primary_only: bool = False, deadline: float | None = None
    ) -> Reply:
        """Run one plain command; see `Transport.command`. With `primary_only` no replica answers."""
        self.calls += 1
        return only(await self._drive(self._command_request(words, writes=writes, primary_only=primary_only), deadline))

    async def nodes(self) -> list[Node]:
        """Return every node, as last seen; see `Transport.nodes`."""
        if self.cluster.topology is None:
            await self._refresh(monotonic() + self._write_timeout)
            if self.cluster.topology is None:
                raise type(self.cluster.trouble)(*self.cluster.trouble.args)
        return self._known_nodes()

    async def close(self) -> None:
        """Close the connections; calls that wait fail at once, later ones open new ones."""
        keeper, self.cluster.keeper = self.cluster.keeper, None
        if keeper is not None and keeper.loop is asyncio.get_running_loop():
            await keeper.close()
        refreshing, self._refreshing = self._refreshing, None
        if refreshing and refreshing.get_loop() is asyncio.get_running_loop():
            refreshing.cancel()
            await asyncio.wait({refreshing})
        for node in self._each_made():
            await node.close()

    # Rounds

    def _keep(self) -> None:
        """Begin to keep what is known of the servers up to date; tasks do not outlive their event loop."""
        cluster = self.cluster
        cluster.keeper = TaskKeeper(cluster, self._ask, self._refresh_now, self._connect_timeout)

    async def _refresh_now(self) -> None:
        await self._refresh(monotonic() + self._write_timeout)

    async def _drive(self, request: Request, deadline: float | None) -> Replies:
        if self._keeps and (self.cluster.keeper is None or self.cluster.keeper.loop is not asyncio.get_running_loop()):
            self._keep()
        allowed = self._write_timeout if request.writes else self._timeout
        rounds, outcomes = routed(self.cluster, request, allowed, deadline), None
        try:
            while True:
                outcomes = await self._round(rounds.send(outcomes), deadline)  # type: ignore[arg-type]  # None to begin
        except StopIteration as end:
            replies: Replies = end.value
            return replies

    async def _round(self, step: Round, deadline: float | None) -> Sequence[Replies | Failure]:
        """Do what is to be done next, and return the outcomes."""
        if step.pause:
            await asyncio.sleep(step.pause)
        if step.refresh is Refresh.FIRST:
            await self._refresh(step.until)
        elif step.refresh is Refresh.SOON:
            self._refresh_soon()
        legs = step.legs
        if len(legs) == 1:
            return [await self._node(legs[0].target).attempt(legs[0].exchange, deadline)]
        return await self._together(legs, deadline) if legs else []

    async def _together(self, legs: Sequence[Leg], deadline: float | None) -> list[Replies | Failure]:
        """Send legs at once, and wait until all have an outcome. Only a node without a connection costs a task."""
        loop = asyncio.get_running_loop()
        all_done: asyncio.Future[None] = loop.create_future()
        left = 0

        def done(_begun: Any) -> None:
            nonlocal left
            left -= 1
            if not left and not all_done.done():
                all_done.set_result(None)

        under_way: list[Any] = []
        for leg in legs:
            node, exchange = self._node(leg.target), leg.exchange
            allowed = None if deadline is None else deadline - monotonic()
            begun: Any = None
            if node.is_open and not exchange.wait and (allowed is None or allowed > 0):
                begun = node.begin(exchange, done, allowed)
            if begun is None:
                begun = loop.create_task(node.attempt(exchange, deadline))
                begun.add_done_callback(done)
            left += not isinstance(begun, Failure)
            under_way.append(begun)
        try:
            if left:
                await all_done
        finally:
            for begun in under_way:
                if isinstance(begun, Sent):
                    begun.abandon()
                elif not isinstance(begun, Failure) and not begun.done():
                    begun.cancel()
        return [_outcome(begun) for begun in under_way]

    # The topology

    async def _refresh(self, until: float) -> None:
        """Ask for the topology, and wait for the answer; all who ask meanwhile share it."""
        asking = self._refresh_soon()
        if asking is not None:
            await asyncio.wait({asking}, timeout=max(0.0, until - monotonic()))

    def _refresh_soon(self) -> "asyncio.Task[None] | None":
        """Ask for the topology in a task, which is returned; None while that is no use."""
        loop, asking = asyncio.get_running_loop(), self._refreshing
        if asking is not None and (asking.done() or asking.get_loop() is not loop):
            asking = None
        if asking is None and self.cluster.may_ask:
            asking = loop.create_task(self._ask_around())
        self._refreshing = asking
        return asking

    async def _ask_around(self) -> None:
        steps, reply = self.cluster.asking(), None
        try:
            while True:
                reply = await self._ask(steps.send(reply))
        except StopIteration:
            pass

    async def _ask(self, inquiry: Inquiry) -> Reply:
        """Return what a node replies to a question, or the error that is met."""
        try:
            deadline = monotonic() + self._patience(self._write_timeout)
            return await self._node(inquiry.target).command(*inquiry.words, deadline=deadline)
        except FeatureStoreError as error:
            return error


def _outcome(begun: Any) -> Replies | Failure:
    outcome: Replies | Failure
    outcome = begun if isinstance(begun, Failure) else begun.outcome() if isinstance(begun, Sent) else begun.result()
    return outcome
