"""`featurestore load`: files into the store."""

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from featurestore.contract.frame_rows import Nulls
from featurestore.embedded import embedded_url
from featurestore.errors import (
    ConfigurationError,
    FeatureStoreError,
    NoSchemaError,
    UnavailableError,
)
from featurestore.settings import Settings

from ..writer import BulkWriter  # noqa: TID252 - this package has two names
from .checkpoint import Checkpoint, CheckpointFile, FileState, Progress, digest_of
from .columns import ColumnPlanner, Wishes, renamed
from .delimited import CsvForm
from .display import Display
from .infer import infer_schema
from .load import Load, Manner
from .options import unit_option
from .paths import REJECTED_SUFFIX, STDIN, Format, default_name, find_files
from .patience import Patience, StoppedError, is_passing
from .preparing import Clock
from .redis_clock import redis_ms
from .rejects import RejectedFile
from .survey import Reader, Surveyed, find_unit, planner_of, survey
from .times import Unit, told_unit


class Wanted(msgspec.Struct, frozen=True):
    """All that the command line says.

    Attributes:
        paths: Files, folders, patterns, or `-`.
        entity: Whose rows they are.
        wishes: What it says of columns.
        unit: The unit of event times; None: to be found.
        reader: How files are opened.
        manner: How rows are written.
        rejected: The file of rejected rows; None: by default.
        checkpoint: The checkpoint; None: by default.
        restart: Whether an interrupted load is begun anew.
    """

    paths: tuple[str, ...]
    entity: str
    wishes: Wishes
    unit: Unit | None
    reader: Reader
    manner: Manner
    rejected: Path | None
    checkpoint: Path | None
    restart: bool

    def command(self, address: str) -> str:
        """Return a name that only equal loads share, however fast they are."""
        paths = [path if path == STDIN else str(Path(path).absolute()) for path in self.paths]
        manner = (self.manner.overwrite, self.manner.nulls)
        return digest_of([paths, address, self.entity, self.wishes, self.unit, self.reader, manner])


