"""Calls that are streamed to a cluster: in order on a connection to each node, while the caller makes the next ones."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from featurestore.contract.replies import Expected
from featurestore.contract.resp import Reply
from featurestore.contract.scripts import answer_to, keeps_order
from featurestore.errors import BadReplyError, FeatureStoreError, RedisError, UnavailableError, UnconfirmedWriteError
from featurestore.transport.blocking import AnswersOfAny, SyncTransport
from featurestore.transport.cluster import Target, located
from featurestore.transport.confirming import WAIT_REPLIES, WAITED, Durability
from featurestore.transport.dial import TROUBLE, PooledConnection, failure_of
from featurestore.transport.pipeline import GIVEN_UP
from featurestore.transport.repeats import Replies
from featurestore.transport.rounds import Request

_NONE = object()


class _Call:
    """A call and, once it is there, its reply."""

    __slots__ = ("encoded", "reply", "slot")

    def __init__(self, encoded: bytes, slot: int) -> None:
        self.encoded, self.slot = encoded, slot
        self.reply: Any = _NONE


class _Lane:
    """A connection to one node, and the calls on it whose replies were not read."""

    def __init__(self, target: Target, connection: PooledConnection) -> None:
        self.target, self.connection = target, connection
        self.waiting: deque[_Call] = deque()
        self.slots: Counter[int] = Counter()
        self.last: bytes | None = None

    def send(self, call: _Call) -> None:
        self.last = call.encoded
        self.waiting.append(call)
        self.slots[call.slot] += 1
        self.connection.send(call.encoded)

    def read(self) -> Reply | FeatureStoreError:
        return self.connection.read()

    def done(self) -> None:
        """Take the oldest call off."""
        call = self.waiting.popleft()
        self.slots[call.slot] -= 1
        if not self.slots[call.slot]:
            del self.slots[call.slot]


class Streaming:
    """One stream of calls.

    A call goes where its slot is; as long as others of that slot wait for replies it follows them, so that they stay in
    order wherever the slot moves. When a node sends a call elsewhere, or has lost the scripts, all replies of that node
    are read, and what needs it is repeated before anything else is sent.

    Args:
        in_flight: Calls that may wait for replies on each connection.
        target: Returns which node has a slot.
        node: Returns the transport of a node.
        drive: Carries a request out, or goes on with one that a node has answered so.
        durability: How many replicas confirm what is written.
        clustered: Whether keys are those of a cluster.
    """

    def __init__(  # noqa: PLR0913 - what a cluster's transport lends it
        self,
        in_flight: int,
        target: Callable[[int], Target | None],
        node: Callable[[Target], SyncTransport],
        drive: Callable[[Request, tuple[Target, Replies] | None], Replies],
        durability: Durability,
        *,
        clustered: bool,
    ) -> None:
        self._durability, self._clustered = durability, clustered
        self._in_flight, self._target, self._node, self._drive = in_flight, target, node, drive
        self._lanes: dict[Target, _Lane] = {}
        self._by_slot: dict[int, _Lane] = {}
        self._unyielded: deque[_Call] = deque()

    def replies(self, calls: Iterable[tuple[bytes, int] | None]) -> Iterator[Reply | FeatureStoreError]:
        """Send calls, each with its slot, and yield the replies in their order; see `SyncTransport.stream`.

        Raises:
            FeatureStoreError: A connection broke, or a node could not be reached.
            UnconfirmedWriteError: Fewer replicas than wanted have what was written. All replies were yielded by then.
        """
        try:
            for each in calls:
                if each is None:
                    yield from self._drained()
                    continue
                lane = self._send(_Call(*each))
                while lane is not None and len(lane.waiting) >= self._in_flight:
                    self._settle(lane)
                yield from self._ready()
                while len(self._unyielded) >= self._in_flight * max(1, len(self._lanes)):
                    self._settle_oldest()
                    yield from self._ready()
            yield from self._drained()
            self._confirm()
        except BaseException:
            for lane in self._lanes.values():
                lane.connection.close()  # left half-way, with replies under way
            raise
        finally:
            for lane in self._lanes.values():
                lane.connection.give_back()

    def _confirm(self) -> None:
        """Ask the replicas of every node that got calls, all at once."""
        durability = self._durability
        if not durability.replicas:
            return
        doubts = []
        for lane in self._lanes.values():
            if lane.last is not None:
                try:
                    lane.connection.send(durability.question(lane.last, clustered=self._clustered))
                except TROUBLE as error:
                    raise located(failure_of(error).error, lane.target.address) from error
        for lane in self._lanes.values():
            if lane.last is not None:
                try:
                    replies = [lane.connection.read(None, self._durability.allowed) for _ in range(WAIT_REPLIES)]
                except TROUBLE as error:
                    raise located(failure_of(error).error, lane.target.address) from error
                _check(WAITED, replies)
                doubts.append(durability.doubt(replies, lane.target.address))
        doubt = next(filter(None, doubts), None)
        if doubt:
            raise UnconfirmedWriteError(doubt)

    def _send(self, call: _Call) -> _Lane | None:
        """Send a call, and return where; None where it has its reply already, since no connection could be had."""
        self._unyielded.append(call)
        lane = self._lane(call.slot)
        if lane is None:
            (call.reply,) = self._drive(_request([call]), None)
            if isinstance(call.reply, UnconfirmedWriteError):
                raise UnconfirmedWriteError(str(call.reply))
            return None
        try:
            lane.send(call)
        except TROUBLE as error:
            raise located(failure_of(error).error, lane.target.address, call.slot) from error
        self._by_slot[call.slot] = lane
        return lane

    def _lane(self, slot: int) -> _Lane | None:
        lane = self._by_slot.get(slot)
        target = self._target(slot)
        if lane is not None and slot in lane.slots:
            if target == lane.target:
                return lane
            while lane.waiting:  # another node is to get what comes, once this one has said what became of the rest
                self._settle(lane)
            target = self._target(slot)
        if target is None:
            return None
        lane = self._lanes.get(target)
        if lane is None:
            try:
                lane = self._lanes[target] = _Lane(target, self._node(target).take())
            except FeatureStoreError as error:
                if isinstance(error, UnavailableError):
                    return None  # its request finds out where the slot is now
                raise
        return lane

    def _ready(self) -> Iterator[Reply | FeatureStoreError]:
        while self._unyielded and self._unyielded[0].reply is not _NONE:
            yield self._unyielded.popleft().reply

    def _drained(self) -> Iterator[Reply | FeatureStoreError]:
        yield from self._ready()
        while self._unyielded:
            self._settle_oldest()
            yield from self._ready()

    def _settle_oldest(self) -> None:
        """Read replies of the node that the oldest call waits for."""
        self._settle(self._by_slot[self._unyielded[0].slot])

    def _settle(self, lane: _Lane) -> None:
        """Read the reply to the oldest call of a node; all of its replies where calls are to be repeated."""
        replies = [self._read(lane)]
        if isinstance(replies[0], RedisError):
            calls = list(lane.waiting)
            replies += [self._read(lane) for _ in range(len(calls) - 1)]
            _check(AnswersOfAny([call.encoded for call in calls]), replies)
            replies = self._drive(_request(calls), (lane.target, replies))
        for reply in replies:
            if isinstance(reply, UnconfirmedWriteError):
                raise UnconfirmedWriteError(str(reply))
            call = lane.waiting[0]
            _check(answer_to(call.encoded), [reply])
            call.reply = reply
            lane.done()

    def _read(self, lane: _Lane) -> Reply | FeatureStoreError:
        try:
            return lane.read()
        except TROUBLE as error:
            raise located(failure_of(error).error, lane.target.address, lane.waiting[0].slot) from error


def _request(calls: list[_Call]) -> Request:
    encoded = [call.encoded for call in calls]
    return Request(
        encoded,
        [call.slot for call in calls],
        AnswersOfAny,
        AnswersOfAny,
        follows=True,
        writes=True,
        in_order=any(map(keeps_order, encoded)),
        confirmed=True,
    )


def _check(expected: Expected, replies: Replies) -> None:
    misfit = expected.misfit(replies)
    if misfit:
        raise BadReplyError(f"{misfit}; {GIVEN_UP}")
