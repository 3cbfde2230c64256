"""Files as sources of rows, and what is read ahead of them."""

import queue
import threading
from collections.abc import Iterator, Sequence

from featurestore.contract import arrow
from featurestore.errors import ConfigurationError, SourceError

from .columnar import ArrowSource, ParquetSource
from .delimited import CsvForm, CsvSource
from .lines import NdjsonSource
from .parts import Part, Source
from .paths import STDIN, Format, format_of

_AHEAD = 2
"""Parts that are read while another is written."""

_LOOK_S = 0.1

_JOINED_S = 5.0
"""For so long the thread may go on with what it reads."""

_Item = Part | BaseException | None
"""What the thread hands over; None is the end."""


def open_source(path: str, told: Format | None = None, form: CsvForm | None = None) -> Source:
    """Open a file, or `-` for NDJSON on standard input.

    Args:
        path: The file.
        told: Its format; without it, its name or its first bytes tell.
        form: How CSV is written.

    Raises:
        ConfigurationError: Its format is not known, its columns cannot be used, or pyarrow is missing.
        SourceError: It cannot be read.
    """
    try:
        return _opened(path, format_of(path, told), form or CsvForm())
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error


def _opened(path: str, kind: Format, form: CsvForm) -> Source:
    if kind == "ndjson":
        return NdjsonSource(path)
    if not arrow.is_there():
        raise ConfigurationError(f"{path}: CSV, Parquet and Arrow files need pyarrow ({arrow.EXTRA}), NDJSON does not")
    if kind == "csv":
        return CsvSource(path, form)
    return ParquetSource(path) if kind == "parquet" else ArrowSource(path)


def read_ahead(
    source: Source, start: int, most: int, columns: Sequence[str] | None, stop: threading.Event
) -> Iterator[Part]:
    """Yield what `Source.parts` does, read in a thread that is a part or two ahead; end early once `stop` is set."""
    parts: queue.Queue[_Item] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def read() -> None:
        try:
            for part in source.parts(start, most, columns):
                if not _offer(parts, part, stopped):
                    return
            _offer(parts, None, stopped)
        except BaseException as error:  # noqa: BLE001 - it is raised where the parts are taken
            _offer(parts, error, stopped)

    thread = threading.Thread(target=read, name="reader", daemon=True)
    thread.start()
    try:
        while not stop.is_set():
            try:
                item = parts.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        if source.path != STDIN:  # which may have nothing for long, and is read without Python's files
            thread.join(_JOINED_S)  # one that reads a file while the interpreter ends would abort it


def _offer(parts: "queue.Queue[_Item]", item: _Item, stopped: threading.Event) -> bool:
    """Hand over an item as soon as there is room; return False once nobody wants it any more."""
    while not stopped.is_set():
        try:
            parts.put(item, timeout=_LOOK_S)
        except queue.Full:
            continue
        return True
    return False
