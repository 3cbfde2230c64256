"""Bulk writing: calls one after the other on one connection, several in flight, in order."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec

from featurestore.contract.resp import Reply, encode_call
from featurestore.contract.row_calls import RowCalls, row_calls_for
from featurestore.contract.scripts import LOAD_ENTITIES, REPLACE_ROWS, UPSERT_FEATURES, Script
from featurestore.contract.upsert_calls import Upsert, UpsertCall, UpsertResult
from featurestore.contract.words import to_time
from featurestore.errors import FeatureStoreError, SchemaChangedError
from featurestore.keys import Keys
from featurestore.store.blocking import FeatureStore
from featurestore.transport.blocking import SyncTransport

_logger = logging.getLogger("featurestore.ingest")

ROWS_PER_CALL = 250
"""Rows in one call: at most 2 ms of Redis's time, which a reader may have to wait for."""

CALLS_IN_FLIGHT = 4
"""While Redis works on these, Python makes the next."""


class BulkWriter:
    """Writes tables of any length.

    The rows go out in order; while Redis works on some, the next are made. Complete rows of plain values are made into
    what is stored here: those of new entities go through load_entities, of known ones through replace_rows. All others,
    and what these two leave, go through upsert_features; the result is the same. A link that breaks raises
    `UnavailableError`; rows may be written again, so the caller starts again where it likes.

    Args:
        url: Redis's address.
        keys: The entity's keys.
        timeout: Seconds a reply may take; a pipeline is more patient than serving.
    """

    def __init__(self, url: str, *, keys: Keys | None = None, timeout: float = 5.0) -> None:
        self._transport = SyncTransport(url, timeout=timeout, connect_timeout=timeout)
        self._loads = True
        self.store = FeatureStore(self._transport, keys)

    def write(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, event_time: int | datetime | None = None
    ) -> UpsertResult:
        """Write `rows`, each an id followed by a value for each of `columns`; see `FeatureStore.upsert_table`."""
        keys, schema = self.store.keys, self.store.schema()
        upsert = Upsert(keys, schema.features, columns, event_time)
        row_calls = row_calls_for(keys, schema, columns, to_time(event_time), self._now)
        writing = _Writing(upsert, row_calls, loads=self._loads)
        for reply in self._transport.stream(writing.calls(rows), in_flight=CALLS_IN_FLIGHT):
            writing.settle(reply)
        self._loads &= not writing.refused
        return upsert.finish()

    def close(self) -> None:
        """Give the connections back."""
        self.store.close()

    def _now(self) -> int:
        seconds, microseconds = self._transport.command("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000


_Row = tuple[int, Sequence[Any]]
"""A row and its position among all."""


class _Quick(msgspec.Struct, frozen=True):
    """A call of load_entities or replace_rows under way."""

    script: Script
    rows: list[_Row]


class _Writing:
    """One write under way: which calls are out, and which rows wait for theirs.

    What one script leaves waits in a queue for the next script, and so do all later rows of the same entity, so that
    an entity's rows keep their order. Rows that do not begin with the first script wait until the queues are empty.

    Attributes:
        refused: Whether the server takes no dumps.
    """

    def __init__(self, upsert: Upsert, row_calls: RowCalls | None, *, loads: bool) -> None:
        self.refused = False
        self._upsert, self._row_calls, self._loads = upsert, row_calls, loads
        self._sent: deque[UpsertCall | _Quick] = deque()
        self._known: list[_Row] = []  # for replace_rows
        self._odd: list[_Row] = []  # for upsert_features

    def calls(self, rows: Iterable[Sequence[Any]]) -> Iterator[bytes | None]:
        """Yield the calls for `rows`, encoded; None to have all replies settled first."""
        source = enumerate(rows)
        while part := list(islice(source, ROWS_PER_CALL)):
            script = LOAD_ENTITIES if self._loads else REPLACE_ROWS
            encoded = self._encoded(script, part)
            if encoded is None or (script is REPLACE_ROWS and (self._known or self._is_out(LOAD_ENTITIES))):
                yield from self._rest()
            if encoded is None:
                yield from self._upserted(part)
            else:
                self._sent.append(_Quick(script, part))
                yield encoded
            yield from self._replaced(ROWS_PER_CALL)
            yield from self._odd_upserted(ROWS_PER_CALL)
        yield from self._rest()

    def settle(self, reply: Reply | FeatureStoreError) -> None:
        """Take the reply to the oldest call that is out."""
        call = self._sent.popleft()
        if isinstance(call, UpsertCall):
            self._upsert.settle(call, reply)
            return
        loading = call.script is LOAD_ENTITIES
        queue = self._known if loading else self._odd
        if isinstance(reply, FeatureStoreError):
            # If it matters to these rows, upsert_features says so again.
            _logger.info("%s takes no rows, which go another way: %s", call.script.name, reply)
            self._loads = False
            self.refused |= loading and not isinstance(reply, SchemaChangedError)
            if not loading:
                self._row_calls = None
            queue += call.rows
            return
        written, left = reply[0], reply[-1]
        self._upsert.result.written += written
        queue += [call.rows[position] for position in left]
        if loading and self._row_calls:
            self._row_calls.follow(reply[1])
            self._loads &= len(left) <= written  # else these entities are known: it would be for nothing

    def _encoded(self, script: Script, part: list[_Row]) -> bytes | None:
        """Return the call of `script` for these rows; None where they are not for it."""
        if self._row_calls is None:
            return None
        rows = [row for _, row in part]
        return self._row_calls.load(rows) if script is LOAD_ENTITIES else self._row_calls.replace(rows)

    def _is_out(self, *scripts: Script) -> bool:
        return any(isinstance(call, _Quick) and call.script in scripts for call in self._sent)

    def _rest(self) -> Iterator[bytes | None]:
        """Yield the calls for all rows that wait, now or after what is out."""
        if self._is_out(LOAD_ENTITIES, REPLACE_ROWS):
            yield None
        yield from self._replaced(1)
        if self._is_out(REPLACE_ROWS):
            yield None
        yield from self._odd_upserted(1)

    def _replaced(self, least: int) -> Iterator[bytes]:
        """Yield calls of replace_rows as long as so many rows wait for one."""
        while len(self._known) >= least:
            part, self._known = self._known[:ROWS_PER_CALL], self._known[ROWS_PER_CALL:]
            encoded = self._encoded(REPLACE_ROWS, part)
            if encoded is None:
                self._odd += part
            else:
                self._sent.append(_Quick(REPLACE_ROWS, part))
                yield encoded

    def _odd_upserted(self, least: int) -> Iterator[bytes]:
        """Yield calls of upsert_features as long as so many rows wait for one."""
        while len(self._odd) >= least:
            part, self._odd = self._odd[:ROWS_PER_CALL], self._odd[ROWS_PER_CALL:]
            yield from self._upserted(part)

    def _upserted(self, part: list[_Row]) -> Iterator[bytes]:
        call = self._upsert.call([row for _, row in part], [position for position, _ in part])
        if call.positions:
            self._sent.append(call)
            yield encode_call(UPSERT_FEATURES, call.keys, call.arguments)
