"""What a move does about schemas: which entities there are, what the target lacks, and what forbids the move."""

from collections.abc import Mapping, Sequence

import msgspec

from featurestore.errors import BadArgumentsError, NoSchemaError
from featurestore.schema.definition import Definition
from featurestore.schema.stored import Schema

from .ends import End

_OPTIONS = ("ttl_ms", "max_ages_ms", "defaults", "always", "tombstone_ms", "max_ahead_ms", "join_key", "members")
_MADE = frozenset({"@version", "@features", "@rules", "@layout", "@members_key", "@retiring", "@partitions"})


class StoredDefinition(Definition):
    """A schema as a Redis holds it, to be applied to another, word by word, so that both have the same layout.

    Attributes:
        raw: The words that apply_schema takes.
    """

    raw: list[str] = msgspec.field(default_factory=list)

    def words(self) -> list[str]:
        """Return the definition as apply_schema takes it."""
        return list(self.raw)


class Planned(msgspec.Struct, frozen=True):
    """What a move has to do with an entity.

    Attributes:
        entity: The entity's name.
        schema: Its schema at the source.
        ids: How many ids are known there.
        there: Its schema at the target; None where it has none yet.
        ids_there: How many ids are known there.
        lacking: Features that the target has not declared.
        told: Options that differ, as sentences. The target's stay.
    """

    entity: str
    schema: Schema
    ids: int
    there: Schema | None
    ids_there: int
    lacking: list[str]
    told: list[str]


def plan_entities(source: End, target: End, names: Sequence[str]) -> list[Planned]:
    """Return what is to be moved: the entities named, or all.

    Raises:
        NoSchemaError: The source has none of that name, or none at all.
        BadArgumentsError: The two schemas of an entity cannot be brought together, or features are being retired.
    """
    found = names or source.store.entities()
    if not found:
        raise NoSchemaError(f"no schema of any entity is stored at {source.address}: there is nothing to copy")
    return [_planned(source, target, name) for name in found]


def apply_missing(source: End, target: End, plans: Sequence[Planned]) -> None:
    """Declare at the target what it lacks. Services come last, since they may name other entities' features."""
    wanted = [plan for plan in plans if plan.there is None or plan.lacking]
    definitions = [definition_of(plan.entity, source.stored_schema(plan.entity)) for plan in wanted]
    for definition in definitions:
        _store_of(target, definition.entity, _without_services(definition))
    for definition in definitions:
        if definition.services:
            _store_of(target, definition.entity, definition)
    for plan in plans:
        if target.schema(plan.entity) is None:
            raise NoSchemaError(f"the schema of {plan.entity} was not there after it had been applied: was it dropped?")


def definition_of(entity: str, stored: Mapping[str, str]) -> StoredDefinition:
    """Return the definition that a stored schema came from.

    Args:
        entity: The entity's name.
        stored: The hash of its schema.
    """
    features = msgspec.json.decode(stored["@features"], type=list[str])
    rules = msgspec.json.decode(stored.get("@rules", "[]"), type=list[str])
    plain = [
        word
        for name, value in stored.items()
        if name.startswith("@") and name not in _MADE and not name.startswith("@digest:")
        for word in (name, value)
    ]
    services = {
        name.removeprefix("@service:"): msgspec.json.decode(text, type=list[str])
        for name, text in stored.items()
        if name.startswith("@service:")
    }
    return StoredDefinition(
        features=dict(zip(features[::2], features[1::2], strict=True)),
        entity=entity,
        members=stored.get("@members"),
        services=services,
        raw=[*features, *rules, *plain],
    )


def _without_services(definition: StoredDefinition) -> StoredDefinition:
    pairs = zip(definition.raw[::2], definition.raw[1::2], strict=True)
    raw = [word for pair in pairs if not pair[0].startswith(("@service:", "@log:")) for word in pair]
    return msgspec.structs.replace(definition, services={}, raw=raw)


def _store_of(target: End, entity: str, definition: Definition) -> None:
    target.of_entity(entity).apply(definition)


def _planned(source: End, target: End, entity: str) -> Planned:
    schema = source.schema(entity)
    if schema is None:
        raise NoSchemaError(f"no schema of {entity} is stored at {source.address}")
    there = target.schema(entity)
    for end, each in ((source, schema), (target, there)):
        if each is not None and each.retiring:
            names = ", ".join(sorted(each.retiring))
            raise BadArgumentsError(
                f"{names} of {entity} are being retired at {end.address}: let featurestore retire end first, or"
                " values that are to go would be copied"
            )
    if there is not None:
        _refuse_other_types(entity, schema, there)
    lacking = [name for name in schema.features if there is not None and name not in there.features]
    return Planned(
        entity, schema, source.count(entity), there, target.count(entity), lacking, _differences(entity, schema, there)
    )


def _refuse_other_types(entity: str, schema: Schema, there: Schema) -> None:
    for name, kind in schema.features.items():
        other = there.features.get(name, kind)
        if other != kind:
            raise BadArgumentsError(
                f"{name} of {entity} is {kind} at the source and {other} at the target: values of one would not be"
                " read as the other. Copy to a target without that entity, or retire the feature there first"
            )


def _differences(entity: str, schema: Schema, there: Schema | None) -> list[str]:
    if there is None:
        return []
    told = []
    for option in _OPTIONS:
        ours, theirs = getattr(schema, option), getattr(there, option)
        if ours != theirs:
            name = option.removesuffix("_ms")
            told.append(
                f"{entity}: {name} is {_shown(ours)} at the source and {_shown(theirs)} at the target, which stays"
            )
    return told


def _shown(value: object) -> str:
    return str(sorted(value) if isinstance(value, frozenset) else value)
