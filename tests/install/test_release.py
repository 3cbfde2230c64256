"""What `make release` makes: whole, of one version, the same each time, and usable without the checkout."""

import configparser
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import featurestore
from featurestore.contract.library import package_version
from featurestore.contract.manifest import built_files

ROOT = Path(__file__).parents[2]
LOCKS = {"image.txt": "setup.cfg", "image-build.txt": "pyproject.toml"}
TOOLS = ("auditwheel", "build", "check_wheel_contents", "cibuildwheel", "cyclonedx_py", "twine")
LEFT_OUT = {".ci/run", ".gitattributes", ".gitignore"}
"""What the source distribution does without: files of git, and of continuous integration."""

sys.path.insert(0, str(ROOT / "release"))
import version as versions  # noqa: E402 - a program beside the package


def needs_tools() -> None:
    missing = [name for name in TOOLS if importlib.util.find_spec(name) is None]
    assert not (missing and os.environ.get("CI")), f"CI installs the extra `release`, yet {missing} are not there"
    if missing:
        pytest.skip(f"{', '.join(missing)} are not installed: the extra `release`")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a release of this checkout, made once for all workers of pytest: they build in one folder."""
    needs_tools()
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = shared / "release" / "dist"
    with (shared / "release.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "SHA256SUMS").exists():  # which comes last
            folder.parent.mkdir(exist_ok=True)
            command: list[str | Path] = [sys.executable, ROOT / "release" / "make_release.py", folder]
            ran = subprocess.run(command, check=False, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr
    return folder


@pytest.fixture(scope="module")
def unpacked(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(dist / f"redis_featurestore-{package_version()}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return source


def wheel_in(folder: Path) -> Path:
    (wheel,) = folder.glob("redis_featurestore-*.whl")
    return wheel


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_every_file_has_the_version_of_setup_cfg() -> None:
    assert versions.differing() == []
    assert versions.read_version() == package_version() == featurestore.__version__


def test_a_new_version_is_written_wherever_it_stands(tmp_path: Path) -> None:
    for name in versions.PLACES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    versions.write_version("1.2.3rc4", tmp_path)
    assert versions.read_version(tmp_path) == "1.2.3rc4"
    assert versions.differing(tmp_path) == []
    for name in versions.PLACES:
        texts = ((folder / name).read_text().splitlines() for folder in (ROOT, tmp_path))
        changed = [(before, after) for before, after in zip(*texts, strict=True) if before != after]
        assert all(after == before.replace(package_version(), "1.2.3rc4") for before, after in changed)
        assert len(changed) >= len(versions.PLACES[name])
    (tmp_path / "Dockerfile").write_text("ARG VERSION=9.9.9\n")
    assert versions.differing(tmp_path) == ["Dockerfile has 9.9.9, and setup.cfg has 1.2.3rc4"]


def test_the_changelog_has_a_dated_section_of_the_version_below_what_is_unreleased() -> None:
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert re.fullmatch(re.escape(package_version()) + r" - \d{4}-\d\d-\d\d", sections[1])


def test_what_is_no_version_is_refused() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "release" / "version.py", "v1"], check=False, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "'v1' is no version: want one like 1.2.3, or 1.2.3rc1\n"


def requirements_in(lock: str) -> dict[str, str]:
    """The versions that a lock has, by name."""
    text = (ROOT / "deploy" / lock).read_text()
    return {
        canonicalize_name(name): found for name, found in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE)
    }


def wanted_by(source: str) -> Iterator[Requirement]:
    if source == "setup.cfg":
        config = configparser.ConfigParser()
        config.read(ROOT / source)
        yield from map(Requirement, config["options"]["install_requires"].strip().splitlines())
    else:
        yield from map(Requirement, re.findall(r'^requires = \["(.+)"\]$', (ROOT / source).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_the_image_installs_pinned_versions_that_the_package_permits(lock: str) -> None:
    pinned = requirements_in(lock)
    wanted = list(wanted_by(LOCKS[lock]))
    assert wanted
    for requirement in wanted:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    text = (ROOT / "deploy" / lock).read_text()
    blocks = re.split(r"^(?=[A-Za-z])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pinned)
    assert all("--hash=sha256:" in block for block in blocks)
    assert "http" not in re.sub(r"httptools\S*", "", text)  # no index of anybody's
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"--require-hashes -r deploy/{lock}" in dockerfile
    assert f"!deploy/{lock}\n" in (ROOT / ".dockerignore").read_text()


def test_the_image_is_of_one_python_and_says_what_it_is() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    bases = re.findall(r"^FROM python:(\d+\.\d+\.\d+)-(?:slim-)?bookworm\b", dockerfile, re.MULTILINE)
    assert len(bases) == len(re.findall(r"^FROM ", dockerfile, re.MULTILINE)) == 2
    assert len(set(bases)) == 1
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", dockerfile))
    assert labels == {"title", "description", "version", "revision", "licenses", "authors"}


def test_cibuildwheel_makes_wheels_of_each_python_for_linux_and_macos() -> None:
    needs_tools()
    found = {
        name
        for platform in ("linux", "macos")
        for name in subprocess.run(
            [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform, ROOT],
            check=True, capture_output=True, text=True,
        ).stdout.split()
    }  # fmt: skip
    systems = ("manylinux_x86_64", "manylinux_aarch64", "macosx_x86_64", "macosx_arm64")
    assert found == {f"cp3{minor}-{system}" for minor in (11, 12, 13) for system in systems}


def test_a_release_is_these_files(dist: Path) -> None:
    version = package_version()
    names = {path.name for path in dist.iterdir()}
    wheel = wheel_in(dist)
    assert names == {
        "SHA256SUMS",
        f"featurestore-{version}.tgz",
        f"redis-featurestore-{version}.cdx.json",
        f"redis-featurestore-scripts-{version}.tar.gz",
        f"redis_featurestore-{version}.tar.gz",
        f"redis_featurestore_client-{version}-py3-none-any.whl",
        f"redis_featurestore_client-{version}.tar.gz",
        wheel.name,
    }
    told = dict(line.split("  ")[::-1] for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert told == {
        name: hashlib.sha256((dist / name).read_bytes()).hexdigest() for name in names if name != "SHA256SUMS"
    }


@pytest.mark.skipif(sys.platform != "linux", reason="wheels of other systems have other names")
def test_the_wheel_runs_on_linuxes_older_than_this(dist: Path) -> None:
    tags = wheel_in(dist).stem.rpartition("-")[2].split(".")
    oldest = min(tuple(map(int, tag.split("_")[1:3])) for tag in tags if tag.startswith("manylinux_"))
    assert oldest <= (2, 28)
    with zipfile.ZipFile(wheel_in(dist)) as archive:
        extensions = [name for name in archive.namelist() if name.endswith(".so")]
    assert len(extensions) == len(list((ROOT / "featurestore" / "native").glob("*.c")))


def test_the_metadata_of_both_distributions_are_whole(dist: Path) -> None:
    for wheel in dist.glob("*.whl"):
        metadata = metadata_of(wheel)
        assert metadata["Version"] == package_version()
        assert metadata["License-Expression"] == "Apache-2.0"
        assert metadata["License-File"] == "LICENSE"
        assert metadata["Author"] == metadata["Maintainer"] == "The redis-featurestore authors"
        assert metadata["Requires-Python"] == ">=3.11"
        assert metadata["Summary"]
        assert metadata["Keywords"]
        classifiers = set(metadata.get_all("Classifier", []))
        assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} < classifiers
        assert "Typing :: Typed" in classifiers


def test_the_source_has_all_that_the_repository_has(unpacked: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    expected = {name for name in tracked.splitlines() if (ROOT / name).is_file()}
    there = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    made = {name for name in there if name == "PKG-INFO" or name.startswith("redis_featurestore.egg-info/")}
    assert expected - there == LEFT_OUT
    assert there - made == expected - LEFT_OUT


def test_the_same_sources_make_the_same_files_byte_for_byte(dist: Path, unpacked: Path, tmp_path: Path) -> None:
    """Also in another folder: built of the source distribution, with the time that the first build had."""
    with tarfile.open(dist / f"redis_featurestore-{package_version()}.tar.gz") as archive:
        when = int(archive.getmembers()[0].mtime)
    code = f"from make_release import *; build_distribution(ROOT, Path({str(tmp_path)!r}), {when})"
    environment = {**os.environ, "PYTHONPATH": str(unpacked / "release")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (dist / path.name).read_bytes(), path.name
    assert len(list(tmp_path.iterdir())) == 2


def test_tests_run_from_the_unpacked_source(unpacked: Path, tmp_path: Path) -> None:
    """In an environment whose package is that of the source, beside the libraries of this one."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = tmp_path.glob("venv/lib/python*/site-packages")
    (packages / "libraries.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--editable", unpacked], check=True,
    )  # fmt: skip
    code = "import featurestore, featurestore.ingest.writer as w; print(featurestore.__file__, w.__file__)"
    shown = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, cwd="/").stdout
    assert all(Path(path).is_relative_to(unpacked) for path in shown.split())
    files = ("test_manifest.py", "test_library.py", "test_definition.py")
    ran = subprocess.run(
        [python, "-m", "pytest", "--quiet", "--quick", *(f"tests/unit/{name}" for name in files)],
        check=False, capture_output=True, text=True, cwd=unpacked,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout


def test_a_release_has_the_scripts_as_other_languages_ship_them(dist: Path, tmp_path: Path) -> None:
    name = f"redis-featurestore-scripts-{package_version()}"
    subprocess.run(["tar", "--extract", "--file", dist / f"{name}.tar.gz", "-C", tmp_path], check=True)
    unpacked = tmp_path / name
    files = {str(path.relative_to(unpacked)): path.read_text() for path in unpacked.rglob("*") if path.is_file()}
    assert files == built_files()


def test_the_chart_is_packed_as_helm_wants_it(dist: Path) -> None:
    with tarfile.open(dist / f"featurestore-{package_version()}.tgz") as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
        assert {name.partition("/")[0] for name in archive.getnames()} == {"featurestore"}
    chart = ROOT / "deploy" / "helm" / "featurestore"
    assert packed == {str(path.relative_to(chart)) for path in chart.rglob("*") if path.is_file()}


def test_the_bill_of_materials_names_all_that_the_image_installs(dist: Path) -> None:
    bill = json.loads((dist / f"redis-featurestore-{package_version()}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == ("redis-featurestore", package_version())
    listed = {canonicalize_name(each["name"]): each["version"] for each in bill["components"]}
    assert listed.items() <= requirements_in("image.txt").items()
    assert {canonicalize_name(requirement.name) for requirement in wanted_by("setup.cfg")} <= listed.keys()
