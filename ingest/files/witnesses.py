"""Ids that a load wrote: while Redis knows them, it has the rows that were written before."""

from collections.abc import Sequence
from typing import Any

from featurestore.errors import RedisError, UnavailableError
from featurestore.store.blocking import FeatureStore

_OF_A_PART = 8
_KEPT = 32
_FEW = 4
"""One in so many may be unknown: ids are deleted and expire while a load runs."""


def pick_ids(batch: Any, name: str) -> list[str]:
    """Return some ids of a batch, from its first row to its last.

    Args:
        batch: A record batch, or a list of objects.
        name: The column of the ids.
    """
    if not len(batch):
        return []
    rows = sorted({index * (len(batch) - 1) // (_OF_A_PART - 1) for index in range(_OF_A_PART)})
    if isinstance(batch, list):
        found = [batch[row].get(name) for row in rows]
    else:
        column = batch.column(name)
        found = [column[row].as_py() for row in rows]
    return [str(each) for each in found if isinstance(each, int | str) and not isinstance(each, bool)]


def look_up(store: FeatureStore, ids: Sequence[str]) -> list[bool]:
    """Return of each id whether Redis knows it; nothing if this user may not ask.

    Raises:
        UnavailableError: Redis does not answer.
    """
    if not ids:
        return []
    try:
        reply = store.transport.command("SMISMEMBER", store.keys.members, *ids)
    except UnavailableError:
        raise
    except RedisError:
        return []
    return [bool(each) for each in reply]


def keep_latest(before: Sequence[str], written: Sequence[str]) -> list[str]:
    """Return the ids to keep, those of the last few parts."""
    return list(dict.fromkeys([*before, *written]))[-_KEPT:]


def are_gone(known: Sequence[bool]) -> bool:
    """Return whether so many ids are unknown that it was not they alone that went."""
    return bool(known) and _FEW * known.count(False) > len(known)
