"""Names of the keys in Redis. Nothing else in the project spells one; scripts get every key in KEYS."""

import msgspec

MAX_ID_BYTES = 256
"""Longest entity id, in bytes of UTF-8."""

SCHEMAS = "featurestore:schemas"
"""The set of the keys of all schemas."""


class Keys(msgspec.Struct, frozen=True):
    """The keys of one entity, such as `user`.

    Attributes:
        entity: The entity's name, which starts every key of it.
        members: The set of all known ids.
        schema: The hash with the declared features.
    """

    entity: str = "user"
    members: str = "all_users"
    schema: str = "user:schema"

    @classmethod
    def of(cls, entity: str, members: str | None = None) -> "Keys":
        """Return the keys of `entity`; `members` names its set where it is not `all_<entity>s`."""
        return cls(entity, members or f"all_{entity}s", f"{entity}:schema")

    @staticmethod
    def entity_of(schema: bytes) -> str:
        """Return the entity whose schema has that key."""
        return schema.decode().removesuffix(":schema")

    def features(self, entity_id: str) -> str:
        """Return the key of the hash that holds one entity's features."""
        return f"{self.entity}:{entity_id}:features"

    def features_of_raw(self, raw_id: bytes) -> bytes:
        """Return the same for an id as Redis has it, which need not be text."""
        return b"%b:%b:features" % (self.entity.encode(), raw_id)
