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
        self._context = browser.context()

    def __call__(self, view: str = "", *, width: int = 1280, height: int = 800) -> Page:
        page = self.browser.page(f"{self.base}/ui{view}", self._context, width, height)
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
        self.browser.dispose(self._context)


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
    assert page.run(
        "/\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d\\n\\d{4}-.*Z/.test(document.querySelector('.facts').innerText)"
    )
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
    assert page.run("[...document.querySelectorAll('thead th')].map(e => e.innerText)") == [
        "Feature",
        "ann",
        "bob",
        "nobody",
    ]
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
    assert (
        server.request("PUT", "/features/user00007", {"features": {"age": 99}}, **{"X-API-Key": "secret"}).status == 200
    )
    page.wait("[...document.querySelectorAll('#panel td')].some(e => e.innerText === '99.0')")
    assert page.run("window.kept.every((e, at) => e === document.querySelectorAll('#panel td')[at])")


# Writing


def choose(page: Page, place: int, value: str) -> None:
    """Choose in a select of the write panel, as a user does."""
    page.run(
        f"(() => {{ const s = document.querySelectorAll('.write select')[{place}]; s.value = {value!r};"
        " s.dispatchEvent(new Event('change')) })()"
    )


def write(page: Page, feature: str, what: str, text: str = "") -> None:
    choose(page, 0, feature)
    choose(page, 1, what)
    if what != "clear":
        page.click(".write input")
        page.run("document.querySelector('.write input').select()")
        page.type(text)
    page.click(".write button")


def test_a_write_is_refused_in_words_without_a_key_and_done_with_one(visit: Visitor, server: HttpServer) -> None:
    visit.expected |= {"401", "403", "422"}
    page = visit("#/user/user00001")
    page.click("summary")
    write(page, "age", "set", "77")
    page.wait("document.querySelector('.write ~ div .problem')")
    assert "writing needs an API key" in page.text(".write ~ div .problem")
    page.click(".problem button")
    page.wait("document.querySelector('#keys-dialog').open")
    page.press("Escape")
    enter_keys(page, write="wrong")
    write(page, "age", "set", "77")
    page.wait("document.querySelector('.problem')?.innerText.includes('this API key may not write')")
    assert cell(page, "age", 2) == "21.0"
    enter_keys(page, write="secret")
    write(page, "age", "set", "77")
    page.wait("document.querySelector('.done')?.innerText === 'applied: age is 77.0'")
    page.wait("[...document.querySelectorAll('#panel td')].some(e => e.innerText === '77.0')")
    assert server.get("/features/user00001?features=age").json["features"] == {"age": 77.0}
    write(page, "n_logins", "set", str(2**62 + 1))
    page.wait(f"document.querySelector('.done')?.innerText === 'applied: n_logins is {2**62 + 1}'")
    write(page, "n_logins", "set", "40")
    page.wait("document.querySelector('.done')?.innerText === 'applied: n_logins is 40'")
    write(page, "n_logins", "add", "5")
    page.wait("document.querySelector('.done')?.innerText.startsWith('added: n_logins')")
    assert server.get("/features/user00001?features=n_logins").json["features"] == {"n_logins": 45}
    write(page, "bio", "set", HACK)
    page.wait("document.querySelector('.done')?.innerText.startsWith('applied: bio')")
    write(page, "shape", "set", "[1, 2, 3]")
    page.wait("document.querySelector('.done')?.innerText.startsWith('applied: shape')")
    write(page, "country", "clear")
    page.wait("document.querySelector('.done')?.innerText.startsWith('applied: country')")
    asked = "bio,country,shape"
    found = server.get(f"/features/user00001?features={asked}").json["features"]
    assert found == {"bio": HACK, "country": "ZZ", "shape": [1.0, 2.0, 3.0]}
    write(page, "age", "set", "old")
    page.wait("document.querySelector('.problem')?.innerText.includes(\"age is float, not 'old'\")")
    assert page.run("[localStorage.length, sessionStorage.length, document.cookie].join()") in {"1,0,", "0,0,"}
    assert "secret" not in page.run("JSON.stringify(localStorage) + location.href")


def test_an_entity_is_deleted_only_after_a_question(visit: Visitor, server: HttpServer) -> None:
    visit.expected.add("404")
    page = visit("#/user/user00002")
    enter_keys(page, write="secret")
    page.wait("document.querySelector('summary')")
    page.click("summary")
    page.click("button.danger")
    page.wait("document.querySelector('#panel').innerText.includes('It cannot be taken back')")
    page.click(".row button:not(.danger)")
    assert server.get("/features/user00002").status == 200
    page.click("button.danger")
    page.click(".row button.danger")
    page.wait("document.querySelector('.facts').innerText.includes('deleted') && document.querySelector('.done')")
    assert server.get("/features/user00002").status == 404
    page.click("button.danger")
    page.click(".row button.danger")
    page.wait("document.querySelector('.problem')?.innerText.includes('User user00002 not found')")


# The other views


