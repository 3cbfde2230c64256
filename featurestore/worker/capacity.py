"""How many clients a worker may have at once, given the limit of open files."""

import resource

CLIENTS = 4096
"""Most clients of a worker. Beyond that our worker closes idle connections, and gunicorn's let clients wait."""

_KEPT_BACK = 256
"""Files kept for Redis, logs, listeners, imports and name lookups; half of the limit if that is less."""

FILES = CLIENTS + _KEPT_BACK
"""The soft limit of open files that the server asks for."""


def limit_of_files() -> int:
    """Return how many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return FILES if soft == resource.RLIM_INFINITY else soft


def limit_within_reach() -> int:
    """Return how many files this process may have open once `raise_limit` was called."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(limit_of_files(), FILES if hard == resource.RLIM_INFINITY else min(FILES, hard))


def raise_limit() -> int:
    """Raise the soft limit of open files as far as wanted and allowed; return the limit."""
    limit = limit_within_reach()
    if limit > limit_of_files():
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def clients_within(limit: int, *, others: int = 0) -> int:
    """Return how many clients a worker may have, at least one.

    Args:
        limit: How many files it may have open.
        others: How many of them it needs beside the usual ones, such as connections to Redis.
    """
    return max(1, min(CLIENTS, limit - min(_KEPT_BACK, limit // 2) - others))


def scarcity(clients: int, limit: int) -> str:
    """Return the warning for a limit of open files that allows fewer clients than wanted."""
    return (
        f"at most {clients} clients a worker: the limit of open files is {limit}; {FILES} are wanted "
        "(ulimit -n, or LimitNOFILE= of the service)"
    )
