"""What was served and is to be kept, until it is sent: bounded, and never waited for by those who were served."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from featurestore.contract.served import Piece, served_calls
from featurestore.errors import FeatureStoreError, UnconfirmedWriteError

MOST_ROWS, MOST_BYTES = 20_000, 16 << 20
"""So many rows may wait to be sent, and so many bytes of values. What comes beyond that is lost, and counted."""

AT_ONCE = 1600
"""So many rows are sent at once."""

_TOLD_EACH_S = 10.0
_logger = logging.getLogger("featurestore")

Call = tuple[bytes, int]
"""An encoded call of `log_served`, and how many rows it has."""


class ServedLog:
    """Rows that wait to be sent, and the counts of what became of them.

    It does no I/O: whoever adds rows starts what sends, if nothing does. What sends takes calls until there are none.
    The rows of many requests share a call.

    Args:
        spawn: Runs a function beside what goes on; None for a thread.
        told: Takes how many rows more were kept, and how many were lost.

    Attributes:
        kept: Rows that are in streams.
        lost: Rows that are not: Redis was away or full, or there were too many.
    """

    def __init__(
        self,
        spawn: Callable[[Callable[[], None]], object] | None = None,
        told: Callable[[int, int], object] | None = None,
    ) -> None:
        self.spawn, self._told = spawn, told
        self.kept = self.lost = 0
        self._pieces: deque[Piece] = deque()
        self._bytes = self._sent = 0
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._tell_at, self._untold = 0.0, 0

    def add(self, pieces: Iterable[Piece]) -> bool:
        """Take rows, as far as there is room; return whether what sends is to be started."""
        refused = 0
        with self._lock:
            for piece in pieces:
                size = len(piece[1][-1])
                if len(self._pieces) >= MOST_ROWS or self._bytes + size > MOST_BYTES:
                    refused += 1
                    continue
                self._pieces.append(piece)
                self._bytes += size
            starts = bool(self._pieces) and self._idle.is_set()
            if starts:
                self._idle.clear()
        if refused:
            self._count(0, refused, "more is served than Redis takes")
        return starts

    def take(self) -> list[Call]:
        """Return the calls that are to be sent now; none where whoever sends is to end."""
        with self._lock:
            taken = [self._pieces.popleft() for _ in range(min(AT_ONCE, len(self._pieces)))]
            self._sent = len(taken)
            self._bytes -= sum(len(words[-1]) for _, words in taken)
            if not taken:
                self._idle.set()
        return list(served_calls(taken))

    def settle(self, calls: Sequence[Call], replies: Sequence[Any] | Exception) -> None:
        """Count what became of calls, by the replies or by what kept them all from being answered.

        A schema that does not keep anything any more takes no rows, and that is no loss.
        """
        if not self._sent:
            return  # they were given up meanwhile
        kept = lost = 0
        reason: object = None
        for number, (_, rows) in enumerate(calls):
            reply = replies if isinstance(replies, Exception) else replies[number]
            if isinstance(reply, UnconfirmedWriteError):
                reply = reply.result
            if isinstance(reply, Exception):
                lost, reason = lost + rows, reply
            else:
                kept += int(reply)
        self._sent = 0
        self._count(kept, lost, reason)

    def give_up(self, error: BaseException) -> None:
        """Count as lost what waits and what was not answered: what sends has ended."""
        with self._lock:
            lost = len(self._pieces) + self._sent
            self._pieces.clear()
            self._bytes = self._sent = 0
            self._idle.set()
        self._count(0, lost, error)

    def wait(self, seconds: float) -> bool:
        """Wait until all is sent, but no longer than so many seconds; return whether it is."""
        return self._idle.wait(seconds)

    def fail(self, rows: int, error: Exception) -> None:
        """Count rows of which no call could be made."""
        self._count(0, rows, error)

    def _count(self, kept: int, lost: int, reason: object) -> None:
        """Count rows, and tell of those that are lost, in a line every 10 s at most."""
        with self._lock:
            self.kept, self.lost, self._untold = self.kept + kept, self.lost + lost, self._untold + lost
            now = time.monotonic()
            tells = lost > 0 and now >= self._tell_at
            if tells:
                untold, self._untold, self._tell_at = self._untold, 0, now + _TOLD_EACH_S
        if self._told is not None:
            self._told(kept, lost)
        if tells:
            why = reason if isinstance(reason, FeatureStoreError | str) else repr(reason)
            _logger.warning("%d rows that were served were not kept: %s", untold, why)


def in_a_thread(run: Callable[[], None]) -> None:
    """Run a function in a thread that no exit of the process waits for."""
    threading.Thread(target=run, name="featurestore-served", daemon=True).start()
