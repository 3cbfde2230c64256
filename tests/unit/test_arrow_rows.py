"""Bodies of Arrow: rows as they were meant, and nothing but a refusal of bytes that were made or damaged to do harm."""

import io
import random
from datetime import UTC, datetime
from typing import Any

import falcon
import numpy as np
import pyarrow as pa
import pytest
from support.examples import examples

from featurestore.api.arrow_rows import read_rows
from featurestore.contract import arrow

MOST = 1 << 20
IDS = ("user_id", "id")
COUNT = 40


def stream(table: pa.Table | pa.RecordBatch, **options: Any) -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write(table)
    return out.getvalue()


def rows_of(columns: dict[str, Any], **options: Any) -> tuple[list[str], list[tuple[Any, ...]]]:
    found = read_rows(stream(pa.table(columns), **options), IDS, MOST)
    return found.columns, found.rows


def refusal(body: bytes, most: int = MOST) -> tuple[int, str]:
    with pytest.raises(falcon.HTTPError) as raised:
        read_rows(body, IDS, most)
    return raised.value.status_code, raised.value.description or ""


def test_rows_have_the_values_of_the_columns() -> None:
    vector = pa.list_(pa.float32(), 2)
    columns = {
        "f": pa.array([1.5, None, float("nan")]),
        "id": pa.array(["a", "b", None]),
        "small": pa.array([1, None, 3], pa.int8()),
        "big": pa.array([2**63, 1, None], pa.uint64()),
        "half": pa.array(np.array([0.5, 1, 2], np.float16)),
        "b": [True, False, None],
        "text": pa.array(["x", None, "é"], pa.large_utf8()),
        "v": pa.array([[1, 2], None, [3, 4]], vector),
        "hole": pa.array([[1, None], None, [3, 4]], vector),
        "wide": pa.array([[1.0, 2.0], None, [3.0]], pa.list_(pa.float64())),
        "nothing": pa.nulls(3),
    }
    names, rows = rows_of(columns)
    assert names == [name for name in columns if name != "id"]
    assert rows[0] == ("a", 1.5, 1, 2**63, 0.5, True, "x", np.array([1, 2], "<f4").tobytes(), [1.0, None], [1.0, 2.0],
                       None)  # fmt: skip
    assert rows[1] == ("b", None, None, 1, 1.0, False, None, None, None, None, None)
    assert (rows[2][0], str(rows[2][1]), rows[2][7:9]) == (None, "nan", (np.array([3, 4], "<f4").tobytes(), [3.0, 4.0]))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([1_700_000_000_000, None]), [1_700_000_000_000, None]),
        (pa.array(["2026-05-01T12:00:00Z", None]), ["2026-05-01T12:00:00Z", None]),
        (pa.array([datetime(2026, 5, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC")), [1_777_593_600_000, None]),
        (pa.array([1_777_593_600, None], pa.timestamp("s")), [1_777_593_600_000, None]),
        (pa.array([1_777_593_600_000_999_999, None], pa.timestamp("ns", "Europe/Zurich")), [1_777_593_600_000, None]),
        (pa.array([2**62, None], pa.timestamp("s")), [2**62 * 1000, None]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_event_times_are_ms_timestamps_or_text(times: pa.Array, expected: list[Any]) -> None:
    for name in ("event_time", "@event_time"):
        names, rows = rows_of({"n": [1, 2], name: times, "user_id": ["a", "b"]})
        assert names == ["@event_time", "n"]
        assert rows == [("a", expected[0], 1), ("b", expected[1], 2)]


def test_all_batches_of_a_stream_are_read() -> None:
    table = pa.table({"id": ["a", "b", "c"], "e": pa.array([[1.0], None, [3.0]], pa.list_(pa.float32(), 1))})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert [row[0] for row in read_rows(out.getvalue(), IDS, MOST).rows] == ["a", "b", "c"]
    assert read_rows(stream(table.slice(1, 1)), IDS, MOST).rows == [("b", None)]
    assert read_rows(stream(table.slice(0, 0)), IDS, MOST).rows == []


def test_the_first_name_that_an_id_has_counts() -> None:
    assert rows_of({"id": ["x"], "user_id": ["a"]}) == (["id"], [("a", "x")])


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"n": [1]}, "no column is called user_id or id"),
        ({"id": [7.5]}, "column 'id' is double: the ids are text or ints"),
        ({"id": ["a"], "event_time": [1.5]}, "column 'event_time' is double: an event time is"),
        ({"id": ["a"], "d": pa.array(["x"]).dictionary_encode()}, "column 'd' is dictionary<values=string"),
        ({"id": ["a"], "d": pa.array(["x"], pa.string_view())}, "column 'd' is string_view: taken are bool"),
        ({"id": ["a"], "d": pa.array([b"x"])}, "column 'd' is binary"),
        ({"id": ["a"], "d": pa.array([["x"]])}, "column 'd' is list<"),
        ({"id": ["a"], "d": pa.array([[[1]]])}, "column 'd' is list<"),
        ({"id": ["a"], "d": pa.array([{"a": 1}])}, "column 'd' is struct<"),
        ({"id": ["a"], "d": pa.array([7], pa.duration("s"))}, "column 'd' is duration["),
    ],
)
def test_columns_that_cannot_be_taken_are_named(columns: dict[str, Any], told: str) -> None:
    status, detail = refusal(stream(pa.table(columns)))
    assert (status, told in detail) == (422, True), detail


def test_a_column_that_is_there_twice_is_named() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array([1]), pa.array([2])], ["id", "n", "n"])
    assert refusal(stream(table)) == (422, "there are 2 columns 'n'")


