"""The shapes of replies. A reply of another shape means that a link has lost its place in the order of replies."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from featurestore.errors import BadReplyError, FeatureStoreError

Fits = Callable[[Any, bytes], bool]
"""Whether a reply, which is no error, may be the one to that encoded call."""

Take = Callable[[Any], Any]
"""Makes of a reply what its caller wants."""

_ARRAY_16, _ARRAY_32, _FIXED_ARRAYS = 0xDC, 0xDD, range(0x90, 0xA0)  # msgpack's heads of arrays
_MAPS = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})
_ROW = re.compile(rb"(?:.{8})?[\x90-\x9f\xdc\xdd]", re.DOTALL)  # by layout, its 8 bytes stand in front
_TEXTS = frozenset({bytes, type(None)})
_MOST = b"\r\n?most="
PLAIN = frozenset({bytes, int, type(None), list})
"""The types of replies in RESP2 that are no errors."""

HEAD_BYTES = 128
"""An EVALSHA's words up to the number of its keys take fewer."""

_SHOWN = 40


class Expected(Protocol):
    """What those who wait for replies expect of them."""

    @property
    def name(self) -> str:
        """What was called."""

    def misfit(self, replies: Sequence[Any]) -> str | None:
        """Return what is wrong with the replies, None where nothing is."""


class Answers:
    """The replies to encoded calls, one each; an error reply may be the one to any.

    Args:
        name: What was called.
        fits: Tells which replies may be.
        encoded: The calls.

    Attributes:
        name: What was called.
    """

    __slots__ = ("_encoded", "_fits", "name")

    def __init__(self, name: str, fits: Fits, encoded: Sequence[bytes]) -> None:
        self.name, self._fits, self._encoded = name, fits, encoded

    def misfit(self, replies: Sequence[Any]) -> str | None:
        """Return what is wrong with the replies, None where nothing is."""
        fits = self._fits
        for encoded, reply in zip(self._encoded, replies, strict=True):
            if not isinstance(reply, FeatureStoreError) and not fits(reply, encoded):
                return unfit(self.name, reply)
        return None


def unfit(name: str, reply: Any) -> str:
    """Return what to say of a reply that is none to a call of `name`."""
    return f"Redis sent what cannot be a reply to {name}: {_shown(reply)}"


def _shown(reply: Any) -> str:
    """Return what a reply is, in a few words however large it is."""
    if isinstance(reply, bytes):
        return f"{reply[:_SHOWN]!r}" + ("…" if len(reply) > _SHOWN else "")
    if isinstance(reply, list):
        return f"an array of {len(reply)}"
    if isinstance(reply, Exception):
        return f"the error {str(reply)[:_SHOWN]!r}"
    return f"the number {reply}" if type(reply) is int else "nil" if reply is None else f"a {type(reply).__name__}"


# Scripts


def any_plain(reply: Any, _encoded: bytes = b"") -> bool:
    """Take whatever RESP2 has: no map, no push message, no boolean."""
    return type(reply) in PLAIN


def a_row(reply: Any, _encoded: bytes) -> bool:
    """Take a msgpack array, with or without a layout in front, such a row with named features or its age, or nil."""
    return reply is None or (type(reply) is bytes and _is_row(reply)) or _is_named(reply) or _is_aged(reply)


def rows(reply: Any, encoded: bytes) -> bool:
    """Take as many strings or nils as the call asks for, or rows in an array, or one msgpack array of as many.

    Rows are arrays that have named features or their age beside them. Where the call has `?most`, 0 stands for a row.
    """
    asked = _keys_of(encoded) - 2
    if type(reply) is not list:
        return type(reply) is bytes and _array_length(reply) == asked
    if len(reply) != asked:
        return False
    if _TEXTS.issuperset(map(type, reply)):
        return True
    if _MOST in encoded:
        reply = [each for each in reply if type(each) is not int or each != 0]
    return (
        _TEXTS.issuperset(map(type, reply))
        or all(each is None or _is_named(each) for each in reply)
        or all(each is None or _is_aged(each) for each in reply)
    )


def outcomes(reply: Any, encoded: bytes) -> bool:
    """Take what became of each row: how many were written and skipped, those rejected, and perhaps a letter each."""
    return _are_outcomes(reply, _keys_of(encoded) - 2)


def counted(reply: Any, encoded: bytes) -> bool:
    """Take what became of each entry, as `outcomes` does; the call has one key more."""
    return _are_outcomes(reply, _keys_of(encoded) - 3)


def _are_outcomes(reply: Any, count: int) -> bool:
    if type(reply) is not list or len(reply) not in {3, 4}:
        return False
    written, skipped, rejected, *letters = reply
    return (
        _is_count(written)
        and _is_count(skipped)
        and type(rejected) is list
        and written + skipped + len(rejected) == count
        and all(_is_rejected(each, count) for each in rejected)
        and all(type(each) is bytes and len(each) == count for each in letters)
    )


