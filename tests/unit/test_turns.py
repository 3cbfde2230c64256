"""When the calls of big requests are sent, and which requests are refused."""

import contextlib
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.examples import examples

from featurestore.errors import BadIdError, DeadlineExceededError, OverloadedError, UnavailableError
from featurestore.transport.pipeline import PENDING, Failure, Pipeline, Waiter
from featurestore.transport.turns import BESIDE_SMALL_US, ON_THE_WIRE_US, TURN_US, BigRequest, Turns

TIMEOUT = 0.05


class Anything:
    """Expects any reply."""

    name = "anything"

    def misfit(self, replies: Sequence[Any]) -> str | None:
        return None if replies else "nothing"


class Unmakeable(list[bytes]):
    """Calls of which the last cannot be encoded."""

    def __init__(self, count: int) -> None:
        super().__init__([b"u0"] * count)

    def __getitem__(self, index: Any) -> Any:
        if index == len(self) - 1:
            raise BadIdError("an id is 1 to 256 bytes long")
        return super().__getitem__(index)


def answers(_calls: list[bytes]) -> Anything:
    return Anything()


class Line:
    """A connection: what a link and a server would do with its turns."""

    def __init__(self, **options: Any) -> None:
        self.pipeline = Pipeline(**{"timeout": TIMEOUT, "max_in_flight": 4096, "on_served": lambda: None, **options})
        self.turns = Turns(self.pipeline, TIMEOUT)
        self.now = 0.0
        self.sent: list[bytes] = []
        self.finished: list[BigRequest] = []

    def admit(  # noqa: PLR0913, PLR0917 - a request, and what is known of it
        self,
        name: str,
        count: int,
        each_us: float,
        allowed: float | None = None,
        writes: bool = False,  # noqa: FBT001, FBT002 - likewise
        follows: bool = False,  # noqa: FBT001, FBT002 - likewise
    ) -> BigRequest:
        calls = [f"{name}{number}".encode() for number in range(count)]
        request = self.turns.admit(
            calls, answers, each_us, self.finished.append, self.now, allowed, writes=writes, follows=follows
        )
        self.send()
        return request

    def fill(self, name: str, count: int, each_us: float, allowed: float | None = None, *, writes: bool = False) -> int:
        """Admit requests until one is refused; return how many were not."""
        for admitted in range(1000):
            try:
                self.admit(name, count, each_us, allowed, writes)
            except OverloadedError as error:
                self.refusal = str(error)
                return admitted
        raise AssertionError("none was refused")

    def send(self) -> None:
        self.turns.send(self.now, self.settle)
        broken, self.turns.broken = self.turns.broken, []
        for request in broken:
            request.resume = None
            self.finished.append(request)

    def leave(self, request: BigRequest) -> None:
        """A caller goes away."""
        request.resume = None
        self.turns.drop(request)

    def settle(self, request: BigRequest, waiter: Waiter) -> None:
        if self.turns.settle(request, waiter, self.now) and request.resume:
            resume, request.resume = request.resume, None
            resume(request)

    def flush(self) -> list[bytes]:
        """Return the calls that leave now."""
        found = re.findall(rb"[a-z]\d+", bytes(self.pipeline.to_send()))
        self.sent += found
        return found

    def reply(self, count: int = 1, took: float = 0.0) -> None:
        self.now += took
        for waiter in self.pipeline.receive(b":1\r\n" * count):
            assert waiter.resume
            resume, waiter.resume = waiter.resume, None
            resume(waiter)
        self.send()


def test_so_much_is_sent_as_keeps_redis_busy_for_a_moment() -> None:
    line = Line()
    line.admit("a", 30, 100.0)
    assert len(line.flush()) == ON_THE_WIRE_US / 100
    line.reply(3)
    assert line.flush() == [b"a10", b"a11", b"a12"]


