"""Routes for people and pages: which entities there are, a sample of ids, and what Redis holds of an id."""

import falcon
import msgspec
from falcon import Request, Response

from featurestore.api.access import Access
from featurestore.api.bodies import check_parameters
from featurestore.api.preference import preferred
from featurestore.api.writes import store_of
from featurestore.contract.json_rows import encode
from featurestore.contract.words import encode_id
from featurestore.store.blocking import FeatureStore
from featurestore.store.inspection import sampled, stored_states
from featurestore.store.inventory import entities_held

_JSON = falcon.MEDIA_JSON
_SAMPLE = 100
MOST_SAMPLED = 1000
"""Most ids in a sample."""

MOST_STORED = 50
"""Most ids that one request may look at."""


class EntitiesResource:
    """`GET /entities`: the entities that Redis holds, and the one of routes that name none."""

    def __init__(self, store: FeatureStore, access: Access) -> None:
        self._store, self._access = store, access

    def on_get(self, req: Request, resp: Response) -> None:
        """Answer with each entity's name, its schema's version, and how many features and ids it has."""
        check_parameters(req, ())
        entities = [held.shown() for held in entities_held(self._store) if self._access.reaches(req, held.entity)]
        resp.content_type = _JSON
        resp.data = encode({"default": self._store.keys.entity, "entities": entities})

    on_head = on_get


class SampleResource:
    """`GET /entities/{entity}/sample?count=100`: known ids, picked at random."""

    def __init__(self, store: FeatureStore, access: Access) -> None:
        self._store, self._access = store, access

    def on_get(self, req: Request, resp: Response, entity: str) -> None:
        """Answer with some ids, and how many are known."""
        check_parameters(req, ("count",))
        count = req.get_param_as_int("count", default=_SAMPLE)
        if not 1 <= count <= MOST_SAMPLED:
            raise falcon.HTTPUnprocessableEntity(description=f"count={count}: want 1 to {MOST_SAMPLED}")
        self._access.spend(req, count)
        store = preferred(store_of(self._store, entity), req)
        found = sampled(store, count)
        resp.content_type = _JSON
        resp.data = encode({"entity": entity, "known": found.known, "ids": found.ids})

    on_head = on_get


class StoredResource:
    """`GET /entities/{entity}/stored?id=a&id=b`: what Redis holds of ids, as it is stored."""

    def __init__(self, store: FeatureStore, access: Access) -> None:
        self._store, self._access = store, access

    def on_get(self, req: Request, resp: Response, entity: str) -> None:
        """Answer for each id with the state of its packed row, its event times, and its texts."""
        check_parameters(req, ("id",))
        ids = req.get_param_as_list("id") or []
        if not 1 <= len(ids) <= MOST_STORED:
            raise falcon.HTTPUnprocessableEntity(description=f"{len(ids)} ids: want 1 to {MOST_STORED}, each as id=")
        for each in ids:
            encode_id(each)
        self._access.spend(req, len(ids))
        store = preferred(store_of(self._store, entity), req)
        schema, states = stored_states(store, ids)
        id_name = store.id_name()
        stored = [{id_name: each, **msgspec.to_builtins(state)} for each, state in zip(ids, states, strict=True)]
        resp.content_type = _JSON
        resp.data = encode({"entity": entity, "layout": schema.layout, "stored": stored})

    on_head = on_get
