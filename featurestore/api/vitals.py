"""What a worker tells of itself once a second: its connections, its processor time, and a sample of what it reads.

A plain read does not carry the times of its values, and to look at each would cost more than the read. So a few of the
rows that were asked for lately are read again, with their times and statuses, beside the requests.
"""

import os
import random
from collections.abc import Sequence
from time import process_time, time

from featurestore.api.counters import Meter
from featurestore.api.processes import own_usage
from featurestore.errors import FeatureStoreError
from featurestore.store.blocking import FeatureStore
from featurestore.transport.interface import Counted

MOST_ROWS = 10
"""So many rows are read again in a second, over all entities."""

_MOST_VALUES = 2000
"""Of wide rows fewer are read again: so many values, or one row of each entity."""

_MOST_ENTITIES = 4
"""So many entities have their turn in a second, chosen at random."""

_MEASURED_EACH = 5  # beats: to list thousands of open files takes a millisecond
_S_PER_MS = 1e-3


class Vitals:
    """Tells on the board how a worker is, and takes samples.

    Args:
        meter: Where it is told.
        store: The default entity's store.
    """

    def __init__(self, meter: Meter, store: FeatureStore) -> None:
        self._meter, self._store = meter, store
        self._began, self._cpu_s, self._reconnects = time(), 0.0, 0
        self._widths: dict[str, int] = {}
        self._beats = 0
        meter.publish = self.publish

    def beat(self) -> None:
        """Do what is to be done once a second."""
        if self._beats % _MEASURED_EACH == 0:
            self._measure()
        self._beats += 1
        self.publish()
        self.sample()

    def publish(self) -> None:
        """Tell how the worker is. Redis is not asked."""
        meter = self._meter
        meter.calls.publish()
        meter.set("pid", os.getpid())
        meter.set("started_at", self._began)
        cpu_s = process_time()
        meter.add("cpu_s", cpu_s - self._cpu_s)
        self._cpu_s = cpu_s
        for entity, version in self._store.versions_seen().items():
            meter.set_version(entity, version)
        transport = self._store.transport
        if isinstance(transport, Counted):
            census = transport.census()
            for name in ("connected", "connecting", "down", "calls_in_flight"):
                meter.set(name, getattr(census, name))
            meter.add("reconnects", max(0, census.reconnects - self._reconnects))
            self._reconnects = census.reconnects

    def _measure(self) -> None:
        """Tell what the process takes of memory and files."""
        usage = own_usage()
        if usage is not None:
            for name in usage.__struct_fields__:
                self._meter.set(name, getattr(usage, name))

    def sample(self) -> None:
        """Read a few of the rows again that were read since the last time, and count what they have.

        While Redis is away, or an entity was dropped, there is no sample.
        """
        seen, self._meter.seen = self._meter.seen, {}
        chosen = random.sample(sorted(seen), min(len(seen), _MOST_ENTITIES))
        for entity in chosen:
            ids, names = seen[entity]
            most = min(MOST_ROWS // len(chosen), _MOST_VALUES // self._widths.get(entity, 1))
            try:
                self._look_at(entity, random.sample(ids, min(len(ids), max(1, most))), names)
            except FeatureStoreError:
                continue

    def _look_at(self, entity: str, ids: Sequence[str], names: Sequence[str] | None) -> None:
        selection, rows = self._store.entity(entity).fetch_fresh(ids, names)
        self._widths[entity] = max(1, len(selection.names))
        known = [row for row in rows if row is not None]
        statuses = [status for row in known for status in row.statuses]
        ages = [max(0, row.age_ms) * _S_PER_MS for row in known if row.age_ms is not None]
        self._meter.count_sample(entity, statuses, ages)
