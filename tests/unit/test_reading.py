"""Who answers a read, and what Sentinels are asked and tell, without any server."""

from typing import Any

import pytest

from featurestore.contract.partitioned_calls import READS
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import DESCRIBE_ENTITY, GET_FEATURES, GET_FEATURES_BATCH
from featurestore.errors import AccessDeniedError, ConfigurationError, DeadlineExceededError, UnavailableError
from featurestore.transport.cluster import Target
from featurestore.transport.pipeline import Failure
from featurestore.transport.read_only import as_read_only, lacking
from featurestore.transport.replicas import Reading, may_stand_in, offset_of
from featurestore.transport.rounds import calls_request
from featurestore.transport.routing import routed
from featurestore.transport.sentinels import Event, Found, ask, event_of, sentinel_url
from featurestore.transport.servers import servers_url
from featurestore.transport.topology import Shard
from featurestore.transport.watched import OneShard, Replicated, Watched

P, R, S = "10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"
SHARD = Shard(P, (R, S))
URL = "redis+sentinel://s1:1,s2:2,s3:3/mymaster"


def chosen(reading: Reading, **options: Any) -> set[str]:
    return {reading.choose(SHARD, **options) for _ in range(60)}


def test_the_primary_answers_until_it_fails_and_is_tried_now_and_then() -> None:
    reading = Reading()
    assert chosen(reading) == {P}
    reading.failed(P)
    assert chosen(reading) == {R, S}
    assert not reading.settled
    assert chosen(reading, primary_only=True) == {P}
    reading.answered(P)
    assert chosen(reading) == {P}
    assert reading.settled


def test_late_replies_count_in_a_row() -> None:
    reading = Reading()
    reading.late(P)
    reading.late(P)
    reading.answered(P)
    reading.late(P)
    reading.late(P)
    assert not reading.is_failing(P)
    reading.late(P)
    assert reading.is_failing(P)


def test_replicas_answer_by_choice_but_for_those_that_fail() -> None:
    reading = Reading("replicas")
    assert chosen(reading) == {R, S}
    reading.failed(R)
    assert chosen(reading) == {S}
    reading.failed(S)
    assert chosen(reading) == {P}
    assert reading.stand_in(SHARD, tried=()) is None
    assert Reading("replicas").choose(Shard(P)) == P


def role(offset: int, *, follows: str = P, state: bytes = b"connected") -> list[Any]:
    host, _, port = follows.rpartition(":")
    return [b"slave", host.encode(), int(port), state, offset]


def polled(reading: Reading, replies: dict[str, Any]) -> None:
    steps = reading.polling([SHARD])
    address = next(steps, None)
    while address is not None:
        try:
            address = steps.send(replies[address])
        except StopIteration:
            return


def test_a_replica_is_current_that_has_what_its_primary_had() -> None:
    reading = Reading("replicas", max_lag=60)
    assert chosen(reading) == {P}
    polled(reading, {P: [b"master", 100, []], R: role(100), S: role(99)})
    assert chosen(reading) == {R}
    polled(reading, {P: UnavailableError("away"), R: role(100), S: role(100)})
    assert chosen(reading) == {R}
    assert not Reading("replicas", max_lag=1e-9).is_current(R)


@pytest.mark.parametrize(
    ("told", "offset"),
    [
        (role(7), 7),
        (role(7, state=b"sync"), None),
        (role(7, follows=S), None),
        (role(7, follows="primary.name:6379"), 7),
        ([b"master", 7, []], None),
        ([b"sentinel", [b"mymaster"]], None),
        (UnavailableError("away"), None),
    ],
)
def test_offsets_are_those_of_replicas_that_follow_the_primary(told: Any, offset: int | None) -> None:
    assert offset_of(told, follows=P, others=(R, S)) == offset


def test_the_nearest_are_those_whose_round_trips_are_about_the_least() -> None:
    reading = Reading("nearest")
    assert reading.poll_every > 0
    assert chosen(reading) == {P}
    reading._round_trips.update({P: 0.003, R: 0.001, S: 0.00105})
    assert chosen(reading) == {R, S}
    reading._round_trips.update({P: 0.0005})
    assert chosen(reading) == {P}
    reading.failed(P)
    assert chosen(reading) == {R, S}


