"""Calls to a cluster: cut by node, sent in rounds, and repeated where that is safe; without I/O.

A request is a generator, as in `repeats.py`: it yields rounds of legs, each for one node, is sent their outcomes, and
returns the replies in the order of the calls. What becomes of a call is decided for each by itself:

| reply | the call |
|---|---|
| MOVED | goes to the node named, as all later ones of that slot; the topology is read again, soon |
| ASK | goes to the node named, this once, with ASKING ahead |
| MOVED or ASK, to a node that has sent it on before | goes there after a pause |
| TRYAGAIN, CLUSTERDOWN, LOADING, MASTERDOWN | is repeated after a pause |
| NOSCRIPT, an unknown function | is repeated there, with the scripts loaded ahead |
| READONLY, an access to a non local key | is repeated after the topology was read again |
| none, since the connection broke or was refused | likewise; if it writes, only where nothing of it was sent |

None of the replies means that the call took place. All repeats together end when the request's time is over.
"""

import random
from collections.abc import Sequence
from time import monotonic

from featurestore.errors import RedisError
from featurestore.transport.cluster import Cluster
from featurestore.transport.course import Course
from featurestore.transport.legs import first_legs, leg_to, next_legs
from featurestore.transport.making_sure import make_sure
from featurestore.transport.outcomes import give_up, take_in
from featurestore.transport.pipeline import Failure
from featurestore.transport.repeats import Replies
from featurestore.transport.rounds import Answered, Leg, Refresh, Request, Round, Rounds

_MOST_ROUNDS = 48
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.05
_LEAST_PAUSES = 24  # in the request's time, so that so many rounds last for as long


def routed(
    cluster: Cluster,
    request: Request,
    allowed: float,
    deadline: float | None = None,
    answered: Sequence[Answered] | None = None,
) -> Rounds:
    """Send the calls of a request to the nodes that have their slots.

    Args:
        cluster: What is known of the cluster.
        request: The calls.
        allowed: Seconds in which calls are repeated.
        deadline: When the request's time is over whatever it needs, by `time.monotonic`.
        answered: What was sent already, which is all calls, and what came of it.

    Raises:
        UnavailableError: There is no reply to some call, or no topology.
        FeatureStoreError: What a link failed with.
    """
    if not request.encoded:
        return []
    course = Course(cluster, request, allowed, deadline)
    if cluster.topology is None or cluster.doubted:
        yield Round([], 0.0, Refresh.FIRST, course.until)
        if cluster.topology is None:
            raise type(cluster.trouble)(*cluster.trouble.args)
    outcomes: Sequence[Replies | Failure]
    if answered is None:
        if not cluster.clustered:
            yield from make_sure(course)
        legs = first_legs(course)
        outcomes = yield Round(legs, 0.0, Refresh.NEVER, course.until)
        if len(legs) == 1 and len(legs[0].places) == len(course.replies) and not _needs_a_look(outcomes[0], legs[0]):
            cluster.answered(legs[0].target.address)
            return outcomes[0]  # type: ignore[return-value]  # a Failure needs a look
        if request.answers and deadline is None:
            course.until = max(course.until, monotonic() + allowed)  # a big one may have taken long
    else:
        legs, outcomes = [leg_to(course, *sent[:2]) for sent in answered], [sent[2] for sent in answered]
        for leg in legs:
            leg.exchange.wait = b""  # who has sent them asks replicas, too
    return (yield from _until_all_have_replies(course, legs, outcomes))


def _until_all_have_replies(course: Course, legs: list[Leg], outcomes: Sequence[Replies | Failure]) -> Rounds:
    """Take in the outcomes of the first round, and yield rounds until nothing is left, or the time is over."""
    pauses = 0
    while True:
        course.rounds += 1
        take_in(course, legs, outcomes)
        if course.fatal is not None:
            yield from _in_the_end(course)
            raise course.fatal
        if not course.ways:
            return course.replies
        refresh, pause = course.refresh, 0.0
        if course.pausing:
            pause, pauses = _pause_after(pauses, course), pauses + 1
        if monotonic() + pause >= course.until or course.rounds > _MOST_ROUNDS:
            yield from _in_the_end(course)
            give_up(course)
            return course.replies
        if refresh is Refresh.FIRST:
            yield Round([], pause, refresh, course.until)
            refresh, pause = Refresh.NEVER, 0.0
        if not course.cluster.clustered:
            yield from make_sure(course)
        legs = next_legs(course)
        outcomes = yield Round(legs, pause, refresh, course.until)


def _pause_after(pauses: int, course: Course) -> float:
    """Return how many seconds to wait before the next round: more each time, and at random, but for the last ones.

    Half of what is left is the most: else the last part of a request's time would go by without an attempt.
    """
    most = max(_LONGEST_PAUSE_S, course.allowed / _LEAST_PAUSES)
    longest: float = min(most, _FIRST_PAUSE_S * 2.0**pauses)
    pause = longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, no secret
    return max(_FIRST_PAUSE_S / 2, min(pause, (course.until - monotonic()) / 2))


def _in_the_end(course: Course) -> Rounds:
    """Have the topology read again for those who come next, if that is wanted."""
    if course.refresh:
        yield Round([], 0.0, Refresh.SOON, course.until)
    return []


def _needs_a_look(outcome: Replies | Failure, leg: Leg) -> bool:
    """Return whether some call may have to be repeated."""
    return (
        leg.asking
        or leg.target.replica
        or bool(leg.exchange.wait)
        or isinstance(outcome, Failure)
        or any(isinstance(reply, RedisError) for reply in outcome)
    )
