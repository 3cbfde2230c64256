"""Reads of a cluster that were gathered: the calls of a round, whose answers come node by node."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from featurestore.api.gathering import Reads
from featurestore.contract.partitioned_calls import PartitionedCalls, arranged
from featurestore.contract.replies import PLAIN
from featurestore.contract.resp import Reply
from featurestore.errors import BadReplyError, FeatureStoreError


class Round:
    """Reads that are sent at once, as a call for each partition that has some of their ids.

    Args:
        reads: All of them; their selection is known.
        calls: Makes the calls.

    Attributes:
        calls: The calls, with the hash slot of each.
    """

    __slots__ = ("_ends", "_groups", "_reads", "calls")

    def __init__(self, reads: Reads, calls: PartitionedCalls) -> None:
        self._reads = reads
        self._groups = calls.grouped(reads.ids, reads.selection.ids_per_call)
        self._ends = list(accumulate(self._groups.sizes, initial=0))
        self.calls = self._groups.calls

    def part(self, places: Sequence[int]) -> Reads:
        """Return the reads of the calls at some places, to be answered by themselves."""
        order, ends = self._groups.order, self._ends
        if isinstance(places, range):
            return self._reads.part(order[ends[places.start] : ends[places.stop]])
        return self._reads.part([each for place in places for each in order[ends[place] : ends[place + 1]]])

    def outcome(self, part: Reads, places: Sequence[int], outcome: Any) -> Reply | FeatureStoreError:
        """Return what would be the reply if the reads of a part were one call.

        The reads of calls with an error are given back.

        Args:
            part: The reads of these calls.
            places: Which calls they are.
            outcome: The reply to one call, or the list of those to several.
        """
        replies = outcome if len(places) > 1 else [outcome]
        if isinstance(places, range):
            sizes = self._groups.sizes[places.start : places.stop]
        else:
            sizes = [self._groups.sizes[place] for place in places]
        if not PLAIN.issuperset(map(type, replies)):
            there = [not isinstance(reply, FeatureStoreError) for reply in replies]
            part.keep([each for each, size in zip(there, sizes, strict=True) for _ in range(size)])
            sizes = [size for each, size in zip(there, sizes, strict=True) if each]
            replies = [reply for each, reply in zip(there, replies, strict=True) if each]
        try:
            rows = arranged(replies, sizes)
        except ValueError as error:  # msgspec's are
            return BadReplyError(f"the reply to a read cannot be read: {error}")
        return rows[0] if len(rows) == 1 else rows
