"""Feast's own client, as it comes from PyPI, with the project of docs/feast.md, against this project's server.

`make test-feast` runs this file in an environment that has Feast and not this package; the server is a process of the
package's own environment.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import FeatureService, FeatureStore
from feast.errors import (
    FeastError,
    FeastPermissionError,
    FeatureNameCollisionError,
    FeatureServiceNotFoundException,
    FeatureViewNotFoundException,
)
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type
from tqdm import tqdm

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / os.environ.get("COMMAND_UNDER_TEST", ".venv/bin/featurestore")
PAGE = (ROOT / "docs" / "feast.md").read_text()
NOW = datetime.now(UTC).replace(microsecond=123_000)
BIG = 2**53 + 1
FEATURES = ["ctr", "n_logins", "is_member", "country", "last_login", "embedding"]
OFFLINE = range(200_000, 202_500)  # merchants of the offline store: three writes of the page's size
LOGIN = datetime(2026, 8, 21, 10, tzinfo=UTC)


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    pause = threading.Event()
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert server.poll() is None, "the server stopped"
        assert time.monotonic() < deadline, "the server does not listen"
        pause.wait(0.02)


@pytest.fixture(scope="session")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The server with the page's schemas, over an embedded Valkey of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")} | {
        "FEATURESTORE_DATA_DIR": str(folder / "data"),
        "FEATURESTORE_BIND": f"127.0.0.1:{free}",
        "FEATURESTORE_WORKERS": "1",
        "FEATURESTORE_TIMEOUT_MS": "5000",
        "FEATURESTORE_WRITE_KEYS": "secret",
    }
    schemas = examples("toml")
    assert len(schemas) == 2
    for number, schema in enumerate(schemas):
        path = folder / f"{number}.toml"
        path.write_text(schema)
        subprocess.run([COMMAND, "apply", path], env=environment, check=True)
    server = subprocess.Popen([COMMAND, "serve"], env=environment)
    try:
        wait_until_open(free, server)
        yield free
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="session")
def repository(port: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's project, applied by `feast apply`."""
    folder = tmp_path_factory.mktemp("project")
    (configuration,) = examples("yaml")
    assert "127.0.0.1:8000" in configuration
    (folder / "feature_store.yaml").write_text(configuration.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
    (folder / "definitions.py").write_text(examples("python")[0])
    (folder / "data").mkdir()
    user_table("offline").to_parquet(folder / "data" / "users.parquet")
    merchant_table(*OFFLINE).to_parquet(folder / "data" / "merchants.parquet")
    feast = Path(sys.executable).with_name("feast")
    subprocess.run([feast, "apply"], cwd=folder, env={**os.environ, "FEATURESTORE_KEY": "secret"}, check=True)
    return folder


@pytest.fixture
def store(repository: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    monkeypatch.setenv("FEATURESTORE_KEY", "secret")
    return FeatureStore(repo_path=str(repository))


def user_table(*ids: str, at: datetime = NOW, **columns: list[Any]) -> pd.DataFrame:
    count = len(ids)
    values: dict[str, list[Any]] = {
        "user_id": list(ids),
        "ctr": [1.0] * count,
        "n_logins": [BIG] * count,
        "is_member": [False] * count,
        "country": ["00123"] * count,
        "last_login": [LOGIN] * count,
        "embedding": [[0.1, -2.5, 3.0, 16777217.0]] * count,
        "event_timestamp": [at] * count,
    }
    return pd.DataFrame(values | columns)


def merchant_table(*ids: int, at: datetime = NOW, **columns: list[Any]) -> pd.DataFrame:
    values: dict[str, list[Any]] = {"merchant_id": list(ids), "risk": [0.5] * len(ids), "n_chargebacks": [3] * len(ids)}
    return pd.DataFrame(values | {"event_timestamp": [at] * len(ids)} | columns)


def read(store: FeatureStore, features: list[str], **keys: list[Any]) -> dict[str, list[Any]]:
    rows = [dict(zip(keys, values, strict=True)) for values in zip(*keys.values(), strict=True)]
    answer: dict[str, list[Any]] = store.get_online_features(features, rows).to_dict()
    return answer


def statuses(store: FeatureStore, features: list[str], *ids: str) -> list[list[str]]:
    """Return each feature's statuses, as Feast names them."""
    results = store.get_online_features(features, [{"user_id": name} for name in ids]).proto.results
    return [[FieldStatus.Name(status) for status in result.statuses] for result in results[1:]]


def read_rows(store: FeatureStore, view: str, *ids: str, features: list[str]) -> list[tuple[Any, dict[str, Any]]]:
    """Read as clients before 0.64 do: one view at a time, by the online store's own method."""
    keys = [EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=name)]) for name in ids]
    rows = store._get_provider().online_read(store.config, store.get_feature_view(view), keys, features)
    return [(time, {name: feast_value_type_to_python_type(value) for name, value in row.items()}) for time, row in rows]


