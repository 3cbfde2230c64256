"""Reads of named features: by layout they are what they are by name, and no call holds Redis for long."""

import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.backends import Backend
from support.examples import examples
from support.keys import single
from support.names import single_redis
from support.servers import Server, real
from support.ways import asking

from featurestore import Definition, FeatureStore, Keys, SyncTransport, Transport
from featurestore.contract.resp import Reply
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH, Script
from featurestore.errors import BadReplyError, FeatureStoreError, UndeclaredFeatureError
from featurestore.schema.definition import FeatureDefinition
from featurestore.store.plan import Calls

IDS = ["a", "b", "c", "nobody"]
HOUR = 3_600_000

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "float": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**40), 2**40).map(float),
    "int": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    "float32[3]": st.lists(st.floats(-1e8, 1e8, width=32), min_size=3, max_size=3),
}
WINDOWS = ["count(1d)", "sum(amount, 1d)"]


class World:
    """A schema and what is written under it.

    Attributes:
        definition: The schema.
        writes: Id, features, how many ms ago.
        names: Features to ask for.
    """

    def __init__(self, definition: Definition, writes: list[tuple[str, dict[str, Any], int]], names: list[str]) -> None:
        self.definition, self.writes, self.names = definition, writes, names

    def __repr__(self) -> str:
        return f"World({self.definition}, {self.writes}, {self.names})"

    def make(self, transport: Transport) -> None:
        """Declare the schema and write."""
        transport.command("FLUSHALL")
        store = FeatureStore(transport)
        store.apply(self.definition)
        seconds, micros = transport.command("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        for entity_id, features, ago in self.writes:
            if ago:
                store.upsert([(entity_id, features)], event_time=now - ago)
            else:
                store.upsert([(entity_id, features)])
        if WINDOWS[1] in self.definition.features.values():
            store.record([("a", {"amount": 2.5}), ("a", {"amount": 0.25}), ("c", {"amount": 1})])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    kinds = draw(st.lists(st.sampled_from([*VALUES, *WINDOWS]), min_size=1, max_size=6))
    if draw(st.booleans()):
        kinds += ["int"] * 12  # so that calls may leave rows
    features = {f"n{place}": kind for place, kind in enumerate(kinds)}
    scalars = [name for name, kind in features.items() if kind in VALUES and kind != "float32[3]"]
    vectors = [name for name, kind in features.items() if kind == "float32[3]"]
    some = draw(st.lists(st.sampled_from(scalars), unique=True, max_size=2)) if scalars else []
    declared: dict[str, Any] = {**features}
    for name in some:
        default = draw(st.none() | VALUES[features[name]].filter(lambda value: value != ""))
        declared[name] = FeatureDefinition(features[name], default, draw(st.sampled_from([None, "2h"])))
    for name in vectors:
        declared[name] = FeatureDefinition(features[name], always=draw(st.booleans()))
    definition = Definition(features=declared, ttl=draw(st.sampled_from([None, "5h"])))
    writable = [name for name, kind in features.items() if kind in VALUES]
    rows = st.lists(st.sampled_from(writable), unique=True, min_size=1).flatmap(
        lambda names: st.fixed_dictionaries({name: st.none() | VALUES[features[name]] for name in names})
    ) if writable else st.just({})  # fmt: skip
    ago = st.sampled_from([0, 0, HOUR, 3 * HOUR, 6 * HOUR])
    writes = draw(st.lists(st.tuples(st.sampled_from(IDS[:3]), rows, ago), max_size=6))
    names = draw(st.lists(st.sampled_from(list(features)), unique=True, min_size=1))
    return World(definition, writes, names)


def bits(value: Any) -> Any:
    """Make floats comparable bit for bit and apart from ints and bools."""
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(item) for item in value]
    return (type(value), struct.pack(">d", value)) if isinstance(value, float) else (type(value), value)


def read(store: FeatureStore, names: list[str]) -> list[Any]:
    """Return what all reads of these features answer."""
    described = [
        found and (found.features, found.event_time, found.statuses) for found in store.describe_many(IDS, names)
    ]
    _, fresh = store.fetch_fresh(IDS, names, max_age_ms=2 * HOUR)
    query = store.query([{"user": each} for each in IDS], [f"user:{name}" for name in names])
    return [
        [store.get(each, names) for each in IDS],
        store.get_many([*IDS, *IDS[::-1]], names),
        described,
        store.get_many(IDS, names, max_age=2 * HOUR),
        [entry and (entry.values, entry.statuses, entry.event_times) for entry in fresh],
        list(query),
        [store.get_json(each, names) for each in IDS],
        store.get_many_json([*IDS, "a"], names),
    ]


