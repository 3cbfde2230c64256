"""The names of all keys in Redis. No other module spells one, and scripts get every key in KEYS.

On a single Redis an entity has one set of names. In a cluster the keys of a call have to be in one hash slot, so its
ids are split into partitions. Each partition has names of its own with a hash tag, `{…}`, in front, which alone says
which slot they are in: its share of the set of known ids, its hashes, and a copy of the schema.
"""

import functools
import re
from binascii import crc_hqx
from collections.abc import Sequence

import msgspec

from featurestore.errors import NoSchemaError

MAX_ID_BYTES = 256
"""Longest entity id, in bytes of UTF-8."""

SCHEMAS = "featurestore:schemas"
"""The set of the keys of all schemas."""

_BUCKETS = "featurestore:ratelimit:"

MARK = "featurestore:written"
"""A key that is written behind writes that replicas confirm, with the tag of a partition in front; it expires soon."""

ENTITY_NAME = re.compile(r"[A-Za-z_][\w-]{0,63}")
"""An entity's name; the whole name must match."""

SLOTS = 16_384
"""Hash slots of a cluster."""

PARTITIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""How many partitions an entity may have."""

_ROOT_TAG = "{featurestore}"


class Keys(msgspec.Struct, frozen=True):
    """The keys of one entity, such as `user`, on a single Redis; or in one partition of a cluster.

    Attributes:
        entity: The entity's name.
        members: Key of the set of known ids; `all_<entity>s` by default.
        schema: Key of the hash with the declared features; `<entity>:schema` by default.
        tag: The partition's hash tag with its braces; empty on a single Redis. Every key starts with it but for the set
            of ids, which is `all_<tag><entity>s` by default.
    """

    entity: str = "user"
    members: str = ""
    schema: str = ""
    tag: str = ""

    def __post_init__(self) -> None:
        """Fill in the defaults once, so that reads find every key ready."""
        if not self.members:
            msgspec.structs.force_setattr(self, "members", f"all_{self.tag}{self.entity}s")
        if not self.schema:
            msgspec.structs.force_setattr(self, "schema", f"{self.tag}{self.entity}:schema")

    @classmethod
    def of(cls, entity: str, members: str | None = None) -> "Keys":
        """Return the keys of `entity`; `members` is what its schema says, None if it says nothing."""
        return cls(entity, members or "")

    @property
    def root(self) -> str:
        """Key of the schema that is read and applied: the only one."""
        return self.schema

    @property
    def schemas(self) -> str:
        """Key of the set of the keys of all schemas."""
        return SCHEMAS

    @property
    def parts(self) -> "Sequence[Keys]":
        """The keys of every partition: these alone."""
        return (self,)

    def holding(self, raw_id: bytes) -> "Keys":  # noqa: ARG002 - there is one place for all
        """Return the keys of the partition that has this id: these."""
        return self

    def with_members(self, members: str | None) -> "Keys":
        """Return the keys where the schema names that set of known ids, None if it names none."""
        return Keys(self.entity, members or "", self.schema, self.tag)

    @staticmethod
    def entity_of(schema: bytes) -> str:
        """Return the entity whose schema is stored under that key."""
        return schema.decode().removeprefix(_ROOT_TAG).removesuffix(":schema")

    def features(self, entity_id: str) -> str:
        """Return the key of the hash that holds one entity's features."""
        return f"{self.tag}{self.entity}:{entity_id}:features"

    def features_of_raw(self, raw_id: bytes) -> bytes:
        """Return the same key for an id as Redis holds it, which need not be text."""
        return b"%b%b:%b:features" % (self.tag.encode(), self.entity.encode(), raw_id)

    def counted(self, source: str) -> str:
        """Return the key of the set of entries that were counted of a stream; no id's features can have it."""
        return f"{self.tag}{self.entity}:{source}:counted"

    def served(self, service: str) -> str:
        """Return the key of the stream of what a service was served; no id's features can have it."""
        return f"{self.tag}{self.entity}:{service}:served"

    def id_of(self, key: bytes) -> bytes:
        """Return the id, as Redis holds it, whose features are in the hash at that key."""
        return key[len(self.tag) + len(self.entity.encode()) + 1 : -len(b":features")]


