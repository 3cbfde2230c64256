"""What one `GET /features/{entity_id}` executes between the worker and Redis, where `gather.py` does not answer it.

Nearly all requests are this one, so it has a way of its own past the framework: no routing, no request and response
objects. Whatever is not plainly such a request goes to the Falcon app, which answers it the same way.
"""

import logging
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import falcon

from featurestore.api import problems
from featurestore.api.counters import Meter
from featurestore.api.problems import Answer
from featurestore.errors import FeatureStoreError, UnknownIdError
from featurestore.store.blocking import FeatureStore

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

Respond = Callable[[Answer | None], object]
"""Takes an answer, or None: then the request has to be answered by other means."""

PREFIX = "/features/"
"""The path of an id starts with it."""

ROUTE = "/features/{entity_id:path}"
"""What such requests are counted under."""

_logger = logging.getLogger("featurestore")
_HEADERS = [("content-type", falcon.MEDIA_JSON)]


class HotPath:
    """The WSGI app that workers call.

    Args:
        store: Where the features are.
        app: The Falcon app, for everything else.
        meter: What counts the requests.
        begin: `Gatherer.begin`, where the transport can call Redis without anybody waiting.

    Attributes:
        begin: What the worker asks first, for GETs of plain paths; None where there is only `shortcut`.
    """

    def __init__(
        self, store: FeatureStore, app: App, meter: Meter, begin: Callable[[str, Respond], bool] | None = None
    ) -> None:
        self._store, self._app, self.begin = store, app, begin
        self._answered, self._refused = meter.series("GET", ROUTE), meter.series("other", None)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path: str = environ["PATH_INFO"]
        if environ["QUERY_STRING"] or not path.startswith(PREFIX) or environ["REQUEST_METHOD"] != "GET":
            return self._app(environ, start_response)
        entity_id = path[len(PREFIX) :]
        if not entity_id.isascii():
            try:
                entity_id = entity_id.encode("latin-1").decode()  # WSGI shows bytes as Latin-1
            except UnicodeDecodeError:
                return self._app(environ, start_response)
        status, headers, body = self._answer(entity_id)
        start_response(status, headers)
        return [body]

    def shortcut(self, path: str) -> Answer | None:
        """Answer a GET of a plain path, past WSGI; None for a path that is not of an entity."""
        return self._answer(path[len(PREFIX) :]) if path.startswith(PREFIX) else None

    def count_refusal(self, status: str) -> None:
        """Count a request that the worker has refused."""
        self._refused.add(status, 0.0)

    def _answer(self, entity_id: str) -> Answer:
        began = perf_counter()
        try:
            answer = answer_with(self._store.get_json(entity_id), self._store, entity_id)
        except FeatureStoreError as error:
            answer = problems.answer_to(error)
        except Exception:
            _logger.exception("GET of an entity's features failed")
            answer = problems.answer(falcon.HTTP_INTERNAL_SERVER_ERROR, problems.UNFORESEEN)
        self._answered.add(answer[0], perf_counter() - began)
        return answer


def answer_with(body: bytes | None, store: FeatureStore, entity_id: str) -> Answer:
    """Return the answer to a read; `body` is None for an unknown id."""
    if body is None:
        return problems.answer_to(UnknownIdError(store.keys.entity, entity_id))
    return falcon.HTTP_OK, _HEADERS, body
