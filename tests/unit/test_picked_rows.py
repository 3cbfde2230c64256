"""Features picked of a packed row: JSON, rows and statuses are those of a reply that has just these features."""

import contextlib
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import examples

from featurestore.contract import json_rows
from featurestore.contract.json_rows import encodable_value, encode
from featurestore.contract.read_costs import by_layout_is_cheaper
from featurestore.contract.selection import Selection, selection_of
from featurestore.errors import UndeclaredFeatureError
from featurestore.schema.stored import Schema

LAYOUT = "@0123456"
VECTOR = 3
KINDS = ["float", "int", "bool", "string", f"float32[{VECTOR}]", "count(10m)", "sum(amount, 1h)"]

built = pytest.mark.skipif(json_rows.transcoder_type is None, reason="the extension was not built")

floats = st.floats(allow_nan=False, allow_infinity=False)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "float": floats | st.integers(-(2**31), 2**32 - 1).map(float),
    "int": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    KINDS[4]: st.lists(st.floats(-1e8, 1e8, width=32), min_size=VECTOR, max_size=VECTOR).map(
        lambda numbers: struct.pack(f"<{VECTOR}f", *numbers)
    ),
    "count(10m)": st.integers(0, 2**40),
    "sum(amount, 1h)": floats,
}


class Case:
    """A schema's row, features outside of it, which of all are asked for, and a row of values.

    Args:
        kinds: The types in the row, then those outside of it.
        row_count: How many are in the row.
        wanted: Positions, without duplicates.
        table: For each entity its values, None for an unknown one.
    """

    def __init__(
        self, kinds: Sequence[str], row_count: int, wanted: Sequence[int], table: list[tuple[Any, ...] | None]
    ) -> None:
        self.names = [f"n{place}" for place in range(len(kinds))]
        self.kinds, self.row_count, self.table = kinds, row_count, table
        # What is outside of the row is behind it only where it is asked for.
        outside = [place for place in wanted if place >= row_count]
        self.behind = outside
        self.wanted = [place for place in wanted if place < row_count or place in outside]

    def selection(self) -> Selection:
        """Return the selection by layout."""
        row = dict(zip(self.names[: self.row_count], self.kinds, strict=False))
        names, types = self.columns()
        words = [LAYOUT, *(self.names[place] for place in self.behind)]
        return Selection(names, types, words, "user_id", row)

    def columns(self) -> tuple[list[str], list[str]]:
        """Return the names and types of the features asked for."""
        return [self.names[place] for place in self.wanted], [self.kinds[place] for place in self.wanted]

    def stored(self, values: tuple[Any, ...]) -> Any:
        """Return an entity's reply by layout."""
        row = LAYOUT.encode() + msgspec.msgpack.encode(values[: self.row_count])
        return [row, msgspec.msgpack.encode([values[place] for place in self.behind])] if self.behind else row

    def expected(self) -> list[tuple[Any, ...] | None]:
        """Return the values that are asked for, of each entity."""
        return [None if values is None else tuple(values[place] for place in self.wanted) for values in self.table]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=8))
    if draw(st.booleans()):
        kinds += ["int"] * draw(st.integers(60, 70))  # more than are found without memory of their own
    row_count = draw(st.integers(1, len(kinds)))
    wanted = draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=9, unique=True))
    values = st.tuples(*(st.none() | VALUES[kind] for kind in kinds))
    return Case(kinds, row_count, wanted, draw(st.lists(st.none() | values, min_size=1, max_size=3)))


def without_the_extension(case: Case) -> Selection:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "transcoder_type", None)
        return case.selection()


@given(cases())
@settings(max_examples=examples(600), deadline=None)
@example(Case(["float", "int"], 2, [1], [(1.5, 7), None]))
@example(Case(["float", "int"], 1, [1, 0], [(1.5, 7), None]))
def test_what_is_picked_is_what_a_reply_by_names_has(case: Case) -> None:
    named = Selection(*case.columns(), case.columns()[0], "user_id")
    ids = [f"u{number}" for number in range(len(case.table))]
    by_names = msgspec.msgpack.encode(case.expected())
    expected = named.renderer.many(ids, [by_names])
    rows = [None if values is None else case.stored(values) for values in case.table]
    for selection in (case.selection(), without_the_extension(case)):
        assert selection.renderer.many(ids, [rows]) == expected
        assert selection.renderer.many([*ids, *ids], [rows, rows]) == expected[:-1] + b"," + expected[1:]
        each = selection.renderer.each(ids, rows)
        assert (
            b"[%b]"
            % b",".join(
                one or b'{"user_id":"%b","features":null}' % entity_id.encode()
                for entity_id, one in zip(ids, each, strict=True)
            )
            == expected
        )
        for entity_id, row, one in zip(ids, rows, each, strict=True):
            if row is not None:
                assert selection.renderer.one(entity_id, row) == one
        assert selection.decode_many(rows) == named.decode_many(by_names)


