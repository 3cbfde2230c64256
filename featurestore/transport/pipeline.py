"""The calls on one connection, without any I/O: their order, what was sent, deadlines, and the end.

A link (`link.py`) moves bytes and watches the clock. What the bytes and the time mean is decided here.
"""

import enum
from collections import deque
from collections.abc import Callable
from itertools import islice
from math import inf
from typing import Any

import hiredis
import msgspec

from featurestore.contract.doors import BY_EVALSHA, Door
from featurestore.contract.replies import Expected, unfit
from featurestore.contract.resp import Reply
from featurestore.errors import (
    BadReplyError,
    DeadlineExceededError,
    FeatureStoreError,
    InDoubtError,
    OverloadedError,
    UnavailableError,
    error_from_reply,
)

GIVEN_UP = "the connection was given up"
_TELL_OF_WRITES = (DeadlineExceededError, InDoubtError, OverloadedError)

_DEAD_AFTER_TIMEOUTS = 3.0
_INCOMPLETE = object()
PENDING = object()
"""The outcome of a call that is still under way."""


class Failure:
    """Why there is no reply.

    Attributes:
        error: The exception to raise; every caller gets one of its own.
        lost: Whether the connection broke, so that another connection may serve the call.
        unsent: Whether the call certainly did not reach Redis.
    """

    __slots__ = ("error", "lost", "unsent")

    def __init__(self, error: FeatureStoreError, *, lost: bool = False, unsent: bool = False) -> None:
        self.error = error
        self.lost = lost
        self.unsent = unsent

    def reason(self, *, writes: bool) -> FeatureStoreError:
        """Return the exception to raise; for a write that may have taken place, one that says so."""
        error = self.error
        if not writes or self.unsent or not isinstance(error, UnavailableError) or isinstance(error, _TELL_OF_WRITES):
            return error
        doubt = InDoubtError(f"{error.args[0]}; whether the write took place is unknown")
        doubt.__cause__ = error
        return doubt


class PipelineState(enum.Enum):
    """What may still happen on a connection."""

    ACTIVE = "takes calls"
    RETIRING = "ends when the calls under way are answered"
    ENDED = "nothing more happens"


_ACTIVE, _RETIRING, _ENDED = PipelineState  # a global is cheaper to look up than a member of an Enum

Resume = Callable[["Waiter"], object]


class Waiter(msgspec.Struct, eq=False):
    """A place in the order of replies, for `count` of them. It stays after its caller has given up.

    It is a Struct because one is made for each call, and Structs are made in C.

    Attributes:
        resume: The link calls it with this waiter once there is an outcome; None once nobody waits.
        expected: Checks the replies.
        deadline: When the caller gives up.
        allowed: Seconds from the call to its deadline.
        patient: Whether the deadline moves while anything arrives.
        start: Position of the call's first byte among all bytes ever queued.
        count: Number of replies.
        replies: The replies so far, if there are several.
        outcome: `PENDING`, then a `Failure`, or the reply, or the list of replies if `count` is above 1.
    """

    resume: Resume | None
    expected: Expected
    deadline: float
    allowed: float
    start: int
    count: int
    replies: list[Reply] | None
    outcome: Any = PENDING
    patient: bool = False


