"""Reads of one entity each, gathered: those of a turn of the event loop become one call of a script."""

import contextlib
from functools import partial
from time import perf_counter
from typing import Protocol

import falcon
import gevent
import msgspec

from featurestore import problems
from featurestore.errors import FeatureStoreError
from featurestore.hotpath import PREFIX, ROUTE, Respond, answer_with
from featurestore.keys import MAX_ID_BYTES
from featurestore.link import Resume, Waiter
from featurestore.metrics import Meter
from featurestore.plans import IDS_PER_CALL
from featurestore.problems import Answer
from featurestore.rendering import Renderer
from featurestore.sharing import Failure
from featurestore.store import FeatureStore
from featurestore.text import encode_id
from featurestore.transport import Reply

_MOST_UNDER_WAY = 3
"""Calls after which reads wait for one to be answered: fewer and larger calls cost both sides less for each read."""


class Submitting(Protocol):
    """A transport that takes calls without anybody waiting, as `MultiplexedTransport` does."""

    def submit(self, packed: bytes, resume: Resume) -> Waiter | None:
        """Send a call; None when it cannot be taken on."""


class Gatherer:
    """Answers reads of all features of one entity each, without a greenlet that waits for each.

    The more reads come in a turn of the event loop, the less each costs Redis and this process: one get_features for
    a single one, one get_features_batch for several. While a few calls are under way, further reads wait until one of
    them is answered or given up, so that the time-out counts for a read twice at most. What goes wrong, but for time,
    is left to the reader to meet again: scripts that Redis has lost, another schema, a broken connection.

    Args:
        store: Where the features are.
        transport: The store's transport.
        meter: What counts the requests.
    """

    def __init__(self, store: FeatureStore, transport: Submitting, meter: Meter) -> None:
        self._store, self._transport = store, transport
        self._answered = meter.series("GET", ROUTE)
        self._began = 0.0  # when the first of `_ids` came
        self._under_way = 0
        self._ids: list[str] = []
        self._responds: list[Respond] = []

    def begin(self, path: str, respond: Respond) -> bool:
        """Begin to answer a GET of a plain path; `respond` is called later, in the hub.

        False where it has to be answered by other means.
        """
        if not path.startswith(PREFIX) or not 0 < len(path) - len(PREFIX) <= MAX_ID_BYTES:
            return False
        if len(self._ids) == IDS_PER_CALL:
            self._send()
        if not self._ids:
            gevent.get_hub().loop.run_callback(self._send)
            self._began = perf_counter()
        self._ids.append(path[len(PREFIX) :])
        self._responds.append(respond)
        return True

    def _send(self) -> None:
        """Send the call for what was gathered."""
        ids, responds, selection = self._ids, self._responds, self._store.known_selection
        if not ids or (self._under_way >= _MOST_UNDER_WAY and len(ids) < IDS_PER_CALL):
            return
        self._ids, self._responds = [], []
        if self._store.unsure:
            ids.pop(0)
            responds.pop(0)(None)  # who can wait makes sure of the schema for all
            if not ids:
                return
        waiter = None
        if selection is not None:
            packed = selection.packer.one(encode_id(ids[0])) if len(ids) == 1 else selection.packer.many(ids)
            waiter = self._transport.submit(
                packed, partial(self._settle, selection.renderer, ids, responds, self._began)
            )
            self._under_way += waiter is not None
        if waiter is None:
            _tell(responds, [None] * len(ids))

    def _settle(
        self, renderer: Renderer, ids: list[str], responds: list[Respond], began: float, waiter: Waiter
    ) -> None:
        """Hand out the answers that the outcome of the call makes, and have what has waited for that sent."""
        self._under_way -= 1
        if self._ids:
            gevent.get_hub().loop.run_callback(self._send)
        outcome = waiter.outcome
        answers: list[Answer | None] = [None] * len(ids)
        if isinstance(outcome, Failure):
            if not outcome.lost:
                answer = problems.answer_to(outcome.error)
                answers = [answer] * len(ids)
                self._count(answer[0], began, len(ids))
        elif not isinstance(outcome, FeatureStoreError):
            with contextlib.suppress(ValueError, msgspec.MsgspecError):  # rows of another schema
                bodies = _bodies(renderer, ids, outcome)
                answers = [
                    answer_with(body, self._store, entity_id) for entity_id, body in zip(ids, bodies, strict=True)
                ]
                unknown = bodies.count(None)
                self._count(falcon.HTTP_OK, began, len(ids) - unknown)
                self._count(falcon.HTTP_NOT_FOUND, began, unknown)
        _tell(responds, answers)

    def _count(self, status: str, began: float, count: int) -> None:
        if count:
            self._answered.add(status, perf_counter() - began, count)


def _bodies(renderer: Renderer, ids: list[str], reply: Reply) -> list[bytes | None]:
    """Return the JSON of each entity, None for an unknown one, from the reply to the call for them."""
    if len(ids) > 1:
        return renderer.each(ids, reply)
    return [None if reply is None else renderer.one(ids[0], reply)]


def _tell(responds: list[Respond], answers: list[Answer | None]) -> None:
    for respond, answer in zip(responds, answers, strict=True):
        respond(answer)
