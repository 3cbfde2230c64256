"""Exports: what is stored leaves as it is, and an export loaded into an empty store gives the same store."""

import math
import re
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import CliRunner
from featurestore.ingest.files import outputs
from featurestore.ingest.files.export import columns_of
from featurestore.ingest.files.export_commands import export, verify
from featurestore.ingest.files.scan import HashReader, ReadRetries, Scan, Throttle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.exporting import FORMATS, export_to, load, rows_of, stored
from support.servers import EVERYDAY, Server, real, wait_until

from featurestore import (
    BadArgumentsError,
    Definition,
    FeatureStore,
    Keys,
    SchemaChangedError,
    SyncTransport,
    UnavailableError,
)
from featurestore.contract.costs import MOST_US, hash_us
from featurestore.contract.hashes import READ_HASHES, caster
from featurestore.schema.definition import FeatureDefinition
from featurestore.transport.repeats import Replies

NOW = int(time.time() * 1000)
HOUR = 3_600_000
FEATURES: dict[str, Any] = {
    "age": "float",
    "n": "int",
    "active": "bool",
    "name": "string",
    "country": FeatureDefinition("string", default="ZZ"),
    "price": FeatureDefinition("float", max_age="1s"),
    "near": FeatureDefinition("float32[3]", always=True),
    "far": "float32[5]",
}
NAMES = list(FEATURES)
KINDS = {name: kind if isinstance(kind, str) else kind.type for name, kind in FEATURES.items()}

floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [-0.0, 5e-324, 1.7976931348623157e308, 69.0, 2.0**53]
)
ints = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53 + 1, -(2**63), 2**63 - 1, 2**32, 0])
strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", "00123", "1e5", "é\0\n"]
)


def vectors(length: int) -> Any:
    return st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=length, max_size=length)


values = st.fixed_dictionaries(
    {},
    optional={
        "age": floats | st.none(),
        "n": ints | st.none(),
        "active": st.booleans() | st.none(),
        "name": strings | st.none(),
        "country": strings | st.none(),
        "price": floats | st.none(),
        "near": vectors(3) | st.none(),
        "far": vectors(5) | st.none(),
    },
)
ids = st.sampled_from(["a", "b", "c", "é", "0", "with:colon", "{tag}", "x" * 250])
writes = st.lists(st.tuples(ids, values, st.integers(0, 4)), max_size=12)


