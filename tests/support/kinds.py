"""One test for every kind of transport: written as a coroutine, whose waits block where the kind blocks.

A test awaits calls and events. Under asyncio that is what it says. For greenlets and threads each of these coroutines
blocks in place of suspending, so that it runs from its start to its end in one go (`finish`).
"""

import asyncio
import functools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any

import gevent
import pytest
from gevent.event import Event

from featurestore import AsyncFeatureStore, FeatureStore, SyncTransport
from featurestore.contract.scripts import DELETE_ENTITY, GET_FEATURES, INCREMENT_FEATURES
from featurestore.errors import FeatureStoreError, NoSchemaError
from featurestore.transport.blocking_cluster import SyncClusterTransport
from featurestore.transport.gevent_cluster import GeventClusterTransport
from featurestore.transport.gevent_transport import GeventTransport
from featurestore.transport.opening import AsyncioTransport, asyncio_transport
from featurestore.transport.sources import names_several
from support import scripted, scripted_async
from support.scripted import encoded, unpacked
from support.scripted_async import PATIENT_S, Behaviour

Call = Coroutine[Any, Any, Any]
CALLS = {
    *("run", "run_encoded", "run_many_encoded", "command", "close", "nodes"),
    *(
        "get",
        "get_many",
        "describe_many",
        "query",
        "upsert",
        "record",
        "increment",
        "delete",
        "apply",
        "schema",
        "count",
    ),
}
"""What transports and stores have to be awaited for."""


