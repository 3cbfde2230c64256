"""Child processes that end with the process that started them, even when that one is killed."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_spawning = threading.RLock()
# Without this, a process forked while another thread starts a child would inherit that child's pipe and lock, and keep
# both open.
os.register_at_fork(before=_spawning.acquire, after_in_parent=_spawning.release, after_in_child=_spawning.release)

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
_TIE = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGTERM)}, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""A program that asks Linux for SIGTERM at its parent's end, then becomes the command in its arguments."""


@contextmanager
def no_fork_meanwhile() -> Iterator[None]:
    """Keep other threads from forking while a child is started."""
    with _spawning:
        yield


def tied(command: list[str]) -> list[str]:
    """Return a command that runs `command` and gets SIGTERM from Linux when this process ends, however it ends.

    To Linux the parent is the *thread* that starts the command: start it in a thread that stays. On other systems the
    command is returned as it is.
    """
    if sys.platform != "linux" or not sys.executable:
        return command
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]


def tie_to(parent: int) -> None:
    """Have Linux send SIGTERM to this process when `parent`, which has forked it, ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
