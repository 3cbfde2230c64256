"""What becomes of each call to a cluster, without a cluster: who is asked, with what, how often, in which order."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import GET_FEATURES, INCREMENT_FEATURES, UPSERT_FEATURES, Script
from featurestore.errors import (
    AccessDeniedError,
    DeadlineExceededError,
    FeatureStoreError,
    InDoubtError,
    OverloadedError,
    RedisError,
    UnavailableError,
    error_from_reply,
)
from featurestore.keys import SLOTS, slot_of, tags
from featurestore.transport.addresses import cluster_url
from featurestore.transport.cluster import Cluster, Target
from featurestore.transport.pipeline import Failure
from featurestore.transport.repeats import Replies
from featurestore.transport.replicas import Reading
from featurestore.transport.rounds import Leg, Refresh, Request, Round, calls_request, command_request
from featurestore.transport.routing import routed
from featurestore.transport.topology import Shard, Topology

A, B, C = "10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"
TAGS = tags(4)  # the first half is A's, the second B's
ROW = b"\x91\x01"


def slots_reply(*primaries: str) -> list[Any]:
    """Return what CLUSTER SLOTS replies where these primaries share the slots."""
    ends = [place * SLOTS // len(primaries) for place in range(len(primaries) + 1)]
    return [
        [ends[place], ends[place + 1] - 1, [node.partition(":")[0].encode(), int(node.partition(":")[2]), b"id", []]]
        for place, node in enumerate(primaries)
    ]


def cluster_of(*primaries: str) -> Cluster:
    cluster = Cluster(cluster_url(f"redis+cluster://{primaries[0]}"), {})
    refresh(cluster, slots_reply(*primaries))
    return cluster


def refresh(cluster: Cluster, reply: Any) -> None:
    steps = cluster.asking()
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(reply)


def call(place: int, script: Script = GET_FEATURES, word: str = "a") -> bytes:
    tag = TAGS[place]
    return encode_call(script, (f"all_{tag}users", f"{tag}user:schema", f"{tag}user:{word}:features"), (word,))


def slot(place: int) -> int:
    return slot_of(TAGS[place].encode())


def request(*places: int, script: Script = GET_FEATURES, **options: Any) -> Request:
    return calls_request(script, [call(place, script) for place in places], list(map(slot, places)), **options)


Answer = Callable[[Leg], Replies | Failure]


class Drive:
    """Drives a request, where each node answers a leg by a function; keeps the rounds."""

    def __init__(self, cluster: Cluster, then: Sequence[str] = ()) -> None:
        self.cluster, self.then = cluster, then
        self.rounds: list[Round] = []
        self.legs: list[Leg] = []

    def run(self, asked: Request, answer: Answer, allowed: float = 1.0, answered: Any = None) -> Replies:
        steps = routed(self.cluster, asked, allowed, None, answered)
        outcomes: Any = None
        try:
            while True:
                step = steps.send(outcomes)
                self.rounds.append(step)
                if step.refresh is Refresh.FIRST and self.then:
                    refresh(self.cluster, slots_reply(*self.then))
                self.legs += step.legs
                outcomes = list(map(answer, step.legs))
        except StopIteration as end:
            replies: Replies = end.value
            return replies

    @property
    def targets(self) -> list[str]:
        return [leg.target.address for leg in self.legs]


def rows(leg: Leg) -> Replies:
    count = len(leg.exchange.encoded)
    return [b"OK", ROW] * (count // 2) if leg.asking else [ROW] * count


def first(reply: str | Failure, then: Answer = rows, at: str = A) -> Answer:
    """Answer the first leg to a node by an error, for all its calls, and all else well."""
    left = [True]

    def answer(leg: Leg) -> Replies | Failure:
        if leg.target.address == at and left[0]:
            left[0] = False
            return reply if isinstance(reply, Failure) else errors(leg, reply)
        return then(leg)

    return answer


def errors(leg: Leg, reply: str) -> Replies:
    return [error_from_reply(reply) for _ in leg.places]


# Where calls go


def test_calls_are_cut_by_node_and_replies_put_in_order() -> None:
    drive = Drive(cluster_of(A, B))

    def answer(leg: Leg) -> Replies:
        return [b"\x91" + bytes([place]) for place in leg.places]

    assert drive.run(request(3, 0, 2, 1), answer) == [b"\x91\x00", b"\x91\x01", b"\x91\x02", b"\x91\x03"]
    assert drive.targets == [B, A]
    assert len(drive.rounds) == 1
    assert [leg.places for leg in drive.legs] == [[0, 2], [1, 3]]


def test_the_topology_is_asked_for_before_the_first_call() -> None:
    cluster = Cluster(cluster_url(f"redis+cluster://{A}"), {})
    assert Drive(cluster, [A, B]).run(request(0), rows) == [ROW]
    with pytest.raises(UnavailableError, match="no server has told in time who has which keys"):
        Drive(Cluster(cluster_url(f"redis+cluster://{A}"), {})).run(request(0), rows)


def test_no_calls_are_no_round() -> None:
    drive = Drive(cluster_of(A, B))
    assert (drive.run(request(), rows), drive.rounds) == ([], [])


# Redirects


def test_a_moved_slot_is_followed_at_once_and_the_topology_read_soon() -> None:
    drive = Drive(cluster_of(A, B))
    assert drive.run(request(0), first(f"MOVED {slot(0)} {C}")) == [ROW]
    assert drive.targets == [A, C]
    assert (drive.rounds[1].pause, drive.rounds[1].refresh) == (0.0, Refresh.SOON)
    assert Drive(drive.cluster).run(request(0), first("MOVED", at="nobody")) == [ROW]
    shard = drive.cluster.shard(slot(0))
    assert shard is not None
    assert shard.primary == C
    assert drive.cluster.shard(slot(1)) != shard


def test_a_slot_that_is_asked_for_elsewhere_stays_where_it_is() -> None:
    drive = Drive(cluster_of(A, B))
    assert drive.run(request(0, 1), first(f"ASK {slot(0)} {C}")) == [ROW, ROW]
    (_, second) = drive.legs
    assert (second.target, second.asking) == (Target(C), True)
    assert [bytes(each)[:20] for each in second.exchange.encoded][::2] == [b"*1\r\n$6\r\nASKING\r\n"] * 2
    assert second.exchange.encoded[1::2] == [call(0), call(1)]
    shard = drive.cluster.shard(slot(0))
    assert shard is not None
    assert shard.primary == A


def test_takes_are_made_of_replies_wherever_they_come_from() -> None:
    drive = Drive(cluster_of(A, B))
    asked = request(0, 1, takes=[lambda reply: (0, reply), lambda reply: (1, reply)])

    def answer(leg: Leg) -> Replies:
        return errors(leg, f"ASK {slot(0)} {C}") if leg.target.address == A else rows(leg)

    assert drive.run(asked, answer) == [(0, ROW), (1, ROW)]


@pytest.mark.parametrize("reply", ["TRYAGAIN x", "CLUSTERDOWN x", "LOADING x", "MASTERDOWN x"])
def test_what_is_over_soon_is_tried_again_after_a_pause_that_grows(reply: str) -> None:
    drive = Drive(cluster_of(A, B))
    left = [5]

    def answer(leg: Leg) -> Replies:
        left[0] -= 1
        return rows(leg) if left[0] == 0 else errors(leg, reply)

    assert drive.run(request(0, script=INCREMENT_FEATURES), answer) == [ROW]
    pauses = [step.pause for step in drive.rounds]
    assert pauses[0] == 0.0
    assert all(0.0005 < pause <= 0.05 for pause in pauses[1:])
    assert pauses[4] > pauses[1]


def test_what_is_not_over_in_time_is_an_error_that_names_node_and_slot() -> None:
    (found,) = Drive(cluster_of(A, B)).run(request(0), lambda leg: errors(leg, "TRYAGAIN x"), allowed=0.0)
    assert isinstance(found, UnavailableError)
    assert str(found) == f"TRYAGAIN x (node {A}, slot {slot(0)})"


def test_redirects_without_an_end_end() -> None:
    drive = Drive(cluster_of(A, B))

    def answer(leg: Leg) -> Replies:
        return errors(leg, f"MOVED {slot(0)} {B if leg.target.address == A else A}")

    (found,) = drive.run(request(0), answer, allowed=5.0)
    assert isinstance(found, UnavailableError)
    assert "MOVED" in str(found)
    assert len(drive.rounds) < 60
    assert any(step.pause for step in drive.rounds)


def test_a_slot_that_its_new_node_does_not_know_of_yet_is_asked_for_again_after_a_pause() -> None:
    drive = Drive(cluster_of(A, B))
    said = [f"MOVED {slot(0)} {C}", f"MOVED {slot(0)} {A}", f"MOVED {slot(0)} {C}", f"MOVED {slot(0)} {A}"]

    def answer(leg: Leg) -> Replies:
        return errors(leg, said.pop(0)) if said else rows(leg)

    assert drive.run(request(0, script=INCREMENT_FEATURES), answer) == [ROW]
    assert drive.targets == [A, C, A, C, A]
    pauses = [step.pause for step in drive.rounds]
    assert pauses[:2] == [0.0, 0.0]
    assert all(0.0005 < pause < 0.05 for pause in pauses[2:])


def test_a_slot_that_moves_for_too_long_is_an_error_that_names_slot_and_nodes() -> None:
    def answer(leg: Leg) -> Replies:
        return errors(leg, f"MOVED {slot(0)} {B if leg.target.address == A else A}")

    (found,) = Drive(cluster_of(A, B)).run(request(0), answer, allowed=0.01)
    assert isinstance(found, UnavailableError)
    assert f"slot {slot(0)} is moving" in str(found)
    assert A in str(found)
    assert B in str(found)


def test_a_read_from_a_replica_follows_its_slot() -> None:
    cluster = cluster_of(A, B)
    reply = slots_reply(A, B)
    reply[0].append([b"10.0.0.9", 7000, b"id", []])
    refresh(cluster, reply)
    drive = Drive(cluster)

    def answer(leg: Leg) -> Replies | Failure:
        if leg.target.address == A:
            return Failure(DeadlineExceededError("late"))
        return errors(leg, f"MOVED {slot(0)} {C}") if leg.target.replica else rows(leg)

    assert drive.run(request(0), answer) == [ROW]
    assert drive.targets == [A, "10.0.0.9:7000", C]
    assert not drive.legs[2].target.replica


def test_the_last_pauses_are_short_enough_for_another_attempt() -> None:
    drive = Drive(cluster_of(A, B))
    moments: list[float] = []

    def answer(leg: Leg) -> Replies:
        moments.append(drive.rounds[-1].until)
        return errors(leg, "TRYAGAIN x")

    drive.run(request(0), answer, allowed=0.02)
    assert moments[-1] - moments[0] == pytest.approx(0.02, abs=0.002)  # a read has its time-out once more
    assert all(step.pause < 0.02 for step in drive.rounds)


def test_keys_of_several_slots_are_no_matter_of_the_address() -> None:
    (found,) = Drive(cluster_of(A, B)).run(request(0), lambda leg: errors(leg, "CROSSSLOT x"))
    assert isinstance(found, RedisError)
    assert str(found) == f"CROSSSLOT x (node {A})"


@pytest.mark.parametrize(
    "reply",
    ["READONLY You can't write against a read only replica.", "ERR Attempted to access a non local key in a script"],
)
def test_a_write_to_a_replica_is_sent_again_once_the_topology_was_read(reply: str) -> None:
    drive = Drive(cluster_of(A, B), [C, B])
    assert drive.run(request(0, script=INCREMENT_FEATURES), first(reply)) == [ROW]
    assert drive.targets == [A, C]
    assert [step.refresh for step in drive.rounds] == [Refresh.NEVER, Refresh.FIRST, Refresh.NEVER]


def test_scripts_are_loaded_where_they_are_missing() -> None:
    drive = Drive(cluster_of(A, B))
    assert drive.run(request(0, 2), first("NOSCRIPT x")) == [ROW, ROW]
    assert drive.targets == [A, B, A]
    assert [leg.exchange.load for leg in drive.legs] == [False, False, True]
    assert drive.legs[2].places == [0]


def test_scripts_that_cannot_be_loaded_say_why() -> None:
    def answer(leg: Leg) -> Replies:
        if leg.exchange.load:
            leg.exchange.load_error = error_from_reply("NOPERM x")
        return errors(leg, "NOSCRIPT x")

    (found,) = Drive(cluster_of(A, B)).run(request(0), answer)
    assert isinstance(found, AccessDeniedError)


def test_other_errors_stay_in_their_places() -> None:
    drive = Drive(cluster_of(A, B))
    replies = drive.run(request(0, 2), first("OOM x"))
    assert str(replies[0]) == "OOM x"
    assert replies[1] == ROW
    assert len(drive.rounds) == 1


def test_a_command_whose_key_was_guessed_wrong_goes_where_the_redirect_says() -> None:
    drive = Drive(cluster_of(A, B))
    words = ("BITOP", "NOT", "a", "b")  # the guess is NOT
    (at,) = command_request(words).slots
    wrong = [A, B][at * 2 // SLOTS]
    right = {A: B, B: A}[wrong]
    other = 0 if right == A else SLOTS - 1

    def answer(leg: Leg) -> Replies:
        return [1] if leg.target.address == right else errors(leg, f"MOVED {other} {right}")

    assert drive.run(command_request(words), answer) == [1]
    assert drive.targets == [wrong, right]


# Links that fail


BROKEN = Failure(UnavailableError("it broke"), lost=True)
REFUSED = Failure(UnavailableError("refused"), lost=True, unsent=True)
LATE = Failure(DeadlineExceededError("late"))


@pytest.mark.parametrize("failure", [BROKEN, REFUSED])
def test_a_read_goes_to_whom_the_new_topology_names(failure: Failure) -> None:
    drive = Drive(cluster_of(A, B), [C, B])
    assert drive.run(request(0, 2), first(failure)) == [ROW, ROW]
    assert drive.targets == [A, B, C]


def test_a_write_is_sent_again_only_where_nothing_of_it_was_sent() -> None:
    asked = request(0, script=INCREMENT_FEATURES)
    assert Drive(cluster_of(A, B), [C, B]).run(asked, first(REFUSED)) == [ROW]
    drive = Drive(cluster_of(A, B), [C, B])
    with pytest.raises(InDoubtError, match=rf"it broke; whether .* is unknown \(node {A}, slot {slot(0)}\)"):
        drive.run(asked, first(BROKEN))
    assert drive.targets == [A]
    assert drive.rounds[-1].refresh is Refresh.SOON  # for those who come next


def test_a_reply_that_does_not_come_in_time_is_not_waited_for_twice() -> None:
    drive = Drive(cluster_of(A, B))
    with pytest.raises(DeadlineExceededError, match=f"late .node {A}, slot {slot(0)}"):
        drive.run(request(0, 2), first(LATE))
    assert (drive.targets, drive.rounds[-1].refresh) == ([A, B], Refresh.SOON)


@pytest.mark.parametrize("error", [OverloadedError("too much"), AccessDeniedError("WRONGPASS x")])
def test_what_another_attempt_would_meet_too_is_raised(error: FeatureStoreError) -> None:
    with pytest.raises(type(error), match=f"node {A}"):
        Drive(cluster_of(A, B)).run(request(0), first(Failure(error, lost=True, unsent=True)))


def test_a_node_that_stays_away_fails_its_calls_in_time() -> None:
    drive = Drive(cluster_of(A, B))
    with pytest.raises(UnavailableError, match=f"refused .node {A}"):
        drive.run(request(0), lambda _leg: REFUSED, allowed=0.001)


def test_a_slot_that_nobody_has_fails_its_calls_in_time() -> None:
    cluster = Cluster(cluster_url(f"redis+cluster://{A}"), {})
    refresh(cluster, [[0, 8191, [b"10.0.0.1", 7000, b"a", []]]])
    drive = Drive(cluster)
    replies = drive.run(request(0, 3), rows, allowed=0.0)
    assert replies[0] == ROW
    assert str(replies[1]) == f"no node of the cluster has slot {slot(3)}"


def test_commands_without_a_key_go_to_a_node_that_answers() -> None:
    cluster = cluster_of(A, B)
    cluster.failed(A)
    for _ in range(10):
        drive = Drive(cluster)
        assert drive.run(command_request(("PING",)), lambda _leg: [b"PONG"]) == [b"PONG"]
        assert drive.targets == [B]


# Order


def upserts(*words: str) -> Request:
    calls = [call(0, UPSERT_FEATURES, word) for word in words]
    return calls_request(UPSERT_FEATURES, calls, [slot(0)] * len(calls))


def test_what_stands_behind_a_call_that_is_repeated_is_repeated_too_in_the_same_way() -> None:
    drive = Drive(cluster_of(A, B))
    done: list[Any] = [1, 0, []]

    def answer(leg: Leg) -> Replies:
        if leg.target.address == A:
            return [done, error_from_reply(f"ASK {slot(0)} {C}"), done, error_from_reply("TRYAGAIN x")]
        return [b"OK", done] * len(leg.places)

    assert drive.run(upserts("a", "b", "c", "d"), answer) == [done] * 4
    assert drive.legs[1].places == [1, 2, 3]
    assert drive.legs[1].asking


@given(st.lists(st.sampled_from(["ok", "TRYAGAIN x", "NOSCRIPT x", f"ASK 1 {C}"]), max_size=60))
def test_writes_of_a_slot_take_effect_in_their_order(verdicts: list[str]) -> None:
    drive = Drive(cluster_of(A, B))
    written: list[bytes] = []
    left = iter(verdicts)

    def answer(leg: Leg) -> Replies:
        replies: Replies = []
        calls = leg.exchange.encoded[1::2] if leg.asking else leg.exchange.encoded
        for each in calls:
            verdict = next(left, "ok") if not leg.exchange.load else "ok"
            if verdict == "ok":
                written.append(each)
            replies += [b"OK"] * leg.asking
            replies.append([1, 0, []] if verdict == "ok" else error_from_reply(verdict))
        return replies

    asked = upserts("a", "b", "c", "d", "e")
    replies = drive.run(asked, answer, allowed=60.0)
    assert replies == [[1, 0, []]] * 5
    last = {each: place for place, each in enumerate(written)}
    assert [last[each] for each in asked.encoded] == sorted(last[each] for each in asked.encoded)


def test_a_request_goes_on_with_replies_that_are_there() -> None:
    drive = Drive(cluster_of(A, B))
    given_replies: Replies = [ROW, error_from_reply(f"MOVED {slot(1)} {B}")]
    assert drive.run(request(0, 1), rows, answered=[(Target(A), [0, 1], given_replies)]) == [ROW, ROW]
    assert drive.targets == [B]


def test_a_request_goes_on_where_one_of_several_nodes_has_not_answered() -> None:
    drive = Drive(cluster_of(A, B))
    answered = [(Target(A), [0], [ROW]), (Target(B), [1], Failure(UnavailableError("it broke"), lost=True))]
    assert drive.run(request(0, 2), rows, answered=answered) == [ROW, ROW]
    assert drive.targets == [B]


# Refreshes


def test_whom_to_ask_is_chosen_until_one_tells() -> None:
    cluster = cluster_of(A, B, C)
    cluster.failed(A)
    steps = cluster.asking()
    asked = [next(steps).target.address]
    asked.append(steps.send(UnavailableError("away")).target.address)
    asked.append(steps.send(b"nonsense").target.address)
    with pytest.raises(StopIteration):
        steps.send(slots_reply(A, C))
    assert asked[2] == A  # which fails, and so comes last
    assert sorted(asked) == [A, B, C]
    shard = cluster.shard(SLOTS - 1)
    assert shard is not None
    assert shard.primary == C


def test_a_refresh_that_brings_nothing_is_followed_by_a_pause() -> None:
    cluster = cluster_of(A, B)
    may_ask = [cluster.may_ask]
    refresh(cluster, slots_reply(A, B))
    may_ask.append(cluster.may_ask)
    changes: list[int] = []
    cluster.changed = lambda: changes.append(1)
    refresh(cluster, slots_reply(A, C))
    assert [*may_ask, cluster.may_ask] == [True, False, True]
    assert changes == [1]


def test_a_single_redis_says_so() -> None:
    cluster = Cluster(cluster_url(f"redis+cluster://{A}"), {})
    refresh(cluster, error_from_reply("ERR This instance has cluster support disabled"))
    with pytest.raises(UnavailableError, match="no node of a cluster: a single Redis has a URL with redis://"):
        Drive(cluster).run(request(0), rows)


# What replicas are not asked


def late(_leg: Leg) -> Failure:
    return Failure(DeadlineExceededError("late"))


def with_replica(reading: Reading | None = None) -> Cluster:
    cluster = Cluster(cluster_url(f"redis+cluster://{A}"), {}, reading)
    cluster.topology = Topology([Shard(A, (B,))] * SLOTS)
    return cluster


@pytest.mark.parametrize("options", [{"writes": True}, {"primary_only": True}])
def test_commands_that_belong_to_a_write_or_are_the_primarys_are_not_asked_of_replicas(options: Any) -> None:
    asked = command_request(("HGETALL", "{featurestore}user:schema"), **options)
    drive = Drive(with_replica())
    with pytest.raises(DeadlineExceededError):
        drive.run(asked, late)
    assert set(drive.targets) == {A}


def test_other_commands_are_asked_of_replicas_where_the_primary_is_late() -> None:
    drive = Drive(with_replica())
    assert drive.run(
        command_request(("HGETALL", "k")), lambda leg: late(leg) if leg.target.address == A else [[b"a", b"1"]]
    ) == [[b"a", b"1"]]
    assert drive.targets == [A, B]


def test_the_bound_on_lag_is_told_where_replicas_are_left_out_by_it() -> None:
    drive = Drive(with_replica(Reading(max_lag=0.5)))
    with pytest.raises(DeadlineExceededError, match=r"no replica is known to be within FEATURESTORE_MAX_LAG_MS=500 "):
        drive.run(request(0), late)
    assert drive.targets == [A]
    with pytest.raises(DeadlineExceededError) as raised:
        Drive(with_replica()).run(request(0), late)
    assert "FEATURESTORE_MAX_LAG_MS" not in str(raised.value)
