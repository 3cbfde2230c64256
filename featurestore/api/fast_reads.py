"""The way of `GET /features/{entity_id}` from the worker to Redis and back.

Nearly all requests are this one, so it goes past the framework: no routing, no request and response objects.

- `GatheredReads.begin` takes the path of a plain GET from the worker, in the event loop, and keeps it for `_send`.
- `_send` makes one call of a script of all that were gathered in a turn of the loop.
- `_settle` makes an answer for each read of the reply, and hands it to the worker, which sends it.

A read that cannot be answered this way is given back to the worker, which makes a WSGI call of it in a greenlet that
can wait. There `FastReads` reads by the store's plan, as it does for requests that are not plain and under gunicorn's
own workers. All other requests go to the Falcon app.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter
from typing import Any

import falcon

from featurestore.api import problems
from featurestore.api.counters import Meter
from featurestore.api.formats import accepts_json
from featurestore.contract.json_rows import Renderer
from featurestore.contract.resp import Reply
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.contract.selection import Selection
from featurestore.contract.words import encode_id
from featurestore.errors import FeatureStoreError, UnknownIdError
from featurestore.keys import MAX_ID_BYTES
from featurestore.store.blocking import FeatureStore
from featurestore.store.plan import IDS_PER_CALL
from featurestore.transport.interface import Submitting
from featurestore.transport.pipeline import Failure, Waiter
from featurestore.worker.interface import Answer, FastApp, Respond, StartResponse

App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

_PREFIX = "/features/"
_ID_AT = len(_PREFIX)
_LONGEST_PATH = _ID_AT + MAX_ID_BYTES
_ROUTE = "/features/{entity_id:path}"
_MOST_UNDER_WAY = 3
"""With so many calls under way, reads wait until one is answered: larger calls cost less for each read."""

_HEADERS = [("content-type", falcon.MEDIA_JSON)]
_logger = logging.getLogger("featurestore")


class FastReads:
    """The WSGI app that workers call.

    Args:
        store: Where the features are.
        app: The Falcon app, for everything but reads of all features of an entity.
        meter: What counts the requests.
    """

    def __init__(self, store: FeatureStore, app: App, meter: Meter) -> None:
        self._store, self._app = store, app
        self._answered, self._refused = meter.series("GET", _ROUTE), meter.series("other", None)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path: str = environ["PATH_INFO"]
        if (
            environ["QUERY_STRING"]
            or not path.startswith(_PREFIX)
            or environ["REQUEST_METHOD"] != "GET"
            or not accepts_json(environ.get("HTTP_ACCEPT"))
        ):
            return self._app(environ, start_response)
        entity_id = path[_ID_AT:]
        if not entity_id.isascii():
            try:
                entity_id = entity_id.encode("latin-1").decode()  # WSGI shows bytes as Latin-1
            except UnicodeDecodeError:
                return self._app(environ, start_response)
        status, headers, body = self._read(entity_id)
        start_response(status, headers)
        return [body]

    def _read(self, entity_id: str) -> Answer:
        """Read an entity's features, waiting for Redis, and return the answer."""
        began = perf_counter()
        try:
            body = self._store.get_json(entity_id)
            answer = self._unknown(entity_id) if body is None else (falcon.HTTP_OK, _HEADERS, body)
        except FeatureStoreError as error:
            answer = problems.answer_to(error)
        except Exception:
            _logger.exception("GET of an entity's features failed")
            answer = problems.answer(falcon.HTTP_INTERNAL_SERVER_ERROR, problems.UNFORESEEN)
        self._answered.add(answer[0], perf_counter() - began)
        return answer

    def _unknown(self, entity_id: str) -> Answer:
        """Return the answer to a read of an unknown id."""
        return problems.answer_to(UnknownIdError(self._store.keys.entity, entity_id))


class _Reads:
    """The reads of one call. Each is answered exactly once, whatever happens.

    Args:
        ids: Whose features are wanted.
        responds: Take the answers, in the order of the ids.
        began: When the first of them came.
    """

    __slots__ = ("_responds", "began", "ids", "renderer")

    renderer: Renderer

    def __init__(self, ids: list[str], responds: list[Respond], began: float) -> None:
        self.ids, self._responds, self.began = ids, responds, began

    def give_back_first(self) -> None:
        """Give the first read back, and keep the others."""
        self.ids.pop(0)
        _respond([self._responds.pop(0)], [None])

    def answer(self, answers: list[Answer | None] | None) -> None:
        """Hand out the answers. None in place of an answer, or of all, gives reads back."""
        responds, self._responds = self._responds, []
        if answers is None or len(answers) != len(responds):
            answers = [None] * len(responds)
        _respond(responds, answers)


def _respond(responds: list[Respond], answers: list[Answer | None]) -> None:
    for respond, answer in zip(responds, answers, strict=True):
        try:
            respond(answer)
        except Exception:
            _logger.exception("a connection failed to take the answer to its request")


