"""The declared features of an entity: read from TOML or from Redis, and turned into decoders of rows."""

import math
import re
import tomllib
from array import array
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from featurestore.errors import NoSchemaError, SchemaError, UndeclaredFeatureError
from featurestore.keys import Keys
from featurestore.packing import Packer
from featurestore.rendering import Renderer

FeatureType = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(float|int|bool|string|float32\[[1-9][0-9]{0,3}\]"
        r"|count\([0-9]+[smhd]\)|sum\([A-Za-z_][\w.-]*, ?[0-9]+[smhd]\))\Z"
    ),
]
"""What a feature's values are: `float`; `int`, exact to 64 bits; `bool`; `string`; `float32[N]`, a vector; `count(10m)`
or `sum(amount, 1h)`, a sliding window over events."""

Value = float | int | bool | str | list[float]
"""A feature's value as Python has it; a vector is a list of numbers."""

Row = tuple[Any, ...]
"""Values aligned with the names asked for; None where there is no value. A vector is the bytes of its numbers."""

Duration = str
"""A span of time: digits and `ms`, `s`, `m`, `h` or `d`, such as `30d`; or `none`."""

_SCALARS: Mapping[str, Any] = {"float": float | None, "int": int | None, "bool": bool | None, "string": str | None}
_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
Status = Literal["PRESENT", "MISSING", "DEFAULT", "STALE"]
"""What is to be said of a value: there, not there, the schema's default in its place, or too old and so left out."""

_STATUSES: Mapping[str, Status] = {"P": "PRESENT", "M": "MISSING", "D": "DEFAULT", "S": "STALE"}


_RESPONSE_FIELDS = frozenset({"features", "metadata", "verdict"})


def parse_duration(text: str) -> int:
    """Return the ms in `30d`, `12h`, `5m`, `10s`, `500ms` or plain digits (ms).

    Raises:
        ValueError: It is none of these.
    """
    match = re.fullmatch(r"([0-9]{1,13})(ms|s|m|h|d)?", text)
    if match is None:
        raise ValueError(f"{text!r} is no span of time such as 30d, 12h, 5m, 10s or 500ms")
    return int(match[1]) * _UNITS_MS[match[2] or "ms"]


def vector_length(kind: str) -> int | None:
    """Return how many numbers a value of this type has, None where it is no vector."""
    return int(kind[len("float32[") : -1]) if kind.startswith("float32[") else None


def _python_type(kind: str) -> Any:
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind.startswith("float32["):
        return bytes | None
    return int | None if kind.startswith("count(") else float | None


def row_value(kind: str, value: Any, *, strict: bool = True) -> Any:
    """Return a value of a request for a feature of that kind as rows have it; not strict, text of it is one too.

    Raises:
        msgspec.ValidationError: It is not of that kind.
    """
    length = vector_length(kind)
    if length is None or value is None:
        return msgspec.convert(value, _INT64 if kind == "int" else _python_type(kind), strict=strict)
    vector = array("f", msgspec.convert(value, list[float], strict=strict))
    if len(vector) != length:
        raise msgspec.ValidationError(f"Expected {length} numbers, got {len(vector)}")
    if not all(map(math.isfinite, vector)):
        raise msgspec.ValidationError("Expected numbers within float32")
    return vector.tobytes()


def _rendered_types(kinds: Sequence[str]) -> list[str]:
    """Return the types of the values in replies: a window's are counts or sums."""
    return ["int" if kind.startswith("count(") else "float" if kind.startswith("sum(") else kind for kind in kinds]


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
        if self.join_key in _RESPONSE_FIELDS:
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


class Fresh(msgspec.Struct, frozen=True):
    """An entity's row with what is known of its age, by Redis's clock.

    Attributes:
        values: The row.
        event_time: The newest event time of its features, in ms since 1970.
        age_ms: How long ago that was.
        statuses: PRESENT, MISSING, DEFAULT or STALE for each value.
        event_times: The event time of each value, in ms since 1970, None where there is none.
    """

    values: Row
    event_time: int | None
    age_ms: int | None
    statuses: tuple[Status, ...]
    event_times: tuple[int | None, ...]


