from collections.abc import Sequence
from typing import Any, Self

class Grouper:
    def __new__(
        cls,
        parts: tuple[tuple[bytes, bytes, int], ...],
        after: bytes,
        one_head: bytes,
        one_words: bytes,
        many_head: bytes,
        many_words: bytes,
        many_count: int,
    ) -> Self: ...
    def calls(self, ids: list[str], most: int, /) -> tuple[list[bytes], list[int], list[int], list[int]]: ...
    def cut(self, ids: list[str], most: int, /) -> tuple[list[list[str]], list[int], list[int], list[int]]: ...
    def call(self, partition: int, ids: list[str], /) -> bytes: ...

def arrange(replies: list[Any], sizes: list[int], order: list[int] | None, /) -> list[Any]: ...
def all_plain(calls: list[bytes], replies: Sequence[Any], /) -> bool: ...
