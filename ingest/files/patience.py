"""Writes that wait for Redis while it is away, and the question whether it is still the same one."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from featurestore.errors import FeatureStoreError, RedisError, UnavailableError, WriteRefusedError
from featurestore.store.blocking import FeatureStore

_logger = logging.getLogger("featurestore.ingest")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_TOLD_EVERY_S = 60.0
_PASSING = ("READONLY", "MISCONF", "NOREPLICAS")
"""Refusals of writes that end by themselves, or when an operator acts. Where memory is full, more rows do not help."""

T = TypeVar("T")


class StoppedError(Exception):
    """The process was told to stop while it waited."""


class Patience:
    """Repeats what fails because Redis is away, loading, failing over or a replica, until it serves again.

    Args:
        stop: Set when the process is to stop.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def keep_trying(self, call: Callable[[], T]) -> T:
        """Return what `call` does once it is done.

        Raises:
            StoppedError: The process was told to stop meanwhile.
            FeatureStoreError: It failed for a reason that waiting does not mend.
        """
        pause, told, began = _FIRST_PAUSE_S, 0.0, 0.0
        while True:
            try:
                result = call()
            except FeatureStoreError as error:
                if not is_passing(error):
                    raise
                began = began or time.monotonic()
                if not told or time.monotonic() - told > _TOLD_EVERY_S:
                    told = time.monotonic()
                    _logger.warning("waiting for Redis: %s", error)
            else:
                if told:
                    _logger.info("Redis serves again, after %.1f s", time.monotonic() - began)
                return result
            if self._stop.wait(pause):
                raise StoppedError
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def is_passing(error: FeatureStoreError) -> bool:
    """Return whether an error is one that waiting mends."""
    return isinstance(error, UnavailableError) or (
        isinstance(error, WriteRefusedError) and str(error).startswith(_PASSING)
    )


class Server:
    """The Redis that answers.

    Attributes:
        run_id: What tells it from others, and from itself after a restart; empty if it does not say.
        up_s: For how many seconds it has run.
        logs: Whether it writes an append-only file, so that a restart loses no more than some seconds.
    """

    def __init__(self, run_id: str, up_s: int, *, logs: bool) -> None:
        self.run_id, self.up_s, self.logs = run_id, up_s, logs

    @classmethod
    def ask(cls, store: FeatureStore) -> "Server":
        """Ask for it; one that refuses to tell, since the user may not ask or INFO has another name, has no `run_id`.

        Raises:
            UnavailableError: It does not answer.
        """
        try:
            reply = store.transport.command("INFO")
        except UnavailableError:
            raise
        except RedisError:
            return cls("", 0, logs=False)
        text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
        told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return cls(
            told.get("run_id", ""), int(told.get("uptime_in_seconds", 0)), logs=told.get("aof_enabled", "0") == "1"
        )
