"""Reads that are gathered: those that have come and wait to be sent, and those of one call."""

import logging
from collections.abc import Callable, Sequence
from itertools import compress

from featurestore.contract.costs import MOST_ROWS
from featurestore.contract.selection import Selection
from featurestore.worker.interface import Answer, Respond

_logger = logging.getLogger("featurestore")


class Reads:
    """The reads of one call. Each is answered exactly once, whatever happens.

    Args:
        ids: Whose features are wanted.
        responds: Take the answers, in the order of the ids.
        began: When the first of them came.

    Attributes:
        selection: What they are read by.
        due: By when Redis has done the call and those that were sent before, if Redis were here; 0 where that is not
            measured.
        alone: Whether there were none before.
        awaited: How many answers are still awaited before others may be sent in their place.
    """

    __slots__ = ("_responds", "alone", "awaited", "began", "due", "ids", "selection")

    selection: Selection
    alone: bool

    def __init__(self, ids: list[str], responds: list[Respond], began: float) -> None:
        self.ids, self._responds, self.began, self.due = ids, responds, began, 0.0
        self.awaited = 1

    def await_nodes(self, count: int) -> None:
        """Set how many of so many nodes are awaited: all but a third, so that no node that is late holds others up."""
        self.awaited = max(1, count - max(1, count // 3))

    def part(self, positions: Sequence[int]) -> "Reads":
        """Return those of some positions, to be answered by themselves."""
        ids, responds = self.ids, self._responds
        some = Reads([ids[place] for place in positions], [responds[place] for place in positions], self.began)
        some.selection = self.selection
        return some

    def keep(self, there: Sequence[bool]) -> None:
        """Give back those that are not there, and keep the others."""
        others = [respond for respond, each in zip(self._responds, there, strict=True) if not each]
        self.ids, self._responds = list(compress(self.ids, there)), list(compress(self._responds, there))
        _respond(others, [None] * len(others))

    def give_back_first(self) -> None:
        """Give the first read back, and keep the others."""
        self.ids.pop(0)
        _respond([self._responds.pop(0)], [None])

    def answer(self, answers: list[Answer | None] | None) -> None:
        """Hand out the answers. None in place of an answer, or of all, gives reads back."""
        responds, self._responds = self._responds, []
        if answers is None or len(answers) != len(responds):
            answers = [None] * len(responds)
        _respond(responds, answers)


def _respond(responds: list[Respond], answers: list[Answer | None]) -> None:
    for respond, answer in zip(responds, answers, strict=True):
        try:
            respond(answer)
        except Exception:
            _logger.exception("a connection failed to take the answer to its request")


class Gathering:
    """Reads of the same features that have come, and are not yet sent.

    Args:
        features: Each once; None for all of the packed row.
        selection: What they are read by; None if that is not known yet.

    Attributes:
        ids: Whose features are wanted.
        responds: Take the answers, in the order of the ids.
        began: When the first of them came.
        most: How many of them a call may have.
        send: Sends one call for them.
    """

    __slots__ = ("began", "features", "ids", "most", "responds", "send")

    send: Callable[[], None]

    def __init__(self, features: tuple[str, ...] | None, selection: Selection | None) -> None:
        self.features, self.began = features, 0.0
        self.most = MOST_ROWS if selection is None else selection.ids_per_call
        self.ids: list[str] = []
        self.responds: list[Respond] = []

    def take(self) -> Reads:
        """Return the reads of one call. Others stay: if `most` is less than it was when they came."""
        ids, responds, most = self.ids, self.responds, self.most
        self.ids, self.responds = ids[most:], responds[most:]
        return Reads(ids[:most], responds[:most], self.began)
