"""What reads take of Redis's one thread, and so which of two ways to ask is the cheaper one.

By layout Redis hands on a packed row as it is stored; by names it fetches each field and casts its text.
`perf/named.py` measures the constants, and shows where the line between the two is.
"""

from collections.abc import Collection, Iterable
from functools import lru_cache

from featurestore.contract.costs import CAST_VALUE_US, MOST_US, STORED_ROW_US, STORED_VALUE_US
from featurestore.schema.types import vector_length

CAST_ROW_US = 2.0
"""To read an entity by names, beside what each value takes."""

CARRIED_VALUE_US = 0.008
"""For each value of a packed row that nobody asked for, more: the caller receives it, and passes over it."""

VECTOR_BYTE_US = 0.001
"""For each byte of a vector, in a packed row or beside it."""

CALL_US = 2.0
"""For each call, beside its rows: of some importance where a batch is many calls, as in a cluster."""

AGED_ROW_US = 4.0
"""To read an entity with statuses and event times, more than without."""

AGED_VALUE_US = 0.3
"""For each value that comes with its status and its event time, more than without."""

READ_WINDOW_US = 4.0
"""For a sliding window in a packed row. It is nothing while the row has what the window holds, and ADDED_WINDOW_US once
that is too long ago: here is something between them."""

ADDED_WINDOW_US = 14.0
"""To add up a sliding window."""

MOST_MADE = int(MOST_US)
"""Most values that one call may make where packed rows do not serve: they take less than MOST_US."""


def stored_row_us(types: Iterable[str]) -> float:
    """Return what it takes to read a packed row of values of these types."""
    return STORED_ROW_US + sum(map(_stored_value_us, types))


def cast_row_us(types: Iterable[str]) -> float:
    """Return what it takes to fetch the fields of values of these types and to cast them."""
    return CAST_ROW_US + sum(CAST_VALUE_US + _stored_value_us(kind) for kind in types)


def made_row_us(types: Iterable[str]) -> float:
    """Return what it takes to make a packed row of values of these types of the fields."""
    types = list(types)
    return cast_row_us(types) + _windows_us(types)


def ages_us(types: Iterable[str]) -> float:
    """Return what statuses and event times of values of these types take, more than those: windows are added up."""
    types = list(types)
    return AGED_ROW_US + len(types) * AGED_VALUE_US + _windows_us(types)


def by_layout_is_cheaper(row: Collection[str], named: Collection[str], *, aged: bool) -> bool:
    """Return whether to read the whole packed row takes less than to read features of it by name.

    Args:
        row: The types of all features in the row.
        named: The types of those that are wanted.
        aged: Whether statuses and times are wanted too.
    """
    others = len(row) - len(named)
    us = stored_row_us(row) + others * CARRIED_VALUE_US
    if aged:
        us += others * AGED_VALUE_US
    return bool(named) and us <= cast_row_us(named)


def _windows_us(types: Iterable[str]) -> float:
    """Return what windows take that are certainly added up, more than `_stored_value_us` has for them."""
    return sum("(" in kind for kind in types) * (ADDED_WINDOW_US - READ_WINDOW_US)


@lru_cache(maxsize=1024)
def _stored_value_us(kind: str) -> float:
    if "(" in kind:
        return READ_WINDOW_US
    return STORED_VALUE_US + 4 * (vector_length(kind) or 0) * VECTOR_BYTE_US
