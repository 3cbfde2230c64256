"""The names of all keys in Redis. No other module spells one, and scripts get every key in KEYS."""

import re

import msgspec

MAX_ID_BYTES = 256
"""Longest entity id, in bytes of UTF-8."""

SCHEMAS = "featurestore:schemas"
"""The set of the keys of all schemas."""

ENTITY_NAME = re.compile(r"[A-Za-z_][\w-]{0,63}")
"""An entity's name; the whole name must match."""


class Keys(msgspec.Struct, frozen=True):
    """The keys of one entity, such as `user`.

    Attributes:
        entity: The entity's name. Every key starts with it.
        members: Key of the set of known ids; `all_<entity>s` by default.
        schema: Key of the hash with the declared features; `<entity>:schema` by default.
    """

    entity: str = "user"
    members: str = ""
    schema: str = ""

    def __post_init__(self) -> None:
        """Fill in the defaults once, so that reads find every key ready."""
        if not self.members:
            msgspec.structs.force_setattr(self, "members", f"all_{self.entity}s")
        if not self.schema:
            msgspec.structs.force_setattr(self, "schema", f"{self.entity}:schema")

    @classmethod
    def of(cls, entity: str, members: str | None = None) -> "Keys":
        """Return the keys of `entity`; `members` is what its schema says, None if it says nothing."""
        return cls(entity, members or "")

    @staticmethod
    def entity_of(schema: bytes) -> str:
        """Return the entity whose schema is stored under that key."""
        return schema.decode().removesuffix(":schema")

    def features(self, entity_id: str) -> str:
        """Return the key of the hash that holds one entity's features."""
        return f"{self.entity}:{entity_id}:features"

    def features_of_raw(self, raw_id: bytes) -> bytes:
        """Return the same key for an id as Redis holds it, which need not be text."""
        return b"%b:%b:features" % (self.entity.encode(), raw_id)

    def counted(self, source: str) -> str:
        """Return the key of the set of entries that were counted of a stream; no id's features can have it."""
        return f"{self.entity}:{source}:counted"

    def id_of(self, key: bytes) -> bytes:
        """Return the id, as Redis holds it, whose features are in the hash at that key."""
        return key[len(self.entity.encode()) + 1 : -len(b":features")]
