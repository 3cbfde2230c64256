"""Reads as the JSON of responses, without plans: the server is asked for them thousands of times a second."""

from collections.abc import Sequence

from featurestore.contract.replies import reading
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.contract.selection import Selection
from featurestore.contract.words import encode_id
from featurestore.store.blocking import FeatureStore
from featurestore.store.plan import OUTDATED, checked
from featurestore.store.reads import batch_calls


def fetch_json(store: FeatureStore, entity_id: str, features: Sequence[str] | None = None) -> bytes | None:
    """Return an entity's features as JSON, None when the id is unknown.

    Arguments and errors are those of `FeatureStore.get`.
    """
    raw_id = encode_id(entity_id)
    selection = store.select(features)
    try:
        return _one(store, selection, entity_id, raw_id)
    except OUTDATED:
        store.schema()
        with reading(GET_FEATURES.name):
            return _one(store, store.select(features), entity_id, raw_id)


def fetch_many_json(store: FeatureStore, entity_ids: list[str], features: Sequence[str] | None = None) -> bytes:
    """Return many entities' features as JSON: a list, with null features for an unknown id.

    Arguments and errors are those of `FeatureStore.get_many`.
    """
    selection = store.select(features)
    try:
        return _many(store, selection, entity_ids)
    except OUTDATED:
        store.schema()
        with reading(GET_FEATURES_BATCH.name):
            return _many(store, store.select(features), entity_ids)


def _one(store: FeatureStore, selection: Selection, entity_id: str, raw_id: bytes) -> bytes | None:
    reply = store.transport.run_encoded(GET_FEATURES, selection.calls.one(raw_id))
    return None if reply is None else selection.renderer.one(entity_id, reply)


def _many(store: FeatureStore, selection: Selection, entity_ids: list[str]) -> bytes:
    encoded = batch_calls(selection.calls, entity_ids)
    replies = checked(store.transport.run_many_encoded(GET_FEATURES_BATCH, encoded))
    return selection.renderer.many(entity_ids, replies)
