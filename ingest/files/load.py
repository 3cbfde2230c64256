"""A load: the rows of files into the store, so that none is lost and none counts twice, whatever happens between."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from featurestore.contract.frame_rows import Nulls
from featurestore.contract.upsert_calls import UpsertResult
from featurestore.contract.words import EVENT_TIME
from featurestore.errors import SourceError

from ..writer import BulkWriter  # noqa: TID252 - this package has two names
from .checkpoint import Checkpoint, CheckpointFile, Progress
from .columns import ColumnPlanner
from .parts import Part
from .paths import STDIN
from .patience import Patience, StoppedError
from .preparing import Clock, Prepared, has_time, prepare
from .rejects import RejectedFile, Rejection, plain
from .rows import own_time_column
from .server import Server
from .sources import read_ahead
from .survey import Reader, Surveyed, unit_of_part
from .witnesses import are_gone, keep_latest, look_up, pick_ids, witnessed_nodes

_logger = logging.getLogger("featurestore.ingest")

_MOST_ROWS = 32_000
"""Rows of a part: between two of them the checkpoint is written."""

_TURNS_A_SECOND = 4
"""Where a rate is given, how many parts a second."""

_SHOWN = 5
"""Rejected rows that are told as they come."""

_SURE_S = 10.0
"""A Redis that writes its log to disk has everything on disk that it took so long ago."""

_UNREAD = "BADROW"


class Manner(msgspec.Struct, frozen=True):
    """How rows are written.

    Attributes:
        overwrite: Whether values go over newer ones.
        nulls: What null does; None: what the files say.
        rate: Most rows a second; None: as many as Redis takes.
        fair: Whether to leave most of Redis's time to others while it serves some.
        dry: Whether rows are only checked.
    """

    overwrite: bool = False
    nulls: Nulls | None = None
    rate: float | None = None
    fair: bool = True
    dry: bool = False


class Load:
    """A load under way.

    Args:
        writer: Writes to the entity.
        files: What is loaded.
        reader: Opens the files.
        planner: Tells what columns are for.
        clock: How event times are read.
        manner: How rows are written.
        checkpoint: Where it begins.
        keeper: Keeps the checkpoint; None: nobody does.
        rejected: Takes the rejected rows; None: nobody does.
        stop: Ends the load behind the part in hand.
        show: Called with the progress after each part.
    """

    def __init__(  # noqa: PLR0913 - what a load is made of
        self,
        writer: BulkWriter,
        files: Sequence[Surveyed],
        *,
        reader: Reader,
        planner: ColumnPlanner,
        clock: Clock,
        manner: Manner,
        checkpoint: Checkpoint,
        keeper: CheckpointFile | None,
        rejected: RejectedFile | None,
        stop: threading.Event,
        show: Callable[[Progress, int], None],
    ) -> None:
        self._writer, self._files, self._reader, self._planner = writer, files, reader, planner
        self._manner, self._checkpoint, self._keeper, self._rejected = manner, checkpoint, keeper, rejected
        self._stop, self._show, self._clock = stop, show, clock
        self._patience = Patience(stop)
        self._shown, self._surveyed = 0, False
        self._witnesses: list[str] = []
        self._nodes = 1
        self._ripening, self._ripe_at = checkpoint.now, time.monotonic() + _SURE_S
        rate = manner.rate
        self._most = _MOST_ROWS if rate is None else max(1, min(_MOST_ROWS, int(rate / _TURNS_A_SECOND)))
        self._paced_from, self._paced_rows = time.monotonic(), 0
        self.lost = False
        """Whether rows may be missing that cannot be read once more."""

    def run(self) -> Progress:
        """Load everything, and return how it went.

        Raises:
            StoppedError: It was told to stop. The checkpoint is that of the rows behind it.
            FeatureStoreError: Redis refuses to go on. Likewise.
            OSError: Rejected rows or the checkpoint cannot be written; `filename` says which. Likewise.
        """
        self._nodes = self._patience.keep_trying(lambda: witnessed_nodes(self._writer.store))
        self._patience.keep_trying(self._look_at_server)
        while self._checkpoint.now.file < len(self._files):
            self._load_file(self._files[self._checkpoint.now.file])
        return self._checkpoint.now

    def _load_file(self, file: Surveyed) -> None:
        """Load a file from where the load is, to its end or until the load is put back."""
        index, start = self._checkpoint.now.file, self._checkpoint.now.row
        columns = file.columns.wanted if file.columns else None
        try:
            source = self._reader.open(file.path)
            with closing(read_ahead(source, start, self._most, columns, self._stop)) as parts:  # type: ignore[type-var]
                for part in parts:
                    if not self._load_part(file, part):
                        return
                    self._show(self._checkpoint.now, source.done)
                    self._pace(len(part.positions))
                    if self._stop.is_set():
                        break
        except SourceError as error:
            _logger.error("%s; the rows before are loaded", error)  # noqa: TRY400 - it is told, not traced
            broken = [*self._checkpoint.now.broken, str(error)]
            self._checkpoint.now = msgspec.structs.replace(self._checkpoint.now, broken=broken)
        if self._stop.is_set():
            raise StoppedError
        if self._checkpoint.now.row == 0:
            _logger.warning("%s has no rows", file.path)
        self._move(msgspec.structs.replace(self._checkpoint.now, file=index + 1, row=0))

    def _load_part(self, file: Surveyed, part: Part) -> bool:
        """Write a part and move on behind it; return False if the load was put back instead."""
        if file.path == STDIN and part.rows and not self._surveyed:
            self._survey(part)
        prepared = None
        result = UpsertResult()
        if part.rows is not None and len(part.positions):
            prepared = prepare(part, file.columns, self._planner, self._clock)
            nulls = self._manner.nulls or file.nulls
            result = self._patience.keep_trying(lambda: self._write(prepared, nulls, text=part.text))
        written = pick_ids(prepared.batch, prepared.id, self._nodes) if prepared is not None else []
        if not self._patience.keep_trying(lambda: self._look_at_server(written)):
            return False
        rejections = self._rejections(file, part, prepared, result)
        self._tell(rejections)
        if self._rejected is not None:
            self._rejected.append(rejections)
        now = self._checkpoint.now
        codes = dict(now.codes)
        for rejection in rejections:
            codes[rejection.code] = codes.get(rejection.code, 0) + 1
        self._move(
            msgspec.structs.replace(
                now,
                row=part.end,
                rows=now.rows + len(part.positions) + len(part.unread),
                written=now.written + result.written,
                skipped=now.skipped + result.skipped,
                rejected=now.rejected + len(rejections),
                codes=codes,
                rejected_bytes=self._rejected.size if self._rejected else 0,
                witnesses=self._witnesses,
            )
        )
        return True

    def _survey(self, part: Part) -> None:
        """Look at the first rows of standard input as other files are looked at before the load."""
        self._surveyed = True
        self._planner.check_rows(STDIN, part.rows)
        if not self._clock.told:
            unit = unit_of_part(part, STDIN, self._planner)
            self._clock = msgspec.structs.replace(self._clock, unit=unit)

    def _write(self, prepared: Prepared, nulls: Nulls, *, text: bool) -> UpsertResult:
        manner = self._manner
        if not len(prepared.kept):
            return UpsertResult()
        if manner.dry:
            rejected = self._writer.check(
                prepared.batch, id=prepared.id, time_column=EVENT_TIME, unit="ms", nulls=nulls, text=text
            )
            return UpsertResult(len(prepared.kept) - len(rejected), 0, rejected)
        return self._writer.write(
            prepared.batch,
            id=prepared.id,
            time_column=EVENT_TIME,
            unit="ms",
            overwrite=manner.overwrite,
            nulls=nulls,
            text=text,
        )

    def _rejections(
        self, file: Surveyed, part: Part, prepared: Prepared | None, result: UpsertResult
    ) -> list[Rejection]:
        """Return the rejected rows of a part, in the order of the file."""
        path = file.path
        start = self._clock.started_ms
        found = [
            Rejection(plain(row.row), path, row.position, _UNREAD, row.reason, part.text, row.time or start)
            for row in part.unread
        ]
        if prepared is not None:
            wrong = [*prepared.wrong, *((prepared.kept[row.row], row.code, row.reason) for row in result.rejected)]
            for index, code, reason in wrong:
                row, position = part.row(index), part.positions[index]
                time_of = None
                if not has_time(row, file.columns, self._planner):
                    time_of = (part.times[index] if part.times else None) or start
                if self._manner.nulls is None and file.nulls == "keep":
                    row = _without_nulls(row)  # which would remove values when the row is mended and loaded
                found.append(Rejection(plain(row), path, position, code, reason, part.text, time_of))
        return sorted(found, key=lambda rejection: rejection.position)

    def _tell(self, rejections: Sequence[Rejection]) -> None:
        for rejection in rejections:
            if self._shown == _SHOWN:
                where = f": {self._rejected.path} has all of them" if self._rejected else ""
                _logger.warning("further rejected rows are not told here%s", where)
            self._shown += 1
            if self._shown <= _SHOWN:
                name = Path(rejection.file).name
                _logger.warning("%s, row %d: %s %s", name, rejection.position, rejection.code, rejection.reason)

    def _move(self, now: Progress) -> None:
        """Be at another place, and say so on disk."""
        before, self._checkpoint.now = self._checkpoint.now, now
        if time.monotonic() >= self._ripe_at:
            self._checkpoint.sure, self._ripening = self._ripening, now
            self._ripe_at = time.monotonic() + _SURE_S
        try:
            self._save()
        except OSError:
            self._checkpoint.now = before
            raise

    def _save(self) -> None:
        self._checkpoint.saved_ms = time.time_ns() // 10**6
        if self._rejected is not None and self._rejected.mark:
            self._checkpoint.rejected_in = str(self._rejected.path)
            self._checkpoint.rejected_mark = self._rejected.mark
        if self._keeper is not None:
            self._keeper.write(self._checkpoint)

    def _look_at_server(self, written: Sequence[str] = ()) -> bool:
        """Make sure that Redis has the rows so far; return False if the load had to be put back.

        One that was restarted has lost what was not on its disk, one that took another's place what had not reached it.
        One that was flushed is the same as before, but no longer knows the ids that were written.

        Args:
            written: Some ids of the part in hand.
        """
        if self._manner.dry:
            return True
        store, now = self._writer.store, self._checkpoint.now
        server = Server.ask(store)
        replaced = server.is_other_than(self._checkpoint.server)
        back = self._safe_place(server) if replaced else now
        known = look_up(store, [*back.witnesses, *written])
        gone = are_gone(store, back.witnesses, known[: len(back.witnesses)])
        self._checkpoint.server = server.identity
        fresh = [id_ for id_, there in zip(written, known[len(back.witnesses) :], strict=False) if there]
        if not replaced and not gone:
            self._witnesses = keep_latest(now.witnesses, fresh, self._nodes)
            return True
        why = "ids that this load wrote are gone from Redis" if gone else "Redis was restarted or replaced"
        if any(file.path == STDIN for file in self._files):
            self.lost, self._witnesses = True, fresh
            _logger.error("%s: rows up to now may be lost, and are to be piped in again", why)
            return True
        self._put_back(Progress() if gone else back, why)
        return False

    def _safe_place(self, server: Server) -> Progress:
        """Return how far the load was with rows that a Redis has that was restarted, or took another's place."""
        quiet_s = time.time() - self._checkpoint.saved_ms / 1000
        return self._checkpoint.sure if server.keeps(self._checkpoint.server, quiet_s + _SURE_S) else Progress()

    def _put_back(self, back: Progress, why: str) -> None:
        now = self._checkpoint.now
        _logger.warning(
            "%s, and it may have lost rows: going back from row %d to row %d of all", why, now.rows, back.rows
        )
        self._checkpoint.now = self._checkpoint.sure = self._ripening = back
        self._ripe_at = time.monotonic() + _SURE_S
        self._save()
        if self._rejected is not None:
            self._rejected.cut(back.rejected_bytes)

    def _pace(self, rows: int) -> None:
        """Wait until as many rows are due as were written."""
        rate = self._manner.rate
        if rate is None:
            return
        self._paced_rows += rows
        due = self._paced_from + self._paced_rows / rate
        now = time.monotonic()
        if due < now - 1:  # no catching up of what was lost in a wait
            self._paced_from, self._paced_rows = now, 0
        self._stop.wait(max(0.0, due - now))


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Return an exported row without its nulls, but for those of features that were removed."""
    return {
        name: value for name, value in row.items() if value is not None or row.get(own_time_column(name)) is not None
    }
