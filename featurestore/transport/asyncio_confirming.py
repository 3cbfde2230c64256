"""One WAIT for all tasks that have written over a connection; see `confirming`."""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from featurestore.errors import DeadlineExceededError, FeatureStoreError
from featurestore.transport.confirming import WAIT_REPLIES, WAITED
from featurestore.transport.pipeline import Failure
from featurestore.transport.repeats import Replies

if TYPE_CHECKING:
    from featurestore.transport.asyncio_link import AsyncioLink


class Confirming:
    """Asks for replicas on one connection. Who comes while a WAIT is under way shares the next one with all others.

    Args:
        link: The connection.
    """

    def __init__(self, link: "AsyncioLink") -> None:
        self._link = link
        self._under_way: asyncio.Task[Any] | None = None
        self._next: asyncio.Task[Any] | None = None

    async def outcome(self, question: bytes, allowed: float, deadline: float | None) -> Replies | Failure:
        """Wait for the replies to a WAIT that was sent after this was called.

        Args:
            question: See `Durability.question`.
            allowed: Seconds that they may take.
            deadline: When to give up, by `time.monotonic`.
        """
        asking = self._next
        if asking is None:
            # In a task of its own: those who wait for it may be cancelled.
            asking = self._next = asyncio.get_running_loop().create_task(self._ask(self._under_way, question, allowed))
        left = None if deadline is None else max(0.0, deadline - monotonic())
        done, _ = await asyncio.wait({asking}, timeout=left)
        if not done:
            return Failure(DeadlineExceededError("the time was over before replicas confirmed it"))
        replies: Replies | Failure = asking.result()
        return replies

    async def _ask(self, before: "asyncio.Task[Any] | None", question: bytes, allowed: float) -> Any:
        if before is not None:
            await asyncio.wait({before})
        self._under_way, self._next = self._next, None
        try:
            return await self._link.exchange(question, WAITED, WAIT_REPLIES, allowed=allowed)
        except FeatureStoreError as error:
            return Failure(error, unsent=True)
