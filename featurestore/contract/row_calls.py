"""Calls of replace_rows: what upsert_features would make of complete rows in Redis is made here."""

from collections.abc import Callable, Sequence
from typing import Any

from featurestore.contract.resp import Word, encode_command
from featurestore.contract.scripts import REPLACE_ROWS
from featurestore.contract.words import EVENT_TIME
from featurestore.keys import Keys
from featurestore.schema.stored import Schema
from featurestore.schema.types import SCALARS, vector_length

_MARK = b"\xff"  # which no name has: it is not UTF-8
_TIME_DIGITS = 15

writer_type: Callable[..., Any] | None
columns_type: Callable[..., Any] | None
"""The extension's types; None where it was not built, for want of a compiler."""

try:
    from featurestore.native.rows import Columns, RowWriter
except ImportError:
    writer_type = columns_type = None
else:
    writer_type, columns_type = RowWriter, Columns


def row_calls_for(
    schema: Schema, columns: Sequence[str], event_time: str, *, removes: bool = True
) -> "RowCalls | None":
    """Return what encodes rows with these columns; None where such rows are for upsert_features only.

    Args:
        schema: The entity's schema.
        columns: What the rows have behind their ids.
        event_time: Of rows that have none of their own, as the scripts take it.
        removes: Whether a feature without a value is removed; otherwise rows with gaps are for upsert_features.
    """
    timed = EVENT_TIME in columns[:1]
    names = tuple(columns[1:] if timed else columns)
    whole = len(names) == len(schema.features) and schema.features.keys() == set(names)
    in_ms = not event_time or (event_time.isdigit() and len(event_time) <= _TIME_DIGITS)
    if writer_type is None or not whole or not in_ms or not all(map(_is_storable, schema.features.values())):
        return None
    # A row with gaps tells since when. If a schema limits ages, rows have something else in that place.
    removes = removes and not schema.max_ages_ms and (timed or bool(event_time))
    packed = [name for name in schema.features if name in schema.row]
    places = {name: place for place, name in enumerate(names)}
    order = [*packed, *(name for name in schema.features if name not in schema.row)]
    writer = writer_type(
        names,
        tuple(schema.features[name] for name in names),
        tuple(removes and name not in schema.defaults for name in names),
        tuple(places[name] for name in order),
        len(packed),
        schema.layout.encode(),
        event_time.encode(),
        timed,
    )
    return RowCalls(writer, schema, names, "@" if timed else event_time)


def _is_storable(kind: str) -> bool:
    return kind in SCALARS or vector_length(kind) is not None


class RowCalls:
    """Encodes calls of replace_rows for rows that have the same columns.

    Args:
        writer: Encodes the rows.
        schema: The entity's schema.
        features: What the rows give, in their order.
        time: Their event time, in ms since 1970; empty: when they are written; `@`: each has its own.
    """

    def __init__(self, writer: Any, schema: Schema, features: Sequence[str], time: str) -> None:
        self._writer = writer
        options: tuple[Word, ...] = (schema.layout, time, 1 + len(features), "?verdicts", *features)
        self._options, self._fixed_words = _words(*options), 6 + len(options)

    def encode(self, keys: Keys, rows: list[Any]) -> bytes | None:
        """Return the call that writes `rows`; None where one of them is not plain, and for upsert_features to judge.

        Args:
            keys: The keys of the partition that has all these rows; on a single Redis, of the entity.
            rows: The rows.
        """
        encoded = self._writer.encode(rows, *_around_ids(keys))
        return encoded and self._call(keys, len(rows), *encoded)

    def encode_columns(  # noqa: PLR0913 - which rows of what
        self, keys: Keys, columns: "Columns", start: int, stop: int, *, order: Any = None, as_text: bool
    ) -> tuple[bytes | None, list[int]]:
        """Return the call that writes the plain rows of a part of columns, and the places of the other rows.

        Args:
            keys: As for `encode`.
            columns: Ids, event times where rows have their own, and the features in their order.
            start: The first place.
            stop: The place behind the last.
            order: The rows' numbers by their places, as 32-bit ints; if left out, rows are in their own places.
            as_text: Whether columns of text stand for values of any type, as those of CSV do.
        """
        before, after = _around_ids(keys)
        hashes, array, left = self._writer.encode_columns(columns, start, stop, as_text, before, after, order)
        written = stop - start - len(left)
        return (self._call(keys, written, hashes, array) if written else None), left

    def _call(self, keys: Keys, rows: int, hashes: bytes, array: bytes) -> bytes:
        called = _words("EVALSHA", REPLACE_ROWS.sha, 2 + rows, keys.members, keys.schema)
        total = self._fixed_words + rows
        return b"*%d\r\n%b%b%b$%d\r\n%b\r\n" % (total, called, hashes, self._options, len(array), array)


def _around_ids(keys: Keys) -> tuple[bytes, bytes]:
    """Return what stands in front of an id in the keys of features, and what behind it."""
    before, after = keys.features_of_raw(_MARK).split(_MARK)
    return before, after


def _words(*words: Word) -> bytes:
    """Return words of a command as RESP, without the count that stands before them."""
    return encode_command(words).partition(b"\r\n")[2]
