"""`FeatureStore` for asyncio: the same plans over a connection that all tasks of an event loop share."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

from featurestore.contract.arguments import EventTime, Rows, lasting_timeout, plain_name, plain_timeout
from featurestore.contract.upsert_calls import UpsertResult
from featurestore.embedded import embedded_url
from featurestore.keys import Keys
from featurestore.schema.definition import Definition
from featurestore.schema.stored import Schema
from featurestore.schema.types import Value
from featurestore.settings import Settings
from featurestore.store.plan import Calls, Plan
from featurestore.store.results import Description, MaxAge
from featurestore.store.table import FeatureTable
from featurestore.store.writes import Plans
from featurestore.transport.asyncio_transport import AsyncTransport

T = TypeVar("T")


class AsyncFeatureStore:
    """An entity's features in Redis, for the tasks of one event loop; arguments and results are `FeatureStore`'s.

    The calls that tasks make in one turn of the loop leave in one write. A method's `timeout` is the seconds that the
    call may take in all, connecting included: past it, the call raises `DeadlineExceededError`, and whether a write
    took place is unknown. Without one, each reply may take the transport's own time-out. A task that is cancelled while
    it waits disturbs no other; its write may take place.

    Args:
        transport: The link to Redis.
        keys: The entity's keys.
        plans: What is known of the entity; made of `keys` when left out.
    """

    def __init__(self, transport: AsyncTransport, keys: Keys | None = None, *, plans: Plans | None = None) -> None:
        self.transport = transport
        self._plans = plans or Plans(keys or Keys())

    @classmethod
    def connect(cls, url: str | None = None, *, timeout: float | None = None, keys: Keys | None = None) -> Self:
        """Return a store that will connect when it is first asked.

        Args:
            url: Redis's address; without one, the environment's `REDIS_URL` or `REDIS_HOST`, else the embedded server,
                which is started here, blocking, unless it runs.
            timeout: Seconds a reply may take; without one, FEATURESTORE_TIMEOUT_MS.
            keys: The entity's keys.
        """
        settings = Settings.from_environment()
        transport = AsyncTransport(
            url or settings.url or embedded_url(settings.data_dir),
            timeout=lasting_timeout(timeout) or settings.timeout_ms / 1000,
            connect_timeout=settings.connect_timeout_ms / 1000,
            max_in_flight=settings.max_in_flight,
        )
        return cls(transport, keys)

    def __repr__(self) -> str:
        return f"<AsyncFeatureStore {self.keys.entity} over {self.transport!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def keys(self) -> Keys:
        """The entity's keys."""
        return self._plans.keys

    async def close(self) -> None:
        """Close the connection; calls that wait fail at once."""
        await self.transport.close()

    async def ping(self) -> None:
        """Do what `FeatureStore.ping` does."""
        await self.transport.command("PING")

    async def entity(self, name: str) -> "AsyncFeatureStore":
        """Do what `FeatureStore.entity` does."""
        if name == self.keys.entity:
            return self
        return AsyncFeatureStore(self.transport, plans=await self._run(self._plans.entity(name)))

    async def _run(self, plan: Plan[T], timeout: float | None = None) -> T:  # noqa: ASYNC109 - of the store's own
        """Do what the plan says; return its result."""
        deadline = None if timeout is None else time.monotonic() + timeout
        transport = self.transport
        answer: Any = None
        try:
            while True:
                step = plan.send(answer)
                if isinstance(step, Calls):
                    answer = await transport.run_many_encoded(step.script, step.encoded, deadline=deadline)
                else:
                    answer = await transport.command(*step.words, deadline=deadline)
        except StopIteration as done:
            result: T = done.value
            return result

    # Reading

    async def get(
        self,
        entity_id: str,
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> dict[str, Value | None] | None:
        """Do what `FeatureStore.get` does."""
        return await self._run(self._plans.get(entity_id, features, service, max_age), plain_timeout(timeout))

    async def get_many(  # noqa: PLR0913 - what a read may ask for
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[dict[str, Value | None] | None]:
        """Do what `FeatureStore.get_many` does."""
        plan = self._plans.get_many(entity_ids, features, service, max_age, passed)
        return await self._run(plan, plain_timeout(timeout))

    async def describe(
        self,
        entity_id: str,
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Description | None:
        """Do what `FeatureStore.describe` does."""
        plan = self._plans.describe_many([entity_id], features, service, max_age, None)
        return (await self._run(plan, plain_timeout(timeout)))[0]

    async def describe_many(  # noqa: PLR0913 - what a read may ask for
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> list[Description | None]:
        """Do what `FeatureStore.describe_many` does."""
        plan = self._plans.describe_many(entity_ids, features, service, max_age, passed)
        return await self._run(plan, plain_timeout(timeout))

    async def query(  # noqa: PLR0913 - what a read may ask for
        self,
        rows: Iterable[Mapping[str, str]],
        features: Iterable[str] | None = None,
        *,
        service: str | None = None,
        max_age: MaxAge = None,
        passed: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> FeatureTable:
        """Do what `FeatureStore.query` does."""
        return await self._run(self._plans.query(rows, features, service, max_age, passed), plain_timeout(timeout))

    # Writing

    async def upsert(
        self,
        rows: Rows,
        *,
        event_time: EventTime = None,
        overwrite: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> UpsertResult:
        """Do what `FeatureStore.upsert` does."""
        return await self._run(self._plans.upsert(rows, event_time, overwrite=overwrite), plain_timeout(timeout))

    async def upsert_table(
        self,
        columns: Iterable[str],
        rows: Iterable[Sequence[Any]],
        *,
        event_time: EventTime = None,
        overwrite: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> UpsertResult:
        """Do what `FeatureStore.upsert_table` does."""
        plan = self._plans.upsert_table(columns, rows, event_time, overwrite=overwrite)
        return await self._run(plan, plain_timeout(timeout))

    async def record(
        self,
        events: Iterable[tuple[str, Mapping[str, Any]]],
        *,
        event_time: EventTime = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> UpsertResult:
        """Do what `FeatureStore.record` does."""
        return await self._run(self._plans.record(events, event_time), plain_timeout(timeout))

    async def increment(
        self,
        entity_id: str,
        amounts: Mapping[str, float],
        *,
        event_time: EventTime = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> dict[str, Value | None] | None:
        """Do what `FeatureStore.increment` does."""
        return await self._run(self._plans.increment(entity_id, amounts, event_time), plain_timeout(timeout))

    async def delete(
        self,
        entity_id: str,
        *,
        event_time: EventTime = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bool:
        """Do what `FeatureStore.delete` does."""
        return await self._run(self._plans.delete(entity_id, event_time), plain_timeout(timeout))

    async def count(self) -> int:
        """Do what `FeatureStore.count` does."""
        return await self._run(self._plans.count())

    # Schema

    async def service(self, name: str) -> list[str]:
        """Do what `FeatureStore.service` does."""
        return await self._run(self._plans.service(plain_name(name, "a service's name")))

    async def schema(self) -> Schema:
        """Do what `FeatureStore.schema` does."""
        return await self._run(self._plans.schema())

    async def entities(self) -> list[str]:
        """Do what `FeatureStore.entities` does."""
        return await self._run(self._plans.entities())

    async def apply(self, definition: Definition) -> int:
        """Do what `FeatureStore.apply` does."""
        return await self._run(self._plans.apply(definition))
