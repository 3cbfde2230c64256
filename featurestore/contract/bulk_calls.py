"""Many rows to calls of replace_rows and upsert_features, in order, and their replies to one result."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

from featurestore.contract.costs import MOST_US, replace_us, rows_per_call, upsert_us
from featurestore.contract.resp import Reply, encode_call
from featurestore.contract.row_calls import RowCalls
from featurestore.contract.scripts import REPLACE_ROWS, UPSERT_FEATURES, Script
from featurestore.contract.upsert_calls import Upsert, UpsertCall, UpsertResult, count
from featurestore.errors import FeatureStoreError

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
    """Some rows that follow each other, at most as many as one call may have."""

    size: int

    def encode(self, calls: RowCalls) -> Encoded:
        """Return the call that writes the plain rows; no later one of them is of the entity of a row that is left."""

    def rows(self, places: Sequence[int] | None = None) -> Sequence[Row]:
        """Return the rows at these places, all if left out."""


class ListedPart:
    """Rows of Python's objects."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows, self.size = rows, len(rows)

    def encode(self, calls: RowCalls) -> Encoded:
        """Return the call for all rows, if all of them are plain; see `Part`."""
        everything = range(len(self._rows))
        call = calls.encode([row for _, row in self._rows])
        return Encoded(call, everything, ()) if call else Encoded(None, (), everything)

    def rows(self, places: Sequence[int] | None = None) -> Sequence[Row]:
        """Return the rows at these places; see `Part`."""
        return self._rows if places is None else [self._rows[place] for place in places]


def listed_parts(rows: Iterable[Sequence[Any]], size: int) -> Iterator[Part]:
    """Yield rows in parts of so many."""
    source = enumerate(rows)
    while part := list(islice(source, size)):
        yield ListedPart(part)


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


class Bulk:
    """One write under way: the calls that wait for their replies, and the rows that replace_rows has left.

    Rows that are left wait for a call of upsert_features. A part of the table that is not for replace_rows is sent when
    no row waits any more, so that an entity's rows keep their order.

    Args:
        upsert: Makes the calls of upsert_features.
        row_calls: Makes those of replace_rows, where there are any.
        in_upsert: How many rows are in a call of upsert_features.
    """

    def __init__(self, upsert: Upsert, row_calls: RowCalls | None, in_upsert: int) -> None:
        self._upsert, self._row_calls, self._in_upsert = upsert, row_calls, in_upsert
        self._sent: deque[UpsertCall | tuple[Part, Sequence[int]]] = deque()
        self._left: list[Row] = []

    def calls(self, parts: Iterable[Part]) -> Iterator[tuple[Script, bytes] | None]:
        """Yield the calls for rows, encoded; None to have all replies settled first."""
        for part in parts:
            encoded = part.encode(self._row_calls) if self._row_calls else Encoded(None, (), ())
            if encoded.call is None:
                yield from self._rest()
                yield from self._upserted(list(part.rows()), 1)
                continue
            self._sent.append((part, encoded.plain))
            yield REPLACE_ROWS, encoded.call
            if encoded.left:
                yield from self._upserted(list(part.rows(encoded.left)), 1)
            yield from self._upserted(self._left, self._in_upsert)
        yield from self._rest()

    def settle(self, reply: Reply) -> None:
        """Take the reply to the oldest call that is out; an error reply comes as an exception."""
        call = self._sent.popleft()
        if isinstance(call, UpsertCall):
            self._upsert.settle(call, reply)
            return
        part, plain = call
        if isinstance(reply, FeatureStoreError):
            # An error that holds for these rows in upsert_features too is raised then.
            _logger.debug("replace_rows takes no rows, which go through upsert_features: %s", reply)
            self._row_calls = None
        if self._row_calls is None:
            # Calls behind an error may have been written already. Their rows follow once more, behind the older ones.
            self._left += part.rows(plain)
            return
        written, left, *letters = reply
        self._upsert.result.written += written
        if letters:
            count(self._upsert.result.tally, letters[0].decode())
        if left:
            self._left += part.rows([plain[place] for place in left])

    def finish(self) -> UpsertResult:
        """Return the result, once all calls are settled."""
        return self._upsert.finish()

    def _rest(self) -> Iterator[tuple[Script, bytes] | None]:
        """Yield the calls for all rows that are left, now or by what is out."""
        if not all(isinstance(call, UpsertCall) for call in self._sent):
            yield None
        yield from self._upserted(self._left, 1)

    def _upserted(self, rows: list[Row], least: int) -> Iterator[tuple[Script, bytes]]:
        """Take calls of upsert_features off `rows` and yield them, as long as there are so many rows."""
        while len(rows) >= least:
            part = rows[: self._in_upsert]
            del rows[: self._in_upsert]
            call = self._upsert.call([row for _, row in part], [position for position, _ in part])
            if call.positions:
                self._sent.append(call)
                yield UPSERT_FEATURES, encode_call(UPSERT_FEATURES, call.keys, call.arguments)
