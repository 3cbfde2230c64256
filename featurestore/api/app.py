"""The Falcon app over a store. Each resource decodes with msgspec, asks the store, and encodes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import falcon
import msgspec
from falcon import Request, Response

from featurestore.access.key import READ
from featurestore.api import feast, formats, pages, problems
from featurestore.api.access import Access, Guarding
from featurestore.api.bodies import (
    alias_decoder,
    check_parameters,
    decode_body,
    read_body,
    refuse_repeated,
    refuse_undecodable,
)
from featurestore.api.counters import Board, Meter
from featurestore.api.formats import ARROW, JSON, Format
from featurestore.api.health import HealthResource
from featurestore.api.inspection import EntitiesResource, SampleResource, StoredResource
from featurestore.api.preference import preferred
from featurestore.api.prometheus import Measuring, MetricsResource
from featurestore.api.read_requests import READ_PARAMETERS, BatchRequest, QueryRequest
from featurestore.api.routes import OF_ENTITY, Route
from featurestore.api.served import occasion_of
from featurestore.api.ui import UiResource
from featurestore.api.writes import EntityWriter, Ingest, id_names, store_of
from featurestore.contract import arrow
from featurestore.contract.arguments import passed_values, status_with
from featurestore.contract.json_rows import encode
from featurestore.contract.selection import Fresh, Selection
from featurestore.contract.served import Occasion
from featurestore.errors import UnknownIdError
from featurestore.schema.times import parse_duration
from featurestore.schema.types import Status
from featurestore.store.blocking import FeatureStore
from featurestore.store.query_table import QueryTable
from featurestore.store.served_rows import served_entities, served_query

_JSON = falcon.MEDIA_JSON


class EntityReader:
    """`GET` of one entity's features. Resources such as `/features/batch` have it too: an id may be called `batch`."""

    _store: FeatureStore
    _meter: Meter

    def on_get(self, req: Request, resp: Response, entity_id: str = "", entity: str | None = None) -> None:
        """Answer with all features, or those of `?features=a,b` or `?service=name`; docs/http.md has more."""
        entity_id = entity_id or req.path.rpartition("/")[2]  # an id such as `batch`
        refuse_undecodable(req)
        written_as = formats.accepted(req)
        store = preferred(store_of(self._store, entity), req)
        names, freshness = _wanted(req, store), _freshness(req)
        occasion = occasion_of(req, store, req.get_param("service")) if req.query_string else None
        body: bytes | None = None
        if freshness is not None or occasion is not None:
            metadata, max_age_ms = freshness or (False, None)
            selection, (fresh,) = store.fetch_fresh([entity_id], names, max_age_ms=max_age_ms)
            if occasion is not None:
                store.keep(served_entities(occasion, [entity_id], selection, [fresh], {}))
            if fresh and freshness is None:  # as it is answered without metadata
                (found,) = formats.entities(written_as, store.id_name(), [entity_id], selection, [fresh.values])
                body = written_as.encode(found)
            elif fresh:
                answer = described(written_as, store.id_name(), entity_id, selection, fresh, metadata=metadata)
                body = written_as.encode(answer)
        elif written_as is JSON:
            body = store.get_json(entity_id, names)
        else:
            selection, row = store.fetch(entity_id, names)
            if row is not None:
                (found,) = formats.entities(written_as, store.id_name(), [entity_id], selection, [row])
                body = written_as.encode(found)
        if body is None:
            raise UnknownIdError(store.keys.entity, entity_id)
        self._meter.seen[store.keys.entity] = [entity_id], names
        formats.answer(resp, written_as, body)

    on_head = on_get


class FeaturesResource(EntityReader, EntityWriter):
    """`/features/{entity_id}` and `/entities/{entity}/features/{entity_id}`: one entity."""


class IngestResource(EntityReader, Ingest):
    """`POST /features/ingest`; `GET` is for the entity whose id is `ingest`."""


