"""What the stores do, as plans: generators that yield what to send and are sent the replies, without any I/O.

`FeatureStore` and `AsyncFeatureStore` drive the same plans, each over a transport of its kind.
"""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

import msgspec

from featurestore.contract.arguments import (
    listed_vectors,
    passed_values,
    plain_id_text,
    plain_ids,
    plain_max_age,
    plain_name,
    plain_names,
    plain_values,
    status_with,
)
from featurestore.contract.read_calls import Packer
from featurestore.contract.replies import reading
from featurestore.contract.resp import Reply, Word, pack_call
from featurestore.contract.scripts import APPLY_SCHEMA, GET_FEATURES, GET_FEATURES_BATCH, Script
from featurestore.contract.selection import Fresh, Selection, selection_of
from featurestore.contract.words import encode_id
from featurestore.errors import (
    BadArgumentsError,
    FeatureStoreError,
    NoSchemaError,
    SchemaChangedError,
    SchemaError,
    UndeclaredFeatureError,
    UnknownEntityError,
)
from featurestore.keys import ENTITY_NAME, SCHEMAS, Keys
from featurestore.results import Description, MaxAge
from featurestore.schema.definition import Definition
from featurestore.schema.stored import Schema
from featurestore.schema.types import Row, Value
from featurestore.schema.values import shown

IDS_PER_CALL = 100
"""Most ids or rows in one script call: about 0.5 ms of Redis's one thread, during which nobody else is served."""

OUTDATED = (SchemaChangedError, UndeclaredFeatureError, msgspec.DecodeError, UnicodeDecodeError)
"""What a read meets when Redis has another schema than was last seen; the last ones also where a row is damaged."""

_MOST_SELECTIONS = 256
_SCHEMA_RECHECK_S = 1.0
_MOST_ENTITIES = 256

T = TypeVar("T")


class Calls(msgspec.Struct, frozen=True, gc=False):
    """A step: call a script once for each of `packed`, in one write.

    It is answered with a reply for each, error replies in place as exceptions; see `Transport.run_many_packed`.
    """

    script: Script
    packed: list[bytes]


class Command(msgspec.Struct, frozen=True, gc=False):
    """A step: run one plain command. It is answered with the reply."""

    words: tuple[Word, ...]


Step = Calls | Command

Plan = Generator[Step, Any, T]
"""Yields steps, is sent their answers, returns the result. Failures of the link end it and are not sent to it."""


def call(script: Script, packed: bytes) -> Plan[Reply]:
    """Call a script once; an error reply is raised."""
    (reply,) = yield Calls(script, [packed])
    if isinstance(reply, FeatureStoreError):
        raise reply
    return reply


