"""Calls of replace_rows: what upsert_features would make of complete rows in Redis is made here."""

from collections.abc import Callable, Sequence
from typing import Any

from featurestore.contract.resp import Word, encode_command
from featurestore.contract.scripts import REPLACE_ROWS
from featurestore.contract.words import EVENT_TIME
from featurestore.keys import Keys
from featurestore.schema.stored import Schema

_MARK = b"\xff"  # which no name has: it is not UTF-8
_TIME_DIGITS = 15

writer_type: Callable[..., Any] | None
"""The extension's type; None where it was not built, for want of a compiler."""

try:
    from featurestore.native.rows import RowWriter
except ImportError:
    writer_type = None
else:
    writer_type = RowWriter


def row_calls_for(keys: Keys, schema: Schema, columns: Sequence[str], event_time: str) -> "RowCalls | None":
    """Return what encodes rows with these columns; None where such rows are for upsert_features only.

    Args:
        keys: The entity's keys.
        schema: Its schema.
        columns: What the rows have behind their ids.
        event_time: Of rows that have none of their own, as the scripts take it.
    """
    features = columns[1:] if EVENT_TIME in columns[:1] else columns
    whole = len(features) == len(schema.features) and schema.features.keys() == set(features)
    in_ms = not event_time or (event_time.isdigit() and len(event_time) <= _TIME_DIGITS)
    if writer_type is None or not whole or not schema.scalar or not in_ms:
        return None
    timed = len(features) < len(columns)
    layout, around = schema.layout.encode(), keys.features_of_raw(_MARK).split(_MARK)
    writer = writer_type(tuple(features), schema.features, layout, *around, timed)
    return RowCalls(writer, keys, schema, features, "@" if timed else event_time)


class RowCalls:
    """Encodes calls of replace_rows for rows that have the same columns.

    Args:
        writer: Encodes the rows.
        keys: The entity's keys.
        schema: Its schema.
        features: What the rows give, in their order.
        time: Their event time, in ms since 1970; empty: when they are written; `@`: each has its own.
    """

    def __init__(self, writer: Any, keys: Keys, schema: Schema, features: Sequence[str], time: str) -> None:
        self._writer, self._keys = writer, keys
        options: tuple[Word, ...] = (schema.layout, time, len(features), *features)
        self._options, self._fixed_words = _words(*options), 6 + len(options)

    def encode(self, rows: list[Any]) -> bytes | None:
        """Return the call that writes `rows`; None where one of them is not plain, and for upsert_features to judge."""
        encoded = self._writer.encode(rows)
        if encoded is None:
            return None
        hashes, array = encoded
        called = _words("EVALSHA", REPLACE_ROWS.sha, 2 + len(rows), self._keys.members, self._keys.schema)
        total = self._fixed_words + len(rows)
        return b"*%d\r\n%b%b%b$%d\r\n%b\r\n" % (total, called, hashes, self._options, len(array), array)


def _words(*words: Word) -> bytes:
    """Return words of a command as RESP, without the count that stands before them."""
    return encode_command(words).partition(b"\r\n")[2]