def replaced(reply: Any, encoded: bytes) -> bool:
    """Take how many rows were written, the positions of the others, and perhaps a letter for each row."""
    if type(reply) is not list or len(reply) not in {2, 3}:  # written, left, letters
        return False
    written, left, *letters = reply
    count = _keys_of(encoded) - 2
    if letters and not (type(letters[0]) is bytes and len(letters[0]) == count and set(letters[0]) <= set(b"CADL")):
        return False
    return (
        _is_count(written)
        and type(left) is list
        and written + len(left) == count
        and all(_is_count(each) and each < count for each in left)
    )


def a_map(reply: Any, _encoded: bytes) -> bool:
    """Take a msgpack map."""
    return type(reply) is bytes and len(reply) > 0 and reply[0] in _MAPS


def a_number(reply: Any, _encoded: bytes) -> bool:
    """Take an integer."""
    return type(reply) is int


def tokens(reply: Any, _encoded: bytes) -> bool:
    """Take three integers: tokens, ms, and tokens that are left."""
    return type(reply) is list and [type(each) for each in reply] == [int, int, int]


def letters(reply: Any, encoded: bytes) -> bool:
    """Take a letter for each entity."""
    return type(reply) is bytes and len(reply) == _keys_of(encoded) - 2 and set(reply) <= set(b"CAPSW")


def _is_row(packed: bytes) -> bool:
    return _ROW.match(packed) is not None


def _is_named(row: Any) -> bool:
    """Return whether it is a row with the array of the features that were named behind its layout."""
    if type(row) is not list or len(row) != 2:  # noqa: PLR2004 - both
        return False
    packed, named = row
    return type(packed) is type(named) is bytes and bool(_ROW.match(packed) and _ROW.match(named))


def _is_aged(row: Any) -> bool:
    """Return whether it is a row with its event time, its age, a letter a value, and the values' event times.

    Behind them stands the array of the features that were named behind a layout.
    """
    if type(row) is not list or len(row) not in {5, 6}:
        return False
    packed, event_time, age_ms, letters, times, *named = row
    return (
        type(packed) is type(letters) is bytes
        and _is_row(packed)
        and type(times) is list
        and all(each is None or type(each) is int for each in (event_time, age_ms, *times))
        and all(type(each) is bytes and _is_row(each) for each in named)
    )


def _is_rejected(row: Any, count: int) -> bool:
    return (
        type(row) is list
        and len(row) == 3  # noqa: PLR2004 - position, code, reason
        and _is_count(row[0])
        and row[0] < count
        and type(row[1]) is type(row[2]) is bytes
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _array_length(encoded: bytes) -> int:
    """Return how many elements a msgpack array has; -1 for what is none."""
    first = encoded[0] if encoded else 0
    if first in _FIXED_ARRAYS:
        return first - _FIXED_ARRAYS.start
    width = {_ARRAY_16: 2, _ARRAY_32: 4}.get(first, 0)
    return int.from_bytes(encoded[1 : 1 + width]) if width else -1


def _keys_of(encoded: bytes) -> int:
    """Return how many keys an EVALSHA has."""
    return int(encoded[:HEAD_BYTES].split(b"\r\n", 7)[6])


# Commands


def _a_text(reply: Any, _encoded: bytes) -> bool:
    return type(reply) is bytes


def _a_text_or_nil(reply: Any, _encoded: bytes) -> bool:
    return type(reply) in _TEXTS


def _pairs(reply: Any, _encoded: bytes) -> bool:
    return type(reply) is list and len(reply) % 2 == 0 and _TEXTS.issuperset(map(type, reply))


def _a_time(reply: Any, _encoded: bytes) -> bool:
    return type(reply) is list and len(reply) == 2 and all(type(each) is bytes and each.isdigit() for each in reply)  # noqa: PLR2004 - s and us


def _a_page(reply: Any, _encoded: bytes) -> bool:
    return (
        type(reply) is list
        and len(reply) == 2  # noqa: PLR2004 - cursor and elements
        and type(reply[0]) is bytes
        and type(reply[1]) is list
        and _TEXTS.issuperset(map(type, reply[1]))
    )


_COMMANDS: Mapping[str, Fits] = {
    "HGET": _a_text_or_nil,
    "HGETALL": _pairs,
    "INFO": _a_text,
    "PING": _a_text,
    "SCARD": a_number,
    "SSCAN": _a_page,
    "TIME": _a_time,
    "TYPE": _a_text,
}


def answer_to_command(words: Sequence[Any], encoded: bytes) -> Answers:
    """Return what may be the reply to a plain command."""
    name = str(words[0]).upper()
    return Answers(name, _COMMANDS.get(name, any_plain), [encoded])


# Reading


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Make whatever goes wrong in reading the reply to `what` an error of the package.

    For replies that fit by their shape and still cannot be read, the schema having been read again: damaged rows.
    """
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, msgspec.MsgspecError) as error:
        raise BadReplyError(f"the reply to {what} cannot be read: {error}") from error
