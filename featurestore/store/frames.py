"""Tables of whatever library to bulk writes: chunk by chunk, added up in one result."""

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import Any

from featurestore.contract.bulk_calls import Bulk, Part, rows_in_calls
from featurestore.contract.frame_rows import Batch, Reading, batches
from featurestore.contract.frames import chunks_of
from featurestore.contract.row_calls import RowCalls, row_calls_for
from featurestore.contract.upsert_calls import RejectedRow, Upsert, UpsertResult
from featurestore.contract.words import EVENT_TIME, to_time
from featurestore.keys import Keys
from featurestore.schema.stored import Schema


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
        keys: Keys,
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

    def bulks(self, data: Any, call_us: float) -> Iterator[tuple[Bulk, Iterator[Part]]]:
        """Yield for each chunk of a table what makes its calls, and its parts. Its replies are to be settled then.

        Raises:
            BadArgumentsError: It is no table, or a column is missing.
        """
        schema = self._schema
        for columns, group in groupby(self._batches(data), key=lambda batch: batch.roles.columns):
            row_calls = self._row_calls(columns)
            size = rows_in_calls([name for name in columns if name != EVENT_TIME], schema.features, call_us)
            for batch in group:
                upsert = self._upsert(columns)
                yield Bulk(upsert, row_calls, size.upsert), batch.parts(size.replace if row_calls else size.upsert)
                self.rows += batch.rows
                self._add(upsert.finish())

    def rejections(self, data: Any) -> list[RejectedRow]:
        """Return the rows of a table that cannot be sent, without sending any.

        Raises:
            BadArgumentsError: It is no table, or a column is missing.
        """
        found: dict[int, RejectedRow] = {}
        for batch in self._batches(data):
            columns = batch.roles.columns
            upsert, row_calls = self._upsert(columns), self._row_calls(columns)
            for part in batch.parts(1000):
                rows = part.rows(part.encode(row_calls).left if row_calls else None)
                upsert.call([row for _, row in rows], [position for position, _ in rows])
            found |= {rejected.row: rejected for rejected in upsert.finish().rejected}
        return [found[row] for row in sorted(found)]

    def finish(self) -> UpsertResult:
        """Return the result, once all calls are settled."""
        return self.result

    def _batches(self, data: Any) -> Iterator[Batch]:
        id_names = tuple(dict.fromkeys((self._schema.id_name(self._keys.entity), f"{self._keys.entity}_id", "id")))
        return batches(chunks_of(data), self._reading, self._schema.features, id_names)

    def _row_calls(self, columns: tuple[str, ...]) -> RowCalls | None:
        if self._overwrite:
            return None
        removes = self._reading.nulls == "remove"
        return row_calls_for(self._keys, self._schema, columns, to_time(self._event_time), removes=removes)

    def _upsert(self, columns: tuple[str, ...]) -> Upsert:
        options = ("?verdicts", "?overwrite") if self._overwrite else ("?verdicts",)
        return Upsert(self._keys, self._schema.features, columns, self._event_time, options=options)

    def _add(self, found: UpsertResult) -> None:
        result = self.result
        result.written += found.written
        result.skipped += found.skipped
        result.rejected += found.rejected
        for letter, count in found.tally.items():
            result.tally[letter] = result.tally.get(letter, 0) + count
