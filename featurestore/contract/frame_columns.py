"""Columns of a table as the extension takes them, and their values as rows of Python's objects have them.

A column is an array of pyarrow, or a list. An array of a type that no feature has (narrow numbers, decimals, moments,
dictionaries, lists) is first cast to the one that it is meant for, if that loses nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

from featurestore.contract import arrow
from featurestore.contract.frames import MISSING
from featurestore.errors import BadArgumentsError
from featurestore.schema.times import TIME_UNITS_NS, units_of
from featurestore.schema.types import vector_length
from featurestore.schema.values import held, text_value

NativeColumn = tuple[str, Any, Any, Any, int, int]
"""A column as `native.rows.Columns` takes it."""

_NS_PER_MS = TIME_UNITS_NS["ms"]


def is_array(column: Any) -> bool:
    """Return whether a column is an array of pyarrow."""
    return hasattr(column, "buffers")


def fitted(column: Any, kind: str) -> Any:
    """Return a column of a feature's values in the form that is meant for its type, if that loses nothing."""
    if not is_array(column):
        return column
    pa = arrow.library()
    try:
        return _fitted(pa, _plain(pa, column), kind)
    except (pa.ArrowException, ValueError):
        return column  # each value is then judged by itself


def _plain(pa: Any, array: Any) -> Any:
    """Return an array without dictionaries and views."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _plain(pa, array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        from pyarrow import compute  # noqa: PLC0415 - an extra

        return _plain(pa, compute.run_end_decode(array))
    if pa.types.is_binary_view(kind):
        return array.cast(pa.large_binary())
    return array.cast(pa.large_utf8()) if pa.types.is_string_view(kind) else array


def _fitted(pa: Any, array: Any, kind: str) -> Any:
    types, found, length = pa.types, array.type, vector_length(kind)
    if length is not None:
        is_list = types.is_fixed_size_list(found) or types.is_list(found) or types.is_large_list(found)
        is_of_numbers = is_list and (types.is_floating(found.value_type) or types.is_integer(found.value_type))
        return array.cast(pa.list_(pa.float32(), length)) if is_of_numbers else array
    if kind not in {"float", "int"}:
        return array
    if types.is_timestamp(found):
        return moments_in_ms(array)
    if types.is_decimal(found):  # by its digits: arithmetic would be a bit off
        return array.cast(pa.int64()) if kind == "int" else array.cast(pa.utf8()).cast(pa.float64())
    wanted = pa.int64() if types.is_integer(found) else pa.float64() if types.is_floating(found) else found
    return array.cast(wanted)


def moments_in_ms(array: Any) -> Any:
    """Return moments as an array of int64 in ms since 1970, as a list where some have more; without a zone: in UTC."""
    pa = arrow.library()
    unit = getattr(array.type, "unit", "ms")
    if pa.types.is_date(array.type):
        return array.cast(pa.timestamp("ms")).cast(pa.int64())
    numbers = array.cast(pa.int64())
    if unit == "s":
        try:
            return _times(numbers, 1000)
        except pa.ArrowInvalid:
            return [None if number is None else 1000 * number for number in numbers.to_pylist()]
    return numbers if unit == "ms" else _floored(numbers, _NS_PER_MS // TIME_UNITS_NS[unit])


def _times(numbers: Any, factor: int) -> Any:
    from pyarrow import compute  # noqa: PLC0415 - an extra

    return compute.multiply_checked(numbers, factor)


def _floored(numbers: Any, divisor: int) -> Any:
    """Return whole quotients, towards the past."""
    from pyarrow import compute  # noqa: PLC0415 - an extra

    quotients = compute.divide(numbers, divisor)  # which cuts
    above = compute.greater(compute.multiply(quotients, divisor), numbers)
    return compute.subtract(quotients, above.cast(arrow.library().int64()))


def native_column(column: Any) -> NativeColumn | None:
    """Return an array as the extension takes it, over the same memory; None where it has another form."""
    if not is_array(column):
        return None
    pa = arrow.library()
    kind, buffers, offset = column.type, column.buffers(), column.offset
    present = buffers[0] if column.null_count else None
    if pa.types.is_null(kind):
        return "n", None, None, None, 0, 0
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = buffers[2] if buffers[2] is not None else b""
        return ("u" if pa.types.is_string(kind) else "U"), present, text, buffers[1], offset, 0
    if pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32():
        numbers = column.values
        # A vector that is not there may have numbers that are not either: `flatten` leaves it out.
        if numbers.buffers()[1] is None or (numbers.null_count and column.flatten().null_count):
            return None
        return "v", present, memoryview(numbers.buffers()[1])[4 * numbers.offset :], None, offset, 4 * kind.list_size
    code = {pa.int64(): "q", pa.float64(): "d", pa.bool_(): "?"}.get(kind)
    return None if code is None else (code, present, b"" if buffers[1] is None else buffers[1], None, offset, 0)


def values_at(column: Any, kind: str, places: Sequence[int] | None, *, as_text: bool) -> list[Any]:
    """Return the values of a column as rows of Python's objects have them: None where there is none, vectors as bytes.

    Args:
        column: The column.
        kind: The type of the feature; empty if it is not declared.
        places: The rows wanted; all if left out.
        as_text: Whether texts stand for values of any type, as those of CSV do.
    """
    if not is_array(column):
        values = list(column) if places is None else [column[place] for place in places]
    else:
        pa = arrow.library()
        array = _taken(pa, _plain(pa, column), places)
        if pa.types.is_fixed_size_list(array.type) and array.type.value_type == pa.float32():
            values = _vectors(array)
        elif pa.types.is_timestamp(array.type):
            moments = array if kind == "string" else moments_in_ms(array)
            values = _listed(moments) if is_array(moments) else moments
        else:
            values = _listed(array)
    if as_text:
        return [text_value(kind, value) if value is None or type(value) is str else value for value in values]
    return values


def _taken(pa: Any, array: Any, places: Sequence[int] | None) -> Any:
    return array if places is None else array.take(pa.array(places, pa.int64()))


class Odd:
    """A value of which Python has no like, for messages.

    Args:
        text: How Arrow shows it.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _listed(array: Any) -> list[Any]:
    """Return the values of an array as Python has them."""
    pa = arrow.library()
    try:
        return list(array.to_pylist())
    except (pa.ArrowException, OverflowError, ValueError):
        return [_python_of(pa, value) for value in array]


