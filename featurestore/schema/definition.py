"""Schema files: read from TOML, checked, and turned into the words that apply_schema takes."""

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec

from featurestore.errors import SchemaError
from featurestore.keys import ENTITY_NAME, Keys
from featurestore.schema.lines import line_of
from featurestore.schema.notes import KINDS, note_words, wrong_note
from featurestore.schema.services import ServiceDefinition, features_of, log_word, service_of
from featurestore.schema.times import parse_duration
from featurestore.schema.types import FeatureType, vector_length
from featurestore.schema.values import is_unicode, shown

Duration = str
"""A span of time: digits and `ms`, `s`, `m`, `h` or `d`, such as `30d`; or `none`."""

RESPONSE_FIELDS = frozenset({"features", "metadata", "verdict"})
"""Fields of responses. No join key can have one of these names."""

_BETTER_NAMES = {"event_timestamp": "event_at", "created": "created_at"}

RESERVED_NAMES = frozenset(_BETTER_NAMES)
"""Columns that Feast's client adds to every write. No feature and no join key can have one of these names."""

_TYPES = "float, int, bool, string, float32[N], count(SPAN), sum(FIELD, SPAN)"
_KNOWN_TYPES = ("float", "int", "bool", "string", "float32[N]", "count(10m)", "sum(amount, 1h)")
_SPANS = "want a span of time in quotes, such as 30d, 12h, 5m, 10s or 500ms"
_NAMES = "want a letter or _, then letters, digits, _ . - (128 at most)"

# apply_schema.lua has the last word. The same limits are checked here so that the error names the place in the file.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WINDOW_SPAN = re.compile(r"0*[1-9][0-9]*")
_MOST_FEATURES, _MOST_NAMES, _MOST_NAME, _MOST_NUMBERS, _MOST_DIGITS = 1000, 5000, 128, 2048, 6
_MOST_MS = 10**13 - 1


class FeatureDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """A feature of a schema file with its options.

    Attributes:
        type: What its values are.
        default: What is served in place of a missing value.
        max_age: How old a value may be and still be served, by its event time.
        always: Whether a vector is part of the packed row, and so read also when it is not named.
        description: What people are told of it.
        owner: Who answers for it.
        tags: Words to find it by.
    """

    type: FeatureType
    default: float | int | bool | str | None = None
    max_age: Duration | None = None
    always: bool = False
    description: str = ""
    owner: str = ""
    tags: list[str] = []


