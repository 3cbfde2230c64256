"""Replies that cannot be those to their calls: everyone is told in time, and the link they came on is given up."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.kinds import Kind, Shared, outcome, over_each, over_shared
from support.scripted import ThreadedServer, encoded, unpacked
from support.scripted import echo as threaded_echo
from support.scripted import reply_once as threaded_reply_once
from support.scripted_async import PATIENT_S, Peer, echo, reply_once
from support.scripted_proxy import LIES, LyingProxy
from support.servers import Server

from featurestore import Definition, FeatureStore, SyncTransport
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import (
    APPLY_SCHEMA,
    CLEAR_HASHES,
    DELETE_ENTITY,
    DROP_ENTITY,
    FREE_NAMES,
    GET_FEATURES,
    GET_FEATURES_BATCH,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    REPACK_ROWS,
    REPLACE_ROWS,
    RETIRE_FEATURES,
    SWEEP_MEMBERS,
    UPSERT_FEATURES,
    Script,
)
from featurestore.errors import BadReplyError, FeatureStoreError, InDoubtError, NoSchemaError
from featurestore.transport import backoff, reconnect

ROW_KEYS, ROWS_KEYS = ("a", "b", "c"), ("a", "b", "c", "d")  # of one entity, of two
OWN_KEYS = ("all_users", "user:schema", "user:x:features")

SCHEMA_SCRIPTS = (APPLY_SCHEMA, RETIRE_FEATURES, DROP_ENTITY, CLEAR_HASHES, FREE_NAMES)

lies = pytest.mark.parametrize("lie", LIES.values(), ids=LIES)


# What scripts and commands may answer

AGED = [b"\x91\x01", 5, 1, b"P", [5]]
"""A row with its metadata."""


@pytest.mark.parametrize(
    ("script", "good", "bad"),
    [
        (
            GET_FEATURES,
            [None, b"\x91\x01", b"abcdefgh\x91\x01", b"\xdc\x00\x01\x01", [b"abcdefgh\x91\x01", b"\x91\x01"], AGED,
             [*AGED, b"\x91\x01"]],
            [b"", b"x", b"OK", 1, [], [b"\x91\x01"], [b"\x91\x01", b"x"], [b"\x91\x01", None], [b"\x91\x01"] * 3,
             AGED[:4], [*AGED, None], [*AGED, b"x"], [*AGED, b"\x91\x01", b"\x91\x01"]],
        ),
        (
            GET_FEATURES_BATCH,
            [[None, None], [b"x", None], b"\x92\xc0\xc0", b"\xdc\x00\x02\xc0\xc0", b"\xdd\x00\x00\x00\x02\xc0\xc0",
             [[b"\x91\x01", b"\x90"], None], [AGED, None], [[*AGED, b"\x90"], AGED]],
            [None, 2, b"", b"OK", b"\x91\xc0", b"\xdc\x00", [],
             [None], [None] * 3, [b"x", 1], [b"x", [b"x"]], [b"x", 0],
             [None, 0], [AGED, 0], [AGED, b"\x91\x01"], [AGED, [b"\x91\x01", b"\x90"]], [[b"\x91\x01"], None]],
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
            for script in (*SCHEMA_SCRIPTS, DELETE_ENTITY, REPACK_ROWS, SWEEP_MEMBERS)
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


def test_zero_stands_for_a_row_where_the_call_says_how_many_values_it_may_make() -> None:
    call = encode_call(GET_FEATURES_BATCH, ROWS_KEYS, ("2", "?most=5", "@0123456", "a", "b"))
    answers = GET_FEATURES_BATCH.answers([call])
    for good in ([b"x", 0], [[b"\x91\x01", b"\x90"], 0], [AGED, 0], [None, 0], [b"x", None]):
        assert answers.misfit([good]) is None
    for bad in ([b"x", 1], [b"x", b"x", 0], [0, b"x", AGED], [AGED, [0]], 0):
        assert answers.misfit([bad]) is not None


# Calls over each transport


@lies
@over_each
async def test_a_read_that_gets_a_lie_is_repeated_on_another_connection(kind: Kind, lie: bytes) -> None:
    async with kind.server(reply_once(lie), echo) as server:
        transport = kind.connect(server.url)
        assert await kind.read(transport, "x") == b"x"
        assert (len(server.received), server.accepted) == (2, 2)


@lies
@over_each
async def test_a_batch_that_gets_a_lie_is_repeated_on_another_connection(kind: Kind, lie: bytes) -> None:
    answer = b"\x92\xc0\xc0"
    call = encode_call(GET_FEATURES_BATCH, ROWS_KEYS, (answer,))
    async with kind.server(reply_once(lie), echo) as server:
        transport = kind.connect(server.url)
        assert await transport.run_many_encoded(GET_FEATURES_BATCH, [call] * 3) == [answer] * 3
        assert server.accepted == 2


@lies
@over_each
async def test_a_write_that_gets_a_lie_is_unknown_and_not_repeated(kind: Kind, lie: bytes) -> None:
    async with kind.server(reply_once(lie), echo) as server:
        transport = kind.connect(server.url)
        with pytest.raises(InDoubtError, match="whether the write took place is unknown"):
            await kind.write(transport, "x")
        assert len(server.received) == 1
        assert await kind.write(transport, "y") == b"y"
        assert server.accepted == 2


@lies
@over_each
async def test_a_lie_after_a_lie_costs_one_more_connection(kind: Kind, lie: bytes) -> None:
    async with kind.server(reply_once(lie), reply_once(lie), echo) as server:
        transport = kind.connect(server.url)
        with pytest.raises(InDoubtError, match="whether the write took place is unknown"):
            await kind.write(transport, "x")
        assert len(server.received) == 1
        kind.without_pause(transport)
        assert await kind.read(transport, "y") == b"y"
        assert (len(server.received), server.accepted) == (3, 3)
        call = encode_call(GET_FEATURES_BATCH, ROWS_KEYS, (b"\x92\xc0\xc0",))
        assert await transport.run_many_encoded(GET_FEATURES_BATCH, [call] * 3) == [b"\x92\xc0\xc0"] * 3


@over_each
async def test_a_server_that_goes_on_lying_is_told_of(kind: Kind) -> None:
    async def lie(peer: Peer) -> None:
        while await peer.command():
            peer.send(b":1\r\n")

    async with kind.server(lie) as server:
        transport = kind.connect(server.url)
        with pytest.raises(BadReplyError, match="cannot be a reply to get_features: the number 1"):
            await transport.run(GET_FEATURES, ROW_KEYS, ("x",))
        assert len(server.received) == 2


@pytest.mark.parametrize("command", [("HGETALL", "k"), ("SCARD", "k"), ("SSCAN", "k", "0"), ("TIME",), ("ECHO", "x")])
@over_each
async def test_a_command_that_gets_a_lie_says_so(kind: Kind, command: tuple[str, ...]) -> None:
    async with kind.server(reply_once(b"%1\r\n+a\r\n:1\r\n"), echo) as server:
        transport = kind.connect(server.url)
        with pytest.raises(BadReplyError, match=f"cannot be a reply to {command[0]}: a dict"):
            await transport.command(*command)
        assert await transport.command("ECHO", "y") == b"y"
        assert server.accepted == 2


@lies
def test_a_stream_of_writes_that_gets_a_lie_ends(lie: bytes) -> None:
    call = encode_call(INCREMENT_FEATURES, ROW_KEYS, (encoded("x"),))

    def lie_second(peer: Any) -> None:
        word = peer.command()[-1]
        peer.send(b"$%d\r\n%s\r\n" % (len(word), word))
        threaded_reply_once(lie)(peer)

    with ThreadedServer(lie_second, threaded_echo) as server:
        transport = SyncTransport(server.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)
        replies = transport.stream([call] * 8, in_flight=4)
        assert unpacked(next(replies)) == b"x"
        with pytest.raises(BadReplyError, match="given up"):
            next(replies)
        assert [unpacked(reply) for reply in transport.stream([call] * 8, in_flight=4)] == [b"x"] * 8
        assert server.accepted == 2
        transport.close()


# Others on the same link


@over_shared
async def test_nobody_gets_the_replies_behind_a_lie(kind: Shared) -> None:
    async def out_of_step(peer: Peer) -> None:
        """Put a reply in front of all others, as a proxy that has lost count."""
        words = [(await peer.command())[-1] for _ in range(6)]
        peer.send(b"+OK\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        await peer.command()

    async with kind.server(out_of_step, echo) as server:
        transport = kind.connect(server.url)
        calls = [kind.read(transport, f"{number}") for number in range(5)]
        *read, written = await kind.together(*calls, kind.write(transport, "w"))
        assert read == [b"%d" % number for number in range(5)]
        assert isinstance(cause_of(written), BadReplyError)
        assert [unpacked(command[-1]) for command in server.received].count(b"w") == 1


@over_shared
async def test_a_lie_to_a_call_that_was_given_up_ends_the_link_too(kind: Shared) -> None:
    go = kind.event()

    async def late(peer: Peer) -> None:
        await peer.command()
        await go.wait()
        peer.send(b":1\r\n")
        await echo(peer)

    async with kind.server(late, echo) as server:
        transport = kind.connect(server.url)
        given_up = kind.start(transport.run(GET_FEATURES, ROW_KEYS, ("x",)))
        await kind.eventually(lambda: len(server.received) == 1)
        await kind.stop(given_up)
        go.set()
        await kind.eventually(lambda: "not connected" in repr(transport))
        assert await kind.read(transport, "y") == b"y"


@over_shared
async def test_a_reply_nobody_waits_for_ends_the_link(kind: Shared) -> None:
    go = kind.event()

    async def chatty(peer: Peer) -> None:
        word = (await peer.command())[-1]
        peer.send(b"$%d\r\n%s\r\n" % (len(word), word))
        await go.wait()
        peer.send(b"+nobody asked\r\n")
        await echo(peer)

    async with kind.server(chatty, echo) as server:
        transport = kind.connect(server.url)
        assert await transport.command("ECHO", "x") == b"x"
        go.set()
        await kind.eventually(lambda: "not connected" in repr(transport))
        assert await transport.command("ECHO", "y") == b"y"
        assert server.accepted == 2


@over_shared
async def test_a_server_that_lies_again_and_again_is_asked_less_and_less(
    kind: Shared, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    for module in (backoff, reconnect):
        monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    async with kind.server(reply_once(b":1\r\n")) as server:
        transport = kind.connect(server.url)
        for _ in range(200):  # in half a second
            assert isinstance(await outcome(transport.run(GET_FEATURES, ROW_KEYS, ("x",))), BadReplyError)
            clock[0] += 0.0025
        assert server.accepted < 12  # pauses of 25, 50, 100 ms … at least
        told = [record.getMessage() for record in caplog.records if record.name == "featurestore"]
        assert [line for line in told if "Redis at" in line] == told
        assert len(told) == 1


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


def cause_of(result: Any) -> Any:
    """Return why a call failed; a write that fails for that reason is in doubt."""
    return result.__cause__ if isinstance(result, InDoubtError) else result


def check(name: str, lie: str, result: Any) -> None:
    """Fail where a call that met a lie has another end than the package's error for that."""
    if not (name in NOT_FOR_ALL.get(lie, ()) and isinstance(result, bool)):
        assert isinstance(cause_of(result), BadReplyError), (name, result)


