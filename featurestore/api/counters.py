"""Counters in memory that all workers share. `prometheus.py` shows them."""

import mmap
from bisect import bisect_left
from collections.abc import Iterator
from threading import Lock

import msgspec

from featurestore.contract.words import VERDICTS

ROUTES = (
    "/features/{entity_id:path}", "/features/batch", "/features/ingest", "/features/query", "/schema",
    "/entities/{entity}/features/{entity_id:path}", "/entities/{entity}/features/batch",
    "/entities/{entity}/features/ingest", "/entities/{entity}/schema",
    "/get-online-features", "/write-to-online-store", "/push", "/materialize", "/materialize-incremental",
    "/health", "/readyz", "/livez", "/metrics", "other",
)  # fmt: skip
"""The app's paths, as Falcon has them; `other` for all paths that are none of them."""

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "other")
STATUSES = (
    "200", "204", "400", "401", "403", "404", "405", "406", "408", "409", "413", "414", "415", "422", "431", "500",
    "501", "503", "504", "other",
)  # fmt: skip
BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Upper bounds of the histogram's buckets, in seconds."""

_STATUS_PLACES = {status: place for place, status in enumerate(STATUSES)}
_OTHER_STATUS = _STATUS_PLACES["other"]
_BUCKETS_AT = len(STATUSES)
_SUM_AT = _BUCKETS_AT + len(BUCKETS_S) + 1
_SERIES_CELLS = _SUM_AT + 1
_ROWS_AT = len(ROUTES) * len(METHODS) * _SERIES_CELLS
_SERVED_AT = _ROWS_AT + len(VERDICTS)
_USED_AT = _SERVED_AT + 2
_CELLS = _USED_AT + 1
_TOLD_CELLS = 2
_CELL_BYTES = 8


class Totals(msgspec.Struct):
    """The totals of one method and route.

    Attributes:
        method: One of `METHODS`.
        route: One of `ROUTES`.
        statuses: How many requests, for each of `STATUSES`.
        buckets: How many took no longer than each of `BUCKETS_S` and longer than the one before; last, any longer ones.
        seconds: How long all of them took together.
    """

    method: str
    route: str
    statuses: list[float]
    buckets: list[float]
    seconds: float


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
        """Yield the totals of each method and route that had requests, over all processes."""
        sums, first = self._sums(0, _ROWS_AT), 0
        for route in ROUTES:
            for method in METHODS:
                cells = sums[first : first + _SERIES_CELLS]
                first += _SERIES_CELLS
                if any(cells):
                    statuses, buckets = cells[:_BUCKETS_AT], cells[_BUCKETS_AT:_SUM_AT]
                    yield Totals(method, route, statuses, buckets, cells[_SUM_AT])

    def rows(self) -> dict[str, float]:
        """Return how many rows all processes have counted: letter of the verdict → count."""
        return dict(zip(VERDICTS, self._sums(_ROWS_AT, _SERVED_AT), strict=True))

    def served(self) -> dict[str, float]:
        """Return how many rows that were served are kept, and how many are lost, over all processes."""
        return dict(zip(("kept", "lost"), self._sums(_SERVED_AT, _USED_AT), strict=True))

    def _sums(self, first: int, end: int) -> list[float]:
        """Return the sums over all processes of the cells from `first` to before `end`."""
        places = [self.place(number) for number in range(self._places)]
        used = [cells[first:end] for cells in places if cells[_USED_AT]]
        return list(map(sum, zip(*used, strict=True))) if used else [0.0] * (end - first)


class Series:
    """The requests of one method and route.

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


class Meter:
    """Counts what one process does.

    Args:
        board: Where it counts, and where the other processes do.
        number: Its place there.
    """

    def __init__(self, board: Board, number: int = 0) -> None:
        self.board = board
        self._cells = board.place(number)
        self._cells[_USED_AT] = 1
        self._lock = Lock()
        pairs = ((method, route) for route in ROUTES for method in METHODS)
        self._series = {
            pair: Series(self._cells, place * _SERIES_CELLS, self._lock) for place, pair in enumerate(pairs)
        }

    def series(self, method: str, route: str | None) -> Series:
        """Return the series of that method and route."""
        method = method if method in METHODS else "other"
        return self._series[method, route if route in ROUTES else "other"]

    def count_rows(self, verdicts: str) -> None:
        """Count written rows: a letter for each, see `VERDICTS`."""
        with self._lock:
            for place, letter in enumerate(VERDICTS):
                self._cells[_ROWS_AT + place] += verdicts.count(letter)

    def count_served(self, kept: int, lost: int) -> None:
        """Count rows that were served to a service that keeps what it is served."""
        with self._lock:
            self._cells[_SERVED_AT] += kept
            self._cells[_SERVED_AT + 1] += lost


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


def meter() -> Meter:
    """Return this process's meter."""
    _Process.meter = _Process.meter or Meter(_Process.board)
    return _Process.meter