def _python_of(pa: Any, value: Any) -> Any:
    try:
        return value.as_py()
    except (pa.ArrowException, OverflowError, ValueError):
        return Odd(f"a {value.type} that is out of range")


def _vectors(array: Any) -> list[Any]:
    """Return vectors of float32 as bytes; as lists where numbers are missing."""
    numbers, size = array.flatten(), 4 * array.type.list_size  # those of the rows that have a vector
    if numbers.null_count or not size:
        return list(array.to_pylist())
    data = memoryview(numbers.buffers()[1] or b"")[4 * numbers.offset :]
    vectors = (bytes(data[start : start + size]) for start in range(0, 4 * len(numbers), size))
    return [next(vectors) if there else None for there in array.is_valid().to_pylist()]


# Ids


def id_column(column: Any) -> Any:
    """Return a column of ids: as text where they are text or ints, else a list of values that `id_of` judges."""
    if not is_array(column):
        return [id_of(value) for value in column]
    pa = arrow.library()
    array = _plain(pa, column)
    kind = array.type
    if pa.types.is_integer(kind):
        return array.cast(pa.utf8())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array
    return [id_of(value) for value in array.to_pylist()]


def id_of(value: Any) -> Any:
    """Return an id as text: an int is its digits, also one that gaps in its column have made a float.

    What is neither stays as it is, for the upsert to refuse.
    """
    value = None if value is MISSING else held(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# Event times


def time_column(column: Any, name: str, unit: str | None) -> Any:
    """Return a column of event times in ms since 1970: an array of int64, or a list where texts are to be judged.

    Args:
        column: Ints or floats in that unit, moments, or text of ISO 8601.
        name: What it is called.
        unit: `s`, `ms`, `us` or `ns`; ms if left out.

    Raises:
        BadArgumentsError: The column has another type, or ints that are another unit by their size where none is told.
    """
    if not is_array(column):
        return _listed_times(column, name, unit)
    pa = arrow.library()
    array, types = _plain(pa, column), pa.types
    kind = array.type
    if types.is_string(kind) or types.is_large_string(kind):
        array = _read_times(pa, array)
        kind = array.type
        if types.is_string(kind) or types.is_large_string(kind):  # of several kinds
            return _listed_times([_number_or_text(text) for text in array.to_pylist()], name, unit)
    if types.is_timestamp(kind) or types.is_date(kind):
        return moments_in_ms(array)
    if types.is_null(kind):
        return array.cast(pa.int64())
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        try:
            return _in_ms(pa, array, name, unit)
        except (pa.ArrowException, OverflowError):  # one of them is no time
            return _listed_times(array.to_pylist(), name, unit)
    raise BadArgumentsError(f"column {name} is {kind}: event times are ints, moments or text of ISO 8601")


def _read_times(pa: Any, array: Any) -> Any:
    """Return texts as what all of them are: ints, or moments with or without a zone; else as they are."""
    for kind in (pa.int64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:
            continue
    return array


def _number_or_text(text: str | None) -> int | str | None:
    return int(text) if text and text.isascii() and text.isdigit() else text or None


def _in_ms(pa: Any, array: Any, name: str, unit: str | None) -> Any:
    from pyarrow import compute  # noqa: PLC0415 - an extra

    if not pa.types.is_integer(array.type):
        array = (array.cast(pa.utf8()) if pa.types.is_decimal(array.type) else array).cast(pa.float64())
        array = compute.if_else(compute.is_nan(array), pa.scalar(None, pa.float64()), array)
        spans = compute.min_max(array).as_py()
        _check_unit(spans.values(), name, unit)
        factor = TIME_UNITS_NS[unit or "ms"] / _NS_PER_MS
        return compute.round(compute.multiply(array, factor)).cast(pa.int64())
    array = array.cast(pa.int64())
    _check_unit(compute.min_max(array).as_py().values(), name, unit)
    ns = TIME_UNITS_NS[unit or "ms"]
    return _times(array, ns // _NS_PER_MS) if ns >= _NS_PER_MS else _floored(array, _NS_PER_MS // ns)


def _check_unit(span: Any, name: str, unit: str | None) -> None:
    """Refuse times that are in another unit than ms where none was told.

    Raises:
        BadArgumentsError: They are.
    """
    found = units_of(number for number in span if number is not None)
    if unit is None and found and not found & {"ms", ""}:
        meant = " or ".join(sorted(found))
        raise BadArgumentsError(f"the event times in {name} look like {meant}, not ms: tell the unit, {meant}")


def _listed_times(values: Sequence[Any], name: str, unit: str | None) -> list[Any]:
    plain = [None if value is MISSING else held(value) for value in values]
    numbers = [value for value in plain if type(value) in {int, float}]
    _check_unit(numbers, name, unit)
    ns = TIME_UNITS_NS[unit or "ms"]
    return [
        value * ns // _NS_PER_MS
        if type(value) is int
        else round(value * ns / _NS_PER_MS)
        if type(value) is float and math.isfinite(value)
        else value
        for value in plain
    ]
