"""The page at `/ui`, in headless Chromium against the real server."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from support.browser import SHIFT, Browser, Page, browsing, chromium
from support.http import HttpServer, serving
from support.servers import Server

from featurestore import FeatureStore, Keys, read_definition

FOLDER = Path(__file__).parents[2] / "featurestore" / "ui"
MOST_BYTES = 100_000
HACK = "<script>window.__hacked=1</script><img src=x onerror='window.__hacked=1'>\"'&amp;"
BACKWARDS = "abc\u202egnp.exe\u0000\n"
LONG = "x" * 10_000
SCHEMA = """
entity = "user"
description = "People who buy <b>things</b>"
owner = "growth@example.com"
tags = ["core", "daily"]

[features]
age = { type = "float", description = "In years, as told at sign-up", owner = "profiles", tags = ["pii"] }
n_logins = "int"
vip = { type = "bool", default = false }
bio = { type = "string", description = "<i>Free</i> text" }
country = { type = "string", default = "ZZ" }
ctr_7d = { type = "float", max_age = "2d" }
embedding = "float32[1000]"
shape = { type = "float32[3]", always = true }
clicks_10m = "count(10m)"
spent_1h = "sum(amount, 1h)"

[services]
profile = ["age", "country"]
offer = ["age", "item:price"]
"""
ITEMS = 'entity = "item"\n[features]\nprice = "float"\ntitle = "string"\n'
OLD = "2020-01-01T00:00:00Z"


def fill(url: str, folder: Path) -> None:
    """Store two entities, with rows of every kind, those that mean harm too."""
    (folder / "user.toml").write_text(SCHEMA)
    (folder / "item.toml").write_text(ITEMS)
    with FeatureStore.connect(url, timeout=10) as store:
        items = FeatureStore(store.transport, Keys.of("item"))
        items.apply(folder / "item.toml")
        store.apply(folder / "user.toml")
        items.upsert([("i9", {"price": 9.5, "title": "Lamp"}), ("i10", {"title": HACK})])
        embedding = [number / 1000 for number in range(1000)]
        store.upsert(
            [
                ("ann", {"age": 31.0, "n_logins": 2**63 - 1, "vip": True, "bio": HACK, "country": "DE", "ctr_7d": 0.25,
                         "embedding": embedding, "shape": [0.5, 1, -2]}),
                ("bob", {"age": 40.0, "n_logins": 7, "bio": BACKWARDS}),
                ("cid", {"bio": LONG, "country": "00123"}),
                ("<b>x</b>", {"age": 1.0}), ("a,b", {"age": 2.0}), ("a/b?c#d", {"age": 3.0}), ("é€😀", {"age": 4.0}),
                ("gone", {"age": 5.0}),
            ]
        )  # fmt: skip
        store.upsert([(f"user{number:05}", {"age": 20.0 + number % 50, "n_logins": number, "vip": number % 4 == 0,
                                            "country": "FR" if number % 3 else "US"}) for number in range(60)])  # fmt: skip
        store.upsert([("bob", {"ctr_7d": 0.5})], event_time=OLD)
        store.delete("gone")
        store.transport.command("HSET", "user:raw:features", "age", "young", "country", "IT")
        store.transport.command("SADD", "all_users", "raw")


@pytest.fixture(scope="module")
def server(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """A server with data of every kind."""
    folder, redis = tmp_path_factory.mktemp("ui"), servers["valkey9"]
    with FeatureStore.connect(redis.url, timeout=10) as store:
        store.transport.command("FLUSHALL")
    fill(redis.url, folder)
    with serving(redis.url, folder, write_keys="secret", timeout_ms="5000") as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium() is None:
        assert not os.environ.get("CI"), "CI installs Chromium, yet it is not there"
        pytest.skip("this machine has no Chromium")
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found


class Visitor:
    """Opens views of a server, and makes sure at the end that none complained or asked anyone else."""

    def __init__(self, browser: Browser, server: HttpServer) -> None:
        self.browser, self.base = browser, f"http://127.0.0.1:{server.port}"
        self.pages: list[Page] = []
        self.expected: set[str] = set()

    def __call__(self, view: str = "", *, width: int = 1280, height: int = 800) -> Page:
        page = self.browser.page(f"{self.base}/ui{view}", width, height)
        self.pages.append(page)
        page.wait("document.querySelector('#panel .card, #panel .problem')")
        return page

    def check(self) -> None:
        for page in self.pages:
            assert page.violations == []
            assert page.run("window.__hacked") is None
            complaints = [each for each in page.complaints if not any(status in each for status in self.expected)]
            assert complaints == []
            hosts = {urlsplit(each).netloc for each in page.requests if not each.startswith("data:")}
            assert hosts == {self.base.removeprefix("http://")}


@pytest.fixture
def visit(browser: Browser, server: HttpServer) -> Iterator[Visitor]:
    visitor = Visitor(browser, server)
    yield visitor
    visitor.check()


def cell(page: Page, row: str, column: int) -> str:
    """Return what a table shows in the row of a feature: 0 its name, 1 … the other columns."""
    found: str = page.run(
        f"[...document.querySelectorAll('#panel tbody tr')].find(r => r.querySelector('th a')?.innerText === {row!r})"
        f"?.children[{column}].innerText ?? 'no row'"
    )
    return found


def overflow(page: Page) -> list[str]:
    """Return what is wider than the window, but for what scrolls by itself."""
    found: list[str] = page.run(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .hidden, .skip, thead, [role=tablist], dialog')"
        " && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 120))"
    )
    return found if page.run("document.documentElement.scrollWidth > innerWidth") else []


def enter_keys(page: Page, write: str = "", read: str = "") -> None:
    page.click("#keys")
    for field, key in (("read", read), ("write", write)):
        page.click(f"#{field}-key")
        page.run(f"document.querySelector('#{field}-key').value = ''")
        page.type(key)
    page.click("#keys-dialog button[value=use]")
    page.wait("!document.querySelector('#keys-dialog').open")


# The files


def test_the_files_are_small_and_name_no_other_host() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    text = "".join(path.read_text() for path in files)
    assert {piece.split("/", 1)[0] for piece in text.split("http://")[1:]} <= {"www.w3.org"}
    assert "https://" not in text
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "onclick=", "style="):
        assert unsafe not in text


def test_a_file_is_answered_with_its_type_policy_and_tag(server: HttpServer) -> None:
    for path, kind in (("/ui", "text/html"), ("/ui/main.js", "text/javascript"), ("/ui/style.css", "text/css")):
        answer = server.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        again = server.request("GET", path, **{"If-None-Match": answer.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert server.request("HEAD", path).headers["ETag"] == answer.headers["ETag"]
    assert server.get("/ui/").headers["Location"] == "../ui"
    assert [server.get(path).status for path in ("/ui/nothing.js", "/ui/..%2Fkeys.py", "/ui/a/b")] == [404, 404, 404]
    assert server.request("POST", "/ui", b"").status == 405


# Looking ids up


def test_an_id_is_shown_with_typed_values_statuses_times_and_the_state_of_its_row(visit: Visitor) -> None:
    page = visit()
    page.wait("document.activeElement.id === 'ids'")
    page.type("ann")
    page.press("Enter")
    page.wait("location.hash === '#/user/ann' && document.querySelector('h2').innerText === 'ann'")
    assert [cell(page, "age", column) for column in (0, 1, 2, 3)] == [
        "age\nIn years, as told at sign-up", "float", "31.0", "present"
    ]  # fmt: skip
    assert cell(page, "n_logins", 2) == str(2**63 - 1)
    assert cell(page, "vip", 2) == "true"
    assert cell(page, "country", 2) == '"DE"'
    assert cell(page, "shape", 2) == "[0.5, 1, -2]"
    assert cell(page, "clicks_10m", 3) == "default"
    told = page.text(".facts")
    assert "current" in told
    assert "layout @" in told
    assert page.run("/\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d\\n\\d{4}-.*Z/.test(document.querySelector('.facts').innerText)")
    assert page.run("document.title") == "ann · Feature store"


def test_what_is_stale_missing_a_default_or_of_another_type_is_told(visit: Visitor) -> None:
    page = visit("#/user/bob")
    assert [cell(page, "ctr_7d", column) for column in (2, 3)] == ["null", "stale\nstored: 0.5"]
    assert cell(page, "ctr_7d", 4).startswith("2020-01-01 01:00:00\n")  # the browser is in Berlin
    assert [cell(page, "country", column) for column in (2, 3, 4)] == ['"ZZ"', "default", ""]
    assert [cell(page, "embedding", column) for column in (2, 3)] == ["null", "missing"]
    page = visit("#/user/raw")
    assert cell(page, "age", 3) == "missing\nstored, but not of its type: young"
    assert "something else wrote the hash" in page.text(".facts")


@pytest.mark.parametrize(("entity_id", "state"), [("nobody", "nothing stored"), ("gone", "deleted")])
def test_an_unknown_id_is_told_apart_from_a_deleted_one(visit: Visitor, entity_id: str, state: str) -> None:
    page = visit(f"#/user/{entity_id}")
    page.wait("document.querySelector('.facts')")
    assert state in page.text(".facts")
    assert "The store does not know this id" in page.text("#panel")


def test_several_ids_stand_side_by_side(visit: Visitor) -> None:
    page = visit("#/user/ann,bob,nobody")
    assert page.run("[...document.querySelectorAll('thead th')].map(e => e.innerText)") == ["Feature", "ann", "bob", "nobody"]
    assert [cell(page, "age", column) for column in (1, 2, 3)] == ["31.0", "40.0", "null"]
    assert cell(page, "country", 2) == '"ZZ"default'
    page.open(f"{visit.base}/ui#/user/ann,ann")
    page.wait("document.querySelectorAll('tr.same').length === 10 && !document.querySelector('tr.differs')")
    page.click("label.check input")
    page.wait("[...document.querySelectorAll('tr.same')].every(e => !e.offsetParent)")


def test_a_service_and_a_query_of_two_entities_are_shown(visit: Visitor) -> None:
    page = visit("#/user/ann?service=profile")
    assert page.run("[...document.querySelectorAll('tbody th a')].map(e => e.innerText)") == ["age", "country"]
    page.open(f"{visit.base}/ui#/user/ann,bob?service=offer")
    page.wait("document.querySelector('input[name=item]')")
    page.click("input[name=item]")
    page.type("i9")
    page.press("Enter")
    page.wait("[...document.querySelectorAll('thead th')].map(e => e.innerText).join() === 'Feature,ann · i9,bob · i9'")
    assert [cell(page, "user:age", column) for column in (1, 2)] == ["31.0", "40.0"]
    assert [cell(page, "item:price", column) for column in (1, 2)] == ["9.5", "9.5"]


def test_values_that_mean_harm_stay_text(visit: Visitor) -> None:
    page = visit("#/user/ann")
    assert cell(page, "bio", 2) == f'"{HACK}"'
    assert page.run("document.querySelectorAll('#panel script, #panel img, #panel i').length") == 0
    page = visit("#/user/bob")
    assert cell(page, "bio", 2) == '"abc\\u202egnp.exe\\u0000\\n"'
    for view in ("#/user/ann,bob,cid", "#schema/user", "#sample/user/bio", "#/item/i10"):
        assert visit(view).run("document.querySelectorAll('#panel script, #panel img').length") == 0
    for entity_id in ("<b>x</b>", "a,b", "a/b?c#d", "é€😀"):
        page = visit(f"#/user/{quote(entity_id, safe='')}")
        page.wait("document.querySelector('h2')?.innerText.length")
        assert page.text("h2") == entity_id
        assert cell(page, "age", 3) == "present"
    page = visit("#/user/a%2Cb")
    assert page.run("document.querySelector('#ids').value") == "a\\,b"


def test_long_values_are_folded_until_one_asks(visit: Visitor) -> None:
    page = visit("#/user/ann")
    assert cell(page, "embedding", 2).endswith("…]all 1,000 numbers")
    page.click("button.fold")
    page.wait("document.querySelector('.value.open').innerText.split(',').length === 1000")
    page = visit("#/user/cid")
    assert "all 10,000 characters" in cell(page, "bio", 2)
    page.click("button.fold")
    page.wait(f"document.querySelector('.value.open').innerText === '\"' + 'x'.repeat({len(LONG)}) + '\"'")
    assert overflow(page) == []


def test_following_shows_what_others_write_and_leaves_the_rest_alone(visit: Visitor, server: HttpServer) -> None:
    page = visit("#/user/user00007")
    page.run("window.kept = [...document.querySelectorAll('#panel td')]")
    page.click("label.check input")
    assert server.request("PUT", "/features/user00007", {"features": {"age": 99}}, **{"X-API-Key": "secret"}).status == 200
    page.wait("[...document.querySelectorAll('#panel td')].some(e => e.innerText === '99.0')")
    assert page.run("window.kept.every((e, at) => e === document.querySelectorAll('#panel td')[at])")
