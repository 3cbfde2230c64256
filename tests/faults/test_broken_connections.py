"""What transports promise while Redis is away, hangs up, babbles, refuses, or has lost its scripts.

Those that share one connection keep all of it, the pool what does not need that.
"""

import random
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from support.kinds import Kind, Shared, outcome, over_each, over_shared
from support.scripted import unpacked
from support.scripted_async import PATIENT_S, Peer, echo, hang_up, ignore, reply_once
from support.servers import Server

from featurestore import Definition
from featurestore.contract.scripts import SCRIPTS
from featurestore.errors import AccessDeniedError, InDoubtError, RedisError, UnavailableError, WriteRefusedError
from featurestore.transport import backoff

# Broken connections


@over_each
async def test_a_read_is_repeated_once_when_the_connection_breaks(kind: Kind) -> None:
    async with kind.server(hang_up, echo) as server:
        transport = kind.connect(server.url)
        assert await kind.read(transport, "x") == b"x"
        assert (len(server.received), server.accepted) == (2, 2)
        assert not isinstance(kind, Shared) or transport.reconnects == 1


@over_each
async def test_a_read_is_not_repeated_twice(kind: Kind) -> None:
    async with kind.server(hang_up, hang_up, echo) as server:
        transport = kind.connect(server.url)
        with pytest.raises(UnavailableError, match=kind.closed):
            await kind.read(transport, "x")
        assert len(server.received) == 2


@pytest.mark.parametrize("call", [Kind.write, Kind.increase])
@over_each
async def test_a_write_that_was_sent_is_not_repeated(kind: Kind, call: Callable[..., Any]) -> None:
    async with kind.server(hang_up, echo) as server:
        transport = kind.connect(server.url)
        with pytest.raises(UnavailableError, match=kind.closed) as raised:
            await call(kind, transport, "x")
        assert isinstance(raised.value, InDoubtError) is (
            call is Kind.write
        )  # whether a plain command writes is not known
        assert len(server.received) == 1

        async def served() -> bool:
            return bool(await outcome(call(kind, transport, "y")) == b"y")

        await kind.eventually(served)


@over_shared
async def test_a_write_of_which_no_byte_was_sent_is_repeated(kind: Shared) -> None:
    cut = kind.event()

    async def read_one(peer: Peer) -> None:
        peer.send(b"+%s\r\n" % (await peer.command())[-1])
        await cut.wait()

    async with kind.server(read_one, echo) as server:
        transport = kind.connect(server.url)
        assert await kind.write(transport, "first") == b"first"
        stuck = kind.start(kind.write(transport, bytes(32_000_000)))
        await kind.eventually(lambda: kind.blocked(transport))
        unsent = [kind.start(kind.write(transport, f"{number}")) for number in range(10)]
        await kind.eventually(lambda: transport.in_flight == 11)
        cut.set()
        assert isinstance(await stuck, UnavailableError)
        assert [await task for task in unsent] == [b"%d" % number for number in range(10)]
        assert [unpacked(command[-1]) for command in server.received[1:]] == [b"%d" % number for number in range(10)]


@over_shared
async def test_everyone_is_told_at_once_when_the_server_dies_and_served_when_it_is_back(
    kind: Shared, valkey: Server
) -> None:
    transport = kind.connect(valkey.url)
    await transport.command("PING")
    with valkey.frozen():
        waiting = [kind.start(kind.read(transport, f"{number}")) for number in range(50)]
        waiting += [kind.start(kind.write(transport, f"{number}")) for number in range(50)]
        await kind.eventually(lambda: transport.in_flight == 100)
        started = time.monotonic()
        assert valkey.process is not None
        valkey.process.kill()
        assert [type(await task) for task in waiting] == [UnavailableError] * 50 + [InDoubtError] * 50
    assert time.monotonic() - started < PATIENT_S / 4
    valkey.stop()

    async def long_away() -> bool:
        refusal = await outcome(transport.command("PING"))
        return "next attempt" not in str(refusal) and transport._backoff._failures >= 4

    async def back() -> bool:
        return bool(await outcome(transport.command("PING")) == b"PONG")

    await kind.eventually(long_away)
    before = transport.connections  # a dying server may have taken one more
    valkey.start()
    await kind.eventually(back)
    assert transport.connections == before + 1
    valkey.stop()
    await kind.eventually(lambda: "not connected" in repr(transport))
    assert "next attempt" not in str(await outcome(transport.command("PING")))
    assert transport._backoff._failures == 1
    assert transport._backoff.left <= 0.05  # pauses start small again


