"""Many rows to calls of replace_rows and upsert_features, in order, and their replies to one result."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

from featurestore.contract.costs import MOST_US, replace_us, rows_per_call, upsert_us
from featurestore.contract.frames import CHUNK_ROWS
from featurestore.contract.partitions import cuts
from featurestore.contract.resp import Reply, encode_call
from featurestore.contract.row_calls import RowCalls
from featurestore.contract.scripts import REPLACE_ROWS, UPSERT_FEATURES, Script
from featurestore.contract.upsert_calls import Upsert, UpsertCall, UpsertResult, count
from featurestore.errors import FeatureStoreError, UnconfirmedWriteError
from featurestore.keys import EntityKeys, Keys, PartitionedKeys

_logger = logging.getLogger("featurestore.ingest")

MOST_ROWS = 400
"""Most rows in one call, however little they take of Redis's time."""

Row = tuple[int, Sequence[Any]]
"""A row, an id and its values, and its position among all."""


class Encoded(NamedTuple):
    """What became of a part of a table.

    Attributes:
        call: The call of replace_rows that writes its plain rows, None where there is none.
        plain: The places of these in the part.
        left: The places of the others.
    """

    call: bytes | None
    plain: Sequence[int]
    left: Sequence[int]


class Part(Protocol):
    """Some rows of one partition, in order, at most as many as one call may have.

    Attributes:
        keys: The keys of the partition; on a single Redis, of the entity.
        size: How many rows they are.
    """

    keys: Keys
    size: int

    def encode(self, calls: RowCalls) -> Encoded:
        """Return the call that writes the plain rows; no later one of them is of the entity of a row that is left."""

    def rows(self, places: Sequence[int] | None = None) -> Sequence[Row]:
        """Return the rows at these places, all if left out."""


class ListedPart:
    """Rows of Python's objects.

    Args:
        rows: The rows.
        keys: The keys of their partition.
    """

    def __init__(self, rows: list[Row], keys: Keys) -> None:
        self._rows, self.size, self.keys = rows, len(rows), keys

    def encode(self, calls: RowCalls) -> Encoded:
        """Return the call for all rows, if all of them are plain; see `Part`."""
        everything = range(len(self._rows))
        call = calls.encode(self.keys, [row for _, row in self._rows])
        return Encoded(call, everything, ()) if call else Encoded(None, (), everything)

    def rows(self, places: Sequence[int] | None = None) -> Sequence[Row]:
        """Return the rows at these places; see `Part`."""
        return self._rows if places is None else [self._rows[place] for place in places]


def listed_parts(rows: Iterable[Sequence[Any]], size: int, keys: EntityKeys) -> Iterator[Part]:
    """Yield rows in parts of so many, each of one partition of the entity that has these keys.

    In a cluster so many rows are cut at a time as a chunk of columns has: many, so that parts are full.
    """
    source = iter(rows)
    position = 0
    while chunk := list(islice(source, CHUNK_ROWS if isinstance(keys, PartitionedKeys) else size)):
        for cut in cuts(keys, chunk, range(position, position + len(chunk)), size):
            yield ListedPart(list(zip(cut.positions, cut.rows, strict=True)), cut.keys)
        position += len(chunk)


class RowsPerCall(NamedTuple):
    """How many rows are in a call of replace_rows, and how many in one of upsert_features."""

    replace: int
    upsert: int


def rows_in_calls(columns: Sequence[str], features: Mapping[str, str], call_us: float = MOST_US) -> RowsPerCall:
    """Return how many rows are in a call.

    Args:
        columns: What the rows give.
        features: The features of the entity, with their types.
        call_us: µs of Redis's time that a call may take.
    """
    return RowsPerCall(
        rows_per_call(replace_us(features), MOST_ROWS, call_us),
        rows_per_call(upsert_us(columns, features), MOST_ROWS, call_us),
    )


class BulkCall(NamedTuple):
    """A call of a bulk write.

    Attributes:
        script: What is called.
        encoded: The call.
        share: How much of what a call may take of Redis's time it takes; in a cluster, where parts are small, below 1.
    """

    script: Script
    encoded: bytes
    share: float


