"""Rows to calls of upsert_features, and its replies to one result."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from featurestore.contract.resp import Reply, Word
from featurestore.contract.words import EVENT_TIME, LEAVE, VERDICTS, encode_id, to_text, to_time
from featurestore.errors import BadIdError, BadTimeError, FeatureStoreError, UnconfirmedWriteError, UnsuitableValueError
from featurestore.keys import MAX_ID_BYTES, Keys
from featurestore.schema.values import shown

_PLAIN_TYPES = {"float": (float, int), "int": (int,), "string": (str,)}
"""Feature type → Python types whose values hiredis writes as the script wants them."""

_PLAIN_ROWS = frozenset({tuple, list})

_LEAST_INT, _MOST_INT = -(2**63), 2**63 - 1


class RejectedRow(msgspec.Struct, frozen=True):
    """A row that was not written.

    Attributes:
        row: Its position among the rows given, from 0.
        code: BADARGS, BADID, BADTIME, BADTYPE, UNDECLARED or WRONGTYPE.
        reason: What was wrong, with the value.
    """

    row: int
    code: str
    reason: str


class UpsertResult(msgspec.Struct):
    """What became of the rows of an upsert.

    Attributes:
        written: How many were written.
        skipped: How many were left out because all their values are older than the stored ones.
        rejected: The rejected rows, by position.
        unconfirmed: How many of the rows that were not rejected are in doubt: they are as they were wanted on the
            primary, but fewer replicas than FEATURESTORE_WAIT_REPLICAS confirmed it in time. To write them again is
            safe; events need ids for that.
        verdicts: A letter for each row, see `VERDICTS`; empty unless asked for.
        tally: Letter → how many rows, without those that were rejected; empty unless verdicts were asked for.
        doubt: Why rows are unconfirmed; empty where none are.
    """

    written: int = 0
    skipped: int = 0
    rejected: list[RejectedRow] = msgspec.field(default_factory=list)
    verdicts: str = ""
    tally: dict[str, int] = msgspec.field(default_factory=dict)
    unconfirmed: int = 0
    doubt: str = ""

    def note_unconfirmed(self, rows: int, doubt: str) -> None:
        """Count rows that are in doubt, and keep why."""
        self.unconfirmed += rows
        if rows:
            self.doubt = self.doubt or doubt

    def check_confirmed(self) -> None:
        """Return if no row is in doubt.

        Raises:
            UnconfirmedWriteError: Some are; this result is with it.
        """
        if self.unconfirmed:
            raise UnconfirmedWriteError(self.doubt, self)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each verdict: `created`, `applied`, `partly stale`, `stale`, `duplicate`, `rejected`."""
        return {word: self.tally.get(letter, 0) for letter, word in VERDICTS.items()} | {"rejected": len(self.rejected)}


def count(tally: dict[str, int], letters: str) -> None:
    """Add up verdicts; rejected rows and rows that were left have none."""
    for letter in VERDICTS.keys() - {"R"}:
        found = letters.count(letter)
        if found:
            tally[letter] = tally.get(letter, 0) + found


class UpsertCall(msgspec.Struct, frozen=True):
    """One call of upsert_features; `positions` has the position of each of its rows among all rows given."""

    keys: Sequence[Word]
    arguments: Sequence[Word]
    positions: Sequence[int]


