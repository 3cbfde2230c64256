"""Calls of all greenlets of a process over one connection, for gevent workers; needs gevent, patched or not."""

import os
import weakref
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Any

import gevent
from gevent import monkey

from featurestore.contract.replies import Take
from featurestore.contract.resp import Reply, Word, encode_call
from featurestore.contract.scripts import Script
from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.settings import CallBy
from featurestore.transport.confirming import has_written
from featurestore.transport.dial import SocketDialler
from featurestore.transport.gevent_link import GeventLink, NonBlockingSocket
from featurestore.transport.greeting import Role
from featurestore.transport.interface import CallTimes, Census, Node, whole
from featurestore.transport.pipeline import Failure, Resume, Waiter
from featurestore.transport.reconnect import Sharing, opened
from featurestore.transport.repeats import Exchange, Replies, calls_of, command_of, drive, only

_TROUBLE = (FeatureStoreError, Failure)
_STEPS = 3  # to connect, TLS, and the first replies


class GeventTransport(Sharing[GeventLink]):
    """Calls over one connection that all greenlets of a thread share.

    The calls of one turn of the event loop leave in one write: a round trip costs 85 us alone, 7 us when 50 share it.
    A call that gets no reply in time fails; its reply is dropped when it comes. When the connection breaks, reads are
    repeated once on a new one; writes only if they cannot have reached Redis. While Redis is away calls fail at once,
    but for one attempt to connect after each pause; pauses grow from 50 ms to 1 s and vary at random.

    A forked child gets a connection of its own. Without gevent's monkey patching the connection is made in a thread of
    gevent's pool, so that other greenlets go on.

    Each step of an attempt to connect may take `connect_timeout`; nobody waits longer than three times that. (A thread
    cannot be stopped: there the attempt itself goes on while the system looks up a name, for as long as that takes.)

    Args:
        url: `redis://`, `rediss://` or `unix://`, with credentials, database and TLS options as redis-py takes them.
        timeout: Seconds that one reply may take to arrive.
        write_timeout: The same for writes; `timeout` when left out.
        connect_timeout: Seconds that each step to a new connection may take: connect, TLS, each reply.
        max_in_flight: Most calls that may wait for a reply at once; more are refused with `OverloadedError`.
        call: How Redis runs the scripts, see FEATURESTORE_CALL.
        role: What the server is to be; see `greeting`.
        times: Takes note of how long calls take.

    Attributes:
        address: The URL without credentials and options.
        calls: Calls taken on so far.
        connections: Connections made so far.
        hurry: Seconds that the reply to a submitted call may take, because a replica may answer then; the time-out
            where None.
    """

    clustered = False
    has_stand_ins = False

    def __init__(  # noqa: PLR0913 - all but the URL by name
        self,
        url: str,
        *,
        timeout: float,
        write_timeout: float | None = None,
        connect_timeout: float,
        max_in_flight: int = 4096,
        call: CallBy = "scripts",
        role: Role = "any",
        times: CallTimes | None = None,
    ) -> None:
        super().__init__(url, timeout=timeout, write_timeout=write_timeout, max_in_flight=max_in_flight, call=call)
        self._loads, self._times = role != "sentinel", times
        self.hurry: float | None = None
        self._dialler = SocketDialler(url, timeout=connect_timeout, call=call, role=role)
        self._longest_attempt = connect_timeout * _STEPS
        self._attempt: Any = None
        self._attempt_until = 0.0  # when to wait for it no longer
        self._epoch = 0  # tells an attempt to connect that it was made for another process or closed meanwhile
        _transports.add(self)

    def run(self, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Reply:
        """Call `script` once; see `Transport.run`."""
        return self.run_encoded(script, encode_call(script, keys, arguments))

    def run_encoded(self, script: Script, encoded: bytes) -> Reply:
        """Call `script` once; see `Transport.run_encoded`."""
        self.calls += 1
        if self._converted:
            encoded = self._converted(encoded)
        calls = [encoded]
        link, allowed = self._link or self._open(writes=script.writes), self._write_timeout if script.writes else None
        outcome = link.exchange(encoded, script.answers(calls), allowed=allowed)
        if isinstance(outcome, _TROUBLE):
            first = outcome if isinstance(outcome, Failure) else [outcome]
            outcome = only(drive(calls_of(script, calls), self._exchange, self._replies(first)))
        return outcome

    def submit(self, script: Script, encoded: bytes, resume: Resume) -> Waiter | None:
        """Send one call of a read script without waiting for it; see `Link.submit`.

        Nothing is mended or repeated. Return None where the call cannot be taken on now, as while there is no
        connection: `run_encoded` then knows why.
        """
        if self._converted:
            encoded = self._converted(encoded)
        link = self._link
        waiter = link.submit(encoded, script.answers([encoded]), resume, 1, self.hurry) if link else None
        if waiter is not None:
            self.calls += 1
        return waiter

    def submit_calls(self, script: Script, encoded: list[bytes], resume: Resume) -> Waiter | None:
        """Do what `submit` does for several calls, which have one outcome: the list of replies."""
        if self._converted:
            encoded = list(map(self._converted, encoded))
        link, count = self._link, len(encoded)
        waiter = link.submit(b"".join(encoded), script.answers(encoded), resume, count, self.hurry) if link else None
        if waiter is not None:
            self.calls += count
        return waiter

    @property
    def link(self) -> GeventLink | None:
        """The connection, if there is one."""
        return self._link

    def overload(self, *, writes: bool = False) -> FeatureStoreError | None:
        """Return why any further big request, or write, would be refused now; None if it would not."""
        return self._link.turns.overload(writes=writes) if self._link else None

    def note_small(self, took: float, nearest: float) -> float:
        """Take into account how long a small request took, and return the pace; see `Pace.note`."""
        return self._link.note_small(took, nearest) if self._link else inf

    def hear_pace(self, at: float, pace: float) -> None:
        """Take into account what another process found; see `Pace.hear`."""
        if self._link:
            self._link.turns.pace.hear(pace, at)

    def run_many_encoded(  # noqa: PLR0913 - all but the first two by name
        self,
        script: Script,
        encoded: Sequence[bytes],
        *,
        each_us: float = 0.0,
        takes: Sequence[Take] | None = None,
        follows: bool = False,
        writes: bool = False,
    ) -> Replies:
        """Call `script` for each of `encoded`; see `Transport.run_many_encoded`."""
        self.calls += len(encoded)
        if self._converted:
            encoded = list(map(self._converted, encoded))
        exchanges = calls_of(script, encoded, each_us, takes, follows=follows, writes=writes)
        return drive(exchanges, self._exchange)

    def command(self, *words: Word, writes: bool = False) -> Reply:
        """Run one plain command; see `Transport.command`."""
        self.calls += 1
        return only(drive(command_of(words, writes=writes), self._exchange))

    def nodes(self) -> list[Node]:
        """Return the one server; see `Transport.nodes`."""
        return [whole(self.address, self)]

    def attempt(self, exchange: Exchange) -> Replies | Failure:
        """Send an exchange, over a new connection if need be, and give way until there is an outcome."""
        self.calls += len(exchange.encoded)
        try:
            if self._link is None:
                self._open(writes=exchange.writes)
        except FeatureStoreError as error:
            return Failure(error, lost=True, unsent=True)
        try:
            return self._exchange(exchange)
        except FeatureStoreError as error:
            return Failure(error, unsent=True)

    def census(self) -> Census:
        """Return what the connection does; see `Counted`."""
        connected, connecting = self._link is not None, self._attempt is not None
        down = not connected and not connecting and self._trouble is not None
        return Census(int(connected), int(connecting), int(down), self.in_flight, self.reconnects)

    def close(self) -> None:
        """Close the connection; calls that wait fail at once, later ones open a new one."""
        self._epoch += 1
        self._attempt = None
        self._let_go()

    def _exchange(self, exchange: Exchange) -> Replies | Failure:
        link = self._link or self._open(writes=exchange.writes)
        if exchange.load:
            link.load_scripts()
        outcome: Reply | Replies | Failure
        big = exchange.big
        if big and exchange.answers and not link.is_free_for(exchange):
            outcome = link.exchange_in_turns(exchange, exchange.answers)
        else:
            count = len(exchange.encoded)
            allowed = self._write_timeout if exchange.writes else exchange.allowed
            encoded = b"".join(exchange.encoded)
            outcome = link.exchange(encoded, exchange.expected, count, allowed, small=not big)
            if not isinstance(outcome, Failure):
                outcome = exchange.taken([outcome] if count == 1 else outcome)
        exchange.load_error = link.pipeline.load_error
        if exchange.wait and has_written(outcome):
            exchange.waited = link.confirming.outcome(exchange.wait, exchange.wait_s)
        return self._replies(outcome)

    def _open(self, *, writes: bool = False) -> GeventLink:
        """Return a connection, new if need be; all who ask meanwhile share one attempt.

        Args:
            writes: Whether one that was set aside will do.

        Raises:
            UnavailableError: Redis cannot be reached, or could not a moment ago.
            AccessDeniedError: Redis refuses the credentials, or did a moment ago.
        """
        known = self._link or (self._link_for_writes() if writes else None)
        if known:
            return known
        if self._attempt is None:
            self._check_pause()
            self._attempt_until = monotonic() + self._longest_attempt
            # In a greenlet of its own: those who wait for it may be killed.
            self._attempt = gevent.spawn(self._connect, self._epoch)
        attempt = self._attempt
        attempt.join(timeout=max(0.0, self._attempt_until - monotonic()))
        if not attempt.ready():
            took = self._longest_attempt * 1000
            raise UnavailableError(f"Redis cannot be reached: to connect takes longer than {took:g} ms")
        link: GeventLink = opened(attempt.get())
        return link

    def _connect(self, epoch: int) -> GeventLink | FeatureStoreError:
        """Return a new connection, or why there is none."""
        try:
            if monkey.is_module_patched("socket"):
                dialled = TimeoutError()
                with gevent.Timeout(self._longest_attempt, False):
                    dialled = self._dial()
            else:
                dialled = gevent.get_hub().threadpool.apply(self._dial)
        finally:
            if epoch == self._epoch:
                self._attempt = None
        if epoch != self._epoch:
            if not isinstance(dialled, Exception):
                dialled.close()
            return UnavailableError("the transport was closed while it connected")
        if isinstance(dialled, Exception):
            return self._refused(dialled)
        link = GeventLink(dialled, gevent.get_hub(), self._new_pipeline(), self._on_lost)
        link.times = self._times
        return self._take_up(link)

    def _dial(self) -> Any:
        """Return a connected socket, or the error that was met."""
        try:
            return _non_blocking(self._dialler.dial())
        except Exception as error:  # noqa: BLE001 - those who wait are told of any
            return error

    def _forget(self) -> None:
        """Leave the connections to the process that this one was forked from."""
        self._epoch += 1
        self._attempt = None
        for link in (self._link, *self._retired):
            if link:
                link.forget()
        self._link = None
        self._retired = set()


def _non_blocking(connected: Any) -> NonBlockingSocket:
    """Return a plain socket's descriptor in an unpatched socket, which is quicker; a TLS socket as it is."""
    if not hasattr(connected, "pending"):
        connected = monkey.get_original("socket", "socket")(fileno=connected.detach())
    connected.setblocking(False)
    result: NonBlockingSocket = connected
    return result


_transports: weakref.WeakSet[GeventTransport] = weakref.WeakSet()


def _forget_all() -> None:
    for transport in list(_transports):
        transport._forget()  # noqa: SLF001 - this module's own class


os.register_at_fork(after_in_child=_forget_all)
