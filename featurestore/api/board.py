"""The memory in which all workers count: what stands where, and the sums over all of them.

Each worker has a place of its own, so that none waits for another. A place has cells of doubles: counts, which go on
when another worker takes the place of one that has ended; gauges, which end with their worker; names of entities; and
the series of requests, which are numbered as they come.
"""

import mmap
from collections.abc import Iterator, Sequence
from typing import get_args

import msgspec

from featurestore import errors
from featurestore.contract.scripts import SCRIPTS
from featurestore.contract.words import VERDICTS
from featurestore.schema.types import Status

ROUTES = (
    "/features/{entity_id:path}", "/features/batch", "/features/ingest", "/features/query", "/schema",
    "/entities/{entity}/features/{entity_id:path}", "/entities/{entity}/features/batch",
    "/entities/{entity}/features/ingest", "/entities/{entity}/schema",
    "/get-online-features", "/write-to-online-store", "/push", "/materialize", "/materialize-incremental",
    "/entities", "/entities/{entity}/sample", "/entities/{entity}/stored", "/ui", "/ui/{name}",
    "/health", "/readyz", "/livez", "/metrics", "/", "/openapi.json", "/docs", "/docs/{name}", "other",
)  # fmt: skip
"""The app's paths, as Falcon has them; `other` for all paths that are none of them."""

