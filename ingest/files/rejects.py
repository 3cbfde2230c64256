"""The file of rejected rows: NDJSON that can be mended and loaded again."""

import fcntl
import hashlib
import io
import logging
import os
from base64 import b64encode
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from featurestore.errors import SourceError

from .paths import REJECTED_SUFFIX

_logger = logging.getLogger("featurestore.ingest")

_MARKED = 4096
"""Bytes at the start of a file that tell it from others, or its first line if that is shorter."""


class Rejection(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the file.

    Attributes:
        row: The row as it was given: an object; text where it could not be read.
        file: The file that it is from, `-` for standard input.
        position: Its position in that file, from 0.
        code: Why it was rejected: BADID, BADTIME, BADTYPE, UNDECLARED, …; BADROW for a row that could not be read.
        reason: The same in words, with the value.
        text: Whether all its values are text, as those of CSV are.
        event_time: The event time in ms that it would have been written with, having none of its own.
    """

    row: Any
    file: str
    position: int
    code: str
    reason: str
    text: bool = False
    event_time: int | None = None


def decode_rejection(line: dict[str, Any]) -> Rejection | None:
    """Return the rejected row that an object of JSON is, None if it is something else."""
    if not line.keys() >= {"row", "code", "reason", "position"}:
        return None
    try:
        return msgspec.convert({"file": "", **line}, Rejection)
    except msgspec.ValidationError:
        return None


def plain(value: Any) -> Any:  # noqa: PLR0911 - a table of types
    """Return a value as JSON has it, whatever it is.

    NaN is null, an infinity is text, bytes are text where they are UTF-8 and base64 otherwise; times are ISO 8601.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return None if value != value else value if abs(value) != float("inf") else str(value)  # noqa: PLR0124 - NaN
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {str(plain(name)): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return b64encode(value).decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | timedelta) else repr(value)


class RejectedFile:
    """Appends rejected rows to a file, which is made with the first of them. No other load writes to it meanwhile.

    Where the path is another load's by then, a name beside it is taken.

    Args:
        path: Where it is.
        size: How many bytes of it count. What is behind them was written by a load that did not get to say so, and is
            cut off. None begins anew: a file that is there is kept under its name with `.old`, `.old.2`, … behind it.
        mark: The `mark` that it had: another load may have put its own file in its place, and this one aside. Then it
            is written to where it is now.

    Attributes:
        path: Where it is.
        size: How many bytes of it count.
        mark: What tells it from other files; empty until it is made.

    Raises:
        SourceError: The file is not there, is another load's, or has lost bytes that count.
    """

    def __init__(self, path: Path, size: int | None, mark: str = "") -> None:
        self.path, self.size, self.mark = path, size or 0, mark
        self._file: io.FileIO | None = None
        if self.size:
            self._open_again()
        elif path.exists() and path.stat().st_size and not _is_held(path):
            _set_aside(path)

    def append(self, rejections: Iterable[Rejection]) -> None:
        """Append rows, and return once they are on disk.

        Raises:
            OSError: They cannot be written; `filename` is the file's. Nothing of them counts.
        """
        rest = memoryview(b"".join(msgspec.json.encode(rejection) + b"\n" for rejection in rejections))
        if not rest:
            return
        size = self.size + len(rest)
        try:
            if self._file is None:
                self._make()
            if not self.size:
                self.mark = _mark_of(self._descriptor, bytes(rest[:_MARKED]))
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            if self._file is not None:
                os.truncate(self._descriptor, self.size)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.size = size

    def cut(self, size: int) -> None:
        """Forget all rows behind the first `size` bytes."""
        if size < self.size:
            os.truncate(self._descriptor, size)
        self.size = size

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _descriptor(self) -> int:
        if self._file is None:
            raise ValueError("the file of rejected rows is not open")
        return self._file.fileno()

    def _make(self) -> None:
        """Open a file that is empty, and that nobody else has."""
        for number in count(1):
            path = self.path if number == 1 else _beside(self.path, number)
            file = _hold(path)
            if file is not None and os.fstat(file.fileno()).st_size == 0:
                break
            if file is not None:
                file.close()
        if path != self.path:
            _logger.warning("%s is another load's: rejected rows go to %s", self.path, path)
        self.path, self._file = path, file

    def _open_again(self) -> None:
        """Open the file of a load that goes on."""
        anew = "--restart begins anew"
        there = self.path.stat().st_size if self.path.exists() else 0
        found = self.path if not self.mark else next(filter(self._is_it, self._candidates()), None)
        if found is None and there:
            raise SourceError(f"{self.path} has another load's rejected rows, and this load's are gone: {anew}")
        if found is None or found.stat().st_size < self.size:
            raise SourceError(f"{self.path} had {self.size} bytes of rejected rows and has {there}: {anew}")
        if found != self.path:
            _logger.warning("%s is another load's now: this load's rejected rows are in %s", self.path, found)
        self.path, self._file = found, _hold(found)
        if self._file is None:
            raise SourceError(f"another load writes to {found}, which has this load's rejected rows: {anew}")
        os.truncate(self._descriptor, self.size)

    def _candidates(self) -> list[Path]:
        beside = self.path.parent.iterdir() if self.path.parent.exists() else []
        return [self.path, *sorted(each for each in beside if each.name.startswith(f"{self.path.name}.old"))]

    def _is_it(self, path: Path) -> bool:
        try:
            with path.open("rb") as file:
                return _mark_of(file.fileno(), file.read(min(self.size, _MARKED))) == self.mark
        except OSError:
            return False


def _mark_of(descriptor: int, start: bytes) -> str:
    """Return what tells a file from others: its number on its disk, which a later one may get, and its first line."""
    line = start.partition(b"\n")[0]
    return f"{os.fstat(descriptor).st_ino}-{hashlib.sha256(line).hexdigest()[:16]}"


def _beside(path: Path, number: int) -> Path:
    """Return another name for a file."""
    ending = REJECTED_SUFFIX if path.name.endswith(REJECTED_SUFFIX) else path.suffix
    return path.with_name(f"{path.name.removesuffix(ending)}-{number}{ending}")


def _hold(path: Path) -> io.FileIO | None:
    """Open a file, which is made if need be, so that no other load can write to it; None if one does."""
    file = io.FileIO(path, "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _is_held(path: Path) -> bool:
    """Return whether a load writes to a file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _set_aside(path: Path) -> None:
    """Give the file of an earlier load a name that no file has: its rows may not be mended yet."""
    names = (Path(f"{path}.old" if number == 1 else f"{path}.old.{number}") for number in count(1))
    place = next(name for name in names if not name.exists())
    path.rename(place)
    _logger.info("the rejected rows of an earlier load are in %s now", place)
