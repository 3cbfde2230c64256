"""What a stored row tells is what its fields say: each read by the row against the same read by the fields."""

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.fake import FakeTransport
from support.names import single_redis

from featurestore import Transport
from featurestore.contract.resp import Word
from featurestore.contract.scripts import (
    APPLY_SCHEMA,
    DELETE_ENTITY,
    GET_FEATURES,
    GET_FEATURES_BATCH,
    RECORD_EVENTS,
    UPSERT_FEATURES,
)

pytestmark = single_redis("calls the scripts with the names of a single Redis, and one call for several ids")

SHARED = ("all_users", "user:schema")
IDS = ("ann", "bob", "cid")
MINUTE = 60_000
HALF = 30_000  # added to limits: event times are whole minutes ago, so that no test depends on how long it takes
FORGET, LEAVE = b"\xff", b"\xfe"
OTHER_LAYOUT = b"@0000000"


def key(entity_id: str) -> str:
    return f"user:{entity_id}:features"


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


VALUES: dict[str, st.SearchStrategy[bytes]] = {
    "float": st.sampled_from([b"0.5", b"7", b"-0.0", b"4294967296", b"1e300", b"0.1", b"-2147483649", b"16777217"]),
    "int": st.sampled_from([b"0", b"7", b"-1", b"4294967296", b"9007199254740993", b"-9223372036854775808", b"70000"]),
    "bool": st.sampled_from([b"true", b"false"]),
    "string": st.sampled_from([b"", b"x", "ü".encode() * 40, b"7", b"y" * 300]),
    "float32[2]": st.sampled_from([floats(1, 2), floats(0, -0.5)]),
    "float32[64]": st.sampled_from([floats(*range(64)), floats(*[0.1] * 64)]),
}
WINDOWS = {"count(1h)": MINUTE, "sum(amount, 2h)": 2 * MINUTE}
"""Windows, and the steps in which they move, in ms."""

KINDS = (*VALUES, *WINDOWS)
limit = st.integers(1, 50).map(lambda minutes: minutes * MINUTE + HALF)
ago = st.integers(0, 60).map(lambda minutes: minutes * MINUTE)


class World(NamedTuple):
    """A schema, what was written, how much older it has become since, and what is read."""

    kinds: dict[str, str]
    rules: tuple[str, ...]
    history: list[tuple[Any, ...]]
    older: int
    named: list[str]
    max_age: int


@st.composite
def rules_for(draw: st.DrawFn, kinds: dict[str, str]) -> tuple[str, ...]:
    rules: dict[str, str] = {}
    for option in ("@ttl", "@max_age"):
        if draw(st.integers(0, 2)) == 0:
            rules[option] = str(draw(limit))
    for name, kind in kinds.items():
        if draw(st.integers(0, 3)) == 0:
            rules[f"@max_age:{name}"] = str(draw(limit))
        if kind.startswith("float32["):
            if draw(st.booleans()):
                rules[f"@always:{name}"] = "1"
        elif kind in VALUES and draw(st.integers(0, 2)) == 0:
            rules[f"@default:{name}"] = draw(VALUES[kind]).decode()
    return tuple(word for rule in rules.items() for word in rule)


@st.composite
def histories(draw: st.DrawFn, kinds: dict[str, str]) -> list[tuple[Any, ...]]:
    written = [name for name, kind in kinds.items() if kind in VALUES]
    summed = ["amount"] if any(kind.startswith("sum(") for kind in kinds.values()) else []
    marks = st.sampled_from([FORGET, LEAVE])
    history: list[tuple[Any, ...]] = []
    for _ in range(draw(st.integers(1, 6))):
        verb, of_whom = draw(st.integers(0, 5)), (draw(st.sampled_from(IDS)), draw(ago))
        if verb == 0:
            history.append(("delete", *of_whom))
        elif verb == 1 and len(written) < len(kinds):
            history.append(("record", *of_whom, summed, [b"2.5" for _ in summed]))
        elif written:
            columns = written if draw(st.booleans()) else draw(st.lists(st.sampled_from(written), unique=True))
            cells = [draw(marks if draw(st.integers(0, 5)) == 0 else VALUES[kinds[name]]) for name in columns]
            history.append(("upsert", *of_whom, columns, cells))
    return history


@st.composite
def worlds(draw: st.DrawFn) -> World:
    chosen = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=17))
    kinds = {f"f{number}": kind for number, kind in enumerate(chosen)}
    named = draw(st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=4))
    older = draw(st.integers(0, 60)) * 2 * MINUTE
    return World(kinds, draw(rules_for(kinds)), draw(histories(kinds)), older, named, draw(limit))


