"""Bulk writing: upsert calls one after the other on one connection, several in flight, in order."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from featurestore.keys import Keys
from featurestore.scripts import UPSERT_FEATURES
from featurestore.store import FeatureStore
from featurestore.transport import SyncTransport
from featurestore.upsert import Upsert, UpsertCall, UpsertResult

ROWS_PER_CALL = 250
"""Rows in one call: about 2 ms of Redis's time, which a reader may have to wait for."""

CALLS_IN_FLIGHT = 4
"""While Redis works on these, Python makes the next."""


class BulkWriter:
    """Writes tables of any length through the upsert script.

    The rows go out in order; while Redis works on some, the next are made. A link that breaks raises
    `UnavailableError`; upserts may be repeated, so the caller starts again where it likes.

    Args:
        url: Redis's address.
        keys: The entity's keys.
        timeout: Seconds a reply may take; a pipeline is more patient than serving.
    """

    def __init__(self, url: str, *, keys: Keys | None = None, timeout: float = 5.0) -> None:
        self._transport = SyncTransport(url, timeout=timeout, connect_timeout=timeout)
        self.store = FeatureStore(self._transport, keys)

    def write(
        self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, event_time: int | datetime | None = None
    ) -> UpsertResult:
        """Write `rows`, each an id followed by a value for each of `columns`; see `FeatureStore.upsert`."""
        upsert = Upsert(self.store.keys, self.store.schema().features, columns, event_time)
        sent: list[UpsertCall] = []

        def calls() -> Iterable[tuple[Sequence[Any], Sequence[Any]]]:
            source, start = iter(rows), 0
            while part := list(islice(source, ROWS_PER_CALL)):
                call = upsert.call(part, start)
                start += len(part)
                if call.positions:
                    sent.append(call)
                    yield call.keys, call.arguments

        replies = self._transport.stream(UPSERT_FEATURES, calls(), in_flight=CALLS_IN_FLIGHT)
        for reply in replies:
            upsert.settle(sent.pop(0), reply)
        return upsert.finish()

    def close(self) -> None:
        """Give the connections back."""
        self.store.close()
