"""What happens to the processes of `serve`, `demo` and gunicorn when one of them ends, or their terminal does."""

import http.client
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from support.http import Answer
from support.processes import DEMO, GUNICORN, SERVE, clean_environment, processes_of, server_of, started
from support.servers import wait_until

from featurestore import EmbeddedServer, FeatureStore, read_definition

READY = {"serve": "Booting worker", "gunicorn": "Booting worker", "demo": "Ingested/Updated"}
COMMANDS = {"serve": SERVE, "gunicorn": GUNICORN, "demo": DEMO}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**clean_environment(tmp_path), "FEATURESTORE_GRACEFUL_TIMEOUT_S": "2"}


def get(environment: dict[str, str], target: str) -> Answer:
    connection = http.client.HTTPConnection(environment["FEATURESTORE_BIND"], timeout=10)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def apply(environment: dict[str, str]) -> None:
    """Write a schema by way of the running server."""
    with EmbeddedServer(environment["FEATURESTORE_DATA_DIR"]) as server, FeatureStore.connect(server.url) as store:
        store.apply(read_definition())


def calls_of_scripts(store: FeatureStore) -> int:
    """How many calls of scripts the store's server has answered."""
    told = store.transport.command("INFO", "commandstats").decode()
    return int(re.findall(r"^cmdstat_evalsha:calls=(\d+)", told, re.MULTILINE)[0])


