"""The bound on the memory that all requests of a worker take together, and its return to the system."""

import ctypes
from collections.abc import Callable

_WORTH_TRIMMING = 16_777_216


class Budget:
    """Counts the bytes of heads and bodies that a worker holds, over all its connections.

    Args:
        most: How many bytes requests may take. Responses that clients have not read yet count too, but are never
            refused.

    Attributes:
        held: Bytes held now.
        peak: The most bytes held since memory was last given back.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self.peak = 0

    def __repr__(self) -> str:
        return f"<Budget {self.held} of {self.most} bytes, peak {self.peak}>"

    def take(self, size: int) -> bool:
        """Count another `size` bytes of a request; count nothing and return False if that is too much."""
        if self.held + size > self.most:
            return False
        self.add(size)
        return True

    def add(self, size: int) -> None:
        """Count another `size` bytes that cannot be refused any more."""
        self.held += size
        self.peak = max(self.peak, self.held)

    def give_back(self, size: int) -> None:
        """Stop counting `size` bytes."""
        self.held -= size

    def ebbed(self) -> bool:
        """Return whether far less is held than at the last peak; true once for each peak."""
        if self.peak < _WORTH_TRIMMING or self.held > self.peak // 4:
            return False
        self.peak = self.held
        return True


def _trimmer() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # another C library than GNU's
        return None
    return trim


_trim = _trimmer()


def trim_memory() -> None:
    """Give free memory back to the system now, if the C library can; others do so in their own time."""
    if _trim is not None:
        _trim(0)
