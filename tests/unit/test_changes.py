"""What applying a schema file is said to change, beside what the script says."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake import FakeTransport

from featurestore import Definition, FeatureStore, NoSchemaError, SchemaError, UndeclaredFeatureError
from featurestore.schema.changes import changes_of, undeclared_in_services
from featurestore.schema.definition import FeatureDefinition
from featurestore.schema.services import LogDefinition, ServiceDefinition

BEFORE = Definition(
    features={
        "age": FeatureDefinition("float", default=7, max_age="1d", description="years", owner="me", tags=["a", "b"]),
        "n": "int",
        "e": FeatureDefinition("float32[2]", always=True),
    },
    services={"ads": ["age", "n"], "one": ["n"]}, ttl="30d", max_age="2d", tombstone="7d", owner="crm",
)  # fmt: skip
PEOPLE = "for people: nothing that is stored or read is touched"
AGE: dict[str, Any] = {
    "type": "float",
    "default": 7,
    "max_age": "1d",
    "description": "years",
    "owner": "me",
    "tags": ["a", "b"],
}

CHANGES: list[tuple[dict[str, Any], list[str]]] = [
    ({"features": BEFORE.features}, []),
    (
        {"features": {"new": "int"}},
        ["+ feature new (int): null until it is written"],
    ),
    (
        {"features": {"new": FeatureDefinition("string", default="ZZ", max_age="90m")}},
        ["+ feature new (string, max_age 90m): its default 'ZZ' until it is written"],
    ),
    ({"features": {"w": "count(1h)"}}, ["+ feature w (count(1h)): 0 until events are recorded"]),
    (
        {"features": {"v": "float32[9]"}},
        ["+ feature v (float32[9]): null until it is written; read only when it is named"],
    ),
    (
        {"features": {"age": FeatureDefinition(**AGE | {"default": 8.5})}},
        ["~ feature age, default 7.0 → 8.5: reads answer 8.5 where nothing is stored"],
    ),
    (
        {"features": {"age": FeatureDefinition(**AGE | {"default": None})}},
        ["~ feature age, default 7.0 → null: reads answer null where nothing is stored"],
    ),
    (
        {"features": {"age": FeatureDefinition(**AGE | {"max_age": "500ms"})}},
        ["~ feature age, max_age 1d → 500ms: values older than that are null to all reads; what is stored stays"],
    ),
    (
        {"features": {"age": FeatureDefinition(**AGE | {"max_age": None})}},
        ["~ feature age, max_age 1d → none: the entity's max_age of 2d holds"],
    ),
    (
        {"features": {"age": FeatureDefinition(**AGE | {"max_age": "none"})}, "max_age": "none"},
        [
            "~ feature age, max_age 1d → none: values are served however old they are",
            "~ max_age 2d → none: values are served however old they are",
        ],
    ),
    ({"features": {"e": "float32[2]"}}, ["~ feature e, always true → false: it is read only when it is named"]),
    (
        {"features": {"age": FeatureDefinition(**AGE | {"owner": "", "tags": ["b"]})}},
        [f"~ feature age, owner, tags: {PEOPLE}"],
    ),
    ({"features": {}, "ttl": "30d", "tombstone": "7d", "owner": "crm"}, []),
    (
        {"features": {}, "ttl": "none", "tombstone": "none", "max_ahead": "1h", "owner": "", "tags": ["pii"]},
        [
            "~ ttl 30d → none: entities do not expire any more; keys lose their expiry at their next write or repack",
            "~ tombstone 7d → 1d: a day, for deletions from now on",
            "~ max_ahead 1d → 1h: writes of a later event time are refused",
            f"~ the entity's owner, tags: {PEOPLE}",
        ],
    ),
    (
        {"features": {}, "services": {"ads": ["n", "e"], "one": [], "two": ["user:n"]}},
        [
            "~ service ads, +e -age: reads by that name answer the new list, under another digest",
            "- service one: reads by that name are refused; what is stored stays",
            "+ service two: reads by that name answer user:n",
        ],
    ),
    (
        {"features": {}, "services": {"ads": ["n", "age"]}},
        ["~ service ads, the order: reads by that name answer the new list, under another digest"],
    ),
    (
        {"features": {}, "join_key": "uid"},
        ["~ join_key uid: responses call the id so; servers do when they are restarted"],
    ),
]


@pytest.fixture
def store() -> FeatureStore:
    store = FeatureStore(FakeTransport())
    store.apply(BEFORE)
    return store


@pytest.mark.parametrize(("options", "told"), CHANGES)
def test_each_change_is_told_and_the_script_agrees(
    store: FeatureStore, options: dict[str, Any], told: list[str]
) -> None:
    definition, before = Definition(**options), store.schema()
    changes = changes_of(before, definition)
    assert [str(change) for change in changes] == told
    assert store.apply(definition, dry_run=True) == before.version + bool(told)
    assert store.schema() == before
    store.apply(definition)
    after = store.schema()
    assert (after.layout != before.layout) is any(change.new_layout for change in changes)
    assert changes_of(after, definition) == []


SPANS = st.sampled_from([None, "none", "2d", "36h"])  # a day is what holds without tombstone and max_ahead
KINDS = {"age": "float", "n": "int", "s": "string", "w": "count(1h)", "e": "float32[2]"}


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    """Draw definitions of a few features with options."""
    features: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(sorted(KINDS)), unique=True)):
        defaults: dict[str, Any] = {"age": 1.5, "n": 2, "s": "x"}
        default = defaults.get(name) if draw(st.booleans()) else None
        features[name] = FeatureDefinition(
            KINDS[name], default, draw(SPANS), name == "e" and draw(st.booleans()), draw(st.sampled_from(["", "text"])),
            "", draw(st.sampled_from([[], ["a"], ["a", "b"]])),
        )  # fmt: skip
    listed = draw(st.lists(st.sampled_from(sorted(features)))) if features else []
    log = draw(st.sampled_from([None, LogDefinition(0.5, keep="1d"), LogDefinition(max_entries=9)]))
    has_options = bool(listed) and draw(st.booleans())
    services: dict[str, Any] = {"ads": ServiceDefinition(listed, log) if has_options else listed}
    return Definition(
        features, ttl=draw(SPANS), max_age=draw(SPANS), tombstone=draw(SPANS), max_ahead=draw(SPANS),
        services=services if draw(st.booleans()) else {}, description=draw(st.sampled_from([None, "", "text"])),
        tags=draw(st.sampled_from([None, [], ["a"]])),
    )  # fmt: skip


@settings(deadline=None)
@given(st.lists(definitions(), min_size=1, max_size=4))
def test_something_is_told_exactly_where_the_script_changes_something(applied: list[Definition]) -> None:
    store = FeatureStore(FakeTransport())
    store.apply(Definition({"first": "int"}))
    for definition in applied:
        if not definition.words():
            continue
        before = store.schema()
        changes = changes_of(before, definition)
        assert bool(changes) is (store.apply(definition) > before.version)
        if before.layout != store.schema().layout:
            assert any(change.new_layout for change in changes)


def test_everything_of_a_new_entity_is_new() -> None:
    assert {change.sign for change in changes_of(None, BEFORE)} == {"+", "~"}
    assert [str(change).split(":")[0] for change in changes_of(None, BEFORE)] == [
        "+ feature age (float, max_age 1d)", "+ feature n (int)", "+ feature e (float32[2])", "~ ttl none → 30d",
        "~ max_age none → 2d", "~ tombstone 1d → 7d", "+ the entity's owner", "+ service ads", "+ service one",
    ]  # fmt: skip


def test_what_is_kept_of_a_service_is_told(store: FeatureStore) -> None:
    def told(log: LogDefinition | None) -> list[str]:
        definition = Definition({}, services={"ads": ServiceDefinition(["age", "n"], log)})
        changes = changes_of(store.schema(), definition)
        store.apply(definition)
        return list(map(str, changes))

    kept = "what reads by that name are served is kept, for featurestore export --served"
    assert told(LogDefinition(0.1, keep="7d")) == [f"+ service ads, log none → 10 % of requests, for 7d: {kept}"]
    assert told(LogDefinition(0.1, keep="7d")) == []
    assert told(LogDefinition(0.015, keep="36h", max_entries=1_000_000)) == [
        f"~ service ads, log 10 % of requests, for 7d → 1.5 % of requests, for 36h, at most 1,000,000: {kept}"
    ]
    (gone,) = told(None)
    assert gone.endswith("→ none: what reads by that name are served is not kept any more; what was kept stays")


def test_services_that_name_no_feature_are_found(store: FeatureStore) -> None:
    services = {"fine": ["age", "user:n", "item:x", "new"], "wrong": ["age", "user:agee"]}
    definition = Definition({"new": "int"}, services=services)
    assert undeclared_in_services(store.schema(), definition) == ("services", "wrong", "user:agee")
    assert undeclared_in_services(None, definition) == ("services", "fine", "age")
    with pytest.raises(UndeclaredFeatureError) as caught:
        store.apply(definition)
    assert caught.value.where == ("services", "wrong", "user:agee")


def test_services_alone_are_for_an_entity_that_has_features(store: FeatureStore) -> None:
    store.apply(Definition({}, services={"new": ["n"]}))
    assert store.service("new") == ["n"]
    store.transport.command("FLUSHALL")
    with pytest.raises(NoSchemaError):
        store.apply(Definition({}, services={"new": []}))


def test_a_path_is_applied_if_the_file_is_of_the_entity(store: FeatureStore, tmp_path: Any) -> None:
    path = tmp_path / "more.toml"
    path.write_text('[features]\nmore = "int"\n')
    for given_path in (path, str(path)):
        assert store.apply(given_path) == 2
    path.write_text('entity = "item"\n[features]\nmore = "int"\n')
    with pytest.raises(
        SchemaError, match=r"more\.toml is of the entity item, and this store is of user: .*Keys\('item'\)"
    ):
        store.apply(str(path))
    with pytest.raises(SchemaError, match="want a Definition or the path of a schema file, not 7"):
        store.apply(7)  # type: ignore[arg-type]
