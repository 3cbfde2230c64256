"""Tables of features: sequences of rows, matrices and data frames."""

import copy
import math
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.fake import FakeTransport

from featurestore import Definition, FeatureStore
from featurestore.contract import arrow
from featurestore.errors import BadArgumentsError, BadValueError, ConfigurationError, UndeclaredFeatureError
from featurestore.schema.types import Value
from featurestore.store.table import FeatureTable

ROWS: list[Any] = [
    {"age": 31.5, "n": 2**53 + 1, "premium": True, "country": "DE", "e": [0.5, 1.0]},
    None,
    {"age": None, "n": 7, "premium": None, "country": None, "e": None},
]
TABLE = FeatureTable.of(["a", "nope", "b"], ROWS)
NAN = math.nan


def test_a_table_is_a_sequence_of_its_rows() -> None:
    assert (TABLE.ids, TABLE.names) == (("a", "nope", "b"), ("age", "n", "premium", "country", "e"))
    assert (len(TABLE), TABLE[0], TABLE[-1], list(TABLE)) == (3, ROWS[0], ROWS[2], ROWS)
    assert None in TABLE
    assert TABLE.index(None) == 1
    assert TABLE[1:] == FeatureTable(["nope", "b"], ROWS[1:], TABLE.names)
    assert TABLE[1:] != TABLE
    assert TABLE != ROWS
    assert repr(TABLE) == "<FeatureTable of 3 rows and 5 features>"
    with pytest.raises(IndexError):
        TABLE[3]


def test_dicts_of_a_table_are_the_callers() -> None:
    rows: Any = TABLE.to_dict()
    rows[0]["age"] = 0.0
    assert TABLE.to_dict() == ROWS


def test_a_matrix_has_a_row_an_id_and_a_column_a_feature() -> None:
    matrix = TABLE.to_numpy(["premium", "age", "n"])
    assert (str(matrix.dtype), matrix.shape) == ("float64", (3, 3))
    np.testing.assert_array_equal(matrix, [[1.0, 31.5, 2.0**53], [NAN, NAN, NAN], [NAN, NAN, 7.0]])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (None, r"country holds text \('DE'\), a matrix only numbers: name the features wanted without it"),
        (["age", "e"], r"e holds vectors \(\[0.5, 1.0\]\)"),
    ],
)
def test_text_and_vectors_have_no_place_in_a_matrix(features: list[str] | None, message: str) -> None:
    with pytest.raises(BadValueError, match=message):
        TABLE.to_numpy(features)


def test_text_that_looks_like_a_number_is_text() -> None:
    with pytest.raises(BadValueError, match="zip holds text"):
        FeatureTable.of(["a"], [{"zip": "00123"}]).to_numpy()


def test_a_feature_that_the_table_has_not_is_told() -> None:
    with pytest.raises(UndeclaredFeatureError, match="nope is none of this table's features: age, n"):
        TABLE.to_numpy(["nope"])


def test_tables_without_rows_or_without_known_ids() -> None:
    assert FeatureTable.of([], []).to_numpy().shape == (0, 0)
    assert FeatureTable.of([], [], ["age"]).to_numpy().shape == (0, 1)
    unknown = FeatureTable.of(["x", "y"], [None, None], ["age", "n", "age"])
    np.testing.assert_array_equal(unknown.to_numpy(), [[NAN, NAN], [NAN, NAN]])
    with pytest.raises(BadArgumentsError, match="1 rows for 2 ids"):
        FeatureTable.of(["x", "y"], [None])


def test_results_of_the_direct_store_become_a_matrix() -> None:
    store = FeatureStore(FakeTransport())
    store.apply(Definition(features={"age": "float", "n": "int"}))
    store.upsert([("a", {"age": 1.5, "n": 2})])
    ids = ["a", "nope", "a"]
    table = FeatureTable.of(ids, store.get_many(ids, ["n", "age"]), ["n", "age"])
    np.testing.assert_array_equal(table.to_numpy(), [[2.0, 1.5], [NAN, NAN], [2.0, 1.5]])


