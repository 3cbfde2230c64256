"""Which server of a shard answers a read: by choice, by how far behind a replica is, and by who does not answer.

Without I/O. What is known here is told by calls and by `Reading.polling`, which is run now and then in the background.
"""

import random
from collections.abc import Generator, Iterable
from time import monotonic
from typing import Any

import msgspec

from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.settings import ReadFrom, Settings
from featurestore.transport.topology import Shard

_FIRST_TRY_S, _LONGEST_TRY_S = 0.1, 1.0
_LATE_IN_A_ROW = 3
_POLL_S = 1.0
_LEAST_POLL_S = 0.02
_SMOOTHING = 0.3
_EVEN = 1.2  # servers whose round trips differ by less are as near
_NEWEST_FIELD = 4
_LINKED, _LINKING = (b"connected",), (b"connect", b"connecting")

Polls = Generator[str, Reply | FeatureStoreError, None]
"""Yields addresses of servers to ask for ROLE, and is sent what each replies."""


class _Trouble(msgspec.Struct):
    """A server that does not answer: when one call may try it again, and how long the pause was before."""

    again_at: float
    pause: float


class Reading:
    """Chooses the server of a read.

    Args:
        read_from: FEATURESTORE_READ_FROM: who is asked while all are well.
        max_lag: Seconds that a replica may be behind its primary; 0 for no bound.

    Attributes:
        read_from: See there.
        max_lag: See there.
        unsure: Whether the primary may be about to be replaced, so that reads have to make sure of it.
    """

    def __init__(self, read_from: ReadFrom = "primary", max_lag: float = 0.0) -> None:
        self.read_from: ReadFrom = read_from
        self.max_lag = max_lag
        self._troubles: dict[str, _Trouble] = {}
        self._late: dict[str, int] = {}  # calls in a row that a server did not answer in time
        self._current_at: dict[str, float] = {}  # replica → when its primary had nothing that it has not got since
        self._round_trips: dict[str, float] = {}
        self._unfit: set[str] = set()  # replicas that are not to answer in their primary's place
        self.unsure = False

    @classmethod
    def by_settings(cls, settings: Settings) -> "Reading":
        """Return what the settings ask for."""
        return cls(settings.read_from, settings.max_lag_ms / 1000)

    @property
    def plain(self) -> bool:
        """Whether the primary answers while it can: nobody chose otherwise."""
        return self.read_from == "primary"

    @property
    def settled(self) -> bool:
        """Whether every read goes to the primary of its shard, without a choice."""
        return self.read_from == "primary" and not self._troubles and not self.unsure

    @property
    def poll_every(self) -> float:
        """Seconds between two runs of `polling`; 0 where nobody needs what it finds."""
        if self.max_lag:
            return max(_LEAST_POLL_S, min(_POLL_S, self.max_lag / 3))
        return _POLL_S if self.read_from == "nearest" else 0.0

    def choose(self, shard: Shard, *, primary_only: bool = False) -> str:
        """Return the address of the server to read from.

        Args:
            shard: Who has the data.
            primary_only: Whether the caller wants what the primary has, whatever was chosen.
        """
        if primary_only or not shard.replicas:
            return shard.primary
        if self.read_from == "primary":
            if shard.primary not in self._troubles or self._may_try(shard.primary):
                return shard.primary
            return self._any_of(self._usable(shard)) or shard.primary
        usable = self._usable(shard)
        if self.read_from == "nearest":
            near = self._nearest([*usable, *([] if self.is_failing(shard.primary) else [shard.primary])])
            return near or shard.primary
        return self._any_of(usable) or shard.primary

    def stand_in(self, shard: Shard, tried: Iterable[str]) -> str | None:
        """Return a replica for a read whose server did not answer, None if none may serve it."""
        return self._any_of([each for each in self._usable(shard) if each not in tried])

    def has_stand_in(self, shard: Shard) -> bool:
        """Return whether some replica may answer where the primary does not."""
        return any(each not in self._troubles and self.is_current(each) for each in shard.replicas)

    # What is known

    def failed(self, address: str) -> None:
        """Take note that a server does not answer: reads go elsewhere, but for one now and then."""
        known = self._troubles.get(address)
        pause = _FIRST_TRY_S if known is None else min(_LONGEST_TRY_S, 2 * known.pause)
        self._troubles[address] = _Trouble(monotonic() + pause * random.uniform(0.8, 1.0), pause)  # noqa: S311 - spreads callers, no secret

    def late(self, address: str) -> None:
        """Take note that a server did not answer in time, which need not mean that it answers nobody."""
        self._late[address] = late = self._late.get(address, 0) + 1
        if late >= _LATE_IN_A_ROW:
            self.failed(address)

    def answered(self, address: str) -> None:
        """Take note that a server answers."""
        if self._troubles or self._late:
            self._troubles.pop(address, None)
            self._late.pop(address, None)

    def is_failing(self, address: str) -> bool:
        """Return whether a server did not answer when it was asked last."""
        return address in self._troubles

    def is_unfit(self, address: str) -> bool:
        """Return whether a replica was found to be none of its primary, or to have too old a copy."""
        return address in self._unfit

    def judge(self, asked: Iterable[str], fit: Iterable[str]) -> None:
        """Take note of which of the replicas that were asked may answer in their primary's place."""
        self._unfit = self._unfit.union(asked).difference(fit)

    def forget(self, kept: Iterable[str]) -> None:
        """Forget all servers but these."""
        known = set(kept)
        self._unfit &= known
        for table in (self._troubles, self._late, self._current_at, self._round_trips):
            for address in [each for each in table if each not in known]:
                del table[address]

    def is_current(self, replica: str) -> bool:
        """Return whether a replica is known to lag by no more than the bound."""
        return not self.max_lag or monotonic() - self._current_at.get(replica, -self.max_lag) < self.max_lag

    def polling(self, shards: Iterable[Shard]) -> Polls:
        """Ask for ROLE: how far each replica's copy is, and how far away each server is.

        A replica that has reached the offset that its primary had, when that was asked before, has all that was written
        until then: it lags by no more than the time since.
        """
        for shard in shards:
            asked_at = monotonic()
            told = yield shard.primary
            self._note_round_trip(shard.primary, told, asked_at)
            offset = offset_of(told)
            for replica in shard.replicas:
                began = monotonic()
                told = yield replica
                self._note_round_trip(replica, told, began)
                reached = offset_of(told, follows=shard.primary, others=shard.replicas)
                if offset is not None and reached is not None and reached >= offset:
                    self._current_at[replica] = asked_at

    # How it is chosen

    def _usable(self, shard: Shard) -> list[str]:
        current = [each for each in shard.replicas if self.is_current(each) and each not in self._unfit]
        return [each for each in current if each not in self._troubles or self._may_try(each)]

    def _may_try(self, address: str) -> bool:
        """Return whether the pause since a server did not answer is over; it is for one caller."""
        trouble, now = self._troubles[address], monotonic()
        if now < trouble.again_at:
            return False
        trouble.again_at = now + trouble.pause
        return True

    def _nearest(self, servers: list[str]) -> str | None:
        measured = [each for each in servers if each in self._round_trips]
        if not measured:
            return None
        least = min(self._round_trips[each] for each in measured)
        return self._any_of([each for each in measured if self._round_trips[each] <= _EVEN * least])

    def _note_round_trip(self, address: str, told: Reply | FeatureStoreError, began: float) -> None:
        if isinstance(told, FeatureStoreError):
            self._round_trips.pop(address, None)
            return
        took = monotonic() - began
        self._round_trips[address] = took * _SMOOTHING + self._round_trips.get(address, took) * (1 - _SMOOTHING)

    @staticmethod
    def _any_of(servers: list[str]) -> str | None:
        return random.choice(servers) if servers else None  # noqa: S311 - spreads calls, no secret


