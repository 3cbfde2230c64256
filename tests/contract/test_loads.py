"""`featurestore load`: what becomes of the rows of files, in every format, and of those that are no rows."""

import gzip
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from featurestore.ingest.files.load_command import load
from pyarrow import csv, feather, ipc, parquet
from support.loading import FEATURES, FIRST_MS, contents, rows_of
from support.servers import Server, real

from featurestore import ConfigurationError, Definition, FeatureStore, SyncTransport
from featurestore.errors import NoSchemaError, SourceError
from featurestore.schema.definition import read_definition


class Loads:
    """A folder, and a Redis with a schema."""

    def __init__(self, store: FeatureStore, folder: Path) -> None:
        self.store, self.folder = store, folder

    def run(self, *arguments: object, given: bytes | None = None) -> dict[str, Any]:
        """Load, and return what it says, with its exit code as `exit`; errors are raised."""
        result = CliRunner().invoke(load, list(map(str, arguments)), input=given, catch_exceptions=False)
        return {"exit": result.exit_code, **(json.loads(result.stdout) if result.stdout else {})}

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def rejected(self, name: str = "rows.rejected.ndjson") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def clear(self) -> None:
        self.store.transport.command("FLUSHALL")
        self.store.apply(Definition(features=FEATURES))


@pytest.fixture(params=real("valkey9", "redis62", "redis7"))
def loads(
    request: pytest.FixtureRequest, servers: dict[str, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Loads]:
    url = servers[request.param].socket_url
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("FEATURESTORE_DATA_DIR", str(tmp_path / "data"))
    with FeatureStore(SyncTransport(url, timeout=5, connect_timeout=5)) as store:
        made = Loads(store, tmp_path)
        made.clear()
        yield made


def as_csv(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    csv.write_csv(table, buffer, csv.WriteOptions(**options))
    return buffer.getvalue()


def as_ndjson(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in table.to_pylist())


def as_ingested(table: pa.Table) -> bytes:
    rows = []
    for row in table.to_pylist():
        head = {"user_id": row.pop("user_id"), "event_time": row.pop("ts")}
        rows.append(json.dumps({**head, "features": row}).encode() + b"\n")
    return b"".join(rows)


def as_arrow(table: pa.Table, *, stream: bool) -> bytes:
    buffer = io.BytesIO()
    with (ipc.new_stream if stream else ipc.new_file)(buffer, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)
    return buffer.getvalue()


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, row_group_size=400)
    return buffer.getvalue()


def as_feather(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    feather.write_feather(table, buffer)
    return buffer.getvalue()


FORMS: dict[str, Callable[[pa.Table], bytes]] = {
    "rows.parquet": as_parquet,
    "rows.csv": as_csv,
    "rows.csv.gz": lambda table: gzip.compress(as_csv(table)),
    "rows.tsv": lambda table: as_csv(table, delimiter="\t"),
    "semicolons.csv": lambda table: b"\xef\xbb\xbf" + as_csv(table, delimiter=";").replace(b"\n", b"\r\n"),
    "rows.ndjson": as_ndjson,
    "rows.jsonl.gz": lambda table: gzip.compress(b"\xef\xbb\xbf" + as_ndjson(table).replace(b"\n", b"\n\n")),
    "ingested.ndjson": as_ingested,
    "rows.arrow": lambda table: as_arrow(table, stream=False),
    "rows.arrows": lambda table: as_arrow(table, stream=True),
    "rows.feather": as_feather,
    "nameless": as_parquet,
}


def test_every_format_leaves_the_same(loads: Loads) -> None:
    table = rows_of(0, 1000)
    found = {}
    for name, form in FORMS.items():
        loads.clear()
        time = () if name.startswith("ingested") else ("--event-time", "ts")
        told = loads.run(loads.file(name, form(table)), *time)
        assert (told["exit"], told["rows"], told["rejected"]) == (0, 1000, 0), name
        ids = sorted(loads.store.transport.command("SMEMBERS", "all_users"))
        _, rows = loads.store.fetch_fresh([each.decode() for each in ids])
        found[name] = [
            (each, row and (row.values, row.event_times))  # noqa: PD011 - no frame
            for each, row in zip(ids, rows, strict=True)
        ]
    assert loads.store.get("u5") == {"age": 5, "score": 5 / 3, "country": "FR", "is_active": False}
    first = found.pop("rows.parquet")
    assert len(first) == 980
    for name, others in found.items():
        assert others == first, name


def test_standard_input_is_ndjson(loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "featurestore", "load", "-"]
    given = b'{"user_id": "a", "age": 3}\n{"user_id": "b", "age": "x"}\n{"user_id": 7, "age": 4.0}'
    ended = subprocess.run(command, input=given, capture_output=True, check=False)
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["rejected_file"] == str(tmp_path / "stdin.rejected.ndjson")
    assert loads.store.get_many(["a", "b", "7"], ["age"]) == [{"age": 3}, None, {"age": 4}]


@pytest.mark.parametrize("time", [FIRST_MS // 1000, FIRST_MS, FIRST_MS * 1000])
def test_the_first_rows_of_standard_input_tell_the_unit(loads: Loads, time: int) -> None:
    command = [sys.executable, "-m", "featurestore", "load", "-", "--event-time", "ts"]
    given = f'{{"id": "a", "age": 3, "ts": {time}}}\n{{"id": "b", "age": 3, "ts": 7}}\n'
    ended = subprocess.run(command, input=given.encode(), capture_output=True, check=False)
    assert json.loads(ended.stdout)["codes"] == {"BADTIME": 1}
    _, (row,) = loads.store.fetch_fresh(["a"], ["age"])
    assert row is not None
    assert list(row.event_times) == [FIRST_MS]


def test_text_is_read_by_the_features_types(loads: Loads) -> None:
    path = loads.file(
        "rows.csv",
        "user_id,age,score,country,is_active,taste\n"
        'a,12,1e3,"two\nlines, ""quoted""",True,"[1, 2.5, 3]"\n'
        "b,12.0,-0.0,00123,false,\n"
        "c, 7 ,.5, x ,1,\n"
        "d,9223372036854775807,3,NA,0,\n"
        "e,,,,,\n",
    )
    assert loads.run(path)["exit"] == 0
    rows = loads.store.get_many(["a", "b", "c", "d", "e"], list(FEATURES))
    assert rows[0] == {
        "age": 12, "score": 1000.0, "country": 'two\nlines, "quoted"', "is_active": True, "taste": [1.0, 2.5, 3.0],
    }  # fmt: skip
    assert rows[1] == {"age": 12, "score": 0.0, "country": "00123", "is_active": False, "taste": None}
    assert rows[2] == {"age": 7, "score": 0.5, "country": " x ", "is_active": True, "taste": None}
    assert rows[3] == {"age": 2**63 - 1, "score": 3.0, "country": "NA", "is_active": False, "taste": None}
    assert rows[4] == dict.fromkeys(FEATURES)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("age", "1.5"), ("age", "1_000"), ("age", "x"), ("age", "9223372036854775808"), ("score", "x1"),
        ("score", "inf"), ("score", "1,5"), ("is_active", "2"), ("is_active", "ja"), ("taste", "[1, 2]"),
        ("taste", "one"), ("taste", '["a", "b", "c"]'),
    ],
)  # fmt: skip
def test_text_that_is_no_value_is_rejected_with_its_column(loads: Loads, column: str, text: str) -> None:
    path = loads.file("rows.csv", f'user_id;{column}\na;"{text.replace(chr(34), chr(34) * 2)}"\n')
    assert loads.run(path)["codes"] == {"BADTYPE": 1}
    (rejected,) = loads.rejected()
    assert rejected["row"] == {"user_id": "a", column: text}
    assert rejected["reason"].startswith(column)
    assert loads.store.count() == 0


def test_text_of_another_encoding(loads: Loads) -> None:
    path = loads.file("rows.csv", "user_id,country\na,Österreich\nb,France\n".encode("latin-1"))
    assert loads.run(path)["codes"] == {"BADROW": 1}
    (rejected,) = loads.rejected()
    assert (rejected["row"], rejected["position"]) == ("a,\\xd6sterreich", 0)
    assert "--encoding" in rejected["reason"]
    assert loads.store.get_many(["a", "b"], ["country"]) == [None, {"country": "France"}]
    assert loads.run(path, "--encoding", "latin-1")["exit"] == 0
    wide = loads.file("wide.csv", "user_id,country\nc,Österreich\n".encode("utf-16"))
    assert loads.run(wide, "--encoding", "utf-16")["exit"] == 0
    assert loads.store.get("c", ["country"]) == {"country": "Österreich"}
    assert loads.store.get("a", ["country"]) == {"country": "Österreich"}


def test_values_of_arrow(loads: Loads) -> None:
    table = pa.table(
        {
            "user_id": pa.array([1, 2, 3], pa.int64()),
            "age": pa.array([Decimal("5.00"), None, Decimal("6.50")]),
            "score": pa.array([1, 2, 3], pa.int8()),
            "country": pa.array(["a", "b", None]).dictionary_encode(),
            "taste": pa.array([[1, 2, 3], None, [1, 2]], pa.list_(pa.float32())),
        }
    )
    assert loads.run(loads.file("rows.parquet", as_parquet(table)))["codes"] == {"BADTYPE": 1}
    assert loads.store.get_many(["1", "2", "3"], ["age", "score", "country", "taste"]) == [
        {"age": 5, "score": 1.0, "country": "a", "taste": [1.0, 2.0, 3.0]},
        {"age": None, "score": 2.0, "country": "b", "taste": None},
        None,
    ]
    assert loads.rejected()[0]["row"]["age"] == "6.50"


ROWS = """\
user_id,age,country
a,1,DE
b,old,FR
c,3
,4,ES
e,5,IT
"""


def test_rejected_rows_are_mended_and_loaded_again(loads: Loads) -> None:
    told = loads.run(loads.file("rows.csv", ROWS))
    assert told["codes"] == {"BADTYPE": 1, "BADROW": 1, "BADID": 1}
    assert (told["exit"], told["rows"], told["written"]) == (1, 5, 2)
    rejected = loads.rejected()
    assert [(row["position"], row["code"]) for row in rejected] == [(1, "BADTYPE"), (2, "BADROW"), (3, "BADID")]
    assert [row["row"] for row in rejected] == [
        {"user_id": "b", "age": "old", "country": "FR"}, "c,3", {"user_id": None, "age": "4", "country": "ES"},
    ]  # fmt: skip
    assert {row["file"] for row in rejected} == {str(loads.folder / "rows.csv")}
    rejected[0]["row"]["age"] = 2
    rejected[1]["row"] = {"user_id": "c", "age": "3", "country": ""}
    mended = loads.file("rows.rejected.ndjson", "".join(json.dumps(row) + "\n" for row in rejected))
    assert loads.run(mended)["codes"] == {"BADID": 1}
    (left,) = loads.rejected("rows.rejected.rejected.ndjson")
    assert left == {**rejected[2], "file": str(mended), "position": 2}
    assert loads.store.get_many(["a", "b", "c", "e"], ["age", "country"]) == [
        {"age": 1, "country": "DE"}, {"age": 2, "country": "FR"}, {"age": 3, "country": None},
        {"age": 5, "country": "IT"},
    ]  # fmt: skip


def test_a_mended_row_without_a_time_has_that_of_its_first_load(loads: Loads) -> None:
    loads.run(loads.file("rows.csv", ROWS))
    rejected = loads.rejected()[:1]
    loads.store.upsert([("b", {"age": 77})])
    rejected[0]["row"]["age"] = 2
    loads.run(loads.file("rows.rejected.ndjson", json.dumps(rejected[0])))
    assert loads.store.get("b", ["age", "country"]) == {"age": 77, "country": "FR"}


def test_lines_of_ndjson_stand_or_fall_alone(loads: Loads) -> None:
    path = loads.file(
        "rows.ndjson",
        '{"user_id":"a","age":NaN,"score":1}\n'
        "nonsense\n\n"
        '{"user_id":"b","age":12345678901234567890}\n'
        "[1]\n"
        '{"age":1}\n'
        '{"user_id":"c","age":1,"nope":2}\n'
        '{"user_id":"d","age":"1"}\n'
        '{"id":"e","age":true}\n'
        f'{{"user_id":"{"x" * 300}","age":1}}\n'
        '{"id":"g","features":{"age":3},"event_time":"2026-01-01"}',
    )
    assert loads.run(path)["codes"] == {"BADROW": 2, "BADTYPE": 3, "BADID": 2, "UNDECLARED": 1}
    assert [row["position"] for row in loads.rejected()] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert loads.rejected()[0]["row"] == "nonsense"
    assert loads.store.get_many(["a", "g"], ["age"]) == [{"age": None}, {"age": 3}]
    assert loads.store.count() == 2


def test_a_load_run_twice_changes_nothing(loads: Loads) -> None:
    path = loads.file("rows.parquet", as_parquet(rows_of(0, 500)))
    loads.run(path, "--event-time", "ts")
    before = contents(loads.store)
    assert loads.run(path, "--event-time", "ts")["exit"] == 0
    assert contents(loads.store) == before


def test_a_dry_run_says_the_same_and_writes_nothing(loads: Loads) -> None:
    path = loads.file("rows.csv", ROWS)
    before = contents(loads.store)
    dry = loads.run(path, "--dry-run")
    assert contents(loads.store) == before
    assert not list(loads.folder.glob("*rejected*"))
    assert (dry["exit"], dry["written"], dry.pop("dry_run")) == (1, 0, True)
    told = loads.run(path)
    same = ("exit", "rows", "rejected", "codes")
    assert {name: dry[name] for name in same} == {name: told[name] for name in same}
    kept = loads.rejected()
    loads.run(path, "--dry-run", "--rejected", "dry.ndjson")
    assert [row["reason"] for row in loads.rejected("dry.ndjson")] == [row["reason"] for row in kept]


def test_a_dry_run_says_the_same_of_every_fault_that_a_row_tells(loads: Loads) -> None:
    rows = [
        {"user_id": "a", "age": 1},
        {"user_id": "x" * 257, "age": 1},
        {"user_id": None, "age": 1},
        {"user_id": "b", "age": 1.5},
        {"user_id": "c", "taste": [1, 2]},
        {"user_id": "d", "age": 2**70},
        {"user_id": "e", "surname": "E"},
        {"user_id": "f", "age": 1, "@event_time": "soon"},
        {"user_id": "g", "age": 1, "age@event_time": -1},
    ]
    path = loads.file("rows.ndjson", "".join(f"{json.dumps(row)}\n" for row in rows))
    dry = loads.run(path, "--dry-run", "--rejected", "dry.ndjson")
    told = loads.run(path)
    assert told["codes"] == {"BADID": 2, "BADTYPE": 3, "UNDECLARED": 1, "BADTIME": 2}
    assert dry["codes"] == told["codes"]
    reasons = [[(row["position"], row["reason"]) for row in loads.rejected(name)] for name in
               ("dry.ndjson", "rows.rejected.ndjson")]  # fmt: skip
    assert reasons[0] == reasons[1]


def test_a_dry_run_does_not_know_what_is_stored(loads: Loads) -> None:
    loads.store.upsert([("a", {"age": 5})], event_time=FIRST_MS + 1)
    path = loads.file("rows.csv", f"user_id,age,ts\na,1,{FIRST_MS}\n")
    dry = loads.run(path, "--event-time", "ts", "--dry-run")
    assert (dry["exit"], dry["skipped"]) == (0, 0)
    assert loads.run(path, "--event-time", "ts")["skipped"] == 1


def test_every_earlier_file_of_rejected_rows_is_kept(loads: Loads) -> None:
    path = loads.file("rows.csv", ROWS)
    loads.run(path)
    loads.file("rows.csv", "user_id,age\na,1\n")
    assert "rejected_file" not in loads.run(path)
    assert not (loads.folder / "rows.rejected.ndjson").exists()
    assert len((loads.folder / "rows.rejected.ndjson.old").read_text().splitlines()) == 3
    for age in ("old", "older", "oldest"):
        loads.file("rows.csv", f"user_id,age\na,{age}\n")
        loads.run(path)
    kept = [loads.rejected(f"rows.rejected.ndjson{end}") for end in (".old", ".old.2", ".old.3", "")]
    assert [len(rows) for rows in kept] == [3, 1, 1, 1]
    assert [rows[0]["row"]["age"] for rows in kept[1:]] == ["old", "older", "oldest"]


@pytest.mark.parametrize(("nulls", "age"), [("remove", None), ("keep", 5)])
@pytest.mark.parametrize("name", ["rows.csv", "rows.ndjson"])
def test_what_null_does_is_the_callers_choice(loads: Loads, name: str, nulls: str, age: int | None) -> None:
    loads.store.upsert([("a", {"age": 5, "score": 1.0, "country": "DE"})])
    content = "user_id,age,score\na,,2\n" if name == "rows.csv" else '{"user_id":"a","age":null,"score":2}'
    loads.run(loads.file(name, content), "--nulls", nulls)
    assert loads.store.get("a", ["age", "score", "country"]) == {"age": age, "score": 2.0, "country": "DE"}


def as_export(table: pa.Table) -> bytes:
    return as_parquet(table.replace_schema_metadata({"featurestore": "{}"}))


@pytest.mark.parametrize(
    ("form", "options", "age", "told"),
    [
        (as_export, (), 5, True),
        (as_export, ("--nulls", "remove"), None, False),
        (as_export, ("--nulls", "keep"), 5, False),
        (as_parquet, (), None, False),
    ],
)
def test_null_in_parquet_of_an_export_keeps_what_is_stored(
    loads: Loads,
    form: Callable[[pa.Table], bytes],
    options: tuple[str, ...],
    age: int | None,
    told: bool,  # noqa: FBT001
) -> None:
    loads.store.upsert([("a", {"age": 5, "score": 1.0, "country": "DE"})], event_time=FIRST_MS - 1)
    row = {"user_id": "a", "@event_time": FIRST_MS, "age": None, "score": 2.0, "country": None}
    path = loads.file("rows.parquet", form(pa.Table.from_pylist([{**row, "country@event_time": FIRST_MS}])))
    result = CliRunner().invoke(load, [str(path), *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert loads.store.get("a", ["age", "score", "country"]) == {"age": age, "score": 2.0, "country": None}
    assert ("made by export, so null keeps what is stored (--nulls keep)" in result.stderr) is told


def test_a_rejected_row_of_an_export_keeps_what_is_stored_once_it_is_mended(loads: Loads) -> None:
    loads.store.upsert([("a", {"score": 1.0, "country": "DE"})], event_time=FIRST_MS - 1)
    row = {"user_id": "a", "@event_time": FIRST_MS, "age": 1.5, "score": None, "country": None}
    path = loads.file("rows.parquet", as_export(pa.Table.from_pylist([{**row, "country@event_time": FIRST_MS}])))
    assert loads.run(path)["codes"] == {"BADTYPE": 1}
    mended = loads.folder / "rows.rejected.ndjson"
    mended.write_text(mended.read_text().replace("1.5", "1"))
    assert loads.run(mended)["exit"] == 0
    assert loads.store.get("a", ["age", "score", "country"]) == {"age": 1, "score": 1.0, "country": None}


def test_older_rows_are_skipped_unless_they_may_overwrite(loads: Loads) -> None:
    loads.store.upsert([("a", {"age": 5})], event_time=FIRST_MS + 1000)
    path = loads.file("rows.csv", f"user_id,age,ts\na,6,{FIRST_MS}\n")
    told = loads.run(path, "--event-time", "ts")
    assert (told["exit"], told["written"], told["skipped"]) == (0, 0, 1)
    assert loads.store.get("a", ["age"]) == {"age": 5}
    assert loads.run(path, "--event-time", "ts", "--overwrite")["written"] == 1
    assert loads.store.get("a", ["age"]) == {"age": 6}


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([FIRST_MS // 1000, FIRST_MS // 1000 + 5], ()),
        ([FIRST_MS, FIRST_MS + 5000], ()),
        ([FIRST_MS * 1000 + 999, (FIRST_MS + 5000) * 1000], ()),
        ([FIRST_MS * 10**6, (FIRST_MS + 5000) * 10**6], ()),
        ([FIRST_MS / 1000 + 0.0001, FIRST_MS / 1000 + 5], ()),
        (["2026-01-01T00:00:00Z", "2026-01-01T01:00:05+01:00"], ()),
        (["2026-01-01", "2026-01-01 00:00:05"], ()),
        ([str(FIRST_MS // 1000), "2026-01-01T00:00:05Z"], ()),
        ([FIRST_MS // 1000, FIRST_MS // 1000 + 5], ("--event-time-unit", "s")),
    ],
)
@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.ndjson"])
def test_event_times_in_every_unit(loads: Loads, name: str, values: list[Any], options: tuple[str, ...]) -> None:
    table = pa.table({"user_id": ["a", "b"], "age": [1, 2], "seen": values})
    loads.run(loads.file(name, FORMS[name](table)), "--event-time", "seen", *options)
    _, rows = loads.store.fetch_fresh(["a", "b"], ["age"])
    assert [row and list(row.event_times) for row in rows] == [[FIRST_MS], [FIRST_MS + 5000]]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_timestamps_of_arrow(loads: Loads, unit: str, zone: str | None) -> None:
    times = pa.array([FIRST_MS, None], pa.timestamp("ms", zone)).cast(pa.timestamp(unit, zone))
    table = pa.table({"user_id": ["a", "b"], "age": [1, 2], "event_time": times})
    loads.run(loads.file("rows.arrow", as_arrow(table, stream=False)))
    _, rows = loads.store.fetch_fresh(["a", "b"], ["age"])
    assert rows[0] is not None
    assert rows[1] is not None
    assert rows[0].event_times[0] == FIRST_MS
    assert (rows[1].event_times[0] or 0) > FIRST_MS


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.ndjson"])
def test_event_times_of_two_units_are_refused_before_anything_is_written(loads: Loads, name: str) -> None:
    times = [FIRST_MS // 1000] * 25_000 + [FIRST_MS]
    table = pa.table({"user_id": ["a"] * 25_001, "age": [1] * 25_001, "ts": times})
    path = loads.file(name, FORMS[name](table))
    with pytest.raises(
        ConfigurationError, match=r"1767225600 \(seconds; .*, row 0\), 1767225600000 \(milli.* row 25000"
    ):
        loads.run(path, "--event-time", "ts")
    assert loads.store.count() == 0


def test_a_column_that_has_no_times_is_refused(loads: Loads) -> None:
    path = loads.file("rows.csv", "user_id,age,visits\na,1,7\n")
    with pytest.raises(ConfigurationError, match=r"column visits has 7 .*row 0.*in no unit is that a moment"):
        loads.run(path, "--event-time", "visits")
    assert loads.run(path, "--event-time", "visits", "--event-time-unit", "ns")["exit"] == 0


def test_a_time_that_is_none_is_rejected_alone(loads: Loads) -> None:
    path = loads.file("rows.csv", f"user_id,age,ts\na,1,{FIRST_MS}\nb,2,0\nc,3,soon\nd,4,{FIRST_MS}\ne,5,\n")
    assert loads.run(path, "--event-time", "ts")["codes"] == {"BADTIME": 2}
    assert [row["row"]["user_id"] for row in loads.rejected()] == ["b", "c"]
    assert loads.store.count() == 3


def test_features_with_times_of_their_own(loads: Loads) -> None:
    rows = [
        {"user_id": "a", "@event_time": FIRST_MS, "age": 1, "age@event_time": FIRST_MS - 7, "score": 2.0},
        {"user_id": "b", "@event_time": FIRST_MS, "age": 1, "age@event_time": None, "score": None},
    ]
    for name, form in (("rows.ndjson", as_ndjson), ("rows.parquet", as_parquet)):
        loads.clear()
        assert loads.run(loads.file(name, form(pa.Table.from_pylist(rows))))["exit"] == 0
        _, (first, second) = loads.store.fetch_fresh(["a", "b"], ["age", "score"])
        assert first is not None
        assert second is not None
        assert list(first.event_times) == [FIRST_MS - 7, FIRST_MS]
        assert second.event_times[0] == FIRST_MS


@pytest.mark.parametrize("name", ["rows.ndjson", "rows.parquet"])
def test_the_stores_own_columns_of_times_are_in_ms_whatever_unit_is_told(loads: Loads, name: str) -> None:
    timed = [{"user_id": "a", "ts": FIRST_MS // 1000, "age": 1, "age@event_time": FIRST_MS - 7, "score": 2.0}]
    own = [{"user_id": "b", "@event_time": FIRST_MS, "age": 1, "score": 2.0}]
    tables = [pa.Table.from_pylist(rows) for rows in (timed, own)]
    files = [loads.file(f"{at}.{name}", FORMS[name](table)) for at, table in enumerate(tables)]
    assert loads.run(files[0], "--event-time", "ts", "--event-time-unit", "s")["exit"] == 0
    assert loads.run(files[1], "--event-time-unit", "s")["exit"] == 0
    _, (first, second) = loads.store.fetch_fresh(["a", "b"], ["age", "score"])
    assert first is not None
    assert second is not None
    assert list(first.event_times) == [FIRST_MS - 7, FIRST_MS]
    assert list(second.event_times) == [FIRST_MS, FIRST_MS]
    with pytest.raises(ConfigurationError, match=r"@event_time is in ms, .* leave --event-time-unit s out"):
        loads.run(files[1], "--event-time", "@event_time", "--event-time-unit", "s")


@pytest.mark.parametrize("name", ["rows.ndjson", "rows.parquet"])
def test_a_features_own_time_that_is_none_is_rejected(loads: Loads, name: str) -> None:
    rows = [{"user_id": "a", "age": 1, "age@event_time": -5}, {"user_id": "b", "age": 1, "age@event_time": FIRST_MS}]
    assert loads.run(loads.file(name, FORMS[name](pa.Table.from_pylist(rows))))["codes"] == {"BADTIME": 1}
    assert loads.store.get_many(["a", "b"], ["age"]) == [None, {"age": 1}]


def test_columns_are_mapped_chosen_and_left_out(loads: Loads) -> None:
    path = loads.file("rows.csv", "key,years,score,note\na,5,1.5,hello\n")
    with pytest.raises(ConfigurationError, match="no column user_id or id: --id COLUMN"):
        loads.run(path)
    with pytest.raises(ConfigurationError, match=r"no features of the schema: years, note.*--ignore-undeclared"):
        loads.run(path, "--id", "key")
    assert loads.run(path, "--id", "key", "--map", "years=age", "--ignore-undeclared")["exit"] == 0
    assert loads.store.get("a", ["age", "score"]) == {"age": 5, "score": 1.5}
    loads.clear()
    assert loads.run(path, "--id", "key", "--columns", "score")["exit"] == 0
    assert loads.store.get("a", ["age", "score"]) == {"age": None, "score": 1.5}
    headless = loads.file("headless.csv", "b|7|x\n")
    assert loads.run(headless, "--header", "id,age,country")["exit"] == 0
    assert loads.store.get("b", ["age", "country"]) == {"age": 7, "country": "x"}


def test_frames_of_pandas_are_loaded_with_their_gaps_and_without_their_index(loads: Loads) -> None:
    frame = pd.DataFrame(
        {"user_id": ["a", "b"], "age": [7, None], "score": [1.5, float("nan")], "country": ["DE", None]}, index=[5, 9]
    )
    frame.to_csv(loads.folder / "rows.csv")
    frame.to_parquet(loads.folder / "rows.parquet")
    frame.to_json(loads.folder / "rows.jsonl", orient="records", lines=True)
    for name in ("rows.csv", "rows.parquet", "rows.jsonl"):
        loads.clear()
        assert loads.run(name)["exit"] == 0
        assert loads.store.get_many(["a", "b"], ["age", "score", "country"]) == [
            {"age": 7, "score": 1.5, "country": "DE"}, {"age": None, "score": None, "country": None},
        ]  # fmt: skip


def test_folders_and_patterns_are_loaded_in_the_order_of_their_names(loads: Loads) -> None:
    (loads.folder / "day" / "part=2").mkdir(parents=True)
    for number, name in enumerate(
        ("b.csv", "a.csv", "part=2/c.csv", "_temporary.csv", ".hidden.csv", "x.rejected.ndjson")
    ):
        loads.file(f"day/{name}", f"user_id,age,score\nu,{number},{number}\n{name},1,1\n")
    loads.file("day/_SUCCESS", "")
    told = loads.run("day")
    assert (told["rows"], loads.store.get("u", ["age"])) == (6, {"age": 2})
    assert loads.run("day/?.csv")["rows"] == 4
    with pytest.raises(ConfigurationError, match=r"there is no file day/\*\.parquet"):
        loads.run("day/*.parquet")


def test_a_file_that_ends_too_early_does_not_keep_the_others_from_being_loaded(loads: Loads) -> None:
    packed = gzip.compress(b"".join(b'{"user_id":"u%d","age":%d}\n' % (n, n) for n in range(30_000)))
    broken = loads.file("a.ndjson.gz", packed[:-100])
    whole = loads.file("b.csv", "user_id,age\nlast,1\n")
    told = loads.run(broken, whole)
    assert told["exit"] == 1
    assert len(told["broken"]) == 1
    assert str(broken) in told["broken"][0]
    assert loads.store.get_many(["u0", "last"], ["age"]) == [{"age": 0}, {"age": 1}]


@pytest.mark.parametrize("count", [300, 30_000])
@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.csv.gz"])
def test_the_search_for_the_unit_of_event_times_takes_a_file_that_ends_too_early(
    loads: Loads, name: str, count: int
) -> None:
    times = [1_767_225_600 + number * 7919 % 86_400 for number in range(count)]
    if name == "a.csv.gz":
        lines = ["user_id,age,ts", *(f"u{number},{number},{time}" for number, time in enumerate(times))]
    else:
        lines = [f'{{"user_id":"u{number}","age":{number},"ts":{time}}}' for number, time in enumerate(times)]
    broken = loads.file(name, gzip.compress("\n".join(lines).encode())[:-100])
    whole = loads.file("b.csv", "user_id,age,ts\nlast,1,1767225600\n")
    told = loads.run(broken, whole, "--event-time", "ts")
    assert (told["exit"], len(told["broken"])) == (1, 1)
    assert str(broken) in told["broken"][0]
    assert loads.store.get("last", ["age"]) == {"age": 1}
    if name == "a.ndjson.gz":
        assert 0 < told["written"] - 1 < count
        _, (row,) = loads.store.fetch_fresh(["u0"], ["age"])
        assert row is not None
        assert row.event_times[0] == times[0] * 1000


REFUSED: list[tuple[str, str | bytes, tuple[str, ...], type[Exception], str]] = [
    ("rows.csv", "", (), SourceError, "is empty"),
    ("rows.csv", "user_id,age,age\na,1,2\n", (), ConfigurationError, "has the column age 2 times"),
    ("rows.csv", "user_id,agee\na,1\n", (), ConfigurationError, "did you mean age"),
    ("rows.csv", "user_id,age\na,1\n", ("--id", "user"), ConfigurationError, "no column user: did you mean user_id"),
    ("rows.csv", "user_id,age\na,1\n", ("--event-time", "ts"), ConfigurationError, "--event-time: .*no column ts"),
    ("rows.csv", "user_id,age\na,1\n", ("--map", "age=old"), ConfigurationError, "no feature old"),
    ("rows.csv", "user_id,age\na,1\n", ("--columns", "score"), ConfigurationError, "--columns: .*no column score"),
    ("rows.csv", "user_id,age,old\na,1,2\n", ("--map", "old=age"), ConfigurationError, "are both for the feature age"),
    ("rows.csv", "user_id#age\na#1\n", (), ConfigurationError, "--delimiter"),
    ("rows.csv", b"user_id,\xe4\na,1\n", (), ConfigurationError, "is not utf-8: --encoding"),
    ("rows.csv", "user_id,age\na,1\n", ("--encoding", "klingon"), ConfigurationError, "--encoding klingon"),
    ("rows.csv", "user_id\na\n", (), ConfigurationError, "none of its columns is a feature"),
    ("rows.parquet", as_parquet(rows_of(0, 100))[:-9], (), SourceError, "no Parquet file, or not all of one"),
    ("rows.arrow", b"ARROW1 not really", (), SourceError, "no Arrow IPC"),
    ("rows.json", '[{"user_id": "a"}]', (), SourceError, "is a JSON array"),
    ("rows.ndjson", '{"user_id":"a","agee":1}', (), ConfigurationError, "no features of the schema: agee"),
    ("rows.ndjson", '{"user_id":"a","age":1,"ts":5}', ("--event-time", "tss"), ConfigurationError,
     "--event-time: .*no column tss: did you mean ts"),
    ("rows.ndjson", '{"name":"a","age":1}', (), ConfigurationError, "no column user_id or id"),
    ("rows.xlsx", "PK", (), ConfigurationError, "--format says it"),
    ("rows.rejected.ndjson", '{"user_id":"a","age":1}', ("--rejected", "rows.rejected.ndjson"), ConfigurationError,
     "cannot take the rejected rows"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "options", "kind", "text"), REFUSED)
def test_what_cannot_be_loaded_is_refused_before_anything_is_written(  # noqa: PLR0913, PLR0917 - a table's columns
    loads: Loads, name: str, content: str | bytes, options: tuple[str, ...], kind: type[Exception], text: str
) -> None:
    path = loads.file(name, content)
    before = contents(loads.store)
    with pytest.raises(kind, match=text):
        loads.run(path, *options)
    assert contents(loads.store) == before


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([{"x": 1}]), "column age is struct<x: int64>: nested values are no features"),
        (pa.array([20_000], pa.date32()), "times are no values of features"),
        (pa.array(["1"]), "its values cannot be int"),
        (pa.array([True]), "its values cannot be int"),
        (pa.array([[1, 2]]), "no other list is a feature"),
        (pa.array([b"1"]), "bytes are values of vectors alone"),
    ],
)
def test_columns_of_types_that_cannot_be_are_refused_by_name(loads: Loads, values: pa.Array, text: str) -> None:
    path = loads.file("rows.parquet", as_parquet(pa.table({"user_id": ["a"], "age": values})))
    with pytest.raises(ConfigurationError, match=text):
        loads.run(path)


def test_timestamps_are_ms_for_an_int(loads: Loads) -> None:
    table = {"user_id": ["a"], "age": pa.array([FIRST_MS], pa.timestamp("ms"))}
    loads.run(loads.file("rows.parquet", as_parquet(pa.table(table))))
    assert loads.store.get("a", ["age"]) == {"age": FIRST_MS}


def test_a_file_that_is_no_checkpoint_is_neither_read_nor_written_over(loads: Loads) -> None:
    path = loads.file("rows.csv", "user_id,age\na,1\n")
    for options in (("--checkpoint", str(path)), ("--checkpoint", str(path), "--restart")):
        with pytest.raises(ConfigurationError, match="is no checkpoint of a load"):
            loads.run(path, *options)
    assert path.read_text() == "user_id,age\na,1\n"


def test_rejected_rows_need_a_folder(loads: Loads, tmp_path: Path) -> None:
    path = loads.file("rows.csv", "user_id,age\na,1\n")
    with pytest.raises(ConfigurationError, match=r"^--rejected: there is no folder"):
        loads.run(path, "--rejected", str(tmp_path / "none" / "x"))


def test_ids_have_to_be_text_or_integers(loads: Loads) -> None:
    path = loads.file("rows.parquet", as_parquet(pa.table({"user_id": [1.5], "age": [1]})))
    with pytest.raises(ConfigurationError, match="column user_id is double, and ids are text or integers"):
        loads.run(path)


def test_a_column_that_is_there_twice_is_refused(loads: Loads) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array([1]), pa.array([2])], names=["user_id", "age", "age"])
    for name in ("rows.parquet", "rows.arrow"):
        with pytest.raises(ConfigurationError, match="has the column age 2 times"):
            loads.run(loads.file(name, FORMS[name](table)))


@pytest.mark.parametrize("name", ["rows.csv", "rows.ndjson"])
def test_a_file_without_rows_is_told(loads: Loads, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = loads.file(name, "user_id,age\n" if name == "rows.csv" else "\n")
    assert loads.run(path)["exit"] == 0
    assert f"{path} has no rows" in caplog.text


def test_columns_that_are_all_null_are_no_values(loads: Loads) -> None:
    path = loads.file("rows.parquet", as_parquet(pa.table({"user_id": ["a"], "age": pa.nulls(1), "score": [1.0]})))
    assert loads.run(path)["exit"] == 0
    assert loads.store.get("a", ["age", "score"]) == {"age": None, "score": 1.0}


def test_without_a_schema_the_message_says_how_to_make_one(loads: Loads) -> None:
    loads.store.transport.command("FLUSHALL")
    with pytest.raises(NoSchemaError, match=r"featurestore load --infer-schema .*rows\.csv > schema.toml"):
        loads.run(loads.file("rows.csv", ROWS))


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.ndjson", "rows.arrow"])
def test_a_schema_made_from_the_data_takes_the_data(loads: Loads, name: str) -> None:
    table = rows_of(0, 600).append_column("taste", pa.array([[1.5, 2.0, float(number)] for number in range(600)]))
    if name == "rows.csv":
        table = table.set_column(6, "taste", pa.array([f"[1.5, 2, {number}]" for number in range(600)]))
    path = loads.file(name, FORMS[name](table))
    made = CliRunner().invoke(load, [str(path), "--infer-schema", "--event-time", "ts"], catch_exceptions=False)
    definition = read_definition(loads.file("schema.toml", made.stdout))
    assert definition.entity == "user"
    assert definition.features == {
        "age": "int", "score": "float", "country": "string", "is_active": "bool", "taste": "float32[3]",
    }  # fmt: skip
    loads.store.transport.command("FLUSHALL")
    loads.store.apply(definition)
    assert loads.run(path, "--event-time", "ts")["exit"] == 0
    assert loads.store.get("u5", ["age", "taste"]) == {"age": 5, "taste": [1.5, 2.0, 5.0]}


def test_only_the_first_rejected_rows_are_told_as_they_come(loads: Loads, caplog: pytest.LogCaptureFixture) -> None:
    path = loads.file("rows.csv", "user_id,age\n" + "".join(f"u{number},x\n" for number in range(20)))
    with caplog.at_level(logging.WARNING):
        loads.run(path)
    assert [record.getMessage() for record in caplog.records] == [
        *(f"rows.csv, row {number}: BADTYPE age is int, not 'x'" for number in range(5)),
        f"further rejected rows are not told here: {loads.folder / 'rows.rejected.ndjson'} has all of them",
    ]
    assert len(loads.rejected()) == 20