class Pipeline:
    """The calls on one connection: bytes and times go in, waiters with an outcome come out.

    Every waiter gets exactly one outcome, in the order of the calls, or a failure earlier if it is overdue. A reply
    that cannot belong to the oldest call ends the connection, since the next replies may be other callers'.

    The caller passes all times, by a clock of its choice.

    Args:
        timeout: Seconds that a reply may take; a connection silent for several times as long is given up.
        write_timeout: Seconds that a reply to a write may take; `timeout` when left out.
        max_in_flight: Most calls that may wait at once.
        on_served: Called once, when the first call is answered.
        door: How scripts are loaded.

    Attributes:
        state: What may still happen.
        ending: Why the connection has ended, if it has.
        final: Whether it has ended because its transport was closed.
        max_in_flight: Most calls that may wait at once.
        in_flight: Calls sent or to be sent whose reply has not been read, given up ones included.
        proved: Whether Redis has answered on this connection.
        load_error: Why the scripts could not be loaded; None if they were.
        queued: Bytes ever queued.
        taken: Bytes that the link has taken to send.
        look_at: When to call `expire` next, as its last call found.
        set_aside: Whether it has been silent too long for all calls but those that may take longer than `timeout`: only
            these are waited for, and others are to take another connection.
    """

    def __init__(
        self,
        *,
        timeout: float,
        max_in_flight: int,
        on_served: Callable[[], object],
        door: Door = BY_EVALSHA,
        write_timeout: float | None = None,
    ) -> None:
        self.state: PipelineState = _ACTIVE
        self.ending = UnavailableError("it was forgotten")
        self.in_flight = self.queued = self.taken = 0
        self.proved = False
        self.load_error: FeatureStoreError | None = None
        self.look_at = inf
        self.timeout = timeout
        self.write_timeout = timeout if write_timeout is None else write_timeout
        self.max_in_flight, self._on_served, self._door = max_in_flight, on_served, door
        reader = hiredis.Reader(replyError=error_from_reply, notEnoughData=_INCOMPLETE)
        self._feed, self._next_reply = reader.feed, reader.gets
        self._waiters: deque[Waiter] = deque()
        self._loading: Waiter | None = None
        self._outbox: list[bytes] = []
        self._rest: bytes | memoryview = b""
        self._reads = self._reads_seen = 0
        self._heard_at = -inf
        self._touched = 0  # bytes that the kernel, or the TLS library above it, has ever been given
        self.final = self._served = self.set_aside = False
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
        *,
        patient: bool = False,
    ) -> Waiter | None:
        """Queue `count` encoded commands. Return None if they are not taken on; `refusal` then says why.

        Args:
            encoded: The commands as RESP.
            expected: Checks the replies.
            resume: What the waiter keeps for the link.
            now: The time.
            count: Number of commands.
            allowed: Seconds that the replies may take, if not the time-out.
            patient: Whether the deadline moves while anything arrives, because other calls are ahead of this one.
        """
        if self.state is not _ACTIVE or self.in_flight + count > self.max_in_flight:
            return None
        self.in_flight += count
        if allowed is None:
            allowed = self.timeout
        else:
            self._deadlines_in_order = False
        waiter = Waiter(resume, expected, now + allowed, allowed, self.queued, count, None if count == 1 else [])
        if patient:
            waiter.patient, self._deadlines_in_order = True, False
        self._waiters.append(waiter)
        self._outbox.append(encoded)
        self.queued += len(encoded)
        return waiter

    def refusal(self, count: int) -> Failure:
        """Return why `count` commands were not taken on.

        Raises:
            OverloadedError: Too many calls wait already.
        """
        if self.state is not _ACTIVE:
            reason = "the transport was closed" if self.final else "the connection to Redis was lost"
            return Failure(UnavailableError(reason), lost=not self.final, unsent=True)
        raise OverloadedError(
            f"{self.in_flight} calls wait for Redis and {count} more are too many: at most {self.max_in_flight}"
        )

    def load_scripts(self, now: float) -> Waiter | None:
        """Queue commands that load every script, ahead of later calls; return None if that is under way already."""
        if self._loading is not None or self.state is _ENDED:
            return None
        commands = self._door.load_commands()
        encoded = b"".join(commands)
        waiter = Waiter(None, self._door.loaded, now + self.timeout, self.timeout, self.queued, len(commands), [])
        self._loading = waiter
        self._waiters.append(waiter)
        self._outbox.append(encoded)
        self.queued += len(encoded)
        return waiter

    # Bytes

    def to_send(self) -> bytes | memoryview:
        """Take the bytes to send next; empty if all were taken.

        They count as sent unless `put_back` returns them.
        """
        data = self._rest
        if data:
            self._rest = b""
        else:
            data = b"".join(self._outbox)
            self._outbox.clear()
        self.taken = taken = self.taken + len(data)
        if taken > self._touched:  # noqa: PLR1730 - max() would cost a call
            self._touched = taken
        return data

    def put_back(self, rest: bytes | memoryview, *, in_doubt: bool = False) -> None:
        """Return the end of what was taken, because it could not be sent now.

        Args:
            rest: The bytes, to be taken next.
            in_doubt: Whether some of them may have been sent after all: a TLS library may have passed on a part of what
                it reports as not taken.
        """
        self._rest = rest
        self.taken -= len(rest)
        if not in_doubt:
            self._touched = self.taken

    def receive(self, data: bytes) -> list[Waiter]:  # noqa: C901 - one function: calls are dear on the way of a GET
        """Take bytes from Redis; return the waiters that have an outcome now: all, if the bytes end the connection."""
        self._reads += 1
        finished: list[Waiter] = []
        waiters, touched, next_reply = self._waiters, self._touched, self._next_reply
        misfit: str | None = None
        try:
            self._feed(data)
            while (reply := next_reply()) is not _INCOMPLETE:
                if not waiters or waiters[0].start >= touched:  # no byte of that call has left yet
                    misfit = unfit("no call", reply)
                    break
                waiter = waiters[0]
                outcome = waiter.replies
                if outcome is None:
                    outcome = reply
                    misfit = waiter.expected.misfit((reply,))
                else:
                    outcome.append(reply)
                    outcome.extend(islice(iter(next_reply, _INCOMPLETE), waiter.count - len(outcome)))
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
                if waiter.outcome is PENDING:  # else it was told already that it is too late
                    waiter.outcome = outcome
                    finished.append(waiter)
        except Exception as error:  # noqa: BLE001 - whatever a malformed reply raises, only this connection ends
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

    def expire(self, now: float, *, patience: float = 0.0, lasting: bool = False) -> list[Waiter]:
        """Return the waiters that are overdue. If the oldest call is hopeless, end the connection and return all.

        The replies to overdue calls keep their places in the order, and are dropped when they come. As long as anything
        arrives, the connection is not given up: Redis is busy, and another connection would not make it quicker.

        Calls that may take longer than the time-out, as writes may, neither keep a silent connection in use nor are
        lost with it: it is set aside for them, and all others are returned. It ends when the oldest of them is
        hopeless.

        Args:
            now: The time.
            patience: Seconds that calls get beyond their deadlines, for instance while replies are arriving.
            lasting: Whether further calls that may take longer are to be sent.
        """
        waiters = self._waiters
        if not waiters:
            self.look_at = inf
            return []
        silence = self.timeout * _DEAD_AFTER_TIMEOUTS
        if self._reads != self._reads_seen:
            self._reads_seen, self._heard_at = self._reads, now
        oldest, heard_at = waiters[0] if self._deadlines_in_order else self._oldest(), self._heard_at
        self.look_at = max(oldest.deadline, heard_at) + silence
        overdue: list[Waiter] = []
        if now >= self.look_at:
            reason = UnavailableError(f"Redis has not answered for {(oldest.allowed + silence) * 1000:g} ms")
            if self.set_aside or not (lasting or self._any_lasts(now)):
                return self.end(reason, repeatable=False)
            overdue = self._set_aside(reason)
            self.look_at = max(self._oldest().deadline, heard_at) + silence
        for waiter in waiters:
            deadline = max(waiter.deadline, heard_at + waiter.allowed) if waiter.patient else waiter.deadline
            if deadline > now - patience:
                self.look_at = min(self.look_at, deadline)
                if self._deadlines_in_order:
                    break
            elif waiter.resume is not None and waiter.outcome is PENDING:
                error = DeadlineExceededError(f"Redis did not answer in {waiter.allowed * 1000:g} ms")
                waiter.outcome = Failure(error)
                overdue.append(waiter)
        return overdue

    def _oldest(self) -> Waiter:
        """Return the oldest call by whose wait the connection is judged.

        That is one that may take no longer than the time-out; if the connection is set aside, one that may.
        """
        for waiter in self._waiters:
            if (waiter.allowed > self.timeout) is self.set_aside:
                return waiter
        return self._waiters[0]

    def _any_lasts(self, now: float) -> bool:
        """Return whether a call that may take longer than the time-out has time left."""
        return not self._deadlines_in_order and any(
            waiter.allowed > self.timeout and waiter.deadline > now and waiter.resume is not None
            for waiter in self._waiters
        )

    def _set_aside(self, reason: UnavailableError) -> list[Waiter]:
        """Fail all calls but those that may take longer than the time-out, and return them.

        What was not sent of them still leaves on this connection, since others wait behind it: none counts as unsent.
        """
        self.set_aside, self.ending = True, reason
        failed = [each for each in self._waiters if each.resume is not None and each.allowed <= self.timeout]
        for waiter in failed:
            waiter.outcome = Failure(UnavailableError(*reason.args))
        return failed

    # The end

    def retire(self) -> None:
        """End once the calls that are under way have been answered."""
        if self.state is not _ENDED:
            self.state = _RETIRING
            if not self._waiters:
                self.end(UnavailableError("the connection to Redis was given up"))

    def end(self, reason: UnavailableError, *, final: bool = False, repeatable: bool = True) -> list[Waiter]:
        """End, and return all waiters, each with a failure.

        Args:
            reason: Why.
            final: Whether the transport was closed, so that no call is repeated.
            repeatable: Whether calls that were sent may be repeated on another connection. Those that Redis did not
                answer in time may not: they would come on top of what keeps it busy.
        """
        if self.state is _ENDED:
            return []
        failed = [waiter for waiter in self._waiters if waiter.resume is not None]
        for waiter in failed:
            unsent = waiter.start >= self._touched
            lost = not final and (repeatable or unsent)
            waiter.outcome = Failure(type(reason)(*reason.args), lost=lost, unsent=unsent)
        self.ending, self.final = reason, final
        self.forget()
        return failed

    def forget(self) -> None:
        """End without outcomes, as a forked child must: the waiters are its parent's."""
        self.state = _ENDED
        self._waiters.clear()
        self._outbox.clear()
        self._rest = b""
        self.in_flight = 0