def test_short_calls_of_a_request_are_sent_together_and_answered_one_by_one() -> None:
    line = Line()
    taken: list[object] = []
    calls = [f"a{number}".encode() for number in range(50)]
    request = line.turns.admit(calls, answers, 4.0, line.finished.append, 0.0, None, [taken.append] * 50)
    line.send()
    assert line.flush() == calls
    line.reply(24)
    assert (len(taken), line.pipeline.in_flight) == (0, 50)
    line.reply(1)
    assert (len(taken), line.pipeline.in_flight) == (25, 25)
    line.reply(25)
    assert line.finished == [request]
    assert len(taken) == 50


@pytest.mark.parametrize("most", [1, 3, 12])
def test_no_more_calls_are_sent_together_than_may_wait(most: int) -> None:
    line = Line(max_in_flight=most)
    request = line.admit("a", 30, 4.0)
    counts = []
    while request.outcome is PENDING:
        counts.append(line.pipeline.in_flight)
        assert 0 < counts[-1] <= most
        line.flush()
        line.reply(counts[-1])
    assert request.outcome == [1] * 30


def test_less_is_sent_while_small_requests_are() -> None:
    line = Line()
    line.turns.small_at = 0.0
    line.admit("a", 30, 50.0)
    assert len(line.flush()) == BESIDE_SMALL_US / 50
    line.reply(1, took=1.0)
    assert len(line.flush()) == (ON_THE_WIRE_US - BESIDE_SMALL_US) / 50 + 1


def test_more_is_sent_where_redis_is_far() -> None:
    line = Line()
    line.admit("a", 1, 100.0)
    line.flush()
    line.reply(took=0.00205)
    line.admit("b", 60, 100.0)
    assert len(line.flush()) == (ON_THE_WIRE_US + 2000) / 100
    line.reply(30, took=0.005)  # they have waited for each other
    assert len(line.flush()) == 30


def test_a_call_that_takes_longer_than_the_whole_window_is_sent_alone() -> None:
    line = Line()
    line.admit("a", 2, 5 * ON_THE_WIRE_US)
    assert line.flush() == [b"a0"]
    line.reply()
    assert line.flush() == [b"a1"]


def test_requests_take_turns() -> None:
    line = Line()
    line.admit("a", 40, TURN_US / 4)
    line.admit("b", 2, TURN_US / 4)
    for _ in range(20):
        line.flush()
        line.reply()
    assert line.sent[:10] == [b"a0", b"a1", b"a2", b"a3", b"b0", b"b1", b"a4", b"a5", b"a6", b"a7"]


def test_replies_come_back_in_the_order_of_the_calls() -> None:
    line = Line()
    first, second = line.admit("a", 3, 400.0), line.admit("b", 1, 400.0)
    for _ in range(4):
        line.flush()
        line.reply()
    assert [first.outcome, second.outcome] == [[1, 1, 1], [1]]
    assert line.finished == [first, second]
    assert (line.turns.waiting, line.pipeline.in_flight) == (0, 0)


def test_what_cannot_be_in_time_is_refused_at_once() -> None:
    line = Line()
    assert 80 < line.fill("a", 10, 60.0) < 90  # 50 ms, and twice their own 0.6
    assert re.search(r"take 5[0-2] ms", line.refusal)


def test_overload_is_known_before_a_request_is_read() -> None:
    line = Line()
    assert line.turns.overload() is None
    line.fill("a", 10, 60.0)
    assert isinstance(line.turns.overload(), OverloadedError)


def test_what_is_made_of_replies_is_made_as_they_come() -> None:
    line = Line()

    def fail(_reply: int) -> int:
        raise ValueError("no")

    takes = [lambda reply: reply + 1, fail, lambda reply: reply + 2]
    request = line.turns.admit([b"a0", b"a1", b"a2"], answers, 1000.0, line.finished.append, 0.0, None, takes)
    line.send()
    line.flush()
    line.reply()
    assert request.replies == [2]
    for _ in range(2):
        line.flush()
        line.reply()
    first, second, third = request.outcome
    assert (first, type(second), third) == (2, ValueError, 3)


