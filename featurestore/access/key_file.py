"""Files of API keys: TOML with a table `[[key]]` for each. Reading; and changes that leave all else as it stands."""

import contextlib
import fcntl
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from featurestore.access.key import Key, StoredKey
from featurestore.errors import ConfigurationError

LARGEST_BYTES = 1_048_576
"""A file of keys has no more: about 3,000 keys."""

_TABLE = re.compile(r"^[ \t]*\[\[[ \t]*key[ \t]*\]\]", re.MULTILINE)
_ABOVE = re.compile(r"(?:^[ \t]*#.*\n)*\Z", re.MULTILINE)
_NEW_MODE = 0o600


class _File(msgspec.Struct, forbid_unknown_fields=True):
    key: list[Any] = []


def parse(text: str, path: str) -> tuple[Key, ...]:
    """Return the keys in a file's text.

    Raises:
        ConfigurationError: It cannot be used. The message has the file, the key, the value, and what would be right.
    """
    try:
        found = msgspec.convert(tomllib.loads(text), _File).key
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {error}; want a table [[key]] for each key") from error
    keys = tuple(_key(entry, place, path) for place, entry in enumerate(found, 1))
    _check_together(keys, path)
    return keys


def _key(entry: Any, place: int, path: str) -> Key:
    try:
        return msgspec.convert(entry, StoredKey).key()
    except (msgspec.ValidationError, ValueError) as error:
        name = entry.get("name") if isinstance(entry, dict) else None
        called = f", {name[:64]!r}" if isinstance(name, str) else ""
        raise ConfigurationError(f"{path}, key {place}{called}: {error}") from error


def _check_together(keys: Sequence[Key], path: str) -> None:
    """Refuse two keys of one id, and keys of one name with different rates: they share a bucket."""
    ids: dict[str, str] = {}
    rates: dict[str, tuple[float | None, int]] = {}
    for key in keys:
        if key.id in ids:
            raise ConfigurationError(f"{path}: two keys have the id {key.id}: {ids[key.id]} and {key.name}")
        ids[key.id] = key.name
        rate = key.rate, key.burst if key.rate else 1
        if rates.setdefault(key.name, rate) != rate:
            raise ConfigurationError(
                f"{path}: the keys called {key.name} have different rates or bursts: they share one bucket"
            )


def read(path: str) -> str:
    """Return a file's text.

    Raises:
        ConfigurationError: It cannot be read, or is too large to be a file of keys.
    """
    try:
        # Not to wait for a writer where it is a pipe: a worker's event loop reads it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigurationError(f"{path} is no regular file: a file of keys is read again when it changes")
            data = file.read(LARGEST_BYTES + 1)
        if len(data) > LARGEST_BYTES:
            raise ConfigurationError(f"{path} has more than {LARGEST_BYTES} bytes, the most of a file of keys")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the file of keys {path} cannot be read: {error}") from error


def warning_of(path: str) -> str:
    """Return what is wrong with who may read or change a file; empty where nothing is, or nobody can tell."""
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError:
        return ""
    if mode & stat.S_IWOTH:
        return f"everybody may write {path} (mode {mode:o}), and so make keys: chmod 600"
    if mode & stat.S_IROTH:
        return f"everybody may read {path} (mode {mode:o}): chmod 600"
    return ""


def add(path: str, stored: StoredKey) -> None:
    """Add a key to a file; make the file where there is none, for its owner alone.

    Raises:
        ConfigurationError: The file cannot be used, or not with this key.
    """
    with _changing(path) as text:
        before = f"{text.rstrip()}\n\n" if text.strip() else ""
        _replace(path, f"{before}{_as_table(stored)}")


def remove(path: str, word: str, *, every: bool = False) -> list[Key]:
    """Take the key of that name or id out of a file; return it.

    Args:
        path: The file.
        word: A name, or an id.
        every: Whether to take all keys of the name, where there are several.

    Raises:
        ConfigurationError: There is none, or there are several, or the file is not written as this program writes it.
    """
    with _changing(path) as text:
        keys = parse(text, path)
        gone = [key for key in keys if word in {key.name, key.id}]
        if not gone:
            raise ConfigurationError(f"{path} has no key with the name or the id {word}")
        if len(gone) > 1 and not every:
            ids = ", ".join(key.id for key in gone)
            raise ConfigurationError(f"{path} has {len(gone)} keys called {word}: give one of the ids {ids}, or --all")
        first, *tables = _split(text)
        if len(tables) != len(keys):
            raise ConfigurationError(f"{path} has keys that are no tables [[key]]: take {word} out by hand")
        left = [table for table, key in zip(tables, keys, strict=True) if key not in gone]
        _replace(path, "".join([first, *left]))
        return gone


def _split(text: str) -> list[str]:
    """Return what stands before the first table, then each table, with the comments right above it."""
    starts = [found.start() for found in _TABLE.finditer(text)]
    for place, start in enumerate(starts):
        above = _ABOVE.search(text, 0, start)
        starts[place] = above.start() if above else start
    ends = [*starts, len(text)]
    return [text[: ends[0]], *(text[start:end] for start, end in zip(starts, ends[1:], strict=True))]


def _as_table(stored: StoredKey) -> str:
    fields = msgspec.to_builtins(stored, builtin_types=[datetime])
    lines = [f"{name} = {_as_toml(value)}" for name, value in fields.items() if value is not None]
    return "\n".join(["[[key]]", *lines, ""])


def _as_toml(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return msgspec.json.encode(value).decode()  # text, numbers and lists of them are written alike


@contextlib.contextmanager
def _changing(path: str) -> Iterator[str]:
    """Yield a file's text, empty where there is none, while nobody else changes files of its folder with this program.

    Raises:
        ConfigurationError: The folder or the file cannot be used.
    """
    folder = Path(path).resolve().parent
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigurationError(f"the folder of {path} cannot be used: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield read(path) if Path(path).exists() else ""
    finally:
        os.close(descriptor)


def _replace(path: str, text: str) -> None:
    """Put a text in a file's place at once: whoever reads meanwhile has the old one or the new one, whole.

    Raises:
        ConfigurationError: The text is no file of keys, or cannot be written.
    """
    parse(text, path)
    target = Path(path).resolve()  # a link stays one
    try:
        before = target.stat() if target.exists() else None
        descriptor, made = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if before is not None:
                with contextlib.suppress(OSError):  # only root may give a file away
                    os.chown(made, before.st_uid, before.st_gid)
            Path(made).chmod(_NEW_MODE if before is None else stat.S_IMODE(before.st_mode))
            Path(made).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(made).unlink()
            raise
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error}") from error
