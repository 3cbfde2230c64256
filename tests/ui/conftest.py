"""A server with data of every kind, a browser, and a visitor."""

import os
from collections.abc import Iterator

import pytest
from support.browser import Browser, browsing, chromium
from support.http import HttpServer, serving
from support.servers import Server
from support.visiting import Visitor, fill

from featurestore import FeatureStore


@pytest.fixture(scope="module")
def server(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """A server with data of every kind."""
    folder, redis = tmp_path_factory.mktemp("ui"), servers["valkey9"]
    with FeatureStore.connect(redis.url, timeout=10) as store:
        store.transport.command("FLUSHALL")
    fill(redis.url, folder)
    with serving(redis.url, folder, write_keys="secret", timeout_ms="5000") as found:
        yield found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium() is None:
        assert not os.environ.get("CI"), "CI installs Chromium, yet it is not there"
        pytest.skip("this machine has no Chromium")
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def visit(browser: Browser, server: HttpServer) -> Iterator[Visitor]:
    visitor = Visitor(browser, server)
    yield visitor
    visitor.check()
