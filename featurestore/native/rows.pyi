from typing import Any, Self

class RowWriter:
    def __new__(
        cls,
        columns: tuple[str, ...],
        features: dict[str, str],
        layout: bytes,
        before: bytes,
        after: bytes,
        timed: bool,
        limit: int,
        ttl: int,
    ) -> Self: ...
    def fields(self, rows: list[Any], /) -> tuple[bytes, bytes] | None: ...
    def dump(self, rows: list[Any], time: int, oldest: int, /) -> tuple[bytes, bytes] | None: ...
