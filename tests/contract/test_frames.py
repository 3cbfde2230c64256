"""Tables of any library: what is stored is what an upsert of their rows leaves."""

import asyncio
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from featurestore.ingest import BulkProgress, BulkWriter
from featurestore.ingest.pace import Pace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.keys import single
from support.servers import Server
from support.whole_rows import calls_of

from featurestore import AsyncFeatureStore, BadArgumentsError, Definition, FeatureStore
from featurestore.contract import row_calls
from featurestore.schema.definition import FeatureDefinition

TIME = 1_700_000_000_123
FEATURES: dict[str, Any] = {
    "f": "float",
    "v": FeatureDefinition("float32[2]", always=True),
    "i": "int",
    "e": "float32[3]",
    "b": "bool",
    "s": "string",
}
built = pytest.mark.skipif(row_calls.writer_type is None, reason="the extension was not built")


@pytest.fixture
def writer(valkey: Server) -> Iterator[BulkWriter]:
    with BulkWriter(valkey.url) as made:
        empty(made.store)
        yield made


def empty(store: FeatureStore, features: dict[str, Any] = FEATURES) -> None:
    """Start anew with a schema of these features."""
    store.transport.command("FLUSHDB")
    store.apply(Definition(features=features))


def hashes(store: FeatureStore) -> dict[bytes, dict[bytes, bytes]]:
    """Return everything that is stored of entities, field by field."""
    command = store.transport.command
    ids = sorted(command("SMEMBERS", "all_users"))
    found = {}
    for entity_id in ids:
        words = command("HGETALL", single(store).features_of_raw(entity_id))
        found[entity_id] = dict(sorted(zip(words[::2], words[1::2], strict=True)))
    return found


def float32s(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


VALUES: dict[str, Any] = {
    "f": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53).map(float),
    "v": st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
    "i": st.integers(-(2**63), 2**63 - 1) | st.integers(-40, 300),
    "e": st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    "b": st.booleans(),
    "s": st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(["x" * 1024, "x" * 1025]),
}
TYPES = {
    "f": pa.float64(), "v": pa.list_(pa.float32(), 2), "i": pa.int64(), "e": pa.list_(pa.float32(), 3),
    "b": pa.bool_(), "s": pa.utf8(),
}  # fmt: skip
rows = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from("abcdé"), "@event_time": st.integers(TIME, TIME + 3)}
        | {name: st.none() | values | values | values for name, values in VALUES.items()}
    ),
    max_size=12,
)


