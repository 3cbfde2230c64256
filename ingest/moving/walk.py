"""All hashes of features of a store, node by node, in small steps, from where an earlier walk was."""

import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from featurestore.errors import UnavailableError
from featurestore.transport.interface import Node

from .ends import End, Id, process_of
from .stored import entity_in

_SCAN_COUNT = 500
_RETRY_S = 1.0
_LOOK_S = 5.0
_DONE = "done"


class Place(msgspec.Struct):
    """How far a walk is.

    Attributes:
        cursors: What names a node and what it has → the cursor of SCAN that is next, or that it is done.
    """

    cursors: dict[str, str] = {}


class Walk:
    """All ids whose hashes a store holds: those that are known, those that are not, and tombstones.

    A cursor of SCAN is worth something to the process that gave it alone, and slots that move take keys past it. So a
    node is walked again where another process answers, or where it has other slots than when it was begun. An id may
    come more than once.

    Args:
        end: The store.
        place: Where to begin; it is kept up to date with what the caller has taken.
        pause: Waits while a node is away.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        end: End,
        place: Place,
        *,
        pause: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._end, self.place, self._pause, self._clock = end, place, pause, clock

    def pages(self) -> Iterator[list[Id]]:
        """Yield ids, a page of SCAN at a time. The place moves on when the next page is asked for."""
        while True:
            nodes = self._end.retries.run(self._named)
            left = [(name, node) for name, node in nodes if self.place.cursors.get(name) != _DONE]
            if not left:
                return
            for name, node in left:
                try:
                    yield from self._walk(name, node)
                except UnavailableError:
                    self._pause(_RETRY_S)  # by then its replica may have taken over

    def _named(self) -> list[tuple[str, Node]]:
        """Return the nodes, each with what names its process and its slots."""
        return [(_name_of(node), node) for node in self._end.primaries()]

    def _walk(self, name: str, node: Node) -> Iterator[list[Id]]:
        cursors, looked = self.place.cursors, self._clock()
        cursor = cursors.get(name, "0")
        while cursor != _DONE:
            words = ("SCAN", cursor, "MATCH", self._pattern(), "COUNT", _SCAN_COUNT)
            following, keys = self._end.throttle.run(lambda words=words: node.transport.command(*words), 0)  # type: ignore[misc]
            yield self._ids(keys)
            cursor = following.decode() if following != b"0" else _DONE
            if cursor == _DONE or self._clock() - looked > _LOOK_S:
                looked = self._clock()
                if _name_of(node) != name:
                    return
            cursors[name] = cursor

    def _pattern(self) -> str:
        """Return the pattern of the keys: that of the one entity, or of all."""
        tag = "{*}" if self._end.store.transport.clustered else ""
        (only, *others) = self._end.entities
        return f"{tag}*:features" if others else f"{tag}{only}:*:features"

    def _ids(self, keys: Sequence[bytes]) -> list[Id]:
        found: dict[Id, None] = {}
        for key in keys:
            one = entity_in(key)
            if one is not None and one[0] in self._end.entities and self._end.key(one) == key:
                found[one] = None
        return list(found)


def _name_of(node: Node) -> str:
    ranges = ",".join(f"{first}-{last}" for first, last in node.ranges)
    return f"{process_of(node) or node.address} {ranges}"
