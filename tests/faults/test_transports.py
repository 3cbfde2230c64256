"""What transports promise while everything is well: order, one write a turn, deadlines and bounds.

Those that share one connection keep all of it, the pool what does not need that.
"""

import time
from typing import Any

import pytest
from support.kinds import Kind, Shared, outcome, over_each, over_shared
from support.scripted_async import PATIENT_S, Peer, echo, ignore
from support.servers import Server

from featurestore import Definition
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import GET_FEATURES, SCRIPTS
from featurestore.errors import (
    ConfigurationError,
    DeadlineExceededError,
    FeatureStoreError,
    OverloadedError,
    RedisError,
    UnavailableError,
)
from featurestore.transport import gevent_link, pipeline

NEVER = 1_000
"""Time-outs after which a silent connection is given up: minutes after the test."""

# Order and coalescing


@over_shared
async def test_everyone_gets_their_own_replies(kind: Shared, valkey: Server) -> None:
    transport = kind.connect(valkey.url)

    async def talk(number: int) -> list[bytes]:
        return [await transport.command("ECHO", f"{number}-{turn}") for turn in range(10)]

    replies = await kind.together(*map(talk, range(500)))
    assert replies == [[b"%d-%d" % (number, turn) for turn in range(10)] for number in range(500)]
    assert transport.calls == 5000
    assert transport.writes < 100
    assert (transport.connections, transport.in_flight) == (1, 0)


@over_shared
async def test_the_calls_of_one_turn_leave_in_one_write(kind: Shared, valkey: Server) -> None:
    transport = kind.connect(valkey.url)
    await transport.command("PING")
    before = transport.writes
    await kind.together(*[transport.command("ECHO", number) for number in range(200)])
    assert transport.writes == before + 1


@over_shared
async def test_all_scripts_are_loaded_in_one_write_ahead_of_the_first_call(kind: Shared, valkey: Server) -> None:
    transport = kind.connect(valkey.url)
    assert await transport.command("SCRIPT", "EXISTS", *[script.sha for script in SCRIPTS]) == [1] * len(SCRIPTS)
    # A greenlet that waits for the connection goes on a turn later; a task may do so in the same turn.
    assert transport.writes in ({2} if kind.name == "gevent" else {1, 2})


@over_each
async def test_a_store_works_over_it(kind: Kind, valkey: Server) -> None:
    store = kind.store(kind.connect(valkey.url))
    await store.apply(Definition({"age": "int", "score": "float"}))
    result = await store.upsert([(f"u{n}", {"age": n, "score": n / 4}) for n in range(250)])
    assert (result.written, result.rejected) == (250, [])
    assert await store.get("u7") == {"age": 7, "score": 1.75}
    rows = await store.get_many([f"u{n}" for n in range(250)] + ["nobody"])
    assert rows == [{"age": n, "score": n / 4} for n in range(250)] + [None]


@over_each
async def test_an_error_stands_in_the_place_of_its_reply(kind: Kind, valkey: Server) -> None:
    transport = kind.connect(valkey.url)
    store = kind.store(transport)
    await store.apply(Definition({"age": "int"}))
    await store.upsert([("u1", {"age": 1})])
    keys = ("all_users", "user:schema", "user:u1:features")
    good, bad = encode_call(GET_FEATURES, keys, ("u1", "age")), encode_call(GET_FEATURES, keys, ())
    first, second, third = await transport.run_many_encoded(GET_FEATURES, [good, bad, good])
    assert first == third == b"\x91\x01"
    assert isinstance(second, FeatureStoreError)


@over_shared
async def test_an_error_inside_an_array_is_an_exception_in_its_place(kind: Shared, valkey: Server) -> None:
    transport = kind.connect(valkey.url)
    first, second = await transport.command("EVAL", "return {redis.error_reply('ERR inner'), 1}", 0)
    assert isinstance(first, RedisError)
    assert (str(first), second) == ("ERR inner", 1)


@over_each
async def test_no_calls_are_no_write(kind: Kind) -> None:
    assert await kind.connect("redis://127.0.0.1:1").run_many_encoded(GET_FEATURES, []) == []


@over_each
async def test_huge_replies_arrive_whole(kind: Kind, valkey: Server) -> None:
    transport = kind.connect(valkey.url)
    payloads = [bytes([number]) * 3_000_000 for number in range(16)]
    assert await kind.together(*[transport.command("ECHO", payload) for payload in payloads]) == payloads


# Deadlines and bounds


