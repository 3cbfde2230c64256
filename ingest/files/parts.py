"""What readers of files yield: rows that lie one behind another, and those among them that cannot be read."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

Given = Any
"""A row as the file has it, fit for JSON: an object, or text where it is none."""


class UnreadRow(msgspec.Struct, frozen=True):
    """A row that cannot be read.

    Attributes:
        position: Its position in the file, from 0.
        row: The row as the file has it.
        reason: What is wrong with it.
        time: The event time in ms that the file says it would have, having none of its own; else None.
    """

    position: int
    row: Given
    reason: str
    time: int | None = None


class Part(msgspec.Struct, frozen=True):
    """Rows of one file, in its order.

    Attributes:
        end: The position behind the last row, of those that cannot be read too. Whoever starts there misses nothing.
        rows: A `pyarrow.RecordBatch`, or a list of objects of JSON, flat.
        positions: The position of each row.
        unread: Rows before `end` that cannot be read.
        text: Whether all values are text, as in CSV.
        given: Each row as the file has it, if `rows` does not tell.
        times: The event time in ms of each row that has none of its own, where the file tells it; else None.
    """

    end: int
    rows: Any
    positions: Sequence[int]
    unread: Sequence[UnreadRow] = ()
    text: bool = False
    given: Sequence[Given] | None = None
    times: Sequence[int | None] | None = None

    def row(self, index: int) -> Given:
        """Return a row as the file has it."""
        if self.given is not None:
            return self.given[index]
        if isinstance(self.rows, list):
            return self.rows[index]
        return {name: column[index].as_py() for name, column in zip(self.rows.schema.names, self.rows, strict=True)}


class Source(Protocol):
    """A file that is open for reading.

    Attributes:
        path: Its path, absolute; `-` for standard input.
        columns: Column → its type in Arrow, None for text; None where each row tells its own.
        size: Bytes to read in all; 0 if unknown.
        count: How many rows it has; None if unknown.
    """

    path: str
    columns: dict[str, Any] | None
    size: int
    count: int | None

    @property
    def done(self) -> int:
        """How many of its bytes have been read by now."""

    def parts(self, start: int, most: int, columns: Sequence[str] | None = None) -> Iterator[Part]:
        """Yield the rows from position `start` on, in parts of at most `most` rows.

        Args:
            start: Position of the first row.
            most: Most rows in a part.
            columns: The columns wanted, of all that the file has; all when left out.

        Raises:
            SourceError: The file cannot be read on.
        """
