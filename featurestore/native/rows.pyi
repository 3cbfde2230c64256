from collections.abc import Mapping
from typing import Any, Self

class RowPacker:
    def __new__(
        cls,
        names: tuple[str, ...],
        types: Mapping[str, str],
        layout: bytes,
        before: bytes,
        after: bytes,
        timed: bool,
        least_max_age_ms: int,
        ttl_ms: int,
    ) -> Self: ...
    def dump(self, rows: list[Any], time: int, oldest: int, /) -> tuple[bytes, bytes] | None: ...
    def fields(self, rows: list[Any], /) -> tuple[bytes, bytes] | None: ...