class Definition(msgspec.Struct, forbid_unknown_fields=True):
    """A schema file: the entity's name and its features with their types.

    Attributes:
        features: Feature name → type, or type and options, in the order in which rows have them.
        entity: What the features belong to. Every key starts with it.
        members: Key of the set of known ids; None means `all_<entity>s`.
        join_key: The id's name in tables and responses; None means `<entity>_id`.
        max_age: How old values may be and still be served, for features without a `max_age` of their own.
        ttl: How long after its newest event time an entity expires; None means never.
        tombstone: How long after a deletion late events are ignored; None means a day.
        max_ahead: How far ahead of Redis's clock an event time may be; None means a day.
        services: Service name → the features it stands for; `entity:feature` for another entity's. One without
            features is removed. A `ServiceDefinition` has options beside them; naming a service takes back those that
            it had.
        description: What people are told of the entity; None leaves what is stored, an empty one takes it back.
        owner: Who answers for it; likewise.
        tags: Words to find it by; likewise.
    """

    features: dict[str, FeatureType | FeatureDefinition]
    entity: str = "user"
    members: str | None = None
    join_key: str | None = None
    max_age: Duration | None = None
    ttl: Duration | None = None
    tombstone: Duration | None = None
    max_ahead: Duration | None = None
    services: Mapping[str, list[str] | ServiceDefinition] = {}
    description: str | None = None
    owner: str | None = None
    tags: list[str] | None = None

    def words(self) -> list[str]:
        """Return the definition as apply_schema takes it.

        Raises:
            SchemaError: Something is not allowed. The message has the key, the value, and what would be right.
        """
        self._check()
        words: list[str] = []
        for name, feature in self.features.items():
            if isinstance(feature, str):
                words += (name, feature)
            else:
                words += (name, feature.type, *_option_words(name, feature))
        for option in ("ttl", "max_age", "tombstone", "max_ahead"):
            span = getattr(self, option)
            if span is not None:
                words += (f"@{option}", _span_word((option,), span))
        for option in ("members", "join_key"):
            if getattr(self, option) is not None:
                words += (f"@{option}", getattr(self, option))
        words += note_words("", self)
        for service, names in self.listed.items():
            words += (f"@service:{service}", msgspec.json.encode(names).decode() if names else "")
        for service, given in self.services.items():
            if isinstance(given, ServiceDefinition) and given.log is not None:
                words += (f"@log:{service}", log_word(service, given.log))
        return words

    @property
    def listed(self) -> dict[str, list[str]]:
        """Service name → the features it stands for, without options."""
        return {service: features_of(given) for service, given in self.services.items()}

    def references(self) -> dict[str, dict[str, list[str]]]:
        """Return the `entity:feature` names of all services: entity → feature → the services that name it."""
        found: dict[str, dict[str, list[str]]] = {}
        for service, names in self.listed.items():
            for name in names:
                entity, _, feature = name.rpartition(":")
                if entity:
                    found.setdefault(entity, {}).setdefault(feature, []).append(service)
        return found

    def _check(self) -> None:
        """Check all that can be checked without Redis; errors as in `words`."""
        if not isinstance(self.entity, str) or not ENTITY_NAME.fullmatch(self.entity):
            raise _refusal(("entity",), self.entity, "want a letter or _, then letters, digits, _ - (64 at most)")
        for key in ("members", "join_key"):
            text = getattr(self, key)
            if text is not None and not (isinstance(text, str) and text and text.isprintable()):
                raise _refusal((key,), text, "want printable text")
        if self.join_key in RESPONSE_FIELDS:
            error = SchemaError(f"join_key cannot be {self.join_key}: responses have a field of that name")
            raise error.at("join_key")
        if self.join_key in RESERVED_NAMES:
            text = f"join_key cannot be {self.join_key}: Feast's client sends a column of that name for itself"
            raise SchemaError(text).at("join_key")
        if self.members is not None:
            _check_members(self.entity, self.members)
        self._check_features()
        _check_notes((), self)
        if not isinstance(self.services, Mapping):
            raise _refusal(("services",), self.services, 'want a table, such as ads = ["age", "item:price"]')
        for service, names in self.listed.items():
            _check_service(service, names)

    def _check_features(self) -> None:
        if not isinstance(self.features, Mapping):
            raise _refusal(("features",), self.features, 'want a table, such as age = "float"')
        if len(self.features) > _MOST_FEATURES:
            text = f"features has {len(self.features)} features: a schema has at most {_MOST_FEATURES}"
            raise SchemaError(text).at("features")
        for name, feature in self.features.items():
            _check_feature(name, feature, self.join_key or f"{self.entity}_id")


def _refusal(key: Sequence[str], value: object, want: str) -> SchemaError:
    """Return the error for a key, with those before it, whose value is not allowed; `want` says what is."""
    return SchemaError(f"{'.'.join(key)} = {_toml(value)}: {want}").at(*key)


def _toml(value: object) -> str:
    """Return a value for messages, much as TOML spells it."""
    return str(value).lower() if isinstance(value, bool) else shown(value)


_KEYS_OF_OTHERS = re.compile(r"all_users|.*:(schema|features)|featurestore:.*", re.DOTALL)
"""Keys that the store uses itself: the ids of users, schemas, hashes, the registry of schemas."""


def _check_members(entity: str, members: str) -> None:
    default = Keys()
    if entity == default.entity and members != default.members:
        text = f"members of {entity} is {default.members}: servers and tools go by that, not {members!r}"
        raise SchemaError(text).at("members")
    own = Keys.of(entity)
    if members != own.members and _KEYS_OF_OTHERS.fullmatch(members):
        text = f"members cannot be {members!r}: the store has a key of that name, or will; leave it out"
        raise SchemaError(text).at("members")


