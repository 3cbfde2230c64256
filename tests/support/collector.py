"""An OTLP collector: takes spans over HTTP, and decodes them."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span(NamedTuple):
    """A span as it arrived; ids as hexadecimal digits, times in ns."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    attributes: dict[str, Any]
    failed: bool
    service: str


class Collector:
    """Listens on a loopback port while it is entered. `spans` has what came so far."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                collector.spans += decoded(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def below(self, parent: Span) -> list[Span]:
        """The children of a span, in the order of their beginnings."""
        return sorted((each for each in list(self.spans) if each.parent == parent.id), key=lambda each: each.began)


def decoded(body: bytes) -> list[Span]:
    message = ExportTraceServiceRequest.FromString(body)
    found = []
    for resource in message.resource_spans:
        service = values(resource.resource.attributes)["service.name"]
        found += [
            Span(
                each.name,
                each.kind,
                each.trace_id.hex(),
                each.span_id.hex(),
                each.parent_span_id.hex(),
                each.start_time_unix_nano,
                each.end_time_unix_nano,
                values(each.attributes),
                each.status.code == each.status.STATUS_CODE_ERROR,
                service,
            )
            for scope in resource.scope_spans
            for each in scope.spans
        ]
    return found


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
