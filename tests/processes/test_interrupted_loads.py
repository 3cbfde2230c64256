"""Loads that are killed, stopped, or lose their Redis: what is stored in the end is what one clean load stores."""

import json
import logging
import random
import re
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from featurestore.ingest.files.load_command import load
from support.binaries import binaries
from support.exporting import export_to
from support.loading import FEATURES, Loading, contents, environment_of, loading, write_files
from support.processes import clean_environment
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, SyncTransport
from featurestore.cli_schema import drop_entity

ROWS = 18_000
OPTIONS = ("--event-time", "ts", "--checkpoint", "checkpoint", "--rejected", "rejected.ndjson")
SLOWLY = (*OPTIONS, "--rate", "2400")  # parts of 600 rows
BRISKLY = (*OPTIONS, "--rate", "4800")


@contextmanager
def store_of(server: Server) -> Iterator[FeatureStore]:
    with FeatureStore(SyncTransport(server.socket_url, timeout=5, connect_timeout=5)) as opened:
        opened.apply(Definition(features=FEATURES))
        yield opened


def rejected_rows(folder: Path) -> list[dict[str, Any]]:
    """The rejected rows of a load, without its start, which is the event time of those that tell none."""
    rows = [json.loads(line) for line in (folder / "rejected.ndjson").read_text().splitlines()]
    assert len({row.pop("event_time") for row in rows if "event_time" in row}) == 1
    return [{**row, "file": Path(row["file"]).name} for row in rows]


class Clean:
    """What one clean load of files leaves.

    Attributes:
        files: The files.
    """

    def __init__(self, folder: Path, server: Server) -> None:
        self.files = write_files(folder / "files", ROWS)
        with store_of(server) as store:
            with loading(
                [*self.files, *OPTIONS], environment_of(server.socket_url, clean_environment(folder)), folder
            ) as clean:
                self._told = clean.end()
            self._contents = contents(store)
        self._rejected = rejected_rows(folder)
        assert self._told["exit"] == 1
        assert len(self._rejected) == self._told["rejected"] > 200
        assert len(self._contents) > ROWS - 1000

    def check(self, told: dict[str, Any], folder: Path, store: FeatureStore) -> None:
        """Make sure that a load that was interrupted left the same."""
        seen = ("exit", "rows", "rejected", "codes")
        assert {name: told.get(name) for name in seen} == {name: self._told[name] for name in seen}
        assert rejected_rows(folder) == self._rejected
        assert contents(store) == self._contents
        assert not (folder / "checkpoint").exists()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, Server]) -> Clean:
    server = servers["valkey9"]
    with FeatureStore(SyncTransport(server.socket_url, timeout=5, connect_timeout=5)) as store:
        store.transport.command("FLUSHALL")
    return Clean(tmp_path_factory.mktemp("clean"), server)


class Case:
    """Files and a Redis of a test's own.

    Attributes:
        files: Copies of the files that were loaded clean.
        folder: Where loads run.
        server: The Redis.
        store: Its store, which has the schema.
    """

    def __init__(self, clean: Clean, folder: Path, server: Server, store: FeatureStore) -> None:
        self.files = [Path(shutil.copy2(path, folder)) for path in clean.files]
        self.folder, self.server, self.store, self._clean = folder, server, store, clean

    def load(self, *options: str, files: Sequence[Path] = (), url: str = "") -> AbstractContextManager[Loading]:
        environment = environment_of(url or self.server.socket_url, clean_environment(self.folder))
        return loading([*(files or self.files), *options], environment, self.folder)

    def behind(self) -> int:
        """How many rows a load says to be behind it."""
        try:
            return int(json.loads((self.folder / "checkpoint").read_text())["now"]["rows"])
        except FileNotFoundError:
            return -1

    def wait_for_rows(self, more_than: int = 0) -> None:
        wait_until(lambda: self.behind() > more_than, what="a checkpoint")

    def check(self, told: dict[str, Any], store: FeatureStore | None = None) -> None:
        self._clean.check(told, self.folder, store or self.store)


@pytest.fixture
def case(clean: Clean, valkey: Server, tmp_path: Path) -> Iterator[Case]:
    with store_of(valkey) as store:
        yield Case(clean, tmp_path, valkey, store)


