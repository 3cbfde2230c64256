"""One primary and its replicas outside a cluster: found by Sentinels, or by asking the servers; without I/O.

They are a topology of one shard, so that the transports to clusters serve them, too. Keys are those of a single Redis.
"""

import logging
import re
from collections.abc import Generator, Mapping, Sequence
from time import monotonic
from typing import Any

from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.keys import SLOTS
from featurestore.transport.addresses import joined
from featurestore.transport.cluster import Cluster, Inquiry, SomeUrl, Target, located
from featurestore.transport.replicas import Reading, is_role, may_stand_in
from featurestore.transport.sentinels import Event, Hold, SentinelUrl, ask, event_of
from featurestore.transport.servers import ServersUrl
from featurestore.transport.topology import Shard, Topology

ROLE = ("ROLE",)
IDENTITY = ("INFO", "server")
_logger = logging.getLogger("featurestore")
_SILENT_S = 30.0
_TRUSTED_S = 15.0
_REFRESH_S = 10.0
_AFTER_SWITCH_S = 1.5
"""By then all Sentinels know of a switch, and replicas follow the new primary."""

Steps = Generator[Inquiry, Reply | FeatureStoreError, None]


class OneShard(Topology):
    """A primary and its replicas, which have all slots.

    Args:
        one: They.
    """

    def __init__(self, one: Shard) -> None:
        super().__init__([one])
        self.one = one

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OneShard) and self.one == other.one

    __hash__ = None

    def shard(self, slot: int) -> Shard:  # noqa: ARG002 - it has all
        """Return them."""
        return self.one

    def shards_of(self, slots: Sequence[int]) -> list[Shard | None]:
        """Return them for each slot."""
        return [self.one] * len(slots)

    def move(self, slot: int, primary: str) -> bool:  # noqa: ARG002 - there are no redirects
        """Return that nothing is new."""
        return False

    def shards(self) -> list[Shard]:
        """Return the only one."""
        return [self.one]

    def ranges(self) -> dict[Shard, list[tuple[int, int]]]:
        """Return all slots."""
        return {self.one: [(0, SLOTS - 1)]}


class Alone(Cluster):
    """A primary and its replicas outside a cluster.

    Args:
        url: Where they are found.
        reached_at: See `address_map`.
        reading: Who answers reads.
    """

    clustered = False

    def __init__(self, url: SomeUrl, reached_at: Mapping[str, str], reading: Reading) -> None:
        super().__init__(url, reached_at, reading)
        self._former: set[str] = set()  # primaries that were replaced: they may come back as one, with old values

    @property
    def primary(self) -> str | None:
        """Its address; None while it is not known."""
        return self.topology.one.primary if isinstance(self.topology, OneShard) else None

    def claimants(self) -> tuple[str, ...]:
        """Return the replicas: one of them may have become the primary."""
        return self.topology.one.replicas if isinstance(self.topology, OneShard) else ()

    def take_roles(self, roles: Mapping[str, Reply | FeatureStoreError]) -> None:
        """Find which replicas may answer in the primary's place, by what they say to ROLE.

        If one has become the primary, no other may: they still follow the old one.
        """
        primary, replicas = self.primary, self.claimants()
        if primary is None:
            return
        fails = self.reading.is_failing(primary)
        fit = {each for each, role in roles.items() if is_role(role, "master") and each not in self._former} or {
            each for each, role in roles.items() if may_stand_in(role, others=replicas, primary_fails=fails)
        }
        self.reading.judge(roles, fit)

    def _adopt(self, found: Topology | None, trouble: FeatureStoreError) -> None:
        before = self.primary
        super()._adopt(found, trouble)
        self._note_change(before)

    def _note_change(self, before: str | None) -> None:
        primary, replicas = self.primary, self.claimants()
        if primary is not None and primary != before:
            self._former.discard(primary)
            self.reading.judge((), replicas)
            if before is not None:
                self._former.add(before)


