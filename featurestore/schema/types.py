"""The types of features, and what values of them are in Python."""

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
"""A feature's type: `float`; `int`, exact to 64 bits; `bool`; `string`; `float32[N]`, a vector of N numbers;
`count(10m)` or `sum(amount, 1h)`, a sliding window over events."""

Value = float | int | bool | str | list[float]
"""A feature's value as Python has it; a vector is a list of numbers."""

Row = tuple[Any, ...]
"""Values aligned with the names asked for; None where there is no value. A vector is the bytes of its numbers."""

Status = Literal["PRESENT", "MISSING", "DEFAULT", "STALE"]
"""A value is there, is not there, is replaced by the schema's default, or is too old and so left out."""

SCALARS: Mapping[str, Any] = {"float": float | None, "int": int | None, "bool": bool | None, "string": str | None}
"""Scalar types: name in schemas → Python type, as msgspec decoders take it."""


def vector_length(kind: str) -> int | None:
    """Return how many numbers a vector of this type has; None if the type is no vector."""
    return int(kind[len("float32[") : -1]) if kind.startswith("float32[") else None


def python_type(kind: str) -> Any:
    """Return the Python type of a feature's values in rows, as msgspec decoders take it."""
    if kind in SCALARS:
        return SCALARS[kind]
    if kind.startswith("float32["):
        return bytes | None
    return int | None if kind.startswith("count(") else float | None
