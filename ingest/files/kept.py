"""Files that tell how far a command is: held by one process, replaced whole or not at all."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from featurestore.errors import ConfigurationError


def held(path: Path, work: str, name: str, option: str) -> int:
    """Return the descriptor of the lock beside a file of which a process says how far it is; make the folder.

    Args:
        path: The file.
        work: What the process does.
        name: What messages call the file.
        option: The option that names another.

    Raises:
        ConfigurationError: Another process is at it, or the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return locked(Path(f"{path}.lock"))
    except BlockingIOError:
        raise ConfigurationError(f"another process is at this {work} (it holds {path}.lock)") from None
    except OSError as error:
        raise ConfigurationError(
            f"{name} cannot be written: {error.strerror or error}; {option} names another place"
        ) from error


def locked(path: Path) -> int:
    """Return the descriptor of a locked file that is in its place: who held it before may just have removed it.

    Raises:
        BlockingIOError: Another process holds it.
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == path.stat().st_ino:
                return lock
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def unlock(path: Path, lock: int) -> None:
    """Let other processes have a file that `locked` has locked beside `path`. The lock's file goes with the file."""
    if not path.exists():
        Path(f"{path}.lock").unlink(missing_ok=True)
    os.close(lock)


def replace(path: Path, data: bytes) -> None:
    """Put data in place of a file, whole or not at all; return once they are on disk.

    Raises:
        OSError: The file cannot be written; `filename` is its path. The last one is in its place.
    """
    beside = Path(f"{path}.new")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
