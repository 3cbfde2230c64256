"""What a service was served over HTTP is kept and exported as it was answered, to the last bit."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from featurestore.ingest.files.export_commands import export
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.backends import ONE_OF_EACH, Clusters, opened
from support.names import beside
from support.servers import Server

from featurestore import Definition, FeatureStore
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.api.counters import Board, Meter
from featurestore.api.fast_reads import FastReads
from featurestore.schema.definition import FeatureDefinition
from featurestore.schema.services import LogDefinition, ServiceDefinition
from featurestore.store.retirement import clear, retire

ARROW = "application/vnd.apache.arrow.stream"
FEATURES: dict[str, Any] = {
    "age": "float",
    "n": FeatureDefinition("int", default=7),
    "premium": "bool",
    "city": FeatureDefinition("string", max_age="1s"),
    "e": "float32[3]",
    "clicks": "count(10m)",
}
NAMES = list(FEATURES)
ALL = LogDefinition(max_entries=1_000_000)
OLD = 1_600_000_000_000


class Place:
    """A store whose services keep all that they are served, a client of a server over it, and its address."""

    def __init__(self, store: FeatureStore, url: str) -> None:
        self.store, self.url = store, url
        app = create_app(store, access=Access("right"), meter=Meter(Board()))
        self.client = falcon.testing.TestClient(FastReads(store, app, Meter(Board())))

    def export(self, path: Path | str, *options: str, service: str = "risk", code: int = 0) -> Result:
        """Export all that was served, by the command."""
        assert self.store._plans.served.wait(10)
        words = ["--served", service, "--to", str(path), *options]
        result = CliRunner().invoke(export, words, env={"REDIS_URL": self.url})
        assert result.exit_code == code, result.output
        return result

    def rows(self, folder: Path, *options: str, service: str = "risk") -> list[dict[str, Any]]:
        """Return all that was served, times in ms."""
        path = folder / "served.parquet"
        self.export(path, *options, service=service)
        return in_ms(pyarrow.parquet.read_table(path))


def in_ms(table: pa.Table) -> list[dict[str, Any]]:
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(place, field.name, table[field.name].cast("int64"))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@pytest.fixture(params=ONE_OF_EACH)
def place(request: pytest.FixtureRequest, servers: dict[str, Server], clusters: Clusters) -> Iterator[Place]:
    with opened(request.param, servers, clusters) as backend:
        backend.empty()
        store = FeatureStore(backend.transport)
        store.apply(Definition(features=FEATURES))
        items = beside(backend.transport, "item")
        items.apply(Definition(features={"price": "float"}, entity="item"))
        services: dict[str, Any] = {
            "risk": ServiceDefinition(NAMES, ALL),
            "both": ServiceDefinition(["age", "item:price", "user:e"], ALL),
            "plain": ["age"],
        }
        store.apply(Definition(features=FEATURES, services=services))
        store.upsert([("ann", {"age": 0.1, "n": 2**62, "premium": True, "city": "Zürich", "e": [0.5, -1.5, 3]})],
                     event_time=OLD)  # fmt: skip
        store.upsert([("bob", {"age": -1e300, "premium": False, "city": 'a "quoted", one'})])
        items.upsert([("i1", {"price": 2.5})], event_time=OLD + 5)
        name = request.param.removeprefix("cluster-")
        yield Place(store, backend.url or (clusters if name != request.param else servers)[name].url)
        backend.empty()


def test_a_get_is_answered_as_without_a_log_and_kept_with_the_id_of_its_request(place: Place, tmp_path: Path) -> None:
    for accept in ("application/json", "application/msgpack"):
        headers = {"X-Request-Id": "order-7", "Accept": accept}
        kept = place.client.simulate_get("/features/ann?service=risk", headers=headers)
        plain = place.client.simulate_get(f"/features/ann?features={','.join(NAMES)}", headers=headers)
        assert (kept.status_code, kept.content, kept.headers) == (200, plain.content, plain.headers)
    features = place.client.simulate_get("/features/ann?service=risk&metadata=true").json["features"]
    assert place.client.simulate_get("/features/nobody?service=risk", headers=headers).status_code == 404
    rows = place.rows(tmp_path)
    assert [row["@request_id"] for row in rows if row["user_id"] == "ann"].count("order-7") == 2
    for row in rows:
        if row["user_id"] == "ann":
            assert {name: row[name] for name in NAMES} == features
            assert row["@event_time"] == OLD
            assert [row[f"{name}@status"] for name in NAMES] == [
                "PRESENT", "PRESENT", "PRESENT", "STALE", "PRESENT", "DEFAULT",
            ]  # fmt: skip
            assert row["@schema_version"] == place.store.schema().version
        else:
            assert {row[name] for name in NAMES} == {None}
            assert {row[f"{name}@status"] for name in NAMES} == {"MISSING"}
    assert len(rows) == 4


@pytest.mark.parametrize("accept", ["application/json", "application/msgpack", ARROW])
@pytest.mark.parametrize("extra", [{}, {"metadata": True}, {"max_age": "1h"}, {"passed": {"n": 1, "e": [1, 2, 3]}}])
def test_a_batch_is_answered_as_without_a_log_and_each_row_is_kept(
    place: Place, tmp_path: Path, accept: str, extra: dict[str, Any]
) -> None:
    body, headers = {"ids": ["ann", "nobody", "ann", "bob"], **extra}, {"X-Request-Id": "b", "Accept": accept}
    kept = place.client.simulate_post("/features/batch", json={**body, "service": "risk"}, headers=headers)
    plain = place.client.simulate_post("/features/batch", json={**body, "features": NAMES}, headers=headers)
    if "metadata" not in extra:  # ages go on
        assert kept.content == plain.content
    assert (kept.status_code, plain.status_code) == (200, 200)
    answered = place.client.simulate_post("/features/batch", json={**body, "features": NAMES}).json
    rows = place.rows(tmp_path)
    by_id = {each["user_id"]: each["features"] or dict.fromkeys(NAMES) for each in answered}
    assert sorted(row["user_id"] for row in rows) == ["ann", "ann", "bob", "nobody"]
    for row in rows:
        assert {name: row[name] for name in NAMES} == by_id[row["user_id"]]
        assert row["@passed"] == ([each for each in NAMES if each in extra.get("passed", {})]
                                  if row["user_id"] != "nobody" else [])  # fmt: skip


@pytest.mark.parametrize("accept", ["application/json", "application/msgpack", ARROW])
def test_a_query_is_answered_as_without_a_log_and_kept_with_all_ids(place: Place, tmp_path: Path, accept: str) -> None:
    names = ["age", "item:price", "user:e"]
    body: dict[str, Any] = {"rows": [{"user": "ann", "item": "i1"}, {"item": "i1"}, {"user": "bob", "item": "gone"}]}
    headers = {"Accept": accept, "X-Request-Id": "q"}
    for extra in ({}, {"passed": {"item:price": None}}):
        kept = place.client.simulate_post("/features/query", json={**body, **extra, "service": "both"}, headers=headers)
        plain = place.client.simulate_post(
            "/features/query", json={**body, **extra, "features": names}, headers=headers
        )
        assert (kept.status_code, kept.content) == (200, plain.content)
    rows = place.rows(tmp_path, service="both")
    found = {(row["user_id"], row["item:@id"], row["age"], row["item:price"], *row["@passed"]) for row in rows}
    assert found == {
        ("ann", "i1", 0.1, 2.5), (None, "i1", None, 2.5), ("bob", "gone", -1e300, None),
        ("ann", "i1", 0.1, None, "item:price"), (None, "i1", None, None, "item:price"),
        ("bob", "gone", -1e300, None, "item:price"),
    }  # fmt: skip
    assert {(row["item:@id"], row["item:@event_time"]) for row in rows} == {("i1", OLD + 5), ("gone", None)}
    assert {row["item:price@status"] for row in rows} == {"PRESENT", "MISSING"}


def test_feasts_feature_service_is_kept(place: Place, tmp_path: Path) -> None:
    body = {"entities": {"user_id": ["ann", None], "item_id": ["i1", "i1"]}, "feature_service": "both"}
    answer = place.client.simulate_post("/get-online-features", json=body, headers={"X-Request-Id": "f"})
    assert answer.status_code == 200
    body["features"] = ["user:age"]
    assert place.client.simulate_post("/get-online-features", json=body).status_code == 200
    rows = place.rows(tmp_path, service="both")
    found = {(row["@request_id"], row["user_id"], row["item:@id"], row["age"], row["item:price"]) for row in rows}
    assert found == {("f", "ann", "i1", 0.1, 2.5), ("f", None, "i1", None, 2.5)}


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "age": FLOATS,
        "n": st.integers(-(2**63), 2**63 - 1),
        "premium": st.booleans(),
        "city": st.text(max_size=20).filter(lambda text: "\x00" not in text),
        "e": st.lists(st.floats(width=32), min_size=3, max_size=3),
    },
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=ROWS, time=st.sampled_from([OLD, None]), passed=ROWS)
def test_what_is_exported_is_what_was_answered_bit_for_bit(
    place: Place, tmp_path: Path, row: dict[str, Any], time: int | None, passed: dict[str, Any]
) -> None:
    """NaN in vectors, signs of zeros, nulls, defaults and stale values included."""
    store = place.store
    store.delete("x")
    for part in store.parts():
        store.transport.command("DEL", part.served("risk"), part.features("x"))
    store.upsert([("x", row)], event_time=time)
    passed.pop("e", None)  # JSON has no NaN
    body = {"ids": ["x"], "service": "risk", "passed": passed}
    answer = place.client.simulate_post("/features/batch", json=body, headers={"Accept": ARROW})
    assert answer.status_code == 200, answer.text
    with pa.ipc.open_stream(answer.content) as reader:
        answered = reader.read_all().select(NAMES)
    place.export(tmp_path / "x.parquet")
    exported = pyarrow.parquet.read_table(tmp_path / "x.parquet").select(NAMES)
    assert [field.type for field in exported.schema] == [field.type for field in answered.schema]
    assert bits(exported) == bits(answered)


def bits(table: pa.Table) -> list[Any]:
    """Return the values of a table of one row, numbers as their bytes."""
    (row,) = table.to_pylist()
    return [
        struct.pack("<d", value) if type(value) is float
        else struct.pack(f"<{len(value)}f", *value) if type(value) is list
        else value
        for value in row.values()
    ]  # fmt: skip


def test_rows_of_before_a_change_of_the_schema_stay_right(place: Place, tmp_path: Path) -> None:
    store = place.store
    store.serve("risk", ["ann"], request_id="first")
    assert store._plans.served.wait(10)
    retire(store, ["age"], from_services=True)
    assert list(clear(store))
    store.apply(Definition(features={"age": "string", "more": "int"},
                           services={"risk": ServiceDefinition(["more", "age"], ALL)}))  # fmt: skip
    store.upsert([("ann", {"age": "old", "more": 3})])
    store.schema()
    store.serve("risk", ["ann"], request_id="second")
    result = place.export(tmp_path / "rows.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert (table.schema.field("age").type, table.schema.field("age@string").type) == (pa.float64(), pa.utf8())
    first, second = sorted(table.to_pylist(), key=lambda row: row["@served_at"])
    assert (first["age"], first["age@string"], first["more"], first["more@status"]) == (0.1, None, None, None)
    assert (second["age"], second["age@string"], second["more"], second["n"]) == (None, "old", 3, None)
    assert first["@schema_version"] < second["@schema_version"]
    assert result.exit_code == 0


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson"])
def test_formats_tell_the_same(place: Place, tmp_path: Path, suffix: str) -> None:
    place.store.serve("risk", ["ann", "bob"], request_id='r "1"', passed={"city": ""})
    path = tmp_path / f"rows.{suffix}"
    place.export(path)
    if suffix == "ndjson":
        rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    elif suffix == "csv":
        options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        rows = in_ms(pyarrow.csv.read_csv(path, convert_options=options))
        rows = [{**row, "e": msgspec.json.decode(row["e"]) if row["e"] else None, "@passed": [row["@passed"]]}
                for row in rows]  # fmt: skip
    else:
        rows = in_ms(pyarrow.parquet.read_table(path))
    found = {row["user_id"]: row for row in rows}
    assert [found[each]["e"] for each in ("ann", "bob")] == [[0.5, -1.5, 3.0], None]
    assert [found[each]["age"] for each in ("ann", "bob")] == [0.1, -1e300]
    assert [found[each]["n"] for each in ("ann", "bob")] == [2**62, 7]
    assert [found[each]["city"] for each in ("ann", "bob")] == ["", ""]
    assert {tuple(row["@passed"]) for row in rows} == {("city",)}
    assert {row["@request_id"] for row in rows} == {'r "1"'}
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_goes_on_where_the_last_one_has_ended(place: Place, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    ids = ["ann", "bob", *(f"u{number}" for number in range(200))]
    seen: list[tuple[str, str]] = []
    for turn in range(3):
        place.store.serve("risk", ids, request_id=f"turn-{turn}")
        rows = place.rows(tmp_path, "--state", str(state), "--batch", "7")
        assert {row["@request_id"] for row in rows} == {f"turn-{turn}"}
        seen += [(row["@request_id"], row["user_id"]) for row in rows]
    assert sorted(seen) == sorted((f"turn-{turn}", each) for turn in range(3) for each in ids)
    assert place.rows(tmp_path, "--state", str(state)) == []
    result = place.export(tmp_path / "x.ndjson", "--state", str(state), service="both", code=2)
    assert "how far exports of risk of user are" in result.output


def test_since_and_until_bound_an_export(place: Place, tmp_path: Path) -> None:
    for number in range(3):
        place.store.serve("risk", ["ann"], request_id=str(number))
        assert place.store._plans.served.wait(10)
    key = place.store.keys.holding(b"ann").served("risk")
    entries = [entry for entry, _ in place.store.transport.command("XRANGE", key, "-", "+")]
    for _ in range(2):  # to 3 moments that differ
        entries = [entry for entry, _ in place.store.transport.command("XRANGE", key, "-", "+")]
    middle = entries[1].partition(b"-")[0].decode()
    found = {row["@request_id"] for row in place.rows(tmp_path, "--since", middle)}
    assert {"1", "2"} <= found
    found = {row["@request_id"] for row in place.rows(tmp_path, "--until", middle)}
    assert {"0", "1"} <= found
    assert place.rows(tmp_path, "--until", "2020-01-01T00:00:00Z") == []
    assert len(place.rows(tmp_path, "--since", "2020-01-01")) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--served", "nobody"], "user has no service nobody"),
        (["--served", "plain"], "nothing is kept of what plain of user is served"),
        (["--served", "risk", "--to", "x.txt"], "tells no format"),
        (["--served", "risk", "--since", "yesterday"], "want ISO 8601"),
        (["--served", "risk", "--since", "1", "--state", "s"], "give one of them"),
        (["--served", "risk", "--features", "age"], "do not go with --served"),
        (["--since", "1"], "--since goes with --served alone"),
        (["--to", "x.csv"], "tells no format"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_why(place: Place, options: list[str], told: str) -> None:
    result = CliRunner().invoke(export, options, env={"REDIS_URL": place.url})
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())


def test_entries_of_somebody_else_are_left_out_and_told(place: Place, tmp_path: Path) -> None:
    place.store.serve("risk", ["ann"])
    assert place.store._plans.served.wait(10)
    key = place.store.keys.holding(b"ann").served("risk")
    place.store.transport.command("XADD", key, "*", "a", "b")
    assert len(place.rows(tmp_path)) == 1


def test_drops_since_the_last_export_are_told(place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = str(tmp_path / "state")
    for _ in range(3):
        place.store.serve("risk", ["ann"])
    place.rows(tmp_path, "--state", state)
    for _ in range(3):
        place.store.serve("risk", ["ann"])
    assert place.store._plans.served.wait(10)
    place.store.transport.command("XTRIM", place.store.keys.holding(b"ann").served("risk"), "MAXLEN", "1")
    place.rows(tmp_path, "--state", state)
    assert "may have dropped entries that no export has" in caplog.text


def test_requests_with_and_without_an_id_count_at_the_rate(place: Place) -> None:
    place.store.apply(Definition(features=FEATURES, services={
        "risk": ServiceDefinition(NAMES, LogDefinition(0.5, max_entries=1000))}))  # fmt: skip
    place.store.schema()
    for number in range(100):
        place.client.simulate_get("/features/ann?service=risk", headers={"X-Request-Id": f"r{number}"})
    assert place.store._plans.served.wait(10)
    key = place.store.keys.holding(b"ann").served("risk")
    count = place.store.transport.command("XLEN", key)
    assert 30 < count < 70
    for number in range(100):
        place.client.simulate_get("/features/ann?service=risk", headers={"X-Request-Id": f"r{number}"})
    assert place.store._plans.served.wait(10)
    assert place.store.transport.command("XLEN", key) == 2 * count
