"""Child processes that end with the process that started them, even when that one is killed."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_spawning = threading.RLock()
# A process that is forked while a thread of its parent starts a child would inherit that child's pipe and lock, and
# keep both open.
os.register_at_fork(before=_spawning.acquire, after_in_parent=_spawning.release, after_in_child=_spawning.release)

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
_TIE = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGTERM)}, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Asks Linux for a SIGTERM once the parent is gone, then becomes the command in the arguments."""


@contextmanager
def no_fork_meanwhile() -> Iterator[None]:
    """Hold off other threads' forks while a child is started."""
    with _spawning:
        yield


def tied(command: list[str]) -> list[str]:
    """Return `command` such that Linux sends it SIGTERM when the calling process has ended, however it ended.

    Linux counts the end of the *thread* that starts the command as that of the process: start it in one that stays.
    Elsewhere the command stays as it is.
    """
    if sys.platform != "linux" or not sys.executable:
        return command
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]


def tie_to(parent: int) -> None:
    """Have Linux send this process, which `parent` has forked, SIGTERM when `parent` has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
