"""A schema file: the declared features of an entity, as TOML has them and as apply_schema takes them."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec

from featurestore.errors import SchemaError
from featurestore.keys import Keys
from featurestore.text import parse_duration
from featurestore.values import FeatureType

Duration = str
"""A span of time: digits and `ms`, `s`, `m`, `h` or `d`, such as `30d`; or `none`."""

RESPONSE_FIELDS = frozenset({"features", "metadata", "verdict"})
"""Fields of responses, which no id can be called by."""


class FeatureDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """A feature of a schema file with its options.

    Attributes:
        type: What its values are.
        default: What is served where there is no value.
        max_age: How old a value may be to be served, by its event time.
        always: Whether a vector is read with the other features, not only when it is asked for.
    """

    type: FeatureType
    default: float | int | bool | str | None = None
    max_age: Duration | None = None
    always: bool = False


class Definition(msgspec.Struct, forbid_unknown_fields=True):
    """A schema file: the entity's name and its features with their types.

    Attributes:
        features: Feature name → type, or type and options, in the order in which rows have them.
        entity: What the features belong to; starts every key.
        members: The set of all known ids where it is not `all_<entity>s`.
        join_key: What tables and responses call the id, where it is not `<entity>_id`.
        max_age: How old values may be to be served, by their event time; for features that do not say.
        ttl: How long after its newest event time an entity is known.
        tombstone: How long a deleted entity is guarded against late events; a day where nothing is said.
        services: Name → features that are asked for by that name; `entity:feature` for those of others.
    """

    features: dict[str, FeatureType | FeatureDefinition]
    entity: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][\w-]*$")] = "user"
    members: str | None = None
    join_key: str | None = None
    max_age: Duration | None = None
    ttl: Duration | None = None
    tombstone: Duration | None = None
    services: dict[str, list[str]] = {}

    def words(self) -> list[str]:
        """Return the definition as apply_schema takes it.

        Raises:
            SchemaError: A span of time is none, `join_key` is another field of responses, or `members` cannot be that.
        """
        words: list[str] = []
        for name, feature in self.features.items():
            if isinstance(feature, str):
                words += (name, feature)
            else:
                words += (name, feature.type, *_option_words(name, feature))
        if self.join_key in RESPONSE_FIELDS:
            raise SchemaError(f"join_key cannot be {self.join_key}: responses have a field of that name")
        if self.members is not None:
            _check_members(self.entity, self.members)
        for option in ("ttl", "max_age", "tombstone"):
            span = getattr(self, option)
            if span is not None:
                words += (f"@{option}", _span_word(option, span))
        for option in ("members", "join_key"):
            if getattr(self, option) is not None:
                words += (f"@{option}", getattr(self, option))
        for service, names in self.services.items():
            words += (f"@service:{service}", msgspec.json.encode(names).decode() if names else "")
        return words


def _check_members(entity: str, members: str) -> None:
    default = Keys()
    if entity == default.entity and members != default.members:
        raise SchemaError(f"members of {entity} is {default.members}: servers and tools go by that, not {members!r}")
    if members == Keys.of(entity).schema:
        raise SchemaError(f"members cannot be {members}: the schema is there")


def _option_words(name: str, feature: FeatureDefinition) -> list[str]:
    words = []
    if feature.default is not None:
        default = feature.default
        text = default if isinstance(default, str) else msgspec.json.encode(default).decode()
        words += [f"@default:{name}", text]
    if feature.max_age is not None:
        words += [f"@max_age:{name}", _span_word(f"max_age of {name}", feature.max_age)]
    if feature.always:
        words += [f"@always:{name}", "1"]
    return words


def _span_word(option: str, span: str) -> str:
    try:
        return "" if span == "none" else str(parse_duration(span))
    except ValueError as error:
        raise SchemaError(f"{option}: {error}") from error


def read_definition(path: Path | None = None) -> Definition:
    """Read a schema file; without a path, the one that ships with the package.

    Raises:
        SchemaError: The file is missing, is not TOML, or does not have the shape of a `Definition`.
    """
    source = resources.files("featurestore") / "features.toml" if path is None else path
    try:
        content = tomllib.loads(source.read_text(encoding="utf-8"))
        definition = msgspec.convert(content, Definition)
        definition.words()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SchemaError(f"cannot read the schema {source}: {error}") from error
    except msgspec.ValidationError as error:
        types = "float, int, bool, string, float32[N], count(SPAN), sum(FIELD, SPAN)"
        where = re.sub(r" matching regex '.*?'", " of a known type", str(error), flags=re.DOTALL)
        raise SchemaError(f"{source}: {where} (types are {types})") from error
    if not definition.features:
        raise SchemaError(f"{source}: [features] declares no feature")
    return definition