def test_ten_kills_at_any_moment_change_nothing(case: Case) -> None:
    moments = random.Random(19)
    for number in range(10):
        behind = case.behind()
        with case.load(*SLOWLY) as killed:
            if number % 3:
                case.wait_for_rows(behind)
            with pytest.raises(subprocess.TimeoutExpired):
                killed.process.wait(moments.uniform(0, 0.4))
            killed.process.send_signal(signal.SIGKILL)
    assert 0 < case.behind() < ROWS
    with case.load(*OPTIONS) as last:
        case.check(last.end())
        assert "going on behind row" in last.messages


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_load_that_is_told_to_stop_finishes_its_part_and_goes_on_later(
    case: Case, number: signal.Signals, code: int
) -> None:
    with case.load(*SLOWLY) as stopped:
        case.wait_for_rows()
        stopped.process.send_signal(number)
        assert stopped.end() == {"exit": code}
    behind = case.behind()
    assert f"stopped behind row {behind}" in stopped.messages
    assert "the same command goes on from there" in stopped.messages
    with case.load(*OPTIONS) as last:
        case.check(last.end())
        assert f"going on behind row {behind} " in last.messages


def test_a_redis_that_restarts_is_waited_for(case: Case) -> None:
    with case.load(*BRISKLY) as running:
        case.wait_for_rows()
        case.server.stop()
        wait_until(lambda: "waiting for Redis" in running.messages, what="a wait")
        case.server.start()
        wait_until(lambda: "Redis serves again" in running.messages, what="its end")
        told = running.end()
        assert "Redis was restarted" in running.messages
    case.check(told)


def test_rows_that_a_redis_forgot_are_loaded_again(case: Case) -> None:
    folder = case.folder / "forgetful"
    folder.mkdir()
    forgetful = Server(binaries()["valkey9"], folder)
    forgetful.start()
    try:
        with FeatureStore(SyncTransport(forgetful.socket_url, timeout=5, connect_timeout=5)) as other:
            other.apply(Definition(features=FEATURES))
            with case.load(*BRISKLY, url=forgetful.socket_url) as running:
                case.wait_for_rows()
                other.transport.command("SAVE")
                saved = case.behind()
                case.wait_for_rows(saved + 1200)
                forgetful.stop()
                forgetful.start()
                told = running.end()
                assert "to row 0 of all" in running.messages
            case.check(told, other)
    finally:
        forgetful.stop()


def test_a_redis_that_lost_everything_ends_the_load(case: Case) -> None:
    with case.load(*SLOWLY) as running:
        case.wait_for_rows()
        case.store.transport.command("FLUSHALL")
        assert running.end() == {"exit": 1}
    assert "no schema" in running.messages


def drop(case: Case) -> None:
    dropped = CliRunner().invoke(drop_entity, ["user", "--yes"], env={"REDIS_URL": case.server.socket_url})
    assert dropped.exit_code == 0, dropped.output


def flush(case: Case) -> None:
    case.store.transport.command("FLUSHALL")


@pytest.mark.parametrize("lose", [flush, drop])
def test_a_load_whose_rows_were_taken_away_begins_anew(case: Case, lose: Callable[[Case], None]) -> None:
    with case.load(*SLOWLY) as running:
        case.wait_for_rows(1200)
        lose(case)
        assert running.end() == {"exit": 1}
    assert "no schema" in running.messages
    behind = case.behind()
    case.store.apply(Definition(features=FEATURES))
    with case.load(*OPTIONS) as last:
        case.check(last.end())
    assert "ids that this load wrote are gone from Redis" in last.messages
    assert f"going back from row {behind} to row 0 of all" in last.messages


def test_rows_that_are_taken_away_between_two_parts_are_loaded_again(case: Case) -> None:
    with case.load(*SLOWLY) as running:
        case.wait_for_rows(1200)
        running.process.send_signal(signal.SIGSTOP)  # so that it does not see that there is no schema
        flush(case)
        case.store.apply(Definition(features=FEATURES))
        running.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "are gone from Redis" in running.messages, what="going back")
        case.wait_for_rows()
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == {"exit": 143}
    with case.load(*OPTIONS) as last:
        case.check(last.end())
    assert "are gone" not in last.messages


def test_ids_that_are_deleted_while_a_load_runs_do_not_matter(case: Case) -> None:
    with case.load(*SLOWLY) as stopped:
        case.wait_for_rows(1200)
        stopped.process.send_signal(signal.SIGTERM)
        assert stopped.end() == {"exit": 143}
    witnesses = json.loads((case.folder / "checkpoint").read_text())["now"]["witnesses"]
    assert len(witnesses) >= 16
    assert case.store.delete(witnesses[-1])
    with case.load(*OPTIONS) as last:
        assert last.end()["rows"] == ROWS
    assert "going back" not in last.messages


