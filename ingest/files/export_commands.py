"""Commands that bring stored features out again, and compare files with the store."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from featurestore.contract.hashes import is_window
from featurestore.embedded import embedded_url
from featurestore.errors import BadArgumentsError, ConfigurationError, SourceError
from featurestore.schema.times import TIME_UNITS_NS
from featurestore.settings import Settings
from featurestore.store.blocking import FeatureStore

from .export import Export, columns_of, exported
from .file_rows import FileRows, Layout, Sample, joined, part_columns
from .outputs import STDOUT, opened
from .parts import Part
from .paths import find_files
from .redis_clock import redis_ms
from .scan import MOST_IDS, HashReader, ReadRetries, Throttle
from .sources import open_source
from .telling import Telling
from .verify import Verification, as_json, report

_TIMEOUT_S = 5.0
_ROWS = 1000

_of_entity = click.option("--entity", default="user", show_default=True, help="Whose features.")
_rate = click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Most ids a second.")
_batch = click.option("--batch", type=click.IntRange(1, MOST_IDS), metavar="N", help="Most ids in a call to Redis.")


@contextmanager
def _opened_store(entity: str) -> Iterator[FeatureStore]:
    """Yield the entity's store, more patient than a server's: a person waits for the result."""
    with FeatureStore.connect(timeout=_TIMEOUT_S) as store:
        yield store.entity(entity)


def _patience() -> ReadRetries:
    """Return what waits for Redis, and starts the embedded server again where that is the one."""
    settings = Settings.from_environment()
    return ReadRetries() if settings.url else ReadRetries(lambda: embedded_url(settings.data_dir))


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Make what a caller got wrong an error of usage."""
    try:
        yield
    except (BadArgumentsError, ConfigurationError, SourceError) as error:
        raise click.UsageError(str(error)) from error


@click.command()
@_of_entity
@click.option("--out", default=STDOUT, show_default=True, metavar="PATH", help="….parquet, ….ndjson, or - for NDJSON.")
@click.option("--features", metavar="A,B", help="Features wanted; all but sliding windows when left out.")
@click.option("--id", "id_name", metavar="NAME", help="The column of ids, instead of the schema's name for them.")
@_rate
@_batch
def export(  # noqa: PLR0913 - a command has as many parameters as options
    *, entity: str, out: str, features: str | None, id_name: str | None, rate: float | None, batch: int | None
) -> None:
    """Write what is stored of every id, with event times, to a Parquet or NDJSON file.

    Values are those that are stored: none is filled in by a default, none is hidden for its age. Redis is left to
    others for as long as each call takes. A file gets its name once it is whole.
    """
    with _opened_store(entity) as store:
        schema = store.schema()
        with _usage_errors():
            columns = columns_of(entity, schema, features.split(",") if features else None, id_name)
        reader = HashReader(store, columns.features, Throttle(rate), _patience(), batch or MOST_IDS)
        bar = out != STDOUT or not sys.stdout.isatty()
        with _usage_errors(), opened(out, columns) as output, Telling("Exporting ids", store.count(), bar=bar) as told:
            exported(Export(reader, columns, output, ttl_ms=schema.ttl_ms, told=told.set), schema)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_of_entity
