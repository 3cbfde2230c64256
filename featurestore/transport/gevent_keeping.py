"""The greenlet that keeps what is known of servers up to date; needs gevent."""

from collections.abc import Callable

import gevent
from gevent import monkey
from gevent.event import Event

from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError
from featurestore.transport.cluster import Cluster, Inquiry
from featurestore.transport.keeping import Again, Wait, at_once, drive, listeners_of


class GreenletKeeper:
    """A greenlet that keeps what is known of servers up to date, and others that hear Sentinels.

    Without gevent's monkey patching Sentinels are heard in threads, which have the event loop take what they heard.

    Args:
        cluster: What is known of the servers.
        ask: Asks a server, and returns its reply, or the error that was met.
        refresh: Asks for the topology.
        timeout: Seconds that a new connection may take.
    """

    def __init__(
        self,
        cluster: Cluster,
        ask: Callable[[Inquiry], Reply | FeatureStoreError],
        refresh: Callable[[], object],
        timeout: float,
    ) -> None:
        self._cluster, self._ask, self._refresh = cluster, ask, refresh
        self._attention, self._over = Event(), False
        cluster.attend = self._attention.set
        loop = gevent.get_hub().loop
        deliver = at_once if monkey.is_module_patched("threading") else loop.run_callback_threadsafe
        self._listeners = listeners_of(cluster, timeout, deliver)
        self._greenlet = gevent.spawn(self._run)

    def close(self) -> None:
        """End it."""
        self._over = True
        self._greenlet.kill(block=False)
        if self._listeners is not None:
            self._listeners.close()

    def forget(self) -> None:
        """Leave it to the process that this one was forked from; greenlets are copied, and end here."""
        self._over = True
        self._greenlet.kill(block=False)
        if self._listeners is not None:
            self._listeners.forget()

    def _run(self) -> None:
        drive(self._cluster, self._done, lambda: self._over)

    def _done(self, step: Wait | Again | Inquiry) -> Reply | FeatureStoreError:
        """Do a step; return the reply to an inquiry."""
        if isinstance(step, Wait):
            self._attention.wait(step.seconds)
            self._attention.clear()
            return None
        if isinstance(step, Again):
            self._refresh()
            return None
        return self._ask(step)
