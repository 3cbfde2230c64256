"""Blocking calls to a cluster, for libraries, tools and threads: a pool of connections for each node."""

import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from time import monotonic
from typing import Any, Self

from featurestore.contract.replies import Take
from featurestore.contract.resp import Reply, Word, encode_call
from featurestore.contract.scripts import Script
from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.settings import CallBy
from featurestore.transport.blocking import Begun, Clock, SyncTransport
from featurestore.transport.cluster import Inquiry, Target
from featurestore.transport.cluster_stream import Streaming
from featurestore.transport.clustered import Clustered
from featurestore.transport.confirming import Durability
from featurestore.transport.greeting import Role
from featurestore.transport.interface import CallTimes, Census, Node
from featurestore.transport.keeping import ThreadKeeper
from featurestore.transport.pipeline import Failure
from featurestore.transport.repeats import Replies, only
from featurestore.transport.replicas import Reading
from featurestore.transport.rounds import Leg, Refresh, Request, Round, calls_request
from featurestore.transport.routing import routed

_LEAST_CONNECT_S = 0.05


class SyncClusterTransport(Clustered[SyncTransport]):
    """Calls of scripts and plain commands, each to the node that has its keys; see `SyncTransport` and `routing`.

    Calls to several nodes are sent to all of them before the first reply is read, and they have one time-out: that of
    all nodes that say nothing is over when that of the first one is.

    Args:
        url: `redis+cluster://host:port,host:port` or `rediss+cluster://…`, with credentials and TLS options.
        timeout: Seconds that one reply may take to arrive, and in which reads are repeated.
        write_timeout: The same for writes; `timeout` when left out.
        connect_timeout: Seconds that a new connection may take.
        max_connections: Upper bound of each node's pool.
        call: How Redis runs the scripts, see FEATURESTORE_CALL.
        reached_at: FEATURESTORE_ADDRESS_MAP: where nodes are reached whose addresses are others from here.
        reading: Who answers reads.
        durability: How many replicas confirm a write.
        times: Takes note of how long calls take.
    """

    def __init__(  # noqa: PLR0913 - all but the URL by name
        self,
        url: str,
        *,
        timeout: float,
        write_timeout: float | None = None,
        connect_timeout: float,
        max_connections: int = 64,
        call: CallBy = "scripts",
        reached_at: str = "",
        reading: Reading | None = None,
        durability: Durability | None = None,
        times: CallTimes | None = None,
    ) -> None:
        def make(url: str, role: Role) -> SyncTransport:
            return SyncTransport(
                url,
                timeout=timeout,
                write_timeout=write_timeout,
                connect_timeout=connect_timeout,
                max_connections=max_connections,
                call=call,
                role=role,
                confirm=self._confirm if role == "primary" else None,
                times=times,
            )

        super().__init__(url, make, reached_at, call, reading, durability)
        self._connect_timeout = connect_timeout
        self._timeout, self._write_timeout = timeout, timeout if write_timeout is None else write_timeout
        self._deadline: float | None = None
        self._refreshing = threading.Lock()
        _transports.add(self)

    def within(self, seconds: float) -> Self:
        """Return this transport, over the same connections, for one call; see `Timed.within`."""
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
        each_us: float = 0.0,
        takes: Sequence[Take] | None = None,
        follows: bool = False,
        writes: bool = False,
        primary_only: bool = False,
    ) -> Replies:
        """Call `script` for each of `encoded`; see `Transport.run_many_encoded`.

        With `primary_only` no replica answers.
        """
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
        return self._drive(request)

    def command(self, *words: Word, writes: bool = False, primary_only: bool = False) -> Reply:
        """Run one plain command; see `Transport.command`. With `primary_only` no replica answers."""
        return only(self._drive(self._command_request(words, writes=writes, primary_only=primary_only)))

    def stream(self, calls: Iterable[bytes | None], *, in_flight: int) -> Iterator[Reply | FeatureStoreError]:
        """Send encoded calls in order on a connection a node, and yield their replies in order; see `Streaming`.

        On each connection fewer than `in_flight` wait for their replies when the next call is asked for. None in a
        call's place: the next one is asked for when all replies so far have been yielded.
        """
        if self.cluster.topology is None:
            self.nodes()
        converted = self._converted

        def placed() -> Iterator[tuple[bytes, int] | None]:
            for call in calls:
                yield None if call is None else (converted(call) if converted else call, self._slots.of(call))

        durability, clustered = self.cluster.durability, self.clustered
        streaming = Streaming(in_flight, self._target, self._node, self._drive, durability, clustered=clustered)
        try:
            yield from streaming.replies(placed())
        except UnavailableError:
            self._refresh(monotonic() + self._timeout)  # for the next attempt
            raise

    def _target(self, slot: int) -> Target | None:
        """Return which node gets writes to a slot."""
        shard = self.cluster.shard(slot)
        return None if shard is None else self.cluster.serving(shard, writes=True)

    def nodes(self) -> list[Node]:
        """Return every node, as last seen; see `Transport.nodes`."""
        if self.cluster.topology is None:
            self._refresh(monotonic() + self._write_timeout)
            if self.cluster.topology is None:
                raise type(self.cluster.trouble)(*self.cluster.trouble.args)
        return self._known_nodes()

    def census(self) -> Census:
        """Return what the connections to all nodes do; see `Counted`."""
        found = Census()
        for node in self._each_made():
            found.add(node.census())
        return found

    def close(self) -> None:
        """Close every connection."""
        keeper, self.cluster.keeper = self.cluster.keeper, None
        if keeper is not None:
            keeper.close()
        for node in self._each_made():
            node.close()

    def _keep(self) -> None:
        """Begin to keep what is known of the servers up to date; threads do not outlive a fork."""
        cluster = self.cluster
        with self._refreshing:
            if cluster.keeper is None:
                cluster.keeper = ThreadKeeper(cluster, self._ask, self._refresh_now, self._connect_timeout)

    def _refresh_now(self) -> None:
        self._refresh(monotonic() + self._write_timeout)

    def _confirm(self) -> bool:
        """Return whether the primary is still who it was."""
        before = self.cluster.primary
        self._refresh_now()
        return before is None or self.cluster.primary == before

    def _drive(self, request: Request, answered: tuple[Target, Replies] | None = None) -> Replies:
        """Carry a request out; go on with it where a node has `answered` already."""
        if self._keeps and self.cluster.keeper is None:
            self._keep()
        allowed = self._write_timeout if request.writes else self._timeout
        sent = None if answered is None else [(answered[0], list(range(len(request.encoded))), answered[1])]
        rounds, soon, until = routed(self.cluster, request, allowed, self._deadline, sent), False, 0.0
        outcomes: Any = None
        try:
            while True:
                step = rounds.send(outcomes)
                soon, until = soon or step.refresh is Refresh.SOON, step.until
                outcomes = self._round(step)
        except StopIteration as end:
            replies: Replies = end.value
            return replies
        finally:
            if soon:  # after the request: it has its replies already
                before = self.cluster.refreshes
                self._refresh(until)
                if self.cluster.refreshes == before and self.cluster.may_ask:
                    self.cluster.doubt()  # there was no time: the next request asks first

    def _round(self, step: Round) -> list[Replies | Failure]:
        """Do what is to be done next, and return the outcomes."""
        if step.pause:
            time.sleep(step.pause)
        if step.refresh is Refresh.FIRST:
            self._refresh(step.until)
        begun: list[Begun | Failure] = []
        try:
            connected_by = monotonic() + self._connect_timeout
            begun.extend(self._begin(leg, connected_by) for leg in step.legs)
            clock = Clock()
            return [each if isinstance(each, Failure) else each.finish(clock) for each in begun]
        finally:
            for each in begun:
                if not isinstance(each, Failure):
                    each.abandon()

    def _begin(self, leg: Leg, connected_by: float) -> Begun | Failure:
        connected_by = max(connected_by, monotonic() + _LEAST_CONNECT_S)  # the servers before it may be the slow ones
        return self._node(leg.target).begin(leg.exchange, self._deadline, connected_by)

    def _refresh(self, until: float) -> None:
        """Ask for the topology; who comes while another thread asks waits for what that brings."""
        cluster, before = self.cluster, self.cluster.refreshes
        if not self._refreshing.acquire(timeout=max(0.0, until - monotonic())):
            return
        try:
            if cluster.refreshes != before or not cluster.may_ask:
                return
            steps, reply = cluster.asking(), None
            while True:
                reply = self._ask(steps.send(reply), until)
        except StopIteration:
            pass
        finally:
            self._refreshing.release()

    def _ask(self, inquiry: Inquiry, until: float | None = None) -> Reply:
        """Return what a node replies to a question, or the error that is met.

        Args:
            inquiry: The question.
            until: When the answer is no use any more, by `time.monotonic`.
        """
        patience = self._patience(self._write_timeout)
        left = patience if until is None else min(patience, until - monotonic())
        if left <= 0:
            return UnavailableError("there was no time to ask for the topology")
        try:
            node = self._node(inquiry.target).within(left)
            return node.command(*inquiry.words)
        except FeatureStoreError as error:
            return error

    def _forget(self) -> None:
        """Leave what is under way to the process that this one was forked from: threads do not outlive that."""
        self._refreshing = threading.Lock()
        keeper, self.cluster.keeper = self.cluster.keeper, None
        if keeper is not None:
            keeper.forget()


_transports: weakref.WeakSet[SyncClusterTransport] = weakref.WeakSet()


def _forget_all() -> None:
    for transport in list(_transports):
        transport._forget()  # noqa: SLF001 - this module's own class


os.register_at_fork(after_in_child=_forget_all)
