"""Make the source tree of redis-featurestore-client: the HTTP clients, and what they import, as `featurestore_client`.

    python release/make_client.py FOLDER

The code is that of `featurestore/`. Only the package's name in its imports differs, so that both distributions can be
in one environment (docs/decisions/0044-distributions.md).
"""

import ast
import configparser
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from version import ROOT, read_version

PACKAGE = "featurestore_client"
"""The name that the small distribution puts into site-packages."""

PUBLIC = ("clients.client", "clients.async_client", "errors", "store.results", "store.table")
"""The modules whose public names the package has."""

LEFT_OUT = frozenset({"native"})
"""The room that the others do without where it is missing: the C extensions."""

_BLANK = re.compile(r"@([a-z]+)@")


def modules_of_clients(root: Path = ROOT) -> dict[str, Path]:
    """Return the modules that the clients need, by name without the package's: theirs, and all that these import."""
    found: dict[str, Path] = {}
    waiting = list(PUBLIC)
    while waiting:
        name = waiting.pop()
        path = _path_of(root, name)
        if name in found or path is None or name.partition(".")[0] in LEFT_OUT:
            continue
        found[name] = path
        parent = name.rpartition(".")[0]
        waiting.extend([*imports_of(path), *([parent] if parent else [])])
    return found


def _path_of(root: Path, name: str) -> Path | None:
    path = root / "featurestore" / Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports_of(path: Path) -> Iterator[str]:
    """Yield what a module imports of the package; of `from a import b` both `a` and `a.b`, of which one is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("featurestore."):
            home = str(node.module).removeprefix("featurestore.")
            yield home
            yield from (f"{home}.{alias.name}" for alias in node.names)


def public_names(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the names that the package has, by the module that has them: those that `featurestore` has of it, too."""
    tree = ast.parse((root / "featurestore" / "__init__.py").read_text(encoding="utf-8"))
    (homes,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES"
    )
    return {home: sorted(name for name, its in homes.items() if its == home) for home in sorted(PUBLIC)}


def renamed(text: str) -> str:
    """Return a module's text with the small distribution's names in place of the other's."""
    text = re.sub(r"^(\s*(?:from|import) )featurestore\.", rf"\1{PACKAGE}.", text, flags=re.MULTILINE)
    text = text.replace("redis-featurestore[client]", "redis-featurestore-client")  # which requires httpx
    return text.replace("redis-featurestore[", "redis-featurestore-client[")


def front_of(version: str, names: dict[str, list[str]]) -> str:
    """Return the text of the package's `__init__.py`."""
    imports = "\n".join(f"from {PACKAGE}.{home} import {', '.join(found)}" for home, found in names.items())
    everything = sorted([*(name for found in names.values() for name in found), "__version__"])
    return (
        '"""The clients of redis-featurestore for services that ask over HTTP: blocking and asyncio."""\n\n'
        f"{imports}\n\n__version__ = {version!r}\n\n__all__ = {everything!r}\n"
    )


def requirements(root: Path = ROOT) -> dict[str, str]:
    """Return what setup.cfg requires, by the name of the distribution, such as `httpx>=0.27`."""
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    lists = (config["options"]["install_requires"], *(extras[name] for name in ("client", "arrow", "numpy", "pandas")))
    lines = [line for each in lists for line in each.split("\n") if line]
    return {re.split(r"[\[<>=;]", line)[0]: line for line in lines}


def make_tree(folder: Path, root: Path = ROOT) -> None:
    """Write the source tree into a folder, which must not exist."""
    package = folder / PACKAGE
    package.mkdir(parents=True)
    for path in modules_of_clients(root).values():
        made = package / path.relative_to(root / "featurestore")
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
    version = read_version(root)
    (package / "__init__.py").write_text(front_of(version, public_names(root)), encoding="utf-8")
    (package / "py.typed").touch()
    wanted = {**requirements(root), "version": version}
    project = (root / "release" / "client" / "pyproject.toml.in").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(_BLANK.sub(lambda found: wanted[found[1]], project), encoding="utf-8")
    shutil.copyfile(root / "release" / "client" / "README.md", folder / "README.md")
    shutil.copyfile(root / "LICENSE", folder / "LICENSE")


def main(words: list[str]) -> int:
    """Run the command, and return its exit code."""
    if len(words) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    if Path(words[0]).exists():
        print(f"{words[0]} is there already: name a folder that is not", file=sys.stderr)
        return 2
    make_tree(Path(words[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
