"""Bulk writing: calls one after the other on one connection, several in flight, in order."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec

from featurestore.errors import FeatureStoreError, SchemaChangedError
from featurestore.keys import Keys
from featurestore.scripts import UPSERT_FEATURES
from featurestore.store import FeatureStore
from featurestore.text import to_time
from featurestore.transport import Reply, SyncTransport, pack_call
from featurestore.upsert import Upsert, UpsertCall, UpsertResult

from .loader import Loader, loader_for

_logger = logging.getLogger("featurestore.ingest")

ROWS_PER_CALL = 250
"""Rows in one call: at most 2 ms of Redis's time, which a reader may have to wait for."""

CALLS_IN_FLIGHT = 4
"""While Redis works on these, Python makes the next."""


class BulkWriter:
    """Writes tables of any length.

    The rows go out in order; while Redis works on some, the next are made. Complete rows of plain values go through
    load_entities, which takes those of new entities; all others, and those that it leaves, through upsert_features. A
    link that breaks raises `UnavailableError`; rows may be written again, so the caller starts again where it likes.

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
        loader = None
        if self._loads:
            loader = loader_for(keys, schema, columns, to_time(event_time), self._now)
        writing = _Writing(upsert, loader)
        for reply in self._transport.stream(writing.calls(rows), in_flight=CALLS_IN_FLIGHT):
            writing.settle(reply)
        self._loads = not writing.refused
        return upsert.finish()

    def close(self) -> None:
        """Give the connections back."""
        self.store.close()

    def _now(self) -> int:
        seconds, microseconds = self._transport.command("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000


class _Load(msgspec.Struct, frozen=True):
    """A call of load_entities under way."""

    rows: list[Sequence[Any]]
    positions: Sequence[int]


class _Writing:
    """One write under way: which calls are out, and which rows wait for theirs.

    Attributes:
        refused: Whether the server takes no dumps.
    """

    def __init__(self, upsert: Upsert, loader: Loader | None) -> None:
        self.refused = False
        self._upsert, self._loader = upsert, loader
        self._sent: deque[UpsertCall | _Load] = deque()
        self._left: list[tuple[int, Sequence[Any]]] = []  # rows that load_entities did not take, in order

    def calls(self, rows: Iterable[Sequence[Any]]) -> Iterator[bytes | None]:
        """Yield the calls for `rows`, packed; None to have all replies settled first."""
        source, start = iter(rows), 0
        while part := list(islice(source, ROWS_PER_CALL)):
            positions = range(start, start + len(part))
            start += len(part)
            packed = self._loader and self._loader.pack(part)
            if packed:
                self._sent.append(_Load(part, positions))
                yield packed
                if len(self._left) >= ROWS_PER_CALL:
                    yield from self._upsert_left()
            else:
                # An entity may be among those that are left too, and its rows have an order.
                yield from self._upsert_all_left()
                yield from self._upserted(part, positions)
        yield from self._upsert_all_left()

    def settle(self, reply: Reply | FeatureStoreError) -> None:
        """Take the reply to the oldest call that is out."""
        call = self._sent.popleft()
        if not isinstance(call, _Load):
            self._upsert.settle(call, reply)
            return
        if isinstance(reply, FeatureStoreError):
            # If it matters to these rows, upsert_features says so again.
            _logger.info("rows are not loaded as hashes, but upserted: %s", reply)
            self.refused, self._loader = not isinstance(reply, SchemaChangedError), None
            self._left += zip(call.positions, call.rows, strict=True)
            return
        taken, now, left = reply
        self._upsert.result.written += taken
        self._left += [(call.positions[row], call.rows[row]) for row in left]
        if self._loader:
            self._loader.follow(now)
            if len(left) > taken:
                self._loader = None  # these entities are known: it would be for nothing

    def _upsert_all_left(self) -> Iterator[bytes | None]:
        if any(isinstance(call, _Load) for call in self._sent):
            yield None
        yield from self._upsert_left()

    def _upsert_left(self) -> Iterator[bytes]:
        left, self._left = self._left, []
        for first in range(0, len(left), ROWS_PER_CALL):
            part = left[first : first + ROWS_PER_CALL]
            yield from self._upserted([row for _, row in part], [position for position, _ in part])

    def _upserted(self, rows: Sequence[Sequence[Any]], positions: Sequence[int]) -> Iterator[bytes]:
        call = self._upsert.call(rows, positions)
        if call.positions:
            self._sent.append(call)
            yield pack_call(UPSERT_FEATURES, call.keys, call.arguments)