def _split(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--entity", default="user", show_default=True, help="Whose features.")
@click.option(
    "--id", "id_column", metavar="COLUMN", help="Column of the ids  [default: the schema's, such as user_id; id]"
)
@click.option("--event-time", metavar="COLUMN", help="Column of the event times  [default: @event_time or event_time]")
@unit_option
@click.option("--map", "pairs", multiple=True, metavar="COLUMN=FEATURE", help="A column of another name; repeatable.")
@click.option("--columns", metavar="A,B", help="Take these columns alone, beside id and event time.")
@click.option("--ignore-undeclared", is_flag=True, help="Leave out columns that are no features.")
@click.option("--overwrite", is_flag=True, help="Write values that are older than the stored ones too.")
@click.option(
    "--nulls",
    type=click.Choice(["remove", "keep"]),
    help="What becomes of a stored value where a row has none  [default: remove; in Parquet of `export`, keep]",
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="ROWS", help="Most rows a second.")
@click.option("--full-speed", is_flag=True, help="Leave Redis no more time than it takes, also while it serves others.")
@click.option("--rejected", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where rejected rows go  [default: NAME.rejected.ndjson in this folder]")  # fmt: skip
@click.option("--checkpoint", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where the load keeps how far it is  [default: in FEATURESTORE_DATA_DIR/loads]")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin an interrupted load anew.")
@click.option("--dry-run", is_flag=True, help="Check everything, write nothing.")
@click.option("--infer-schema", "infer", is_flag=True, help="Print a schema made from the data, and load nothing.")
@click.option("--format", "told", type=click.Choice(["parquet", "csv", "ndjson", "arrow"]),
              help="Format of the files  [default: as their names tell]")  # fmt: skip
@click.option("--delimiter", metavar="CHAR", help="Of CSV  [default: as the first line tells]")
@click.option("--header", metavar="A,B", help="Columns of CSV files without a header line.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of CSV.")
@click.option("--null-text", "null_texts", multiple=True, metavar="TEXT",
              help="Text that is no value in CSV, beside the empty one; repeatable.")  # fmt: skip
def load(
    *,
    paths: tuple[str, ...],
    entity: str,
    id_column: str | None,
    event_time: str | None,
    event_time_unit: str,
    pairs: tuple[str, ...],
    columns: str | None,
    ignore_undeclared: bool,
    overwrite: bool,
    nulls: Nulls | None,
    rate: float | None,
    full_speed: bool,
    rejected: Path | None,
    checkpoint: Path | None,
    restart: bool,
    dry_run: bool,
    infer: bool,
    told: Format | None,
    delimiter: str | None,
    header: str | None,
    encoding: str,
    null_texts: tuple[str, ...],
) -> None:
    """Load files of rows: Parquet, CSV, NDJSON, Arrow IPC; folders of them, patterns, or `-` for NDJSON on stdin.

    An interrupted load goes on where it was when the same command is given again. Prints a JSON object that says how it
    went. Exits 0, or 1 when rows were rejected.
    """
    delimiter = "\t" if delimiter in {"\\t", "tab"} else delimiter
    if delimiter is not None and len(delimiter) != 1:
        raise click.UsageError(f"--delimiter is one character, or tab, not {delimiter!r}")
    reader = Reader(told, CsvForm(delimiter, _split(header), encoding, null_texts))
    wishes = Wishes(id_column, event_time, renamed(pairs), _split(columns), ignore_undeclared)
    if infer:
        click.echo(infer_schema(find_files(paths), reader, wishes, entity if _is_given("entity") else None), nl=False)
        return
    unit = told_unit(event_time_unit, event_time)
    manner = Manner(overwrite, nulls, rate, not full_speed, dry_run)
    wanted = Wanted(paths, entity, wishes, unit, reader, manner, rejected, checkpoint, restart)
    with _signals() as stopping:
        sys.exit(_Command(wanted, stopping).run())


def _is_given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is not None and source.name != "DEFAULT"


class Stopping:
    """Whether the process was told to stop, and by which signal; a second one ends it at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal = 0

    def note(self, number: int, _frame: object) -> None:
        """Take note of a signal."""
        if self.event.is_set():
            raise SystemExit(128 + number)
        self.signal = number
        self.event.set()


@contextmanager
def _signals() -> Iterator[Stopping]:
    stopping = Stopping()
    wanted = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        wanted.append(signal.SIGHUP)
    before = {number: signal.signal(number, stopping.note) for number in wanted}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Command:
    """One run of the command."""

    def __init__(self, wanted: Wanted, stopping: Stopping) -> None:
        self._wanted, self._stopping = wanted, stopping
        self._kept = ExitStack()
        self._command = ""
        self._rejected: RejectedFile | None = None

    def run(self) -> int:
        """Load, print how it went, and return the exit code."""
        wanted = self._wanted
        paths = find_files(wanted.paths)
        if wanted.checkpoint is not None and paths == [STDIN]:
            raise click.UsageError("a load from standard input has no checkpoint: what was read is gone")
        settings = Settings.from_environment()
        with self._kept:
            try:
                writer = self._open_writer(settings)
                planner = planner_of(writer.store, wanted.wishes)
                files = survey(paths, wanted.reader, planner)
                self._say_of_exports(files)
                keeper = self._open_keeper(writer, paths, settings)
                checkpoint = self._begin(writer, files, keeper, planner)
                return self._load(writer, files, planner, checkpoint, keeper)
            except StoppedError:
                return 128 + self._stopping.signal

    def _say_of_exports(self, files: Sequence[Surveyed]) -> None:
        kept = [file.path for file in files if file.nulls == "keep"]
        if kept and self._wanted.manner.nulls is None:
            more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
            click.echo(f"{kept[0]}{more}: made by export, so null keeps what is stored (--nulls keep)", err=True)

    def _open_writer(self, settings: Settings) -> BulkWriter:
        url = settings.url or embedded_url(settings.data_dir)
        entity = self._wanted.entity

        def connect() -> BulkWriter:
            made = BulkWriter(url, entity=entity, call=settings.call, fair=self._wanted.manner.fair)
            try:
                made.store.schema()
            except FeatureStoreError:
                made.close()
                raise
            return made

        try:
            writer = connect()
        except NoSchemaError:
            of = "" if entity == "user" else f" --entity {entity}"
            raise NoSchemaError(
                f"no schema of {entity} is stored. `featurestore load --infer-schema{of} {self._wanted.paths[0]} > "
                "schema.toml` makes one from the data, `featurestore apply schema.toml` declares it"
            ) from None
        except UnavailableError as error:
            if not is_passing(error) or "cannot be reached" in str(error):
                raise
            writer = Patience(self._stopping.event).keep_trying(connect)
        self._kept.callback(writer.close)
        return writer

    def _open_keeper(self, writer: BulkWriter, paths: list[str], settings: Settings) -> CheckpointFile | None:
        """Open the checkpoint's file; None where there is none: for standard input, and where nothing is written."""
        wanted = self._wanted
        if paths == [STDIN] or wanted.manner.dry:
            return None
        self._command = wanted.command(_address(writer))
        folder = Path(settings.data_dir).expanduser() / "loads"
        keeper = CheckpointFile(wanted.checkpoint or folder / f"{default_name(paths)}-{self._command}.json")
        self._kept.callback(keeper.close)
        return keeper

    def _begin(
        self, writer: BulkWriter, files: list[Surveyed], keeper: CheckpointFile | None, planner: ColumnPlanner
    ) -> Checkpoint:
        """Return where the load begins: where an interrupted one was, else at the start."""
        wanted = self._wanted
        states = [FileState.of(file.path) for file in files if file.path != STDIN]
        if keeper is not None and wanted.restart:
            keeper.refuse_other()
        elif keeper is not None:
            found = keeper.read(self._command, states)
            if found is not None:
                self._check_rejected(found)
                click.echo(f"going on behind row {found.now.rows} of a load that was interrupted", err=True)
                place = Path(found.rejected_in or found.rejected)
                self._rejected = RejectedFile(place, found.now.rejected_bytes, found.rejected_mark)
                return found
        unit = wanted.unit or find_unit(files, wanted.reader, planner, self._stopping.event)
        if self._stopping.event.is_set():
            raise StoppedError
        place = self._rejected_path([file.path for file in files])
        if not place.parent.is_dir():
            raise ConfigurationError(f"--rejected: there is no folder {place.parent}")
        checkpoint = Checkpoint(
            command=self._command,
            files=states,
            started_ms=redis_ms(writer.store),
            rejected=str(place),
            unit=unit,
        )
        self._rejected = RejectedFile(place, None) if not wanted.manner.dry or wanted.rejected else None
        if keeper is not None:
            keeper.write(checkpoint)
        return checkpoint

    def _check_rejected(self, found: Checkpoint) -> None:
        told = self._wanted.rejected
        if told is not None and str(told.absolute()) != found.rejected:
            raise ConfigurationError(
                f"the interrupted load's rejected rows are in {found.rejected}, not in {told}: --restart begins anew"
            )

    def _rejected_path(self, paths: list[str]) -> Path:
        place = (self._wanted.rejected or Path(default_name(self._wanted.paths) + REJECTED_SUFFIX)).absolute()
        if str(place) in paths:
            raise ConfigurationError(f"{place} is loaded, and cannot take the rejected rows: --rejected names another")
        return place

    def _load(
        self,
        writer: BulkWriter,
        files: list[Surveyed],
        planner: ColumnPlanner,
        checkpoint: Checkpoint,
        keeper: CheckpointFile | None,
    ) -> int:
        wanted, began = self._wanted, time.monotonic()
        with Display(files, checkpoint.now) as display:
            loading = Load(
                writer,
                files,
                reader=wanted.reader,
                planner=planner,
                clock=Clock(checkpoint.started_ms, checkpoint.unit, told=wanted.unit is not None),
                manner=wanted.manner,
                checkpoint=checkpoint,
                keeper=keeper,
                rejected=self._rejected,
                stop=self._stopping.event,
                show=display.show,
            )
            try:
                done = loading.run()
            except StoppedError:
                self._say_how_to_go_on("stopped", checkpoint.now, keeper)
                raise
            except (FeatureStoreError, OSError) as error:
                click.echo(f"featurestore: {_told(error)}", err=True)
                self._say_how_to_go_on("ended", checkpoint.now, keeper)
                return 1
            finally:
                if self._rejected is not None:
                    self._rejected.close()
        if keeper is not None:
            keeper.remove()
        self._report(done, time.monotonic() - began)
        return 1 if done.rejected or done.broken or loading.lost else 0

    def _say_how_to_go_on(self, how: str, now: Progress, keeper: CheckpointFile | None) -> None:
        go_on = f"the same command goes on from there (checkpoint {keeper.path})" if keeper else "nothing remembers it"
        click.echo(f"{how} behind row {now.rows}, {now.rejected} rejected: {go_on}", err=True)

    def _report(self, done: Progress, seconds: float) -> None:
        """Print how it went: as JSON for programs on stdout, in words on stderr."""
        dry = self._wanted.manner.dry
        there = self._rejected is not None and done.rejected
        told: dict[str, Any] = {
            "rows": done.rows,
            "written": 0 if dry else done.written,
            "skipped": done.skipped,
            "rejected": done.rejected,
            "codes": done.codes,
            "seconds": round(seconds, 3),
        }
        optional: Mapping[str, Any] = {
            "dry_run": dry,
            "rejected_file": str(self._rejected.path) if self._rejected and there else None,
            "broken": done.broken,
        }
        told |= {name: value for name, value in optional.items() if value}
        click.echo(msgspec.json.encode(told).decode())
        words = f"{done.written:,} could be written" if dry else f"{done.written:,} written, {done.skipped:,} older"
        rejected = f"{done.rejected:,} rejected" + (f" ({told['rejected_file']})" if there else "")
        rows = f"{done.rows:,} row" if done.rows == 1 else f"{done.rows:,} rows"
        click.echo(f"{rows} in {seconds:.1f} s: {words}, {rejected}", err=True)


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be written: {error.strerror}"
    return str(error)


def _address(writer: BulkWriter) -> str:
    return str(getattr(writer.store.transport, "address", ""))
