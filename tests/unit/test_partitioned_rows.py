"""Rows cut by partition: every row once, with the keys of its own partition, in the order of its entity."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.contract import row_calls
from featurestore.contract.bulk_calls import listed_parts
from featurestore.contract.frame_columns import native_column
from featurestore.contract.frame_rows import Batch, Reading, roles_of
from featurestore.contract.frames import CHUNK_ROWS, chunks_of
from featurestore.contract.partitions import cuts, in_turns, places_by_partition, spread
from featurestore.contract.row_calls import row_calls_for
from featurestore.keys import PARTITIONS, Keys, PartitionedKeys
from featurestore.schema.stored import Schema

built = pytest.mark.skipif(row_calls.writer_type is None, reason="the extension was not built")

ids = (
    st.text(max_size=4) | st.text("aé€😀{}", min_size=1, max_size=90) | st.sampled_from(["a", "b", "x" * 257, "\ud800"])
)
odd_rows: st.SearchStrategy[Any] = st.sampled_from([None, 7, "text", (), [], {}, (None, 1), (b"raw", 1), (3, 1)])
counts = st.sampled_from(PARTITIONS[:8])


def raw_of(entity_id: Any) -> bytes | None:
    """The id as Redis would hold it, None if there is no such."""
    try:
        raw: bytes = entity_id.encode()
    except (AttributeError, UnicodeEncodeError):
        return None
    return raw if 0 < len(raw) <= 256 else None


def check(keys: PartitionedKeys, found: Sequence[Any], rows: Sequence[Any], first: int, size: int) -> None:
    """Check cuts, as triples of keys, rows and positions, of rows whose positions begin with `first`."""
    positions = [position for _, _, positions in found for position in positions]
    assert sorted(positions) == list(range(first, first + len(rows)))
    behind: dict[str, int] = defaultdict(lambda: -1)
    calls: dict[str, list[int]] = defaultdict(list)
    for cut_keys, cut_rows, cut_positions in found:
        assert 0 < len(cut_rows) == len(cut_positions) <= size
        for row, position in zip(cut_rows, cut_positions, strict=True):
            assert row is rows[position - first]
            assert position > behind[cut_keys.tag]
            behind[cut_keys.tag] = position
            raw = raw_of(row[0]) if isinstance(row, tuple | list) and row else None
            assert cut_keys == (keys.holding(raw) if raw is not None else keys.parts[0])
        calls[cut_keys.tag].append(len(cut_rows))
    for sizes in calls.values():  # no call could be spared
        assert len(sizes) == math.ceil(sum(sizes) / size)


@given(st.lists(st.tuples(ids, st.integers()) | odd_rows, max_size=60), counts, st.integers(1, 9), st.integers(0, 5))
def test_each_row_is_in_one_call_of_its_partition(rows: list[Any], count: int, size: int, first: int) -> None:
    keys = PartitionedKeys("user", count)
    positions = range(first, first + len(rows))
    check(keys, list(cuts(keys, rows, positions, size)), rows, first, size)


@given(st.lists(st.tuples(ids, st.integers()), max_size=40), st.integers(1, 9))
def test_on_a_single_redis_rows_are_cut_as_they_come(rows: list[Any], size: int) -> None:
    keys = Keys()
    found = list(cuts(keys, rows, range(len(rows)), size))
    assert [row for cut in found for row in cut.rows] == rows
    assert [len(cut.rows) for cut in found] == [size] * (len(rows) // size) + (
        [len(rows) % size] if len(rows) % size else []
    )
    assert all(cut.keys is keys for cut in found)


@pytest.mark.parametrize("count", PARTITIONS)
def test_partitions_that_follow_each_other_are_far_apart(count: int) -> None:
    order = spread(count)
    assert sorted(order) == list(range(count))
    for some in (1 << step for step in range(count.bit_length())):  # the first few are spread evenly, however many
        assert sorted(order[:some]) == list(range(0, count, count // some))


@given(st.lists(st.integers(0, 20), min_size=8, max_size=8), st.integers(1, 7))
def test_every_partition_has_its_turn_before_one_has_its_next(sizes: list[int], most: int) -> None:
    found = list(in_turns(sizes, most))
    starts = [start for _, start, _ in found]
    assert starts == sorted(starts)
    for number, size in enumerate(sizes):
        assert [each[1:] for each in found if each[0] == number] == [
            (start, min(start + most, size)) for start in range(0, size, most)
        ]


def test_a_long_list_is_cut_chunk_by_chunk() -> None:
    keys = PartitionedKeys("user", 4)
    taken = 0

    def rows() -> Any:
        nonlocal taken
        for number in range(CHUNK_ROWS + 10):
            taken = number + 1
            yield f"u{number}", number

    parts = listed_parts(rows(), 400, keys)
    first = next(parts)
    assert taken == CHUNK_ROWS
    left = [row for part in parts for row in part.rows()]
    assert sorted(position for position, _ in [*first.rows(), *left]) == list(range(CHUNK_ROWS + 10))


# Columns

SCHEMA = Schema({"a": "int"}, 1, "@1234567", frozenset(), {})
arrays = st.lists(st.none() | ids.filter(lambda each: "\ud800" not in each), max_size=60)


def table_of(names: list[str | None], kind: Any, skipped: int) -> pa.Table:
    """A table whose first rows are cut away, so that its arrays begin behind the start of their buffers."""
    made = pa.table(
        {"id": pa.array(["gone"] * skipped + names, kind), "a": pa.array(range(skipped + len(names)), pa.int64())}
    )
    return made.slice(skipped)


def batch_of(table: pa.Table) -> Batch:
    (chunk,) = chunks_of(table)
    return Batch(chunk, roles_of(chunk.names, Reading(), ("id",)), Reading(), SCHEMA.features)


@built
@given(arrays, st.sampled_from([pa.utf8(), pa.large_utf8()]), st.integers(0, 9), counts)
@settings(deadline=None)  # the first call loads much of pyarrow
def test_the_extension_sorts_rows_as_python_does(names: list[str | None], kind: Any, skipped: int, count: int) -> None:
    table = table_of(names, kind, skipped)
    (array,) = table.column("id").chunks or [pa.array([], kind)]
    column = native_column(array)
    assert column is not None
    assert row_calls.columns_type is not None
    order, sizes = row_calls.columns_type(len(names), [column]).by_partition(count)
    groups = places_by_partition(names, count)
    assert sizes == [len(group) for group in groups]
    assert list(memoryview(order).cast("I")) == [place for group in groups for place in group]


@pytest.mark.parametrize("by", [pytest.param("extension", marks=built), "python"])
@given(arrays.filter(bool), counts, st.integers(1, 9))
@settings(deadline=None)  # likewise
def test_parts_of_columns_have_rows_of_one_partition(by: str, names: list[str | None], count: int, size: int) -> None:
    batch, keys = batch_of(table_of(names, pa.utf8(), 0)), PartitionedKeys("user", count)
    if by == "python":
        batch.native = None
    rows = [(name, number) for number, name in enumerate(names)]
    by_position = dict(enumerate(rows))
    found = []
    for part in batch.parts(size, keys):
        given_rows = part.rows()
        assert [row for _, row in given_rows] == [by_position[position] for position, _ in given_rows]
        found.append(
            (part.keys, [by_position[position] for position, _ in given_rows], [position for position, _ in given_rows])
        )
    check(keys, found, rows, 0, size)


@built
@given(arrays.filter(bool), counts)
@settings(deadline=None)  # likewise
def test_a_call_of_rows_in_an_order_is_that_of_a_table_in_this_order(names: list[str | None], count: int) -> None:
    table, keys = table_of(names, pa.utf8(), 3), PartitionedKeys("user", count)
    calls = row_calls_for(SCHEMA, ("a",), "")
    assert calls is not None
    batch = batch_of(table)
    for part in batch.parts(400, keys):
        places = [position for position, _ in part.rows()]
        taken = batch_of(table.take(places))
        (alone,) = taken.parts(400, part.keys)
        assert part.encode(calls) == alone.encode(calls)


@built
def test_an_order_that_does_not_fit_is_refused() -> None:
    assert row_calls.columns_type is not None
    calls = row_calls_for(SCHEMA, ("a",), "")
    assert calls is not None
    columns = batch_of(table_of(["a", "b"], pa.utf8(), 0)).native

    def encode(order: Any, stop: int = 2) -> Any:
        return calls.encode_columns(Keys(), columns, 0, stop, order=order, as_text=False)

    assert encode(b"\1\0\0\0\0\0\0\0")[1] == []
    for wrong in (b"\2\0\0\0\0\0\0\0", b"\xff\xff\xff\xff\0\0\0\0", b"\0\0\0\0\1\0\0"):
        with pytest.raises(ValueError, match="want an order"):
            encode(wrong)
    with pytest.raises(TypeError):
        encode("text")
    for count in (0, -1, 4097, 2**70):
        with pytest.raises((ValueError, OverflowError)):
            columns.by_partition(count)
    numbers = row_calls.columns_type(1, [native_column(pa.array([1], pa.int64()))])
    with pytest.raises(ValueError, match="ids that are text"):
        numbers.by_partition(4)
