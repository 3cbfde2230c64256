"""Making sure that no other server has become the primary, before a read is answered in the primary's place.

That is asked by ROLE, after the read has begun. If no server says `master` then, nothing was acknowledged elsewhere
that the read would have to see. Only where Sentinels, or nobody, say who the primary is: nodes of a cluster tell it
themselves.
"""

from featurestore.contract.replies import answer_to_command
from featurestore.contract.resp import encode_command
from featurestore.transport.cluster import Target
from featurestore.transport.course import FRACTION, Course
from featurestore.transport.pipeline import Failure
from featurestore.transport.repeats import Exchange
from featurestore.transport.rounds import BY_TOPOLOGY, Leg, Refresh, Round, Rounds
from featurestore.transport.stand_ins import way_to_another

_ROLE = ("ROLE",)
_ENCODED = encode_command(_ROLE)


def make_sure(course: Course) -> Rounds:
    """Ask the replicas for ROLE, if calls of the next round are theirs or a primary's that is about to be replaced.

    Those that are not to answer are passed over, by calls that are on their way to one, too.
    """
    cluster = course.cluster
    if course.request.writes or not (cluster.holding or _is_handed_over(course)):
        return []
    addresses = cluster.claimants()
    if not addresses:
        return []
    before = cluster.primary
    legs = [_leg(course, address) for address in addresses]
    outcomes = yield Round(legs, 0.0, Refresh.NEVER, course.until)
    told = zip(addresses, outcomes, strict=True)
    cluster.take_roles({each: outcome[0] for each, outcome in told if not isinstance(outcome, Failure)})
    for place, way in course.ways.items():
        target = way.target
        if cluster.primary != before:
            course.ways[place] = BY_TOPOLOGY
        elif target is not None and target.replica and cluster.reading.is_unfit(target.address):
            course.ways[place] = way_to_another(course, place) or BY_TOPOLOGY
            course.want(Refresh.SOON)
    return []


def _is_handed_over(course: Course) -> bool:
    """Return whether replicas are to answer that nobody has chosen."""
    reading, primary = course.cluster.reading, course.cluster.primary
    if primary is None or not reading.plain or course.primary_first:
        return False
    return reading.is_failing(primary) or any(way.target and way.target.replica for way in course.ways.values())


def _leg(course: Course, address: str) -> Leg:
    exchange = Exchange([_ENCODED], answer_to_command(_ROLE, _ENCODED))
    exchange.allowed = course.allowed * FRACTION
    return Leg(Target(address, replica=True), exchange, [])
