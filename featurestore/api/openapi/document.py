"""The OpenAPI document, made of the app's routes and of what is declared of their handlers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from featurestore.api.openapi import examples, schemas, statuses
from featurestore.api.openapi.answers import FeastProblem
from featurestore.api.openapi.declared import HEADERS, OPERATIONS, PARAMETERS, TAGS
from featurestore.api.openapi.examples import Example
from featurestore.api.openapi.operations import Answer, Body, Operation
from featurestore.api.openapi.schemas import Json
from featurestore.api.problems import MEDIA_PROBLEM, Problem
from featurestore.api.routes import OF_ENTITY, Route

OPENAPI = "3.1.0"
DISTRIBUTION = "redis-featurestore"
_OF_ENTITY = "OfEntity"
_FOR_ALL = "pages"
"""The group of operations that never look at a key."""

_ABOUT = """Typed features of users and other entities, read from Redis in one round trip.

The names and types of features are those of the schema, which `GET /schema` shows; this document holds for any schema.
HEAD is answered wherever GET is. Errors are `application/problem+json` (RFC 9457); on Feast's routes they are what its
client expects."""
_SECURITY_SCHEMES = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key of FEATURESTORE_READ_KEYS, FEATURESTORE_WRITE_KEYS or FEATURESTORE_KEYS_FILE.",
    },
    "Bearer": {"type": "http", "scheme": "bearer", "description": "The same key, as `Authorization: Bearer KEY`."},
}


class UndeclaredOperationError(LookupError):
    """A route's handler is not declared in `declared.py`."""


def document_of(routes: Iterable[Route]) -> Json:
    """Return the document of these routes, as JSON has it.

    Raises:
        UndeclaredOperationError: `declared.py` does not tell what a handler does.
    """
    return _Document(list(routes)).made()


def encoded(routes: Iterable[Route]) -> bytes:
    """Return the document of these routes as JSON, in lines."""
    return msgspec.json.format(msgspec.json.encode(document_of(routes)), indent=1) + b"\n"