@pytest.fixture(params=real(*EVERYDAY, "valkey9-functions"))
def bare(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[FeatureStore]:
    """A store over an empty server."""
    name, *how = request.param.split("-")
    transport = SyncTransport(
        servers[name].socket_url, timeout=5, connect_timeout=5, call="functions" if how else "scripts"
    )
    transport.command("FLUSHALL")
    yield FeatureStore(transport)
    transport.close()


@given(writes, st.sampled_from(FORMATS), st.sampled_from([None, "3650d"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_export_loaded_into_an_empty_store_gives_the_same_store(
    bare: FeatureStore, tmp_path: Path, steps: list[Any], suffix: str, ttl: str | None
) -> None:
    bare.transport.command("FLUSHALL")
    bare.apply(Definition(FEATURES, ttl=ttl))
    for entity_id, row, hours in steps:
        assert not bare.upsert([(entity_id, row)], event_time=NOW - 5 * HOUR + hours * HOUR).rejected
    before, path = stored(bare), tmp_path / f"out.{suffix}"
    result = export_to(path, bare)
    assert (result.seen, result.written, result.unknown) == (len(before), len(before), 0)
    rows = rows_of(path)
    assert len({row["user_id"] for row in rows}) == len(rows)
    bare.transport.command("FLUSHALL")
    bare.apply(Definition(FEATURES, ttl=ttl))
    load(bare, path)
    assert stored(bare) == before


def test_what_a_row_of_the_file_has(bare: FeatureStore, tmp_path: Path) -> None:
    bare.apply(Definition(FEATURES))
    row = {"age": -0.0, "n": 2**53 + 1, "active": False, "name": "00123", "near": [1.5, -0.0, 3e38], "far": [0.1] * 5}
    bare.upsert([("ann", {**row, "price": 9.5})], event_time=NOW - 2 * HOUR)
    bare.upsert([("ann", {"age": 5e-324}), ("bob", {})], event_time=NOW - HOUR)
    bare.upsert([("ann", {"active": None})], event_time=NOW - HOUR)
    assert bare.get("ann", ["price", "country"]) == {"price": None, "country": "ZZ"}  # too old, and a default
    bare.upsert([("ann", {"country": "DE"})], event_time=NOW - HOUR)
    bare.upsert([("ann", {"country": None})], event_time=NOW - HOUR)
    older = dict.fromkeys(["n@event_time", "name@event_time", "price@event_time"], NOW - 2 * HOUR)
    of_vectors = {"near@event_time": NOW - 2 * HOUR, "far@event_time": NOW - 2 * HOUR}
    removed = {"active@event_time": NOW - HOUR, "country@event_time": NOW - HOUR}
    tenth = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    ann = {
        "user_id": "ann", "@event_time": NOW - HOUR, "age": 5e-324, "n": 2**53 + 1, "active": None, "name": "00123",
        "country": None, "price": 9.5, "near": [1.5, -0.0, 3.0000000054977558e38], "far": [tenth] * 5,
        **older, **of_vectors, **removed,
    }  # fmt: skip
    bob = {"user_id": "bob", "@event_time": NOW - HOUR}
    export_to(tmp_path / "out.ndjson", bare)
    assert sorted(rows_of(tmp_path / "out.ndjson"), key=lambda each: str(each["user_id"])) == [ann, bob]
    export_to(tmp_path / "out.parquet", bare)
    with_nulls = {**dict.fromkeys(ann), **bob}
    assert sorted(rows_of(tmp_path / "out.parquet"), key=lambda each: str(each["user_id"])) == [ann, with_nulls]
    schema = pyarrow.parquet.read_schema(tmp_path / "out.parquet")
    types = {name: str(schema.field(name).type) for name in ("user_id", "@event_time", *NAMES, "age")}
    vector = {"near": "fixed_size_list<element: float>[3]", "far": "fixed_size_list<element: float>[5]"}
    plain = {"age": "double", "n": "int64", "active": "bool", "name": "string", "country": "string", "price": "double"}
    assert types == {"user_id": "string", "@event_time": "timestamp[ms, tz=UTC]", **plain, **vector}
    assert "age@event_time" not in schema.names


def test_rows_of_older_layouts_of_other_writers_and_with_values_of_no_type(
    bare: FeatureStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare.apply(Definition({"age": "float", "n": "int"}))
    bare.upsert([("old", {"age": 1.5, "n": 1})], event_time=NOW - 2 * HOUR)
    bare.upsert([("old", {"age": 2.5})], event_time=NOW - HOUR)
    bare.apply(Definition({"age": "float", "n": "int", "name": "string"}))
    command = bare.transport.command
    command("HSET", "user:other:features", "age", "2.50", "n", "7x", "name", b"\xff", "stranger", "1")
    command("SADD", "all_users", "other")
    with caplog.at_level("WARNING", "featurestore.ingest"):
        result = export_to(tmp_path / "out.ndjson", bare)
    assert {row["user_id"]: row for row in rows_of(tmp_path / "out.ndjson")} == {
        "old": {"user_id": "old", "@event_time": NOW - HOUR, "age": 2.5, "n": 1, "n@event_time": NOW - 2 * HOUR},
        "other": {"user_id": "other", "age": 2.5},
    }  # fmt: skip
    assert result.misfits == {"n": 1, "name": 1}
    assert "n of 'other' is int, not '7x': left out" in caplog.text


def test_ids_without_features_are_skipped_and_counted(bare: FeatureStore, tmp_path: Path) -> None:
    bare.apply(Definition({"age": "float"}, ttl="1d"))
    bare.upsert([("here", {"age": 1.0}), ("deleted", {"age": 1.0})], event_time=NOW - HOUR)
    bare.delete("deleted")
    command = bare.transport.command
    command("SADD", "all_users", "gone", "deleted", "list", b"\xff\xfe")
    command("RPUSH", "user:list:features", "x")
    command("HSET", b"user:\xff\xfe:features", "age", "1")
    command("HSET", "user:expired:features", "age", "1", "@event_time", NOW - 30 * HOUR)
    command("SADD", "all_users", "expired")
    assert bare.get("expired") is None
    result = export_to(tmp_path / "out.ndjson", bare)
    assert [row["user_id"] for row in rows_of(tmp_path / "out.ndjson")] == ["here"]
    assert (result.seen, result.written, result.unknown, result.no_text) == (6, 1, 4, 1)


def test_windows_are_left_out(bare: FeatureStore, tmp_path: Path) -> None:
    bare.apply(Definition({"age": "float", "clicks": "count(10m)", "spent": "sum(amount, 1h)"}))
    bare.upsert([("ann", {"age": 1.0})], event_time=NOW - HOUR)
    bare.record([("ann", {"amount": 2.0})])
    export_to(tmp_path / "out.ndjson", bare)
    (row,) = rows_of(tmp_path / "out.ndjson")
    assert row == {"user_id": "ann", "@event_time": row["@event_time"], "age": 1.0, "age@event_time": NOW - HOUR}
    with pytest.raises(BadArgumentsError, match="clicks is a sliding window"):
        columns_of("user", bare.schema(), ["clicks"], None)


TEXTS = [b"1", b"-1", b"0", b"-0", b"1.5", b"1.", b".5", b"0.5", b"00", b"007", b"+5", b"1e5", b"1e", b"1e400", b"0x10",
         b" 1", b"1 ", b"nan", b"inf", b"1.5.5", b"", b"true", b"false", b"True", b"9223372036854775807",
         b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809", b"99999999999999999999", b"\xff",
         "é".encode(), b"\xed\xa0\x80", b"\xc0\x80", struct.pack("<2f", 1.5, -0.0), struct.pack("<2f", 1, math.inf),
         struct.pack("<2f", math.nan, 1), struct.pack("<2f", 3e38, 3e38), b"1\0", b"0e", b"0e5", b"0.", b"-1.5e-7",
         b"1-1", b"1e5.5", b"\xd9\xa1"]  # fmt: skip


@given(st.sampled_from(TEXTS) | st.binary(max_size=9) | st.from_regex(rb"-?[0-9.eE+-]{1,8}", fullmatch=True))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stored_text_is_the_value_that_reads_answer(bare: FeatureStore, text: bytes) -> None:
    kinds = {"f": "float", "i": "int", "b": "bool", "s": "string", "v": "float32[2]"}
    bare.apply(Definition(dict(kinds)))
    bare.transport.command("SADD", "all_users", "x")
    bare.transport.command("HSET", "user:x:features", *(word for name in kinds for word in (name, text)))
    _, rows = bare.fetch_many(["x"], list(kinds))
    assert rows[0] is not None
    cast = tuple(caster(kind)(text) for kind in kinds.values())
    assert repr(cast) == repr(tuple(rows[0]))


class Recording(SyncTransport):
    """Keeps how many commands leave in one write, and the words of others."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout=5, connect_timeout=5)
        self.writes: list[int] = []
        self.commands: list[tuple[Any, ...]] = []

    def run_many_encoded(self, script: Any, encoded: Sequence[bytes], **options: Any) -> Replies:
        if script is READ_HASHES:
            self.writes.append(len(encoded))
        return super().run_many_encoded(script, encoded, **options)

    def command(self, *words: Any, writes: bool = False) -> Any:
        self.commands.append(words)
        return super().command(*words, writes=writes)


@pytest.fixture
def recording(servers: dict[str, Server]) -> Iterator[FeatureStore]:
    transport = Recording(servers["valkey9"].socket_url)
    transport.command("FLUSHALL")
    yield FeatureStore(transport)
    transport.close()


@pytest.mark.parametrize("width", [1, 10, 300])
def test_a_call_takes_redis_1_ms_at_most_and_each_id_is_read_once(
    recording: FeatureStore, tmp_path: Path, width: int
) -> None:
    features = {f"f{place}": "float" for place in range(width)}
    recording.apply(Definition(dict(features)))
    assert not recording.upsert([(f"u{number}", {"f0": 1.5}) for number in range(2000)]).rejected
    transport = recording.transport
    assert isinstance(transport, Recording)
    transport.writes.clear()
    transport.commands.clear()
    before = transport.command("INFO", "commandstats")
    result = export_to(tmp_path / "out.ndjson", recording)
    after = transport.command("INFO", "commandstats")
    assert result.written == 2000
    assert sum(transport.writes) == 2000
    assert max(transport.writes) * hash_us(features) <= MOST_US
    assert calls_in(after, b"hmget") - calls_in(before, b"hmget") == 2000
    pages = [words for words in transport.commands if words[0] == "SSCAN"]
    assert len(pages) >= 4
    assert {words[-1] for words in pages} == {500}
    assert {words[0] for words in transport.commands} == {"SSCAN", "INFO", "HGETALL"}


def calls_in(stats: bytes, command: bytes) -> int:
    lines = [line for line in stats.splitlines() if line.startswith(b"cmdstat_" + command + b":")]
    return int(lines[0].partition(b"calls=")[2].split(b",")[0]) if lines else 0


class Shrinking(HashReader):  # type: ignore[misc]
    """Takes most ids out of the set in mid-scan: all but those given last, which share their buckets, and some others.

    Attributes:
        given: How often the server gave each id.
        stays: The ids that are in the set from the start to the end.
    """

    def __init__(self, store: FeatureStore, everyone: Sequence[bytes]) -> None:
        super().__init__(store, {}, Throttle(), ReadRetries())
        self.given: Counter[bytes] = Counter()
        self.everyone, self.stays = everyone, set(everyone)

    def page(self, keys: Keys, cursor: bytes) -> tuple[bytes, list[bytes]]:
        following, found = super().page(keys, cursor)
        self.given.update(found)
        if len(self.given) > 20_000 and len(self.stays) == len(self.everyone):
            others = [each for each in self.everyone if each not in self.given]
            self.stays = {*list(self.given)[-2500:], *others[:500]}
            goes = [each for each in self.everyone if each not in self.stays]
            for first in range(0, len(goes), 1000):
                self.store.transport.command("SREM", "all_users", *goes[first : first + 1000])
        return following, found


def test_each_id_is_given_once_while_the_set_shrinks(recording: FeatureStore) -> None:
    for attempt in range(20):  # where the cursor stands in its bucket is chance
        everyone = [b"%d:%d" % (attempt, number) for number in range(60_000)]
        recording.transport.command("DEL", "all_users")
        for first in range(0, len(everyone), 1000):
            recording.transport.command("SADD", "all_users", *everyone[first : first + 1000])
        reader = Shrinking(recording, everyone)
        scan = Scan(reader)
        found = Counter(each for part in scan.parts() for each in part)
        assert scan.is_whole
        assert reader.stays <= found.keys()
        assert set(found.values()) == {1}
        if max(reader.given.values()) > 1:
            return
    pytest.fail("the server gave no id twice, so nothing was tested: shrink the set otherwise")


def test_after_a_restart_all_ids_are_read_again(
    valkey: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FeatureStore(SyncTransport(valkey.url, timeout=1, connect_timeout=1))
    restarts: list[object] = []
    store.apply(Definition({"age": "float"}))
    everyone = [(f"u{number}", {"age": float(number)}) for number in range(3000)]
    store.upsert(everyone)

    def restart(_seen: int) -> None:
        if not restarts:
            restarts.append(valkey.process)
            valkey.stop()
            valkey.start()

    with caplog.at_level("WARNING", "featurestore.ingest"):
        result = export_to(tmp_path / "out.parquet", store, told=restart)
    assert (result.seen, result.written) == (3000, 3000)
    assert sorted((row["user_id"], row["age"]) for row in rows_of(tmp_path / "out.parquet")) == sorted(
        (each, row["age"]) for each, row in everyone
    )
    assert "Redis was restarted or replaced" in caplog.text
    restarts.clear()
    with pytest.raises(UnavailableError, match="rows are on stdout already"):
        export_to("-", store, told=restart)
    store.close()


def test_while_redis_is_away_an_export_waits_and_goes_on(
    valkey: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, seen = FeatureStore(SyncTransport(valkey.url, timeout=0.1, connect_timeout=0.1)), []
    store.apply(Definition({"age": "float"}))
    store.upsert([(f"u{number}", {"age": float(number)}) for number in range(3000)])
    frozen = valkey.frozen()

    def thaw() -> None:
        wait_until(lambda: "waiting for Redis" in caplog.text, what="a failed call")
        frozen.__exit__(None, None, None)

    def freeze(count: int) -> None:
        seen.append(count)
        if len(seen) == 3:
            frozen.__enter__()
            threading.Thread(target=thaw).start()

    with caplog.at_level("INFO", "featurestore.ingest"):
        result = export_to(tmp_path / "out.ndjson", store, told=freeze)
    assert (result.seen, result.written) == (3000, 3000)
    assert "Redis is back" in caplog.text
    assert "read again" not in caplog.text
    assert sorted(seen) == seen
    store.close()


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_interrupted_export_leaves_what_was_there(bare: FeatureStore, tmp_path: Path, suffix: str) -> None:
    bare.apply(Definition({"age": "float"}))
    bare.upsert([(f"u{number}", {"age": 1.0}) for number in range(1000)])
    path = tmp_path / f"out.{suffix}"

    def interrupt(_seen: int) -> None:
        raise KeyboardInterrupt

    for before in ([], [path.name]):
        with pytest.raises(KeyboardInterrupt):
            export_to(path, bare, told=interrupt)
        assert [each.name for each in tmp_path.iterdir()] == before
        export_to(path, bare)
        assert len(rows_of(path)) == 1000


def test_a_type_that_changes_meanwhile_ends_the_export(bare: FeatureStore, tmp_path: Path) -> None:
    bare.apply(Definition({"age": "float"}))
    bare.upsert([("ann", {"age": 1.0})])

    def change(_seen: int) -> None:
        bare.transport.command("DEL", "user:schema")
        bare.apply(Definition({"age": "int"}))

    with pytest.raises(SchemaChangedError, match="age changed in the schema meanwhile"):
        export_to(tmp_path / "out.ndjson", bare, told=change)
    assert list(tmp_path.iterdir()) == []


def test_event_times_that_appear_late_get_their_column(
    bare: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "GROUP_ROWS", 100)
    bare.apply(Definition({"age": "float", "n": "int", "v": "float32[2]"}))
    row = {"age": 1.0, "n": 2, "v": [1.0, 2.0]}
    bare.upsert([(f"u{number}", row) for number in range(1000)], event_time=NOW - 2 * HOUR)
    last = [each.decode() for each in bare.transport.command("SSCAN", "all_users", 0, "COUNT", 5000)[1]]
    bare.upsert([(last[450], {"n": 3})], event_time=NOW - HOUR)
    bare.upsert([(last[-1], {"age": None})], event_time=NOW - HOUR)
    path = tmp_path / "out.parquet"
    export_to(path, bare)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    names = pyarrow.parquet.read_schema(path).names
    assert names == ["user_id", "@event_time", "age", "n", "v", "age@event_time", "n@event_time", "v@event_time"]
    rows = {row["user_id"]: row for row in rows_of(path)}
    assert len(rows) == 1000
    own = {name: {name: at for name, at in row.items() if "@" in name and at} for name, row in rows.items()}
    older = {"age@event_time": NOW - 2 * HOUR, "v@event_time": NOW - 2 * HOUR}
    assert own.pop(last[450]) == {"@event_time": NOW - HOUR, **older}
    newer = {"@event_time": NOW - HOUR, "age@event_time": NOW - HOUR}
    assert own.pop(last[-1]) == {**newer, "n@event_time": NOW - 2 * HOUR, "v@event_time": NOW - 2 * HOUR}
    assert {tuple(row.items()) for row in own.values()} == {(("@event_time", NOW - 2 * HOUR),)}
    before = stored(bare)
    bare.transport.command("FLUSHALL")
    bare.apply(Definition({"age": "float", "n": "int", "v": "float32[2]"}))
    load(bare, path)
    assert stored(bare) == before


COMMANDS = {"export": export, "verify": verify}
DOCS = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.mark.parametrize("name", real("valkey9", "redis7"))
def test_a_user_who_may_read_only_exports_and_verifies(
    servers: dict[str, Server], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers[name]
    (line,) = re.findall(r"^ACL SETUSER [^{\n]*$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    with FeatureStore.connect(server.url) as store:
        if b"redis_version:6." in store.transport.command("INFO", "server"):
            line = line.replace("%R~", "~")  # which is Redis 7's
        store.transport.command("FLUSHALL")
        store.apply(Definition({"age": "float"}, ttl="1h"))
        store.upsert([("ann", {"age": 1.5}), ("bob", {})], event_time=NOW)
        for rights in ([], ["-info"], ["-time"]):  # it cannot be told then which server it is, nor what its clock shows
            store.transport.command(*line.split(), *rights)
            monkeypatch.setenv("REDIS_URL", server.url.replace("//", "//exporter:secret@"))
            for command in (
                ["export", "--out", str(tmp_path / "out.ndjson")],
                ["verify", str(tmp_path / "out.ndjson")],
            ):
                done = CliRunner().invoke(COMMANDS[command[0]], command[1:], standalone_mode=False)
                assert done.exit_code == 0, (done.output, done.exception)
            assert len(rows_of(tmp_path / "out.ndjson")) == 2
        store.transport.command("ACL", "DELUSER", "exporter")


def test_where_the_server_tells_no_name_all_ids_are_read_again_after_an_outage(
    valkey: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FeatureStore.connect(valkey.url) as store:
        store.apply(Definition({"age": "float"}))
        store.upsert([(f"u{number}", {"age": float(number)}) for number in range(3000)])
        store.transport.command("ACL", "SETUSER", "default", "-info")
    store, cuts = FeatureStore(SyncTransport(valkey.url, timeout=1, connect_timeout=1)), list[int]()

    def cut(seen: int) -> None:
        if not cuts:
            cuts.append(seen)
            store.transport.command("CLIENT", "PAUSE", 1500, "ALL")

    with caplog.at_level("WARNING", "featurestore.ingest"):
        result = export_to(tmp_path / "out.ndjson", store, told=cut)
    store.close()
    assert (result.seen, result.written) == (3000, 3000)
    assert len({row["user_id"] for row in rows_of(tmp_path / "out.ndjson")}) == 3000
    assert "so all are read again" in caplog.text


def test_the_set_of_ids_and_the_name_of_the_ids_are_those_of_the_schema(
    servers: dict[str, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, keys = servers["valkey9"], Keys.of("item", "goods")
    monkeypatch.setenv("REDIS_URL", server.socket_url)
    with FeatureStore.connect(server.socket_url, keys=keys, timeout=5) as store:
        store.transport.command("FLUSHALL")
        store.apply(Definition({"price": "float"}, entity="item", members="goods", join_key="sku"))
        store.upsert([("i1", {"price": 2.5})], event_time=NOW)
    path = tmp_path / "out.ndjson"
    for command in (["export", "--out", str(path)], ["verify", str(path)]):
        done = CliRunner().invoke(COMMANDS[command[0]], [*command[1:], "--entity", "item"], standalone_mode=False)
        assert done.exit_code == 0, (done.output, done.exception)
    assert rows_of(path) == [{"sku": "i1", "@event_time": NOW, "price": 2.5}]
