"""What a stored row tells is what its fields say: each read by the row against the same read by the fields."""

import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.fake import FakeTransport

from featurestore import Definition, FeatureStore, Transport
from featurestore.contract.resp import Word
from featurestore.contract.scripts import (
    APPLY_SCHEMA,
    DELETE_ENTITY,
    GET_FEATURES,
    GET_FEATURES_BATCH,
    RECORD_EVENTS,
    UPSERT_FEATURES,
)

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
KINDS = (*VALUES, "count(90m)", "sum(amount, 3h)")
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
def worlds(draw: st.DrawFn) -> World:
    chosen = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=17))
    kinds = {f"f{number}": kind for number, kind in enumerate(chosen)}
    rules: dict[str, str] = {}
    for option in ("@ttl", "@max_age"):
        if draw(st.integers(0, 2)) == 0:
            rules[option] = str(draw(limit))
    for name, kind in kinds.items():
        if draw(st.integers(0, 3)) == 0:
            rules[f"@max_age:{name}"] = str(draw(limit))
        if kind in VALUES and not kind.startswith("float32[") and draw(st.integers(0, 2)) == 0:
            rules[f"@default:{name}"] = draw(VALUES[kind]).decode()
        if kind.startswith("float32[") and draw(st.booleans()):
            rules[f"@always:{name}"] = "1"
    written = [name for name, kind in kinds.items() if kind in VALUES]
    numbers = ["amount"] if any(kind.startswith("sum(") for kind in chosen) else []

    def upserts() -> tuple[Any, ...]:
        columns = written if draw(st.booleans()) else draw(st.lists(st.sampled_from(written), unique=True))
        marks = st.sampled_from([FORGET, LEAVE])
        cells = [draw(marks if draw(st.integers(0, 5)) == 0 else VALUES[kinds[name]]) for name in columns]
        return "upsert", draw(st.sampled_from(IDS)), draw(ago), columns, cells

    history: list[tuple[Any, ...]] = []
    for _ in range(draw(st.integers(1, 6))):
        match draw(st.integers(0, 5)):
            case 0:
                history.append(("delete", draw(st.sampled_from(IDS)), draw(ago)))
            case 1 if len(written) < len(kinds):
                history.append(("record", draw(st.sampled_from(IDS)), draw(ago), numbers, [b"2.5" for _ in numbers]))
            case _ if written:
                history.append(upserts())
    named = draw(st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=4))
    words = tuple(word for rule in rules.items() for word in rule)
    return World(kinds, words, history, draw(st.one_of(st.just(0), ago)), named, draw(limit))


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
            let_pass(transport, entity_id, world.older)


def let_pass(transport: Transport, entity_id: str, span: int) -> None:
    """Make what is stored so much older, as if it had been written earlier; but for windows."""
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
    left = transport.command("PTTL", key(entity_id))
    if left > 0:
        transport.command("PEXPIRE", key(entity_id), left - span)


def reads(world: World, layout: str) -> Iterator[list[Word]]:
    """Yield the words of each kind of read."""
    for options in ([], ["?metadata"], [f"?max_age={world.max_age}"], ["?metadata", f"?max_age={world.max_age}"]):
        yield from ([*options, layout], options, [*options, layout, *world.named], [*options, "?current", layout])


def answers(transport: Transport, words: list[Word]) -> list[Any]:
    """Return what single reads and a batch answer, without ages."""
    keys = [key(entity_id) for entity_id in IDS]
    batch = transport.run(GET_FEATURES_BATCH, [*SHARED, *keys], [len(words), *words, *IDS])
    single = [transport.run(GET_FEATURES, [*SHARED, key(each)], [each, *words]) for each in IDS]
    for row in (*batch, *single):
        if isinstance(row, list) and len(row) > 2:
            assert row[2] is None or 0 <= row[2] < 200 * MINUTE
            row[2] = None
    return [*single, *batch]


def by_fields(transport: Transport, words: list[Word]) -> list[Any]:
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
