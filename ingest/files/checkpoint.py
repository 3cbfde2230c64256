"""How far a load is, on disk: what an interrupted one goes on from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from featurestore.errors import ConfigurationError

from .kept import held, replace, unlock
from .times import Unit

_FORM = 1


class FileState(msgspec.Struct, frozen=True):
    """A file as it was when the load began."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> "FileState":
        """Return the state of a file."""
        status = Path(path).stat()
        return cls(path, status.st_size, status.st_mtime_ns)


class Progress(msgspec.Struct, frozen=True):
    """How far a load is.

    Attributes:
        file: Index of the file that is next.
        row: Position in it of the row that is next.
        rows: How many rows are behind it, in all files.
        written: How many of them were written.
        skipped: How many were left out because newer values were stored.
        rejected: How many were rejected.
        codes: Code → how many were rejected for it.
        rejected_bytes: How large the file of rejected rows is.
        broken: What is wrong with files that could not be read to their end.
        witnesses: Ids of the last rows, which Redis knew when they were written.
    """

    file: int = 0
    row: int = 0
    rows: int = 0
    written: int = 0
    skipped: int = 0
    rejected: int = 0
    codes: dict[str, int] = {}
    rejected_bytes: int = 0
    broken: list[str] = []
    witnesses: list[str] = []


class Checkpoint(msgspec.Struct):
    """What a load needs to go on.

    Attributes:
        command: What is loaded and how, in words that only equal loads share.
        files: The files, in order.
        started_ms: When it began, in ms since 1970: the event time of rows that have none.
        unit: The unit of event times that was found; None if none was.
        server: Which Redis took the last rows: its `run_id`; empty if unknown.
        saved_ms: When that was, in ms since 1970.
        rejected: The file of rejected rows, as it was wished for.
        rejected_in: Where it is, once there is one.
        rejected_mark: What tells it from those of other loads.
        now: How far it is.
        sure: How far it was some seconds earlier; those rows are safe on a Redis that writes its log to disk.
    """

    command: str
    files: list[FileState]
    started_ms: int
    rejected: str
    unit: Unit | None = None
    server: str = ""
    saved_ms: int = 0
    rejected_in: str = ""
    rejected_mark: str = ""
    now: Progress = Progress()
    sure: Progress = Progress()
    form: int = _FORM


def digest_of(words: Sequence[Any]) -> str:
    """Return a name for what is loaded and how."""
    return hashlib.sha256(msgspec.json.encode(words)).hexdigest()[:16]


class CheckpointFile:
    """A checkpoint on disk, held by one process at a time.

    Args:
        path: Where it is; its folder is made.

    Raises:
        ConfigurationError: Another process is at this load, or the folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = held(path, "load", f"the checkpoint {path}", "--checkpoint")

    def read(self, command: str, files: Sequence[FileState]) -> Checkpoint | None:
        """Return the checkpoint of an interrupted load; None if there is none.

        Raises:
            ConfigurationError: It is that of another load, its files have changed since, or it cannot be read.
        """
        anew = "--restart begins anew"
        found = self._found()
        if found is None:
            return None
        if found.form != _FORM or found.command != command:
            raise ConfigurationError(f"{self.path} is the checkpoint of another load, or of other options: {anew}")
        before = {each.path: each for each in found.files}
        for each in files:
            if before.pop(each.path, None) != each:
                raise ConfigurationError(f"{each.path} has changed since this load was interrupted: {anew}")
        if before or [each.path for each in found.files] != [each.path for each in files]:
            gone = next(iter(before), "the order of the files")
            raise ConfigurationError(f"{gone} has changed since this load was interrupted: {anew}")
        return found

    def refuse_other(self) -> None:
        """Refuse a file that is no checkpoint, which a load would write over and remove.

        Raises:
            ConfigurationError: It is none.
        """
        self._found()

    def _found(self) -> Checkpoint | None:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            text = f"{self.path} is no checkpoint of a load ({error}): name another file by --checkpoint, or remove it"
            raise ConfigurationError(text) from error

    def write(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in place of the last one, whole or not at all; return once it is on disk.

        Raises:
            OSError: It cannot be written; `filename` is the checkpoint's. The last one is in its place.
        """
        replace(self.path, msgspec.json.encode(checkpoint))

    def remove(self) -> None:
        """Remove the checkpoint: its load is done."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let other processes have it. The lock's file goes with the checkpoint."""
        unlock(self.path, self._lock)
