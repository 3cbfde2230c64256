"""What a consumer has done, for its log and its metrics."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from http.server import HTTPServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .interface import DeadLetter, Entry, Lag


class Counts:
    """Counts since the consumer was started. One thread writes, others may read.

    Attributes:
        entries: Source → how many were delivered and settled.
        redelivered: How many of them had been delivered before.
        outcomes: `written`, `skipped` or `rejected` → how many.
        dead: Code → how many dead letters.
        lost: How many were trimmed before they were written.
        lags: How far each source is consumed, as last asked.
        wrote_at: When something was last written, in seconds since 1970; None before that.
        waiting: Why the consumer waits; None while it does not.
    """

    def __init__(self) -> None:
        self.entries: Counter[str] = Counter()
        self.redelivered = 0
        self.outcomes: Counter[str] = Counter(written=0, skipped=0, rejected=0)
        self.dead: Counter[str] = Counter()
        self.lost = 0
        self.lags: Sequence[Lag] = ()
        self.wrote_at: float | None = None
        self.waiting: str | None = None

    def add(self, entries: Sequence[Entry], written: int, skipped: int, dead: Sequence[DeadLetter]) -> None:
        """Count entries that are settled."""
        for source in {entry.source for entry in entries}:
            self.entries[source] += sum(entry.source == source for entry in entries)
        self.redelivered += sum(entry.deliveries > 1 for entry in entries)
        self.outcomes.update(written=written, skipped=skipped, rejected=len(dead))
        self.dead.update(letter.code for letter in dead)
        if written:
            self.wrote_at = time.time()

    def told(self, before: "Told | None") -> "Told":
        """Return a line for the log, with rates since the line `before`."""
        return Told(self, before)


class Told:
    """One line of the log about the counts.

    Attributes:
        total: How many entries there were.
        at: When, by a clock that only goes on.
    """

    def __init__(self, counts: Counts, before: "Told | None") -> None:
        self.total, self.at = counts.entries.total(), time.monotonic()
        took = self.at - before.at if before else 0.0
        rate = (self.total - before.total) / took if before and took > 0 else 0.0
        outcomes = counts.outcomes
        ago = "never" if counts.wrote_at is None else f"{max(0.0, time.time() - counts.wrote_at):.1f} s ago"
        self.text = (
            f"{self.total} entries ({rate:.0f}/s): {outcomes['written']} written, {outcomes['skipped']} skipped, "
            f"{outcomes['rejected']} dead; {counts.redelivered} delivered again, {counts.lost} lost by trimming; "
            f"lag {_lag_text(counts.lags)}; last write {ago}"
        )


def _lag_text(lags: Sequence[Lag]) -> str:
    if not lags:
        return "unknown"
    entries = [lag.entries for lag in lags]
    told = "unknown entries" if None in entries else f"{sum(filter(None, entries))} entries"
    return f"{told}, {max((lag.seconds or 0.0) for lag in lags):.1f} s"


def serve_metrics(counts: Counts, host: str, port: int) -> HTTPServer:
    """Answer Prometheus on this address, in a thread of its own.

    Raises:
        OSError: Nobody can listen there.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(counts))
    server, _ = start_http_server(port, host, registry)
    return server


class _Families(Collector):
    """The counts as Prometheus's library takes them."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        counts, prefix = self._counts, "featurestore_consumer"
        entries = CounterMetricFamily(f"{prefix}_entries", "Entries settled, by source.", labels=["source"])
        for source, count in counts.entries.copy().items():
            entries.add_metric([source], count)
        rows = CounterMetricFamily(f"{prefix}_rows", "What became of entries.", labels=["outcome"])
        for outcome, count in counts.outcomes.copy().items():
            rows.add_metric([outcome], count)
        dead = CounterMetricFamily(f"{prefix}_dead_letters", "Entries moved to the dead letters.", labels=["code"])
        for code, count in counts.dead.copy().items():
            dead.add_metric([code], count)
        again = CounterMetricFamily(
            f"{prefix}_redelivered", "Entries that had been delivered before.", counts.redelivered
        )
        lost = CounterMetricFamily(f"{prefix}_lost", "Entries that were trimmed before they were written.", counts.lost)
        waiting = GaugeMetricFamily(
            f"{prefix}_waiting", "1 while the consumer waits for a server.", int(bool(counts.waiting))
        )
        wrote = GaugeMetricFamily(
            f"{prefix}_last_write_timestamp_seconds", "When something was last written.", counts.wrote_at or 0.0
        )
        return [entries, rows, dead, again, lost, waiting, wrote, *_lag_families(prefix, counts.lags)]


def _lag_families(prefix: str, lags: Sequence[Lag]) -> list[Metric]:
    families = [
        GaugeMetricFamily(f"{prefix}_lag_entries", "Entries that nobody of the group was given.", labels=["source"]),
        GaugeMetricFamily(f"{prefix}_pending_entries", "Entries given and not acknowledged.", labels=["source"]),
        GaugeMetricFamily(f"{prefix}_lag_seconds", "How much younger the newest entry is.", labels=["source"]),
    ]
    for lag in lags:
        for family, value in zip(families, (lag.entries, lag.pending, lag.seconds), strict=True):
            if value is not None:
                family.add_metric([lag.source], value)
    return list(families)