def test_a_call_that_cannot_be_made_fails_its_own_request_alone() -> None:
    line = Line()
    bad = line.turns.admit(Unmakeable(2), answers, 100.0, line.finished.append, 0.0)
    good = line.admit("a", 2, 100.0)
    assert line.flush() == [b"u0", b"a0", b"a1"]
    assert line.finished == [bad]
    assert isinstance(bad.outcome.error, BadIdError)
    line.reply(3)
    assert good.outcome == [1, 1]
    assert line.turns.waiting == 0


def test_what_goes_on_with_an_admitted_request_is_not_refused() -> None:
    line = Line()
    line.fill("a", 10, 60.0)
    request = line.turns.admit([b"b0"], answers, 60.0, line.finished.append, 0.0, follows=True)
    assert request.outcome is PENDING


def test_those_that_have_gone_do_not_count() -> None:
    line = Line()
    requests = [line.admit("a", 10, 60.0) for _ in range(80)]
    for request in requests[10:]:
        line.leave(request)
    assert line.turns.waiting <= 100
    assert line.turns.expected_wait(0.0) < 0.008
    assert line.turns.overload() is None


def test_big_requests_go_on_when_the_small_ones_stop() -> None:
    line = Line()
    for step in range(200):
        line.turns.small_at = line.now = step / 1000
        line.turns.note_small(0.01, 0.0001, line.now)
        if step == 100:
            line.admit("a", 50, 200.0)
    done = 0
    while line.pipeline.in_flight:
        line.flush()
        line.reply()
        done += 1
        if not line.pipeline.in_flight and line.turns.waiting:
            assert line.turns.send_at < line.now + 0.021
            line.now = line.turns.send_at
            line.send()
    assert (done, line.turns.waiting) == (50, 0)


def test_a_giant_does_not_keep_others_out() -> None:
    line = Line()
    line.admit("a", 200, 1000.0)
    line.admit("b", 10, 60.0)
    assert line.turns.expected_wait(600.0) < 0.004


def test_a_few_giants_are_admitted_and_more_are_not() -> None:
    line = Line()
    assert line.fill("a", 200, 1000.0) == 3


def test_the_rate_is_measured_while_requests_wait() -> None:
    line = Line()
    line.admit("a", 800, 500.0)
    for _ in range(700):
        line.flush()
        line.reply(took=0.001)  # twice as long as they were thought to take
    assert line.turns.rate == pytest.approx(0.5, abs=0.02)
    assert 20 < line.fill("b", 1, 1000.0) < 30  # 50 ms, and twice their own 2


def test_an_idle_connection_tells_nothing_of_the_rate() -> None:
    line = Line()
    for _ in range(20):
        line.admit("a", 1, 500.0)
        line.flush()
        line.reply(took=0.02)
    assert line.turns.rate == 1.0


def test_calls_whose_caller_has_gone_are_not_sent() -> None:
    line = Line()
    gone = line.admit("a", 20, 500.0)
    line.admit("b", 1, 500.0)
    line.flush()
    line.leave(gone)
    line.reply(2)
    assert line.flush() == [b"b0"]
    assert line.turns.waiting == 0
    line.reply()
    assert line.finished[0].outcome == [1]


def test_a_request_that_waited_too_long_is_told_that_nothing_was_sent() -> None:
    line = Line()
    line.admit("a", 30, 1000.0)
    waits = line.admit("b", 1, 1000.0)
    line.flush()
    assert line.turns.expire(1.0)[-1] is waits
    assert isinstance(waits.outcome.error, OverloadedError)
    assert (waits.outcome.unsent, waits.outcome.lost) == (True, False)


def test_replies_move_the_deadline() -> None:
    line = Line()
    slow = line.admit("a", 30, 1000.0)
    for _ in range(29):
        line.flush()
        line.reply(took=0.045)
        assert line.turns.expire(line.now) == []
    line.flush()
    line.reply()
    assert slow.outcome == [1] * 30


def test_a_deadline_of_the_callers_own_does_not_move() -> None:
    line = Line()
    request = line.admit("a", 30, 1000.0, allowed=0.1)
    for _ in range(2):
        line.flush()
        line.reply(took=0.045)
        assert line.turns.expire(line.now) == []
    line.now = 0.11
    assert line.turns.expire(line.now) == [request]
    assert isinstance(request.outcome.error, DeadlineExceededError)
    assert not request.outcome.unsent
    assert line.fill("b", 200, 1000.0, allowed=1.0) < 10