def test_what_is_forgotten_is_all_but_the_servers_that_there_are() -> None:
    reading = Reading()
    reading.failed(P)
    reading.failed(R)
    reading.forget([R])
    assert (reading.is_failing(P), reading.is_failing(R)) == (False, True)


# Calls of replicas


def test_calls_become_read_only() -> None:
    call = encode_call(GET_FEATURES, ("a", "b", "EVALSHA"), ("EVALSHA",))
    assert as_read_only(call).count(b"$10\r\nEVALSHA_RO\r\n") == 1
    assert as_read_only(call).replace(b"$10\r\nEVALSHA_RO\r\n", b"$7\r\nEVALSHA\r\n") == call
    assert as_read_only(b"*1\r\n$4\r\nPING\r\n") == b"*1\r\n$4\r\nPING\r\n"


def test_replies_tell_whether_an_id_is_not_known() -> None:
    one, many = lacking(GET_FEATURES), lacking(GET_FEATURES_BATCH)
    assert one is not None
    assert many is not None
    assert lacking(DESCRIBE_ENTITY) is None
    assert (one(None), one(b"\x91\xc0")) == (True, False)
    assert many([b"\x91\xc0", None])
    assert not many([b"\x91\xc0"])
    assert not many(b"\x91\x91\xc0")  # a known id whose only value is missing
    assert many(b"\x92\x91\x07\xc0")


@pytest.mark.parametrize(
    ("reply", "unknown"),
    [
        (None, True),
        (b"@1234567\x91\xc0", False),  # a row by its layout, whose value is missing
        (b"\x92\x07\xc0", False),  # values that were named
        (b"\x92\x91\x07\xc0", True),  # rows of named values
        (b"\x92\x91\x07\x91\xc0", False),
        (b"\x92\xc0\xc0", True),
        ([b"@1234567\x91\xc0", None], True),
        ([b"@1234567\x91\xc0", 0], False),
        ([b"@1234567\x92\x07\xc0", None, None, b"PM", None], False),  # one row with metadata
        ([[b"@1234567\x91\x07", None, None, b"P", None], None], True),
        ([[b"@1234567\x91\x07", None, None, b"P", None]], False),
        (b"\x92\xc0", False),  # cut off: who decodes it says so
    ],
)
def test_replies_to_calls_of_one_id_or_several_tell_whether_one_is_not_known(reply: Any, unknown: bool) -> None:  # noqa: FBT001 - a parameter of pytest's
    lacks = lacking(READS)
    assert lacks is not None
    assert lacks(reply) is unknown


# Sentinels


def asked(replies: dict[str, Any], heard: str | None = None) -> Found:
    steps = ask(sentinel_url(URL), {}, heard)
    question = next(steps)
    try:
        while True:
            reply = replies[question.sentinel]
            if question.words[1] == "REPLICAS":
                reply = [[b"ip", b"10.0.0.2", b"port", b"6379", b"flags", b"slave"],
                         [b"ip", b"10.0.0.3", b"port", b"6379", b"flags", b"s_down,slave"]]  # fmt: skip
            question = steps.send(reply)
    except StopIteration as end:
        found: Found = end.value
        return found


NEW, OLD = [b"10.0.0.1", b"6379"], [b"10.0.0.9", b"6379"]


def test_what_most_sentinels_say_counts() -> None:
    for _ in range(10):
        assert asked({"s1:1": OLD, "s2:2": NEW, "s3:3": NEW}) == Found(P, (R,))
    assert asked({"s1:1": UnavailableError("away"), "s2:2": NEW, "s3:3": None}).primary == P
    for _ in range(10):
        assert asked({"s1:1": OLD, "s2:2": NEW, "s3:3": None}, heard=P).primary == P


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (None, "watches no primary called 'mymaster'"),
        (UnavailableError("ERR unknown command 'SENTINEL'"), "it is a server, no Sentinel"),
        (b"nonsense", "no address"),
    ],
)
def test_sentinels_that_tell_nothing_are_named(reply: Any, why: str) -> None:
    with pytest.raises(UnavailableError, match=why):
        asked({"s1:1": reply, "s2:2": reply, "s3:3": reply})


