"""What counts as a value of a feature, and what rows have of it."""

import math
import sys
from array import array
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from featurestore.errors import UnsuitableValueError
from featurestore.schema.times import ms_of
from featurestore.schema.types import vector_length

_MOST_SHOWN = 64
_EXACT = 2.0**53
_LEAST_INT, _MOST_INT = -(2**63), 2**63 - 1
_DIGITS = 19
"""More than an int of 64 bits has before the point."""
_PLAIN = frozenset({float, int, str, bool, bytes, list, tuple, dict, type(None)})
_NOTHINGS = frozenset({"NAType", "NaTType", "MaskedConstant"})
"""Classes of pandas and numpy whose one object stands for no value. Neither library need be there."""


def row_value(kind: str, value: object) -> Any:
    """Return a feature's value as rows hold it; None stays None.

    This is the one rule for values, at every door: HTTP, NDJSON, files, Feast's routes, Python, passed values.

    - None, NaN, pandas' NA and NaT, and a masked value of numpy are no value.
    - Types of JSON and of Python count. Text is never a number, not even `"5"`.
    - An int is a valid float. A whole float below 2^53 is a valid int, since JSON has one kind of number.
    - numpy's scalars and arrays count as what they hold, and instances of subclasses as their base type.
    - A Decimal is a number. A moment is an int, ms since 1970, as event times are.
    - Negative zero becomes zero.

    Args:
        kind: The feature's type; a window's value counts as that of an int or a float.
        value: What a caller gives.

    Raises:
        UnsuitableValueError: The value is not of that type. The message goes behind the feature's name.
    """
    value = held(value)
    if value is None:
        return None
    length = vector_length(kind)
    if length is not None:
        return _vector(kind, length, value)
    if kind == "string":
        found: Any = str.__str__(value) if isinstance(value, str) and is_unicode(value) else None
    elif kind == "bool":
        found = value if isinstance(value, bool) else None
    elif kind == "int" or kind.startswith("count("):
        found = _int(value)
    else:
        found = _float(value)
    if found is None:
        raise UnsuitableValueError(f"is {kind}, not {shown(value)}")
    return found


def shown(value: object) -> str:
    """Return a value as messages show it: on one line, at most 64 characters, text in quotes."""
    try:
        text = ascii(value) if isinstance(value, str) and not is_unicode(value) else repr(value)
    except Exception:  # noqa: BLE001 - a broken __repr__ must not hide the error that is being told
        text = f"a value of type {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def is_unicode(text: str) -> bool:
    """Return whether the text can be encoded as UTF-8, that is, has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def held(value: Any) -> Any:
    """Return what a scalar holds, in Python's types; any other value as it is.

    NaN and the like become None, a Decimal an int or a float, a moment ms since 1970 (without a time zone: in UTC).
    """
    kind = type(value)
    if kind in _PLAIN or isinstance(value, float):
        return None if value != value else value  # noqa: PLR0124 - NaN
    if kind.__name__ in _NOTHINGS:
        return None
    if isinstance(value, datetime):
        return _ms_of(value)
    if isinstance(value, Decimal):
        return _number_of(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return _scalar_of(value)
    return value


def _scalar_of(value: Any) -> Any:
    """Return what a scalar of numpy or the like holds."""
    if getattr(getattr(value, "dtype", None), "kind", "") == "M":
        ms = value.astype("datetime64[ms]")
        return int(ms.astype("int64")) if ms == ms else None  # noqa: PLR0124 - it is not NaT
    inner = unwrapped(value)
    return held(inner) if inner is not value and type(inner) in _PLAIN else inner


def _ms_of(moment: datetime) -> int:
    return ms_of(moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC))


def _number_of(value: Decimal) -> int | float | None:
    if value.is_nan():
        return None
    if value.is_infinite() or value.adjusted() > _DIGITS:
        return float(value)
    return int(value) if value == value.to_integral_value() else float(value)


def unwrapped(value: Any) -> Any:
    """Return what an array or scalar of numpy or the like holds, in Python's types; any other value as it is.

    Times stay numpy's: `tolist()` would turn those in ns into ints. A record becomes a list of numpy scalars, for the
    same reason.
    """
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind == "V":
        return list(value)
    if kind in {"m", "M"}:
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _int(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and _LEAST_INT <= value <= _MOST_INT:
        return int(value)
    return None


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, float | int):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number + 0.0 if math.isfinite(number) else None


def text_value(kind: str, text: str | None) -> Any:
    """Return what a text stands for in a file without types, such as CSV, as `row_value` takes it.

    Empty text is no value. For any type but `string` so are `NaN`, `NA`, `null` and `None`. Text that is not of the
    type stays as it is, for `row_value` to refuse.
    """
    if text is None or text == "" or kind == "string":
        return text or None
    word = text.strip().lower()
    if word in _NO_VALUES or "_" in word:  # Python's numbers may have underscores, those of files not
        return None if word in _NO_VALUES else text
    if kind == "bool":
        return _BOOLS.get(word, text)
    try:
        if vector_length(kind) is not None:
            return [float(number) for number in word.strip("[]").replace(",", " ").split()]
        return int(word) if word.lstrip("+-").isdigit() else float(word)
    except ValueError:
        return text


_BOOLS = {"true": True, "false": False, "t": True, "f": False, "yes": True, "no": False, "1": True, "0": False}
_NO_VALUES = frozenset({"", "nan", "na", "n/a", "<na>", "nat", "null", "none"})


def _vector(kind: str, length: int, value: object) -> bytes:
    """Return a vector as little-endian float32s. Bytes are taken to be in that form already."""
    stored = isinstance(value, bytes)
    numbers = _numbers(value)
    if numbers is None:
        raise UnsuitableValueError(f"is {kind}, not {shown(value)}")
    if len(numbers) != length:
        raise UnsuitableValueError(f"is {kind}, not {len(numbers)} numbers")
    if not math.isfinite(sum(numbers)):  # doubles hold the sum of any float32s that are finite
        raise UnsuitableValueError(f"is {kind}: its numbers are finite and within float32")
    if sys.byteorder != "little" and not stored:
        numbers.byteswap()
    return numbers.tobytes()


def _numbers(value: Any) -> "array[float] | None":
    if isinstance(value, str | Mapping | AbstractSet):
        return None
    try:
        if isinstance(value, bytes):
            return array("f", value)
        numbers = list(unwrapped(value))
        return None if bool in map(type, numbers) else array("f", numbers)
    except (TypeError, ValueError, OverflowError):
        return None


def numbers_of(vector: bytes) -> list[float]:
    """Return the numbers of a vector in its stored form, little-endian float32s."""
    return array("f", vector).tolist()
