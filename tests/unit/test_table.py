"""Tables of features: sequences of rows, matrices and data frames."""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.fake import FakeTransport

from featurestore import Definition, FeatureStore
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
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[numpy\]'"):
        TABLE.to_numpy(["age"])


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[pandas\]'"):
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
        lambda: FeatureTable.of([7, 8], rows),  # type: ignore[list-item]
        lambda: FeatureTable.of(["a", "b"], rows, "age"),
    ]
    for call in calls:
        with pytest.raises(BadArgumentsError):
            call()
