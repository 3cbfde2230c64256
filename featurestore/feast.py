"""Feast's routes: its `remote` online store client reads and writes here. A feature view is an entity of that name."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import falcon
import msgspec
from falcon import Request, Response

from featurestore.access import Access
from featurestore.bodies import decode_body, read_body
from featurestore.errors import NoSchemaError, UndeclaredFeatureError
from featurestore.rendering import encode
from featurestore.schema import encodable_value
from featurestore.store import FeatureStore
from featurestore.text import EVENT_TIME

_STATUSES = {"PRESENT": "PRESENT", "DEFAULT": "PRESENT", "MISSING": "NOT_FOUND", "STALE": "OUTSIDE_MAX_AGE"}
_NEVER = "1970-01-01T00:00:00Z"
_TIME_COLUMN, _CREATED_COLUMN = "event_timestamp", "created"


class OnlineRequest(msgspec.Struct):
    """The body of `POST /get-online-features`.

    Attributes:
        entities: Join key → its value in each row.
        features: `view:feature`.
        feature_service: In their place, a service of the default entity's schema.
        full_feature_names: Whether to answer with `view__feature` in place of `feature`.
    """

    entities: dict[str, list[str | int]]
    features: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    feature_service: str | None = None
    full_feature_names: bool = False


class WriteRequest(msgspec.Struct):
    """The body of `POST /write-to-online-store` and, with the other name, of `POST /push`; `df` is column → values."""

    df: dict[str, list[Any]]
    feature_view_name: str = ""
    push_source_name: str = ""


class FeastError(Exception):
    """An error that Feast's client raises again under the name of its own class.

    Args:
        status: Status line.
        kind: A class of `feast.errors`.
        message: What is wrong.
    """

    def __init__(self, status: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind

    @staticmethod
    def answer(_req: Request, resp: Response, error: "FeastError", _params: dict[str, str]) -> None:
        """Answer with a JSON string that holds JSON, as the client wants it."""
        inner = {"module": "feast.errors", "class": error.kind, "message": str(error)}
        resp.status, resp.content_type = error.status, falcon.MEDIA_JSON
        resp.data = encode(encode(inner).decode())


class FeastResource:
    """Feast's routes over a store and the other entities beside it."""

    def __init__(self, store: FeatureStore, access: Access, *, max_batch: int, max_body_bytes: int) -> None:
        self._store, self._access = store, access
        self._max_batch, self._max_body_bytes = max_batch, max_body_bytes
        self._online, self._write = msgspec.json.Decoder(OnlineRequest), msgspec.json.Decoder(WriteRequest)

    def on_post_online(self, req: Request, resp: Response) -> None:
        """Answer with a result for each join key and each feature, with a value, a status and a time for each row."""
        request = decode_body(self._online, read_body(req, self._max_body_bytes))
        counts = {len(values) for values in request.entities.values()}
        if len(counts) != 1 or not 0 < (count := counts.pop()) <= self._max_batch:
            raise falcon.HTTPUnprocessableEntity(
                description=f"want the same number of values, 1 to {self._max_batch}, for every join key"
            )
        refs = request.features or self._refs_of(request.feature_service)
        names = list(request.entities)
        results = [_result(values, ["PRESENT"] * count, [None] * count) for values in request.entities.values()]
        columns = self._columns(refs, request.entities)
        for ref in refs:
            names.append(ref.replace(":", "__") if request.full_feature_names else ref.rpartition(":")[2])
            results.append(columns[ref])
        resp.content_type = falcon.MEDIA_JSON
        resp.data = encode({"results": results, "metadata": {"feature_names": names}})

    def on_post_write(self, req: Request, resp: Response) -> None:
        """Write a table of one feature view."""
        self._access.require_write(req)
        request = decode_body(self._write, read_body(req, self._max_body_bytes))
        self._write_table(self._view(request.feature_view_name), request.df)
        resp.content_type, resp.data = falcon.MEDIA_JSON, b"null"

    def on_post_push(self, req: Request, resp: Response) -> None:
        """Write a table by its push source, which has the name of its feature view."""
        self._access.require_write(req)
        request = decode_body(self._write, read_body(req, self._max_body_bytes))
        try:
            view = self._store.entity(request.push_source_name)
        except NoSchemaError:
            message = f"Unable to find push source '{request.push_source_name}'."
            raise FeastError(falcon.HTTP_UNPROCESSABLE_ENTITY, "PushSourceNotFoundException", message) from None
        self._write_table(view, request.df)
        resp.content_type, resp.data = falcon.MEDIA_JSON, b"null"

    def _view(self, name: str) -> FeatureStore:
        try:
            return self._store.entity(name)
        except NoSchemaError:
            message = f"Feature view {name} does not exist"
            raise FeastError(falcon.HTTP_NOT_FOUND, "FeatureViewNotFoundException", message) from None

    def _refs_of(self, service: str | None) -> list[str]:
        if service is None:
            raise falcon.HTTPUnprocessableEntity(description="want `features` or `feature_service`")
        try:
            names = self._store.service(service)
        except UndeclaredFeatureError:
            message = f"Feature service {service} does not exist"
            raise FeastError(falcon.HTTP_NOT_FOUND, "FeatureServiceNotFoundException", message) from None
        return [name if ":" in name else f"{self._store.keys.entity}:{name}" for name in names]

    def _columns(self, refs: Sequence[str], entities: Mapping[str, Sequence[str | int]]) -> dict[str, dict[str, Any]]:
        """Return Feast's result for each feature; one call a feature view."""
        wanted: dict[str, list[str]] = {}
        for ref in refs:
            view, _, feature = ref.rpartition(":")
            wanted.setdefault(view, []).append(feature)
        columns = {}
        for view, features in wanted.items():
            store = self._view(view)
            key = _join_key(store)
            if key not in entities:
                raise falcon.HTTPUnprocessableEntity(description=f"{view} wants the join key {key} - at `$.entities`")
            selection, entries = store.fetch_fresh([str(value) for value in entities[key]], features)
            for position, name in enumerate(selection.names):
                columns[f"{view}:{name}"] = _result(
                    [encodable_value(entry.values[position]) if entry else None for entry in entries],
                    [_STATUSES[entry.statuses[position]] if entry else "NOT_FOUND" for entry in entries],
                    [entry.event_times[position] if entry else None for entry in entries],
                )
        return columns

    def _write_table(self, store: FeatureStore, df: Mapping[str, Sequence[Any]]) -> None:
        """Write every row that can be written; the others are named in the error.

        A time without an offset is UTC. To write the same table again changes nothing.
        """
        key = _join_key(store)
        if key not in df or len({len(values) for values in df.values()}) != 1:
            raise falcon.HTTPUnprocessableEntity(description=f"want columns of one length, {key} among them")
        names = [name for name in df if name not in {key, _TIME_COLUMN, _CREATED_COLUMN}]
        times = df.get(_TIME_COLUMN, [None] * len(df[key]))
        rows = zip(df[key], times, *(df[name] for name in names), strict=True)
        table = [(str(entity_id), *values) for entity_id, *values in rows]
        result = store.upsert_table((EVENT_TIME, *names), table)
        if result.rejected:
            first = result.rejected[0]
            raise falcon.HTTPUnprocessableEntity(
                description=f"{len(result.rejected)} of {len(table)} rows were rejected; "
                f"the first is row {first.row}: {first.code} {first.reason}"
            )


def add_routes(app: falcon.App[Request, Response], resource: FeastResource) -> None:
    """Add Feast's routes to the app."""
    app.add_error_handler(FeastError, FeastError.answer)
    app.add_route("/get-online-features", resource, suffix="online")
    app.add_route("/write-to-online-store", resource, suffix="write")
    app.add_route("/push", resource, suffix="push")


def _join_key(store: FeatureStore) -> str:
    return store.join_key or f"{store.keys.entity}_id"


def _result(values: Sequence[Any], statuses: Sequence[str], times: Sequence[int | None]) -> dict[str, Any]:
    return {"values": values, "statuses": statuses, "event_timestamps": [_timestamp(time) for time in times]}


def _timestamp(time: int | None) -> str:
    """Return RFC 3339 with no fraction or with ms."""
    if time is None:
        return _NEVER
    precision = "milliseconds" if time % 1000 else "seconds"
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec=precision).replace("+00:00", "Z")