def test_an_empty_redis_in_its_place_is_given_all_rows(case: Case) -> None:
    folder = case.folder / "empty"
    folder.mkdir()
    server = Server(binaries()["valkey9"], folder, "--appendonly", "yes")
    server.start()
    try:
        with FeatureStore(SyncTransport(server.socket_url, timeout=5, connect_timeout=5)) as other:
            other.apply(Definition(features=FEATURES))
            with case.load(*SLOWLY, url=server.socket_url) as killed:
                case.wait_for_rows(1200)
                killed.process.send_signal(signal.SIGKILL)
            checkpoint = json.loads((case.folder / "checkpoint").read_text())
            checkpoint["sure"] = checkpoint["now"]  # as it is ten seconds later
            (case.folder / "checkpoint").write_text(json.dumps(checkpoint))
            server.stop()
            shutil.rmtree(folder / "appendonlydir")
            server.start()
            other.apply(Definition(features=FEATURES))
            with case.load(*OPTIONS, url=server.socket_url) as last:
                case.check(last.end(), other)
            assert "to row 0 of all" in last.messages
    finally:
        server.stop()


def with_bad_rows(path: Path, user: str) -> Path:
    """Write a file whose every hundredth row is rejected."""
    path.parent.mkdir()
    ages = ("old" if number % 100 == 7 else "30" for number in range(4000))
    path.write_text("user_id,age\n" + "".join(f"{user}{number},{age}\n" for number, age in enumerate(ages)))
    return path


def users_rejected(path: Path) -> list[str]:
    return [json.loads(line)["row"]["user_id"] for line in path.read_text().splitlines()]


def test_loads_of_files_of_one_name_keep_their_rejected_rows_apart(case: Case) -> None:
    first, second = (with_bad_rows(case.folder / name / "x.csv", name) for name in "ab")
    firsts, seconds = ([f"{name}{number}" for number in range(7, 4000, 100)] for name in "ab")
    rejected = case.folder / "x.rejected.ndjson"
    with case.load("--rate", "400", files=[first]) as stopped:
        wait_until(lambda: rejected.exists() and len(users_rejected(rejected)) > 4, what="rejected rows")
        with case.load(files=[second]) as beside:
            told = beside.end()
        assert told["rejected_file"] == str(case.folder / "x-2.rejected.ndjson")
        assert users_rejected(case.folder / "x-2.rejected.ndjson") == seconds
        stopped.process.send_signal(signal.SIGTERM)
        assert stopped.end() == {"exit": 143}
    with case.load(files=[second]) as later:
        assert later.end()["rejected_file"] == str(rejected)
    with case.load(files=[first]) as last:
        told = last.end()
    assert (told["rejected"], told["rejected_file"]) == (40, f"{rejected}.old")
    assert users_rejected(Path(f"{rejected}.old")) == firsts
    assert users_rejected(rejected) == seconds


@pytest.mark.parametrize(("name", "most"), [("checkpoint", 100), ("rejected.ndjson", 20_000)])
def test_a_disk_without_room_ends_the_load_and_the_same_command_goes_on(case: Case, name: str, most: int) -> None:
    with case.load(*SLOWLY) as full:
        case.wait_for_rows()
        resource.prlimit(full.process.pid, resource.RLIMIT_FSIZE, (most, most))
        assert full.end() == {"exit": 1}
    assert f"{name} cannot be written: File too large" in full.messages
    assert f"ended behind row {case.behind()}, " in full.messages
    assert "the same command goes on from there" in full.messages
    assert "Traceback" not in full.messages
    with case.load(*OPTIONS) as last:
        case.check(last.end())
        assert "going on behind row" in last.messages


def test_scripts_that_are_flushed_do_not_matter(case: Case) -> None:
    with case.load(*BRISKLY) as running:
        for _ in range(3):
            behind = case.behind()
            case.wait_for_rows(behind)
            case.store.transport.command("SCRIPT", "FLUSH")
        case.check(running.end())


def test_a_replica_is_waited_for_until_it_is_the_primary(case: Case) -> None:
    with case.load(*BRISKLY) as running:
        case.wait_for_rows()
        case.store.transport.command("REPLICAOF", "127.0.0.1", "1")
        wait_until(lambda: "waiting for Redis: READONLY" in running.messages, what="a wait")
        case.store.transport.command("REPLICAOF", "NO", "ONE")
        case.check(running.end())


