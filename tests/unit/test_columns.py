"""Replies as columns: the C extension fills the buffers that Python does, and pyarrow reads them as they were meant."""

import contextlib
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import examples

from featurestore.contract import arrow, columns
from featurestore.contract.columns import Column, ColumnReader, Table, column_of, shown_kind, table_of
from featurestore.contract.selection import Selection

KINDS = ("float", "int", "bool", "string", "float32[3]")
ROW = (23.5, 4, True, "fashion", struct.pack("<3f", 0.5, -1, 2))
HEAD = b"@1234567"

built = pytest.mark.skipif(columns.filler_type is None, reason="the extension was not built")
pack = msgspec.msgpack.encode

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "float": st.floats() | st.integers(-(2**63), 2**63 - 1) | st.floats(width=32),
    "int": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "float32[3]": st.binary(min_size=12, max_size=12),
    "float32[1]": st.binary(min_size=4, max_size=4),
}


def reader(kinds: Sequence[str], *, head: int = 0) -> ColumnReader:
    """A reader of rows that have the columns' values, in order."""
    names = [f"f{number}" for number in range(len(kinds))]
    return ColumnReader(Selection(names, kinds, [HEAD.decode()] if head else names, "user_id"))


@pytest.fixture
def in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "filler_type", None)


def python_reader(kinds: Sequence[str], *, head: int = 0) -> ColumnReader:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "filler_type", None)
        return reader(kinds, head=head)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[Any, ...] | None]]:
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=6))
    row = st.tuples(*(st.none() | VALUES[kind] for kind in kinds))
    return kinds, draw(st.lists(st.none() | row, max_size=20))


def pylists(table: Table) -> list[list[Any]]:
    arrays = [arrow.array_of(table.rows, column) for column in table.columns]
    for array in arrays:
        array.validate(full=True)
    return [array.to_pylist() for array in arrays]


def test_a_column_has_the_buffers_of_its_type() -> None:
    table = reader(KINDS).read(3, [pack([ROW, None, (None,) * 5])])
    bits = b"\x01"
    numbers = struct.pack("<3f", 0.5, -1, 2) + bytes(24)
    assert table == Table(
        3,
        Column("bool", 0, (None, b"\x05")),
        [
            Column("float", 2, (bits, struct.pack("<3d", 23.5, 0, 0))),
            Column("int", 2, (bits, struct.pack("<3q", 4, 0, 0))),
            Column("bool", 2, (bits, b"\x01")),
            Column("string", 2, (bits, struct.pack("<4i", 0, 7, 7, 7), b"fashion")),
            Column("float32[3]", 2, (bits, numbers)),
        ],
    )
    assert pylists(table) == [[23.5, None, None], [4, None, None], [True, None, None], ["fashion", None, None],
                              [[0.5, -1.0, 2.0], None, None]]  # fmt: skip
    whole = reader(KINDS).read(2, [pack([ROW]), [pack(ROW)]])
    assert [column.buffers[0] for column in whole.columns] == [None] * 5


@pytest.mark.usefixtures("in_python")
def test_without_the_extension_the_buffers_are_the_same() -> None:
    test_a_column_has_the_buffers_of_its_type()


