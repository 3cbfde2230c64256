"""The programs in examples/ run as they are, against an embedded server."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, read_definition
from featurestore.schema.services import LogDefinition, ServiceDefinition

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = Path(sys.executable).parent


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore.connect(valkey.url, timeout=5) as made:
        made.transport.command("FLUSHALL")
        yield made


@pytest.fixture
def environment(valkey: Server, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_URL": valkey.url,
        "FEATURESTORE_DATA_DIR": str(tmp_path / "data"),
        "PATH": f"{COMMAND}{os.pathsep}{os.environ['PATH']}",
    }


def run(environment: dict[str, str], *command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_model_scores_users_of_the_store(store: FeatureStore, environment: dict[str, str], tmp_path: Path) -> None:
    run(environment, "featurestore", "apply")
    run(environment, "featurestore", "simulate", "--users", 500, "--once")
    run(environment, "featurestore", "export", "--out", tmp_path / "history.parquet")
    service = subprocess.Popen(
        [sys.executable, EXAMPLES / "model_service.py", tmp_path / "history.parquet", "0"],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert service.stderr is not None
        address = service.stderr.readline().split()[-1]
        body = json.dumps({"user_ids": ["user00001", "nobody"]}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as response:
            scores: dict[str, Any] = json.load(response)
        assert 0 <= scores["user00001"] <= 1
        assert scores["nobody"] is None
    finally:
        service.terminate()
        service.communicate(timeout=20)


def test_a_nightly_load_is_checked_and_changes_nothing_twice(
    store: FeatureStore, environment: dict[str, str], tmp_path: Path
) -> None:
    store.apply(read_definition())
    table = {"user_id": [f"u{row}" for row in range(50)], "ts": [1_790_000_000_000] * 50, "age": [30.0] * 50}
    pq.write_table(pa.table(table), tmp_path / "users.parquet")
    first = run(environment, EXAMPLES / "nightly_load.sh", tmp_path / "users.parquet")
    assert json.loads(first.stdout.splitlines()[0])["written"] == 50
    assert store.get("u7", ["age"]) == {"age": 30.0}
    again = run(environment, EXAMPLES / "nightly_load.sh", tmp_path / "users.parquet")
    assert json.loads(again.stdout.splitlines()[0])["rejected"] == 0
    in_s = pa.table({**table, "ts": [1_790_000_000] * 50})
    pq.write_table(in_s.set_column(2, "age", pa.array([31.0] * 50)), tmp_path / "users.parquet")
    told = run(
        environment, "featurestore", "verify", tmp_path / "users.parquet", "--event-time", "ts", "--json", code=1
    )
    assert json.loads(told.stdout)["different"] == 50
    pq.write_table(pa.table({**table, "age": ["x", *["30"] * 49]}), tmp_path / "users.parquet")
    run(environment, EXAMPLES / "nightly_load.sh", tmp_path / "users.parquet", code=2)
    (tmp_path / "bad.csv").write_text("user_id,ts,age\na,1790000000000,31\nb,1790000000000,x\n")
    run(environment, EXAMPLES / "nightly_load.sh", tmp_path / "bad.csv", code=1)
    assert json.loads((tmp_path / "bad.rejected.ndjson").read_text())["code"] == "BADTYPE"


def test_clicks_are_consumed_once_each(store: FeatureStore, environment: dict[str, str]) -> None:
    run(environment, "featurestore", "apply", EXAMPLES / "clicks.toml")
    consumer = subprocess.Popen(["featurestore", "consume", "clicks"], env=environment, stderr=subprocess.DEVNULL)
    try:
        run(environment, sys.executable, EXAMPLES / "clicks.py", environment["REDIS_URL"], 900)
        wait_until(lambda: sum(row["visits"] or 0 for row in every(store)) == 300)
        wait_until(lambda: sum(row["clicks_10m"] or 0 for row in every(store)) == 300)
    finally:
        consumer.send_signal(signal.SIGTERM)
        assert consumer.wait(timeout=20) == 0
    run(environment, "featurestore", "consume", "clicks", "--until-drained")
    assert sum(row["visits"] or 0 for row in every(store)) == 300
    assert sum(row["spent_1h"] > 0 for row in every(store)) > 0


def every(store: FeatureStore) -> list[Any]:
    rows = store.get_many([f"user{number:05d}" for number in range(100)])
    return [row for row in rows if row is not None]


def test_a_model_is_trained_on_what_was_served(
    store: FeatureStore, environment: dict[str, str], tmp_path: Path
) -> None:
    log = LogDefinition(max_entries=10_000)
    services = {"risk": ServiceDefinition(["age", "spent"], log)}
    store.apply(Definition({"age": "float", "spent": "float", "city": "string"}, services=services))
    store.upsert([(f"u{number}", {"age": number, "spent": number / 7}) for number in range(60)])
    for number in range(60):
        store.serve("risk", [f"u{number}"], request_id=f"order-{number}")
    wait_until(lambda: store.served_counts == (60, 0), what="all that was served")
    labels = [f"order-{number},{int(number >= 30)}\n" for number in range(50)]
    (tmp_path / "labels.csv").write_text("request_id,label\n" + "".join(labels))
    done = run(environment, "featurestore", "export", "--served", "risk", "--to", tmp_path / "served.parquet")
    assert "Exported 60 rows served to risk" in done.stderr
    program = EXAMPLES / "train_from_served.py"
    told = run(environment, sys.executable, program, tmp_path / "served.parquet", tmp_path / "labels.csv").stdout
    assert told.startswith("50 of 60 rows have a label; 0.0% of the values were stale when they were served\n")
    assert "trained on age, spent: accuracy 1.00" in told
