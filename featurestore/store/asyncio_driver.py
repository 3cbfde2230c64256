"""How `AsyncFeatureStore` runs its plans: over a transport whose replies are awaited."""

from asyncio import Task, gather, get_running_loop, wait
from collections.abc import Sequence
from time import monotonic
from typing import Any, Self

from featurestore.contract.arguments import lasting_timeout, plain_read_from
from featurestore.contract.scripts import LOG_SERVED
from featurestore.contract.served import ROW_US
from featurestore.embedded import embedded_url
from featurestore.errors import FeatureStoreError
from featurestore.keys import EntityKeys, Keys, PartitionedKeys, keys_on
from featurestore.settings import CallBy, Settings
from featurestore.store.plan import Calls, Commands, Plan, T
from featurestore.store.results import ReadFrom
from featurestore.store.served_rows import Served
from featurestore.store.writes import Plans
from featurestore.transport.confirming import Durability
from featurestore.transport.interface import Replicas
from featurestore.transport.opening import AsyncioTransport, asyncio_transport
from featurestore.transport.replicas import Reading

_LAST_WORDS_S = 2.0


class AsyncDriver:
    """A transport, what is known of an entity, and the running of plans; `BlockingDriver` is its twin.

    Args:
        transport: The link to Redis.
        keys: The entity's keys.
        plans: What is known of the entity; made of `keys` when left out.
        writes: Whether all that is asked belongs to writes; see `for_writes`.
        primary_only: Whether no replica is asked; see `from_primary`.
    """

    def __init__(
        self,
        transport: AsyncioTransport,
        keys: EntityKeys | None = None,
        *,
        plans: Plans | None = None,
        writes: bool = False,
        primary_only: bool = False,
    ) -> None:
        self.transport = transport
        self._plans = plans or Plans(keys_on(keys or Keys(), clustered=transport.clustered))
        self._writes, self._primary_only = writes, primary_only
        self._sending: set[Task[None]] = set()

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        timeout: float | None = None,
        write_timeout: float | None = None,
        keys: EntityKeys | None = None,
        call: CallBy | None = None,
    ) -> Self:
        """Return a store that opens its connection when it is first used.

        Args:
            url: Redis's address; without one, the environment's `REDIS_URL` or `REDIS_HOST`, else the embedded server,
                which is started here unless it runs. To start it blocks the event loop.
            timeout: Seconds a reply may take; without one, FEATURESTORE_TIMEOUT_MS.
            write_timeout: The same for writes; without one, `timeout`, or else FEATURESTORE_WRITE_TIMEOUT_MS.
            keys: The entity's keys.
            call: How Redis runs the scripts, by EVALSHA (`scripts`) or FCALL (`functions`); without it,
                FEATURESTORE_CALL.

        Raises:
            ConfigurationError: The address or the time-out cannot be used.
        """
        settings = Settings.from_environment()
        transport = asyncio_transport(
            url or settings.url or embedded_url(settings.data_dir),
            timeout=lasting_timeout(timeout) or settings.timeout_ms / 1000,
            write_timeout=lasting_timeout(write_timeout)
            or lasting_timeout(timeout)
            or settings.write_timeout_ms / 1000,
            connect_timeout=settings.connect_timeout_ms / 1000,
            call=call or settings.call,
            max_in_flight=settings.max_in_flight,
            reached_at=settings.address_map or "",
            reading=Reading.by_settings(settings),
            durability=Durability.by_settings(settings),
        )
        return cls(transport, keys)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.keys.entity} over {self.transport!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def for_writes(self) -> Self:
        """Return this store for a caller who writes: all that it asks has the time-out of writes, the schema too."""
        return type(self)(self.transport, plans=self._plans, writes=True)

    def from_primary(self) -> Self:
        """Return this store for a caller who reads what was written before: from primaries, whatever reads go by.

        Where there are no replicas, nothing is different.
        """
        return type(self)(self.transport, plans=self._plans, writes=self._writes, primary_only=True)

    @property
    def keys(self) -> EntityKeys:
        """The entity's keys."""
        return self._plans.keys

    async def parts(self) -> Sequence[Keys]:
        """Return the keys of every partition; those of the entity itself on a single Redis.

        Raises:
            NoSchemaError: How many there are is not known, since no schema is stored.
        """
        if isinstance(self.keys, PartitionedKeys) and not self.keys.count:
            await self._run(self._plans.schema())
        return self.keys.parts

    async def carry_out(self, plan: Plan[T]) -> T:
        """Run a plan that writes, of a module that has plans of its own; return its result."""
        return await self._run(plan, writes=True)

    async def close(self) -> None:
        """Close the connection; calls that wait fail at once.

        What was served and is to be kept is sent before, if that takes no more than 2 s.
        """
        await self.send_kept()
        await self.transport.close()

    async def send_kept(self) -> None:
        """Wait until what was served and is to be kept is sent, 2 s at most; what is left then is counted as lost."""
        if self._sending:
            _, left = await wait(self._sending, timeout=_LAST_WORDS_S)
            if left:
                self._plans.served.give_up(TimeoutError("they were not sent before the end"))

    async def ping(self) -> None:
        """Return when Redis answers; raise `UnavailableError` or its kin when it does not."""
        await self.transport.command("PING")

    def keep(self, served: Served | None) -> None:
        """Keep what was served to a request that was chosen; nothing waits for that, and nothing fails by it."""
        if served is None:
            return
        log = self._plans.served
        try:
            if log.add(served.occasion.pieces(served.columns, served.rows)):
                sending = get_running_loop().create_task(self._send_served())
                self._sending.add(sending)  # the loop itself would forget it
                sending.add_done_callback(self._sending.discard)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is there
            log.fail(len(served.rows), error)

    async def _send_served(self) -> None:
        """Send what is to be kept, until there is nothing."""
        log, transport = self._plans.served, self.transport
        try:
            while calls := log.take():
                encoded, each_us = [call for call, _ in calls], ROW_US * sum(rows for _, rows in calls) / len(calls)
                try:
                    replies = await transport.run_many_encoded(LOG_SERVED, encoded, each_us=each_us, writes=True)
                    log.settle(calls, replies)
                except Exception as error:  # noqa: BLE001 - it is counted, and told
                    log.settle(calls, error)
        except BaseException as error:
            log.give_up(error)
            raise

    async def _run(
        self, plan: Plan[T], timeout: float | None = None, *, writes: bool = False, read_from: ReadFrom = None
    ) -> T:
        """Send what the plan yields and hand it the replies; return its result.

        Args:
            plan: What to do.
            timeout: Seconds that it may take in all; without one, each reply has the transport's time-out.
            writes: Whether that is the time-out of writes.
            read_from: Whether no replica is asked.

        Raises:
            BadArgumentsError: `read_from` is something else than `primary`.
        """
        writes = writes or self._writes
        deadline = None if timeout is None else monotonic() + timeout
        transport: Any = self.transport
        if (plain_read_from(read_from) or self._primary_only) and isinstance(transport, Replicas):
            transport = transport.from_primary()
        answer: Any = None
        failure: FeatureStoreError | None = None
        try:
            while True:
                step = plan.send(answer) if failure is None else plan.throw(failure)
                failure = None
                try:
                    if isinstance(step, Calls):
                        answer = await transport.run_many_encoded(
                            step.script,
                            step.encoded,
                            each_us=step.each_us,
                            takes=step.takes,
                            follows=step.follows,
                            writes=writes or step.writes,
                            deadline=deadline,
                        )
                    elif isinstance(step, Commands):
                        each = (transport.command(*words, writes=writes, deadline=deadline) for words in step.each)
                        answer = await gather(*each)
                    else:
                        answer = await transport.command(*step.words, writes=writes or step.writes, deadline=deadline)
                except FeatureStoreError as error:
                    failure = error
        except StopIteration as done:
            result: T = done.value
            return result
