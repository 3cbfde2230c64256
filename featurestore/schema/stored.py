"""What Redis holds about an entity's features."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from featurestore.errors import NoSchemaError, SchemaError, UndeclaredFeatureError
from featurestore.schema.definition import RESPONSE_FIELDS
from featurestore.schema.notes import KINDS, Note
from featurestore.schema.services import ServiceLog, stored_log
from featurestore.schema.types import SCALARS, FeatureType, Value, vector_length

_DAY_MS = 86_400_000


class Schema(msgspec.Struct, frozen=True):
    """What Redis holds about an entity's features.

    Attributes:
        features: Feature name → type, in declared order.
        version: Counts the changes.
        layout: `@` and a digest of names, types, order and rules. A caller sends it, and a script refuses that of
            another schema.
        always: Vectors that are part of the packed row. Others are read only when they are named.
        services: Service name → the features it stands for.
        join_key: The id's name in tables and responses; None means `<entity>_id`.
        members: Key of the set of known ids; None means `all_<entity>s`.
        tombstone_ms: How long after a deletion late events are ignored.
        max_ahead_ms: How far ahead of Redis's clock an event time may be.
        ttl_ms: How long after its newest event time an entity expires; 0 means never.
        max_ages_ms: Feature → how old its value may be and still be served. The empty name stands for all features
            that have no entry of their own.
        defaults: Feature → what is served in place of a missing value.
        notes: Feature → what people are told of it. The empty name stands for the entity.
        retiring: Features whose values leave the hashes, and whose names cannot be declared until then.
        partitions: In a cluster, how many partitions the entity has; else 0.
        logs: Service name → what is kept of what it was served; without services of which nothing is.
    """

    features: dict[str, FeatureType]
    version: int
    layout: str
    always: frozenset[str] = frozenset()
    services: dict[str, list[str]] = {}
    join_key: str | None = None
    members: str | None = None
    tombstone_ms: int = _DAY_MS
    max_ahead_ms: int = _DAY_MS
    ttl_ms: int = 0
    max_ages_ms: dict[str, int] = {}
    defaults: dict[str, Value] = {}
    notes: dict[str, Note] = {}
    retiring: frozenset[str] = frozenset()
    partitions: int = 0
    logs: dict[str, ServiceLog] = {}

    @classmethod
    def from_reply(cls, entity: str, reply: Sequence[bytes]) -> "Schema":
        """Return the schema that a reply to HGETALL holds: field, value, field, value ….

        Raises:
            NoSchemaError: The hash is empty, or the entity is being dropped.
            SchemaError: The hash holds what apply_schema never writes.
        """
        try:
            stored = {field.decode(): value.decode() for field, value in zip(reply[::2], reply[1::2], strict=True)}
            if "@dropping" in stored:
                raise NoSchemaError(f"{entity} is being dropped: featurestore drop-entity {entity} goes on with that")
            if not stored.keys() >= {"@version", "@layout", "@features"}:
                raise NoSchemaError(f"no schema of {entity} is stored: featurestore apply FILE declares features")
            features = msgspec.convert(_pairs(stored["@features"]), dict[str, FeatureType])
            rules = _pairs(stored.get("@rules", "[]"))
            services = _of(stored, "@service")
            return cls(
                features,
                int(stored["@version"]),
                stored["@layout"],
                frozenset(_of(rules, "@always")),
                {name: msgspec.json.decode(text, type=list[str]) for name, text in services.items()},
                stored.get("@join_key"),
                stored.get("@members"),
                int(stored.get("@tombstone", _DAY_MS)),
                int(stored.get("@max_ahead", _DAY_MS)),
                int(rules.get("@ttl", 0)),
                {name: int(text) for name, text in _of(rules, "@max_age").items()},
                {name: default_value(features[name], text) for name, text in _of(rules, "@default").items()},
                _notes(stored),
                frozenset(_pairs(stored.get("@retiring", "[]"))),
                int(stored.get("@partitions", 0)),
                {name: stored_log(text) for name, text in _of(stored, "@log").items()},
            )
        except (ValueError, KeyError, msgspec.MsgspecError) as error:
            raise SchemaError(f"the stored schema is damaged: {error}") from error

    @property
    def row(self) -> dict[str, FeatureType]:
        """The features of the packed row: all but the vectors that are read only when they are named."""
        return {name: kind for name, kind in self.features.items() if name in self.always or not vector_length(kind)}

    @property
    def scalar(self) -> bool:
        """Whether every feature is a scalar: no vector, no sliding window."""
        return SCALARS.keys() >= set(self.features.values())

    def shown(self, entity: str) -> dict[str, Any]:
        """Return the schema as JSON for people: options only where they are set, times in ms."""
        options: dict[str, dict[str, Any]] = {}
        for name in self.features:
            option = {"default": self.defaults.get(name), "max_age_ms": self.max_ages_ms.get(name)}
            if name in self.always:
                option["always"] = True
            if name in self.notes:
                option |= self.notes[name].shown()
            option = {key: value for key, value in option.items() if value is not None}
            if option:
                options[name] = option
        rest = {
            "options": options or None,
            "max_age_ms": self.max_ages_ms.get(""),
            "ttl_ms": self.ttl_ms or None,
            "tombstone_ms": self.tombstone_ms if self.tombstone_ms != _DAY_MS else None,
            "max_ahead_ms": self.max_ahead_ms if self.max_ahead_ms != _DAY_MS else None,
            "services": self.services or None,
            "logs": self.logs or None,
            "join_key": self.join_key,
            "members": self.members,
            "retiring": sorted(self.retiring) or None,
            "partitions": self.partitions or None,
        }
        known = {key: value for key, value in rest.items() if value is not None}
        told = self.notes.get("", Note()).shown()
        return {"entity": entity, **told, "version": self.version, "features": self.features, **known}

    def service(self, name: str) -> list[str]:
        """Return the features of a service.

        Raises:
            UndeclaredFeatureError: There is no such service.
        """
        if name not in self.services:
            raise UndeclaredFeatureError(f"no service {name} is declared in the schema")
        return self.services[name]

    def id_name(self, entity: str) -> str:
        """Return the id's name in responses: the join key, unless a response has another field of that name."""
        return f"{entity}_id" if self.join_key is None or self.join_key in RESPONSE_FIELDS else self.join_key


def _pairs(text: str) -> dict[str, str]:
    """Return a JSON array `[word, value, word, value …]` as a mapping."""
    words = msgspec.json.decode(text, type=list[str])
    return dict(zip(words[::2], words[1::2], strict=True))


def _of(words: Mapping[str, str], option: str) -> dict[str, str]:
    """Return the values of the words `option:name`, by name; the word `option` alone has the empty name."""
    parts = ((*word.partition(":"), value) for word, value in words.items())
    return {name: value for word, _, name, value in parts if word == option}


def _notes(stored: Mapping[str, str]) -> dict[str, Note]:
    """Return what is told of each feature, and under the empty name of the entity."""
    found: dict[str, dict[str, str]] = {}
    for kind in KINDS:
        for name, text in _of(stored, f"@{kind}").items():
            found.setdefault(name, {})[kind] = text
    return {name: Note.of(kinds) for name, kinds in found.items()}


def default_value(kind: str, text: str) -> Value:
    """Return a default's value; its text if only Lua can read it as a number, such as `5.`."""
    if kind == "string":
        return text
    try:
        value: Value = msgspec.convert(text, SCALARS[kind], strict=False)
    except msgspec.ValidationError:
        return text
    return value