def test_what_is_no_stream_is_told() -> None:
    table = pa.table({"id": ["a"]})
    file = io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write(table)
    for body in (b"", b"\0" * 100, b'{"id":"a","features":{}}', file.getvalue(), b"\xff" * 64):
        assert refusal(body)[0] == 400


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_buffers_are_refused_before_they_are_inflated(codec: str) -> None:
    table = pa.table({"id": ["a"] * 1000, "n": [0] * 1000})
    assert refusal(stream(table, compression=codec)) == (
        422, "the buffers are compressed: send them as they are, or the whole body as gzip",
    )  # fmt: skip


def test_values_are_bounded_also_where_they_take_few_bytes() -> None:
    wide = pa.table({"id": ["a"] * 1000, **{f"n{place}": pa.nulls(1000) for place in range(300)}})
    body = stream(wide)
    assert len(body) < MOST // 8
    assert refusal(body) == (413, f"a body may have at most {MOST // 4} values, a quarter of its bytes")


def test_bytes_that_several_columns_claim_are_refused() -> None:
    long, short = 42_424, 11
    columns = {"t0": ["x" * long], **{f"t{number}": ["y" * short] for number in range(1, 9)}}
    body = bytearray(stream(pa.table({"id": ["a"], **columns})))
    first = body.index(long.to_bytes(8, "little")) - 8  # a buffer is where it begins and how long it is
    for _ in range(8):
        place = body.index(short.to_bytes(8, "little"), first) - 8
        body[place : place + 16] = body[first : first + 16]
    for _ in range(8):
        ends = body.index(bytes(4) + short.to_bytes(4, "little"), place)
        body[ends : ends + 8] = bytes(4) + long.to_bytes(4, "little")
    table = pa.ipc.open_stream(bytes(body)).read_all()
    assert {table[name][0].as_py() for name in columns} == {"x" * long}
    assert refusal(bytes(body)) == (400, "columns share their bytes")


def test_damaged_streams_are_refused_or_read_and_never_end_the_process() -> None:
    columns = {
        "user_id": [f"u{number}" for number in range(COUNT)],
        "b": [number % 2 == 0 or None for number in range(COUNT)],
        "f": [number * 0.5 for number in range(COUNT)],
        "e": pa.array([[float(number)] * 8 for number in range(COUNT)], pa.list_(pa.float32(), 8)),
        "l": [[1.0] * (number % 3) for number in range(COUNT)],
        "event_time": pa.array(range(COUNT), pa.timestamp("us", "UTC")),
        "z": pa.nulls(COUNT),
    }
    whole = stream(pa.table(columns))
    chance = random.Random(7)
    outcomes = set()
    for _ in range(examples(3000)):
        damaged = bytearray(whole)
        if chance.random() < 0.2:
            del damaged[chance.randrange(1, len(damaged)) :]
        for _ in range(chance.choice([0, 1, 1, 2, 8])):
            place = chance.randrange(len(damaged)) if chance.random() < 0.5 else chance.randrange(1300) % len(damaged)
            damaged[place] = chance.choice(
                [0, 255, 1, damaged[place] ^ 1 << chance.randrange(8), chance.randrange(256)]
            )
        try:
            read_rows(bytes(damaged), IDS, MOST)
            outcomes.add(200)
        except falcon.HTTPError as error:
            outcomes.add(error.status_code)
    assert {200, 400} <= outcomes <= {200, 400, 413, 422}


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "is_there", lambda: False)
    status, detail = refusal(b"")
    assert (status, "pip install 'redis-featurestore[arrow]'" in detail) == (415, True)


@pytest.mark.parametrize("cut", ["no end", "two streams", "junk"])
def test_what_is_not_one_whole_stream_is_refused(cut: str) -> None:
    table = pa.table({"user_id": ["a", "b"], "age": [1.0, 2.0]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=1):
            writer.write_batch(batch)
    stream = sink.getvalue().to_pybytes()
    body = {"no end": stream[:-8], "two streams": stream + stream, "junk": stream + b"junk"}[cut]
    assert len(read_rows(stream, ["user_id"], 1_000_000).rows) == 2
    with pytest.raises(falcon.HTTPBadRequest) as refused:
        read_rows(body, ["user_id"], 1_000_000)
    assert "not one stream" in str(refused.value.description)
