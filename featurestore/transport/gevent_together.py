"""What goes to several nodes at once, sent by one greenlet, which gives way until all of it has an outcome."""

from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent import getcurrent

from featurestore.contract.replies import PLAIN
from featurestore.errors import OverloadedError
from featurestore.transport.gevent_link import GeventLink
from featurestore.transport.gevent_transport import GeventTransport
from featurestore.transport.pipeline import Failure
from featurestore.transport.repeats import Replies
from featurestore.transport.rounds import Leg, Request
from featurestore.transport.sent import Sent
from featurestore.transport.slots import Part
from featurestore.transport.turns import BigRequest

Run = tuple[GeventTransport, range]
"""A node, and which calls of a request are its."""

Straight = tuple[GeventTransport, range, Replies | Failure]
"""The same, and what came of them."""


class _Waiting:
    """A greenlet that waits until several things are done.

    Attributes:
        left: How many are under way.
    """

    def __init__(self) -> None:
        self._greenlet, self._hub = getcurrent(), gevent.get_hub()
        if self._greenlet is self._hub:
            raise RuntimeError("a callback of the event loop cannot wait for Redis: spawn a greenlet")
        self.left, self._waits = 0, False

    def done(self, _what: Any) -> None:
        """One of them is done; only in the event loop."""
        self.left -= 1
        if not self.left and self._waits:
            self._greenlet.switch()

    def give_way(self) -> None:
        """Return when nothing is under way any more."""
        self._waits = True
        try:
            while self.left:
                self._hub.switch()
        finally:
            self._waits = False


class Together:
    """Legs that are sent at once.

    Only a node without a connection costs a greenlet, which makes one.

    Args:
        legs: What is sent.
        node: Returns the transport of a target.
    """

    def __init__(self, legs: Sequence[Leg], node: Callable[[Any], Any]) -> None:
        self._waiting, self._under_way = _Waiting(), list[Any]()
        for leg in legs:
            transport = node(leg.target)
            waits = leg.exchange.wait  # which takes two steps
            begun = None if waits else transport.begin(leg.exchange, self._waiting.done)
            if begun is None:
                begun = gevent.spawn(transport.attempt, leg.exchange)
                begun.rawlink(self._waiting.done)
            if not isinstance(begun, Failure):
                self._waiting.left += 1
            self._under_way.append(begun)

    def outcomes(self) -> list[Replies | Failure]:
        """Give way until all have an outcome, and return them."""
        try:
            self._waiting.give_way()
        finally:
            for begun in self._under_way:
                if isinstance(begun, Sent):
                    begun.abandon()
                elif not isinstance(begun, Failure):
                    begun.unlink(self._waiting.done)
        return [_outcome(begun) for begun in self._under_way]


def _outcome(begun: Any) -> Replies | Failure:
    outcome: Replies | Failure
    outcome = begun if isinstance(begun, Failure) else begun.outcome() if isinstance(begun, Sent) else begun.get()
    return outcome


def sent_straight(request: Request, runs: Sequence[Run]) -> list[Straight] | None:
    """Send calls to their nodes, in turns with other big requests; give way until all have an outcome.

    Return None if some node has no connection; then nothing was sent.
    """
    links = [node.link for node, _ in runs]
    if None in links:
        return None
    waiting, under_way = _Waiting(), list[BigRequest | Failure]()
    try:
        for link, (node, places) in zip(links, runs, strict=True):
            begun = _begun(link, request, places, waiting.done)  # type: ignore[arg-type]  # none is None
            if not isinstance(begun, Failure):
                waiting.left += 1
                node.calls += len(places)
            under_way.append(begun)
        waiting.give_way()
    finally:
        for link, begun in zip(links, under_way, strict=False):
            if link is not None and isinstance(begun, BigRequest):
                link.leave(begun)
    return [
        (node, places, begun if isinstance(begun, Failure) else begun.outcome)
        for (node, places), begun in zip(runs, under_way, strict=True)
    ]


def _begun(
    link: GeventLink, request: Request, places: range, done: Callable[[BigRequest], object]
) -> BigRequest | Failure:
    encoded, answers = request.encoded, request.answers
    assert answers is not None  # noqa: S101 - for mypy; calls of scripts have it
    calls: Sequence[bytes]
    if len(places) == len(encoded):
        calls = encoded
    else:
        calls = encoded[places.start : places.stop] if isinstance(encoded, list) else Part(encoded, places)
    try:
        begun = link.submit_in_turns(calls, answers, request.each_us, done, follows=request.follows)
        return link.pipeline.refusal(len(calls)) if begun is None else begun
    except OverloadedError as error:
        return Failure(error, unsent=True)


def replies_of(straight: Sequence[Straight]) -> Replies | None:
    """Return the replies in the order of the calls; None if a call got none, or an error."""
    replies: Replies = []
    for _, _, outcome in straight:
        if isinstance(outcome, Failure) or not PLAIN.issuperset(map(type, outcome)):
            return None
        replies += outcome
    return replies
