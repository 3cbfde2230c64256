"""From rows to calls of upsert_features and from its replies to one result."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from featurestore.errors import BadArgumentsError, FeatureStoreError
from featurestore.keys import MAX_ID_BYTES, Keys
from featurestore.text import LEAVE, UnsuitableValueError, encode_id, to_text
from featurestore.transport import Reply, Word

_MOST_EVENT_TIME = 10**15
_PLAIN_TYPES = frozenset({str, float, int})


class RejectedRow(msgspec.Struct, frozen=True):
    """A row that was not written.

    Attributes:
        row: Its position among the rows given, from 0.
        code: BADARGS, BADID, BADTYPE, UNDECLARED or WRONGTYPE.
        reason: What was wrong, with the value.
    """

    row: int
    code: str
    reason: str


class UpsertResult(msgspec.Struct):
    """What became of the rows of an upsert.

    Attributes:
        written: How many were written.
        skipped: How many were left out since a newer event time is stored.
        rejected: Those that were not acceptable, by position.
    """

    written: int = 0
    skipped: int = 0
    rejected: list[RejectedRow] = msgspec.field(default_factory=list)


class UpsertCall(msgspec.Struct, frozen=True):
    """One call of upsert_features; `positions` has the position of each of its rows among all rows given."""

    keys: Sequence[Word]
    arguments: Sequence[Word]
    positions: Sequence[int]


class Upsert:
    """One upsert under way: makes the calls and adds up what became of their rows in `result`.

    A row that cannot be sent (its id, a value that is no feature's, an undeclared feature, too few values) is rejected
    here; what a value must look like is for the script to say.
    """

    def __init__(
        self, keys: Keys, declared: frozenset[str], columns: Sequence[str], event_time: int | datetime | None
    ) -> None:
        self.result = UpsertResult()
        self._keys = keys
        self._columns = columns
        self._undeclared = [index for index, name in enumerate(columns, 1) if name not in declared]
        names = [name for name in columns if name in declared]
        self._text_positions: dict[tuple[type, ...], list[int]] = {}
        self._head: list[Word] = [_event_time_word(event_time), len(names), *names]

    def call(self, rows: Sequence[Sequence[Any]], start: int) -> UpsertCall:
        """Return the call that writes `rows`, the first of which is number `start` of all."""
        keys: list[Word] = [self._keys.members, self._keys.schema]
        arguments = self._head.copy()
        positions = []
        key_of = self._keys.features
        for position, row in enumerate(rows, start):
            words = self._plain_words(row) or self._words(position, row)
            if words:
                keys.append(key_of(row[0]))
                arguments += words
                positions.append(position)
        return UpsertCall(keys, arguments, positions)

    def settle(self, call: UpsertCall, reply: Reply) -> None:
        """Add one call's reply to the result; an error reply to the call as a whole is raised."""
        if isinstance(reply, FeatureStoreError):
            raise reply
        written, skipped, rejected = reply
        self.result.written += written
        self.result.skipped += skipped
        for row, code, reason in rejected:
            self._reject(call.positions[row], code.decode(), reason.decode(errors="replace"))

    def _plain_words(self, row: Sequence[Any]) -> list[Word] | None:
        """Return a row's words when all of its values are plain ones; the common case, which must be quick.

        The packer writes floats and ints as `to_text` does.
        """
        texts = self._text_positions.get(tuple(map(type, row)))
        if texts is None:
            return None
        words = list(row)
        try:
            for index in texts:
                words[index] = words[index].encode()
        except UnicodeEncodeError:
            return None
        return words if 0 < len(words[0]) <= MAX_ID_BYTES else None

    def _words(self, position: int, row: Sequence[Any]) -> list[Word]:
        """Return a row's words, or reject it and return none."""
        if len(row) != len(self._columns) + 1:
            return self._reject(position, "BADARGS", f"{len(row) - 1} values for {len(self._columns)} features")
        try:
            entity_id = encode_id(row[0])
            values = [to_text(value) for value in row[1:]]
        except BadArgumentsError as error:
            return self._reject(position, "BADID", str(error))
        except UnsuitableValueError as error:
            return self._reject(position, "BADTYPE", str(error))
        for index in reversed(self._undeclared):
            if values.pop(index - 1) != LEAVE:
                reason = f"{self._columns[index - 1]} is not declared in the schema"
                return self._reject(position, "UNDECLARED", reason)
        types = tuple(map(type, row))
        if not self._undeclared and _PLAIN_TYPES.issuperset(types):
            self._text_positions[types] = [index for index, kind in enumerate(types) if kind is str]
        return [entity_id, *values]

    def _reject(self, row: int, code: str, reason: str) -> list[Word]:
        """Note a rejected row; it has no words."""
        self.result.rejected.append(RejectedRow(row, code, reason))
        return []


def _event_time_word(event_time: int | datetime | None) -> str:
    """Return the event time as upsert_features takes it: ms since 1970, or nothing."""
    if event_time is None:
        return ""
    if isinstance(event_time, datetime):
        if event_time.tzinfo is None:
            raise BadArgumentsError(f"the event time {event_time} has no time zone")
        event_time = math.floor(event_time.timestamp() * 1000)
    if isinstance(event_time, bool) or not isinstance(event_time, int) or not 0 <= event_time < _MOST_EVENT_TIME:
        raise BadArgumentsError(f"the event time must be ms since 1970, not {event_time!r}")
    return str(event_time)
