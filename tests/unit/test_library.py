"""The Python side by itself: values and ids as text, settings, schema files, rows that cannot be sent."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.fake import FakeTransport

import featurestore
from featurestore import (
    BadArgumentsError,
    ConfigurationError,
    Definition,
    FeatureStore,
    SchemaError,
    Settings,
    UndeclaredFeatureError,
    read_definition,
)
from featurestore.errors import BadTimeError, WriteRefusedError, error_from_reply
from featurestore.schema.stored import Schema
from featurestore.settings import describe_settings


@pytest.fixture
def store() -> FeatureStore:
    store = FeatureStore(FakeTransport())
    store.apply(Definition(features={"age": "float", "city": "string"}))
    return store


def test_rows_that_cannot_be_sent_are_rejected_by_position_and_the_others_go_in(store: FeatureStore) -> None:
    rows: list[Any] = [
        ("a", {"age": 1.0}),
        ("b", {"age": [1]}),
        ("", {"age": 1.0}),
        ("c", {"nope": 1.0}),
        ("d", {"age": "abc"}),
        (7.5, {"age": 1.0}),
        ("e", {"city": "\ud800"}),
        ("f", {"city": "Rome"}),
    ]
    result = store.upsert(rows)
    assert (result.written, result.skipped) == (2, 0)
    assert [(bad.row, bad.code) for bad in result.rejected] == [
        (1, "BADTYPE"), (2, "BADID"), (3, "UNDECLARED"), (4, "BADTYPE"), (5, "BADID"), (6, "BADTYPE")]  # fmt: skip
    assert store.get("f") == {"age": None, "city": "Rome"}


def test_a_table_row_with_too_few_values_is_rejected(store: FeatureStore) -> None:
    result = store.upsert_table(["age", "city"], [("a", 1.0, "Rome"), ("b", 1.0)])
    assert (result.written, [(bad.row, bad.code) for bad in result.rejected]) == (1, [(1, "BADARGS")])
    assert result.rejected[0].reason == "1 values for 2 features"


def test_positions_count_over_all_calls(store: FeatureStore) -> None:
    rows = [(f"u{index}", {"age": "x" if index in (150, 2500) else 1.0}) for index in range(2600)]
    result = store.upsert(rows)
    assert (result.written, [bad.row for bad in result.rejected]) == (2598, [150, 2500])


@pytest.mark.parametrize(
    "event_time", [1_700_000_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
                   datetime(2023, 11, 15, 0, 13, 20, tzinfo=timezone(timedelta(hours=2)))]
)  # fmt: skip
def test_event_times(store: FeatureStore, event_time: int | datetime) -> None:
    assert store.upsert([("u", {"age": 1.0})], event_time=event_time).written == 1
    assert store.transport.command("HGET", "user:u:features", "@event_time") == b"1700000000000"
    assert store.upsert([("u", {"age": 2.0})], event_time=1_699_999_999_999).skipped == 1


@pytest.mark.parametrize("event_time", [-1, 10**15, 1_700_000_000, 10**14, True, 1.5, "2023-01", datetime(2023, 1, 1)])  # noqa: DTZ001
def test_event_times_that_cannot_be_used(store: FeatureStore, event_time: Any) -> None:
    with pytest.raises(BadArgumentsError):
        store.upsert([("u", {"age": 1.0})], event_time=event_time)


def test_reads_refuse_what_cannot_be_asked(store: FeatureStore) -> None:
    with pytest.raises(BadArgumentsError):
        store.get("")
    with pytest.raises(BadArgumentsError):
        store.get("u", [])
    with pytest.raises(UndeclaredFeatureError, match="nope"):
        store.get("u", ["nope"])


@pytest.mark.parametrize("number", [10**30, 10**5000, -(10**5000)], ids=["long", "very long", "negative"])
def test_a_number_that_is_too_long_is_rejected_alone(number: int) -> None:
    store = FeatureStore(FakeTransport())
    store.apply(Definition(features={"n": "int"}))
    rows: list[tuple[str, dict[str, Any]]] = [("u", {"n": 1}), ("v", {"n": number}), ("w", {"n": 2})]
    for given in (rows, rows[::-1], rows[1:2]):
        result = store.upsert(given)
        assert [rejected.code for rejected in result.rejected] == ["BADTYPE"]
        assert result.written == len(given) - 1


def test_an_event_time_is_not_empty(store: FeatureStore) -> None:
    with pytest.raises(BadTimeError):
        store.upsert([("u", {"age": 1.0})], event_time="")


@pytest.mark.parametrize(
    "reply",
    [
        "READONLY You can't write against a read only replica.",
        "@user_script: 504: -READONLY You can't write against a read only replica.",
        "ERR Error running script (call to f_0): @user_script:39: @user_script: 39: -READONLY You can't write.",
    ],
)
def test_errors_of_commands_in_scripts_are_known_on_every_redis(reply: str) -> None:
    error = error_from_reply(reply)
    assert isinstance(error, WriteRefusedError)
    assert str(error).startswith("READONLY You can't write")


# Settings


def test_settings_from_the_environment() -> None:
    environment = {"FEATURESTORE_MAX_BATCH": "7", "FEATURESTORE_ACCESS_LOG": "true", "FEATURESTORE_BIND": ""}
    settings = Settings.from_environment({**environment, "REDIS_HOST": "r", "REDIS_PASSWORD": "p@/"})
    assert (settings.max_batch, settings.access_log, settings.bind) == (7, True, "127.0.0.1:8000")
    assert settings.url == "redis://:p%40%2F@r:6379/0"
    assert Settings.from_environment({}).url is None
    assert Settings.from_environment({"REDIS_URL": "redis://x", "REDIS_HOST": "y"}).url == "redis://x"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("FEATURESTORE_WORKERS", "0"), ("FEATURESTORE_WORKER_CLASS", "tornado"), ("REDIS_PORT", "x"),
     ("FEATURESTORE_TIMEOUT_MS", "-1"), ("FEATURESTORE_BIND", "localhost"), ("FEATURESTORE_BIND", "localhost:x"),
     ("FEATURESTORE_BIND", "localhost:65536"), ("FEATURESTORE_BIND", "::1:8000")],
)  # fmt: skip
def test_a_setting_that_does_not_fit_is_named(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable}='{value}'"):
        Settings.from_environment({variable: value})


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", "[::1]:65535", ":80", "unix:/run/x.sock", "a-b.example:1"])
def test_addresses_to_listen_on(bind: str) -> None:
    assert Settings.from_environment({"FEATURESTORE_BIND": bind}).bind == bind


def test_a_setting_with_choices_tells_them() -> None:
    with pytest.raises(ConfigurationError, match="want debug, info, warning, error"):
        Settings.from_environment({"FEATURESTORE_LOG_LEVEL": "loud"})
    assert Settings.from_environment({"FEATURESTORE_LOG_LEVEL": "INFO"}).log_level == "info"


def test_a_host_by_its_ipv6_address() -> None:
    assert Settings.from_environment({"REDIS_HOST": "::1"}).url == "redis://[::1]:6379/0"


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost?foo=bar", "redis://localhost:x"])
def test_a_redis_url_that_cannot_be_used_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="Redis URL"):
        FeatureStore.connect(url)


# Schema files


@pytest.mark.parametrize("kind", ["int\n", "float32[1\u0663]", "count(\u0663m)"])
def test_a_stored_type_that_only_looks_like_one_is_damage(kind: str) -> None:
    features = msgspec.json.encode(["a", kind])
    with pytest.raises(SchemaError, match="damaged"):
        Schema.from_reply("user", [b"@version", b"1", b"@layout", b"12345678", b"@features", features])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("features = 3", "features"),
        ("[features]\nage = 'number'", "types are float, int, bool, string"),
        ("[features]", "declares no feature"),
        ("[features", "cannot read"),
        ("[features]\nage = 'int'\n[typo]", "typo"),
        ("members = 'my_users'\n[features]\nage = 'int'", "members of user is all_users"),
        ("entity = 'item'\nmembers = 'item:schema'\n[features]\nage = 'int'", "the store has a key of that name"),
        ("join_key = 'features'\n[features]\nage = 'int'", "join_key cannot be features"),
    ],
)
def test_a_malformed_schema_file_is_told_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "features.toml"
    path.write_text(text)
    with pytest.raises(SchemaError, match=message):
        read_definition(path)


def test_a_schema_is_shown_with_its_options() -> None:
    rules = ["@default:ok", "true", "@default:n", "5", "@default:f", "5.", "@default:s", "true", "@max_age", "1000",
             "@max_age:n", "0", "@ttl", "5000", "@always:e", "1"]  # fmt: skip
    features = ["ok", "bool", "n", "int", "f", "float", "s", "string", "e", "float32[2]"]
    stored = {
        "@version": "3", "@layout": "0123abcd", "@features": json.dumps(features), "@rules": json.dumps(rules),
        "@service:ads": '["n","item:price"]', "@join_key": "uid", "@tombstone": "60000", "n": "int",
    }  # fmt: skip
    schema = Schema.from_reply("user", [word.encode() for pair in stored.items() for word in pair])
    assert schema.shown("user") == {
        "entity": "user",
        "version": 3,
        "features": dict(zip(features[::2], features[1::2], strict=True)),
        "options": {
            "ok": {"default": True},
            "n": {"default": 5, "max_age_ms": 0},
            "f": {"default": "5."},
            "s": {"default": "true"},
            "e": {"always": True},
        },
        "max_age_ms": 1000,
        "ttl_ms": 5000,
        "tombstone_ms": 60000,
        "services": {"ads": ["n", "item:price"]},
        "join_key": "uid",
    }
    plain = Schema({"n": "int"}, 1, "0123abcd")
    assert plain.shown("item") == {"entity": "item", "version": 1, "features": {"n": "int"}}


def test_a_missing_schema_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="cannot read"):
        read_definition(tmp_path / "nope.toml")


def test_error_replies_become_the_right_exceptions() -> None:
    assert repr(error_from_reply("UNDECLARED x is not declared")) == "UndeclaredFeatureError('x is not declared')"
    assert repr(error_from_reply("OOM used memory")) == "WriteRefusedError('OOM used memory')"
    assert repr(error_from_reply("ERR something")) == "RedisError('ERR something')"


# Documentation


def test_every_name_of_the_package_is_there() -> None:
    for name in featurestore.__all__:
        assert getattr(featurestore, name).__doc__
    with pytest.raises(AttributeError):
        featurestore.nope  # noqa: B018


def test_the_page_of_settings_has_every_setting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    for variable, default, meaning in describe_settings():
        assert f"| `{variable}` | {default and f'`{default}`'} | {meaning} |" in page
