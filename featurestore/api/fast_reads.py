"""`GET /features/{entity_id}` past the framework: no routing, no request and response objects.

Nearly all requests are this one. Those of our own worker that are plain are gathered (`gathered_reads`); what cannot be
answered that way, and what comes under gunicorn's own workers, is read here by the store's plan. All other requests go
to the Falcon app.
"""

import contextlib
import logging
from collections.abc import Iterable
from time import perf_counter
from typing import Any

import falcon

from featurestore.access.key import READ
from featurestore.api import problems
from featurestore.api.access import Access
from featurestore.api.counters import Meter
from featurestore.api.formats import VARY, accepts_json
from featurestore.api.observing import App, Observer
from featurestore.api.vitals import Vitals
from featurestore.errors import FeatureStoreError, UnknownIdError
from featurestore.store.blocking import FeatureStore
from featurestore.worker.interface import PLAIN_ROUTE, REQUEST_ID, ROUTE, Answer, StartResponse

PREFIX = "/features/"
"""What stands in front of the id in a path."""

ID_AT = len(PREFIX)
"""Where the id begins."""

HEADERS = [("content-type", falcon.MEDIA_JSON), VARY]
"""Of features. A cache that has this answer must not give it to someone who wants msgpack, which is why it says that
it depends on `Accept`: 14 bytes an answer, and no time, since heads of answers are made once."""

_logger = logging.getLogger("featurestore")


class FastReads:
    """The WSGI app that workers call.

    Args:
        store: Where the features are.
        app: The Falcon app, for everything but reads of all features of an entity.
        meter: What counts the requests.
        access: Who may read; everybody when left out.
        observer: Gives requests their ids, and tells of slow ones.

    Attributes:
        vitals: What the worker tells of itself once a second.
    """

    def __init__(
        self,
        store: FeatureStore,
        app: App,
        meter: Meter,
        observer: Observer | None = None,
        access: Access | None = None,
    ) -> None:
        self._store, self._app, self._meter = store, app, meter
        self._access = access if access is not None and access.closed else None
        self._observer = observer or Observer()
        self._entity = store.keys.entity
        self._answered, self._refused = meter.series("GET", PLAIN_ROUTE, self._entity), meter.series("other", None)
        self.vitals = Vitals(meter, store)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        return self._observer.answer(self._answer, environ, start_response)

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request that has its id."""
        path: str = environ["PATH_INFO"]
        if (
            environ["QUERY_STRING"]
            or not path.startswith(PREFIX)
            or environ["REQUEST_METHOD"] != "GET"
            or "HTTP_FEATURESTORE_READ_FROM" in environ
            or not accepts_json(environ.get("HTTP_ACCEPT"))
        ):
            return self._app(environ, start_response)
        entity_id = path[ID_AT:]
        if not entity_id.isascii():
            try:
                entity_id = entity_id.encode("latin-1").decode()  # WSGI shows bytes as Latin-1
            except UnicodeDecodeError:
                return self._app(environ, start_response)
        environ[ROUTE] = PLAIN_ROUTE
        refusal = None if self._access is None else self._refusal(self._access, environ)
        status, headers, body = refusal or self._read(entity_id, environ[REQUEST_ID])
        start_response(status, headers)
        return [body]

    def meet_servers(self) -> None:
        """Learn which servers there are, so that no request waits for that; if none tells, requests ask again."""
        with contextlib.suppress(FeatureStoreError):
            self._store.transport.nodes()

    def _read(self, entity_id: str, request_id: str) -> Answer:
        """Read an entity's features, waiting for Redis, and return the answer."""
        began = perf_counter()
        try:
            body = self._store.get_json(entity_id)
            if body is None:
                answer = self.unknown(entity_id, request_id)
                self._meter.count_problem(UnknownIdError.code)
            else:
                answer = falcon.HTTP_OK, HEADERS, body
                self._meter.seen[self._entity] = [entity_id], None
        except FeatureStoreError as error:
            answer = problems.answer_to(error, request_id)
            self._meter.count_problem(problems.kind_of(error))
        except Exception:
            self._meter.count_problem("internal")
            _logger.exception("GET of an entity's features failed", extra={"fields": {"request_id": request_id}})
            answer = problems.answer(falcon.HTTP_INTERNAL_SERVER_ERROR, problems.UNFORESEEN, request_id=request_id)
        self._answered.add(answer[0], perf_counter() - began)
        return answer

    def _refusal(self, access: Access, environ: dict[str, Any]) -> Answer | None:
        """Return the answer to a read that is not permitted; None where it is."""
        began = perf_counter()
        try:
            access.admit(environ, READ, self._store.keys.entity)
        except FeatureStoreError as error:
            refusal = problems.answer_to(error, environ.get(REQUEST_ID))
            self._answered.add(refusal[0], perf_counter() - began)
            self._meter.count_problem(problems.kind_of(error))
            return refusal
        return None

    def unknown(self, entity_id: str, request_id: str | None = None) -> Answer:
        """Return the answer to a read of an unknown id."""
        return problems.answer_to(UnknownIdError(self._store.keys.entity, entity_id), request_id)

    def begin_serving(self) -> None:
        """Get ready in the process that serves, before the first request."""
        self.meet_servers()
        if self._observer.tracing is not None:
            self._observer.tracing.start()

    def end_serving(self) -> None:
        """Send what is left to be kept, and of traces."""
        self._store.send_kept()
        if self._observer.tracing is not None:
            self._observer.tracing.stop()
