"""The calls of a request, cut by the node that gets them."""

from collections.abc import Sequence
from itertools import groupby
from time import monotonic
from typing import Any

from featurestore.contract.replies import Expected
from featurestore.contract.resp import encode_command
from featurestore.transport.cluster import Target
from featurestore.transport.course import FRACTION, Course
from featurestore.transport.read_only import as_read_only
from featurestore.transport.repeats import Exchange
from featurestore.transport.rounds import BY_TOPOLOGY, Leg, Way
from featurestore.transport.slots import Part
from featurestore.transport.turns import SMALL_US

_ASKING = encode_command(("ASKING",))


def first_legs(course: Course) -> list[Leg]:
    """Return the legs of the first round: every call to the node that the topology names."""
    cluster, slots = course.cluster, course.request.slots
    topology = cluster.topology
    known = topology is not None and slots and (min(slots) >= 0 or not cluster.clustered)
    shards = topology.shards_of(slots) if topology and known else list(map(cluster.shard, slots))
    groups: dict[int, tuple[Any, list[int]]] = {}
    for shard, run in groupby(range(len(shards)), shards.__getitem__):  # calls of a batch are in order of their slots
        groups.setdefault(id(shard), (shard, []))[1].extend(run)
    legs = []
    for shard, places in groups.values():
        if shard is None:
            course.nobody_has(places)
            continue
        target = course.serving(shard)
        if target is None:
            course.hold(places)
        else:
            legs.append(leg_to(course, target, places))
    return legs


def next_legs(course: Course) -> list[Leg]:
    """Return the legs of the calls that go again, each on its way."""
    groups: dict[tuple[Target, Way], list[int]] = {}
    ways = course.next_ways()
    for place in sorted(ways):
        way = ways[place]
        target = way.target
        if target is None:
            shard = course.shard_of(place)
            if shard is None:
                course.nobody_has([place])
                continue
            target = course.serving(shard)
        if target is None:
            course.hold([place])
            continue
        groups.setdefault((target, way), []).append(place)
    return [leg_to(course, target, places, way, again=True) for (target, way), places in groups.items()]


def leg_to(course: Course, target: Target, places: list[int], way: Way = BY_TOPOLOGY, *, again: bool = False) -> Leg:
    """Return the leg of some calls of a request.

    Args:
        course: The request under way.
        target: The node.
        places: Which calls.
        way: How they go.
        again: Whether they were sent before.
    """
    request, durability = course.request, course.cluster.durability
    waits = request.confirmed and durability.replicas > 0
    if waits and course.cluster.use_of_writes:
        target = Target(target.address, use=course.cluster.use_of_writes)
    all_of_it = len(places) == len(request.encoded)
    takes = request.takes if request.takes is None or all_of_it else [request.takes[place] for place in places]
    big = request.answers is not None and request.each_us * len(places) > SMALL_US and not way.asking
    calls: Sequence[bytes]
    if big and not isinstance(request.encoded, list):
        calls = request.encoded if all_of_it else Part(request.encoded, places)
    else:
        calls = list(request.encoded) if all_of_it else [request.encoded[place] for place in places]
    expected = request.expected(calls)  # type: ignore[arg-type]  # a sequence of calls is as good
    if target.replica:
        takes = None  # what a replica does not know is asked of the primary before anything is made of it
        if course.cluster.read_only:
            calls = list(map(as_read_only, calls))
    if way.asking:
        both = [word for call in calls for word in (_ASKING, call)]
        exchange = Exchange(both, _AfterAsking(expected), writes=request.writes, load=way.load)
    else:
        follows = request.follows or again
        exchange = Exchange(calls, expected, request.answers, request.each_us, takes, follows, request.writes, way.load)
        exchange.allowed = None if big else _time_for(course, target, places[0])
    if waits:
        exchange.wait_s = durability.allowed
        exchange.wait = durability.question(request.encoded[places[0]], clustered=course.cluster.clustered)
    return Leg(target, exchange, places, way.asking)


def _time_for(course: Course, target: Target, place: int) -> float | None:
    """Return the seconds that a server may take, where less than the time-out: if there is another to ask then."""
    request = course.request
    if not request.repeatable or request.primary_only:
        return None
    shard = course.shard_of(place)
    if shard is None or not shard.replicas:
        return None
    if course.tried:
        return max(course.until - monotonic(), course.allowed * (1 - FRACTION))
    return course.allowed * FRACTION if target.replica or course.cluster.reading.has_stand_in(shard) else None


class _AfterAsking:
    """The replies to calls with ASKING ahead of each."""

    __slots__ = ("_expected", "name")

    def __init__(self, expected: Expected) -> None:
        self._expected, self.name = expected, expected.name

    def misfit(self, replies: Sequence[Any]) -> str | None:
        """Return what is wrong with the replies, None where nothing is."""
        return self._expected.misfit(replies[1::2])
