"""Bulk writing: calls in order on one connection to each node, several in flight."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import msgspec

from featurestore.contract.bulk_calls import MOST_ROWS, Bulk, Part, listed_parts, rows_in_calls
from featurestore.contract.costs import MOST_US
from featurestore.contract.frame_rows import Nulls, Reading, TimeUnit
from featurestore.contract.row_calls import row_calls_for
from featurestore.contract.upsert_calls import RejectedRow, Upsert, UpsertResult
from featurestore.contract.words import to_time
from featurestore.embedded import embedded_url
from featurestore.errors import BadArgumentsError
from featurestore.keys import EntityKeys
from featurestore.settings import CallBy, Settings
from featurestore.store.blocking import FeatureStore
from featurestore.store.frames import FrameWrite
from featurestore.transport.confirming import Durability
from featurestore.transport.opening import blocking_transport

from .pace import Pace

__all__ = ["CALLS_IN_FLIGHT", "MOST_ROWS", "BulkProgress", "BulkWriter", "rows_in_calls"]

CALLS_IN_FLIGHT = 4
"""While Redis works on these, Python makes the next."""


class BulkProgress(msgspec.Struct, frozen=True):
    """How far a write is.

    Attributes:
        rows: Rows sent so far.
        written: Rows written so far, as far as Redis has answered.
        skipped: Rows left out so far, because something newer is stored.
        rejected: Rows rejected so far.
    """

    rows: int
    written: int
    skipped: int
    rejected: int


class BulkWriter:
    """Writes tables of any length, each value checked against the schema.

    Calls go out in order, several at a time: while Redis works on some, the next are made. In a cluster the rows of
    each chunk are cut by partition, and calls go to all nodes at once: the rows of an entity keep their order, those of
    different entities need not. Complete rows of plain values are encoded here as they are stored, and go through
    replace_rows. All other rows, and those that it leaves, go through upsert_features.

    What is stored in the end is what an upsert of all rows would leave. The counts can differ in one case: a later,
    newer row of the same entity can overtake a row that replace_rows leaves. That row then counts as skipped.

    A link that breaks raises `UnavailableError`, and so do rows that replicas do not confirm where
    FEATURESTORE_WAIT_REPLICAS asks for it (`UnconfirmedWriteError`): a WAIT for each chunk of 32,768 rows, and at the
    end of `write_table`. Rows may be written again, so the caller may start again at any row
    before the failure.

    Args:
        url: Redis's address; without one, that of the environment, else the embedded server, as for
            `FeatureStore.connect`.
        entity: Whose rows they are.
        keys: The entity's keys, in place of `entity`.
        timeout: Seconds a reply may take; a pipeline is more patient than serving.
        call: How Redis runs the scripts; without it, FEATURESTORE_CALL.
        call_us: µs of Redis's time that one call may take: as long nobody else is served.
        in_flight: Calls that may wait for their replies, on each node.
        fair: Whether to leave most of Redis's time to others while it serves some; see `pace.Pace`.
        rate: Most rows a second; no bound if None.
    """

    def __init__(  # noqa: PLR0913 - what a writer is made of
        self,
        url: str | None = None,
        *,
        entity: str = "user",
        keys: EntityKeys | None = None,
        timeout: float = 5.0,
        call: CallBy | None = None,
        call_us: float = MOST_US,
        in_flight: int = CALLS_IN_FLIGHT,
        fair: bool = True,
        rate: float | None = None,
    ) -> None:
        if rate is not None and not rate > 0:
            raise BadArgumentsError(f"rate is a number of rows a second above 0, not {rate!r}")
        settings = Settings.from_environment()
        self._transport = blocking_transport(
            url or settings.url or embedded_url(settings.data_dir),
            timeout=timeout,
            connect_timeout=timeout,
            call=call or settings.call,
            reached_at=settings.address_map or "",
            durability=Durability.by_settings(settings),
        )
        self.store = FeatureStore(self._transport, keys)
        if keys is None and entity != self.store.keys.entity:
            self.store = self.store.entity(entity)
        self._pace = Pace(self._transport if fair else None, rate, call_us=call_us, in_flight=in_flight)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def write(  # noqa: PLR0913 - what can be said of a table
        self,
        data: Any,
        *,
        id: str | None = None,  # noqa: A002 - the column of the ids
        time_column: str | None = None,
        unit: TimeUnit | None = None,
        event_time: int | str | datetime | None = None,
        rename: Mapping[str, str] | None = None,
        overwrite: bool = False,
        nulls: Nulls = "remove",
        text: bool = False,
        ignore_undeclared: bool = False,
        progress: Callable[[BulkProgress], None] | None = None,
    ) -> UpsertResult:
        """Write a table, and return what became of its rows.

        Args:
            data: What `FeatureStore.write` takes.
            id: See there, and likewise what follows.
            time_column: …
            unit: …
            event_time: …
            rename: …
            overwrite: …
            nulls: …
            text: Whether texts stand for values of any type, as those of CSV do; empty text is no value then.
            ignore_undeclared: …
            progress: Is called after each chunk of rows (at most 32,768) whose replies are there.

        Raises:
            BadArgumentsError: It is no table, or a column is missing.
        """
        reading = Reading(id, time_column, unit, rename or {}, nulls, text, ignore_undeclared)
        schema = self.store.schema()  # in a cluster it tells the keys, too
        frame = FrameWrite(self.store.keys, schema, reading, event_time, overwrite=overwrite)
        self._pace.look()
        for step in frame.steps(data, lambda: self._pace.call_us):
            self._send(step.bulk, step.parts)
            frame.add(step)
            self._pace.look()
            if progress is not None:
                done = frame.result
                progress(BulkProgress(frame.rows, done.written, done.skipped, len(done.rejected)))
        return frame.result

    def check(  # noqa: PLR0913 - what can be said of a table
        self,
        data: Any,
        *,
        id: str | None = None,  # noqa: A002 - the column of the ids
        time_column: str | None = None,
        unit: TimeUnit | None = None,
        rename: Mapping[str, str] | None = None,
        nulls: Nulls = "remove",
        text: bool = False,
        ignore_undeclared: bool = False,
    ) -> list[RejectedRow]:
        """Write nothing, and return the rows that would be rejected for their ids, times or values; see `write`."""
        reading = Reading(id, time_column, unit, rename or {}, nulls, text, ignore_undeclared)
        schema = self.store.schema()
        frame = FrameWrite(self.store.keys, schema, reading, None, overwrite=False)
        return frame.rejections(data)

    def write_table(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, event_time: int | datetime | None = None
    ) -> UpsertResult:
        """Write `rows`, each an id followed by a value for each of `columns`; see `FeatureStore.upsert_table`.

        In a cluster 32,768 rows are read before the first of them is sent.
        """
        schema = self.store.schema()
        upsert = Upsert(schema.features, columns, event_time, options=["?verdicts"])
        row_calls = row_calls_for(schema, columns, to_time(event_time))
        self._pace.look()
        in_call = rows_in_calls(columns, schema.features, self._pace.call_us)
        bulk = Bulk(upsert, row_calls, in_call)
        self._send(bulk, listed_parts(rows, in_call.replace, self.store.keys))
        return bulk.finish()

    def note_own(self, calls: int) -> None:
        """Tell of calls of scripts by `store`, beside the writer: `fair` takes them for no others' then."""
        self._pace.note_own(calls)

    def close(self) -> None:
        """Give the connections back."""
        self.store.close()

    def _send(self, bulk: Bulk, parts: Iterable[Part]) -> None:
        pace = self._pace
        calls = (call and call.encoded for call in bulk.calls(pace.parts(parts)))
        for reply in self._transport.stream(pace.calls(calls), in_flight=pace.in_flight):
            bulk.settle(reply)
