"""Writes from the page, which need a key."""

from support.browser import Page
from support.http import HttpServer
from support.visiting import HACK, Visitor, cell, enter_keys


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
    visit.expected |= {"401", "422"}
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
    page.wait("document.querySelector('.problem')?.innerText.includes('this API key is not known')")
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
