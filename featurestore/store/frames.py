"""Tables of whatever library to bulk writes: chunk by chunk, added up in one result."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from featurestore.contract.bulk_calls import Bulk, Part, rows_in_calls
from featurestore.contract.frame_rows import Batch, Reading, batches
from featurestore.contract.frames import chunks_of
from featurestore.contract.row_calls import RowCalls, row_calls_for
from featurestore.contract.upsert_calls import RejectedRow, Upsert, UpsertResult
from featurestore.contract.words import EVENT_TIME, to_time
from featurestore.keys import EntityKeys
from featurestore.schema.stored import Schema

_CHECKED_TOGETHER = 1000
"""Rows of which calls are made that nobody sends."""


class Step(NamedTuple):
    """The write of a chunk.

    Attributes:
        bulk: Makes its calls, and takes their replies.
        parts: Its rows, for `bulk`.
        rows: How many they are.
    """

    bulk: Bulk
    parts: Iterator[Part]
    rows: int


class FrameWrite:
    """One write of a table under way.

    Args:
        keys: The entity's keys.
        schema: Its schema.
        reading: How the columns are read.
        event_time: The event time of rows that have none of their own.
        overwrite: Whether values are written that are older than the stored ones.

    Attributes:
        result: What became of the rows so far.
        rows: How many rows were taken so far.
    """

    def __init__(
        self,
        keys: EntityKeys,
        schema: Schema,
        reading: Reading,
        event_time: int | str | datetime | None,
        *,
        overwrite: bool,
    ) -> None:
        self.result, self.rows = UpsertResult(), 0
        self._keys, self._schema, self._reading = keys, schema, reading
        self._event_time, self._overwrite = event_time, overwrite
        to_time(event_time)

    def steps(self, data: Any, call_us: Callable[[], float]) -> Iterator[Step]:
        """Yield a step for each chunk of a table; `add` takes it when its calls are settled.

        Args:
            data: The table.
            call_us: Tells for each chunk what a call may take of Redis's time, in µs.

        Raises:
            BadArgumentsError: It is no table, or a column is missing.
        """
        features = self._schema.features
        for columns, group in groupby(self._batches(data), key=lambda batch: batch.roles.columns):
            row_calls, names = self._row_calls(columns), [name for name in columns if name != EVENT_TIME]
            for batch in group:
                size = rows_in_calls(names, features, call_us())
                bulk = Bulk(self._upsert(columns), row_calls, size)
                parts = batch.parts(size.replace if row_calls else size.upsert, self._keys)
                yield Step(bulk, parts, batch.rows)

    def add(self, step: Step) -> None:
        """Add what became of a step's rows to the result."""
        self.rows += step.rows
        found, result = step.bulk.finish(), self.result
        result.written += found.written
        result.skipped += found.skipped
        result.note_unconfirmed(found.unconfirmed, found.doubt)
        first = {rejected.row: rejected for rejected in reversed(found.rejected)}
        result.rejected += [first[row] for row in sorted(first)]
        for letter, count in found.tally.items():
            result.tally[letter] = result.tally.get(letter, 0) + count

    def rejections(self, data: Any) -> list[RejectedRow]:
        """Return the rows of a table that cannot be sent, without sending any.

        Raises:
            BadArgumentsError: It is no table, or a column is missing.
        """
        found: dict[int, RejectedRow] = {}
        latest = int(time.time() * 1000) + self._schema.max_ahead_ms
        for batch in self._batches(data):
            columns = batch.roles.columns
            upsert, row_calls = self._upsert(columns), self._row_calls(columns)
            for part in batch.parts(_CHECKED_TOGETHER, self._keys):
                rows = part.rows(part.encode(row_calls).left if row_calls else None)
                upsert.call(part.keys, [row for _, row in rows], [position for position, _ in rows])
            found |= {row: RejectedRow(row, "BADTIME", reason) for row, reason in batch.refused_times(latest)}
            found |= {rejected.row: rejected for rejected in upsert.finish().rejected}
        return [found[row] for row in sorted(found)]

    def _batches(self, data: Any) -> Iterator[Batch]:
        id_names = tuple(dict.fromkeys((self._schema.id_name(self._keys.entity), f"{self._keys.entity}_id", "id")))
        return batches(chunks_of(data), self._reading, self._schema.features, id_names)

    def _row_calls(self, columns: tuple[str, ...]) -> RowCalls | None:
        if self._overwrite:
            return None
        removes = self._reading.nulls == "remove"
        return row_calls_for(self._schema, columns, to_time(self._event_time), removes=removes)

    def _upsert(self, columns: tuple[str, ...]) -> Upsert:
        options = ("?verdicts", "?overwrite") if self._overwrite else ("?verdicts",)
        return Upsert(self._schema.features, columns, self._event_time, options=options)
