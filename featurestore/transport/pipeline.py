"""What is known of the calls on one connection, without any I/O: order, what was sent, deadlines, and its end.

A link (`link.py`) moves bytes and watches the clock; everything that those mean is decided here.
"""

import enum
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

import hiredis
import msgspec

from featurestore.contract.replies import Expected, unfit
from featurestore.contract.resp import Reply, load_commands
from featurestore.contract.scripts import LOADED
from featurestore.errors import (
    BadReplyError,
    DeadlineExceededError,
    FeatureStoreError,
    OverloadedError,
    UnavailableError,
    error_from_reply,
)

GIVEN_UP = "the connection was given up, and whether a write on it took place is unknown"

_DEAD_AFTER_TIMEOUTS = 3.0
_INCOMPLETE = object()
PENDING = object()
"""The outcome of a call that has none yet."""


class Failure:
    """Why there is no reply.

    Attributes:
        error: What to tell the caller; an exception of its own for each.
        lost: Whether the connection broke, so that another one may serve the call.
        unsent: Whether the call certainly did not reach Redis.
    """

    __slots__ = ("error", "lost", "unsent")

    def __init__(self, error: FeatureStoreError, *, lost: bool = False, unsent: bool = False) -> None:
        self.error = error
        self.lost = lost
        self.unsent = unsent


class State(enum.Enum):
    """What may happen on a connection."""

    ACTIVE = "takes calls"
    RETIRING = "ends when the calls under way are answered"
    ENDED = "nothing more happens"


_ACTIVE, _RETIRING, _ENDED = State  # to look up a member of an Enum costs more than a global

Resume = Callable[["Waiter"], object]


class Waiter(msgspec.Struct, eq=False):
    """Who waits for the next `count` replies: a place in the order that outlives the caller's patience.

    A Struct, because that is made in C: one is made for each call.

    Attributes:
        resume: Called by the link, with this waiter, when there is an outcome; None once nobody waits any more.
        expected: What the replies may be.
        deadline: When to give up.
        allowed: The seconds from the call to its deadline.
        start: Which byte of all that were queued is the call's first.
        count: How many replies there will be.
        replies: Those that have come, of several.
        outcome: `PENDING`, then the reply, the list of replies where `count` is more than 1, or a `Failure`.
    """

    resume: Resume | None
    expected: Expected
    deadline: float
    allowed: float
    start: int
    count: int
    replies: list[Reply] | None
    outcome: Any = PENDING


