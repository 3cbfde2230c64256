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
