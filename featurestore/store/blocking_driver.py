"""How `FeatureStore` runs its plans: over a transport that blocks until the replies are there."""

from typing import Any, Self, TypeVar

from featurestore.contract.arguments import lasting_timeout
from featurestore.embedded import embedded_url
from featurestore.errors import BadArgumentsError
from featurestore.keys import Keys
from featurestore.settings import CallBy, Settings
from featurestore.store.plan import Calls, Plan
from featurestore.store.writes import Plans
from featurestore.transport.blocking import SyncTransport
from featurestore.transport.interface import Timed, Transport

T = TypeVar("T")


class BlockingDriver:
    """A transport, what is known of an entity, and the running of plans; `AsyncDriver` is its twin.

    Args:
        transport: The link to Redis.
        keys: The entity's keys.
        plans: What is known of the entity; made of `keys` when left out.
        writes: Whether all that is asked belongs to writes; see `for_writes`.
    """

    def __init__(
        self, transport: Transport, keys: Keys | None = None, *, plans: Plans | None = None, writes: bool = False
    ) -> None:
        self.transport = transport
        self._plans = plans or Plans(keys or Keys())
        self._writes = writes

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        timeout: float | None = None,
        write_timeout: float | None = None,
        keys: Keys | None = None,
        call: CallBy | None = None,
    ) -> Self:
        """Return a store over blocking connections, which are opened when they are first used.

        Args:
            url: Redis's address; without one, the environment's `REDIS_URL` or `REDIS_HOST`, else the embedded server,
                which is started here unless it runs.
            timeout: Seconds a reply may take; without one, FEATURESTORE_TIMEOUT_MS.
            write_timeout: The same for writes; without one, `timeout`, or else FEATURESTORE_WRITE_TIMEOUT_MS.
            keys: The entity's keys.
            call: How Redis runs the scripts, by EVALSHA (`scripts`) or FCALL (`functions`); without it,
                FEATURESTORE_CALL.

        Raises:
            ConfigurationError: The address or the time-out cannot be used.
        """
        settings = Settings.from_environment()
        transport = SyncTransport(
            url or settings.url or embedded_url(settings.data_dir),
            timeout=lasting_timeout(timeout) or settings.timeout_ms / 1000,
            write_timeout=lasting_timeout(write_timeout)
            or lasting_timeout(timeout)
            or settings.write_timeout_ms / 1000,
            connect_timeout=settings.connect_timeout_ms / 1000,
            call=call or settings.call,
        )
        return cls(transport, keys)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.keys.entity} over {self.transport!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def for_writes(self) -> Self:
        """Return this store for a caller who writes: all that it asks has the time-out of writes, the schema too."""
        return type(self)(self.transport, plans=self._plans, writes=True)

    @property
    def keys(self) -> Keys:
        """The entity's keys."""
        return self._plans.keys

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def ping(self) -> None:
        """Return when Redis answers; raise `UnavailableError` or its kin when it does not."""
        self.transport.command("PING")

    def _run(self, plan: Plan[T], timeout: float | None = None, *, writes: bool = False) -> T:
        """Send what the plan yields and hand it the replies; return its result.

        Args:
            plan: What to do.
            timeout: Seconds that it may take in all; without one, each reply has the transport's time-out.
            writes: Whether that is the time-out of writes.
        """
        writes = writes or self._writes
        transport = self.transport
        if timeout is not None:
            if not isinstance(transport, Timed):
                raise BadArgumentsError(f"calls over {type(transport).__name__} have no time-out of their own")
            transport = transport.within(timeout)
        answer: Any = None
        try:
            while True:
                step = plan.send(answer)
                if isinstance(step, Calls):
                    answer = transport.run_many_encoded(
                        step.script,
                        step.encoded,
                        each_us=step.each_us,
                        takes=step.takes,
                        follows=step.follows,
                        writes=writes,
                    )
                else:
                    answer = transport.command(*step.words, writes=writes)
        except StopIteration as done:
            result: T = done.value
            return result
