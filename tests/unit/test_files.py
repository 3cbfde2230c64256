"""Which files a load reads, and where each of their rows is."""

import gzip
import io
import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from featurestore.ingest.files.delimited import CsvForm
from featurestore.ingest.files.lines import Row, Unread, _lines, _parts, _piped_lines, read_line
from featurestore.ingest.files.parts import Part
from featurestore.ingest.files.paths import default_name, find_files, format_of
from featurestore.ingest.files.patience import Patience, StoppedError
from featurestore.ingest.files.rejects import RejectedFile, Rejection, plain
from featurestore.ingest.files.sources import open_source
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featurestore import ConfigurationError, FeatureStoreError, UnavailableError, WriteRefusedError
from featurestore.errors import SourceError, error_from_reply


def test_a_name_or_the_first_bytes_tell_the_format(tmp_path: Path) -> None:
    for name, kind in (("a.PARQUET", "parquet"), ("a.b.csv.gz", "csv"), ("a.jsonl", "ndjson"), ("a.feather", "arrow")):
        assert format_of(name) == kind
    for start, kind in ((b"PAR1", "parquet"), (b"ARROW1\0\0", "arrow"), (b'{"a":1}', "ndjson"), (b"\xff" * 8, "arrow")):
        path = tmp_path / "nameless"
        path.write_bytes(start)
        assert format_of(str(path)) == kind
    path.write_bytes(b"who knows")
    with pytest.raises(ConfigurationError, match="--format says it"):
        format_of(str(path))
    assert format_of(str(path), "csv") == "csv"


def test_files_are_found_once_each(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "notes.txt"):
        (tmp_path / name).touch()
    a, b = (str(tmp_path / name) for name in ("a.csv", "b.csv"))
    assert find_files([b, str(tmp_path), f"{tmp_path}/*.csv"]) == [b, a]
    with pytest.raises(ConfigurationError, match=r"there is no file .*/c\.csv; the folder has a\.csv, b\.csv"):
        find_files([str(tmp_path / "c.csv")])
    with pytest.raises(ConfigurationError, match="cannot be loaded beside files"):
        find_files(["-", a])


@pytest.mark.parametrize(
    ("path", "name"), [("x/users.csv.gz", "users"), ("-", "stdin"), ("day=1/", "day_1"), ("*", "load")]
)
def test_what_is_loaded_has_a_name(path: str, name: str) -> None:
    assert default_name([path]) == name


def csv_of(path: Path, lines: list[str], *, packed: bool = False) -> None:
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if packed else text)


def read_all(path: Path, start: int, most: int, form: CsvForm | None = None) -> list[Part]:
    return list(open_source(str(path), None, form).parts(start, most))


@settings(deadline=None)  # files are written and read
@given(
    kinds=st.lists(st.sampled_from(["good", "short", "long", "quoted", "wrong bytes", "blank"]), max_size=40),
    start=st.integers(0, 40),
    most=st.integers(1, 9),
    with_header=st.booleans(),
)
def test_every_row_of_csv_is_read_or_told_of_by_its_position(
    tmp_path_factory: pytest.TempPathFactory, *, kinds: list[str], start: int, most: int, with_header: bool
) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    texts = {"short": "x", "long": "x,1,2", "wrong bytes": "\udcff,1", "blank": ""}
    lines = [
        f'r{number},"a\nb"' if kind == "quoted" else texts.get(kind, f"r{number},1")
        for number, kind in enumerate(kinds)
    ]
    header = ["id,value"] if with_header else []
    path.write_bytes("".join(f"{line}\n" for line in [*header, *lines]).encode(errors="surrogateescape"))
    rows = [kind for kind in kinds if kind != "blank"]
    assume(with_header or rows[:1] in (["good"], ["quoted"]))  # other files are refused by their first line
    form = CsvForm() if with_header else CsvForm(header=("id", "value"))
    parts = read_all(path, start, most, form)
    expected = {position: kind in {"good", "quoted"} for position, kind in enumerate(rows) if position >= start}
    found: dict[int, object] = {}
    for part in parts:
        assert len(part.positions) <= most
        found |= dict.fromkeys(part.positions, True)
        found |= {row.position: False for row in part.unread}
        assert all(position < part.end for position in found)
    assert found == expected
    assert all(before.end < after.end for before, after in pairwise(parts))
    for part in parts:  # whoever goes on at the end of a part meets what is behind it, and nothing else
        behind = {position for position in expected if position >= part.end}
        again = read_all(path, part.end, most, form)
        assert {each for one in again for each in (*one.positions, *(row.position for row in one.unread))} == behind


def test_rows_of_csv_keep_their_positions_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.ingest.files.delimited.BLOCK_BYTES", 256)
    lines = [f"r{number},{number}" if number % 7 else f"r{number}" for number in range(500)]
    csv_of(tmp_path / "a.csv.gz", ["id,value", *lines], packed=True)
    found: dict[int, object] = {}
    for part in read_all(tmp_path / "a.csv.gz", 33, 1000):
        found |= {position: part.row(index) for index, position in enumerate(part.positions)}
        found |= {row.position: row.row for row in part.unread}
    assert found == {
        number: {"id": f"r{number}", "value": str(number)} if number % 7 else f"r{number}" for number in range(33, 500)
    }


