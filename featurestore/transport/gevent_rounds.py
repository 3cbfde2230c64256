"""Calls to a cluster that are sent without waiting: the rounds of gathered reads."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

from featurestore.contract.partitioned_calls import RoutedCalls
from featurestore.contract.scripts import Script
from featurestore.transport.cluster import Target
from featurestore.transport.clustered import SharedCluster
from featurestore.transport.course import FRACTION
from featurestore.transport.gevent_together import Run
from featurestore.transport.gevent_transport import GeventTransport
from featurestore.transport.pipeline import Resume, Waiter
from featurestore.transport.topology import Shard


class Rounds(SharedCluster[GeventTransport]):
    """What a transport for gevent does for `Spreading`.

    Nodes are kept by their slots, until the topology changes.
    """

    _by_slot: dict[int, GeventTransport]
    _timeout: float

    def submit_many(
        self, script: Script, encoded: RoutedCalls, resume: Callable[[Sequence[int], Waiter], object]
    ) -> tuple[int, list[int]]:
        """Send calls, those of a node in one write; see `Spreading.submit_many`."""
        if not self.cluster.reading.settled:
            return self._submit_elsewhere(script, encoded, resume)
        refused = list[int]()
        runs: Sequence[tuple[GeventTransport, Sequence[int]]] | None = self._runs_of(encoded.slots)
        if runs is None:
            runs = self._groups_of(encoded.slots, refused)
        taken_on = 0
        for node, places in runs:
            if isinstance(places, range):
                calls = encoded[places.start : places.stop]
            else:
                calls = [encoded[place] for place in places]
            if node.submit_calls(script, calls, partial(resume, places)) is None:
                refused += places
            else:
                taken_on += 1
        self.calls += len(encoded) - len(refused)
        return taken_on, refused

    @abstractmethod
    def submit_elsewhere(self, script: Script, encoded: bytes, resume: Resume) -> Waiter | None:
        """Send a call to whom reads go now, which may be a replica."""

    def _submit_elsewhere(
        self, script: Script, encoded: RoutedCalls, resume: Callable[[Sequence[int], Waiter], object]
    ) -> tuple[int, list[int]]:
        """Send calls to whom reads go now, each by itself: a replica's reply is judged for each."""
        refused = [
            place
            for place, call in enumerate(encoded)
            if self.submit_elsewhere(script, call, partial(resume, [place])) is None
        ]
        return len(encoded) - len(refused), refused

    def _runs_of(self, slots: Sequence[int]) -> list[Run] | None:
        """Return which node gets which calls, in their order.

        None if that is not known of some, or if the calls of a node do not stand side by side, as those of a batch do.
        """
        nodes = list(map(self._by_slot.get, slots))
        if None in nodes:
            nodes = list(map(self._node_of, slots))
        runs, start = list[Run](), 0
        for node, run in groupby(nodes):
            if node is None:
                return None
            stop = start + len(list(run))
            runs.append((node, range(start, stop)))
            start = stop
        return runs if len({node for node, _ in runs}) == len(runs) else None

    def _groups_of(self, slots: Sequence[int], refused: list[int]) -> list[tuple[GeventTransport, list[int]]]:
        """Return which node gets which calls, wherever these stand; those that no node gets are added to `refused`."""
        groups: dict[GeventTransport, list[int]] = {}
        for place, slot in enumerate(slots):
            node = self._by_slot.get(slot) or self._node_of(slot)
            if node is None:
                refused.append(place)
            else:
                groups.setdefault(node, []).append(place)
        return list(groups.items())

    def _node_of(self, slot: int) -> GeventTransport | None:
        """Return the node that is to get the calls of a slot, and keep it."""
        shard = self.cluster.shard(slot)
        if shard is None:
            return None
        target = self.cluster.serving(shard, writes=False)
        if target is None:
            return None
        node = self.hurried(target, shard)
        self._by_slot[slot] = node
        return node

    def hurried(self, target: Target, shard: Shard) -> GeventTransport:
        """Return the transport of a node, whose submitted calls are given up in time for another server's answer."""
        node = self._node(target)
        node.hurry = self._timeout * FRACTION if self.cluster.reading.has_stand_in(shard) else None
        return node

    @property
    def has_stand_ins(self) -> bool:
        """Whether a call that was not answered in time may be another server's."""
        topology = self.cluster.topology
        return topology is not None and any(shard.replicas for shard in topology.shards())
