"""The OpenAPI document: it is valid, it is what the app does, and its examples are true."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.inspect
import msgspec
import pytest
from openapi_spec_validator import validate as validate_document
from support.fake import FakeTransport
from support.http import HttpServer, serving
from support.openapi import check, contract, operation_at, resolved
from support.openapi import validate as validate_value
from support.servers import Server

from featurestore import FeatureStore, Keys, read_definition
from featurestore.api import counters
from featurestore.api.app import ROUTES, create_app
from featurestore.api.openapi import statuses
from featurestore.api.openapi.declared import OPERATIONS, PARAMETERS
from featurestore.api.openapi.document import OPENAPI, UndeclaredOperationError, document_of
from featurestore.api.openapi.examples import EXAMPLES, Example
from featurestore.api.openapi.schemas import made_of
from featurestore.api.pages import ROUTES as PAGES
from featurestore.api.problems import _STATUSES, Problem
from featurestore.api.read_requests import READ_PARAMETERS
from featurestore.api.routes import Route
from featurestore.worker.refusal import _REASONS

ITEMS = """
entity = "item"
[features]
price = "float"
clicks_10m = "count(10m)"
[services]
ranking = ["price"]
"""
ANN = {"age": 31.0, "country": "DE", "n_logins": 7}
NEW_YEAR = "2026-01-01T00:00:00Z"
METHODS = {"get", "put", "post", "delete"}


def write_sample(url: str, folder: Path) -> None:
    """Write what the examples assume: a user, an item, and nothing else."""
    path = folder / "item.toml"
    path.write_text(ITEMS)
    with FeatureStore.connect(url, timeout=5) as store:
        store.transport.command("FLUSHDB")
        store.apply(read_definition())
        store.upsert([("ann", ANN)], event_time=NEW_YEAR)
    with FeatureStore.connect(url, timeout=5, keys=Keys.of("item")) as items:
        items.apply(read_definition(path))
        items.upsert([("i9", {"price": 9.5})])


@pytest.fixture(scope="module")
def server(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    folder = tmp_path_factory.mktemp("server")
    url = servers["valkey9"].url
    write_sample(url, folder)
    with serving(url, folder, timeout_ms="5000", write_keys="secret") as running:
        yield running


def send(server: HttpServer, example: Example) -> Any:
    body = example.body if isinstance(example.body, str | None) else json.dumps(example.body)
    headers = {"X-API-Key": "secret", **example.headers} | ({"Content-Type": example.sent_as} if body else {})
    method = next(
        method.upper()
        for path, item in contract()["paths"].items()
        for method in METHODS & item.keys()
        if item[method]["operationId"] == example.operation
    )
    return method, server.request(method, example.target, body, **headers)


def without_ages(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_ages(each) for name, each in value.items() if name != "age_ms"}
    return value


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: f"{each.operation}-{each.name}")
def test_an_example_is_answered_as_the_document_says(
    server: HttpServer, servers: dict[str, Server], tmp_path: Path, example: Example
) -> None:
    write_sample(servers["valkey9"].url, tmp_path)
    method, answer = send(server, example)
    found = answer.body.decode() if example.answered_as == "application/x-ndjson" else answer.json
    assert (answer.status, without_ages(found)) == (example.status, without_ages(example.answer))
    assert answer.headers["content-type"] == example.answered_as
    operation = operation_at(method, example.target.partition("?")[0])
    assert operation is not None
    assert operation["operationId"] == example.operation
    if example.body is not None and example.status < 400 and example.sent_as == "application/json":
        content = operation["requestBody"]["content"][example.sent_as]
        validate_value(content["schema"], example.body, example.name)


def test_each_operation_with_a_body_has_an_example() -> None:
    shown = {example.operation for example in EXAMPLES}
    with_body = {
        item[method]["operationId"]
        for item in contract()["paths"].values()
        for method in METHODS & item.keys()
        if "requestBody" in item[method]
    }
    assert with_body <= shown


def test_each_example_is_in_the_document() -> None:
    text = json.dumps(contract())
    for example in EXAMPLES:
        assert json.dumps(example.answer) in text, example
    names = {item[method]["operationId"] for item in contract()["paths"].values() for method in METHODS & item.keys()}
    assert {example.operation for example in EXAMPLES} <= names


def test_the_document_is_valid() -> None:
    validate_document(json.loads(json.dumps(contract())))  # as a reader has it
    assert contract()["openapi"] == OPENAPI


def test_every_route_and_method_of_the_app_is_in_the_document_and_no_other() -> None:
    app = create_app(FeatureStore(FakeTransport()))
    offered = set()
    for route in falcon.inspect.inspect_routes(app):
        methods = {each.method for each in route.methods if not each.internal}
        assert ("HEAD" in methods) == ("GET" in methods), "the document says so of all"
        path = route.path.replace("{entity_id:path}", "{id}")
        offered |= {(path, method.lower()) for method in methods - {"HEAD"}}
    documented = {(path, method) for path, item in contract()["paths"].items() for method in METHODS & item.keys()}
    assert documented == offered


def test_nothing_is_declared_of_handlers_that_are_gone() -> None:
    handlers = {handler.__qualname__ for route in ROUTES for handler in route.handlers().values()}
    assert OPERATIONS.keys() == handlers


def test_a_handler_of_which_nothing_is_declared_is_named() -> None:
    class Undeclared:
        def on_get(self) -> None: ...

    with pytest.raises(UndeclaredOperationError, match=r"Undeclared\.on_get is not in api/openapi/declared\.py"):
        document_of([Route("/", Undeclared)])


def test_every_status_is_documented() -> None:
    documented = {
        status
        for item in contract()["paths"].values()
        for method in METHODS & item.keys()
        for status in item[method]["responses"]
    }
    assert documented == {*counters.STATUSES} - {"other"}
    assert {int(status[:3]) for _, status in _STATUSES} <= statuses.MEANINGS.keys()
    assert _REASONS.keys() - {501} == {*statuses.BY_THE_SERVER}  # 501 is for CONNECT, which has no path


def test_every_code_is_documented_where_it_can_be() -> None:
    codes = contract()["components"]["schemas"]["Code"]["enum"]
    for code in codes:
        assert any(code in response["description"] for response in contract()["components"]["responses"].values())
    refused = {"BADTYPE", "BADTIME", "BADID", "BADARGS", "UNDECLARED"}
    assert refused <= {*codes}


def test_every_field_of_a_problem_is_documented() -> None:
    assert contract()["components"]["schemas"]["Problem"]["properties"].keys() == {*Problem.__struct_fields__}


def test_every_field_of_every_request_is_documented_with_a_description() -> None:
    kinds = [
        kind.get("contentSchema", kind) if isinstance(kind, dict) else kind
        for operation in OPERATIONS.values()
        if operation.body
        for kind in operation.body.media.values()
    ]
    for kind in {each for each in kinds if isinstance(each, type)}:
        properties = contract()["components"]["schemas"][kind.__name__]["properties"]
        fields = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert fields <= properties.keys()
        assert all(each.get("description") for each in properties.values()), kind


def test_the_parameters_of_a_get_are_those_that_the_handler_takes() -> None:
    of_query = {name for name in OPERATIONS["EntityReader.on_get"].parameters if PARAMETERS[name].place == "query"}
    assert of_query == READ_PARAMETERS


def schemas_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for each in value if isinstance(value, list) else ():
        yield from schemas_in(each)


def test_generators_of_clients_find_a_name_for_each_struct_and_the_items_of_each_array() -> None:
    components = contract()["components"]["schemas"]
    titles = {name: each["title"] for name, each in components.items() if "title" in each}
    assert titles == {name: name for name in titles}
    arrays = [each for each in schemas_in(contract()) if each.get("type") == "array"]
    assert arrays
    assert [each for each in arrays if not each.keys() & {"items", "prefixItems"}] == []


def test_descriptions_of_fields_come_from_docstrings() -> None:
    class Told(msgspec.Struct):
        """What it is.

        Attributes:
            one: In
                two lines.
            other: Another.
        """

        one: int
        other: str

    _, components = made_of([Told, Problem])
    assert components["Told"]["description"] == "What it is."
    told = {name: each["description"] for name, each in components["Told"]["properties"].items()}
    assert told == {"one": "In two lines.", "other": "Another."}


def test_the_server_sends_what_the_command_prints_and_says_when_it_is_unchanged(server: HttpServer) -> None:
    answer = server.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    printed = subprocess.run([sys.executable, "-m", "featurestore", "openapi"], check=True, capture_output=True)
    assert printed.stdout == answer.body
    assert json.loads(answer.body) == json.loads(json.dumps(contract()))
    again = server.request("GET", "/openapi.json", **{"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    other = server.request("GET", "/openapi.json", **{"If-None-Match": '"another"'})
    assert other.status == 200


def test_answers_that_are_not_in_the_document_are_noticed() -> None:
    as_json = {"content-type": "application/json"}
    check("GET", "/features/a", 200, {**as_json, "Vary": "Accept"}, b'{"user_id":"a","features":{"age":null}}')
    for status, headers, body in (
        (418, as_json, b"{}"),
        (200, {**as_json, "Vary": "Accept"}, b'{"user_id":"a"}'),
        (200, {**as_json, "Vary": "Accept"}, b'{"user_id":"a","features":{},"metadata":{"other":1}}'),
        (200, {"content-type": "text/plain", "Vary": "Accept"}, b"a"),
        (200, as_json, b'{"user_id":"a","features":{}}'),
        (404, {"content-type": "application/problem+json"}, b'{"title":"Not Found","status":404,"code":"NEW"}'),
    ):
        with pytest.raises(AssertionError):
            check("GET", "/features/a", status, headers, body)


def test_writes_want_a_key_reads_take_one_and_pages_none() -> None:
    """So that pages and clients that are made of the document can send one where a server wants it."""
    key: list[dict[str, list[str]]] = [{"ApiKey": []}, {"Bearer": []}]
    paths = contract()["paths"]
    assert paths["/features/{id}"]["put"]["security"] == key
    assert paths["/features/batch"]["post"]["security"] == [{}, *key]
    for path in ("/features/{id}", "/metrics", "/health"):
        assert paths[path]["get"]["security"] == [{}, *key]
    assert "security" not in paths["/docs"]["get"]


def test_references_lead_somewhere() -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    used = {*references(contract())}
    for kind, named in contract()["components"].items():
        if kind != "securitySchemes":
            assert {f"#/components/{kind}/{name}" for name in named} >= {
                each for each in used if each.startswith(f"#/components/{kind}/")
            }
    assert resolved({"$ref": "#/components/responses/NotFound"})["description"]
    assert {route.path for route in PAGES} <= contract()["paths"].keys()