class GatheredReads(FastReads, FastApp):
    """The app of our own worker: reads of all features that arrive together are one call, and no greenlet waits for it.

    The more reads arrive in a turn of the event loop, the less each costs Redis and this process: a single one is a
    get_features, several are one get_features_batch. While a few calls are under way, further reads wait until one of
    them is answered or given up. So a read takes two time-outs at most, one until it is sent and one for its reply.

    Timeouts are answered here. Every other failure gives the reads back: lost scripts, another schema, a broken
    connection, an impossible reply. Once a second one read is given back on purpose, to check the schema.

    Args:
        store: Where the features are.
        app: The Falcon app, for everything but reads of all features of an entity.
        meter: What counts the requests.
        transport: The store's transport.
        run_soon: Makes the event loop call a function at the end of its turn.
    """

    def __init__(
        self,
        store: FeatureStore,
        app: App,
        meter: Meter,
        transport: Submitting,
        run_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        super().__init__(store, app, meter)
        self._transport, self._run_soon = transport, run_soon
        self._under_way: set[_Reads] = set()
        self._ids: list[str] = []
        self._responds: list[Respond] = []
        self._began = 0.0  # when the first of `_ids` came

    def begin(self, path: str, respond: Respond) -> bool:
        """Begin to answer a plain GET if its path is an entity's; see `FastApp.begin`."""
        if not _ID_AT < len(path) <= _LONGEST_PATH or not path.startswith(_PREFIX):
            return False
        ids = self._ids
        if len(ids) == IDS_PER_CALL:
            self._send()
            ids = self._ids
        if not ids:
            self._run_soon(self._send)
            self._began = perf_counter()
        ids.append(path[_ID_AT:])
        self._responds.append(respond)
        return True

    def count_refusal(self, status: str) -> None:
        """Count a request that the worker has refused."""
        self._refused.add(status, 0.0)

    def _send(self) -> None:
        """Send one call for the reads gathered so far."""
        if not self._ids or (len(self._under_way) >= _MOST_UNDER_WAY and len(self._ids) < IDS_PER_CALL):
            return
        reads = _Reads(self._ids, self._responds, self._began)
        self._ids, self._responds = [], []
        sent = False
        try:
            if self._store.unsure:
                reads.give_back_first()
            selection = self._store.known_selection
            sent = bool(reads.ids) and selection is not None and self._submit(selection, reads)
        except Exception:
            _logger.exception("reads that came together were not sent together")
        if not sent:
            self._under_way.discard(reads)
            reads.answer(None)

    def _submit(self, selection: Selection, reads: _Reads) -> bool:
        """Send the call for `reads`; return whether it was taken on."""
        ids, reads.renderer = reads.ids, selection.renderer
        if len(ids) == 1:
            script, encoded = GET_FEATURES, selection.calls.one(encode_id(ids[0]))
        else:
            script, encoded = GET_FEATURES_BATCH, selection.calls.many(ids)
        self._under_way.add(reads)
        return self._transport.submit(script, encoded, partial(self._settle, reads)) is not None

    def _settle(self, reads: _Reads, waiter: Waiter) -> None:
        """Hand out the answers in the call's outcome, and let the next call be sent."""
        self._under_way.discard(reads)
        if self._ids:
            self._run_soon(self._send)
        answers = None
        try:
            answers = self._answers(reads, waiter.outcome)
        except (
            ValueError,
            TypeError,
            LookupError,
        ):  # rows of another schema: give the reads back
            pass
        except Exception:
            _logger.exception("the reply to reads that came together was not understood")
        reads.answer(answers)

    def _answers(self, reads: _Reads, outcome: Reply | Failure) -> list[Answer | None] | None:
        """Return the answers in the outcome; None if the reads are to be given back."""
        ids, began = reads.ids, reads.began
        if isinstance(outcome, Failure):
            if outcome.lost:
                return None
            answer = problems.answer_to(outcome.error)
            self._count(answer[0], began, len(ids))
            return [answer] * len(ids)
        if isinstance(outcome, FeatureStoreError):
            return None
        bodies, ok = _bodies(reads.renderer, ids, outcome), falcon.HTTP_OK
        answers: list[Answer | None] = [
            self._unknown(entity_id) if body is None else (ok, _HEADERS, body)
            for entity_id, body in zip(ids, bodies, strict=True)
        ]
        unknown = bodies.count(None)
        self._count(ok, began, len(ids) - unknown)
        self._count(falcon.HTTP_NOT_FOUND, began, unknown)
        return answers

    def _count(self, status: str, began: float, count: int) -> None:
        if count:
            self._answered.add(status, perf_counter() - began, count)


def _bodies(renderer: Renderer, ids: list[str], reply: Reply) -> list[bytes | None]:
    """Return each entity's JSON from the reply to the call; None for an unknown id."""
    if len(ids) > 1:
        return renderer.each(ids, reply)
    return [None if reply is None else renderer.one(ids[0], reply)]
