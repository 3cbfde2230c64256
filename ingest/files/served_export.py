"""`featurestore export --served`: what a service was served, in a file."""

import logging
import os
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from featurestore.errors import BadArgumentsError
from featurestore.schema.times import ms_of
from featurestore.store.blocking import FeatureStore

from .exporting import opened_store, patience, usage_errors
from .outputs import STDOUT
from .scan import Throttle
from .served import MOST_PAGE, Progress, ServedColumns, ServedReader, Spool, gather, read_progress
from .served_outputs import check_path, write_served
from .telling import Telling

_logger = logging.getLogger("featurestore.ingest")


class Wanted(msgspec.Struct, frozen=True):
    """What is to be exported, as the command has it.

    Attributes:
        entity: The entity whose schema has the service.
        service: The service.
        out: The file, or `-`.
        since: The first moment; None for all that is there.
        until: The last one; None for now.
        state: The file that tells how far exports are; None for none.
        rate: Most rows a second; None for any number.
        batch: Most rows in a call; None for what suits.
    """

    entity: str
    service: str
    out: str
    since: str | None = None
    until: str | None = None
    state: Path | None = None
    rate: float | None = None
    batch: int | None = None


def export_served(wanted: Wanted) -> None:
    """Write what a service was served to a file, and log what came of it."""
    began = time.monotonic()
    with opened_store(wanted.entity) as store:
        with usage_errors():
            check_path(wanted.out)
            since, until = _moment("--since", wanted.since), _moment("--until", wanted.until)
            if wanted.since is not None and wanted.state is not None:
                raise BadArgumentsError("--since and --state both tell where to begin: give one of them")
            progress = Progress(wanted.entity, wanted.service)
            if wanted.state is not None:
                progress = read_progress(wanted.state, wanted.entity, wanted.service)
            reader = ServedReader(store, wanted.service, Throttle(wanted.rate), patience(), wanted.batch or MOST_PAGE)
            total = reader.count()
            if not total:
                _refuse_unkept(store, wanted)
        for key in reader.lost(progress):
            _logger.warning(
                "%s may have dropped entries that no export has: keep more of them, or export more often", key
            )
        columns = ServedColumns(wanted.entity, store.id_name())
        folder = None if wanted.out == STDOUT else Path(wanted.out).absolute().parent
        bar = wanted.out != STDOUT or not sys.stdout.isatty()
        with closing(Spool(folder)) as spool:
            with Telling("Exporting rows", total, bar=bar) as told:
                found = gather(reader.entries(progress, since, until), columns, spool, told.set)
            write_served(wanted.out, columns, spool.entries(), wanted.service)
        if wanted.state is not None:
            _write_state(wanted.state, progress)
    _logger.info("Exported %d rows served to %s in %.1f s", found.rows, wanted.service, time.monotonic() - began)
    if found.strange:
        _logger.warning("%d entries were none that the store makes, and were left out", found.strange)
    for (name, kind), column in columns.features.items():
        if column != name:
            _logger.warning("%s was served as %s, too: those values are in the column %s", name, kind, column)


def _refuse_unkept(store: FeatureStore, wanted: Wanted) -> None:
    """Tell why there is nothing where there never will be.

    Raises:
        BadArgumentsError: The schema has no such service, or keeps nothing of it.
    """
    schema = store.schema()
    if wanted.service not in schema.services:
        known = ", ".join(schema.services) or "none"
        raise BadArgumentsError(f"{wanted.entity} has no service {wanted.service}, and nothing of it (known: {known})")
    if wanted.service not in schema.logs:
        text = f"nothing is kept of what {wanted.service} of {wanted.entity} is served: the schema has no log for it"
        raise BadArgumentsError(f"{text} (docs/training.md)")


def _moment(option: str, text: str | None) -> int | None:
    """Return a moment in ms since 1970; without a zone, of UTC.

    Raises:
        BadArgumentsError: The text is none.
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        wants = "want ISO 8601, such as 2026-11-27T08:00:00Z, or ms since 1970"
        raise BadArgumentsError(f"{option} {text!r}: {wants}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return ms_of(moment)


def _write_state(path: Path, progress: Progress) -> None:
    """Put how far the export is into a file, whole or not at all."""
    beside = path.with_name(f".{path.name}.partial")
    with beside.open("wb") as file:
        file.write(msgspec.json.encode(progress) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
