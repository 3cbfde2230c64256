"""Commands that bring stored features out again, and compare files with the store."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from featurestore.contract.hashes import is_window

from .columns import Wishes, renamed
from .compared_files import ComparedFiles
from .export import Export, columns_of, exported
from .exporting import opened_store, patience, usage_errors
from .file_rows import Sample, joined
from .options import unit_option
from .outputs import STDOUT, opened
from .redis_clock import redis_ms
from .scan import MOST_IDS, HashReader, Throttle
from .served_export import Wanted, export_served
from .survey import planner_of
from .telling import Telling
from .times import told_unit
from .verify import Verification, as_json, report

_of_entity = click.option("--entity", default="user", show_default=True, help="Whose features.")
_rate = click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Most ids a second.")
_batch = click.option("--batch", type=click.IntRange(1, MOST_IDS), metavar="N", help="Most ids in a call to Redis.")


@click.command()
@_of_entity
@click.option(
    "--out",
    "--to",
    default=STDOUT,
    show_default=True,
    metavar="PATH",
    help="….parquet, ….ndjson, ….csv (with --served alone), or - for NDJSON.",
)
@click.option("--served", metavar="SERVICE", help="What this service was served, instead of what is stored.")
@click.option("--since", metavar="TIME", help="With --served: the first moment, ISO 8601 or ms since 1970.")
@click.option("--until", metavar="TIME", help="With --served: the last moment; now when left out.")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --served: go on where the last export with this file has ended, and note there how far this one goes.",
)
@click.option("--features", metavar="A,B", help="Features wanted; all but sliding windows when left out.")
@click.option("--id", "id_name", metavar="NAME", help="The column of ids, instead of the schema's name for them.")
@_rate
@_batch
def export(  # noqa: PLR0913 - a command has as many parameters as options
    *, entity: str, out: str, features: str | None, id_name: str | None, rate: float | None, batch: int | None,
    served: str | None, since: str | None, until: str | None, state: Path | None,
) -> None:  # fmt: skip
    """Write what is stored of every id, with event times, to a Parquet or NDJSON file.

    Values are those that are stored: none is filled in by a default, none is hidden for its age. Redis is left to
    others for as long as each call takes. A file gets its name once it is whole.

    With --served SERVICE: what reads by that service were served, as they were answered, where the schema keeps it.
    """
    if served is not None:
        if features or id_name:
            raise click.UsageError("--features and --id do not go with --served: the service tells both")
        export_served(Wanted(entity, served, out, since, until, state, rate, batch))
        return
    for name, given in (("--since", since), ("--until", until), ("--state", state)):
        if given is not None:
            raise click.UsageError(f"{name} goes with --served alone: what is stored has no history")
    with opened_store(entity) as store:
        schema = store.schema()
        with usage_errors():
            columns = columns_of(entity, schema, features.split(",") if features else None, id_name)
        reader = HashReader(store, columns.features, Throttle(rate), patience(), batch or MOST_IDS)
        bar = out != STDOUT or not sys.stdout.isatty()
        with usage_errors(), opened(out, columns) as output, Telling("Exporting ids", store.count(), bar=bar) as told:
            exported(Export(reader, columns, output, ttl_ms=schema.ttl_ms, told=told.set), schema)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_of_entity
@click.option(
    "--id", "id_name", metavar="COLUMN", help="The column of ids, instead of one of the schema's name for them."
)
@click.option("--event-time", metavar="COLUMN", help="The column of event times; @event_time or event_time if there.")
@unit_option
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
    with opened_store(entity) as store, usage_errors():
        schema = store.schema()
        features = {name: kind for name, kind in schema.features.items() if not is_window(kind)}
        own_name = schema.id_name(entity)
        planner = planner_of(store, Wishes(id_name, event_time, renamed(mapped), ignore_undeclared=True))
        files = ComparedFiles(paths, planner, features, told_unit(event_time_unit, event_time))
        oldest = redis_ms(store) - schema.ttl_ms if schema.ttl_ms else None
        throttle, waiting = Throttle(rate), patience()

        def reader_of(compared: Mapping[str, str]) -> HashReader:
            return HashReader(store, compared, throttle, waiting, batch or MOST_IDS)

        verification = Verification(reader_of, features, keeps_null=nulls == "keep", examples=examples, oldest=oldest)
        chosen = Sample(sample, seed=7) if sample else None
        with Telling("Comparing rows", None) as told:
            for rows in files.rows():
                (chosen.offer if chosen else verification.compare)(rows)
                told.add(len(rows))
            for rows in joined(chosen.chosen if chosen else []):
                verification.compare(rows)
    result = verification.result
    result.unread = files.unread
    if is_json:
        click.echo(msgspec.json.encode(as_json(result, own_name)))
    else:
        for line in report(result, own_name):
            click.echo(line)
    sys.exit(0 if result.agrees else 1)
