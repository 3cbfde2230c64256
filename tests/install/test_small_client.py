"""redis-featurestore-client: what an environment has with it alone, and that it does all that the clients do."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from support.http import serving
from support.servers import Server

from featurestore import FeatureStore, read_definition

ROOT = Path(__file__).parents[2]
KEY = "right"
NEEDED = {"anyio", "certifi", "h11", "httpcore", "httpx", "idna", "msgspec", "redis-featurestore-client"}
"""All distributions that are there: those of httpx, msgspec, and it."""

MAY_BE_THERE = {"typing_extensions"}
"""What anyio wants before Python 3.13."""

MOST_BYTES = 10_000_000

PROGRAM = """
import asyncio, importlib, importlib.metadata, pkgutil, sys
import featurestore_client
from featurestore_client import AsyncClient, Client, ConfigurationError, UndeclaredFeatureError

for module in pkgutil.walk_packages(featurestore_client.__path__, "featurestore_client."):
    importlib.import_module(module.name)
assert featurestore_client.__version__ == importlib.metadata.version("redis-featurestore-client")
assert all(hasattr(featurestore_client, name) for name in featurestore_client.__all__)

url, key = sys.argv[1:]

async def main():
    async with AsyncClient(url, timeout=10) as client:
        return list(await client.get_many(["ann", "nobody"], ["age", "country"]))

with Client(url, api_key=key, timeout=10) as client:
    print(client.health().status)
    print(client.upsert("ann", {"age": 31.0, "country": "DE"}))
    print(client.get("ann", ["age", "country"]))
    try:
        client.get("ann", ["shoe_size"])
    except UndeclaredFeatureError:
        print("undeclared")
    try:
        client.get_many(["ann"]).to_numpy()
    except ConfigurationError as error:
        print(error)
print(asyncio.run(main()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    subprocess.run([sys.executable, ROOT / "release" / "make_client.py", folder / "tree"], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder,
         folder / "tree"], check=True, cwd=folder,
    )  # fmt: skip
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An environment that has the wheel and what it requires: its Python, and the folder of its packages."""
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check",
         "--no-compile", wheel], check=True,
    )  # fmt: skip
    (packages,) = folder.glob("lib/python*/site-packages")
    return python, packages


def test_it_installs_little(site: tuple[Path, Path]) -> None:
    _, packages = site
    installed = {path.name.partition("-")[0].replace("_", "-") for path in packages.glob("*.dist-info")}
    assert installed - {name.replace("_", "-") for name in MAY_BE_THERE} == NEEDED
    assert sum(path.stat().st_size for path in packages.rglob("*") if path.is_file()) < MOST_BYTES


def test_it_owns_no_file_of_the_other_distribution(site: tuple[Path, Path]) -> None:
    _, packages = site
    assert (packages / "featurestore_client" / "py.typed").is_file()
    assert not (packages / "featurestore").exists()


def test_it_asks_a_server_from_an_environment_that_has_nothing_else(
    site: tuple[Path, Path], valkey: Server, tmp_path: Path
) -> None:
    with FeatureStore.connect(valkey.socket_url, timeout=5) as store:
        store.apply(read_definition())
    with serving(valkey.socket_url, tmp_path, write_keys=KEY, timeout_ms="5000") as server:
        ran = subprocess.run(
            [site[0], "-I", "-W", "error", "-c", PROGRAM, f"http://127.0.0.1:{server.port}", KEY],
            check=True, capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
    assert ran.stdout.splitlines() == [
        "healthy",
        "created",
        "{'age': 31.0, 'country': 'DE'}",
        "undeclared",
        "to_numpy needs numpy: pip install 'redis-featurestore-client[numpy]'",
        "[{'age': 31.0, 'country': 'DE'}, None]",
    ]


def test_the_clients_tests_pass_on_it(wheel: Path, tmp_path: Path) -> None:
    """In this environment, which has what they compare with; each module is the small distribution's."""
    subprocess.run([sys.executable, "-m", "zipfile", "--extract", wheel, tmp_path], check=True)
    path = os.pathsep.join(map(str, (tmp_path, ROOT / "tests")))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", "--numprocesses", "2", "-p", "support.small_client",
         "-k", "not documentation", "tests/http/test_client.py"],
        check=False, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
