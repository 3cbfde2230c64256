"""Replies that cannot be those to their calls: everyone is told in time, and the link they came on is given up."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import gevent
import pytest
from support.scripted import ScriptedServer, ThreadedServer, echo, encoded, eventually, reply_once, unpacked
from support.scripted_async import Connect, in_a_loop
from support.scripted_async import ScriptedServer as AsyncScriptedServer
from support.scripted_async import echo as async_echo
from support.scripted_async import reply_once as async_reply_once
from support.scripted_proxy import LIES, LyingProxy
from support.servers import Server

from featurestore import AsyncFeatureStore, Definition, FeatureStore, SyncTransport
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import (
    APPLY_SCHEMA,
    DELETE_ENTITY,
    GET_FEATURES,
    GET_FEATURES_BATCH,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    REPACK_ROWS,
    REPLACE_ROWS,
    SWEEP_MEMBERS,
    UPSERT_FEATURES,
    Script,
)
from featurestore.errors import BadReplyError, FeatureStoreError, NoSchemaError
from featurestore.transport import reconnect
from featurestore.transport.gevent_transport import MultiplexedTransport

ROW_KEYS, ROWS_KEYS = ("a", "b", "c"), ("a", "b", "c", "d")  # of one entity, of two
PATIENT_S = 20.0

lies = pytest.mark.parametrize("lie", LIES.values(), ids=LIES)


@pytest.fixture(params=["multiplexed", "pool"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """Make transports that block, of both kinds."""
    made: list[MultiplexedTransport | SyncTransport] = []
    kind = MultiplexedTransport if request.param == "multiplexed" else SyncTransport

    def make(url: str) -> MultiplexedTransport | SyncTransport:
        made.append(kind(url, timeout=PATIENT_S, connect_timeout=PATIENT_S))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def connect_async() -> Connect:
    return Connect()


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the function returns, or the package's error that it raises."""
    try:
        return function(*arguments)
    except FeatureStoreError as error:
        return error


