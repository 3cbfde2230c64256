"""Which request it is: its id, and the trace of its caller that it belongs to."""

import os
import re
import secrets
from itertools import count
from typing import Any

_ID_KEY, _TRACE_KEY = "HTTP_X_REQUEST_ID", "HTTP_TRACEPARENT"
_ID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
_TRACE = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_PREFIX_BYTES = 6


class _Made:
    """What the ids of this process begin with, and how many it has made."""

    prefix = ""
    numbers = count()


def _begin() -> None:
    _Made.prefix, _Made.numbers = secrets.token_hex(_PREFIX_BYTES), count(1)


_begin()
os.register_at_fork(after_in_child=_begin)


def id_of(environ: dict[str, Any]) -> str:
    """Return a request's id: the client's if it is well-formed, else a new one.

    Well-formed is what needs no quoting anywhere: up to 128 letters, digits and `. _ ~ + / = : @ -`.
    """
    given = environ.get(_ID_KEY)
    if given is not None and _ID.fullmatch(given):
        identity: str = given
        return identity
    return f"{_Made.prefix}-{next(_Made.numbers):x}"


def parent_of(environ: dict[str, Any]) -> tuple[str, str, bool] | None:
    """Return trace, span and whether it is sampled, of the caller's `traceparent`; None without a valid one.

    See W3C's Trace Context, 3.2. Later versions may have more behind what is known.
    """
    given = environ.get(_TRACE_KEY)
    found = _TRACE.fullmatch(given) if given is not None else None
    if found is None or (found[1] == "00" and found[5]) or found[2] == _NO_TRACE or found[3] == _NO_SPAN:
        return None
    return found[2], found[3], bool(int(found[4], 16) & 1)


def trace_of(environ: dict[str, Any]) -> str | None:
    """Return the trace that a request belongs to: its caller's, or one that was begun for it; None without any."""
    parent = parent_of(environ)
    begun: str | None = environ.get(TRACE)
    return parent[0] if parent else begun


TRACE = "featurestore.trace"
"""Key of a WSGI environment: the trace that was begun for the request."""
