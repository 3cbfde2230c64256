"""What the multiplexed transport promises while everything is well, and while it is not."""

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import gevent
import pytest
from gevent.event import Event
from support.scripted import (
    Peer,
    ScriptedServer,
    echo,
    encoded,
    eventually,
    hang_up,
    ignore,
    reply_once,
    unpacked,
)
from support.servers import Server

from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import DELETE_ENTITY, GET_FEATURES, INCREMENT_FEATURES, SCRIPTS
from featurestore.errors import (
    AccessDeniedError,
    DeadlineExceededError,
    FeatureStoreError,
    OverloadedError,
    RedisError,
    UnavailableError,
    WriteRefusedError,
)
from featurestore.schema.definition import Definition
from featurestore.store.blocking import FeatureStore
from featurestore.transport import gevent_link, reconnect
from featurestore.transport.gevent_transport import GeventTransport

Connect = Callable[..., GeventTransport]
PATIENT_S = 20.0


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make transports that are closed after the test; their deadlines never matter unless a test sets them."""
    made: list[GeventTransport] = []

    def make(url: str, *, timeout: float = PATIENT_S, **options: Any) -> GeventTransport:
        made.append(GeventTransport(url, timeout=timeout, connect_timeout=PATIENT_S, **options))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the function returns, or the error it raises."""
    try:
        return function(*arguments)
    except FeatureStoreError as error:
        return error


def together(*calls: tuple[Any, ...]) -> list[Any]:
    """Make all calls in one turn of the event loop, each in a greenlet of its own; return their outcomes."""
    greenlets = [gevent.spawn(outcome, *call) for call in calls]
    gevent.joinall(greenlets, timeout=60)
    assert all(greenlet.ready() for greenlet in greenlets)
    return [greenlet.value for greenlet in greenlets]


def read(transport: GeventTransport, word: str) -> Any:
    """Have a word echoed by a script that reads, as the row that its reply has to be."""
    return unpacked(transport.run(GET_FEATURES, ("a", "b", "c"), (encoded(word),)))


def write(transport: GeventTransport, word: str | bytes) -> Any:
    """Do the same by a script that writes."""
    return unpacked(transport.run(INCREMENT_FEATURES, ("a", "b", "c"), (encoded(word),)))


def delete(transport: GeventTransport, entity_id: str) -> Any:
    return transport.run(DELETE_ENTITY, ("a", "b"), (entity_id,))


# Order and coalescing


def test_every_greenlet_gets_its_own_replies(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)

    def talk(number: int) -> list[bytes]:
        return [transport.command("ECHO", f"{number}-{turn}") for turn in range(10)]

    replies = together(*[(talk, number) for number in range(500)])
    assert replies == [[b"%d-%d" % (number, turn) for turn in range(10)] for number in range(500)]
    assert transport.calls == 5000
    assert transport.writes < 100
    assert transport.connections == 1
    assert transport.in_flight == 0