class Pipeline:
    """The calls on one connection: bytes come in, and those who have their outcome come out.

    Every waiter gets one outcome, in the order of the calls, unless it was given up before. A reply that cannot be the
    one to the oldest call ends the connection: the next ones may be other callers'.

    All times are by one clock, the caller's.

    Args:
        timeout: Seconds that a reply may take; a connection silent for several times as long is given up.
        max_in_flight: Most calls that may wait at once.
        on_served: Called once, when the first call is answered.

    Attributes:
        state: What may happen yet.
        ending: Why it has ended, where it has.
        in_flight: Calls sent or to be sent whose reply has not been read, given up ones included.
        proved: Whether Redis has answered.
        load_error: Why the scripts could not be loaded, None when they were.
        queued: How many bytes were ever to be sent.
        taken: How many of these the link has taken away to send them.
        look_at: When to call `expire`, as the last call of `expire` found.
    """

    def __init__(self, *, timeout: float, max_in_flight: int, on_served: Callable[[], object]) -> None:
        self.state: State = _ACTIVE
        self.ending = UnavailableError("it was forgotten")
        self.in_flight = self.queued = self.taken = 0
        self.proved = False
        self.load_error: FeatureStoreError | None = None
        self.look_at = inf
        self.timeout = timeout
        self._max_in_flight, self._on_served = max_in_flight, on_served
        reader = hiredis.Reader(replyError=error_from_reply, notEnoughData=_INCOMPLETE)
        self._feed, self._next_reply = reader.feed, reader.gets
        self._waiters: deque[Waiter] = deque()
        self._loading: Waiter | None = None
        self._outbox: list[bytes] = []
        self._rest: bytes | memoryview = b""
        self._touched = 0  # bytes that the kernel, or a TLS library before it, was ever shown
        self._final = self._served = False
        self._deadlines_in_order = True

    # Calls

    def submit(  # noqa: PLR0913, PLR0917 - a call, and what is known of it; by position, which costs less
        self,
        encoded: bytes,
        expected: Expected,
        resume: Resume,
        now: float,
        count: int = 1,
        allowed: float | None = None,
    ) -> Waiter | None:
        """Queue `count` encoded commands. Return None where they are not taken on: `refusal` knows why.

        Args:
            encoded: The commands as RESP.
            expected: What the replies may be.
            resume: What the waiter keeps for the link.
            now: The time.
            count: How many commands they are.
            allowed: Seconds that the replies may take, if that is not the time-out.
        """
        if self.state is _ENDED or self.in_flight + count > self._max_in_flight:
            return None
        self.in_flight += count
        if allowed is None:
            allowed = self.timeout
        else:
            self._deadlines_in_order = False
        waiter = Waiter(resume, expected, now + allowed, allowed, self.queued, count, None if count == 1 else [])
        self._waiters.append(waiter)
        self._outbox.append(encoded)
        self.queued += len(encoded)
        return waiter

    def refusal(self, count: int) -> Failure:
        """Return why `count` commands were not taken on.

        Raises:
            OverloadedError: Too many calls wait already.
        """
        if self.state is _ENDED:
            reason = "the transport was closed" if self._final else "the connection to Redis was lost"
            return Failure(UnavailableError(reason), lost=not self._final, unsent=True)
        raise OverloadedError(
            f"{self.in_flight} calls wait for Redis and {count} more are too many: at most {self._max_in_flight}"
        )

    def load_scripts(self, now: float) -> Waiter | None:
        """Queue commands that load every script, ahead of later calls; None where that is under way already."""
        if self._loading is not None or self.state is _ENDED:
            return None
        commands = load_commands()
        encoded = b"".join(commands)
        waiter = Waiter(None, LOADED, now + self.timeout, self.timeout, self.queued, len(commands), [])
        self._loading = waiter
        self._waiters.append(waiter)
        self._outbox.append(encoded)
        self.queued += len(encoded)
        return waiter

    # Bytes

    def to_send(self) -> bytes | memoryview:
        """Take away what is to be sent next; nothing where everything was taken.

        It counts as sent until `put_back` says otherwise.
        """
        data = self._rest
        if data:
            self._rest = b""
        else:
            data = b"".join(self._outbox)
            self._outbox.clear()
        self.taken = taken = self.taken + len(data)
        if taken > self._touched:  # noqa: PLR1730 - max() would be a call more
            self._touched = taken
        return data

    def put_back(self, rest: bytes | memoryview, *, in_doubt: bool = False) -> None:
        """Keep the end of what was taken, which could not be sent now.

        Args:
            rest: The same bytes, to be taken next.
            in_doubt: Whether some of it may have been sent nevertheless: a TLS library may have passed on a part of
                what it reports as not taken.
        """
        self._rest = rest
        self.taken -= len(rest)
        if not in_doubt:
            self._touched = self.taken

    def receive(self, data: bytes) -> list[Waiter]:  # noqa: C901 - a call less for each read of a GET
        """Return those who have their outcome by these bytes; when they end the connection, all the others too."""
        finished: list[Waiter] = []
        waiters, touched, next_reply = self._waiters, self._touched, self._next_reply
        misfit: str | None = None
        try:
            self._feed(data)
            while (reply := next_reply()) is not _INCOMPLETE:
                if not waiters or waiters[0].start >= touched:  # of whose call no byte has left
                    misfit = unfit("no call", reply)
                    break
                waiter = waiters[0]
                outcome = waiter.replies
                if outcome is None:
                    outcome = reply
                    misfit = waiter.expected.misfit((reply,))
                else:
                    outcome.append(reply)
                    if len(outcome) < waiter.count:
                        continue
                    misfit = waiter.expected.misfit(outcome)
                if misfit:
                    break
                waiters.popleft()
                if waiter is self._loading:
                    self._loaded(outcome)
                    continue
                self.in_flight -= waiter.count
                waiter.outcome = outcome
                finished.append(waiter)
        except Exception as error:  # noqa: BLE001 - whatever a malformed reply sets off, only this connection may suffer
            misfit = f"Redis sent a reply that cannot be read: {error}"
        if finished and not self._served:
            self.proved = self._served = True
            self._on_served()
        if misfit:
            finished += self.end(BadReplyError(f"{misfit}; {GIVEN_UP}"))
        elif self.state is _RETIRING:
            self.retire()
        return finished

    def _loaded(self, replies: list[Reply]) -> None:
        self._loading = None
        self.proved = True
        self.load_error = next((each for each in replies if isinstance(each, FeatureStoreError)), None)

    # Time

    def expire(self, now: float, *, patience: float = 0.0) -> list[Waiter]:
        """Return those who have waited for too long; everyone where the oldest call is hopeless, which is an end.

        Their replies keep their places, and are dropped when they come.

        Args:
            now: The time.
            patience: Seconds beyond their deadlines that calls are given, as while replies are arriving.
        """
        waiters = self._waiters
        if not waiters:
            self.look_at = inf
            return []
        self.look_at = waiters[0].deadline + self.timeout * _DEAD_AFTER_TIMEOUTS
        if now >= self.look_at:
            silent = self.timeout * (1 + _DEAD_AFTER_TIMEOUTS)
            return self.end(UnavailableError(f"Redis has not answered for {silent * 1000:g} ms"))
        overdue: list[Waiter] = []
        for waiter in waiters:
            if waiter.deadline > now - patience:
                self.look_at = min(self.look_at, waiter.deadline)
                if self._deadlines_in_order:
                    break
            elif waiter.resume is not None:
                error = DeadlineExceededError(f"Redis did not answer in {waiter.allowed * 1000:g} ms")
                waiter.outcome = Failure(error)
                overdue.append(waiter)
        return overdue

    # The end

    def retire(self) -> None:
        """End once the calls under way are answered."""
        if self.state is not _ENDED:
            self.state = _RETIRING
            if not self._waiters:
                self.end(UnavailableError("the connection to Redis was given up"))

    def end(self, reason: UnavailableError, *, final: bool = False) -> list[Waiter]:
        """End, and return those who waited, each with a failure; when `final`, their calls are not to be repeated."""
        if self.state is _ENDED:
            return []
        failed = [waiter for waiter in self._waiters if waiter.resume is not None]
        for waiter in failed:
            unsent = waiter.start >= self._touched
            waiter.outcome = Failure(type(reason)(*reason.args), lost=not final, unsent=unsent)
        self.ending, self._final = reason, final
        self.forget()
        return failed

    def forget(self) -> None:
        """End without telling anyone, as a forked child must."""
        self.state = _ENDED
        self._waiters.clear()
        self._outbox.clear()
        self._rest = b""
        self.in_flight = 0
