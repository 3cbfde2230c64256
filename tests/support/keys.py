"""The names of keys, for tests that look at them."""

from featurestore import AsyncFeatureStore, FeatureStore, Keys


def single(store: FeatureStore | AsyncFeatureStore) -> Keys:
    """Return the names of a store's keys on a single Redis, where an entity has one set of them."""
    keys = store.keys
    assert isinstance(keys, Keys), "the store's Redis is a cluster: ask `keys.holding` or `keys.parts`"
    return keys
