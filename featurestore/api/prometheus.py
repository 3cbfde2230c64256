"""`GET /metrics`: what all workers have counted, and how they are, for Prometheus."""

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from itertools import accumulate
from time import perf_counter

from falcon import Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from featurestore.api import board
from featurestore.api.board import DEFAULT_ROUTES, Board
from featurestore.api.counters import Meter
from featurestore.contract.words import VERDICTS
from featurestore.native import built_extensions
from featurestore.store.blocking import FeatureStore
from featurestore.worker.interface import ROUTE

_ENTITY_PREFIX = "/entities/{entity}/"
_NAME_AT = 2
_COUNTED = {name: place for place, name in enumerate(board.COUNTS)}
_MEASURED = {name: board.MEASURED.first + place for place, name in enumerate(board.GAUGES)}


class Measuring:
    """Falcon middleware that counts the requests that the app answers.

    Args:
        meter: What counts.
        store: The default entity's store, which knows what other entities there are.
    """

    def __init__(self, meter: Meter, store: FeatureStore) -> None:
        self._meter, self._store = meter, store
        self._entity = store.keys.entity

    def process_request(self, req: Request, _resp: Response) -> None:
        """Note when the request came."""
        req.context.began = perf_counter()

    def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:  # noqa: FBT001 - Falcon's
        """Count the request, and the problem that it met."""
        route = req.uri_template
        entity = self._entity if route in DEFAULT_ROUTES else self._entity_of(req, route)
        series = self._meter.series(req.method, route, entity)
        series.add(str(resp.status), perf_counter() - req.context.began)
        req.env[ROUTE] = route
        problem = getattr(req.context, "problem", None)
        if problem is not None:
            self._meter.count_problem(problem)

    def _entity_of(self, req: Request, route: str | None) -> str | None:
        """Return the entity that a path names. A name of a client's own making counts as none."""
        if route is None or not route.startswith(_ENTITY_PREFIX):
            return None
        name: str = req.path.split("/", _NAME_AT + 1)[_NAME_AT]
        return name if self._store.has_seen(name) else None


