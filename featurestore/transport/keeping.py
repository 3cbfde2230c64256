"""What goes on beside the calls of a routed transport: asking again who there is, how far replicas are, who takes over.

`keeping` is without I/O; each kind of transport drives it in its own way, in a thread, a greenlet or a task.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Generator
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic

import msgspec

from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError
from featurestore.transport.cluster import Cluster, Inquiry, Target
from featurestore.transport.listening import Deliver, Listeners
from featurestore.transport.watched import ROLE, Watched, next_refresh

_logger = logging.getLogger("featurestore")
_SUCCESSOR_S = 0.005
_LONGEST_WAIT_S = 10.0
_AFTER_TROUBLE_S = 1.0


class Wait(msgspec.Struct, frozen=True):
    """To do nothing for some seconds, or until somebody wants attention."""

    seconds: float


class Again(msgspec.Struct, frozen=True):
    """To ask for the topology again."""


Keeping = Generator[Wait | Again | Inquiry, Reply | FeatureStoreError, None]
"""Yields what to do, and is sent the reply to an inquiry; never ends by itself."""


def keeping(cluster: Cluster) -> Keeping:
    """Keep what is known of servers up to date, for as long as somebody drives it.

    What nobody expects, here or where it is driven, is logged, and ends nothing: without this a new primary would not
    be found.
    """
    while True:
        try:
            yield from _kept(cluster)
        except Exception:
            _logger.exception("what is known of the servers could not be brought up to date; it is tried again")
        yield Wait(_AFTER_TROUBLE_S)


def _kept(cluster: Cluster) -> Keeping:
    poll_at = 0.0
    if cluster.refresh_at == inf:
        cluster.refresh_at = next_refresh()
    while True:
        if isinstance(cluster, Watched) and cluster.holding and cluster.hold.successor:
            successor = cluster.hold.successor
            cluster.take_role(successor, (yield Inquiry(Target(successor, replica=True), ROLE)))
            if cluster.holding:
                yield Wait(_SUCCESSOR_S)
            continue
        now, every = monotonic(), cluster.reading.poll_every
        if cluster.refresh_at <= now and cluster.may_ask:
            cluster.refresh_at = next_refresh()
            yield Again()
        if every and poll_at <= now:
            poll_at = now + every
            yield from _polled(cluster)
        due = min(cluster.refresh_at, poll_at if every else _LONGEST_WAIT_S + now)
        yield Wait(min(_LONGEST_WAIT_S, max(_SUCCESSOR_S, due - monotonic())))


def _polled(cluster: Cluster) -> Keeping:
    if cluster.topology is None:
        return
    shards = cluster.topology.shards()
    primaries = {shard.primary for shard in shards}
    steps, reply = cluster.reading.polling(shards), None
    while True:
        try:
            address = steps.send(reply)
        except StopIteration:
            return
        reply = yield Inquiry(Target(address, replica=address not in primaries), ROLE)


def needs_keeping(cluster: Cluster) -> bool:
    """Return whether something is to be done beside the calls: in a cluster only if replicas are measured."""
    return not cluster.clustered or bool(cluster.reading.poll_every)


def missed(cluster: Cluster) -> None:
    """Have the topology read again: what would have told of a change may have been missed."""
    cluster.refresh_at = 0.0
    cluster.attend()


def sentinels_of(cluster: Cluster) -> list[str]:
    """Return the URLs of the Sentinels; none where there are none."""
    return [cluster.url_of(Target(each, use="sentinel")) for each in cluster.listened_to]


def listeners_of(cluster: Cluster, timeout: float, deliver: Deliver) -> Listeners | None:
    """Return what hears the Sentinels, begun; None where there are none."""
    if not isinstance(cluster, Watched):
        return None
    return Listeners(sentinels_of(cluster), timeout, cluster.hear, lambda: missed(cluster), deliver)


def drive(
    cluster: Cluster, do: Callable[[Wait | Again | Inquiry], Reply | FeatureStoreError], over: Callable[[], bool]
) -> None:
    """Do what `keeping` says until it is over.

    Args:
        cluster: What is known of the servers.
        do: Does a step; returns the reply to an inquiry.
        over: Whether to return.
    """
    steps = keeping(cluster)
    step = next(steps)
    while not over():
        try:
            reply = do(step)
        except Exception as error:  # noqa: BLE001 - it is logged there
            step = steps.throw(error)
        else:
            step = steps.send(reply)


class ThreadKeeper:
    """A thread that keeps what is known of servers up to date, and others that hear Sentinels.

    Where threads are patched to be greenlets, these are. They end when the transport is closed, or nobody has it any
    more.

    Args:
        cluster: What is known of the servers. It must not hold the transport.
        ask: The transport's method that asks a server, and returns its reply, or the error that was met.
        refresh: Its method that asks for the topology.
        timeout: Seconds that a new connection may take.
    """

    def __init__(
        self,
        cluster: Cluster,
        ask: Callable[[Inquiry], Reply | FeatureStoreError],
        refresh: Callable[[], object],
        timeout: float,
    ) -> None:
        self._attention: SimpleQueue[None] = SimpleQueue()  # may be put to by a finalizer
        self._over = False
        cluster.attend = self._attend
        self._ask = weakref.WeakMethod(ask, self._end)
        self._refresh = weakref.WeakMethod(refresh)
        self._listeners = listeners_of(cluster, timeout, at_once)
        self._thread = threading.Thread(target=self._run, args=(cluster,), daemon=True, name="featurestore-keeper")
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._end()
        if self._listeners is not None:
            self._listeners.close()

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""
        self._over = True
        if self._listeners is not None:
            self._listeners.forget()

    def _attend(self) -> None:
        self._attention.put(None)

    def _end(self, _gone: object = None) -> None:
        self._over = True
        self._attention.put(None)

    def _run(self, cluster: Cluster) -> None:
        drive(cluster, self._done, lambda: self._over)
        if self._listeners is not None:
            self._listeners.close()

    def _done(self, step: Wait | Again | Inquiry) -> Reply | FeatureStoreError:
        """Do a step; return the reply to an inquiry."""
        if isinstance(step, Wait):
            self._wait(step.seconds)
            return None
        ask, refresh = self._ask(), self._refresh()
        if ask is None or refresh is None:
            self._over = True
            return None
        if isinstance(step, Again):
            refresh()
            return None
        return ask(step)

    def _wait(self, seconds: float) -> None:
        try:
            self._attention.get(timeout=seconds)
            while True:
                self._attention.get_nowait()
        except Empty:
            pass


def at_once(call: Callable[[], object]) -> object:
    """Call a function: no other place is needed for it."""
    return call()