def test_the_examples_of_the_documentation_print_what_they_say(
    store: FeatureStore, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    code = examples("python")[1]
    exec(code, {})
    said = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(said) == 5
    assert capsys.readouterr().out.splitlines() == said


# Types


def test_every_type_comes_back_as_it_was_written(store: FeatureStore) -> None:
    store.write_to_online_store("user", user_table("types"))
    answer = read(store, [f"user:{name}" for name in FEATURES], user_id=["types"])
    del answer["user_id"]
    assert answer == {
        "ctr": [1.0],
        "n_logins": [BIG],
        "is_member": [False],
        "country": ["00123"],
        "last_login": [int(LOGIN.timestamp())],
        "embedding": [[0.1, -2.5, 3.0, 16777216.0]],
    }
    assert [type(values[0]) for values in answer.values()] == [float, int, bool, str, int, list]


def test_the_online_stores_own_read_casts_to_the_declared_types(store: FeatureStore) -> None:
    store.write_to_online_store("user", user_table("cast"))
    (time, row), (_, nobody) = read_rows(store, "user", "cast", "nobody", features=FEATURES)
    assert time == NOW
    assert row.pop("embedding") == pytest.approx([0.1, -2.5, 3.0, 16777216.0], rel=1e-7)
    last_login = row.pop("last_login")
    assert last_login == LOGIN
    assert row == {"ctr": 1.0, "n_logins": BIG, "is_member": False, "country": "00123"}
    assert nobody == dict.fromkeys(FEATURES)


def test_nulls_and_missing_entities_are_told_apart(store: FeatureStore) -> None:
    table = user_table("full", "gaps", ctr=[0.5, None], country=["DE", None], embedding=[[1.0, 2.0, 3.0, 4.0], None])
    store.write_to_online_store("user", table)
    features = ["user:ctr", "user:country", "user:embedding"]
    assert read(store, features, user_id=["full", "gaps", "nobody"]) == {
        "user_id": ["full", "gaps", "nobody"],
        "ctr": [0.5, None, None],
        "country": ["DE", None, None],
        "embedding": [[1.0, 2.0, 3.0, 4.0], None, None],
    }
    assert statuses(store, features, "full", "gaps", "nobody") == [["PRESENT", "NULL_VALUE", "NOT_FOUND"]] * 3


def test_a_value_beyond_the_schemas_max_age_is_outside_it(store: FeatureStore) -> None:
    store.write_to_online_store("user", user_table("old", at=NOW - timedelta(days=31)))
    assert statuses(store, ["user:ctr"], "old") == [["OUTSIDE_MAX_AGE"]]
    assert read(store, ["user:ctr"], user_id=["old"])["ctr"] == [None]


def test_columns_of_ints_with_gaps_stay_ints(store: FeatureStore) -> None:
    store.write_to_online_store("user", user_table("one", "two", n_logins=[4.0, None]))
    assert read(store, ["user:n_logins"], user_id=["one", "two"])["n_logins"] == [4, None]


# Many rows, many views


def test_rows_keep_their_order_and_their_duplicates(store: FeatureStore) -> None:
    ids = [f"order{number}" for number in range(250)]
    store.write_to_online_store("user", user_table(*ids, ctr=[number + 0.5 for number in range(250)]))
    wanted = [*reversed(ids), "nobody", *ids[:3], ids[0]]
    expected = [None if name == "nobody" else int(name.removeprefix("order")) + 0.5 for name in wanted]
    assert read(store, ["user:ctr"], user_id=wanted) == {"user_id": wanted, "ctr": expected}


def test_views_with_keys_of_their_own_are_read_by_them(store: FeatureStore) -> None:
    store.write_to_online_store("user", user_table("a", "b", ctr=[0.1, 0.2]))
    store.write_to_online_store("merchant_risk", merchant_table(1, BIG, risk=[0.7, 0.8]))
    features = ["user:ctr", "merchant_risk:n_chargebacks", "merchant_risk:risk"]
    assert read(store, features, merchant_id=[BIG, 1, 2], user_id=["a", "nobody", "b"]) == {
        "merchant_id": [BIG, 1, 2],
        "user_id": ["a", "nobody", "b"],
        "ctr": [0.1, None, 0.2],
        "n_chargebacks": [3, 3, None],
        "risk": [0.8, 0.7, None],
    }


def test_a_large_table_is_written_and_read(store: FeatureStore) -> None:
    store.write_to_online_store("merchant_risk", merchant_table(*range(100_000, 105_000)))
    answer = read(store, ["merchant_risk:risk"], merchant_id=list(range(104_500, 105_500)))
    assert answer["risk"] == [0.5] * 500 + [None] * 500


# Times


def test_the_newest_event_wins_whatever_the_order(store: FeatureStore) -> None:
    times = [NOW + timedelta(milliseconds=number) for number in (1, 3, 2)]
    table = user_table("late", "late", "late", ctr=[0.1, 0.3, 0.2], event_timestamp=times)
    store.write_to_online_store("user", table)
    store.write_to_online_store("user", table)
    store.write_to_online_store("user", user_table("late", ctr=[0.0], at=NOW))
    assert read(store, ["user:ctr"], user_id=["late"])["ctr"] == [0.3]
    ((time, _),) = read_rows(store, "user", "late", features=["ctr"])
    assert time == NOW + timedelta(milliseconds=3)


def test_pushes_and_feasts_materialization_engine_write_here_too(store: FeatureStore) -> None:
    store.push("user_events", user_table("pushed", ctr=[0.75]))
    provider, start, end = store._get_provider(), NOW - timedelta(days=1), NOW + timedelta(days=1)
    for view in store.list_feature_views():
        provider.materialize_single_feature_view(store.config, view, start, end, store.registry, store.project, tqdm)
    assert read(store, ["user:ctr", "user:n_logins"], user_id=["pushed", "offline"]) == {
        "user_id": ["pushed", "offline"],
        "ctr": [0.75, 1.0],
        "n_logins": [BIG, BIG],
    }
    ids = [*OFFLINE[-2:], OFFLINE.stop]
    assert read(store, ["merchant_risk:risk"], merchant_id=ids) == {"merchant_id": ids, "risk": [0.5, 0.5, None]}


def test_what_needs_an_offline_store_in_the_server_says_so(store: FeatureStore) -> None:
    read(store, ["user:ctr"], user_id=["nobody"])
    with pytest.raises(FeastError, match="no offline store is here"):
        store.materialize(NOW - timedelta(days=1), NOW)
    with pytest.raises(FeastError, match="no offline store is here"):
        store.materialize_incremental(NOW)


# Errors


def test_errors_are_feasts_own(store: FeatureStore) -> None:
    row = [{"user_id": "a", "merchant_id": 1}]
    with pytest.raises(FeatureViewNotFoundException, match="Feature view nope does not exist"):
        store.get_online_features(["nope:x"], row)
    with pytest.raises(FeatureServiceNotFoundException, match="nope"):
        store.get_online_features(FeatureService(name="nope", features=[]), row)
    with pytest.raises(FeatureNameCollisionError, match="ctr"):
        store.get_online_features(["user:ctr", "user:ctr"], row)
    with pytest.raises(FeastError, match="nope is not declared"):
        store.get_online_features(["user:nope"], row)
    with pytest.raises(FeastError, match="merchant_risk wants the join key merchant_id"):
        store.get_online_features(["merchant_risk:risk"], [{"user_id": "a"}])
    with pytest.raises(FeastError, match="1 of 2 rows were rejected; the first is row 1: BADTYPE"):
        store.write_to_online_store("user", user_table("good", "bad", embedding=[[0.0] * 4, [0.0] * 5]))
    assert statuses(store, ["user:ctr"], "good", "bad") == [["PRESENT", "NOT_FOUND"]]


def test_a_wrong_key_may_read_and_not_write(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURESTORE_KEY", "wrong")
    assert read(store, ["user:ctr"], user_id=["nobody"])["ctr"] == [None]
    with pytest.raises(FeastPermissionError, match="this API key is not known"):
        store.write_to_online_store("user", user_table("u"))


def test_without_a_key_nothing_is_written(repository: Path) -> None:
    configuration = (repository / "feature_store.yaml").read_text()
    anonymous = repository / "anonymous.yaml"
    anonymous.write_text(re.sub(r"^auth:\n(  .*\n)+", "", configuration, flags=re.MULTILINE))
    store = FeatureStore(repo_path=str(repository), fs_yaml_file=anonymous)
    assert read(store, ["user:ctr"], user_id=["nobody"])["ctr"] == [None]
    with pytest.raises(FeastPermissionError, match="writing needs an API key"):
        store.write_to_online_store("user", user_table("u"))
