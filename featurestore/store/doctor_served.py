"""What `featurestore doctor` finds of services of which is kept what they are served."""

from collections.abc import Iterator
from datetime import UTC, datetime

from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.schema.stored import Schema
from featurestore.store.blocking import FeatureStore
from featurestore.store.doctor_server import Finding

_MIB = 1 << 20


def served_findings(store: FeatureStore, schema: Schema, service: str) -> Iterator[Finding]:
    """Tell how much is kept, what that takes of memory, and how far back it goes."""
    command, entity = store.transport.command, store.keys.entity
    rows = size = 0
    oldest: int | None = None
    for part in store.parts():
        key = part.served(service)
        count = command("XLEN", key, writes=True)
        if not count:
            continue
        rows, size = rows + count, size + _size(store, key)
        ((first, _),) = command("XRANGE", key, "-", "+", "COUNT", "1", writes=True) or [(b"0-0", [])]
        ms = int(first.partition(b"-")[0])
        oldest = ms if oldest is None else min(oldest, ms)
    since = ""
    if oldest is not None:
        since = f" since {datetime.fromtimestamp(oldest // 1000, UTC):%Y-%m-%d %H:%M} UTC"
    text = f"{entity}: {rows:,} rows that {service} was served are kept{since}"
    text += f", in {size / _MIB:.1f} MiB" if size else ""
    yield Finding(good=True, text=f"{text} ({schema.logs[service]})")


def _size(store: FeatureStore, key: str) -> int:
    """Return the bytes of memory that a stream takes; 0 where the server does not tell."""
    try:
        return store.transport.command("MEMORY", "USAGE", key, writes=True) or 0
    except UnavailableError:
        raise
    except FeatureStoreError:
        return 0
