"""What the page says when something is wrong."""

from pathlib import Path

from support.browser import Browser
from support.http import serving
from support.servers import Server
from support.visiting import Visitor, cell, fill

from featurestore import FeatureStore, read_definition


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


def store_age(valkey: Server, age: float) -> None:
    """Apply the package's schema, and write the age of the user u1."""
    with FeatureStore.connect(valkey.url, timeout=10) as store:
        store.apply(read_definition())
        store.upsert([("u1", {"age": age})])


def test_a_redis_that_is_away_is_told_and_the_page_comes_back_by_itself(
    browser: Browser, valkey: Server, tmp_path: Path
) -> None:
    store_age(valkey, 1.0)
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
            "document.querySelector('#health').dataset.state === 'unhealthy'"
            " && !document.querySelector('#banner').hidden"
        )
        valkey.start()
        store_age(valkey, 2.0)
        page.wait("[...document.querySelectorAll('#panel td')].some(e => e.innerText === '2.0')")
        server.stop()
        page.press("r")
        page.wait("document.querySelector('.problem')?.innerText === 'The server does not answer.'")
        visit.check()


def test_a_read_that_came_too_late_can_be_repeated_by_a_button(
    browser: Browser, valkey: Server, tmp_path: Path
) -> None:
    store_age(valkey, 1.0)
    with serving(valkey.url, tmp_path, timeout_ms="500") as server:
        visit = Visitor(browser, server)
        visit.expected |= {"503", "504", "ERR_"}
        page = visit("#/user/u1")
        page.wait("[...document.querySelectorAll('#panel td')].some(e => e.innerText === '1.0')")
        with valkey.frozen():
            page.press("r")
            page.wait("document.querySelector('.problem button')?.innerText === 'Read again'")
        page.click(".problem button")
        page.wait("[...document.querySelectorAll('#panel td')].some(e => e.innerText === '1.0')")
        visit.check()


def test_a_redis_user_that_may_only_read_features_is_enough_to_look_ids_up(
    browser: Browser, valkey: Server, tmp_path: Path
) -> None:
    fill(valkey.url, tmp_path)
    with FeatureStore.connect(valkey.url, timeout=10) as store:
        may = "~user:* ~all_users +evalsha +script|load +sismember +smismember +hget +hmget +hgetall +time +type"
        store.transport.command("ACL", "SETUSER", "reader", "on", ">secret", *may.split())  # as docs/direct.md has it
    with serving(f"redis://reader:secret@127.0.0.1:{valkey.port}/0", tmp_path, timeout_ms="5000") as server:
        visit = Visitor(browser, server)
        visit.expected.add("503")
        page = visit("#/user/ann")
        page.wait("document.querySelector('h2')?.innerText === 'ann'")
        assert cell(page, "age", 2) == "31.0"
        assert "current" in page.text(".facts")
        page.run("location.hash = '#/user'")
        page.wait("document.querySelector('.empty h2')?.innerText === 'user'")
        page.run("location.hash = '#sample/user'")
        page.wait("document.querySelector('.problem')?.innerText.includes('scard')")
        visit.check()
