"""What values of features are: their types, and what they are in rows, requests and responses."""

import math
from array import array
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

FeatureType = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(float|int|bool|string|float32\[[1-9][0-9]{0,3}\]"
        r"|count\([0-9]+[smhd]\)|sum\([A-Za-z_][\w.-]*, ?[0-9]+[smhd]\))\Z"
    ),
]
"""What a feature's values are: `float`; `int`, exact to 64 bits; `bool`; `string`; `float32[N]`, a vector; `count(10m)`
or `sum(amount, 1h)`, a sliding window over events."""

Value = float | int | bool | str | list[float]
"""A feature's value as Python has it; a vector is a list of numbers."""

Row = tuple[Any, ...]
"""Values aligned with the names asked for; None where there is no value. A vector is the bytes of its numbers."""

Status = Literal["PRESENT", "MISSING", "DEFAULT", "STALE"]
"""What is to be said of a value: there, not there, the schema's default in its place, or too old and so left out."""

SCALARS: Mapping[str, Any] = {"float": float | None, "int": int | None, "bool": bool | None, "string": str | None}
"""The Python types of scalars by their names in schemas, as decoders take them."""

_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None


def vector_length(kind: str) -> int | None:
    """Return how many numbers a value of this type has, None where it is no vector."""
    return int(kind[len("float32[") : -1]) if kind.startswith("float32[") else None


def python_type(kind: str) -> Any:
    """Return the type of a feature's values in rows, as decoders take it."""
    if kind in SCALARS:
        return SCALARS[kind]
    if kind.startswith("float32["):
        return bytes | None
    return int | None if kind.startswith("count(") else float | None


def row_value(kind: str, value: Any, *, strict: bool = True) -> Any:
    """Return a value of a request for a feature of that kind as rows have it; not strict, text of it is one too.

    Raises:
        msgspec.ValidationError: It is not of that kind.
    """
    length = vector_length(kind)
    if length is None or value is None:
        return msgspec.convert(value, _INT64 if kind == "int" else python_type(kind), strict=strict)
    vector = array("f", msgspec.convert(value, list[float], strict=strict))
    if len(vector) != length:
        raise msgspec.ValidationError(f"Expected {length} numbers, got {len(vector)}")
    if not all(map(math.isfinite, vector)):
        raise msgspec.ValidationError("Expected numbers within float32")
    return vector.tobytes()


def numbers_of(vector: bytes) -> list[float]:
    """Return the numbers of a vector."""
    return array("f", vector).tolist()


def encodable_value(value: Any) -> Any:
    """Return a value of a row as it can be encoded: a vector's numbers with the digits that tell float32s apart."""
    if not isinstance(value, bytes):
        return value
    import numpy as np  # noqa: PLC0415 - only those who have vectors pay for it
    import orjson  # noqa: PLC0415 - likewise

    return msgspec.Raw(orjson.dumps(np.frombuffer(value, "<f4"), option=orjson.OPT_SERIALIZE_NUMPY))
