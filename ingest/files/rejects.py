"""The file of rejected rows: NDJSON that can be mended and loaded again."""

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

_logger = logging.getLogger("featurestore.ingest")


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
    """Appends rejected rows to a file, which is made with the first of them.

    Args:
        path: Where it is.
        size: How many bytes of it count. What is behind them was written by a load that did not get to say so, and is
            cut off. None begins anew: a file that is there is kept under its name with `.old`, `.old.2`, … behind it.

    Raises:
        SourceError: The file has lost bytes that count.
    """

    def __init__(self, path: Path, size: int | None) -> None:
        self.path, self.size = path, size or 0
        self._file: Any = None
        there = path.stat().st_size if path.exists() else 0
        if size is None:
            if there:
                _set_aside(path)
        elif there < size:
            raise SourceError(f"{path} had {size} bytes of rejected rows and has {there}: --restart begins anew")
        elif there:
            os.truncate(path, size)

    def append(self, rejections: Iterable[Rejection]) -> None:
        """Append rows, and return once they are on disk."""
        lines = [msgspec.json.encode(rejection) + b"\n" for rejection in rejections]
        if not lines:
            return
        if self._file is None:
            self._file = self.path.open("ab")
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.size += sum(map(len, lines))

    def cut(self, size: int) -> None:
        """Forget all rows behind the first `size` bytes."""
        self.close()
        if size < self.size:
            os.truncate(self.path, size)
        self.size = size

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _set_aside(path: Path) -> None:
    """Give the file of an earlier load a name that no file has: its rows may not be mended yet."""
    names = (Path(f"{path}.old" if number == 1 else f"{path}.old.{number}") for number in count(1))
    place = next(name for name in names if not name.exists())
    path.rename(place)
    _logger.info("the rejected rows of an earlier load are in %s now", place)
