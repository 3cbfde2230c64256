"""Traces by OpenTelemetry, for those who switch them on: a span a request, with spans of its stages below it.

Spans are made of times that were noted, once a request is over. So nothing on the way of a request knows of them.
This module imports OpenTelemetry only where traces are made.
"""

import logging
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from threading import Thread, local
from time import monotonic, time_ns
from typing import Any, cast

from featurestore.api.identity import TRACE, parent_of
from featurestore.api.slow import shown_route
from featurestore.errors import ConfigurationError
from featurestore.serving.trace_log import WatchedExporter, log_of_telemetry
from featurestore.settings import CallBy
from featurestore.transport.timings import Asked, Timings
from featurestore.worker.interface import KEY, PLAIN_ROUTE, REQUEST_ID, ROUTE

_NS = 1_000_000_000
_BATCH = 128
"""Spans that leave together, unless OTEL_BSP_MAX_EXPORT_BATCH_SIZE says otherwise: to encode as many takes 2 ms, in
which the worker does nothing else."""

_STOP_S = 2.0
_SERVER_ERROR = 500
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_PACKAGES = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
_PROTOCOL = "http/protobuf"

_logger = logging.getLogger("featurestore")


def check_telemetry(environment: Mapping[str, str] | None = None) -> None:
    """Raise `ConfigurationError` where FEATURESTORE_OTEL is set and traces cannot be made."""
    environment = os.environ if environment is None else environment
    for package in _PACKAGES:  # not imported: the master must not, since gevent patches workers before they import ssl
        try:
            version(package)
        except PackageNotFoundError as error:
            raise ConfigurationError(
                f"FEATURESTORE_OTEL=true wants {package}: pip install 'redis-featurestore[otel]'"
            ) from error
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(variable) or _PROTOCOL
        if protocol != _PROTOCOL:
            raise ConfigurationError(f"{variable}={protocol!r}: traces leave by {_PROTOCOL} alone")


