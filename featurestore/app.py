"""The HTTP interface: a Falcon app over a store. Each resource decodes with msgspec, asks the store and encodes."""

from typing import Annotated

import falcon
import msgspec
from falcon import Request, Response

from featurestore import problems
from featurestore.errors import FeatureStoreError
from featurestore.rendering import encode
from featurestore.store import FeatureStore

_JSON = falcon.MEDIA_JSON


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /features/batch`.

    Attributes:
        user_ids: The ids, in the order wanted; duplicates are fine.
        features: The features wanted; all declared ones when left out.
    """

    user_ids: Annotated[list[str], msgspec.Meta(min_length=1)]
    features: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None


class FeaturesResource:
    """`GET /features/{user_id}`: one entity's features."""

    def __init__(self, store: FeatureStore) -> None:
        self._fetch = store.fetch_json
        self._noun = store.keys.entity.capitalize()

    def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        """Answer with the features, all or those of `?features=a,b`."""
        if "\ufffd" in user_id:
            _refuse_undecodable(req)
        body = self._fetch(user_id, _wanted(req) if req.query_string else None)
        if body is None:
            raise falcon.HTTPNotFound(description=f"{self._noun} {user_id} not found")
        resp.content_type = _JSON
        resp.data = body


class BatchResource(FeaturesResource):
    """`POST /features/batch`: many entities' features; `GET` is for the entity whose id is `batch`."""

    def __init__(self, store: FeatureStore, *, max_batch: int, max_body_bytes: int) -> None:
        super().__init__(store)
        self._fetch_many = store.fetch_many_json
        self._max_batch = max_batch
        self._max_body_bytes = max_body_bytes
        self._decode = msgspec.json.Decoder(BatchRequest).decode

    def on_get(self, req: Request, resp: Response, user_id: str = "batch") -> None:
        """Answer for the entity with this id."""
        super().on_get(req, resp, user_id)

    def on_post(self, req: Request, resp: Response) -> None:
        """Answer with a list in the order asked."""
        request = self._read(req)
        ids = request.user_ids
        if len(ids) > self._max_batch:
            raise falcon.HTTPUnprocessableEntity(
                description=f"{len(ids)} ids, at most {self._max_batch} - at `$.user_ids`"
            )
        resp.data = self._fetch_many(ids, request.features)
        resp.content_type = _JSON

    def _read(self, req: Request) -> BatchRequest:
        most, length = self._max_body_bytes, req.content_length
        if length is not None and length > most:
            raise falcon.HTTPContentTooLarge(description=f"the body may have at most {most} bytes")
        try:
            body = req.env["wsgi.input"].read(most + 1 if length is None else length)
        except OSError as error:
            raise falcon.HTTPBadRequest(description=f"the body cannot be read: {error}") from error
        if len(body) > most:
            raise falcon.HTTPContentTooLarge(description=f"the body may have at most {most} bytes")
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise falcon.HTTPUnprocessableEntity(description=str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise falcon.HTTPBadRequest(title="Malformed JSON", description=str(error)) from error


class HealthResource:
    """Whether requests can be served: `/health` and `/readyz` ask Redis, `/livez` asks nobody."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store

    def on_get(self, _req: Request, resp: Response) -> None:
        """Answer 200 when Redis answers and holds a schema, else 503 with the reason."""
        resp.content_type = _JSON
        try:
            self._store.schema()
        except FeatureStoreError as error:
            resp.status = falcon.HTTP_SERVICE_UNAVAILABLE
            resp.data = encode({"status": "unhealthy", "reason": str(error)})
        else:
            resp.data = encode({"status": "healthy"})

    def on_get_live(self, _req: Request, resp: Response) -> None:
        """Answer 200: the process takes requests."""
        resp.content_type = _JSON
        resp.data = b'{"status":"alive"}'


class SchemaResource:
    """`GET /schema`: the declared features and their types."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store

    def on_get(self, _req: Request, resp: Response) -> None:
        """Answer with what Redis holds now."""
        schema = self._store.schema()
        resp.content_type = _JSON
        resp.data = encode({"entity": self._store.keys.entity, "version": schema.version, "features": schema.features})


def create_app(
    store: FeatureStore, *, max_batch: int = 1000, max_body_bytes: int = 1_048_576
) -> falcon.App[Request, Response]:
    """Return the WSGI app that serves `store`.

    Args:
        store: Where the features are; its transport must suit the server's threads or greenlets.
        max_batch: Most ids in one batch.
        max_body_bytes: Largest request body.
    """
    app = falcon.App()
    app.req_options.strip_url_path_trailing_slash = False
    problems.install(app)
    health = HealthResource(store)
    app.add_route("/features/batch", BatchResource(store, max_batch=max_batch, max_body_bytes=max_body_bytes))
    # Of the kind `path`, since a slash that was sent as %2F is one by now and belongs to the id.
    app.add_route("/features/{user_id:path}", FeaturesResource(store))
    app.add_route("/health", health)
    app.add_route("/readyz", health)
    app.add_route("/livez", health, suffix="live")
    app.add_route("/schema", SchemaResource(store))
    return app


def _wanted(req: Request) -> list[str] | None:
    """Return the names in `?features=a,b`, None when there is no such parameter."""
    values: list[str] | None = req.get_param_as_list("features")
    if values is None:
        return None
    names = [name for value in values for name in value.split(",") if name]
    if not names:
        raise falcon.HTTPUnprocessableEntity(description="features= names no feature")
    return names


def _refuse_undecodable(req: Request) -> None:
    """Falcon puts U+FFFD in the place of bytes that are not UTF-8; refuse those, but not an id that has U+FFFD."""
    try:
        req.env["PATH_INFO"].encode("latin-1").decode()
    except UnicodeDecodeError as error:
        raise falcon.HTTPUnprocessableEntity(description="the id is not valid UTF-8") from error
