"""JSON schemas of the types that handlers use, as msgspec makes them, with the fields' descriptions beside them."""

import re
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any

import msgspec

from featurestore.api.openapi.answers import Identified
from featurestore.api.openapi.statuses import code_schema

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"
_FIELD = re.compile(r"^ {4}(\w+): (.+\n?(?: {8}.+\n?)*)", re.MULTILINE)
_ID = "The id, under the name that the schema has for it: `user_id` for `user`, unless it has a `join_key`."
_ANY_VALUE = "A value of the feature's type: a number, true or false, text, or a list of numbers; null removes it."


def made_of(kinds: Sequence[Any]) -> tuple[list[Json], Json]:
    """Return the schemas of types, in order, and those of the structs in them, by name."""
    shown, components = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    structs = {each.__name__: each for each in _structs_in(kinds)}
    for name, schema in components.items():
        _tell_fields(schema)
        if issubclass(structs.get(name, object), Identified):
            schema["additionalProperties"] = {"type": "string", "description": _ID}
            schema["minProperties"] = len(schema.get("required", ())) + 1
    components["Problem"]["properties"]["code"] = {"$ref": REFERENCE.format(name="Code")}
    components["Code"] = code_schema()
    portable: Json = _portable(components)
    return [_portable(each) for each in shown], portable


def with_alias(schema: Json, field: str, alias: str | None) -> Json:
    """Return the schema of a struct with a field that has to be there, under its name or under another one."""
    kind = schema["properties"][field]
    if alias is None:
        kinds = [each for each in kind["anyOf"] if each != {"type": "null"}]
        wanted = {**(kinds[0] if len(kinds) == 1 else {"anyOf": kinds}), "description": kind["description"]}
        properties = {**schema["properties"], field: wanted}
        return {**schema, "properties": properties, "required": [*schema.get("required", ()), field]}
    properties = {alias: {**kind, "description": f"The same as `{field}`."}, **schema["properties"]}
    return with_choice({**schema, "properties": properties}, (field, alias), needs_one=True)


def with_choice(schema: Json, fields: Sequence[str], *, needs_one: bool) -> Json:
    """Return the schema of a struct that may have one of these fields at most; null is as good as left out."""
    given = {field: {"required": [field], "properties": {field: {"not": {"type": "null"}}}} for field in fields}
    rule: Json = {"oneOf": list(given.values())} if needs_one else {"not": {"allOf": list(given.values())}}
    return {**schema, "allOf": [*schema.get("allOf", ()), rule]}


def _tell_fields(schema: Json) -> None:
    """Move what a docstring says of attributes to these."""
    text, _, fields = cleandoc(schema.get("description", "")).partition("\n\nAttributes:\n")
    schema["description"] = text
    told = {name: " ".join(words.split()) for name, words in _FIELD.findall(fields)}
    for name, field in schema.get("properties", {}).items():
        words = told.get(name, told.get(f"{name}_"))
        if words:
            field["description"] = words
        if field.get("type") == "object" and field.keys() <= {"type", "description"}:
            field["additionalProperties"] = {"description": _ANY_VALUE}


def _structs_in(kinds: Sequence[Any]) -> list[type]:
    """Return all classes under `Identified`, and what the types name themselves."""
    found: list[type] = []
    waiting: list[type] = [Identified]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return found + [each for each in kinds if isinstance(each, type)]


def _portable(schema: Any) -> Any:
    """Return a schema without what only Python's regular expressions know, and with what generators of clients want.

    They leave out an array that does not tell of its items, and all that has it.
    """
    if isinstance(schema, Mapping):
        portable = {
            name: value.replace(r"\Z", "$") if name == "pattern" and isinstance(value, str) else _portable(value)
            for name, value in schema.items()
        }
        return {**portable, "items": {}} if schema.get("type") == "array" and "items" not in schema else portable
    return [_portable(each) for each in schema] if isinstance(schema, list) else schema
