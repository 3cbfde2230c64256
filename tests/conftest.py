"""Fixtures that every folder of tests shares."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

import support.examples  # noqa: F401 - registers the profile
from featurestore.ingest.writer import BulkWriter
from support.fake import FakeTransport
from support.gunicorn import Gunicorn
from support.quick import is_quick, python_alone
from support.servers import Server, binaries
from support.tls import make_certificate
from support.whole_rows import FEATURES

from featurestore import Definition, FeatureStore, SyncTransport, Transport

# feast_client needs Feast, in an environment of its own: make test-feast. ports need other languages: make test-ports.
collect_ignore = ["feast_client", "ports"]

BACKENDS = ("fakeredis", "valkey9", "redis62", "redis7", "valkey9-functions", "redis7-functions")
"""Servers; with `-functions` behind it, one whose scripts are called by FCALL."""

_OWN_KEYS = (b"user:", b"all_users", b"featurestore:schemas")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="only tests/unit and what runs on fakeredis, with a fifth of Hypothesis's examples",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("quick"):
        settings.load_profile("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        slow = [item for item in items if not is_quick(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold the tests of tests/unit to Python alone."""
    with python_alone(request.node.nodeid) if request.path.parent.name == "unit" else contextlib.nullcontext():
        yield


@pytest.fixture(autouse=True)
def present_time() -> None:
    """Tell gevent's loop what time it is: timers start from when it last ran, which may be many tests ago."""
    gevent.get_hub().loop.update_now()


class Servers(dict[str, Server]):
    """The real servers that this machine has, each started when a test first asks for it by name.

    A test that asks for one that the machine lacks is skipped.
    """

    def __init__(self, folder: Callable[[str], Path]) -> None:
        super().__init__()
        self._folder, self._binaries = folder, binaries()

    def __contains__(self, name: object) -> bool:
        return name in self._binaries

    def __missing__(self, name: str) -> Server:
        if name not in self:
            pytest.skip(f"this machine has no {name}")
        server = self[name] = Server(self._binaries[name], self._folder(name))
        server.start()
        return server


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """The real servers by name: valkey9, redis62, redis7."""
    running = Servers(tmp_path_factory.mktemp)
    yield running
    for server in running.values():
        server.stop()


@pytest.fixture(scope="session", params=BACKENDS)
def shared_transport(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Transport]:
    """A transport to each backend in turn, whatever it holds."""
    if request.param == "fakeredis":
        yield FakeTransport()
    else:
        name, _, call = request.param.partition("-")
        transport = SyncTransport(servers[name].socket_url, timeout=5, connect_timeout=5, call=call or "scripts")
        yield transport
        transport.close()


@pytest.fixture
def transport(shared_transport: Transport) -> Iterator[Transport]:
    """A transport to an empty server; keys that are not the store's own fail the test."""
    shared_transport.command("FLUSHALL")
    yield shared_transport
    strangers = [key for key in shared_transport.command("KEYS", "*") if not key.startswith(_OWN_KEYS)]
    assert strangers == []


@pytest.fixture
def store(transport: Transport) -> FeatureStore:
    """A store over an empty server."""
    return FeatureStore(transport)


@pytest.fixture(params=["valkey9", "redis7"])
def loading(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[BulkWriter]:
    """A writer to an empty server, with the schema."""
    writer = BulkWriter(servers[request.param].socket_url)
    command = writer.store.transport.command
    command("FLUSHALL")
    before = command("CONFIG", "GET", "hash-max-listpack-value")
    command("CONFIG", "SET", "hash-max-listpack-value", 1 << 20)  # or the upsert's hashes would be no listpacks
    writer.store.apply(Definition(features=FEATURES))
    yield writer
    command("CONFIG", "SET", *before)
    command("CONFIG", "RESETSTAT")
    writer.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    """A Valkey of the test's own, to stop, freeze and restart."""
    server = Server(binaries()["valkey9"], tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tls_url(tmp_path: Path) -> Iterator[str]:
    """The address of a server that speaks TLS only, with a certificate of the test's own."""
    binary = binaries().get("redis7")
    if binary is None:
        pytest.skip("this machine has no redis7, the server that is built with TLS")
    certificate = make_certificate(tmp_path)
    plain = Server(binary, tmp_path)
    server = Server(binary, tmp_path, "--tls-port", str(plain.port), "--tls-cert-file", certificate.file,
                    "--tls-key-file", certificate.key, "--tls-auth-clients", "no")  # fmt: skip
    server.start()
    yield f"rediss://127.0.0.1:{plain.port}?ssl_ca_certs={certificate.file}"
    server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A gunicorn that serves the worker's probe app to the tests of a module."""
    running = Gunicorn(tmp_path_factory.mktemp("gunicorn"), "--access-logfile", "-")
    yield running
    assert running.stop() == 0
