"""A vector as msgpack: an array of its float32 numbers."""

from typing import Any

import msgspec

_FLOAT32 = b"\xca"
_FIXED_MOST = 15


def write_vector(vector: bytes) -> bytes:
    """Return the msgpack array of the numbers, given as little-endian float32s."""
    count = len(vector) // 4
    head = bytes((0x90 | count,)) if count <= _FIXED_MOST else b"\xdc" + count.to_bytes(2)
    numbers = bytearray(5 * count)
    numbers[0::5] = _FLOAT32 * count
    for place in range(4):
        numbers[4 - place :: 5] = vector[place::4]
    return head + numbers


def packed_value(value: Any) -> Any:
    """Return a value of a row as msgspec encodes it; of a vector, that is its msgpack."""
    return msgspec.Raw(write_vector(value)) if isinstance(value, bytes) else value