@pytest.mark.parametrize(
    ("channel", "text", "event"),
    [
        ("+switch-master", "mymaster 10.0.0.9 6379 10.0.0.1 6379", Event("switched", P)),
        ("+switch-master", "other 10.0.0.9 6379 10.0.0.1 6379", None),
        ("+selected-slave", f"slave {P} 10.0.0.1 6379 @ mymaster 10.0.0.9 6379", Event("selected", P)),
        ("+promoted-slave", f"slave {P} 10.0.0.1 6379 @ mymaster 10.0.0.9 6379", Event("switched", P)),
        ("+selected-slave", f"slave {P} 10.0.0.1 6379 @ other 10.0.0.9 6379", None),
        ("-failover-abort-slave-timeout", "master mymaster 10.0.0.9 6379", Event("aborted")),
        ("+switch-master", "mymaster", None),
    ],
)
def test_events(channel: str, text: str, event: Event | None) -> None:
    assert event_of([b"message", channel.encode(), text.encode()], "mymaster", {}) == event
    assert event_of([b"subscribe", channel.encode(), 1], "mymaster", {}) is None


# URLs


def test_the_url_of_sentinels_says_who_watches_what() -> None:
    url = sentinel_url(
        "rediss+sentinel://app:p%40ss@s1,s2:5/main/3?ssl_ca_certs=/ca&sentinel_username=w&sentinel_password=a/b"
    )
    assert (url.seeds, url.name) == (("s1:26379", "s2:5"), "main")
    assert url.of_node("h:1") == "rediss://app:p%40ss@h:1/3?ssl_ca_certs=%2Fca"
    assert url.of_sentinel("s1:26379") == "rediss://w:a%2Fb@s1:26379?ssl_ca_certs=%2Fca"
    assert sentinel_url(URL).of_sentinel("s1:1") == "redis://s1:1"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel:///mymaster", "names no Sentinel"),
        ("redis+sentinel://s1", "what the Sentinels call the primary"),
        ("redis+sentinel://s1/mymaster/x", "'x' is no database number"),
        ("redis+sentinel://s1:99999/mymaster", "port"),
    ],
)
def test_urls_of_sentinels_that_cannot_be_used_are_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        sentinel_url(url)


def test_the_url_of_a_primary_and_its_replicas() -> None:
    assert servers_url("redis+replicas://u:p@a:1,b/2?x=y").of_node("a:1") == "redis://u:p@a:1/2?x=y"
    assert servers_url("redis+replicas://a:1,b").seeds == ("a:1", "b:6379")
    with pytest.raises(ConfigurationError, match="host and port"):
        servers_url("unix:///tmp/s")


# Two primaries


PAIR = "redis+replicas://a:1,b:2"
MASTER: list[Any] = [b"master", 7, []]


def answered(servers: Replicated, replies: dict[tuple[str, str], Any]) -> list[tuple[str, str]]:
    """Answer what servers are asked; return what that was."""
    asked, steps, reply = [], servers.asking(), None
    try:
        while True:
            inquiry = steps.send(reply)
            asked.append((inquiry.target.address, inquiry.words[0]))
            reply = replies.get(asked[-1], UnavailableError("away"))
    except StopIteration:
        return asked


def known_of(servers: Replicated) -> str | None:
    """Return the primary, of which a test has seen another one before."""
    return servers.primary


def replicated() -> Replicated:
    return Replicated(servers_url(PAIR), {}, Reading())


TWO = {
    ("a:1", "ROLE"): MASTER,
    ("b:2", "ROLE"): MASTER,
    ("a:1", "INFO"): b"run_id:aa\r\n",
    ("b:2", "INFO"): b"run_id:bb\r\n",
}


def test_of_two_servers_that_say_they_are_the_primary_neither_is_taken() -> None:
    servers = replicated()
    answered(servers, TWO)
    assert servers.topology is None
    assert "a:1" in str(servers.trouble)
    assert "b:2" in str(servers.trouble)
    assert "REPLICAOF" in str(servers.trouble)


def test_the_primary_that_was_known_stays_when_another_says_that_it_is() -> None:
    servers = replicated()
    answered(servers, {**TWO, ("b:2", "ROLE"): [b"slave", b"a", 1, b"connected", 7]})
    assert servers.primary == "a:1"
    answered(servers, TWO)
    assert servers.primary == "a:1"


def test_neither_of_two_new_primaries_is_taken_for_the_one_that_went() -> None:
    servers = Replicated(servers_url("redis+replicas://c:3,a:1,b:2"), {}, Reading())
    follows = [b"slave", b"c", 3, b"connected", 7]
    answered(servers, {("c:3", "ROLE"): MASTER, ("a:1", "ROLE"): follows, ("b:2", "ROLE"): follows})
    assert servers.primary == "c:3"
    answered(servers, TWO)
    assert known_of(servers) is None