@pytest.mark.parametrize(("replies", "unsent"), [(0, True), (1, False)])
def test_a_request_fails_with_its_connection(replies: int, unsent: bool) -> None:  # noqa: FBT001 - a parameter
    line = Line()
    first, second = line.admit("a", 3, 1000.0), line.admit("b", 1, 1000.0)
    if replies:
        line.flush()
        line.reply(replies)
    for waiter in line.pipeline.end(UnavailableError("broken")):
        assert waiter.resume
        waiter.resume(waiter)
    line.turns.end(line.pipeline.ending, final=False)
    assert (first.outcome.lost, first.outcome.unsent) == (True, unsent)
    assert (second.outcome.lost, second.outcome.unsent) == (True, True)
    assert line.turns.waiting == 0


WRITE_TIMEOUT = 1.0


def test_a_write_is_refused_by_its_own_time_out() -> None:
    line = Line(write_timeout=WRITE_TIMEOUT)
    assert 45 < line.fill("w", 20, 1000.0, writes=True) < 60  # 1 s, and twice their own 20 ms, in parts of 20 ms
    assert line.turns.lasting


def test_writes_that_wait_leave_reads_the_time_that_they_have() -> None:
    line = Line(write_timeout=WRITE_TIMEOUT)
    line.fill("w", 20, 1000.0, writes=True)
    assert line.turns.overload() is None
    assert line.turns.overload(writes=True)
    assert 20 < line.fill("r", 2, 500.0) < 60  # the reads have turns of 1 ms beside the two writes'


def test_one_write_has_turns_however_long_it_takes_and_the_next_when_it_is_sent() -> None:
    line = Line(write_timeout=WRITE_TIMEOUT)
    line.admit("a", 60, 1000.0, writes=True)
    line.admit("b", 1, 1000.0, writes=True)
    for _ in range(61):
        line.flush()
        line.reply(took=0.001)
    assert 34 < line.sent.index(b"b0") < 40  # when the rest of the first takes half of the reads' time-out
    assert sorted(len(request.replies) for request in line.finished) == [1, 60]
    assert not line.turns.lasting


def test_a_write_that_goes_on_has_its_turn_at_once() -> None:
    line = Line(write_timeout=WRITE_TIMEOUT)
    line.admit("a", 60, 1000.0, writes=True)
    line.admit("b", 1, 1000.0, writes=True)
    line.admit("c", 1, 1000.0, writes=True, follows=True)
    for _ in range(62):
        line.flush()
        line.reply(took=0.001)
    assert line.sent.index(b"c0") < 5
    assert line.sent.index(b"b0") > 34


def test_a_write_whose_turn_does_not_come_is_given_up_unsent() -> None:
    line = Line(write_timeout=WRITE_TIMEOUT)
    line.admit("a", 60, 1000.0, writes=True)
    waits = line.admit("b", 1, 1000.0, writes=True)
    gone = line.admit("c", 1, 1000.0, writes=True)
    line.leave(gone)
    assert line.turns.expire(WRITE_TIMEOUT) == []
    line.flush()
    for second in (0.5, 1.0, 1.5):  # Redis answers, but slowly
        line.reply(took=second - line.now)
        line.flush()
    assert line.turns.expire(1.5) == [waits]
    assert isinstance(waits.outcome.error, OverloadedError)
    assert waits.outcome.unsent
    assert line.turns.waiting == 60 - len(line.sent)


def test_reads_fail_with_the_connection_that_is_set_aside_and_writes_do_not() -> None:
    line = Line(write_timeout=WRITE_TIMEOUT)
    line.admit("a", 60, 1000.0, writes=True)
    line.admit("b", 1, 1000.0, writes=True)
    read = line.admit("r", 5, 1000.0)
    assert line.turns.end(UnavailableError("silent"), but_lasting=True) == [read]
    assert (read.outcome.lost, read.outcome.unsent) == (True, True)
    for _ in range(61):
        line.flush()
        line.reply(took=0.001)
    assert sorted(len(request.replies) for request in line.finished) == [1, 60]


