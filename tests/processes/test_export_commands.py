"""`featurestore export` and `verify` as people run them, on the embedded server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet
import pytest
from support.processes import Started, clean_environment
from support.servers import wait_until

from featurestore import EmbeddedServer

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with an embedded server of the test's own, with 1200 users."""
    environment = clean_environment(tmp_path)
    with EmbeddedServer(environment["FEATURESTORE_DATA_DIR"]):
        for command in (["apply"], ["simulate", "--users", "1200", "--once"]):
            subprocess.run([sys.executable, "-m", "featurestore", *command], env=environment, check=True,
                           capture_output=True)  # fmt: skip
        yield environment


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "featurestore", *arguments],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return call


def test_export_and_verify(run: Run, tmp_path: Path) -> None:
    out = run("export", "--out", "users.parquet")
    assert (out.returncode, out.stdout) == (0, "")
    assert "Exported 1200 of 1200 ids in" in out.stderr
    assert "Not in the file: the times of deletions" in out.stderr
    assert pyarrow.parquet.read_table(tmp_path / "users.parquet").num_rows == 1200
    assert run("verify", "users.parquet").returncode == 0
    assert run("delete", "user00007").returncode == 0
    differs = run("verify", "users.parquet", "--json")
    assert differs.returncode == 0, "it was deleted after the file's time"
    assert json.loads(differs.stdout)["newer_in_store"] == 1
    lines = run("export", "--features", "age,n_logins", "--id", "key").stdout.splitlines()
    assert len(lines) == 1199
    assert list(json.loads(lines[0])) == ["key", "@event_time", "age", "n_logins"]


WRONG = [
    (["export", "--out", "x.csv"], 2, "x.csv tells no format"),
    (["export", "--features", "agee"], 2, "'agee' is not declared: user has age, "),
    (["export", "--rate", "0"], 2, "'--rate'"),
    (["export", "--entity", "item"], 1, "no schema"),
    (["export", "--out", "no/such/folder/x.ndjson"], 1, "No such file"),
    (["verify", "x.ndjson"], 2, "there is no file x.ndjson"),
    (["verify"], 2, "Missing argument"),
]
"""Arguments, the exit code, and what is said."""


def test_what_is_wrong_is_said(run: Run, tmp_path: Path) -> None:
    for arguments, code, message in WRONG:
        wrong = run(*arguments)
        assert (wrong.returncode, wrong.stdout) == (code, "")
        assert wrong.stderr.startswith("featurestore: ")
        assert message in wrong.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_export_that_is_stopped_leaves_no_file(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    command = (sys.executable, "-m", "featurestore", "export", "--rate", "20", "--out", str(tmp_path / "out/x.parquet"))
    started = Started(command, environment, tmp_path / "log", terminal=False)
    wait_until(lambda: list((tmp_path / "out").iterdir()), what="a file under way")
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(timeout=20) == 128 + signal.SIGTERM
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_is_shown_on_a_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    command = (sys.executable, "-m", "featurestore", "export", "--out", str(tmp_path / "x.ndjson"))
    inner, outer = os.openpty()
    done = subprocess.run(command, env={**environment, "TERM": "xterm", "COLUMNS": "100"}, stderr=outer, check=True,
                          stdout=subprocess.PIPE)  # fmt: skip
    os.close(outer)
    shown = os.read(inner, 65536).decode()
    os.close(inner)
    assert done.stdout == b""
    assert "Exporting ids" in shown
    assert "1200/1200" in shown


def test_a_pipe_that_closes_early_is_no_error_with_a_trace(environment: dict[str, str]) -> None:
    export = subprocess.Popen([sys.executable, "-m", "featurestore", "export", "--batch", "1"], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert export.stdout is not None
    assert export.stderr is not None
    assert export.stdout.readline()
    export.stdout.close()
    assert b"Traceback" not in export.stderr.read()
    assert export.wait(timeout=20) == 1
    export.stderr.close()
