"""Calls as replicas are asked to run them, and what of their replies is to be asked of the primary."""

from collections.abc import Callable
from typing import Any

import msgspec

from featurestore.contract.partitioned_calls import READS
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH, Script
from featurestore.errors import FeatureStoreError, RedisError

_NIL = b"\xc0"
_RAW_ROWS = msgspec.msgpack.Decoder(list[msgspec.Raw])
_ARRAYS = (*range(0x90, 0xA0), 0xDC, 0xDD)  # what arrays of msgpack begin with
_LETTERS, _LETTERS_AT = frozenset(b"PMDS"), 3
_LIMIT = 40  # the command's name stands in front of this
_FORMS = ((b"$7\r\nEVALSHA\r\n", b"$10\r\nEVALSHA_RO\r\n"), (b"$5\r\nFCALL\r\n", b"$8\r\nFCALL_RO\r\n"))

Lacks = Callable[[Any], bool]
"""Whether a reply says that an id is not known."""


def as_read_only(encoded: bytes) -> bytes:
    """Return a call as EVALSHA_RO or FCALL_RO, which users who may only read are permitted."""
    for form, read_only in _FORMS:
        if form in encoded[:_LIMIT]:
            return encoded.replace(form, read_only, 1)
    return encoded


def is_unknown_command(reply: FeatureStoreError) -> bool:
    """Return whether a server has no EVALSHA_RO: Redis before 7.0."""
    return isinstance(reply, RedisError) and str(reply).startswith("ERR unknown command")


def lacking(script: Script) -> Lacks | None:
    """Return what tells of a script's replies whether an id is not known; None where no reply can tell that."""
    if script is GET_FEATURES:
        return _is_nil
    if script is READS:
        return _lacks_some
    return _has_nil if script is GET_FEATURES_BATCH else None


def _is_nil(reply: Any) -> bool:
    return reply is None


def _has_nil(reply: Any) -> bool:
    if isinstance(reply, list):
        return None in reply
    if not isinstance(reply, bytes) or _NIL not in reply:
        return False
    return any(bytes(row) == _NIL for row in _RAW_ROWS.decode(reply))


def _lacks_some(reply: Any) -> bool:
    """Return whether a reply to a call for one id, or for several, says that one is not known; its form tells which.

    A row of named features that are all missing looks like ids that are all unknown: it is asked for again.
    """
    if isinstance(reply, list):
        return None in reply and not _is_row_with_metadata(reply)
    if not isinstance(reply, bytes):
        return reply is None
    if _NIL not in reply or reply[0] not in _ARRAYS:
        return False
    try:
        rows = list(map(bytes, _RAW_ROWS.decode(reply)))
    except msgspec.DecodeError:  # its caller will say so
        return False
    return _NIL in rows and all(row == _NIL or row[0] in _ARRAYS for row in rows)


def _is_row_with_metadata(reply: list[Any]) -> bool:
    """Return whether that is get_features' reply: its times may be nil."""
    letters = reply[_LETTERS_AT] if len(reply) > _LETTERS_AT else None
    return isinstance(letters, bytes) and _LETTERS.issuperset(letters)
