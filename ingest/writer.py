"""Bulk writing: calls in order on one connection, several in flight."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from featurestore.contract.costs import replace_us, rows_per_call, upsert_us
from featurestore.contract.resp import Reply, encode_call
from featurestore.contract.row_calls import RowCalls, row_calls_for
from featurestore.contract.scripts import UPSERT_FEATURES
from featurestore.contract.upsert_calls import Upsert, UpsertCall, UpsertResult
from featurestore.contract.words import to_time
from featurestore.errors import FeatureStoreError
from featurestore.keys import Keys
from featurestore.settings import CallBy
from featurestore.store.blocking import FeatureStore
from featurestore.transport.blocking import SyncTransport

_logger = logging.getLogger("featurestore.ingest")

MOST_ROWS = 400
"""Most rows in one call, however little they take of Redis's time."""

CALLS_IN_FLIGHT = 4
"""While Redis works on these, Python makes the next."""


class BulkWriter:
    """Writes tables of any length.

    Calls go out in order, several at a time: while Redis works on some, the next are made. Complete rows of plain
    values are encoded here as they are stored, and go through replace_rows. All other rows, and those that it leaves,
    go through upsert_features.

    What is stored in the end is what an upsert of all rows would leave. The counts can differ in one case: a later,
    newer row of the same entity can overtake a row that replace_rows leaves. That row then counts as skipped.

    A link that breaks raises `UnavailableError`. Rows may be written again, so the caller may start again at any row
    before the failure.

    Args:
        url: Redis's address.
        keys: The entity's keys.
        timeout: Seconds a reply may take; a pipeline is more patient than serving.
        call: How Redis runs the scripts, see FEATURESTORE_CALL.
    """

    def __init__(self, url: str, *, keys: Keys | None = None, timeout: float = 5.0, call: CallBy = "scripts") -> None:
        self._transport = SyncTransport(url, timeout=timeout, connect_timeout=timeout, call=call)
        self.store = FeatureStore(self._transport, keys)

    def write(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, event_time: int | datetime | None = None
    ) -> UpsertResult:
        """Write `rows`, each an id followed by a value for each of `columns`; see `FeatureStore.upsert_table`."""
        keys, schema = self.store.keys, self.store.schema()
        upsert = Upsert(keys, schema.features, columns, event_time)
        row_calls = row_calls_for(keys, schema, columns, to_time(event_time))
        writing = _Writing(upsert, row_calls, *rows_in_calls(columns, schema.features))
        for reply in self._transport.stream(writing.calls(rows), in_flight=CALLS_IN_FLIGHT):
            writing.settle(reply)
        return upsert.finish()

    def close(self) -> None:
        """Give the connections back."""
        self.store.close()


def rows_in_calls(columns: Sequence[str], features: Mapping[str, str]) -> tuple[int, int]:
    """Return how many rows are in a call of replace_rows, and how many in one of upsert_features.

    Args:
        columns: What the rows give.
        features: The features of the entity, with their types.
    """
    return (
        rows_per_call(replace_us(features), MOST_ROWS),
        rows_per_call(upsert_us(columns, features), MOST_ROWS),
    )


_Row = tuple[int, Sequence[Any]]
"""A row and its position among all."""


class _Writing:
    """One write under way: the calls that wait for their replies, and the rows that replace_rows has left.

    Rows that are left wait for a call of upsert_features. A part of the table that is not for replace_rows is sent when
    no row waits any more, so that an entity's rows keep their order.

    Args:
        upsert: Makes the calls of upsert_features.
        row_calls: Makes those of replace_rows, where there are any.
        in_replace: How many rows are in a call of replace_rows.
        in_upsert: How many are in one of upsert_features.
    """

    def __init__(self, upsert: Upsert, row_calls: RowCalls | None, in_replace: int, in_upsert: int) -> None:
        self._upsert, self._row_calls = upsert, row_calls
        self._in_replace, self._in_upsert = in_replace, in_upsert
        self._sent: deque[UpsertCall | list[_Row]] = deque()
        self._left: list[_Row] = []

    def calls(self, rows: Iterable[Sequence[Any]]) -> Iterator[bytes | None]:
        """Yield the calls for `rows`, encoded; None to have all replies settled first."""
        source = enumerate(rows)
        while part := list(islice(source, self._in_replace)):
            encoded = self._row_calls and self._row_calls.encode([row for _, row in part])
            if encoded:
                self._sent.append(part)
                yield encoded
                yield from self._upserted(self._left, self._in_upsert)
            else:
                yield from self._rest()
                yield from self._upserted(part, 1)
        yield from self._rest()

    def settle(self, reply: Reply) -> None:
        """Take the reply to the oldest call that is out; an error reply comes as an exception."""
        call = self._sent.popleft()
        if isinstance(call, UpsertCall):
            self._upsert.settle(call, reply)
            return
        if isinstance(reply, FeatureStoreError):
            # An error that holds for these rows in upsert_features too is raised then.
            _logger.info("replace_rows takes no rows, which go through upsert_features: %s", reply)
            self._row_calls = None
        if self._row_calls is None:
            # Calls behind an error may have been written already. Their rows follow once more, behind the older ones.
            self._left += call
        else:
            written, left = reply
            self._upsert.result.written += written
            self._left += [call[position] for position in left]

    def _rest(self) -> Iterator[bytes | None]:
        """Yield the calls for all rows that are left, now or by what is out."""
        if not all(isinstance(call, UpsertCall) for call in self._sent):
            yield None
        yield from self._upserted(self._left, 1)

    def _upserted(self, rows: list[_Row], least: int) -> Iterator[bytes]:
        """Take calls of upsert_features off `rows` and yield them, as long as there are so many rows."""
        while len(rows) >= least:
            part = rows[: self._in_upsert]
            del rows[: self._in_upsert]
            call = self._upsert.call([row for _, row in part], [position for position, _ in part])
            if call.positions:
                self._sent.append(call)
                yield encode_call(UPSERT_FEATURES, call.keys, call.arguments)