def test_a_query_of_the_direct_store_knows_the_types() -> None:
    store = FeatureStore(FakeTransport())
    store.apply(Definition(features={"age": "float", "n": "int", "clicks": "count(10m)"}))
    table = store.query([{"user": "nope"}], ["n", "user:age", "clicks"])
    assert table.types == {"n": "int", "user:age": "float", "clicks": "int"}
    assert [str(kind) for kind in table.to_pandas().dtypes] == ["Int64", "float64", "Int64"]
    plain = FeatureTable.of(["nope"], store.get_many(["nope"], ["n"]), ["n"], store.schema().features)
    assert str(plain.to_pandas()["n"].dtype) == "Int64"


def test_a_data_frame_keeps_types_where_values_are_missing() -> None:
    pytest.importorskip("pandas")
    frame = TABLE.to_pandas()
    assert (list(frame.index), frame.index.name, list(frame.columns)) == (["a", "nope", "b"], "id", list(TABLE.names))
    assert [str(kind) for kind in frame.dtypes] == ["float64", "Int64", "boolean", "object", "object"]
    assert frame["n"].tolist()[0::2] == [2**53 + 1, 7]
    assert (frame.loc["a", "country"], frame.loc["a", "e"]) == ("DE", [0.5, 1.0])
    assert frame.loc["nope"].isna().all()
    assert FeatureTable.of(["x", "x"], [None, None], ["age"]).to_pandas().shape == (2, 1)


def test_without_numpy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'redis-featurestore\[numpy\]'"):
        TABLE.to_numpy(["age"])


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'redis-featurestore\[pandas\]'"):
        TABLE.to_pandas()


def test_ids_and_columns_are_any_iterable_of_text_but_a_text() -> None:
    rows: list[dict[str, Value | None] | None] = [{"age": 1.5}, None]
    table = FeatureTable.of(np.array(["a", "b"]), rows, np.array(["age"]))
    assert (table.ids, table.names, table) == (("a", "b"), ("age",), FeatureTable.of(("a", "b"), rows, ["age"]))
    assert table.to_numpy(np.array(["age"])).shape == table.to_numpy(iter(["age"])).shape == (2, 1)
    calls: list[Callable[[], Any]] = [
        lambda: table.to_numpy("age"),
        lambda: table.to_numpy([7]),  # type: ignore[list-item]
        lambda: FeatureTable.of("ab", rows),
        lambda: FeatureTable.of([7.5, 8], rows),  # type: ignore[list-item]
        lambda: FeatureTable.of(["a", "b"], rows, "age"),
    ]
    for call in calls:
        with pytest.raises(BadArgumentsError):
            call()


# Types


TYPES = {"age": "float", "n": "int", "premium": "bool", "country": "string", "e": "float32[2]"}


def came_as_columns(rows: list[Any] = ROWS, ids: tuple[str, ...] = TABLE.ids) -> FeatureTable:
    """The table of a batch as the server answers it."""
    of = [[None if row is None else row[name] for row in rows] for name in TYPES]
    arrays = [pa.array(values, arrow.type_of(kind)) for values, kind in zip(of, TYPES.values(), strict=True)]
    known = pa.array([row is not None for row in rows])
    batch = pa.RecordBatch.from_arrays([pa.array(ids), known, *arrays], ["user_id", "@known", *TYPES])
    sent = pa.ipc.new_stream(sink := pa.BufferOutputStream(), batch.schema)
    sent.write(dense(batch))
    sent.close()
    return FeatureTable.of_arrow(ids, arrow.read_batch(sink.getvalue().to_pybytes()))