@given(cases())
@settings(max_examples=examples(300), deadline=None)
def test_tables_have_a_list_of_values_for_each_entity(case: Case) -> None:
    ids = [f"u{number}" for number in range(len(case.table))]
    expected = encode(
        [
            [None] * len(case.wanted) if values is None else list(map(encodable_value, values))
            for values in case.expected()
        ]
    )
    rows = [None if values is None else case.stored(values) for values in case.table]
    named = Selection(*case.columns(), case.columns()[0], "user_id")
    by_names = msgspec.msgpack.encode(case.expected())
    for selection, reply in ((case.selection(), rows), (without_the_extension(case), rows), (named, by_names)):
        assert selection.table_renderer.many(ids, [reply]) == expected
        with pytest.raises(ValueError, match=r"entities|row"):
            selection.table_renderer.many([*ids, "x"], [reply])


@given(cases(), st.data())
@settings(max_examples=examples(300), deadline=None)
def test_statuses_and_times_are_picked_too(case: Case, data: st.DataObject) -> None:
    selection = case.selection()
    replies: list[Any] = []
    expected: list[Any] = []
    columns = [*range(case.row_count), *case.behind]
    for values in case.table:
        if values is None:
            replies.append(None)
            expected.append(None)
            continue
        letters = data.draw(st.text("PMDS", min_size=len(columns), max_size=len(columns)))
        times = data.draw(st.lists(st.none() | st.integers(0, 10**14), min_size=len(columns), max_size=len(columns)))
        stored = case.stored(values)
        row, *extra = stored if case.behind else [stored]
        replies.append([row, 7, 8, letters.encode(), times, *extra])
        places = [columns.index(place) for place in case.wanted]
        expected.append(([letters[place] for place in places], tuple(times[place] for place in places)))
    found = selection.decode_fresh(replies)
    for fresh, values, told in zip(found, case.expected(), expected, strict=True):
        assert (fresh is None) == (told is None)
        if fresh is None:
            continue
        assert (fresh.values, fresh.event_time, fresh.age_ms) == (values, 7, 8)
        assert ([status[0] for status in fresh.statuses], fresh.event_times) == told
    for reply in filter(None, replies):
        short = [*reply[:3], reply[3][:-1], *reply[4:]]
        with pytest.raises(msgspec.ValidationError, match="a status and a time"):
            selection.decode_fresh([short])


