"""The command line, run as people run it, on the embedded server."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from support.processes import clean_environment

from featurestore import EmbeddedServer, FeatureStore

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with an embedded server of the test's own."""
    return clean_environment(tmp_path)


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "featurestore", *arguments],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return call


def test_apply_simulate_get_delete_with_data_that_stay(run: Run) -> None:
    assert run("get", "user00001").returncode == 1
    assert "featurestore apply" in run("get", "user00001").stderr
    assert run("apply").stderr == "schema of user: version 1, 10 features\n"
    loaded = run("simulate", "--users", "1200", "--once", "--seed", "7")
    assert loaded.returncode == 0
    assert "Loaded 1200 users" in loaded.stderr
    got = run("get", "user00001", "nope", "--features", "age,n_logins")
    assert got.returncode == 1
    known, unknown = (json.loads(line) for line in got.stdout.splitlines())
    assert isinstance(known["features"]["age"], float)
    assert isinstance(known["features"]["n_logins"], int)
    assert unknown == {"user_id": "nope", "features": None}
    run("simulate", "--users", "1200", "--once", "--seed", "7")
    assert json.loads(run("get", "user00001", "--features", "age,n_logins").stdout) == known
    assert run("delete", "user00001").stdout == '{"user_id":"user00001","deleted":true}\n'
    assert run("delete", "user00001").returncode == 1
    assert json.loads(run("schema").stdout)["features"]["age"] == "float"


def test_apply_refuses_a_changed_type(run: Run, tmp_path: Path) -> None:
    run("apply")
    changed = tmp_path / "changed.toml"
    changed.write_text('[features]\nage = "int"\n')
    refused = run("apply", str(changed))
    assert refused.returncode == 1
    assert refused.stderr == (
        f"featurestore: {changed}, entity user: age is declared as float and cannot become int: declare a feature of "
        "another name, or retire it first (featurestore retire)\n"
    )


def test_every_command_takes_another_entity(run: Run, tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "item.toml"
    path.write_text('entity = "item"\njoin_key = "sku"\nmembers = "goods"\n[features]\nprice = "float"\n')
    item = ("--entity", "item")
    assert (
        run("repack", *item).stderr
        == "featurestore: no schema of item is stored: featurestore apply FILE declares features\n"
    )
    assert run("apply", str(path)).returncode == 0
    with EmbeddedServer(environment["FEATURESTORE_DATA_DIR"]) as server, FeatureStore.connect(server.url) as store:
        store.entity("item").upsert([("i1", {"price": 2.5})])
    assert run("get", "i1", *item).stdout == '{"sku":"i1","features":{"price":2.5}}\n'
    assert run("repack", *item).stderr.endswith("done: 1 ids seen, 0 rows built\n")
    assert "schema version 1 with 1 features" in run("doctor", *item).stdout
    assert json.loads(run("schema", *item).stdout)["entity"] == "item"
    assert run("sweep", *item).stderr == "done: 1 ids seen, 0 removed\n"
    assert run("delete", "i1", *item).stdout == '{"sku":"i1","deleted":true}\n'
    assert run("get", "user00001").returncode == 1


def test_health_tells_whether_the_server_answers(run: Run) -> None:
    health = run("health")
    assert (health.returncode, health.stdout) == (1, "")
    assert "no server answers on 127.0.0.1:" in health.stderr


def test_the_version_tells_of_the_extensions(run: Run) -> None:
    assert run("--version").stdout == f"featurestore {version('redis-featurestore')} (with all C extensions)\n"


def test_settings_show_values_in_force_without_secrets(run: Run, environment: dict[str, str]) -> None:
    environment |= {
        "FEATURESTORE_TIMEOUT_MS": "80",
        "FEATURESTORE_WRITE_KEYS": "s3cret",
        "REDIS_URL": "redis://u:s3cret@h",
    }
    shown = run("settings").stdout
    assert "s3cret" not in shown
    lines = {line.split()[0]: line.split(None, 1)[1] for line in shown.splitlines()}
    assert lines["FEATURESTORE_TIMEOUT_MS"].startswith("80 ")
    assert "(environment; default: 50) how long a request waits" in lines["FEATURESTORE_TIMEOUT_MS"]
    assert lines["FEATURESTORE_THREADS"].startswith("8 ")
    assert "(default) threads a worker" in lines["FEATURESTORE_THREADS"]
    assert lines["FEATURESTORE_WRITE_KEYS"].startswith("*** ")
    assert lines["REDIS_URL"].startswith("redis://u:***@h ")


def test_a_mistyped_setting_is_told_by_every_command(run: Run, environment: dict[str, str]) -> None:
    environment |= {"FEATURESTORE_TIMOUT_MS": "80", "FEATURESTORE_PORT_8000_TCP": "tcp://10.0.0.1:8000"}
    told = "featurestore: warning: FEATURESTORE_TIMOUT_MS is not a setting: did you mean FEATURESTORE_TIMEOUT_MS?\n"
    for command in ("settings", "scripts", "health"):
        assert run(command).stderr.startswith(told)
        assert run(command).stderr.count("warning") == 1


@pytest.mark.parametrize(
    "arguments",
    [["frob"], ["get"], ["serve", "--wurkers", "3"], ["simulate", "--users", "x"], ["scripts", "nope"]],
)
def test_wrong_usage_exits_2_with_one_line(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("group", [[], ["keys"], ["functions"]])
def test_a_group_without_a_command_shows_its_help_alone(run: Run, group: list[str]) -> None:
    result = run(*group)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == run(*group, "--help").stdout


def test_a_wrong_setting_exits_2_with_one_line(run: Run, environment: dict[str, str]) -> None:
    environment["FEATURESTORE_WORKERS"] = "many"
    result = run("serve")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "FEATURESTORE_WORKERS" in result.stderr


def test_scripts_are_listed_with_their_sha(run: Run) -> None:
    listed = run("scripts").stdout
    source = run("scripts", "get_features").stdout
    sha = hashlib.sha1(source.encode()).hexdigest()
    assert f"{sha}  get_features\n" in listed
    for name in ("get_features_batch", "upsert_features", "delete_entity", "apply_schema", "KEYS[1]", "ARGV[1]"):
        assert name in listed


def test_two_embedded_servers_on_one_folder_are_one(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "d") as first, EmbeddedServer(tmp_path / "d") as second:
        assert first.url == second.url
        assert "not running here" in repr(second)
        second.stop()
        with FeatureStore.connect(first.url, timeout=5) as store:
            store.ping()


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / ("x" * 120)) as server, FeatureStore.connect(server.url, timeout=5) as store:
        store.ping()
