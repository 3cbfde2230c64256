"""Calls of all greenlets of a process to a cluster, over one connection a node; needs gevent, patched or not."""

import os
import weakref
from collections.abc import Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any

import gevent
from gevent import getcurrent

from featurestore.contract.replies import Take
from featurestore.contract.resp import Reply, Word, encode_call
from featurestore.contract.scripts import Script
from featurestore.errors import DeadlineExceededError, FeatureStoreError, UnavailableError
from featurestore.settings import CallBy
from featurestore.transport.cluster import Cluster, Inquiry, Target
from featurestore.transport.confirming import Durability
from featurestore.transport.gevent_keeping import GreenletKeeper
from featurestore.transport.gevent_rounds import Rounds
from featurestore.transport.gevent_together import Straight, Together, replies_of, sent_straight
from featurestore.transport.gevent_transport import GeventTransport
from featurestore.transport.greeting import Role
from featurestore.transport.interface import CallTimes, Census, Node
from featurestore.transport.pipeline import Failure, Resume, Waiter
from featurestore.transport.read_only import Lacks, as_read_only, lacking
from featurestore.transport.repeats import Replies, only
from featurestore.transport.replicas import Reading
from featurestore.transport.rounds import Answered, Refresh, Request, Round, calls_request
from featurestore.transport.routing import routed
from featurestore.transport.slots import HEAD
from featurestore.transport.turns import SMALL_US

_MOST_TAGS = 8192


