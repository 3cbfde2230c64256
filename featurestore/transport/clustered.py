"""What the transports to clusters have in common: a plain transport for each node, and what is known of the cluster."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from featurestore.contract.doors import DOORS
from featurestore.contract.resp import Word
from featurestore.settings import CallBy
from featurestore.transport.addresses import address_map
from featurestore.transport.cluster import Target
from featurestore.transport.confirming import Durability
from featurestore.transport.dial import address_of
from featurestore.transport.greeting import Role
from featurestore.transport.interface import Node
from featurestore.transport.keeping import needs_keeping
from featurestore.transport.reconnect import Sharing
from featurestore.transport.replicas import Reading
from featurestore.transport.rounds import ANY, Request, command_request
from featurestore.transport.slots import Slots
from featurestore.transport.sources import cluster_of

_LEAST_PATIENCE_S = 0.1
_MOST_SILENT = 3  # so many nodes that are silent do not use up the time in which another one would answer


class FromPrimary:
    """A transport whose reads only primaries answer, so that they see all writes before.

    Args:
        transport: Whose connections they go over.
    """

    def __init__(self, transport: Any) -> None:
        self.run_many_encoded = partial(transport.run_many_encoded, primary_only=True)
        self.command = partial(transport.command, primary_only=True)


class NodeTransport(Protocol):
    """What the transport to one node does here."""

    def retire(self) -> None:
        """Close the connections, those in use when their calls are over."""


NodeT = TypeVar("NodeT", bound=NodeTransport)


class Clustered(Generic[NodeT]):
    """A transport for each node, made when it is first needed.

    Args:
        url: `redis+cluster://`, `redis+sentinel://` or `redis+replicas://`, or with `rediss`, with credentials and TLS
            options for every node.
        make: Makes the transport of a node, of its URL and how it is greeted.
        reached_at: Where nodes are reached whose addresses are others from here; see `address_map`.
        call: How Redis runs the scripts.
        reading: Who answers reads.
        durability: How many replicas confirm a write.

    Attributes:
        address: The URL without credentials and options.
        cluster: What is known of the cluster.

    Raises:
        ConfigurationError: The URL, or the map of addresses, cannot be used.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a cluster is made of
        self,
        url: str,
        make: Callable[[str, Role], NodeT],
        reached_at: str,
        call: CallBy,
        reading: Reading | None = None,
        durability: Durability | None = None,
    ) -> None:
        self._make = make
        self.cluster = cluster_of(url, address_map(reached_at), reading or Reading())
        self.address = address_of(url)
        self.cluster.durability = durability or Durability()
        self.cluster.changed = _weakly(self._on_change)
        self.clustered = self.cluster.clustered
        self._converted = DOORS[call].converted
        self._slots = Slots()
        self._keeps = needs_keeping(self.cluster)
        self._made: dict[Target, NodeT] = {}
        self._node(self.cluster.first_target())  # an option that is none is found now

    def __repr__(self) -> str:
        topology = self.cluster.topology
        state = f"{len(topology.shards())} shards" if topology else "not connected"
        return f"<{type(self).__name__} {self.address} {state}>"

    @property
    def sentinels(self) -> tuple[str, ...]:
        """The addresses of the Sentinels that are asked; none where there are none."""
        return self.cluster.listened_to

    def from_primary(self) -> FromPrimary:
        """Return this transport for reads that only primaries answer; see `Replicas`."""
        return FromPrimary(self)

    def _node(self, target: Target) -> NodeT:
        """Return the transport of a node."""
        made = self._made.get(target)
        if made is None:
            made = self._made.setdefault(target, self._make(self.cluster.url_of(target), self._role(target)))
        return made

    def _role(self, target: Target) -> Role:
        """Return as what a node is greeted."""
        if target.use == "sentinel":
            return "sentinel"
        if self.clustered:
            return "cluster replica" if target.replica else "any"
        return "replica" if target.replica else "primary"

    def _slots_of(self, encoded: Sequence[bytes]) -> list[int]:
        """Return the slot of each call; where there is no cluster, one is as good as another."""
        return self._slots.of_each(encoded) if self.clustered else [ANY] * len(encoded)

    def _command_request(self, words: tuple[Word, ...], *, writes: bool, primary_only: bool) -> Request:
        """Return the request of a plain command; where there is no cluster, no slot is told."""
        request = command_request(words, writes=writes, primary_only=primary_only)
        if not self.clustered:
            request.slots = [ANY]
        return request

    def _patience(self, allowed: float) -> float:
        """Return how many seconds a node is waited for that was asked a question, where others know the answer, too.

        Args:
            allowed: Seconds until somebody has to have answered.
        """
        return max(_LEAST_PATIENCE_S, allowed / _MOST_SILENT) if len(self.cluster.seeds) > 1 else allowed

    def _known_nodes(self) -> list[Node]:
        return [
            Node(each.target.address, each.role, each.ranges, self._node(each.target)) for each in self.cluster.nodes()
        ]

    def _each_made(self) -> Iterator[NodeT]:
        return iter(list(self._made.values()))

    def _converted_each(self, encoded: Sequence[bytes]) -> Sequence[bytes]:
        """Return the calls as Redis is asked to run them."""
        return encoded if self._converted is None else list(map(self._converted, encoded))

    def _on_change(self) -> None:
        """Let go of nodes that the cluster has no more."""
        topology = self.cluster.topology
        shards = topology.shards() if topology else []
        primaries = {shard.primary for shard in shards}
        replicas = {each for shard in shards for each in shard.replicas}
        for target in list(self._made):
            kept = primaries | replicas if target.replica or self.clustered else primaries
            if target.address not in kept and target.use != "sentinel":
                gone = self._made.pop(target, None)
                if gone is not None:
                    self._let_go(gone)

    def _let_go(self, node: NodeT) -> None:
        node.retire()


