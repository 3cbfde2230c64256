"""gunicorn's log in the format of ours, and the access log."""

import logging
import sys
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger as GunicornLogger

from featurestore.api.identity import trace_of
from featurestore.api.slow import shown_route
from featurestore.serving.logs import formatter_for
from featurestore.settings import Settings
from featurestore.worker.interface import KEY, REQUEST_ID, ROUTE, Answer

_MS = 1000


class Logger(GunicornLogger):  # type: ignore[misc]
    """What gunicorn logs by: `logger_class` of its configuration.

    The access log has a record a request, with fields in place of a format of gunicorn's. Values of features are never
    among them. Ids are only with FEATURESTORE_LOG_IDS: paths and queries may have some, so that the route stands for
    the path, and the names of the parameters for the query.
    """

    def setup(self, cfg: Any) -> None:
        """Open the logs. Other libraries' records go where gunicorn's go."""
        self._settings = Settings.from_environment()
        super().setup(cfg)
        root = logging.getLogger()
        root.handlers = list(self.error_log.handlers)
        root.setLevel(max(logging.WARNING, self.loglevel))

    def access(self, resp: Any, _req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log a request. What it is made of is gunicorn's."""
        if not self.access_log_enabled:
            return
        status = str(resp.status).partition(" ")[0]
        fields = self._fields(environ["REQUEST_METHOD"], environ.get(ROUTE), status, resp.sent or 0)
        fields["duration_ms"] = round(request_time.total_seconds() * _MS, 3)
        if environ["QUERY_STRING"]:
            fields["query"] = names_in(environ["QUERY_STRING"])
        known = {
            "request_id": environ.get(REQUEST_ID),
            "trace_id": trace_of(environ),
            "key": environ.get(KEY),
            "client": environ.get("REMOTE_ADDR"),
        }
        fields |= {name: value for name, value in known.items() if value}
        if self._settings.log_ids:
            fields["target"] = environ.get("RAW_URI", environ["PATH_INFO"])
        self._tell(fields)

    def plain_access(  # noqa: PLR0913, PLR0917 - what a line has
        self, target: str, route: str, answer: Answer, seconds: float, client: str, key: str = ""
    ) -> None:
        """Log a plain GET that the app answered in the event loop.

        Args:
            target: Its path and query.
            route: The route of all of them.
            answer: What it was answered.
            seconds: How long that took.
            client: The client's address.
            key: The name of the API key that the GETs of its connection come with.
        """
        status, _, body = answer
        fields = self._fields("GET", route, status[:3], len(body))
        fields["duration_ms"] = round(seconds * _MS, 3)
        if "?" in target:
            fields["query"] = names_in(target.partition("?")[2])
        if key:
            fields["key"] = key
        if client:
            fields["client"] = client
        if self._settings.log_ids:
            fields["target"] = target
        self._tell(fields)

    def _fields(self, method: str, route: str | None, status: str, size: int) -> dict[str, Any]:
        number = int(status) if status.isdigit() else status
        return {"method": method, "route": shown_route(route), "status": number, "bytes": size}

    def _tell(self, fields: dict[str, Any]) -> None:
        if isinstance(self.access_log, logging.Logger):
            self.access_log.info("request", extra={"fields": fields})

    def _set_handler(self, log: Any, output: str | None, fmt: Any, stream: Any = None) -> None:  # noqa: ARG002 - stdout is for data
        """Have `log` write to a file, or to stderr for `-`, in our format."""
        super()._set_handler(log, output, fmt, sys.stderr)
        handler = self._get_gunicorn_handler(log)
        if handler is not None:
            handler.setFormatter(formatter_for(handler.stream, self._settings.log_format, pid=True))


def names_in(query: str) -> str:
    """Return the names of a query's parameters, each once: values may be ids."""
    return ",".join(dict.fromkeys(part.partition("=")[0] for part in query.split("&") if part))
