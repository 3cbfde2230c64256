"""The time by Redis's clock."""

import time

from featurestore.errors import RedisError, UnavailableError
from featurestore.store.blocking import FeatureStore


def redis_ms(store: FeatureStore) -> int:
    """Return the time by Redis's clock, or by this machine's if Redis refuses to tell; in ms since 1970.

    Raises:
        UnavailableError: Redis does not answer.
    """
    try:
        seconds, us = store.transport.command("TIME")
    except UnavailableError:
        raise
    except RedisError:
        return time.time_ns() // 10**6
    return int(seconds) * 1000 + int(us) // 1000