class Upsert:
    """One upsert under way: makes the calls, and adds up in `result` what became of the rows.

    Rows that cannot be sent are rejected here: a bad id, a value of the wrong Python type, an undeclared feature, too
    few values. The script checks the text of each value.

    Args:
        declared: Declared feature → its type.
        columns: The names of the values behind each row's id.
        event_time: The event time of rows that have none of their own.
        options: Options of the script, which stand before the names; `?verdicts` fills `tally`.
        verdicts: Whether to keep the letter of each row as well.
    """

    def __init__(
        self,
        declared: Mapping[str, str],
        columns: Sequence[str],
        event_time: int | str | datetime | None,
        *,
        options: Sequence[str] = (),
        verdicts: bool = False,
    ) -> None:
        self.result = UpsertResult()
        self._columns = columns
        self._timed = EVENT_TIME in columns[:1]
        self._kinds = [declared.get(name, "") for name in columns]
        known = [index for index, name in enumerate(columns, 1) if name in declared or (self._timed and index == 1)]
        self._undeclared = [index for index in range(1, len(columns) + 1) if index not in known]
        names = [columns[index - 1] for index in known]
        self._positions: dict[tuple[type, ...], tuple[list[int], ...]] = {}
        self._verdicts: dict[int, str] = {}
        self._wants_verdicts = verdicts
        self._last_positions: dict[Word, int] = {}
        words = [*options, *names]
        self._head: list[Word] = [to_time(event_time), len(words), *words]

    def call(self, keys: Keys, rows: Sequence[Sequence[Any]], among: Sequence[int]) -> UpsertCall:
        """Return the call that writes `rows`.

        Args:
            keys: The keys of the partition that has these rows; on a single Redis, of the entity.
            rows: The rows.
            among: Their positions among all rows.
        """
        words_of_keys: list[Word] = [keys.members, keys.schema]
        arguments = self._head.copy()
        positions = []
        key_of = keys.features
        for position, row in zip(among, rows, strict=True):
            words = self._plain_words(row) or self._words(position, row)
            if words:
                words_of_keys.append(key_of(row[0] if type(row[0]) is str else words[0].decode()))
                arguments += words
                positions.append(position)
        return UpsertCall(words_of_keys, arguments, positions)

    def settle(self, call: UpsertCall, reply: Reply) -> None:
        """Add one call's reply to the result; raise an error reply to the whole call."""
        if isinstance(reply, UnconfirmedWriteError):
            before = self.result.written + self.result.skipped
            self.settle(call, reply.result)
            self.result.note_unconfirmed(self.result.written + self.result.skipped - before, str(reply))
            return
        if isinstance(reply, FeatureStoreError):
            raise reply
        written, skipped, rejected = reply[:3]
        if len(reply) > 3:  # noqa: PLR2004 - with verdicts
            letters = reply[3].decode()
            kept = self._take_letters(call, letters)
            if len(kept) < len(letters):
                skipped = kept.count("S")
                written = len(kept) - skipped - kept.count("R")
        self.result.written += written
        self.result.skipped += skipped
        for row, code, reason in rejected:
            self._reject(call.positions[row], code.decode(), reason.decode(errors="replace"))

    def _take_letters(self, call: UpsertCall, letters: str) -> str:
        """Count the letters of rows; of one that is written in steps, as its times tell, the first. Return these."""
        positions, members = call.positions, call.keys[0]  # the steps of a row follow each other in its partition
        last = self._last_positions.get(members, -1)
        if positions[0] == last or len(set(positions)) < len(positions):
            before = (last, *positions)
            pairs = zip(before, positions, letters, strict=False)
            letters = "".join(letter for earlier, position, letter in pairs if position != earlier)
        elif self._wants_verdicts:
            self._verdicts.update(zip(positions, letters, strict=True))
        self._last_positions[members] = positions[-1]
        count(self.result.tally, letters)
        return letters

    def finish(self) -> UpsertResult:
        """Return the result, once all calls are settled."""
        self.result.rejected.sort(key=lambda rejected: rejected.row)
        if self._wants_verdicts:
            self._verdicts.update((rejected.row, "R") for rejected in self.result.rejected)
            self.result.verdicts = "".join(self._verdicts[row] for row in range(len(self._verdicts)))
        return self.result

    def _plain_words(self, row: Sequence[Any]) -> list[Any] | None:
        """Return the words of a row whose types passed the full check before, else None: the common case, quickly.

        hiredis writes floats and ints as `to_text` does.
        """
        positions = self._positions.get(tuple(map(type, row))) if type(row) in _PLAIN_ROWS else None
        if positions is None:
            return None
        words = list(row)
        if self._timed and not words[1]:  # empty text is no time of its own
            return None
        texts, ints, floats = positions
        for index in floats:
            if words[index] != words[index]:
                return None
        for index in ints:
            if not _LEAST_INT <= words[index] <= _MOST_INT:  # hiredis does not survive very long ones
                return None
        try:
            for index in texts:
                words[index] = words[index].encode()
        except UnicodeEncodeError:
            return None
        return words if 0 < len(words[0]) <= MAX_ID_BYTES else None

    def _words(self, position: int, row: Sequence[Any]) -> list[Any]:
        """Return a row's words; an empty list after rejecting it."""
        wrong = self._wrong_shape(row)
        if wrong:
            return self._reject(position, "BADARGS", wrong)
        try:
            entity_id = encode_id(row[0])
            values = [self._text_of(index, value) for index, value in enumerate(row[1:], 1)]
        except BadTimeError as error:
            return self._reject(position, "BADTIME", str(error))
        except BadIdError as error:
            return self._reject(position, "BADID", str(error))
        except UnsuitableValueError as error:
            return self._reject(position, "BADTYPE", str(error))
        for index in reversed(self._undeclared):
            if values.pop(index - 1) is not LEAVE:
                reason = f"{self._columns[index - 1]} is not declared in the schema"
                return self._reject(position, "UNDECLARED", reason)
        if not self._undeclared:
            self._remember(tuple(map(type, row)))
        return [entity_id, *values]

    def _wrong_shape(self, row: object) -> str | None:
        """Return what is wrong with a row's shape; None if nothing is."""
        if not isinstance(row, tuple | list) or not row:
            return f"a row is an id and its values, not {shown(row)}"
        if len(row) != len(self._columns) + 1:
            return f"{len(row) - 1} values for {len(self._columns)} features"
        return None

    def _remember(self, types: tuple[type, ...]) -> None:
        """Let later rows with these types take the quick way, if all of them are plain types."""
        for index, kind in enumerate(types[1:], 1):
            wanted = (str, int) if self._timed and index == 1 else _PLAIN_TYPES.get(self._kinds[index - 1], ())
            if kind not in wanted:
                return
        if types[0] is str:
            self._positions[types] = tuple(
                [index for index, kind in enumerate(types) if kind is wanted] for wanted in (str, int, float)
            )

    def _text_of(self, index: int, value: object) -> str | bytes:
        if self._timed and index == 1:
            return to_time(value)
        kind = self._kinds[index - 1]
        if not kind:  # undeclared: all that matters is whether the row has a value here
            return LEAVE if value is LEAVE else b""
        try:
            return to_text(kind, value)
        except UnsuitableValueError as error:
            raise UnsuitableValueError(f"{self._columns[index - 1]} {error}") from None

    def _reject(self, row: int, code: str, reason: str) -> list[Any]:
        """Note a rejected row, and return an empty list in place of its words."""
        self.result.rejected.append(RejectedRow(row, code, reason))
        return []
