"""Reads that another server of a shard answers, and what replicas reply to them."""

from time import monotonic

from featurestore.contract.doors import is_unknown
from featurestore.errors import DeadlineExceededError, FeatureStoreError, OverloadedError, RedisError, UnavailableError
from featurestore.transport.cluster import Target
from featurestore.transport.course import FRACTION, Course
from featurestore.transport.read_only import is_unknown_command
from featurestore.transport.repeats import Replies
from featurestore.transport.rounds import Leg, Refresh, Way
from featurestore.transport.topology import redirect_of
from featurestore.transport.turns import taken


def hand_over(course: Course, leg: Leg, error: FeatureStoreError, told: FeatureStoreError) -> list[int]:
    """Have another server of the shard answer reads that got no answer; return the places where none can.

    Args:
        course: The request under way.
        leg: What was sent.
        error: Why there is no answer.
        told: The same, with the node.
    """
    request, reading, address = course.request, course.cluster.reading, leg.target.address
    if not request.repeatable or request.primary_only:
        return leg.places
    if not (isinstance(error, UnavailableError) or leg.target.replica):
        return leg.places
    if isinstance(error, DeadlineExceededError):
        reading.late(address)
    elif not isinstance(error, OverloadedError):
        course.cluster.failed(address)
    course.tried.add(address)
    left = []
    for place in leg.places:
        if course.settle(place):
            continue
        way = way_to_another(course, place)
        if way is None:
            left.append(place)
            continue
        course.ways[place], course.errors[place], course.lost = way, told, told
    if len(left) < len(leg.places):
        course.want(Refresh.SOON)
        if course.deadline is None:  # to connect may have taken long
            course.until = max(course.until, monotonic() + course.allowed * (1 - FRACTION))
    return left


def way_to_another(course: Course, place: int) -> Way | None:
    """Return how a read is sent to a server of its shard that was not tried yet; None if there is none."""
    shard = course.shard_of(place)
    if shard is None or course.request.primary_only:
        return None
    replica = course.cluster.reading.stand_in(shard, course.tried)
    if replica is not None:
        return Way(Target(replica, replica=True))
    return None if shard.primary in course.tried else Way(Target(shard.primary))


def take_from_replica(course: Course, leg: Leg, replies: Replies) -> None:
    """Take what a replica says; ask the primary for what it does not know, or cannot say."""
    takes, lacks = course.request.takes, course.request.lacks
    for place, reply in zip(leg.places, replies, strict=True):
        way = _way_after_error(course, leg, place, reply) if isinstance(reply, FeatureStoreError) else None
        doubtful = lacks is not None and not isinstance(reply, FeatureStoreError) and lacks(reply)
        result = reply if takes is None else taken(takes[place], reply)
        if doubtful:
            to_primary = _way_to_primary(course, place)
            if to_primary is not None:
                course.doubtful[place] = result
                way = to_primary
        course.replies[place] = result
        if way is not None:
            course.ways[place] = way


def _way_after_error(course: Course, leg: Leg, place: int, reply: FeatureStoreError) -> Way | None:
    """Return how a call is repeated to which a replica replied with an error; None if the reply stands."""
    address = leg.target.address
    redirect = redirect_of(str(reply.args[0]), address, course.cluster.reached_at)
    if redirect is not None:  # its primary has given the slot away
        course.tried.add(address)
        return course.follow(place, redirect, address)
    course.errors[place] = reply
    if is_unknown(reply) and not leg.exchange.load:
        return Way(leg.target, load=True)
    if is_unknown_command(reply) and course.cluster.read_only:
        course.cluster.read_only = False
        return Way(leg.target)
    if isinstance(reply, RedisError):  # it is loading, cut off from its primary, a replica of another shard …
        course.cluster.reading.failed(address)
        course.want(Refresh.SOON)
    course.tried.add(address)
    to_primary = _way_to_primary(course, place)
    if to_primary is not None:
        return to_primary
    return way_to_another(course, place) if isinstance(reply, RedisError) else None


def _way_to_primary(course: Course, place: int) -> Way | None:
    """Return how a call is sent to the primary of its slot; None where that was tried."""
    shard = course.shard_of(place)
    return Way(Target(shard.primary)) if shard is not None and shard.primary not in course.tried else None
