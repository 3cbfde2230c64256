"""What the hashes of entities hold, read as it is stored: no default filled in, no value hidden for its age.

The scripts answer what is served. Exports and comparisons need what is there, so they take the fields themselves, by
plain HMGETs that leave together. The texts are cast by the rules of lua/include/parse.lua. The event times that differ
from the entity's come from the head of its packed row (lua/include/row_format.lua), which all layouts have alike.
"""

import math
import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from featurestore.contract.resp import Reply, Word
from featurestore.contract.scripts import Script
from featurestore.contract.words import EVENT_TIME
from featurestore.schema.types import vector_length

_STATE = (EVENT_TIME, "@row", "@floor")
_DELETED = b"deleted"
_OLDER = re.compile(rb"[0-9]*\|([^|]*)\|")
_LAYOUT_BYTES = 8
_MOST_TIME = 10**15
_FLOAT = re.compile(rb"-?[1-9][0-9.eE+-]*|-?0[.eE][0-9.eE+-]*|-?0")
_INT = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_LEAST_INT, _MOST_INT = -(2**63), 2**63 - 1
_BOOLS: Mapping[bytes, bool] = {b"true": True, b"1": True, b"false": False, b"0": False}
_FLOAT32_BYTES = 4


class StoredEntity(msgspec.Struct, frozen=True, gc=False):
    """What one hash holds.

    Attributes:
        event_time: The newest of its event times, in ms; None where there is none. Of a deleted entity, when that was.
        deleted: Whether it is the tombstone of a deleted entity, and holds no features.
        texts: What is stored of each feature that was asked for; None where nothing is.
        times: Feature → event time in ms, of those whose time differs from `event_time` and those that were removed.
        floor: When the entity was last deleted, in ms; None if it was not.
    """

    event_time: int | None
    deleted: bool
    texts: Sequence[bytes | None]
    times: Mapping[str, int]
    floor: int | None = None


def is_window(kind: str) -> bool:
    """Return whether features of this type count events, so that what is stored of them is no value."""
    return kind.startswith(("count(", "sum("))


def read_words(key: Word, features: Sequence[str]) -> tuple[Word, ...]:
    """Return the command that reads these features at an entity's key, and its state."""
    return ("HMGET", key, *_STATE, *features)


def known_words(members: str, ids: Sequence[bytes]) -> tuple[Word, ...]:
    """Return the command that asks which of these ids are known; the reply has 1 or 0 for each."""
    return ("SMISMEMBER", members, *ids)


def _fits(reply: Any, encoded: bytes) -> bool:
    """Take a text or nil for each field of an HMGET, a number for each id of an SMISMEMBER."""
    count = int(encoded[1 : encoded.index(b"\r")]) - 2
    return type(reply) is list and len(reply) == count


READ_HASHES = Script("HMGET", "", "", writes=False, fits=_fits)
"""Stands for a script where the commands of `read_words` and `known_words` leave in one write."""


def stored_entity(reply: Reply) -> StoredEntity | None:
    """Return what the reply to `read_words` tells; None where nothing is stored at the key."""
    event_time, row, floor, *texts = reply
    if event_time is None and row is None and not any(text is not None for text in texts):
        return None
    return _entity_of(event_time, row, floor, texts)


def _entity_of(
    event_time: bytes | None, row: bytes | None, floor: bytes | None, texts: Sequence[bytes | None]
) -> StoredEntity:
    is_deleted = row == _DELETED
    times = _times_in(row) if row and not is_deleted else {}
    return StoredEntity(_time_of(event_time), is_deleted, texts, times, _time_of(floor))


def state_of(fields: Mapping[bytes, bytes]) -> StoredEntity:
    """Return what all the fields of a hash tell, but for the features."""
    event_time, row, floor = (fields.get(name.encode()) for name in _STATE)
    return _entity_of(event_time, row, floor, ())


def _time_of(text: bytes | None) -> int | None:
    """Return a stored event time; None for none, and for what no script has written."""
    time = int(text) if text is not None and text.isdigit() else None
    return time if time is not None and time < _MOST_TIME else None


def _times_in(row: bytes) -> dict[str, int]:
    """Return the event times in the head of a packed row, by feature."""
    head = _OLDER.match(row, _LAYOUT_BYTES)
    if head is None or not head[1]:
        return {}
    groups = (group.partition("=") for group in head[1].decode(errors="replace").split(";"))
    return {name: int(time) for time, _, names in groups if time.isdigit() for name in names.split(",")}


def caster(kind: str) -> Callable[[bytes], Any]:
    """Return what makes a value of a stored text: None where the text is not of that type.

    A vector stays the bytes of its numbers. Reads of the store follow the same rules.
    """
    length = vector_length(kind)
    return partial(_vector, _FLOAT32_BYTES * length) if length is not None else _CASTERS[kind]


def _float(text: bytes) -> float | None:
    if not _FLOAT.fullmatch(text):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number + 0.0 if math.isfinite(number) else None


def _int(text: bytes) -> int | None:
    number = int(text) if _INT.fullmatch(text) else None
    return number if number is not None and _LEAST_INT <= number <= _MOST_INT else None


def _string(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _vector(size: int, text: bytes) -> bytes | None:
    """Return a vector whose numbers are all finite; doubles hold the sum of any float32s that are."""
    return text if len(text) == size and math.isfinite(sum(array("f", text))) else None


_CASTERS: Mapping[str, Callable[[bytes], Any]] = {"float": _float, "int": _int, "bool": _BOOLS.get, "string": _string}