class Selection:
    """Features that are asked for together: their names, what the scripts are told, and the decoders of the replies.

    Attributes:
        names: The features, in the order of every row.
        types: Their types.
        words: The names as the scripts take them.
        vectors: The positions of those that are vectors; there rows hold bytes, which `values` and `encodable` turn.
        vector_type: A struct type with one field a feature, made of a row's values in order; it encodes to a JSON
            object with the features' own names.
        renderer: Makes JSON of the replies; it calls the id `id_name`.
        packer: Makes calls; set by the store whose keys it has.
    """

    __slots__ = (
        "_fresh",
        "_head",
        "_one",
        "_rows",
        "names",
        "packer",
        "renderer",
        "types",
        "vector_type",
        "vectors",
        "words",
    )

    packer: Packer

    def __init__(self, names: Sequence[str], types: Sequence[str], words: Sequence[str], id_name: str) -> None:
        self.names = tuple(names)
        self.types = tuple(types)
        self.words = tuple(words)
        # Asked for by layout, rows come as they are stored: behind the layout, and each alone.
        *options, last = self.words or ("",)
        self._head = len(last) - 1 if last.startswith("@") and options in ([], ["?current"]) else 0
        self.vectors = tuple(index for index, kind in enumerate(types) if vector_length(kind))
        python_types = [_python_type(kind) for kind in types]
        row = tuple.__class_getitem__(tuple(python_types))
        # Not strict: an int beyond 2^53 travels as a decimal string. Text stays text, `null` and `1e5` included.
        self._one = msgspec.msgpack.Decoder(row, strict=False)
        self._rows = msgspec.msgpack.Decoder(list[row | None], strict=False)  # type: ignore[valid-type]
        fresh = tuple[row, int | None, int | None, str, tuple[int | None, ...]]  # type: ignore[valid-type]
        self._fresh = msgspec.msgpack.Decoder(list[fresh | None], strict=False)
        fields = [f"feature_{index}" for index in range(len(self.names))]
        self.vector_type = msgspec.defstruct(
            "Features",
            list(zip(fields, python_types, strict=True)),
            rename=dict(zip(fields, self.names, strict=True)),
            gc=False,
        )
        self.renderer = Renderer(
            self.names, _rendered_types(types), self.decode, self.decode_many, self.encodable, id_name, self._head
        )

    def decode(self, reply: bytes) -> Row:
        """Return the row in a reply of get_features.

        Raises:
            msgspec.ValidationError: The reply was made under another schema.
        """
        row: Row = self._one.decode(reply[self._head :] if self._head else reply)
        return row

    def decode_many(self, reply: bytes | list[bytes | None]) -> list[Row | None]:
        """Return the rows in a reply of get_features_batch, None for an unknown id; errors as in `decode`."""
        if isinstance(reply, list):
            return [None if row is None else self.decode(row) for row in reply]
        rows: list[Row | None] = self._rows.decode(reply)
        return rows

    def decode_fresh(self, reply: bytes) -> list[Fresh | None]:
        """Return what a reply of get_features_batch with metadata holds; errors as in `decode`."""
        return [
            entry and Fresh(*entry[:3], tuple(_STATUSES[letter] for letter in entry[3]), entry[4])
            for entry in self._fresh.decode(reply)
        ]

    def values(self, row: Row) -> dict[str, Value | None]:
        """Return the row's values by name, vectors as lists of numbers."""
        if self.vectors:
            row = tuple(numbers_of(value) if isinstance(value, bytes) else value for value in row)
        return dict(zip(self.names, row, strict=True))

    def encodable(self, row: Row) -> Any:
        """Return what encodes to a JSON object of the row's values by name."""
        if self.vectors:
            row = tuple(map(encodable_value, row))
        return self.vector_type(*row)


def numbers_of(vector: bytes) -> list[float]:
    """Return the numbers of a vector."""
    return array("f", vector).tolist()


def encodable_value(value: Any) -> Any:
    """Return a value of a row as it can be encoded: a vector's numbers with the digits that tell float32s apart."""
    if not isinstance(value, bytes):
        return value
    import numpy as np  # noqa: PLC0415 - only those who have vectors pay for it
    import orjson  # noqa: PLC0415 - likewise

    return msgspec.Raw(orjson.dumps(np.frombuffer(value, "<f4"), option=orjson.OPT_SERIALIZE_NUMPY))


