"""Exported files by themselves; the pauses between calls; ids that come twice; samples."""

import os
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from featurestore.ingest.files import outputs, scan
from featurestore.ingest.files.columns import Columns as FileColumns
from featurestore.ingest.files.export import columns_of
from featurestore.ingest.files.file_rows import FileRows, Layout, Sample, Unsuitable, joined, part_columns
from featurestore.ingest.files.outputs import opened, output_to
from featurestore.ingest.files.preparing import Clock as TimesRead
from featurestore.ingest.files.rows import Columns, Rows

from featurestore import BadArgumentsError
from featurestore.contract.hashes import READ_HASHES, known_words, read_words, stored_entity
from featurestore.contract.resp import encode_command
from featurestore.schema.stored import Schema

COLUMNS = Columns("user", "user_id", {"n": "int", "v": "float32[2]"})
VECTOR = b"\0\0\x80?\0\0\0\x80"  # 1 and -0


def rows(first: int, count: int, times: dict[str, dict[int, int]] | None = None) -> Rows:
    ids = [f"u{number}" for number in range(first, first + count)]
    return Rows(ids, [5] * count, {"n": list(range(first, first + count)), "v": [VECTOR, *[None] * (count - 1)]},
                times or {})  # fmt: skip


def test_ndjson_has_own_times_only_where_there_are_some(tmp_path: Path) -> None:
    with opened(str(tmp_path / "out.ndjson"), COLUMNS) as output:
        output.write(rows(0, 2, {"n": {1: 3}}))
        output.finish()
    assert (tmp_path / "out.ndjson").read_text() == (
        '{"user_id":"u0","@event_time":5,"n":0,"v":[1.0,-0.0]}\n'
        '{"user_id":"u1","@event_time":5,"n":1,"n@event_time":3}\n'
    )


def test_parquet_has_row_groups_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "GROUP_ROWS", 10)
    path = tmp_path / "out.parquet"
    with opened(str(path), COLUMNS) as output:
        for first in range(0, 44, 4):
            output.write(rows(first, 4))
        output.finish()
    with pa.parquet.ParquetFile(path) as file:
        assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [12, 12, 12, 8]
        assert file.schema_arrow.names == ["user_id", "@event_time", "n", "v"]
        assert file.read()["v"].to_pylist()[:5] == [[1.0, -0.0], None, None, None, [1.0, -0.0]]
    monkeypatch.setattr(outputs, "GROUP_BYTES", 1)
    with opened(str(path), COLUMNS) as output:
        output.write(rows(0, 4))
        output.write(rows(4, 4))
        output.finish()
    assert pa.parquet.ParquetFile(path).num_row_groups == 2


def test_parts_become_one_file_with_all_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "GROUP_ROWS", 4)
    path = tmp_path / "out.parquet"
    with opened(str(path), COLUMNS) as output:
        for place, times in enumerate([{}, {"v": {0: 1}}, {}, {"n": {3: 2}}, {}]):
            output.write(rows(4 * place, 4, dict(times)))
        assert len(list(tmp_path.iterdir())) == 3
        output.finish()
    table = pa.parquet.read_table(path)
    assert [each.name for each in tmp_path.iterdir()] == ["out.parquet"]
    assert table.column_names == ["user_id", "@event_time", "n", "v", "n@event_time", "v@event_time"]
    assert table["n"].to_pylist() == list(range(20))
    own = {name: table[name].cast("int64").to_pylist() for name in ("n@event_time", "v@event_time")}
    assert [(row, at) for row, at in enumerate(own["n@event_time"]) if at] == [(15, 2)]
    assert [(row, at) for row, at in enumerate(own["v@event_time"]) if at] == [(4, 1)]


