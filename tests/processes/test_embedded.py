"""The embedded server: who starts it, who watches it, and that it ends with whoever started it."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.servers import wait_until

from featurestore import EmbeddedServer, FeatureStore, UnavailableError, embedded
from featurestore.children import no_fork_meanwhile
from featurestore.embedded import embedded_url

_OWNER = """
import signal, sys
from featurestore import EmbeddedServer
server = EmbeddedServer(sys.argv[1])
server.start()
print("up", flush=True)
sys.stdin.read()
server.stop()
"""


def servers_on(folder: Path) -> list[int]:
    """The processes of Valkey that use `folder`, and those that are about to become one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if f"{folder}/valkey.sock".encode() in words:
            found.append(int(path.parent.name))
    return found


def kill(folder: Path) -> int:
    (victim,) = servers_on(folder)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in servers_on(folder), what="the server's end")
    return victim


def ping(server: EmbeddedServer) -> None:
    with FeatureStore.connect(server.url, timeout=5) as store:
        store.ping()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def owner(folder: Path) -> Callable[[], "subprocess.Popen[str]"]:
    """Starts a process that runs a server on the folder until its input ends."""

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", _OWNER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    return start


def test_a_server_that_is_killed_is_started_again_with_its_data(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with EmbeddedServer(folder) as server, FeatureStore.connect(server.url, timeout=5) as store:
        for number in range(3):
            store.transport.command("CONFIG", "SET", "appendfsync", "always")
            store.transport.command("SET", "k", number)
            kill(folder)
            wait_until(lambda: server._reply().startswith(b"+PONG"), what="another server")
            server.start()  # it waits where that has not been noticed yet
            assert store.transport.command("GET", "k") == str(number).encode()
    assert caplog.text.count(f"the embedded server in {folder} has ended: starting it again") == 3
    assert servers_on(folder) == []


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_server_of_a_process_that_ends_is_taken_over(
    folder: Path, owner: Callable[[], "subprocess.Popen[str]"], by: signal.Signals | None
) -> None:
    process = owner()
    (theirs,) = servers_on(folder)
    with EmbeddedServer(folder) as server:
        assert "not running here" in repr(server)
        assert servers_on(folder) == [theirs]
        if by is None:
            process.communicate("")
        else:
            process.send_signal(by)
            process.wait(10)
        wait_until(lambda: "not running here" not in repr(server), what="taking over")
        server.start()
        ping(server)
        assert theirs not in servers_on(folder)
        assert len(servers_on(folder)) == 1
    assert servers_on(folder) == []
    process.communicate()


def test_two_that_start_at_once_have_one_server(folder: Path) -> None:
    ours = [EmbeddedServer(folder) for _ in range(6)]
    threads = [threading.Thread(target=each.start) for each in ours]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(servers_on(folder)) == 1
    assert sum("not running" not in repr(each) for each in ours) == 1
    for each in ours:
        ping(each)
    for each in ours:
        each.stop()
    assert servers_on(folder) == []


def test_a_server_that_is_silent_keeps_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer(folder):
        (pid,) = servers_on(folder)
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(embedded, "_START_TIMEOUT_S", 0.5)
        with pytest.raises(UnavailableError, match=r"of another process in .* does not answer"):
            EmbeddedServer(folder).start()
        assert servers_on(folder) == [pid]
        os.kill(pid, signal.SIGCONT)


def test_a_server_ends_with_a_process_that_is_killed(
    folder: Path, owner: Callable[[], "subprocess.Popen[str]"]
) -> None:
    process = owner()
    assert len(servers_on(folder)) == 1
    process.kill()
    process.communicate()
    wait_until(lambda: servers_on(folder) == [], timeout=5, what="the server's end")


def test_a_server_outlives_the_thread_that_asked_for_it(folder: Path) -> None:
    server = EmbeddedServer(folder)
    asking = threading.Thread(target=server.start)
    asking.start()
    asking.join()
    before = servers_on(folder)
    ping(server)
    assert servers_on(folder) == before
    server.stop()
    assert servers_on(folder) == []


def test_a_forked_process_uses_the_server_and_leaves_it_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_servers", {})
    url = embedded_url(str(folder))
    before = servers_on(folder)
    server = embedded._servers[str(folder)]
    child = os.fork()
    if child == 0:
        same = server.is_inherited and embedded_url(str(folder)) == url and threading.active_count() == 1
        server.stop()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not server.is_inherited
    assert servers_on(folder) == before
    ping(server)
    server.stop()


def test_no_process_is_forked_while_a_server_is_started() -> None:
    forked = threading.Event()

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        forked.set()

    with no_fork_meanwhile():
        other = threading.Thread(target=fork)
        other.start()
        assert not forked.wait(0.3)
    other.join()
    assert forked.is_set()


def test_a_server_that_cannot_be_started_again_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedded, "_LONGEST_PAUSE_S", 0.1)
    told: list[Exception] = []
    server = EmbeddedServer(folder, on_failure=told.append)
    server.start()
    (pid,) = servers_on(folder)
    folder.rename(folder.with_name("away"))
    folder.write_text("a file in place of a folder")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: told, what="giving up")
    assert str(told[0]).startswith(
        f"the embedded server has ended and cannot be started again: cannot keep the embedded server's data in {folder}"
    )
    assert server.failure is told[0]
    assert [record.levelno for record in caplog.records][-1] == logging.CRITICAL
    assert caplog.text.count("trying again") == embedded._MOST_FAILURES - 1
    folder.unlink()
    folder.with_name("away").rename(folder)
    server.start()  # asked again, it tries again
    ping(server)
    assert len(servers_on(folder)) == 1
    server.stop()


def test_a_server_that_does_not_start_says_why_by_the_end_of_its_own_log(folder: Path) -> None:
    folder.mkdir()
    (folder / "valkey.log").write_text("of yesterday\n")
    (folder / "valkey.sock").mkdir()  # in place of the socket
    with pytest.raises(UnavailableError, match="does not start in") as refused:
        EmbeddedServer(folder).start()
    assert "of yesterday" not in str(refused.value)
    assert "nix socket" in str(refused.value)
    assert servers_on(folder) == []
