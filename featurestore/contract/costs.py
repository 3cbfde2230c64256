"""What calls of the scripts take of Redis's one thread, and how many rows a call has so that none takes more than 1 ms.

`perf/call_costs.py` measures the constants. They are for sizing, so they lie on the dear side of what it shows.
"""

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

WRITTEN_ROW_US = 4.0
"""To write an entity."""

WRITTEN_VALUE_US = 0.8
"""For each value written."""


def rows_per_call(row_us: float) -> int:
    """Return how many rows that take `row_us` each may be in one call, at least one."""
    return max(1, min(MOST_ROWS, int(MOST_US / row_us)))
