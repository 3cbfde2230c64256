"""For transports that share one connection: when to connect, and when to give a connection up."""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, TypeVar

from featurestore.contract.doors import DOORS, Door
from featurestore.errors import AccessDeniedError, BadReplyError, FeatureStoreError, OverloadedError, UnavailableError
from featurestore.settings import CallBy
from featurestore.transport.backoff import FIRST_S, Backoff
from featurestore.transport.dial import address_of, connect_error
from featurestore.transport.link import Link
from featurestore.transport.pipeline import Failure, Pipeline, PipelineState, Waiter
from featurestore.transport.repeats import Exchange, Replies, is_refused_write
from featurestore.transport.sent import Sent
from featurestore.transport.turns import BigRequest

_logger = logging.getLogger("featurestore")
_FALSE_AGAIN_S = 10.0


OpenedT = TypeVar("OpenedT")
LinkT = TypeVar("LinkT", bound=Link)


class Sharing(Generic[LinkT]):
    """A transport's connections: the one in use, those that are retiring, and the pause before the next attempt.

    Args:
        url: Redis's address.
        timeout: Seconds that one reply may take to arrive.
        write_timeout: The same for writes; `timeout` when left out.
        max_in_flight: Most calls that may wait for a reply at once.
        call: How Redis runs the scripts, see FEATURESTORE_CALL.

    Attributes:
        address: The URL without credentials and options.
        calls: Calls taken on so far.
        connections: Connections made so far.
        on_loss: Called when the connection in use is lost, if somebody wants to know.
    """

    def __init__(
        self, url: str, *, timeout: float, write_timeout: float | None, max_in_flight: int, call: CallBy
    ) -> None:
        self.address = address_of(url)
        self._timeout, self._write_timeout, self._max_in_flight = timeout, write_timeout, max_in_flight
        self._door: Door = DOORS[call]
        self._converted = self._door.converted
        self.calls = self.connections = self._earlier_writes = 0
        self.on_loss: Callable[[], object] | None = None
        self._loads = True
        self._link: LinkT | None = None
        self._retired: set[LinkT] = set()
        self._backoff = Backoff()
        self._refusal: FeatureStoreError = UnavailableError("Redis cannot be reached")
        self._retire_again_at = 0.0
        self._false_at = -_FALSE_AGAIN_S  # when a connection was last given up because of what it brought
        self._trouble: object = None  # kind of the last logged trouble; None while connected
        self._gone = False  # retired for good

    def __repr__(self) -> str:
        state = "connected" if self._link else "not connected"
        return (
            f"<{type(self).__name__} {self.address} {state}, {self.in_flight} in flight, "
            f"{self.calls} calls in {self.writes} writes, {self.reconnects} reconnects>"
        )

    @property
    def in_flight(self) -> int:
        """Calls whose replies have not been read, including those that were given up."""
        return self._link.pipeline.in_flight if self._link else 0

    @property
    def writes(self) -> int:
        """Number of writes so far."""
        return self._earlier_writes + sum(link.writes for link in (self._link, *self._retired) if link)

    @property
    def reconnects(self) -> int:
        """Connections made after the first."""
        return max(0, self.connections - 1)

    def begin(
        self, exchange: Exchange, resume: Callable[[Any], object], allowed: float | None = None
    ) -> Sent | Failure | None:
        """Send an exchange without waiting; `resume` is called once it has its outcome.

        Return a failure if it is not taken on, and None while there is no connection.

        Args:
            exchange: The commands.
            resume: See `Link.submit`.
            allowed: Seconds that the replies may take, if not the time-out.
        """
        link = self._link or (self._link_for_writes() if exchange.writes else None)
        if link is None:
            return None
        count = len(exchange.encoded)
        self.calls += count
        if exchange.load:
            link.load_scripts()
        try:
            sent = self._submit(link, exchange, resume, allowed)
            return link.pipeline.refusal(count) if sent is None else Sent(link, exchange, sent)
        except OverloadedError as error:
            return Failure(error, unsent=True)

    def _submit(
        self, link: LinkT, exchange: Exchange, resume: Callable[[Any], object], allowed: float | None
    ) -> Waiter | BigRequest | None:
        big = exchange.big
        if big and exchange.answers and not link.is_free_for(exchange):
            return link.submit_in_turns(
                exchange.encoded,
                exchange.answers,
                exchange.each_us,
                resume,
                allowed,
                exchange.takes,
                follows=exchange.follows,
                writes=exchange.writes,
            )
        if allowed is None:
            allowed = self._write_timeout if exchange.writes else exchange.allowed
        encoded = b"".join(exchange.encoded)
        return link.submit(encoded, exchange.expected, resume, len(exchange.encoded), allowed, small=not big)

    def retire(self) -> None:
        """Close the connection once the calls under way are answered, and open no other."""
        self._gone = True
        self._retire_link()

    def _retire_link(self) -> None:
        """Close the connection once the calls under way are answered; a later call opens a new one."""
        link, self._link = self._link, None
        if link:
            self._retired.add(link)
            link.retire()

    def _retire(self) -> None:
        """Make the next call connect anew: after a failover the address may lead to the new primary.

        While it still leads to a replica, one new connection now and then is enough.
        """
        if self._link and monotonic() >= self._retire_again_at:
            self._retire_again_at = monotonic() + FIRST_S
            self._retire_link()

    def _link_for_writes(self) -> LinkT | None:
        """Return a connection that was set aside, while there is no other: Redis may only have paused."""
        for link in self._retired:
            if link.pipeline.set_aside and link.pipeline.state is PipelineState.ACTIVE:
                return link
        return None

    def _check_pause(self) -> None:
        """Raise the last attempt's error while the pause after it lasts, or that the server is not called any more."""
        if self._gone:
            raise UnavailableError(f"{self.address} is none of the servers any more")
        pause = self._backoff.left
        if pause > 0:
            raise type(self._refusal)(f"{self._refusal}; next attempt in {pause * 1000:.0f} ms")

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(
            timeout=self._timeout,
            write_timeout=self._write_timeout,
            max_in_flight=self._max_in_flight,
            on_served=self._on_served,
            door=self._door,
        )

    def _take_up(self, link: LinkT) -> LinkT:
        """Use a new connection from now on, with every script loaded ahead of the calls.

        For calls of functions the dialler has made sure of the library already.
        """
        self.connections += 1
        self._link = link
        for earlier in tuple(self._retired):
            earlier.replace()
        if not self._converted and self._loads:
            link.load_scripts()
        if self._gone:
            self._retire_link()
        return link

    def _refused(self, error: Exception) -> FeatureStoreError:
        """Return why connecting failed, and begin a pause before the next attempt."""
        refusal = connect_error(error)
        self._back_off(refusal)
        return refusal

    def _replies(self, outcome: Replies | Failure) -> Replies | Failure:
        """Return what came of commands on a link; give up the link of a server that is a replica."""
        if not isinstance(outcome, Failure) and is_refused_write(outcome):
            self._retire()
        return outcome

    def _let_go(self) -> list[LinkT]:
        """End every connection, and let the next call connect at once; return them."""
        links = [link for link in (self._link, *self._retired) if link]
        self._link = None
        for link in links:
            link.lose("the transport was closed", final=True)
        self._backoff.reset(at_once=True)
        return links

    def _on_served(self) -> None:
        """Log that trouble is over, once a call was answered; a mere connection does not count."""
        if self._trouble is not None:
            self._trouble = None
            _logger.warning("Redis at %s is connected again", self.address)

    def _back_off(self, refusal: FeatureStoreError) -> None:
        self._backoff.grow()
        self._refusal = refusal
        self._tell(refusal)

    def _tell(self, trouble: FeatureStoreError) -> None:
        """Log trouble once, until it is over or turns into another kind.

        That Redis is away is one kind, whatever the text. That Redis refuses access is one kind for each reason.
        """
        kind = str(trouble) if isinstance(trouble, AccessDeniedError) else type(trouble)
        if kind != self._trouble:
            self._trouble = kind
            _logger.warning("Redis at %s: %s", self.address, trouble)

    def _on_lost(self, link: LinkT) -> None:
        reason = link.pipeline.ending
        if link.pipeline.state is not PipelineState.ENDED:  # it is set aside: writes are waited for on it
            self._retired.add(link)
        else:
            self._earlier_writes += link.writes
            self._retired.discard(link)
            if link.pipeline.final or link.pipeline.set_aside:  # the rest was done before
                return
        if link is self._link:
            self._link = None
            if self.on_loss is not None:
                self.on_loss()
            self._tell(reason)
        false, before = isinstance(reason, BadReplyError), self._false_at
        if false:
            self._false_at = monotonic()
        if link.pipeline.proved and not (false and self._false_at < before + _FALSE_AGAIN_S):
            self._backoff.reset()
        else:
            self._back_off(reason)


def opened(outcome: OpenedT | FeatureStoreError) -> OpenedT:
    """Return the connection that an attempt has brought.

    Raises:
        FeatureStoreError: There is none; an exception of its own for each who waited.
    """
    if isinstance(outcome, FeatureStoreError):
        raise type(outcome)(*outcome.args)
    return outcome
