"""Writes that wait for Redis while it is away."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from featurestore.errors import FeatureStoreError, UnavailableError, WriteRefusedError

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
