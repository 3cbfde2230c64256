"""`support.scripted` for asyncio: a server in this event loop that answers, stalls, lies and hangs up as told."""

import asyncio
import contextlib
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self

import hiredis

from featurestore.transport.asyncio_transport import AsyncTransport

PATIENT_S = 20.0


class Connect:
    """Makes transports; their deadlines never matter unless a test sets them."""

    def __init__(self) -> None:
        self._made: list[AsyncTransport] = []

    def __call__(self, url: str, *, timeout: float = PATIENT_S, **options: Any) -> AsyncTransport:
        self._made.append(AsyncTransport(url, timeout=timeout, connect_timeout=PATIENT_S, **options))
        return self._made[-1]

    async def close(self) -> None:
        for transport in self._made:
            await transport.close()


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the test in an event loop of its own, at the end of which nothing may be under way; close its transports."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        async def whole() -> None:
            unhandled: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
            try:
                async with asyncio.timeout(60):
                    await test(**fixtures)
            finally:
                for fixture in fixtures.values():
                    if isinstance(fixture, Connect):
                        await fixture.close()
            assert unhandled == []
            await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()}, what="the end of every task")

        asyncio.run(whole())

    return run


async def eventually(condition: Callable[[], Any], *, what: str = "the condition") -> None:
    """Return once `condition()`, or what it returns to be awaited, is true; fail after a while."""
    deadline = time.monotonic() + PATIENT_S
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < deadline, f"{what} did not come true in {PATIENT_S} s"
        await asyncio.sleep(0.002)


class Peer:
    """One connection, seen from the server.

    The first PING, and loading scripts, work by themselves and are not counted as commands.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: list[list[bytes]]) -> None:
        self._stream, self._writer = reader, writer
        self._received = received
        self._reader = hiredis.Reader()

    async def greet(self) -> None:
        """Answer the PING that every connection begins with."""
        command: Any = False
        while command is False:
            data = await self._stream.read(65_536)
            if not data:
                raise ConnectionError
            self._reader.feed(data)
            command = self._reader.gets()
        assert command == [b"PING"]
        self.send(b"+PONG\r\n")

    async def data(self) -> bytes:
        """Return what arrives next, whatever it is; nothing at the end."""
        return await self._stream.read(65_536)

    async def command(self) -> list[bytes]:
        """Return the next command; end the behaviour when the client hangs up."""
        while True:
            command: Any = self._reader.gets()
            if command is False:
                data = await self._stream.read(65_536)
                if not data:
                    raise ConnectionError
                self._reader.feed(data)
            elif command[:2] == [b"SCRIPT", b"LOAD"]:
                self.send(b"$40\r\n%s\r\n" % hashlib.sha1(command[2]).hexdigest().encode())
            else:
                words: list[bytes] = command
                self._received.append(words)
                return words

    def send(self, data: bytes) -> None:
        if not self._writer.is_closing():  # asyncio logs a warning of what is written to a client that has gone
            self._writer.write(data)


Behaviour = Callable[[Peer], Awaitable[None]]


async def echo(peer: Peer) -> None:
    """Answer each command with its last word."""
    while True:
        word = (await peer.command())[-1]
        peer.send(b"$%d\r\n%s\r\n" % (len(word), word))


async def hang_up(peer: Peer) -> None:
    """Take one command and close."""
    await peer.command()


async def ignore(peer: Peer) -> None:
    """Take every command and answer none."""
    while True:
        await peer.command()


def reply_once(reply: bytes) -> Behaviour:
    """Answer the first command with `reply`, later ones with their last word."""

    async def behave(peer: Peer) -> None:
        await peer.command()
        peer.send(reply)
        await echo(peer)

    return behave


class ScriptedServer:
    """A server whose first connection gets the first behaviour, and so on; the last one serves all further ones.

    A server that is not `polite` leaves the first PING to the behaviours too.
    """

    def __init__(self, *behaviours: Behaviour, polite: bool = True) -> None:
        self._polite = polite
        self.accepted = 0
        self.received: list[list[bytes]] = []
        self._behaviours = behaviours
        self._serving: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        self._serving.add(task)
        behaviour = self._behaviours[min(self.accepted, len(self._behaviours) - 1)]
        self.accepted += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                peer = Peer(reader, writer, self.received)
                if self._polite:
                    await peer.greet()
                await behaviour(peer)
        finally:
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
