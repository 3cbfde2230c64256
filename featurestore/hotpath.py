"""What one `GET /features/{user_id}` executes between the worker and Redis, from top to bottom.

Nearly all requests are this one, so it has a way of its own past the framework: no routing, no request and response
objects. Whatever is not plainly such a request goes to the Falcon app, which answers it the same way.
"""

from collections.abc import Callable, Iterable
from typing import Any

import falcon

from featurestore import problems
from featurestore.errors import FeatureStoreError
from featurestore.problems import Answer
from featurestore.store import FeatureStore

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

_PREFIX = "/features/"
_HEADERS = [("content-type", falcon.MEDIA_JSON)]


class HotPath:
    """The WSGI app that workers call.

    Args:
        store: Where the features are.
        app: The Falcon app, for everything else.
    """

    def __init__(self, store: FeatureStore, app: App) -> None:
        self._fetch = store.fetch_json
        self._noun = store.keys.entity.capitalize()
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path: str = environ["PATH_INFO"]
        if environ["QUERY_STRING"] or not path.startswith(_PREFIX) or environ["REQUEST_METHOD"] != "GET":
            return self._app(environ, start_response)
        user_id = path[len(_PREFIX) :]
        if not user_id.isascii():
            try:
                user_id = user_id.encode("latin-1").decode()  # WSGI shows bytes as Latin-1
            except UnicodeDecodeError:
                return self._app(environ, start_response)
        status, headers, body = self._answer(user_id)
        start_response(status, headers)
        return [body]

    def shortcut(self, path: str) -> Answer | None:
        """Answer a GET of a plain path, past WSGI; None for a path that is not of an entity."""
        return self._answer(path[len(_PREFIX) :]) if path.startswith(_PREFIX) else None

    def _answer(self, user_id: str) -> Answer:
        try:
            body = self._fetch(user_id)
        except FeatureStoreError as error:
            return problems.answer_to(error)
        if body is None:
            return problems.answer(falcon.HTTP_NOT_FOUND, f"{self._noun} {user_id} not found")
        return falcon.HTTP_OK, _HEADERS, body
