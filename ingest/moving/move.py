"""A move under way: passes that copy, one that removes, and one that compares."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal
from zlib import crc32

import msgspec

from featurestore.contract.costs import hash_us, rows_per_call, upsert_us

from ..files.scan import MOST_IDS  # noqa: TID252 - this package has two names
from .ends import End, Id
from .schemas import Planned
from .state import Copied, Example, State
from .stored import Held, Kind, compared, shown_field
from .walk import Walk

Keeps = Literal["newer", "same", "none"]
"""What stays of what the target has; see lua/copy_entities.lua."""

_SAVE_S = 1.0
_EXAMPLES = 5
_LEAST_CALLS = 10  # a second, so that a low rate is kept smoothly
_SHARES = 2**32
_COUNTED = {"C": "created", "A": "replaced", "P": "merged", "S": "newer", "W": "refused"}


class Manner(msgspec.Struct, frozen=True):
    """How a move is made.

    Attributes:
        passes: How often the source is copied; 0 to compare alone.
        keeps: What stays of what the target has.
        removes: Whether ids that the target alone has are removed.
        share: Which share of the ids is compared; 0 for none.
    """

    passes: int = 2
    keeps: Keeps = "newer"
    removes: bool = False
    share: float = 1.0

    @property
    def stages(self) -> list[str]:
        """What is done, one after the other."""
        compare = ["compare", "find extra"] if self.share else []
        return ["copy"] * self.passes + ["remove"] * self.removes + compare


class Move:
    """One move under way.

    Args:
        ends: Where entities come from, and where they go.
        plans: Which entities.
        manner: How.
        state: How far it is; it is kept up to date.
        save: Brings the state to disk.
        told: Called after each step with the stage and the number of ids that it has seen.
    """

    def __init__(  # noqa: PLR0913 - all but the first four by name
        self,
        ends: tuple[End, End],
        plans: Sequence[Planned],
        manner: Manner,
        state: State,
        *,
        save: Callable[[State], object] = lambda _: None,
        told: Callable[[int, int], object] = lambda _stage, _seen: None,
    ) -> None:
        (self._source, self._target), self._manner, self._told = ends, manner, told
        self.state, self._save = state, save
        self._saved = time.monotonic()
        features = [plan.schema.features for plan in plans]
        us = max(max(hash_us(each), upsert_us(each, each)) for each in features)
        self._in_call = rows_per_call(us, MOST_IDS)
        if self._source.throttle.rate is not None:
            self._in_call = max(1, min(self._in_call, int(self._source.throttle.rate / _LEAST_CALLS)))

    def run(self) -> State:
        """Do what is left to do; return the state."""
        stages = {"copy": self._copy, "remove": self._remove, "compare": self._compare, "find extra": self._find_extra}
        state, todo = self.state, self._manner.stages
        try:
            while state.stage < len(todo):
                name = todo[state.stage]
                if not state.began_ms:
                    state.began_ms = self._source.clock_ms()
                    if name == "copy":
                        state.copied_ms = state.began_ms
                        state.passes.append(Copied())
                self._walk(self._source if name in {"copy", "compare"} else self._target, stages[name])
                state.stage, state.began_ms, state.place = state.stage + 1, 0, type(state.place)()
        finally:
            self._save(state)
        return state

    def _walk(self, end: End, step: Callable[[list[Id]], None]) -> None:
        """Do a step for all ids of one end, some at a time."""
        seen = 0
        for page in Walk(end, self.state.place).pages():
            if time.monotonic() - self._saved > _SAVE_S:
                self._save(self.state)
                self._saved = time.monotonic()
            for first in range(0, len(page), self._in_call):
                step(page[first : first + self._in_call])
            seen += len(page)
            self._told(self.state.stage, seen)

    # Stages

    def _copy(self, ids: list[Id]) -> None:
        counts = self.state.passes[-1]
        ours, theirs = self._source.read(ids), self._target.read(ids)
        differing: list[tuple[Id, Held]] = []
        for one, our, their in zip(ids, ours, theirs, strict=True):
            if our is None:
                counts.gone += 1
            elif compared(our, their)[0] == "equal":
                counts.equal += 1
            else:
                differing.append((one, our))
        if differing:
            for letter in self._target.copy(differing, self._manner.keeps).values():
                name = _COUNTED[letter]
                setattr(counts, name, getattr(counts, name) + 1)
        counts.seen += len(ids)

    def _remove(self, ids: list[Id]) -> None:
        for one, held in self._extra(ids):
            self.state.removed += self._target.remove(one, held)

    def _compare(self, ids: list[Id]) -> None:
        chosen = [one for one in ids if self._is_chosen(one)]
        found = self._differing([one for one, _, _ in self._differing(chosen)])
        counts = self.state.compared
        counts.seen += len(chosen)
        counts.equal += len(chosen) - len(found)
        for one, our, their in found:
            kind, names = compared(our, their)
            if kind == "missing" and our.newest >= (self.state.copied_ms or self.state.began_ms):
                kind = "behind"  # it was written while all was copied
            setattr(counts, kind, getattr(counts, kind) + 1)
            self._keep(kind, one, (our, their), names)

    def _differing(self, ids: list[Id]) -> list[tuple[Id, Held, Held | None]]:
        """Return those of `ids` that are not the same now. What is asked twice may have been written in between."""
        if not ids:
            return []
        # The target is read first: what is copied meanwhile, by writers who write to both, is not taken for a loss.
        theirs, ours = self._target.read(ids), self._source.read(ids)
        triples = zip(ids, ours, theirs, strict=True)
        return [(one, our, their) for one, our, their in triples if our and compared(our, their)[0] != "equal"]

    def _find_extra(self, ids: list[Id]) -> None:
        for one, held in self._extra([one for one in ids if self._is_chosen(one)]):
            self.state.compared.extra += 1
            self._keep("extra", one, (None, held), [])

    def _extra(self, ids: list[Id]) -> Iterator[tuple[Id, Held]]:
        """Yield those of the target's ids of which the source has nothing; tombstones go by themselves."""
        if ids:
            theirs, ours = self._target.read(ids), self._source.read(ids)
            for one, our, their in zip(ids, ours, theirs, strict=True):
                if our is None and their is not None and not their.deleted:
                    yield one, their

    def _is_chosen(self, one: Id) -> bool:
        return crc32(one[1]) < self._manner.share * _SHARES

    def _keep(self, kind: Kind | str, one: Id, pair: tuple[Held | None, Held | None], names: list[str]) -> None:
        examples = self.state.compared.examples
        if sum(example.kind == kind for example in examples) < _EXAMPLES:
            name = names[0] if names else None
            values = [shown_field(held, name) for held in pair] if name else [None, None]
            examples.append(Example(kind, one[0], one[1].decode(errors="replace"), name, *values))