class Bulk:
    """One write under way: the calls that wait for their replies, and the rows that replace_rows has left.

    Rows that are left wait for a call of upsert_features. A part of the table that is not for replace_rows is sent when
    no row of its partition waits any more, so that an entity's rows keep their order.

    Args:
        upsert: Makes the calls of upsert_features.
        row_calls: Makes those of replace_rows, where there are any.
        in_call: How many rows are in a call.
    """

    def __init__(self, upsert: Upsert, row_calls: RowCalls | None, in_call: RowsPerCall) -> None:
        self._upsert, self._row_calls, self._in_call = upsert, row_calls, in_call
        self._sent: deque[UpsertCall | tuple[Part, Sequence[int]]] = deque()
        self._left: dict[Keys, list[Row]] = {}

    def calls(self, parts: Iterable[Part]) -> Iterator[BulkCall | None]:
        """Yield the calls for rows; None to have all replies settled first."""
        for part in parts:
            encoded = part.encode(self._row_calls) if self._row_calls else Encoded(None, (), ())
            if encoded.call is None:
                yield from self._rest(part.keys)
                yield from self._upserted(part.keys, list(part.rows()), 1)
                continue
            self._sent.append((part, encoded.plain))
            yield BulkCall(REPLACE_ROWS, encoded.call, _share(part.keys, len(encoded.plain), self._in_call.replace))
            if encoded.left:
                yield from self._upserted(part.keys, list(part.rows(encoded.left)), 1)
            yield from self._upserted(part.keys, self._left.get(part.keys, []), self._in_call.upsert)
        if any(not isinstance(call, UpsertCall) for call in self._sent):
            yield None
        for keys, rows in self._left.items():
            yield from self._upserted(keys, rows, 1)

    def settle(self, reply: Reply) -> None:
        """Take the reply to the oldest call that is out; an error reply comes as an exception."""
        call = self._sent.popleft()
        if isinstance(call, UpsertCall):
            self._upsert.settle(call, reply)
            return
        part, plain = call
        doubt = reply if isinstance(reply, UnconfirmedWriteError) else None
        if doubt is not None:
            reply = doubt.result
        if isinstance(reply, FeatureStoreError):
            # An error that holds for these rows in upsert_features too is raised then.
            _logger.debug("replace_rows takes no rows, which go through upsert_features: %s", reply)
            self._row_calls = None
        if self._row_calls is None:
            # Calls behind an error may have been written already. Their rows follow once more, behind the older ones.
            self._leave(part, plain)
            return
        written, left, *letters = reply
        self._upsert.result.written += written
        if doubt is not None:
            self._upsert.result.note_unconfirmed(len(plain) - len(left), str(doubt))
        if letters:
            count(self._upsert.result.tally, letters[0].decode())
        if left:
            self._leave(part, [plain[place] for place in left])

    def finish(self) -> UpsertResult:
        """Return the result, once all calls are settled."""
        return self._upsert.finish()

    def _leave(self, part: Part, places: Sequence[int]) -> None:
        self._left.setdefault(part.keys, []).extend(part.rows(places))

    def _rest(self, keys: Keys) -> Iterator[BulkCall | None]:
        """Yield the calls for all rows of a partition that are left, now or by what is out."""
        if any(not isinstance(call, UpsertCall) and call[0].keys == keys for call in self._sent):
            yield None
        yield from self._upserted(keys, self._left.get(keys, []), 1)

    def _upserted(self, keys: Keys, rows: list[Row], least: int) -> Iterator[BulkCall]:
        """Take calls of upsert_features off `rows` and yield them, as long as there are so many rows."""
        most = self._in_call.upsert
        while len(rows) >= least:
            part = rows[:most]
            del rows[:most]
            call = self._upsert.call(keys, [row for _, row in part], [position for position, _ in part])
            if call.positions:
                self._sent.append(call)
                encoded = encode_call(UPSERT_FEATURES, call.keys, call.arguments)
                yield BulkCall(UPSERT_FEATURES, encoded, _share(keys, len(part), most))


def _share(keys: Keys, rows: int, most: int) -> float:
    """Return how much of a full call so many rows are; on a single Redis, where only the last part is smaller, 1."""
    return rows / most if keys.tag else 1.0