async def outcome_of(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except FeatureStoreError as error:
        return error


def without_pause(transport: Any) -> None:
    """Let the transport connect at once, as if what went wrong were long ago."""
    if not isinstance(transport, SyncTransport):
        transport._backoff.reset(at_once=True)
        transport._false_at = -PATIENT_S


# What scripts and commands may answer


@pytest.mark.parametrize(
    ("script", "good", "bad"),
    [
        (
            GET_FEATURES,
            [None, b"\x91\x01", b"abcdefgh\x91\x01", b"\xdc\x00\x01\x01"],
            [b"", b"x", b"OK", 1, [], [b"\x91\x01"]],
        ),
        (
            GET_FEATURES_BATCH,
            [[None, None], [b"x", None], b"\x92\xc0\xc0", b"\xdc\x00\x02\xc0\xc0", b"\xdd\x00\x00\x00\x02\xc0\xc0"],
            [None, 2, b"", b"OK", b"\x91\xc0", b"\xdc\x00", [], [None], [None] * 3, [b"x", 1], [b"x", [b"x"]]],
        ),
        (
            UPSERT_FEATURES,
            [[2, 0, []], [0, 1, [[1, b"BADID", b"why"]]], [1, 1, [], b"AS"]],
            [None, 2, b"OK", [], [2, 0], [1, 0, []], [3, -1, []], [True, 1, []], [2, 0, [], b"A"], [2, 0, [], 2],
             [2, 0, [], b"AA", b""], [1, 0, [[2, b"a", b"b"]]], [1, 0, [[0, b"a"]]], [1, 0, [[0, b"a", 1]]],
             [1, 0, [b"x"]]],
        ),
        (RECORD_EVENTS, [[1, 1, [], b"AS"]], [1, [1, 1]]),
        (
            REPLACE_ROWS,
            [[2, []], [1, [0]], [0, [0, 1]]],
            [2, [2], [2, 5, []], [1, []], [1, [2]], [1, [b"0"]], [1, [-1]], [2, [], 1]],
        ),
        (INCREMENT_FEATURES, [None, b"\x91\x01"], [b"x", 1, [b"\x91\x01"]]),
        *(
            (script, [0, 1, -1], [None, b"1", [1], 1.0, True])
            for script in (APPLY_SCHEMA, DELETE_ENTITY, REPACK_ROWS, SWEEP_MEMBERS)
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Script) else "",
)  # fmt: skip
def test_each_script_has_replies_that_it_may_give(script: Script, good: list[Any], bad: list[Any]) -> None:
    call = encode_call(script, ROWS_KEYS, ("x",))
    judged = {True: good, False: bad}
    for fits, replies in judged.items():
        assert [script.answers([call]).misfit([reply]) is None for reply in replies] == [fits] * len(replies)
    assert script.answers([call]).misfit([FeatureStoreError("any")]) is None


# Calls over each transport


@lies
def test_a_read_that_gets_a_lie_is_repeated_on_another_connection(connect: Callable[[str], Any], lie: bytes) -> None:
    with ThreadedServer(reply_once(lie), echo) as server:
        transport = connect(server.url)
        assert unpacked(transport.run(GET_FEATURES, ROW_KEYS, (encoded("x"),))) == b"x"
        assert (len(server.received), server.accepted) == (2, 2)


@lies
def test_a_batch_that_gets_a_lie_is_repeated_on_another_connection(connect: Callable[[str], Any], lie: bytes) -> None:
    answer = b"\x92\xc0\xc0"
    with ThreadedServer(reply_once(lie), echo) as server:
        transport = connect(server.url)
        assert transport.run_many(GET_FEATURES_BATCH, [(ROWS_KEYS, (answer,))] * 3) == [answer] * 3
        assert server.accepted == 2


@lies
def test_a_write_that_gets_a_lie_is_unknown_and_not_repeated(connect: Callable[[str], Any], lie: bytes) -> None:
    with ThreadedServer(reply_once(lie), echo) as server:
        transport = connect(server.url)
        with pytest.raises(BadReplyError, match="whether a write on it took place is unknown"):
            transport.run(INCREMENT_FEATURES, ROW_KEYS, (encoded("x"),))
        assert len(server.received) == 1
        assert unpacked(transport.run(INCREMENT_FEATURES, ROW_KEYS, (encoded("y"),))) == b"y"
        assert server.accepted == 2


def test_a_server_that_goes_on_lying_is_told_of(connect: Callable[[str], Any]) -> None:
    def lie(peer: Any) -> None:
        while peer.command():
            peer.send(b":1\r\n")

    with ThreadedServer(lie) as server:
        transport = connect(server.url)
        with pytest.raises(BadReplyError, match="cannot be a reply to get_features: the number 1"):
            transport.run(GET_FEATURES, ROW_KEYS, ("x",))
        assert len(server.received) == 2


@pytest.mark.parametrize("command", [("HGETALL", "k"), ("SCARD", "k"), ("SSCAN", "k", "0"), ("TIME",), ("ECHO", "x")])
def test_a_command_that_gets_a_lie_says_so(connect: Callable[[str], Any], command: tuple[str, ...]) -> None:
    with ThreadedServer(reply_once(b"%1\r\n+a\r\n:1\r\n"), echo) as server:
        transport = connect(server.url)
        with pytest.raises(BadReplyError, match=f"cannot be a reply to {command[0]}: a dict"):
            transport.command(*command)
        assert transport.command("ECHO", "y") == b"y"
        assert server.accepted == 2


@lies
def test_a_stream_of_writes_that_gets_a_lie_ends(lie: bytes) -> None:
    call = encode_call(INCREMENT_FEATURES, ROW_KEYS, (encoded("x"),))

    def lie_second(peer: Any) -> None:
        word = peer.command()[-1]
        peer.send(b"$%d\r\n%s\r\n" % (len(word), word))
        reply_once(lie)(peer)

    with ThreadedServer(lie_second, echo) as server:
        transport = SyncTransport(server.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)
        replies = transport.stream([call] * 8, in_flight=4)
        assert unpacked(next(replies)) == b"x"
        with pytest.raises(BadReplyError, match="unknown"):
            next(replies)
        assert [unpacked(reply) for reply in transport.stream([call] * 8, in_flight=4)] == [b"x"] * 8
        assert server.accepted == 2
        transport.close()


@lies
@in_a_loop
async def test_lies_to_tasks(connect_async: Connect, lie: bytes) -> None:
    async with AsyncScriptedServer(async_reply_once(lie), async_reply_once(lie), async_echo) as server:
        transport = connect_async(server.url)
        with pytest.raises(BadReplyError, match="whether a write on it took place is unknown"):
            await transport.run(INCREMENT_FEATURES, ROW_KEYS, (encoded("x"),))
        assert len(server.received) == 1
        without_pause(transport)
        assert unpacked(await transport.run(GET_FEATURES, ROW_KEYS, (encoded("y"),))) == b"y"
        assert (len(server.received), server.accepted) == (3, 3)
        assert (
            await transport.run_many(GET_FEATURES_BATCH, [(ROWS_KEYS, (b"\x92\xc0\xc0",))] * 3) == [b"\x92\xc0\xc0"] * 3
        )


# Others on the same link


def out_of_step(peer: Any) -> None:
    """Put a reply in front of all others, as a proxy that has lost count."""
    words = [peer.command()[-1] for _ in range(6)]
    peer.send(b"+OK\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    peer.command()


def test_nobody_gets_the_replies_behind_a_lie() -> None:
    with ScriptedServer(out_of_step, echo) as server:
        transport = MultiplexedTransport(server.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)
        calls = [(GET_FEATURES, ROW_KEYS, (encoded(f"{number}"),)) for number in range(5)]
        waiting = [gevent.spawn(outcome, transport.run, *call) for call in calls]
        written = gevent.spawn(outcome, transport.run, INCREMENT_FEATURES, ROW_KEYS, (encoded("w"),))
        gevent.joinall([*waiting, written], timeout=PATIENT_S)
        assert [unpacked(each.value) for each in waiting] == [b"%d" % number for number in range(5)]
        assert isinstance(written.value, BadReplyError)
        assert [unpacked(command[-1]) for command in server.received].count(b"w") == 1
        transport.close()


@in_a_loop
async def test_no_task_gets_the_replies_behind_a_lie(connect_async: Connect) -> None:
    async def out_of_step(peer: Any) -> None:
        words = [(await peer.command())[-1] for _ in range(6)]
        peer.send(b"+OK\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        await peer.command()

    async with AsyncScriptedServer(out_of_step, async_echo) as server:
        transport = connect_async(server.url)
        calls = [transport.run(GET_FEATURES, ROW_KEYS, (encoded(f"{number}"),)) for number in range(5)]
        write = transport.run(INCREMENT_FEATURES, ROW_KEYS, (encoded("w"),))
        *read, written = await asyncio.gather(*map(outcome_of, [*calls, write]))
        assert [unpacked(each) for each in read] == [b"%d" % number for number in range(5)]
        assert isinstance(written, BadReplyError)
        assert [unpacked(command[-1]) for command in server.received].count(b"w") == 1


def test_a_lie_to_a_call_that_was_given_up_ends_the_link_too() -> None:
    go = gevent.event.Event()

    def late(peer: Any) -> None:
        peer.command()
        go.wait()
        peer.send(b":1\r\n")
        echo(peer)

    with ScriptedServer(late, echo) as server:
        transport = MultiplexedTransport(server.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)
        given_up = gevent.spawn(transport.run, GET_FEATURES, ROW_KEYS, ("x",))
        eventually(lambda: len(server.received) == 1)
        given_up.kill()
        go.set()
        eventually(lambda: "not connected" in repr(transport))
        assert unpacked(transport.run(GET_FEATURES, ROW_KEYS, (encoded("y"),))) == b"y"
        transport.close()


def test_a_reply_nobody_waits_for_ends_the_link() -> None:
    go = gevent.event.Event()

    def chatty(peer: Any) -> None:
        word = peer.command()[-1]
        peer.send(b"$%d\r\n%s\r\n" % (len(word), word))
        go.wait()
        peer.send(b"+nobody asked\r\n")
        echo(peer)

    with ScriptedServer(chatty, echo) as server:
        transport = MultiplexedTransport(server.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)
        assert transport.command("ECHO", "x") == b"x"
        go.set()
        eventually(lambda: "not connected" in repr(transport))
        assert transport.command("ECHO", "y") == b"y"
        assert server.accepted == 2
        transport.close()


def test_a_server_that_lies_again_and_again_is_asked_less_and_less(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(reconnect, "monotonic", lambda: clock[0])
    with ScriptedServer(reply_once(b":1\r\n")) as server:
        transport = MultiplexedTransport(server.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)
        for _ in range(200):  # in half a second
            assert isinstance(outcome(transport.run, GET_FEATURES, ROW_KEYS, ("x",)), BadReplyError)
            clock[0] += 0.0025
        assert server.accepted < 12  # pauses of 25, 50, 100 ms … at least
        assert [line for line in caplog.messages if "Redis at" in line] == caplog.messages
        assert len(caplog.messages) == 1
        transport.close()


# Stores


@pytest.fixture
def proxy(valkey: Server) -> Iterator[LyingProxy]:
    """A proxy before a Valkey with three users."""
    with FeatureStore(SyncTransport(valkey.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)) as store:
        store.apply(Definition({"n": "int", "name": "string", "hits": "count(10m)"}))
        store.upsert([(f"u{number}", {"n": number}) for number in range(3)])
    with LyingProxy(valkey.port) as running:
        yield running


NOT_FOR_ALL = {"number": {"delete"}}  # where a lie might be the truth

CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda store: store.get("u1"),
    "get some": lambda store: store.get("u1", ["n"]),
    "get_many": lambda store: store.get_many(["u1", "u2"]),
    "get_many some": lambda store: store.get_many(["u1", "u2"], ["n"]),
    "get_many of many": lambda store: store.get_many(["u1", "u2"] * 120),
    "describe_many": lambda store: store.describe_many(["u1", "u2"]),
    "query": lambda store: store.query([{"user": "u1"}, {"user": "u2"}], ["n"]),
    "upsert": lambda store: store.upsert([("u1", {"n": 1}), ("u2", {"n": 2})]),
    "record": lambda store: store.record([("u1", {}), ("u2", {})]),
    "increment": lambda store: store.increment("u1", {"n": 1}),
    "delete": lambda store: store.delete("nobody"),
}


def check(name: str, kind: str, result: Any) -> None:
    """Fail where a call that met a lie has another end than the package's error for that."""
    if not (name in NOT_FOR_ALL.get(kind, ()) and isinstance(result, bool)):
        assert isinstance(result, BadReplyError), (name, result)


@pytest.mark.parametrize("kind", LIES)
def test_every_call_of_a_store_ends_with_the_packages_error(
    connect: Callable[[str], Any], proxy: LyingProxy, kind: str
) -> None:
    store = FeatureStore(connect(proxy.url))
    right = store.get_many(["u0", "nobody"])
    for name, call in CALLS.items():
        proxy.lie = LIES[kind]
        check(name, kind, outcome(call, store))
        proxy.lie = None
        without_pause(store.transport)
    assert store.get_many(["u0", "nobody"]) == right == [{"n": 0, "name": None, "hits": 0}, None]
    proxy.lie, proxy.commands = b"*1\r\n$1\r\nx\r\n", (b"HGETALL", b"SCARD")
    assert isinstance(outcome(store.schema), BadReplyError)
    without_pause(store.transport)
    assert isinstance(outcome(store.count), BadReplyError)
    proxy.lie = None
    without_pause(store.transport)
    assert store.count() == 3


@pytest.mark.parametrize("kind", LIES)
@in_a_loop
async def test_every_call_of_an_async_store_ends_with_the_packages_error(
    connect_async: Connect, proxy: LyingProxy, kind: str
) -> None:
    transport = connect_async(proxy.url)
    store = AsyncFeatureStore(transport)
    right = await store.get("u0")
    for name, call in CALLS.items():
        proxy.lie = LIES[kind]
        check(name, kind, await outcome_of(call(store)))
        proxy.lie = None
        without_pause(transport)
    assert await store.get("u0") == right == {"n": 0, "name": None, "hits": 0}


def test_a_damaged_row_is_an_error_and_no_reason_to_give_up_the_link(
    valkey: Server, connect: Callable[[str], Any]
) -> None:
    store = FeatureStore(connect(valkey.url))
    store.apply(Definition({"n": "int", "name": "string"}))
    store.upsert([("u1", {"n": 1}), ("u2", {"n": 2})])
    client = store.transport.command("CLIENT", "ID")
    row = store.transport.command("HGET", "user:u1:features", "@row")
    for damage in (
        row[:8] + b"\x92\xc1",
        row[:9],
        row[:8] + b"\x92\xa1x\xa1x",
        row[:8] + b"\x92\x01\xa1\xff",
        row + b"\x01",
    ):
        store.transport.command("HSET", "user:u1:features", "@row", damage)
        for call in (lambda: store.get("u1"), lambda: store.get_many(["u2", "u1"])):
            with pytest.raises(BadReplyError, match="cannot be read"):
                call()
        assert store.get("u2") == {"n": 2, "name": None}
    assert store.transport.command("CLIENT", "ID") == client


def test_scripts_that_are_loaded_as_others_end_the_link(valkey: Server, connect: Callable[[str], Any]) -> None:
    with LyingProxy(valkey.port, b"SCRIPT") as proxy:
        proxy.lie = b"$40\r\n" + b"0" * 40 + b"\r\n"
        transport = connect(proxy.url)
        assert isinstance(outcome(transport.run, INCREMENT_FEATURES, ROW_KEYS, ("x", "", "n", "1")), BadReplyError)
        proxy.lie = None
        without_pause(transport)
        assert isinstance(outcome(transport.run, GET_FEATURES, ROW_KEYS, ("x", "n")), NoSchemaError)
        assert (proxy.told > 0, proxy.accepted) == (True, 2)
