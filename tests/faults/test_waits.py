"""Every wait has an end: servers that accept and say nothing, that drip, names that nobody looks up, closing."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from support.scripted import Peer, ScriptedServer, ThreadedServer, echo, eventually, ignore
from support.scripted_async import Peer as AsyncPeer
from support.scripted_async import ScriptedServer as AsyncScriptedServer
from support.scripted_async import eventually as async_eventually
from support.scripted_async import in_a_loop

from featurestore import AsyncTransport, SyncTransport
from featurestore.errors import BadReplyError, DeadlineExceededError, FeatureStoreError, UnavailableError
from featurestore.transport.asyncio_link import AsyncioLink
from featurestore.transport.gevent_transport import GeventTransport
from featurestore.transport.pipeline import State

SHORT_S = 0.1
SOON_S = 5.0
"""Much more than anything here takes, much less than for ever."""


@pytest.fixture(params=["multiplexed", "pool"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """Make impatient transports that block, of both kinds."""
    made: list[GeventTransport | SyncTransport] = []
    kind = GeventTransport if request.param == "multiplexed" else SyncTransport

    def make(url: str) -> GeventTransport | SyncTransport:
        made.append(kind(url, timeout=SHORT_S, connect_timeout=SHORT_S))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def ended(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the error that the function raises soon."""
    started = time.monotonic()
    with pytest.raises(FeatureStoreError) as raised:
        function(*arguments)
    assert time.monotonic() - started < SOON_S
    return raised.value


def silent(peer: Peer) -> None:
    """Read everything, say nothing."""
    while peer._connection.recv(65_536):
        pass


def dripping(data: bytes, *, greet: bool) -> Callable[[Peer], None]:
    """Send a byte now and then, far more often than any time-out, without end."""

    def behave(peer: Peer) -> None:
        if greet:
            peer.command()
        peer.send(data)
        pause = threading.Event() if threading.current_thread() is not threading.main_thread() else gevent.event.Event()
        while not pause.wait(SHORT_S / 5):
            peer.send(b"x")

    return behave


def test_a_server_that_accepts_and_says_nothing(connect: Callable[[str], Any]) -> None:
    with ThreadedServer(silent, polite=False) as server:
        assert isinstance(ended(connect(server.url).command, "PING"), UnavailableError)


def test_a_server_that_speaks_no_tls(connect: Callable[[str], Any]) -> None:
    with ThreadedServer(silent, polite=False) as server:
        url = server.url.replace("redis://", "rediss://") + "?ssl_cert_reqs=none"
        assert isinstance(ended(connect(url).command, "PING"), UnavailableError)


@pytest.mark.parametrize("kind", ["text", "array"])
@pytest.mark.parametrize("greet", [False, True], ids=["to the greeting", "to a call"])
def test_a_reply_that_drips(connect: Callable[[str], Any], kind: str, greet: bool) -> None:  # noqa: FBT001 - a parameter
    data = {"text": b"$100000\r\n", "array": b"*100000\r\n$100000\r\n"}[kind]
    with ThreadedServer(dripping(data, greet=greet), polite=greet) as server:
        assert isinstance(ended(connect(server.url).command, "ECHO", "x"), UnavailableError)


def test_a_server_that_answers_something_else_than_pong(connect: Callable[[str], Any]) -> None:
    for lie in (b"+PING\r\n", b":1\r\n", b"*1\r\n:1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"):

        def behave(peer: Peer, lie: bytes = lie) -> None:
            peer.command()
            peer.send(lie)

        with ThreadedServer(behave, polite=False) as server:
            assert isinstance(ended(connect(server.url).command, "ECHO", "x"), UnavailableError)


def test_a_name_that_nobody_looks_up(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: go.wait() and [])
    transport = GeventTransport("redis://elsewhere", timeout=SHORT_S, connect_timeout=SHORT_S)
    try:
        assert "longer than 300 ms" in str(ended(transport.command, "PING"))
        attempt = transport._attempt
        assert "longer than 300 ms" in str(ended(transport.command, "PING"))
        assert transport._attempt is attempt is not None  # which has had its time: nobody waits for it again
        transport.close()
    finally:
        go.set()
    eventually(lambda: transport._attempt is None)


