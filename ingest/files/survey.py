"""What is looked at before the first row is written: the files, their columns, the unit of event times."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from featurestore.contract import arrow
from featurestore.contract.frame_rows import Nulls
from featurestore.contract.words import EVENT_TIME
from featurestore.errors import SourceError
from featurestore.store.blocking import FeatureStore

from .columnar import ParquetSource
from .columns import ColumnPlanner, Columns, Wishes
from .delimited import CsvForm
from .parts import Part, Source
from .paths import STDIN, Format
from .sources import open_source, read_ahead
from .times import Unit, UnitFinder

_logger = logging.getLogger("featurestore.ingest")

_LOOKED_AT = 10_000
_FIRST_ROWS = 1000
_MUCH = 64 << 20


class Surveyed(msgspec.Struct, frozen=True):
    """A file to be loaded.

    Attributes:
        path: The file.
        columns: What its columns are for; None where each row tells.
        size: Its bytes; 0 if unknown.
        count: Its rows; None if unknown.
        nulls: What null does in it, unless the caller says otherwise.
    """

    path: str
    columns: Columns | None
    size: int
    count: int | None
    nulls: Nulls = "remove"


class Reader(msgspec.Struct, frozen=True):
    """How files are opened.

    Attributes:
        told: Their format, None where names tell.
        form: How CSV is written.
    """

    told: Format | None = None
    form: CsvForm = CsvForm()

    def open(self, path: str) -> Source:
        """Open a file; see `open_source`."""
        return open_source(path, self.told, self.form)


def planner_of(store: FeatureStore, wishes: Wishes) -> ColumnPlanner:
    """Return what tells what columns are for, by the stored schema and what a caller says."""
    schema, entity = store.schema(), store.keys.entity
    names = [schema.id_name(entity), *([schema.join_key] if schema.join_key else []), f"{entity}_id", "id"]
    return ColumnPlanner(schema.features, names, wishes)


def survey(paths: Sequence[str], reader: Reader, planner: ColumnPlanner) -> list[Surveyed]:
    """Open each file, and return what its columns are for.

    Raises:
        ConfigurationError: A column is missing, undeclared, or of a type that cannot be.
        SourceError: A file cannot be opened.
    """
    found = []
    for path in paths:
        source = reader.open(path)
        columns = None
        if source.columns is not None:
            columns = planner.plan(path, source.columns)
        elif path != STDIN:
            _check_first_rows(source, planner)
        is_exported = isinstance(source, ParquetSource) and source.is_exported
        found.append(Surveyed(path, columns, source.size, source.count, "keep" if is_exported else "remove"))
    return found


def _check_first_rows(source: Source, planner: ColumnPlanner) -> None:
    with suppress(SourceError):  # the load tells it, behind the rows before
        for part in source.parts(0, _FIRST_ROWS):
            if part.rows:
                planner.check_rows(source.path, part.rows)
            return


def find_unit(files: Sequence[Surveyed], reader: Reader, planner: ColumnPlanner, stop: threading.Event) -> Unit | None:
    """Return the unit of the event times of all files by their magnitude; None if they have no numbers.

    Columns of timestamps are not read, nor are columns whose least and largest value the file tells. A file that ends
    too early is read as far as it goes.

    Raises:
        ConfigurationError: They are of several units, or of none.
    """
    finder = UnitFinder()
    name = planner.wishes.time or "event_time"
    for file in files:
        if file.path == STDIN or stop.is_set():
            continue
        source = reader.open(file.path)
        with suppress(SourceError):  # see above
            if file.columns is None:
                _look_at_objects(source, finder, planner, stop)
            elif file.columns.time is not None and file.columns.time != EVENT_TIME:
                name = file.columns.time
                _look_at_column(source, name, finder, stop)
    return finder.unit(name)


def _look_at_column(source: Source, name: str, finder: UnitFinder, stop: threading.Event) -> None:
    kind = source.columns[name] if source.columns else None
    if kind is not None and (arrow.library().types.is_timestamp(kind) or arrow.library().types.is_date(kind)):
        return
    ends = source.ends(name) if isinstance(source, ParquetSource) else None
    if ends is not None and all(isinstance(end, int) for pair in ends for end in pair):
        for pair in ends:
            finder.look(list(pair), source.path, (0, 0))
        if len(finder.units) <= 1 and None not in finder.units:
            return
    finder.forget(source.path)
    _say(source)
    for part in read_ahead(source, 0, _LOOKED_AT, [name], stop):
        if part.rows is not None:
            finder.look(part.rows.column(name), source.path, part.positions)


def _look_at_objects(source: Source, finder: UnitFinder, planner: ColumnPlanner, stop: threading.Event) -> None:
    for part in _parts_with_times(source, planner, stop):
        _look_at_part(part, source.path, finder, planner)


def _look_at_part(part: Part, path: str, finder: UnitFinder, planner: ColumnPlanner) -> None:
    values, positions = [], []
    for row, position in zip(part.rows, part.positions, strict=True):
        name = planner.time_name(row)
        if name is not None and name != EVENT_TIME:
            values.append(row[name])
            positions.append(position)
    finder.look(values, path, positions)


def unit_of_part(part: Part, path: str, planner: ColumnPlanner) -> Unit | None:
    """Return the unit of the event times of a part of objects; see `find_unit`."""
    finder = UnitFinder()
    _look_at_part(part, path, finder, planner)
    return finder.unit(planner.wishes.time or "event_time")


def _parts_with_times(source: Source, planner: ColumnPlanner, stop: threading.Event) -> Iterator[Part]:
    """Yield the parts of a file of objects; none if its first rows have no event times whose unit is to be found."""
    for number, part in enumerate(read_ahead(source, 0, _LOOKED_AT, None, stop)):
        if number == 0 and all(planner.time_name(row) in {None, EVENT_TIME} for row in part.rows):
            return
        if number == 0:
            _say(source)
        yield part


def _say(source: Source) -> None:
    if source.size > _MUCH:
        _logger.info("reading %s for the unit of its event times; --event-time-unit saves that", source.path)
