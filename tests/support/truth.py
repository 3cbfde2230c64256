"""What was written, and so what may be read: the measure by which every answer is judged."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from featurestore import Definition

DEFINITION = Definition(features={"n": "int", "half": "float", "owner": "string", "clicks": "int"})
FIRST_MS = 1_767_225_600_000
"""The event time of a row's first version; each later one is a ms younger."""


def row_of(entity_id: str, n: int) -> dict[str, Any]:
    """Return version `n` of an entity's row, in which each value tells of the others."""
    return {"n": n, "half": n / 2, "owner": entity_id}


class Truth:
    """Of each id, which writes were tried and which were acknowledged.

    An id has one writer, which counts its versions up, from 0. So what a read finds is at least what was acknowledged
    before it began, and at most what was tried until it ended. Increments of 1 count the same way.

    Attributes:
        wrong: What answers said that cannot be true; empty where all is well.
        stale: Id → how often a read found less than was acknowledged, or nothing: it was lost, or read of a copy that
            lags behind. Each loss counts once.
        stale_at: When that was found, by time.monotonic.
    """

    def __init__(self) -> None:
        self._tried: dict[str, int] = {}
        self._acknowledged: dict[str, int] = {}
        self._least: dict[str, int] = {}
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self.wrong: list[str] = []
        self.stale: Counter[str] = Counter()
        self.stale_at: list[float] = []

    def know(self, ids: Iterable[str]) -> None:
        """Take into account that these ids are stored, in version 0."""
        for each in ids:
            self._known.add(each)
            self._tried[each] = self._acknowledged[each] = self._least[each] = 0

    def next_version(self, entity_id: str) -> int:
        """Return the number of the write that is tried now; only the id's writer calls this."""
        number = self._tried[entity_id] = self._tried.get(entity_id, -1) + 1
        return number

    def acknowledge(self, entity_id: str, n: int) -> None:
        """Take into account that version `n` was written, as the store says."""
        self._acknowledged[entity_id] = self._least[entity_id] = n

    def count_acknowledged(self, entity_id: str) -> None:
        """Take into account that one more increment was done."""
        self.acknowledge(entity_id, self._acknowledged.get(entity_id, 0) + 1)

    def least(self, entity_id: str) -> int:
        """Return the least version that a read may find that begins now; -1 where the id need not be known."""
        return self._least.get(entity_id, -1)

    def judge(self, entity_id: str, found: Any, least: int, *, name: str = "n") -> None:
        """Judge what a read found.

        Args:
            entity_id: Who was asked for.
            found: The features by name; None for an unknown id.
            least: What `least` said before the read began.
            name: The feature that counts.
        """
        if found is None:
            if least >= 0:
                self._note_stale(entity_id, -1, least)
            return
        n = found.get(name)
        if type(n) is not int:
            self.accuse(f"{entity_id} has {name} = {n!r}")
        elif n > self._tried.get(entity_id, -1):
            self.accuse(f"{entity_id} has {name} = {n}, which nobody wrote")
        elif n < least:
            self._note_stale(entity_id, n, least)
        if name == "n" and (found.get("half"), found.get("owner")) != (n / 2 if type(n) is int else None, entity_id):
            self.accuse(f"{entity_id} has {found}: the values of one row are of several")

    def accuse(self, what: str) -> None:
        """Keep something that must not be."""
        self.wrong.append(what)

    def acknowledged(self, entity_id: str) -> int:
        """Return the last version that was acknowledged; -1 if none was."""
        return self._acknowledged.get(entity_id, -1)

    @property
    def written(self) -> list[str]:
        """The ids of which a write was acknowledged, but for those that `know` was told and nobody wrote since."""
        return [each for each, n in list(self._acknowledged.items()) if n > 0 or each not in self._known]

    def _note_stale(self, entity_id: str, n: int, least: int) -> None:
        with self._lock:
            self.stale[entity_id] += 1
            self.stale_at.append(time.monotonic())
            # What was lost stays lost: the next read of the same is not another one.
            if self._least.get(entity_id) == least:
                self._least[entity_id] = n