def finish(call: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that blocks in place of suspending."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    call.close()
    raise AssertionError(f"{call} is suspended, where it should have blocked")


async def outcome(call: Awaitable[Any]) -> Any:
    """Return what the call returns, or the error it raises."""
    try:
        return await call
    except FeatureStoreError as error:
        return error


class Awaited:
    """What has blocking calls, so that they can be awaited."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if name not in CALLS:
            return value

        async def call(*arguments: Any, **options: Any) -> Any:
            return value(*arguments, **options)

        return call

    def __repr__(self) -> str:
        return repr(self.inner)


class AwaitedPeer:
    """A peer of `support.scripted`, as behaviours of `support.scripted_async` see it."""

    def __init__(self, peer: scripted.Peer) -> None:
        self._peer = peer
        self.send = peer.send

    async def command(self) -> list[bytes]:
        return self._peer.command()

    async def data(self) -> bytes:
        return self._peer.data()


class AwaitedServer:
    """A server of `support.scripted` with behaviours of `support.scripted_async`."""

    def __init__(self, kind: type[scripted.ScriptedServer], *behaviours: Behaviour, polite: bool = True) -> None:
        self._server = kind(*map(self._blocking, behaviours), polite=polite)

    @staticmethod
    def _blocking(behaviour: Any) -> scripted.Behaviour:
        return lambda peer: finish(behaviour(AwaitedPeer(peer)))

    async def __aenter__(self) -> scripted.ScriptedServer:
        return self._server.__enter__()

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.__exit__(None, None, None)


class AwaitedEvent:
    """An event of gevent or of threads."""

    def __init__(self, event: Any) -> None:
        self.set = event.set
        self._wait = event.wait

    async def wait(self) -> None:
        self._wait(PATIENT_S)


class Task(ABC):
    """A call that somebody else makes; ends with its outcome, which is awaited."""

    @abstractmethod
    def result(self) -> Any:
        """Wait for the outcome."""

    def __await__(self) -> Generator[None, None, Any]:
        yield from ()
        return self.result()


class GreenletTask(Task):
    def __init__(self, call: Call) -> None:
        self.greenlet = gevent.spawn(finish, outcome(call))

    def result(self) -> Any:
        return self.greenlet.get(timeout=60)


class ThreadTask(Task):
    def __init__(self, call: Call) -> None:
        self._outcome: Any = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Call) -> None:
        self._outcome = finish(outcome(call))

    def result(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self._outcome


class Kind(ABC):
    """How a kind of transport is made, used and waited for."""

    name: str
    closed = "closed the connection"
    """What an error says of a connection that Redis closed, as a pattern."""

    def __init__(self) -> None:
        self._made: list[Any] = []

    def connect(
        self, url: str, *, timeout: float = PATIENT_S, connect_timeout: float = PATIENT_S, **options: Any
    ) -> Any:
        """Make a transport; its deadlines never matter unless a test sets them."""
        made = self.transport(url, timeout=timeout, connect_timeout=connect_timeout, **options)
        self._made.append(made)
        return made

    async def read(self, transport: Any, word: str) -> Any:
        """Have a word echoed by a script that reads, as the row that its reply has to be."""
        return unpacked(await transport.run(GET_FEATURES, ("a", "b", "c"), (encoded(word),)))

    async def write(self, transport: Any, word: str | bytes) -> Any:
        """Do the same by a script that writes."""
        return unpacked(await transport.run(INCREMENT_FEATURES, ("a", "b", "c"), (encoded(word),)))

    async def increase(self, transport: Any, word: str) -> Any:
        return await transport.command("INCR", word)

    async def delete(self, transport: Any, entity_id: str) -> Any:
        """Delete an entity; 0 too where there is no schema, and so nobody."""
        try:
            return await transport.run(DELETE_ENTITY, ("a", "b:schema", f"b:{entity_id}:features"), (entity_id,))
        except NoSchemaError:
            return 0

    async def together(self, *calls: Call) -> list[Any]:
        """Make all calls in one turn of the event loop, each by somebody else; return their outcomes."""
        return [await task for task in [self.start(call) for call in calls]]

    async def eventually(self, condition: Callable[[], Any], *, what: str = "the condition") -> None:
        """Return once `condition()`, or what it returns to be awaited, is true; fail after a while."""
        deadline = time.monotonic() + PATIENT_S
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            assert time.monotonic() < deadline, f"{what} did not come true in {PATIENT_S} s"
            await self.sleep(0.002)

    @abstractmethod
    def without_pause(self, transport: Any) -> None:
        """Let the transport connect at once, as if what went wrong were long ago."""

    @abstractmethod
    def transport(self, url: str, **options: Any) -> Any:
        """Return a transport whose calls can be awaited."""

    @abstractmethod
    def store(self, transport: Any) -> Any:
        """Return a store over it, likewise."""

    @abstractmethod
    def server(self, *behaviours: Behaviour, polite: bool = True) -> AbstractAsyncContextManager[Any]:
        """Return a server; see `scripted_async.ScriptedServer`."""

    @abstractmethod
    def event(self) -> Any:
        """Return an event that can be awaited."""

    @abstractmethod
    def start(self, call: Call) -> Any:
        """Have somebody else make the call; what is returned can be awaited and gives the outcome."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Let others go on."""

    @abstractmethod
    def run(self, test: Call) -> None:
        """Run a test, and close the transports that it made."""


class Blocking(Kind):
    """Kinds whose calls block."""

    kind: type[Any]
    cluster_kind: type[Any]
    servers: type[scripted.ScriptedServer]

    def transport(self, url: str, **options: Any) -> Awaited:
        kind = self.cluster_kind if names_several(url) or "reading" in options else self.kind
        return Awaited(kind(url, **options))

    def store(self, transport: Awaited) -> Awaited:
        return Awaited(FeatureStore(transport.inner))

    def server(self, *behaviours: Behaviour, polite: bool = True) -> AwaitedServer:
        return AwaitedServer(self.servers, *behaviours, polite=polite)

    def run(self, test: Call) -> None:
        try:
            finish(test)
        finally:
            for transport in self._made:
                transport.inner.close()


class Pool(Blocking):
    """Threads over a pool of connections."""

    name = "pool"
    closed = "(?i)closed by server"
    kind, cluster_kind = SyncTransport, SyncClusterTransport
    servers = scripted.ThreadedServer

    def without_pause(self, transport: Any) -> None:
        """Do nothing: it never pauses."""

    def event(self) -> AwaitedEvent:
        return AwaitedEvent(threading.Event())

    def start(self, call: Call) -> ThreadTask:
        return ThreadTask(call)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - in a thread of its own


class Shared(Kind):
    """Kinds that share one connection."""

    @staticmethod
    def blocked(transport: Any) -> bool:
        """Return whether the connection takes no more now."""
        link = transport._link
        return link is not None and link._sending.name == "BLOCKED"

    def without_pause(self, transport: Any) -> None:
        made = getattr(transport, "inner", transport)
        made._backoff.reset(at_once=True)
        made._false_at = -PATIENT_S

    @abstractmethod
    async def open(self, transport: Any) -> Any:
        """Connect, without any call, and return the link."""

    @abstractmethod
    def count_dials(self, transport: Any) -> list[float]:
        """Return a list that gets the time of each attempt to connect from now on."""

    @abstractmethod
    async def stop(self, *tasks: Any) -> None:
        """End tasks while they wait; they are not waited for any more."""

    @abstractmethod
    async def within(self, seconds: float, call: Call) -> Any:
        """Return what the call returns, None where that takes longer."""


class Greenlets(Blocking, Shared):
    name = "gevent"
    kind, cluster_kind = GeventTransport, GeventClusterTransport
    servers = scripted.ScriptedServer

    def event(self) -> AwaitedEvent:
        return AwaitedEvent(Event())

    def start(self, call: Call) -> GreenletTask:
        return GreenletTask(call)

    async def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)

    async def stop(self, *tasks: GreenletTask) -> None:
        for task in tasks:
            task.greenlet.kill()
            assert isinstance(task.greenlet.value, gevent.GreenletExit)

    async def open(self, transport: Any) -> Any:
        opened = gevent.spawn(transport._open)
        return opened.get(timeout=PATIENT_S)

    async def within(self, seconds: float, call: Call) -> Any:
        with gevent.Timeout(seconds, False):
            return await call

    def count_dials(self, transport: Any) -> list[float]:
        attempts: list[float] = []
        dial = transport.inner._dial

        def counted() -> Any:
            attempts.append(time.monotonic())
            return dial()

        transport.inner._dial = counted
        return attempts