def clock(transport: Transport) -> int:
    seconds, micros = (int(part) for part in transport.command("TIME"))
    return seconds * 1000 + micros // 1000


def make(transport: Transport, world: World) -> None:
    """Store what the world has."""
    transport.command("FLUSHALL")
    features = [word for feature in world.kinds.items() for word in feature]
    transport.run(APPLY_SCHEMA, SHARED[1:], [*features, *world.rules])
    now = clock(transport)
    for verb, entity_id, before, *details in world.history:
        keys, time = [*SHARED, key(entity_id)], now - before
        if verb == "delete":
            transport.run(DELETE_ENTITY, keys, [entity_id, time])
        else:
            columns, cells = details
            script = UPSERT_FEATURES if verb == "upsert" else RECORD_EVENTS
            transport.run(script, keys, [time, len(columns), *columns, entity_id, *cells])
    if world.older:
        for entity_id in IDS:
            let_pass(transport, entity_id, world.older, world.kinds)


def let_pass(transport: Transport, entity_id: str, span: int, kinds: dict[str, str]) -> None:
    """Make what is stored so many ms older, as if it had been written earlier."""
    event_time, row = transport.command("HMGET", key(entity_id), "@event_time", "@row")
    if row is None or event_time is None:
        return

    def earlier(match: re.Match[bytes]) -> bytes:
        return b"%d" % (int(match[0]) - span)

    head = re.match(rb"@.{7}(\d*\|[^|]*\|)?", row, re.DOTALL)
    assert head or row == b"deleted"
    if head and head[1]:
        header = re.sub(rb"(?<![\w.-])\d+(?=[=|])", earlier, head[1])
        row = row[:8] + header + row[head.end() :]
    transport.command("HSET", key(entity_id), "@row", row, "@event_time", int(event_time) - span)
    for name, kind in kinds.items():
        buckets = kind in WINDOWS and transport.command("HGET", key(entity_id), name)
        if buckets:
            pairs = (bucket.split(b":") for bucket in buckets.split())
            moved = [b"%d:%b" % (int(number) - span // WINDOWS[kind], amount) for number, amount in pairs]
            transport.command("HSET", key(entity_id), name, b" ".join(moved))
    left = transport.command("PTTL", key(entity_id))
    if left > 0:
        transport.command("PEXPIRE", key(entity_id), left - span)


def reads(world: World, layout: str) -> Iterator[Sequence[Word]]:
    """Yield the words of each kind of read."""
    for options in ([], ["?metadata"], [f"?max_age={world.max_age}"], ["?metadata", f"?max_age={world.max_age}"]):
        yield from ([*options, layout], options, [*options, layout, *world.named], [*options, "?current", layout])


def answers(transport: Transport, words: Sequence[Word]) -> list[Any]:
    """Return what single reads and a batch answer, without ages."""
    keys = [key(entity_id) for entity_id in IDS]
    batch = transport.run(GET_FEATURES_BATCH, [*SHARED, *keys], [len(words), *words, *IDS])
    single = [transport.run(GET_FEATURES, [*SHARED, key(each)], [each, *words]) for each in IDS]
    for row in (*batch, *single):
        if isinstance(row, list) and len(row) > 2:
            assert row[2] is None or 0 <= row[2] < 200 * MINUTE
            row[2] = None
    return [*single, *batch]


def by_fields(transport: Transport, words: Sequence[Word]) -> list[Any]:
    """Return what is answered where stored rows are of another layout, so that all is made of the fields."""
    rows = {entity_id: transport.command("HGET", key(entity_id), "@row") for entity_id in IDS}
    stored = {entity_id: row for entity_id, row in rows.items() if row and row != b"deleted"}
    for entity_id, row in stored.items():
        transport.command("HSET", key(entity_id), "@row", OTHER_LAYOUT + row[8:])
    answered = answers(transport, words)
    for entity_id, row in stored.items():
        transport.command("HSET", key(entity_id), "@row", row)
    return answered


@given(worlds())
@settings(max_examples=examples(80), deadline=None, suppress_health_check=list(HealthCheck))
def test_a_stored_row_tells_what_the_fields_say(transport: Transport, world: World) -> None:
    if isinstance(transport, FakeTransport):
        pytest.skip("fakeredis takes half a second for each example")
    make(transport, world)
    layout = transport.command("HGET", "user:schema", "@layout").decode()
    for words in reads(world, layout):
        for _ in range(5):  # a window may move between two reads
            expected = by_fields(transport, words)
            told = answers(transport, words)
            if expected == by_fields(transport, words):
                break
        assert told == expected, words


# What is fetched


def declare(transport: Transport, *words: Word) -> str:
    transport.run(APPLY_SCHEMA, SHARED[1:], words)
    return str(transport.command("HGET", "user:schema", "@layout").decode())


def upsert(transport: Transport, time: int, entity_id: str, **values: Word) -> None:
    words = [time, len(values), *values, entity_id, *values.values()]
    assert transport.run(UPSERT_FEATURES, [*SHARED, key(entity_id)], words) == [1, 0, []]


def read(transport: Transport, *words: Word) -> Any:
    return transport.run(GET_FEATURES, [*SHARED, key("ann")], ["ann", *words])


def values_in(reply: bytes) -> Any:
    return msgspec.msgpack.decode(reply[8:])


def tamper(transport: Transport, **fields: Word) -> None:
    """Change fields behind the row's back, so that it shows which of both was read."""
    transport.command("HSET", key("ann"), *(word for field in fields.items() for word in field))


def test_metadata_and_ages_are_told_by_the_row(transport: Transport) -> None:
    layout = declare(
        transport, "f", "float", "i", "int", "d", "int", "@default:d", "3", "v", "float32[1]", "@always:v", "1"
    )
    now = clock(transport)
    upsert(transport, now - 10 * MINUTE, "ann", f="0.5", i="7", d="4", v=floats(2))
    upsert(transport, now - MINUTE, "ann", f="1.5")
    tamper(transport, f="9", i="9", d="9", v=floats(9))
    for words in ([], [layout]):
        row, time, age, letters, times = read(transport, "?metadata", *words)
        assert (row[:8], values_in(row)) == (layout.encode(), [1.5, 7, 4, floats(2)])
        assert (time, letters) == (now - MINUTE, b"PPPP")
        assert MINUTE <= age < 2 * MINUTE
        assert times == [now - MINUTE] + [now - 10 * MINUTE] * 3
        assert values_in(read(transport, f"?max_age={5 * MINUTE}", *words)) == [1.5, None, None, None]
        assert values_in(read(transport, f"?max_age={15 * MINUTE}", *words)) == [1.5, 7, 4, floats(2)]
    row, _, _, letters, times, named = read(transport, "?metadata", f"?max_age={5 * MINUTE}", layout, "i", "f")
    assert (values_in(row), letters) == ([1.5, None, None, None], b"PSSSSP")
    assert msgspec.msgpack.decode(named) == [None, 9]


@pytest.mark.parametrize(
    ("stored", "packed"),
    [
        ({"f": "0.5"}, b"\xca" + struct.pack(">f", 0.5) + b"\xc0"),
        ({"f": "4294967296"}, b"\xcb" + struct.pack(">d", 2**32) + b"\xc0"),
        # Such an int is made of its field: it is not exact in Lua.
        ({"f": "7", "i": "9007199254740993"}, b"\x07\xcf" + (2**53 + 1).to_bytes(8)),
    ],
)
def test_a_row_past_its_time_tells_its_values(transport: Transport, stored: dict[str, Word], packed: bytes) -> None:
    layout = declare(transport, "old", "int", "f", "float", "i", "int", "@max_age:old", str(20 * MINUTE))
    upsert(transport, clock(transport) - 15 * MINUTE, "ann", old="1", **stored)
    tamper(transport, old="9", f="9")
    assert read(transport, layout).endswith(b"\x93\x01" + packed)
    let_pass(transport, "ann", 10 * MINUTE, {})
    assert read(transport, layout) == layout.encode() + b"\x93\xc0" + packed
    assert read(transport, "?metadata")[3] == (b"SPP" if "i" in stored else b"SPM")


def test_what_a_row_does_not_tell_is_fetched(transport: Transport) -> None:
    declare(transport, "own", "int", "none", "int", "@default:own", "3", "@default:none", "3", "often", "count(1h)")
    upsert(transport, 5_000, "ann", own="3")
    assert read(transport, "?metadata")[3:] == [b"PDD", [5_000, None, None]]
    now = clock(transport)
    transport.run(RECORD_EVENTS, [*SHARED, key("ann")], [now, 0, "ann"])
    row, time, _, letters, times = read(transport, "?metadata")
    assert (values_in(row), time, letters, times) == ([3, 3, 1], now, b"PDP", [5_000, None, now])


def test_rows_that_something_else_damaged_are_made_of_the_fields(transport: Transport) -> None:
    layout = declare(transport, "f", "float", "i", "int", "v", "float32[2]", "@always:v", "1")
    upsert(transport, 5, "ann", f="0.5", i="7", v=floats(1, 2))
    good = transport.command("HGET", key("ann"), "@row")
    head = layout.encode()
    for damaged in (
        good[:-1],
        good + b"\xc0",
        head + b"\x92" + good[9:],
        head + b"\x93\xc1" + good[10:],
        head + b"\x93",
        head + b"\x93\xa1x\xa1y\xc4\x01x",
        head + b"\x93\xa1x\xa1y\xa1z",
    ):
        tamper(transport, **{"@row": damaged})
        row, _, _, letters, times = read(transport, "?metadata")
        assert (values_in(row), letters, times) == ([0.5, 7, floats(1, 2)], b"PPP", [5, 5, 5])


def test_a_read_by_layout_and_a_name_takes_one_command_an_entity(transport: Transport) -> None:
    if isinstance(transport, FakeTransport):
        pytest.skip("fakeredis keeps no command statistics")
    layout = declare(transport, *(word for number in range(40) for word in (f"f{number}", "float")), "v", "float32[2]")
    ids = [f"u{number}" for number in range(50)]
    for entity_id in ids:
        upsert(transport, 5, entity_id, v=floats(1, 2), f7="0.5")
    keys = [*SHARED, *map(key, ids)]
    for words, fetched in (
        ([layout, "v"], 1 + 50),  # the names' types, and a row with a vector for each
        (["?max_age=99999999999999", layout], 1 + 50),
        (["?metadata", layout], 2 + 50),  # all that is declared as well
    ):
        transport.command("CONFIG", "RESETSTAT")
        reply = transport.run(GET_FEATURES_BATCH, keys, [len(words), *words, *ids])
        assert len(reply) == 50
        assert None not in reply
        stats = transport.command("INFO", "commandstats").decode()
        counts = dict(re.findall(r"cmdstat_(\w+):calls=(\d+)", stats))
        assert (counts["hmget"], counts["smismember"]) == (str(fetched), "1")
        assert "hget" not in counts


# Bounded batches


@pytest.mark.parametrize("words", [["{layout}"], [], ["?metadata"], ["{layout}", "f3", "v"], ["?service=some"]])
def test_what_a_bounded_batch_leaves_is_answered_when_asked_for_again(transport: Transport, words: list[str]) -> None:
    features = [word for number in range(10) for word in (f"f{number}", "float")]
    old = declare(transport, *features, "v", "float32[2]", "@service:some", '["f1","f2","f3"]')
    ids = [f"u{number}" for number in range(30)]
    for entity_id in ids:
        upsert(transport, 5, entity_id, f3="0.5", v=floats(1, 2))
    layout = declare(transport, "new", "int")
    for entity_id in ids[::3]:
        upsert(transport, 6, entity_id, f2="1.5", new="7")
    transport.command("SREM", "all_users", *ids[::7])
    asked = [word.format(layout=layout) for word in words]
    assert old != layout

    def batch(some: list[str], *options: str) -> list[Any]:
        given = [*options, *asked]
        reply = transport.run(GET_FEATURES_BATCH, [*SHARED, *map(key, some)], [len(given), *given, *some])
        return [row[:2] + row[3:] if isinstance(row, list) and len(row) > 2 else row for row in reply]  # without ages

    expected = dict(zip(ids, batch(ids), strict=True))
    found: dict[str, Any] = {}
    left, rounds = ids, 0
    while left:
        rows = dict(zip(left, batch(left, "?most=25"), strict=True))
        assert rows[next(each for each in left if each not in ids[::7])] != 0
        found |= {entity_id: row for entity_id, row in rows.items() if row != 0}
        left = [entity_id for entity_id, row in rows.items() if row == 0]
        rounds += 1
    assert found == expected
    assert rounds > 2
    assert batch(ids, "?most=1000") == list(expected.values())


def test_a_bounded_batch_of_rows_of_another_layout_fetches_few_of_them(transport: Transport) -> None:
    if isinstance(transport, FakeTransport):
        pytest.skip("fakeredis keeps no command statistics")
    declare(transport, *(word for number in range(200) for word in (f"f{number}", "float")))
    ids = [f"u{number}" for number in range(100)]
    for entity_id in ids:
        upsert(transport, 5, entity_id, f7="0.5")
    layout = declare(transport, "new", "int")
    transport.command("CONFIG", "RESETSTAT")
    words = ["?most=1250", layout]
    rows = transport.run(GET_FEATURES_BATCH, [*SHARED, *map(key, ids)], [len(words), *words, *ids])
    assert [row != 0 for row in rows] == [True] * 6 + [False] * 94  # of 201 values each
    stats = transport.command("INFO", "commandstats").decode()
    assert dict(re.findall(r"cmdstat_(\w+):calls=(\d+)", stats))["hmget"] == str(2 + 6)  # of the schema, of rows
