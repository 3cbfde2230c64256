"""How a selection is read: the steps that its calls make, cut so that none holds Redis for long."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from featurestore.contract.costs import rows_per_call
from featurestore.contract.read_calls import ReadCalls
from featurestore.contract.resp import Reply
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.contract.selection import Selection
from featurestore.errors import BadReplyError
from featurestore.store.plan import Calls, Plan, checked

_NOT_YET = 0
"""What get_features_batch answers in place of a row that it would have to make, where it has made as many as it may."""


class Batch(msgspec.Struct, frozen=True):
    """Entities of which the same features are read.

    Attributes:
        selection: The features.
        ids: Whose features are wanted.
        options: `?metadata` and `?max_age=MS`, or none.
    """

    selection: Selection
    ids: Sequence[str]
    options: tuple[str, ...] = ()

    @property
    def row_us(self) -> float:
        """About what a row takes of Redis's time."""
        return self.selection.aged_row_us if self.options else self.selection.row_us


class _Part(msgspec.Struct):
    """The ids of one call, and about what it takes of Redis's time."""

    calls: ReadCalls
    ids: list[str]
    us: float


def read_one(selection: Selection, raw_id: bytes) -> Plan[Reply]:
    """Return the reply of get_features for an id of 1 to 256 bytes; raise an error reply."""
    (reply,) = checked((yield Calls(GET_FEATURES, [selection.calls.one(raw_id)], selection.row_us)))
    return reply


def read_many(batches: Sequence[Batch]) -> Plan[list[list[Any]]]:
    """Return for each batch the replies of get_features_batch that cover its ids in order, in one round trip.

    A call answers what is stored ready. Rows that would have to be made beyond a certain number, as after a change of
    the schema, are asked for again, in calls of fewer ids.
    """
    parts = [list(_cut(batch, list(batch.ids), batch.row_us)) for batch in batches]
    replies = iter((yield from _read([part for each in parts for part in each])))
    found = [[next(replies) for _ in each] for each in parts]
    for batch, each in zip(batches, found, strict=True):
        if batch.selection.asks_again:
            yield from _ask_again(batch, each)
    return found


def _ask_again(batch: Batch, replies: list[Any]) -> Plan[None]:
    """Put rows into the replies in place of those that the calls have left."""
    size = rows_per_call(batch.row_us)
    left = [
        (number, place)
        for number, reply in enumerate(replies)
        if type(reply) is list and int in map(type, reply)
        for place, row in enumerate(reply)
        if type(row) is int
    ]
    while left:
        ids = [batch.ids[number * size + place] for number, place in left]
        answers = yield from _read(list(_cut(batch, ids, batch.selection.made_us)))
        rows = [row for reply in answers for row in reply]
        still = []
        for (number, place), row in zip(left, rows, strict=True):
            replies[number][place] = row
            if type(row) is int:
                still.append((number, place))
        if len(still) == len(left):
            raise BadReplyError(f"{GET_FEATURES_BATCH.name} made none of {len(left)} rows")
        left = still


def _cut(batch: Batch, ids: list[str], row_us: float) -> Iterator[_Part]:
    """Cut the ids into calls by what a row takes."""
    calls, size = batch.selection.calls.with_options(batch.options), rows_per_call(row_us)
    for first in range(0, len(ids), size):
        some = ids[first : first + size]
        yield _Part(calls, some, row_us * len(some))


def _read(parts: list[_Part]) -> Plan[list[Reply]]:
    """Make a call of each part, in one write; return the replies, or raise the first error among them."""
    encoded = [part.calls.many(part.ids) for part in parts]
    each_us = sum(part.us for part in parts) / max(1, len(parts))
    return checked((yield Calls(GET_FEATURES_BATCH, encoded, each_us)))