class Tasks(Shared):
    name = "asyncio"

    def transport(self, url: str, **options: Any) -> AsyncioTransport:
        return asyncio_transport(url, **options)

    def store(self, transport: AsyncioTransport) -> AsyncFeatureStore:
        return AsyncFeatureStore(transport)

    def server(self, *behaviours: Behaviour, polite: bool = True) -> scripted_async.ScriptedServer:
        return scripted_async.ScriptedServer(*behaviours, polite=polite)

    def event(self) -> asyncio.Event:
        return asyncio.Event()

    def start(self, call: Call) -> "asyncio.Task[Any]":
        return asyncio.create_task(outcome(call))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def stop(self, *tasks: "asyncio.Task[Any]") -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)

    async def open(self, transport: Any) -> Any:
        return await transport._open(None)

    async def within(self, seconds: float, call: Call) -> Any:
        try:
            return await asyncio.wait_for(call, seconds)
        except TimeoutError:
            return None

    def count_dials(self, transport: Any) -> list[float]:
        attempts: list[float] = []
        dial = transport._dial

        async def counted() -> Any:
            attempts.append(time.monotonic())
            return await dial()

        transport._dial = counted
        return attempts

    def run(self, test: Call) -> None:
        async def whole() -> None:
            try:
                await test
            finally:
                for transport in self._made:
                    await transport.close()

        scripted_async.in_a_loop(whole)()


KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in (Greenlets, Tasks, Pool)}
SHARED = ("gevent", "asyncio")


def over(*names: str) -> Callable[[Callable[..., Call]], Callable[..., None]]:
    """Run a test, whose first parameter is the kind, over each of these kinds of transport."""

    def decorate(test: Callable[..., Call]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            kind = KINDS[fixtures.pop("kind")]()
            kind.run(test(kind, **fixtures))

        decorated: Callable[..., None] = pytest.mark.parametrize("kind", names)(run)
        return decorated

    return decorate


over_each = over(*KINDS)
over_shared = over(*SHARED)
