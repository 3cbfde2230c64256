"""How a selection is read: the steps that its calls make, cut so that none holds Redis for long."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from featurestore.contract.costs import rows_per_call
from featurestore.contract.json_rows import Renderer, TableRenderer
from featurestore.contract.partitioned_calls import PartitionedCalls
from featurestore.contract.read_calls import ReadCalls
from featurestore.contract.replies import Take
from featurestore.contract.resp import Reply
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.contract.selection import Batch, Selection
from featurestore.contract.words import check_ids
from featurestore.errors import BadReplyError
from featurestore.store import partitioned
from featurestore.store.plan import Calls, Plan, checked


class _Json(msgspec.Struct, frozen=True):
    """The JSON of the entities in a reply."""

    text: bytes


class _Part(msgspec.Struct):
    """The ids of one call, and about what it takes of Redis's time."""

    calls: ReadCalls
    ids: list[str]
    us: float


class _Encoded(Sequence[bytes]):
    """The calls of parts, each encoded when it is looked at: many are not sent at once, and some are never sent."""

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: Any) -> Any:
        part = self._parts[index]
        return part.calls.many(part.ids)


def read_one(selection: Selection, raw_id: bytes) -> Plan[Reply]:
    """Return the reply of get_features for an id of 1 to 256 bytes; raise an error reply."""
    us = selection.made_us if selection.asks_again else selection.row_us  # wide rows may have to be made
    (reply,) = checked((yield Calls(GET_FEATURES, [selection.calls.one(raw_id)], us)))
    return reply


def read_json(selection: Selection, ids: Sequence[str], renderer: Renderer | TableRenderer) -> Plan[bytes]:
    """Return the JSON of a list of entities, of which each piece is made as soon as its reply is there.

    Args:
        selection: The features.
        ids: Whose features are wanted.
        renderer: Makes a list in JSON of ids and the replies that cover them.
    """
    if isinstance(selection.calls, PartitionedCalls):
        return (yield from partitioned.read_json(Batch(selection, ids), renderer))
    render = renderer.many
    if 0 < len(ids) <= selection.ids_per_call:  # the usual batch: one call
        listed = list(ids)
        encoded = [selection.calls.many(listed)]
        replies: list[Any] = checked((yield Calls(GET_FEATURES_BATCH, encoded, selection.row_us * len(listed))))
        if selection.asks_again and _lacks(replies[0]):
            yield from _ask_again(Batch(selection, listed), replies)
        return render(listed, replies)
    batch = Batch(selection, ids)
    parts = list(_cut(batch, list(ids), batch.row_us))

    def take(ids: list[str], reply: Any) -> Any:
        return reply if _lacks(reply) else _Json(render(ids, [reply]))

    found = yield from _read(parts, [partial(take, part.ids) for part in parts])
    if selection.asks_again:
        yield from _ask_again(batch, found)
    pieces = [
        each.text if isinstance(each, _Json) else render(part.ids, [each])
        for part, each in zip(parts, found, strict=True)
    ]
    return pieces[0] if len(pieces) == 1 else b"[%b]" % b",".join([memoryview(piece)[1:-1] for piece in pieces])


def read_many(batches: Sequence[Batch]) -> Plan[list[list[Any]]]:
    """Return for each batch the replies of get_features_batch that cover its ids in order, in one round trip.

    A call answers what is stored ready. Rows that would have to be made beyond a certain number, as after a change of
    the schema, are asked for again, in calls of fewer ids.

    In a cluster the rows of a batch are one reply, in which each stands alone.
    """
    if any(isinstance(batch.selection.calls, PartitionedCalls) for batch in batches):
        return [[rows] for rows in (yield from partitioned.read_rows(batches))]
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
        if _lacks(reply)
        for place, row in enumerate(reply)
        if type(row) is int
    ]
    while left:
        ids = [batch.ids[number * size + place] for number, place in left]
        answers = yield from _read(list(_cut(batch, ids, batch.selection.made_us)), follows=True)
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
    """Cut the ids into calls by what a row takes. Calls are encoded when they are sent, so ids are checked here."""
    check_ids(ids)
    calls, size = batch.selection.calls, rows_per_call(row_us)
    assert isinstance(calls, ReadCalls)  # noqa: S101 - for mypy; callers have looked
    calls = calls.with_options(batch.options)
    for first in range(0, len(ids), size):
        some = ids[first : first + size]
        yield _Part(calls, some, row_us * len(some))


def _lacks(reply: Any) -> bool:
    """Return whether rows are missing in a reply, to be asked for again: a zero is in the place of each."""
    return type(reply) is list and int in map(type, reply)


def _read(parts: list[_Part], takes: Sequence[Take] | None = None, *, follows: bool = False) -> Plan[list[Any]]:
    """Make a call of each part; return the replies, or what `takes` makes of each. Raise the first error among them."""
    each_us = sum(part.us for part in parts) / max(1, len(parts))
    return checked((yield Calls(GET_FEATURES_BATCH, _Encoded(parts), each_us, takes, follows)))