@given(worlds())
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reads_by_layout_answer_what_reads_by_name_do(backend: Backend, transport: Transport, world: World) -> None:
    backend.empty()
    world.make(transport)
    answers = []
    for by_layout in (False, True):
        with asking(by_layout=by_layout):
            store = FeatureStore(transport)
            answers.append(read(store, world.names))
            assert read(store, world.names) == answers[-1]
    assert bits(answers[1]) == bits(answers[0])
    for key in backend.all_keys():
        if key.endswith(b":features"):
            transport.command("HDEL", key, "@row")  # rows that have to be made
    with asking(by_layout=True):
        without_rows = read(FeatureStore(transport), world.names)
    for made, answer in zip(without_rows[:4], answers[0][:4], strict=True):
        if not any(ago for _, _, ago in world.writes):  # the row has the times of single features
            assert bits(made) == bits(answer)


class Noting(SyncTransport):
    """A transport that notes its calls."""

    calls: list[tuple[str, int]]

    def run_many_encoded(
        self, script: Script, encoded: Sequence[bytes], **options: Any
    ) -> list[Reply | FeatureStoreError]:
        """Note the script, and how many calls leave together."""
        self.calls.append((script.name, len(encoded)))
        return super().run_many_encoded(script, encoded, **options)


@pytest.fixture(params=real("valkey9"))
def noting(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Noting]:
    """A transport to a server that is empty."""
    transport = Noting(servers[request.param].url, timeout=5, connect_timeout=5)
    transport.calls = []
    transport.command("FLUSHALL")
    yield transport
    transport.command("FLUSHALL")
    transport.close()


def wide(transport: Transport, width: int, count: int) -> tuple[FeatureStore, list[str]]:
    """Return a store of `count` users with so many features each, and the ids."""
    features: dict[str, Any] = {f"n{place}": "int" for place in range(width)}
    store = FeatureStore(transport, Keys())
    store.apply(Definition(features=features))
    ids = [f"u{number}" for number in range(count)]
    store.upsert_table(list(features), [(each, *range(number, number + width)) for number, each in enumerate(ids)])
    return store, ids


def of_reads(transport: Noting) -> list[int]:
    """Return how many calls of get_features_batch left together, each time, and forget them."""
    found = [count for name, count in transport.calls if name == GET_FEATURES_BATCH.name]
    transport.calls.clear()
    return found


def test_calls_have_fewer_ids_the_more_a_row_takes(noting: Noting) -> None:
    store, ids = wide(noting, 200, 250)
    noting.calls.clear()
    assert [row and row["n7"] for row in store.get_many(ids, [f"n{place}" for place in range(150)])] == [*range(7, 257)]
    assert of_reads(noting) == [3]  # by layout
    assert store.get_many(ids, ["n7"])[249] == {"n7": 256}
    assert of_reads(noting) == [3]  # by name
    with asking(by_layout=False):
        assert FeatureStore(noting).get_many(ids, [f"n{place}" for place in range(150)])[0] is not None
    assert of_reads(noting) == [32]  # eight rows of 150 values to be cast are a millisecond's
    assert store.describe_many(ids, [f"n{place}" for place in range(150)])[249] is not None
    assert of_reads(noting) == [18]


def test_what_a_call_takes_is_told(noting: Noting) -> None:
    store, ids = wide(noting, 20, 250)
    store.get_many(ids)
    selection = store.known_selection
    assert selection is not None
    plans = store._plans
    steps = [next(plan) for plan in (plans.fetch_many(ids, None), plans.fetch(ids[0], None))]
    many, one = (step for step in steps if isinstance(step, Calls))
    assert (many.script, len(many.encoded)) == (GET_FEATURES_BATCH, 3)
    assert many.each_us == pytest.approx(selection.row_us * 250 / 3)
    assert (one.script, one.each_us) == (GET_FEATURES, selection.made_us)  # it may have to be made
    aged = next(plans.fetch_fresh(ids, None, None))
    assert isinstance(aged, Calls)
    assert len(aged.encoded) * aged.each_us > 250 * selection.row_us + 250


