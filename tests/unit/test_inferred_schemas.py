"""Schemas made from data: what each column is taken for, and that the file is one that can be applied."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from featurestore.ingest.files.columns import Wishes
from featurestore.ingest.files.infer import infer_schema
from featurestore.ingest.files.survey import Reader
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from featurestore import ConfigurationError
from featurestore.schema.definition import read_definition

GAPS = 'x = "int"  # whole numbers with gaps, which pandas makes floats; "float" if they may have fractions'
TIME = 'x = "string"  # looks like a time; --event-time names the rows\' own time'
TIMES = '# "x": times are no features: ms since 1970 are an int, and --event-time names the rows\' own time'
MS = 1_767_225_600_000


def inferred(path: Path, wishes: Wishes | None = None, entity: str | None = None) -> str:
    text: str = infer_schema([str(path)], Reader(), wishes or Wishes(), entity)
    return text


def line_of_x(path: Path) -> str:
    (line,) = [line for line in inferred(path).splitlines() if line.startswith(("x = ", '# "x"'))]
    return line


def of_column(folder: Path, values: Any) -> str:
    """The line of a schema about a column `x` of these values."""
    path = folder / "rows.parquet"
    column = values if isinstance(values, pa.Array) else pa.array(values)
    parquet.write_table(
        pa.table({"user_id": [f"u{n}" for n in range(len(column))], "x": column, "y": [1.5] * len(column)}), path
    )
    return line_of_x(path)


def of_texts(folder: Path, texts: list[str]) -> str:
    path = folder / "rows.csv"
    path.write_text("user_id;x;y\n" + "".join(f"u{n};{text};1.5\n" for n, text in enumerate(texts)))
    return line_of_x(path)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([1, 2], 'x = "int"'),
        ([0, 1], 'x = "int"  # 0 and 1 alone: bool, perhaps'),
        ([1.5, 2.0], 'x = "float"'),
        ([1.0, None], GAPS),
        ([1.0, 2.0], 'x = "float"  # whole numbers alone; "int" would do as long as they are'),
        ([True, None], 'x = "bool"'),
        (["a", None], 'x = "string"'),
        ([MS, MS + 5], 'x = "int"'),
        (pa.array(["a", "b"]).dictionary_encode(), 'x = "string"'),
        (pa.array([2**63], pa.uint64()), 'x = "string"  # some are beyond 64 bits; they have to be text in the data'),
        ([[1.0, 2.0], None, [3.0, 4.0]], 'x = "float32[2]"'),
        ([[1.0, 2.0], [3.0]], '# "x": lists of 1 to 2 numbers: a vector has one length'),
        ([["a"]], '# "x": lists that are not of numbers are no features'),
        ([{"a": 1}], '# "x": nested values are no features'),
        ([b"a"], '# "x": bytes are no features'),
        (pa.nulls(2), '# "x": no value in 2 rows: choose a type, such as "float"'),
        (pa.array([MS], pa.timestamp("ms")), TIMES),
    ],
)  # fmt: skip
def test_columns_of_arrow(tmp_path: Path, values: Any, line: str) -> None:
    assert of_column(tmp_path, values) == line


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (["1", "-2", ""], 'x = "int"'),
        (["1.0", ""], GAPS),
        (["1.5", "2"], 'x = "float"'),
        (["1e3", ".5"], 'x = "float"'),
        (["True", "false"], 'x = "bool"'),
        (["00123", "5"], 'x = "string"  # has int as well'),
        (["9223372036854775808"], 'x = "string"  # some are beyond 64 bits; they have to be text in the data'),
        (["2026-01-01", "2026-01-01T00:00:00Z"], TIME),
        (["[1, 2.5]", "[3, 4]"], 'x = "float32[2]"'),
        (["", ""], '# "x": no value in 2 rows: choose a type, such as "float"'),
        (["a", "nan"], 'x = "string"'),
    ],
)  # fmt: skip
def test_columns_of_text(tmp_path: Path, texts: list[str], line: str) -> None:
    assert of_texts(tmp_path, texts) == line


def test_the_ids_column_tells_the_entity(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("item_id,price\ni1,2.5\n")
    assert 'entity = "item"\n# ids: column item_id\n' in inferred(path)
    assert 'entity = "shop"\njoin_key = "item_id"\n' in inferred(path, entity="shop")
    path.write_text("sku,price\ni1,2.5\n")
    with pytest.raises(
        ConfigurationError, match=r"which column has the ids\? --id COLUMN tells \(columns: sku, price\)"
    ):
        inferred(path)
    assert 'entity = "user"\njoin_key = "sku"\n' in inferred(path, Wishes(id="sku"))
    path.write_text("user_id,price\n")
    with pytest.raises(ConfigurationError, match="no rows to make a schema from"):
        inferred(path)


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=140), min_size=1, max_size=5, unique=True))
def test_whatever_columns_are_called_the_file_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    path = folder / "rows.ndjson"
    path.write_text(json.dumps({"user_id": "a", "age": 1} | dict.fromkeys(names, 1.5)))
    schema = folder / "schema.toml"
    schema.write_text(inferred(path, Wishes(id="user_id")), encoding="utf-8")
    assert "age" in read_definition(schema).features
