"""The imports between the package's rooms, as docs/internals.md has them, read from the syntax trees."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPEN = {"children", "embedded", "errors", "keys", "settings"}
"""Modules that every room may import."""

ALLOWED = {
    "children": set(),
    "embedded": {"children", "errors"},
    "errors": set(),
    "keys": {"errors"},
    "settings": {"errors"},
    "native": set(),
    "schema": set(),
    "contract": {"native", "schema"},
    "transport": {"contract"},
    "store": {"contract", "native", "schema", "transport"},
    "worker": {"native"},
    "access": set(),
    "api": {"access", "contract", "native", "schema", "store", "transport", "worker.interface"},
    "serving": {"access", "api", "native", "schema", "store", "transport", "worker"},
    "clients": {"contract.arguments", "contract.arrow", "contract.words", "schema", "store.results", "store.table"},
    "ingest": {"contract", "schema", "store", "transport"},
    "cli": {"api", "cli_keys", "cli_schema", "cli_store", "contract", "native", "serving", "store"},
    "cli_keys": {"access"},
    "cli_schema": {"cli_store", "schema", "store"},
    "cli_store": {"store"},
    "__main__": {"cli"},
}
"""What each room and each module beside the rooms may import: rooms, and single modules of rooms."""


def files_of(room: str) -> list[Path]:
    folder = ROOT / room if room == "ingest" else ROOT / "featurestore" / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imports_of(path: Path) -> Iterator[str]:
    """Yield what a module of the package imports of the package, without the package's name in front."""
    parts = path.relative_to(ROOT).parts
    return imports_in(
        path.read_text(encoding="utf-8"), parts if parts[0] == "featurestore" else ("featurestore", *parts)
    )


def imports_in(text: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield the same of a module's text, by the parts of its path."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            around = parts[: len(parts) - node.level] if node.level else ()
            found = [".".join((*around, *filter(None, (node.module, alias.name)))) for alias in node.names]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        else:
            continue
        for name in found:
            package, _, rest = name.partition(".")
            if package == "featurestore":
                yield rest


def permissions_for(name: str) -> set[str]:
    """Return the permissions of which each allows this import: its room, and its module."""
    top, _, rest = name.partition(".")
    return {top, f"{top}.{rest.partition('.')[0]}"}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    may = {room} | ALLOWED[room] | (OPEN if room not in OPEN else set())
    paths = files_of(room)
    assert paths
    for path in paths:
        for name in imports_of(path):
            assert permissions_for(name) & may, f"{path.relative_to(ROOT)} imports {name or 'featurestore'}"


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_may_import_only_what_it_does(room: str) -> None:
    used = set().union(*(permissions_for(name) for path in files_of(room) for name in imports_of(path)))
    assert not ALLOWED[room] - used, "take the permission away"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os, featurestore.store.reads as reads", ["store.reads"]),
        ("import featurestore", [""]),
        ("from featurestore import errors, FeatureStore", ["errors", "FeatureStore"]),
        ("from featurestore.store import reads", ["store.reads"]),
        ("from . import definition", ["schema.definition"]),
        ("from .definition import read", ["schema.definition.read"]),
        ("from .. import errors", ["errors"]),
        ("def later():\n    from ..store.reads import many, one", ["store.reads.many", "store.reads.one"]),
        ("from featurestores import store\nfrom redis.featurestore import store", []),
    ],
)
def test_imports_are_found_however_they_are_written(text: str, found: list[str]) -> None:
    assert list(imports_in(text, ("featurestore", "schema", "stored.py"))) == found


def test_every_room_has_a_rule() -> None:
    folders = {path.parent.name for path in ROOT.glob("featurestore/*/__init__.py")}
    modules = {path.stem for path in ROOT.glob("featurestore/*.py")} - {"__init__"}  # which has the names of them all
    assert folders | modules | {"ingest"} == ALLOWED.keys()
    assert modules >= OPEN


def test_the_map_names_every_module() -> None:
    """In code, as a word of its own."""
    page = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
    named = {word for code in re.findall(r"```.*?```|`[^`]+`", page, re.DOTALL) for word in re.findall(r"\w+", code)}
    modules = {path for folder in ("featurestore", "ingest") for path in (ROOT / folder).rglob("*.py")}
    assert len(modules) > 200
    unnamed = {str(path.relative_to(ROOT)) for path in modules if path.stem not in named}
    assert {path for path in unnamed if not path.endswith(("/__init__.py", "/__main__.py"))} == set()


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("featurestore.transport.pipeline", {"asyncio", "gevent", "redis", "ssl"}),
        ("featurestore.transport.repeats", {"asyncio", "gevent", "redis", "ssl"}),
        ("featurestore.transport.routing", {"asyncio", "gevent", "redis", "ssl"}),
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


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_pyarrow_comes_when_a_client_is_made_and_not_with_its_first_table(kind: str) -> None:
    pytest.importorskip("pyarrow")
    code = f"""
import sys
from featurestore import {kind}
before = "pyarrow" in sys.modules
{kind}("http://127.0.0.1:1")
print(before, "pyarrow.ipc" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told == "False True\n"
