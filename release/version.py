"""Show the version, which setup.cfg has, or write a new one there and wherever else it stands.

python release/version.py          prints the version; fails where a file has another one
python release/version.py 0.2.0    writes it into all files
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

SOURCE = "setup.cfg"
"""The file whose version is the version."""

PLACES = {
    SOURCE: (r"^version = (.+)$",),
    "Dockerfile": (r"^ARG VERSION=(.+)$",),
    "deploy/helm/featurestore/Chart.yaml": (r"^version: (.+)$", r'^appVersion: "(.+)"$'),
    "docs/kubernetes.md": (r"registry\.example/featurestore:([\d.]+\w*)", r"featurestore-(\d.*?)\.tgz"),
    "docs/ports/node.md": (r"featurestore-redis-(.+?)\.tgz",),
    "lua/ports/node/package.json": (r'^  "version": "(.+)",$',),
}
"""Files in which the version stands, and the patterns of which each finds it there."""

_VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")


def read_version(root: Path = ROOT) -> str:
    """Return the version that setup.cfg has."""
    (version,) = versions_in(root, SOURCE)
    return version


def versions_in(root: Path, name: str) -> set[str]:
    """Return the versions that stand in a file; more than one where it disagrees with itself.

    Raises:
        ValueError: One of the file's patterns finds nothing.
    """
    text = (root / name).read_text(encoding="utf-8")
    found = set()
    for pattern in PLACES[name]:
        versions = re.findall(pattern, text, re.MULTILINE)
        if not versions:
            raise ValueError(f"{name} has no line like {pattern}")
        found.update(versions)
    return found


def differing(root: Path = ROOT) -> list[str]:
    """Return a line for each file that has another version than setup.cfg."""
    version = read_version(root)
    return [
        f"{name} has {', '.join(sorted(found))}, and {SOURCE} has {version}"
        for name in PLACES
        if (found := versions_in(root, name)) != {version}
    ]


def write_version(version: str, root: Path = ROOT) -> None:
    """Write a version into all files.

    Raises:
        ValueError: It is no version of the form 1.2.3, 1.2.3a1, 1.2.3b1 or 1.2.3rc1.
    """
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{version!r} is no version: want one like 1.2.3, or 1.2.3rc1")
    for name, patterns in PLACES.items():
        path = root / name
        text = path.read_text(encoding="utf-8")
        for pattern in patterns:
            text = re.sub(pattern, lambda found: found[0].replace(found[1], version), text, flags=re.MULTILINE)
        path.write_text(text, encoding="utf-8")


def main(words: list[str]) -> int:
    """Run the command, and return its exit code."""
    if len(words) > 1:
        print(__doc__, file=sys.stderr)
        return 2
    if words:
        try:
            write_version(words[0])
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    problems = differing()
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    print(read_version())
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
