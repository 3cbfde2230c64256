"""What calls return beside features by name. Stores and HTTP clients return the same."""

from typing import Literal

import msgspec

from featurestore.schema.types import Status, Value

MaxAge = str | int | None
"""How old a value may be: digits and `ms`, `s`, `m`, `h` or `d`, such as `10m`; or ms. None: what the schema says."""

ReadFrom = Literal["primary"] | None
"""`primary` for a read that is to see every write that was answered before; None: as the transport is set."""


class Description(msgspec.Struct, frozen=True):
    """An entity's features with their age, by Redis's clock.

    Attributes:
        features: Name → value; None if there is none or it is too old.
        event_time: The newest event time of the entity's features, in ms since 1970.
        age_ms: How long ago that was.
        statuses: Name → PRESENT, MISSING, STALE, or DEFAULT for the schema's default.
    """

    features: dict[str, Value | None]
    event_time: int | None
    age_ms: int | None
    statuses: dict[str, Status]


class Outcome(msgspec.Struct, frozen=True):
    """What became of one row of `upsert_many`.

    Attributes:
        verdict: `created`, `applied`, `partly stale`, `stale`, `duplicate` or `rejected`.
        code: For a rejected row BADID, BADTIME, BADTYPE, UNDECLARED …
        reason: For a rejected row what was wrong, with the value.
    """

    verdict: str
    code: str | None = None
    reason: str | None = None


class UnconfirmedRows(msgspec.Struct, frozen=True):
    """What became of rows that a server wrote and replicas did not confirm: the `result` of `UnconfirmedWriteError`.

    Attributes:
        written: How many were written.
        skipped: How many were left out, because newer values are stored.
        rejected: How many were rejected.
        unconfirmed: How many of those written or skipped are in doubt.
    """

    written: int
    skipped: int
    rejected: int
    unconfirmed: int


class Health(msgspec.Struct, frozen=True):
    """Whether the server can serve.

    Attributes:
        status: `healthy`; `degraded` where some nodes of a cluster are away; `unhealthy`.
        reason: Why it is not healthy.
    """

    status: str
    reason: str | None = None
