"""What calls of the scripts take of Redis's one thread, and how many rows a call has so that none takes more than 1 ms.

`perf/call_costs.py` and `perf/named.py` measure the constants. They are for sizing and for choosing between two ways of
asking, so they lie on the dear side of what is shown there.
"""

from collections.abc import Collection, Iterable

from featurestore.schema.types import vector_length

MOST_ROWS = 100
"""Most ids or rows in one call, however little they take."""

MOST_US = 1000.0
"""µs of Redis's time that one call may take: as long nobody else is served."""

STORED_ROW_US = 0.7
"""To read an entity's packed row."""

STORED_VALUE_US = 0.012
"""For each value in a packed row: its bytes are copied."""

VECTOR_BYTE_US = 0.001
"""For each byte of a vector, in a packed row or beside it."""

CAST_VALUE_US = 0.8
"""To fetch the field of one value and to cast its text, where the packed row does not serve."""

AGED_VALUE_US = 0.3
"""For each value that comes with its status and its event time, more than without."""

WINDOW_US = 5.0
"""To add up a sliding window."""

WRITTEN_ROW_US = 4.0
"""To write an entity."""

WRITTEN_VALUE_US = 0.8
"""For each value written."""

MOST_MADE = 1000
"""Most values that one call may make, where packed rows do not serve: they take up to MOST_US."""

MADE_AT_ONCE = 12
"""Up to so many values a row, a call of MOST_ROWS may make them all."""


def rows_per_call(row_us: float) -> int:
    """Return how many rows that take `row_us` each may be in one call, at least one."""
    return max(1, min(MOST_ROWS, int(MOST_US / row_us)))


def stored_row_us(types: Iterable[str]) -> float:
    """Return what it takes to read a packed row of values of these types."""
    return STORED_ROW_US + sum(map(_stored_value_us, types))


def cast_row_us(types: Iterable[str]) -> float:
    """Return what it takes to fetch the fields of values of these types and to cast them."""
    return sum(CAST_VALUE_US + _stored_value_us(kind) for kind in types)


def by_layout_is_cheaper(row: Collection[str], named: Collection[str], *, aged: bool) -> bool:
    """Return whether to read the whole packed row takes less than to read features of it by name.

    Args:
        row: The types of all features in the row.
        named: The types of those that are wanted.
        aged: Whether statuses and times are wanted too.
    """
    aged_us = AGED_VALUE_US if aged else 0.0
    return bool(named) and stored_row_us(row) + len(row) * aged_us <= cast_row_us(named) + len(named) * aged_us


def _stored_value_us(kind: str) -> float:
    if "(" in kind:
        return WINDOW_US
    return STORED_VALUE_US + 4 * (vector_length(kind) or 0) * VECTOR_BYTE_US
