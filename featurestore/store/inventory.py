"""What entities a Redis holds."""

from collections.abc import Iterator
from typing import Any

import msgspec

from featurestore.errors import FeatureStoreError
from featurestore.keys import SCHEMAS, Keys
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
    """

    entity: str
    version: int = 0
    features: int = 0
    ids: int | None = None
    services: tuple[str, ...] = ()
    retiring: tuple[str, ...] = ()
    note: Note = Note()
    wrong: str = ""

    def shown(self) -> dict[str, Any]:
        """Return the entity as JSON for people and programs."""
        found: dict[str, Any] = {
            "entity": self.entity, "version": self.version, "features": self.features, "ids": self.ids,
            "services": list(self.services), **self.note.shown(),
        }  # fmt: skip
        if self.retiring:
            found["retiring"] = list(self.retiring)
        if self.wrong:
            found["wrong"] = self.wrong
        return found


def entities_held(store: FeatureStore) -> Iterator[Held]:
    """Yield the entities that have a schema, and those that are being dropped, by name.

    Raises:
        FeatureStoreError: Redis cannot serve. What is wrong with one entity alone is told with it.
    """
    command = store.transport.command
    for key in sorted({*command("SMEMBERS", SCHEMAS), store.keys.schema.encode()}):
        stored = command("HGETALL", key) if command("TYPE", key) == b"hash" else []
        if stored:
            yield _held(store, Keys.entity_of(key), stored)


def _held(store: FeatureStore, name: str, stored: list[bytes]) -> Held:
    try:
        schema = Schema.from_reply(name, stored)
    except FeatureStoreError as error:
        return Held(name, wrong=str(error))
    try:
        ids, wrong = store.transport.command("SCARD", Keys.of(name, schema.members).members), ""
    except FeatureStoreError as error:
        ids, wrong = None, f"the set of ids cannot be read: {error}"
    return Held(
        name, schema.version, len(schema.features), ids, tuple(sorted(schema.services)),
        tuple(sorted(schema.retiring)), schema.notes.get("", Note()), wrong,
    )  # fmt: skip
