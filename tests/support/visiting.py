"""What tests of the page at `/ui` share: data of every kind, and a visitor who opens views."""

from pathlib import Path
from urllib.parse import urlsplit

from featurestore import FeatureStore, Keys
from support.browser import Browser, Page
from support.http import HttpServer

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
        store.upsert(
            (f"user{number:05}", {"age": 20.0 + number % 50, "n_logins": number, "vip": number % 4 == 0,
                                  "country": "FR" if number % 3 else "US"})
            for number in range(60)
        )  # fmt: skip
        store.upsert([("bob", {"ctr_7d": 0.5})], event_time=OLD)
        store.delete("gone")
        store.transport.command("HSET", "user:raw:features", "age", "young", "country", "IT")
        store.transport.command("SADD", "all_users", "raw")


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
        "[...document.querySelectorAll('body *')]"
        ".filter(e => !e.closest('.scroll, .hidden, .skip, thead, [role=tablist], dialog')"
        " && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 120))"
    )
    return found if page.run("document.documentElement.scrollWidth > innerWidth") else []


def enter_keys(page: Page, write: str = "", read: str = "") -> None:
    page.click("#keys")
    for field, key in (("read", read), ("write", write)):
        page.click(f"#{field}-key")
        page.run(f"document.querySelector('#{field}-key').value = ''")
        page.type(key)
    page.run("document.querySelector('#entity option').dataset.old = 'yes'")
    page.click("#keys-dialog button[value=use]")
    page.wait("!document.querySelector('#keys-dialog').open")
    page.wait("!document.querySelector('#entity option').dataset.old")  # the entities are read again
