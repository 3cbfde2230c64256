"""What an installed wheel has, and that it works away from the checkout."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from featurestore.contract.scripts import SCRIPTS

ROOT = Path(__file__).parents[2]
TRACKED = ("setup.cfg", "setup.py", "MANIFEST.in", "pyproject.toml", "README.md", "featurestore", "ingest", "lua")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What is tracked of the checkout; nothing that was built in it."""
    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["cp", "-r", *(ROOT / name for name in TRACKED), source], check=True)
    for built in source.glob("featurestore/native/*.so"):
        built.unlink()
    return source


def files_of(source: Path) -> set[str]:
    """What a wheel is to have of a checkout, extensions aside: modules, their types, scripts, the schema, and pages."""
    folders = {"featurestore": "featurestore", "ingest": "featurestore/ingest", "lua": "featurestore/lua"}
    kinds = {".py", ".pyi", ".typed", ".toml", ".lua", ".html", ".css", ".js"}
    return {
        f"{name}/{path.relative_to(source / folder)}"
        for folder, name in folders.items()
        for path in (source / folder).rglob("*")
        if path.suffix in kinds
    }


def build_wheel(source: Path, folder: Path, **environment: str) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source],
        check=True, cwd=folder, env={**os.environ, **environment},
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_a_wheel_puts_one_name_into_site_packages_and_works_from_there(tmp_path: Path, source: Path) -> None:
    installed = tmp_path / "site"
    with zipfile.ZipFile(build_wheel(source, tmp_path)) as archive:
        names = archive.namelist()
        archive.extractall(installed)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"featurestore"}
    built = {name for name in names if name.endswith(".so")}
    assert {name for name in names if ".dist-info/" not in name} == files_of(source) | built
    assert "featurestore/native/rows.pyi" in names
    if shutil.which("cc"):
        built_of = ("columns", "partitions", "rows", "sockets", "transcode")
        extensions = {f"featurestore/native/{name}" for name in built_of}
        assert {name.partition(".")[0] for name in built} == extensions
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import featurestore.ingest.commands;"
        "import featurestore.contract.scripts as s;"
        "from featurestore import read_definition; read_definition(); print(s.script_folder(), s.SCRIPTS[0].sha)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, installed], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout.split()
    assert shown == [str(installed / "featurestore" / "lua"), SCRIPTS[0].sha]


def test_a_wheel_is_built_without_a_compiler(tmp_path: Path, source: Path) -> None:
    wheel = build_wheel(source, tmp_path, CC="/nonexistent/cc")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "featurestore/contract/json_rows.py" in names
    assert not [name for name in names if name.endswith(".so")]
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1]);"
        "runpy.run_module('featurestore.native', run_name='__main__')"
    )
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code, tmp_path / "site"], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    assert shown.startswith(
        "C extensions are missing (columns, partitions, rows, sockets, transcode), "
        "so slower Python code does their work"
    )
    assert shown.count("\n") == 1


def test_a_source_distribution_has_what_a_build_needs(tmp_path: Path, source: Path) -> None:
    subprocess.run([sys.executable, "setup.py", "-q", "sdist", "--dist-dir", tmp_path], check=True, cwd=source)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    native = ("columns.c", "partitions.c", "rows.c", "transcode.c", "sockets.c", "partition.h", "reader.h", "writer.h")
    sources = {*(f"featurestore/native/{name}" for name in native), "lua/include/parse.lua"}
    assert {"setup.py", "setup.cfg", *sources} <= names


def test_the_environment_finds_the_mapped_folders() -> None:
    code = (
        "import featurestore.ingest.writer as w, featurestore.contract.scripts as s;"
        "print(w.__name__, s.script_folder().name)"
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
    assert "featurestore.worker.worker" in found["worker_class"]
    assert "127.0.0.1:8000" in found["bind"]


@pytest.mark.parametrize(
    ("target", "extras"),
    [
        ("install", ["."]),
        ("demo", [".[swagger]"]),
        ("quick", [".[test]"]),
        ("test", [".[test]"]),
        ("coverage", [".[test]"]),
        ("sanitize", [".[test]"]),
        ("lint", [".[test]", ".[lint]"]),
        ("release", [".[release]"]),
    ],
)
def test_make_installs_what_a_target_needs_alone(target: str, extras: list[str], source: Path) -> None:
    shutil.copy(ROOT / "Makefile", source)
    shown = subprocess.run(
        ["make", "--dry-run", f"PYTHON={sys.executable}", target],
        check=True,
        capture_output=True,
        text=True,
        cwd=source,
    ).stdout
    assert [line.rpartition(" ")[2].strip("'") for line in shown.splitlines() if "--editable" in line] == extras


def test_the_page_for_contributors_names_targets_that_exist_and_every_folder_of_tests() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"[`$] ?make ([a-z-]+)", page)) <= targets
    folders = {path.parent.name for path in ROOT.glob("tests/*/*.py")}
    assert set(re.findall(r"`tests/([a-z_]+)`", page)) == folders


def test_make_refuses_an_old_python_before_it_makes_anything(source: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", source)
    old = tmp_path / "python"
    code = "import sys; sys.version_info = (3, 9); exec(sys.argv.pop(1))"
    old.write_text(f"#!/bin/sh\nshift\nexec {sys.executable} -c '{code}' \"$@\"\n")
    old.chmod(0o755)
    refused = subprocess.run(
        ["make", f"PYTHON={old}", "install"], check=False, capture_output=True, text=True, cwd=source
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("Python 3.11 or later is needed: make PYTHON=python3.11 ...\n")
    assert not (source / ".venv").exists()
