"""Replies as JSON: the C extension writes what msgspec does, and nothing that is done to a reply can harm it."""

import contextlib
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import examples

from featurestore.contract import json_rows
from featurestore.contract.selection import Selection

NAMES = ["float", "a/b c", "bool", "é😀"]
TYPES = ["float", "int", "bool", "string"]
WHOLE = [23.0, 4, True, "fashion"]

built = pytest.mark.skipif(json_rows.transcoder_type is None, reason="the extension was not built")

short_floats = st.builds(lambda digits, power: float(f"{digits}e{power}"), st.integers(0, 10**17), st.integers(-24, 4))
powers = st.builds(
    lambda power, factor: 2.0**power * factor, st.integers(-90, 90), st.sampled_from([1, 3, 1 + 2**-52, 1 - 2**-53])
)
floats = st.one_of(st.floats(), short_floats, powers, st.floats(width=32), st.integers(-(2**63), 2**64 - 1))
ints = st.integers(-(2**63), 2**63 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]))
rows = st.lists(
    st.one_of(
        st.none(),
        st.tuples(
            st.none() | floats, st.none() | ints, st.none() | st.booleans(), st.none() | text
        ),
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def quick() -> Selection:
    return Selection(NAMES, TYPES, [], "user_id")


@pytest.fixture(scope="module")
def plain() -> Selection:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "transcoder_type", None)
        return Selection(NAMES, TYPES, [], "user_id")


def test_without_the_extension_the_same_is_answered(plain: Selection) -> None:
    row = msgspec.msgpack.encode(WHOLE)
    one = b'{"user_id":"u","features":{"float":23.0,"a/b c":4,"bool":true,"\xc3\xa9\xf0\x9f\x98\x80":"fashion"}}'
    for selection in (plain, Selection(NAMES, TYPES, [], "user_id")):
        assert selection.renderer.one("u", row) == one
        replies = [b"\x92" + row + b"\xc0", b"\x91" + row]
        assert selection.renderer.many(["u", "x", "u"], replies) == (
            b"[" + one + b',{"user_id":"x","features":null},' + one + b"]"
        )
        assert selection.renderer.many(["u", "x", "u"], [[row, None], [row]]) == selection.renderer.many(
            ["u", "x", "u"], replies
        )
        assert selection.renderer.each(["u", "x"], [row, None]) == [one, None]
        assert selection.renderer.each(["u", "x", "u"], b"\x93" + row + b"\xc0" + row) == [one, None, one]
        for wrong in (b"\x91" + row, b"\x92" + row, b"\x92" + row + b"\x07", b"\x07", b"\x91" + row + b"\xc0"):
            with pytest.raises((TypeError, ValueError)):
                selection.renderer.each(["u", "x"], wrong)


@built
@given(text, rows)
@settings(max_examples=examples(500), deadline=None)
@example("u", [(5e-324, -(2**63), None, '\x00\x1f\x7f\\"\u2028')])
@example("u", [(9007199254740993, 2**63 - 1, False, "")])
@example("u", [(2.0**-16, -(2**63), False, "")])
def test_the_extension_writes_what_msgspec_does(
    quick: Selection, plain: Selection, entity_id: str, table: list[tuple[Any, ...] | None]
) -> None:
    ids = [f"{entity_id}{index}" for index in range(len(table))]
    reply = msgspec.msgpack.encode(table)
    assert quick.renderer.many(ids, [reply]) == plain.renderer.many(ids, [reply])
    alone = [None if row is None else msgspec.msgpack.encode(row) for row in table]
    assert quick.renderer.many(ids, [alone]) == quick.renderer.many(ids, [reply])
    assert plain.renderer.many(ids, [alone]) == plain.renderer.many(ids, [reply])
    assert quick.renderer.each(ids, alone) == plain.renderer.each(ids, alone)
    for row in table:
        if row is not None:
            encoded = msgspec.msgpack.encode(row)
            assert quick.renderer.one(entity_id, encoded) == plain.renderer.one(entity_id, encoded)


@built
@given(st.one_of(floats.map(float), st.floats(1e-6, 1e17)))
@settings(max_examples=examples(2000), deadline=None)
def test_floats_are_written_as_msgspec_writes_them(quick: Selection, value: float) -> None:
    row = b"\x94\xcb" + struct.pack(">d", value) + b"\xc0\xc0\xc0"
    start = b'{"user_id":"u","features":{"float":' + msgspec.json.encode(value) + b","
    assert transcoder().one("u", row).startswith(start)
    assert quick.renderer.one("u", row).startswith(start)


@built
@given(rows, st.data())
@settings(max_examples=examples(1000), deadline=None)
def test_a_damaged_reply_is_refused_or_read_as_msgspec_reads_it(
    plain: Selection, table: list[tuple[Any, ...] | None], data: st.DataObject
) -> None:
    damaged = bytearray(msgspec.msgpack.encode(table))
    first = data.draw(st.integers(0, len(damaged) - 1))
    damaged[first : first + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    ids = [str(index) for index in range(len(table))]
    with contextlib.suppress(ValueError):
        assert transcoder().many(ids, [bytes(damaged)]) == plain.renderer.many(ids, [bytes(damaged)])
    rows: list[bytes | None] = [bytes(damaged)] * len(ids)
    with contextlib.suppress(ValueError):
        assert transcoder().each(ids, rows) == plain.renderer.each(ids, rows)


@built
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["x", 4, True, "a"], "text for a float"),
        ([1.0, 1.5, True, "a"], "a fraction for an int"),
        ([1.0, "7", True, "a"], "text for an int"),
        ([1.0, 2**63, True, "a"], "an int beyond 64 bits"),
        ([1.0, "", True, "a"], "an empty int"),
        ([1.0, 4, 1, "a"], "an int for a bool"),
        ([1.0, 4, True, 5], "an int for text"),
        ([1.0, 4, True, b"a"], "bytes for text"),
        ([1.0, 4, True], "too few"),
        ([1.0, 4, True, "a", None], "too many"),
        ({}, "a map"),
    ],
)
def test_what_is_not_plainly_a_row_is_refused(row: Any, reason: str) -> None:
    with pytest.raises(ValueError, match="no row of these features"):
        transcoder().one("u", msgspec.msgpack.encode(row))