class Watched(Alone):
    """A primary that Sentinels watch, and its replicas.

    Args:
        url: Who the Sentinels are.
        reached_at: See `address_map`.
        reading: Who answers reads.

    Attributes:
        hold: Whether writes are held back; see there.
    """

    def __init__(self, url: SentinelUrl, reached_at: Mapping[str, str], reading: Reading) -> None:
        super().__init__(url, reached_at, reading)
        self.hold = Hold()
        self._sentinels = url
        self._heard: str | None = None
        self._heard_at = 0.0

    @property
    def listened_to(self) -> tuple[str, ...]:
        """The Sentinels, whose events are heard."""
        return self._sentinels.seeds

    @property
    def holding(self) -> bool:
        """Whether writes are held back."""
        return self.hold.lasts

    def first_target(self) -> Target:
        """Return somebody to ask."""
        return Target(self._sentinels.seeds[0], use="sentinel")

    def url_of(self, target: Target) -> str:
        """Return the URL of a server or a Sentinel."""
        if target.use == "sentinel":
            return self._sentinels.of_sentinel(target.address)
        return self._sentinels.of_node(target.address)

    def asking(self) -> Steps:
        """Ask the Sentinels who the primary is; see `Cluster.asking`.

        Of a switch that was heard lately some of them may not know yet: the new primary itself is asked then.
        """
        heard = self._heard
        if heard is not None and monotonic() < self._heard_at + _TRUSTED_S:
            role = yield Inquiry(Target(heard, replica=True), ROLE)
            if not is_role(role, "master"):
                heard = None
        else:
            heard = None
        steps, reply = ask(self._sentinels, self.reached_at, heard), None
        try:
            while True:
                question = steps.send(reply)
                reply = yield Inquiry(Target(question.sentinel, use="sentinel"), question.words)
        except StopIteration as end:
            found = end.value
        except FeatureStoreError as error:
            self._adopt(None, error)
            return
        shard = Shard(found.primary, found.replicas)
        if heard is not None and heard != found.primary:
            shard = Shard(heard)
        self._adopt(OneShard(shard), self.trouble)

    def hear(self, message: Any) -> None:
        """Take a message of a Sentinel's."""
        event = event_of(message, self._sentinels.name, self.reached_at)
        if event is not None:
            self._take_event(event)

    def claimants(self) -> tuple[str, ...]:
        """Return the replicas, and who is about to take over."""
        successor, known = self.hold.successor, super().claimants()
        return known if successor is None or successor in known else (*known, successor)

    def take_roles(self, roles: Mapping[str, Reply | FeatureStoreError]) -> None:
        """Take it, and go over to the successor if it says that it is the primary now."""
        successor = self.hold.successor
        if successor is not None and successor in roles:
            self.take_role(successor, roles[successor])
        if self.hold.successor is not None or successor is None:
            super().take_roles(roles)

    def take_role(self, successor: str, role: Any) -> None:
        """Take what a replica that is about to take over says of itself."""
        if is_role(role, "master"):
            self._switch(successor)

    def _take_event(self, event: Event) -> None:
        if event.kind == "switched":
            self._switch(event.primary)
        elif event.kind == "selected":
            if self.primary != event.primary:
                self.hold.begin(event.primary)
        else:
            self.hold.end()
        self.reading.unsure = self.holding
        self.attend()

    def _switch(self, primary: str) -> None:
        """Let go of the old primary at once: what it acknowledges from now on is lost."""
        self._heard, self._heard_at = primary, monotonic()
        self.hold.end()
        self.reading.unsure = False
        before = self.primary
        if before != primary:
            self.refreshes += 1
            self.topology = OneShard(Shard(primary))
            self._note_change(before)
            self.refresh_at = monotonic() + _AFTER_SWITCH_S
            self.changed()
        self.attend()


class Replicated(Alone):
    """A primary whose replicas are found by asking it, or one of them, for ROLE.

    Args:
        url: Some of the servers.
        reached_at: See `address_map`.
        reading: Who answers reads.
    """

    def __init__(self, url: ServersUrl, reached_at: Mapping[str, str], reading: Reading) -> None:
        super().__init__(url, reached_at, reading)
        self._servers = url
        self._silent_until: dict[str, float] = {}

    def url_of(self, target: Target) -> str:
        """Return the URL of a server."""
        return self._servers.of_node(target.address)

    def asking(self) -> Steps:
        """Ask the servers for ROLE until one is the primary; see `Cluster.asking`."""
        trouble: FeatureStoreError = UnavailableError("no server can be reached")
        to_ask, asked = self._candidates(), set()
        known_replica: tuple[str, str] | None = None
        while to_ask:
            server = to_ask.pop(0)
            if server in asked:
                continue
            asked.add(server)
            role: Any = yield Inquiry(Target(server, replica=True), ROLE)
            if isinstance(role, FeatureStoreError):
                trouble = located(role, server)
                self._silent_until[server] = monotonic() + _SILENT_S
            elif is_role(role, "master"):
                yield from self._found(server, self._told_of(role), asked)
                return
            elif is_role(role, "slave"):
                primary = self._reached(role[1], int(role[2]))
                known_replica = known_replica or (server, primary)
                to_ask.insert(0, primary)
            else:
                trouble = UnavailableError(f"{server} is neither primary nor replica: it says {str(role)[:60]}")
        if known_replica is not None and self.topology is None:  # its primary is away: reads can be answered
            replica, primary = known_replica
            self._adopt(OneShard(Shard(primary, (replica,))), trouble)
            return
        self._adopt(None, trouble)

    def _found(self, server: str, replicas: tuple[str, ...], asked: set[str]) -> Steps:
        """Take a server for the primary, unless another one of the URL says that it is the primary, too.

        Who took over without us, and who came back later, cannot be told apart: the one that was known stays, and else
        neither is taken. What follows this one, and what did not answer lately, is not asked.
        """
        claims = [server]
        for seed in self.seeds:
            if seed in asked or seed in replicas or monotonic() < self._silent_until.get(seed, 0.0):
                continue
            role = yield Inquiry(Target(seed, replica=True), ROLE)
            if isinstance(role, FeatureStoreError):
                self._silent_until[seed] = monotonic() + _SILENT_S
            elif is_role(role, "master"):
                first = _run_of((yield Inquiry(Target(server, replica=True), IDENTITY)))
                other = _run_of((yield Inquiry(Target(seed, replica=True), IDENTITY)))
                if first is None or first != other:
                    claims.append(seed)
        if len(claims) == 1:
            self._adopt(OneShard(Shard(server, replicas)), self.trouble)
            return
        trouble = UnavailableError(
            f"{' and '.join(claims)} both say that they are the primary: one of them is to follow the other (REPLICAOF)"
        )
        _logger.warning("%s", trouble)
        if self.primary not in claims and self.topology is not None:
            self.topology = None
            self.changed()
        self._adopt(None, trouble)

    def _told_of(self, role: Any) -> tuple[str, ...]:
        return tuple(sorted(self._reached(host, int(port)) for host, port, _offset in role[2]))

    def _reached(self, host: bytes, port: int) -> str:
        told = joined(host.decode(), port)
        return self.reached_at.get(told, told)


def _run_of(told: Any) -> bytes | None:
    """Return what tells a server from all others, of INFO; None where it does not say: one may have two names."""
    found = re.search(rb"run_id:(\w+)", told) if isinstance(told, bytes) else None
    return found[1] if found else None


def next_refresh() -> float:
    """Return when the servers are to be asked anew though nothing went wrong: replicas come and go."""
    return monotonic() + _REFRESH_S