@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_what_was_written_before_a_restart_is_forgotten(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    with opened(str(path), COLUMNS) as output:
        output.write(rows(0, 3, {"n": {1: 3}}))
        assert output.restart()
        output.write(rows(7, 1))
        output.finish()
    text = path.read_text() if suffix == "ndjson" else str(pa.parquet.read_table(path).to_pylist())
    assert "u7" in text
    assert "u1" not in text
    assert "n@event_time" not in text


@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_no_rows_are_a_file_too(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    with opened(str(path), COLUMNS) as output:
        output.finish()
    if suffix == "ndjson":
        assert path.read_bytes() == b""
    else:
        assert pa.parquet.read_table(path).num_rows == 0


@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "plain").touch()
    with opened(str(tmp_path / f"out.{suffix}"), COLUMNS) as output:
        output.finish()
    assert (tmp_path / f"out.{suffix}").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    def write() -> None:
        with opened(str(tmp_path / f"out.{suffix}"), COLUMNS) as output:
            (open_file,) = [each for each in Path("/proc/self/fd").iterdir() if ".partial" in str(each.resolve())]
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, int(open_file.name))
            os.close(full)
            output.write(rows(0, 20_000))
            output.finish()

    with pytest.raises(OSError, match="No space left on device"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["out.csv", "out", "x/", "parquet"])
def test_a_path_that_tells_no_format(tmp_path: Path, path: str) -> None:
    with pytest.raises(BadArgumentsError, match=r"tells no format: end it in \.parquet or \.ndjson"):
        output_to(str(tmp_path / path), COLUMNS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_found_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "out.parquet").mkdir()
    with pytest.raises(BadArgumentsError, match="is a folder"):
        output_to(str(tmp_path / "out.parquet"), COLUMNS)


def test_features_that_cannot_be_exported() -> None:
    schema = Schema({"n": "int", "clicks": "count(10m)"}, 1, "@0000000", join_key="sku")
    assert columns_of("user", schema, None, None) == Columns("user", "sku", {"n": "int"})
    assert columns_of("user", schema, ["n"], "key").id_name == "key"
    for names, id_name, message in (
        (["m"], None, "'m' is not declared: user has n, clicks"),
        (["clicks"], None, "clicks is a sliding window, "),
        (None, "n", "n is a feature, too: name the column of ids by --id"),
    ):
        with pytest.raises(BadArgumentsError, match=message):
            columns_of("user", schema, names, id_name)


class Clock:
    """A clock that calls and pauses move on."""

    def __init__(self) -> None:
        self.now, self.pauses = 100.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 6))
        self.now += seconds

    def work(self, seconds: float) -> None:
        self.now += seconds


def test_redis_is_left_to_others_for_as_long_as_a_call_took() -> None:
    clock = Clock()
    throttle = scan.Throttle(clock=clock, sleep=clock.sleep)
    for took in (0.001, 0.004):
        throttle.run(lambda took=took: clock.work(took), 100)
    clock.work(0.003)
    throttle.run(lambda: clock.work(0.002), 100)
    clock.work(0.005)
    throttle.run(lambda: None, 100)
    assert clock.pauses == [0.001, 0.001]


def test_a_rate_is_kept_and_not_made_up_for() -> None:
    clock = Clock()
    throttle = scan.Throttle(1000, clock=clock, sleep=clock.sleep)
    for _ in range(3):
        throttle.run(lambda: clock.work(0.01), 50)
    assert clock.pauses == [0.04, 0.04]
    clock.work(60)
    throttle.run(lambda: None, 50)
    throttle.run(lambda: None, 50)
    assert clock.pauses[2:] == [0.05]


def test_ids_are_fresh_once() -> None:
    recent = scan._Recent(100)
    numbers = [b"%d" % number for number in range(1000)]
    found = [each for first in range(0, 1000, 10) for each in recent.fresh(numbers[max(0, first - 40) : first + 10])]
    assert found == numbers
    assert recent.fresh([b"x", b"x"]) == [b"x"]
    assert len(recent._newer) + len(recent._older) <= 200


def test_a_sample_takes_each_row_with_the_same_chance() -> None:
    chosen: Counter[bytes | None] = Counter()
    for seed in range(400):
        sample = Sample(3, seed)
        for first in (0, 4, 5):
            ids: list[bytes | None] = [b"%d" % number for number in range(first, {0: 4, 4: 5, 5: 12}[first])]
            sample.offer(FileRows(ids, [None] * len(ids), {"n": list(ids)}, {}))
        assert len({row.ids[0] for row in sample.chosen}) == 3
        chosen.update(row.ids[0] for row in sample.chosen)
    assert len(chosen) == 12
    assert all(60 < count < 140 for count in chosen.values())  # 100 are to be expected


