"""Maintenance in small steps beside live traffic: rebuild packed rows, drop ids without features."""

import time
from collections.abc import Iterator, Sequence

import msgspec

from featurestore.contract.costs import MEMBER_US, repack_us, rows_per_call
from featurestore.contract.resp import Word
from featurestore.contract.scripts import REPACK_ROWS, SWEEP_MEMBERS
from featurestore.keys import Keys
from featurestore.store.blocking import FeatureStore

_SCAN_COUNT = 500


class RepackProgress(msgspec.Struct, frozen=True):
    """How far a repack is.

    Attributes:
        seen: Ids looked at. An id may be seen twice if the set grows meanwhile.
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
        removed: Ids taken out of the set because they have no hash: it expired or was evicted.
    """

    seen: int
    removed: int


def repack(store: FeatureStore, *, pause: float = 0.0) -> Iterator[RepackProgress]:
    """Build the packed rows that are missing or of an older layout, and yield the progress after each step.

    Each step is one script call that takes Redis about 1 ms, so that other calls are served in between. A row that is
    written meanwhile is left as it is.

    Args:
        store: The entity's store.
        pause: Seconds to wait after each step.
    """
    total, seen, built = store.count(), 0, 0
    for keys, ids in _steps(store, pause, repack_us(store.schema().features)):
        built += store.transport.run(REPACK_ROWS, _keys_of(keys, ids), ids)
        seen += len(ids)
        yield RepackProgress(seen, built, total)


def sweep(store: FeatureStore, *, pause: float = 0.0) -> Iterator[SweepProgress]:
    """Take ids without a hash out of the set of known ids, and yield the progress after each step of up to 500 ids.

    Args:
        store: The entity's store.
        pause: Seconds to wait after each step.
    """
    seen, removed = 0, 0
    for keys, ids in _steps(store, pause, MEMBER_US):
        removed += store.transport.run(SWEEP_MEMBERS, _keys_of(keys, ids), ids)
        seen += len(ids)
        yield SweepProgress(seen, removed)


def _keys_of(keys: Keys, ids: Sequence[bytes]) -> list[Word]:
    return [keys.members, keys.schema, *map(keys.features_of_raw, ids)]


def _steps(store: FeatureStore, pause: float, id_us: float) -> Iterator[tuple[Keys, list[bytes]]]:
    """Yield all known ids, as many at a time as one call may have, and wait `pause` seconds after each step.

    With them come the keys of their partition: in a cluster one partition follows the other.
    """
    in_call = rows_per_call(id_us, _SCAN_COUNT)
    for keys in store.parts():
        cursor = b""
        while cursor != b"0":
            cursor, ids = store.transport.command(
                "SSCAN", keys.members, cursor or "0", "COUNT", _SCAN_COUNT, writes=True
            )
            for first in range(0, len(ids), in_call):
                yield keys, ids[first : first + in_call]
                time.sleep(pause)
