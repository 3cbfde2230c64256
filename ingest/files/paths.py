"""What a caller names, as files: which there are, and of which format each is."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from featurestore.errors import ConfigurationError

Format = Literal["parquet", "csv", "ndjson", "arrow"]

STDIN = "-"
"""In a path's place: NDJSON on standard input."""

REJECTED_SUFFIX = ".rejected.ndjson"
"""How the names of files of rejected rows end, unless their caller names them otherwise."""

_FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
}
_PACKED = ".gz"
_KNOWN = "parquet, csv, tsv, ndjson, jsonl, arrow; csv and ndjson also with .gz"


def find_files(paths: Sequence[str]) -> list[str]:
    """Return the files that `paths` stand for, in the order of the paths, each file once.

    A folder stands for the files below it whose names end like a known format, sorted; names that start with `.` or `_`
    and files of rejected rows are left out. What is no file may be a pattern such as `data/*.parquet`.

    Raises:
        ConfigurationError: There is no such file, a folder or a pattern has none, or `-` is not alone.
    """
    if STDIN in paths:
        if len(paths) > 1:
            raise ConfigurationError("- stands for NDJSON on standard input, and cannot be loaded beside files")
        return [STDIN]
    found: dict[str, None] = {}
    for path in paths:
        found.update(dict.fromkeys(str(Path(each).absolute()) for each in _files_of(path)))
    return list(found)


def _files_of(path: str) -> list[Path]:
    place = Path(path)
    if place.is_dir():
        files = sorted(_files_below(place))
        if not files:
            raise ConfigurationError(f"the folder {path} has no file to load (names end in {_KNOWN})")
        return files
    if place.exists():
        return [place]
    matching = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - the pattern may be absolute
    files = [Path(each) for each in matching if Path(each).is_file()]
    if not files:
        near = sorted(each.name for each in _siblings(place))[:5]
        hint = f"; the folder has {', '.join(near)}" if near else ""
        raise ConfigurationError(f"there is no file {path}{hint}")
    return files


def _siblings(place: Path) -> list[Path]:
    try:
        return [each for each in place.parent.iterdir() if each.is_file() and suffix_format(each) is not None]
    except OSError:
        return []


def _files_below(folder: Path) -> Iterator[Path]:
    for each in folder.rglob("*"):
        hidden = any(part.startswith((".", "_")) for part in each.relative_to(folder).parts)
        if not hidden and not each.name.endswith(REJECTED_SUFFIX) and suffix_format(each) and each.is_file():
            yield each


def suffix_format(path: Path) -> Format | None:
    """Return the format that a file's name tells; None if it tells none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] == _PACKED
    found = _FORMATS.get(suffixes[-2 if packed else -1]) if len(suffixes) > packed else None
    return None if packed and found not in {"csv", "ndjson"} else found


def format_of(path: str, told: Format | None = None) -> Format:
    """Return a file's format: as told, else by its name, else by its first bytes.

    Raises:
        ConfigurationError: Neither tells.
    """
    if told is not None:
        return told
    if path == STDIN:
        return "ndjson"
    found = suffix_format(Path(path))
    if found is None:
        with Path(path).open("rb") as file:
            start = file.read(6)
        if start[:4] == b"PAR1":
            found = "parquet"
        elif start == b"ARROW1" or start[:4] == b"\xff\xff\xff\xff":
            found = "arrow"
        elif start[:1] == b"{":
            found = "ndjson"
        else:
            raise ConfigurationError(
                f"{path}: its name does not tell its format (known are {_KNOWN}): --format says it"
            )
    return found


def default_name(paths: Sequence[str]) -> str:
    """Return a name for what is loaded: that of the first path, without its ending."""
    name = "stdin" if paths[0] == STDIN else Path(paths[0]).absolute().name
    for ending in (_PACKED, *_FORMATS):
        name = name.removesuffix(ending)
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name).strip("_") or "load"