class PartitionedKeys(msgspec.Struct, frozen=True):
    """The keys of one entity in a cluster.

    An id is in the partition whose share of the hash slots has the id's own slot. Which of them, and how many there
    are, never changes while the entity is stored: the schema tells it.

    Attributes:
        entity: The entity's name.
        count: How many partitions there are; 0 while that is not known.
        members_name: The name of the set of known ids, if the schema gives it another one. Each partition's has the
            hash tag in front.
    """

    entity: str = "user"
    count: int = 0
    members_name: str | None = None

    @property
    def root(self) -> str:
        """Key of the schema that is read and applied first; each partition has a copy."""
        return f"{_ROOT_TAG}{self.entity}:schema"

    @property
    def draft(self) -> str:
        """Key of the schema as it was changed last, whether every partition has it or not; in the root's slot."""
        return f"{_ROOT_TAG}draft:{self.entity}:schema"

    @property
    def schemas(self) -> str:
        """Key of the set of the root keys of all schemas."""
        return f"{_ROOT_TAG}{SCHEMAS}"

    @property
    def parts(self) -> Sequence[Keys]:
        """The keys of every partition.

        Raises:
            NoSchemaError: How many there are is not known, since no schema was read.
        """
        if not self.count:
            raise NoSchemaError(f"no schema of {self.entity} has been applied")
        return _parts(self.entity, self.count, self.members_name)

    def holding(self, raw_id: bytes) -> Keys:
        """Return the keys of the partition that has this id; errors as in `parts`."""
        return self.parts[partition_of(raw_id, self.count)]

    def with_members(self, members: str | None) -> "PartitionedKeys":
        """Return the keys where the schema names that set of known ids, None if it names none."""
        return PartitionedKeys(self.entity, self.count, members)

    def with_count(self, count: int) -> "PartitionedKeys":
        """Return the keys of so many partitions."""
        return PartitionedKeys(self.entity, count, self.members_name)


EntityKeys = Keys | PartitionedKeys
"""The keys of an entity, on whatever Redis."""


def bucket_of(name: str) -> str:
    """Return the key of the bucket of tokens of the API keys with that name; in a cluster it has a slot of its own."""
    return f"{_BUCKETS}{name}"


def keys_of(entity: str, *, clustered: bool) -> EntityKeys:
    """Return the keys of an entity whose schema was not read yet."""
    return PartitionedKeys(entity) if clustered else Keys(entity)


def keys_on(keys: EntityKeys, *, clustered: bool) -> EntityKeys:
    """Return the keys of the same entity as they are in a cluster, or not: `Keys("item")` serves for both.

    Those of one partition stay what they are.
    """
    if not clustered or isinstance(keys, PartitionedKeys) or keys.tag:
        return keys
    members = None if keys.members == Keys(keys.entity).members else keys.members
    return PartitionedKeys(keys.entity, members_name=members)


def slot_of(key: bytes) -> int:
    """Return the hash slot of a key: CRC-16 of its hash tag, or of all of it."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def partition_of(raw_id: bytes, count: int) -> int:
    """Return which of `count` partitions has an id."""
    return (crc_hqx(raw_id, 0) % SLOTS) * count // SLOTS


@functools.cache
def tags(count: int) -> tuple[str, ...]:
    """Return the hash tag of each of `count` partitions, with braces.

    A partition's tag is the least decimal number whose slot is the middle of the partition's share of the slots. Nodes
    have runs of slots, so each node has as many partitions as its share of the slots, but for one.
    """
    middles = {(2 * number + 1) * SLOTS // (2 * count): number for number in range(count)}
    found: dict[int, str] = {}
    candidate = 0
    while len(found) < count:
        number = middles.get(crc_hqx(b"%d" % candidate, 0) % SLOTS)
        if number is not None:
            found.setdefault(number, f"{{{candidate}}}")
        candidate += 1
    return tuple(found[number] for number in range(count))


@functools.lru_cache(maxsize=1024)
def _parts(entity: str, count: int, members: str | None) -> tuple[Keys, ...]:
    return tuple(Keys(entity, f"{tag}{members}" if members else "", tag=tag) for tag in tags(count))
