"""`GET /metrics`: the counts of all workers, for Prometheus."""

from collections.abc import Iterable
from itertools import accumulate
from time import perf_counter

from falcon import Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from featurestore.api.counters import BUCKETS_S, STATUSES, Board, Meter
from featurestore.contract.words import VERDICTS


class Measuring:
    """Falcon middleware that counts the requests that the app answers."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def process_request(self, req: Request, _resp: Response) -> None:
        """Note when the request came."""
        req.context.began = perf_counter()

    def process_response(self, req: Request, resp: Response, _resource: object, _succeeded: bool) -> None:  # noqa: FBT001 - Falcon's
        """Count the request."""
        series = self._meter.series(req.method, req.uri_template)
        series.add(str(resp.status), perf_counter() - req.context.began)


class MetricsResource:
    """`GET /metrics`: what all workers have counted since the server was started."""

    def __init__(self, board: Board) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(board))

    def on_get(self, req: Request, resp: Response) -> None:
        """Answer in the text format, or as OpenMetrics if the request asks for it."""
        encode, content_type = choose_encoder(req.get_header("Accept") or "")
        resp.content_type = content_type
        resp.data = encode(self._registry)

    on_head = on_get


class _Families(Collector):
    """The counts as Prometheus's library takes them. A request series that never happened is left out."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "featurestore_requests",
            "Requests answered, by method, route and status.",
            labels=["method", "route", "status"],
        )
        durations = HistogramMetricFamily(
            "featurestore_request_duration_seconds",
            "From a request having been read to its response being ready, by method and route.",
            labels=["method", "route"],
        )
        bounds = [*map(str, BUCKETS_S), "+Inf"]
        for totals in self._board.requests():
            labels = [totals.method, totals.route.replace("{entity_id:path}", "{id}")]
            for status, count in zip(STATUSES, totals.statuses, strict=True):
                if count:
                    requests.add_metric([*labels, status], count)
            buckets = list(zip(bounds, accumulate(totals.buckets), strict=True))
            durations.add_metric(labels, buckets, totals.seconds)
        rows = CounterMetricFamily(
            "featurestore_rows", "Rows that requests brought to be written, by verdict.", labels=["verdict"]
        )
        for letter, count in self._board.rows().items():
            rows.add_metric([VERDICTS[letter].replace(" ", "_")], count)
        served = CounterMetricFamily(
            "featurestore_served_rows",
            "Rows served by services that keep what they serve, in the sample: kept in Redis, or lost.",
            labels=["outcome"],
        )
        for outcome, count in self._board.served().items():
            served.add_metric([outcome], count)
        return [requests, durations, rows, served]
