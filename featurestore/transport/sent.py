"""An exchange that is under way on a shared connection, for a caller who waits for several at once."""

from typing import Any

from featurestore.transport.link import Link
from featurestore.transport.pipeline import PENDING, Failure, Waiter
from featurestore.transport.repeats import Exchange, Replies
from featurestore.transport.turns import BigRequest


class Sent:
    """Waits in a link for its replies.

    Args:
        link: Where it was sent.
        exchange: The commands.
        waiting: Its place there: all of it, or its turns.
    """

    __slots__ = ("_exchange", "_link", "_waiting")

    def __init__(self, link: Link, exchange: Exchange, waiting: Waiter | BigRequest) -> None:
        self._link, self._exchange, self._waiting = link, exchange, waiting

    def outcome(self) -> Replies | Failure:
        """Return what came of it, once it is there."""
        outcome: Any = self._waiting.outcome
        exchange = self._exchange
        exchange.load_error = self._link.pipeline.load_error
        if isinstance(self._waiting, Waiter) and not isinstance(outcome, Failure):
            outcome = exchange.taken([outcome] if self._waiting.count == 1 else outcome)
        made: Replies | Failure = outcome
        return made

    def abandon(self) -> None:
        """Nobody waits for it any more, whether it has its outcome or not."""
        if isinstance(self._waiting, BigRequest):
            self._link.leave(self._waiting)
        else:
            self._waiting.resume = None

    @property
    def pending(self) -> bool:
        """Whether there is no outcome yet."""
        return self._waiting.outcome is PENDING