@pytest.mark.parametrize("blanks", ["\n", "\r\n\n", "\n" * 300])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_blank_lines_before_the_header_are_no_rows(tmp_path: Path, blanks: str, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"{blanks}id,value\na,1\nb\n\nc,3\n".encode(encoding))
    form = CsvForm(encoding="utf-16" if encoding == "utf-16" else "utf-8")
    (part,) = read_all(path, 0, 10, form)
    assert [part.row(index) for index in range(2)] == [{"id": "a", "value": "1"}, {"id": "c", "value": "3"}]
    assert (part.positions, [(row.position, row.row) for row in part.unread]) == ([0, 2], [(1, "b")])
    (part,) = read_all(path, 0, 10, CsvForm(encoding=form.encoding, header=("id", "value")))
    assert (part.positions, [(row.position, row.row) for row in part.unread]) == ([0, 1, 3], [(2, "b")])


def test_rows_that_cannot_be_read_are_told_before_the_end_that_a_file_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurestore.ingest.files.delimited.BLOCK_BYTES", 256)
    csv_of(tmp_path / "a.csv", ["id,value", *["a,1"] * 100, "b", "c,1,2", 'd,"2', *["a,1"] * 500])
    parts: list[Part] = []
    with pytest.raises(SourceError, match="cannot be read on behind row 102: "):
        parts.extend(open_source(str(tmp_path / "a.csv")).parts(0, 1000))
    assert sum(len(part.positions) for part in parts) == 100
    assert [(row.position, row.row) for part in parts for row in part.unread] == [(100, "b"), (101, "c,1,2")]
    assert parts[-1].end == 102


def test_a_quote_that_is_never_closed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.ingest.files.delimited.BLOCK_BYTES", 256)
    csv_of(tmp_path / "a.csv", ["id,value", *["a,1"] * 100, 'b,"2', *["a,1"] * 500])
    source = open_source(str(tmp_path / "a.csv"))
    with pytest.raises(SourceError, match=r"cannot be read on behind row \d+: .*a quote is never closed"):
        list(source.parts(0, 1000))


def test_lines_of_ndjson_are_rows_in_three_forms() -> None:
    assert read_line(b'{"id":1,"a":null}') == Row({"id": 1, "a": None}, {"id": 1, "a": None})
    ingested = {"id": "x", "event_time": 5, "features": {"a": 1}}
    assert read_line(b'{"id":"x","event_time":5,"features":{"a":1}}') == Row(
        {"id": "x", "@event_time": 5, "a": 1}, ingested
    )
    rejected = (
        b'{"row":{"id":"x","a":2},"file":"f","position":3,"code":"BADTYPE","reason":"r","text":true,"event_time":9}'
    )
    assert read_line(rejected) == Row({"id": "x", "a": "2"}, {"id": "x", "a": 2}, text=True, time=9)
    unmended = b'{"row":"x;2","file":"f","position":3,"code":"BADROW","reason":"why","event_time":9}'
    assert read_line(unmended) == Unread("x;2", "why", 9)


def test_a_line_that_is_too_long_is_told_and_the_next_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.ingest.files.lines._MOST_LINE", 64)
    path = tmp_path / "a.ndjson"
    path.write_text(f'{{"id":"{"x" * 500}"}}\n{{"id":"y"}}\n')
    (part,) = open_source(str(path)).parts(0, 10)
    assert [row.reason for row in part.unread] == ["a line longer than 16 MiB"]
    assert (part.rows, part.positions) == ([{"id": "y"}], [1])


