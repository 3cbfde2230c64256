"""`/` and `/docs`: what a stranger meets who opens the server's address in a browser."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import falcon.testing
import pytest
from support.fake import FakeTransport
from support.http import HttpServer, serving
from support.openapi import contract
from support.ports import needs
from support.servers import Server

from featurestore import FeatureStore, read_definition
from featurestore.api import pages
from featurestore.api.app import ROUTES, create_app

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
BROWSERS = ("chromium", "--version")


class References(HTMLParser):
    """What a page loads or links to, and whether it has scripts or styles in itself."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        values = [value for name in ("href", "src") if (value := given.get(name))]
        self.found += [value for value in values if not value.startswith("data:")]
        if tag == "style" or "style" in given or (tag == "script" and "src" not in given):
            self.inline.append(tag)


@pytest.fixture(scope="module")
def server(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    url = servers["valkey9"].url
    with FeatureStore.connect(url, timeout=5) as store:
        store.transport.command("FLUSHDB")
        store.apply(read_definition())
    with serving(url, tmp_path_factory.mktemp("server"), timeout_ms="5000") as running:
        yield running


def test_the_root_links_to_what_there_is(server: HttpServer) -> None:
    answer = server.get("/")
    assert answer.json["service"] == "redis-featurestore"
    assert {"docs", "openapi", "schema", "health", "metrics"} <= answer.json["links"].keys()
    for path in answer.json["links"].values():
        assert server.get(path).status == 200, path


def test_a_browser_gets_the_links_as_a_page(server: HttpServer) -> None:
    answer = server.request("GET", "/", Accept=BROWSER)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    linked = References(answer.body).found
    assert {"docs", "openapi.json", "metrics"} <= {*linked}
    for path in linked:
        assert server.get(f"/{path}").status == 200, path
    assert server.request("GET", "/", Accept="application/json").headers["content-type"] == "application/json"
    assert server.request("GET", "/", Accept="nonsense").headers["content-type"] == "application/json"


def test_pages_load_nothing_from_elsewhere_and_have_nothing_inline(server: HttpServer) -> None:
    for page in (server.request("GET", "/", Accept=BROWSER), server.get("/docs")):
        assert page.headers["content-security-policy"] == pages.POLICY
        assert page.headers["x-content-type-options"] == "nosniff"
        found = References(page.body)
        assert found.inline == []
        for path in found.found:
            assert re.match(r"[a-z]", path), path
            assert "//" not in path
            assert server.get(f"/{path}").status == 200, path


def test_files_are_kept_for_good_by_their_digest_and_asked_for_again_otherwise(server: HttpServer) -> None:
    scripts = [path for path in References(server.get("/docs").body).found if ".js?v=" in path]
    assert len(scripts) == 2
    for path in scripts:
        answer = server.get(f"/{path}")
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert "immutable" in answer.headers["cache-control"]
        assert f'"{path.rpartition("=")[2]}"' == answer.headers["etag"]
        plain = server.get(f"/{path.partition('?')[0]}")
        assert (plain.body, plain.headers["cache-control"]) == (answer.body, "no-cache")
        again = server.request("GET", f"/{path}", **{"If-None-Match": answer.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        head = server.request("HEAD", f"/{path}")
        assert (head.status, head.headers["content-length"]) == (200, str(len(answer.body)))


def test_a_slash_behind_docs_leads_to_docs(server: HttpServer) -> None:
    answer = server.get("/docs/")
    assert (answer.status, answer.headers["location"]) == (308, "../docs")


@pytest.mark.parametrize(
    "name", ["nope.js", "..%2Fstart.js", "%2e%2e/start.js", "..%2F..%2Fpages.py", "%2Fetc%2Fpasswd", "start.js%00"]
)
def test_there_is_no_way_to_other_files(server: HttpServer, name: str) -> None:
    answer = server.get(f"/docs/{name}")
    assert answer.status in {400, 404}
    assert answer.headers["content-type"] == "application/problem+json"


def test_without_swagger_ui_there_is_a_plain_page_that_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_SWAGGER", "no_package_of_this_name")
    client = falcon.testing.TestClient(create_app(FeatureStore(FakeTransport())))
    page = client.simulate_get("/docs")
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == pages.POLICY
    assert "pip install &#x27;redis-featurestore[swagger]&#x27;" in page.text
    for path in contract()["paths"]:
        assert f"<code>{path}</code>" in page.text
    found = References(page.content)
    assert found.inline == []
    for path in found.found:
        assert client.simulate_get(f"/{path.partition('?')[0]}").status_code == 200, path
    assert client.simulate_get("/docs/swagger-ui.css").status_code == 404


def test_a_link_is_there_only_with_its_route() -> None:
    routes = [route for route in ROUTES if route.path != "/docs"]
    assert "docs" in pages.RootResource(ROUTES)._links
    assert "docs" not in pages.RootResource(routes)._links


def test_a_browser_shows_every_operation_and_keeps_to_the_policy(server: HttpServer, tmp_path: Path) -> None:
    needs("Chromium", *BROWSERS)
    browser = shutil.which(BROWSERS[0])
    assert browser
    shown = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--dump-dom",
            f"http://127.0.0.1:{server.port}/docs#/reads/getBatch",
        ],
        check=True, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    ids = [
        operation["operationId"]
        for item in contract()["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    for each in ids:
        assert re.search(rf'id="operations-\w+-{each}"', shown.stdout), each
    assert "Content Security Policy" not in shown.stderr
    assert "CONSOLE" not in shown.stderr, shown.stderr