class ReadPlans:
    """An entity's schema as last seen, and the plans of the reads.

    Args:
        keys: The entity's keys.

    Attributes:
        keys: The entity's keys.
        selections: What was selected lately, by the names without duplicates, None for all of the packed row.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.selections: dict[tuple[str, ...] | None, Selection] = {}
        self._schema: Schema | None = None
        self._schema_read_at = self._sure_until = 0.0
        self._checking: Selection | None = None
        self._entities: dict[str, Self] = {}

    # Schema

    def schema(self) -> Plan[Schema]:
        """Read the schema from Redis and use it from now on; NoSchemaError when none is stored."""
        schema = Schema.from_reply(self.keys.entity, (yield Command(("HGETALL", self.keys.schema))))
        if schema != self._schema:
            self.selections = {}
        self._schema, self._schema_read_at = schema, time.monotonic()
        self._sure_until = self._schema_read_at + _SCHEMA_RECHECK_S
        return schema

    def seen_schema(self) -> Plan[Schema]:
        """Return the schema as last seen; read it where it never was."""
        return self._schema or (yield from self.schema())

    def apply(self, definition: Definition) -> Plan[int]:
        """Declare the features of `definition` beside the others; return the schema's version."""
        words = definition.words()
        if definition.members is not None:
            yield from self._check_members(definition.members)
        for entity, features in definition.references().items():
            if entity != self.keys.entity or not features.keys() <= definition.features.keys():
                yield from self._check_references(entity, features, definition)
        reply = yield from call(APPLY_SCHEMA, pack_call(APPLY_SCHEMA, (self.keys.schema, SCHEMAS), words))
        return int(reply)

    def _check_members(self, members: str) -> Plan[None]:
        """Return when no other entity has that set; to sweep it would take out the other's ids."""
        for name in (yield from self.entities()):
            if name != self.keys.entity and (yield from self.entity(name)).keys.members == members:
                raise SchemaError(f"members cannot be {members!r}: that is the set of all ids of {name}")

    def _check_references(
        self, entity: str, features: Mapping[str, Sequence[str]], definition: Definition
    ) -> Plan[None]:
        """Return when an entity has the features that services name, or has no schema yet, unless it is this one."""
        own = entity == self.keys.entity
        declared = set(definition.features) if own else set()
        try:
            declared |= (yield from (yield from self.entity(entity)).schema()).features.keys()
        except NoSchemaError:
            if not own:
                return
        for feature, services in features.items():
            if feature not in declared:
                raise UndeclaredFeatureError(
                    f"{entity}:{feature} of service {services[0]} is not declared in the schema of {entity}"
                )

    def entities(self) -> Plan[list[str]]:
        """Return the names of all entities that have a schema; this one also where its schema is in no set."""
        names = set()
        for schema in {*(yield Command(("SMEMBERS", SCHEMAS))), self.keys.schema.encode()}:
            if (yield Command(("EXISTS", schema))):  # somebody may have deleted it
                names.add(Keys.entity_of(schema))
        return sorted(names)

    def service(self, name: str) -> Plan[list[str]]:
        """Return the features that the schema lists under that name, those of this entity without its prefix."""
        prefix = f"{self.keys.entity}:"
        return [feature.removeprefix(prefix) for feature in (yield from self.listed(name))]

    def listed(self, name: str) -> Plan[list[str]]:
        """Return what the schema lists under that name, as it does."""
        schema = yield from self.seen_schema()
        if self._may_be_outdated():  # no reply of the scripts tells of a list that changed
            self._schema_read_at = time.monotonic()  # one look is enough, for all who ask meanwhile
            schema = yield from self.schema()
        if name not in schema.services:
            raise UndeclaredFeatureError(f"no service {name} is declared in the schema of {self.keys.entity}")
        return schema.services[name]

    def lists(self, service: str) -> bool:
        """Tell whether the schema as last seen, if it ever was, has that service."""
        return self._schema is not None and service in self._schema.services

    def declared(self, columns: Sequence[str]) -> Plan[Mapping[str, str]]:
        """Return the declared features' types, read anew where one of `columns` is not among those last seen."""
        schema = yield from self.seen_schema()
        if not schema.features.keys() >= set(columns) and self._may_be_outdated():
            schema = yield from self.schema()
        return schema.features

    def select(self, features: Sequence[str] | None = None) -> Plan[Selection]:
        """Return the selection of `features`, all declared ones when left out; asks Redis only when it must."""
        wanted = None if features is None else tuple(dict.fromkeys(features))
        selection = self.selections.get(wanted)
        if selection is None:
            if wanted == ():
                raise BadArgumentsError("name at least one feature, or leave the names out for all")
            schema = yield from self.seen_schema()
            try:
                selection = selection_of(schema, wanted, schema.id_name(self.keys.entity))
            except UndeclaredFeatureError:
                if not self._may_be_outdated():
                    raise
                schema = yield from self.schema()
                selection = selection_of(schema, wanted, schema.id_name(self.keys.entity))
            if len(self.selections) >= _MOST_SELECTIONS:
                self.selections = {}
            selection.packer = Packer(self.keys, selection.words)
            self.selections[wanted] = selection
            if wanted is None:
                checking = selection_of(schema, None, schema.id_name(self.keys.entity), current=True)
                checking.packer = Packer(self.keys, checking.words)
                self._checking = checking
        elif wanted is None and self.unsure and self._checking is not None:
            self._sure_until = time.monotonic() + _SCHEMA_RECHECK_S
            selection = self._checking
        return selection

    @property
    def unsure(self) -> bool:
        """Whether the next read of all features has to make sure that the schema has this layout still.

        A stored row can match a schema that has since changed, so one read a second makes sure.
        """
        return time.monotonic() >= self._sure_until

    def _may_be_outdated(self) -> bool:
        return time.monotonic() - self._schema_read_at > _SCHEMA_RECHECK_S

    # Reading

    def get(
        self, entity_id: str, features: Iterable[str] | None, service: str | None, max_age: MaxAge
    ) -> Plan[dict[str, Value | None] | None]:
        """Return an entity's features by name, None when the id is unknown."""
        entity_id = plain_id_text(entity_id)
        if max_age is not None:
            return (yield from self.get_many([entity_id], features, service, max_age, None))[0]
        names = yield from self._wanted(plain_names(features, service), service)
        selection, row = yield from self.fetch(entity_id, names)
        return None if row is None else selection.values(row)

    def get_many(
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None,
        service: str | None,
        max_age: MaxAge,
        passed: Mapping[str, Any] | None,
    ) -> Plan[list[dict[str, Value | None] | None]]:
        """Return what `get` returns for each id; `passed` values take the place of stored ones."""
        ids, names, max_age_ms = plain_ids(entity_ids), plain_names(features, service), plain_max_age(max_age)
        given = None if passed is None else plain_values(passed, "passed")
        if not ids:
            return []
        names = yield from self._wanted(names, service)
        if max_age_ms is None:
            selection, rows = yield from self.fetch_many(ids, names)
        else:
            selection, entries = yield from self.fetch_fresh(ids, names, max_age_ms)
            rows = [None if entry is None else entry.values for entry in entries]
        found = [None if row is None else selection.values(row) for row in rows]
        if given:
            values = listed_vectors(passed_values(given, selection.kinds))
            for known in filter(None, found):
                known.update(values)
        return found

    def describe_many(
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None,
        service: str | None,
        max_age: MaxAge,
        passed: Mapping[str, Any] | None,
    ) -> Plan[list[Description | None]]:
        """Return each id's features with their age, None for an unknown id."""
        ids, names, max_age_ms = plain_ids(entity_ids), plain_names(features, service), plain_max_age(max_age)
        given = {} if passed is None else plain_values(passed, "passed")
        if not ids:
            return []
        names = yield from self._wanted(names, service)
        selection, entries = yield from self.fetch_fresh(ids, names, max_age_ms)
        values = listed_vectors(passed_values(given, selection.kinds))
        return [
            None
            if entry is None
            else Description(
                selection.values(entry.values) | values,
                entry.event_time,
                entry.age_ms,
                {
                    name: status_with(values, name, status)
                    for name, status in zip(selection.names, entry.statuses, strict=True)
                },
            )
            for entry in entries
        ]

    def fetch(self, entity_id: str, features: Sequence[str] | None) -> Plan[tuple[Selection, Row | None]]:
        """Return an entity's row, None when the id is unknown, and the selection that names its columns."""
        raw_id = encode_id(entity_id)

        def read(selection: Selection) -> Plan[Row | None]:
            reply = yield from call(GET_FEATURES, selection.packer.one(raw_id))
            return None if reply is None else selection.decode(reply)

        return self._read(features, read)

    def fetch_many(
        self, entity_ids: Sequence[str], features: Sequence[str] | None
    ) -> Plan[tuple[Selection, list[Row | None]]]:
        """Return a row for each id, None for an unknown one, and the selection that names their columns."""

        def read(selection: Selection) -> Plan[list[Row | None]]:
            replies = yield from batches(packed_batches(selection.packer, entity_ids))
            return [row for reply in replies for row in selection.decode_many(reply)]

        return self._read(features, read)

    def fetch_fresh(
        self, entity_ids: Sequence[str], features: Sequence[str] | None, max_age_ms: int | None
    ) -> Plan[tuple[Selection, list[Fresh | None]]]:
        """Return for each id its row with the age and status of each value; None for an unknown one."""
        options = ["?metadata"] if max_age_ms is None else ["?metadata", f"?max_age={max_age_ms}"]

        def read(selection: Selection) -> Plan[list[Fresh | None]]:
            packer = Packer(self.keys, (*options, *selection.words))
            replies = yield from batches(packed_batches(packer, entity_ids))
            return [entry for reply in replies for entry in selection.decode_fresh(reply)]

        return self._read(features, read)

    def _read(self, features: Sequence[str] | None, read: Callable[[Selection], Plan[T]]) -> Plan[tuple[Selection, T]]:
        """Read with the schema as last seen; read the schema again when Redis turns out to have another one."""
        selection = yield from self.select(features)
        try:
            return selection, (yield from read(selection))
        except OUTDATED:
            yield from self.schema()
            selection = yield from self.select(features)
            with reading("a read"):
                return selection, (yield from read(selection))

    def _wanted(self, names: list[str] | None, service: str | None) -> Plan[list[str] | None]:
        return names if service is None else (yield from self.service(str.__str__(service)))

    # Other entities

    def entity(self, name: str) -> Plan[Self]:
        """Return another entity's plans, of the same class as these; UnknownEntityError when it has no schema."""
        name = plain_name(name, "an entity's name")
        if name == self.keys.entity:
            return self
        known = self._entities.get(name)
        if known is None:
            if not ENTITY_NAME.fullmatch(name):
                raise UnknownEntityError(f"{shown(name)} is no entity's name")
            known = type(self)(Keys(name))
            try:
                members = (yield from known.schema()).members
            except NoSchemaError as error:
                raise UnknownEntityError(str(error)) from None
            if members:
                known.keys = Keys.of(name, members)
            if len(self._entities) >= _MOST_ENTITIES:
                self._entities = {}
            self._entities[name] = known
        return known


def packed_batches(packer: Packer, entity_ids: Sequence[str]) -> list[bytes]:
    """Return the calls of get_features_batch that cover the ids, in order."""
    firsts = range(0, len(entity_ids), IDS_PER_CALL)
    return [packer.many(list(entity_ids[first : first + IDS_PER_CALL])) for first in firsts]


def checked(replies: list[Reply | FeatureStoreError]) -> list[Reply]:
    """Return the replies; raise the first error among them."""
    for reply in replies:
        if isinstance(reply, FeatureStoreError):
            raise reply
    return replies


def batches(packed: list[bytes]) -> Plan[list[Reply]]:
    """Make calls of get_features_batch; return the replies, raise the first error among them."""
    return checked((yield Calls(GET_FEATURES_BATCH, packed)))
