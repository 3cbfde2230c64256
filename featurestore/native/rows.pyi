from typing import Any, Self

class Columns:
    def __new__(cls, rows: int, columns: list[tuple[str, Any, Any, Any, int, int]]) -> Self: ...

class RowWriter:
    def __new__(
        cls,
        names: tuple[str, ...],
        types: tuple[str, ...],
        gaps: tuple[bool, ...],
        order: tuple[int, ...],
        width: int,
        layout: bytes,
        before: bytes,
        after: bytes,
        time: bytes,
        timed: bool,
    ) -> Self: ...
    def encode(self, rows: list[Any], /) -> tuple[bytes, bytes] | None: ...
    def encode_columns(
        self, columns: Columns, start: int, stop: int, as_text: bool, /
    ) -> tuple[bytes, bytes, list[int]]: ...