@over_shared
async def test_calls_fail_fast_while_the_server_is_away(kind: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kind.server(echo) as server:
        transport = kind.connect(server.url)
    attempts = kind.count_dials(transport)
    monkeypatch.setattr(backoff, "FIRST_S", 0.2)  # longer than a busy machine may take for the first steps
    outcomes = await kind.together(*[transport.command("PING") for _ in range(100)])
    assert [type(each) for each in outcomes] == [UnavailableError] * 100
    assert len(attempts) == 1
    with pytest.raises(UnavailableError, match=r"cannot be reached.*next attempt in \d+ ms"):
        await transport.command("PING")

    async def fourth() -> bool:
        assert isinstance(await outcome(transport.command("PING")), UnavailableError)
        return len(attempts) == 4

    await kind.eventually(fourth)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert [pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


@over_shared
async def test_connections_cut_anywhere_never_mix_up_replies(kind: Shared) -> None:
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
            reply = await outcome(kind.read(transport, word))
            assert reply == word.encode() or isinstance(reply, UnavailableError)
            served += reply == word.encode()
        return served

    async with kind.server(cut_in_a_reply) as server:
        transport = kind.connect(server.url)
        served = await kind.together(*map(talk, range(40)))
        assert sum(served) > 100
        assert server.accepted > 5
        assert transport.in_flight == 0


@over_shared
async def test_an_idle_connection_that_broke_costs_no_call(kind: Shared, valkey: Server) -> None:
    transport, other = kind.connect(valkey.url), kind.connect(valkey.url)
    await transport.command("PING")
    await other.command("CLIENT", "KILL", "ID", await transport.command("CLIENT", "ID"))
    await kind.eventually(lambda: "not connected" in repr(transport))
    assert await kind.delete(transport, "nobody") == 0
    assert transport.reconnects == 1


@pytest.mark.parametrize("garbage", [b"garbage\r\n", b"$x\r\n", b"*-5\r\n", b"+fine\r\n+nobody asked\r\n"])
@over_each
async def test_a_malformed_reply_costs_the_connection_only(kind: Kind, garbage: bytes) -> None:
    async with kind.server(reply_once(garbage), echo) as server:
        transport = kind.connect(server.url)
        first = await outcome(kind.write(transport, "x"))
        assert isinstance(first, UnavailableError) or first == b"fine"

        async def served() -> bool:
            return bool(await outcome(transport.command("ECHO", "y")) == b"y")

        await kind.eventually(served)
        assert server.accepted == 2


# Closing and giving up


@over_shared
async def test_closing_tells_who_waits_and_a_later_call_opens_anew(
    kind: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    async with kind.server(ignore, echo) as server:
        transport = kind.connect(server.url)
        waiting = kind.start(kind.read(transport, "x"))
        await kind.eventually(lambda: transport.in_flight == 1)
        await transport.close()
        await transport.close()
        told = await waiting
        assert isinstance(told, UnavailableError)
        assert "closed" in str(told)
        assert "not connected" in repr(transport)
        assert await transport.command("ECHO", "y") == b"y"
        assert caplog.records == []  # it was the caller's wish


@over_shared
async def test_a_transport_closed_while_it_connects_stays_closed(kind: Shared) -> None:
    async with kind.server(echo) as server:
        transport = kind.connect(server.url)
        for turns in range(1, 8):
            waiting = kind.start(transport.command("ECHO", "x"))
            for _ in range(turns):
                await kind.sleep(0)
            await transport.close()
            told = await waiting
            assert isinstance(told, UnavailableError) or (told == b"x" and turns > 1)
            assert "not connected" in repr(transport)
        assert await transport.command("ECHO", "y") == b"y"


@over_shared
async def test_a_caller_that_is_stopped_does_not_stop_the_attempt_to_connect(kind: Shared) -> None:
    async with kind.server(echo) as server:
        transport = kind.connect(server.url)
        stopped, kept = (kind.start(transport.command("ECHO", word)) for word in ("stopped", "kept"))
        await kind.sleep(0)
        await kind.stop(stopped)
        assert await kept == b"kept"
        assert server.accepted == 1


# What Redis answers


@over_shared
async def test_a_script_flush_is_invisible_and_repaired_by_one_load(kind: Shared, valkey: Server) -> None:
    transport = kind.connect(valkey.url)
    store = kind.store(transport)
    await store.apply(Definition({"age": "int"}))
    await store.upsert([(f"u{number}", {"age": number}) for number in range(100)])
    await transport.command("SCRIPT", "FLUSH")
    await transport.command("CONFIG", "RESETSTAT")
    rows = await kind.together(*[store.get(f"u{number}") for number in range(100)])
    assert rows == [{"age": number} for number in range(100)]
    stats = (await transport.command("INFO", "commandstats")).decode()
    assert f"cmdstat_script|load:calls={len(SCRIPTS)}," in stats
    await transport.command("SCRIPT", "FLUSH")
    assert len(await store.get_many([f"u{number}" for number in range(100)] * 20)) == 2000
    await transport.command("SCRIPT", "FLUSH")
    assert (await store.upsert([("u1", {"age": 7})])).written == 1


@over_each
async def test_a_refused_write_makes_the_next_call_connect_anew(kind: Kind) -> None:
    refusal = reply_once(b"-READONLY You can't write against a read only replica.\r\n")
    async with kind.server(refusal, echo) as server:
        transport = kind.connect(server.url)
        if isinstance(kind, Shared):
            refused, same_turn = await kind.together(kind.write(transport, "x"), kind.write(transport, "y"))
            assert same_turn == b"y"
        else:
            refused = await outcome(kind.write(transport, "x"))
        assert isinstance(refused, WriteRefusedError)
        assert await kind.write(transport, "z") == b"z"
        assert server.accepted == 2


@pytest.mark.parametrize("reply", [b"-LOADING Redis is loading\r\n", b"-BUSY Redis is busy running a script\r\n"])
@over_shared
async def test_a_server_that_cannot_serve_yet_is_unavailable(kind: Shared, reply: bytes) -> None:
    async with kind.server(reply_once(reply)) as server:
        transport = kind.connect(server.url)
        with pytest.raises(UnavailableError):
            await kind.read(transport, "x")
        assert await kind.read(transport, "y") == b"y"
        assert server.accepted == 1


@over_shared
async def test_wrong_and_missing_credentials_are_access_denied(kind: Shared, valkey: Server) -> None:
    await kind.connect(valkey.url).command("CONFIG", "SET", "requirepass", "right")
    address = f"127.0.0.1:{valkey.port}"
    wrong = kind.connect(f"redis://:wrong@{address}")
    with pytest.raises(AccessDeniedError):
        await wrong.command("PING")
    with pytest.raises(AccessDeniedError, match="next attempt"):
        await wrong.command("PING")
    missing = kind.connect(f"redis://{address}")

    async def refused() -> bool:
        with pytest.raises(RedisError) as raised:
            await missing.command("PING")
        return isinstance(raised.value, AccessDeniedError)

    await kind.eventually(refused, what="the reason")  # Redis cuts off the first connection: the scripts are large
    right = kind.connect(f"redis://:right@{address}")
    assert await right.command("PING") == b"PONG"
    assert "right" not in repr(right)


@over_each
async def test_a_user_who_may_not_load_scripts_may_call_them(kind: Kind, valkey: Server) -> None:
    admin = kind.connect(valkey.url)
    assert await kind.delete(admin, "nobody") == 0  # with every script loaded
    await admin.command("ACL", "SETUSER", "caller", "on", ">secret", "~*", "+evalsha", "+ping", "+@read", "+@write")
    caller = kind.connect(f"redis://caller:secret@127.0.0.1:{valkey.port}")
    assert await kind.delete(caller, "nobody") == 0
    await admin.command("SCRIPT", "FLUSH")
    with pytest.raises(AccessDeniedError, match="NOPERM"):
        await kind.delete(caller, "nobody")
    with pytest.raises(AccessDeniedError):
        await caller.command("CONFIG", "GET", "port")