@over_shared
async def test_a_late_reply_is_dropped_and_the_next_call_gets_its_own(kind: Shared) -> None:
    go = kind.event()

    async def late(peer: Peer) -> None:
        first = await peer.command()
        await go.wait()
        peer.send(b"+%s\r\n" % first[-1])
        await echo(peer)

    async with kind.server(late) as server:
        transport = kind.connect(server.url, timeout=0.5)
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError, match="500 ms"):
            await transport.command("ECHO", "first")
        assert time.monotonic() - started >= 0.5
        assert transport.in_flight == 1
        second = kind.start(transport.command("ECHO", "second"))
        go.set()
        assert await second == b"second"
        assert (transport.in_flight, server.accepted) == (0, 1)


@over_shared
async def test_a_reply_that_has_arrived_is_not_late_because_this_process_was_busy(
    kind: Shared, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gevent_link, "_READ_BYTES", 4096)
    transport = kind.connect(valkey.socket_url, timeout=0.3)
    await transport.command("PING")

    async def be_busy() -> None:
        await kind.sleep(0)  # let the call leave
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            pass

    words = [b"%d" % number * 2000 for number in range(10)]  # more than one read takes, and less than a socket holds
    assert await kind.together(*[transport.command("ECHO", word) for word in words], be_busy()) == [*words, None]


# tests/unit/test_pipeline.py says exactly when calls expire, by a clock of its own. These two say that links look at
# them in time: else the calls would wait until the connection is given up, which here is never.


