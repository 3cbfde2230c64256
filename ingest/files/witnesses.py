"""Ids that a load wrote: while Redis knows them, it has the rows that were written before."""

from collections.abc import Sequence
from typing import Any

from featurestore.contract.partitions import cuts
from featurestore.errors import RedisError, UnavailableError
from featurestore.keys import slot_of
from featurestore.store.blocking import FeatureStore

_OF_A_PART = 8
_KEPT = 32
_FEW = 4
"""One in so many may be unknown: ids are deleted and expire while a load runs."""

_MOST_NODES = 16
"""For so many primaries at most there are as many ids as for one Redis, so that each is looked at."""


def witnessed_nodes(store: FeatureStore) -> int:
    """Return for how many servers ids are to be picked: each primary of a cluster may lose rows alone."""
    if not store.transport.clustered:
        return 1
    return max(1, min(_MOST_NODES, sum(node.role == "primary" for node in store.transport.nodes())))


def pick_ids(batch: Any, name: str, nodes: int = 1) -> list[str]:
    """Return some ids of a batch, from its first row to its last.

    Args:
        batch: A record batch, or a list of objects.
        name: The column of the ids.
        nodes: For how many servers.
    """
    if not len(batch):
        return []
    wanted = _OF_A_PART * nodes
    rows = sorted({index * (len(batch) - 1) // (wanted - 1) for index in range(wanted)})
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
    known: list[bool] = [False] * len(ids)
    rows = [(each,) for each in ids]
    try:
        for cut in cuts(store.keys, rows, range(len(ids)), max(1, len(ids))):
            reply = store.transport.command("SMISMEMBER", cut.keys.members, *(each for (each,) in cut.rows))
            for place, there in zip(cut.positions, reply, strict=True):
                known[place] = bool(there)
    except UnavailableError:
        raise
    except RedisError:
        return []
    return known


def keep_latest(before: Sequence[str], written: Sequence[str], nodes: int = 1) -> list[str]:
    """Return the ids to keep, those of the last few parts."""
    return list(dict.fromkeys([*before, *written]))[-_KEPT * nodes :]


def are_gone(store: FeatureStore, ids: Sequence[str], known: Sequence[bool]) -> bool:
    """Return whether so many ids of a server are unknown that it was not they alone that went.

    Args:
        store: The store.
        ids: The ids.
        known: Of each whether Redis knows it; nothing if it may not be asked.
    """
    if _are_too_few(known):
        return True
    groups: dict[str, list[bool]] = {}
    for node, there in zip(_nodes_of(store, ids[: len(known)]), known, strict=True):
        groups.setdefault(node, []).append(there)
    return any(len(group) >= _OF_A_PART and _are_too_few(group) for group in groups.values())


def _are_too_few(known: Sequence[bool]) -> bool:
    return bool(known) and _FEW * known.count(False) > len(known)


def _nodes_of(store: FeatureStore, ids: Sequence[str]) -> list[str]:
    """Return the address of the primary that has each id; on a single Redis there is one, without an address."""
    if not store.transport.clustered:
        return [""] * len(ids)
    runs = [(*run, node.address) for node in store.transport.nodes() if node.role == "primary" for run in node.ranges]
    slots = [slot_of(store.keys.holding(each.encode()).schema.encode()) for each in ids]
    return [next((node for first, last, node in runs if first <= slot <= last), "") for slot in slots]