@built
@given(cases(), st.data())
@settings(max_examples=examples(800), deadline=None)
def test_a_damaged_row_is_refused_or_read_as_msgspec_reads_it(case: Case, data: st.DataObject) -> None:
    values = next(filter(None, case.table), None)
    if values is None:
        return
    row, *extra = stored if isinstance(stored := case.stored(values), list) else [stored]
    hurt = data.draw(st.sampled_from(range(1 + len(extra))))
    damaged = bytearray([row, *extra][hurt])
    first = data.draw(st.integers(0, len(damaged) - 1))
    damaged[first : first + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    parts = [bytes(damaged) if place == hurt else part for place, part in enumerate([row, *extra])]
    reply: Any = parts if extra else parts[0]
    selection = case.selection()
    transcoder: Any = json_rows.transcoder_type
    made = transcoder(
        selection.names, selection.row_types, "user_id", selection.head, selection.row_count, selection.picks
    )
    plain = without_the_extension(case)
    with contextlib.suppress(ValueError):
        assert made.one("u", reply) == plain.renderer.one("u", reply)
    with contextlib.suppress(ValueError):
        assert made.many(["u", "x"], [[reply, None]]) == plain.renderer.many(["u", "x"], [[reply, None]])


@built
def test_every_truncation_of_a_row_is_refused() -> None:
    case = Case(["float", "string", "int", "string"], 2, [1, 3, 0], [(0.1, "é" * 40, 5, "x" * 300)])
    (values,) = case.table
    assert values is not None
    row, extra = case.stored(values)
    selection = case.selection()
    transcoder: Any = json_rows.transcoder_type
    made = transcoder(
        selection.names, selection.row_types, "user_id", selection.head, selection.row_count, selection.picks
    )
    assert made.one("u", [row, extra])
    refused: list[Any] = [row, [row], [row, extra, extra], [row, None], [None, extra], (row, extra), [], 7, None]
    refused += [[row[:length], extra] for length in range(len(row))] + [[row + b"\xc0", extra]]
    refused += [[row, extra[:length]] for length in range(len(extra))] + [[row, extra + b"\xc0"]]
    for reply in refused:
        with pytest.raises((ValueError, TypeError), match=r"no row of these|wants an id"):
            made.one("u", reply)
        if reply is not None:
            with pytest.raises(ValueError, match="no row of these"):
                made.many(["u"], [[reply]])
    with pytest.raises(ValueError, match="no row of these"):
        made.many(["u"], [b"\x91" + row[8:]])  # an array of rows: those are by names


@built
def test_wrong_picks_are_told() -> None:
    maker: Any = json_rows.transcoder_type
    for count, picks in ((2, (0, 2)), (2, (0, -1)), (3, (0,)), (-1, (0, 1)), (2, (0,)), (2, [0, 1]), (2, (0, 2**70))):
        with pytest.raises((ValueError, OverflowError)):
            maker(["a", "b"], ["int", "int"], "user_id", 8, count, picks)
    with pytest.raises(TypeError):
        maker(["a", "b"], ["int", "int"], "user_id", 8, 2, (0, "1"))


def test_zeros_in_place_of_rows_are_no_rows() -> None:
    zeros: list[Any] = [0]
    for case in (
        Case(["int", "int"], 2, [0, 1], []),
        Case(["int", "int"], 2, [1], []),
        Case(["int"] * 2, 1, [1, 0], []),
    ):
        for selection in (case.selection(), without_the_extension(case)):
            with pytest.raises((TypeError, ValueError)):
                selection.renderer.each(["u"], zeros)


SCHEMA = Schema(
    {"a": "float", "v": "float32[4]", "b": "int", "w": "count(10m)", **{f"x{n}": "string" for n in range(400)}},
    1,
    LAYOUT,
)


def test_the_row_is_asked_for_where_that_is_cheaper() -> None:
    names = list(SCHEMA.row)
    every = selection_of(SCHEMA, None, "user_id")
    assert (every.words, every.picks, every.row_count, every.head) == ((LAYOUT,), None, len(names), 8)
    same = selection_of(SCHEMA, names, "user_id")
    assert (same.words, same.picks) == ((LAYOUT,), None)
    many = selection_of(SCHEMA, [*names[50:], "a"], "user_id")
    assert many.words == (LAYOUT,)
    assert many.picks == (*range(50, len(names)), 0)
    few = selection_of(SCHEMA, ["x7", "a"], "user_id")
    assert (few.words, few.picks, few.head, few.row_types) == (("x7", "a"), None, 0, ("string", "float"))
    alone = selection_of(SCHEMA, ["v"], "user_id")
    assert (alone.words, alone.by_layout) == (("v",), False)
    with pytest.raises(UndeclaredFeatureError, match="y is not declared"):
        selection_of(SCHEMA, ["y"], "user_id")


def test_windows_and_vectors_in_the_row_count_as_what_they_cost() -> None:
    ten = ["float"] * 10
    assert by_layout_is_cheaper(ten, ["float"] * 2, aged=False)
    assert not by_layout_is_cheaper([*ten, "count(1h)"], ["float"] * 2, aged=False)
    assert by_layout_is_cheaper([*ten, "count(1h)"], ["float", "count(1h)"], aged=False)
    assert not by_layout_is_cheaper([*ten, "float32[2048]"], ["float"] * 2, aged=False)
    assert not by_layout_is_cheaper(ten, [], aged=False)
    assert by_layout_is_cheaper(["float"] * 60, ["float"] * 4, aged=False)
    assert not by_layout_is_cheaper(["float"] * 60, ["float"] * 4, aged=True)