def test_full_memory_ends_the_load_and_the_same_command_goes_on(case: Case) -> None:
    with case.load(*SLOWLY) as full:
        case.wait_for_rows()
        case.store.transport.command("CONFIG", "SET", "maxmemory", 1)
        assert full.end() == {"exit": 1}
    assert "OOM " in full.messages
    assert "the same command goes on from there" in full.messages
    case.store.transport.command("CONFIG", "SET", "maxmemory", 0)
    with case.load(*OPTIONS) as last:
        case.check(last.end())


def test_two_processes_cannot_be_at_one_load(case: Case) -> None:
    with case.load(*SLOWLY):
        case.wait_for_rows(-1)
        with case.load(*OPTIONS) as second:
            assert second.end() == {"exit": 2}
        assert "another process is at this load" in second.messages


def test_a_file_that_changed_is_not_gone_on_with(case: Case) -> None:
    with case.load(*SLOWLY) as killed:
        case.wait_for_rows()
        killed.process.send_signal(signal.SIGKILL)
    with case.files[2].open("a") as file:
        file.write('{"user_id": "late", "age": 1}\n')
    with case.load(*OPTIONS) as refused:
        assert refused.end() == {"exit": 2}
    assert f"{case.files[2]} has changed since this load was interrupted: --restart begins anew" in refused.messages
    with case.load(*OPTIONS, "--restart") as anew:
        assert anew.end()["rows"] == ROWS + 1
    assert case.store.get("late", ["age"]) == {"age": 1}


def test_rows_without_a_time_keep_that_of_the_loads_first_start(case: Case) -> None:
    path = case.folder / "rows.ndjson"
    path.write_text("".join(f'{{"user_id": "u{number}", "age": {number}}}\n' for number in range(12_000)))
    with case.load("--rate", "4000", "--checkpoint", "checkpoint", files=[path]) as killed:
        case.wait_for_rows()
        killed.process.send_signal(signal.SIGKILL)
    started = json.loads((case.folder / "checkpoint").read_text())["started_ms"]
    with case.load("--checkpoint", "checkpoint", files=[path]) as last:
        assert last.end()["exit"] == 0
    _, rows = case.store.fetch_fresh([f"u{number}" for number in range(12_000)], ["age"])
    assert {row.event_times[0] for row in rows if row is not None} == {started}
    assert None not in rows


def test_a_replica_that_takes_over_is_given_the_last_seconds_again(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("featurestore.ingest.files.load._SURE_S", 0.5)
    monkeypatch.chdir(tmp_path)
    address = tmp_path / "address"
    address.symlink_to(f"{case.server.folder}/s")
    monkeypatch.setenv("REDIS_URL", f"unix://{address}")
    folder = tmp_path / "replica"
    folder.mkdir()
    replica = Server(binaries()["valkey9"], folder, "--replicaof", f"127.0.0.1 {case.server.port}")
    replica.start()
    try:
        with FeatureStore(SyncTransport(replica.socket_url, timeout=5, connect_timeout=5)) as other:

            def told(name: bytes) -> bytes:
                lines = other.transport.command("INFO").splitlines()
                found: bytes = next(line.partition(b":")[2] for line in lines if line.startswith(name + b":"))
                return found

            def fail_over() -> None:
                case.wait_for_rows(3000)
                case.server.stop()
                other.transport.command("REPLICAOF", "NO", "ONE")
                (tmp_path / "new").symlink_to(f"{folder}/s")
                (tmp_path / "new").replace(address)

            wait_until(lambda: told(b"master_link_status") == b"up" and int(told(b"uptime_in_seconds")) > 2)
            failing = threading.Thread(target=fail_over)
            failing.start()
            options = (*case.files, *OPTIONS, "--rate", "2400")
            with caplog.at_level(logging.WARNING):
                ended = CliRunner().invoke(load, list(map(str, options)), catch_exceptions=False)
            failing.join()
            (back,) = re.findall(r"going back from row (\d+) to row (\d+) of all", caplog.text)
            assert 0 < int(back[1]) < int(back[0])
            case.check({"exit": ended.exit_code, **json.loads(ended.stdout)}, other)
    finally:
        replica.stop()


def test_a_redis_without_info_is_loaded_and_exported(clean: Clean, tmp_path: Path) -> None:
    server = Server(binaries()["valkey9"], tmp_path, "--rename-command", "INFO", "")
    server.start()
    try:
        with store_of(server) as store:
            case = Case(clean, tmp_path, server, store)
            with case.load(*OPTIONS, "--full-speed") as loaded:
                case.check(loaded.end())
            assert export_to(tmp_path / "users.ndjson", store).written == store.count()
    finally:
        server.stop()