def test_a_name_that_cannot_be_one(connect: Callable[[str], Any]) -> None:
    assert isinstance(ended(connect(f"redis://{'x' * 64}.example").command, "PING"), UnavailableError)


def test_a_retired_link_whose_replies_never_come_is_closed() -> None:
    with ScriptedServer(ignore) as server:
        transport = GeventTransport(server.url, timeout=SHORT_S, connect_timeout=20)
        ended(transport.command, "PING")
        transport._retire()
        assert len(transport._retired) == 1
        eventually(lambda: not transport._retired, timeout=SOON_S)
        transport.close()


def test_scripts_that_are_never_loaded_end_the_link() -> None:
    with ScriptedServer(silent, echo) as server:
        transport = GeventTransport(server.url, timeout=SHORT_S, connect_timeout=20)
        gevent.spawn(transport._open).join()
        assert transport._link is not None
        eventually(lambda: transport._link is None, timeout=SOON_S)
        transport.close()


def test_the_time_out_of_a_call_holds_for_the_greeting_too() -> None:
    with ThreadedServer(silent, polite=False) as server:
        for credentials in ("", ":secret@"):
            url = server.url.replace("redis://", f"redis://{credentials}")
            transport = SyncTransport(url, timeout=20, connect_timeout=20)
            assert isinstance(ended(transport.within(SHORT_S).command, "PING"), DeadlineExceededError)
            transport.close()


# Under asyncio


async def ended_task(transport: AsyncTransport, *words: str) -> FeatureStoreError:
    started = time.monotonic()
    with pytest.raises(FeatureStoreError) as raised:
        await transport.command(*words)
    assert time.monotonic() - started < SOON_S
    return raised.value


def impatient(url: str) -> AsyncTransport:
    return AsyncTransport(url, timeout=SHORT_S, connect_timeout=SHORT_S)


async def async_silent(peer: AsyncPeer) -> None:
    while await peer._stream.read(65_536):
        pass


@in_a_loop
async def test_tasks_and_a_server_that_accepts_and_says_nothing() -> None:
    async with AsyncScriptedServer(async_silent, polite=False) as server:
        for url in (server.url, server.url.replace("redis://", "rediss://") + "?ssl_cert_reqs=none"):
            transport = impatient(url)
            assert isinstance(await ended_task(transport, "PING"), UnavailableError)
            await transport.close()
    transport = impatient(f"redis://{'x' * 64}.example")
    assert isinstance(await ended_task(transport, "PING"), UnavailableError)
    await transport.close()


@pytest.mark.parametrize("greet", [False, True], ids=["to the greeting", "to a call"])
@in_a_loop
async def test_tasks_and_a_reply_that_drips(greet: bool) -> None:  # noqa: FBT001 - a parameter
    async def drip(peer: AsyncPeer) -> None:
        if greet:
            await peer.command()
        peer.send(b"$100000\r\n")
        while True:
            await asyncio.sleep(SHORT_S / 5)
            peer.send(b"x")
            await peer._writer.drain()

    async with AsyncScriptedServer(drip, polite=greet) as server:
        transport = impatient(server.url)
        assert isinstance(await ended_task(transport, "ECHO", "x"), UnavailableError)
        await transport.close()


@in_a_loop
async def test_a_reply_that_goes_on_arriving_is_late_at_last() -> None:
    async def gush(peer: AsyncPeer) -> None:
        await peer.command()
        peer.send(b"$536870000\r\n")
        while True:
            peer.send(bytes(1_000_000))
            await peer._writer.drain()

    async with AsyncScriptedServer(gush) as server:
        transport = impatient(server.url)
        assert isinstance(await ended_task(transport, "ECHO", "x"), DeadlineExceededError | BadReplyError)
        await transport.close()


@in_a_loop
async def test_a_link_whose_scripts_are_never_loaded_ends_without_any_call() -> None:
    async with AsyncScriptedServer(async_silent) as server:
        transport = AsyncTransport(server.url, timeout=SHORT_S, connect_timeout=20)
        link: AsyncioLink = await transport._open(None)
        transport._retire()
        assert len(transport._retired) == 1
        await async_eventually(lambda: link.pipeline.state is State.ENDED and not transport._retired)
        await transport.close()
