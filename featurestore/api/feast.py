"""Feast's routes: its `remote` online store client reads and writes here. A feature view is an entity of that name."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Literal

import falcon
import msgspec
from falcon import Request, Response

from featurestore.access.key import READ, WRITE
from featurestore.api import problems
from featurestore.api.access import Access
from featurestore.api.bodies import decode_body, read_body
from featurestore.api.counters import Meter
from featurestore.api.preference import preferred
from featurestore.api.problems import kind_of
from featurestore.api.routes import Route
from featurestore.api.served import Views, occasion_of
from featurestore.contract.json_rows import encodable_value, encode
from featurestore.contract.selection import Fresh
from featurestore.contract.words import EVENT_TIME
from featurestore.errors import (
    BadArgumentsError,
    BadKeyError,
    BadValueError,
    FeatureStoreError,
    ForbiddenError,
    NoKeyError,
    NoSchemaError,
    RateLimitedError,
    UndeclaredFeatureError,
)
from featurestore.store.blocking import FeatureStore

_STATUSES = {"PRESENT": "PRESENT", "DEFAULT": "PRESENT", "MISSING": "NULL_VALUE", "STALE": "OUTSIDE_MAX_AGE"}
_NEVER = "1970-01-01T00:00:00Z"
_TIME_COLUMN, _CREATED_COLUMN = "event_timestamp", "created"
_EXACT_FLOATS = 2.0**53
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999, the last time that RFC 3339 can write."""

_REFUSALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED})

Reference = tuple[str, str]
"""A feature view and a feature of it."""


class OnlineRequest(msgspec.Struct):
    """The body of `POST /get-online-features`.

    Attributes:
        entities: Join key → its value in each row. A null value finds no feature.
        features: `view:feature`.
        feature_service: Instead of `features`, a service of the default entity; `item:ranking` is one of `item`'s.
        full_feature_names: Whether names in the answer are `view__feature` instead of `feature`.
    """

    entities: dict[str, list[str | int | float | None]]
    features: list[str] = []
    feature_service: str | None = None
    full_feature_names: bool = False


class WriteRequest(msgspec.Struct):
    """The body of `POST /write-to-online-store`.

    Attributes:
        feature_view_name: The feature view, which is an entity of that name.
        df: Column → values; the join key is one of them.
    """

    feature_view_name: str
    df: dict[str, list[Any]]


class PushRequest(msgspec.Struct):
    """The body of `POST /push`.

    Attributes:
        push_source_name: The push source, which has the name of its feature view.
        df: Column → values; the join key is one of them.
        to: Where to; only the online store exists here.
    """

    push_source_name: str
    df: dict[str, list[Any]]
    to: Literal["online"] = "online"