def test_the_schema_is_shown_with_what_people_are_told(visit: Visitor) -> None:
    page = visit("#schema/user")
    told = page.text("#panel")
    for text in ("People who buy <b>things</b>", "growth@example.com", "core", "In years, as told at sign-up", "pii"):
        assert text in told
    assert cell(page, "country", 2) == '"ZZ"'
    assert cell(page, "ctr_7d", 3) == "2 d"
    assert cell(page, "shape", 1) == "float32[3] · always read"
    assert cell(page, "item", 1) == "2"
    page.click("input[type=search]")
    page.type("pii")
    page.wait(
        "[...document.querySelectorAll('table a.feature')].filter(e => e.offsetParent).map(e => e.innerText).join() === 'age'"
    )
    page.click("#tab-lookup")
    page.wait("location.hash === '#/user'")
    page.run(
        "document.querySelector('#entity').value = 'item'; document.querySelector('#entity').dispatchEvent(new Event('change'))"
    )
    page.wait("location.hash === '#/item' && document.querySelector('h2').innerText === '2 known ids of item'")


def test_a_sample_shows_how_much_is_null_and_how_values_lie(visit: Visitor, server: HttpServer) -> None:
    known = server.get("/entities/user/sample?count=1").json["known"]
    page = visit("#sample/user/n_logins")
    page.wait("document.querySelector('[data-detail=n_logins] svg.bars rect')")
    assert f"{known} of {known} known ids" in page.text("#panel")
    assert cell(page, "embedding", 1) == "no row"  # read only when it is asked for
    assert cell(page, "ctr_7d", 2).endswith("98.5 %") or float(cell(page, "ctr_7d", 2).rstrip(" %")) > 95
    assert "% true" in cell(page, "vip", 4)
    assert "most often “FR”" in cell(page, "country", 4)
    assert "far beyond, not drawn" in page.text("[data-detail]")
    page.click("tr[data-name=country] a")
    page.wait("document.querySelector('[data-detail=country] .tops')")
    assert page.text(".tops").startswith('"FR"')
    page.click(".foot a")
    page.wait(
        "document.querySelector('[data-detail=embedding]')?.innerText.includes('always 18.2') || document.querySelector('[data-detail=embedding]')?.innerText.includes('18.2')"
    )


def test_the_live_view_counts_requests_rows_and_errors(visit: Visitor, server: HttpServer) -> None:
    page = visit("#live")
    page.wait("document.querySelectorAll('.tile').length === 5")
    page.run("window.kept = [...document.querySelectorAll('#panel .tile, #panel table')]")

    def send() -> None:
        for _ in range(5):
            assert server.get("/features/ann").status == 200
            assert server.get("/features/nobody").status == 404
            row = {"features": {"age": 1}}
            assert server.request("PUT", "/features/user00003", row, **{"X-API-Key": "secret"}).status == 200

    send()
    page.wait(
        "document.querySelector('.tile .figure').innerText.match(/^[\\d.]+/) && parseFloat(document.querySelector('.tile .figure').innerText) > 0"
    )
    send()
    page.wait("parseFloat(document.querySelectorAll('.tile .figure')[3].innerText) > 0")
    page.wait("document.querySelectorAll('.tile .figure')[1].innerText.endsWith('ms')")
    told = page.text("#panel")
    for text in ("GET /features/{id}", "PUT /features/{id}", "applied", "404", "healthy"):
        assert text in told
    page.click("details summary")
    page.wait("document.querySelector('details').innerText.includes('featurestore_rows_total')")
    assert page.run("window.kept.every(e => e.isConnected)")


# How it looks and feels

_CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (color, under) => {
    canvas.fillStyle = `rgb(${under})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (c) => { const [r, g, b] = c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b };
  const ground = (e) => e ? rgb(getComputedStyle(e).backgroundColor, ground(e.parentElement)) : [255, 255, 255];
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.offsetParent || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const back = ground(e), fore = rgb(getComputedStyle(e).color, back);
    const [a, b] = [light(back), light(fore)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) bad.push([e.className || e.tagName, e.textContent.slice(0, 30), ratio.toFixed(2)].join(' '));
  }
  return bad;
})()
"""
VIEWS = ("#/user", "#/user/bob", "#/user/ann,bob,raw", "#schema/user", "#sample/user/country", "#live")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_in_light_and_dark(visit: Visitor, scheme: str) -> None:
    page = visit("#/user")
    page.prefer(scheme)
    for view in VIEWS:
        page.run(f"location.hash = {view!r}")
        page.wait(
            f"document.querySelector('[role=tab][aria-selected=true]').hash.slice(0, 4) === {view[:4]!r} && document.querySelector('#panel .card')"
        )
        page.run("document.getAnimations().forEach(a => a.finish())")
        assert page.run(_CONTRAST) == []
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(247, 247, 245)") == (scheme == "light")
    other = "dark" if scheme == "light" else "light"
    for _ in range(1 if other == "light" else 2):
        page.click("#theme")
    assert page.run("getComputedStyle(document.body).backgroundColor") != ground
    page.open(f"{visit.base}/ui")
    page.wait("document.querySelector('#panel .card')")
    assert page.run("getComputedStyle(document.body).backgroundColor") != ground  # it is remembered


def test_all_is_done_by_keyboard(visit: Visitor, server: HttpServer) -> None:
    page = visit("#live")
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.press("Enter")
    page.wait("document.activeElement.id === 'panel'")
    page.press("/")
    page.wait("document.activeElement.id === 'ids'")
    page.type("user00004")
    page.press("Enter")
    page.wait("document.querySelector('h2')?.innerText === 'user00004'")
    page.run("document.activeElement.blur()")
    page.press("2")
    page.wait("location.hash === '#schema/user' && document.querySelector('input[type=search]')")
    page.run("document.querySelector('#tab-schema').focus()")
    page.press("ArrowRight")
    page.wait("location.hash === '#sample/user' && document.activeElement.id === 'tab-sample'")
    page.press("ArrowLeft", "ArrowLeft")
    page.wait("location.hash.startsWith('#/user') && document.activeElement.id === 'tab-lookup'")
    outline = page.run(
        "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
    )
    assert outline == "solid2px"
    page.run("location.hash = '#/user/user00004'")
    page.wait("document.querySelector('h2')?.innerText === 'user00004' && document.querySelector('a.feature')")
    page.run("document.querySelector('a.feature').focus()")
    page.press("ArrowDown")
    assert page.run("document.activeElement.innerText") == "n_logins"
    page.press("Enter")
    page.wait("document.querySelector('[data-detail=n_logins]')")
    page.run("document.activeElement.blur()")
    page.press("?", modifiers=SHIFT)
    page.wait("document.querySelector('#help-dialog').open")
    page.press("Escape")
    page.wait("!document.querySelector('#help-dialog').open")
    reached = set()
    for _ in range(14):
        page.press("Tab")
        reached.add(page.run("document.activeElement.id || document.activeElement.tagName"))
    assert {"entity", "keys", "theme", "help", "tab-sample"} & reached


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_overflows_on_a_phone(visit: Visitor, view: str) -> None:
    page = visit(view, width=360, height=740)
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert overflow(page) == []


def test_tables_keep_their_roles_where_cells_are_stacked(visit: Visitor) -> None:
    page = visit("#/user/ann", width=360)
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node.get("role", {}).get("value") for node in tree if not node.get("ignored")]
    for role in ("table", "row", "rowheader", "columnheader", "cell", "tablist", "tab", "tabpanel", "search", "status"):
        assert role in roles
    unnamed = [
        node for node in tree
        if not node.get("ignored") and node.get("role", {}).get("value") in {"button", "link", "textbox", "combobox", "checkbox", "table", "tab"}
        and not node.get("name", {}).get("value")
    ]  # fmt: skip
    assert unnamed == []


# When something is wrong


def test_what_does_not_exist_is_told(visit: Visitor) -> None:
    visit.expected.add("404")
    for view, text in (
        ("#/nothing/x", "no entity nothing has a schema"),
        ("#/user/ann?service=none", "user has no service none"),
        ("#sample/user/none", "user has no feature none"),
        (f"#/user/{','.join(map(str, range(21)))}", "21 ids: at most 20"),
    ):
        page = visit(view)
        page.wait("document.querySelector('.problem')")
        assert text in page.text(".problem")


def test_a_redis_without_a_schema_says_what_to_do(browser: Browser, valkey: Server, tmp_path: Path) -> None:
    with serving(valkey.url, tmp_path, timeout_ms="5000") as server:
        visit = Visitor(browser, server)
        visit.expected.add("503")
        page = visit()
        page.wait("document.querySelector('.empty')")
        assert "featurestore apply" in page.text(".empty")
        with FeatureStore.connect(valkey.url, timeout=10) as store:
            store.apply(read_definition())
            page.click(".empty button")
            page.wait("document.querySelector('.empty h2')?.innerText === '0 known ids of user'")
            assert "featurestore load" in page.text(".empty")
            assert "No id is known yet" in visit("#sample/user").text("#panel")
        visit.check()


def test_a_redis_that_is_away_is_told_and_the_page_comes_back_by_itself(
    browser: Browser, valkey: Server, tmp_path: Path
) -> None:
    with FeatureStore.connect(valkey.url, timeout=10) as store:
        store.apply(read_definition())
        store.upsert([("u1", {"age": 1.0})])
    with serving(valkey.url, tmp_path, timeout_ms="500") as server:
        visit = Visitor(browser, server)
        visit.expected |= {"503", "504", "ERR_"}
        page = visit("#/user/u1")
        page.run("setInterval(() => 0, 1000)")
        valkey.stop()
        page.press("r")
        page.wait("document.querySelector('.problem')")
        assert "Redis" in page.text(".problem")
        page.wait(
            "document.querySelector('#health').dataset.state === 'unhealthy' && !document.querySelector('#banner').hidden"
        )
        valkey.start()
        with FeatureStore.connect(valkey.url, timeout=10) as store:
            store.apply(read_definition())
            store.upsert([("u1", {"age": 2.0})])
        page.wait("[...document.querySelectorAll('#panel td')].some(e => e.innerText === '2.0')")
        server.stop()
        page.press("r")
        page.wait("document.querySelector('.problem')?.innerText === 'The server does not answer.'")
        visit.check()