@click.option(
    "--id", "id_name", metavar="COLUMN", help="The column of ids, instead of one of the schema's name for them."
)
@click.option("--event-time", metavar="COLUMN", help="The column of event times; @event_time or event_time if there.")
@click.option(
    "--event-time-unit",
    type=click.Choice([*TIME_UNITS_NS]),
    default="ms",
    show_default=True,
    help="Where they are numbers.",
)
@click.option("--map", "mapped", multiple=True, metavar="COLUMN=FEATURE", help="The feature that a column holds.")
@click.option("--nulls", type=click.Choice(["remove", "keep"]), default="remove", show_default=True,
              help="Whether null in the file means that the store has no value, or says nothing.")  # fmt: skip
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Compare so many rows, chosen at random.")
@click.option(
    "--examples", type=click.IntRange(0), default=5, show_default=True, help="Differences shown of each feature."
)
@click.option("--json", "is_json", is_flag=True, help="Print the result as one JSON object.")
@_rate
@_batch
def verify(  # noqa: PLR0913 - a command has as many parameters as options
    *, paths: tuple[str, ...], entity: str, id_name: str | None, event_time: str | None, event_time_unit: str,
    mapped: tuple[str, ...], nulls: str, sample: int | None, examples: int, is_json: bool, rate: float | None,
    batch: int | None,
) -> None:  # fmt: skip
    """Compare the store with files, as `load` reads them; exit 1 where it lacks ids or values, or has others.

    Values are compared as they are stored, floats to the last bit. What the store has of a later event time than the
    file is counted apart, and is no difference.
    """
    with _opened_store(entity) as store, _usage_errors():
        schema = store.schema()
        features = {name: kind for name, kind in schema.features.items() if not is_window(kind)}
        own_name = schema.id_name(entity)
        id_names = [id_name] if id_name else list(dict.fromkeys([own_name, f"{entity}_id", "id"]))
        layouts = _Layouts(features, id_names=id_names, event_time=event_time, unit=event_time_unit,
                           renamed=_renamed(mapped))  # fmt: skip
        oldest = redis_ms(store) - schema.ttl_ms if schema.ttl_ms else None
        throttle, patience = Throttle(rate), _patience()

        def reader_of(compared: Mapping[str, str]) -> HashReader:
            return HashReader(store, compared, throttle, patience, batch or MOST_IDS)

        verification = Verification(reader_of, features, keeps_null=nulls == "keep", examples=examples, oldest=oldest)
        chosen = Sample(sample, seed=7) if sample else None
        with Telling("Comparing rows", None) as told:
            for rows in layouts.rows(paths):
                (chosen.offer if chosen else verification.compare)(rows)
                told.add(len(rows))
            for rows in joined(chosen.chosen if chosen else []):
                verification.compare(rows)
    result = verification.result
    result.unread = layouts.unread
    if is_json:
        click.echo(msgspec.json.encode(as_json(result, own_name)))
    else:
        for line in report(result, own_name):
            click.echo(line)
    sys.exit(0 if result.agrees else 1)


class _Layouts:
    """The layouts of files, each made once; see `Layout`.

    Attributes:
        unread: Rows so far that cannot be read.
    """

    def __init__(self, features: dict[str, str], **options: Any) -> None:
        self._features, self._options = features, options
        self._known: dict[Sequence[str], Layout] = {}
        self.unread = 0

    def rows(self, paths: Sequence[str]) -> Iterator[FileRows]:
        """Yield the rows of the files; say once which columns are not compared."""
        for path in find_files(paths):
            for part in open_source(path).parts(0, _ROWS):
                for row in part.unread:
                    click.echo(f"{path}, row {row.position} cannot be read: {row.reason}", err=True)
                self.unread += len(part.unread)
                if part.rows is not None and len(part.positions):
                    yield self._rows(part)

    def _rows(self, part: Part) -> FileRows:
        columns = part_columns(part.rows)
        names = tuple(columns)
        layout = self._known.get(names)
        if layout is None:
            layout = self._known[names] = Layout(names, self._features, **self._options)
            if layout.ignored:
                click.echo(f"not compared, since they are no features: {', '.join(layout.ignored)}", err=True)
        return layout.rows(columns, len(part.positions), text=part.text)


def _renamed(mapped: Sequence[str]) -> dict[str, str]:
    """Return column → feature of the option `--map`."""
    renamed = {}
    for each in mapped:
        column, equals, feature = each.rpartition("=")
        if not (equals and column and feature):
            raise BadArgumentsError(f"--map wants COLUMN=FEATURE, not {each}")
        renamed[column] = feature
    return renamed
