"""The pipeline without sockets: whatever happens in whatever order, everyone is told once, in order, the truth."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.examples import examples

from featurestore.errors import (
    BadReplyError,
    DeadlineExceededError,
    OverloadedError,
    UnavailableError,
)
from featurestore.transport.pipeline import PENDING, Failure, Pipeline, PipelineState, Waiter

TIMEOUT = 10.0
ROOM = 6
SELDOM = st.sampled_from([False] * 7 + [True])
"""Whether to do what ends a connection, after which little happens."""


class Numbers:
    """Expects integers that count up from a number."""

    name = "numbers"

    def __init__(self, first: int, count: int) -> None:
        self.replies = list(range(first, first + count))

    def misfit(self, replies: Sequence[Any]) -> str | None:
        return None if list(replies) == self.replies else f"got {replies!r}"


def resume(waiter: Waiter) -> None:
    raise AssertionError(waiter)  # a pipeline calls nobody: that is the link's part


def made(**options: Any) -> Pipeline:
    return Pipeline(**{"timeout": TIMEOUT, "max_in_flight": ROOM, "on_served": lambda: None, **options})


def submit(
    pipeline: Pipeline, *, first: int = 0, count: int = 1, now: float = 0.0, allowed: float | None = None
) -> Waiter:
    waiter = pipeline.submit(b"x" * (10 * count), Numbers(first, count), resume, now, count, allowed)
    assert waiter is not None
    return waiter


def state_of(pipeline: Pipeline) -> PipelineState:
    return pipeline.state


class Call:
    """A call as the test knows it."""

    def __init__(self, waiter: Waiter, start: int, size: int, replies: list[int]) -> None:
        self.waiter, self.start, self.end, self.replies = waiter, start, start + size, replies
        self.told = 0
        self.silenced = False  # whether it failed because nothing had arrived for too long
        self.outcome: Any = PENDING  # as it was told
        self.given_up = False


class Connection(RuleBasedStateMachine):
    """A pipeline, the link that drives it, and a server that answers calls that have reached it whole."""

    def __init__(self) -> None:
        super().__init__()
        self.served = 0
        self.pipeline = made(on_served=self._on_served)
        self.now = 0.0
        self.calls: list[Call] = []
        self.next_number = self.queued = self.sent = self.shown = 0
        self.unanswered: list[Call] = []  # by the server
        self.unread = b""  # by the pipeline
        self.read = 0  # replies
        self.final = self.silent = False

    def _on_served(self) -> None:
        self.served += 1

    @property
    def ended(self) -> bool:
        return self.pipeline.state is PipelineState.ENDED

    def tell(self, waiters: list[Waiter]) -> None:
        """Do what a link does with those who have their outcome."""
        for waiter in waiters:
            assert waiter.outcome is not PENDING
            if waiter.resume is not None:
                waiter.resume = None
                call = next(call for call in self.calls if call.waiter is waiter)
                call.told += 1
                call.outcome = waiter.outcome

    @rule(count=st.integers(1, 3), allowed=st.none() | st.floats(0.1, 30))
    def submit(self, count: int, allowed: float | None) -> None:
        before, encoded = self.pipeline.in_flight, b"c" * (5 * count)
        expected = Numbers(self.next_number, count)
        waiter = self.pipeline.submit(encoded, expected, resume, self.now, count, allowed)
        if state_of(self.pipeline) is not PipelineState.ACTIVE:
            assert waiter is None
            failure = self.pipeline.refusal(count)
            assert (failure.lost, failure.unsent) == (not self.final, True)
        elif before + count > ROOM:
            assert waiter is None
            with pytest.raises(OverloadedError, match=f"at most {ROOM}"):
                self.pipeline.refusal(count)
        else:
            assert waiter is not None
            self.calls.append(Call(waiter, self.queued, len(encoded), expected.replies))
            self.unanswered.append(self.calls[-1])
            self.queued += len(encoded)
            self.next_number += count

    @initialize(secure=st.booleans())
    def begin(self, secure: bool) -> None:  # noqa: FBT001 - hypothesis passes it
        self.secure = secure

    @rule(kept=st.just(0) | st.integers(0, 20))
    def send(self, kept: int) -> None:
        data = self.pipeline.to_send()
        if self.ended:
            assert not data
            return
        kept = min(kept, len(data))
        if kept:
            self.pipeline.put_back(data[len(data) - kept :], in_doubt=self.secure)
        self.shown = max(self.shown, self.sent + len(data) - (0 if self.secure else kept))
        self.sent += len(data) - kept
        assert (self.pipeline.taken, self.pipeline.queued) == (self.sent, self.queued)

    @rule(most=st.integers(1, 4))
    def answer(self, most: int) -> None:
        """The server answers the oldest calls, if they have arrived."""
        for _ in range(most):
            if not self.unanswered or self.unanswered[0].end > self.sent:
                break
            self.unread += b"".join(b":%d\r\n" % number for number in self.unanswered.pop(0).replies)

    @precondition(lambda self: not self.ended)
    @rule(size=st.integers(1, 40))
    def receive(self, size: int) -> None:
        data, self.unread = self.unread[:size], self.unread[size:]
        self.read += data.count(b"\n")
        self.tell(self.pipeline.receive(data))

    @precondition(lambda self: not self.ended)
    @rule(lie=st.sampled_from([b":-1\r\n", b"+nobody asked\r\n", b"?\r\n"]), really=SELDOM)
    def lie(self, lie: bytes, really: bool) -> None:  # noqa: FBT001 - hypothesis passes it
        if not really:
            return
        self.tell(self.pipeline.receive(self.unread + lie))
        self.read += (self.unread + lie).count(b"\n")
        self.unread = b""
        partly = [call for call in self.calls if 0 < len(call.waiter.replies or ()) < call.waiter.count]
        assert self.ended or partly  # several replies are looked at when the last one is there
        assert not self.ended or isinstance(self.pipeline.ending, UnavailableError)

    @rule(place=st.integers(0, 9))
    def give_up(self, place: int) -> None:
        """A caller is killed."""
        waiting = [call for call in self.calls if call.waiter.resume is not None]
        if waiting:
            call = waiting[place % len(waiting)]
            call.waiter.resume, call.given_up = None, True

    @precondition(lambda self: not self.ended)
    @rule(seconds=st.floats(0, 12) | st.floats(30, 45), patience=st.sampled_from([0.0, TIMEOUT]))
    def pass_time(self, seconds: float, patience: float) -> None:
        self.now += seconds
        waiting = [call.waiter for call in self.calls if call.waiter.resume is not None]
        late = [waiter for waiter in waiting if waiter.deadline <= self.now - patience]
        before = self.pipeline.set_aside
        overdue = self.pipeline.expire(self.now, patience=patience)
        self.silent = self.ended  # calls that Redis did not answer in time are not repeated
        if not self.ended:
            silenced = [each for each in waiting if each.allowed <= TIMEOUT and self.pipeline.set_aside > before]
            assert overdue == silenced + [waiter for waiter in late if waiter not in silenced]
            for waiter in overdue:
                call = next(call for call in self.calls if call.waiter is waiter)
                call.silenced = waiter in silenced
                assert isinstance(waiter.outcome.error, DeadlineExceededError) is not call.silenced
            left = [waiter.deadline for waiter in waiting if waiter not in overdue]
            assert self.pipeline.look_at <= min(left, default=float("inf"))
        self.tell(overdue)

    @rule(really=SELDOM)
    def retire(self, really: bool) -> None:  # noqa: FBT001 - hypothesis passes it
        if really:
            self.pipeline.retire()

    @precondition(lambda self: not self.ended)
    @rule(final=st.booleans(), really=SELDOM)
    def break_off(self, final: bool, really: bool) -> None:  # noqa: FBT001 - hypothesis passes it
        if really:
            self.final = final
            self.tell(self.pipeline.end(UnavailableError("broken"), final=final))

    @invariant()
    def everyone_is_told_once(self) -> None:
        for call in self.calls:
            outcome, done = call.waiter.outcome, call.waiter.outcome is not PENDING
            assert call.told == (done and not call.given_up) or (call.given_up and call.told == 0)
            assert call.outcome is PENDING or call.outcome is outcome
            if isinstance(outcome, Failure):
                if not isinstance(outcome.error, DeadlineExceededError):
                    # What was only set aside is sent later on, if it was not yet.
                    unsent = call.start >= self.shown and not call.silenced
                    silent = self.silent or call.silenced
                    assert (outcome.lost, outcome.unsent) == (not self.final and (unsent or not silent), unsent)
            elif done:
                assert outcome == (call.replies if call.waiter.count > 1 else call.replies[0])

    @invariant()
    def replies_come_in_order(self) -> None:
        answered = [isinstance(call.waiter.outcome, int | list) for call in self.calls]
        served = [call for call, ok in zip(self.calls, answered, strict=True) if ok]
        assert served == sorted(served, key=lambda call: call.start)
        assert self.served == bool(served)

    @invariant()
    def calls_are_counted_and_nobody_waits_at_the_end(self) -> None:
        if self.ended:
            assert self.pipeline.in_flight == 0
            assert all(call.waiter.resume is None for call in self.calls)
        else:
            unread = [call for call in self.calls if call.replies[-1] >= self.read]  # replies count up from 0
            assert self.pipeline.in_flight == sum(call.waiter.count for call in unread) <= ROOM


TestConnection = Connection.TestCase
TestConnection.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)


def test_what_is_put_back_is_taken_next_and_as_it_was() -> None:
    pipeline = made()
    submit(pipeline)
    first = pipeline.to_send()
    pipeline.put_back(memoryview(bytes(first))[4:])
    late = submit(pipeline, first=1)
    assert bytes(pipeline.to_send()) == first[4:]
    assert [waiter.outcome.unsent for waiter in pipeline.end(UnavailableError("broken"))] == [False, True]
    assert late.outcome.unsent


def test_what_a_tls_library_was_shown_is_in_doubt_and_what_is_queued_is_not() -> None:
    pipeline = made()
    shown = submit(pipeline)
    pipeline.put_back(pipeline.to_send(), in_doubt=True)
    queued = submit(pipeline, first=1)
    pipeline.end(UnavailableError("broken"))
    assert (shown.outcome.unsent, queued.outcome.unsent) == (False, True)


def test_what_is_set_aside_before_it_was_sent_counts_as_sent_since_it_will_be() -> None:
    pipeline = made(write_timeout=100.0)
    submit(pipeline)
    assert pipeline.expire(TIMEOUT)
    now = TIMEOUT * 3.9
    lasting = submit(pipeline, first=1, now=now, allowed=100.0)
    aside = submit(pipeline, first=2, now=now)
    pipeline.expire(TIMEOUT * 4)
    assert (aside.outcome.lost, aside.outcome.unsent) == (False, False)
    assert lasting.outcome is PENDING
    assert len(pipeline.to_send()) == 30


def test_a_reply_to_a_call_of_which_nothing_was_sent_is_an_end() -> None:
    pipeline = made()
    waiter = submit(pipeline)
    assert pipeline.receive(b":0\r\n") == [waiter]
    assert isinstance(waiter.outcome.error, BadReplyError)
    assert "no call" in str(waiter.outcome.error)


def test_replies_before_a_lie_are_handed_out_with_the_failures_behind_them() -> None:
    pipeline = made()
    waiters = [submit(pipeline, first=number) for number in range(3)]
    pipeline.to_send()
    assert pipeline.receive(b":0\r\n:7\r\n:2\r\n") == waiters
    assert waiters[0].outcome == 0
    assert [type(waiter.outcome.error) for waiter in waiters[1:]] == [BadReplyError] * 2
    assert pipeline.proved
    assert state_of(pipeline) is PipelineState.ENDED


def test_calls_of_different_age_expire_each_in_its_time() -> None:
    pipeline = made()
    calls = [submit(pipeline, first=number, now=3.0 * number) for number in range(3)]
    assert pipeline.expire(9.9) == []
    for call, due in zip(calls, (10.0, 13.0, 16.0), strict=True):
        assert pipeline.look_at == due
        assert pipeline.expire(due) == [call]
        assert isinstance(call.outcome.error, DeadlineExceededError)
        call.resume = None
    assert pipeline.look_at == 40.0  # when the oldest call is hopeless


def test_a_call_behind_one_that_was_given_up_expires_in_its_time() -> None:
    pipeline = made()
    given_up = submit(pipeline)
    assert pipeline.expire(10.0) == [given_up]
    given_up.resume = None
    late = submit(pipeline, first=1, now=10.0)
    assert pipeline.expire(19.9) == []
    assert pipeline.look_at == 20.0
    assert pipeline.expire(20.0) == [late]
    assert "in 10000 ms" in str(late.outcome.error)


def test_a_connection_whose_oldest_call_is_hopeless_ends() -> None:
    pipeline = made()
    given_up, late = submit(pipeline), submit(pipeline, first=1, now=35.0)
    assert pipeline.expire(10.0) == [given_up]
    assert pipeline.look_at == 40.0
    given_up.resume = None
    assert pipeline.expire(39.9) == []
    assert pipeline.look_at == 40.0
    assert pipeline.expire(40.0) == [late]
    assert "has not answered for 40000 ms" in str(late.outcome.error)


def test_a_connection_on_which_anything_arrives_does_not_end() -> None:
    pipeline = made()
    waiter = submit(pipeline, count=2)
    pipeline.to_send()
    assert pipeline.expire(10.0) == [waiter]
    waiter.resume = None
    for seconds, data in ((20.0, b":0\r\n"), (45.0, b":"), (70.0, b"1")):
        assert pipeline.receive(data) == []
        assert pipeline.expire(seconds) == []
        assert pipeline.look_at == seconds + 30.0
    assert pipeline.expire(99.9) == []
    assert state_of(pipeline) is PipelineState.ACTIVE
    pipeline.expire(100.0)
    assert state_of(pipeline) is PipelineState.ENDED


def test_a_patient_call_is_given_up_when_nothing_arrives() -> None:
    pipeline = made()
    others = submit(pipeline, count=2)
    waiter = pipeline.submit(b"x", Numbers(2, 1), resume, 0.0, patient=True)
    pipeline.to_send()
    assert waiter is not None
    assert pipeline.receive(b":0\r\n") == []
    assert pipeline.expire(10.0) == [others]
    others.resume = None
    assert pipeline.look_at == 20.0
    assert pipeline.expire(19.9) == []
    assert pipeline.expire(20.0) == [waiter]
    assert isinstance(waiter.outcome.error, DeadlineExceededError)


def test_a_silent_connection_is_set_aside_for_calls_that_may_take_longer() -> None:
    pipeline = made()
    write = submit(pipeline, allowed=100.0)
    reads = [submit(pipeline, first=number, now=20.0 * number) for number in (1, 2)]
    pipeline.to_send()
    assert pipeline.expire(30.0) == [reads[0]]
    assert pipeline.look_at == 50.0
    reads[0].resume = None
    assert pipeline.expire(50.0) == [reads[1]]
    late = reads[1].outcome
    assert (type(late.error), str(late.error)) == (DeadlineExceededError, "Redis did not answer in 10000 ms")
    reads[1].resume = None
    third = submit(pipeline, first=3, now=55.0)
    assert pipeline.look_at == 60.0  # when the first read is hopeless
    assert pipeline.expire(60.0) == [third]
    assert "has not answered for 40000 ms" in str(third.outcome.error)
    third.resume = None
    assert pipeline.set_aside
    assert state_of(pipeline) is PipelineState.ACTIVE
    assert pipeline.expire(65.0) == []
    assert pipeline.look_at == 100.0
    assert pipeline.receive(b":0\r\n") == [write]


def test_a_connection_that_was_set_aside_ends_when_its_oldest_write_is_hopeless() -> None:
    pipeline = made()
    writes = [submit(pipeline, first=number, now=50.0 * number, allowed=100.0) for number in (0, 1)]
    read = submit(pipeline, first=2, now=50.0)
    pipeline.to_send()
    assert pipeline.expire(90.0) == [read]
    assert pipeline.set_aside
    read.resume = None
    assert pipeline.expire(100.0) == [writes[0]]
    writes[0].resume = None
    assert pipeline.look_at == 130.0
    assert pipeline.expire(130.0) == [writes[1]]
    assert "has not answered for 130000 ms" in str(writes[1].outcome.error)
    assert state_of(pipeline) is PipelineState.ENDED


def test_a_connection_on_which_only_writes_wait_is_given_up_by_their_time() -> None:
    pipeline = made()
    write = submit(pipeline, allowed=100.0)
    assert pipeline.expire(99.0) == []
    assert pipeline.look_at == 100.0
    assert pipeline.expire(100.0) == [write]
    write.resume = None
    assert pipeline.look_at == 130.0
    pipeline.expire(130.0)
    assert state_of(pipeline) is PipelineState.ENDED


def test_a_retiring_pipeline_ends_with_the_last_reply() -> None:
    pipeline = made()
    waiter = submit(pipeline)
    pipeline.to_send()
    pipeline.retire()
    assert state_of(pipeline) is PipelineState.RETIRING
    assert pipeline.receive(b":0\r\n") == [waiter]
    assert state_of(pipeline) is PipelineState.ENDED
    assert "given up" in str(pipeline.ending)


def test_a_reply_that_comes_after_its_call_was_given_up_changes_nothing() -> None:
    pipeline = made()
    waiter = submit(pipeline)
    pipeline.to_send()
    assert pipeline.expire(TIMEOUT + 0.1) == [waiter]
    told = waiter.outcome
    assert isinstance(told, Failure)
    assert isinstance(told.error, DeadlineExceededError)
    assert pipeline.receive(b":0\r\n") == []
    assert waiter.outcome is told
    assert pipeline.in_flight == 0


def test_a_retiring_pipeline_takes_no_calls_and_they_may_go_elsewhere() -> None:
    pipeline = made()
    submit(pipeline)
    pipeline.retire()
    assert pipeline.submit(b"x", Numbers(0, 1), resume, 0.0) is None
    refusal = pipeline.refusal(1)
    assert (refusal.lost, refusal.unsent) == (True, True)


def test_scripts_are_loaded_once_at_a_time_and_do_not_count_as_calls() -> None:
    pipeline = made(max_in_flight=0)
    loading = pipeline.load_scripts(0.0)
    assert loading is not None
    assert pipeline.load_scripts(0.0) is None
    assert pipeline.in_flight == 0
    pipeline.to_send()
    refused = b"-NOPERM no\r\n" * loading.count
    assert pipeline.receive(refused) == []
    assert str(pipeline.load_error).startswith("NOPERM")
    assert pipeline.proved
    assert pipeline.load_scripts(0.0) is not None
    pipeline.forget()
    assert pipeline.load_scripts(0.0) is None
