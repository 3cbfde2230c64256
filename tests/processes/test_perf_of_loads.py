"""The programs of perf/ that measure loads: with few rows they run to their end, and write their pages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]


def run(program: str, folder: Path, *options: str) -> str:
    """Run a program of perf/, which keeps its files in that folder, and return what it prints."""
    command = [sys.executable, str(ROOT / "perf" / program), *options]
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("gaps", "vector"), [(0.0, 0), (0.3, 0), (0.0, 64)])
def test_a_file_of_users_has_what_was_asked_for(gaps: float, vector: int, tmp_path: Path) -> None:
    path = Path(run("user_files.py", tmp_path, "--rows", "1000", "--gaps", str(gaps), "--vector", str(vector)).strip())
    assert path.is_relative_to(tmp_path)
    table = pq.read_table(path)
    assert (table.num_rows, len(set(table["user_id"].to_pylist()))) == (1000, 1000)
    assert table["user_id"].null_count == table["ts"].null_count == 0
    nulls = [table[name].null_count for name in table.column_names[2:12]]
    assert all(200 < count < 400 for count in nulls) if gaps else not any(nulls)
    assert [len(row) for row in table["embedding"].to_pylist()] == [64] * 1000 if vector else len(table.columns) == 12


def test_loads_are_compared(tmp_path: Path) -> None:
    options = ("--rows", "400", "--vector-rows", "200", "--memory-rows", "500", "--runs", "1", "--feast", "/none")
    printed = run("load.py", tmp_path, *options, "--out", str(tmp_path / "pages"))
    page = (tmp_path / "pages" / "load.md").read_text()
    for what in ("400 rows of 10 features", "400 rows with 5% gaps", "200 rows with a vector of 64"):
        assert re.search(rf"\| {what}, load over the loop \| \d+\.\d\d times", page)
    assert re.search(r"memory of load at most, 500 rows \| \d+ MiB \| at most 300 MiB: reached", page)
    assert "Feast is not measured: /none does not exist" in printed
    assert str(tmp_path) not in page


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_gets_are_measured_beside_a_load(tmp_path: Path) -> None:
    options = (
        "--rows",
        "400000",
        "--users",
        "100",
        "--rate",
        "1000",
        "--workers",
        "1",
        "--seconds",
        "1",
        "--rounds",
        "1",
    )
    run("beside_load.py", tmp_path, *options, "--out", str(tmp_path / "pages"))
    page = (tmp_path / "pages" / "beside_load.md").read_text()
    assert re.search(r"\| GET at 16 connections, beside load \| .*, \d+\.\d\d times that alone; [\d,]+ rows/s", page)
