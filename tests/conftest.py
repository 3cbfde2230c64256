"""Fixtures that every folder of tests shares."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support.fake import FakeTransport
from support.gunicorn import Gunicorn
from support.servers import Server, binaries

from featurestore import FeatureStore, SyncTransport, Transport

collect_ignore = ["feast_client"]  # needs Feast, in an environment of its own: make test-feast

BACKENDS = ("fakeredis", "valkey9", "redis62", "redis7")
_OWN_KEYS = (b"user:", b"all_users")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Every real server that this machine has, started."""
    running = {}
    for name, binary in binaries().items():
        running[name] = Server(binary, tmp_path_factory.mktemp(name))
        running[name].start()
    yield running
    for server in running.values():
        server.stop()


@pytest.fixture(scope="session", params=BACKENDS)
def shared_transport(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Transport]:
    """A transport to each backend in turn, whatever it holds."""
    if request.param == "fakeredis":
        yield FakeTransport()
    elif request.param not in servers:
        pytest.skip(f"this machine has no {request.param}")
    else:
        transport = SyncTransport(servers[request.param].socket_url, timeout=5, connect_timeout=5)
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


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    """A Valkey of the test's own, to stop, freeze and restart."""
    server = Server(binaries()["valkey9"], tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A gunicorn that serves the worker's probe app to the tests of a module."""
    running = Gunicorn(tmp_path_factory.mktemp("gunicorn"), "--access-logfile", "-")
    yield running
    assert running.stop() == 0
