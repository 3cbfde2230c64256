"""Whatever a user can set, call, ask for or be answered is on a page of docs/."""

import re
from collections.abc import Iterator
from pathlib import Path

import falcon.inspect
import pytest
from support.fake import FakeTransport
from support.http import serving
from support.servers import Server

import featurestore.errors
from featurestore import FeatureStore
from featurestore.api import problems
from featurestore.api.app import create_app
from featurestore.contract.manifest import contract_of
from featurestore.contract.scripts import SCRIPTS
from featurestore.errors import FeatureStoreError
from featurestore.settings import describe_settings

DOCS = Path(__file__).parents[2] / "docs"
HTTP = (DOCS / "http.md").read_text(encoding="utf-8")
ALL = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
"""The pages for users: not the decisions."""


def routes() -> Iterator[tuple[str, str]]:
    """Each method and path of the API, with `{}` in place of a part that varies."""
    app = create_app(FeatureStore(FakeTransport()))
    for route in falcon.inspect.inspect_routes(app):
        for method in route.methods:
            if not method.internal and method.method not in {"OPTIONS", "HEAD"}:
                yield method.method, without_names(route.path)
    for static in falcon.inspect.inspect_static_routes(app):
        yield "GET", without_names(static.prefix)


def without_names(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path).rstrip("/")


def told() -> set[tuple[str, str]]:
    """Each method and path in a first column of docs/http.md."""
    found = set()
    for cell in re.findall(r"^\| (.*?) \|", HTTP, re.MULTILINE):
        methods: list[str] = []
        for code in re.findall(r"`([^`]*)`", cell):
            words = re.fullmatch(r"([A-Z]+)(?: (/[^?]*)(\?.*)?)?", code)
            if words is None:
                continue
            methods.append(words[1])
            if words[2]:
                found |= {(method, without_names(words[2])) for method in methods}
                methods = []
    return found


ABOUT_IDS = {"batch", "ingest", "query"}
"""Last parts of paths where an id may stand that is called so: GET, PUT and DELETE are as for any other id."""


OF_PAGES = {"/docs/{}", "/ui/{}"}
"""Files that pages of the server's own load: who asks for these are browsers."""


def test_every_route_is_on_the_page_and_the_page_has_no_other() -> None:
    found = {route for route in routes() if route[1] not in OF_PAGES}
    there = {(method, path) for method, path in found if method == "POST" or path.rpartition("/")[2] not in ABOUT_IDS}
    assert len(there) > 15
    assert there - told() == set(), "docs/http.md lacks them"
    assert told() - there == set(), "docs/http.md has what there is not"


@pytest.mark.parametrize("variable", [variable for variable, _, _ in describe_settings()])
def test_every_setting_is_on_a_page(variable: str) -> None:
    assert f"`{variable}`" in ALL


def codes() -> set[str]:
    """The codes of all exceptions, and of the scripts' headers."""
    classes = [each for module in (featurestore.errors, problems) for each in vars(module).values()]
    kinds = [each for each in classes if isinstance(each, type) and issubclass(each, FeatureStoreError)]
    of_exceptions = {kind.code for kind in kinds if isinstance(kind.code, str)}
    of_scripts = {
        code
        for script in SCRIPTS
        for contract in [contract_of(script)]
        for code in (*contract.errors, *contract.row_errors)
    }
    return of_exceptions | of_scripts


def test_every_code_is_on_the_page_of_http() -> None:
    assert len(codes()) > 12
    assert {code for code in codes() if f"`{code}`" not in HTTP} == set()


def test_every_metric_is_on_a_page(valkey: Server, tmp_path: Path) -> None:
    with serving(valkey.url, tmp_path, timeout_ms="5000") as server:
        names = set(re.findall(r"# TYPE (\S+)", server.get("/metrics").body.decode()))
    assert len(names) > 20
    assert {name for name in names if f"`{name}`" not in ALL} == set()
