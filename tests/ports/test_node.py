"""The Node port: packed from a clean copy, installed as its users install it, and tested on real servers."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.ports import write_cost_cases
from support.servers import Server, free_port, wait_until

from featurestore import FeatureStore, SyncTransport, read_definition

ROOT = Path(__file__).parents[2]
PORT = ROOT / "lua" / "ports" / "node"
PAGE = ROOT / "docs" / "ports" / "node.md"
VECTORS = ROOT / "tests" / "vectors"
FEATURESTORE = str(Path(sys.executable).with_name("featurestore"))
MADE = shutil.ignore_patterns("node_modules", "dist", "scripts.json", "LICENSE", "*.tgz")
MAJORS = ("5", "6")
"""Of ioredis and of node-redis. Both want Node 20 from version 6 on."""

SLOTS = 16384

pytestmark = pytest.mark.timeout(600)  # packages are fetched


def run(folder: Path, *words: str, **environment: str) -> str:
    """Run a program in a folder, and return what it printed."""
    result = subprocess.run(
        words, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def install(folder: Path, *packages: str) -> None:
    run(folder, "npm", "install", "--no-audit", "--no-fund", "--no-save", "--silent", *packages)


@pytest.fixture(scope="session")
def node_version() -> int:
    """The major version of Node; skips the tests where Node or npm is missing, but not in CI."""
    if not (shutil.which("node") and shutil.which("npm")):
        assert not os.environ.get("CI"), "CI installs nodejs and npm, yet they are not there"
        pytest.skip("this machine has no node and npm")
    return int(run(ROOT, "node", "--print", "process.versions.node.split('.')[0]"))


@pytest.fixture(scope="session")
def tarball(node_version: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, made from a copy of what the repository has."""
    checkout = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "LICENSE", checkout)
    port = shutil.copytree(PORT, checkout / "lua" / "ports" / "node", ignore=MADE)
    install(port)
    name = run(port, "npm", "pack", "--silent", FEATURESTORE=FEATURESTORE).split()[-1]
    return port / name