@built
@given(tables())
@settings(max_examples=examples(500), deadline=None)
@example((["string"], [("é😀",), None, ("",), ("x",)]))
@example((["int", "float"], [(-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1)]))
def test_the_extension_fills_what_python_does(table: tuple[list[str], list[tuple[Any, ...] | None]]) -> None:
    kinds, rows = table
    quick, plain = reader(kinds), python_reader(kinds)
    assert quick._filler is not None
    expected = plain.read(len(rows), [pack(rows)])
    (_, known), filled = quick._filler.fill(len(rows), [pack(rows)])
    assert (known, [Column(kind, *column) for kind, column in zip(kinds, filled, strict=True)]) == (
        expected.known.buffers[1],
        expected.columns,
    )
    alone = [None if row is None else HEAD + pack(row) for row in rows]
    assert reader(kinds, head=8).read(len(rows), [alone]) == expected
    assert python_reader(kinds, head=8).read(len(rows), [alone]) == expected
    halves = [pack(rows[: len(rows) // 2]), alone_of(rows[len(rows) // 2 :])]
    assert quick.read(len(rows), halves) == expected
    for kind, values in zip(kinds, pylists(expected), strict=True):
        assert len(values) == len(rows)
        assert pa.array(values, arrow.type_of(kind)).null_count == values.count(None)


def alone_of(rows: list[tuple[Any, ...] | None]) -> list[bytes | None]:
    return [None if row is None else pack(row) for row in rows]


@built
@given(tables(), st.data())
@settings(max_examples=examples(300), deadline=None)
def test_columns_are_picked_from_the_row_and_from_the_array_behind_it(
    table: tuple[list[str], list[tuple[Any, ...] | None]], data: st.DataObject
) -> None:
    kinds, rows = table
    picks = tuple(data.draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=8)))
    first = data.draw(st.integers(0, len(kinds)))
    shown = [kinds[pick] for pick in picks]
    expected = table_of(shown, [row and tuple(map(plainly, shown, (row[pick] for pick in picks))) for row in rows])
    assert columns.filler_type is not None
    filler = columns.filler_type(tuple(kinds), picks, 8, first)
    reply: list[Any] = [
        None if row is None
        else HEAD + pack(row) if first == len(kinds)
        else [HEAD + pack(row[:first]), pack(row[first:])]
        for row in rows
    ]  # fmt: skip
    (unknown, known), filled = filler.fill(len(rows), [reply])
    assert (unknown, known) == (rows.count(None), expected.known.buffers[1])
    assert [Column(kind, *column) for kind, column in zip(shown, filled, strict=True)] == expected.columns
    for row in filter(None, reply):
        lacking = row[:1] if isinstance(row, list) else [row, pack([])]
        for wrong in (lacking, [*row, b""] if isinstance(row, list) else row + b"\xc0", 7, [7, 7]):
            with pytest.raises(ValueError, match="no rows of these features"):
                filler.fill(1, [[wrong]])


def plainly(kind: str, value: Any) -> Any:
    return float(value) if kind == "float" and value is not None else value


@built
@given(tables(), st.data())
@settings(max_examples=examples(1000), deadline=None)
def test_a_damaged_reply_is_refused_or_read_as_msgspec_reads_it(
    table: tuple[list[str], list[tuple[Any, ...] | None]], data: st.DataObject
) -> None:
    kinds, rows = table
    damaged = bytearray(pack(rows))
    first = data.draw(st.integers(0, len(damaged) - 1))
    damaged[first : first + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    replies: list[Any] = [bytes(damaged)]
    filler: Any = reader(kinds)._filler
    with contextlib.suppress(ValueError):
        (_, known), filled = filler.fill(len(rows), replies)
        expected = python_reader(kinds).read(len(rows), replies)
        assert [Column(kind, *column) for kind, column in zip(kinds, filled, strict=True)] == expected.columns
        assert known == expected.known.buffers[1]
    with contextlib.suppress(ValueError):
        filler.fill(len(rows), [[bytes(damaged)] * len(rows)])


@pytest.mark.parametrize("way", ["extension", "python"])
@pytest.mark.parametrize(
    "replies",
    [
        [],
        [pack([ROW])],
        [pack([ROW, ROW, ROW])],
        [pack([ROW, ROW[:4]])],
        [pack([ROW, (*ROW, 1)])],
        [pack([ROW, ("x", *ROW[1:])])],
        [pack([ROW, (1.5, 2.5, *ROW[2:])])],
        [[pack(ROW), b""]],
        [pack([ROW, (*ROW[:3], 7, ROW[4])])],
        [pack([ROW]), b"\x91\x95"],
    ],
)
def test_replies_that_do_not_fit_are_told(way: str, replies: list[Any]) -> None:
    made = reader(KINDS) if way == "extension" else python_reader(KINDS)
    with pytest.raises(msgspec.DecodeError):
        made.read(2, replies)


@built
def test_the_extension_refuses_what_is_none_of_its_arguments() -> None:
    make: Any = columns.filler_type
    for types in ((), ("double",), ("float32[0]",), ("float32[12345]",), ("count(1m)",)):
        with pytest.raises(ValueError, match=r"at least one column|no type of a value in replies"):
            make(types)
    for picks in ((1,), (-1,), (2**40,)):
        with pytest.raises(ValueError, match="there is no value"):
            make(("int",), picks)
    for head, row_count in ((-1, 1), (0, 2), (0, -2)):
        with pytest.raises(ValueError, match="no head of"):
            make(("int",), None, head, row_count)
    wrong: list[tuple[Any, ...]] = [(["int"],), (("int",), [0]), ((7,),), (("int",), ("0",))]
    for arguments in wrong:
        with pytest.raises(TypeError):
            make(*arguments)
    filler = make(("int",))
    wrong = [(), (1,), ("1", []), (1, ()), (1, [], [])]
    for arguments in wrong:
        with pytest.raises(TypeError):
            filler.fill(*arguments)
    for count in (-1, 2**31, 2**62):
        with pytest.raises(ValueError, match="there cannot be"):
            filler.fill(count, [])
    with pytest.raises(OverflowError):
        filler.fill(2**80, [])
    replies: list[Any] = [7, None, "", [7], [b""], b"", [[]]]
    for reply in replies:
        with pytest.raises(ValueError, match="no rows of these features"):
            filler.fill(1, [reply])
    assert filler.fill(0, []) == ((0, b""), ((0, (None, b"")),))


def test_numbers_of_vectors_stay_as_they_are() -> None:
    numbers = struct.pack("<3f", float("nan"), float("inf"), -0.0)
    table = reader(["float32[3]"]).read(1, [pack([(numbers,)])])
    assert table.columns == [Column("float32[3]", 0, (None, numbers))]


def test_windows_are_shown_as_numbers() -> None:
    assert [shown_kind(kind) for kind in ("count(1m)", "sum(a, 1h)", "int", "float32[2]")] == [
        "int", "float", "int", "float32[2]",
    ]  # fmt: skip


def test_ints_beyond_64_bits_are_no_column() -> None:
    with pytest.raises(OverflowError):
        column_of("int", [2**63])


def test_a_stream_is_one_batch_that_any_reader_of_arrow_takes() -> None:
    table = reader(KINDS).read(2, [pack([ROW, None])])
    names = ["f", "i", "b", "s", "v"]
    read = pa.ipc.open_stream(arrow.stream_of(2, names, table.columns)).read_all()
    assert read.schema == pa.schema(
        [("f", pa.float64()), ("i", pa.int64()), ("b", pa.bool_()), ("s", pa.utf8()), ("v", pa.list_(pa.float32(), 3))]
    )
    assert read.to_pylist() == [{"f": 23.5, "i": 4, "b": True, "s": "fashion", "v": [0.5, -1.0, 2.0]},
                                dict.fromkeys(names)]  # fmt: skip
    assert [arrow.kind_of(kind) for kind in read.schema.types] == list(KINDS)
    assert arrow.kind_of(pa.float32()) is None
