"""Looking ids up: one, or several side by side."""

from urllib.parse import quote

import pytest
from support.http import HttpServer
from support.visiting import HACK, LONG, Visitor, cell, overflow


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