class GeventClusterTransport(Rounds):
    """Calls over one connection a node, which all greenlets of a thread share; see `GeventTransport` and `routing`.

    A request to several nodes is sent to all of them before its greenlet gives way, once: what is called in one turn of
    the event loop leaves in one write a node.

    Args:
        url: `redis+cluster://host:port,host:port` or `rediss+cluster://…`, with credentials and TLS options.
        timeout: Seconds that one reply may take to arrive, and in which reads are repeated.
        write_timeout: The same for writes; `timeout` when left out.
        connect_timeout: Seconds that each step to a new connection may take.
        max_in_flight: Most calls that may wait for a node's reply at once.
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
        max_in_flight: int = 4096,
        call: CallBy = "scripts",
        reached_at: str = "",
        reading: Reading | None = None,
        durability: Durability | None = None,
        times: CallTimes | None = None,
    ) -> None:
        def make(url: str, role: Role) -> GeventTransport:
            made = GeventTransport(
                url,
                timeout=timeout,
                write_timeout=write_timeout,
                connect_timeout=connect_timeout,
                max_in_flight=max_in_flight,
                call=call,
                role=role,
                times=times,
            )
            if role == "primary":
                made.on_loss = self.cluster.doubt
            return made

        self._by_tag: dict[bytes, GeventTransport] = {}
        self._by_slot = {}
        super().__init__(url, make, reached_at, call, reading, durability)
        self._timeout, self._write_timeout = timeout, timeout if write_timeout is None else write_timeout
        self._connect_timeout = connect_timeout
        self._refreshing: Any = None
        _transports.add(self)

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
        straight = self._sent_straight(request)
        if straight is None:
            return self._drive(request)
        replies = replies_of(straight)
        if replies is None:
            answered = [(self._target_of(node), list(places), found) for node, places, found in straight]
            return self._drive(request, answered)
        return replies

    def command(self, *words: Word, writes: bool = False, primary_only: bool = False) -> Reply:
        """Run one plain command; see `Transport.command`. With `primary_only` no replica answers."""
        self.calls += 1
        return only(self._drive(self._command_request(words, writes=writes, primary_only=primary_only)))

    def submit(self, script: Script, encoded: bytes, resume: Resume) -> Waiter | None:
        """Send one call of a read script without waiting for it; see `GeventTransport.submit`."""
        if not self.cluster.reading.settled:
            return self.submit_elsewhere(script, encoded, resume)
        start = encoded.find(b"{", HEAD)
        node = self._by_tag.get(encoded[start : encoded.find(b"}", start)]) or self._found(encoded)
        waiter = node.submit(script, encoded, resume) if node else None
        if waiter is not None:
            self.calls += 1
        return waiter

    def _found(self, encoded: bytes) -> GeventTransport | None:
        """Return the node that is to get a call, and keep it for others with the same tag."""
        shard = self.cluster.shard(self._slots.of(encoded))
        if shard is None:
            return None
        node = self.hurried(Target(shard.primary), shard)
        start = encoded.find(b"{", HEAD)
        if start >= 0 or not self.clustered:
            if len(self._by_tag) >= _MOST_TAGS:
                self._by_tag.clear()
            self._by_tag[encoded[start : encoded.find(b"}", start)]] = node
        return node

    def submit_elsewhere(self, script: Script, encoded: bytes, resume: Resume) -> Waiter | None:
        """Send a call to whom reads go now; what a replica does not know is not answered, so that it is given back."""
        cluster = self.cluster
        cluster.reading.unsure = cluster.holding
        shard = cluster.shard(self._slots_of([encoded])[0])
        target = shard and cluster.serving(shard, writes=False)
        if (
            not shard
            or not target
            or (cluster.reading.plain and not self.clustered and (target.replica or cluster.holding))
        ):
            return None  # it has to make sure who the primary is
        if target.replica:
            (encoded,) = self._converted_each([encoded])
            if cluster.read_only:
                encoded = as_read_only(encoded)
            resume = partial(_judge, lacking(script), resume)
        else:
            resume = partial(_note, cluster, target, resume)
        waiter = self.hurried(target, shard).submit(script, encoded, resume)
        if waiter is None and target.replica:
            gevent.spawn(self._ask, Inquiry(target, ("PING",)))  # connects
        self.calls += waiter is not None
        return waiter

    def overload(self, *, writes: bool = False) -> FeatureStoreError | None:
        """Return why any further big request, or write, would be refused now by some node; None if it would not."""
        return next(filter(None, (node.overload(writes=writes) for node in self._each_made())), None)

    def note_small(self, took: float, nearest: float) -> float:
        """Take into account how long a small request took, whichever node it went to; see `Pace.note`."""
        return min((node.note_small(took, nearest) for node in self._each_made()), default=inf)

    def hear_pace(self, at: float, pace: float) -> None:
        """Take into account what another process found; see `Pace.hear`."""
        for node in self._each_made():
            node.hear_pace(at, pace)

    def nodes(self) -> list[Node]:
        """Return every node, as last seen; see `Transport.nodes`."""
        if self.cluster.topology is None:
            self._refresh(monotonic() + self._write_timeout)
            if self.cluster.topology is None:
                raise type(self.cluster.trouble)(*self.cluster.trouble.args)
        return self._known_nodes()

    def census(self) -> Census:
        """Return what the connections to all nodes do; see `Counted`."""
        found = Census(reconnects=self._gone_reconnects)
        for node in self._each_made():
            found.add(node.census())
        return found

    def close(self) -> None:
        """Close the connections; calls that wait fail at once, later ones open new ones."""
        keeper, self.cluster.keeper = self.cluster.keeper, None
        if keeper is not None:
            keeper.close()
        asking, self._refreshing = self._refreshing, None
        if asking is not None:
            asking.kill(block=False)
        for node in self._each_made():
            node.close()

    def _on_change(self) -> None:
        self._by_tag.clear()
        self._by_slot.clear()
        super()._on_change()

    # Rounds

    def _keep(self) -> None:
        """Begin to keep what is known of the servers up to date; greenlets do not outlive a fork."""
        cluster = self.cluster
        cluster.keeper = GreenletKeeper(cluster, self._ask, self._refresh_now, self._connect_timeout)

    def _refresh_now(self) -> None:
        self._refresh(monotonic() + self._write_timeout)

    def _sent_straight(self, request: Request) -> list[Straight] | None:
        """Send reads to the primaries that have them, and return what came of it, where nothing calls for more care.

        None if nothing was sent, and the request is to be routed: a node has no connection or is in trouble, a replica
        may be to answer, calls are so few that they go ahead of big ones, or what is made of a reply is not kept here.
        """
        cluster = self.cluster
        settled = self.clustered and cluster.topology is not None and cluster.reading.settled and not cluster.doubted
        if not settled or not request.repeatable or request.writes or request.takes is not None:
            return None
        runs = self._runs_of(request.slots)
        if runs is None or len(request.slots) * request.each_us <= SMALL_US * len(runs):
            return None
        return sent_straight(request, runs)

    def _target_of(self, node: GeventTransport) -> Target:
        """Return which primary a transport leads to."""
        return next(target for target, made in self._made.items() if made is node)

    def _drive(self, request: Request, answered: Sequence[Answered] | None = None) -> Replies:
        """Carry a request out; go on with it where its calls were sent already."""
        if self._keeps and self.cluster.keeper is None:
            self._keep()
        allowed = self._write_timeout if request.writes else self._timeout
        rounds = routed(self.cluster, request, allowed, None, answered)
        outcomes: Any = None
        try:
            while True:
                outcomes = self._round(rounds.send(outcomes))
        except StopIteration as end:
            replies: Replies = end.value
            return replies

    def _round(self, step: Round) -> Sequence[Replies | Failure]:
        """Do what is to be done next, and return the outcomes."""
        if step.pause:
            gevent.sleep(step.pause)
        if step.refresh is Refresh.FIRST:
            self._refresh(step.until)
        elif step.refresh is Refresh.SOON:
            self._refresh_soon()
        legs = step.legs
        if len(legs) == 1:
            return [self._node(legs[0].target).attempt(legs[0].exchange)]
        return Together(legs, self._node).outcomes() if legs else []

    # The topology

    def _refresh(self, until: float) -> None:
        """Ask for the topology, and give way until there is an answer; all who ask meanwhile share it."""
        asking = self._refresh_soon()
        if asking is not None:
            asking.join(timeout=max(0.0, until - monotonic()))

    def _refresh_soon(self) -> Any:
        """Ask for the topology in a greenlet, which is returned; None while that is no use."""
        if self._refreshing is None and self.cluster.may_ask:
            self._refreshing = gevent.spawn(self._ask_around)
        return self._refreshing

    def _ask_around(self) -> None:
        steps, reply = self.cluster.asking(), None
        try:
            while True:
                reply = self._ask(steps.send(reply))
        except StopIteration:
            pass
        finally:
            if self._refreshing is getcurrent():
                self._refreshing = None

    def _ask(self, inquiry: Inquiry) -> Reply:
        """Return what a node replies to a question, or the error that is met."""
        asking = gevent.spawn(self._asked, inquiry)
        patience = self._patience(self._write_timeout)
        asking.join(timeout=patience)
        if asking.ready():
            return asking.get()
        return DeadlineExceededError(f"Redis did not answer in {patience * 1000:g} ms")

    def _asked(self, inquiry: Inquiry) -> Reply:
        try:
            return self._node(inquiry.target).command(*inquiry.words)
        except FeatureStoreError as error:
            return error

    def _forget(self) -> None:
        """Leave what is under way to the process that this one was forked from."""
        keeper, self._refreshing, self.cluster.keeper = self.cluster.keeper, None, None
        if keeper is not None:
            keeper.forget()


def _note(cluster: Cluster, target: Target, resume: Resume, waiter: Waiter) -> None:
    """Take note that a primary answers again."""
    if not isinstance(waiter.outcome, Failure):
        cluster.answered(target.address)
    resume(waiter)


def _judge(lacks: Lacks | None, resume: Resume, waiter: Waiter) -> None:
    """Take a replica's reply; if it is an error, or does not know an id, have the read begun anew."""
    outcome = waiter.outcome
    if isinstance(outcome, FeatureStoreError | Failure) or (lacks is not None and lacks(outcome)):
        waiter.outcome = Failure(UnavailableError("a replica cannot tell"), lost=True)
    resume(waiter)


_transports: weakref.WeakSet[GeventClusterTransport] = weakref.WeakSet()


def _forget_all() -> None:
    for transport in list(_transports):
        transport._forget()  # noqa: SLF001 - this module's own class


os.register_at_fork(after_in_child=_forget_all)
