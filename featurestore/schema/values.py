"""What counts as a value of a feature, and what rows have of it."""

import math
import sys
from array import array
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from featurestore.errors import UnsuitableValueError
from featurestore.schema.types import vector_length

_MOST_SHOWN = 64
_EXACT = 2.0**53
_LEAST_INT, _MOST_INT = -(2**63), 2**63 - 1


def row_value(kind: str, value: object) -> Any:
    """Return a feature's value as rows hold it; None stays None.

    This is the one rule for values, at every door: HTTP, NDJSON, Feast's routes, Python, passed values.

    - Types of JSON and of Python count. Text is never a number, not even `"5"`.
    - An int is a valid float. A whole float below 2^53 is a valid int, since JSON has one kind of number.
    - numpy's scalars and arrays count as what they hold, and instances of subclasses as their base type.
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
    """Return what a scalar of numpy or the like holds; any other value as it is."""
    return unwrapped(value) if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


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