DEFAULT_ROUTES = frozenset({"/features/{entity_id:path}", "/features/batch", "/features/ingest", "/schema"})
"""Routes about the default entity."""

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "other")
STATUSES = (
    "200", "204", "304", "308", "400", "401", "403", "404", "405", "406", "408", "409", "413", "414", "415", "422",
    "429", "431", "500", "501", "503", "504", "other",
)  # fmt: skip
BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Upper bounds of the buckets of requests, in seconds."""

CALL_BUCKETS_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
"""The same of calls of Redis."""

AGE_BUCKETS_S = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0, 172_800.0, 604_800.0, 2_592_000.0)
"""The same of the ages of rows: from a second to 30 days."""

CALLS = (*(script.name for script in SCRIPTS), "reads", "upsert_and_get", "command")
"""What Redis is called for: the scripts; both read scripts in one write, to a node of a cluster; a PUT, which writes
and reads in one write; and every plain command."""

VALUE_STATUSES: tuple[str, ...] = get_args(Status)
"""Statuses of features that were read."""

REASONS = ("malformed", "head_too_large", "body_too_large", "too_slow", "unsupported", "no_memory", "no_room")
"""Why the worker refuses a request, or leaves a client waiting (`no_room`)."""

_CODES = {code for kind in vars(errors).values() if (code := getattr(kind, "code", None))}
PROBLEMS = (
    *sorted({*_CODES, "WRONGTYPE"}),
    "timeout", "unavailable", "access_denied", "write_refused", "bad_reply", "redis_error", "http", "internal", "other",
)  # fmt: skip
"""Codes of problem documents, and in small letters the kinds of those that have no code."""

REJECTIONS = ("BADARGS", "BADID", "BADROW", "BADTIME", "BADTYPE", "UNDECLARED", "WRONGTYPE", "other")
"""Codes of rejected rows."""

LINKS = ("connected", "connecting", "down")
"""States of connections to Redis."""

MOST_ENTITIES = 32
"""So many entities have counts of their own; all beyond are counted together, as `other`."""

OTHER = "other"
MOST_SERIES = 512
"""So many series of requests a place has; what comes beyond counts as `other`."""

_NAME_CELLS = 8  # an entity's name has 64 bytes at most
_CELL_BYTES = 8
_TOLD_CELLS = 2

COUNTS = ("starts", "reconnects", "cpu_s", "served_kept", "served_lost")
GAUGES = (
    "pid",
    "started_at",
    "calls_in_flight",
    "ready",
    "ready_at",
    "resident_bytes",
    "open_files",
    "most_files",
    *LINKS,
)


class Block(msgspec.Struct, frozen=True):
    """Cells that belong together.

    Attributes:
        first: The first of them in a place.
        each: How many one thing takes, of several that follow each other.
        count: How many such things there are.
    """

    first: int
    each: int
    count: int = 1

    @property
    def end(self) -> int:
        """The cell behind them."""
        return self.first + self.each * self.count

    def at(self, number: int) -> int:
        """Return the first cell of a thing."""
        return self.first + self.each * number


def _laid_out(*sizes: tuple[int, int]) -> Iterator[Block]:
    first = 0
    for each, count in sizes:
        block = Block(first, each, count)
        yield block
        first = block.end


def histogram_cells(bounds: Sequence[float]) -> int:
    """Return how many cells a histogram takes: its buckets, those of longer ones, and the sum."""
    return len(bounds) + 2


SERIES_CELLS = 1 + len(STATUSES) + histogram_cells(BUCKETS_S)
"""A series of requests: its key, a count for each status, and a histogram."""

_ENTITIES = MOST_ENTITIES + 1
(USED, COUNTED, MEASURED, REFUSED, FAILED, REJECTED, TIMED, ROWS, VALUES, AGES, VERSIONS, NAMES, SERIES) = _laid_out(
    (1, 1),
    (1, len(COUNTS)),
    (1, len(GAUGES)),
    (1, len(REASONS)),
    (1, len(PROBLEMS)),
    (1, len(REJECTIONS)),
    (histogram_cells(CALL_BUCKETS_S), len(CALLS)),
    (len(VERDICTS), _ENTITIES),
    (len(VALUE_STATUSES), _ENTITIES),
    (histogram_cells(AGE_BUCKETS_S), _ENTITIES),
    (1, _ENTITIES),
    (_NAME_CELLS, MOST_ENTITIES),
    (SERIES_CELLS, MOST_SERIES),
)
_CELLS = SERIES.end


class Totals(msgspec.Struct):
    """The totals of one method, route and entity.

    Attributes:
        method: One of `METHODS`.
        route: One of `ROUTES`.
        statuses: How many requests, for each of `STATUSES`.
        buckets: How many took no longer than each of `BUCKETS_S` and longer than the one before; last, any longer ones.
        seconds: How long all of them took together.
        entity: Whose features they were about; None where that is none, or several.
    """

    method: str
    route: str
    statuses: list[float]
    buckets: list[float]
    seconds: float
    entity: str | None = None


class Board:
    """The counts of several processes, a place for each, in memory that forked processes share.

    A process that takes the place of an ended one goes on from its counts, so that no count ever goes back.

    Args:
        places: How many processes there may be at once.
    """

    def __init__(self, places: int = 1) -> None:
        self._places = places
        cells = memoryview(mmap.mmap(-1, (places * _CELLS + _TOLD_CELLS) * _CELL_BYTES)).cast("d")
        self._cells, self._told = cells, cells[places * _CELLS :]

    def place(self, number: int) -> "memoryview[float]":
        """Return the cells of one process; the last place serves all numbers beyond it."""
        first = min(number, self._places - 1) * _CELLS
        return self._cells[first : first + _CELLS]

    def leave(self, number: int) -> None:
        """Take note that the process at a place has ended: its gauges end with it, its counts stay."""
        cells = self.place(number)
        for cell in range(MEASURED.first, MEASURED.end):
            cells[cell] = 0.0
        for cell in range(VERSIONS.first, VERSIONS.end):
            cells[cell] = 0.0

    def tell_pace(self, at: float, rate: float) -> None:
        """Tell the other processes how much of big requests lets small ones be quick; see `transport/pace.py`.

        Args:
            at: The time, by the system's monotonic clock.
            rate: The pace.
        """
        self._told[0], self._told[1] = at, rate

    def told_pace(self) -> tuple[float, float]:
        """Return what a process has told last."""
        return self._told[0], self._told[1]

    def requests(self) -> Iterator[Totals]:
        """Yield the totals of each method, route and entity that had requests, over all processes."""
        sums: dict[tuple[int, int, str], list[float]] = {}
        for cells in self._used():
            names = [*entities_of(cells), *[""] * MOST_ENTITIES][:MOST_ENTITIES]
            for key, series in _series_of(cells):
                slot, route, method = parts_of(key)
                name = "" if slot == 0 else OTHER if slot > MOST_ENTITIES else names[slot - 1]
                known = sums.setdefault((route, method, name), [0.0] * len(series))
                known[:] = map(sum, zip(known, series, strict=True))
        for (route, method, name), cells_of in sorted(sums.items()):
            if any(cells_of):
                first = len(STATUSES)
                statuses, buckets = cells_of[:first], cells_of[first:-1]
                yield Totals(METHODS[method], ROUTES[route], statuses, buckets, cells_of[-1], name or None)

    def rows(self) -> dict[str, float]:
        """Return how many rows all processes have counted: letter of the verdict → count."""
        counts = self.by_entity(ROWS)
        return {letter: sum(each[place] for each in counts.values()) for place, letter in enumerate(VERDICTS)}

    def sums(self, block: Block) -> list[float]:
        """Return the sums over all processes of the cells of a block."""
        used = [cells[block.first : block.end] for cells in self._used()]
        return list(map(sum, zip(*used, strict=True))) if used else [0.0] * (block.end - block.first)

    def by_entity(self, block: Block) -> dict[str, list[float]]:
        """Return the sums over all processes of the cells that a block has for each entity, by its name."""
        sums: dict[str, list[float]] = {}
        for cells in self._used():
            for slot, name in enumerate((*entities_of(cells), OTHER)):
                place = MOST_ENTITIES if name is OTHER else slot
                found = list(cells[block.at(place) : block.at(place + 1)])
                if name is OTHER and not any(found):
                    continue
                known = sums.setdefault(name, [0.0] * block.each)
                known[:] = map(sum, zip(known, found, strict=True))
        return sums

    def living(self) -> Iterator[tuple[int, "memoryview[float]"]]:
        """Yield the number of each place that has a running process, and its cells."""
        for number in range(self._places):
            cells = self.place(number)
            if cells[USED.first] and cells[MEASURED.first]:
                yield number, cells

    def used(self) -> Iterator[tuple[int, "memoryview[float]"]]:
        """Yield the number of each place that ever had a process, and its cells."""
        for number in range(self._places):
            cells = self.place(number)
            if cells[USED.first]:
                yield number, cells

    def _used(self) -> list["memoryview[float]"]:
        return [cells for _, cells in self.used()]


def entities_of(cells: "memoryview[float]") -> list[str]:
    """Return the names of the entities that a process has counted for, in the order of their slots."""
    raw = cells[NAMES.first : NAMES.end].tobytes()
    width = _NAME_CELLS * _CELL_BYTES
    names = (raw[first : first + width].rstrip(b"\0").decode() for first in range(0, len(raw), width))
    return [name for name in names if name]


def write_name(cells: "memoryview[float]", slot: int, name: str) -> None:
    """Keep the name of the entity that a slot is for."""
    raw = memoryview(name.encode().ljust(_NAME_CELLS * _CELL_BYTES, b"\0")).cast("d")
    first = NAMES.at(slot)
    cells[first : first + _NAME_CELLS] = raw


def key_of(slot: int, route: int, method: int) -> int:
    """Return the key of a series. It is above 0, which is what an unused one has.

    Args:
        slot: 0 for requests about no entity, else one more than the entity's slot.
        route: The route's place among `ROUTES`.
        method: The method's place among `METHODS`.
    """
    return (slot * len(ROUTES) + route) * len(METHODS) + method + 1


def parts_of(key: int) -> tuple[int, int, int]:
    """Return slot, route and method of a key."""
    rest, method = divmod(key - 1, len(METHODS))
    return *divmod(rest, len(ROUTES)), method


def _series_of(cells: "memoryview[float]") -> Iterator[tuple[int, list[float]]]:
    """Yield the key and the other cells of each series of a place."""
    for number in range(MOST_SERIES):
        first = SERIES.at(number)
        key = int(cells[first])
        if not key:
            return
        yield key, list(cells[first + 1 : first + SERIES_CELLS])
