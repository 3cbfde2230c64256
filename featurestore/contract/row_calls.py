"""Calls that write plain rows: what upsert_features would make of them in Redis is made here."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from featurestore.contract.resp import Word, encode_command
from featurestore.contract.scripts import LOAD_ENTITIES, REPLACE_ROWS, Script
from featurestore.contract.words import EVENT_TIME
from featurestore.keys import Keys
from featurestore.schema.stored import Schema

_MARK = b"\xff"  # which no name has: it is not UTF-8
_TIME_DIGITS = 15
_MARGIN_MS = 1000  # rows that near their end are for Redis to judge

writer_type: Callable[..., Any] | None
"""The extension's type; None where it was not built, for want of a compiler."""

try:
    from featurestore.native.rows import RowWriter
except ImportError:
    writer_type = None
else:
    writer_type = RowWriter


def row_calls_for(
    keys: Keys, schema: Schema, columns: Sequence[str], event_time: str, now: Callable[[], int]
) -> "RowCalls | None":
    """Return what makes calls for rows with these columns; None where such rows are for upsert_features only.

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
    if writer_type is None or not whole or not schema.scalar or not in_ms:
        return None
    timed = len(features) < len(columns)
    writer = writer_type(
        tuple(features), schema.features, schema.layout.encode(), *keys.features_of_raw(_MARK).split(_MARK), timed,
        -1 if schema.least_max_age_ms is None else schema.least_max_age_ms,
        schema.ttl_ms,
    )  # fmt: skip
    return RowCalls(writer, keys, schema, features, "@" if timed else event_time, now())


class RowCalls:
    """Packs calls for rows that have the same columns, and follows Redis's clock.

    Args:
        writer: Makes the rows' words.
        keys: The entity's keys.
        schema: Its schema.
        features: What the rows give, in their order.
        time: Their event time, in ms since 1970; empty: when they are written; `@`: each has its own.
        now: Redis's time, in ms since 1970.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a call is made of
        self, writer: Any, keys: Keys, schema: Schema, features: Sequence[str], time: str, now: int
    ) -> None:
        self._writer, self._keys = writer, keys
        self._time = int(time) if time.isdigit() else None
        self._lives = schema.least_max_age_ms
        self._load_stride = 3 if schema.ttl_ms else 2
        self._load_options = (schema.layout, self._load_stride)
        self._replace_options: tuple[Word, ...] = (schema.layout, time, len(features), *features)
        self._replace_stride = 2 + (time == "@") + len(features)
        self.follow(now)

    def follow(self, now: int) -> None:
        """Take what Redis's clock shows, in ms since 1970."""
        self._ahead = now - monotonic() * 1000

    def load(self, rows: list[Any]) -> bytes | None:
        """Return the call that brings in those that are new; None where a row is not plain, or near its end.

        Such rows are for upsert_features to judge.
        """
        now = int(monotonic() * 1000 + self._ahead)
        oldest = 0 if self._lives is None else now + _MARGIN_MS - self._lives
        words = self._writer.dump(rows, now if self._time is None else self._time, oldest)
        return words and self._call(LOAD_ENTITIES, len(rows), self._load_stride, self._load_options, words)

    def replace(self, rows: list[Any]) -> bytes | None:
        """Return the call that writes them where nothing is in their way; None where a row is not plain."""
        words = self._writer.fields(rows)
        return words and self._call(REPLACE_ROWS, len(rows), self._replace_stride, self._replace_options, words)

    def _call(
        self, script: Script, count: int, stride: int, options: tuple[Word, ...], words: tuple[bytes, bytes]
    ) -> bytes:
        hashes, rows = words
        fixed = _words("EVALSHA", script.sha, 2 + count, self._keys.members, self._keys.schema)
        total = 5 + len(options) + (1 + stride) * count
        return b"*%d\r\n%b%b%b%b" % (total, fixed, hashes, _words(*options), rows)


def _words(*words: Word) -> bytes:
    """Return words of a command as RESP, without the count that stands before them."""
    return encode_command(words).partition(b"\r\n")[2]