@given(
    st.lists(st.sampled_from([b"", b"  ", b'{"id":1}', b"x" * 20, b"y" * 70]), max_size=8),
    st.lists(st.integers(1, 50), max_size=9),
    st.booleans(),
)
def test_lines_of_a_pipe_are_those_of_a_file(lines: list[bytes], cuts: list[int], ended: bool) -> None:  # noqa: FBT001
    content = b"\n".join(lines) + (b"\n" if ended else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.ingest.files.lines._MOST_LINE", 64)
        ours, its = os.pipe()
        piped = _piped_lines(ours)
        at = 0
        for cut in [*cuts, len(content)]:
            os.write(its, content[at : at + cut])
            at += cut
        os.close(its)
        found = list(_parts(piped, 0, 3))
        os.close(ours)
        wanted = list(_parts(_lines(io.BytesIO(content)), 0, 3))
    seen = [[(part.end, part.rows, part.positions) for part in parts] for parts in (found, wanted)]
    assert seen[0] == seen[1]
    assert [len(part.unread) for part in found] == [len(part.unread) for part in wanted]


def test_rows_of_a_pipe_are_not_kept_waiting_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.ingest.files.lines._QUIET_S", 0.0)
    ours, its = os.pipe()
    os.write(its, b'{"id":1}\n{"id":2}\n{"id"')
    parts = _parts(_piped_lines(ours), 0, 1000)
    first = next(parts)
    assert (first.rows, first.end) == ([{"id": 1}, {"id": 2}], 2)
    os.write(its, b":3}")
    os.close(its)
    assert [part.rows for part in parts] == [[{"id": 3}]]
    os.close(ours)


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.lists))
def test_whatever_a_row_holds_can_be_written_as_json(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    file = RejectedFile(tmp_path_factory.mktemp("rejected") / "r", None)
    file.append([Rejection(plain({"a": value}), "f", 0, "BADTYPE", "r")])
    file.close()
    found = read_line(file.path.read_bytes())
    assert isinstance(found, Row)


def test_rejected_rows_behind_a_checkpoint_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson"
    row = Rejection({}, "f", 0, "BADID", "r")
    first = RejectedFile(path, None)
    first.append([row])
    size = first.size
    first.append([row, row])
    first.close()
    again = RejectedFile(path, size)
    again.append([row])
    again.close()
    assert len(path.read_text().splitlines()) == 2
    with pytest.raises(SourceError, match="--restart begins anew"):
        RejectedFile(path, 10_000)
    RejectedFile(path, None)
    assert not path.exists()
    assert (tmp_path / "r.ndjson.old").exists()


def test_two_loads_at_once_have_a_file_of_rejected_rows_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.rejected.ndjson"
    early, late = RejectedFile(path, None), RejectedFile(path, None)
    for number in range(2):
        early.append([Rejection({}, "a/x.csv", number, "BADID", "r")])
        late.append([Rejection({}, "b/x.csv", number, "BADID", "r")])
    third = RejectedFile(path, None)
    third.append([Rejection({}, "c/x.csv", 0, "BADID", "r")])
    for each in (early, late, third):
        each.close()
    names = ["x.rejected.ndjson", "x-2.rejected.ndjson", "x-3.rejected.ndjson"]
    assert [each.path.name for each in (early, late, third)] == names
    texts = [(tmp_path / name).read_text() for name in names]
    assert [(text.count("a/x"), text.count("b/x"), text.count("c/x")) for text in texts] == [
        (2, 0, 0), (0, 2, 0), (0, 0, 1)
    ]  # fmt: skip
    assert f"{path} is another load's: rejected rows go to {late.path}" in caplog.messages


def rejected_of(path: Path, file: str) -> RejectedFile:
    made = RejectedFile(path, None)
    made.append([Rejection({}, file, 0, "BADID", "r")])
    made.close()
    return made


def test_a_load_that_goes_on_finds_its_rejected_rows_where_a_later_load_put_them(tmp_path: Path) -> None:
    path = tmp_path / "x.rejected.ndjson"
    first = rejected_of(path, "a/x.csv")
    second = rejected_of(path, "b/x.csv")
    kept = path.read_text()
    again = RejectedFile(first.path, first.size, first.mark)
    again.append([Rejection({}, "a/x.csv", 1, "BADID", "r")])
    again.close()
    assert again.path == tmp_path / "x.rejected.ndjson.old"
    assert again.path.read_text().count("a/x.csv") == 2
    assert path.read_text() == kept
    second = RejectedFile(second.path, second.size, second.mark)
    second.close()
    assert second.path == path


def test_rejected_rows_of_another_load_are_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "x.rejected.ndjson"
    first = rejected_of(path, "a/x.csv")
    path.unlink()
    rejected_of(path, "b/a-longer-name/x.csv")
    kept = path.read_text()
    with pytest.raises(SourceError, match="has another load's rejected rows, and this load's are gone: --restart"):
        RejectedFile(path, first.size, first.mark)
    assert path.read_text() == kept


class Stop(threading.Event):
    """An event whose waits are counted, and which is set after some."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._after = after

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0)
        return len(self.pauses) >= self._after


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("Redis cannot be reached"),
        *(error_from_reply(f"{code} text") for code in ("LOADING", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "MISCONF")),
    ],
)
def test_what_passes_is_waited_for(error: FeatureStoreError) -> None:
    stop = Stop(9)
    outcomes = [error] * 5

    def call() -> str:
        if outcomes:
            raise outcomes.pop()
        return "done"

    assert Patience(stop).keep_trying(call) == "done"
    assert stop.pauses == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_a_wait_ends_when_the_process_is_told_to_stop() -> None:
    def call() -> None:
        raise UnavailableError("gone")

    with pytest.raises(StoppedError):
        Patience(Stop(20)).keep_trying(call)


def test_full_memory_is_not_waited_for() -> None:
    def call() -> None:
        raise error_from_reply("OOM command not allowed")

    with pytest.raises(WriteRefusedError, match="OOM"):
        Patience(Stop(1)).keep_trying(call)
