"""The task that keeps what is known of servers up to date."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError
from featurestore.transport.cluster import Cluster, Inquiry
from featurestore.transport.keeping import Again, Wait, keeping, missed, sentinels_of
from featurestore.transport.listening import AsyncListeners
from featurestore.transport.watched import Watched


class TaskKeeper:
    """A task that keeps what is known of servers up to date, and others that hear Sentinels.

    Args:
        cluster: What is known of the servers.
        ask: Asks a server, and returns its reply, or the error that was met.
        refresh: Asks for the topology.
        timeout: Seconds that a new connection may take.

    Attributes:
        loop: The event loop that it belongs to.
    """

    def __init__(
        self,
        cluster: Cluster,
        ask: Callable[[Inquiry], Awaitable[Reply | FeatureStoreError]],
        refresh: Callable[[], Awaitable[object]],
        timeout: float,
    ) -> None:
        self._cluster, self._ask, self._refresh = cluster, ask, refresh
        self.loop = asyncio.get_running_loop()
        self._attention = asyncio.Event()
        cluster.attend = self._attention.set
        self._listeners: AsyncListeners | None = None
        urls = sentinels_of(cluster)
        if isinstance(cluster, Watched):
            self._listeners = AsyncListeners(urls, timeout, cluster.hear, lambda: missed(cluster))
        self._task = self.loop.create_task(self._run())

    async def close(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if self._listeners is not None:
            await self._listeners.close()

    async def _run(self) -> None:
        steps = keeping(self._cluster)
        step = next(steps)
        while True:
            try:
                reply = await self._done(step)
            except Exception as error:  # noqa: BLE001 - it is logged there
                step = steps.throw(error)
            else:
                step = steps.send(reply)

    async def _done(self, step: Wait | Again | Inquiry) -> Reply | FeatureStoreError:
        """Do a step; return the reply to an inquiry."""
        if isinstance(step, Wait):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(step.seconds):
                    await self._attention.wait()
            self._attention.clear()
            return None
        if isinstance(step, Again):
            await self._refresh()
            return None
        return await self._ask(step)
