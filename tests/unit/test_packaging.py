"""What an installed wheel has, and that it works away from the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

from featurestore.scripts import SCRIPTS

ROOT = Path(__file__).parents[2]


def test_a_wheel_puts_one_name_into_site_packages_and_works_from_there(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tracked = ["setup.cfg", "pyproject.toml", "README.md", "featurestore", "ingest", "lua"]
    source.mkdir()
    subprocess.run(["cp", "-r", *(ROOT / name for name in tracked), source], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source],
        check=True, cwd=tmp_path,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(installed)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"featurestore"}
    expected = {"py.typed", "features.toml", "lua/get_features.lua", "lua/include/parse.lua", "ingest/commands.py"}
    assert {f"featurestore/{name}" for name in expected} <= set(names)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import featurestore.ingest.commands, featurestore.scripts as s;"
        "from featurestore import read_definition; read_definition(); print(s.script_folder(), s.SCRIPTS[0].sha)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, installed], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout.split()
    assert shown == [str(installed / "featurestore" / "lua"), SCRIPTS[0].sha]


def test_the_environment_finds_the_mapped_folders() -> None:
    code = (
        "import featurestore.ingest.writer as w, featurestore.scripts as s; print(w.__name__, s.script_folder().name)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd="/").stdout
    assert shown.split() == ["featurestore.ingest.writer", "lua"]


def test_gunicorn_reads_the_configuration_of_the_checkout() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--print-config", "--check-config"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    ).stdout  # fmt: skip
    settings = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    found = {name.strip(): value.strip() for name, value in settings.items()}
    assert "featurestore.worker" in found["worker_class"]
    assert "127.0.0.1:8000" in found["bind"]