def test_a_write_time_out_that_is_shorter_is_an_ordinary_one() -> None:
    line = Line(write_timeout=TIMEOUT / 2)
    assert 20 < line.fill("a", 10, 100.0, writes=True) < 30
    assert not line.turns.lasting


class Crowd(RuleBasedStateMachine):
    """Requests of all sizes, callers that go, replies at any pace."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(max_in_flight=60, write_timeout=WRITE_TIMEOUT)
        self.requests: list[BigRequest] = []

    @rule(
        count=st.integers(1, 12),
        each_us=st.floats(1, 3000),
        allowed=st.none() | st.floats(0.001, 1),
        writes=st.booleans(),
    )
    def admit(self, count: int, each_us: float, allowed: float | None, writes: bool) -> None:  # noqa: FBT001 - hypothesis passes it
        try:
            self.requests.append(self.line.admit("a", count, each_us, allowed, writes))
        except OverloadedError:
            assert self.line.pipeline.in_flight or self.line.turns.waiting

    @rule(place=st.integers(0, 9))
    def go(self, place: int) -> None:
        waiting = [request for request in self.requests if request.resume]
        if waiting:
            self.line.leave(waiting[place % len(waiting)])

    @rule(most=st.integers(1, 5), took=st.floats(0, 0.02))
    def answer(self, most: int, took: float) -> None:
        self.line.flush()
        self.line.reply(min(most, self.line.pipeline.in_flight), took)

    @rule(took=st.floats(0, 0.01))
    def small(self, took: float) -> None:
        """A small request is answered."""
        self.line.turns.small_at = self.line.now
        self.line.turns.note_small(took, 0.0001, self.line.now)

    @rule(seconds=st.floats(0, 0.03))
    def wait(self, seconds: float) -> None:
        """The timer of the link runs out, if it is set."""
        self.line.now += seconds
        if self.line.turns.send_at <= self.line.now:
            self.line.send()

    @rule(count=st.integers(1, 3))
    def admit_what_cannot_be_made(self, count: int) -> None:
        with contextlib.suppress(OverloadedError):
            self.requests.append(
                self.line.turns.admit(Unmakeable(count), answers, 400.0, self.line.finished.append, self.line.now)
            )
            self.line.send()

    @rule(took=st.floats(0, 0.1))
    def expire(self, took: float) -> None:
        self.line.now += took
        for request in self.line.turns.expire(self.line.now):
            assert isinstance(request.outcome, Failure)
            assert request.until <= self.line.now
            request.resume = None

    @invariant()
    def calls_are_counted(self) -> None:
        turns = self.line.turns
        queued = [request for request in self.requests if request.sent < len(request.calls)]
        wanted = [each for each in queued if each.resume and each.outcome is PENDING]
        assert turns.waiting == sum(len(each.calls) - each.sent for each in wanted)
        assert turns.waiting == 0 or self.line.pipeline.in_flight > 0 or turns.send_at < float("inf")

    @invariant()
    def the_wait_is_what_those_that_wait_need(self) -> None:
        turns = self.line.turns
        ahead = sum(min(request.left_us, TURN_US) for request in turns._queue) + turns._on_the_wire_us
        assert turns.expected_wait(0.0) == pytest.approx(ahead * 1e-6 / turns.rate, abs=1e-9)

    @invariant()
    def what_writes_take_is_counted(self) -> None:
        turns = self.line.turns
        lasting = [each for each in turns._queue if each.allowed is None and each.patience > TIMEOUT]
        assert turns._lasting_us == pytest.approx(sum(each.left_us for each in lasting), abs=1e-6)
        assert turns._later_us == pytest.approx(sum(each.left_us for each in turns._later), abs=1e-6)
        assert turns._queue or not turns._later

    @invariant()
    def everyone_is_answered_whole(self) -> None:
        for request in self.requests:
            if request.outcome is not PENDING and not isinstance(request.outcome, Failure):
                assert len(request.outcome) == len(request.calls) == request.sent


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