def offset_of(role: Any, *, follows: str | None = None, others: Iterable[str] = ()) -> int | None:
    """Return the replication offset in a reply to ROLE; None where it says nothing of how far the copy is.

    Args:
        role: Of a primary `master`, offset, replicas; of a replica `slave`, host, port, state, offset.
        follows: The primary whose copy it is to be; None where the server is to be a primary itself.
        others: Other servers of the shard. A replica that still follows one of them says nothing of the primary. (The
            address of the primary may be another one to its replicas.)
    """
    if follows is None:
        return role[1] if is_role(role, "master") else None
    if not is_role(role, "slave") or len(role) <= _NEWEST_FIELD or role[3] not in _LINKED:
        return None
    if _followed_by(role) in others:
        return None
    reached: int = role[_NEWEST_FIELD]
    return reached


def may_stand_in(role: Any, *, others: Iterable[str], primary_fails: bool) -> bool:
    """Return whether a replica may answer where its primary does not, by its reply to ROLE.

    One whose copy is being made has old values. One without a link to its primary may have some, too, which counts
    unless the primary is away: then none has a link.

    Args:
        role: The reply. An error, as for users who may not ask, says nothing against it.
        others: The other replicas: who follows one of them has not got what the primary has.
        primary_fails: Whether the primary does not answer at all; else it was late.
    """
    if isinstance(role, FeatureStoreError):
        return not isinstance(role, UnavailableError)
    if not is_role(role, "slave") or len(role) <= _NEWEST_FIELD or _followed_by(role) in others:
        return False
    return role[3] in _LINKED or (primary_fails and role[3] in _LINKING)


def _followed_by(role: Any) -> str:
    return f"{role[1].decode()}:{role[2]}"


def is_role(reply: Any, name: str) -> bool:
    """Return whether a reply to ROLE says that the server is a `master`, `slave` or `sentinel`."""
    return isinstance(reply, list) and bool(reply) and reply[0] in {name, name.encode()}
