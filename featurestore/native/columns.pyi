from typing import Any, Self

class Columns:
    def __new__(
        cls, types: tuple[str, ...], picks: tuple[int, ...] | None = None, head: int = 0, row_count: int = -1
    ) -> Self: ...
    def fill(
        self, rows: int, replies: list[Any], /
    ) -> tuple[tuple[int, bytes], tuple[tuple[int, tuple[bytes | None, ...]], ...]]: ...
