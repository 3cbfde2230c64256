"""What the system tells of this process: Linux's /proc. Elsewhere nothing is told."""

import os
import resource
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


def own_usage() -> Usage | None:
    """Return what this process takes; None if the system does not tell."""
    folder = Path("/proc/self")
    try:
        resident = int((folder / "statm").read_text().split()[1]) * _PAGE_BYTES
        files = len(os.listdir(folder / "fd"))  # noqa: PTH208 - only their number matters
    except (OSError, IndexError, ValueError):
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Usage(resident, files, 0 if most == resource.RLIM_INFINITY else most)
