"""Calls of load_entities: rows of entities that may be new, made into their hashes here rather than in Redis."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from featurestore.keys import Keys
from featurestore.schema import Schema
from featurestore.scripts import LOAD_ENTITIES
from featurestore.text import EVENT_TIME
from featurestore.transport import Word, pack

_MARK = b"\xff"  # which no name has: it is not UTF-8
_TIME_DIGITS = 15
_MARGIN_MS = 1000  # rows that near their end are for Redis to judge

dumper_type: Callable[..., Any] | None
"""The extension's type; None where it was not built, for want of a compiler."""

try:
    from featurestore._dump import Dumper
except ImportError:
    dumper_type = None
else:
    dumper_type = Dumper


def loader_for(
    keys: Keys, schema: Schema, columns: Sequence[str], event_time: str, now: Callable[[], int]
) -> "Loader | None":
    """Return a loader of rows with these columns; None where such rows are for upsert_features only.

    Args:
        keys: The entity's keys.
        schema: Its schema.
        columns: What the rows have behind their ids.
        event_time: Of rows that have none of their own, as the scripts take it.
        now: Asks for Redis's time, in ms since 1970.
    """
    features = columns[1:] if EVENT_TIME in columns[:1] else columns
    whole = len(features) == len(schema.features) and schema.features.keys() == set(features)
    in_ms = not event_time or (event_time.isdigit() and len(event_time) <= _TIME_DIGITS)
    if dumper_type is None or not whole or not schema.scalar or not in_ms:
        return None
    dumper = dumper_type(
        tuple(features), schema.features, schema.layout.encode(), *keys.features_of_raw(_MARK).split(_MARK),
        len(features) < len(columns), -1 if schema.least_max_age_ms is None else schema.least_max_age_ms,
        schema.ttl_ms,
    )  # fmt: skip
    return Loader(dumper, keys, schema, int(event_time) if event_time else None, now())


class Loader:
    """Packs calls for rows that have the same columns, and follows Redis's clock.

    Args:
        dumper: Makes the hashes.
        keys: The entity's keys.
        schema: Its schema.
        time: The event time of rows that have none of their own, in ms since 1970; None: when they are packed.
        now: Redis's time, in ms since 1970.
    """

    def __init__(self, dumper: Any, keys: Keys, schema: Schema, time: int | None, now: int) -> None:
        self._dumper, self._keys, self._time = dumper, keys, time
        self._lives = schema.least_max_age_ms
        self._stride = 3 if schema.ttl_ms else 2
        self._options = _words(schema.layout, self._stride)
        self.follow(now)

    def follow(self, now: int) -> None:
        """Take what Redis's clock shows, in ms since 1970."""
        self._ahead = now - monotonic() * 1000

    def pack(self, rows: list[Any]) -> bytes | None:
        """Return the call; None where a row is not plain: such rows are for upsert_features to judge."""
        now = int(monotonic() * 1000 + self._ahead)
        oldest = 0 if self._lives is None else now + _MARGIN_MS - self._lives
        dumped = self._dumper.dump(rows, now if self._time is None else self._time, oldest)
        if dumped is None:
            return None
        hashes, words = dumped
        count = len(rows)
        fixed = _words("EVALSHA", LOAD_ENTITIES.sha, 2 + count, self._keys.members, self._keys.schema)
        return b"*%d\r\n%b%b%b%b" % (7 + (1 + self._stride) * count, fixed, hashes, self._options, words)


def _words(*words: Word) -> bytes:
    """Return words of a command as RESP, without the count that stands before them."""
    return pack(words).partition(b"\r\n")[2]
