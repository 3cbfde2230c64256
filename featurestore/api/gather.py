"""Reads of one entity each, gathered: those of a turn of the event loop become one call of a script."""

import logging
from time import perf_counter
from typing import Protocol

import falcon
import gevent

from featurestore.api import problems
from featurestore.api.counters import Meter
from featurestore.api.fast_reads import PREFIX, ROUTE, Respond, answer_with
from featurestore.api.problems import Answer
from featurestore.contract.json_rows import Renderer
from featurestore.contract.resp import Reply
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH, Script
from featurestore.contract.selection import Selection
from featurestore.contract.words import encode_id
from featurestore.errors import FeatureStoreError
from featurestore.keys import MAX_ID_BYTES
from featurestore.store.blocking import FeatureStore
from featurestore.store.plan import IDS_PER_CALL
from featurestore.transport.pipeline import Failure, Resume, Waiter

_logger = logging.getLogger("featurestore")

_MOST_UNDER_WAY = 3
"""Calls after which reads wait for one to be answered: fewer and larger calls cost both sides less for each read."""


class Submitting(Protocol):
    """A transport that takes calls without anybody waiting, as `GeventTransport` does."""

    def submit(self, script: Script, encoded: bytes, resume: Resume) -> Waiter | None:
        """Send a call; None when it cannot be taken on."""


class _Reads:
    """Reads that are one call, each of which is answered once, whatever happens.

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
        """Have the first read answered by other means, and keep the others."""
        self.ids.pop(0)
        _tell(self._responds.pop(0), None)

    def answer(self, answers: list[Answer | None] | None) -> None:
        """Hand out the answers; None for all, or for one, where it has to be answered by other means."""
        responds, self._responds = self._responds, []
        if answers is None or len(answers) != len(responds):
            answers = [None] * len(responds)
        for respond, answer in zip(responds, answers, strict=True):
            _tell(respond, answer)


def _tell(respond: Respond, answer: Answer | None) -> None:
    try:
        respond(answer)
    except Exception:
        _logger.exception("a connection failed to take the answer to its request")


class Gatherer:
    """Answers reads of all features of one entity each, without a greenlet that waits for each.

    The more reads come in a turn of the event loop, the less each costs Redis and this process: one get_features for
    a single one, one get_features_batch for several. While a few calls are under way, further reads wait until one of
    them is answered or given up, so that the time-out counts for a read twice at most. Timeouts are answered
    here. Every other failure goes back to the connection's greenlet, which retries: scripts that Redis has lost,
    another schema, a broken connection, a reply that cannot be one.

    Args:
        store: Where the features are.
        transport: The store's transport.
        meter: What counts the requests.
    """

    def __init__(self, store: FeatureStore, transport: Submitting, meter: Meter) -> None:
        self._store, self._transport = store, transport
        self._answered = meter.series("GET", ROUTE)
        self._began = 0.0  # when the first of `_ids` came
        self._under_way: set[_Reads] = set()
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
        if not self._ids or (len(self._under_way) >= _MOST_UNDER_WAY and len(self._ids) < IDS_PER_CALL):
            return
        reads = _Reads(self._ids, self._responds, self._began)
        self._ids, self._responds = [], []
        sent = False
        try:
            if self._store.unsure:
                reads.give_back_first()  # who can wait makes sure of the schema for all
            selection = self._store.known_selection
            sent = bool(reads.ids) and selection is not None and self._submit(selection, reads)
        except Exception:
            _logger.exception("reads that came together were not sent together")
        if not sent:
            self._under_way.discard(reads)
            reads.answer(None)

    def _submit(self, selection: Selection, reads: _Reads) -> bool:
        """Send the call for `reads`; return whether there will be an outcome."""
        ids, reads.renderer = reads.ids, selection.renderer
        if len(ids) == 1:
            script, encoded = GET_FEATURES, selection.calls.one(encode_id(ids[0]))
        else:
            script, encoded = GET_FEATURES_BATCH, selection.calls.many(ids)
        self._under_way.add(reads)
        return self._transport.submit(script, encoded, lambda waiter: self._settle(reads, waiter)) is not None

    def _settle(self, reads: _Reads, waiter: Waiter) -> None:
        """Hand out the answers that the outcome of the call makes, and have what has waited for that sent."""
        self._under_way.discard(reads)
        if self._ids:
            gevent.get_hub().loop.run_callback(self._send)
        answers = None
        try:
            answers = self._answers(reads, waiter.outcome)
        except (ValueError, TypeError, LookupError):  # rows of another schema; msgspec's errors are ValueErrors
            pass
        except Exception:
            _logger.exception("the reply to reads that came together was not understood")
        reads.answer(answers)

    def _answers(self, reads: _Reads, outcome: Reply | Failure) -> list[Answer | None] | None:
        """Return the answers that the outcome makes; None where the readers have to meet it again."""
        ids, began = reads.ids, reads.began
        if isinstance(outcome, Failure):
            if outcome.lost:
                return None
            answer = problems.answer_to(outcome.error)
            self._count(answer[0], began, len(ids))
            return [answer] * len(ids)
        if isinstance(outcome, FeatureStoreError):
            return None
        bodies = _bodies(reads.renderer, ids, outcome)
        answers: list[Answer | None] = [
            answer_with(body, self._store, entity_id) for entity_id, body in zip(ids, bodies, strict=True)
        ]
        unknown = bodies.count(None)
        self._count(falcon.HTTP_OK, began, len(ids) - unknown)
        self._count(falcon.HTTP_NOT_FOUND, began, unknown)
        return answers

    def _count(self, status: str, began: float, count: int) -> None:
        if count:
            self._answered.add(status, perf_counter() - began, count)


def _bodies(renderer: Renderer, ids: list[str], reply: Reply) -> list[bytes | None]:
    """Return the JSON of each entity, None for an unknown one, from the reply to the call for them."""
    if len(ids) > 1:
        return renderer.each(ids, reply)
    return [None if reply is None else renderer.one(ids[0], reply)]
