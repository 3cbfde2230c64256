"""`featurestore keys`: making, listing, removing and checking keys; and servers that follow their file."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.http import HttpServer, serving
from support.servers import Server, wait_until

from featurestore.access import key_file


def keys(*words: str, given: str = "", code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**{name: value for name, value in os.environ.items() if "KEYS" not in name}, **variables}
    done = subprocess.run(
        [sys.executable, "-m", "featurestore", "keys", *words],
        input=given, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "keys.toml")


def test_a_key_is_made_listed_checked_and_removed(path: str) -> None:
    options = ("--read", "--write", "--entity", "user", "--entity", "item", "--rate", "200", "--expires", "90d")
    made = keys("new", "ranker", *options, "--file", path)
    secret = made.stdout.removesuffix("\n")
    assert secret.startswith("fs_")
    assert "\n" not in secret
    assert secret not in made.stderr
    assert Path(path).stat().st_mode & 0o777 == 0o600
    (key,) = key_file.parse(Path(path).read_text(), path)
    assert (key.name, key.may, key.entities) == ("ranker", frozenset({"read", "write"}), frozenset({"user", "item"}))
    assert (key.rate, key.burst) == (200, 200)
    assert key.created is not None
    assert key.expires is not None
    assert 89 <= (key.expires - datetime.now(UTC)).days <= 90
    line = f"{key.id}  ranker  read,write  item,user  200 rows/s, 200 at once  created {key.created:%Y-%m-%d}  expires "
    assert keys("list", FEATURESTORE_KEYS_FILE=path).stdout.startswith(line)
    assert keys("check", "--file", path, given=f"{secret}\n").stdout.startswith(line)
    assert "not known" in keys("check", "--file", path, given=f"{secret}x\n", code=1).stderr
    assert "removed" in keys("remove", "ranker", "--file", path).stderr
    assert keys("list", "--file", path).stdout == ""
    assert "not known" in keys("check", "--file", path, given=secret, code=1).stderr


def test_keys_of_the_settings_are_checked_too(path: str) -> None:
    told = keys("check", given="one", FEATURESTORE_READ_KEYS="one,two", FEATURESTORE_WRITE_KEYS="one").stdout
    assert told == "-  read-1  metrics,read,write  every entity\n"
    keys("check", given="three", FEATURESTORE_READ_KEYS="one,two", code=1)


def test_an_expired_key_is_told(path: str) -> None:
    secret = keys("new", "a", "--read", "--file", path, "--expires", "1h").stdout.strip()
    text = Path(path).read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("expires"))
    Path(path).write_text(text.replace(line, "expires = 2020-01-01T00:00:00Z"))
    done = keys("check", "--file", path, given=secret, code=1)
    assert "expired 2020-01-01 00:00 UTC" in done.stdout
    assert "this key has expired" in done.stderr


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["new", "a"], "--read, --write, --metrics"),
        (["new", "a b", "--read"], "a b"),
        (["new", "a", "--read", "--entity", "x:y"], "x:y cannot be the name of an entity"),
        (["new", "a", "--read", "--rate", "0"], "--rate"),
        (["new", "a", "--read", "--burst", "5"], "--burst goes with --rate"),
        (["new", "a", "--read", "--expires", "soon"], "want 12h, 90d, 4w, or a date"),
        (["new", "a", "--read", "--expires", "2020-01-01"], "that is over"),
        (["remove", "a"], "no key with the name or the id a"),
        (["list"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(path: str, words: list[str], wrong: str) -> None:
    assert wrong in keys(*words, "--file", path, code=2).stderr
    assert not Path(path).exists() or Path(path).read_text() == ""


def test_without_a_file_the_user_is_told_how_to_name_one() -> None:
    assert "--file, or FEATURESTORE_KEYS_FILE" in keys("list", code=2).stderr


def test_many_who_make_keys_at_once_lose_none(path: str) -> None:
    command = [sys.executable, "-m", "featurestore", "keys", "new", "a", "--read", "--file", path]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate()[0][:3] for process in running] == [b"fs_"] * 4
    assert len(key_file.parse(Path(path).read_text(), path)) == 4


def test_a_server_does_not_start_with_a_file_that_it_cannot_use(path: str, valkey: Server, tmp_path: Path) -> None:
    server = HttpServer(valkey.url, tmp_path, keys_file=path)
    with server.log.open("wb") as log:
        command = [sys.executable, "-m", "featurestore", "serve"]
        done = subprocess.run(command, env=server._environment, stderr=log, check=False, timeout=30)
    assert done.returncode == 2
    assert f"the file of keys {path} cannot be read" in server.log.read_text()


def workers_of(server: HttpServer) -> set[str]:
    assert server.process is not None
    return set(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split())


def test_a_server_follows_its_file_and_outlives_a_broken_one(path: str, valkey: Server, tmp_path: Path) -> None:
    first = keys("new", "first", "--read", "--file", path).stdout.strip()
    Path(path).chmod(0o644)
    with serving(valkey.url, tmp_path, keys_file=path, timeout_ms="5000") as server:
        assert server.process is not None

        def status(secret: str) -> int:
            return server.request("GET", "/features/u", **{"X-API-Key": secret}).status

        assert status(first) in {404, 503}  # there is no schema
        assert "everybody may read" in server.log.read_text()
        second = keys("new", "second", "--read", "--file", path).stdout.strip()
        wait_until(lambda: status(second) in {404, 503}, what="the server to see the new key")
        keys("remove", "first", "--file", path)
        wait_until(lambda: status(first) == 401, what="the server to refuse the old key")
        Path(path).write_text("[[key]")
        before = workers_of(server)
        server.process.send_signal(signal.SIGHUP)  # new workers, which cannot read the file
        wait_until(lambda: not before & workers_of(server) and workers_of(server))
        wait_until(lambda: status(second) in {404, 503}, what="a worker that remembers the keys")
        assert status(first) == 401
        assert "the keys stay as they were" in server.log.read_text()
        third = "fs_" + "0" * 8 + "_" + "A" * 43
        assert status(third) == 401
        assert all(secret not in server.log.read_text() for secret in (first, second, third))
