"""Fixtures that every folder of tests shares."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
os.environ["FEATURESTORE_LOG_FORMAT"] = "text"  # of the servers and commands that tests start, whose lines they read

import support.examples  # noqa: F401 - registers the profile
from featurestore.ingest.writer import BulkWriter
from support.backends import ON_CLUSTERS, Backend, opened
from support.binaries import binaries
from support.cluster import Cluster, Watched
from support.fake import FakeTransport
from support.gunicorn import Gunicorn
from support.quick import is_quick, python_alone
from support.resp3 import Resp3Transport
from support.servers import EVERYDAY, UNDER_TEST, Server, real
from support.tls import make_certificate
from support.whole_rows import FEATURES

from featurestore import Definition, FeatureStore, SyncTransport, Transport
from featurestore.settings import CallBy

# feast_client and openapi have environments of their own: make test-feast, make test-openapi. ports need other
# languages: make test-ports.
collect_ignore = ["feast_client", "openapi", "ports"]

BACKENDS = real(*("fakeredis", *EVERYDAY, "valkey9-functions", "redis7-functions"), ways=("", "-resp3", "-functions"))
"""Servers; with `-resp3` behind it, one whose scripts are called over RESP3, with `-functions`, one by FCALL."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="only tests/unit and what runs on fakeredis, with a fifth of Hypothesis's examples",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "single_redis(reason): not for a cluster, and why")
    if config.getoption("quick"):
        settings.load_profile("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not (item.get_closest_marker("single_redis") and is_for_a_cluster(item))]
    if UNDER_TEST:
        items[:] = [item for item in items if not has_servers_of_its_own(item)]
    if config.getoption("quick"):
        slow = [item for item in items if not is_quick(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def is_for_a_cluster(test: pytest.Item) -> bool:
    """Return whether the backend of a test is a cluster."""
    parameters = test.callspec.params.values() if hasattr(test, "callspec") else ()
    return any(type(each) is str and each in ON_CLUSTERS for each in parameters)


def has_servers_of_its_own(test: pytest.Item) -> bool:
    """Return whether a test is for a cluster or for Sentinels, of which `make test-servers` has none."""
    return hasattr(test, "callspec") and not {"cluster", "watched"}.isdisjoint(test.callspec.params)


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
    """The real servers by name, as support/binaries.py has them."""
    running = Servers(tmp_path_factory.mktemp)
    yield running
    for server in running.values():
        server.stop()


@pytest.fixture(scope="session", params=[*BACKENDS, *ON_CLUSTERS])
def backend(
    request: pytest.FixtureRequest, servers: dict[str, Server], clusters: dict[str, Cluster]
) -> Iterator[Backend]:
    """Each backend in turn, whatever it holds."""
    name, *how = request.param.split("-")
    if name == "fakeredis":
        yield Backend(FakeTransport())
    elif request.param in ON_CLUSTERS:
        with opened(request.param, servers, clusters) as found:
            yield found
    else:
        kind = Resp3Transport if "resp3" in how else SyncTransport
        call: CallBy = "functions" if "functions" in how else "scripts"
        transport = kind(servers[name].socket_url, timeout=5, connect_timeout=5, call=call)
        yield Backend(transport)
        transport.close()


@pytest.fixture(scope="session")
def shared_transport(backend: Backend) -> Transport:
    """A transport to each backend in turn, whatever it holds."""
    return backend.transport


@pytest.fixture
def transport(backend: Backend) -> Iterator[Transport]:
    """A transport to an empty server or cluster; keys that are not the store's own fail the test."""
    backend.empty()
    yield backend.transport
    assert backend.strangers() == []


@pytest.fixture
def store(transport: Transport) -> FeatureStore:
    """A store over an empty server."""
    return FeatureStore(transport)


@pytest.fixture(params=real("valkey9", "redis7"))
def loading(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[BulkWriter]:
    """A writer to an empty server, with the schema."""
    writer = BulkWriter(servers[request.param].socket_url)
    command = writer.store.transport.command
    command("FLUSHALL")
    limit = "hash-max-ziplist-value"  # the name of `hash-max-listpack-value` that Redis 6.2 knows, too
    before = command("CONFIG", "GET", limit)
    command("CONFIG", "SET", limit, 1 << 20)  # or the upsert's hashes would be no listpacks
    writer.store.apply(Definition(features=FEATURES))
    yield writer
    command("CONFIG", "SET", *before)
    command("CONFIG", "RESETSTAT")
    writer.close()


@pytest.fixture(params=real("valkey9"))
def valkey(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to stop, freeze and restart."""
    server = Server(binaries()[request.param], tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.stop()


class Clusters(dict[str, Cluster]):
    """Clusters of three primaries and three replicas, each started when a test first asks for its server by name."""

    def __init__(self, folder: Callable[[str], Path]) -> None:
        super().__init__()
        self._folder, self._binaries = folder, binaries()

    def __missing__(self, name: str) -> Cluster:
        if name not in self._binaries:
            pytest.skip(f"this machine has no {name}")
        cluster = self[name] = Cluster(self._binaries[name], self._folder(f"cluster-{name}"))
        cluster.start()
        return cluster


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Cluster]]:
    """The clusters by the name of their servers."""
    running = Clusters(tmp_path_factory.mktemp)
    yield running
    for cluster in running.values():
        cluster.stop()


@pytest.fixture(params=real("valkey9", "redis7"))
def cluster(request: pytest.FixtureRequest, clusters: dict[str, Cluster]) -> Cluster:
    """A cluster that is whole and empty; scripts may be there. Tests leave it whole, whichever node is a primary."""
    found = clusters[request.param]
    found.settle()
    found.empty()
    return found


@pytest.fixture(params=real("valkey9", "redis7"))
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    """A primary and two replicas of the test's own, watched by three Sentinels."""
    if request.param not in binaries():
        pytest.skip(f"this machine has no {request.param}")
    servers = Watched(binaries()[request.param], tmp_path)
    servers.start()
    yield servers
    servers.stop()


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
