"""Looking after the data in small steps beside live traffic: rebuilding packed rows, and finding what is amiss."""

import time
from collections.abc import Iterator

import msgspec

from featurestore.errors import FeatureStoreError
from featurestore.plans import IDS_PER_CALL
from featurestore.scripts import REPACK_ROWS, SWEEP_MEMBERS
from featurestore.store import FeatureStore
from featurestore.transport import Word

_SCAN_COUNT = 500
_SAMPLE = 200


class RepackProgress(msgspec.Struct, frozen=True):
    """How far a repack is.

    Attributes:
        seen: Ids looked at; an id may be seen twice when the set grows meanwhile.
        built: Rows built.
        total: Ids known when it began.
    """

    seen: int
    built: int
    total: int


class SweepProgress(msgspec.Struct, frozen=True):
    """How far a sweep is.

    Attributes:
        seen: Ids looked at.
        removed: Ids taken out of the set, since their features have expired.
    """

    seen: int
    removed: int


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked.

    Attributes:
        good: Whether it is as it should be.
        text: What was found, and what to do about it.
    """

    good: bool
    text: str


def repack(store: FeatureStore, *, pause: float = 0.0) -> Iterator[RepackProgress]:
    """Build the packed rows that are missing or of an older layout, and yield the progress after each step.

    Each step is one script call over at most 100 ids, so that others are served in between; a row that is written
    meanwhile is left as it is.

    Args:
        store: The entity's store.
        pause: Seconds to wait after each step.
    """
    total, seen, built = store.count(), 0, 0
    for part in _steps(store, pause):
        keys: list[Word] = [store.keys.members, store.keys.schema, *map(store.keys.features_of_raw, part)]
        built += store.transport.run(REPACK_ROWS, keys, part)
        seen += len(part)
        yield RepackProgress(seen, built, total)


def sweep(store: FeatureStore, *, pause: float = 0.0) -> Iterator[SweepProgress]:
    """Take expired ids out of the set of known ones, and yield the progress after each step of at most 100 ids.

    Args:
        store: The entity's store.
        pause: Seconds to wait after each step.
    """
    seen, removed = 0, 0
    for part in _steps(store, pause):
        keys: list[Word] = [store.keys.members, *map(store.keys.features_of_raw, part)]
        removed += store.transport.run(SWEEP_MEMBERS, keys, part)
        seen += len(part)
        yield SweepProgress(seen, removed)


def _steps(store: FeatureStore, pause: float) -> Iterator[list[bytes]]:
    """Yield all known ids, at most 100 at a time, and wait `pause` seconds after each step."""
    cursor = b""
    while cursor != b"0":
        cursor, ids = store.transport.command("SSCAN", store.keys.members, cursor or "0", "COUNT", _SCAN_COUNT)
        for first in range(0, len(ids), IDS_PER_CALL):
            yield ids[first : first + IDS_PER_CALL]
            time.sleep(pause)


def diagnose(store: FeatureStore) -> Iterator[Finding]:
    """Check the server, the schema and a sample of the users, and yield what was found."""
    info = store.transport.command("INFO", "server").decode()
    version = next((line.partition(":")[2] for line in info.splitlines() if line.startswith("redis_version:")), "?")
    yield Finding(good=True, text=f"Redis {version} answers at {getattr(store.transport, 'address', 'its address')}")
    try:
        schema = store.schema()
    except FeatureStoreError as error:
        yield Finding(good=False, text=str(error))
        return
    yield Finding(good=True, text=f"schema version {schema.version} with {len(schema.features)} features")
    yield _listpack_finding(store)
    yield from _sample_findings(store, schema.layout.encode())


def _listpack_finding(store: FeatureStore) -> Finding:
    try:
        reply = store.transport.command("CONFIG", "GET", "hash-max-*-value")
    except FeatureStoreError as error:
        return Finding(good=False, text=f"cannot read hash-max-listpack-value ({error}); it should be 1024")
    limit = max((int(value) for value in reply[1::2]), default=0)
    if limit < 256:  # noqa: PLR2004 - a packed row of a score of features
        text = f"hash-max-listpack-value is {limit}: packed rows are longer and make users fat; set 1024"
        return Finding(good=False, text=text)
    return Finding(good=True, text=f"hash-max-listpack-value is {limit}")


def _sample_findings(store: FeatureStore, layout: bytes) -> Iterator[Finding]:
    ids = store.transport.command("SRANDMEMBER", store.keys.members, _SAMPLE)
    if not ids:
        yield Finding(good=True, text="no users yet")
        return
    keys = [store.keys.features_of_raw(raw_id) for raw_id in ids]
    types = [store.transport.command("TYPE", key) for key in keys]
    hashes = [key for key, kind in zip(keys, types, strict=True) if kind == b"hash"]
    if len(hashes) < len(keys):
        text = (
            f"{len(keys) - len(hashes)} of {len(keys)} sampled users have no hash: deleted or written around the upsert"
        )
        yield Finding(good=False, text=text)
    if not hashes:
        return
    rows = [store.transport.command("HGET", key, "@row") or b"" for key in hashes]
    packed = sum(row.startswith(layout) for row in rows)
    size = sum(store.transport.command("MEMORY", "USAGE", key) for key in hashes) / len(hashes)
    spread = sum(store.transport.command("OBJECT", "ENCODING", key) == b"hashtable" for key in hashes)
    hint = "" if packed == len(hashes) else ": run featurestore repack"
    yield Finding(packed == len(hashes), f"{packed} of {len(hashes)} sampled users have a row of this layout{hint}")
    hint = "" if not spread else f"; {spread} of {len(hashes)} in the large encoding, see hash-max-listpack-value"
    yield Finding(not spread, f"{size:.0f} bytes a user on average{hint}")