class BatchResource(EntityReader):
    """`POST /features/batch` and `/features/query`; `GET` is for the entities whose ids are `batch` and `query`."""

    def __init__(
        self, store: FeatureStore, access: Access, meter: Meter, *, max_batch: int, max_body_bytes: int
    ) -> None:
        self._store, self._access, self._meter = store, access, meter
        self._max_batch, self._max_body_bytes = max_batch, max_body_bytes
        self._query = msgspec.json.Decoder(QueryRequest)

    on_get_query = on_head_query = EntityReader.on_get

    def on_post(self, req: Request, resp: Response, entity: str | None = None) -> None:
        """Answer with a list in the order asked."""
        check_parameters(req, ())
        written_as = formats.accepted(req, columns=True)
        store = preferred(store_of(self._store, entity), req)
        aliases = [f"{name}s" for name in id_names(store, self._store)]
        decoder = alias_decoder(BatchRequest, "ids", *aliases)
        request, ids = decode_body(decoder, read_body(req, self._max_body_bytes))
        self._check_count(len(ids), "ids", aliases[0])
        if self._access.closed:  # else it has no key
            self._access.spend(req, len(ids))
        names = _named(request, store.service)
        occasion = None if request.service is None else occasion_of(req, store, request.service)
        if occasion is None and not (request.metadata or request.passed) and request.max_age is None:
            body = _batch(written_as, store, ids, names)
        else:
            body = _fresh_batch(written_as, store, ids, names, request, occasion)
        self._meter.seen[store.keys.entity] = ids, names
        formats.answer(resp, written_as, body)

    def on_post_query(self, req: Request, resp: Response) -> None:
        """Answer with a row of values for each row of ids, of any entities, in one round trip to Redis."""
        check_parameters(req, ())
        written_as = formats.accepted(req, columns=True)
        request = decode_body(self._query, read_body(req, self._max_body_bytes))
        self._check_count(len(request.rows), "rows", "rows")
        refuse_repeated(request.features or ())
        self._access.spend(req, len(request.rows))
        if request.service is not None:
            self._access.check_entities(req, READ, {request.service.rpartition(":")[0]} - {""})
        names = _named(request, self._store.query_names)
        if not names:
            raise falcon.HTTPUnprocessableEntity(description="want `features` or `service`")
        entities = {name.rpartition(":")[0] for name in names}
        self._access.check_entities(req, READ, entities)
        for entity in entities - {""}:
            store_of(self._store, entity)
        store = preferred(self._store, req)
        occasion = occasion_of(req, store, request.service)
        formats.answer(resp, written_as, self._queried(written_as, store, request, names, occasion))

    @staticmethod
    def _queried(
        written_as: Format, store: FeatureStore, request: QueryRequest, names: list[str], occasion: Occasion | None
    ) -> bytes:
        """Return the answer to a query of these features, and keep what it serves if there is an occasion."""
        plain = occasion is None and not (request.metadata or request.passed) and request.max_age is None
        if plain and written_as is ARROW:
            found = store.query_columns(request.rows, names)
            if found is not None:
                return formats.query_stream(request.rows, names, *found)
        if plain and written_as is JSON:
            return store.query_json(request.rows, names)
        max_age_ms = _span(request.max_age, "$.max_age")
        metadata = request.metadata or occasion is not None
        table = store.query_table(request.rows, names, metadata=metadata, max_age_ms=max_age_ms)
        passed = request.passed or {}
        table.put(passed)
        if occasion is not None:
            store.keep(served_query(occasion, store.keys.entity, request.rows, names, table, passed.keys()))
            if not request.metadata:
                table.statuses = []
        if written_as is ARROW:
            return formats.query_table_stream(request.rows, names, table)
        return written_as.encode(_query_answer(written_as, names, table, metadata=request.metadata))

    def _check_count(self, count: int, noun: str, field: str) -> None:
        if count > self._max_batch:
            raise falcon.HTTPUnprocessableEntity(
                description=f"{count} {noun}, at most {self._max_batch} (FEATURESTORE_MAX_BATCH) - at `$.{field}`"
            )


