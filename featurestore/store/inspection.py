"""What people look at: a sample of the known ids, and what the hash of an id holds.

Reads by scripts answer what is served. These are plain commands that show what is there, all in one write.
"""

from collections.abc import Sequence
from random import sample
from typing import Any

import msgspec

from featurestore.contract.hashes import is_window, read_words, stored_entity
from featurestore.contract.scripts import Script
from featurestore.errors import AccessDeniedError, FeatureStoreError
from featurestore.keys import Keys
from featurestore.schema.stored import Schema
from featurestore.schema.types import vector_length
from featurestore.store.blocking import FeatureStore
from featurestore.store.publishing import Commands

_COMMANDS = Script("inspection", "", "", writes=False)
"""Stands for a script where plain commands leave in one write."""

_LAYOUT_BYTES = 8
_ROW_AT = 1  # in the reply to `read_words`
_EACH = 4  # commands an id


class Sample(msgspec.Struct, frozen=True):
    """Some of the known ids.

    Attributes:
        known: How many ids are known.
        ids: The sampled ones, each once. Ids that are no text are left out.
    """

    known: int
    ids: list[str]


class StoredState(msgspec.Struct, frozen=True):
    """What Redis holds at the key of an id.

    Attributes:
        known: Whether the id is in the set of known ids.
        row: The packed row's state. `current`: of the schema's layout. `older`: of another one, so that reads make it
            anew. `missing`: there are features, but no row. `deleted`: a tombstone. `nothing`: there is no hash.
            `no hash`: the key holds something else.
        layout: The layout that the row is of.
        row_bytes: How long the row is.
        fields: How many fields the hash has.
        expires_ms: In how many ms it expires; None for never, or where that cannot be told.
        event_time: The newest of its event times, in ms.
        deleted: When it was last deleted, in ms.
        event_times: Feature → event time in ms, of those whose time differs from `event_time`.
        texts: Feature → the stored text; None where nothing is stored. Vectors and windows are left out.
    """

    known: bool
    row: str
    layout: str | None = None
    row_bytes: int = 0
    fields: int | None = None
    expires_ms: int | None = None
    event_time: int | None = None
    deleted: int | None = None
    event_times: dict[str, int] = {}
    texts: dict[str, str | None] = {}


def sampled(store: FeatureStore, most: int) -> Sample:
    """Return at most so many of the known ids, picked at random.

    In a cluster every partition gives its share, so that ids of small partitions are a little more likely.
    """
    parts = store.parts()
    each = -(-most // len(parts))
    words = [
        command
        for part in parts
        for command in (("SCARD", part.members), ("SRANDMEMBER", part.members, each))
    ]  # fmt: skip
    replies = [_checked(reply) for reply in store.transport.run_many_encoded(_COMMANDS, Commands(words))]
    texts = [text for raw in replies[1::2] for each_id in raw if (text := _text(each_id)) is not None]
    return Sample(sum(replies[::2]), texts if len(texts) <= most else sample(texts, most))


def stored_states(store: FeatureStore, ids: Sequence[str]) -> tuple[Schema, list[StoredState]]:
    """Return the schema, and what is stored of each id.

    Raises:
        NoSchemaError: The entity has no schema.
        BadIdError: An id is empty or too long.
    """
    schema = store.schema()
    names = [name for name, kind in schema.features.items() if vector_length(kind) is None and not is_window(kind)]
    words = [command for each in ids for command in _asked(store.keys.holding(each.encode()), each, names)]
    replies = store.transport.run_many_encoded(_COMMANDS, Commands(words))
    groups = [replies[first : first + _EACH] for first in range(0, len(replies), _EACH)]
    return schema, [_state_of(schema.layout, names, group) for group in groups]


def _asked(part: Keys, entity_id: str, names: Sequence[str]) -> list[tuple[Any, ...]]:
    key = part.features(entity_id)
    return [read_words(key, names), ("SISMEMBER", part.members, entity_id), ("HLEN", key), ("PTTL", key)]


def _state_of(layout: str, names: Sequence[str], replies: Sequence[Any]) -> StoredState:
    fields, known, count, expires = replies
    known = _checked(known) == 1
    if isinstance(fields, FeatureStoreError) and str(fields).startswith("WRONGTYPE"):
        return StoredState(known, "no hash")
    stored = stored_entity(_checked(fields))
    if stored is None:
        return StoredState(known, "nothing")
    row = fields[_ROW_AT]
    found = None if row is None or stored.deleted else row[:_LAYOUT_BYTES].decode(errors="replace")
    state = "deleted" if stored.deleted else "missing" if row is None else "current" if found == layout else "older"
    left = _permitted(expires)
    return StoredState(
        known,
        state,
        found,
        len(row or b""),
        _permitted(count),
        left if left is not None and left >= 0 else None,
        stored.event_time,
        stored.floor,
        dict(stored.times),
        {
            name: None if text is None else text.decode(errors="replace")
            for name, text in zip(names, stored.texts, strict=True)
        },
    )


def _checked(reply: Any) -> Any:
    if isinstance(reply, FeatureStoreError):
        raise reply
    return reply


def _permitted(reply: Any) -> Any:
    """Return a reply; None where this Redis user may not ask that, which a reader of features need not."""
    return None if isinstance(reply, AccessDeniedError) else _checked(reply)


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
