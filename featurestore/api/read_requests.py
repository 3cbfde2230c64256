"""What requests that read have: bodies and parameters."""

from typing import Annotated, Any

import msgspec

READ_PARAMETERS = frozenset({"features", "service", "metadata", "max_age"})
"""The parameters of a GET of features."""

Span = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[0-9]{1,13}(ms|s|m|h|d)?$"})]
"""A span of time, as `schema/times.py: parse_duration` takes it."""


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /features/batch`.

    Attributes:
        ids: The ids, in the order wanted; duplicates are fine. Also called by the id's name and an s: `user_ids`.
        features: The features wanted; all of the packed row if left out.
        service: Instead of `features`, the service whose features are wanted.
        metadata: Whether to answer with the age and the status of each value.
        max_age: A span such as `10m`: older values are null.
        passed: Values of the request's own context, which replace stored ones in every row.
    """

    ids: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    features: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    service: str | None = None
    metadata: bool = False
    max_age: Span | None = None
    passed: dict[str, Any] | None = None


class QueryRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /features/query`.

    Attributes:
        rows: For each row the id of each entity, by the entity's name.
        features: The features wanted, as `entity:feature`, or as the name alone for the default entity.
        service: Instead of `features`, a service of the default entity's schema; `item:ranking` is one of `item`'s.
        metadata: Whether to answer with the age and the status of each value.
        max_age: A span such as `10m`: older values are null.
        passed: Values of the request's own context, by name as in `features`, which replace stored ones.
    """

    rows: Annotated[list[dict[str, str]], msgspec.Meta(min_length=1)]
    features: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    service: str | None = None
    metadata: bool = False
    max_age: Span | None = None
    passed: dict[str, Any] | None = None
