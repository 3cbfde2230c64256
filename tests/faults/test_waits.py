"""Every wait has an end: servers that accept and say nothing, that drip, names that nobody looks up, closing."""

import socket
import threading
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from support.kinds import Kind, Pool, Shared, Tasks, over, over_each, over_shared
from support.scripted import eventually
from support.scripted_async import Behaviour, Peer, echo, ignore

from featurestore import SyncTransport
from featurestore.errors import BadReplyError, DeadlineExceededError, FeatureStoreError, UnavailableError
from featurestore.transport.gevent_transport import GeventTransport
from featurestore.transport.pipeline import PipelineState

SHORT_S = 0.1
SOON_S = 5.0
"""Much more than anything here takes, much less than for ever."""


def impatient(kind: Kind, url: str) -> Any:
    return kind.connect(url, timeout=SHORT_S, connect_timeout=SHORT_S)


async def ended(call: Awaitable[Any]) -> FeatureStoreError:
    """Return the error that the call raises soon."""
    started = time.monotonic()
    with pytest.raises(FeatureStoreError) as raised:
        await call
    assert time.monotonic() - started < SOON_S
    return raised.value


async def silent(peer: Peer) -> None:
    """Read everything, say nothing."""
    while await peer.data():
        pass


def dripping(kind: Kind, data: bytes, *, greet: bool) -> Behaviour:
    """Send a byte now and then, far more often than any time-out, until the client is gone."""

    async def behave(peer: Peer) -> None:
        if greet:
            await peer.command()
        peer.send(data)
        for _ in range(int(SOON_S / SHORT_S * 5)):
            await kind.sleep(SHORT_S / 5)
            peer.send(b"x")

    return behave


@over_each
async def test_a_server_that_accepts_and_says_nothing(kind: Kind) -> None:
    async with kind.server(silent, polite=False) as server:
        assert isinstance(await ended(impatient(kind, server.url).command("PING")), UnavailableError)


@over_each
async def test_a_server_that_speaks_no_tls(kind: Kind) -> None:
    async with kind.server(silent, polite=False) as server:
        url = server.url.replace("redis://", "rediss://") + "?ssl_cert_reqs=none"
        assert isinstance(await ended(impatient(kind, url).command("PING")), UnavailableError)


@pytest.mark.parametrize("reply", [b"$100000\r\n", b"*100000\r\n$100000\r\n"], ids=["text", "array"])
@pytest.mark.parametrize("greet", [False, True], ids=["to the greeting", "to a call"])
@over_each
async def test_a_reply_that_drips(kind: Kind, reply: bytes, greet: bool) -> None:  # noqa: FBT001 - a parameter
    async with kind.server(dripping(kind, reply, greet=greet), polite=greet) as server:
        assert isinstance(await ended(impatient(kind, server.url).command("ECHO", "x")), UnavailableError)


@pytest.mark.parametrize("lie", [b"+PING\r\n", b":1\r\n", b"*1\r\n:1\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
@over_each
async def test_a_server_that_answers_something_else_than_pong(kind: Kind, lie: bytes) -> None:
    async def behave(peer: Peer) -> None:
        await peer.command()
        peer.send(lie)

    async with kind.server(behave, polite=False) as server:
        assert isinstance(await ended(impatient(kind, server.url).command("ECHO", "x")), UnavailableError)


def test_a_name_that_nobody_looks_up(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: go.wait() and [])
    transport = GeventTransport("redis://elsewhere", timeout=SHORT_S, connect_timeout=SHORT_S)

    def refusal() -> str:
        started = time.monotonic()
        with pytest.raises(FeatureStoreError) as raised:
            transport.command("PING")
        assert time.monotonic() - started < SOON_S
        return str(raised.value)

    try:
        assert "longer than 300 ms" in refusal()
        attempt = transport._attempt
        assert "longer than 300 ms" in refusal()
        assert transport._attempt is attempt is not None  # which has had its time: nobody waits for it again
        transport.close()
    finally:
        go.set()
    eventually(lambda: transport._attempt is None)


@over_each
async def test_a_name_that_cannot_be_one(kind: Kind) -> None:
    transport = impatient(kind, f"redis://{'x' * 64}.example")
    assert isinstance(await ended(transport.command("PING")), UnavailableError)


@over_shared
async def test_a_retired_link_whose_replies_never_come_is_closed(kind: Shared) -> None:
    async with kind.server(ignore) as server:
        transport = kind.connect(server.url, timeout=SHORT_S)
        await ended(transport.command("PING"))
        transport._retire()
        assert len(transport._retired) == 1
        await kind.eventually(lambda: not transport._retired)


@over_shared
async def test_scripts_that_are_never_loaded_end_the_link(kind: Shared) -> None:
    async with kind.server(silent, echo) as server:
        transport = kind.connect(server.url, timeout=SHORT_S)
        assert (await kind.open(transport)).pipeline.state is PipelineState.ACTIVE
        await kind.eventually(lambda: transport._link is None)


@over_shared
async def test_a_retired_link_whose_scripts_are_never_loaded_ends_without_any_call(kind: Shared) -> None:
    async with kind.server(silent) as server:
        transport = kind.connect(server.url, timeout=SHORT_S)
        link = await kind.open(transport)
        transport._retire()
        assert len(transport._retired) == 1
        await kind.eventually(lambda: link.pipeline.state is PipelineState.ENDED and not transport._retired)


@over(Tasks.name)
async def test_a_reply_that_goes_on_arriving_is_late_at_last(kind: Tasks) -> None:
    async def gush(peer: Peer) -> None:
        await peer.command()
        peer.send(b"$536870000\r\n")
        while True:
            peer.send(bytes(1_000_000))
            await peer._writer.drain()

    async with kind.server(gush) as server:
        error = await ended(impatient(kind, server.url).command("ECHO", "x"))
        assert isinstance(error, DeadlineExceededError | BadReplyError)


@pytest.mark.parametrize("credentials", ["", ":secret@"])
@over(Pool.name)
async def test_the_time_out_of_a_call_holds_for_the_greeting_too(kind: Pool, credentials: str) -> None:
    async with kind.server(silent, polite=False) as server:
        transport: SyncTransport = kind.connect(server.url.replace("redis://", f"redis://{credentials}")).inner

        async def ping() -> Any:
            return transport.within(SHORT_S).command("PING")

        assert isinstance(await ended(ping()), DeadlineExceededError)