def test_rows_that_have_to_be_made_are_asked_for_again(noting: Noting) -> None:
    store, ids = wide(noting, 50, 230)
    names = [f"n{place}" for place in range(40, 10, -1)]
    expected = store.get_many(ids, names)
    json = store.get_many_json(ids, names)
    described = store.describe_many(ids, names)
    for each in ids[20:]:
        noting.command("HDEL", single(store).features(each), "@row")
    noting.calls.clear()
    assert store.get_many(ids, names) == expected
    first, *again = of_reads(noting)
    assert first == 3
    assert 2 <= sum(again) <= 12
    assert store.get_many_json([*ids, "nobody"], names) == json[:-1] + b',{"user_id":"nobody","features":null}]'
    assert [found and found.features for found in store.describe_many(ids, names)] == [
        found and found.features for found in described
    ]
    rows = [{"user": each} for each in ids]
    assert list(store.query(rows, names)) == expected


def test_a_script_that_never_makes_a_row_is_told(noting: Noting, monkeypatch: pytest.MonkeyPatch) -> None:
    store, ids = wide(noting, 20, 3)
    store.get_many(ids)
    monkeypatch.setattr(Noting, "run_many_encoded", lambda *_, **__: [[0, 0, 0]])
    with pytest.raises(BadReplyError, match="made none of 3 rows"):
        store.get_many(ids)


def test_a_changed_schema_is_noticed_by_reads_of_named_features(transport: Transport) -> None:
    features: dict[str, Any] = {"a": "int", "b": "int"}
    store, other = FeatureStore(transport), FeatureStore(transport)
    store.apply(Definition(features=features))
    store.upsert([("u", {"a": 1, "b": 2})])
    assert store.get("u", ["a"]) == {"a": 1}
    assert store.describe_many(["u"], ["b"])[0] is not None
    other.apply(Definition(features={"a": FeatureDefinition("int", max_age="1ms"), "b": "int", "c": "int"}))
    time.sleep(1.1)
    assert store.get("u", ["a"]) == {"a": None}
    assert store.get_many(["u"], ["a"]) == [{"a": None}]
    other.upsert([("u", {"c": 3})])
    assert store.get("u", ["c", "b"]) == {"c": 3, "b": 2}
    with pytest.raises(UndeclaredFeatureError, match="x is not declared"):
        store.get("u", ["a", "x"])


def test_the_store_that_applied_a_schema_sees_it_at_once(transport: Transport) -> None:
    store = FeatureStore(transport)
    store.apply(Definition(features={"a": "int"}))
    store.upsert([("u", {"a": 1})])
    assert store.get("u", ["a"]) == {"a": 1}
    store.apply(Definition(features={"a": "int"}, max_age="1ms"))
    time.sleep(0.01)  # the value gets older
    assert store.get("u", ["a"]) == {"a": None}


@single_redis("one call of the script has ids of one partition")
def test_windows_that_are_added_up_count_among_what_a_call_makes(transport: Transport) -> None:
    store = FeatureStore(transport)
    store.apply(Definition(features={"a": "int", "often": "count(1h)", "spent": "sum(amount, 1h)"}))
    ids = ["u", "v", "w"]
    store.upsert([(each, {"a": 1}) for each in ids])
    store.record([(each, {"amount": 2}) for each in ids])
    layout = store.schema().layout
    names = single(store)
    keys = [names.members, names.schema, *map(names.features, ids)]
    for most, made in ((32, 1), (33, 1), (66, 2), (1000, 3)):
        for options in (["?metadata"], []):
            words = [*options, f"?most={most}", layout]
            rows = transport.run(GET_FEATURES_BATCH, keys, [len(words), *words, *ids])
            assert [type(row) is int for row in rows] == [place >= (made if options else 3) for place in range(3)]
    for each in ids:  # made of fields
        transport.command("HDEL", single(store).features(each), "@row")
    for most, made in ((34, 1), (70, 2), (105, 3)):
        rows = transport.run(GET_FEATURES_BATCH, keys, [2, f"?most={most}", layout, *ids])
        assert [type(row) is int for row in rows] == [place >= made for place in range(3)]
    many = [f"x{number}" for number in range(150)]
    store.upsert([(each, {"a": number}) for number, each in enumerate(many)])
    store.record([(each, {"amount": 2}) for each in many])
    described = store.describe_many(many)
    assert [found and found.features["a"] for found in described] == [*range(150)]
    assert {found and found.features["spent"] for found in described} == {2.0}
