"""How far a command is: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_logger = logging.getLogger("featurestore.ingest")
_EVERY_S = 5.0


class Telling:
    """Tells on stderr how far a command is.

    Args:
        doing: What it does, such as "Exporting ids".
        total: How many there are; None where nobody knows.
        bar: Whether there may be a bar, on a terminal.
    """

    def __init__(self, doing: str, total: int | None, *, bar: bool = True) -> None:
        self._doing, self._total = doing, total
        self._is_bar = bar and sys.stderr.isatty()
        columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not self._is_bar)
        self._task = self._progress.add_task("", total=total)
        self._done, self._told = 0, time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def add(self, count: int) -> None:
        """Say that so many more are done."""
        self.set(self._done + count)

    def set(self, done: int) -> None:
        """Say how many are done in all."""
        self._done = done
        self._progress.update(self._task, completed=done)
        if not self._is_bar and time.monotonic() - self._told > _EVERY_S:
            self._told = time.monotonic()
            of_all = f" of about {self._total}" if self._total is not None else ""
            _logger.info("%s: %d%s", self._doing, done, of_all)
