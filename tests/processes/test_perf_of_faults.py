"""The program that breaks servers under load: with few users it runs to its end, and writes its page."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.binaries import binaries
from support.servers import Server

PROGRAM = Path(__file__).parents[2] / "perf" / "faults.py"


@pytest.mark.skipif("valkey9" not in binaries(), reason="this machine has no valkey9")
def test_a_fault_becomes_a_row_of_the_page(tmp_path: Path) -> None:
    options = ["--server", "valkey9", "--only", "MIGRATESLOTS", "--users", "500", "--timeout-ms", "500"]
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), *options, "--out", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    page = (tmp_path / "reliability.md").read_text()
    (row,) = [line for line in page.splitlines() if "</a>1,024 slots" in line]
    assert row == ran.stdout.strip()
    assert "| Valkey 9 | 0 of " in row
    assert "There were none." in page


def test_the_faults_are_listed() -> None:
    ran = subprocess.run([sys.executable, str(PROGRAM), "--list"], capture_output=True, text=True, check=True)
    assert "kill -9 a primary" in ran.stdout.splitlines()
    wrong = subprocess.run([sys.executable, str(PROGRAM), "--only", "no such fault"], capture_output=True, check=False)
    assert wrong.returncode == 2


_WITHOUT = """
import importlib.abc, runpy, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in WITHOUT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = sys.argv[1:]
sys.path.insert(0, PERF)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def without(packages: set[str], program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program of perf/ as where these packages are not installed."""
    source = f"WITHOUT, PERF = {packages!r}, {str(PROGRAM.parent)!r}\n{_WITHOUT}"
    words = [sys.executable, "-c", source, str(PROGRAM.parent / program), *options]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_faults_need_no_more_than_the_package_itself() -> None:
    ran = without({"pytest", "hypothesis", "numpy", "pandas", "httpx", "matplotlib", "pyarrow"}, "faults.py", "--list")
    assert "kill -9 a primary" in ran.stdout, ran.stderr


def test_missing_packages_are_one_clear_line() -> None:
    ran = without({"numpy"}, "scale.py", "--made")
    assert (ran.returncode, ran.stderr) == (1, "numpy is missing: pip install -e '.[perf]' in a checkout\n")


def test_a_server_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    if "valkey9" not in binaries():
        pytest.skip("this machine has no valkey9")
    server = Server(binaries()["valkey9"], tmp_path, "--no-such-option", "1")
    with pytest.raises(RuntimeError, match=r"(?s)did not start:.*no-such-option"):
        server.start()
    server.stop()


def test_a_trial_that_failed_leaves_the_page_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(PROGRAM.parent), *sys.path])
    faults = pytest.importorskip("faults")
    (tmp_path / "reliability.md").write_text("as it was")
    monkeypatch.setattr(faults, "_outcomes", lambda *_: iter([(faults.FAULTS[0], "the trial failed: no server")]))
    monkeypatch.setattr(sys, "argv", ["faults.py", "--server", "valkey9", "--out", str(tmp_path)])
    assert faults.main() == 1
    assert (tmp_path / "reliability.md").read_text() == "as it was"
