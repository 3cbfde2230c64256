"""From replies of the read scripts to columns: by the C extension, or by msgspec and Python where it is missing.

A column is the buffers that Apache Arrow's format has for its type. No library of Arrow is needed to make them; `arrow`
frames them.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from featurestore.contract.json_rows import Rows
from featurestore.schema.types import Row, vector_length

filler_type: Callable[..., Any] | None
"""The extension's type; None where it was not built, for want of a compiler."""

try:
    from featurestore.native.columns import Columns as Filler
except ImportError:
    filler_type = None
else:
    filler_type = Filler

_CODES = {"float": "d", "int": "q"}


class Column(NamedTuple):
    """The values of one feature.

    Attributes:
        kind: `float`, `int`, `bool`, `string` or `float32[N]`.
        nulls: How many rows have no value.
        buffers: A bit a row that tells whether there is a value, None where all have one; then the values: doubles,
            64-bit ints, bits, float32s, or 32-bit offsets and text. Without a value they are zero.
    """

    kind: str
    nulls: int
    buffers: tuple[bytes | None, ...]


class Table(NamedTuple):
    """What was read of many ids.

    Attributes:
        rows: How many ids there are.
        known: Which ids are known.
        columns: A column for each feature.
    """

    rows: int
    known: Column
    columns: list[Column]


def shown_kind(kind: str) -> str:
    """Return the type of a feature's values in replies: a count is an int, a sum a float."""
    return "int" if kind.startswith("count(") else "float" if kind.startswith("sum(") else kind


class ColumnReader:
    """Makes columns of the replies for one selection of features.

    Both ways give the same bytes. The extension refuses replies that are unusual. Then msgspec reads the reply, or says
    what is wrong with it.

    Args:
        selection: The features, and how their values are found in replies.
    """

    __slots__ = ("_decode_many", "_filler", "kinds")

    def __init__(self, selection: Rows) -> None:
        self._decode_many = selection.decode_many
        types, picks = selection.row_types, selection.picks
        self.kinds = list(types) if picks is None else [types[pick] for pick in picks]
        self._filler = None
        if filler_type is not None and selection.names:
            self._filler = filler_type(types, picks, selection.head, selection.row_count)

    def read(self, rows: int, replies: list[Any]) -> Table:
        """Return the columns of the replies that cover so many ids, in order.

        Raises:
            msgspec.ValidationError: A reply was made under another schema.
        """
        if self._filler is not None:
            try:
                (_, known), columns = self._filler.fill(rows, replies)
            except (TypeError, ValueError):
                pass
            else:
                made = [Column(kind, *column) for kind, column in zip(self.kinds, columns, strict=True)]
                return Table(rows, Column("bool", 0, (None, known)), made)
        decoded = [row for reply in replies for row in self._decode_many(reply)]
        if len(decoded) != rows:
            raise msgspec.ValidationError(f"Expected {rows} rows, got {len(decoded)}")
        return table_of(self.kinds, decoded)


def table_of(kinds: Sequence[str], rows: Sequence[Row | None]) -> Table:
    """Return the columns of rows, which are None for unknown ids; vectors are bytes."""
    nothing = (None,) * len(kinds)
    columns = zip(*(nothing if row is None else row for row in rows), strict=True) if rows else ([] for _ in kinds)
    known = bools(row is not None for row in rows)
    return Table(len(rows), known, [column_of(kind, column) for kind, column in zip(kinds, columns, strict=True)])


def bools(values: Iterable[bool]) -> Column:
    """Return a column of bools."""
    return Column("bool", 0, (None, _bits(values)))


def column_of(kind: str, values: Iterable[Any]) -> Column:
    """Return the column of a feature's values, None where there is none.

    Raises:
        OverflowError: An int has more than 64 bits, or the texts have more than 2 GB.
    """
    values = list(values)
    nulls = values.count(None)
    present = _bits(value is not None for value in values) if nulls else None
    if kind in _CODES:
        numbers = [0 if value is None else value for value in values] if nulls else values
        return Column(kind, nulls, (present, array(_CODES[kind], numbers).tobytes()))
    if kind == "bool":
        return Column(kind, nulls, (present, _bits(bool(value) for value in values)))
    if kind == "string":
        texts = ["" if value is None else value for value in values] if nulls else values
        text = "".join(texts)
        sizes = map(len, texts) if text.isascii() else [len(each.encode()) for each in texts]
        return Column(kind, nulls, (present, array("i", accumulate(sizes, initial=0)).tobytes(), text.encode()))
    zeros = bytes(4 * (vector_length(kind) or 0))
    return Column(kind, nulls, (present, b"".join([zeros if value is None else value for value in values])))


def _bits(values: Iterable[bool]) -> bytes:
    digits = "".join(["1" if value else "0" for value in values])
    return int(digits[::-1] or "0", 2).to_bytes((len(digits) + 7) // 8, "little")
