"""Which node has which slot, from CLUSTER SLOTS, from redirects, and from the bytes of calls."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.contract.doors import as_function_call
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import SCRIPTS
from featurestore.errors import BadReplyError, ConfigurationError
from featurestore.keys import SLOTS, slot_of, tags
from featurestore.settings import Settings, without_password
from featurestore.transport.addresses import address, address_map, cluster_url, is_cluster
from featurestore.transport.blocking import SyncTransport
from featurestore.transport.dial import address_of
from featurestore.transport.opening import blocking_transport, check
from featurestore.transport.replicas import Reading
from featurestore.transport.slots import Part, Slots, slot_of_command
from featurestore.transport.topology import Redirect, Shard, redirect_of, topology_of
from featurestore.transport.watched import OneShard

ASKED = "10.0.0.9:7400"
THREE = [
    [0, 5460, [b"10.0.0.1", 7000, b"a", []], [b"10.0.0.4", 7003, b"d", []]],
    [5461, 10922, [b"10.0.0.2", 7001, b"b", []]],
    [10923, 16383, [b"10.0.0.3", 7002, b"c", []], [b"10.0.0.5", 7004, b"e", []], [b"10.0.0.6", 7005, b"f", []]],
]


# CLUSTER SLOTS


def test_a_reply_tells_who_has_each_slot() -> None:
    topology = topology_of(THREE, ASKED, {})
    first = Shard("10.0.0.1:7000", ("10.0.0.4:7003",))
    assert topology.shard(0) == topology.shard(5460) == first
    assert topology.shard(5461) == Shard("10.0.0.2:7001")
    assert topology.ranges()[first] == [(0, 5460)]
    assert topology.addresses()[:3] == ["10.0.0.1:7000", "10.0.0.2:7001", "10.0.0.3:7002"]
    assert len(topology.addresses()) == 6


def test_runs_of_one_shard_are_told_together_and_holes_are_nobodys() -> None:
    node = [b"10.0.0.1", 7000, b"a", []]
    topology = topology_of([[0, 9, node], [20, 29, node], [16383, 16383, node]], ASKED, {})
    assert topology.ranges() == {Shard("10.0.0.1:7000"): [(0, 9), (20, 29), (16383, 16383)]}
    assert topology.shard(10) is None
    assert len(topology.shards()) == 1


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ([b"10.0.0.1", 7000, b"a"], "10.0.0.1:7000"),  # Redis 6.2 tells no more
        ([None, 7000, b"a", []], "10.0.0.9:7000"),
        ([b"", 7000, b"a", []], "10.0.0.9:7000"),
        ([b"?", 7000, b"a", []], "10.0.0.9:7000"),
        ([b"?", 7000, b"a", [b"ip", b"10.0.0.7"]], "10.0.0.7:7000"),
        ([b"redis-1.example", 7000, b"a", [b"ip", b"10.0.0.7"]], "redis-1.example:7000"),
        ([b"fd00::7", 7000, b"a", []], "[fd00::7]:7000"),
    ],
)
def test_a_node_without_a_name_is_on_the_host_that_was_asked(node: list[Any], found: str) -> None:
    assert topology_of([[0, 16383, node]], ASKED, {}).addresses() == [found]


def test_addresses_that_are_others_from_here_are_put_in_place() -> None:
    reached = address_map("10.0.0.1:7000=outside.example:17000, 10.0.0.4:7003 = outside.example:17003")
    topology = topology_of(THREE, ASKED, reached)
    assert topology.shard(0) == Shard("outside.example:17000", ("outside.example:17003",))
    assert topology.shard(6000) == Shard("10.0.0.2:7001")
    moved = redirect_of("MOVED 6000 10.0.0.1:7000", ASKED, reached)
    assert moved == Redirect(6000, "outside.example:17000", asking=False)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"OK",
        [],
        [[0, 16384, [b"10.0.0.1", 7000, b"a", []]]],
        [[-1, 5, [b"10.0.0.1", 7000, b"a", []]]],
        [[9, 5, [b"10.0.0.1", 7000, b"a", []]]],
        [[0, 5]],
        [[0, 5, [b"10.0.0.1"]]],
        [[0, 5, [b"\xff", 7000, b"a"]]],
        [[0, 5, [b"h", b"7000", b"a"]]],
        [[b"0", 5, [b"h", 7000, b"a"]]],
    ],
)
def test_what_is_no_reply_to_cluster_slots_is_refused(reply: Any) -> None:
    with pytest.raises(BadReplyError, match=r"10\.0\.0\.9:7400"):
        topology_of(reply, ASKED, {})


# Redirects


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect(3999, "127.0.0.1:6381", asking=False)),
        ("ASK 3999 127.0.0.1:6381", Redirect(3999, "127.0.0.1:6381", asking=True)),
        ("MOVED 3999 :7401", Redirect(3999, "10.0.0.9:7401", asking=False)),
        ("MOVED 3999 ?:7401", Redirect(3999, "10.0.0.9:7401", asking=False)),
        ("MOVED 3999 fd00::7:7401", Redirect(3999, "[fd00::7]:7401", asking=False)),
        ("MOVED 3999 redis-1.example:7401", Redirect(3999, "redis-1.example:7401", asking=False)),
        ("MOVED 16384 127.0.0.1:6381", None),
        ("MOVED", None),
        ("MOVED x y:z", None),
        ("ERR MOVED 1 a:1", None),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None),
    ],
)
def test_an_error_reply_may_name_another_node(error: str, found: Redirect | None) -> None:
    assert redirect_of(error, ASKED, {}) == found


def test_a_moved_slot_is_elsewhere_at_once_and_others_stay() -> None:
    topology = topology_of(THREE, ASKED, {})
    assert topology.move(7, "10.0.0.2:7001")
    assert not topology.move(7, "10.0.0.2:7001")
    assert topology.shard(7) is topology.shard(6000)
    assert topology.shard(8) == Shard("10.0.0.1:7000", ("10.0.0.4:7003",))
    topology.move(8, "10.0.0.8:7000")
    assert topology.shard(8) == Shard("10.0.0.8:7000")
    assert topology != topology_of(THREE, ASKED, {})


@given(st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(0, 4)), max_size=30))
def test_every_slot_is_in_one_run_of_who_has_it(moves: list[tuple[int, int]]) -> None:
    topology = topology_of(THREE, ASKED, {})
    for slot, node in moves:
        topology.move(slot, f"10.0.0.{node}:7000")
    counted = 0
    for shard, ranges in topology.ranges().items():
        for first, last in ranges:
            assert topology.shard(first) == topology.shard(last) == shard
            counted += last + 1 - first
    assert counted == SLOTS


# Calls


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
@pytest.mark.parametrize("converted", [bytes, as_function_call], ids=["evalsha", "fcall"])
def test_the_slot_of_a_call_is_that_of_its_first_key(script: Any, converted: Any) -> None:
    slots = Slots()
    for tag in tags(64):
        for key in (f"{tag}user:schema", f"all_{tag}users"):
            call = converted(encode_call(script, (key, f"{tag}user:a:features"), ("{other}",)))
            assert slots.of(call) == slot_of(tag.encode())


@given(st.text(max_size=20), st.text(max_size=20))
def test_the_slot_of_a_call_is_right_whatever_its_words(key: str, word: str) -> None:
    slots = Slots()
    call = encode_call(SCRIPTS[0], (key,), (word,))
    assert slots.of(call) == slots.of(call) == slot_of(key.encode())


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("GET", "a"), b"a"),
        (("hset", b"{x}a", "f", 1), b"x"),
        (("OBJECT", "ENCODING", "a"), b"a"),
        (("EVAL", "return 1", 1, "a"), b"a"),
        (("PING",), None),
        (("INFO", "memory"), None),
        (("time",), None),
        (("SCRIPT", "EXISTS", "a"), None),
    ],
)
def test_the_slot_of_a_command_is_that_of_its_key(words: tuple[Any, ...], key: bytes | None) -> None:
    assert slot_of_command(words) == (None if key is None else slot_of(key))


def test_a_part_looks_at_a_call_when_it_is_asked_for() -> None:
    looked: list[int] = []

    class Calls(list[bytes]):
        def __getitem__(self, place: Any) -> Any:
            looked.append(place)
            return super().__getitem__(place)

    part = Part(Calls([b"a", b"b", b"c", b"d"]), [3, 1])
    assert (len(part), looked) == (2, [])
    assert part[1] == b"b"
    assert looked == [1]
    assert list(part) == [b"d", b"b"]
    assert list(part[1:]) == [b"b"]


# URLs


def test_what_stands_in_the_url_goes_to_every_node() -> None:
    url = cluster_url("rediss+cluster://app:p%40ss@redis-1:7000,redis-2,[fd00::7]:7002/0?ssl_ca_certs=/ca.pem")
    assert url.seeds == ("redis-1:7000", "redis-2:6379", "[fd00::7]:7002")
    assert url.of_node("10.0.0.1:7000") == "rediss://app:p%40ss@10.0.0.1:7000?ssl_ca_certs=/ca.pem"
    assert cluster_url("redis+cluster://a:1/").of_node("b:2") == "redis://b:2"


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("redis+cluster://", "names no node"),
        ("redis+cluster://user:pw@", "names no node"),
        ("redis+cluster://a:1/3", "database 0 only, not '3'"),
        ("redis+cluster://a:1?db=2", "database 0 only, not '2'"),
        ("redis+cluster://a:1,b:99999", "'b:99999' has a port that is none"),
        ("redis+cluster://a:1,b:0", "'b:0' has a port that is none"),
        ("redis+cluster://a:1,", "'' is no address"),
        ("redis+cluster://a:x", "'a:x' is no address"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(url: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong.replace("?", r"\?")):
        cluster_url(url)


@pytest.mark.parametrize("text", ["a:1", "a:1=", "=b:2", "a:1=b:x", "a:1=b:2=c:3"])
def test_a_map_of_addresses_that_cannot_be_used_says_why(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"FEATURESTORE_ADDRESS_MAP: '{text}'"):
        address_map(text)


def test_addresses_and_urls_are_told_without_passwords() -> None:
    url = "redis+cluster://app:secret@a:1,b:2/?ssl_ca_certs=x"
    assert address_of(url) == "redis+cluster://a:1,b:2/"
    assert without_password(url) == "redis+cluster://app:***@a:1,b:2/?ssl_ca_certs=x"
    assert without_password("redis+cluster://a:1,b:2") == "redis+cluster://a:1,b:2"
    assert address(" a:1".strip()) == "a:1"
    assert [is_cluster(each) for each in (url, "rediss+cluster://a", "redis://a", "unix:///a")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_primary_outside_a_cluster_has_every_slot() -> None:
    topology = OneShard(Shard("a:1", ("b:2",)))
    slots = [0, 1, 3968, SLOTS - 1]
    assert topology.shards_of(slots) == list(map(topology.shard, slots)) == [Shard("a:1", ("b:2",))] * 4


@pytest.mark.parametrize("scheme", ["redis+cluster", "redis+sentinel", "rediss+replicas"])
@pytest.mark.parametrize(
    "password", ["xq/cret", "xq?cret", "xq#cret", "x@q/cret", "xq[cret", "xq\u2100cret", "12/cret"]
)
def test_no_part_of_a_password_is_told_of_a_url_that_cannot_be_parsed(scheme: str, password: str) -> None:
    with pytest.raises(ConfigurationError, match="in a password, / ") as raised:
        blocking_transport(f"{scheme}://app:{password}@a:1/name", timeout=1, connect_timeout=1)
    assert not any(part in str(raised.value) for part in ("cret", "xq", "app", "q'", "12'"))


@pytest.mark.parametrize("password", ["xq/cret", "xq[cret", "xq\u2100cret"])
def test_nor_of_one_for_a_single_server(password: str) -> None:
    with pytest.raises(ConfigurationError, match="in a password, / ") as raised:
        blocking_transport(f"redis://app:{password}@a:1/0", timeout=1, connect_timeout=1)
    assert not any(part in str(raised.value) for part in ("cret", "xq", "app"))


def test_schemes_for_several_servers_are_among_those_that_may_be() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\+cluster://.* redis\+sentinel://.* redis\+replicas://"):
        blocking_transport("reddis://a:1", timeout=1, connect_timeout=1)


def test_a_server_behind_a_unix_socket_answers_reads_whatever_was_chosen() -> None:
    check("unix:///a", Settings(read_from="replicas"))
    made = blocking_transport("unix:///a", timeout=1, connect_timeout=1, reading=Reading("replicas"))
    assert isinstance(made, SyncTransport)
    made.close()
    with pytest.raises(ConfigurationError, match="not by a unix socket"):
        check("unix:///a", Settings(wait_replicas=1))
