"""Entities as a Redis holds them, and what tells two of them apart."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from featurestore.contract.hashes import state_of

_KEY = re.compile(rb"(?:\{[0-9]+\})?([A-Za-z_][A-Za-z0-9_-]{0,63}):(.+):features", re.DOTALL)
_ROW = b"@row"
_SAME_MS = 5000  # two servers' clocks differ, and one without PEXPIRETIME tells by them when a hash expires

Kind = Literal["equal", "missing", "behind", "newer", "different"]
"""What the target has of an entity, seen from the source:

- `equal`: the same.
- `missing`: nothing, or its id is not known.
- `behind`: something older.
- `newer`: something newer.
- `different`: something else of the same event time.
"""


class Held(msgspec.Struct, frozen=True):
    """What a Redis holds of one entity.

    Attributes:
        fields: All fields of its hash.
        known: Whether its id is in the set of known ids.
        expires_ms: When the hash expires, in ms since 1970; None for never.
    """

    fields: Mapping[bytes, bytes]
    known: bool
    expires_ms: int | None

    @property
    def newest(self) -> int:
        """The newest event time of what is held, or of its deletion, in ms; 0 where there is none."""
        state = state_of(self.fields)
        return max(state.event_time or 0, state.floor or 0)

    @property
    def deleted(self) -> bool:
        """Whether it is the tombstone of a deleted entity."""
        return state_of(self.fields).deleted


def entity_in(key: bytes) -> tuple[str, bytes] | None:
    """Return the entity's name and the id that a key of features has; None for other keys."""
    match = _KEY.fullmatch(key)
    return (match[1].decode(), match[2]) if match else None


def compared(source: Held, target: Held | None) -> tuple[Kind, list[str]]:
    """Return what the target has of an entity, and in which fields it differs.

    A packed row is made of the other fields, by the schema that its Redis has, so two are compared by the event times
    in them alone.
    """
    if target is None:
        return "missing", []
    names = _differing(source, target)
    if not names:
        return "equal", []
    ours, theirs = source.newest, target.newest
    if ours == theirs:
        return ("missing" if source.known and not target.known else "different"), names
    return ("behind" if ours > theirs else "newer"), names


def _differing(source: Held, target: Held) -> list[str]:
    fields = [
        name.decode(errors="replace")
        for name in sorted(source.fields.keys() | target.fields.keys())
        if name != _ROW and source.fields.get(name) != target.fields.get(name)
    ]
    ours, theirs = state_of(source.fields), state_of(target.fields)
    if ours.deleted != theirs.deleted or ours.times != theirs.times:
        fields.append("event times")
    if source.known != target.known:
        fields.append("whether its id is known")
    if _apart(source.expires_ms, target.expires_ms) > _SAME_MS:
        fields.append("when it expires")
    return fields


def _apart(one: int | None, other: int | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else float("inf")
    return abs(one - other)


def shown_field(held: Held | None, name: str) -> Any:
    """Return a field for people: text where it is some, else how many bytes."""
    value = held.fields.get(name.encode()) if held else None
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"{len(value)} bytes"
    return text if len(text) <= 64 else f"{text[:61]}…"  # noqa: PLR2004 - a line
