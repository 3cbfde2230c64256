"""Reads of entities that are gathered: the way of `GET /features/{entity_id}` from the worker to Redis and back.

So do reads with `?features=` or `?service=` behind the id go, where the names are plain.

- `GatheredReads.begin` takes the path of a plain GET from the worker, in the event loop, and keeps it for `_send`.
- `_send` makes one call of a script of all that were gathered in a turn of the loop.
- `_settle` makes an answer for each read of the reply, and hands it to the worker, which sends it.

A read that cannot be answered this way is given back to the worker, which makes a WSGI call of it in a greenlet that
can wait. There `FastReads` reads by the store's plan.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import compress
from math import inf
from time import monotonic, perf_counter
from typing import Any

import falcon

from featurestore.api import problems
from featurestore.api.access import Access
from featurestore.api.board import DEFAULT_ROUTES
from featurestore.api.counters import Meter
from featurestore.api.fast_reads import HEADERS, ID_AT, PREFIX, FastReads
from featurestore.api.gathering import Gathering, Reads
from featurestore.api.observing import App, Observer
from featurestore.api.rounds import Round
from featurestore.contract.partitioned_calls import READS, PartitionedCalls
from featurestore.contract.resp import Reply
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.contract.selection import Selection
from featurestore.contract.words import encode_id
from featurestore.errors import DeadlineExceededError, FeatureStoreError, UnknownIdError
from featurestore.keys import MAX_ID_BYTES
from featurestore.store.blocking import FeatureStore
from featurestore.transport.interface import Spreading, Submitting
from featurestore.transport.pipeline import Failure, Waiter
from featurestore.transport.round_trip import RoundTrip
from featurestore.worker.interface import (
    NO_ROOM,
    REFUSED,
    REQUEST_ID,
    ROUTE,
    Answer,
    FastApp,
    Respond,
    StartResponse,
)

_LONGEST_PATH = ID_AT + MAX_ID_BYTES
_UNDER_WAY = 3
"""With so many calls under way, reads wait until one is answered: larger calls cost less for each read."""

_S_PER_US = 1e-6
_TIMED_EACH = 3  # of four calls the time of one is taken
_NEAR_S, _APART_S = 0.0002, 0.00005
"""Where the round trip takes longer than the first, another call for each of the second may be under way: then calls
are on the road, and to wait for them would cost more than larger calls save."""

_LARGE_WRITES = frozenset({"/features/ingest", "/entities/{entity}/features/ingest", "/write-to-online-store", "/push"})
"""Routes of writes that may be large."""

_LARGE = _LARGE_WRITES | {
    *("/features/batch", "/features/query", "/entities/{entity}/features/batch", "/get-online-features")
}
"""Routes whose requests may be large."""

_LARGE_DIGITS = 4
"""A body is large from 1,000 bytes on, which is 100 short ids: its length has so many digits."""

_UNAVAILABLE = "503"
_REASONS = {
    NO_ROOM: "no_room",
    _UNAVAILABLE: "no_memory",
    "408": "too_slow",
    "413": "body_too_large",
    "414": "head_too_large",
    "431": "head_too_large",
    "501": "unsupported",
}
"""Status of a refusal by the worker → what metrics call its reason."""

_VALUE = re.compile(r"[A-Za-z0-9_.,~-]*[A-Za-z0-9_.~-][A-Za-z0-9_.,~-]*")
"""Names with commas between them, of which there is at least one."""

_MOST_NAMED = 256
"""So many sets of features that were asked for are kept."""

_logger = logging.getLogger("featurestore")


def _route_of(path: str) -> str:
    """Return a path with `{entity}` in place of an entity's name."""
    _, entities, rest = path.partition("/entities/")
    return f"/entities/{{entity}}/{rest.partition('/')[2]}" if entities else path


