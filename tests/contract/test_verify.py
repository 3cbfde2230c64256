"""The store against files: what is equal, what differs, and what is only newer in the store."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from featurestore.ingest.files.export_commands import verify
from support.exporting import FORMATS, export_to
from support.servers import EVERYDAY, Server, real

from featurestore import Definition, FeatureStore, FeatureStoreError, SyncTransport

NOW = int(time.time() * 1000)
HOUR = 3_600_000
FEATURES: dict[str, Any] = {
    "age": "float", "n": "int", "active": "bool", "name": "string", "v": "float32[2]", "clicks": "count(10m)"
}  # fmt: skip
ANN = {"age": 31.0, "n": 2**53 + 1, "active": True, "name": "Ann", "v": [0.1, -0.0]}
BOB = {"age": 0.1 + 0.2, "n": -5, "active": False, "name": ""}


@pytest.fixture(params=real(*EVERYDAY))
def bare(
    request: pytest.FixtureRequest, servers: dict[str, Server], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    """A store with two users, whose address is in the environment."""
    server = servers[request.param]
    monkeypatch.setenv("REDIS_URL", server.socket_url)
    store = FeatureStore(SyncTransport(server.socket_url, timeout=5, connect_timeout=5))
    store.transport.command("FLUSHALL")
    store.apply(Definition(FEATURES))
    store.upsert([("ann", ANN), ("bob", BOB)], event_time=NOW - 2 * HOUR)
    yield store
    store.close()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(verify, [str(each) for each in arguments], standalone_mode=False)


def found(*arguments: str | Path, code: int) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def totals(answer: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in answer.items() if count and isinstance(count, int)}


def ndjson(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_export_equals_the_store_until_that_changes(bare: FeatureStore, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    bare.upsert([("bob", {"n": 6})], event_time=NOW - HOUR)
    export_to(path, bare)
    assert totals(found(path, code=0)) == {"rows": 2, "equal": 2}
    bare.upsert([("bob", {"n": 7})], event_time=NOW - HOUR)  # of the same time
    answer = found(path, code=1)
    assert totals(answer) == {"rows": 2, "equal": 1, "different": 1}
    assert answer["examples"] == [{"user_id": "bob", "feature": "n", "file": 6, "store": 7}]
    assert answer["features"]["n"]["different"] == 1
    bare.upsert([("bob", {"n": None}), ("ann", {"v": [0.1, 0.0]})], event_time=NOW)
    answer = found(path, code=0)
    assert totals(answer) == {"rows": 2, "newer_in_store": 2}
    assert answer["features"]["v"] == {
        "rows": 2, "known": 2, "different": 0, "newer": 1, "null_in_file": 1, "null_in_store": 1
    }  # fmt: skip


def test_ids_that_are_unknown_deleted_or_expired(bare: FeatureStore, tmp_path: Path) -> None:
    at = {"@event_time": NOW - 2 * HOUR}
    rows = [{"user_id": each, **at, "age": 31.0} for each in ("ann", "bob", "nobody")]
    path = ndjson(tmp_path / "in.ndjson", *rows, {"user_id": None, "age": 1.0}, {"user_id": "", "age": 1.0})
    bare.delete("bob", event_time=NOW - HOUR)
    bare.transport.command("SADD", "all_users", "nobody")
    answer = found(path, code=1)
    assert totals(answer) == {"rows": 5, "equal": 1, "newer_in_store": 1, "unknown_to_store": 1, "without_id": 2}
    assert answer["examples"] == [{"user_id": "nobody", "unknown": True}]
    bare.apply(Definition(FEATURES, ttl="1h"))
    answer = found(path, code=1)
    assert totals(answer) == {"rows": 5, "expired_in_store": 3, "without_id": 2}
    assert found(ndjson(tmp_path / "in.ndjson", *rows), code=0)["expired_in_store"] == 3


def test_values_of_a_file_count_as_a_load_takes_them(bare: FeatureStore, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    columns = {
        "id": pa.array(["ann", "bob"]),
        "years": pa.array([31, None], pa.int32()),
        "n": pa.array([Decimal(9007199254740993), Decimal(-5)]),
        "active": pa.array([True, False]),
        "name": pa.array(["Ann", ""]).dictionary_encode(),
        "v": pa.array([[0.1, -0.0], None], pa.list_(pa.float64())),
        "ts": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2, pa.timestamp("ns", "UTC")),
        "other": pa.array([1, 2]),
        "clicks": pa.array([1, 2]),
    }
    pa.parquet.write_table(pa.table(columns), path)
    result = run(path, "--map", "years=age", "--event-time", "ts", "--json")
    assert "not compared, since they are no features: other, clicks" in result.stderr
    answer = json.loads(result.stdout)
    assert result.exit_code == 0  # bob's age is newer in the store
    assert totals(answer) == {"rows": 2, "equal": 1, "newer_in_store": 1}
    assert found(path, "--map", "years=age", "--nulls", "keep", code=0)["equal"] == 2
    answer = found(path, "--map", "years=age", code=1)
    assert answer["examples"] == [{"user_id": "bob", "feature": "age", "file": None, "store": 0.1 + 0.2}]


@pytest.mark.parametrize(
    ("feature", "value", "is_equal"),
    [
        ("age", 31, True), ("age", "31", False), ("age", 31.000000000000004, False), ("age", "x", False),
        ("age", float("nan"), False), ("age", float("inf"), False), ("n", 2**53, False), ("n", 2**53 + 1, True),
        ("n", str(2**53 + 1), False), ("active", True, True), ("active", "true", False), ("active", 2.5, False),
        ("name", "Ann", True), ("name", "ann", False), ("name", 5, False), ("v", [0.1, -0.0], True),
        ("v", [0.1, 0.0], False), ("v", [0.1], False),
    ],
)  # fmt: skip
def test_what_is_equal(bare: FeatureStore, tmp_path: Path, feature: str, value: object, *, is_equal: bool) -> None:
    path = tmp_path / "in.parquet"
    pa.parquet.write_table(pa.table({"user_id": ["ann"], feature: pa.array([value])}), path)
    answer = found(path, code=0 if is_equal else 1)
    assert answer["equal" if is_equal else "different"] == 1


@pytest.mark.parametrize(
    ("unit", "time", "is_newer"),
    [("ms", NOW - 3 * HOUR, True), ("ms", NOW, False), ("s", (NOW - 3 * HOUR) // 1000, True), ("s", NOW // 1000, False),
     ("us", NOW * 1000, False), ("ns", (NOW - 3 * HOUR) * 10**6, True), ("ms", "2020-01-01T00:00:00Z", True),
     ("ms", "2020-01-01", True)],
    ids=range(8),
)  # fmt: skip
def test_units_of_event_times(bare: FeatureStore, tmp_path: Path, unit: str, time: object, *, is_newer: bool) -> None:
    path = ndjson(tmp_path / "in.ndjson", {"user_id": "ann", "at": time, "age": 1.0})
    answer = found(path, "--event-time", "at", "--event-time-unit", unit, code=0 if is_newer else 1)
    assert answer["newer_in_store" if is_newer else "different"] == 1


@pytest.mark.parametrize("suffix", ["ndjson", "csv", "parquet"])
@pytest.mark.parametrize("scale", [10**-3, 1, 10**3, 10**6])
def test_the_unit_of_event_times_is_found_as_a_load_finds_it(
    bare: FeatureStore, tmp_path: Path, suffix: str, scale: float
) -> None:
    path = tmp_path / f"in.{suffix}"
    times = [int((NOW - hours * HOUR) * scale) for hours in (1, 3)]
    table = pa.table({"user_id": ["ann", "bob"], "at": times, "age": [1.0, 1.0]})
    if suffix == "ndjson":
        ndjson(path, *table.to_pylist())
    else:
        (pa.csv.write_csv if suffix == "csv" else pa.parquet.write_table)(table, path)
    answer = found(path, "--event-time", "at", code=1)
    assert totals(answer) == {"rows": 2, "different": 1, "newer_in_store": 1}
    assert answer["examples"] == [{"user_id": "ann", "feature": "age", "file": 1.0, "store": 31.0}]


def test_the_first_rows_of_standard_input_tell_the_unit(bare: FeatureStore) -> None:
    row = json.dumps({"user_id": "ann", "at": NOW // 1000, "age": 1.0}).encode()
    command = [sys.executable, "-m", "featurestore", "verify", "-", "--event-time", "at", "--json"]
    done = subprocess.run(command, input=row, capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["different"]) == (1, 1)


@pytest.mark.parametrize("time", ["soon", NOW * 1000, -1, True], ids=range(4))
def test_event_times_that_are_none_are_told_and_the_other_rows_compared(
    bare: FeatureStore, tmp_path: Path, time: object
) -> None:
    rows = [{"user_id": "ann", "at": at, "age": age} for at, age in ((NOW // 1000, 31.0), (time, 31.0), (None, 31.0))]
    result = run(ndjson(tmp_path / "in.ndjson", *rows), "--event-time", "at", "--event-time-unit", "s", "--json")
    assert totals(json.loads(result.stdout)) == {"rows": 2, "equal": 2, "unreadable": 1}
    assert result.exit_code == 1
    assert "in.ndjson, row 1 cannot be read: the event time" in result.stderr


def test_the_stores_own_columns_of_times_are_in_ms_whatever_unit_is_told(bare: FeatureStore, tmp_path: Path) -> None:
    rows = [{"user_id": "ann", "at": NOW // 1000, "age": 1.0, "age@event_time": NOW - 3 * HOUR}]
    answer = found(ndjson(tmp_path / "1.ndjson", *rows), "--event-time", "at", "--event-time-unit", "s", code=0)
    assert answer["newer_in_store"] == 1
    own = ndjson(tmp_path / "2.ndjson", {"user_id": "ann", "@event_time": NOW - 3 * HOUR, "age": 1.0})
    assert found(own, "--event-time-unit", "s", code=0)["newer_in_store"] == 1


def test_a_sample_is_of_so_many_rows_of_all_files(bare: FeatureStore, tmp_path: Path) -> None:
    everyone = [(f"u{number}", {"n": number}) for number in range(500)]
    bare.upsert(everyone, event_time=NOW - HOUR)
    rows = [{"user_id": each, **row} for each, row in everyone]
    one = ndjson(tmp_path / "1.ndjson", *rows[:300])
    other = ndjson(tmp_path / "2.ndjson", *({**row, "@event_time": NOW} for row in rows[300:]))
    assert totals(found(one, other, "--sample", "120", code=0)) == {"rows": 120, "equal": 120}
    assert totals(found(one, other, "--sample", "1200", code=0)) == {"rows": 500, "equal": 500}
    chosen = found(one, ndjson(tmp_path / "2.ndjson", *({**row, "n": -1} for row in rows[300:])), "--sample", "100",
                   code=1)  # fmt: skip
    assert 20 <= chosen["different"] <= 60  # of which 40 are to be expected; the seed is fixed


def test_what_people_are_shown(bare: FeatureStore, tmp_path: Path) -> None:
    path = ndjson(tmp_path / "in.ndjson", {"user_id": "ann", "age": 1.0, "name": None}, {"user_id": "bob", "name": ""})
    result = run(path)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "rows                               2",
        "equal                              0",
        "different                          2",
    ]
    assert lines[9:12] == [
        "feature                      different         newer  null in file null in store",
        "age                                  2             0       50.00 %        0.00 %",
        "name                                 1             0       50.00 %        0.00 %",
    ]
    assert [json.loads(line) for line in lines[13:]] == [
        {"user_id": "ann", "feature": "age", "file": 1.0, "store": 31.0},
        {"user_id": "ann", "feature": "name", "file": None, "store": "Ann"},
        {"user_id": "bob", "feature": "age", "file": None, "store": 0.1 + 0.2},
    ]
    assert "examples" not in run(path, "--examples", "0").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["in.ndjson", "--map", "x=age"], "in.ndjson has no column x (columns: user_id, age, years)"),
        (["in.ndjson", "--map", "age"], "--map wants COLUMN=FEATURE, not age"),
        (["in.ndjson", "--map", "years=agee"], "--map years=agee: no feature agee: did you mean age?"),
        (["in.ndjson", "--map", "years=age"], "columns age and years are both for the feature age"),
        (["in.ndjson", "--event-time", "at"], "--event-time: "),
        (["in.ndjson", "--event-time", "at"], "in.ndjson has no column at"),
        (["in.ndjson", "--event-time", "age"], "column age has 31.0"),
        (["in.ndjson", "--event-time", "@event_time", "--event-time-unit", "s"], "@event_time is in ms"),
        (["in.ndjson", "--id", "name"], "in.ndjson has no column name (columns: user_id, age, years)"),
        (["units.ndjson"], "the event times of column event_time are of several units: 1767225600 (seconds; "),
        (["none.ndjson"], "there is no file"),
        (["bad.parquet"], "bad.parquet is no Parquet file"),
    ],
)
def test_wrong_usage(bare: FeatureStore, tmp_path: Path, options: list[str], message: str) -> None:
    ndjson(tmp_path / "in.ndjson", {"user_id": "ann", "age": 31.0, "years": "x"})
    times = [{"user_id": "ann", "event_time": time} for time in (1767225600, 1767225600000)]
    ndjson(tmp_path / "units.ndjson", *times)
    (tmp_path / "bad.parquet").write_text("{")
    result = run(tmp_path / options[0], *options[1:])
    assert result.exception is not None
    assert message in str(getattr(result.exception, "message", ""))
    assert getattr(result.exception, "exit_code", None) == 2
    assert isinstance(result.exception.__cause__, FeatureStoreError)


def test_rows_that_cannot_be_read_are_told_and_the_others_compared(bare: FeatureStore, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("user_id,age\nann,31\nann,31,7\n")
    result = run(path, "--json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["equal"], answer["unreadable"]) == (1, 1, 1)
    assert "in.csv, row 1 cannot be read" in result.stderr
