"""Loads on a terminal and without one, and in environments that lack something."""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from featurestore.ingest.files.checkpoint import Progress
from featurestore.ingest.files.display import Display
from featurestore.ingest.files.survey import Surveyed
from support.loading import LOAD, environment_of
from support.processes import clean_environment
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, SyncTransport


@pytest.fixture
def environment(tmp_path: Path, valkey: Server) -> dict[str, str]:
    with FeatureStore(SyncTransport(valkey.socket_url, timeout=5, connect_timeout=5)) as store:
        store.apply(Definition(features={"age": "int"}))
    return environment_of(valkey.socket_url, {**clean_environment(tmp_path), "TERM": "xterm", "COLUMNS": "100"})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(
        "user_id,age\n" + "".join(f"u{number},{'x' if number == 700 else number}\n" for number in range(2000))
    )
    return path


def test_on_a_terminal_a_bar_shows_how_far_the_load_is(environment: dict[str, str], rows: Path, tmp_path: Path) -> None:
    ours, its = os.openpty()
    with subprocess.Popen(
        [*LOAD, str(rows), "--rate", "4000"],
        env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=its, text=True,
    ) as process:  # fmt: skip
        os.close(its)
        shown = read_terminal(ours)
        assert process.wait(30) == 1
    assert re.search(r"[12],000 rows, [\d,]+ rows/s, 1 rejected", shown)
    assert "\x1b[2K" in shown
    assert "WARNING rows.csv, row 700: BADTYPE age is int, not 'x'" in shown
    assert "2,000 rows in " in shown


def read_terminal(descriptor: int) -> str:
    """What a process writes to its terminal, until it closes it."""
    pieces = []
    with contextlib.suppress(OSError):  # which is how Linux tells the end
        while piece := os.read(descriptor, 65_536):
            pieces.append(piece)
    os.close(descriptor)
    return b"".join(pieces).decode()


def test_without_a_terminal_lines_show_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("featurestore.ingest.files.display._LINE_EVERY_S", 0.0)
    by_rows = Display([Surveyed("a", None, 100, 50), Surveyed("b", None, 100, 150)], Progress())
    by_bytes = Display([Surveyed("a", None, 100, 50), Surveyed("b", None, 100, None)], Progress())
    untold = Display([Surveyed("-", None, 0, None)], Progress())
    with caplog.at_level(logging.INFO):
        for display in (by_rows, by_bytes, untold):
            display.show(Progress(file=1, row=50, rows=100, rejected=3), 60)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" rows, ")[0] for line in lines] == ["100"] * 3
    assert all("3 rejected" in line for line in lines)
    assert ", 50%, " in lines[0]
    assert ", 80%, " in lines[1]
    assert lines[2].endswith("3 rejected")


def run(environment: dict[str, str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment, cwd=environment["FEATURESTORE_DATA_DIR"] + "/..", capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_without_pyarrow_ndjson_is_loaded_and_the_rest_refused(
    environment: dict[str, str], rows: Path, tmp_path: Path
) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from featurestore.cli import main; main(['load', *sys.argv[1:]])"
    Path(environment["FEATURESTORE_DATA_DIR"]).mkdir()
    lines = tmp_path / "rows.ndjson"
    lines.write_text('{"id": "a", "age": 3, "event_time": 1767225600}\n{"id": "b", "age": 4}\n')
    loaded = run(environment, code, str(lines))
    assert (loaded.returncode, json.loads(loaded.stdout)["written"]) == (0, 2)
    refused = run(environment, code, str(rows))
    assert refused.returncode == 2
    assert "need pyarrow (pip install 'redis-featurestore[arrow]'), NDJSON does not" in refused.stderr


def test_no_redis_ends_the_load_at_once(environment: dict[str, str], rows: Path, tmp_path: Path) -> None:
    environment["REDIS_URL"] = f"unix://{tmp_path}/nobody"
    Path(environment["FEATURESTORE_DATA_DIR"]).mkdir()
    ended = run(environment, "from featurestore.cli import main; import sys; main(['load', sys.argv[1]])", str(rows))
    assert ended.returncode == 1
    assert "Redis cannot be reached" in ended.stderr


def test_a_load_of_a_pipe_that_waits_for_rows_can_be_stopped(environment: dict[str, str], tmp_path: Path) -> None:
    with (
        FeatureStore(SyncTransport(environment["REDIS_URL"], timeout=5, connect_timeout=5)) as store,
        subprocess.Popen(
            [*LOAD, "-"], env=environment, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        assert process.stdin is not None
        process.stdin.write('{"id": "a", "age": 3}\n')
        process.stdin.flush()
        wait_until(lambda: store.get("a") == {"age": 3}, what="the first row")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert process.stderr is not None
        assert "stopped behind row 1, 0 rejected: nothing remembers it" in process.stderr.read()
