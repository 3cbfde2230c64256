"""Files whose rows are compared with the store: their columns and event times are read as a load reads them."""

import threading
from collections.abc import Iterator, Mapping, Sequence

import click
import msgspec

from .columns import ColumnPlanner
from .file_rows import FileRows, Layout, part_columns
from .parts import Part
from .paths import STDIN, find_files
from .preparing import Clock
from .survey import Reader, Surveyed, find_unit, unit_of_part
from .times import Unit

_ROWS = 1000
_SHOWN = 5
"""Rows that cannot be read are told of up to so many."""


class ComparedFiles:
    """The rows of files.

    Args:
        paths: Files, folders, patterns, or `-`.
        planner: Tells what columns are for.
        kinds: The features that can be compared, with their types.
        unit: The unit of event times that are numbers; None: to be found.

    Attributes:
        unread: Rows so far that cannot be read.

    Raises:
        ConfigurationError: A column is missing, or the event times are of several units, or of none.
        SourceError: A file cannot be read.
    """

    def __init__(
        self, paths: Sequence[str], planner: ColumnPlanner, kinds: Mapping[str, str], unit: Unit | None
    ) -> None:
        self._planner, self._kinds, self._reader = planner, kinds, Reader()
        self._known: dict[tuple[str, ...], Layout] = {}
        self._files = [self._survey(path) for path in find_files(paths)]
        found = unit or find_unit(self._files, self._reader, planner, threading.Event())
        self._clock = Clock(0, found, told=unit is not None)
        self.unread = 0

    def rows(self) -> Iterator[FileRows]:
        """Yield the rows; say once which columns are not compared, and of rows that cannot be read, why."""
        for file in self._files:
            for part in self._reader.open(file.path).parts(0, _ROWS):
                for row in part.unread:
                    self._tell(file.path, row.position, row.reason)
                if part.rows is None or not len(part.positions):
                    continue
                if file.path == STDIN and self._clock.unit is None:
                    unit = unit_of_part(part, STDIN, self._planner)
                    self._clock = msgspec.structs.replace(self._clock, unit=unit)
                yield self._rows(file.path, part)

    def _survey(self, path: str) -> Surveyed:
        source = self._reader.open(path)
        columns = None if source.columns is None else self._layout(path, tuple(source.columns)).columns
        return Surveyed(path, columns, source.size, source.count)

    def _rows(self, path: str, part: Part) -> FileRows:
        columns = part_columns(part.rows)
        layout = self._layout(path, tuple(columns))
        rows, wrong = layout.rows(columns, len(part.positions), self._clock, text=part.text)
        for index, reason in wrong.items():
            self._tell(path, part.positions[index], reason)
        return rows

    def _layout(self, path: str, names: tuple[str, ...]) -> Layout:
        """Return the layout of these columns, which is made once."""
        layout = self._known.get(names)
        if layout is None:
            columns, ignored = self._planner.roles(path, names)
            layout = self._known[names] = Layout(columns, self._kinds)
            if ignored:
                click.echo(f"not compared, since they are no features: {', '.join(ignored)}", err=True)
        return layout

    def _tell(self, path: str, position: int, reason: str) -> None:
        self.unread += 1
        if self.unread <= _SHOWN:
            click.echo(f"{path}, row {position} cannot be read: {reason}", err=True)
        elif self.unread == _SHOWN + 1:
            click.echo("further rows that cannot be read are not told", err=True)
