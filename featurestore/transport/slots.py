"""Which hash slot a call or a command is about, read from its bytes."""

from collections.abc import Iterator, Sequence
from typing import overload

from featurestore.contract.resp import Word
from featurestore.keys import slot_of

HEAD = 60
"""So many bytes of an encoded EVALSHA or FCALL have no brace: the first one behind them begins the first key's tag."""

_MOST_KNOWN = 8192  # tags of two entities with the most partitions
_NO_KEY = """ACL AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DBSIZE ECHO FLUSHALL FLUSHDB FUNCTION INFO KEYS
LASTSAVE LATENCY MODULE PING RANDOMKEY ROLE SAVE SCAN SCRIPT SLOWLOG TIME WAIT WAITAOF"""
_WHOLE_CLUSTER = frozenset(_NO_KEY.split())
_SECOND_WORD = frozenset({"MEMORY", "OBJECT", "XGROUP", "XINFO"})
_THIRD_WORD = frozenset({"EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO"})
_KEY_OF_CALL = 3


class Slots:
    """The slots of hash tags that were met already."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}

    def of(self, encoded: bytes) -> int:
        """Return the slot of an encoded call of a script: that of its first key."""
        start = encoded.find(b"{", HEAD)
        tag = encoded[start + 1 : encoded.find(b"}", start)] if start >= 0 else b""
        slot = self._known.get(tag)
        if slot is None:
            key = _word(encoded, _KEY_OF_CALL)
            slot = slot_of(key)
            if tag and b"{%b}" % tag in key and slot_of(tag) == slot:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[tag] = slot
        return slot

    def of_each(self, encoded: Sequence[bytes]) -> list[int]:
        """Return the slot of each of several calls; where they are encoded when they are looked at, they tell it."""
        told: list[int] | None = getattr(encoded, "slots", None)
        return list(map(self.of, encoded)) if told is None else told


def slot_of_command(words: Sequence[Word]) -> int | None:
    """Return the slot of a plain command; None if any node may get it.

    Where the key stands elsewhere, this is a wrong guess, and a redirect tells better.
    """
    name = str(words[0]).upper()
    place = 2 if name in _SECOND_WORD else _KEY_OF_CALL if name in _THIRD_WORD else 1
    if name in _WHOLE_CLUSTER or len(words) <= place:
        return None
    key = words[place]
    return slot_of(key if isinstance(key, bytes) else str(key).encode())


def _word(encoded: bytes, number: int) -> bytes:
    """Return one word of an encoded command."""
    at = encoded.find(b"\n") + 1
    while True:
        end = encoded.find(b"\r", at)
        length = int(encoded[at + 1 : end])
        if not number:
            return encoded[end + 2 : end + 2 + length]
        number -= 1
        at = end + 4 + length


class Part(Sequence[bytes]):
    """Some of the calls of a sequence, each of which is looked at when it is sent.

    Args:
        calls: All calls.
        places: Which of them.
    """

    __slots__ = ("_calls", "_places")

    def __init__(self, calls: Sequence[bytes], places: Sequence[int]) -> None:
        self._calls, self._places = calls, places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[bytes]:
        return map(self._calls.__getitem__, self._places)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "Part": ...
    def __getitem__(self, index: int | slice) -> "bytes | Part":
        if isinstance(index, slice):
            return Part(self._calls, self._places[index])
        return self._calls[self._places[index]]
