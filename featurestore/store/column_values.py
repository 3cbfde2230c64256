"""The values of a column, from the buffers that Apache Arrow's format has for its type: as Python's and numpy's."""

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from featurestore.contract.arrow import kind_of
from featurestore.contract.columns import Column, column_of
from featurestore.errors import BadArgumentsError
from featurestore.schema.types import vector_length

if TYPE_CHECKING:
    import numpy as np

_NUMPY_TYPES = {"float": "float64", "int": "int64"}


class ColumnValues:
    """The values of one feature.

    Args:
        kind: `float`, `int`, `bool`, `string` or `float32[N]`.
        rows: How many rows there are.
        offset: How many rows of the buffers are in front of them.
        nulls: How many of the rows have no value.
        buffers: Those of `contract.columns.Column`, or of pyarrow.
    """

    __slots__ = ("_buffers", "_offset", "_rows", "kind", "nulls")

    def __init__(self, kind: str, rows: int, offset: int, nulls: int, buffers: list[Any]) -> None:
        self.kind, self.nulls = kind, nulls
        self._rows, self._offset, self._buffers = rows, offset, buffers

    @classmethod
    def of_arrow(cls, column: Any) -> Self:
        """Return the values of an array of pyarrow, over the same memory.

        Raises:
            BadArgumentsError: No feature has values of that type.
        """
        kind, buffers = kind_of(column.type), column.buffers()
        if kind is None:
            raise BadArgumentsError(f"no feature is {column.type}")
        if vector_length(kind):
            if column.values.offset or column.values.null_count:
                raise BadArgumentsError("a vector has all of its numbers")
            buffers = [buffers[0], buffers[2]]
        return cls(kind, len(column), column.offset, column.null_count, buffers)

    @classmethod
    def of_values(cls, kind: str, values: list[Any]) -> Self:
        """Return the values of a list, None where there is none, as a column of that type.

        Raises:
            TypeError: A value is not of that type.
            OverflowError: An int has more than 64 bits.
        """
        if vector_length(kind):
            values = [None if value is None else array("f", value).tobytes() for value in values]
        column = column_of(kind, values)
        return cls(kind, len(values), 0, column.nulls, list(column.buffers))

    def column(self) -> Column:
        """Return what `arrow.array_of` takes; only of a column that was made of a list."""
        return Column(self.kind, self.nulls, tuple(self._buffers))

    # Python

    def python(self) -> list[Any]:
        """Return the values as Python's own, vectors as lists of floats; None where there is none."""
        first, last = self._offset, self._offset + self._rows
        if self.kind == "float":
            values: list[Any] = memoryview(self._buffers[1]).cast("B").cast("d")[first:last].tolist()
        elif self.kind == "int":
            values = memoryview(self._buffers[1]).cast("B").cast("q")[first:last].tolist()
        elif self.kind == "bool":
            values = _bits(self._buffers[1], first, last)
        elif self.kind == "string":
            ends = memoryview(self._buffers[1]).cast("B").cast("i")[first : last + 1].tolist()
            text = bytes(self._buffers[2] or b"")
            values = [text[start:end].decode() for start, end in pairwise(ends)]
        else:
            length = vector_length(self.kind) or 0
            numbers = memoryview(self._buffers[1]).cast("B").cast("f")[first * length : last * length].tolist()
            values = [numbers[start : start + length] for start in range(0, len(numbers), length)]
        if self.nulls:
            present = _bits(self._buffers[0], first, last)
            values = [value if there else None for value, there in zip(values, present, strict=True)]
        return values

    # numpy

    def numpy(self) -> "np.ndarray[Any, Any]":
        """Return the values as an array; of text, objects. Where there is no value it has any. It may be read only.

        A vector is a row of float32s. All but bools and text are over the memory of the column.
        """
        import numpy as np  # noqa: PLC0415 - an extra

        first, last = self._offset, self._offset + self._rows
        if self.kind in _NUMPY_TYPES:
            return np.frombuffer(self._buffers[1], _NUMPY_TYPES[self.kind], last)[first:]
        if self.kind == "bool":
            return self._unpacked(self._buffers[1])
        if self.kind == "string":
            values = np.empty(self._rows, object)
            values[:] = self.python()
            return values
        length = vector_length(self.kind) or 0
        return np.frombuffer(self._buffers[1], "float32", last * length)[first * length :].reshape(self._rows, length)

    def missing(self) -> "np.ndarray[Any, Any]":
        """Return for each row whether there is no value."""
        import numpy as np  # noqa: PLC0415 - an extra

        return ~self._unpacked(self._buffers[0]) if self.nulls else np.zeros(self._rows, bool)

    def _unpacked(self, buffer: Any) -> "np.ndarray[Any, Any]":
        import numpy as np  # noqa: PLC0415 - an extra

        last = self._offset + self._rows
        bits = np.unpackbits(np.frombuffer(buffer, np.uint8), count=last, bitorder="little")
        return bits[self._offset :].view(bool)


def _bits(buffer: Any, first: int, last: int) -> list[bool]:
    digits = f"{int.from_bytes(bytes(buffer), 'little'):0{8 * len(bytes(buffer))}b}"[::-1]
    return [digit == "1" for digit in digits[first:last]]