def test_rows_next_to_each_other_are_joined_where_their_columns_are_the_same() -> None:
    def one(entity_id: bytes, *names: str) -> FileRows:
        return FileRows([entity_id], [1], {name: [entity_id] for name in names}, {name: [2] for name in names[1:]})

    parts = list(joined([one(b"1", "n"), one(b"2", "n"), one(b"3", "n", "m"), one(b"4", "n")]))
    assert [part.ids for part in parts] == [[b"1", b"2"], [b"3"], [b"4"]]
    assert parts[0].values == {"n": [b"1", b"2"]}
    assert parts[1].own_times == {"m": [2]}
    assert parts[0].times == [1, 1]


def test_columns_of_text_as_csv_has_them() -> None:
    kinds = {"n": "int", "s": "string", "b": "bool", "f": "float"}
    layout = Layout(FileColumns("user_id", None, dict(zip(kinds, kinds, strict=True))), kinds)
    texts: dict[str, Any] = {
        "user_id": ["1", ""],
        "n": ["12", ""],
        "s": ["", "00123"],
        "b": ["true", ""],
        "f": ["1", ""],
    }
    found, wrong = layout.rows(texts, 2, TimesRead(0), text=True)
    assert wrong == {}
    assert found.ids == [b"1", None]
    assert found.values == {"n": [12, None], "s": [None, "00123"], "b": [True, None], "f": [1.0, None]}


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2), pa.large_list(pa.float64()), pa.list_(pa.float64(), 2)]
)
def test_vectors_of_files_are_bytes_wherever_their_array_begins(kind: Any) -> None:
    layout = Layout(FileColumns("id", None, {"v": "v"}), {"v": "float32[2]"})
    vectors = [[9.0, 9.0], [0.1, -0.0], None, [1.0, 2.0], [5.0, 5.0]]
    column = pa.array([[7.0, 7.0], *vectors], kind).slice(1)
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2, 3]), column.slice(1, 3)], names=["id", "v"])
    found, _ = layout.rows(part_columns(batch), 3, TimesRead(0))
    assert found.values["v"] == [struct.pack("<2f", 0.1, -0.0), None, struct.pack("<2f", 1, 2)]
    assert found.ids == [b"1", b"2", b"3"]


@pytest.mark.parametrize("others", [[[1.0], [1.0, 2.0, 3.0], []], [[1.0, None]]])
def test_vectors_that_are_none_of_the_feature(others: list[list[float | None]]) -> None:
    layout = Layout(FileColumns("id", None, {"v": "v"}), {"v": "float32[2]"})
    batch = pa.RecordBatch.from_pydict({"id": range(1 + len(others)), "v": [[1.0, 2.0], *others]})
    rows, _ = layout.rows(part_columns(batch), 3, TimesRead(0))
    first, *found = rows.values["v"]
    assert first == struct.pack("<2f", 1, 2)
    assert [each.value for each in found if isinstance(each, Unsuitable)] == others


def test_what_a_hash_tells() -> None:
    times = b"@0123456171|5=a,b;9=c|\x90"
    stored = stored_entity([b"10", times, b"3", b"x", None])
    assert stored
    assert (stored.event_time, stored.times, stored.floor, stored.deleted) == (10, {"a": 5, "b": 5, "c": 9}, 3, False)
    assert stored_entity([None, None, None, None]) is None
    tombstone = stored_entity([b"10", b"deleted", b"10", None])
    assert tombstone
    assert tombstone.deleted
    for row in (b"@0123456\x93\x01|5=a|", b"@0123456171||\x90", b"", b"@0123456||5=|"):
        entity = stored_entity([b"x", row, None, b"1"])
        assert entity
        assert entity.times in ({}, {"": 5})
        assert entity.event_time is None


def test_which_replies_fit() -> None:
    for words, fits in ((read_words("k", ["a"]), [None] * 4), (known_words("m", [b"1", b"2"]), [1, 0])):
        encoded = encode_command(words)
        answers = READ_HASHES.answers([encoded])
        assert answers.misfit([fits]) is None
        assert answers.misfit([fits[1:]])
        assert answers.misfit([b"text"])