@pytest.mark.parametrize("command", ["serve", "gunicorn", "demo"])
def test_an_embedded_server_that_is_killed_is_started_again(
    command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with started(COMMANDS[command], environment, tmp_path) as running:
        running.wait_for(READY[command])
        if command != "demo":
            apply(environment)
        wait_until(lambda: get(environment, "/readyz").status == 200, what="readiness")
        before, victim = processes_of(environment), server_of(environment)
        os.kill(victim, signal.SIGKILL)
        running.wait_for("has ended: starting it again")
        wait_until(lambda: get(environment, "/readyz").status == 200, what="readiness")
        assert processes_of(environment) - {server_of(environment)} == before - {victim}
        running.process.terminate()
        assert running.process.wait(30) == {"demo": 143}.get(command, 0)
        assert processes_of(environment) == set()


@pytest.mark.parametrize("command", ["serve", "gunicorn"])
def test_the_master_starts_one_server_for_all_workers(
    command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["FEATURESTORE_WORKERS"] = "2"
    with started(COMMANDS[command], environment, tmp_path) as running:
        running.wait_for("Booting worker", 2)
        parent = Path(f"/proc/{server_of(environment)}/stat").read_text().rpartition(")")[2].split()[1]
        assert int(parent) == running.process.pid
        assert len(processes_of(environment)) == 4
        assert "MonkeyPatchWarning" not in running.text()


def test_where_there_can_be_no_replicas_the_choice_of_them_is_told_and_has_no_effect(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment["FEATURESTORE_READ_FROM"] = "replicas"
    with started(SERVE, environment, tmp_path) as running:
        running.wait_for("Booting worker")
        apply(environment)
        wait_until(lambda: get(environment, "/readyz").status == 200, what="readiness")
        assert running.text().count("FEATURESTORE_READ_FROM=replicas has no effect") == 1


def test_workers_whose_master_has_none_of_our_hooks_take_over_from_each_other(
    environment: dict[str, str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty.py"
    empty.touch()
    command = (*GUNICORN[:3], "-c", str(empty), "--no-control-socket", "-k", "featurestore.worker.worker.Worker",
               "-w", "2", "-b", environment["FEATURESTORE_BIND"], "featurestore.serving.build:build_app()")  # fmt: skip
    with started(command, environment, tmp_path) as running:
        running.wait_for("Booting worker", 2)
        apply(environment)
        for _ in range(2):
            wait_until(lambda: get(environment, "/readyz").status == 200, what="readiness")
            server = server_of(environment)
            owner = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
            assert owner != running.process.pid
            os.kill(owner, signal.SIGKILL)
            wait_until(lambda: server not in processes_of(environment), what="the server's end")  # noqa: B023 - at once


def test_a_simulator_goes_on_with_an_embedded_server_that_is_killed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    featurestore = DEMO[:3]
    simulate = (*featurestore, "simulate", "--users", "100", "--interval", "0.05")
    subprocess.run([*featurestore, "apply"], env=environment, check=True, capture_output=True)
    with started(simulate, environment, tmp_path) as running:
        running.wait_for("Total unique users: 100")
        os.kill(server_of(environment), signal.SIGKILL)
        running.wait_for("starting it again")
        after = running.text().rpartition("starting it again")[2].count("Total unique users")
        running.wait_for("Total unique users", running.text().count("Total unique users") - after + 1)
        running.process.terminate()
        assert running.process.wait(30) == 143
        assert processes_of(environment) == set()


@pytest.mark.parametrize("worker_class", ["featurestore", "gevent", "gthread", "sync"])
def test_a_server_that_is_killed_leaves_nobody(worker_class: str, environment: dict[str, str], tmp_path: Path) -> None:
    environment["FEATURESTORE_WORKER_CLASS"] = worker_class
    with started(SERVE, environment, tmp_path) as running:
        running.wait_for("Booting worker")
        wait_until(lambda: get(environment, "/livez").status == 200, what="an answer")
        running.process.kill()
        running.process.wait()
        wait_until(lambda: processes_of(environment) == set(), timeout=10, what="the end of all")


def test_a_demo_that_is_killed_leaves_nobody(environment: dict[str, str], tmp_path: Path) -> None:
    with started(DEMO, environment, tmp_path) as running:
        running.wait_for(READY["demo"])
        running.process.kill()
        running.process.wait()
        wait_until(lambda: processes_of(environment) == set(), timeout=10, what="the end of all")


@pytest.mark.parametrize("part", ["simulate", "gunicorn"])
def test_a_demo_ends_when_a_part_of_it_does(part: str, environment: dict[str, str], tmp_path: Path) -> None:
    with started(DEMO, environment, tmp_path) as running:
        running.wait_for(READY["demo"])
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        (victim,) = (pid for pid in children if part.encode() in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(int(victim), signal.SIGKILL)
        assert running.process.wait(30) == 1
        assert f"the {'simulator' if part == 'simulate' else 'HTTP server'} has ended with code -9" in running.text()
        assert processes_of(environment) == set()


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_all_end_when_the_embedded_server_cannot_be_started_again(
    command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with started(COMMANDS[command], environment, tmp_path) as running:
        running.wait_for(READY[command])
        victim, data = server_of(environment), Path(environment["FEATURESTORE_DATA_DIR"])
        data.rename(tmp_path / "away")
        data.write_text("a file in place of a folder")
        os.kill(victim, signal.SIGKILL)
        assert running.process.wait(60) == 1
        assert "the embedded server has ended and cannot be started again" in running.text()
        assert "Traceback" not in running.text()
        assert processes_of(environment) == set()


@pytest.mark.parametrize("how", ["close", "group"])
@pytest.mark.parametrize(("command", "code"), [("serve", 0), ("demo", 129)])
def test_all_end_in_order_with_their_terminal(
    command: str, code: int, how: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with started(COMMANDS[command], environment, tmp_path, terminal=True) as running:
        running.wait_for(READY[command])
        if how == "group":
            running.hang_up()
        else:
            assert running.terminal is not None
            os.close(running.terminal)
        assert running.process.wait(30) == code
        assert processes_of(environment) == set()
        assert "Shutting down: Master" in running.text()


def test_a_demo_ends_by_a_hangup_without_a_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    with started(DEMO, environment, tmp_path) as running:
        running.wait_for(READY["demo"])
        running.hang_up()
        assert running.process.wait(30) == 129
        assert processes_of(environment) == set()


@pytest.mark.parametrize("before", ["", "/usr/bin/nohup"])
def test_a_server_goes_on_after_a_hangup_without_a_terminal_or_under_nohup(
    before: str, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["FEATURESTORE_WORKERS"] = "1"
    command = (before, *SERVE) if before else SERVE
    with started(command, environment, tmp_path, terminal=bool(before)) as running:
        running.wait_for("Booting worker")
        server = server_of(environment)
        running.hang_up()
        running.wait_for("Booting worker", 2)  # gunicorn's meaning: reload
        wait_until(lambda: get(environment, "/livez").status == 200, what="an answer")
        assert server_of(environment) == server
        assert "was sent SIGHUP" not in running.text()
        running.process.terminate()
        assert running.process.wait(30) == 0
        assert processes_of(environment) == set()


def test_a_nohup_demo_goes_on_after_a_hangup(environment: dict[str, str], tmp_path: Path) -> None:
    with started(("/usr/bin/nohup", *DEMO), environment, tmp_path) as running:
        running.wait_for(READY["demo"])
        running.hang_up()
        url = f"unix://{environment['FEATURESTORE_DATA_DIR']}/demo/valkey.sock"
        with FeatureStore.connect(url, timeout=5) as store:
            before = calls_of_scripts(store)
            wait_until(lambda: calls_of_scripts(store) > before + 1, what="another update by the simulator")
        assert get(environment, "/livez").status == 200


@pytest.mark.parametrize("command", ["serve", "gunicorn"])
def test_a_file_in_the_place_of_the_socket_is_told_and_left_alone(
    command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "http.sock"
    path.write_text("precious")
    words = {**environment, "FEATURESTORE_BIND": f"unix:{path}"}
    done = subprocess.run(COMMANDS[command], env=words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"{path} is there and no socket" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_text() == "precious"
