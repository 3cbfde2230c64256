"""The writes of the HTTP clients, without any I/O: the request to send, and how to read its response."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from featurestore.clients.exchanges import ENTITY, Exchange, encode, path_of, prefix_of
from featurestore.clients.plain import numbers_body, row_body, time_body
from featurestore.clients.responses import Response, check, tells_of_no_such_entity
from featurestore.contract import arrow
from featurestore.contract.arguments import (
    EventTime,
    Rows,
    listed_rows,
    pair_of,
    plain_event_id,
    plain_id,
    plain_mapping,
    plain_time,
)
from featurestore.contract.words import EVENT_ID, to_time
from featurestore.errors import BadArgumentsError, BadTimeError, BadValueError, FeatureStoreError
from featurestore.schema.types import Value
from featurestore.store.results import Outcome
from featurestore.store.table import FeatureTable

_NDJSON = "application/x-ndjson"
_ROUTES = frozenset({"batch", "ingest", "query"})


class _Verdict(msgspec.Struct):
    verdict: str


_verdict = msgspec.json.Decoder(_Verdict)
_outcome = msgspec.json.Decoder(Outcome)


class Tabular(Protocol):
    """A table or data frame with Arrow's C stream interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the capsule of the stream."""


def upsert(
    entity_id: str, features: Mapping[str, Any], event_time: EventTime, entity: str | None, *, overwrite: bool
) -> Exchange[str]:
    """Return the call that writes one entity's features."""
    body = row_body(features, event_time)
    if overwrite:
        body["mode"] = "overwrite"
    return Exchange("PUT", _writable_path(entity_id, entity), _read_verdict, encode(body))


def upsert_many(
    rows: "Rows | Tabular", event_time: EventTime, entity: str | None, *, overwrite: bool
) -> Exchange[list[Outcome]]:
    """Return the call that writes many entities' features."""
    to_time(plain_time(event_time))
    target = f"{prefix_of(entity)}/features/ingest{'?mode=overwrite' if overwrite else ''}"
    if _is_table(rows):
        body, count = arrow.stream_of_table(rows, time_body({}, event_time).get("event_time"))
        return Exchange("POST", target, lambda response: _outcomes(response, count), body, arrow.MEDIA_ARROW)
    lines: list[bytes] = []
    outcomes: list[Outcome | None] = []
    for row in listed_rows(rows, "pairs of id and features"):
        line = _line(row, event_time)
        if isinstance(line, bytes):
            lines.append(line)
        outcomes.append(None if isinstance(line, bytes) else line)

    def read(response: Response) -> list[Outcome]:
        replies = iter(_outcomes(response, len(lines)))
        return [outcome or next(replies) for outcome in outcomes]

    return Exchange("POST", target, read, b"\n".join(lines), _NDJSON, known=None if lines else outcomes)


def _is_table(rows: Any) -> bool:
    """Return whether it is a table or data frame with Arrow's C stream interface, which columns may have too."""
    tabular = isinstance(rows, FeatureTable) or hasattr(rows, "columns") or hasattr(rows, "schema")
    return tabular and hasattr(rows, "__arrow_c_stream__")


def _outcomes(response: Response, count: int) -> list[Outcome]:
    """Return the outcomes of so many rows."""
    check(response)
    answered = [Response(response.status, line).decode(_outcome) for line in response.body.splitlines()]
    if len(answered) != count:
        raise FeatureStoreError(f"the server answered {len(answered)} outcomes to {count} rows")
    return answered


def _line(row: Any, event_time: EventTime) -> bytes | Outcome:
    """Return the line that writes a row, or the outcome of a row that cannot be sent."""
    try:
        entity_id, features = pair_of(row)
        body = row_body(features, event_time)
    except (BadArgumentsError, BadTimeError, BadValueError) as error:
        return Outcome("rejected", error.code, str(error))
    try:
        return encode({"id": plain_id(entity_id), **body})
    except BadArgumentsError as error:
        return Outcome("rejected", "BADID", str(error))


def increment(
    entity_id: str, amounts: Mapping[str, float], event_time: EventTime, entity: str | None
) -> Exchange[dict[str, Value | None] | None]:
    """Return the call that adds to counters; None where the entity was deleted later, or is too old."""
    body = numbers_body("incr", amounts, event_time)
    if not body["incr"]:
        raise BadArgumentsError("name at least one feature to add to")

    def read(response: Response) -> dict[str, Value | None] | None:
        if response.status == HTTPStatus.CONFLICT:
            return None
        check(response)
        return response.decode(ENTITY).features

    return Exchange("POST", _writable_path(entity_id, entity), read, encode(body))


def record(
    entity_id: str, event: Mapping[str, float], event_time: EventTime, event_id: str | None, entity: str | None
) -> Exchange[str]:
    """Return the call that counts an event in an entity's sliding windows; with an id it may be sent again."""
    body = numbers_body("event", event, event_time)
    among = dict(plain_mapping(event, "an event")).get(EVENT_ID)
    identity = plain_event_id(event_id if among is None else among)
    if identity is not None:
        body["event_id"] = identity
    path = _writable_path(entity_id, entity)
    return Exchange("POST", path, _read_verdict, encode(body), repeats=identity is not None)


def delete(entity_id: str, entity: str | None) -> Exchange[bool]:
    """Return the call that removes an entity; False when there was none."""

    def read(response: Response) -> bool:
        if tells_of_no_such_entity(response):
            return False
        check(response)
        return True

    return Exchange("DELETE", _writable_path(entity_id, entity), read)


def _read_verdict(response: Response) -> str:
    if response.status == HTTPStatus.CONFLICT:
        return "stale"
    check(response)
    return response.decode(_verdict).verdict


def _writable_path(entity_id: str, entity: str | None) -> str:
    plain = plain_id(entity_id)
    if plain in _ROUTES:
        raise BadArgumentsError(f"the id {plain} can be written by upsert_many alone: its path is a route's")
    return path_of(plain, entity)