def _weakly(method: Callable[[], object]) -> Callable[[], None]:
    """Return what calls a method while its object is there, without holding it."""
    known = weakref.WeakMethod(method)

    def call() -> None:
        found = known()
        if found is not None:
            found()

    return call


LinkedT = TypeVar("LinkedT", bound=Sharing[Any])


class SharedCluster(Clustered[LinkedT]):
    """A cluster whose nodes have one connection each, which all callers of an event loop share.

    Attributes:
        calls: Calls taken on so far.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a cluster is made of
        self,
        url: str,
        make: Callable[[str, Role], LinkedT],
        reached_at: str,
        call: CallBy,
        reading: Reading | None = None,
        durability: Durability | None = None,
    ) -> None:
        super().__init__(url, make, reached_at, call, reading, durability)
        self.cluster.use_of_writes = "writes"  # a WAIT holds up all that stands behind it
        self.calls = 0
        self._gone_connections = self._gone_writes = self._gone_reconnects = 0

    def __repr__(self) -> str:
        return (
            f"{super().__repr__()[:-1]}, {self.in_flight} in flight, {self.calls} calls in {self.writes} writes, "
            f"{self.reconnects} reconnects>"
        )

    @property
    def in_flight(self) -> int:
        """Calls whose replies have not been read, including those that were given up."""
        return sum(node.in_flight for node in self._each_made())

    @property
    def writes(self) -> int:
        """Number of writes so far, to all nodes."""
        return self._gone_writes + sum(node.writes for node in self._each_made())

    @property
    def connections(self) -> int:
        """Connections made so far, to all nodes."""
        return self._gone_connections + sum(node.connections for node in self._each_made())

    @property
    def reconnects(self) -> int:
        """Connections made after the first to each node."""
        return self._gone_reconnects + sum(node.reconnects for node in self._each_made())

    def _let_go(self, node: LinkedT) -> None:
        self._gone_connections += node.connections
        self._gone_reconnects += node.reconnects
        node.retire()
        self._gone_writes += node.writes