def test_the_calls_of_one_turn_leave_in_one_write(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    transport.command("PING")
    before = transport.writes
    together(*[(transport.command, "ECHO", number) for number in range(200)])
    assert transport.writes == before + 1


def test_all_scripts_are_loaded_in_one_write_ahead_of_the_first_call(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    assert transport.command("SCRIPT", "EXISTS", *[script.sha for script in SCRIPTS]) == [1] * len(SCRIPTS)
    assert transport.writes == 2


def test_a_store_works_over_it(valkey: Server, connect: Connect) -> None:
    store = FeatureStore(connect(valkey.url))
    store.apply(Definition({"age": "int", "score": "float"}))
    result = store.upsert([(f"u{n}", {"age": n, "score": n / 4}) for n in range(250)])
    assert (result.written, result.rejected) == (250, [])
    assert store.get("u7") == {"age": 7, "score": 1.75}
    rows = store.get_many([f"u{n}" for n in range(250)] + ["nobody"])
    assert rows == [{"age": n, "score": n / 4} for n in range(250)] + [None]


def test_an_error_stands_in_the_place_of_its_reply(valkey: Server, connect: Connect) -> None:
    store = FeatureStore(connect(valkey.url))
    store.apply(Definition({"age": "int"}))
    store.upsert([("u1", {"age": 1})])
    keys = ("user:u1:features", "all_users", "user:schema")
    good = encode_call(GET_FEATURES, keys, ("u1", *store.select().words))
    selection = encode_call(GET_FEATURES, keys, ())
    replies = store.transport.run_many_encoded(GET_FEATURES, [good, selection, good])
    assert replies[0] == replies[2]
    assert isinstance(replies[0], bytes)
    assert isinstance(replies[1], FeatureStoreError)


def test_an_error_inside_an_array_is_an_exception_in_its_place(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    first, second = transport.command("EVAL", "return {redis.error_reply('ERR inner'), 1}", 0)
    assert isinstance(first, RedisError)
    assert (str(first), second) == ("ERR inner", 1)


def test_no_calls_are_no_write(connect: Connect) -> None:
    assert connect("redis://127.0.0.1:1").run_many_encoded(GET_FEATURES, []) == []


def test_a_callback_of_the_loop_is_told_that_it_cannot_wait(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    transport.command("PING")
    seen: list[Exception] = []

    def call() -> None:
        try:
            transport.command("PING")
        except RuntimeError as error:
            seen.append(error)

    gevent.get_hub().loop.run_callback(call)
    eventually(lambda: seen)
    assert "greenlet" in str(seen[0])
    assert transport.command("PING") == b"PONG"


# Deadlines and bounds


def test_a_late_reply_is_dropped_and_the_next_call_gets_its_own(connect: Connect) -> None:
    go = Event()

    def late(peer: Peer) -> None:
        first = peer.command()
        go.wait()
        peer.send(b"+%s\r\n" % first[-1])
        echo(peer)

    with ScriptedServer(late) as server:
        transport = connect(server.url, timeout=0.2)
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError, match="200 ms"):
            transport.command("ECHO", "first")
        assert 0.2 <= time.monotonic() - started < 1.0
        assert transport.in_flight == 1
        second = gevent.spawn(transport.command, "ECHO", "second")
        go.set()
        assert second.get() == b"second"
        assert (transport.in_flight, server.accepted) == (0, 1)


def test_a_reply_that_has_arrived_is_not_late_because_this_process_was_busy(
    connect: Connect, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gevent_link, "_READ_BYTES", 4096)
    transport = connect(valkey.socket_url, timeout=0.1)
    transport.command("PING")

    def be_busy() -> None:
        gevent.sleep(0)  # let the call leave
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass

    words = [b"%d" % number * 1000 for number in range(10)]  # more than one read takes, and less than a socket holds
    assert together(*[(transport.command, "ECHO", word) for word in words], (be_busy,)) == [*words, None]


def test_calls_of_different_age_expire_each_in_its_time(connect: Connect) -> None:
    with ScriptedServer(ignore) as server:
        transport = connect(server.url, timeout=1.0)
        elapsed: list[float] = []

        def call(delay: float) -> None:
            gevent.sleep(delay)
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                transport.command("PING")
            elapsed.append(time.monotonic() - started)

        together(*[(call, delay) for delay in (0.0, 0.3, 0.6)])
        assert all(1.0 <= each < 1.25 for each in elapsed[1:]), elapsed


def test_a_call_behind_others_that_were_given_up_expires_in_its_time(connect: Connect) -> None:
    with ScriptedServer(ignore) as server:
        transport = connect(server.url, timeout=0.3)
        assert isinstance(outcome(transport.command, "PING"), DeadlineExceededError)
        started = time.monotonic()
        assert isinstance(outcome(transport.command, "PING"), DeadlineExceededError)
        assert 0.3 <= time.monotonic() - started < 0.8  # it is after 1.2 s that the connection is given up


def test_a_connection_that_stays_silent_is_replaced(connect: Connect) -> None:
    with ScriptedServer(ignore, echo) as server:
        transport = connect(server.url, timeout=0.05)
        assert isinstance(outcome(transport.command, "ECHO", "a"), DeadlineExceededError)
        eventually(lambda: outcome(transport.command, "ECHO", "b") == b"b")
        assert server.accepted == 2


def test_a_killed_greenlet_keeps_its_place_in_the_order(connect: Connect) -> None:
    go, done = Event(), Event()

    def behave(peer: Peer) -> None:
        words = [peer.command()[-1] for _ in range(4)]
        go.wait()
        for word in words:
            peer.send(b"+%s\r\n" % word)

    def impatient(word: str) -> str:
        with contextlib.suppress(gevent.Timeout), gevent.Timeout(0.01):
            transport.command("ECHO", word)
        done.wait()  # a reply that woke this greenlet now would be an error here
        return "gave up"

    with ScriptedServer(behave) as server:
        transport = connect(server.url)
        killed, quick, group, kept = (
            gevent.spawn(transport.command, "ECHO", "killed"),
            gevent.spawn(impatient, "impatient"),
            gevent.spawn(read, transport, "killed too"),
            gevent.spawn(transport.command, "ECHO", "kept"),
        )
        eventually(lambda: len(server.received) == 4)
        killed.kill()
        group.kill()
        gevent.sleep(0.02)
        assert transport.in_flight == 4
        go.set()
        assert kept.get() == b"kept"
        assert transport.in_flight == 0
        done.set()
        assert quick.get() == "gave up"


def test_more_calls_than_allowed_are_refused_at_once(connect: Connect) -> None:
    go = Event()

    def behave(peer: Peer) -> None:
        first = peer.command()
        go.wait()
        peer.send(b"+%s\r\n" % first[-1])
        echo(peer)

    with ScriptedServer(behave) as server:
        transport = connect(server.url, max_in_flight=3)
        waiting = [gevent.spawn(transport.command, "ECHO", number) for number in range(3)]
        eventually(lambda: server.received)
        with pytest.raises(OverloadedError, match="at most 3"):
            transport.command("ECHO", "4")
        with pytest.raises(OverloadedError):
            transport.run_many_encoded(GET_FEATURES, [encode_call(GET_FEATURES, (), ("x",))] * 4)
        go.set()
        assert [greenlet.get() for greenlet in waiting] == [b"0", b"1", b"2"]
        assert transport.command("ECHO", "4") == b"4"


def test_a_slow_reader_stalls_neither_the_loop_nor_the_order(connect: Connect) -> None:
    go = Event()

    def slow(peer: Peer) -> None:
        go.wait()
        while True:
            word = peer.command()[-1]
            peer.send(b"$8\r\n%s\r\n" % word[:8])

    with ScriptedServer(slow) as server:
        transport = connect(server.url)
        payloads = [b"%08d" % number + bytes(1_000_000) for number in range(64)]
        waiting = [gevent.spawn(transport.command, "ECHO", payload) for payload in payloads]
        eventually(lambda: transport.in_flight == 64 and transport.writes > 0)
        gevent.sleep(0)
        stalled = transport.writes
        eventually(lambda: transport.writes == stalled)
        late = gevent.spawn(transport.command, "ECHO", b"behind them")
        go.set()
        gevent.joinall(waiting)
        assert [greenlet.value for greenlet in waiting] == [b"%08d" % number for number in range(64)]
        assert late.get() == b"behind t"
        assert server.accepted == 1


def test_huge_replies_arrive_whole(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    payloads = [bytes([number]) * 3_000_000 for number in range(16)]
    assert together(*[(transport.command, "ECHO", payload) for payload in payloads]) == payloads


# Broken connections


def test_a_read_is_repeated_once_when_the_connection_breaks(connect: Connect) -> None:
    with ScriptedServer(hang_up, echo) as server:
        transport = connect(server.url)
        assert read(transport, "x") == b"x"
        assert (len(server.received), server.accepted, transport.reconnects) == (2, 2, 1)


def test_a_read_is_not_repeated_twice(connect: Connect) -> None:
    with ScriptedServer(hang_up, hang_up, echo) as server:
        transport = connect(server.url)
        with pytest.raises(UnavailableError, match="closed the connection"):
            read(transport, "x")
        assert len(server.received) == 2


@pytest.mark.parametrize("call", [write, lambda transport, word: transport.command("INCR", word)])
def test_a_write_that_was_sent_is_not_repeated(connect: Connect, call: Callable[..., Any]) -> None:
    with ScriptedServer(hang_up, echo) as server:
        transport = connect(server.url)
        with pytest.raises(UnavailableError, match="closed the connection"):
            call(transport, "x")
        assert len(server.received) == 1
        eventually(lambda: outcome(call, transport, "y") == b"y")


def test_a_write_of_which_no_byte_was_sent_is_repeated(connect: Connect) -> None:
    cut = Event()

    def read_one(peer: Peer) -> None:
        peer.send(b"+%s\r\n" % peer.command()[-1])
        cut.wait()

    with ScriptedServer(read_one, echo) as server:
        transport = connect(server.url)
        assert write(transport, "first") == b"first"
        before = transport.writes
        stuck = gevent.spawn(outcome, write, transport, bytes(32_000_000))
        eventually(lambda: transport.writes > before)
        unsent = [gevent.spawn(outcome, write, transport, f"{number}") for number in range(10)]
        eventually(lambda: transport.in_flight == 11)
        cut.set()
        assert isinstance(stuck.get(), UnavailableError)
        assert [greenlet.get() for greenlet in unsent] == [b"%d" % number for number in range(10)]
        assert [unpacked(command[-1]) for command in server.received[1:]] == [b"%d" % number for number in range(10)]


def test_everyone_is_told_at_once_when_the_server_dies_and_served_when_it_is_back(
    valkey: Server, connect: Connect
) -> None:
    transport = connect(valkey.url)
    transport.command("PING")
    with valkey.frozen():
        waiting = [gevent.spawn(outcome, read, transport, f"{number}") for number in range(50)]
        waiting += [gevent.spawn(outcome, write, transport, f"{number}") for number in range(50)]
        eventually(lambda: transport.in_flight == 100)
        started = time.monotonic()
        assert valkey.process is not None
        valkey.process.kill()
        gevent.joinall(waiting, timeout=PATIENT_S)
    assert [type(greenlet.value) for greenlet in waiting] == [UnavailableError] * 100
    assert time.monotonic() - started < PATIENT_S / 4
    valkey.stop()
    eventually(
        lambda: "next attempt" not in str(outcome(transport.command, "PING")) and transport._backoff._failures >= 4
    )
    before = transport.connections  # a dying server may have taken one more
    valkey.start()
    eventually(lambda: outcome(transport.command, "PING") == b"PONG", timeout=5)
    assert transport.connections == before + 1
    valkey.stop()
    eventually(lambda: "not connected" in repr(transport))
    assert "next attempt" not in str(outcome(transport.command, "PING"))
    assert int(str(outcome(transport.command, "PING")).split()[-2]) <= 50  # ms: pauses start small again


def test_calls_fail_fast_while_the_server_is_away(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(echo) as server:
        transport = connect(server.url)
    attempts: list[float] = []
    dial = transport._dial

    def counted() -> Any:
        attempts.append(time.monotonic())
        return dial()

    monkeypatch.setattr(transport, "_dial", counted)
    monkeypatch.setattr(reconnect, "_FIRST_S", 0.2)  # longer than a busy machine may take for the first steps
    outcomes = together(*[(transport.command, "PING") for _ in range(100)])
    assert [type(each) for each in outcomes] == [UnavailableError] * 100
    assert len(attempts) == 1
    with pytest.raises(UnavailableError, match=r"cannot be reached.*next attempt in \d+ ms"):
        transport.command("PING")
    while len(attempts) < 4:
        assert isinstance(outcome(transport.command, "PING"), UnavailableError)
        gevent.sleep(0.001)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert pauses[0] >= 0.1
    assert pauses[1] >= 0.2
    assert pauses[2] >= 0.4


def test_connections_cut_anywhere_never_mix_up_replies(connect: Connect) -> None:
    def cut_in_a_reply(peer: Peer) -> None:
        for _ in range(random.randrange(1, 60)):
            word = peer.command()[-1]
            peer.send(b"$%d\r\n%s\r\n" % (len(word), word))
        word = peer.command()[-1]
        peer.send((b"$%d\r\n%s\r\n" % (len(word), word))[: random.randrange(12)])

    def talk(number: int) -> int:
        served = 0
        for turn in range(30):
            word = f"{number}-{turn}"
            reply = outcome(read, transport, word)
            assert reply == word.encode() or isinstance(reply, UnavailableError)
            served += reply == word.encode()
        return served

    with ScriptedServer(cut_in_a_reply) as server:
        transport = connect(server.url)
        served = together(*[(talk, number) for number in range(40)])
        assert sum(served) > 100
        assert server.accepted > 5
        assert transport.in_flight == 0


def test_an_idle_connection_that_broke_costs_no_call(valkey: Server, connect: Connect) -> None:
    transport, other = connect(valkey.url), connect(valkey.url)
    transport.command("PING")
    other.command("CLIENT", "KILL", "ID", transport.command("CLIENT", "ID"))
    eventually(lambda: "not connected" in repr(transport))
    assert delete(transport, "nobody") == 0
    assert transport.reconnects == 1


@pytest.mark.parametrize("garbage", [b"garbage\r\n", b"$x\r\n", b"*-5\r\n", b"+fine\r\n+nobody asked\r\n"])
def test_a_malformed_reply_costs_the_connection_only(connect: Connect, garbage: bytes) -> None:
    with ScriptedServer(reply_once(garbage), echo) as server:
        transport = connect(server.url)
        first = outcome(write, transport, "x")
        assert isinstance(first, UnavailableError) or first == b"fine"
        eventually(lambda: outcome(transport.command, "ECHO", "y") == b"y")
        assert server.accepted == 2


def test_closing_tells_who_waits_and_a_later_call_opens_anew(connect: Connect) -> None:
    with ScriptedServer(lambda _peer: Event().wait(), echo) as server:
        transport = connect(server.url)
        waiting = gevent.spawn(outcome, read, transport, "x")
        eventually(lambda: transport.in_flight == 1)
        transport.close()
        transport.close()
        assert isinstance(waiting.get(), UnavailableError)
        assert "closed" in str(waiting.value)
        assert "not connected" in repr(transport)
        assert transport.command("ECHO", "y") == b"y"


def test_a_transport_closed_while_it_connects_stays_closed(connect: Connect) -> None:
    with ScriptedServer(echo) as server:
        transport = connect(server.url)
        waiting = gevent.spawn(outcome, transport.command, "ECHO", "x")
        gevent.sleep(0)
        transport.close()
        assert isinstance(waiting.get(), UnavailableError)
        assert "not connected" in repr(transport)
        assert transport.command("ECHO", "y") == b"y"


def test_a_caller_that_is_killed_does_not_stop_the_attempt_to_connect(connect: Connect) -> None:
    with ScriptedServer(echo) as server:
        transport = connect(server.url)
        killed, kept = (gevent.spawn(transport.command, "ECHO", word) for word in ("killed", "kept"))
        gevent.sleep(0)
        killed.kill()
        assert kept.get() == b"kept"
        assert server.accepted == 1


# What Redis answers


def test_a_script_flush_is_invisible_and_repaired_by_one_load(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    store = FeatureStore(transport)
    store.apply(Definition({"age": "int"}))
    store.upsert([(f"u{number}", {"age": number}) for number in range(100)])
    transport.command("SCRIPT", "FLUSH")
    transport.command("CONFIG", "RESETSTAT")
    rows = together(*[(store.get, f"u{number}") for number in range(100)])
    assert rows == [{"age": number} for number in range(100)]
    stats = transport.command("INFO", "commandstats").decode()
    assert f"cmdstat_script|load:calls={len(SCRIPTS)}," in stats
    transport.command("SCRIPT", "FLUSH")
    assert len(store.get_many([f"u{number}" for number in range(100)] * 20)) == 2000
    transport.command("SCRIPT", "FLUSH")
    assert store.upsert([("u1", {"age": 7})]).written == 1


def test_a_refused_write_makes_the_next_call_connect_anew(connect: Connect) -> None:
    with ScriptedServer(reply_once(b"-READONLY You can't write against a read only replica.\r\n"), echo) as server:
        transport = connect(server.url)
        refused, same_turn = together((write, transport, "x"), (write, transport, "y"))
        assert isinstance(refused, WriteRefusedError)
        assert same_turn == b"y"
        assert write(transport, "z") == b"z"
        assert server.accepted == 2


@pytest.mark.parametrize("reply", [b"-LOADING Redis is loading\r\n", b"-BUSY Redis is busy running a script\r\n"])
def test_a_server_that_cannot_serve_yet_is_unavailable(connect: Connect, reply: bytes) -> None:
    with ScriptedServer(reply_once(reply)) as server:
        transport = connect(server.url)
        with pytest.raises(UnavailableError):
            read(transport, "x")
        assert read(transport, "y") == b"y"
        assert server.accepted == 1


def test_wrong_and_missing_credentials_are_access_denied(valkey: Server, connect: Connect) -> None:
    connect(valkey.url).command("CONFIG", "SET", "requirepass", "right")
    address = f"127.0.0.1:{valkey.port}"
    wrong = connect(f"redis://:wrong@{address}")
    with pytest.raises(AccessDeniedError):
        wrong.command("PING")
    with pytest.raises(AccessDeniedError, match="next attempt"):
        wrong.command("PING")
    missing = connect(f"redis://{address}")

    def refused() -> bool:
        with pytest.raises(RedisError) as raised:
            missing.command("PING")
        return isinstance(raised.value, AccessDeniedError)

    eventually(refused, what="the reason")  # Redis cuts off the first connection without one: the scripts are large
    right = connect(f"redis://:right@{address}")
    assert right.command("PING") == b"PONG"
    assert "right" not in repr(right)


def test_a_user_who_may_not_load_scripts_may_call_them(valkey: Server, connect: Connect) -> None:
    admin = connect(valkey.url)
    admin.command("ACL", "SETUSER", "caller", "on", ">secret", "~*", "+evalsha", "+ping", "+@read", "+@write")
    caller = connect(f"redis://caller:secret@127.0.0.1:{valkey.port}")
    assert delete(caller, "nobody") == 0
    admin.command("SCRIPT", "FLUSH")
    with pytest.raises(AccessDeniedError, match="NOPERM"):
        delete(caller, "nobody")
    with pytest.raises(AccessDeniedError):
        caller.command("CONFIG", "GET", "port")


def test_the_database_of_the_url_is_selected(valkey: Server, connect: Connect) -> None:
    assert b" db=3 " in connect(f"redis://127.0.0.1:{valkey.port}/3").command("CLIENT", "INFO")
    with pytest.raises(RedisError, match="DB index"):
        connect(f"redis://127.0.0.1:{valkey.port}/99").command("PING")


def test_a_unix_socket_serves_as_well(valkey: Server, connect: Connect) -> None:
    assert connect(valkey.socket_url).command("PING") == b"PONG"


def test_the_representation_tells_the_state(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    assert repr(transport) == (
        f"<GeventTransport redis://127.0.0.1:{valkey.port}/0 not connected, 0 in flight, "
        "0 calls in 0 writes, 0 reconnects>"
    )
    transport.command("PING")
    assert "/0 connected, 0 in flight, 1 calls in 2 writes, 0 reconnects>" in repr(transport)


# Processes of their own


def run_program(program: str, *arguments: str) -> Any:
    """Run a Python program in a process of its own; return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr, done.stderr.decode()
    return json.loads(done.stdout)


PATCH = {"patched": "from gevent import monkey; monkey.patch_all()\n", "unpatched": ""}

FORK = """
import json, os, sys
import gevent, gevent.os
from featurestore.transport.gevent_transport import GeventTransport

transport = GeventTransport(sys.argv[1], timeout=10, connect_timeout=10)
before = transport.command("CLIENT", "ID")
under_way = gevent.spawn(transport.command, "BLPOP", "nothing", "0.2")
while not transport.in_flight:
    gevent.sleep(0)
gevent.sleep(0.01)
ours, theirs = os.pipe()
child = gevent.os.fork()
if child == 0:
    said = [transport.in_flight, transport.command("CLIENT", "ID"), transport.command("ECHO", "child").decode()]
    for _ in range(100):
        transport.command("ECHO", "x")
        gevent.sleep(0.004)
    os.write(theirs, json.dumps(said).encode())
    os._exit(0)
os.close(theirs)
own = [transport.command("ECHO", str(number)).decode() for number in range(300)]
after = transport.command("CLIENT", "ID")
said = json.loads(os.read(ours, 1000))
gevent.os.waitpid(child, 0)
print(json.dumps([before, after, own == [str(number) for number in range(300)], under_way.get(), said]))
"""


@pytest.mark.parametrize("patch", PATCH)
def test_a_forked_child_has_a_connection_of_its_own(valkey: Server, patch: str) -> None:
    before, after, own_replies, under_way, child = run_program(PATCH[patch] + FORK, valkey.url)
    assert before == after
    assert own_replies
    assert under_way is None
    assert child[0] == 0
    assert child[1] != before
    assert child[2] == "child"


LARGE = """
import json, sys
import gevent
from featurestore.transport.gevent_transport import GeventTransport

transport = GeventTransport(sys.argv[1], timeout=30, connect_timeout=10)
payloads = [bytes([number]) * 2_000_000 for number in range(16)]
large = [gevent.spawn(transport.command, "ECHO", payload) for payload in payloads]
small = [gevent.spawn(transport.command, "ECHO", str(number)) for number in range(200)]
gevent.joinall(large + small, raise_error=True)
answers = [g.value for g in large] == payloads, [g.value for g in small] == [b"%d" % n for n in range(200)]
writes = transport.writes
gevent.joinall([gevent.spawn(transport.command, "ECHO", str(number)) for number in range(100)])
print(json.dumps([*answers, transport.writes - writes, transport.connections]))
transport.close()
"""


@pytest.mark.parametrize("patch", PATCH)
def test_tls_carries_large_and_small_calls_alike(tls_url: str, patch: str) -> None:
    large, small, writes, connections = run_program(PATCH[patch] + LARGE, tls_url)
    assert (large, small, writes, connections) == (True, True, 1, 1)


def test_a_certificate_that_nobody_vouches_for_is_refused(tls_url: str, connect: Connect) -> None:
    with pytest.raises(UnavailableError, match="certificate"):
        connect(tls_url.partition("?")[0]).command("PING")


def test_the_package_does_not_need_gevent() -> None:
    program = "import json, sys, featurestore.store.blocking; print(json.dumps('gevent' in sys.modules))"
    assert run_program(program) is False


def test_an_idle_transport_does_not_keep_a_program_alive(valkey: Server) -> None:
    program = (
        "import sys, gevent\n"
        "from featurestore.transport.gevent_transport import GeventTransport\n"
        "transport = GeventTransport(sys.argv[1], timeout=0.1, connect_timeout=5)\n"
        "transport.command('PING')\n"
        "gevent.wait()\n"
        "print(transport.calls)"
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        assert run_program(program, valkey.url) == 1
        return
    pytest.fail("the program did not end")
