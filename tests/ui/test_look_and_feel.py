"""Contrast, keyboard, phones, and what screen readers are told."""

import pytest
from support.browser import SHIFT, Browser
from support.http import HttpServer
from support.visiting import Visitor, overflow

_CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (color, under) => {
    canvas.fillStyle = `rgb(${under})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
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
NAMED = {"button", "link", "textbox", "combobox", "checkbox", "table", "tab"}
"""Roles of what has to have a name."""

VIEWS = ("#/user", "#/user/bob", "#/user/ann,bob,raw", "#schema/user", "#sample/user/country", "#live")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_in_light_and_dark(visit: Visitor, scheme: str) -> None:
    page = visit("#/user")
    page.prefer(scheme)
    for view in VIEWS:
        page.run(f"location.hash = {view!r}")
        page.wait(
            f"document.querySelector('[role=tab][aria-selected=true]').hash.slice(0, 4) === {view[:4]!r}"
            " && document.querySelector('#panel .card')"
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
        if not node.get("ignored") and node.get("role", {}).get("value") in NAMED
        and not node.get("name", {}).get("value")
    ]  # fmt: skip
    assert unnamed == []


def test_swagger_ui_stays_light_where_the_system_is_dark(browser: Browser, server: HttpServer) -> None:
    """It has colours for a light page alone, so that on a dark one it cannot be read."""
    page = browser.page("about:blank", browser.context())
    page.prefer("dark")
    page.open(f"http://127.0.0.1:{server.port}/docs")
    page.wait("document.querySelector('#swagger-ui .opblock')")
    assert page.run("getComputedStyle(document.documentElement).colorScheme") == "normal"
