"""What a transport knows of its cluster, and whom it asks when that is out of date; without I/O.

All calls of a transport share it. It says which node serves a call, and what is learnt of redirects and failures.
"""

import random
from collections.abc import Callable, Generator, Mapping
from math import inf
from time import monotonic
from typing import Any, Literal, Protocol

import msgspec

from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.transport.backoff import Backoff
from featurestore.transport.confirming import Durability
from featurestore.transport.replicas import Reading
from featurestore.transport.topology import Redirect, Shard, Topology, topology_of

QUESTION = ("CLUSTER", "SLOTS")
"""What `Cluster.asking` wants to know of a node."""


class SomeUrl(Protocol):
    """A URL that names several servers."""

    @property
    def seeds(self) -> tuple[str, ...]:
        """Their addresses."""

    def of_node(self, address: str) -> str:
        """Return the URL of one node."""


_MOST_ASKED = 4  # nodes, and as many seeds: a node that hangs costs a time-out
_LONGEST_PAUSE_S = 0.25
_PATIENT_S = 1.0
_SINGLE = "cluster support disabled"


class Target(msgspec.Struct, frozen=True):
    """Where a call goes.

    Attributes:
        address: The node's.
        replica: Whether it is asked as a replica, in a cluster on a connection that has said READONLY.
        use: `sentinel` for a Sentinel, `writes` for writes that wait for replicas, else empty.
    """

    address: str
    replica: bool = False
    use: str = ""


class Inquiry(msgspec.Struct, frozen=True):
    """A question to a node, beside the calls.

    Attributes:
        target: The node.
        words: The command.
    """

    target: Target
    words: tuple[str, ...]


class NodeState(msgspec.Struct, frozen=True):
    """A node as the topology has it.

    Attributes:
        target: How it is called.
        role: What it is.
        ranges: First and last of each run of slots that it has, or that its primary has.
    """

    target: Target
    role: Literal["primary", "replica"]
    ranges: list[tuple[int, int]]


