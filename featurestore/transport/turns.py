"""When the calls of big requests are sent on a connection: a few at a time, each request in its turn.

Redis answers the calls of a connection in order. Were all calls of a big request sent at once, a small one behind them
would wait for all of them, and a call that nobody waits for any more could not be taken back. So what is sent is
bounded by the time that Redis needs for it, and the rest waits here. A request that could not be answered in time is
refused at once.

Like the pipeline this does no I/O. The link passes all times, by a clock of its choice.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any

import msgspec

from featurestore.contract.replies import Expected, Take
from featurestore.errors import (
    BadArgumentsError,
    DeadlineExceededError,
    FeatureStoreError,
    OverloadedError,
    UnavailableError,
)
from featurestore.transport.pace import Pace
from featurestore.transport.pipeline import PENDING, Failure, Pipeline, Waiter
from featurestore.transport.timings import Timings, noted

SMALL_US = 30.0
"""µs of Redis's time up to which a request is small: it is sent at once, past those that wait for their turn."""

ON_THE_WIRE_US = 1000.0
"""µs of Redis's time that calls of big requests may take that are sent and not answered; more where Redis is far, by
what is on the road.

So long a small request may have to wait behind them. It keeps Redis busy while this process does other things.
"""

BESIDE_SMALL_US = 250.0
"""The same while small requests are sent: the less is ahead of them here and in Redis, the sooner they are answered."""

LATELY_S = 0.01
"""So long after the last of them small requests count as being sent."""

_AFTER_BIG_S = 0.1
_NEAR_S, _FARTHEST_S = 0.0005, 0.02

TURN_US = 1000.0
"""µs of Redis's time after which it is the next request's turn. Most requests take less, and are sent in one turn."""

_TOGETHER_US = 100.0
"""Calls of a request that together take no longer are sent as one, with one outcome: a batch in a cluster is many calls
that take 4 µs each, and the batch of a single Redis is one that takes 90."""

_SHARE_OF_WRITES = 0.5
"""Writes have turns that take at most this part of the time-out of others, or one write has."""

_MEASURED_S = 0.1
_CAUGHT_UP = 1.1
_LEAST_RATE, _MOST_RATE = 0.01, 10.0
_S_PER_US = 1e-6
_NOTHING_US = 1e-3  # what rounding leaves


def taken(take: Take, reply: Any) -> Any:
    """Return what `take` makes of a reply, or the exception that it raises; an error reply stays as it is."""
    if isinstance(reply, FeatureStoreError):
        return reply
    try:
        return take(reply)
    except Exception as error:  # noqa: BLE001 - it is the caller's, who looks at the reply later
        return error


class BigRequest(msgspec.Struct, eq=False):
    """Calls that are sent a few at a time.

    Attributes:
        calls: The encoded calls. Each is looked at when it is sent, so that they may be encoded then.
        answers: Returns what may be the replies to calls.
        each_us: About how long each call takes of Redis's time.
        resume: The link calls it with this request once there is an outcome; None once nobody waits.
        takes: For each call what is made of its reply as soon as it is there; None where replies stay as they are.
        until: When the caller gives up, unless the request has begun and Redis answers.
        allowed: Seconds from the request to its deadline; without one, replies move the deadline.
        patience: Seconds that each reply may take; for writes more than for others.
        replies: The replies so far.
        sent: How many calls have been sent.
        turn_us: How much of Redis's time was sent in this turn.
        came: When it was admitted.
        timings: Where the time until its first call is noted; None where nobody wants to know.
        outcome: `PENDING`, then a `Failure`, or the list of replies.
    """

    calls: Sequence[bytes]
    answers: Callable[[list[bytes]], Expected]
    each_us: float
    resume: Callable[["BigRequest"], object] | None
    takes: Sequence[Take] | None
    until: float
    allowed: float | None
    patience: float
    replies: list[Any]
    sent: int = 0
    turn_us: float = 0.0
    came: float = 0.0
    timings: Timings | None = None
    outcome: Any = PENDING

    def __repr__(self) -> str:  # errors are logged with it: not all ids, and no replies
        return f"<BigRequest of {len(self.calls)} calls, {self.sent} sent, {len(self.replies)} answered>"

    @property
    def left_us(self) -> float:
        """About how long the calls that were not sent take of Redis's time."""
        return (len(self.calls) - self.sent) * self.each_us

    def next_calls(self, most: int) -> list[bytes]:
        """Return the calls that are to be sent next, of which there are some left: one, or several short ones.

        Args:
            most: How many may be sent as one; more than all that may wait for replies would never be.
        """
        first, count = self.sent, 1
        if 0 < self.each_us <= _TOGETHER_US / 4:
            count = min(int(_TOGETHER_US / self.each_us), len(self.calls) - first, max(1, most))
        if count == len(self.calls) and type(self.calls) is list:  # others may be encoded when they are looked at
            return self.calls
        return [self.calls[place] for place in range(first, first + count)]


