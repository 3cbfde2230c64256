"""An entity's schema as last seen, the selections made of it, and the plans that keep both current."""

import time
from collections.abc import Mapping, Sequence
from math import inf
from typing import Self

from featurestore.contract.arguments import (
    plain_name,
)
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import APPLY_SCHEMA
from featurestore.contract.selection import Selection, selection_of
from featurestore.contract.served import Occasion, Sampler
from featurestore.errors import (
    BadArgumentsError,
    NoSchemaError,
    SchemaError,
    UnavailableError,
    UndeclaredFeatureError,
    UnknownEntityError,
)
from featurestore.keys import ENTITY_NAME, EntityKeys, Keys, PartitionedKeys, keys_of
from featurestore.schema.definition import Definition
from featurestore.schema.stored import Schema
from featurestore.schema.values import shown
from featurestore.settings import Settings
from featurestore.store import publishing
from featurestore.store.plan import Command, Plan, call
from featurestore.store.served_log import ServedLog

_MOST_SELECTIONS = 256
_SCHEMA_RECHECK_S = 1.0
_MOST_ENTITIES = 256


class Catalog:
    """The schema of an entity as last seen, and those of other entities.

    Args:
        keys: The entity's keys.
        most_values: Most values that one read may ask for, over all entities and features; numbers of vectors count
            for less (`costs.weight`).

    Attributes:
        keys: The entity's keys.
        selections: Names without duplicates → their selection; None → all features of the packed row.
        aged_selections: The same for reads with statuses and times.
        by_name: Whether the entity was found by its name, so that one without a schema is unknown.
        served: What was served and is to be kept; all entities share it.
    """

    def __init__(self, keys: EntityKeys, most_values: float = inf) -> None:
        self.keys = keys
        self._most_values = most_values
        self.selections: dict[tuple[str, ...] | None, Selection] = {}
        self.aged_selections: dict[tuple[str, ...] | None, Selection] = {}
        self._services: dict[str, tuple[str, ...]] = {}
        self._samplers: dict[str, Sampler] = {}
        self._sampled: dict[str, tuple[Sampler, tuple[str, ...]]] = {}
        self.served = ServedLog()
        self._schema: Schema | None = None
        self._schema_read_at = self._sure_until = 0.0
        self._entities: dict[str, Self] = {}
        self.by_name = False

    # Schema

    def schema(self) -> Plan[Schema]:
        """Read the schema from Redis and use it from now on; raise NoSchemaError if there is none.

        Of an entity that was found by its name that is an UnknownEntityError: it was dropped since.
        """
        try:
            schema = Schema.from_reply(self.keys.entity, (yield Command(("HGETALL", self.keys.root))))
        except NoSchemaError as error:
            if not self.by_name:
                raise
            raise UnknownEntityError(str(error)) from None
        if isinstance(self.keys, PartitionedKeys):
            self.keys = PartitionedKeys(self.keys.entity, schema.partitions, schema.members)
        if schema != self._schema:
            self.selections, self.aged_selections, self._services = {}, {}, {}
            self._sampled = {}
            self._samplers = {name: Sampler(log.sample) for name, log in schema.logs.items()}
        self._schema, self._schema_read_at = schema, time.monotonic()
        self._sure_until = self._schema_read_at + _SCHEMA_RECHECK_S
        return schema

    def reread(self) -> Plan[Schema]:
        """Read the schema again because a call was refused that was made by the one last seen.

        In a cluster a partition may have a newer copy than the root: for some ms while a schema is being changed, and
        for longer where that has ended half-way. Then the change is published first.
        """
        before = self._schema
        schema = yield from self.schema()
        if isinstance(self.keys, PartitionedKeys) and schema == before and (yield from publishing.finished(self.keys)):
            schema = yield from self.schema()
        return schema

    def seen_schema(self) -> Plan[Schema]:
        """Return the schema as last seen; read it if it never was."""
        return self._schema or (yield from self.schema())

    def apply(self, definition: Definition, *, dry_run: bool = False, partitions: int | None = None) -> Plan[int]:
        """Declare the features of `definition` beside the others; return the schema's version.

        With `dry_run` nothing is changed, and the version is the one that there would be. `partitions` is for a
        cluster: how many the entity has, or is to have; as many as it has if left out.
        """
        words = [*definition.words(), *(("@dry_run", "1") if dry_run else ())]
        if not definition.features:
            yield from self.schema()  # options and services alone are for an entity that has features
        if definition.members is not None:
            yield from self._check_members(definition.members)
        for entity, features in definition.references().items():
            if entity != self.keys.entity or not features.keys() <= definition.features.keys():
                yield from self._check_references(entity, features, definition)
        if isinstance(self.keys, PartitionedKeys):
            reply = yield from self._apply_everywhere(self.keys, words, partitions, dry_run=dry_run)
        else:
            keys = (self.keys.root, self.keys.schemas)
            reply = yield from call(APPLY_SCHEMA, encode_call(APPLY_SCHEMA, keys, words))
        self._sure_until, self._schema_read_at = 0.0, -inf  # so that the next read sees the new rules and names
        return int(reply)

    def _apply_everywhere(
        self, keys: PartitionedKeys, words: list[str], partitions: int | None, *, dry_run: bool
    ) -> Plan[int]:
        count = partitions or (yield from publishing.stored_count(keys)) or Settings.from_environment().partitions
        words = [*words, "@partitions", str(count)]
        if dry_run:
            return (yield from publishing.dry_run(keys, APPLY_SCHEMA, words))
        return (yield from publishing.changed_everywhere(keys, APPLY_SCHEMA, words, count))

    def _check_members(self, members: str) -> Plan[None]:
        """Raise if another entity has that set of ids: `sweep` would take out the other's ids."""
        for name in (yield from self.entities()):
            if name != self.keys.entity and (yield from (yield from self.entity(name)).schema()).members == members:
                raise SchemaError(f"members cannot be {members!r}: that is the set of all ids of {name}")

    def _check_references(
        self, entity: str, features: Mapping[str, Sequence[str]], definition: Definition
    ) -> Plan[None]:
        """Raise if an entity lacks features that services name. Another entity without a schema may have any."""
        own = entity == self.keys.entity
        declared = set(definition.features) if own else set()
        try:
            declared |= (yield from (yield from self.entity(entity)).schema()).features.keys()
        except NoSchemaError:
            if not own:
                return
        for feature, services in features.items():
            if feature not in declared:
                name = f"{entity}:{feature}"
                text = f"{name} of service {services[0]} is not declared in the schema of {entity}"
                raise UndeclaredFeatureError(text).at("services", services[0], name)

    def entities(self) -> Plan[list[str]]:
        """Return the names of all entities with a schema. This entity's counts even if the set of schemas lacks it."""
        names = set()
        for schema in {*(yield Command(("SMEMBERS", self.keys.schemas))), self.keys.root.encode()}:
            if (yield Command(("HGET", schema, "@layout"))):  # it may have been deleted, or is being dropped
                names.add(Keys.entity_of(schema))
        return sorted(names)

    def service(self, name: str) -> Plan[list[str]]:
        """Return the features of a service, those of this entity without its prefix."""
        prefix = f"{self.keys.entity}:"
        return [feature.removeprefix(prefix) for feature in (yield from self.listed(name))]

    def listed(self, name: str) -> Plan[list[str]]:
        """Return the features of a service, as the schema spells them."""
        schema = yield from self.seen_schema()
        if self._may_be_outdated():  # no script notices a changed service
            self._schema_read_at = time.monotonic()  # so that callers meanwhile do not all read it
            try:
                schema = yield from self.schema()
            except UnavailableError:
                if not isinstance(self.keys, PartitionedKeys):
                    raise  # the node that has the root is away, and the ids may be on others
        if name not in schema.services:
            raise UndeclaredFeatureError(f"no service {name} is declared in the schema of {self.keys.entity}")
        return schema.services[name]

    def service_seen(self, name: str) -> tuple[str, ...] | None:
        """Return the features of a service, each once, by the schema as last seen; None if it is to be read again.

        None, too, for a request of which is to be kept what it is served.
        """
        if self._may_be_outdated():
            return None
        features = self._services.get(name)
        if features is not None:
            return features
        known = self._sampled.get(name)
        if known is None:
            if self._schema is None or name not in self._schema.services:
                return None
            prefix = f"{self.keys.entity}:"
            features = tuple(dict.fromkeys(each.removeprefix(prefix) for each in self._schema.services[name]))
            sampler = self._samplers.get(name)
            if sampler is None:
                self._services[name] = features
                return features
            known = self._sampled[name] = sampler, features
        sampler, features = known
        return features if sampler.passes_over() else None

    def occasion(self, service: str, request_id: str) -> Occasion | None:
        """Return what is to be told of a request if what it is served is to be kept; None for the others.

        Args:
            service: The service by which it reads, as `listed` or `service` have found it just now.
            request_id: The id of the request; empty for none.
        """
        sampler = self._samplers.get(service)
        if sampler is None or self._schema is None or not sampler.takes(request_id):
            return None
        return Occasion(self.keys, service, self._schema.version, request_id)

    def lists(self, service: str) -> bool:
        """Return whether the schema as last seen has that service."""
        return self._schema is not None and service in self._schema.services

    def declared(self, columns: Sequence[str]) -> Plan[Mapping[str, str]]:
        """Return declared feature → type; read the schema again if it lacks one of `columns`."""
        return (yield from self.declaring(columns)).features

    def declaring(self, names: Sequence[str]) -> Plan[Schema]:
        """Return the schema as last seen; read it again if it lacks one of `names`, at most once a second."""
        schema = yield from self.seen_schema()
        if not schema.features.keys() >= set(names) and self._may_be_outdated():
            schema = yield from self.schema()
        return schema

    def select(self, features: Sequence[str] | None = None, *, aged: bool = False) -> Plan[Selection]:
        """Return the selection of `features`, or of the packed row; ask Redis only if needed.

        Args:
            features: The names; None for all of the packed row.
            aged: Whether statuses and times are wanted too.
        """
        wanted = None if features is None else tuple(dict.fromkeys(features))
        selections = self.aged_selections if aged else self.selections
        selection = selections.get(wanted)
        if selection is None:
            if wanted == ():
                raise BadArgumentsError("name at least one feature, or leave the names out for all")
            schema = yield from (self.seen_schema() if wanted is None else self.declaring(wanted))
            selection = selection_of(schema, wanted, schema.id_name(self.keys.entity), aged=aged).for_keys(self.keys)
            selections = self.aged_selections if aged else self.selections  # the schema may have been read just now
            if len(selections) >= _MOST_SELECTIONS:
                selections.clear()
            selections[wanted] = selection
        if selection.checking is not None and self.unsure:
            self._sure_until = time.monotonic() + _SCHEMA_RECHECK_S
            selection = selection.checking
        return selection

    @property
    def unsure(self) -> bool:
        """Whether the next read by layout has to check the schema, by `?current`.

        A packed row can match a schema that has since changed, so one read a second checks.
        """
        return time.monotonic() >= self._sure_until

    def _may_be_outdated(self) -> bool:
        return time.monotonic() - self._schema_read_at > _SCHEMA_RECHECK_S

    # Other entities

    def has_seen(self, entity: str) -> bool:
        """Return whether that is this entity, or one whose schema was found; nothing is asked."""
        return entity == self.keys.entity or entity in self._entities

    def versions(self) -> dict[str, int]:
        """Return the version of the schema as last seen of this entity and of others: entity → version."""
        seen: list[Catalog] = [self, *self._entities.values()]
        return {each.keys.entity: each._schema.version for each in seen if each._schema is not None}  # noqa: SLF001 - its own class

    def entity(self, name: str) -> Plan[Self]:
        """Return another entity's plans, of the same class; raise UnknownEntityError if it has no schema."""
        name = plain_name(name, "an entity's name")
        if name == self.keys.entity:
            return self
        known = self._entities.get(name)
        if known is None:
            if not ENTITY_NAME.fullmatch(name):
                raise UnknownEntityError(f"{shown(name)} is no entity's name")
            clustered = isinstance(self.keys, PartitionedKeys)
            known = type(self)(keys_of(name, clustered=clustered), self._most_values)
            known.by_name, known.served = True, self.served
            schema = yield from known.schema()
            known.keys = known.keys.with_members(schema.members)
            if len(self._entities) >= _MOST_ENTITIES:
                self._entities = {}
            self._entities[name] = known
        return known