class SchemaResource:
    """`GET /schema`, `GET /entities/{entity}/schema`: the declared features with their types, and all options."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store

    def on_get(self, _req: Request, resp: Response, entity: str | None = None) -> None:
        """Answer with what Redis holds now."""
        store = store_of(self._store, entity)
        resp.content_type = _JSON
        resp.data = encode(store.schema().shown(store.keys.entity))

    on_head = on_get


_PREFIXES = ("", OF_ENTITY)

ROUTES = (
    # A `path` parameter: a slash that was sent as %2F is decoded by now, and belongs to the id.
    *(Route(f"{prefix}/features/{{entity_id:path}}", FeaturesResource) for prefix in _PREFIXES),
    *(Route(f"{prefix}/features/batch", BatchResource) for prefix in _PREFIXES),
    Route("/features/query", BatchResource, "query"),
    *(Route(f"{prefix}/features/ingest", IngestResource) for prefix in _PREFIXES),
    *(Route(f"{prefix}/schema", SchemaResource) for prefix in _PREFIXES),
    *feast.ROUTES,
    Route("/health", HealthResource),
    Route("/readyz", HealthResource, "ready"),
    Route("/livez", HealthResource, "live"),
    Route("/metrics", MetricsResource),
    Route("/entities", EntitiesResource),
    Route(f"{OF_ENTITY}/sample", SampleResource),
    Route(f"{OF_ENTITY}/stored", StoredResource),
    Route("/ui", UiResource),
    Route("/ui/{name}", UiResource, "file"),
    *pages.ROUTES,
)
"""All paths of the app, each in one place: the OpenAPI document is made of them, too."""


def create_app(  # noqa: PLR0913 - all but the first by name
    store: FeatureStore,
    *,
    max_batch: int = 1000,
    max_body_bytes: int = 1_048_576,
    access: Access | None = None,
    meter: Meter | None = None,
    ready_share: float = 1.0,
) -> falcon.App[Request, Response]:
    """Return the WSGI app that serves `store`.

    Args:
        store: Where the features are; its transport must suit the server's threads or greenlets.
        max_batch: Most ids in one batch.
        max_body_bytes: Largest request body.
        access: Who may read and write; everybody and nobody when left out.
        meter: What counts requests and rows; one of its own when left out.
        ready_share: In a cluster, the least share of ids that can be served for `/readyz` to be 200.
    """
    arrow.is_there()  # imported now, so that no request waits for it
    access = access or Access()
    meter = meter or Meter(Board())
    middleware: list[Any] = [Measuring(meter, store), Guarding(access)]
    app = falcon.App(middleware=middleware)
    app.req_options.strip_url_path_trailing_slash = False
    problems.install(app)
    limits = {"max_batch": max_batch, "max_body_bytes": max_body_bytes}
    writing = (store, access, max_body_bytes, meter)
    resources = (
        BatchResource(store, access, meter, **limits), FeaturesResource(*writing), IngestResource(*writing),
        SchemaResource(store), feast.FeastResource(store, access, meter, **limits),
        HealthResource(store, access, ready_share, meter), MetricsResource(meter),
        EntitiesResource(store, access), SampleResource(store, access), StoredResource(store, access), UiResource(),
        pages.RootResource(ROUTES), pages.DocumentResource(ROUTES), pages.DocsResource(ROUTES),
    )  # fmt: skip
    by_class = {type(each): each for each in resources}
    for route in ROUTES:
        app.add_route(route.path, by_class[route.resource], suffix=route.suffix)
    app.add_error_handler(feast.FeastError, feast.FeastError.answer)
    return app


def _batch(written_as: Format, store: FeatureStore, ids: list[str], names: list[str] | None) -> bytes:
    """Return the answer to a batch of features alone."""
    if written_as is JSON:
        return store.get_many_json(ids, names)
    if written_as is ARROW:
        selection, table = store.fetch_columns(ids, names)
        return formats.batch_stream(store.id_name(), ids, selection, table)
    selection, rows = store.fetch_many(ids, names)
    return written_as.encode(formats.entities(written_as, store.id_name(), ids, selection, rows))


def _fresh_batch(  # noqa: PLR0913, PLR0917 - what an answer is made of
    written_as: Format,
    store: FeatureStore,
    ids: list[str],
    names: list[str] | None,
    request: BatchRequest,
    occasion: Occasion | None,
) -> bytes:
    """Return the answer to a batch with metadata, passed values or a `max_age`, or of which is kept what it serves."""
    max_age_ms = _span(request.max_age, "$.max_age")
    metadata, id_name = request.metadata, store.id_name()
    is_plain = max_age_ms is None and not metadata
    if is_plain and occasion is None and written_as is not ARROW:  # times and statuses would be read for nothing
        selection, found = store.fetch_many(ids, names)
        passed = passed_values(request.passed or {}, selection.kinds)
        rows = [row and selection.with_values(row, passed) for row in found]
        return written_as.encode(formats.entities(written_as, id_name, ids, selection, rows))
    selection, entries = store.fetch_fresh(ids, names, max_age_ms=max_age_ms)
    passed = passed_values(request.passed or {}, selection.kinds)
    if occasion is not None:
        store.keep(served_entities(occasion, ids, selection, entries, passed))
    if is_plain and written_as is not ARROW:
        rows = [None if entry is None else selection.with_values(entry.values, passed) for entry in entries]
        return written_as.encode(formats.entities(written_as, id_name, ids, selection, rows))
    if written_as is ARROW:
        statuses = (lambda fresh: list(_statuses(selection, fresh, passed).values())) if metadata else None
        return formats.fresh_stream(id_name, ids, selection, entries, passed, statuses)
    return written_as.encode(
        [
            described(written_as, id_name, entity_id, selection, fresh, metadata=metadata, passed=passed)
            for entity_id, fresh in zip(ids, entries, strict=True)
        ]
    )


def _query_answer(written_as: Format, names: Sequence[str], table: QueryTable, *, metadata: bool) -> dict[str, Any]:
    """Return the answer to a query as objects and lists."""
    answer: dict[str, Any] = {
        "names": names,
        "rows": [[written_as.value(value) for value in row] for row in table.rows],
    }
    if metadata:
        answer["metadata"] = [
            {"entities": entities, "statuses": statuses}
            for entities, statuses in zip(table.entities, table.statuses, strict=True)
        ]
    return answer


def described(  # noqa: PLR0913 - what a response is made of
    written_as: Format,
    id_name: str,
    entity_id: str,
    selection: Selection,
    fresh: Fresh | None,
    *,
    metadata: bool,
    passed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return an entity as responses with metadata have it; `passed` values replace stored ones."""
    if fresh is None:
        return {id_name: entity_id, "features": None}
    passed = passed or {}
    values = {
        name: written_as.value(passed.get(name, value))
        for name, value in zip(selection.names, fresh.values, strict=True)
    }
    answer: dict[str, Any] = {id_name: entity_id, "features": values}
    if metadata:
        statuses = _statuses(selection, fresh, passed)
        answer["metadata"] = {"event_time": fresh.event_time, "age_ms": fresh.age_ms, "statuses": statuses}
    return answer


