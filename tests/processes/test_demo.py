"""`featurestore demo`: what it writes where, what it asks first, and what it tells."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import DEMO, clean_environment, processes_of, started
from support.servers import Server, free_port

import featurestore
from featurestore import EmbeddedServer, FeatureStore
from featurestore.errors import ConfigurationError, FeatureStoreError
from featurestore.serving.demo import free_address

UPDATED = "Ingested/Updated 500 features. Total unique users: 2000"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return clean_environment(tmp_path)


def demo(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run a demo that is to end by itself."""
    return subprocess.run(
        [*DEMO, *options], env=environment, capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def commands_in(text: str) -> dict[str, list[str]]:
    """The commands that the demo shows, by what they are for."""
    found = dict(re.findall(r"^  (\w[\w ]*?) {2,}(\S.*?)(?: {3}\(.*)?$", text, re.MULTILINE))
    return {name: shlex.split(command) for name, command in found.items()}


def say(words: list[str]) -> str:
    name, _, value = words[0].partition("=")
    environment = {**os.environ, name: value} if value else dict(os.environ)
    return subprocess.run(
        words[1:] if value else words, env=environment, check=True, capture_output=True, text=True, timeout=30
    ).stdout


def test_a_demo_in_a_checkout_simulates_by_the_installed_package(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a copy was installed from a checkout, the folder `featurestore` there is not the whole package."""
    (tmp_path / "featurestore").mkdir()
    (tmp_path / "lua").symlink_to(Path(featurestore.__file__).parents[1] / "lua")
    for path in Path(featurestore.__file__).parent.iterdir():
        if path.name != "__main__.py":
            (tmp_path / "featurestore" / path.name).symlink_to(path)
    (tmp_path / "featurestore" / "__main__.py").write_text("raise ImportError('featurestore.ingest')\n")
    monkeypatch.chdir(tmp_path)
    with started((str(Path(sys.executable).parent / "featurestore"), *DEMO[3:]), environment, tmp_path) as running:
        running.wait_for(UPDATED)


def test_what_a_demo_shows_works_and_its_data_are_its_own(environment: dict[str, str], tmp_path: Path) -> None:
    data = Path(environment["FEATURESTORE_DATA_DIR"])
    with started(DEMO, environment, tmp_path) as running:
        running.wait_for(UPDATED)
        shown = commands_in(running.text())
        assert set(shown) == {"in a browser", "read over HTTP", "write over HTTP", "command line", "Redis"}
        assert "<title>" in say(["curl", "-s", *shown["in a browser"]])
        assert json.loads(say(shown["write over HTTP"]))["features"] == {"age": 31.0}
        assert json.loads(say(shown["read over HTTP"]))["user_id"] == "user00001"
        assert isinstance(json.loads(say(shown["command line"]))["features"]["age"], float)
        if shutil.which("redis-cli"):
            assert float(say(shown["Redis"])) >= 18
        second = demo(environment, "--bind", f"127.0.0.1:{free_port()}")
        assert second.returncode == 1
        assert second.stderr == (
            f"featurestore: a demo runs already, with its data in {data}/demo: stop it first, or set "
            "FEATURESTORE_DATA_DIR for this one\n"
        )
        running.process.send_signal(2)
        assert running.process.wait(30) == 130
        assert processes_of(environment) == set()
    with EmbeddedServer(data / "demo") as server, FeatureStore.connect(server.url, timeout=5) as store:
        assert store.count() == 2000
    with EmbeddedServer(data) as server, FeatureStore.connect(server.url, timeout=5) as store:
        assert store.transport.command("DBSIZE") == 0


def test_a_taken_port_is_told_before_anything_is_written(environment: dict[str, str], valkey: Server) -> None:
    environment["FEATURESTORE_BIND"] = f"127.0.0.1:{valkey.port}"
    refused = demo(environment)
    assert (refused.returncode, refused.stderr) == (
        1,
        (
            f"featurestore: something listens on 127.0.0.1:{valkey.port} already: stop it, or give another address by "
            "--bind or FEATURESTORE_BIND, such as --bind 127.0.0.1:8001\n"
        ),
    )
    assert not list(Path(environment["FEATURESTORE_DATA_DIR"]).glob("demo/appendonlydir"))
    refused = demo({**environment, "REDIS_URL": valkey.url})
    assert refused.returncode == 1
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        assert store.transport.command("DBSIZE") == 0


def test_a_demo_writes_into_an_empty_redis_and_again_into_its_own(
    environment: dict[str, str], valkey: Server, tmp_path: Path
) -> None:
    environment["REDIS_URL"] = valkey.url
    for _ in range(2):
        with started(DEMO, environment, tmp_path) as running:
            running.wait_for(UPDATED)
            assert f"redis-cli -u {valkey.url} HGET" in running.text()
            running.process.terminate()
            assert running.process.wait(30) == 143
    assert not Path(environment["FEATURESTORE_DATA_DIR"]).exists()
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        store.upsert([("a-user-of-somebody", {"age": 1.0})])
        before = store.count()
        refused = demo(environment)
        assert refused.returncode == 1
        assert "user:a-user-of-somebody:features" in refused.stderr
        assert store.count() == before


@pytest.mark.parametrize("key", ["user:user00001:features", "all_users", "session:1"])
def test_a_demo_asks_before_it_writes_into_a_redis_that_holds_something(
    key: str, environment: dict[str, str], valkey: Server, tmp_path: Path
) -> None:
    environment["REDIS_URL"] = valkey.url
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        store.transport.command("SADD" if key == "all_users" else "HSET", key, "x", *(["y"] * (key != "all_users")))
        refused = demo(environment)
        assert refused.returncode == 1
        assert refused.stderr.endswith(
            f"holds 1 keys, not only a demo's ('{key}' for one): the demo would write 2000 users and 10 features that "
            "cannot be taken back; --yes lets it\n"
        )
        assert store.transport.command("KEYS", "*") == [key.encode()]
        if key == "session:1":
            with started((*DEMO, "--yes"), environment, tmp_path) as running:
                running.wait_for(UPDATED)


def test_a_demo_that_others_can_reach_has_a_write_key_of_its_own(environment: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    keys = set()
    for _ in range(2):
        with started((*DEMO, "--bind", f"0.0.0.0:{port}"), environment, tmp_path) as running:
            running.wait_for(UPDATED)
            (key,) = re.findall(r'"X-API-Key: (.*?)"', running.text())
            keys.add(key)
            assert json.loads(say(commands_in(running.text())["write over HTTP"]))["features"] == {"age": 31.0}
            running.process.terminate()
            running.process.wait(30)
    assert len(keys) == 2
    assert all(len(key) >= 20 for key in keys)


def test_a_demo_keeps_the_write_keys_that_are_set_and_does_not_show_them(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment |= {"FEATURESTORE_WRITE_KEYS": "s3cret", "FEATURESTORE_BIND": f"unix:{tmp_path}/http.sock"}
    with started(DEMO, environment, tmp_path) as running:
        running.wait_for(UPDATED)
        assert "s3cret" not in running.text()
        write = commands_in(running.text())["write over HTTP"]
        assert "FEATURESTORE_WRITE_KEYS" in write[-3]
        write[-3] = "X-API-Key: s3cret"
        assert json.loads(say(write))["features"] == {"age": 31.0}


def test_a_demo_tells_of_a_mistyped_setting_once(environment: dict[str, str], tmp_path: Path) -> None:
    environment["FEATURESTORE_TIMOUT_MS"] = "80"
    with started(DEMO, environment, tmp_path) as running:
        running.wait_for(UPDATED)
        assert running.text().count("FEATURESTORE_TIMOUT_MS") == 1


def test_addresses(tmp_path: Path, valkey: Server) -> None:
    free = free_port()
    for bind in (f"127.0.0.1:{free}", f":{free}", f"localhost:{free}", f"unix:{tmp_path}/none", f"[::1]:{free}"):
        assert free_address(bind) == bind
    assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d+", free_address("127.0.0.1:0"))
    for taken in (f"127.0.0.1:{valkey.port}", f"0.0.0.0:{valkey.port}", f"unix:{valkey.folder}/s"):
        with pytest.raises(FeatureStoreError, match="listens on"):
            free_address(taken)
    for wrong in ("192.0.2.1:80", "no.such.host.invalid:80", "fd://3"):
        with pytest.raises(ConfigurationError):
            free_address(wrong)
