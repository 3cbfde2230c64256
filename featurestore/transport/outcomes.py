"""What becomes of each call after its node has replied, or not: the table of `routing.py`."""

from collections.abc import Sequence

from featurestore.contract.doors import is_unknown
from featurestore.contract.replies import PLAIN
from featurestore.errors import (
    BadReplyError,
    ClusterNodeError,
    OverloadedError,
    RedisError,
    UnavailableError,
    UnconfirmedWriteError,
)
from featurestore.transport.cluster import located
from featurestore.transport.course import Course
from featurestore.transport.pipeline import Failure
from featurestore.transport.reasons import with_bound
from featurestore.transport.repeats import Replies, to_repeat
from featurestore.transport.rounds import BY_TOPOLOGY, Leg, Refresh, Way
from featurestore.transport.stand_ins import hand_over, take_from_replica, way_to_another
from featurestore.transport.topology import redirect_of
from featurestore.transport.turns import taken

_LATER = ("TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN")
_READ_ONLY, _NOT_LOCAL = "READONLY", "non local key"


def take_in(course: Course, legs: list[Leg], outcomes: Sequence[Replies | Failure]) -> None:
    """Put the replies of a round in their places, and say which calls go again, and how."""
    for leg, outcome in zip(legs, outcomes, strict=True):
        if isinstance(outcome, Failure):
            _take_failure(course, leg, outcome)
            continue
        course.cluster.answered(leg.target.address)
        if leg.target.replica:
            take_from_replica(course, leg, outcome)
        else:
            replies = _without_asking(course, leg, outcome) if leg.asking else outcome
            if leg.exchange.wait:
                replies = course.cluster.durability.judged(leg.exchange.waited, replies, leg.target.address)
            _take_from_primary(course, leg, replies)


def _without_asking(course: Course, leg: Leg, outcome: Replies) -> Replies:
    """Return the replies to the calls behind the ASKINGs, of which nothing was made yet."""
    takes, replies = course.request.takes, outcome[1::2]
    if takes is None:
        return replies
    return [taken(takes[place], reply) for place, reply in zip(leg.places, replies, strict=True)]


def _take_from_primary(course: Course, leg: Leg, replies: Replies) -> None:
    places = leg.places
    if PLAIN.issuperset(map(type, replies)) and places[-1] - places[0] == len(replies) - 1:
        course.replies[places[0] : places[-1] + 1] = replies
        return
    for place, reply in zip(places, replies, strict=True):
        course.replies[place] = reply
        if isinstance(reply, RedisError):
            way = _way_after(course, leg, place, reply)
            if way is not None:
                course.ways[place] = way
    if course.request.in_order and course.ways:
        _keep_order(course, leg)


def _take_failure(course: Course, leg: Leg, failure: Failure) -> None:
    cluster, request = course.cluster, course.request
    address, error = leg.target.address, failure.reason(writes=request.writes and not request.repeatable)
    told = located(error, address, request.slots[leg.places[0]])
    places = hand_over(course, leg, error, told)
    if not places:
        return
    told = with_bound(course, places, told)
    if not isinstance(error, UnavailableError) or isinstance(error, OverloadedError):
        course.fatal = course.fatal or told
        return
    course.want(Refresh.SOON)
    safe = request.repeatable or failure.unsent
    worth = failure.lost or (failure.unsent and not isinstance(error, BadReplyError))
    known_to_fail = address in course.failed_before
    cluster.failed(address)
    if not (safe and worth) or (known_to_fail and cluster.is_hopeless(address)):
        course.fatal = course.fatal or told
        return
    course.refresh = Refresh.FIRST
    course.pausing = course.pausing or known_to_fail
    course.failed_before.add(address)
    course.lost = told
    for place in places:
        course.ways[place], course.errors[place] = BY_TOPOLOGY, told


def _way_after(course: Course, leg: Leg, place: int, reply: RedisError) -> Way | None:
    """Return how a call with that error reply is repeated; None if it is not."""
    if isinstance(reply, UnconfirmedWriteError):
        return None
    text, address = str(reply.args[0]), leg.target.address
    redirect = redirect_of(text, address, course.cluster.reached_at)
    if redirect is not None:
        return course.follow(place, redirect, address)
    if text.startswith(_LATER):
        course.note(place, reply, address)
        return _way_later(course, place, text, address)
    if is_unknown(reply) and not leg.exchange.load:
        return Way(leg.target, leg.asking, load=True)
    if is_unknown(reply) and leg.exchange.load_error is not None:
        course.replies[place] = leg.exchange.load_error
    elif text.startswith(_READ_ONLY) or _NOT_LOCAL in text:
        course.note(place, reply, address)
        course.pausing = course.pausing or address in course.failed_before
        course.failed_before.add(address)
        course.refresh = Refresh.FIRST
        return BY_TOPOLOGY
    elif isinstance(reply, ClusterNodeError):  # its hint is for those who gave the address of one server
        course.replies[place] = located(RedisError(*reply.args), address)
    return None


def _way_later(course: Course, place: int, text: str, address: str) -> Way:
    """Return how a call is repeated that its node cannot run just now: a read is another server's, if there is one."""
    if text.startswith("TRYAGAIN"):
        course.wait_for_move()
        return BY_TOPOLOGY
    course.want(Refresh.SOON)
    if course.request.repeatable and address not in course.tried:
        course.tried.add(address)
        other = way_to_another(course, place)
        if other is not None:
            return other
    course.pausing = True
    return BY_TOPOLOGY


def _keep_order(course: Course, leg: Leg) -> None:
    """Have all calls of a slot repeated that stand behind one that is, in the same way.

    Else an older row might end up over a newer one: what was refused is sent after what was not.
    """
    slots, ways, errors = course.request.slots, course.ways, course.errors
    by_slot: dict[int, list[int]] = {}
    for place in leg.places:
        by_slot.setdefault(slots[place], []).append(place)
    for places in by_slot.values():
        tail = [places[index] for index in to_repeat([place in ways for place in places], in_order=True)]
        if not tail:
            continue
        way, error = ways[tail[0]], errors.get(tail[0])
        for place in tail:
            ways[place] = way
            if error is not None:
                errors.setdefault(place, error)


def give_up(course: Course) -> None:
    """Put errors in the places of calls that are not repeated any more.

    Raises:
        FeatureStoreError: There was no reply to some.
    """
    for place in list(course.ways):
        if course.settle(place):
            del course.ways[place]
    if course.lost is not None and course.ways:
        raise course.lost
    for place in course.ways:
        error = course.errors.get(place)
        if error is not None:
            course.replies[place] = error