def _statuses(selection: Selection, fresh: Fresh, passed: Mapping[str, Any]) -> dict[str, Status]:
    """Return the statuses of a row's values when `passed` ones replace stored ones."""
    return {
        name: status_with(passed, name, status) for name, status in zip(selection.names, fresh.statuses, strict=True)
    }


def _named(request: BatchRequest | QueryRequest, names_of: Callable[[str], list[str]]) -> list[str] | None:
    """Return the names in `features`, each once, or those of `service`; None if the request has neither."""
    if request.service is None:
        return request.features and list(dict.fromkeys(request.features))
    if request.features is not None:
        raise falcon.HTTPUnprocessableEntity(description="want either `features` or `service`")
    return names_of(request.service)


def _wanted(req: Request, store: FeatureStore) -> list[str] | None:
    """Return the names of `?features=a,b` or `?service=name`; None if the request has neither."""
    if not req.query_string:
        return None
    check_parameters(req, READ_PARAMETERS)
    service = req.get_param("service")
    values: list[str] | None = req.get_param_as_list("features")
    if values is None:
        return store.service(service) if service else None
    if service:
        raise falcon.HTTPUnprocessableEntity(description="want either features= or service=")
    names = [name for value in values for name in value.split(",") if name]
    if not names:
        raise falcon.HTTPUnprocessableEntity(description="features= names no feature")
    return list(dict.fromkeys(names))


def _freshness(req: Request) -> tuple[bool, int | None] | None:
    """Return whether metadata are wanted, and the `max_age` in ms; None if the request asks for neither."""
    if not req.query_string:
        return None
    metadata = req.get_param_as_bool("metadata", default=False)
    max_age = req.get_param("max_age")
    return (bool(metadata), _span(max_age, "max_age=")) if metadata or max_age else None


def _span(text: str | None, where: str) -> int | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise falcon.HTTPUnprocessableEntity(description=f"{error} - at `{where}`") from error
