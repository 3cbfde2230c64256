"""What entities a Redis holds."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from featurestore.errors import FeatureStoreError
from featurestore.keys import Keys, PartitionedKeys, keys_of
from featurestore.schema.notes import Note
from featurestore.schema.stored import Schema
from featurestore.store.blocking import FeatureStore


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entity that a Redis holds.

    Attributes:
        entity: Its name.
        version: Of its schema.
        features: How many are declared.
        ids: How many are known; None where that cannot be told.
        services: The names of its services.
        retiring: Features whose values are leaving the hashes.
        note: What people are told of it.
        wrong: What keeps it from being read: it is being dropped, say.
        partitions: In a cluster, how many it has; else 0.
    """

    entity: str
    version: int = 0
    features: int = 0
    ids: int | None = None
    services: tuple[str, ...] = ()
    retiring: tuple[str, ...] = ()
    note: Note = Note()
    wrong: str = ""
    partitions: int = 0

    def shown(self) -> dict[str, Any]:
        """Return the entity as JSON for people and programs."""
        found: dict[str, Any] = {
            "entity": self.entity, "version": self.version, "features": self.features, "ids": self.ids,
            "services": list(self.services), **self.note.shown(),
        }  # fmt: skip
        if self.retiring:
            found["retiring"] = list(self.retiring)
        if self.partitions:
            found["partitions"] = self.partitions
        if self.wrong:
            found["wrong"] = self.wrong
        return found


def entities_held(store: FeatureStore) -> Iterator[Held]:
    """Yield the entities that have a schema, and those that are being dropped, by name.

    Raises:
        FeatureStoreError: Redis cannot serve. What is wrong with one entity alone is told with it.
    """
    command = store.transport.command
    for key in sorted({*command("SMEMBERS", store.keys.schemas), store.keys.root.encode()}):
        stored = command("HGETALL", key) if command("TYPE", key) == b"hash" else []
        if stored:
            yield _held(store, Keys.entity_of(key), stored)


def _parts(store: FeatureStore, name: str, schema: Schema) -> Sequence[Keys]:
    keys = keys_of(name, clustered=store.transport.clustered).with_members(schema.members)
    return (keys.with_count(schema.partitions) if isinstance(keys, PartitionedKeys) else keys).parts


def _held(store: FeatureStore, name: str, stored: list[bytes]) -> Held:
    try:
        schema = Schema.from_reply(name, stored)
    except FeatureStoreError as error:
        return Held(name, wrong=str(error))
    try:
        ids, wrong = sum(store.transport.command("SCARD", part.members) for part in _parts(store, name, schema)), ""
    except FeatureStoreError as error:
        ids, wrong = None, f"the set of ids cannot be read: {error}"
    return Held(
        name, schema.version, len(schema.features), ids, tuple(sorted(schema.services)),
        tuple(sorted(schema.retiring)), schema.notes.get("", Note()), wrong, schema.partitions,
    )  # fmt: skip
