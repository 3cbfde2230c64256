"""Calls of all greenlets of a process over one connection, for gevent workers; needs gevent, patched or not."""

import os
import weakref
from collections.abc import Sequence
from time import monotonic
from typing import Any

import gevent
from gevent import monkey

from featurestore.contract.replies import Expected, answer_to_command
from featurestore.contract.resp import Call, Reply, Word, encode_call, encode_command
from featurestore.contract.scripts import Script
from featurestore.errors import (
    FeatureStoreError,
    UnavailableError,
)
from featurestore.transport.dial import open_pool
from featurestore.transport.gevent_link import Link, NonBlockingSocket, Resume, Waiter
from featurestore.transport.pipeline import Failure, has_code, to_repeat
from featurestore.transport.reconnect import Sharing, connect_error

_TROUBLE = (FeatureStoreError, Failure)
_STEPS = 3  # to connect, TLS, and the first replies


class MultiplexedTransport(Sharing[Link]):
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
        connect_timeout: Seconds that each step to a new connection may take: connect, TLS, each reply.
        max_in_flight: Most calls that may wait for a reply at once; more are refused with `OverloadedError`.

    Attributes:
        address: The URL without credentials and options.
        calls: Calls taken on so far.
        connections: Connections made so far.
    """

    def __init__(self, url: str, *, timeout: float, connect_timeout: float, max_in_flight: int = 4096) -> None:
        super().__init__(url)
        self._pool = open_pool(url, timeout=connect_timeout, connect_timeout=connect_timeout, max_connections=1)
        self._timeout, self._max_in_flight = timeout, max_in_flight
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
        calls = [encoded]
        outcome = (self._link or self._open()).exchange(encoded, script.answers(calls))
        if isinstance(outcome, _TROUBLE):
            (outcome,) = self._settle(script, calls, outcome)
            if isinstance(outcome, FeatureStoreError):
                raise outcome
        return outcome

    def submit(self, script: Script, encoded: bytes, resume: Resume) -> Waiter | None:
        """Send one call of a read script without waiting for it; see `Link.submit`.

        Nothing is mended or repeated. Return None where the call cannot be taken on now, as while there is no
        connection: `run_encoded` then knows why.
        """
        waiter = self._link.submit(encoded, script.answers([encoded]), resume) if self._link else None
        if waiter is not None:
            self.calls += 1
        return waiter

    def run_many(self, script: Script, calls: Sequence[Call]) -> list[Reply | FeatureStoreError]:
        """Call `script` for each of `calls` in one write; see `Transport.run_many`."""
        return self.run_many_encoded(script, [encode_call(script, keys, arguments) for keys, arguments in calls])

    def run_many_encoded(self, script: Script, encoded: list[bytes]) -> list[Reply | FeatureStoreError]:
        """Call `script` for each of `encoded` in one write; see `Transport.run_many_encoded`."""
        if not encoded:
            return []
        self.calls += len(encoded)
        return self._settle(script, encoded, self._exchange(encoded, script.answers(encoded)))

    def command(self, *words: Word) -> Reply:
        """Run one plain command; see `Transport.command`."""
        self.calls += 1
        encoded = [encode_command(words)]
        expected = answer_to_command(words, encoded[0])
        (reply,) = self._replies(encoded, expected, self._exchange(encoded, expected), repeatable=False)
        if isinstance(reply, FeatureStoreError):
            raise reply
        return reply

    def close(self) -> None:
        """Close the connection; calls that wait fail at once, later ones open a new one."""
        self._epoch += 1
        self._attempt = None
        links = [link for link in (self._link, *self._retired) if link]
        self._link = None
        for link in links:
            link.lose("the transport was closed", final=True)
        self._backoff.reset(at_once=True)

    def _exchange(self, encoded: list[bytes], expected: Expected) -> Reply | Failure:
        return (self._link or self._open()).exchange(b"".join(encoded), expected, len(encoded))

    def _settle(
        self, script: Script, encoded: list[bytes], outcome: Reply | Failure
    ) -> list[Reply | FeatureStoreError]:
        """Return the replies to the calls of a script; those that Redis did not know are loaded and called again.

        Such a call did not take place, so to repeat it is safe for writes too.
        """
        repeatable = not script.writes
        replies = self._replies(encoded, script.answers(encoded), outcome, repeatable=repeatable)
        unknown = to_repeat([has_code(reply, "NOSCRIPT") for reply in replies], in_order=script.in_order)
        if unknown:
            link = self._link or self._open()
            link.load_scripts()
            repeated = [encoded[index] for index in unknown]
            expected = script.answers(repeated)
            again = self._replies(repeated, expected, self._exchange(repeated, expected), repeatable=repeatable)
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = link.load_error if link.load_error and has_code(reply, "NOSCRIPT") else reply
        return replies

    def _replies(
        self, encoded: list[bytes], expected: Expected, outcome: Reply | Failure, *, repeatable: bool
    ) -> list[Reply | FeatureStoreError]:
        """Return one reply for each command, sent once more on a new connection where that is safe."""
        if isinstance(outcome, Failure) and outcome.lost and (repeatable or outcome.unsent):
            outcome = self._exchange(encoded, expected)
        if isinstance(outcome, Failure):
            raise outcome.error
        replies = outcome if len(encoded) > 1 else [outcome]
        if any(has_code(reply, "READONLY") for reply in replies):
            self._retire()
        return replies

    def _open(self) -> Link:
        """Return a connection, new if need be; all who ask meanwhile share one attempt.

        Raises:
            UnavailableError: Redis cannot be reached, or could not a moment ago.
            AccessDeniedError: Redis refuses the credentials, or did a moment ago.
        """
        if self._link:
            return self._link
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
        outcome: Link | FeatureStoreError = attempt.get()
        if isinstance(outcome, FeatureStoreError):
            raise type(outcome)(*outcome.args)
        return outcome

    def _connect(self, epoch: int) -> Link | FeatureStoreError:
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
            refusal = connect_error(dialled)
            self._back_off(refusal)
            return refusal
        link = Link(
            dialled,
            gevent.get_hub(),
            timeout=self._timeout,
            max_in_flight=self._max_in_flight,
            on_lost=self._on_lost,
            on_served=self._on_served,
        )
        self._take_up(link)
        link.load_scripts()
        return link

    def _dial(self) -> Any:
        """Return a connected socket, or the error that was met."""
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        try:
            connection.connect()
            connected, connection._sock = connection._sock, None  # noqa: SLF001 - redis-py has no way to give it away
            return _non_blocking(connected)
        except Exception as error:  # noqa: BLE001 - those who wait are told of any
            return error
        finally:
            connection.disconnect()

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


_transports: weakref.WeakSet[MultiplexedTransport] = weakref.WeakSet()


def _forget_all() -> None:
    for transport in list(_transports):
        transport._forget()  # noqa: SLF001 - this module's own class


os.register_at_fork(after_in_child=_forget_all)
