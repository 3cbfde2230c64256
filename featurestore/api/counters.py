"""What a process counts, on the board that all workers share. `prometheus.py` shows it."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from time import monotonic, time

from featurestore.api.board import (
    AGE_BUCKETS_S,
    AGES,
    BUCKETS_S,
    CALL_BUCKETS_S,
    CALLS,
    COUNTED,
    COUNTS,
    FAILED,
    GAUGES,
    MEASURED,
    METHODS,
    MOST_ENTITIES,
    MOST_SERIES,
    OTHER,
    PROBLEMS,
    REASONS,
    REFUSED,
    REJECTED,
    REJECTIONS,
    ROUTES,
    ROWS,
    SERIES,
    STATUSES,
    TIMED,
    USED,
    VALUE_STATUSES,
    VALUES,
    VERSIONS,
    Block,
    Board,
    entities_of,
    key_of,
    parts_of,
    write_name,
)
from featurestore.contract.words import VERDICTS
from featurestore.transport.pipeline import Waiter

__all__ = ["BUCKETS_S", "METHODS", "ROUTES", "STATUSES", "Board", "Meter", "Series", "meter", "share", "take_place"]

_STATUS_PLACES = {status: place for place, status in enumerate(STATUSES)}
_OTHER_STATUS = _STATUS_PLACES["other"]
_BUCKETS_AT = len(STATUSES)
_SUM_AT = _BUCKETS_AT + len(BUCKETS_S) + 1
_OTHER_SERIES = key_of(0, len(ROUTES) - 1, len(METHODS) - 1)
_COUNT_CELLS = {name: COUNTED.first + place for place, name in enumerate(COUNTS)}
_GAUGE_CELLS = {name: MEASURED.first + place for place, name in enumerate(GAUGES)}
_CALL_NAMES: Mapping[str, str] = {"a read": "reads", "a write and a read": "upsert_and_get"}
"""What `Script.name` says of what stands for several scripts → its label."""

_BUSY_PER_S, _BUSY_MASK = 1000, 7
"""With so many reads of replies in a second, one in eight is looked at."""

_LEAST_PERIOD_S = 0.5


class Series:
    """The requests of one method, route and entity.

    Args:
        cells: Where this process counts.
        first: The first of the cells that are the series'.
        lock: Held while counting: some workers have threads.
    """

    __slots__ = ("_cells", "_first", "_lock")

    def __init__(self, cells: "memoryview[float]", first: int, lock: Lock) -> None:
        self._cells, self._first, self._lock = cells, first, lock

    def add(self, status: str, seconds: float, count: int = 1) -> None:
        """Count requests.

        Args:
            status: How they were answered: a status line, or its number.
            seconds: How long each took.
            count: How many there were.
        """
        cells, first = self._cells, self._first
        with self._lock:
            cells[first + _STATUS_PLACES.get(status[:3], _OTHER_STATUS)] += count
            cells[first + _BUCKETS_AT + bisect_left(BUCKETS_S, seconds)] += count
            cells[first + _SUM_AT] += seconds * count


class CallTimes:
    """How long calls of Redis take, by what was called; see `transport.interface.CallTimes`.

    They are counted in lists, since a look at the board costs more, and once a second they are moved there. While a
    worker is busy, one read of replies in eight is looked at, and its calls count for eight.

    Args:
        cells: Where this process counts.
        lock: Held by threads while counting.

    Attributes:
        reads: How many reads of shared connections have brought replies.
        mask: 0 while all of them are looked at.
    """

    def __init__(self, cells: "memoryview[float]", lock: Lock) -> None:
        self._cells, self._lock = cells, lock
        self._counts = [[0.0] * TIMED.each for _ in CALLS]
        self._by_name = dict(zip(CALLS, self._counts, strict=True))
        self._by_name |= {name: self._by_name[label] for name, label in _CALL_NAMES.items()}
        self._others = self._by_name["command"]
        self.reads = self.mask = 0
        self._reads_before, self._published_at = 0, monotonic()

    def answered(self, waiters: Sequence[Waiter]) -> None:
        """Count calls that have been answered just now, for those of other reads too; only in an event loop."""
        self._count(waiters, self.mask + 1)

    def given_up(self, waiters: Sequence[Waiter]) -> None:
        """Count calls that are given up just now; only in an event loop."""
        self._count(waiters, 1)

    def _count(self, waiters: Sequence[Waiter], weight: int) -> None:
        now, by_name, others = monotonic(), self._by_name, self._others
        for waiter in waiters:
            seconds, count = now - waiter.deadline + waiter.allowed, waiter.count * weight
            counts = by_name.get(waiter.expected.name, others)
            counts[bisect_left(CALL_BUCKETS_S, seconds)] += count
            counts[-1] += seconds * count

    def took(self, name: str, seconds: float, count: int) -> None:
        """Count calls that left in one write and are answered."""
        counts = self._by_name.get(name, self._others)
        with self._lock:
            counts[bisect_left(CALL_BUCKETS_S, seconds)] += count
            counts[-1] += seconds * count

    def publish(self) -> None:
        """Move what was counted to the board, and see whether the worker is busy."""
        now = monotonic()
        took = now - self._published_at
        if took > _LEAST_PERIOD_S:
            self.mask = _BUSY_MASK if self.reads - self._reads_before > _BUSY_PER_S * took else 0
            self._reads_before, self._published_at = self.reads, now
        with self._lock:
            for place, counts in enumerate(self._counts):
                if counts[-1]:
                    first = TIMED.at(place)
                    for cell, amount in enumerate(counts, first):
                        self._cells[cell] += amount
                    counts[:] = [0.0] * len(counts)


class Meter:
    """Counts what one process does.

    Args:
        board: Where it counts, and where the other processes do.
        number: Its place there.

    Attributes:
        board: Where it counts, and where the other processes do.
        calls: Counts the calls of Redis.
        seen: Entity → ids that were read lately, and which features of them; None for all of the packed row. `Vitals`
            takes samples of it.
        publish: Brings the gauges on the board up to date.
    """

    publish: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, board: Board, number: int = 0) -> None:
        self.board = board
        self._cells = board.place(number)
        self._lock = Lock()
        self._slots = {name: slot for slot, name in enumerate(entities_of(self._cells))}
        self._series: dict[tuple[str, str, int], Series] = {}
        self._looked_up: dict[tuple[str, str | None, str | None], Series] = {}
        self._made = 0
        self._learn_series()
        self._cells[USED.first] = 1
        self.calls = CallTimes(self._cells, self._lock)
        self.seen: dict[str, tuple[Sequence[str], Sequence[str] | None]] = {}

    def series(self, method: str, route: str | None, entity: str | None = None) -> Series:
        """Return the series of that method, route and entity.

        Args:
            method: The request's; counts as `other` if it is none of `METHODS`.
            route: As Falcon has it; counts as `other` if it is none of `ROUTES`.
            entity: An entity that has a schema; None if the request is about none, or several.
        """
        known = self._looked_up.get((method, route, entity))
        if known is not None:
            return known
        asked = method, route, entity
        method = method if method in METHODS else OTHER
        route = route if route in ROUTES else OTHER
        slot = 0 if entity is None else self._slot_of(entity) + 1
        found = self._series.get((method, route, slot)) or self._new_series(method, route, slot)
        if len(self._looked_up) < MOST_SERIES:  # methods and entities may be of a client's making
            self._looked_up[asked] = found
        return found

    def count_rows(self, verdicts: str, entity: str | None = None, rejected: Iterable[str] = ()) -> None:
        """Count written rows.

        Args:
            verdicts: A letter for each, see `VERDICTS`.
            entity: Whose rows they are.
            rejected: The code of each rejected row.
        """
        first = ROWS.at(MOST_ENTITIES if entity is None else self._slot_of(entity))
        with self._lock:
            for place, letter in enumerate(VERDICTS):
                self._cells[first + place] += verdicts.count(letter)
        self._add(REJECTED, REJECTIONS, Counter(rejected))

    def count_problem(self, code: str, count: int = 1) -> None:
        """Count error responses with a code of `PROBLEMS`; others count as `other`."""
        self._add(FAILED, PROBLEMS, {code: count})

    def count_refusal(self, reason: str) -> None:
        """Count a request that the worker refuses, for one of `REASONS`."""
        self._add(REFUSED, REASONS, {reason: 1})

    def count_sample(self, entity: str, statuses: Iterable[str], ages_s: Iterable[float]) -> None:
        """Count the features and the ages of rows that were read again to be looked at.

        Args:
            entity: Whose rows they are.
            statuses: The status of each feature of each row.
            ages_s: The age of each row that has one, in seconds.
        """
        slot = self._slot_of(entity)
        first, ages = VALUES.at(slot), AGES.at(slot)
        with self._lock:
            for status, count in Counter(statuses).items():
                self._cells[first + VALUE_STATUSES.index(status)] += count
            for age in ages_s:
                self._cells[ages + bisect_left(AGE_BUCKETS_S, age)] += 1
                self._cells[ages + len(AGE_BUCKETS_S) + 1] += age

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to one of `COUNTS`."""
        with self._lock:
            self._cells[_COUNT_CELLS[name]] += amount

    def count_served(self, kept: int, lost: int) -> None:
        """Count rows that were served to a service that keeps what it is served."""
        self.add("served_kept", kept)
        self.add("served_lost", lost)

    def set(self, name: str, value: float) -> None:
        """Set one of `GAUGES`."""
        self._cells[_GAUGE_CELLS[name]] = value

    def set_version(self, entity: str, version: int) -> None:
        """Set the version of an entity's schema as last seen."""
        slot = self._slot_of(entity)
        if slot < MOST_ENTITIES:
            self._cells[VERSIONS.at(slot)] = version

    def tell_ready(self, *, ready: bool) -> None:
        """Take note of what a health check has found."""
        self.set("ready", float(ready))
        self.set("ready_at", time())

    def _add(self, block: Block, labels: tuple[str, ...], counts: Mapping[str, int]) -> None:
        with self._lock:
            for label, count in counts.items():
                place = labels.index(label) if label in labels else len(labels) - 1
                self._cells[block.first + place] += count

    def _slot_of(self, entity: str) -> int:
        """Return an entity's slot, which it has from now on; that of all others if there is no further one."""
        slot = self._slots.get(entity)
        if slot is not None:
            return slot
        with self._lock:
            slot = len(self._slots)
            if slot >= MOST_ENTITIES:
                return MOST_ENTITIES
            if entity not in self._slots:
                write_name(self._cells, slot, entity)
                self._slots[entity] = slot
            return self._slots[entity]

    def _learn_series(self) -> None:
        """Learn what was counted here before."""
        cells = self._cells
        while self._made < MOST_SERIES and cells[SERIES.at(self._made)]:
            slot, route, method = parts_of(int(cells[SERIES.at(self._made)]))
            self._keep_series(METHODS[method], ROUTES[route], slot)
        if not self._made:
            cells[SERIES.at(0)] = _OTHER_SERIES
            self._keep_series(OTHER, OTHER, 0)

    def _new_series(self, method: str, route: str, slot: int) -> Series:
        """Return a series that nothing was counted for; that of all others if there is no room."""
        with self._lock:
            self._learn_series()  # another process may share the place, or another thread have been quicker
            known = self._series.get((method, route, slot))
            if known is not None:
                return known
            if self._made >= MOST_SERIES:
                return self._series[OTHER, OTHER, 0]
            self._cells[SERIES.at(self._made)] = key_of(slot, ROUTES.index(route), METHODS.index(method))
            return self._keep_series(method, route, slot)

    def _keep_series(self, method: str, route: str, slot: int) -> Series:
        series = Series(self._cells, SERIES.at(self._made) + 1, self._lock)
        self._series[method, route, slot] = series
        self._made += 1
        return series


class _Process:
    """Where this process counts. Workers are forked from a process that has made a shared board."""

    board = Board()
    meter: Meter | None = None


def share(places: int) -> None:
    """Make the board on which this process and those forked from it count."""
    _Process.board, _Process.meter = Board(places), None


def take_place(number: int) -> None:
    """Have this process count at a place of its own."""
    _Process.meter = Meter(_Process.board, number)
    _Process.meter.add("starts")


def leave_place(number: int) -> None:
    """Take note that the process at that place has ended."""
    _Process.board.leave(number)


def meter() -> Meter:
    """Return this process's meter."""
    _Process.meter = _Process.meter or Meter(_Process.board)
    return _Process.meter