@built
def test_every_truncation_is_refused() -> None:
    row = msgspec.msgpack.encode([0.1, 2**63 - 1, None, "é" * 300])
    assert transcoder().one("u", row)
    for length in range(len(row)):
        with pytest.raises(ValueError, match="no row of these features"):
            transcoder().one("u", row[:length])
    with pytest.raises(ValueError, match="no row of these features"):
        transcoder().one("u", row + b"\xc0")


@built
@pytest.mark.parametrize(
    "replies",
    [[], [b"\x90"], [b"\x91\xc0"], [b"\x93\xc0\xc0\xc0"], [b"\x92\xc0\xc0", b"\x91\xc0"], [b"\x92\xc0\xc0", None],
     [b"\xdd\xff\xff\xff\xff"]],
)  # fmt: skip
def test_replies_cover_exactly_the_ids(replies: list[Any]) -> None:
    with pytest.raises(ValueError, match="no row of these features"):
        transcoder().many(["a", "b"], replies)


@built
@pytest.mark.parametrize("rows", [[], [None], [None, None, None], [None, b""], [None, b"\xc0"], [None, 7]])
def test_rows_that_stand_alone_cover_exactly_the_ids(rows: list[Any]) -> None:
    with pytest.raises(ValueError, match="reply"):
        transcoder().each(["a", "b"], rows)
    with pytest.raises(ValueError, match="reply"):
        transcoder().many(["a", "b"], [rows])


def test_what_is_in_front_of_a_row_that_stands_alone_is_passed_over(quick: Selection) -> None:
    row = msgspec.msgpack.encode(WHOLE)
    for extension in (json_rows.transcoder_type, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_rows, "transcoder_type", extension)
            behind = Selection(NAMES, TYPES, ["@0123456"], "user_id")
        assert behind.decode(b"01234567" + row) == tuple(WHOLE)
        assert behind.renderer.one("u", b"01234567" + row) == quick.renderer.one("u", row)
        assert behind.renderer.each(["u", "x"], [b"01234567" + row, None]) == [quick.renderer.one("u", row), None]
        for short in (b"", b"0123456", b"01234567"):
            with pytest.raises(msgspec.DecodeError):
                behind.renderer.one("u", short)


