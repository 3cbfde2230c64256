"""The declared features of an entity: read from TOML or from Redis, and turned into decoders of rows."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from featurestore.errors import NoSchemaError, SchemaError, UndeclaredFeatureError

FeatureType = Literal["float", "int", "bool", "string"]
"""What a feature's values are; `int` is exact to 64 bits."""

Value = float | int | bool | str
"""A feature's value as Python has it."""

Row = tuple[Value | None, ...]
"""Values aligned with the names asked for; None where there is no value."""

_PYTHON_TYPES: Mapping[str, Any] = {"float": float | None, "int": int | None, "bool": bool | None, "string": str | None}


class Definition(msgspec.Struct, forbid_unknown_fields=True):
    """A schema file: the entity's name and its features with their types.

    Attributes:
        features: Feature name → type, in the order in which rows have them.
        entity: What the features belong to; starts every key.
        members: The set of all known ids where it is not `all_<entity>s`.
    """

    features: dict[str, FeatureType]
    entity: str = "user"
    members: str | None = None


def read_definition(path: Path | None = None) -> Definition:
    """Read a schema file; without a path, the one that ships with the package.

    Raises:
        SchemaError: The file is missing, is not TOML, or does not have the shape of a `Definition`.
    """
    source = resources.files("featurestore") / "features.toml" if path is None else path
    try:
        content = tomllib.loads(source.read_text(encoding="utf-8"))
        definition = msgspec.convert(content, Definition)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SchemaError(f"cannot read the schema {source}: {error}") from error
    except msgspec.ValidationError as error:
        types = ", ".join(get_args(FeatureType))
        raise SchemaError(f"{source}: {error} (types are {types})") from error
    if not definition.features:
        raise SchemaError(f"{source}: [features] declares no feature")
    return definition


class Selection:
    """Features that are asked for together: their names, what the scripts are told, and the decoders of the replies.

    Attributes:
        names: The features, in the order of every row.
        words: The names as the scripts take them.
        vector_type: A struct type with one field a feature, made of a row's values in order; it encodes to a JSON
            object with the features' own names.
    """

    __slots__ = ("_one", "_rows", "names", "vector_type", "words")

    def __init__(self, names: Sequence[str], types: Sequence[str], words: Sequence[str]) -> None:
        self.names = tuple(names)
        self.words = tuple(words)
        python_types = [_PYTHON_TYPES[kind] for kind in types]
        row = tuple.__class_getitem__(tuple(python_types))
        # Not strict: an int beyond 2^53 travels as a decimal string. Text stays text, `null` and `1e5` included.
        self._one = msgspec.msgpack.Decoder(row, strict=False)
        self._rows = msgspec.msgpack.Decoder(list[row | None], strict=False)  # type: ignore[valid-type]
        fields = [f"feature_{index}" for index in range(len(self.names))]
        self.vector_type = msgspec.defstruct(
            "Features",
            list(zip(fields, python_types, strict=True)),
            rename=dict(zip(fields, self.names, strict=True)),
            gc=False,
        )

    def decode(self, reply: bytes) -> Row:
        """Return the row in a reply of get_features.

        Raises:
            msgspec.ValidationError: The reply was made under another schema.
        """
        row: Row = self._one.decode(reply)
        return row

    def decode_many(self, reply: bytes) -> list[Row | None]:
        """Return the rows in a reply of get_features_batch, None for an unknown id; errors as in `decode`."""
        rows: list[Row | None] = self._rows.decode(reply)
        return rows


class Schema(msgspec.Struct, frozen=True):
    """What Redis holds about an entity's features.

    Attributes:
        features: Feature name → type, in declared order.
        version: Counts the changes.
        layout: Digest of names, types and order, by which the scripts know what a caller knows.
    """

    features: dict[str, FeatureType]
    version: int
    layout: str

    @classmethod
    def from_reply(cls, version: bytes | None, layout: bytes | None, features: bytes | None) -> "Schema":
        """Make a schema of the hash's own fields.

        Raises:
            NoSchemaError: They are not there.
            SchemaError: They are not what apply_schema writes.
        """
        if version is None or layout is None or features is None:
            raise NoSchemaError("no schema is stored: run featurestore apply")
        try:
            words = msgspec.json.decode(features, type=list[str])
            pairs = dict(zip(words[::2], words[1::2], strict=True))
            return cls(msgspec.convert(pairs, dict[str, FeatureType]), int(version), layout.decode())
        except (ValueError, msgspec.MsgspecError) as error:
            raise SchemaError(f"the stored schema is damaged: {error}") from error

    def select(self, names: Sequence[str] | None = None) -> Selection:
        """Return the selection of `names`, or of every feature.

        Raises:
            UndeclaredFeatureError: A name is not declared.
        """
        if names is None:
            return Selection(list(self.features), list(self.features.values()), [f"@{self.layout}"])
        for name in names:
            if name not in self.features:
                raise UndeclaredFeatureError(f"{name} is not declared in the schema")
        return Selection(names, [self.features[name] for name in names], names)