class Cluster:
    """The topology as last seen, and what is wrong with nodes.

    Args:
        url: Where the cluster is.
        reached_at: Where nodes are reached whose addresses are others from here; see `address_map`.
        reading: Who answers reads; the primary, unless that does not answer, when left out.

    Attributes:
        clustered: Whether keys are those of a cluster.
        seeds: The nodes of the URL.
        reached_at: See there.
        reading: See there.
        topology: None until a node was asked.
        refreshes: How many times nodes were asked, whatever that brought.
        trouble: Why the topology could not be had, or not be had anew.
        changed: Called after every change of the topology.
        attend: Called when there is something to do beside the calls; see `keeping`.
        refresh_at: When the topology is to be read again though nothing went wrong, by `time.monotonic`.
        doubted: Whether it is to be read again before anything is sent.
        keeper: What keeps this up to date, if somebody does in this process.
        durability: How many replicas confirm a write.
        use_of_writes: As what targets of such writes are told apart: they have a connection of their own.
        read_only: Whether replicas know EVALSHA_RO, or FCALL_RO, which users who may only read need.
    """

    clustered = True

    def __init__(self, url: SomeUrl, reached_at: Mapping[str, str], reading: Reading | None = None) -> None:
        self._url = url
        self.reading = reading or Reading()
        self.refresh_at = inf
        self.attend: Callable[[], object] = _nothing
        self.read_only = True
        self.durability, self.use_of_writes = Durability(), ""
        self.doubted = False
        self.keeper: Any = None
        self.seeds = [reached_at.get(seed, seed) for seed in url.seeds]
        self.reached_at = reached_at
        self.topology: Topology | None = None
        self.refreshes = 0
        self.trouble: FeatureStoreError = UnavailableError("no server has told in time who has which keys")
        self.changed: Callable[[], object] = _nothing
        self._backoff = Backoff(_LONGEST_PAUSE_S)
        self._failing_since: dict[str, float] = {}

    # Where calls go

    def shard(self, slot: int) -> Shard | None:
        """Return who has a slot, None if nobody is known to; any shard for a slot below 0."""
        if self.topology is None:
            return None
        if slot >= 0 or not self.clustered:
            return self.topology.shard(slot)
        shards = self.topology.shards()
        return random.choice([each for each in shards if each.primary not in self._failing_since] or shards)  # noqa: S311 - spreads calls, no secret

    def serving(self, shard: Shard, *, writes: bool, primary_only: bool = False) -> Target | None:
        """Return which node of a shard serves a call: the one place that decides it.

        None for a write while its primary is about to be replaced.
        """
        if writes:
            return None if self.holding else Target(shard.primary)
        address = self.reading.choose(shard, primary_only=primary_only)
        return Target(address, replica=address != shard.primary)

    @property
    def listened_to(self) -> tuple[str, ...]:
        """Sentinels whose events are heard."""
        return ()

    @property
    def primary(self) -> str | None:
        """The address of the primary, where there is no cluster; None while it is not known."""
        return None

    @property
    def holding(self) -> bool:
        """Whether writes are held back, since their primary is about to be replaced."""
        return False

    def claimants(self) -> tuple[str, ...]:
        """Return the replicas that may have become the primary; none in a cluster, whose nodes tell that."""
        return ()

    def take_roles(self, roles: Mapping[str, Reply | FeatureStoreError]) -> None:
        """Take what replicas say to ROLE: those that answered."""

    def doubt(self) -> None:
        """Have the topology read again before anything else is sent: the connection to the primary is lost."""
        self.doubted = True

    def first_target(self) -> Target:
        """Return some node, by which options that are none are found."""
        return Target(self.seeds[0])

    def url_of(self, target: Target) -> str:
        """Return the URL of a node."""
        return self._url.of_node(target.address)

    def nodes(self) -> list[NodeState]:
        """Return every node of the topology; none while there is no topology."""
        if self.topology is None:
            return []
        found = []
        for shard, ranges in self.topology.ranges().items():
            found.append(NodeState(Target(shard.primary), "primary", ranges))
            found += [NodeState(Target(each, replica=True), "replica", ranges) for each in shard.replicas]
        return found

    # What calls bring

    def redirected(self, redirect: Redirect) -> None:
        """Take note that a slot is elsewhere, until the whole topology is read again."""
        if self.topology is not None and self.topology.move(redirect.slot, redirect.node):
            self.changed()

    def failed(self, address: str) -> None:
        """Take note that a node does not answer, or cannot be reached."""
        self._failing_since.setdefault(address, monotonic())
        self.reading.failed(address)

    def answered(self, address: str) -> None:
        """Take note that a node answers."""
        if self._failing_since:
            self._failing_since.pop(address, None)
        self.reading.answered(address)

    def is_hopeless(self, address: str) -> bool:
        """Return whether a node has failed for so long that requests no longer wait for it to come back."""
        return monotonic() - self._failing_since.get(address, monotonic()) > _PATIENT_S

    # The topology anew

    @property
    def may_ask(self) -> bool:
        """Whether the pause after refreshes that brought nothing is over."""
        return self._backoff.left <= 0

    def asking(self) -> Generator[Inquiry, Reply | FeatureStoreError, None]:
        """Yield questions to nodes, and be sent what each replies, until one tells of the topology."""
        trouble: FeatureStoreError = UnavailableError("no node of the cluster can be reached")
        found: Topology | None = None
        for address in self._candidates():
            reply = yield Inquiry(Target(address), QUESTION)
            try:
                if isinstance(reply, FeatureStoreError):
                    raise reply
                found = topology_of(reply, address, self.reached_at)
                break
            except FeatureStoreError as error:
                trouble = _told_by(address, error)
        self._adopt(found, trouble)

    def _adopt(self, found: Topology | None, trouble: FeatureStoreError) -> None:
        self.refreshes += 1
        self.doubted = False
        if found is None or found == self.topology:
            self._backoff.grow()
            if found is None:
                self.trouble = trouble
            return
        self._backoff.reset(at_once=True)
        self.topology = found
        kept = set(found.addresses())
        self._failing_since = {address: since for address, since in self._failing_since.items() if address in kept}
        self.reading.forget(kept)
        self.changed()

    def _candidates(self) -> list[str]:
        """Return some nodes to ask, at random, those last that fail, and the seeds behind them.

        The primaries come first: there is a connection to them.
        """
        shards = self.topology.shards() if self.topology else []
        random.shuffle(shards)
        known = [*(shard.primary for shard in shards), *(each for shard in shards for each in shard.replicas)]
        known.sort(key=self._failing_since.__contains__)
        seeds = random.sample(self.seeds, len(self.seeds))
        seeds.sort(key=self._failing_since.__contains__)
        return list(dict.fromkeys([*known[:_MOST_ASKED], *seeds[: _MOST_ASKED if known else None]]))


def _told_by(address: str, error: FeatureStoreError) -> FeatureStoreError:
    """Return an error of a node that was asked for the topology, with its address."""
    if _SINGLE in str(error):
        return UnavailableError(f"{address} is no node of a cluster: a single Redis has a URL with redis:// ({error})")
    return located(error, address)


def located(error: FeatureStoreError, address: str, slot: int | None = None) -> FeatureStoreError:
    """Return an error of the same kind that says which node it is about, and for which slot it was called."""
    where = f"node {address}" if slot is None or slot < 0 else f"node {address}, slot {slot}"
    return type(error)(f"{error} ({where})")


def _nothing() -> None:
    pass