def test_a_primary_with_two_names_is_one() -> None:
    servers = replicated()
    answered(servers, {**TWO, ("b:2", "INFO"): TWO["a:1", "INFO"]})
    assert servers.primary in {"a:1", "b:2"}


def test_servers_that_did_not_answer_are_not_asked_at_each_turn_whether_they_are_the_primary() -> None:
    servers = replicated()
    replies = {key: reply for key, reply in TWO.items() if key[0] == "a:1"}
    answered(servers, replies)
    assert servers.primary == "a:1"
    assert ("b:2", "ROLE") not in answered(servers, replies)


# Who may answer in the primary's place


def alone() -> Watched:
    cluster = Watched(sentinel_url(URL), {}, Reading())
    cluster._adopt(OneShard(SHARD), UnavailableError("never"))
    return cluster


def stand_ins(cluster: Watched) -> set[str | None]:
    return {cluster.reading.stand_in(SHARD, ()) for _ in range(60)}


@pytest.mark.parametrize(
    ("told", "fails", "fit"),
    [
        (role(7), False, True),
        (role(7, state=b"connect"), False, False),
        (role(7, state=b"connect"), True, True),
        (role(-1, state=b"sync"), True, False),
        (role(7, follows=S), True, False),
        (role(7, follows="primary.name:6379"), False, True),
        ([b"master", 7, []], True, False),
        (UnavailableError("away"), True, False),
        (AccessDeniedError("NOPERM"), False, True),
    ],
)
def test_a_replica_stands_in_that_has_what_its_primary_had(told: Any, *, fails: bool, fit: bool) -> None:
    assert may_stand_in(told, others=(R, S), primary_fails=fails) is fit


def test_no_replica_stands_in_that_still_follows_the_old_primary_while_another_has_taken_over() -> None:
    cluster = alone()
    cluster.take_roles({R: role(9), S: role(9)})
    assert stand_ins(cluster) == {R, S}
    cluster.take_roles({R: [b"master", 9, []], S: role(9)})
    assert stand_ins(cluster) == {R}
    cluster.hear([b"message", b"+switch-master", f"mymaster {P.replace(':', ' ')} {R.replace(':', ' ')}".encode()])
    assert cluster.primary == R


def test_a_primary_that_was_replaced_does_not_stand_in_when_it_comes_back_as_one() -> None:
    cluster = alone()
    cluster._adopt(OneShard(Shard(R, (P, S))), UnavailableError("never"))
    cluster.take_roles({P: [b"master", 9, []], S: role(9, follows=R)})
    assert {cluster.reading.stand_in(Shard(R, (P, S)), ()) for _ in range(60)} == {S}


def test_reads_make_sure_while_the_primary_is_about_to_be_replaced() -> None:
    cluster = alone()
    selected = f"slave {R} 10.0.0.2 6379 @ mymaster 10.0.0.1 6379".encode()
    cluster.hear([b"message", b"+selected-slave", selected])
    assert cluster.reading.unsure
    asked = calls_request(GET_FEATURES, [b""], [0])
    steps = routed(cluster, asked, 1.0)
    first = next(steps)
    assert {leg.target.address for leg in first.legs} == {R, S}
    second = steps.send([[role(9)], [role(9)]])
    assert [leg.target for leg in second.legs] == [Target(P)]
    steps = routed(cluster, asked, 1.0)
    next(steps)
    second = steps.send([[[b"master", 9, []]], [role(9)]])
    assert [leg.target for leg in second.legs] == [Target(R)]
    assert cluster.primary == R
    assert not cluster.reading.unsure


def test_a_read_that_is_handed_over_asks_who_the_primary_is() -> None:
    cluster = alone()
    steps = routed(cluster, calls_request(GET_FEATURES, [b""], [0]), 1.0)
    assert [leg.target for leg in next(steps).legs] == [Target(P)]
    second = steps.send([Failure(DeadlineExceededError("late"))])
    assert {leg.target.address for leg in second.legs} == {R, S}
    third = steps.send([[role(9, state=b"sync")], [role(9)]])
    assert [leg.target for leg in third.legs] == [Target(S, replica=True)]
