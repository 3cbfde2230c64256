"""What the transport for asyncio promises while everything is well, and while it is not."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from support.scripted import encoded, unpacked
from support.scripted_async import (
    PATIENT_S,
    Connect,
    Peer,
    ScriptedServer,
    echo,
    eventually,
    hang_up,
    ignore,
    in_a_loop,
    reply_once,
)
from support.servers import Server

from featurestore import AsyncFeatureStore, AsyncTransport, Definition
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import DELETE_ENTITY, GET_FEATURES, INCREMENT_FEATURES, SCRIPTS
from featurestore.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadlineExceededError,
    FeatureStoreError,
    OverloadedError,
    RedisError,
    UnavailableError,
    WriteRefusedError,
)
from featurestore.transport.link import Sending


@pytest.fixture
def connect() -> Connect:
    return Connect()


async def outcome(call: Awaitable[Any]) -> Any:
    """Return what the call returns, or the error it raises."""
    try:
        return await call
    except FeatureStoreError as error:
        return error


async def together(*calls: Awaitable[Any]) -> list[Any]:
    """Make all calls in one turn of the event loop, each in a task of its own; return their outcomes."""
    return await asyncio.gather(*map(outcome, calls))


def start(call: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """Make the call in a task of its own, which ends with its outcome."""
    return asyncio.create_task(outcome(call))


async def read(transport: AsyncTransport, word: str) -> Any:
    """Have a word echoed by a script that reads, as the row that its reply has to be."""
    return unpacked(await transport.run(GET_FEATURES, ("a", "b", "c"), (encoded(word),)))


async def write(transport: AsyncTransport, word: str | bytes) -> Any:
    """Do the same by a script that writes."""
    return unpacked(await transport.run(INCREMENT_FEATURES, ("a", "b", "c"), (encoded(word),)))


async def delete(transport: AsyncTransport, entity_id: str) -> Any:
    return await transport.run(DELETE_ENTITY, ("a", "b"), (entity_id,))


async def increase(transport: AsyncTransport, word: str) -> Any:
    return await transport.command("INCR", word)


# Order and coalescing


@in_a_loop
async def test_every_task_gets_its_own_replies(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)

    async def talk(number: int) -> list[bytes]:
        return [await transport.command("ECHO", f"{number}-{turn}") for turn in range(10)]

    replies = await together(*map(talk, range(500)))
    assert replies == [[b"%d-%d" % (number, turn) for turn in range(10)] for number in range(500)]
    assert transport.calls == 5000
    assert transport.writes < 100
    assert (transport.connections, transport.in_flight) == (1, 0)


@in_a_loop
async def test_the_calls_of_one_turn_leave_in_one_write(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    await transport.command("PING")
    before = transport.writes
    await together(*[transport.command("ECHO", number) for number in range(200)])
    assert transport.writes == before + 1


@in_a_loop
async def test_all_scripts_are_loaded_in_one_write_with_the_first_call(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    assert await transport.command("SCRIPT", "EXISTS", *[script.sha for script in SCRIPTS]) == [1] * len(SCRIPTS)
    assert transport.writes <= 2


@in_a_loop
async def test_an_error_stands_in_the_place_of_its_reply(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    store = AsyncFeatureStore(transport)
    await store.apply(Definition({"age": "int"}))
    await store.upsert([("u1", {"age": 1})])
    keys = ("user:u1:features", "all_users", "user:schema")
    good, bad = encode_call(GET_FEATURES, keys, ("u1", "age")), encode_call(GET_FEATURES, keys, ())
    first, second, third = await transport.run_many_encoded(GET_FEATURES, [good, bad, good])
    assert first == third == b"\x91\x01"
    assert isinstance(second, FeatureStoreError)
    assert await transport.run_many_encoded(GET_FEATURES, []) == []


# Deadlines and bounds


@in_a_loop
async def test_a_late_reply_is_dropped_and_the_next_call_gets_its_own(connect: Connect) -> None:
    go = asyncio.Event()

    async def late(peer: Peer) -> None:
        first = await peer.command()
        await go.wait()
        peer.send(b"+%s\r\n" % first[-1])
        await echo(peer)

    async with ScriptedServer(late) as server:
        transport = connect(server.url, timeout=0.2)
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError, match="200 ms"):
            await transport.command("ECHO", "first")
        assert 0.2 <= time.monotonic() - started < 1.0
        assert transport.in_flight == 1
        second = start(transport.command("ECHO", "second"))
        go.set()
        assert await second == b"second"
        assert (transport.in_flight, server.accepted) == (0, 1)


@in_a_loop
async def test_a_call_may_have_a_deadline_of_its_own(connect: Connect) -> None:
    async with ScriptedServer(ignore) as server:
        transport = connect(server.url)
        patient = start(transport.command("ECHO", "patient"))
        await eventually(lambda: transport.in_flight == 1)
        with pytest.raises(DeadlineExceededError):
            await transport.command("ECHO", "hurried", deadline=time.monotonic() + 0.05)
        assert not patient.done()
        before = transport.writes
        with pytest.raises(DeadlineExceededError, match="before the call was sent"):
            await transport.command("ECHO", "too late", deadline=time.monotonic())
        await asyncio.sleep(0)
        assert transport.writes == before
        await transport.close()
        assert isinstance(await patient, UnavailableError)


@in_a_loop
async def test_a_deadline_holds_while_the_connection_is_made(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedServer(echo) as server:
        transport = connect(server.url)
        dial, go = transport._dial, asyncio.Event()

        async def slow() -> Any:
            await go.wait()
            return await dial()

        monkeypatch.setattr(transport, "_dial", slow)
        patient = start(transport.command("ECHO", "patient"))
        with pytest.raises(DeadlineExceededError, match="nothing was sent"):
            await transport.command("ECHO", "hurried", deadline=time.monotonic() + 0.05)
        go.set()
        assert await patient == b"patient"
        assert [command[-1] for command in server.received] == [b"patient"]


@in_a_loop
async def test_a_reply_that_has_arrived_is_not_late_because_this_process_was_busy(
    connect: Connect, valkey: Server
) -> None:
    transport = connect(valkey.socket_url, timeout=0.1)
    await transport.command("PING")

    async def be_busy() -> None:
        await asyncio.sleep(0)  # let the call leave
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass

    words = [b"%d" % number * 2000 for number in range(10)]  # more than one read takes
    assert await together(*[transport.command("ECHO", word) for word in words], be_busy()) == [*words, None]


@in_a_loop
async def test_calls_of_different_age_expire_each_in_its_time(connect: Connect) -> None:
    async with ScriptedServer(ignore) as server:
        transport = connect(server.url, timeout=1.0)

        async def call(delay: float) -> float:
            await asyncio.sleep(delay)
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                await transport.command("PING")
            return time.monotonic() - started

        elapsed = await together(*map(call, (0.0, 0.3, 0.6)))
        assert all(1.0 <= each < 1.25 for each in elapsed[1:]), elapsed


@in_a_loop
async def test_a_connection_that_stays_silent_is_replaced(connect: Connect) -> None:
    async with ScriptedServer(ignore, echo) as server:
        transport = connect(server.url, timeout=0.05)
        assert isinstance(await outcome(transport.command("ECHO", "a")), DeadlineExceededError)

        async def served() -> bool:
            return bool(await outcome(transport.command("ECHO", "b")) == b"b")

        await eventually(served)
        assert server.accepted == 2


@in_a_loop
async def test_a_cancelled_task_keeps_its_place_in_the_order(connect: Connect) -> None:
    go = asyncio.Event()

    async def behave(peer: Peer) -> None:
        words = [(await peer.command())[-1] for _ in range(4)]
        await go.wait()
        for word in words:
            peer.send(b"+%s\r\n" % word)
        await ignore(peer)

    async with ScriptedServer(behave) as server:
        transport = connect(server.url)
        cancelled, hurried, group, kept = (
            start(transport.command("ECHO", "cancelled")),
            start(asyncio.wait_for(transport.command("ECHO", "hurried"), 20)),
            start(read(transport, "cancelled too")),
            start(transport.command("ECHO", "kept")),
        )
        await eventually(lambda: len(server.received) == 4)
        for task in (cancelled, hurried, group):
            task.cancel()
        await asyncio.wait({cancelled, hurried, group})
        assert cancelled.cancelled()
        assert transport.in_flight == 4
        go.set()
        assert await kept == b"kept"
        assert (transport.in_flight, server.accepted) == (0, 1)


@in_a_loop
async def test_more_calls_than_allowed_are_refused_at_once(connect: Connect) -> None:
    go = asyncio.Event()

    async def behave(peer: Peer) -> None:
        first = await peer.command()
        await go.wait()
        peer.send(b"+%s\r\n" % first[-1])
        await echo(peer)

    async with ScriptedServer(behave) as server:
        transport = connect(server.url, max_in_flight=3)
        waiting = [start(transport.command("ECHO", number)) for number in range(3)]
        await eventually(lambda: server.received)
        with pytest.raises(OverloadedError, match="at most 3"):
            await transport.command("ECHO", "4")
        with pytest.raises(OverloadedError):
            await transport.run_many_encoded(GET_FEATURES, [encode_call(GET_FEATURES, (), ("x",))] * 4)
        go.set()
        assert [await task for task in waiting] == [b"0", b"1", b"2"]
        assert await transport.command("ECHO", "4") == b"4"


@in_a_loop
async def test_a_slow_reader_stalls_neither_the_loop_nor_the_order(connect: Connect) -> None:
    go = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await go.wait()
        while True:
            word = (await peer.command())[-1]
            peer.send(b"$8\r\n%s\r\n" % word[:8])

    async with ScriptedServer(slow) as server:
        transport = connect(server.url)
        payloads = [b"%08d" % number + bytes(1_000_000) for number in range(64)]
        waiting = [start(transport.command("ECHO", payload)) for payload in payloads]
        await eventually(
            lambda: transport.in_flight == 64 and transport._link and transport._link._sending is Sending.BLOCKED
        )
        before = transport.writes
        late = [start(transport.command("ECHO", b"behind%02d" % number)) for number in range(10)]
        await eventually(lambda: transport.in_flight == 74)
        assert transport.writes == before
        go.set()
        assert [await task for task in waiting] == [b"%08d" % number for number in range(64)]
        assert [await task for task in late] == [b"behind%02d" % number for number in range(10)]
        assert (transport.writes, server.accepted) == (before + 1, 1)


@in_a_loop
async def test_huge_replies_arrive_whole(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    payloads = [bytes([number]) * 3_000_000 for number in range(16)]
    assert await together(*[transport.command("ECHO", payload) for payload in payloads]) == payloads


# Broken connections


@in_a_loop
async def test_a_read_is_repeated_once_when_the_connection_breaks(connect: Connect) -> None:
    async with ScriptedServer(hang_up, echo) as server:
        transport = connect(server.url)
        assert await read(transport, "x") == b"x"
        assert (len(server.received), server.accepted, transport.reconnects) == (2, 2, 1)


@in_a_loop
async def test_a_read_is_not_repeated_twice(connect: Connect) -> None:
    async with ScriptedServer(hang_up, hang_up, echo) as server:
        transport = connect(server.url)
        with pytest.raises(UnavailableError, match="closed the connection"):
            await read(transport, "x")
        assert len(server.received) == 2


@pytest.mark.parametrize("call", [write, increase])
@in_a_loop
async def test_a_write_that_was_sent_is_not_repeated(connect: Connect, call: Any) -> None:
    async with ScriptedServer(hang_up, echo) as server:
        transport = connect(server.url)
        with pytest.raises(UnavailableError, match="closed the connection"):
            await call(transport, "x")
        assert len(server.received) == 1

        async def served() -> bool:
            return bool(await outcome(call(transport, "y")) == b"y")

        await eventually(served)


@in_a_loop
async def test_a_write_of_which_no_byte_was_sent_is_repeated(connect: Connect) -> None:
    cut = asyncio.Event()

    async def read_one(peer: Peer) -> None:
        peer.send(b"+%s\r\n" % (await peer.command())[-1])
        await cut.wait()

    async with ScriptedServer(read_one, echo) as server:
        transport = connect(server.url)
        assert await write(transport, "first") == b"first"
        stuck = start(write(transport, bytes(32_000_000)))
        await eventually(lambda: transport._link and transport._link._sending is Sending.BLOCKED)
        unsent = [start(write(transport, f"{number}")) for number in range(10)]
        await eventually(lambda: transport.in_flight == 11)
        cut.set()
        assert isinstance(await stuck, UnavailableError)
        assert [await task for task in unsent] == [b"%d" % number for number in range(10)]
        assert [unpacked(command[-1]) for command in server.received[1:]] == [b"%d" % number for number in range(10)]


@in_a_loop
async def test_everyone_is_told_at_once_when_the_server_dies_and_served_when_it_is_back(
    valkey: Server, connect: Connect
) -> None:
    transport = connect(valkey.url)
    await transport.command("PING")
    with valkey.frozen():
        waiting = [start(read(transport, f"{number}")) for number in range(50)]
        waiting += [start(write(transport, f"{number}")) for number in range(50)]
        await eventually(lambda: transport.in_flight == 100)
        started = time.monotonic()
        assert valkey.process is not None
        valkey.process.kill()
        assert [type(await task) for task in waiting] == [UnavailableError] * 100
    assert time.monotonic() - started < PATIENT_S / 4
    valkey.stop()

    async def long_away() -> bool:
        refusal = await outcome(transport.command("PING"))
        return "next attempt" not in str(refusal) and transport._backoff._failures >= 4

    async def back() -> bool:
        return bool(await outcome(transport.command("PING")) == b"PONG")

    await eventually(long_away)
    before = transport.connections  # a dying server may have taken one more
    valkey.start()
    await eventually(back)
    assert transport.connections == before + 1
    valkey.stop()
    await eventually(lambda: "not connected" in repr(transport))
    assert "next attempt" not in str(await outcome(transport.command("PING")))
    assert transport._backoff._failures == 1  # pauses start small again


@in_a_loop
async def test_calls_fail_fast_while_the_server_is_away(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedServer(echo) as server:
        transport = connect(server.url)
    attempts: list[float] = []
    dial = transport._dial

    async def counted() -> Any:
        attempts.append(time.monotonic())
        return await dial()

    monkeypatch.setattr(transport, "_dial", counted)
    outcomes = await together(*[transport.command("PING") for _ in range(100)])
    assert [type(each) for each in outcomes] == [UnavailableError] * 100
    assert len(attempts) == 1
    with pytest.raises(UnavailableError, match=r"cannot be reached.*next attempt in \d+ ms"):
        await transport.command("PING")

    async def fourth() -> bool:
        assert isinstance(await outcome(transport.command("PING")), UnavailableError)
        return len(attempts) == 4

    await eventually(fourth)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert [pause >= least for pause, least in zip(pauses, (0.025, 0.05, 0.1), strict=True)] == [True] * 3


@in_a_loop
async def test_connections_cut_anywhere_never_mix_up_replies(connect: Connect) -> None:
    async def cut_in_a_reply(peer: Peer) -> None:
        for _ in range(random.randrange(1, 60)):
            word = (await peer.command())[-1]
            peer.send(b"$%d\r\n%s\r\n" % (len(word), word))
        word = (await peer.command())[-1]
        peer.send((b"$%d\r\n%s\r\n" % (len(word), word))[: random.randrange(12)])

    async def talk(number: int) -> int:
        served = 0
        for turn in range(30):
            word = f"{number}-{turn}"
            reply = await outcome(read(transport, word))
            assert reply == word.encode() or isinstance(reply, UnavailableError)
            served += reply == word.encode()
        return served

    async with ScriptedServer(cut_in_a_reply) as server:
        transport = connect(server.url)
        served = await together(*map(talk, range(40)))
        assert sum(served) > 100
        assert server.accepted > 5
        assert transport.in_flight == 0


@in_a_loop
async def test_an_idle_connection_that_broke_costs_no_call(valkey: Server, connect: Connect) -> None:
    transport, other = connect(valkey.url), connect(valkey.url)
    await transport.command("PING")
    await other.command("CLIENT", "KILL", "ID", await transport.command("CLIENT", "ID"))
    await eventually(lambda: "not connected" in repr(transport))
    assert await delete(transport, "nobody") == 0
    assert transport.reconnects == 1


@pytest.mark.parametrize("garbage", [b"garbage\r\n", b"$x\r\n", b"*-5\r\n", b"+fine\r\n+nobody asked\r\n"])
@in_a_loop
async def test_a_malformed_reply_costs_the_connection_only(connect: Connect, garbage: bytes) -> None:
    async with ScriptedServer(reply_once(garbage), echo) as server:
        transport = connect(server.url)
        first = await outcome(write(transport, "x"))
        assert isinstance(first, UnavailableError) or first == b"fine"

        async def served() -> bool:
            return bool(await outcome(transport.command("ECHO", "y")) == b"y")

        await eventually(served)
        assert server.accepted == 2


# Closing and cancelling


@in_a_loop
async def test_closing_tells_who_waits_and_a_later_call_opens_anew(connect: Connect) -> None:
    async with ScriptedServer(ignore, echo) as server:
        transport = connect(server.url)
        waiting = start(read(transport, "x"))
        await eventually(lambda: transport.in_flight == 1)
        await transport.close()
        await transport.close()
        assert isinstance(await waiting, UnavailableError)
        assert "closed" in str(await waiting)
        assert "not connected" in repr(transport)
        assert await transport.command("ECHO", "y") == b"y"


@in_a_loop
async def test_a_transport_closed_while_it_connects_stays_closed(connect: Connect) -> None:
    async with ScriptedServer(echo) as server:
        transport = connect(server.url)
        for turns in range(1, 8):
            waiting = start(transport.command("ECHO", "x"))
            for _ in range(turns):
                await asyncio.sleep(0)
            await transport.close()
            assert isinstance(await waiting, UnavailableError) or await waiting == b"x"
            assert "not connected" in repr(transport)
        assert await transport.command("ECHO", "y") == b"y"


@in_a_loop
async def test_a_caller_that_is_cancelled_does_not_stop_the_attempt_to_connect(connect: Connect) -> None:
    async with ScriptedServer(echo) as server:
        transport = connect(server.url)
        cancelled, kept = (start(transport.command("ECHO", word)) for word in ("cancelled", "kept"))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert await kept == b"kept"
        assert server.accepted == 1


def test_a_transport_serves_one_event_loop_at_a_time(valkey: Server) -> None:
    transport = AsyncTransport(valkey.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)

    async def ask() -> Any:
        reply = await transport.command("PING")
        await transport.close()
        return reply

    async def refused() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await transport.command("PING")

    assert [asyncio.run(ask()), asyncio.run(ask())] == [b"PONG", b"PONG"]
    with asyncio.Runner() as runner:
        assert runner.run(transport.command("PING")) == b"PONG"
        asyncio.run(refused())
        runner.run(transport.close())


def test_asyncio_does_without_gevent() -> None:
    program = "import sys; from featurestore import AsyncFeatureStore; sys.exit('gevent' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", program], check=False).returncode == 0


# What Redis answers


@in_a_loop
async def test_a_script_flush_is_invisible_and_repaired_by_one_load(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    store = AsyncFeatureStore(transport)
    await store.apply(Definition({"age": "int"}))
    await store.upsert([(f"u{number}", {"age": number}) for number in range(100)])
    await transport.command("SCRIPT", "FLUSH")
    await transport.command("CONFIG", "RESETSTAT")
    rows = await together(*[store.get(f"u{number}") for number in range(100)])
    assert rows == [{"age": number} for number in range(100)]
    stats = (await transport.command("INFO", "commandstats")).decode()
    assert f"cmdstat_script|load:calls={len(SCRIPTS)}," in stats
    await transport.command("SCRIPT", "FLUSH")
    assert len(await store.get_many([f"u{number}" for number in range(100)] * 20)) == 2000
    await transport.command("SCRIPT", "FLUSH")
    assert (await store.upsert([("u1", {"age": 7})])).written == 1


@in_a_loop
async def test_a_refused_write_makes_the_next_call_connect_anew(connect: Connect) -> None:
    async with ScriptedServer(
        reply_once(b"-READONLY You can't write against a read only replica.\r\n"), echo
    ) as server:
        transport = connect(server.url)
        refused, same_turn = await together(write(transport, "x"), write(transport, "y"))
        assert isinstance(refused, WriteRefusedError)
        assert same_turn == b"y"
        assert await write(transport, "z") == b"z"
        assert server.accepted == 2


@pytest.mark.parametrize("reply", [b"-LOADING Redis is loading\r\n", b"-BUSY Redis is busy running a script\r\n"])
@in_a_loop
async def test_a_server_that_cannot_serve_yet_is_unavailable(connect: Connect, reply: bytes) -> None:
    async with ScriptedServer(reply_once(reply)) as server:
        transport = connect(server.url)
        with pytest.raises(UnavailableError):
            await read(transport, "x")
        assert await read(transport, "y") == b"y"
        assert server.accepted == 1


@in_a_loop
async def test_wrong_and_missing_credentials_are_access_denied(valkey: Server, connect: Connect) -> None:
    await connect(valkey.url).command("CONFIG", "SET", "requirepass", "right")
    address = f"127.0.0.1:{valkey.port}"
    wrong = connect(f"redis://:wrong@{address}")
    with pytest.raises(AccessDeniedError):
        await wrong.command("PING")
    with pytest.raises(AccessDeniedError, match="next attempt"):
        await wrong.command("PING")
    missing = connect(f"redis://{address}")

    async def refused() -> bool:
        with pytest.raises(RedisError) as raised:
            await missing.command("PING")
        return isinstance(raised.value, AccessDeniedError)

    await eventually(refused, what="the reason")  # Redis cuts off the first connection: the scripts are large
    right = connect(f"redis://:right@{address}")
    assert await right.command("PING") == b"PONG"
    assert "right" not in repr(right)


@in_a_loop
async def test_a_user_who_may_not_load_scripts_may_call_them(valkey: Server, connect: Connect) -> None:
    admin = connect(valkey.url)
    await admin.command("ACL", "SETUSER", "caller", "on", ">secret", "~*", "+evalsha", "+ping", "+@read", "+@write")
    caller = connect(f"redis://caller:secret@127.0.0.1:{valkey.port}")
    assert await delete(caller, "nobody") == 0
    await admin.command("SCRIPT", "FLUSH")
    with pytest.raises(AccessDeniedError, match="NOPERM"):
        await delete(caller, "nobody")
    with pytest.raises(AccessDeniedError):
        await caller.command("CONFIG", "GET", "port")


@in_a_loop
async def test_a_server_that_does_not_greet_is_given_up_in_time(valkey: Server, connect: Connect) -> None:
    transport = AsyncTransport(f"redis://:secret@127.0.0.1:{valkey.port}", timeout=PATIENT_S, connect_timeout=0.05)
    with valkey.frozen(), pytest.raises(UnavailableError, match=r"cannot be reached: (it took too|Timeout)"):
        await transport.command("PING")
    await transport.close()


@in_a_loop
async def test_the_database_of_the_url_is_selected(valkey: Server, connect: Connect) -> None:
    assert b" db=3 " in await connect(f"redis://127.0.0.1:{valkey.port}/3").command("CLIENT", "INFO")
    with pytest.raises(RedisError, match="DB index"):
        await connect(f"redis://127.0.0.1:{valkey.port}/99").command("PING")
    assert await connect(valkey.socket_url).command("PING") == b"PONG"
    with pytest.raises(ConfigurationError, match="Redis URL"):
        connect("http://localhost")


@in_a_loop
async def test_the_representation_tells_the_state(valkey: Server, connect: Connect) -> None:
    transport = connect(valkey.url)
    assert repr(transport) == (
        f"<AsyncTransport redis://127.0.0.1:{valkey.port}/0 not connected, 0 in flight, "
        "0 calls in 0 writes, 0 reconnects>"
    )
    await transport.command("PING")
    assert "/0 connected, 0 in flight, 1 calls in" in repr(transport)


# TLS


@in_a_loop
async def test_tls_carries_large_and_small_calls_alike(tls_url: str, connect: Connect) -> None:
    transport = connect(tls_url)
    payloads = [bytes([number]) * 2_000_000 for number in range(16)]
    words = [b"%d" % number for number in range(200)]
    assert await together(*[transport.command("ECHO", word) for word in payloads + words]) == payloads + words
    before = transport.writes
    await together(*[transport.command("ECHO", word) for word in words])
    assert (transport.writes, transport.connections) == (before + 1, 1)
    assert [await transport.command("ECHO", word) for word in words] == words


@in_a_loop
async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_url: str, connect: Connect) -> None:
    with pytest.raises(UnavailableError, match="certificate"):
        await connect(tls_url.partition("?")[0]).command("PING")
