"""How a selection is read in a cluster: a call for each partition that has some of the ids, all in one step.

The rows come back by partition, and are put into the order of the ids.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, compress, pairwise
from typing import Any

import msgspec

from featurestore.contract.costs import rows_per_call
from featurestore.contract.json_rows import Renderer, TableRenderer
from featurestore.contract.partitioned_calls import READS, Groups, PartitionedCalls, RoutedCalls, arranged
from featurestore.contract.read_costs import CALL_US
from featurestore.contract.replies import Take
from featurestore.contract.scripts import GET_FEATURES_BATCH
from featurestore.contract.selection import Batch
from featurestore.errors import BadReplyError
from featurestore.store.plan import Calls, Plan, checked

_AT_ONCE = 400
"""Calls of more ids are encoded when they are sent, and their replies become JSON as they come."""


class _Part(msgspec.Struct, frozen=True, gc=False):
    """The ids of one call."""

    calls: PartitionedCalls
    partition: int
    ids: list[str]


class _Late(Sequence[bytes]):
    """The calls of parts, each encoded when it is looked at: many are not sent at once, and some are never sent.

    Attributes:
        slots: The hash slot of each.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts
        self.slots = [part.calls.slot_of(part.partition) for part in parts]

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: Any) -> Any:
        part = self._parts[index]
        return part.calls.call(part.partition, part.ids)


def read_json(batch: Batch, renderer: Renderer | TableRenderer) -> Plan[bytes]:
    """Return the JSON of a list of entities; see `batches.read_json`."""
    ids = list(batch.ids)
    if not ids:
        return b"[]"
    if len(ids) <= _AT_ONCE:
        (rows,) = yield from read_rows([batch])
        return renderer.many(ids, [rows])
    parts, order = _cut(batch, ids, batch.row_us)
    takes = [partial(_texts, renderer, part.ids) for part in parts]
    texts = yield from _read_late(parts, order, batch.row_us, takes)
    left = _left_of(texts)
    if left:
        some = [ids[position] for position in left]
        made = renderer.each(some, (yield from _made(batch, some)))
        for position, text in zip(left, made, strict=True):
            texts[position] = text
    return b"[%b]" % b",".join(
        [renderer.nothing(each) if text is None else text for each, text in zip(ids, texts, strict=True)]
    )


def read_rows(batches: Sequence[Batch]) -> Plan[list[list[Any]]]:
    """Return for each batch the row of each id, which stands alone; see `batches.read_many`."""
    if sum(len(batch.ids) for batch in batches) <= _AT_ONCE:
        found = yield from _read_at_once([_grouped(batch) for batch in batches], batches)
    else:
        found = yield from _read_all_late(batches)
    for batch, rows in zip(batches, found, strict=True):
        left = _left_of(rows) if batch.selection.asks_again else None
        if left:
            made = yield from _made(batch, [batch.ids[position] for position in left])
            for position, row in zip(left, made, strict=True):
                rows[position] = row
    return found


def _grouped(batch: Batch) -> Groups:
    return _calls_of(batch).grouped(list(batch.ids), rows_per_call(batch.row_us))


def _read_at_once(groups: Sequence[Groups], batches: Sequence[Batch]) -> Plan[list[list[Any]]]:
    """Call what is encoded already; return the rows of each batch."""
    us = sum(len(batch.ids) * batch.row_us for batch in batches)
    if len(groups) == 1:
        (group,) = groups
        replies = checked((yield Calls(READS, group.calls, _each_us(us, len(group.sizes)))))
        return [arranged(replies, group.sizes, group.order)]
    calls = RoutedCalls(call for group in groups for call in group.calls)
    calls.slots = [slot for group in groups for slot in group.calls.slots]
    replies = checked((yield Calls(READS, calls, _each_us(us, len(calls)))))
    ends = accumulate(len(group.sizes) for group in groups)
    return [
        arranged(replies[end - len(group.sizes) : end], group.sizes, group.order)
        for group, end in zip(groups, ends, strict=True)
    ]


def _read_all_late(batches: Sequence[Batch]) -> Plan[list[list[Any]]]:
    """Call what is encoded as it is sent; return the rows of each batch."""
    parts: list[_Part] = []
    order: list[int] = []
    starts = [0]
    for batch in batches:
        some, positions = _cut(batch, list(batch.ids), batch.row_us)
        parts += some
        order += [starts[-1] + position for position in positions]
        starts.append(len(order))
    us = sum(len(batch.ids) * batch.row_us for batch in batches) / max(1, len(order))
    rows = yield from _read_late(parts, order, us)
    return [rows[start:end] for start, end in pairwise(starts)]


def _read_late(
    parts: list[_Part], order: list[int], row_us: float, takes: Sequence[Take] | None = None, *, follows: bool = False
) -> Plan[list[Any]]:
    """Call what is encoded as it is sent; return the rows, or what `takes` makes of them, in the order of the ids."""
    each_us = _each_us(row_us * len(order), len(parts))
    replies = checked((yield Calls(READS, _Late(parts), each_us, takes, follows)))
    return arranged(replies, [len(part.ids) for part in parts], order)


def _made(batch: Batch, ids: list[str]) -> Plan[list[Any]]:
    """Return the rows of ids that calls have left, by calls of fewer ids."""
    rows: list[Any] = [0] * len(ids)
    left = list(range(len(ids)))
    while left:
        parts, order = _cut(batch, [ids[position] for position in left], batch.selection.made_us)
        answers = yield from _read_late(parts, order, batch.selection.made_us, follows=True)
        for position, row in zip(left, answers, strict=True):
            rows[position] = row
        still = [position for position in left if type(rows[position]) is int]
        if len(still) == len(left):
            raise BadReplyError(f"{GET_FEATURES_BATCH.name} made none of {len(left)} rows")
        left = still
    return rows


def _cut(batch: Batch, ids: list[str], row_us: float) -> tuple[list[_Part], list[int]]:
    """Return the ids by call, and the position of each in their order. Bad ids are told here."""
    calls = _calls_of(batch)
    cut = calls.cut(ids, rows_per_call(row_us))
    return list(map(partial(_Part, calls), cut.partitions, cut.ids)), cut.order


def _calls_of(batch: Batch) -> PartitionedCalls:
    calls = batch.selection.calls
    assert isinstance(calls, PartitionedCalls)  # noqa: S101 - for mypy; callers have looked
    return calls.with_options(batch.options)


def _each_us(rows_us: float, calls: int) -> float:
    return CALL_US + rows_us / max(1, calls)


def _left_of(rows: list[Any]) -> list[int]:
    """Return the positions of rows that calls have left, to be asked for again: a zero is in the place of each."""
    if int not in map(type, rows):
        return []
    return [position for position, row in enumerate(rows) if type(row) is int]


def _texts(renderer: Renderer | TableRenderer, ids: list[str], reply: Any) -> Any:
    """Return the JSON of each entity in the reply to a call for these ids, as `arranged` takes it.

    None is in the place of an unknown one, and 0 in that of a row that the call has left.
    """
    rows = arranged([reply], [len(ids)])
    there = [type(row) is not int for row in rows]
    texts: list[Any] = renderer.each(list(compress(ids, there)), list(compress(rows, there)))
    if not all(there):
        found = iter(texts)
        texts = [next(found) if each else 0 for each in there]
    return texts if len(ids) > 1 else texts[0]
