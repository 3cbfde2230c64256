"""FEATURESTORE_CALL=functions, in whole processes: the server, the commands, and servers that have no functions."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
import redis
from support.cluster import Cluster, Watched, ask
from support.processes import GUNICORN, SERVE, clean_environment, started
from support.servers import Server, wait_until

from featurestore import SyncTransport
from featurestore.contract.library import LIBRARY, build, function_library
from featurestore.contract.manifest import built_files

Run = Callable[..., subprocess.CompletedProcess[str]]
KEY = {"X-API-Key": "secret"}


@pytest.fixture
def environment(tmp_path: Path, valkey: Server) -> dict[str, str]:
    return {
        **clean_environment(tmp_path),
        "REDIS_URL": valkey.url,
        "FEATURESTORE_CALL": "functions",
        "FEATURESTORE_WORKERS": "1",
        "FEATURESTORE_WRITE_KEYS": "secret",
        "FEATURESTORE_TIMEOUT_MS": "5000",
        "FEATURESTORE_CONNECT_TIMEOUT_MS": "5000",
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def call(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "featurestore", *arguments],
            env={**environment, **settings}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return call


@pytest.fixture
def old(servers: dict[str, Server]) -> str:
    """The address of a server that has no functions."""
    return servers["redis62"].url


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def run_redis(environment: dict[str, str], *words: str) -> str:
    """Return the reply to a plain command."""
    transport = SyncTransport(environment["REDIS_URL"], timeout=5, connect_timeout=5)
    try:
        reply: bytes = transport.command(*words)
        return reply.decode()
    finally:
        transport.close()


@pytest.mark.parametrize("worker_class", ["featurestore", "gevent", "gthread"])
def test_a_server_answers_by_functions_alone(
    worker_class: str, run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["FEATURESTORE_WORKER_CLASS"] = worker_class
    assert run("apply").returncode == 0
    with started(SERVE, environment, tmp_path) as running:
        running.wait_for("Booting worker")
        with httpx.Client(base_url=f"http://{environment['FEATURESTORE_BIND']}", timeout=10) as client:
            wait_until(lambda: answers(client), what="readiness")
            put = client.put("/features/ann", headers=KEY, json={"features": {"age": 31, "country": "IS"}})
            assert (put.status_code, put.json()["features"]["age"]) == (200, 31.0)
            for _ in range(3):
                assert client.get("/features/ann").json()["features"]["country"] == "IS"
            assert run_redis(environment, "FUNCTION", "FLUSH") == "OK"
            for _ in range(2):
                assert client.get("/features/ann").json()["features"]["country"] == "IS"
            batch = client.post("/features/batch", json={"user_ids": ["ann", "bob"]}).json()
            assert [row["features"] is None for row in batch] == [False, True]
            assert client.delete("/features/ann", headers=KEY).status_code == 204
            assert client.get("/features/ann").status_code == 404
    called = set(re.findall(r"cmdstat_(\w+)", run_redis(environment, "INFO", "commandstats")))
    assert "fcall" in called
    assert "evalsha" not in called


def serve_by_functions(run: Run, environment: dict[str, str], folder: Path, servers: Sequence[Server]) -> None:
    """Serve over several servers, write and read by HTTP, and look how these were called."""
    for server in servers:
        ask(server, "CONFIG", "RESETSTAT")
    applied = run("apply")
    assert applied.returncode == 0, applied.stderr
    ids = [f"user{number}" for number in range(20)]
    with started(SERVE, environment, folder) as running:
        running.wait_for("Booting worker")
        with httpx.Client(base_url=f"http://{environment['FEATURESTORE_BIND']}", timeout=10) as client:
            wait_until(lambda: answers(client), what="readiness")
            for entity_id in ids:
                put = client.put(f"/features/{entity_id}", headers=KEY, json={"features": {"country": "IS"}})
                assert put.status_code == 200, put.text
            for server in servers:
                with contextlib.suppress(redis.ReadOnlyError):  # a replica has what its primary has
                    ask(server, "FUNCTION", "FLUSH")
            for entity_id in ids:
                assert client.get(f"/features/{entity_id}").json()["features"]["country"] == "IS"
            batch = client.post("/features/batch", json={"user_ids": [*ids, "nobody"]}).json()
            assert [row["features"] is None for row in batch] == [False] * len(ids) + [True]
    called = {name for server in servers for name in ask(server, "INFO", "commandstats")}
    assert "cmdstat_fcall" in called
    assert not called & {"cmdstat_evalsha", "cmdstat_evalsha_ro"}


@pytest.mark.parametrize("read_from", ["primary", "replicas"])
def test_a_server_calls_functions_of_a_cluster(
    read_from: str, run: Run, environment: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    environment |= {"REDIS_URL": cluster.url, "FEATURESTORE_READ_FROM": read_from}
    serve_by_functions(run, environment, tmp_path, cluster.nodes)


@pytest.mark.parametrize("read_from", ["primary", "replicas"])
def test_a_server_calls_functions_of_a_primary_behind_sentinels(
    read_from: str, run: Run, environment: dict[str, str], watched: Watched, tmp_path: Path
) -> None:
    environment |= {"REDIS_URL": watched.url, "FEATURESTORE_READ_FROM": read_from}
    serve_by_functions(run, environment, tmp_path, watched.servers)


def test_a_server_calls_functions_of_a_primary_with_replicas(
    run: Run, environment: dict[str, str], watched: Watched, tmp_path: Path
) -> None:
    url = "redis+replicas://" + ",".join(f"127.0.0.1:{server.port}" for server in watched.servers)
    environment |= {"REDIS_URL": url, "FEATURESTORE_READ_FROM": "nearest"}
    serve_by_functions(run, environment, tmp_path, watched.servers)


@pytest.mark.parametrize("command", [SERVE, GUNICORN], ids=["serve", "gunicorn"])
def test_a_server_does_not_start_over_a_redis_without_functions(
    command: tuple[str, ...], environment: dict[str, str], old: str, tmp_path: Path
) -> None:
    environment["REDIS_URL"] = old
    told = "featurestore: FEATURESTORE_CALL=functions: this server has no functions: Redis has them from 7.0 on"
    with started(command, environment, tmp_path) as running:
        running.wait_for(told)
        assert running.process.wait(30) in (
            {2} if command == SERVE else {1, 4}
        )  # which, with gunicorn, is a matter of chance


def test_a_server_that_cannot_reach_redis_starts_all_the_same(
    run: Run, environment: dict[str, str], valkey: Server, tmp_path: Path
) -> None:
    run("apply")
    valkey.stop()
    with started(SERVE, environment, tmp_path) as running:
        running.wait_for("Booting worker")
        valkey.start()
        with httpx.Client(base_url=f"http://{environment['FEATURESTORE_BIND']}", timeout=10) as client:
            wait_until(lambda: answers(client), what="readiness")


def test_the_library_is_loaded_and_shown(run: Run, environment: dict[str, str]) -> None:
    missing = run("functions", "show")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == f"{LIBRARY} {build()} is not there: featurestore functions load\n"
    assert run("functions", "load").stderr == f"{LIBRARY} {build()} is loaded\n"
    shown = run("functions", "show")
    assert (shown.returncode, shown.stdout) == (0, f"{LIBRARY} {build()}  (this build)\n")
    run_redis(environment, "FUNCTION", "LOAD", "REPLACE", function_library().replace(build(), "0.0.9 0123"))
    run_redis(
        environment, "FUNCTION", "LOAD", "#!lua name=featurestore_2\nredis.register_function('f', function() end)"
    )
    other = run("functions", "show")
    assert other.returncode == 1
    assert other.stdout == (
        f"{LIBRARY} 0.0.9 0123  (another build)\nfeaturestore_2 of a build that it does not tell  (another build)\n"
    )
    assert run("functions", "load").stderr == f"{LIBRARY} {build()} is loaded, in place of 0.0.9 0123\n"
    assert run("functions", "load").stderr == f"{LIBRARY} {build()} is loaded\n"


def test_a_redis_without_functions_is_told_by_every_command(run: Run, old: str) -> None:
    told = "featurestore: this server has no functions: Redis has them from 7.0 on, and so has Valkey"
    for command in (("functions", "load"), ("functions", "show"), ("get", "ann"), ("apply",)):
        refused = run(*command, REDIS_URL=old)
        assert (refused.returncode, refused.stderr.startswith(told)) == (1, True)
    warned = [line for line in run("doctor", REDIS_URL=old).stdout.splitlines() if "FEATURESTORE_CALL" in line]
    assert len(warned) == 1
    assert warned[0].startswith("WARN  FEATURESTORE_CALL=functions, and this server has no functions: ")
    assert "FEATURESTORE_CALL" not in run("doctor", REDIS_URL=old, FEATURESTORE_CALL="scripts").stdout


def test_a_build_is_written_whole(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "built" / "here"
    listed = run("scripts", "--build", str(folder)).stdout.splitlines()
    files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert files == built_files()
    assert listed == [str(folder / name) for name in built_files()]
    assert json.loads(files["manifest.json"])["library"]["build"] == build()
    wrong = run("scripts", "get_features", "--build", str(folder))
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
