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
    ) -> Self: ...
    def encode(self, rows: list[Any], /) -> tuple[bytes, bytes] | None: ...
