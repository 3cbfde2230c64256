"""Commands that write rows; `featurestore.cli` finds them by the entry point group `featurestore.commands`."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from featurestore.contract.upsert_calls import UpsertResult
from featurestore.embedded import embedded_url
from featurestore.errors import RedisError
from featurestore.settings import Settings

from .simulator import COLUMNS, SimulatedRow, Simulator
from .writer import BulkWriter

_logger = logging.getLogger("featurestore.ingest")
_LOAD_STEP = 10_000
_RETRY_S = 1.0


@click.command()
@click.option("--users", type=click.IntRange(1), default=100_000, show_default=True, help="Users to simulate.")
@click.option("--batch", type=click.IntRange(1), default=500, show_default=True, help="Users in one update.")
@click.option("--interval", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds between updates.")
@click.option("--once", is_flag=True, help="Bring in every user once, then exit.")
@click.option("--load/--no-load", default=True, help="Bring in every user before the updates.")
@click.option("--log-every", type=click.FloatRange(0), default=0.0, help="Least seconds between lines about updates.")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed makes the same users.")
def simulate(*, users: int, batch: int, interval: float, once: bool, load: bool, log_every: float, seed: int) -> None:
    """Write simulated users: everyone once, then an update of some of them every interval, until stopped."""
    settings = Settings.from_environment()
    writer = BulkWriter(settings.url or embedded_url(settings.data_dir), call=settings.call)
    simulator = Simulator(users, seed)
    if load:
        started = time.monotonic()
        for rows in _with_progress(simulator.everyone(), users):
            _report(writer.write_table(COLUMNS, rows))
        elapsed = time.monotonic() - started
        _logger.info("Loaded %d users in %.1f s (%.0f users/s)", users, elapsed, users / elapsed)
    logged = -log_every
    while not once:
        tells = time.monotonic() - logged >= log_every
        logged = time.monotonic() if tells else logged
        if not _update(writer, simulator.some(batch), tells=tells) and settings.url is None:
            embedded_url(settings.data_dir)  # it raises once that server cannot be started again
        time.sleep(interval)
    writer.close()


def _update(writer: BulkWriter, rows: list[SimulatedRow], *, tells: bool) -> bool:
    """Write `rows`, and log the total where it `tells`; where Redis takes none, say so, and return False in a while."""
    try:
        result = writer.write_table(COLUMNS, rows)
        _report(result)
        total = writer.store.count() if tells else 0
    except RedisError as error:
        _logger.warning("an update of %d users failed, some may be written: %s", len(rows), error)
        time.sleep(_RETRY_S)
        return False
    if tells:
        _logger.info("Ingested/Updated %d features. Total unique users: %d", result.written, total)
    return True


def _report(result: UpsertResult) -> None:
    for rejected in result.rejected:
        _logger.warning("row %d rejected: %s %s", rejected.row, rejected.code, rejected.reason)


def _with_progress(rows: Iterator[SimulatedRow], total: int) -> Iterator[Iterable[SimulatedRow]]:
    """Yield the rows in steps and show how far they are: a bar on a terminal, else a line now and then."""
    columns = (TextColumn("Ingesting users"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task, done = progress.add_task("", total=total), 0
        while step := list(islice(rows, _LOAD_STEP)):
            yield step
            done += len(step)
            progress.update(task, completed=done)
            if not sys.stderr.isatty():
                _logger.info("Ingested %d of %d users", done, total)