def _check_feature(name: str, feature: FeatureType | FeatureDefinition, id_name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _MOST_NAME:
        raise SchemaError(f"features.{_toml(name)} is no name of a feature: {_NAMES}").at("features", name)
    key = ("features", name)
    if name in RESERVED_NAMES:
        better = _BETTER_NAMES[name]
        text = f"features.{name}: Feast's client sends a column of that name for itself; call it {better}, say"
        raise SchemaError(text).at(*key)
    if name == id_name:
        text = f"features.{name}: the entity's id is called that; call the feature {name}_value, say, or set join_key"
        raise SchemaError(text).at(*key)
    if isinstance(feature, FeatureDefinition):
        _check_type((*key, "type"), feature.type)
        _check_default((*key, "default"), feature.type, feature.default)
        if not isinstance(feature.always, bool):
            raise _refusal((*key, "always"), feature.always, "want true or false")
        if feature.always and vector_length(feature.type) is None:
            raise _refusal((*key, "always"), feature.always, f"that is for vectors, and {name} is {feature.type}")
        _check_notes(key, feature)
    else:
        _check_type(key, feature)


def _check_notes(key: Sequence[str], holder: object) -> None:
    for kind in KINDS:
        value = getattr(holder, kind)
        want = None if value is None else wrong_note(kind, value)
        if want is not None:
            raise _refusal((*key, kind), value, want)


def _check_type(key: Sequence[str], kind: object) -> None:
    try:
        text: str = msgspec.convert(kind, FeatureType)
    except msgspec.ValidationError:
        hint = ": a vector tells its length, float32[N]" if kind == "float32" else _meant(kind, _KNOWN_TYPES)
        raise _refusal(key, kind, f"no such type{hint} (types are {_TYPES})") from None
    if (vector_length(text) or 0) > _MOST_NUMBERS:
        raise _refusal(key, text, f"a vector has at most {_MOST_NUMBERS} numbers")
    if text.endswith(")"):
        field, _, span = text[:-2].partition("(")[2].rpartition(",")
        span = span.strip()
        if not field.isascii() or len(span) > _MOST_DIGITS or not _WINDOW_SPAN.fullmatch(span):
            raise _refusal(key, text, "a window is like count(10m) or sum(amount, 1h), with 1 to 999999 units")


def _check_default(key: Sequence[str], kind: str, default: object) -> None:
    if default is None:
        return
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    fits = {
        "float": is_number and _is_finite(default),
        "int": is_number and isinstance(default, int) and -(2**63) <= default < 2**63,
        "bool": isinstance(default, bool),
        "string": isinstance(default, str) and default != "" and is_unicode(default),
    }
    if kind not in fits:
        raise _refusal(key, default, f"features of type {kind} have no default")
    if not fits[kind]:
        wants = {"float": "a finite number", "int": "an integer of 64 bits", "bool": "true or false"}
        raise _refusal(key, default, f"a default of type {kind} is {wants.get(kind, 'text, and not empty')}")


def _is_finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int beyond all floats
        return False


def _check_service(service: str, names: object) -> None:
    if not isinstance(service, str) or not _NAME.fullmatch(service):
        raise SchemaError(f"services.{_toml(service)} is no name of a service: {_NAMES}").at("services", service)
    key = ("services", service)
    if not isinstance(names, list | tuple) or len(names) > _MOST_NAMES:
        raise _refusal(key, names, f'want a list of at most {_MOST_NAMES} names, such as ["age", "item:price"]')
    for name in names:
        entity, colon, feature = name.rpartition(":") if isinstance(name, str) else ("", ":", "")
        if not _NAME.fullmatch(feature) or (colon and not ENTITY_NAME.fullmatch(entity)):
            error = _refusal(key, name, "want the name of a feature, or entity:feature")
            raise error.at(*key, name) if isinstance(name, str) else error
        if feature in RESERVED_NAMES:
            text = f"services.{service} = {_toml(name)}: no feature can be called {feature}, which Feast's client sends"
            raise SchemaError(f"{text} for itself; {_BETTER_NAMES[feature]}, perhaps?").at(*key, name)


def _option_words(name: str, feature: FeatureDefinition) -> list[str]:
    words = []
    if feature.default is not None:
        default = feature.default
        text = default if isinstance(default, str) else msgspec.json.encode(default).decode()
        words += [f"@default:{name}", text]
    if feature.max_age is not None:
        words += [f"@max_age:{name}", _span_word(("features", name, "max_age"), feature.max_age)]
    if feature.always:
        words += [f"@always:{name}", "1"]
    words += note_words(f":{name}", feature)
    return words


def _span_word(key: Sequence[str], span: object) -> str:
    if span == "none":
        return ""
    try:
        ms = parse_duration(span) if isinstance(span, str) else _MOST_MS + 1
    except ValueError:
        ms = _MOST_MS + 1
    if ms > _MOST_MS:
        raise _refusal(key, span, f"{_SPANS}, or none")
    return str(ms)


def read_definition(path: str | PathLike[str] | None = None) -> Definition:
    """Read a schema file; without a path, the one that ships with the package.

    Raises:
        SchemaError: The file is missing, is not TOML, or does not have the shape of a `Definition`. The message has the
            file, the line, the key, the value, and what would be right.
    """
    source = resources.files("featurestore.schema") / "features.toml" if path is None else Path(path)
    try:
        text = source.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, no TOML, or absurd TOML
        raise SchemaError(f"cannot read the schema {source}: {error}") from error
    try:
        definition = _definition_of(content)
        definition.words()
    except SchemaError as error:
        raise SchemaError(f"{source}: {line_told(text, error.where)}{error}").at(*error.where) from None
    return definition


def as_definition(given: Definition | str | PathLike[str], entity: str) -> Definition:
    """Return a definition as it is; of a path, what the schema file says.

    Raises:
        SchemaError: As `read_definition`; or the file is of another entity than `entity`, or `given` is something else.
    """
    if isinstance(given, Definition):
        return given
    if not isinstance(given, str | PathLike):
        raise SchemaError(f"want a Definition or the path of a schema file, not {shown(given)}")
    definition = read_definition(given)
    if definition.entity != entity:
        text = f"{given} is of the entity {definition.entity}, and this store is of {entity}"
        raise SchemaError(f"{text}: make one with keys=Keys({definition.entity!r})")
    return definition


def line_told(text: str, where: Sequence[str]) -> str:
    """Return `line 7: `, where messages tell of a place in a schema file; empty text where the line is not known."""
    line = line_of(text, where)
    return f"line {line}: " if line is not None else ""


def _definition_of(content: Mapping[str, Any]) -> Definition:
    """Return the definition in a file's content. Keys are checked here, values in `Definition.words`."""
    _check_keys((), content, Definition.__struct_fields__)
    if not content.keys() - {"entity"}:
        raise SchemaError('[features] is missing: want a table, such as age = "float"')
    features = content.get("features", {})
    if features == {} and not content.keys() - {"features", "entity"}:
        raise SchemaError("[features] declares no feature")
    if isinstance(features, Mapping):
        features = {name: _feature_of(("features", name), feature) for name, feature in features.items()}
    services = content.get("services", {})
    if isinstance(services, Mapping):
        services = {name: service_of(name, service) for name, service in services.items()}
    return Definition(**{**content, "features": features, "services": services})


def _feature_of(key: Sequence[str], feature: Any) -> Any:
    if not isinstance(feature, Mapping):
        return feature
    _check_keys(key, feature, FeatureDefinition.__struct_fields__)
    if "type" not in feature:
        raise SchemaError(f"{'.'.join(key)}.type is missing: want {_TYPES}").at(*key)
    return FeatureDefinition(**feature)


def _check_keys(before: Sequence[str], table: Mapping[str, Any], known: Iterable[str]) -> None:
    known = tuple(known)
    for key in table:
        if key not in known:
            text = f"there is no {'.'.join((*before, key))}{_meant(key, known)} (known are {', '.join(known)})"
            raise SchemaError(text).at(*before, key)


def _meant(word: object, known: Iterable[str]) -> str:
    """Return `: did you mean …?` with the nearest of `known`; empty text if none is near."""
    close = difflib.get_close_matches(str(word).lower(), list(known), 1)
    return f": did you mean {close[0]}?" if close else ""