@pytest.fixture(scope="session")
def installing(node_version: int, tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """What installs the package beside clients of a major version, once, and returns the folder."""
    folders: dict[str, Path] = {}

    def installed(major: str) -> Path:
        if major not in folders:
            if major != "5" and node_version < 20:
                pytest.skip(f"ioredis {major} and node-redis {major} want Node 20, and this is {node_version}")
            folder = folders[major] = tmp_path_factory.mktemp(f"clients{major}-")
            (folder / "package.json").write_text('{"private": true}')
            tools = json.loads((PORT / "package.json").read_text())["devDependencies"]
            install(folder, str(tarball), f"ioredis@{major}", f"redis@{major}", *map("@".join, tools.items()))
            shutil.copytree(PORT / "test", folder / "test")
        return folders[major]

    return installed


@pytest.fixture(params=MAJORS)
def folder(request: pytest.FixtureRequest, installing: Callable[[str], Path]) -> Path:
    """A folder with the package, clients of each major version in turn, and the port's own tests."""
    return installing(request.param)


@pytest.fixture(params=["valkey9", "redis62", "redis7"])
def server(request: pytest.FixtureRequest, servers: Mapping[str, Server]) -> Server:
    """An empty server of each kind in turn."""
    server = servers[request.param]
    with FeatureStore.connect(server.url, timeout=5) as store:
        store.transport.command("FLUSHALL")
    return server


def run_tests(folder: Path, file: str, **environment: str) -> int:
    """Run a file of tests, and return how many passed; any failure fails."""
    printed = run(folder, "node", "--test", "--test-reporter=tap", f"test/{file}", **environment)
    counts = dict(re.findall(r"^# (pass|fail) (\d+)$", printed, re.MULTILINE))
    assert counts["fail"] == "0"
    return int(counts["pass"])


def test_the_types_allow_what_works_and_refuse_what_does_not(folder: Path) -> None:
    run(folder, "node", "node_modules/typescript/bin/tsc", "--project", "test")


def test_the_package_is_whole(folder: Path, tmp_path: Path) -> None:
    run(ROOT, FEATURESTORE, "scripts", "--build", str(tmp_path))
    manifest = (tmp_path / "manifest.json").read_text()
    assert run_tests(folder, "package.test.mjs", PORT_TEST_MANIFEST=manifest) == 4


def test_costs_are_those_of_the_python_store(folder: Path, tmp_path: Path) -> None:
    assert run_tests(folder, "costs.test.mjs", PORT_TEST_COSTS=str(write_cost_cases(tmp_path))) == 1


def test_stores_keep_what_they_promise(folder: Path, server: Server) -> None:
    assert run_tests(folder, "store.test.mjs", PORT_TEST_URL=server.url.removesuffix("/0")) > 150


def test_the_golden_vectors_hold_through_both_clients(folder: Path, server: Server) -> None:
    url = server.url.removesuffix("/0")
    passed = run_tests(folder, "vectors.test.mjs", PORT_TEST_URL=url, PORT_TEST_VECTORS=str(VECTORS))
    cases = [len(json.loads(path.read_text())["cases"]) for path in VECTORS.glob("*.json")]
    assert passed == 4 * sum(cases) > 0


@pytest.fixture(scope="session")
def cluster(servers: Mapping[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Three masters that share the slots, and a replica of the first."""
    buses = [str(free_port()) for _ in range(4)]
    binary, options = servers["valkey9"].binary, ("--cluster-enabled", "yes", "--cluster-port")
    nodes = [Server(binary, tmp_path_factory.mktemp("n"), *options, bus) for bus in buses]
    with contextlib.ExitStack() as started:
        for node in nodes:
            started.callback(node.stop)
            node.start()
        for number, node in enumerate(nodes[:3]):
            ask(node, "CLUSTER", "ADDSLOTSRANGE", number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1)
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            ask(node, "CLUSTER", "MEET", "127.0.0.1", nodes[0].port, buses[0])
        wait_until(lambda: all(map(is_settled, nodes)), what="a cluster of four nodes")
        ask(nodes[3], "CLUSTER", "REPLICATE", ask(nodes[0], "CLUSTER", "MYID"))
        wait_until(lambda: b"master_link_status:up" in ask(nodes[3], "INFO", "replication"), what="a replica in step")
        wait_until(lambda: all(map(knows_replica, nodes)), what="a replica that clients are told of")
        yield nodes


def ask(node: Server, *words: str | bytes | int) -> Any:
    with contextlib.closing(SyncTransport(node.socket_url, timeout=5, connect_timeout=5)) as transport:
        return transport.command(*words)


def is_settled(node: Server) -> bool:
    info = ask(node, "CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:4" in info


def knows_replica(node: Server) -> bool:
    return any(len(replicas) > 0 for _, _, _, *replicas in ask(node, "CLUSTER", "SLOTS"))


def test_scripts_are_loaded_on_every_node_of_a_cluster(folder: Path, cluster: list[Server]) -> None:
    ports = json.dumps([node.port for node in cluster])
    assert run_tests(folder, "cluster.test.mjs", PORT_TEST_CLUSTER=ports) == 3


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_page_print_what_they_say(folder: Path, server: Server, tmp_path: Path) -> None:
    schema = tmp_path / "features.toml"
    schema.write_text(blocks("toml")[0])
    with FeatureStore.connect(server.url, timeout=5) as store:
        store.apply(read_definition(schema))
    examples = "".join(blocks("js")).replace("redis://127.0.0.1:6379", server.url)
    said = re.findall(r"^ *console\.log\(.*\); // (.*)$", examples, re.MULTILINE)
    assert len(said) == examples.count("console.log") > 10
    (folder / "page.mjs").write_text(examples)
    assert run(folder, "node", "page.mjs").splitlines() == said


def test_the_typescript_of_the_page_compiles(folder: Path) -> None:
    (example,) = blocks("ts")
    page = folder / "test" / "page.ts"
    head = 'import { FeatureStore } from "featurestore-redis";\nimport { Redis } from "ioredis";\n'
    page.write_text(f"{head}export async function page(redis: Redis) {{\n{example}return age;\n}}\n")
    options = {"extends": "./tsconfig.json", "files": ["page.ts"]}
    (folder / "test" / "page.json").write_text(json.dumps(options))
    run(folder, "node", "node_modules/typescript/bin/tsc", "--project", "test/page.json")


def test_the_benchmark_runs(folder: Path, server: Server) -> None:
    shutil.copy(PORT / "bench.mjs", folder)
    printed = run(folder, "node", "bench.mjs", "0.05", "1", REDIS_URL=server.url)
    lines = re.findall(r"^\w.*: (?:one entity|batches of 100), \d+ in flight +\d+\.\d\d ", printed, re.MULTILINE)
    assert len(lines) == 6
