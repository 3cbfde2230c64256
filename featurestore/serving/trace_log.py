"""What the log says of traces that cannot be sent: once that they are lost, and once that they are not any more."""

import logging
from typing import Any

_MOST_KEPT = 100
_LONGEST = 300

_logger = logging.getLogger("featurestore")


class _Told(logging.Handler):
    """Takes what OpenTelemetry logs: of each text once, and keeps what its exporters say for `WatchedExporter`."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[str] = []
        self._texts = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record, or pass it on."""
        if record.name.startswith("opentelemetry.exporter"):
            self.reasons.append(record.getMessage()[:_LONGEST])
        elif len(self._texts) < _MOST_KEPT and str(record.msg) not in self._texts:
            self._texts.add(str(record.msg))
            _logger.log(record.levelno, "OpenTelemetry: %s", record.getMessage(), exc_info=record.exc_info)


_told = _Told()


def log_of_telemetry() -> None:
    """Have OpenTelemetry log where the package does, without floods."""
    library = logging.getLogger("opentelemetry")
    library.handlers, library.propagate = [_told], False


class WatchedExporter:
    """An exporter of spans, and whether it could send them."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        self._lost = 0

    def export(self, spans: Any) -> Any:
        """Send spans."""
        _told.reasons.clear()
        try:
            result = self._exporter.export(spans)
            sent, reason = result.value == 0, "; ".join(dict.fromkeys([*_told.reasons[:1], *_told.reasons[-1:]]))
        except Exception as error:  # noqa: BLE001 - whatever it is, requests go on
            result, sent, reason = _failure(), False, str(error)
        if not sent:
            if not self._lost:
                _logger.warning("traces cannot be sent, and are lost: %s", reason)
            self._lost += len(spans)
        elif self._lost:
            _logger.warning("traces are sent again; %d spans were lost", self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Stop."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return whether all is sent."""
        flushed: bool = self._exporter.force_flush(timeout_millis)
        return flushed


def _failure() -> Any:
    from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - only where traces are made

    return SpanExportResult.FAILURE