def dense(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, with numbers in the places of vectors that are not there: pyarrow's lists would have nulls."""
    column = batch.column("e")
    numbers = pa.array([number or 0.0 for number in column.values.to_pylist()], pa.float32())
    made = pa.Array.from_buffers(column.type, len(column), column.buffers()[:1], children=[numbers])
    return batch.set_column(batch.schema.names.index("e"), "e", made)


COLUMNS = came_as_columns()
BOTH = {"rows": FeatureTable.of(TABLE.ids, ROWS, types=TYPES), "columns": COLUMNS}


@pytest.fixture(params=list(BOTH))
def table(request: pytest.FixtureRequest) -> FeatureTable:
    """The same table, made of rows and of columns."""
    return BOTH[request.param]


def test_a_table_that_came_as_columns_is_a_sequence_of_the_same_rows(table: FeatureTable) -> None:
    assert table == TABLE
    assert (table.ids, table.names, len(table), table[0], table[-1]) == (TABLE.ids, TABLE.names, 3, ROWS[0], ROWS[2])
    assert [type(value) for value in (table[0] or {}).values()] == [float, int, bool, str, list]
    assert (table.types, table[1:].types) == (TYPES, TYPES)
    assert repr(table) == repr(TABLE)
    table.to_dict()[0]["age"] = 0.0  # type: ignore[index]
    assert table.to_dict() == ROWS


def test_parts_and_copies_of_a_table_are_equal_to_it(table: FeatureTable) -> None:
    for same in (
        copy.copy(table),
        copy.deepcopy(table),
        pickle.loads(pickle.dumps(table)),
        table[:],
        table[::-1][::-1],
    ):
        assert (same, same.types) == (table, table.types)
    for part in (slice(1, 3), slice(-1, None), slice(2, 1), slice(0, 9), slice(None, None, 2)):
        assert table[part].to_dict() == ROWS[part]
        np.testing.assert_array_equal(table[part].to_numpy(["n", "premium"]), TABLE.to_numpy(["n", "premium"])[part])
        np.testing.assert_array_equal(table[part].column("e"), table.column("e")[part])
        assert table[part].to_arrow()["country"].to_pylist() == [row and row["country"] for row in ROWS[part]]


def test_parts_that_begin_inside_of_a_byte() -> None:
    rows: list[Any] = [
        {"age": None if number % 3 else 0.5 * number, "n": number, "premium": number % 2 == 1, "country": "é" * number,
         "e": None if number % 7 else [number, 0.5]}
        for number in range(40)
    ]  # fmt: skip
    rows[::5] = [None] * 8
    whole = came_as_columns(rows, tuple(f"u{number}" for number in range(40)))
    assert whole.to_dict() == rows
    part = whole[11:30]
    plain = FeatureTable(part.ids, rows[11:30], TYPES, TYPES)
    assert part == plain
    for name in TYPES:
        np.testing.assert_array_equal(part.column(name), plain.column(name))
    np.testing.assert_array_equal(part.to_numpy(["age", "n", "premium"]), plain.to_numpy(["age", "n", "premium"]))
    assert pickle.loads(pickle.dumps(part)) == part


def test_a_column_has_the_type_of_its_feature(table: FeatureTable) -> None:
    age, n, premium, country, e = map(table.column, TYPES)
    assert [each.dtype for each in (age, n, premium, country, e)] == ["float64", "int64", "bool", "object", "float32"]
    np.testing.assert_array_equal(age, [31.5, NAN, NAN])
    assert isinstance(n, np.ma.MaskedArray)
    assert isinstance(premium, np.ma.MaskedArray)
    assert (n.tolist(), premium.tolist()) == ([2**53 + 1, None, 7], [True, None, None])
    assert country.tolist() == ["DE", None, None]
    np.testing.assert_array_equal(e, [[0.5, 1.0], [NAN, NAN], [NAN, NAN]])
    with pytest.raises(UndeclaredFeatureError, match="nope is none of"):
        table.column("nope")


def test_types_follow_the_schema_where_there_is_no_value() -> None:
    nothing: list[Any] = [None, dict.fromkeys(TYPES), dict.fromkeys(TYPES)]
    for made in (came_as_columns(nothing), FeatureTable.of(TABLE.ids, nothing, TYPES, TYPES)):
        assert [str(kind) for kind in made.to_pandas().dtypes] == ["float64", "Int64", "boolean", "object", "object"]
        assert [str(made.column(name).dtype) for name in TYPES] == ["float64", "int64", "bool", "object", "float32"]
        assert made.column("e").shape == (3, 2)
        assert made.to_arrow().schema.types[2:] == [arrow.type_of(kind) for kind in TYPES.values()]
        assert np.isnan(made.to_numpy(["age", "n", "premium"])).all()
        for name, held in (("country", "text"), ("e", "vectors")):
            with pytest.raises(BadValueError, match=f"{name} holds {held}, a matrix only numbers"):
                made.to_numpy([name])


def test_a_matrix_and_a_data_frame_of_columns_are_those_of_rows(table: FeatureTable) -> None:
    pandas = pytest.importorskip("pandas")
    matrix = table.to_numpy(["premium", "age", "n"])
    np.testing.assert_array_equal(matrix, TABLE.to_numpy(["premium", "age", "n"]))
    matrix[0, 0] = 7  # it is the caller's
    frame = table.to_pandas()
    pandas.testing.assert_frame_equal(frame, TABLE.to_pandas())
    frame.loc["a", ["age", "n"]] = [1.0, 2]
    assert table[0] == ROWS[0]
    assert table.column("n")[0] == 2**53 + 1


def test_columns_are_over_the_memory_that_came() -> None:
    whole = [{"age": 1.5, "n": 1, "premium": True, "country": "x", "e": [1.0, 2.0]}] * 3
    made = came_as_columns(whole)
    for name in ("age", "n", "e"):
        assert not made.column(name).flags.owndata
    first = made.to_arrow().column("e").chunk(0).values.buffers()[1].address
    assert made.column("e").__array_interface__["data"] == (first, True)


def test_other_libraries_take_the_columns(table: FeatureTable) -> None:
    taken = pa.table(table)
    assert taken.schema.names == ["user_id" if table is COLUMNS else "id", "@known", *TYPES]
    assert taken.column(0).to_pylist() == list(TABLE.ids)
    assert taken["@known"].to_pylist() == [True, False, True]
    for name in TYPES:
        assert taken[name].to_pylist() == [row and row[name] for row in ROWS]
    assert pa.RecordBatchReader.from_stream(table).read_all() == taken


def test_types_that_are_not_known_are_those_of_the_values() -> None:
    rows: list[Any] = [{"i": 1, "f": 0.5, "m": 1, "v": [1, 2], "none": None, "odd": 1}, {"f": 1, "m": 0.5, "odd": "x"}]
    plain = FeatureTable.of(["a", "b"], rows, ["i", "f", "m", "v", "none", "odd"])
    assert plain.types == {}
    kinds = [str(plain.column(name).dtype) for name in ("i", "f", "m", "v", "none")]
    assert kinds == ["int64", "float64", "float64", "float32", "float64"]
    for call in (lambda: plain.column("odd"), plain.to_arrow):
        with pytest.raises(BadValueError, match="odd holds values of several types"):
            call()
    wrong = FeatureTable.of(["a"], [{"n": "x"}], types={"n": "int"})
    with pytest.raises(BadValueError, match="n holds values that are not int"):
        wrong.column("n")
    assert FeatureTable.of(["a"], [{"w": 3}], types={"w": "count(10m)", "nope": "int"}).types == {"w": "int"}
    assert FeatureTable.of(["a"], [{"id": 3}]).to_arrow().schema.names == ["@id", "@known", "id"]


def test_a_batch_that_is_no_table_of_features_is_refused() -> None:
    for columns, message in (
        ({"user_id": ["a", "b"], "n": [1, 2]}, "2 rows for 1 ids"),
        ({"user_id": ["a"], "n": [b"x"]}, "column n is no feature's"),
    ):
        with pytest.raises(BadArgumentsError, match=message):
            FeatureTable.of_arrow(["a"], pa.RecordBatch.from_pydict(columns))
    for stream in (b"", b"\xff" * 100, b"{}"):
        with pytest.raises(ValueError, match="no stream of Arrow"):
            arrow.read_batch(stream)


def test_a_query_has_the_columns_without_those_of_its_ids() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"user:@id": ["u", None], "user:@known": [True, False], "age": [1.5, None], "item:price": [2.5, 3.5]}
    )
    made = FeatureTable.of_arrow(["user:u item:i", "item:i"], batch)
    assert made.names == ("age", "item:price")
    assert made.to_dict() == [{"age": 1.5, "item:price": 2.5}, {"age": None, "item:price": 3.5}]


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "_library", lambda: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'redis-featurestore\[arrow\]'"):
        TABLE.to_arrow()
    monkeypatch.undo()
    assert TABLE.column("age").dtype == "float64"