class _Document:
    """One making of a document: the types that are met on the way become its schemas.

    Args:
        routes: The routes.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._names: set[str] = set()
        self._kinds: list[Any] = [Problem, FeastProblem]
        for route in routes:
            for handler in route.handlers().values():
                self._meet(declared(handler))
        self._shown, self._plain = schemas.made_of(self._kinds)
        self._components = dict(self._plain)

    def made(self) -> Json:
        """Return the document."""
        paths: dict[str, Json] = {}
        for route in self._routes:
            handlers = route.handlers()
            shared = [_parameter_reference(name) for name in PARAMETERS if f"{{{name}}}" in route.shown]
            item = {method.lower(): self._operation(route, _told(route, each)) for method, each in handlers.items()}
            paths[route.shown] = {**({"parameters": shared} if shared else {}), **item}
        responses = {statuses.component(status): self._refusal(status) for status in statuses.MEANINGS}
        return {
            "openapi": OPENAPI,
            "info": {
                "title": "Redis feature store",
                "version": version(DISTRIBUTION),
                "description": _ABOUT,
                "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": name, "description": told} for name, told in TAGS.items()],
            "paths": paths,
            "components": {
                "schemas": dict(sorted(self._components.items())),
                "responses": responses,
                "parameters": {name: _parameter(name) for name in PARAMETERS},
                "headers": {name: {"schema": kind, "description": told} for name, (kind, told) in HEADERS.items()},
                "securitySchemes": _SECURITY_SCHEMES,
            },
        }

    def _meet(self, operation: Operation) -> None:
        """Note the types that an operation has, so that they are made together."""
        bodies = [operation.body.media] if operation.body else []
        for media in (*bodies, *(each.media for each in operation.answers.values())):
            for kind in media.values():
                self._kinds += [each for each in _types_in(kind) if each not in self._kinds]

    def _schema(self, kind: Any) -> Json:
        if isinstance(kind, Mapping):
            inner = kind.get("contentSchema")
            return dict(kind) if inner is None else {**kind, "contentSchema": self._schema(inner)}
        if isinstance(kind, tuple):
            return {"anyOf": [self._schema(each) for each in kind]}
        return self._shown[self._kinds.index(kind)]

    def _name(self, route: Route, operation: Operation) -> str:
        """Return the id of an operation on a route; the second route of one handler adds the end of its path."""
        name = operation.name + (_OF_ENTITY if route.path.startswith(OF_ENTITY) else "")
        last = re.split(r"[-/]", route.path)[-1]
        return name if name not in self._names else name + re.sub(r"\W", "", last).capitalize()

    def _operation(self, route: Route, operation: Operation) -> Json:
        name, of_entity = self._name(route, operation), route.path.startswith(OF_ENTITY)
        self._names.add(name)
        shown = examples.of(name)
        made: Json = {
            "operationId": name,
            "tags": [operation.tag],
            "summary": operation.summary + (", for the entity in the path" if of_entity else ""),
        }
        if operation.description:
            made["description"] = operation.description
        if operation.parameters:
            made["parameters"] = [_parameter_reference(name) for name in operation.parameters]
        if operation.body is not None:
            made["requestBody"] = self._body(operation.body, shown, of_entity=of_entity)
        made["responses"] = self._responses(operation, shown, of_entity=of_entity)
        if operation.tag != _FOR_ALL:  # reads: a server without keys for them wants none, so a key is optional here
            without: list[Json] = [] if operation.needs is not None else [{}]
            made["security"] = [*without, *({name: []} for name in _SECURITY_SCHEMES)]
        return made

    def _body(self, body: Body, shown: Sequence[Example], *, of_entity: bool) -> Json:
        content: Json = {}
        for media_type, kind in body.media.items():
            content[media_type] = {"schema": self._closed(body, kind, of_entity=of_entity)}
            found = {
                each.name: each.as_request() for each in shown if each.body is not None and each.sent_as == media_type
            }
            if found:
                content[media_type]["examples"] = found
        return {"required": body.is_required, "content": content}

    def _closed(self, body: Body, kind: Any, *, of_entity: bool) -> Json:
        """Return the schema of a body: the struct's, with what a struct cannot say."""
        if isinstance(kind, Mapping):
            inner = kind.get("contentSchema")
            told = {} if inner is None else {"contentSchema": self._closed(body, inner, of_entity=of_entity)}
            return {**kind, **told}
        if not body.aliases and not body.either:
            return self._schema(kind)
        made: Json = self._plain[kind.__name__]
        for field, alias in body.aliases.items():
            made = schemas.with_alias(made, field, None if of_entity else alias)
        if body.either:
            made = schemas.with_choice(made, body.either, needs_one=body.needs_one)
        name = kind.__name__ + (_OF_ENTITY if of_entity and body.aliases else "")
        self._components[name] = {**made, "title": name}  # generators call classes by titles
        return {"$ref": schemas.REFERENCE.format(name=name)}

    def _responses(self, operation: Operation, shown: Sequence[Example], *, of_entity: bool) -> Json:
        made: dict[int, Json] = {}
        for status in (*statuses.BY_THE_SERVER, *operation.statuses(of_entity=of_entity)):
            made[status] = {"$ref": f"#/components/responses/{statuses.component(status)}"}
            if operation.is_feast:
                made[status] = self._refusal(status, operation.refusals.get(status, ""), feast=True)
            elif operation.refusals.get(status):
                made[status] = self._refusal(status, operation.refusals[status])
        for status, answer in operation.answers.items():
            made[status] = self._answer(answer)
            if status in statuses.BY_THE_SERVER:
                made[status]["content"][MEDIA_PROBLEM] = self._problem()
        for each in shown:
            if "$ref" in made[each.status]:
                made[each.status] = self._refusal(each.status)
            made[each.status]["content"][each.answered_as].setdefault("examples", {})[each.name] = each.as_answer()
        return {str(status): made[status] for status in sorted(made)}

    def _answer(self, answer: Answer) -> Json:
        made: Json = {"description": answer.description}
        if answer.headers:
            made["headers"] = _headers(answer.headers)
        if answer.media:
            made["content"] = {name: {"schema": self._schema(kind)} for name, kind in answer.media.items()}
        return made

    def _refusal(self, status: int, when: str = "", *, feast: bool = False) -> Json:
        """Return the response with a problem."""
        made: Json = {"description": when or statuses.meaning(status)}
        if status in statuses.HEADERS:
            made["headers"] = _headers(statuses.HEADERS[status])
        made["content"] = {MEDIA_PROBLEM: self._problem()}
        if feast:
            inner = {"contentMediaType": "application/json", "contentSchema": self._schema(FeastProblem)}
            made["content"]["application/json"] = {"schema": {"type": "string", **inner}}
        return made

    def _problem(self) -> Json:
        return {"schema": self._schema(Problem)}


def declared(handler: Any) -> Operation:
    """Return what is declared of a handler.

    Raises:
        UndeclaredOperationError: Nothing is.
    """
    try:
        return OPERATIONS[handler.__qualname__]
    except KeyError:
        raise UndeclaredOperationError(f"{handler.__qualname__} is not in api/openapi/declared.py") from None


def _types_in(kind: Any) -> list[Any]:
    """Return the types of which msgspec makes the schemas."""
    if isinstance(kind, Mapping):
        return [kind["contentSchema"]] if "contentSchema" in kind else []
    return list(kind) if isinstance(kind, tuple) else [kind]


def _told(route: Route, handler: Any) -> Operation:
    """Return what is declared of a handler; of a GET under a literal path, that it is for the entity of that id."""
    operation = declared(handler)
    entity_id = route.path.rpartition("/")[2]
    if handler.__qualname__ != "EntityReader.on_get" or entity_id.startswith("{"):
        return operation
    changes = {
        "name": f"{operation.name}OfId{entity_id.capitalize()}",
        "tag": "ids",
        "summary": f"Read the features of the entity whose id is `{entity_id}`",
        "description": "",
    }
    return msgspec.structs.replace(operation, **changes)


def _headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _parameter_reference(name: str) -> Json:
    return {"$ref": f"#/components/parameters/{name}"}


def _parameter(name: str) -> Json:
    told = PARAMETERS[name]
    made: Json = {"name": told.name, "in": told.place, "description": told.description, "schema": dict(told.schema)}
    if told.place == "path":
        made["required"] = True
    return {**made, "style": "form", "explode": False} if told.is_list else made
