"""What calls of the scripts take of Redis's one thread, and how many rows a call has so that none takes more than 1 ms.

`perf/call_costs.py` measures the constants. They are for sizing, so they lie on the dear side of what it shows.
"""

from collections.abc import Iterable, Mapping

from featurestore.schema.types import vector_length

MOST_ROWS = 100
"""Most ids or rows in one call, however little they take."""

MOST_US = 1000.0
"""µs of Redis's time that one call may take: as long nobody else is served."""

STORED_ROW_US = 0.7
"""To read an entity's packed row."""

STORED_VALUE_US = 0.012
"""For each value in a packed row: its bytes are copied."""

CAST_VALUE_US = 0.8
"""To fetch the field of one value and to cast its text, where the packed row does not serve."""

WRITTEN_ROW_US, WRITTEN_VALUE_US = 4.0, 1.1
"""To write a whole row by an upsert: once, and for each value."""

MERGED_ROW_US, MERGED_VALUE_US = 10.0, 0.7
"""To write a row that lacks features beside what is stored: once, and for each feature of the entity."""

REPLACED_ROW_US, REPLACED_VALUE_US = 1.5, 0.4
"""To write a row that the caller has made: once, and for each value."""

EVENT_US, WINDOW_US = 8.0, 6.0
"""To count an event: once, and for each window of the schema, beside what a merge takes for each feature."""

REPACKED_ROW_US, REPACKED_VALUE_US = 8.0, 1.4
"""To build a packed row: once, and for each feature."""

INCREMENTED_US, INCREMENTED_VALUE_US = 26.0, 0.9
"""To add to numbers of an entity: once, and for each feature of the entity."""

DELETED_US = 20.0
"""To delete an entity."""

CLEARED_ROW_US, CLEARED_NAME_US = 10.0, 0.3
"""To take retired features out of a hash, beside what its packed row takes to build: once, and for each name."""

MEMBER_US = 0.8
"""To look whether a known id has a hash."""

HASH_US, FIELD_US = 3.0, 0.6
"""To read the fields of a hash by HMGET: once, and for each of them.

`INFO commandstats` shows less, and not in a straight line, since a listpack is searched from its start: 1 us for 10
fields, 11 us for 50, 13 us for 200. To read the commands and to write the replies comes on top.
"""


_NUMBERS_PER_VALUE = 32
"""So many numbers of a vector take as long as one other value."""


def weight(kinds: Iterable[str]) -> float:
    """Return how many scalar values take as long as values of these types."""
    return sum(1 + (vector_length(kind) or 0) / _NUMBERS_PER_VALUE for kind in kinds)


def upsert_us(columns: Iterable[str], features: Mapping[str, str]) -> float:
    """Return how long an upsert takes for a row.

    Args:
        columns: The features that it gives; others are ignored.
        features: All features of the entity, with their types.
    """
    given = weight(features[name] for name in columns if name in features)
    all_of_it = weight(features.values())
    if given < all_of_it:
        return MERGED_ROW_US + MERGED_VALUE_US * (all_of_it + given)
    return WRITTEN_ROW_US + WRITTEN_VALUE_US * all_of_it


def replace_us(features: Mapping[str, str]) -> float:
    """Return how long replace_rows takes for a row of these features."""
    return REPLACED_ROW_US + REPLACED_VALUE_US * weight(features.values())


def event_us(features: Mapping[str, str]) -> float:
    """Return how long an event takes that is counted in all windows among these features."""
    windows = sum(kind.startswith(("count(", "sum(")) for kind in features.values())
    return EVENT_US + WINDOW_US * windows + MERGED_VALUE_US * weight(features.values())


def increment_us(features: Mapping[str, str]) -> float:
    """Return how long it takes to add to numbers of an entity that has these features."""
    return INCREMENTED_US + INCREMENTED_VALUE_US * weight(features.values())


def repack_us(features: Mapping[str, str]) -> float:
    """Return how long the packed row of an entity takes to build."""
    return REPACKED_ROW_US + REPACKED_VALUE_US * weight(features.values())


def hash_us(features: Mapping[str, str]) -> float:
    """Return how long it takes to read these features, and their times, as an entity's hash holds them."""
    return HASH_US + FIELD_US * (3 + weight(features.values()))


def clear_us(features: Mapping[str, str], names: int) -> float:
    """Return how long it takes to take so many names out of a hash and to build its packed row, or to remove it."""
    return repack_us(features) + CLEARED_ROW_US + CLEARED_NAME_US * names


def rows_per_call(row_us: float, most: int = MOST_ROWS, call_us: float = MOST_US) -> int:
    """Return how many rows that take `row_us` each may be in one call: at least one, and `most` at most."""
    return max(1, min(most, int(call_us / row_us)))
