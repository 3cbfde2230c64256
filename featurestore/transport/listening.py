"""Hearing what Sentinels tell: a subscription to each, in a thread, a greenlet or a task.

A subscription costs nothing while its Sentinel is quiet, but for a PING now and then that finds a dead connection. One
that broke is made anew; what was missed meanwhile is asked for.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from featurestore.contract.resp import encode_command
from featurestore.transport.dial import SocketDialler, StreamDialler, address_of
from featurestore.transport.sentinels import SUBSCRIBE

_logger = logging.getLogger("featurestore")
_QUIET_S = 5.0
_AGAIN_S, _AFTER_REFUSAL_S = 0.5, 15.0
_READ_BYTES = 16_384
_PING = encode_command(("PING",))


class _Refusals:
    """Subscriptions that Sentinels refuse, as to a user without permission; each reason is logged once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def pause_after(self, refusal: BaseException | None, sentinel: str) -> float:
        """Return the seconds to wait until the next subscription; log why the last one was refused, if it was."""
        if refusal is None:
            return _AGAIN_S
        text = f"Sentinel {sentinel} does not let us hear of new primaries, which are found later without: {refusal}"
        if text not in self._told:
            self._told.add(text)
            _logger.warning(text)
        return _AFTER_REFUSAL_S


Deliver = Callable[[Callable[[], object]], object]
"""Has a function called where the transport's own calls are made."""


class Listeners:
    """Threads that hear Sentinels; where threads are patched to be greenlets, these are.

    Args:
        urls: The Sentinels'.
        timeout: Seconds that a new connection may take.
        hear: Takes each message.
        missed: Called when a subscription begins, since something may have been missed before.
        deliver: Calls them.
    """

    def __init__(
        self,
        urls: Sequence[str],
        timeout: float,
        hear: Callable[[Any], object],
        missed: Callable[[], object],
        deliver: Deliver,
    ) -> None:
        self._hear, self._missed, self._deliver = hear, missed, deliver
        self._over = threading.Event()
        self._open: set[Any] = set()
        self._refusals = _Refusals()
        self._threads = [
            threading.Thread(target=self._listen, args=(SocketDialler(url, timeout=timeout), address_of(url)),
                             daemon=True, name="featurestore-sentinel")
            for url in urls
        ]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End them."""
        self._over.set()
        for connected in list(self._open):
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Leave them to the process that this one was forked from, with the connections."""
        self._over = threading.Event()  # the other one's lock may be held
        self._over.set()
        for connected in list(self._open):
            with contextlib.suppress(OSError):
                connected.close()

    def _listen(self, dialler: SocketDialler, sentinel: str) -> None:
        while not self._over.is_set():
            refusal = None
            with contextlib.suppress(Exception):  # it is away: others may tell
                connected = dialler.dial()
                self._open.add(connected)
                try:
                    refusal = self._listen_on(connected)
                finally:
                    self._open.discard(connected)
                    connected.close()
            self._over.wait(self._refusals.pause_after(refusal, sentinel))

    def _listen_on(self, connected: Any) -> BaseException | None:
        """Hear a Sentinel until the connection is lost; return why it lets nobody hear it, if it does not."""
        connected.settimeout(_QUIET_S)
        connected.sendall(SUBSCRIBE)
        self._deliver(self._missed)
        reader, pinged = hiredis.Reader(), False
        while not self._over.is_set():
            try:
                data = connected.recv(_READ_BYTES)
            except TimeoutError:
                if pinged:
                    return None
                pinged = True
                connected.sendall(_PING)
                continue
            if not data:
                return None
            pinged = False
            reader.feed(data)
            while (message := reader.gets()) is not False:
                if isinstance(message, hiredis.ReplyError):
                    return message
                self._deliver(lambda message=message: self._hear(message))  # type: ignore[misc]
        return None


class AsyncListeners:
    """Tasks of an event loop that hear Sentinels.

    Args:
        urls: See `Listeners`.
        timeout: See there.
        hear: See there.
        missed: See there.
    """

    def __init__(
        self, urls: Sequence[str], timeout: float, hear: Callable[[Any], object], missed: Callable[[], object]
    ) -> None:
        self._hear, self._missed = hear, missed
        self._refusals = _Refusals()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._listen(StreamDialler(url, timeout=timeout), address_of(url))) for url in urls
        ]

    async def close(self) -> None:
        """End them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, dialler: StreamDialler, sentinel: str) -> None:
        while True:
            refusal = None
            with contextlib.suppress(Exception):  # it is away: others may tell
                stream = await dialler.dial()
                heard = _Subscription(self._hear)
                stream.transport.set_protocol(heard)
                try:
                    await self._listen_on(stream.transport, heard)
                    refusal = heard.refusal
                finally:
                    stream.transport.abort()
                    stream.release()
            await asyncio.sleep(self._refusals.pause_after(refusal, sentinel))

    async def _listen_on(self, transport: asyncio.Transport, heard: "_Subscription") -> None:
        transport.write(SUBSCRIBE)
        self._missed()
        while True:
            heard.quiet = True
            done, _ = await asyncio.wait({heard.lost}, timeout=_QUIET_S)
            if done:
                return
            if heard.quiet:
                transport.write(_PING)
                done, _ = await asyncio.wait({heard.lost}, timeout=_QUIET_S)
                if done or heard.quiet:
                    return


class _Subscription(asyncio.Protocol):
    """What arrives on one."""

    def __init__(self, hear: Callable[[Any], object]) -> None:
        self._hear, self._reader = hear, hiredis.Reader()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.quiet = True
        self.refusal: BaseException | None = None

    def data_received(self, data: bytes) -> None:
        self.quiet = False
        self._reader.feed(data)
        while (message := self._reader.gets()) is not False:
            if isinstance(message, hiredis.ReplyError):
                self.refusal = message
                self.connection_lost(None)
                return
            self._hear(message)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
