"""Words and replies in the JSON form of README.md, and whether a server's reply is the one that is written there."""

import re
import struct
from collections.abc import Sequence
from typing import Any

Json = Any
Reply = Any
"""As hiredis parses it: bytes, int, None, a list; an error is an exception with its text."""


def as_word(word: str | bytes | int) -> Json:
    """Return a word of a call: text as itself, other bytes in hexadecimal."""
    if isinstance(word, bytes):
        return word.decode() if _is_text(word) else {"hex": word.hex()}
    return str(word)


def word_bytes(word: Json) -> bytes:
    """Return the bytes of a word."""
    return word.encode() if isinstance(word, str) else bytes.fromhex(word["hex"])


def as_reply(reply: Reply) -> Json:
    """Return a server's reply. Msgpack in it is told beside its bytes."""
    if reply is None:
        return {"nil": True}
    if isinstance(reply, int):
        return {"int": reply}
    if isinstance(reply, Exception):
        return {"error": str(reply)}
    if isinstance(reply, list):
        return {"array": [as_reply(each) for each in reply]}
    meaning = _meaning(reply)
    if "map" in meaning:
        return {"msgpack": meaning}
    return {"bulk": as_word(reply), **meaning}


def differences(expected: Json, reply: Reply) -> str:
    """Return in which way a server's reply is another one than expected; '' where it is the same."""
    (kind, value), *_ = expected.items()
    if kind == "error_code":
        fits = isinstance(reply, Exception) and str(reply).split(" ", 1)[0] == value
    elif kind == "int_at_least":
        fits = isinstance(reply, int) and reply >= value
    elif kind == "array" and isinstance(reply, list) and len(reply) == len(value):
        return "".join(map(differences, value, reply))
    else:
        fits = as_reply(reply) == expected
    return "" if fits else f"expected {expected}, got {as_reply(reply)}\n"


def _meaning(reply: bytes) -> dict[str, Json]:
    """Return what msgpack says, and the digest before it; nothing of another string."""
    start = 8 if re.match(rb"@[0-9a-f]{7}[\x80-\x9f\xdc-\xdf]", reply) else 0
    if len(reply) == start or not (0x80 <= reply[start] < 0xA0 or reply[start] in (0xDC, 0xDE)) or _is_text(reply):
        return {}
    value, end = _unpacked(reply, start)
    assert end == len(reply), f"more than one msgpack value in {reply!r}"
    if isinstance(value, dict):
        return value
    return {**({"digest": reply[:8].decode()} if start else {}), "values": value}


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
            0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}  # fmt: skip
_SIZED = {0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4), 0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4),
          0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2), 0xDF: ("map", 4)}  # fmt: skip


def _unpacked(data: bytes, at: int) -> tuple[Json, int]:
    """Return the msgpack value at a position, and where it ends. No library tells a whole float from an int."""
    lead, at = data[at], at + 1
    if lead < 0x80 or lead >= 0xE0:
        return lead - 256 * (lead >= 0xE0), at
    if lead in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[lead], at
    if lead in _NUMBERS:
        size = struct.calcsize(_NUMBERS[lead])
        (number,) = struct.unpack_from(_NUMBERS[lead], data, at)
        return _number(number), at + size
    if lead in _SIZED:
        kind, width = _SIZED[lead]
        size, at = int.from_bytes(data[at : at + width]), at + width
    else:
        kind = "map" if lead < 0x90 else "array" if lead < 0xA0 else "str"
        size = lead & (0x1F if kind == "str" else 0x0F)
    if kind in ("bin", "str"):
        content = data[at : at + size]
        return content.decode() if kind == "str" else {"hex": content.hex()}, at + size
    items: list[Json] = []
    for _ in range(size * (2 if kind == "map" else 1)):
        item, at = _unpacked(data, at)
        items.append(item)
    return items if kind == "array" else {"map": _sorted_pairs(items)}, at


def _number(number: Any) -> Json:
    if isinstance(number, float):
        return {"float": repr(number)}
    return number if abs(number) <= 2**53 else {"int": str(number)}


def _sorted_pairs(items: Sequence[Json]) -> dict[str, Json]:
    return dict(sorted((items[at], items[at + 1]) for at in range(0, len(items), 2)))
