"""Rows of a write by the partitions that their entities are in: a call has keys of one partition only."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from featurestore.contract.words import encode_id
from featurestore.errors import BadIdError
from featurestore.keys import EntityKeys, Keys, PartitionedKeys, partition_of


class Cut(NamedTuple):
    """Rows of one call.

    Attributes:
        keys: The keys of their partition.
        rows: The rows, in the caller's order.
        positions: Their positions among all rows.
    """

    keys: Keys
    rows: Sequence[Any]
    positions: Sequence[int]


def cuts(keys: EntityKeys, rows: Sequence[Any], positions: Sequence[int], size: int) -> Iterator[Cut]:
    """Yield rows in calls of at most `size`; those of an entity keep their order.

    Args:
        keys: The entity's keys.
        rows: Rows that begin with their ids.
        positions: Their positions among all rows.
        size: Most rows in one call.

    Raises:
        NoSchemaError: How many partitions there are is not known; see `PartitionedKeys.parts`.
    """
    if not isinstance(keys, PartitionedKeys):
        for start in range(0, len(rows), size):
            yield Cut(keys, rows[start : start + size], positions[start : start + size])
        return
    parts = keys.parts
    groups = places_by_partition(map(id_of_row, rows), keys.count)
    for number, start, stop in in_turns([len(group) for group in groups], size):
        places = groups[number][start:stop]
        yield Cut(parts[number], [rows[place] for place in places], [positions[place] for place in places])


def places_by_partition(ids: Iterable[Any], count: int) -> list[list[int]]:
    """Return for each of `count` partitions the places of its ids, in order. What is no id counts to the first."""
    groups: list[list[int]] = [[] for _ in range(count)]
    for place, entity_id in enumerate(ids):
        try:
            number = partition_of(encode_id(entity_id), count)
        except BadIdError:  # the row is rejected when its call is made, whichever that is
            number = 0
        groups[number].append(place)
    return groups


def id_of_row(row: Any) -> Any:
    """Return the id of a row, as the caller gives it; None where the row has not even the form of one."""
    return row[0] if isinstance(row, tuple | list) and row else None


def in_turns(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int, int]]:
    """Yield a partition with the start and the stop of at most so many of its rows, until all had their turns.

    Args:
        sizes: How many rows each partition has.
        most: Most rows of one turn.
    """
    started = 0
    left = [number for number in spread(len(sizes)) if sizes[number]]
    while left:
        for number in left:
            yield number, started, min(started + most, sizes[number])
        started += most
        left = [number for number in left if sizes[number] > started]


@functools.cache
def spread(count: int) -> tuple[int, ...]:
    """Return the partitions in an order in which neighbours are far apart: they are on different nodes.

    Nodes have runs of partitions. With the bits of each number in reverse, the first half is spread over all nodes, and
    so is the first quarter, and so on. `count` is a power of 2.
    """
    digits = count.bit_length() - 1
    return tuple(int(f"{number:0{digits}b}"[::-1], 2) if digits else 0 for number in range(count))
