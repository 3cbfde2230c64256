"""How far a load is, for people: a bar on a terminal, else a line now and then."""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .checkpoint import Progress
from .survey import Surveyed

_logger = logging.getLogger("featurestore.ingest")

_LINE_EVERY_S = 5.0


class Display:
    """Shows rows, rows a second, rejected rows and the time left, on stderr.

    Args:
        files: What is loaded.
        begins: Where the load begins.
    """

    def __init__(self, files: Sequence[Surveyed], begins: Progress) -> None:
        self._files, self._begins = files, begins
        counts = [file.count for file in files]
        self._rows = None if None in counts else sum(count for count in counts if count is not None)
        self._bytes = sum(file.size for file in files)
        self._started = self._told = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            text = TextColumn("{task.fields[told]}")
            self._bar = Bar(BarColumn(), text, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=self._rows or self._bytes or None, told="")
            self._redirect(self._bar.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._redirect(self._bar.stop)

    @staticmethod
    def _redirect(change: Callable[[], None]) -> None:
        """Start or stop the bar. While it is there, sys.stderr writes above it, and so has to the log."""
        before = sys.stderr
        change()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(sys.stderr)

    def show(self, progress: Progress, done: int) -> None:
        """Show how far the load is; `done` is how many bytes of its file have been read."""
        now = time.monotonic()
        rate = max(0, progress.rows - self._begins.rows) / max(now - self._started, 0.001)
        behind = sum(file.size for file in self._files[: progress.file]) + done
        told = f"{progress.rows:,} rows, {rate:,.0f} rows/s, {progress.rejected:,} rejected"
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.rows if self._rows else behind, told=told)
        elif now - self._told >= _LINE_EVERY_S:
            self._told = now
            _logger.info("%s%s", told, self._left(progress, behind, now))

    def _left(self, progress: Progress, behind: int, now: float) -> str:
        if self._rows:
            share = progress.rows / self._rows
            gone = (progress.rows - self._begins.rows) / self._rows
        else:
            share = gone = min(1.0, behind / self._bytes) if self._bytes else 0.0
        if share >= 1 or gone <= 0:
            return ""
        return f", {share:.0%}, {(now - self._started) * (1 - share) / gone:,.0f} s left"
