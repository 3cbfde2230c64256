from typing import Any, Self

class Columns:
    def __new__(cls, rows: int, columns: list[tuple[str, Any, Any, Any, int, int]]) -> Self: ...
    def by_partition(self, count: int, /) -> tuple[bytes, list[int]]: ...

class RowWriter:
    def __new__(
        cls,
        names: tuple[str, ...],
        types: tuple[str, ...],
        gaps: tuple[bool, ...],
        order: tuple[int, ...],
        width: int,
        layout: bytes,
        time: bytes,
        timed: bool,
    ) -> Self: ...
    def encode(self, rows: list[Any], before: bytes, after: bytes, /) -> tuple[bytes, bytes] | None: ...
    def encode_columns(
        self,
        columns: Columns,
        start: int,
        stop: int,
        as_text: bool,
        before: bytes,
        after: bytes,
        order: bytes | None = None,
        /,
    ) -> tuple[bytes, bytes, list[int]]: ...