class Schema(msgspec.Struct, frozen=True):
    """What Redis holds about an entity's features.

    Attributes:
        features: Feature name → type, in declared order.
        version: Counts the changes.
        layout: Digest of names, types, order and rules, by which the scripts know what a caller knows.
        always: Vectors that are read with the other features.
        services: Name → features that are asked for by that name.
        join_key: What tables and responses call the id; None for `<entity>_id`.
        members: The set of all known ids; None for `all_<entity>s`.
        tombstone_ms: How long a deleted entity is guarded against late events.
        ttl_ms: How long after its newest event time an entity is known; 0 for ever.
        max_ages_ms: Feature → how old its values may be to be served, where it has its own; under no name, for the
            others.
    """

    features: dict[str, FeatureType]
    version: int
    layout: str
    always: frozenset[str] = frozenset()
    services: dict[str, list[str]] = {}
    join_key: str | None = None
    members: str | None = None
    tombstone_ms: int = _UNITS_MS["d"]
    ttl_ms: int = 0
    max_ages_ms: dict[str, int] = {}

    @classmethod
    def from_reply(cls, reply: Sequence[bytes]) -> "Schema":
        """Make a schema of the hash: field, value, field, value ….

        Raises:
            NoSchemaError: There is none.
            SchemaError: It is not what apply_schema writes.
        """
        try:
            stored = {field.decode(): value.decode() for field, value in zip(reply[::2], reply[1::2], strict=True)}
            if not stored.keys() >= {"@version", "@layout", "@features"}:
                raise NoSchemaError("no schema is stored: run featurestore apply")
            words = msgspec.json.decode(stored["@features"], type=list[str])
            rules = msgspec.json.decode(stored.get("@rules", "[]"), type=list[str])
            return cls(
                msgspec.convert(dict(zip(words[::2], words[1::2], strict=True)), dict[str, FeatureType]),
                int(stored["@version"]),
                stored["@layout"],
                frozenset(word.partition(":")[2] for word in rules[::2] if word.startswith("@always:")),
                {
                    field.partition(":")[2]: msgspec.json.decode(text, type=list[str])
                    for field, text in stored.items()
                    if field.startswith("@service:")
                },
                stored.get("@join_key"),
                stored.get("@members"),
                int(stored.get("@tombstone", _UNITS_MS["d"])),
                int(dict(zip(rules[::2], rules[1::2], strict=True)).get("@ttl", 0)),
                {
                    word.partition(":")[2]: int(ms)
                    for word, ms in zip(rules[::2], rules[1::2], strict=True)
                    if word.partition(":")[0] == "@max_age"
                },
            )
        except (ValueError, msgspec.MsgspecError) as error:
            raise SchemaError(f"the stored schema is damaged: {error}") from error

    @property
    def row(self) -> dict[str, FeatureType]:
        """The features of the packed row: all but the vectors that are read only when asked for."""
        return {name: kind for name, kind in self.features.items() if name in self.always or not vector_length(kind)}

    @property
    def scalar(self) -> bool:
        """Whether every feature is a scalar: no vector, no sliding window."""
        return _SCALARS.keys() >= set(self.features.values())

    @property
    def least_max_age_ms(self) -> int | None:
        """How old a complete row may get before one of its values is not to be served; None for any age."""
        ages = [self.max_ages_ms.get(name, self.max_ages_ms.get("")) for name in self.row]
        known = [age for age in (*ages, self.ttl_ms or None) if age is not None]
        return min(known, default=None)

    def service(self, name: str) -> list[str]:
        """Return the features of a service.

        Raises:
            UndeclaredFeatureError: There is no such service.
        """
        if name not in self.services:
            raise UndeclaredFeatureError(f"no service {name} is declared in the schema")
        return self.services[name]

    def id_name(self, entity: str) -> str:
        """Return what responses call the id of `entity`; a join key that another field of theirs has is not used."""
        return f"{entity}_id" if self.join_key is None or self.join_key in _RESPONSE_FIELDS else self.join_key

    def select(self, names: Sequence[str] | None, id_name: str, *, current: bool = False) -> Selection:
        """Return the selection of `names`, or of every feature of the packed row.

        Args:
            names: The features.
            id_name: What responses call the id.
            current: Whether to have Redis make sure that this is its schema, also where rows of it are stored.

        Raises:
            UndeclaredFeatureError: A name is not declared.
        """
        if names is None:
            row = self.row
            words = ["?current"] * current + [f"@{self.layout}"]
            return Selection(list(row), list(row.values()), words, id_name)
        for name in names:
            if name not in self.features:
                raise UndeclaredFeatureError(f"{name} is not declared in the schema")
        return Selection(names, [self.features[name] for name in names], names, id_name)
