"""One request to a cluster under way: the replies so far, what goes again, and who was tried."""

from time import monotonic

from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError, RedisError, UnavailableError
from featurestore.transport.cluster import Cluster, Target, located
from featurestore.transport.repeats import Replies
from featurestore.transport.rounds import BY_TOPOLOGY, Refresh, Request, Way
from featurestore.transport.topology import Redirect, Shard

_MOST_HOPS = 4  # rounds of redirects that are followed without a pause

FRACTION = 0.5
"""The part of the time-out in which a server has to answer if there is another one."""


class Course:
    """What is known of a request under way.

    Args:
        cluster: What is known of the cluster.
        request: The calls.
        allowed: Seconds in which calls are repeated.
        deadline: When the request's time is over whatever it needs, by `time.monotonic`.

    Attributes:
        until: When its time is over, as far as is known now.
        replies: What was replied to each call.
        ways: Calls that are to be sent again, and how.
        errors: What they met last.
        doubtful: Replies of replicas that do not know an id.
        refresh: When the topology is to be read before the next round.
        pausing: Whether to wait before the next round.
        lost: Why calls got no reply in the last round.
        fatal: What the request fails with.
        failed_before: Nodes that it could not use.
        tried: Servers that did not answer a read.
        primary_first: Whether reads are the primary's, if it answers. Keys are: a schema that is too old would hide
            features.
        rounds: How many there were.
        sent_on: Calls that were redirected, and the nodes that did it.
        moving: Whether some slot was found half-way from one node to another.
    """

    __slots__ = (
        "allowed", "cluster", "deadline", "doubtful", "errors", "failed_before", "fatal", "lost", "moving", "pausing",
        "primary_first", "refresh", "replies", "request", "rounds", "sent_on", "tried", "until", "ways",
    )  # fmt: skip

    def __init__(self, cluster: Cluster, request: Request, allowed: float, deadline: float | None) -> None:
        self.cluster, self.request = cluster, request
        self.allowed, self.deadline = allowed, deadline
        self.until = monotonic() + allowed if deadline is None else deadline
        self.replies: Replies = [None] * len(request.encoded)
        self.ways: dict[int, Way] = {}
        self.errors: dict[int, FeatureStoreError] = {}
        self.doubtful: dict[int, Reply | FeatureStoreError] = {}
        self.refresh, self.pausing = Refresh.NEVER, False
        self.lost: FeatureStoreError | None = None
        self.fatal: FeatureStoreError | None = None
        self.failed_before: set[str] = set()
        self.tried: set[str] = set()
        self.primary_first = request.primary_only or request.answers is None
        self.rounds = 0
        self.sent_on: dict[int, set[str]] = {}
        self.moving = False

    def shard_of(self, place: int) -> Shard | None:
        """Return who has the slot of a call."""
        return self.cluster.shard(self.request.slots[place])

    def serving(self, shard: Shard) -> Target | None:
        """Return which node of a shard serves the request's calls; None for writes that are to wait."""
        return self.cluster.serving(shard, writes=self.request.writes, primary_only=self.primary_first)

    def want(self, refresh: Refresh) -> None:
        """Have the topology read again, at that time at the latest."""
        self.refresh = max(self.refresh, refresh)

    def note(self, place: int, reply: RedisError, address: str) -> None:
        """Keep what a node replied, for the case that nothing better follows."""
        self.errors[place] = located(UnavailableError(*reply.args), address, self.request.slots[place])

    def follow(self, place: int, redirect: Redirect, address: str) -> Way:
        """Return how a call goes where its node has sent it; after a pause, if it has come from there.

        A slot that moves is nobody's for a moment: the old node has given it up, and the new one does not know yet.

        Args:
            place: Which call.
            redirect: What its node said.
            address: Which node that was.
        """
        self.errors[place] = UnavailableError(
            f"slot {self.request.slots[place]} is moving: node {address} sends its calls to node {redirect.node},"
            f" by {'ASK' if redirect.asking else 'MOVED'}"
        )
        sent_on = self.sent_on.setdefault(place, set())
        sent_on.add(address)
        if redirect.node in sent_on or self.rounds > _MOST_HOPS:
            self.wait_for_move()
        if redirect.asking:
            return Way(Target(redirect.node), asking=True)
        self.cluster.redirected(redirect)
        self.want(Refresh.SOON)
        return Way(Target(redirect.node))  # also where the slot was a guess

    def wait_for_move(self) -> None:
        """Pause before the next round. Reads have their time-out once more: a partition on its way may take longer."""
        self.pausing = True
        if not self.moving and self.request.repeatable and self.deadline is None:
            self.until += self.allowed
        self.moving = True

    def hold(self, places: list[int]) -> None:
        """Have writes wait while their primary is about to be replaced."""
        for place in places:
            self.ways[place] = BY_TOPOLOGY
            self.errors[place] = UnavailableError("the write waited, since the primary is being replaced")
        self.pausing = True

    def nobody_has(self, places: list[int]) -> None:
        """Have calls wait for a topology in which somebody has their slots."""
        for place in places:
            slot = self.request.slots[place]
            self.ways[place] = BY_TOPOLOGY
            self.errors[place] = UnavailableError(f"no node of the cluster has slot {slot}")
        self.refresh, self.pausing = Refresh.FIRST, True

    def next_ways(self) -> dict[int, Way]:
        """Return what goes again, and begin the account of the next round."""
        ways, self.ways = self.ways, {}
        self.refresh, self.pausing, self.lost = Refresh.NEVER, False, None
        return ways

    def settle(self, place: int) -> bool:
        """Take what a replica said of a call, since nobody else answers; return whether one said something."""
        if place not in self.doubtful:
            return False
        self.replies[place] = self.doubtful.pop(place)
        return True