class Traces:
    """Makes traces. Variables of OpenTelemetry's say the rest: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER ...

    Args:
        shows_ids: Whether spans may have paths, which have ids.
        call: How Redis runs the scripts.
    """

    def __init__(self, call: CallBy = "scripts", *, shows_ids: bool = False) -> None:
        check_telemetry()
        self._shows_ids = shows_ids
        self._command = "FCALL" if call == "functions" else "EVALSHA"
        self._processor: Any = None
        self._tracer: Any = None

    def start(self) -> None:
        """Begin to send spans, in the process that serves: threads do not outlive a fork."""
        # ruff: noqa: PLC0415 - see the module
        from opentelemetry import context, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision

        self._api, self._root = trace, context.Context()
        log_of_telemetry()
        size = None if os.environ.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") else _BATCH
        exporter: Any = WatchedExporter(OTLPSpanExporter())
        self._processor = BatchSpanProcessor(exporter, max_export_batch_size=size)
        # The variables' sampler is asked first: a span that it leaves out would cost ten times as much.
        self._sampler, self._drop = TracerProvider(shutdown_on_exit=False).sampler, Decision.DROP
        self._made = RandomIdGenerator()
        self._ids: Any = _Ids(self._made)
        provider = TracerProvider(
            resource=Resource.create(_resource()),
            sampler=ALWAYS_ON,
            id_generator=cast("Any", self._ids),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("featurestore")

    def stop(self) -> None:
        """Send what is left, for two seconds at most."""
        if self._processor is None:
            return
        last = Thread(target=self._processor.shutdown, name="last traces", daemon=True)  # it has no time-out
        last.start()
        last.join(_STOP_S)
        if last.is_alive():
            _logger.warning("traces that were left could not be sent in %g s, and are lost", _STOP_S)

    def record(self, environ: dict[str, Any], timings: Timings, sent: float) -> None:
        """Make the spans of a request, whose response was sent at that time."""
        if self._tracer is None:
            self.start()
        parent = self._parent(environ)
        if not self._samples(parent):
            return
        method, past = environ["REQUEST_METHOD"], _Past()
        route, number = shown_route(environ.get(ROUTE)), int(timings.status[:3] or _SERVER_ERROR)
        attributes = {
            **_of_request(method, route, number),
            "url.scheme": environ["wsgi.url_scheme"],
            "client.address": environ.get("REMOTE_ADDR") or None,
            "featurestore.request_id": environ.get(REQUEST_ID),
            "featurestore.key": environ.get(KEY),
            "url.path": environ["PATH_INFO"] if self._shows_ids else None,
            "url.query": environ["QUERY_STRING"] or None if self._shows_ids else None,
        }
        span = self._begin(_name(method, route), attributes, past(timings.began), parent, "SERVER")
        environ[TRACE] = format(span.get_span_context().trace_id, "032x")
        within = self._api.set_span_in_context(span, self._root)
        all_asked = timings.asked
        for asked in all_asked:
            self._record_asked(asked, within, past)
        if all_asked:
            self._begin("encode", {}, past(all_asked[-1].ended), within).end(past(timings.answered))
        self._begin("send", {}, past(timings.answered), within).end(past(sent))
        self._end(span, number, past(sent))

    def record_read(self, status: str, began: float, sent: float, came: float, count: int) -> None:
        """Make the spans of a plain GET that was answered with others; see `Tracing.record_read`."""
        if self._tracer is None:
            self.start()
        if not self._samples(self._root):
            return
        past, route, number = _Past(), shown_route(PLAIN_ROUTE), int(status[:3])
        attributes = _of_request("GET", route, number)
        span = self._begin(_name("GET", route), attributes, past(began), self._root, "SERVER")
        within = self._api.set_span_in_context(span, self._root)
        script = "get_features" if count == 1 else "get_features_batch"
        asked = Asked(script, 1, sent, came, None)
        self._record_asked(asked, within, past, reads=count)
        now = past(monotonic())
        self._begin("encode", {}, past(came), within).end(now)
        self._end(span, number, now)

    def _samples(self, parent: Any) -> bool:
        """Return whether the trace of a request is sent; one that begins here gets the id that was looked at."""
        self._ids.trace_id = self._made.generate_trace_id()
        decided = self._sampler.should_sample(parent, self._ids.trace_id, "request")
        sampled: bool = decided.decision is not self._drop
        return sampled

    def _record_asked(self, asked: Asked, within: Any, past: "_Past", reads: int = 1) -> None:
        """Make the span of a round trip to Redis."""
        is_script = asked.what.islower()  # commands are upper-case
        command = self._command if is_script else asked.what
        attributes = {
            "db.system.name": "redis",
            "db.operation.name": command,
            "db.stored_procedure.name": asked.what if is_script else None,
            "db.operation.batch.size": asked.count if asked.count > 1 else None,
            "featurestore.reads": reads if reads > 1 else None,
            "error.type": asked.error,
        }
        name = f"{command} {asked.what}" if is_script else command
        span = self._begin(name, attributes, past(asked.began), within, "CLIENT")
        if asked.error:
            span.set_status(self._api.StatusCode.ERROR)
        span.end(past(asked.ended))

    def _begin(self, name: str, attributes: Mapping[str, Any], start: int, within: Any, kind: str = "INTERNAL") -> Any:
        known = {key: value for key, value in attributes.items() if value is not None}
        sort = self._api.SpanKind[kind]
        return self._tracer.start_span(name, context=within, kind=sort, attributes=known, start_time=start)

    def _end(self, span: Any, number: int, at: int) -> None:
        if number >= _SERVER_ERROR:
            span.set_status(self._api.StatusCode.ERROR)
        span.end(at)

    def _parent(self, environ: dict[str, Any]) -> Any:
        """Return the context of the caller's span, or an empty one."""
        parent = parent_of(environ)
        if parent is None:
            return self._root
        trace_id, span_id, sampled = parent
        state = environ.get("HTTP_TRACESTATE")
        caller = self._api.SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=self._api.TraceFlags(int(sampled)),
            trace_state=self._api.TraceState.from_header([state]) if state else None,
        )
        return self._api.set_span_in_context(self._api.NonRecordingSpan(caller), self._root)


class _Ids(local):
    """Gives a trace the id by which this thread has sampled it, and spans new ones."""

    def __init__(self, made: Any) -> None:
        self.trace_id = 0
        self.generate_span_id = made.generate_span_id

    def generate_trace_id(self) -> int:
        """Return the trace's id."""
        return self.trace_id

    def is_trace_id_random(self) -> bool:
        """Return that ids are random, as W3C's flag tells others."""
        return True


class _Past:
    """Turns times of the monotonic clock into ns since 1970."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time_ns() - int(monotonic() * _NS)

    def __call__(self, at: float) -> int:
        return self._offset + int(at * _NS)


def _resource() -> dict[str, str]:
    """Return what the resource has that the environment does not say: this would take precedence over that."""
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {} if named else {"service.name": "featurestore"}


def _of_request(method: str, route: str, number: int) -> dict[str, Any]:
    return {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "http.request.method_original": None if method in _METHODS else method[:64],
        "http.route": None if route == "other" else route,
        "http.response.status_code": number,
        "error.type": str(number) if number >= _SERVER_ERROR else None,
    }


def _name(method: str, route: str) -> str:
    word = method if method in _METHODS else "HTTP"
    return word if route == "other" else f"{word} {route}"
