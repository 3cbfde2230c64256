"""The names of a store's keys, for tests that look at what is stored, or call scripts themselves."""

import contextlib

import pytest

from featurestore import FeatureStore, NoSchemaError, Transport
from featurestore.keys import keys_of
from featurestore.store.retirement import clear, drop

single_redis = pytest.mark.single_redis
"""Marks tests that are not for clusters, with the reason; see conftest.py."""


def hash_of(store: FeatureStore, entity_id: str) -> str:
    """Return the key of an entity's features, once the store has seen its schema."""
    return store.keys.holding(entity_id.encode()).features(entity_id)


def names_of(store: FeatureStore, entity_id: str) -> list[str]:
    """Return the keys of a call for one entity: the set of ids, the schema, the features."""
    keys = store.keys.holding(entity_id.encode())
    return [keys.members, keys.schema, keys.features(entity_id)]


def beside(transport: Transport, entity: str, members: str | None = None) -> FeatureStore:
    """Return the store of another entity, whose set of ids may have a name of its own; it need not be declared yet."""
    keys = keys_of(entity, clustered=transport.clustered)
    return FeatureStore(transport, keys.with_members(members) if members else keys)


def remove(store: FeatureStore) -> None:
    """Take away all that is stored of an entity, its schema too, whether it has one or not."""
    with contextlib.suppress(NoSchemaError):
        drop(store)
    for _ in clear(store):
        pass
