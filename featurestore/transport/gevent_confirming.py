"""One WAIT for all greenlets that have written over a connection; see `confirming`."""

from typing import TYPE_CHECKING, Any

import gevent

from featurestore.errors import FeatureStoreError
from featurestore.transport.confirming import WAIT_REPLIES, WAITED
from featurestore.transport.pipeline import Failure
from featurestore.transport.repeats import Replies

if TYPE_CHECKING:
    from featurestore.transport.gevent_link import GeventLink


class Confirming:
    """Asks for replicas on one connection. Who comes while a WAIT is under way shares the next one with all others.

    Args:
        link: The connection.
    """

    def __init__(self, link: "GeventLink") -> None:
        self._link = link
        self._under_way: Any = None
        self._next: Any = None

    def outcome(self, question: bytes, allowed: float) -> Replies | Failure:
        """Give way until there are replies to a WAIT that was sent after this was called.

        Args:
            question: See `Durability.question`.
            allowed: Seconds that they may take.
        """
        if self._next is None:
            # In a greenlet of its own: those who wait for it may be killed.
            self._next = gevent.spawn(self._ask, self._under_way, question, allowed)
        replies: Replies | Failure = self._next.get()
        return replies

    def _ask(self, before: Any, question: bytes, allowed: float) -> Any:
        if before is not None:
            before.join()
        self._under_way, self._next = self._next, None
        try:
            return self._link.exchange(question, WAITED, WAIT_REPLIES, allowed)
        except FeatureStoreError as error:
            return Failure(error, unsent=True)
