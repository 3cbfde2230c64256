"""What concerns the transport of tasks alone: deadlines of calls, event loops, cancelling."""

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest
from support.kinds import outcome
from support.scripted_async import (
    PATIENT_S,
    Connect,
    ScriptedServer,
    echo,
    eventually,
    ignore,
    in_a_loop,
)
from support.servers import Server

from featurestore import AsyncTransport
from featurestore.errors import DeadlineExceededError, UnavailableError


@pytest.fixture
def connect() -> Connect:
    return Connect()


def start(call: Any) -> "asyncio.Task[Any]":
    """Make the call in a task of its own, which ends with its outcome."""
    return asyncio.create_task(outcome(call))


@in_a_loop
async def test_a_call_may_have_a_deadline_of_its_own(connect: Connect) -> None:
    async with ScriptedServer(ignore) as server:
        transport = connect(server.url)
        patient = start(transport.command("ECHO", "patient"))
        await eventually(lambda: transport.in_flight == 1)
        with pytest.raises(DeadlineExceededError):
            await transport.command("ECHO", "hurried", deadline=time.monotonic() + 0.05)
        assert not patient.done()
        before = transport.writes
        with pytest.raises(DeadlineExceededError, match="before the call was sent"):
            await transport.command("ECHO", "too late", deadline=time.monotonic())
        await asyncio.sleep(0)
        assert transport.writes == before
        await transport.close()
        assert isinstance(await patient, UnavailableError)


@in_a_loop
async def test_a_deadline_holds_while_the_connection_is_made(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedServer(echo) as server:
        transport = connect(server.url)
        dial, go = transport._dial, asyncio.Event()

        async def slow() -> Any:
            await go.wait()
            return await dial()

        monkeypatch.setattr(transport, "_dial", slow)
        patient = start(transport.command("ECHO", "patient"))
        with pytest.raises(DeadlineExceededError, match="nothing was sent"):
            await transport.command("ECHO", "hurried", deadline=time.monotonic() + 0.05)
        go.set()
        assert await patient == b"patient"
        assert [command[-1] for command in server.received] == [b"patient"]


def test_a_transport_serves_one_event_loop_at_a_time(valkey: Server) -> None:
    transport = AsyncTransport(valkey.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)

    async def ask() -> Any:
        reply = await transport.command("PING")
        await transport.close()
        return reply

    async def refused() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await transport.command("PING")

    assert [asyncio.run(ask()), asyncio.run(ask())] == [b"PONG", b"PONG"]
    with asyncio.Runner() as runner:
        assert runner.run(transport.command("PING")) == b"PONG"
        asyncio.run(refused())
        runner.run(transport.close())


def test_asyncio_does_without_gevent() -> None:
    program = "import sys; from featurestore import AsyncFeatureStore; sys.exit('gevent' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", program], check=False).returncode == 0


@in_a_loop
async def test_a_server_that_does_not_greet_is_given_up_in_time(valkey: Server, connect: Connect) -> None:
    transport = AsyncTransport(f"redis://:secret@127.0.0.1:{valkey.port}", timeout=PATIENT_S, connect_timeout=0.05)
    with valkey.frozen(), pytest.raises(UnavailableError, match=r"cannot be reached: (it took too|Timeout)"):
        await transport.command("PING")
    await transport.close()
