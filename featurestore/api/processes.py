"""What the system tells of a process: Linux's /proc. Elsewhere nothing is told."""

import os
from pathlib import Path

import msgspec

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(msgspec.Struct):
    """What a process takes.

    Attributes:
        resident_bytes: Memory.
        open_files: Descriptors.
        most_files: How many it may have; 0 where there is no limit.
    """

    resident_bytes: int
    open_files: int
    most_files: int


def usage_of(pid: int) -> Usage | None:
    """Return what a process takes; None if it has ended, or the system does not tell."""
    folder = Path("/proc") / str(pid)
    try:
        resident = int((folder / "statm").read_text().split()[1]) * _PAGE_BYTES
        files = len(os.listdir(folder / "fd"))  # noqa: PTH208 - only their number matters
        limits = (folder / "limits").read_text().splitlines()
    except (OSError, IndexError, ValueError):
        return None
    (words,) = (line.split() for line in limits if line.startswith("Max open files"))
    return Usage(resident, files, int(words[3]) if words[3].isdigit() else 0)