@pytest.mark.parametrize("lie", LIES)
@over_each
async def test_every_call_of_a_store_ends_with_the_packages_error(kind: Kind, proxy: LyingProxy, lie: str) -> None:
    transport = kind.connect(proxy.url)
    store = kind.store(transport)
    right = await store.get_many(["u0", "nobody"])
    for name, call in CALLS.items():
        proxy.lie = LIES[lie]
        check(name, lie, await outcome(call(store)))
        proxy.lie = None
        kind.without_pause(transport)
    assert await store.get_many(["u0", "nobody"]) == right == [{"n": 0, "name": None, "hits": 0}, None]
    assert await store.get("u0") == right[0]
    proxy.lie, proxy.commands = b"*1\r\n$1\r\nx\r\n", (b"HGETALL", b"SCARD")
    assert isinstance(await outcome(store.schema()), BadReplyError)
    kind.without_pause(transport)
    assert isinstance(await outcome(store.count()), BadReplyError)
    proxy.lie = None
    kind.without_pause(transport)
    assert await store.count() == 3


@over_each
async def test_a_damaged_row_is_an_error_and_no_reason_to_give_up_the_link(kind: Kind, valkey: Server) -> None:
    transport = kind.connect(valkey.url)
    store = kind.store(transport)
    await store.apply(Definition({"n": "int", "name": "string"}))
    await store.upsert([("u1", {"n": 1}), ("u2", {"n": 2})])
    client = await transport.command("CLIENT", "ID")
    row = await transport.command("HGET", "user:u1:features", "@row")
    for damage in (
        row[:8] + b"\x92\xc1",
        row[:9],
        row[:8] + b"\x92\xa1x\xa1x",
        row[:8] + b"\x92\x01\xa1\xff",
        row + b"\x01",
    ):
        await transport.command("HSET", "user:u1:features", "@row", damage)
        with pytest.raises(BadReplyError, match="cannot be read"):
            await store.get("u1")
        with pytest.raises(BadReplyError, match="cannot be read"):
            await store.get_many(["u2", "u1"])
        assert await store.get("u2") == {"n": 2, "name": None}
    assert await transport.command("CLIENT", "ID") == client


@over_each
async def test_scripts_that_are_loaded_as_others_end_the_link(kind: Kind, valkey: Server) -> None:
    with LyingProxy(valkey.port, b"SCRIPT") as proxy:
        proxy.lie = b"$40\r\n" + b"0" * 40 + b"\r\n"
        transport = kind.connect(proxy.url)
        written = transport.run(INCREMENT_FEATURES, ROW_KEYS, ("x", "", "n", "1"))
        assert isinstance(cause_of(await outcome(written)), BadReplyError)
        proxy.lie = None
        kind.without_pause(transport)
        assert isinstance(await outcome(transport.run(GET_FEATURES, OWN_KEYS, ("x", "n"))), NoSchemaError)
        assert (proxy.told > 0, proxy.accepted) == (True, 2)
        await transport.close()