class MetricsResource:
    """`GET /metrics`: what all workers have counted since the server was started, and how they are."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(meter.board))

    def on_get(self, req: Request, resp: Response) -> None:
        """Answer in the text format, or as OpenMetrics if the request asks for it."""
        self._meter.publish()
        encode, content_type = choose_encoder(req.get_header("Accept") or "")
        resp.content_type = content_type
        resp.data = encode(self._registry)

    on_head = on_get


class _Families(Collector):
    """What is on the board as Prometheus's library takes it. A request series that never happened is left out."""

    def __init__(self, shared: Board) -> None:
        self._board = shared

    def collect(self) -> Iterable[Metric]:
        yield from self._requests()
        yield from self._refusals()
        yield from self._rows()
        yield from self._redis()
        yield from self._samples()
        yield from self._workers()
        yield from self._server()

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("featurestore_requests", "Requests answered, by method, route, status, entity.")
        durations = HistogramMetricFamily(
            "featurestore_request_duration_seconds",
            "From a request having been read to its response being ready, by method, route and entity.",
        )
        for totals in self._board.requests():
            labels = {"method": totals.method, "route": totals.route.replace("{entity_id:path}", "{id}")}
            if totals.entity is not None:
                labels["entity"] = totals.entity
            for status, count in zip(board.STATUSES, totals.statuses, strict=True):
                if count:
                    requests.add_sample("featurestore_requests_total", {**labels, "status": status}, count)
            _add_histogram(durations, labels, board.BUCKETS_S, [*totals.buckets, totals.seconds])
        yield requests
        yield durations

    def _refusals(self) -> Iterator[Metric]:
        for name, text, block, label, values in (
            ("problems", "Error responses, by their code, or kind where they have none.", board.FAILED, "code",
             board.PROBLEMS),
            ("refused", "Requests that the worker refused before the app saw them, by reason.", board.REFUSED,
             "reason", board.REASONS),
            ("rows_rejected", "Rows that could not be written, by code.", board.REJECTED, "code", board.REJECTIONS),
        ):  # fmt: skip
            family = CounterMetricFamily(f"featurestore_{name}", text, labels=[label])
            for value, count in zip(values, self._board.sums(block), strict=True):
                family.add_metric([value], count)
            yield family

    def _rows(self) -> Iterator[Metric]:
        rows = CounterMetricFamily(
            "featurestore_rows",
            "Rows that requests brought to be written, by verdict and entity.",
            labels=["entity", "verdict"],
        )
        for entity, counts in self._board.by_entity(board.ROWS).items():
            for verdict, count in zip(VERDICTS.values(), counts, strict=True):
                rows.add_metric([entity, verdict.replace(" ", "_")], count)
        yield rows

    def _redis(self) -> Iterator[Metric]:
        durations = HistogramMetricFamily(
            "featurestore_redis_call_duration_seconds",
            "From a call of Redis being queued to its reply being read, by what was called.",
        )
        cells = self._board.sums(board.TIMED)
        for place, name in enumerate(board.CALLS):
            found = cells[place * board.TIMED.each : (place + 1) * board.TIMED.each]
            if any(found):
                _add_histogram(durations, {"script": name}, board.CALL_BUCKETS_S, found)
        yield durations
        links = GaugeMetricFamily(
            "featurestore_redis_links", "Connections to Redis of all workers, by state.", labels=["state"]
        )
        for state in board.LINKS:
            links.add_metric([state], self._measured(state))
        yield links
        yield GaugeMetricFamily(
            "featurestore_redis_calls_in_flight",
            "Calls of Redis that are not answered, of all workers.",
            value=self._measured("calls_in_flight"),
        )
        yield CounterMetricFamily(
            "featurestore_redis_reconnects",
            "Connections to Redis that were made in the place of earlier ones.",
            value=self._board.sums(board.COUNTED)[_COUNTED["reconnects"]],
        )
        served = CounterMetricFamily(
            "featurestore_served_rows",
            "Rows served by services that keep what they serve, in the sample: kept in Redis, or lost.",
            labels=["outcome"],
        )
        for outcome in ("kept", "lost"):
            served.add_metric([outcome], self._board.sums(board.COUNTED)[_COUNTED[f"served_{outcome}"]])
        yield served

    def _samples(self) -> Iterator[Metric]:
        features = CounterMetricFamily(
            "featurestore_sampled_features",
            "Values of rows that were read again as a sample, by entity and status.",
            labels=["entity", "status"],
        )
        for entity, counts in self._board.by_entity(board.VALUES).items():
            for status, count in zip(board.VALUE_STATUSES, counts, strict=True):
                features.add_metric([entity, status.lower()], count)
        yield features
        ages = HistogramMetricFamily(
            "featurestore_sampled_row_age_seconds",
            "Age of the newest value of rows that were read again as a sample, by entity.",
        )
        for entity, cells in self._board.by_entity(board.AGES).items():
            _add_histogram(ages, {"entity": entity}, board.AGE_BUCKETS_S, cells)
        yield ages

    def _workers(self) -> Iterator[Metric]:
        living = list(self._board.living())
        yield GaugeMetricFamily("featurestore_workers", "Workers that are running.", value=len(living))
        yield CounterMetricFamily(
            "featurestore_worker_starts",
            "Workers started, the first ones too.",
            value=self._board.sums(board.COUNTED)[_COUNTED["starts"]],
        )
        cpu = CounterMetricFamily(
            "featurestore_worker_cpu_seconds",
            "Processor time of workers; one that takes another's place goes on from its time.",
            labels=["worker"],
        )
        for number, cells in self._board.used():
            cpu.add_metric([str(number)], cells[board.COUNTED.first + _COUNTED["cpu_s"]])
        yield cpu
        for gauge, name, text in (
            ("started_at", "start_time_seconds", "When workers started, since 1970."),
            ("resident_bytes", "resident_memory_bytes", "Memory of workers."),
            ("open_files", "open_fds", "Open files and connections of workers."),
            ("most_files", "max_fds", "How many open files and connections workers may have; 0: any number."),
        ):
            family = GaugeMetricFamily(f"featurestore_worker_{name}", text, labels=["worker"])
            for number, cells in living:
                if cells[_MEASURED["resident_bytes"]] or gauge == "started_at":
                    family.add_metric([str(number)], cells[_MEASURED[gauge]])
            yield family

    def _server(self) -> Iterator[Metric]:
        versions = GaugeMetricFamily(
            "featurestore_schema_version", "Version of the schema as last seen, by entity.", labels=["entity"]
        )
        seen: dict[str, float] = {}
        answers = []
        for _, cells in self._board.living():
            answers.append((cells[_MEASURED["ready_at"]], cells[_MEASURED["ready"]]))
            for slot, name in enumerate(board.entities_of(cells)):
                seen[name] = max(seen.get(name, 0.0), cells[board.VERSIONS.at(slot)])
        for name, version in seen.items():
            if version:
                versions.add_metric([name], version)
        yield versions
        ready = GaugeMetricFamily(
            "featurestore_ready", "Whether the last answer of /readyz or /health was that it is; left out until then."
        )
        if max(answers, default=(0.0, 0.0))[0]:
            ready.add_metric([], max(answers)[1])
        yield ready
        build = GaugeMetricFamily("featurestore_build_info", "What is running; the value is 1.", labels=[*_build()])
        build.add_metric([*_build().values()], 1)
        yield build

    def _measured(self, name: str) -> float:
        return sum(cells[_MEASURED[name]] for _, cells in self._board.living())


def _add_histogram(
    family: HistogramMetricFamily, labels: Mapping[str, str], bounds: Sequence[float], cells: Sequence[float]
) -> None:
    """Add a histogram of cells: a count for each bucket, one for what is beyond, and the sum."""
    name, total = family.name, 0.0
    for bound, total in zip((*map(str, bounds), "+Inf"), accumulate(cells[:-1]), strict=True):
        family.add_sample(f"{name}_bucket", {**labels, "le": bound}, total)
    family.add_sample(f"{name}_count", dict(labels), total)
    family.add_sample(f"{name}_sum", dict(labels), cells[-1])


@cache
def _build() -> Mapping[str, str]:
    """Return what is running: label → value."""
    return {
        "version": _version_of("redis-featurestore"),
        "python": platform.python_version(),
        "redis_client": _version_of("redis"),
        "extensions": ",".join(built_extensions()) or "none",
    }


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
