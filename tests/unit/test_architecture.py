"""The imports between the package's rooms, as docs/internals.md has them, read from the syntax trees."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPEN = {"children", "embedded", "errors", "keys", "settings"}
"""Modules that every room may import."""

ALLOWED = {
    "native": set(),
    "schema": set(),
    "contract": {"native", "schema"},
    "transport": {"contract"},
    "store": {"contract", "native", "schema", "transport"},
    "worker": {"native"},
    "api": {"contract", "schema", "store", "transport", "worker.interface"},
    "serving": {"api", "contract", "native", "schema", "store", "transport", "worker"},
    "clients": {"contract.arguments", "contract.words", "schema", "store.results", "store.table"},
    "ingest": {"contract", "schema", "store", "transport"},
    "cli": {"contract", "native", "schema", "serving", "store"},
}


def imports_of(path: Path) -> Iterator[str]:
    """Yield what a module imports of the package, without the package's name in front."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "featurestore":
            inside = node.module.removeprefix("featurestore").lstrip(".")
            yield from [inside] if inside else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (each.name.removeprefix("featurestore.") for each in node.names if "featurestore." in each.name)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    folder = ROOT / room if room == "ingest" else ROOT / "featurestore" / room
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    assert paths
    for path in paths:
        for name in imports_of(path):
            top, _, rest = name.partition(".")
            wanted = {name, top, f"{top}.{rest.partition('.')[0]}"}
            assert top in {room, *OPEN} or wanted & ALLOWED[room], f"{path.relative_to(ROOT)} imports {name}"


def test_every_room_has_a_rule() -> None:
    folders = {path.parent.name for path in ROOT.glob("featurestore/*/__init__.py")}
    modules = {path.stem for path in ROOT.glob("featurestore/*.py")} - {"__init__", "__main__"}
    assert (folders | modules | {"ingest"}) == ALLOWED.keys() | OPEN


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("featurestore.clients.client", {"redis", "hiredis", "gevent", "gunicorn", "falcon", "numpy"}),
        ("featurestore.clients.async_client", {"redis", "hiredis", "gevent", "gunicorn", "falcon", "numpy"}),
        ("featurestore.serving.gunicorn_settings", {"redis", "ssl", "asyncio", "gevent"}),
        ("featurestore.worker.worker", {"redis", "hiredis", "falcon"}),
        ("featurestore.store.blocking", {"gevent", "gunicorn", "falcon"}),
    ],
)
def test_an_import_brings_no_library_that_it_can_do_without(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    untraced = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=untraced
    ).stdout.split()
    assert module in loaded
    assert not unwanted & set(loaded)
