"""Plain GETs where reads need a key: each key has a lane, by which its reads are gathered like all others.

The first GET of a connection is a WSGI call, which looks at its header fields. The worker begins later ones with
exactly the same fields by the lane of that key (`BEGIN`), so nobody looks at them again. A lane knows within a second
that its key is gone; then it gives its GETs back.
"""

from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any

from featurestore.access.key import READ, Key
from featurestore.api import problems
from featurestore.api.access import Access
from featurestore.api.counters import Meter
from featurestore.api.fast_reads import PREFIX
from featurestore.api.gathered_reads import GatheredReads
from featurestore.api.observing import App, Observer
from featurestore.api.rates import Lease, Rates
from featurestore.api.traced_reads import TracedReads
from featurestore.store.blocking import FeatureStore
from featurestore.transport.interface import Submitting
from featurestore.worker.interface import BEGIN, Answer, Begin, Respond, StartResponse


class Lane:
    """The plain GETs of one key.

    Args:
        gather: `GatheredReads.begin`.
        refuse: Answers a GET for which there are no tokens, or returns False.
        rates: Count what the key asks for.

    Attributes:
        open: Whether the key may read the entity.
        lease: Its tokens; None where it has no rate.
    """

    __slots__ = ("_gather", "_rates", "_refuse", "lease", "open")

    def __init__(self, gather: Begin, refuse: Callable[[Lease, str, Respond], bool], rates: Rates | None) -> None:
        self._gather, self._refuse, self._rates = gather, refuse, rates
        self.open = False
        self.lease: Lease | None = None

    def begin(self, path: str, respond: Respond) -> bool:
        """Begin to answer a plain GET; see `FastApp.begin`."""
        if not self.open:
            return False
        lease = self.lease
        if lease is None or self._rates is None:
            return self._gather(path, respond)
        if lease.tokens < 1:
            return self._refuse(lease, path, respond)
        if not self._gather(path, partial(_answer, lease, respond)):
            return False  # whoever answers it takes its token
        lease.tokens -= 1
        if lease.tokens <= lease.low:
            self._rates.look(lease)
        return True

    def follow(self, key: Key | None) -> None:
        """Be the lane of a key as it is now; of none where it may not read."""
        self.open = key is not None
        self.lease = None if key is None or self._rates is None else self._rates.lease_of(key)


class KeyedReads(GatheredReads):
    """The app of our own worker where reads need a key.

    Args:
        access: Knows the keys; see `GatheredReads` for the others.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - as its base, and one
        self,
        store: FeatureStore,
        app: App,
        meter: Meter,
        transport: Submitting,
        run_soon: Callable[[Callable[[], None]], object],
        observer: Observer,
        access: Access,
    ) -> None:
        super().__init__(store, app, meter, transport, run_soon, observer, access)
        self._keys, self._gather = access, super().begin
        self._lanes: dict[bytes, Lane] = {}

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; tell the worker by which lane later ones are to come."""
        answer = super().__call__(environ, start_response)
        if BEGIN in environ:
            lane = self._lane_of(self._keys.key_of(environ))
            environ[BEGIN] = lane.begin if lane is not None else False
        return answer

    def begin(self, _path: str, _respond: Respond) -> bool:
        """Leave a GET whose key nobody has looked at to a WSGI call."""
        return False

    def follow_keys(self) -> None:
        """Have each lane follow its key, which may be gone, or back."""
        keys = {key.digest: key for key in self._keys.keyring.keys}
        for digest, lane in self._lanes.items():
            key = keys.get(digest)
            lane.follow(key if key is not None and self._may_read(key) else None)

    def _lane_of(self, key: Key | None) -> Lane | None:
        if key is None or not self._may_read(key):
            return None
        lane = self._lanes.get(key.digest)
        if lane is None:
            lane = self._lanes[key.digest] = Lane(self._gather, self._refuse, self._keys.rates)
        lane.follow(key)
        return lane

    def _may_read(self, key: Key) -> bool:
        return self._keys.keyring.has(key) and READ in key.may and key.reaches(self._store.keys.entity)

    def _refuse(self, lease: Lease, path: str, respond: Respond) -> bool:
        """Answer a GET for which there are no tokens while that is known; else a WSGI call asks for some."""
        now, rates = monotonic(), self._keys.rates
        if now >= lease.closed_until or lease.closed_for > 1 or not path.startswith(PREFIX) or rates is None:
            return False
        refusal = rates.refusal(lease, now)
        answer = problems.answer_to(refusal)
        self._answered.add(answer[0], 0.0)
        self._meter.count_problem(refusal.code)
        respond(answer)
        return True


def _answer(lease: Lease, respond: Respond, answer: Answer | None) -> None:
    """Pass an answer on; of a GET that is given back, whoever answers it takes the token."""
    if answer is None:
        lease.tokens += 1
    respond(answer)


class KeyedTracedReads(KeyedReads, TracedReads):
    """The same with traces."""