@built
def test_wrong_calls_are_told_and_harm_nothing() -> None:
    maker: Any = json_rows.transcoder_type
    made: Any = transcoder()
    calls: list[Callable[[], Any]] = [
        lambda: made.one("u"),
        lambda: made.one(b"u", b"\x94"),
        lambda: made.one("u", "x"),
        lambda: made.many(("u",), []),
        lambda: made.many(["u"], None),
        lambda: made.many([7], [b"\x91\xc0"]),
        lambda: made.each(["u"], b"\x91\xc0"),
        lambda: made.each(("u",), [None]),
        lambda: made.each([7], [msgspec.msgpack.encode(WHOLE)]),
        lambda: maker(["a"], [1], "user_id"),
        lambda: maker([1], ["int"], "user_id"),
        lambda: maker(1, 2, "user_id"),
        lambda: maker(["a"], ["int"]),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    for names, types in (([], []), (["a"], []), (["a"], ["vector"]), (["\ud800"], ["int"])):
        with pytest.raises(ValueError, match=r"type|surrogates"):
            maker(names, types, "user_id")
    with pytest.raises(UnicodeEncodeError):
        made.one("\ud800", msgspec.msgpack.encode(WHOLE))


# Vectors

LENGTH = 5
bits = st.one_of(
    st.integers(0, 2**32 - 1),
    st.floats(width=32).map(lambda value: struct.unpack("<I", struct.pack("<f", value))[0]),
    # Short decimals, and the floats next to them.
    st.builds(
        lambda digits, power, sign, step: (
            int(np.float32(f"{sign}{digits}e{power}").view("<u4")) + step if digits else step & 1
        ),
        st.integers(0, 10**9), st.integers(-28, 0), st.sampled_from("+-"), st.integers(-1, 1),
    ),
    # Powers of two, below which floats are twice as dense.
    st.builds(lambda exponent, step: (exponent << 23) + step, st.integers(1, 254), st.integers(-1, 1)),
)  # fmt: skip


def with_vectors(patch: pytest.MonkeyPatch | None = None) -> Selection:
    if patch:
        patch.setattr(json_rows, "transcoder_type", None)
    return Selection(["n", "v"], ["int", f"float32[{LENGTH}]"], [], "user_id")


def encoded(vector: list[int]) -> bytes:
    return msgspec.msgpack.encode([1, struct.pack(f"<{len(vector)}I", *vector)])


@built
@given(st.lists(bits, min_size=LENGTH, max_size=LENGTH))
@settings(max_examples=examples(3000), deadline=None)
@example([0, 0x80000000, 0x7F800000, 0x7FC00000, 1])
@example([0x1E3CE507, 0x1E3CE508, 0x4E6E6B27, 0x4E6E6B28, 0x3F800000])
def test_vectors_are_written_as_orjson_writes_numpys_float32s(vector: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plain = with_vectors(patch)
    quick = with_vectors()
    row = encoded(vector)
    expected = orjson.dumps(np.array(vector, "<u4").view("<f4"), option=orjson.OPT_SERIALIZE_NUMPY)
    for selection in (quick, plain):
        assert selection.renderer.one("u", row) == b'{"user_id":"u","features":{"n":1,"v":' + expected + b"}}"
        assert selection.renderer.many(["u", "x"], [b"\x92" + row + b"\xc0"]).startswith(b'[{"user_id":"u",')


@built
@given(st.lists(st.floats(-1e8, 1e8, width=32).filter(lambda x: x == 0 or abs(x) >= 1e-19), min_size=5, max_size=5))
@settings(max_examples=examples(500), deadline=None)
def test_usual_vectors_are_written_by_the_extension_itself(numbers: list[float]) -> None:
    assert json_rows.transcoder_type is not None
    made = json_rows.transcoder_type(["n", "v"], ["int", f"float32[{LENGTH}]"], "user_id")
    row = msgspec.msgpack.encode([1, struct.pack("<5f", *numbers)])
    assert made.one("u", row) == with_vectors().renderer.one("u", row)
    assert [np.float32(x) for x in msgspec.json.decode(made.one("u", row))["features"]["v"]] == numbers


@built
def test_what_is_no_such_vector_is_refused() -> None:
    assert json_rows.transcoder_type is not None
    made = json_rows.transcoder_type(["n", "v"], ["int", f"float32[{LENGTH}]"], "user_id")
    whole = encoded([0x3F800000] * LENGTH)
    assert made.one("u", whole).endswith(b'"v":[1.0,1.0,1.0,1.0,1.0]}}')
    assert made.one("u", msgspec.msgpack.encode([1, None])).endswith(b'"v":null}}')
    rows = [encoded([0] * 4), encoded([0] * 6), *(whole[:length] for length in range(len(whole)))]
    rows += [msgspec.msgpack.encode([1, value]) for value in ("x" * 20, 1.5, [1.0] * 5, True)]
    for row in rows:
        with pytest.raises(ValueError, match="no row of these features"):
            made.one("u", row)
    for kind in ("float32[0]", "float32[]", "float32[10000]", "float32[5", "float32[5]x", "float32[-1]"):
        with pytest.raises(ValueError, match="no type of a value in replies"):
            json_rows.transcoder_type(["v"], [kind], "user_id")


def test_rows_of_another_schema_are_told(quick: Selection, plain: Selection) -> None:
    for selection in (quick, plain):
        with pytest.raises(msgspec.ValidationError):
            selection.renderer.one("u", msgspec.msgpack.encode(["x", 1, True, "a"]))
        with pytest.raises(msgspec.ValidationError):
            selection.renderer.many(["u"], [msgspec.msgpack.encode([[1.0, 1, True]])])


def transcoder() -> Any:
    assert json_rows.transcoder_type is not None
    return json_rows.transcoder_type(NAMES, TYPES, "user_id")


def test_other_sequences_and_buffers_are_read_by_msgspec(quick: Selection, plain: Selection) -> None:
    row = msgspec.msgpack.encode([None] * len(quick.names))
    for selection in (quick, plain):
        assert selection.renderer.one("u", bytearray(row)) == selection.renderer.one("u", row)  # type: ignore[arg-type]
        many = selection.renderer.many(("u", "v"), [b"\x92" + row + b"\xc0"])  # type: ignore[arg-type]
        assert many == selection.renderer.many(["u", "v"], [b"\x92" + row + b"\xc0"])


@built
def test_many_unknown_entities_take_little_memory() -> None:
    kinds = [f"float32[{2048}]"] * 6
    wide = Selection([f"v{number}" for number in range(6)], kinds, [], "user_id")
    count = 200_000
    written = wide.renderer.many(["u"] * count, [b"\xdd" + struct.pack(">I", count) + b"\xc0" * count])
    assert len(written) == count * len(b'{"user_id":"u","features":null},') + 1