class FeastError(Exception):
    """An error that Feast's client raises again under the name of its own class.

    Args:
        status: Status line.
        kind: A class of `feast.errors`.
        message: What is wrong.
        headers: Header fields of the response.
    """

    def __init__(self, status: str, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, dict(headers or {})

    @staticmethod
    def answer(req: Request, resp: Response, error: "FeastError", _params: dict[str, str]) -> None:
        """Answer with a JSON string that holds JSON, as the client wants it."""
        req.context.problem = kind_of(error.__cause__) if isinstance(error.__cause__, FeatureStoreError) else "http"
        inner = {"module": "feast.errors", "class": error.kind, "message": str(error)}
        resp.status, resp.content_type = error.status, falcon.MEDIA_JSON
        resp.set_headers(error.headers)
        resp.data = encode(encode(inner).decode())


class FeastResource:
    """Feast's routes over a store and the other entities beside it."""

    def __init__(
        self, store: FeatureStore, access: Access, meter: Meter, *, max_batch: int, max_body_bytes: int
    ) -> None:
        self._store, self._access, self._meter = store, access, meter
        self._writing = store.for_writes()
        self._max_batch, self._max_body_bytes = max_batch, max_body_bytes
        self._online = msgspec.json.Decoder(OnlineRequest)
        self._write, self._push = msgspec.json.Decoder(WriteRequest), msgspec.json.Decoder(PushRequest)

    def on_post_online(self, req: Request, resp: Response) -> None:
        """Answer with a result for each join key and each feature, with a value, a status and a time for each row.

        All feature views are read in one round trip to Redis.
        """
        with _told_as_feast_does():
            self._access.admit(req.env, READ)
            request = decode_body(self._online, read_body(req, self._max_body_bytes))
            counts = {len(values) for values in request.entities.values()}
            if len(counts) != 1 or not 0 < (count := counts.pop()) <= self._max_batch:
                raise _unacceptable(f"want the same number of values, 1 to {self._max_batch}, for every join key")
            self._access.spend(req, count)
            named = (request.feature_service or "").rpartition(":")[0]
            self._access.check_entities(req, READ, {named} if not request.features and named else ())
            refs = [_reference(ref) for ref in request.features] or self._refs_of(request.feature_service)
            self._access.check_entities(req, READ, {view for view, _ in refs})
            names = ["__".join(ref) if request.full_feature_names else ref[1] for ref in refs]
            _check_names([*request.entities, *names])
            store = preferred(self._store, req)
            occasion = None if request.features else occasion_of(req, store, request.feature_service)
            views = None if occasion is None else Views(occasion, count)
            columns = self._columns(store, refs, request.entities, views)
            store.keep(None if views is None else views.served())
        results = [_result(values, ["PRESENT"] * count, [None] * count) for values in request.entities.values()]
        results += [columns[ref] for ref in refs]
        resp.content_type = falcon.MEDIA_JSON
        resp.data = encode({"results": results, "metadata": {"feature_names": [*request.entities, *names]}})

    def on_post_write(self, req: Request, resp: Response) -> None:
        """Write a table of one feature view."""
        with _told_as_feast_does():
            self._access.admit(req.env, WRITE)
            request = decode_body(self._write, read_body(req, self._max_body_bytes))
            self._check(req, request.feature_view_name, request.df)
            self._write_table(*self._view(self._writing, request.feature_view_name), request.df)
        resp.content_type, resp.data = falcon.MEDIA_JSON, b"null"

    def on_post_push(self, req: Request, resp: Response) -> None:
        """Write a table by its push source, which has the name of its feature view."""
        with _told_as_feast_does():
            self._access.admit(req.env, WRITE)
            request = decode_body(self._push, read_body(req, self._max_body_bytes))
            self._check(req, request.push_source_name, request.df)
            try:
                view = self._view(self._writing, request.push_source_name)
            except FeastError:
                message = f"Unable to find push source '{request.push_source_name}'."
                raise FeastError(falcon.HTTP_UNPROCESSABLE_ENTITY, "PushSourceNotFoundException", message) from None
            self._write_table(*view, request.df)
        resp.content_type, resp.data = falcon.MEDIA_JSON, b"null"

    def on_post_materialize(self, _req: Request, _resp: Response) -> None:
        """Answer 501: Feast's server would read its offline store."""
        message = "no offline store is here: materialize where one is, by write_to_online_store"
        raise FeastError(falcon.HTTP_NOT_IMPLEMENTED, "FeastError", message)

    def _check(self, req: Request, view: str, df: Mapping[str, Sequence[Any]]) -> None:
        """Check that the request's key may write that view, and that many rows."""
        self._access.check_entities(req, WRITE, {view})
        self._access.spend(req, max(map(len, df.values()), default=0))

    @staticmethod
    def _view(store: FeatureStore, name: str) -> tuple[FeatureStore, str]:
        """Return a feature view's store and its join key."""
        try:
            store = store.entity(name)
            join_key = store.join_key()
        except NoSchemaError:
            message = f"Feature view {name} does not exist"
            raise FeastError(falcon.HTTP_NOT_FOUND, "FeatureViewNotFoundException", message) from None
        return store, join_key or f"{name}_id"

    def _refs_of(self, service: str | None) -> list[Reference]:
        if service is None:
            raise _unacceptable("want `features` or `feature_service`")
        try:
            names = self._store.query_names(service)
        except (NoSchemaError, UndeclaredFeatureError):
            message = f"Feature service {service} does not exist"
            raise FeastError(falcon.HTTP_NOT_FOUND, "FeatureServiceNotFoundException", message) from None
        return [_reference(name if ":" in name else f"{self._store.keys.entity}:{name}") for name in names]

    def _columns(
        self,
        store: FeatureStore,
        refs: Sequence[Reference],
        entities: Mapping[str, Sequence[Any]],
        views: Views | None,
    ) -> dict[Reference, dict[str, Any]]:
        """Return Feast's result for each feature; tell `views` what is served, if it is to be kept."""
        wanted: dict[str, list[str]] = {}
        for view, feature in refs:
            wanted.setdefault(view, []).append(feature)
        calls, places = [], []
        for view, features in wanted.items():
            _, key = self._view(self._store, view)
            if key not in entities:
                raise _unacceptable(f"{view} wants the join key {key} - at `$.entities`")
            ids = enumerate(map(_id_of, entities[key]))
            known = {place: entity_id for place, entity_id in ids if entity_id is not None}
            places.append(known)
            calls.append((view, list(known.values()), features))
        columns = {}
        found = store.fetch_fresh_of(calls)
        for (view, _, _), known, (selection, entries) in zip(calls, places, found, strict=True):
            rows: list[Fresh | None] = [None] * len(next(iter(entities.values())))
            for place, entry in zip(known, entries, strict=True):
                rows[place] = entry
            if views is not None:
                views.add(view, known, selection, rows)
            for position, name in enumerate(selection.names):
                columns[view, name] = _result(
                    [encodable_value(row.values[position]) if row else None for row in rows],
                    [_STATUSES[row.statuses[position]] if row else "NOT_FOUND" for row in rows],
                    [row.event_times[position] if row else None for row in rows],
                )
        return columns

    def _write_table(self, store: FeatureStore, key: str, df: Mapping[str, Sequence[Any]]) -> None:
        """Write every row that can be written, and raise an error that names the others.

        A time without an offset is UTC. Writing the same table again changes nothing.
        """
        if key not in df or len({len(values) for values in df.values()}) != 1:
            raise _unacceptable(f"want columns of one length, {key} among them")
        names = [name for name in df if name not in {key, _TIME_COLUMN, _CREATED_COLUMN}]
        for name in store.declared(names).keys() & {key, _TIME_COLUMN, _CREATED_COLUMN}:
            raise _unacceptable(f"{store.keys.entity} declares a feature {name}, and these routes need that column")
        columns = [df[name] for name in names]
        ids = [_int_of(value) for value in df[key]]
        times = df.get(_TIME_COLUMN, [None] * len(ids))
        texts = [str(value) if _is_int(value) else value for value in ids]
        table = list(zip(texts, times, *columns, strict=True))
        result = store.upsert_table((EVENT_TIME, *names), table)
        self._meter.count_rows(result.verdicts, store.keys.entity, [each.code for each in result.rejected])
        result.check_confirmed()
        if result.rejected:
            first = result.rejected[0]
            raise _unacceptable(
                f"{len(result.rejected)} of {len(table)} rows were rejected; "
                f"the first is row {first.row}: {first.code} {first.reason}"
            )


ROUTES = (
    Route("/get-online-features", FeastResource, "online"),
    Route("/write-to-online-store", FeastResource, "write"),
    Route("/push", FeastResource, "push"),
    Route("/materialize", FeastResource, "materialize"),
    Route("/materialize-incremental", FeastResource, "materialize"),
)


@contextmanager
def _told_as_feast_does() -> Iterator[None]:
    """Turn an error of the request into one that Feast's client knows; leave errors of the server alone."""
    try:
        yield
    except falcon.HTTPError as error:
        kind = "FeastPermissionError" if error.status_code in _REFUSALS else "FeastError"
        raise FeastError(
            str(error.status), kind, error.description or str(error.title), dict(error.headers or {})
        ) from error
    except (NoKeyError, BadKeyError, ForbiddenError, RateLimitedError) as error:
        kind = "FeastError" if isinstance(error, RateLimitedError) else "FeastPermissionError"
        raise FeastError(problems.status_of(error), kind, str(error), dict(problems.headers_of(error))) from error
    except (UndeclaredFeatureError, BadArgumentsError, BadValueError) as error:
        raise _unacceptable(str(error)) from error


def _unacceptable(message: str) -> FeastError:
    return FeastError(falcon.HTTP_UNPROCESSABLE_ENTITY, "FeastError", message)


def _reference(ref: str) -> Reference:
    view, separator, feature = ref.rpartition(":")
    if not separator:
        raise _unacceptable(f"a feature is asked for as view:feature, not {ref[:64]!r}")
    return view, feature


def _check_names(names: Sequence[str]) -> None:
    """Raise if two columns have the same name: the client would keep only one of them."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        message = f"Duplicate features named {', '.join(twice)} found. Full feature names tell feature views apart."
        raise FeastError(falcon.HTTP_UNPROCESSABLE_ENTITY, "FeatureNameCollisionError", message)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _int_of(value: Any) -> Any:
    """Return an int for a whole float: pandas turns a column of ints with gaps into floats."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOATS:
        return int(value)
    return value


def _id_of(value: str | float | None) -> str | None:
    """Return the id for a join key's value; None if it stands for no id."""
    value = _int_of(value)
    if isinstance(value, float):
        raise _unacceptable(f"a join key is text or an integer, not {value}")
    return str(value) if value is not None else None


def _result(values: Sequence[Any], statuses: Sequence[str], times: Sequence[int | None]) -> dict[str, Any]:
    return {"values": values, "statuses": statuses, "event_timestamps": [_timestamp(time) for time in times]}


@lru_cache(maxsize=4096)  # many values have the time of their row
def _timestamp(time: int | None) -> str:
    """Return a time as RFC 3339, with ms if there are any."""
    if time is None:
        return _NEVER
    time = min(time, _LAST_MS)
    moment = datetime.fromtimestamp(time // 1000, UTC).replace(microsecond=time % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds" if time % 1000 else "seconds").replace("+00:00", "Z")
