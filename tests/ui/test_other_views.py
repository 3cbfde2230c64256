"""Schema, distributions and live figures."""

from support.http import HttpServer
from support.visiting import Visitor, cell


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
        "[...document.querySelectorAll('table a.feature')].filter(e => e.offsetParent).map(e => e.innerText).join()"
        " === 'age'"
    )
    page.click("#tab-lookup")
    page.wait("location.hash === '#/user'")
    page.run(
        "(() => { const s = document.querySelector('#entity'); s.value = 'item';"
        " s.dispatchEvent(new Event('change')) })()"
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
    page.wait("document.querySelector('[data-detail=embedding]')?.innerText.includes('18.2')")


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
    page.wait("parseFloat(document.querySelector('.tile .figure').innerText) > 0")
    send()
    page.wait("parseFloat(document.querySelectorAll('.tile .figure')[3].innerText) > 0")
    page.wait("document.querySelectorAll('.tile .figure')[1].innerText.endsWith('ms')")
    told = page.text("#panel")
    for text in ("GET /features/{id}", "PUT /features/{id}", "applied", "404", "healthy"):
        assert text in told
    page.click("details summary")
    page.wait("document.querySelector('details').innerText.includes('featurestore_rows_total')")
    assert page.run("window.kept.every(e => e.isConnected)")
