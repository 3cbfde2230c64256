"""Big requests on a shared connection: they take turns, and those that cannot be answered in time are refused."""

from typing import Any

import pytest
from support.kinds import Kind, Shared, outcome, over_each, over_shared
from support.scripted import encoded, unpacked
from support.scripted_async import Behaviour, Peer, echo, ignore

from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import GET_FEATURES
from featurestore.errors import DeadlineExceededError, OverloadedError, UnavailableError

MS = 1000.0  # µs


def calls_of(name: str, count: int) -> list[bytes]:
    """Return calls that `answer` answers by their names and numbers."""
    return [encode_call(GET_FEATURES, ("a", "b", "c"), (encoded(f"{name}{number}"),)) for number in range(count)]


def many(transport: Any, name: str, count: int, each_us: float) -> Any:
    return transport.run_many_encoded(GET_FEATURES, calls_of(name, count), each_us=each_us)


def names(replies: Any) -> Any:
    """Return the names and numbers in replies; an error as it is."""
    return [unpacked(reply).decode() for reply in replies] if isinstance(replies, list) else replies


def echo_from(go: Any) -> Behaviour:
    """Return what takes one command, answers it once `go` is set, and answers all others at once."""

    async def behave(peer: Peer) -> None:
        first = (await peer.command())[-1]
        await go.wait()
        peer.send(b"$%d\r\n%s\r\n" % (len(first), first))
        await echo(peer)

    return behave


def words(server: Any) -> list[str]:
    """Return the words of the calls that have arrived."""
    return [unpacked(command[-1]).decode() for command in server.received]


@over_each
async def test_replies_come_in_the_order_of_the_calls(kind: Kind) -> None:
    async with kind.server(echo) as server:
        transport = kind.connect(server.url)
        replies = await many(transport, "a", 25, MS)
        assert names(replies) == [f"a{number}" for number in range(25)]
        assert await many(transport, "b", 1, 5 * MS) == [encoded("b0")]


@over_shared
async def test_small_calls_pass_a_giant(kind: Shared) -> None:
    go = kind.event()

    async with kind.server(echo_from(go)) as server:
        transport = kind.connect(server.url)
        giant = kind.start(many(transport, "giant", 40, MS))
        await kind.eventually(lambda: server.received)
        small = kind.start(kind.read(transport, "small"))
        batch = kind.start(many(transport, "batch", 2, 0.4 * MS))
        await kind.sleep(0.01)
        assert words(server) == ["giant0"]
        go.set()
        assert (await small, names(await batch)) == (b"small", ["batch0", "batch1"])
        assert len(await giant) == 40
        arrived = words(server)
        assert arrived.index("small") <= 2
        assert arrived.index("batch1") <= 6
        assert [word for word in arrived if word.startswith("giant")] == [f"giant{number}" for number in range(40)]
        assert server.accepted == 1


@over_shared
async def test_a_connection_that_answers_is_alive_however_long_it_takes(kind: Shared) -> None:
    async def slow(peer: Peer) -> None:
        while True:
            word = (await peer.command())[-1]
            await kind.sleep(0.2)
            peer.send(b"$%d\r\n%s\r\n" % (len(word), word))

    async with kind.server(slow) as server:
        transport = kind.connect(server.url, timeout=0.5)
        assert len(await many(transport, "a", 7, MS)) == 7  # 1.4 s
        assert server.accepted == 1


@over_shared
async def test_what_cannot_be_in_time_is_refused_and_the_rest_is_answered(kind: Shared) -> None:
    go = kind.event()

    async def behave(peer: Peer) -> None:
        await go.wait()
        await echo(peer)

    async with kind.server(behave) as server:
        transport = kind.connect(server.url, timeout=1.0)
        tasks = [kind.start(many(transport, f"n{number}x", 200, MS)) for number in range(12)]
        await kind.eventually(lambda: transport.in_flight > 0)
        await kind.sleep(0.02)
        go.set()
        outcomes = [await task for task in tasks]
        refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
        assert 3 <= len(refused) <= 6  # those that would wait more than 1 s, beside twice their own 200 ms
        assert all(len(outcome) == 200 for outcome in outcomes if isinstance(outcome, list))
        assert len(server.received) == 200 * (12 - len(refused))


@over_shared
async def test_calls_whose_callers_have_gone_are_not_sent(kind: Shared) -> None:
    go = kind.event()

    async with kind.server(echo_from(go)) as server:
        transport = kind.connect(server.url)
        gone = kind.start(many(transport, "gone", 40, MS))
        kept = kind.start(many(transport, "kept", 2, MS))
        await kind.eventually(lambda: server.received)
        await kind.stop(gone)
        go.set()
        assert names(await kept) == ["kept0", "kept1"]
        assert words(server) == ["gone0", "kept0", "kept1"]
        assert await kind.read(transport, "next") == b"next"


@over_shared
async def test_calls_that_redis_does_not_answer_in_time_are_not_repeated(kind: Shared) -> None:
    async with kind.server(ignore, echo) as server:
        transport = kind.connect(server.url, timeout=0.05)
        first = kind.start(many(transport, "a", 20, MS))
        second = kind.start(kind.read(transport, "b"))
        assert isinstance(await first, DeadlineExceededError)
        assert isinstance(await second, DeadlineExceededError)

        asked = words(server)

        async def served() -> bool:
            return bool(await outcome(kind.read(transport, "again")) == b"again")

        await kind.eventually(served)
        assert set(words(server)[len(asked) :]) == {"again"}


@over_shared
async def test_a_big_read_is_repeated_once_when_the_connection_breaks(kind: Shared) -> None:
    async def break_off(peer: Peer) -> None:
        word = (await peer.command())[-1]
        peer.send(b"$%d\r\n%s\r\n" % (len(word), word))
        await peer.command()

    async with kind.server(break_off, echo) as server:
        transport = kind.connect(server.url)
        assert names(await many(transport, "a", 5, MS)) == [f"a{number}" for number in range(5)]
        assert server.accepted == 2


@over_shared
async def test_closing_ends_what_waits_for_its_turn(kind: Shared) -> None:
    async with kind.server(ignore) as server:
        transport = kind.connect(server.url)
        tasks = [kind.start(many(transport, "a", 5, MS)) for _ in range(3)]
        await kind.eventually(lambda: server.received)
        await transport.close()
        for task in tasks:
            assert isinstance(await task, UnavailableError)


@pytest.mark.parametrize("error", ["NOSCRIPT No matching script.", "ERR no"])
@over_shared
async def test_an_error_in_place_of_a_reply_does_not_stop_the_others(kind: Shared, error: str) -> None:
    answered = 0

    async def behave(peer: Peer) -> None:
        nonlocal answered
        while True:
            word = (await peer.command())[-1]
            answered += 1
            peer.send(b"-%s\r\n" % error.encode() if answered == 2 else b"$%d\r\n%s\r\n" % (len(word), word))

    async with kind.server(behave) as server:
        transport = kind.connect(server.url)
        replies = await many(transport, "a", 4, MS)
        if error.startswith("NOSCRIPT"):
            assert names(replies) == ["a0", "a1", "a2", "a3"]
            assert words(server) == ["a0", "a1", "a2", "a3", "a1"]
        else:
            assert [str(reply) == error for reply in replies] == [False, True, False, False]