@over_shared
async def test_calls_of_different_age_expire_each_in_its_time(kind: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_DEAD_AFTER_TIMEOUTS", NEVER)
    async with kind.server(ignore) as server:
        transport = kind.connect(server.url, timeout=0.3)

        async def call(delay: float) -> tuple[Any, float]:
            await kind.sleep(delay)
            return await timed(transport)

        for expired, elapsed in await kind.together(*map(call, (0.0, 0.1, 0.2))):
            assert isinstance(expired, DeadlineExceededError), f"{expired!r} after {elapsed:.3f} s"
            assert 0.3 <= elapsed < PATIENT_S


@over_shared
async def test_a_call_behind_others_that_were_given_up_expires_in_its_time(
    kind: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_DEAD_AFTER_TIMEOUTS", NEVER)
    async with kind.server(ignore) as server:
        transport = kind.connect(server.url, timeout=0.2)
        for _ in range(2):
            expired, elapsed = await timed(transport)
            assert isinstance(expired, DeadlineExceededError), f"{expired!r} after {elapsed:.3f} s"
            assert 0.2 <= elapsed < PATIENT_S


async def timed(transport: Any) -> tuple[Any, float]:
    """Return the outcome of a call, and the seconds that it took."""
    started = time.monotonic()
    result = await outcome(transport.command("PING"))
    return result, time.monotonic() - started


@over_shared
async def test_a_connection_that_stays_silent_is_replaced(kind: Shared) -> None:
    async with kind.server(ignore, echo) as server:
        transport = kind.connect(server.url, timeout=0.05)
        assert isinstance(await outcome(transport.command("ECHO", "a")), DeadlineExceededError)

        async def served() -> bool:
            return bool(await outcome(transport.command("ECHO", "b")) == b"b")

        await kind.eventually(served)
        assert server.accepted == 2


@over_shared
async def test_whoever_stops_waiting_keeps_the_place_in_the_order(kind: Shared) -> None:
    go, done = kind.event(), kind.event()

    async def behave(peer: Peer) -> None:
        peer.send(b"+%s\r\n" % (await peer.command())[-1])
        words = [(await peer.command())[-1] for _ in range(5)]
        await go.wait()
        for word in words:
            peer.send(b"+%s\r\n" % word)
        await ignore(peer)

    async with kind.server(behave) as server:
        transport = kind.connect(server.url)
        assert await transport.command("ECHO", "first") == b"first"  # connected, so that all that follow are sent

        async def impatient() -> str:
            assert await kind.within(0.01, transport.command("ECHO", "impatient")) is None
            await done.wait()  # a reply that woke this one now would be an error here
            return "gave up"

        stopped, quick, hurried, group, kept = (
            kind.start(transport.command("ECHO", "stopped")),
            kind.start(impatient()),
            kind.start(kind.within(20, transport.command("ECHO", "hurried"))),
            kind.start(kind.read(transport, "stopped too")),
            kind.start(transport.command("ECHO", "kept")),
        )
        await kind.eventually(lambda: len(server.received) == 6)
        await kind.stop(stopped, hurried, group)
        await kind.sleep(0.02)
        assert transport.in_flight == 5
        go.set()
        assert await kept == b"kept"
        assert (transport.in_flight, server.accepted) == (0, 1)
        done.set()
        assert await quick == "gave up"


@over_shared
async def test_more_calls_than_allowed_are_refused_at_once(kind: Shared) -> None:
    go = kind.event()

    async def behave(peer: Peer) -> None:
        first = await peer.command()
        await go.wait()
        peer.send(b"+%s\r\n" % first[-1])
        await echo(peer)

    async with kind.server(behave) as server:
        transport = kind.connect(server.url, max_in_flight=3)
        waiting = [kind.start(transport.command("ECHO", number)) for number in range(3)]
        await kind.eventually(lambda: server.received)
        with pytest.raises(OverloadedError, match="at most 3"):
            await transport.command("ECHO", "4")
        with pytest.raises(OverloadedError):
            await transport.run_many_encoded(GET_FEATURES, [encode_call(GET_FEATURES, (), ("x",))] * 4)
        go.set()
        assert [await task for task in waiting] == [b"0", b"1", b"2"]
        assert await transport.command("ECHO", "4") == b"4"


@over_shared
async def test_a_slow_reader_stalls_neither_the_loop_nor_the_order(kind: Shared) -> None:
    go = kind.event()

    async def slow(peer: Peer) -> None:
        await go.wait()
        while True:
            word = (await peer.command())[-1]
            peer.send(b"$8\r\n%s\r\n" % word[:8])

    async with kind.server(slow) as server:
        transport = kind.connect(server.url)
        payloads = [b"%08d" % number + bytes(1_000_000) for number in range(64)]
        waiting = [kind.start(transport.command("ECHO", payload)) for payload in payloads]
        await kind.eventually(lambda: transport.in_flight == 64 and kind.blocked(transport))
        await kind.sleep(0)
        before = transport.writes
        late = [kind.start(transport.command("ECHO", b"behind%02d" % number)) for number in range(10)]
        await kind.eventually(lambda: transport.in_flight == 74)
        assert transport.writes == before
        go.set()
        assert [await task for task in waiting] == [b"%08d" % number for number in range(64)]
        assert [await task for task in late] == [b"behind%02d" % number for number in range(10)]
        assert server.accepted == 1
        if kind.name == "asyncio":  # which hands the rest of a write on itself
            assert transport.writes == before + 1


# Addresses and what is shown


@over_each
async def test_the_database_of_the_url_is_selected(kind: Kind, valkey: Server) -> None:
    assert b" db=3 " in await kind.connect(f"redis://127.0.0.1:{valkey.port}/3").command("CLIENT", "INFO")
    with pytest.raises(RedisError, match="DB index"):
        await kind.connect(f"redis://127.0.0.1:{valkey.port}/99").command("PING")
    with pytest.raises(ConfigurationError, match="Redis URL"):
        kind.connect("http://localhost")


@over_each
async def test_a_unix_socket_serves_as_well(kind: Kind, valkey: Server) -> None:
    assert await kind.connect(valkey.socket_url).command("PING") == b"PONG"


@over_shared
async def test_the_representation_tells_the_state(kind: Shared, valkey: Server) -> None:
    transport = kind.connect(valkey.url)
    name = {"gevent": "GeventTransport", "asyncio": "AsyncTransport"}[kind.name]
    assert repr(transport) == (
        f"<{name} redis://127.0.0.1:{valkey.port}/0 not connected, 0 in flight, 0 calls in 0 writes, 0 reconnects>"
    )
    await transport.command("PING")
    writes = transport.writes
    assert f"/0 connected, 0 in flight, 1 calls in {writes} writes, 0 reconnects>" in repr(transport)
    assert writes in ({2} if kind.name == "gevent" else {1, 2})


# TLS


@over_shared
async def test_tls_carries_large_and_small_calls_alike(kind: Shared, tls_url: str) -> None:
    transport = kind.connect(tls_url)
    payloads = [bytes([number]) * 2_000_000 for number in range(16)]
    words = [b"%d" % number for number in range(200)]
    assert await kind.together(*[transport.command("ECHO", word) for word in payloads + words]) == payloads + words
    before = transport.writes
    await kind.together(*[transport.command("ECHO", word) for word in words])
    assert (transport.writes, transport.connections) == (before + 1, 1)
    assert [await transport.command("ECHO", word) for word in words] == words


@over_each
async def test_a_certificate_that_nobody_vouches_for_is_refused(kind: Kind, tls_url: str) -> None:
    with pytest.raises(UnavailableError, match="certificate"):
        await kind.connect(tls_url.partition("?")[0]).command("PING")
