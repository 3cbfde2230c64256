"""The real app, which counts what the worker asks of it; `/asked` tells."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from featurestore.serving.build import build_app
from featurestore.store import catalog
from featurestore.worker.interface import FastApp, Respond

catalog._SCHEMA_RECHECK_S = 3600.0  # or a read a second would be given back, to make sure of the schema


class CountingApp(FastApp):
    """The app, and how often it was asked: by WSGI, and to begin."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._asked: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/asked":
            start_response("200 OK", [("content-type", "application/json")])
            return [json.dumps(self._asked).encode()]
        if environ["PATH_INFO"].startswith("/features"):
            self._asked["wsgi"] += 1
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    def begin(self, path: str, respond: Respond) -> bool:
        self._asked["begin"] += path.startswith("/features")
        begun: bool = self._app.begin(path, respond)
        return begun

    def count_refusal(self, status: str) -> None:
        self._app.count_refusal(status)


app = CountingApp(build_app())
