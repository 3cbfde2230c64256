"""What every transport does."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from featurestore.contract.partitioned_calls import RoutedCalls
from featurestore.contract.replies import Take
from featurestore.contract.resp import Reply, Word
from featurestore.contract.scripts import Script
from featurestore.errors import FeatureStoreError
from featurestore.keys import SLOTS
from featurestore.transport.pipeline import Resume, Waiter
from featurestore.transport.repeats import Replies


class Node(msgspec.Struct, frozen=True):
    """One server behind a transport.

    Attributes:
        address: `host:port`, or the URL where there is no cluster.
        role: Whether it takes writes. Where there is no cluster, that is assumed.
        ranges: First and last of each run of hash slots that it has, or that its primary has.
        transport: Leads to this server alone; a `Transport`, or an `AsyncTransport`. It is closed with the one that it
            came from.
    """

    address: str
    role: Literal["primary", "replica"]
    ranges: list[tuple[int, int]]
    transport: Any


def whole(address: str, transport: Any) -> Node:
    """Return the node that is all there is behind a transport."""
    return Node(address, "primary", [(0, SLOTS - 1)], transport)


class Transport(Protocol):
    """One logical link to Redis, safe to share between the threads or greenlets that it is made for.

    In a cluster each call goes to the node that has its keys, which all are in one slot: several calls go to several
    nodes at once, one write each.

    Errors: `UnavailableError` and its kin when Redis cannot be reached or does not answer in time, else what
    `error_from_reply` makes of the reply. NOSCRIPT, and that a function is not there, is never seen: the scripts are
    loaded and the call repeated once.
    A reply that cannot be one to its call (see `featurestore.contract.replies`) ends the connection it came on; the
    call is repeated once on another one where it only reads, else it raises `BadReplyError`.
    """

    @property
    def clustered(self) -> bool:
        """Whether it leads to a cluster, where an entity's keys are partitioned (`keys.PartitionedKeys`)."""

    def run(self, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Reply:
        """Call `script` once: one EVALSHA or FCALL, one round trip."""

    def run_encoded(self, script: Script, encoded: bytes) -> Reply:
        """Do what `run` does for a call that `encode_call` has encoded, or any bytes of that form."""

    def run_many_encoded(  # noqa: PLR0913 - all but the first two by name
        self,
        script: Script,
        encoded: Sequence[bytes],
        *,
        each_us: float = 0.0,
        takes: Sequence[Take] | None = None,
        follows: bool = False,
        writes: bool = False,
    ) -> Replies:
        """Do what `run_encoded` does for each of `encoded`, and return the replies in their order.

        All leave in one write, unless they take Redis long and the connection is shared: then they are sent a few at a
        time. An error reply to one call stands in its place as an exception; the others are unaffected. Only failures
        of the link itself are raised.

        Args:
            script: What is called.
            encoded: The calls. Each may be encoded when it is looked at, which is when it is sent.
            each_us: About how long each takes of Redis's time.
            takes: For each call a function of its reply, whose result, or exception, stands in the reply's place. It is
                called as soon as the reply is there.
            follows: Whether the calls go on with what was admitted, and so are not refused.
            writes: Whether the calls belong to a write: they have its time-out, and only primaries answer. Those of
                scripts that write do anyway.

        Raises:
            OverloadedError: The connection is shared, and the calls would not be answered in time.
        """

    def command(self, *words: Word, writes: bool = False) -> Reply:
        """Run one plain command, such as PING; `writes` as in `run_many_encoded`."""

    def nodes(self) -> list[Node]:
        """Return every server that it leads to, those that cannot be reached too.

        Raises:
            UnavailableError: There is a cluster, and none of its nodes tells of the others.
        """

    def close(self) -> None:
        """Give the connections back; later calls may open new ones."""


@runtime_checkable
class Timed(Protocol):
    """A transport that can bound one call in all."""

    def within(self, seconds: float) -> Transport:
        """Return this transport for one call, which may take so long from now on, whatever it needs to ask."""


@runtime_checkable
class Replicas(Protocol):
    """A transport whose reads may be answered by replicas."""

    def from_primary(self) -> Any:
        """Return this transport for reads that only primaries answer."""


class CallTimes(Protocol):
    """Takes note of how long calls take, by what was called (`Expected.name`); None in its place costs nothing.

    Attributes:
        reads: How many reads of shared connections have brought replies; the connections count them.
        mask: `answered` is to be called for those reads alone whose number has none of these bits.
    """

    reads: int
    mask: int

    def answered(self, waiters: Sequence[Waiter]) -> None:
        """Take note of calls on a shared connection that have just been answered."""

    def given_up(self, waiters: Sequence[Waiter]) -> None:
        """Take note of calls on a shared connection that nobody waits for any more."""

    def took(self, name: str, seconds: float, count: int) -> None:
        """Take note of `count` calls that left in one write, and of the seconds until all were answered."""


class Census(msgspec.Struct):
    """What a transport's connections to Redis do now, or did so far.

    Attributes:
        connected: How many there are.
        connecting: How many are being made.
        down: How many servers could not be reached at the last attempt, and have no connection.
        calls_in_flight: Calls that are not answered.
        reconnects: Connections made in the place of earlier ones, so far.
    """

    connected: int = 0
    connecting: int = 0
    down: int = 0
    calls_in_flight: int = 0
    reconnects: int = 0

    def add(self, other: "Census") -> None:
        """Add what another transport's connections do."""
        for field in self.__struct_fields__:
            setattr(self, field, getattr(self, field) + getattr(other, field))


@runtime_checkable
class Counted(Protocol):
    """A transport that tells of its connections."""

    def census(self) -> Census:
        """Return what they do."""


class Submitting(Protocol):
    """A transport that takes a call and a callback, so that no greenlet waits, and knows how busy it is.

    `GeventTransport` is one.
    """

    @property
    def has_stand_ins(self) -> bool:
        """Whether a call that was not answered in time may be another server's."""

    def overload(self, *, writes: bool = False) -> FeatureStoreError | None:
        """Return why any further big request, or write, would be refused now; None if it would not."""

    def note_small(self, took: float, nearest: float) -> float:
        """Take into account how long a call took that was submitted, and how far Redis is; both in seconds.

        Return how much of big requests may be sent beside such calls, inf where there are none; see `Pace.note`.
        """

    def hear_pace(self, at: float, pace: float) -> None:
        """Take into account what `note_small` returned in another process, at that time."""

    def submit(self, script: Script, encoded: bytes, resume: Resume) -> Waiter | None:
        """Send a call, and call `resume` with its outcome; return None if the call cannot be taken on now."""


@runtime_checkable
class Spreading(Protocol):
    """A transport to a cluster that takes the calls of a round and a callback, so that no greenlet waits."""

    def submit_many(
        self, script: Script, encoded: RoutedCalls, resume: Callable[[Sequence[int], Waiter], object]
    ) -> tuple[int, list[int]]:
        """Send calls, those of a node in one write; return how many nodes get some, and the places of other calls.

        Those cannot be taken on now. Nothing is repeated, and nothing raised.

        Args:
            script: What is called, or what stands for several scripts.
            encoded: The calls, with the hash slot of each.
            resume: Called in the event loop once for each node, with the places of its calls and their outcome: a
                failure, the reply to one call, or the list of those to several.
        """