class Turns:
    """The big requests of one connection.

    Args:
        pipeline: The connection's.
        timeout: Seconds that a reply may take. A request that would wait for others longer than that, beside twice the
            time it takes itself, is refused.

    Attributes:
        waiting: Calls that are not sent yet.
        small_at: When a small request was last sent; the link sets it.
        pace: How much is sent while small requests are.
        rate: How much of Redis's time is worked off in one second of the clock, as measured while requests wait.
        look_at: When to call `expire` next, as its last call found.
        send_at: When to call `send` again at the latest, as its last call found; inf if a reply will be the reason.
        broken: Requests that have failed because their calls could not be made; the link takes them out.
    """

    def __init__(self, pipeline: Pipeline, timeout: float) -> None:
        self.waiting = 0
        self.small_at = -inf
        self.rate = 1.0
        self.look_at = self.send_at = inf
        self.broken: list[BigRequest] = []
        self.pace = Pace(BESIDE_SMALL_US)
        self._pipeline, self._timeout = pipeline, timeout
        self._queue: deque[BigRequest] = deque()  # those with calls that are not sent
        self._later: deque[BigRequest] = deque()  # writes that are let into the queue when it has room for them
        self._lasting_us = self._later_us = 0.0  # what writes take that wait in the queue, and for it
        self._on_the_wire_us = 0.0
        self._turn_of_each_us = 0.0  # what those that wait may take before it is a new request's turn
        self._measured_from, self._done_us = inf, 0.0
        self._heard_at = self._big_until = -inf
        self._round_trip = inf  # the least that was seen, which says how far Redis is
        self._alone: Waiter | None = None  # a call that was sent when no other was on the wire

    def admit(  # noqa: PLR0913, PLR0917 - a request, and what is known of it
        self,
        calls: Sequence[bytes],
        answers: Callable[[list[bytes]], Expected],
        each_us: float,
        resume: Callable[[BigRequest], object],
        now: float,
        allowed: float | None = None,
        takes: Sequence[Take] | None = None,
        *,
        follows: bool = False,
        writes: bool = False,
    ) -> BigRequest:
        """Take on a request; `send` sends its calls.

        Writes may wait longer than others, and must not make others wait so long. So only a few have turns at once.

        Args:
            calls: The encoded calls.
            answers: Returns what may be the replies to calls.
            each_us: About how long each takes of Redis's time.
            resume: What the request keeps for the link.
            now: The time.
            allowed: Seconds that the caller waits at most; without it, as long as replies arrive.
            takes: See `BigRequest`.
            follows: Whether it goes on with a request that was admitted, and so is not refused.
            writes: Whether it has the time-out of writes.

        Raises:
            OverloadedError: It would not be answered in time.
        """
        own = len(calls) * each_us
        own_s = own * _S_PER_US / self.rate
        patience = self._pipeline.write_timeout if writes else self._timeout
        later = patience > self._timeout and allowed is None and not follows and self._is_full()
        wait = self.expected_wait(own) + (self._later_us * _S_PER_US / self.rate if later else 0.0)
        if not follows and wait > (patience + 2 * own_s if allowed is None else allowed):
            raise _refusal(wait)
        until = now + (patience + 2 * (wait + own_s) if allowed is None else allowed)
        request = BigRequest(calls, answers, each_us, resume, takes, until, allowed, patience, [])
        request.came, request.timings = now, noted.get()
        if later:
            self._later.append(request)
            self._later_us += own
        else:
            self._line_up(request)
        self.waiting += len(calls)
        self.look_at = min(self.look_at, until)
        return request

    def _line_up(self, request: BigRequest) -> None:
        self._queue.append(request)
        self._turn_of_each_us += min(request.left_us, TURN_US)
        if self._lasts(request):
            self._lasting_us += request.left_us

    def _lasts(self, request: BigRequest) -> bool:
        return request.allowed is None and request.patience > self._timeout

    @property
    def lasting(self) -> bool:
        """Whether writes wait that may take longer than the time-out of others."""
        return self._lasting_us > _NOTHING_US or bool(self._later)

    def _is_full(self) -> bool:
        """Return whether a further write has to wait, so that others can be in time."""
        return bool(self._later) or self._lasting_us * _S_PER_US / self.rate > self._timeout * _SHARE_OF_WRITES

    def _let_in(self) -> None:
        """Let writes have turns that have waited for room."""
        while self._later and self._lasting_us * _S_PER_US / self.rate <= self._timeout * _SHARE_OF_WRITES:
            request = self._later.popleft()
            self._later_us -= request.left_us
            self._line_up(request)

    def overload(self, *, writes: bool = False) -> OverloadedError | None:
        """Return why a further big request, or write, would be refused, whatever its size; None if it would not."""
        wait, allowed = self.expected_wait(0.0), self._timeout
        if writes:
            wait, allowed = wait + self._later_us * _S_PER_US / self.rate, self._pipeline.write_timeout
        return _refusal(wait) if wait > allowed + TURN_US * _S_PER_US else None

    def expected_wait(self, own_us: float) -> float:
        """Return how many seconds a request that takes `own_us` would wait for others.

        Each other request takes its turns meanwhile, but no more of them than this one needs.
        """
        ahead = self._turn_of_each_us
        if own_us > TURN_US:
            ahead = sum(min(request.left_us, own_us) for request in self._queue)
        return (self._on_the_wire_us + ahead) * _S_PER_US / self.rate

    def send(self, now: float, settle: Callable[[BigRequest, Waiter], object]) -> float:
        """Hand calls to the pipeline as far as may be sent now; return the first deadline among them, inf for none.

        Args:
            now: The time.
            settle: What the waiter of each call resumes, with its request in front.
        """
        self._let_in()
        queue, pipeline, deadline, most = self._queue, self._pipeline, inf, self._most_on_the_wire(now)
        credit = self.pace.credit(now)
        self.send_at = inf
        while queue and self._on_the_wire_us < most and credit > 0:
            request = queue[0]
            if request.turn_us >= TURN_US and len(queue) > 1:
                request.turn_us = 0.0
                queue.rotate(-1)
                continue
            try:
                calls = request.next_calls(pipeline.max_in_flight - pipeline.in_flight)
                expected = request.answers(calls)
            except Exception as error:  # noqa: BLE001 - it is its caller's alone
                self._break(request, error)
                continue
            left, patient = (request.patience, True) if request.allowed is None else (request.until - now, False)
            resume = partial(settle, request)
            count, call = len(calls), calls[0] if len(calls) == 1 else b"".join(calls)
            waiter = pipeline.submit(call, expected, resume, now, count, left, patient=patient)
            if waiter is None:
                break
            if self._on_the_wire_us == 0:
                self._alone = waiter
            deadline = min(deadline, waiter.deadline)
            if request.timings is not None and not request.sent:
                request.timings.note_turn(now - request.came)
            before, us = request.left_us, count * request.each_us
            request.sent += count
            self._turn_of_each_us -= min(before, TURN_US) - min(before - us, TURN_US)
            self.waiting -= count
            if self._lasts(request):
                self._lasting_us -= us
            self._on_the_wire_us += us
            request.turn_us += us
            credit -= us
            self.pace.spend(us)
            if request.sent == len(request.calls):
                queue.popleft()
                self._let_in()
        if queue and self._on_the_wire_us == 0:  # else a reply brings it on
            self.send_at = now + self.pace.until_credit()
        self._note_whether_any_wait(now)
        return deadline

    def _note_whether_any_wait(self, now: float) -> None:
        """Measure the rate while requests wait."""
        if not self._queue:
            self._turn_of_each_us = self._lasting_us = self._later_us = 0.0  # without what rounding leaves
            if self._measured_from < inf and self.rate < 1.0:
                self.rate = min(1.0, self.rate * _CAUGHT_UP)  # nothing is measured now, and it was enough
            self._measured_from = inf
        elif self._measured_from == inf:
            self._measured_from, self._done_us = now, 0.0

    def _break(self, request: BigRequest, error: Exception) -> None:
        """Fail a request of which a call could not be made."""
        self.drop(request)
        request.outcome = Failure(_as_own(error), unsent=request.sent == 0)
        self.broken.append(request)

    def _most_on_the_wire(self, now: float) -> float:
        """Return how many µs of Redis's time may be on the wire."""
        most = BESIDE_SMALL_US if now - self.small_at < LATELY_S else ON_THE_WIRE_US
        if _NEAR_S < self._round_trip <= _FARTHEST_S:
            most += self._round_trip / _S_PER_US
        return most

    def settle(self, request: BigRequest, waiter: Waiter, now: float) -> bool:
        """Take the outcome of calls that were sent together; return whether the request has one now."""
        us = request.each_us * waiter.count
        left = self._on_the_wire_us - us
        self._on_the_wire_us = left if left > _NOTHING_US else 0.0
        outcome = waiter.outcome
        if isinstance(outcome, Failure):
            if request.outcome is not PENDING:
                return False
            unsent, error = outcome.unsent and not request.replies, outcome.error
            if request.allowed is not None and isinstance(error, DeadlineExceededError):
                error = _late(request)
            self.drop(request)
            request.outcome = Failure(error, lost=outcome.lost, unsent=unsent)
            return True
        if waiter is self._alone:
            trip = now - waiter.deadline + waiter.allowed - us * _S_PER_US
            self._round_trip = min(self._round_trip, max(trip, 0.0))
        self._heard_at = now
        self._measure(us, now)
        if request.outcome is not PENDING:
            return False
        replies, takes = request.replies, request.takes
        for reply in outcome if waiter.count > 1 else (outcome,):
            replies.append(reply if takes is None else taken(takes[len(replies)], reply))
        if len(replies) == len(request.calls):
            request.outcome = replies
            return True
        return False

    def _measure(self, done_us: float, now: float) -> None:
        """Find out how quickly work is done, while there is more of it than may be sent."""
        self._done_us += done_us
        took = now - self._measured_from
        if took >= _MEASURED_S:
            rate = min(max(self._done_us * _S_PER_US / took, self.rate / 2, _LEAST_RATE), _MOST_RATE)
            self.rate += (rate - self.rate) / 2
            self._measured_from, self._done_us = now, 0.0

    def note_small(self, took: float, nearest: float, now: float) -> float:
        """Take into account how long a small request took, and return the pace; see `Pace.note`."""
        if self.waiting or self._on_the_wire_us:
            self._big_until = now + _AFTER_BIG_S
        return self.pace.note(took, nearest, now, beside=now < self._big_until)

    def drop(self, request: BigRequest) -> None:
        """Send no further call of a request: nobody waits for it any more."""
        if request.sent == len(request.calls):
            return
        if request in self._queue:
            self._queue.remove(request)
            self._turn_of_each_us -= min(request.left_us, TURN_US)
            if self._lasts(request):
                self._lasting_us -= request.left_us
        elif request in self._later:
            self._later.remove(request)
            self._later_us -= request.left_us
        else:
            return
        self.waiting -= len(request.calls) - request.sent
        self._let_in()

    def expire(self, now: float, *, patience: float = 0.0) -> list[BigRequest]:
        """Return the requests that have waited too long. Of those, no further call is sent.

        As long as Redis answers, that are only those whose callers have set a time.

        Args:
            now: The time.
            patience: Seconds that requests get beyond their deadlines.
        """
        overdue: list[BigRequest] = []
        self.look_at = inf
        in_turn = len(self._queue)
        for place, request in enumerate((*self._queue, *self._later)):
            until = request.until
            if request.allowed is None and place < in_turn:
                until = max(until, self._heard_at + request.patience)
            if until <= now - patience:
                overdue.append(request)
            else:
                self.look_at = min(self.look_at, until)
        for request in overdue:
            self.drop(request)
            error: FeatureStoreError = _late(request)
            if request.sent == 0 and request.allowed is None:
                error = OverloadedError("the request has waited too long for its turn, and was not sent")
            request.outcome = Failure(error, unsent=request.sent == 0)
        return overdue

    def end(self, reason: UnavailableError, *, final: bool = False, but_lasting: bool = False) -> list[BigRequest]:
        """Return the requests that wait for their turn, failed like the connection. Others fail with their calls.

        Args:
            reason: Why.
            final: Whether the transport was closed.
            but_lasting: Whether writes go on that may take longer than the time-out of others.
        """
        waiting = (*self._queue, *self._later)
        failed = [request for request in waiting if not (but_lasting and self._lasts(request))]
        for request in failed:
            self.drop(request)
            request.outcome = Failure(type(reason)(*reason.args), lost=not final, unsent=request.sent == 0)
        if not but_lasting:
            self._turn_of_each_us, self.look_at = 0.0, inf
        return failed


def _refusal(wait: float) -> OverloadedError:
    return OverloadedError(f"the requests that wait for Redis take {wait * 1000:.0f} ms more: this one would be late")


def _late(request: BigRequest) -> DeadlineExceededError:
    within = "any more" if request.allowed is None else f"in {request.allowed * 1000:g} ms"
    return DeadlineExceededError(f"Redis did not answer {within}: {len(request.replies)} of {len(request.calls)} calls")


def _as_own(error: Exception) -> FeatureStoreError:
    """Return the error, as one of this package."""
    return error if isinstance(error, FeatureStoreError) else BadArgumentsError(f"the call cannot be made: {error}")