class GatheredReads(FastReads, FastApp):
    """The app of our own worker: reads of the same features that arrive together are one call, and no greenlet waits.

    The more reads arrive in a turn of the event loop, the less each costs Redis and this process: a single one is a
    get_features, several are one get_features_batch; in a cluster they are a round of calls, one for each partition.
    While a few calls or rounds are under way, further reads wait until one of them is answered or given up. A round
    counts as answered when most nodes have. How many a few are follows from how far Redis is. So a read takes two
    time-outs at most, one until it is sent and one for its reply.

    Timeouts are answered here, unless a replica may answer: then half of the time-out is waited. Every other failure
    gives the reads back: lost scripts, another schema, a broken connection, an impossible reply. Once a second one read
    is given back on purpose, to check the schema.

    Args:
        store: Where the features are.
        app: The Falcon app, for everything but reads of all features of an entity.
        meter: What counts the requests.
        transport: The store's transport.
        run_soon: Makes the event loop call a function at the end of its turn.
        observer: Gives requests their ids, and tells of slow ones.
        access: Who may read; everybody when left out.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it is made of
        self,
        store: FeatureStore,
        app: App,
        meter: Meter,
        transport: Submitting,
        run_soon: Callable[[Callable[[], None]], object],
        observer: Observer | None = None,
        access: Access | None = None,
    ) -> None:
        super().__init__(store, app, meter, observer, access)
        self._transport, self._run_soon = transport, run_soon
        self._slow_s = self._observer.slow_s
        self._under_way: set[Reads] = set()
        self._round_trip = RoundTrip()
        self._most_under_way = _UNDER_WAY
        self._calls = 0
        self._board = meter.board
        self._large = {route: meter.series("POST", route, self._entity_of(route)) for route in _LARGE}
        self._all = self._gathering(None, store.known_selection)
        self._named: dict[tuple[str, ...], Gathering] = {}
        self._queries: dict[str, Gathering] = {}
        self._waiting: dict[Gathering, None] = {}

    def _entity_of(self, route: str) -> str | None:
        """Return whose features a route is about, where its path does not tell."""
        return self._entity if route in DEFAULT_ROUTES else None

    def _gathering(self, features: tuple[str, ...] | None, selection: Selection | None) -> Gathering:
        made = Gathering(features, selection)
        made.send = partial(self._send, made)
        return made

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; refuse one with a large body before that is read, while big requests would be late."""
        if len(environ.get("CONTENT_LENGTH", "")) >= _LARGE_DIGITS and environ["REQUEST_METHOD"] == "POST":
            began = perf_counter()
            self._transport.hear_pace(*self._board.told_pace())
            route = _route_of(environ["PATH_INFO"])
            refusal = self._transport.overload(writes=route in _LARGE_WRITES)
            large = refusal and self._large.get(route)
            if refusal and large:
                status, headers, body = problems.answer_to(refusal, environ[REQUEST_ID])
                environ[REFUSED], environ[ROUTE] = True, route
                large.add(status, perf_counter() - began)
                self._meter.count_problem(problems.kind_of(refusal))
                start_response(status, headers)
                return [body]
        return super()._answer(environ, start_response)

    def begin(self, path: str, respond: Respond) -> bool:
        """Begin to answer a plain GET if its path is an entity's; see `FastApp.begin`."""
        gathering = self._all
        if "?" in path:
            path, _, query = path.partition("?")
            named = self._gathering_of(query)
            if named is None:
                return False
            gathering = named
        if not ID_AT < len(path) <= _LONGEST_PATH or not path.startswith(PREFIX):
            return False
        ids = gathering.ids
        if len(ids) >= gathering.most:
            self._send(gathering)
            ids = gathering.ids
        if not ids:
            self._run_soon(gathering.send)
            gathering.began = perf_counter()
        ids.append(path[ID_AT:])
        gathering.responds.append(respond)
        return True

    def _gathering_of(self, query: str) -> Gathering | None:
        """Return where reads with this query gather; None where the worker is to make WSGI calls of them."""
        gathering = self._queries.get(query)
        if gathering is not None:
            return gathering
        word, _, value = query.partition("=")
        if word == "service":
            features = self._store.service_known(value)  # it may be another one later
            return None if features is None else self._gathering_named(features)
        if word != "features" or not _VALUE.fullmatch(value):
            return None
        gathering = self._gathering_named(tuple(dict.fromkeys(name for name in value.split(",") if name)))
        if gathering is not None:
            if len(self._queries) >= _MOST_NAMED:
                self._queries.clear()
            self._queries[query] = gathering
        return gathering

    def _gathering_named(self, features: tuple[str, ...]) -> Gathering | None:
        """Return where reads of these features gather, each named once; None where nobody has asked for them yet."""
        gathering = self._named.get(features)
        if gathering is None:
            selection = self._store.selection_known(features)
            if selection is not None:
                if len(self._named) >= _MOST_NAMED:
                    self._named.clear()
                    self._queries.clear()
                gathering = self._named[features] = self._gathering(features, selection)
        return gathering

    def count_refusal(self, status: str) -> None:
        """Count a request that the worker has refused. Of requests, only those count that might have been answered."""
        self._meter.count_refusal(_REASONS.get(status[:3], "malformed"))
        if status.startswith(_UNAVAILABLE):
            self._refused.add(status, 0.0)

    def _send(self, gathering: Gathering) -> None:
        """Send one call for the reads gathered so far."""
        ids = gathering.ids
        if not ids:
            return
        if len(self._under_way) >= self._most_under_way and len(ids) < gathering.most:
            self._waiting[gathering] = None
            return
        features, sent = gathering.features, False
        selection = self._store.known_selection if features is None else self._store.selection_known(features)
        if selection is not None:
            gathering.most = selection.ids_per_call
        reads = gathering.take()
        if gathering.ids:
            self._run_soon(gathering.send)
        try:
            if selection is not None:
                if selection.checking is not None and self._store.unsure:
                    reads.give_back_first()
                sent = bool(reads.ids) and self._submit(selection, reads)
        except Exception:
            _logger.exception("reads that came together were not sent together")
        if not sent:
            self._under_way.discard(reads)
            reads.answer(None)
            self._wake()

    def _wake(self) -> None:
        """Let as many calls be sent of those that wait as may be under way now."""
        free = self._most_under_way - len(self._under_way)
        while self._waiting and free > 0:
            gathering = next(iter(self._waiting))
            del self._waiting[gathering]
            if gathering.ids:
                self._run_soon(gathering.send)
                free -= 1

    def _submit(self, selection: Selection, reads: Reads) -> bool:
        """Send the call for `reads`; return whether it was taken on."""
        ids, reads.selection, calls = reads.ids, selection, selection.calls
        if isinstance(calls, PartitionedCalls):
            return self._submit_round(calls, reads)
        if len(ids) == 1:
            script, encoded = GET_FEATURES, calls.one(encode_id(ids[0]))
        else:
            script, encoded = GET_FEATURES_BATCH, calls.many(ids)
        self._calls += 1
        self._under_way.add(reads)
        if not self._calls & _TIMED_EACH:
            self._time(reads)
        return self._transport.submit(script, encoded, partial(self._take, reads)) is not None

    def _submit_round(self, calls: PartitionedCalls, reads: Reads) -> bool:
        """Send a call for each partition that has some of the ids; what comes from a node is answered by itself."""
        made = Round(reads, calls)

        def take(places: Sequence[int], waiter: Waiter) -> None:
            part, outcome = made.part(places), waiter.outcome
            came = perf_counter()
            self._over(reads)
            if not isinstance(outcome, Failure):
                outcome = made.outcome(part, places, outcome)
            self._settle(part, waiter, outcome, came)

        self._calls += 1
        self._under_way.add(reads)
        assert isinstance(self._transport, Spreading)  # noqa: S101 - for mypy; only in a cluster there are partitions
        nodes, refused = self._transport.submit_many(READS, made.calls, take)
        if not nodes:
            return False
        if refused:
            made.part(refused).answer(None)
        reads.await_nodes(nodes)
        if not self._calls & _TIMED_EACH:
            self._time(reads, nodes)
        return True

    def _time(self, reads: Reads, nodes: int = 1) -> None:
        """Take note of when Redis will have done what is under way, to be compared with when it has."""
        ahead = sum([len(each.ids) for each in self._under_way])
        reads.due = perf_counter() + ahead * reads.selection.row_us * _S_PER_US / nodes
        reads.alone = len(self._under_way) == 1

    def _over(self, reads: Reads) -> None:
        """Count one answer less that is awaited; let the next call be sent when there is none."""
        reads.awaited -= 1
        if reads.awaited:
            return
        self._under_way.discard(reads)
        if reads.due:
            self._note_round_trip(reads)
        if self._waiting:
            self._wake()

    def _take(self, reads: Reads, waiter: Waiter) -> None:
        """Take the outcome of the call of all the reads."""
        came = perf_counter()
        self._over(reads)
        self._settle(reads, waiter, waiter.outcome, came)

    def _settle(self, reads: Reads, waiter: Waiter, outcome: Reply | Failure, came: float) -> None:
        """Hand out the answers in an outcome that has come; tell if it came late."""
        answers = None
        try:
            answers = self._answers(reads, outcome)
        except (
            ValueError,
            TypeError,
            LookupError,
        ):  # rows of another schema: give the reads back
            pass
        except Exception:
            _logger.exception("the reply to reads that came together was not understood")
        reads.answer(answers)
        if came - reads.began > self._slow_s:
            self._observer.slow.tell_gathered(reads.ids, reads.began, waiter.deadline - waiter.allowed, came)

    def _note_round_trip(self, reads: Reads) -> None:
        """Set how many calls may be under way, by the round trip of one that is over."""
        now = perf_counter()
        self._meter.seen[self._entity] = reads.ids, reads.selection.names  # one of them may be looked at later
        if reads.alone:
            self._round_trip.note(reads.due, max(now, reads.due))
        nearest = self._round_trip.least
        pace = self._transport.note_small(max(0.0, now - reads.due), nearest)
        if pace < inf:
            self._board.tell_pace(monotonic(), pace)
        farther = nearest - _NEAR_S
        self._most_under_way = _UNDER_WAY + (int(farther / _APART_S) if farther > 0 else 0)

    def _answers(self, reads: Reads, outcome: Reply | Failure) -> list[Answer | None] | None:
        """Return the answers in the outcome; None in place of an answer, or of all, if reads are to be given back."""
        ids, began = reads.ids, reads.began
        if isinstance(outcome, Failure):
            if outcome.lost or (isinstance(outcome.error, DeadlineExceededError) and self._transport.has_stand_ins):
                return None
            answer = problems.answer_to(outcome.error)
            self._count(answer[0], began, len(ids))
            self._meter.count_problem(problems.kind_of(outcome.error), len(ids))
            return [answer] * len(ids)
        if isinstance(outcome, FeatureStoreError):
            return None
        reply: Any = outcome
        made, ok = None, falcon.HTTP_OK
        try:
            bodies = _bodies(reads, ids, reply)
        except (ValueError, TypeError, LookupError):
            made = _made(reads, reply)
            if made is None:
                raise
            ids, reply = list(compress(ids, made)), list(compress(reply, made))
            bodies = _bodies(reads, ids, reply)
        answers: list[Answer | None] = [
            self.unknown(entity_id) if body is None else (ok, HEADERS, body)
            for entity_id, body in zip(ids, bodies, strict=True)
        ]
        unknown = bodies.count(None)
        self._count(ok, began, len(ids) - unknown)
        if unknown:
            self._count(falcon.HTTP_NOT_FOUND, began, unknown)
            self._meter.count_problem(UnknownIdError.code, unknown)
        if made is None:
            return answers
        found = iter(answers)
        return [next(found) if each else None for each in made]

    def _count(self, status: str, began: float, count: int) -> None:
        if count:
            self._answered.add(status, perf_counter() - began, count)


def _made(reads: Reads, reply: Any) -> list[bool] | None:
    """Return for each read whether the reply has its row: there is a zero for one that the call did not make.

    None if no row is missing.
    """
    if len(reads.ids) == 1 or not reads.selection.asks_again or int not in map(type, reply):
        return None
    return [type(row) is not int for row in reply]


def _bodies(reads: Reads, ids: list[str], reply: Any) -> list[bytes | None]:
    """Return the JSON of each entity of `ids` from the reply to the call of all the reads; None for an unknown id."""
    renderer = reads.selection.renderer
    if len(reads.ids) > 1:
        return renderer.each(ids, reply)
    return [None if reply is None else renderer.one(ids[0], reply)]