@given(
    rows, st.sampled_from(["remove", "keep"]), st.sampled_from(["newest", "overwrite"]), st.sampled_from([1, 3, 400])
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_leaves_what_an_upsert_of_its_rows_does(
    writer: BulkWriter, table: list[dict[str, Any]], nulls: Any, mode: str, in_call: int
) -> None:
    store, overwrite = writer.store, mode == "overwrite"
    columns = {name: pa.array([row[name] for row in table], kind) for name, kind in TYPES.items()}
    columns["id"] = pa.array([row["id"] for row in table], pa.utf8())
    columns["@event_time"] = pa.array([row["@event_time"] for row in table], pa.int64())
    found = []
    for way in ("upsert", "arrow", "store", "dicts"):
        empty(store)
        writer._pace = Pace(None, call_us=in_call * 5.0, in_flight=4)
        if way == "upsert":
            plain = [
                (
                    row["id"],
                    {name: row[name] for name in row if name != "id" and (row[name] is not None or nulls == "remove")},
                )
                for row in table
            ]
            result = store.upsert(plain, overwrite=overwrite)
        elif way == "arrow":
            result = writer.write(pa.table(columns), nulls=nulls, overwrite=overwrite)
        elif way == "store":
            result = store.write(pa.table(columns), nulls=nulls, overwrite=overwrite)
        else:
            result = writer.write(iter(table), nulls=nulls, overwrite=overwrite)
        assert result.rejected == []
        found.append((hashes(store), result.written, result.skipped))
    stored, written, skipped = found[0]
    for other, *counts in found[1:]:
        assert other == stored
        assert sum(counts) == written + skipped == len(table)


@built
def test_whole_rows_with_gaps_and_vectors_take_one_command_each(writer: BulkWriter) -> None:
    store, count = writer.store, 300
    table = pa.table(
        {
            "id": [f"u{row}" for row in range(count)],
            "f": [None if row % 5 == 0 else row / 3 for row in range(count)],
            "v": pa.array([[row, 1] for row in range(count)], pa.list_(pa.float32(), 2)),
            "i": list(range(count)),
            "e": pa.array([None if row % 7 == 0 else [row, 1, 2] for row in range(count)], pa.list_(pa.float32(), 3)),
            "b": [True] * count,
            "s": pa.array(["x"] * count).dictionary_encode(),
        }
    )
    store.transport.command("CONFIG", "RESETSTAT")
    result = writer.write(table, event_time=TIME)
    assert (result.written, result.counts["created"]) == (count, count)
    calls = calls_of(store)
    assert calls["hset"] == count
    assert calls.get("hdel", 0) <= calls["evalsha"] <= 3  # Redis 6.2 is asked by HDEL whether it may be called
    assert store.get("u5") == {"f": None, "v": [5.0, 1.0], "i": 5, "b": True, "s": "x"}
    assert store.get("u7", ["e", "f"]) == {"e": None, "f": 7 / 3}
    store.transport.command("CONFIG", "RESETSTAT")
    again = writer.write(table, event_time=TIME)
    assert (again.written, again.counts["duplicate"]) == (count, count)
    assert calls_of(store).get("hset", 0) == 0
    later = writer.write(table.slice(0, 10), event_time=TIME + 1)
    assert later.counts["applied"] == 10
    assert writer.write(table, event_time=TIME).counts == {
        "created": 0, "applied": 0, "partly stale": 0, "stale": 10, "duplicate": count - 10, "rejected": 0,
    }  # fmt: skip


def test_a_removed_feature_is_gone_until_something_newer_comes(writer: BulkWriter) -> None:
    store = writer.store
    names = ("f", "v", "i", "e", "b", "s")
    full: dict[str, list[Any]] = {
        "id": ["a"],
        "f": [1.0],
        "v": [[1.0, 2.0]],
        "i": [7],
        "e": [[1.0, 2.0, 3.0]],
        "b": [True],
        "s": ["x"],
    }
    gaps = {**full, "f": [None], "e": [None]}
    types = pa.schema([("id", pa.utf8()), *((name, TYPES[name]) for name in names)])
    writer.write(pa.table(full, types), event_time=TIME)
    writer.write(pa.table(gaps, types), event_time=TIME + 5)
    assert store.get("a", ["f", "e", "i"]) == {"f": None, "e": None, "i": 7}
    assert store.transport.command("HEXISTS", "user:a:features", "e") == 0
    assert store.upsert([("a", {"f": 2.0})], event_time=TIME + 4).verdicts == "S"
    assert store.upsert([("a", {"f": 2.0})], event_time=TIME + 5).verdicts == "A"


FRAME = pd.DataFrame(
    {
        "user_id": [1, 2, 3],
        "f": [1.5, math.nan, 3.0],
        "i": [1.0, math.nan, 3.0],
        "b": pd.array([True, None, False], "boolean"),
        "s": ["x", None, "00123"],
    }
)
WANTED: list[dict[str, Any]] = [
    {"f": 1.5, "i": 1, "b": True, "s": "x"},
    {"f": None, "i": None, "b": None, "s": None},
    {"f": 3.0, "i": 3, "b": False, "s": "00123"},
]


def numpy_table() -> Any:
    made = np.zeros(3, [("user_id", "i8"), ("f", "f4"), ("i", "f8"), ("b", "?"), ("s", "U5")])
    made["user_id"], made["f"], made["i"] = [1, 2, 3], [1.5, math.nan, 3], [1, math.nan, 3]
    made["b"], made["s"] = [True, False, False], ["x", "y", "00123"]
    return made


TABLES: dict[str, Any] = {
    "pandas": FRAME,
    "pandas, ids in the index": FRAME.set_index("user_id"),
    "pandas, ids in both": FRAME.set_index("user_id", drop=False),
    "pandas by Arrow": FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "pandas, objects": FRAME.astype(object),
    "pandas, categories": FRAME.astype({"s": "category"}),
    "pandas, decimals": FRAME.assign(f=[Decimal("1.5"), None, Decimal(3)], i=[Decimal(1), Decimal("nan"), Decimal(3)]),
    "pyarrow": pa.Table.from_pandas(FRAME),
    "record batch": pa.RecordBatch.from_pandas(FRAME),
    "float ids": FRAME.astype({"user_id": "float64"}),
    "views": pa.Table.from_pandas(FRAME).set_column(4, "s", pa.array(["x", None, "00123"], pa.string_view())),
    "narrow": pa.table(
        {
            "user_id": pa.array([1, 2, 3], pa.uint16()),
            "f": pa.array([1.5, None, 3.0], pa.float32()),
            "i": pa.array([1, None, 3], pa.int8()),
            "b": pa.array([True, None, False]),
            "s": pa.array(["x", None, "00123"], pa.large_utf8()),
        }
    ),
    "dicts": FRAME.to_dict("records"),
    "an iterator of dicts": iter(FRAME.astype(object).where(FRAME.notna(), None).to_dict("records")),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("extension", [pytest.param(True, marks=built), False])
def test_one_rule_of_values_for_every_library(
    writer: BulkWriter, monkeypatch: pytest.MonkeyPatch, name: str, *, extension: bool
) -> None:
    if not extension:
        monkeypatch.setattr(row_calls, "writer_type", None)
        monkeypatch.setattr(row_calls, "columns_type", None)
    data = list(TABLES[name]) if name.startswith("an iterator") else TABLES[name]
    TABLES[name] = data
    names = ["f", "i", "b", "s"]
    for write in (writer.write, writer.store.write):
        empty(writer.store, {"f": "float", "i": "int", "b": "bool", "s": "string"})
        result = write(iter(data) if name.startswith("an iterator") else data, event_time=TIME)
        assert (result.written, result.rejected) == (3, [])
        assert writer.store.get_many(["1", "2", "3"], names) == WANTED


def test_a_structured_array_is_a_table(writer: BulkWriter) -> None:
    assert writer.write(numpy_table()).written == 3
    assert writer.store.get_many(["1", "2"], ["f", "i", "b", "s"]) == [
        WANTED[0],
        {"f": None, "i": None, "b": False, "s": "y"},
    ]


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([TIME, TIME + 1], None),
        (pa.array([TIME, TIME + 1]).cast(pa.timestamp("ms")), None),
        (pa.array([TIME, TIME + 1]).cast(pa.timestamp("ms")).cast(pa.timestamp("ns", "Europe/Rome")), None),
        ([TIME * 1000, TIME * 1000 + 1999], "us"),
        ([TIME * 10**6, (TIME + 1) * 10**6], "ns"),
        ([TIME / 1000, (TIME + 1.5) / 1000], "s"),
        (["2023-11-14T22:13:20.123Z", "2023-11-14T22:13:20.124Z"], None),
        (["2023-11-14T22:13:20.123", "2023-11-14 22:13:20.124"], None),
        ([str(TIME), str(TIME + 1)], None),
        (["2023-11-14T22:13:20.123Z", str(TIME + 1)], None),
        ([datetime(2023, 11, 14, 22, 13, 20, ms * 1000 + 999, UTC) for ms in (123, 124)], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("listed", [False, True])
def test_event_times_in_every_form(writer: BulkWriter, times: Any, unit: Any, *, listed: bool) -> None:
    column = times if isinstance(times, pa.Array) else pa.array(times)
    data: Any = pa.table({"id": ["a", "b"], "ts": column, "i": [1, 2]})
    result = writer.write(data.to_pylist() if listed else data, time_column="ts", unit=unit)
    assert (result.written, result.rejected) == (2, [])
    found = [found.event_time for found in writer.store.describe_many(["a", "b"], ["i"]) if found is not None]
    assert found == [TIME, TIME + 1]


@pytest.mark.parametrize(("factor", "unit"), [(0.001, "s"), (1000, "us"), (10**6, "ns")])
def test_times_in_another_unit_are_refused_with_a_hint(writer: BulkWriter, factor: float, unit: str) -> None:
    times = [int(TIME * factor), None]
    for data in (pa.table({"id": ["a", "b"], "ts": times}), [{"id": "a", "ts": times[0]}, {"id": "b"}]):
        with pytest.raises(BadArgumentsError, match=rf"^the event times in ts look like {unit}, not ms: tell the unit"):
            writer.write(data, time_column="ts")
    assert writer.store.count() == 0


def test_bad_rows_are_rejected_by_position_and_the_others_written(writer: BulkWriter) -> None:
    count = 100_000
    table = pa.table({"id": [f"u{row}" for row in range(count)], "i": [row + 0.0 for row in range(count)]})
    ids, numbers = table["id"].to_pylist(), table["i"].to_pylist()
    ids[3], ids[40_000], ids[99_999] = None, "", "x" * 257
    numbers[5], numbers[70_000] = 0.5, float("inf")
    table = pa.table({"id": ids, "i": numbers})
    steps: list[BulkProgress] = []
    result = writer.write(table, event_time=TIME, progress=steps.append)
    assert [(row.row, row.code) for row in result.rejected] == [
        (3, "BADID"), (5, "BADTYPE"), (40_000, "BADID"), (70_000, "BADTYPE"), (99_999, "BADID"),
    ]  # fmt: skip
    assert result.rejected[1].reason == "i is int, not 0.5"
    assert result.written == writer.store.count() == count - 5
    assert [step.rows for step in steps] == [32_768, 65_536, 98_304, count]
    assert steps[-1] == BulkProgress(count, count - 5, 0, 5)
    assert writer.check(table) == result.rejected
    assert writer.check(table.select(["id"])) == [row for row in result.rejected if row.code == "BADID"]


def test_columns_of_text_are_read_by_the_schema(writer: BulkWriter) -> None:
    columns = {
        "id": ["1", "2", "3", "4", "5"],
        "f": ["1.5", "", "-0", "1e3", "x"],
        "i": ["7", "NaN", "8.0", "9223372036854775807", "1"],
        "b": ["True", "", "0", "false", "true"],
        "s": ["00123", "", "NaN", "é", "x"],
        "v": ["[1, 2]", "", "3 4", "5,6", "1,2"],
    }
    for data in (
        pa.table(columns),
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    ):
        empty(writer.store)
        result = writer.write(data, event_time=TIME, text=True)
        assert [(row.row, row.reason) for row in result.rejected] == [(4, "f is float, not 'x'")]
        assert writer.store.get_many(["1", "2", "3", "4"]) == [
            {"f": 1.5, "v": [1.0, 2.0], "i": 7, "b": True, "s": "00123"},
            {"f": None, "v": None, "i": None, "b": None, "s": None},
            {"f": 0.0, "v": [3.0, 4.0], "i": 8, "b": False, "s": "NaN"},
            {"f": 1000.0, "v": [5.0, 6.0], "i": 2**63 - 1, "b": False, "s": "é"},
        ]


def test_values_with_event_times_of_their_own(writer: BulkWriter) -> None:
    store = writer.store
    table = pa.table(
        {
            "user_id": ["a", "b"],
            "@event_time": [TIME, TIME],
            "f": [1.0, 2.0],
            "f@event_time": [TIME - 5, None],
            "i": [7, 8],
            "s": [None, "x"],
            "s@event_time": [TIME - 9, None],
        }
    )
    assert writer.write(table, nulls="keep").written == 2
    found = store.describe_many(["a", "b"], ["f", "i", "s"])
    assert [each and each.event_time for each in found] == [TIME, TIME]
    assert store.get_many(["a", "b"], ["f", "i", "s"]) == [{"f": 1.0, "i": 7, "s": None}, {"f": 2.0, "i": 8, "s": "x"}]
    assert store.upsert([("a", {"f": 3.0})], event_time=TIME - 6).verdicts == "S"
    assert store.upsert([("a", {"s": "old"})], event_time=TIME - 10).verdicts == "S"
    assert store.upsert([("a", {"f": 3.0, "s": "new"})], event_time=TIME - 4).verdicts == "A"


@pytest.mark.parametrize(
    ("data", "told", "message"),
    [
        (5, {}, "^want a table: .* not 5$"),
        ("ab", {}, "^want a table"),
        ([1, 2], {}, "a row is no dict: 1$"),
        (pa.table({"a": [1]}), {}, r"^no column is called user_id or id: name theirs \(there are a\)$"),
        (pa.table({"user": ["a"], "i": [1]}), {"id": "users"}, r"^there is no column users, did you mean user \(there"),
        (pa.table({"id": ["a"], "i": [1]}), {"time_column": "ts"}, r"^there is no column ts"),
        (pa.table({"id": ["a"], "i": [1]}), {"rename": {"x": "i"}}, r"^there is no column x"),
        (pa.table({"id": ["a"], "i": [1], "x": [2]}), {"rename": {"x": "i"}}, r"^two columns are i$"),
        (pa.Table.from_arrays([pa.array(["a"])] * 2, ["id", "id"]), {}, r"^there are several columns 'id'$"),
        (pd.DataFrame({"id": ["a"], 5: [1]}), {}, r"^a column's name is text, not 5$"),
        (pa.table({"id": ["a"], "ts": [True]}), {"time_column": "ts"}, "^column ts is bool: event times are"),
        (pa.table({"id": ["a"], "i": [1], "@known": [False]}), {}, "^1 rows are of ids of which nothing is known"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_told(writer: BulkWriter, data: Any, told: dict[str, Any], message: str) -> None:
    for write in (writer.write, writer.store.write):
        with pytest.raises(BadArgumentsError, match=message):
            write(data, **told)
    assert writer.store.count() == 0


def ree(values: list[Any]) -> Any:
    return pc.run_end_encode(pa.array(values))


ODD: dict[str, tuple[Any, list[str | None]]] = {
    "vectors of another length": ({"e": pa.array([[1.0] * 4] * 2, pa.list_(pa.float32(), 4))}, ["BADTYPE"] * 2),
    "a vector of four read as two": ({"v": pa.array([[1.0] * 4] * 2, pa.list_(pa.float32(), 4))}, ["BADTYPE"] * 2),
    "vectors of lists": ({"e": [[1.0, 2.0, 3.0], [1.0]]}, [None, "BADTYPE"]),
    "vectors of text": ({"e": [["1", "2", "3"], None]}, ["BADTYPE", None]),
    "vectors of bools": ({"e": [[True, False, True], None]}, ["BADTYPE", None]),
    "vectors of ints": ({"e": [[1, 2, 2**24 + 1], [3, 4, 5]]}, [None, None]),
    "decimals": ({"f": [Decimal("65399.06"), Decimal("36339.34")]}, [None, None]),
    "decimals for ints": ({"i": [Decimal("7.00"), Decimal("7.50")]}, [None, "BADTYPE"]),
    "run ends": ({"f": ree([1.5, 1.5])}, [None, None]),
    "views of bytes": ({"f": pa.array([b"a", None], pa.binary_view())}, ["BADTYPE", None]),
    "dates": ({"i": pa.array([20_000, None], pa.date32())}, ["BADTYPE", None]),
    "moments out of range": ({"s": pa.array([10**13, None], pa.timestamp("s"))}, ["BADTYPE", None]),
    "spans out of range": ({"i": pa.array([10**18, None], pa.duration("s"))}, ["BADTYPE", None]),
    "structs": ({"s": [{"a": 1}, None]}, ["BADTYPE", None]),
    "a time that is infinite": ({"event_time": [float(TIME), math.inf], "i": [1, 2]}, [None, "BADTIME"]),
    "a time beyond 64 bits": ({"event_time": pa.array([TIME, 2**64 - 1], pa.uint64()), "i": [1, 2]}, [None, "BADTIME"]),
    "a text that is no time": ({"event_time": [str(TIME), "soon"], "i": [1, 2]}, [None, "BADTIME"]),
    "a time far ahead": ({"event_time": [TIME, 10**14 - 1], "i": [1, 2]}, [None, "BADTIME"]),
    "seconds among ms": ({"event_time": [TIME, TIME // 1000], "i": [1, 2]}, [None, "BADTIME"]),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_value_rejects_its_row_alone_whatever_holds_it(writer: BulkWriter, name: str) -> None:
    columns, codes = ODD[name]
    table = pa.table({"id": ["a", "b"], **columns})
    expected = [(row, code) for row, code in enumerate(codes) if code]
    frames = [table, table.to_pandas(types_mapper=None)] if "range" not in name else [table]
    for data in (*frames, table.to_pylist()) if "range" not in name and name != "run ends" else frames:
        for write in (writer.write, writer.store.write):
            empty(writer.store)
            result = write(data)
            assert [(bad.row, bad.code) for bad in result.rejected] == expected
            assert result.written == writer.store.count() == len(codes) - len(expected)
        assert [(bad.row, bad.code) for bad in writer.check(data)] == expected
    if name == "decimals":
        assert writer.store.get_many(["a", "b"], ["f"]) == [{"f": 65399.06}, {"f": 36339.34}]


def test_arrays_within_dicts_are_vectors(writer: BulkWriter) -> None:
    rows = [{"id": "a", "e": np.array([1.0, 2.0, 3.0])}, {"id": "b", "i": 1}, {"id": "c", "e": pd.Series([1, 2, 3])}]
    assert writer.write(rows).written == 3
    assert writer.store.get("c", ["e"]) == {"e": [1.0, 2.0, 3.0]}


def test_a_row_with_times_of_its_own_stands_or_falls_as_one(writer: BulkWriter) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "f": 1.0, "f@event_time": TIME - 5, "i": "bad", "i@event_time": TIME - 3, "event_time": TIME},
        {"id": "b", "f": 1.0, "f@event_time": [1], "i": 1, "event_time": TIME},
        {"id": "c", "f": 1.0, "f@event_time": datetime(2020, 1, 1), "i": 1, "event_time": TIME},  # noqa: DTZ001
        {"id": "d", "f": "bad", "f@event_time": TIME - 5, "i": "bad", "i@event_time": TIME - 3, "event_time": TIME},
    ]
    result = writer.write(rows)
    assert [(bad.row, bad.code) for bad in result.rejected] == [(0, "BADTYPE"), (1, "BADTIME"), (3, "BADTYPE")]
    assert (result.written, writer.store.count()) == (1, 1)
    assert sum(result.counts.values()) == 4


def test_rows_without_an_id_behind_others_are_rejected_by_themselves(writer: BulkWriter) -> None:
    rows: list[dict[str, Any]] = [{"id": f"u{row}", "years": 1, "ts": TIME} for row in range(32_768)]
    rows += [{"i": 1}, {"id": "last", "i": 2}]
    result = writer.write(rows, rename={"years": "f"}, time_column="ts")
    assert [(bad.row, bad.code) for bad in result.rejected] == [(32_768, "BADID")]
    assert result.written == 32_769


def test_text_is_stored_as_an_upsert_stores_it_whichever_way_it_goes(writer: BulkWriter) -> None:
    for first in ("1", "z"):  # the row behind a row that is left goes through the upsert, too
        empty(writer.store, {"f": "float", "i": "int"})
        table = pa.table(
            {"id": ["a", "a"], "event_time": [str(TIME), str(TIME + 1)], "f": [first, "6274"], "i": ["1", "2"]}
        )
        writer.write(table, text=True)
        assert writer.store.transport.command("HGET", "user:a:features", "f") == b"6274"


def test_words_that_are_none_are_refused(writer: BulkWriter) -> None:
    for told in ({"nulls": "Remove"}, {"unit": "h"}):
        with pytest.raises(BadArgumentsError, match=r"^(nulls is remove or keep|unit is s, ms, us or ns), not '"):
            writer.write(FRAME, **told)


def test_a_table_with_columns_that_are_no_features_is_refused_unless_they_are_to_be_left_out(
    writer: BulkWriter,
) -> None:
    table = pa.table({"id": ["a"], "i": [1], "ts": [TIME], "other@event_time": [TIME]})
    for write in (writer.write, writer.store.write):
        with pytest.raises(BadArgumentsError, match=r"^the table has columns that are no features: ts\. time_column"):
            write(table)
        assert write(table, ignore_undeclared=True).written == 1
        assert write([{"id": "b", "i": 1, "nope": 2}], ignore_undeclared=True).written == 1
    assert writer.check(table, ignore_undeclared=True) == []


def test_a_data_frame_is_not_for_upsert(writer: BulkWriter) -> None:
    with pytest.raises(BadArgumentsError, match=r"not a data frame: `write` takes data frames and tables$"):
        writer.store.upsert(FRAME)
    with pytest.raises(BadArgumentsError, match=r"^rate is a number of rows a second above 0, not 0$"):
        BulkWriter("redis://127.0.0.1:1/0", rate=0)


def test_an_undeclared_column_rejects_the_rows_that_have_a_value_there(writer: BulkWriter) -> None:
    result = writer.write([{"id": "a", "nope": 1}, {"id": "b", "i": 1}])
    assert (result.written, [(row.row, row.code) for row in result.rejected]) == (1, [(0, "UNDECLARED")])


def test_an_empty_table_changes_nothing(writer: BulkWriter) -> None:
    for data in (
        pa.table({"id": pa.array([], pa.utf8()), "i": pa.array([], pa.int64())}),
        FRAME[:0],
        numpy_table()[:0],
    ):
        assert writer.write(data).written == 0
    assert writer.write([]).written == writer.store.write(iter(())).written == 0


def test_the_asyncio_store_writes_tables_too(writer: BulkWriter, valkey: Server) -> None:
    async def write() -> int:
        store = AsyncFeatureStore.connect(valkey.url)
        try:
            return (await store.write(FRAME, event_time=TIME)).written
        finally:
            await store.close()

    assert asyncio.run(write()) == 3
    assert writer.store.get_many(["1", "2", "3"], ["f", "i", "b", "s"]) == WANTED
