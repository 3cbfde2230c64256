"""Writes over HTTP: a partial upsert, increments and events of one entity, its deletion, and many rows at once."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import falcon
import msgspec
from falcon import Request, Response

from featurestore.api.access import Access
from featurestore.api.arrow_rows import read_rows
from featurestore.api.bodies import (
    MALFORMED,
    alias_decoder,
    check_parameters,
    decode_body,
    media_type_of,
    read_body,
    read_lines,
    refuse_undecodable,
)
from featurestore.api.counters import Meter
from featurestore.api.problems import RowRefusedError
from featurestore.contract import arrow
from featurestore.contract.json_rows import encodable_value, encode
from featurestore.contract.upsert_calls import RejectedRow, UpsertResult
from featurestore.contract.words import EVENT_ID, EVENT_TIME, VERDICTS, to_time
from featurestore.errors import NoSchemaError, UnknownEntityError, UnknownIdError
from featurestore.schema.times import time_of
from featurestore.store.blocking import FeatureStore

Mode = Literal["newest", "overwrite"]
EventTime = Annotated[Any, msgspec.Meta(extra_json_schema={"type": ["integer", "string", "null"]})]
"""ms since 1970 or ISO 8601. The scripts check it, so that a bad one costs its row alone."""

_INGEST_PARAMETERS = frozenset({"mode"})
_RESERVED = frozenset({EVENT_TIME, EVENT_ID})


class PutRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /features/{entity_id}`.

    Attributes:
        features: Name → value. Null removes a feature; features that are not named stay.
        event_time: ms since 1970 or ISO 8601; now if left out.
        mode: `overwrite` also writes values that are older than the stored ones.
    """

    features: dict[str, Any]
    event_time: EventTime = None
    mode: Mode = "newest"


class PostRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /features/{entity_id}`: increments, or an event for the sliding windows.

    Attributes:
        incr: Name → what to add.
        event: Name → number.
        event_time: ms since 1970 or ISO 8601; now if left out.
        event_id: Identifies the event, so that it is counted once even if it is sent again.
    """

    incr: Annotated[dict[str, Any], msgspec.Meta(min_length=1)] | None = None
    event: dict[str, Any] | None = None
    event_time: EventTime = None
    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None


class IngestRow(msgspec.Struct, forbid_unknown_fields=True):
    """A line of `POST /features/ingest`.

    Attributes:
        features: Name → value, as for a PUT.
        id: Whose they are. Also called by the id's name: `user_id`.
        event_time: ms since 1970 or ISO 8601; now if left out.
    """

    features: dict[str, Any]
    id: str | int | None = None
    event_time: EventTime = None


def id_names(store: FeatureStore, default: FeatureStore) -> tuple[str, ...]:
    """Return the names of an id of `store` in requests, beside `id`. The first is its name in responses."""
    return (store.id_name(), "user_id") if store is default else (store.id_name(),)


def store_of(store: FeatureStore, entity: str | None) -> FeatureStore:
    """Return the store of the entity in a path; `store` itself if the path has none.

    Raises:
        UnknownEntityError: No entity of that name has a schema.
    """
    if entity is None:
        return store
    try:
        return store.entity(entity)
    except NoSchemaError:
        raise UnknownEntityError(f"no entity {entity} has a schema") from None


class EntityWriter:
    """`PUT`, `POST` and `DELETE` of one entity, to be mixed into the resource that reads it.

    Args:
        store: The default entity's store.
        access: Who may write, which the app's middleware asks; and how much.
        max_body_bytes: Largest request body.
        meter: What counts the rows.
    """

    def __init__(self, store: FeatureStore, access: Access, max_body_bytes: int, meter: Meter) -> None:
        self._store, self._access, self._max_body_bytes, self._meter = store, access, max_body_bytes, meter
        self._writing = store.for_writes()
        self._put, self._post = msgspec.json.Decoder(PutRequest), msgspec.json.Decoder(PostRequest)

    def _writable(self, req: Request, entity: str | None) -> FeatureStore:
        refuse_undecodable(req)
        return store_of(self._writing, entity)

    def on_put(self, req: Request, resp: Response, entity_id: str, entity: str | None = None) -> None:
        """Write some features; 409 if newer values are stored for all of them."""
        store = self._writable(req, entity)
        request = decode_body(self._put, read_body(req, self._max_body_bytes))
        _refuse_reserved(request.features)
        result, selection, row = store.put(
            entity_id, request.features, event_time=request.event_time, overwrite=request.mode == "overwrite"
        )
        self._meter.count_rows(result.verdicts, store.keys.entity, [each.code for each in result.rejected])
        _refuse_rejected(result.rejected)
        if result.verdicts == "S":
            raise falcon.HTTPConflict(
                description="newer values are stored for all of these features, or a later deletion, or the ttl is over"
            )
        resp.content_type = falcon.MEDIA_JSON
        features = {}
        if result.verdicts == "P":
            features = _written(store, entity_id, request)
        elif selection is not None:
            row = row or (None,) * len(selection.names)  # None: somebody has deleted it since
            features = dict(zip(selection.names, map(encodable_value, row), strict=True))
        resp.data = encode({store.id_name(): entity_id, "verdict": VERDICTS[result.verdicts], "features": features})

    def on_post(self, req: Request, resp: Response, entity_id: str, entity: str | None = None) -> None:
        """Add to counters, or count an event in the sliding windows; 409 if the entity was deleted later than that."""
        store = self._writable(req, entity)
        request = decode_body(self._post, read_body(req, self._max_body_bytes))
        if (request.incr is None) == (request.event is None):
            raise falcon.HTTPUnprocessableEntity(description="want either `incr` or `event`")
        if request.incr is not None and request.event_id is not None:
            raise falcon.HTTPUnprocessableEntity(description="`event_id` goes with `event` alone")
        _refuse_reserved(request.incr or request.event or {})
        resp.content_type = falcon.MEDIA_JSON
        if request.incr is not None:
            values = store.increment(entity_id, request.incr, event_time=request.event_time)
            if values is None:
                raise falcon.HTTPConflict(description="it was deleted at a later time, or would have expired since")
            resp.data = encode({store.id_name(): entity_id, "features": values})
            return
        identity = {} if request.event_id is None else {EVENT_ID: request.event_id}
        result = store.record([(entity_id, {**(request.event or {}), **identity})], event_time=request.event_time)
        _refuse_rejected(result.rejected)
        result.check_confirmed()
        if result.verdicts == "S":
            raise falcon.HTTPConflict(description="the event is out of every window, or from before a deletion")
        resp.data = encode({store.id_name(): entity_id, "verdict": VERDICTS[result.verdicts]})

    def on_delete(self, req: Request, resp: Response, entity_id: str, entity: str | None = None) -> None:
        """Remove the features and the membership: 204, or 404 if there was nothing."""
        store = self._writable(req, entity)
        if not store.delete(entity_id):
            raise UnknownIdError(store.keys.entity, entity_id)
        resp.status = falcon.HTTP_NO_CONTENT


class Ingest:
    """`POST /features/ingest`: NDJSON or a stream of Arrow in, an outcome for each line or row out."""

    def __init__(self, store: FeatureStore, access: Access, max_body_bytes: int, meter: Meter) -> None:
        self._store, self._access, self._max_body_bytes, self._meter = store, access, max_body_bytes, meter
        self._writing = store.for_writes()

    def on_post(self, req: Request, resp: Response, entity: str | None = None) -> None:
        """Write every row that can be written, and answer with an outcome for each, as NDJSON in the same order."""
        check_parameters(req, _INGEST_PARAMETERS)
        store = store_of(self._writing, entity)
        mode = req.get_param("mode", default="newest")
        if mode not in {"newest", "overwrite"}:
            raise falcon.HTTPUnprocessableEntity(description=f"mode is newest or overwrite, not {mode}")
        names = id_names(store, self._writing)
        if media_type_of(req) == arrow.MEDIA_ARROW:
            table = read_rows(
                read_body(req, self._max_body_bytes), list(dict.fromkeys((*names, "id"))), self._max_body_bytes
            )
            self._access.spend(req, len(table.rows))
            result = store.upsert_table(table.columns, table.rows, overwrite=mode == "overwrite")
            self._answer(resp, store.keys.entity, range(1, len(table.rows) + 1), result, {})
            return
        decode_line = alias_decoder(IngestRow, "id", *names).decode
        outcomes: dict[int, dict[str, Any]] = {}
        lines: list[int] = []
        rows: list[tuple[str, dict[str, Any]]] = []
        for number, line in enumerate(read_lines(req, self._max_body_bytes), 1):
            if not line.strip():
                continue
            try:
                row, entity_id = decode_line(line)
            except MALFORMED as error:
                outcomes[number] = _rejection(number, "BADROW", str(error))
                continue
            if EVENT_TIME in row.features:
                outcomes[number] = _rejection(number, "BADROW", "event_time stands beside `features`, not among them")
                continue
            time = {} if row.event_time is None else {EVENT_TIME: row.event_time}
            lines.append(number)
            rows.append((entity_id, {**row.features, **time}))
        self._access.spend(req, len(rows))
        result = store.upsert(rows, overwrite=mode == "overwrite")
        self._answer(resp, store.keys.entity, lines, result, outcomes)

    def _answer(
        self,
        resp: Response,
        entity: str,
        lines: Sequence[int],
        result: UpsertResult,
        outcomes: dict[int, dict[str, Any]],
    ) -> None:
        """Answer with the outcomes of rows, by their numbers, and of the lines that were no rows."""
        codes = [*(each["code"] for each in outcomes.values()), *(each.code for each in result.rejected)]
        self._meter.count_rows(result.verdicts + "R" * len(outcomes), entity, codes)
        result.check_confirmed()
        for number, verdict in zip(lines, result.verdicts, strict=True):
            outcomes[number] = {"line": number, "verdict": VERDICTS[verdict]}
        for rejected in result.rejected:
            outcomes[lines[rejected.row]] = _rejection(lines[rejected.row], rejected.code, rejected.reason)
        resp.content_type = "application/x-ndjson"
        resp.data = b"".join(encode(outcomes[number]) + b"\n" for number in sorted(outcomes))


def _rejection(line: int, code: str, reason: str) -> dict[str, Any]:
    return {"line": line, "verdict": "rejected", "code": code, "reason": reason}


def _written(store: FeatureStore, entity_id: str, request: PutRequest) -> dict[str, Any]:
    """Return the features of a partly stale request that were written, as stored."""
    selection, (fresh,) = store.fetch_fresh([entity_id], list(request.features))
    if fresh is None:
        return {}
    given, time = request.features, time_of(to_time(request.event_time))
    return {
        name: encodable_value(value)
        for name, value, stored in zip(selection.names, fresh.values, fresh.event_times, strict=True)
        if (stored is not None and stored <= time) or (stored is None and given[name] is None)
    }


def _refuse_reserved(values: Mapping[str, Any]) -> None:
    """Refuse `@event_time` and `@event_id` as features: in Python's rows they are no features.

    Raises:
        falcon.HTTPUnprocessableEntity: There is one.
    """
    for name in _RESERVED & values.keys():
        description = f"{name} is no feature: {name[1:]} stands beside the features, not among them"
        raise falcon.HTTPUnprocessableEntity(description=description)


def _refuse_rejected(rejected: list[RejectedRow]) -> None:
    if rejected:
        raise RowRefusedError(rejected[0].code, rejected[0].reason)
