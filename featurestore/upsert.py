"""From rows to calls of upsert_features and from its replies to one result."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from featurestore.errors import BadArgumentsError, FeatureStoreError
from featurestore.keys import Keys
from featurestore.text import LEAVE, UnsuitableValueError, encode_id, to_text
from featurestore.transport import Reply, Word

_MOST_EVENT_TIME = 10**15


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
        self._head: list[Word] = [_event_time_word(event_time), len(names), *names]

    def call(self, rows: Sequence[Sequence[Any]], start: int) -> UpsertCall:
        """Return the call that writes `rows`, the first of which is number `start` of all."""
        keys: list[Word] = [self._keys.members, self._keys.schema]
        arguments = self._head.copy()
        positions = []
        key_of, width = self._keys.features, len(self._columns) + 1
        for position, row in enumerate(rows, start):
            try:
                if len(row) != width:
                    raise BadArgumentsError(f"{len(row) - 1} values for {width - 1} features")  # noqa: TRY301
                entity_id = encode_id(row[0])
                values = [to_text(value) for value in row[1:]]
            except UnsuitableValueError as error:
                self._reject(position, "BADTYPE", str(error))
                continue
            except BadArgumentsError as error:
                self._reject(position, "BADARGS" if len(row) != width else "BADID", str(error))
                continue
            if self._undeclared and not self._drop_undeclared(position, values):
                continue
            keys.append(key_of(row[0]))
            arguments.append(entity_id)
            arguments += values
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

    def _drop_undeclared(self, position: int, values: list[str | bytes]) -> bool:
        """Take the undeclared columns out of a row's values, or reject the row when it has a value there."""
        for index in reversed(self._undeclared):
            if values.pop(index - 1) != LEAVE:
                self._reject(position, "UNDECLARED", f"{self._columns[index - 1]} is not declared in the schema")
                return False
        return True

    def _reject(self, row: int, code: str, reason: str) -> None:
        self.result.rejected.append(RejectedRow(row, code, reason))


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
