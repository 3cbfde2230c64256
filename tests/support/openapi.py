"""The HTTP interface's contract, as tests hold answers against it."""

import json
import re
from collections.abc import Mapping
from email.message import Message
from functools import cache
from typing import Any
from urllib.parse import unquote

import jsonschema
import msgspec

from featurestore.api.app import ROUTES
from featurestore.api.openapi.document import document_of

_NDJSON = "application/x-ndjson"


@cache
def contract() -> dict[str, Any]:
    return document_of(ROUTES)


def operation_at(method: str, path: str) -> dict[str, Any] | None:
    """Return the operation of a request; None where the document has none, as for HEAD and for wrong methods."""
    for pattern, item in _patterns():
        if pattern.fullmatch(path):
            found: dict[str, Any] | None = item.get(method.lower())
            return found
    return None


def check(method: str, target: str, status: int, headers: Mapping[str, str] | Message, body: bytes) -> None:
    """Fail unless the document has this answer: the status, the media type, and the schema of the body."""
    path = unquote(target.partition("?")[0], errors="replace")
    operation = operation_at(method, path)
    if operation is None:
        return
    where = f"{method} {target[:200]} → {status}"
    assert str(status) in operation["responses"], f"{where}: the document has {', '.join(operation['responses'])}"
    response = resolved(operation["responses"][str(status)])
    for name in response.get("headers", {}):
        assert headers.get(name), f"{where}: without {name}"
    content = response.get("content", {})
    media_type = headers.get("content-type", "").partition(";")[0]
    if not content:
        assert not body, f"{where}: the document has no body"
        return
    assert media_type in content, f"{where}: {media_type}, but the document has {', '.join(content)}"
    check_body(content[media_type]["schema"], media_type, body, where)


def check_body(schema: dict[str, Any], media_type: str, body: bytes, where: str) -> None:
    """Fail unless a body of this media type is what the schema says."""
    inner = schema.get("contentSchema")
    if media_type == _NDJSON:
        for line in body.splitlines():
            validate(inner, json.loads(line), where)
    elif media_type.endswith("json"):
        value = json.loads(body)
        validate(schema, value, where)
        if inner is not None:
            validate(inner, json.loads(value), where)
    elif media_type.endswith("msgpack"):
        validate(schema, json.loads(msgspec.json.encode(msgspec.msgpack.decode(body))), where)


def validate(schema: Any, value: Any, where: str) -> None:
    error = jsonschema.exceptions.best_match(validator(json.dumps(schema)).iter_errors(value))
    assert error is None, f"{where}: {error.message if error else ''} in {str(value)[:500]}"


@cache
def validator(schema: str) -> jsonschema.Draft202012Validator:
    """Return what holds values against a schema of the document. Here objects have no fields but those it names."""
    whole = {**_closed(json.loads(schema)), "components": {"schemas": _closed_components()}}
    return jsonschema.Draft202012Validator(whole)


def resolved(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response, or the one that it refers to."""
    name = response.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = contract()["components"]["responses"][name] if name else response
    return found


@cache
def _patterns() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """The paths as patterns, those without parameters first; an id may have slashes, and be empty."""
    paths = sorted(contract()["paths"].items(), key=lambda each: each[0].count("{id}"))
    return [
        (re.compile(re.sub(r"\\{\w+\\}", "[^/]*", re.escape(path).replace(r"\{id\}", ".*")), re.DOTALL), item)
        for path, item in paths
    ]


@cache
def _closed_components() -> dict[str, Any]:
    return {name: _closed(schema) for name, schema in contract()["components"]["schemas"].items()}


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
