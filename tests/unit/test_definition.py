"""Schema files: what is wrong is told before anything is sent, by file, key and value, with what would be right."""

from pathlib import Path
from typing import Any

import pytest
from support.fake import FakeTransport

from featurestore import Definition, FeatureStore, Keys, SchemaError, read_definition
from featurestore.schema.definition import RESERVED_NAMES, FeatureDefinition

TYPES = r"\(types are float, int, bool, string, float32\[N\], count\(SPAN\), sum\(FIELD, SPAN\)\)$"
SPAN = "want a span of time in quotes, such as 30d, 12h, 5m, 10s or 500ms, or none$"
NAMES = r"want a letter or _, then letters, digits, _ \. - \(128 at most\)$"
FINE = '[features]\nage = "float"\n'

FILES: list[tuple[str, str]] = [
    ("features = 3", "features = 3: want a table, such as age = "),
    ('entity = "x"', r"\[features\] is missing: want a table"),
    ("[features]", r"\[features\] declares no feature$"),
    # Types.
    ('[features]\na = "int64"', f"features.a = 'int64': no such type: did you mean int\\? {TYPES}"),
    ('[features]\na = "Float"', f"features.a = 'Float': no such type: did you mean float\\? {TYPES}"),
    ('[features]\na = "str"', f"features.a = 'str': no such type: did you mean string\\? {TYPES}"),
    ('[features]\na = "boolean"', f"features.a = 'boolean': no such type: did you mean bool\\? {TYPES}"),
    ('[features]\na = "geometry"', f"features.a = 'geometry': no such type {TYPES}"),
    ("[features]\na = 7", f"features.a = 7: no such type {TYPES}"),
    ("[features]\na = []", r"features.a = \[\]: no such type"),
    ('[features]\na = { type = "int64" }', "features.a.type = 'int64': no such type: did you mean int"),
    ("[features]\na = { default = 7 }", "features.a.type is missing: want float, int, bool"),
    ('[features]\na = "float32[2049]"', r"features.a = 'float32\[2049\]': a vector has at most 2048 numbers$"),
    ('[features]\na = "float32[0]"', r"features.a = 'float32\[0\]': no such type"),
    ('[features]\na = "count(0m)"', r"features.a = 'count\(0m\)': a window is like count\(10m\) or sum\(amount, 1h\)"),
    ('[features]\na = "sum(b, 1234567s)"', r"features.a = 'sum\(b, 1234567s\)': a window is like"),
    # Names.
    ('[features]\n"a b" = "int"', f"features.'a b' is no name of a feature: {NAMES}"),
    ('[features]\n"é" = "int"', r"features.'é' is no name of a feature"),
    (f'[features]\n{"a" * 129} = "int"', "is no name of a feature"),
    ('entity = "c d"\n' + FINE, r"entity = 'c d': want a letter or _, then letters, digits, _ - \(64 at most\)$"),
    (f'entity = "{"c" * 65}"\n' + FINE, "entity = 'ccc"),
    ('entity = "c\\n"\n' + FINE, r"entity = 'c\\n': want a letter"),
    ("entity = 7\n" + FINE, "entity = 7: want a letter"),
    ('members = ""\nentity = "item"\n' + FINE, "members = '': want printable text$"),
    ("members = 7\n" + FINE, "members = 7: want printable text$"),
    ('members = "my_users"\n' + FINE, "members of user is all_users"),
    ('members = "item:schema"\nentity = "item"\n' + FINE, "the store has a key of that name"),
    ('join_key = ""\n' + FINE, "join_key = '': want printable text$"),
    ("join_key = ['a']\n" + FINE, r"join_key = \['a'\]: want printable text$"),
    ('join_key = "features"\n' + FINE, "join_key cannot be features: responses have a field of that name$"),
    # Names that routes need.
    ('[features]\ncreated = "int"', "features.created: Feast's client sends .*; call it created_at, say$"),
    ('[features]\nevent_timestamp = "int"', "features.event_timestamp: .*; call it event_at, say$"),
    ('[features]\nuser_id = "string"', "features.user_id: the entity's id is called that; call .* user_id_value, say"),
    ('join_key = "sku"\n[features]\nsku = "string"', "features.sku: the entity's id is called that"),
    ('entity = "item"\n[features]\nitem_id = "string"', "features.item_id: the entity's id is called that"),
    # Spans of time.
    ("max_age = 30\n" + FINE, f"max_age = 30: {SPAN}"),
    ('ttl = "1 week"\n' + FINE, f"ttl = '1 week': {SPAN}"),
    ("tombstone = true\n" + FINE, f"tombstone = true: {SPAN}"),
    ('ttl = "9999999999999d"\n' + FINE, f"ttl = '9999999999999d': {SPAN}"),
    ('[features]\na = { type = "int", max_age = "soon" }', f"features.a.max_age = 'soon': {SPAN}"),
    # Defaults.
    (
        '[features]\na = { type = "int", default = "x" }',
        "features.a.default = 'x': a default of type int is an integer",
    ),
    ('[features]\na = { type = "int", default = 7.0 }', "features.a.default = 7.0: a default of type int is"),
    ('[features]\na = { type = "int", default = true }', "features.a.default = true: a default of type int is"),
    ('[features]\na = { type = "int", default = 9223372036854775808 }', "an integer of 64 bits$"),
    (
        '[features]\na = { type = "float", default = "7" }',
        "features.a.default = '7': a default of type float is a finite",
    ),
    (
        '[features]\na = { type = "float", default = nan }',
        "features.a.default = nan: a default of type float is a finite",
    ),
    (
        '[features]\na = { type = "bool", default = 1 }',
        "features.a.default = 1: a default of type bool is true or false$",
    ),
    ('[features]\na = { type = "string", default = 7 }', "features.a.default = 7: a default of type string is text"),
    ('[features]\na = { type = "string", default = "" }', "features.a.default = '': .* is text, and not empty$"),
    ('[features]\na = { type = "float32[2]", default = 7 }', r"features of type float32\[2\] have no default$"),
    ('[features]\na = { type = "count(1h)", default = 7 }', r"features of type count\(1h\) have no default$"),
    ('[features]\na = { type = "string", default = 2020-01-01 }', "features.a.default = datetime.date"),
    ('[features]\na = { type = "float32[2]", always = 1 }', "features.a.always = 1: want true or false$"),
    ('[features]\na = { type = "int", always = true }', "features.a.always = true: that is for vectors, and a is int$"),
    # Services.
    ("services = 7\n" + FINE, "services = 7: want a table, such as ads = "),
    (FINE + '[services]\nads = "age"', "services.ads = 'age': want a list of at most 5000 names"),
    (FINE + "[services]\nads = { log = { sample = 1 } }", "services.ads.features is missing: want a list of names"),
    (FINE + "[services]\nads = { features = ['age'], logs = 1 }", r"no services.ads.logs \(known are features, log\)"),
    (FINE + "[services]\nads = { features = ['age'], log = 1 }", "services.ads.log = 1: want a table"),
    (FINE + "[services]\nads = { features = ['age'], log = {} }", "services.ads.log has no bound: want keep"),
    (FINE + "[services]\nads = { features = ['age'], log = { rate = 1 } }", "there is no services.ads.log.rate"),
    (FINE + "[services]\nads = { features = ['age'], log = { keep = 7 } }", "services.ads.log.keep = 7: want a span"),
    (FINE + "[services]\nads = { features = [7], log = { keep = '7d' } }", "services.ads = 7: want the name"),
    (FINE + "[services]\nads = [7]", "services.ads = 7: want the name of a feature, or entity:feature$"),
    (FINE + '[services]\n"a b" = ["age"]', "services.'a b' is no name of a service"),
    # Keys.
    (FINE + "[typo]", r"there is no typo \(known are features, entity, members"),
    (FINE + "[service]\nads = ['age']", r"there is no service: did you mean services\? \(known are"),
    ("maxage = '1d'\n" + FINE, r"there is no maxage: did you mean max_age\?"),
    ('[features]\na = { type = "int", defualt = 7 }', r"there is no features.a.defualt: did you mean default\?"),
    (
        '[features]\na.b = "int"',
        r"there is no features.a.b \(known are type, default, max_age, always, description, owner, tags\)",
    ),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_what_is_wrong_in_a_file_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "features.toml"
    path.write_text(text)
    with pytest.raises(SchemaError, match=f"^{path}: .*{message}" if message[0] != "^" else message) as caught:
        read_definition(path)
    assert "$" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"[features", b"\xff", b"a = " + b"9" * 5000, b"a = " + b"[" * 100_000], ids=["", "", "int", "deep"]
)
def test_what_is_no_toml_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "features.toml"
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=f"^cannot read the schema {path}: "):
        read_definition(path)
    with pytest.raises(SchemaError, match=f"^cannot read the schema {tmp_path}: "):
        read_definition(tmp_path)


def test_all_that_a_file_may_say_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "features.toml"
    path.write_text(
        'entity = "item"\nmembers = "goods"\njoin_key = "sku"\nttl = "90d"\nmax_age = "none"\ntombstone = "0"\n'
        '[features]\n"a.b-c" = "float"\nf = { type = "float", default = 7 }\nn = { type = "int", default = -1 }\n'
        's = { type = "string", default = "ZZ", max_age = "500ms" }\nb = { type = "bool", default = false }\n'
        'e = { type = "float32[2048]", always = true }\nc = "count(999999s)"\nt = "sum(amount, 1h)"\nitem_id = "int"\n'
        '[services]\nads = ["a.b-c", "item:f", "user:age"]\nnone = []\n'
    )
    definition = read_definition(path)
    store = FeatureStore(FakeTransport(), Keys.of(definition.entity, definition.members))
    store.apply(definition)
    schema = store.schema()
    assert list(schema.features) == ["a.b-c", "f", "n", "s", "b", "e", "c", "t", "item_id"]
    assert schema.defaults == {"f": 7.0, "n": -1, "s": "ZZ", "b": False}
    assert schema.services == {"ads": ["a.b-c", "item:f", "user:age"]}
    assert (schema.join_key, schema.members, schema.ttl_ms) == ("sku", "goods", 90 * 86_400_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": {"created": "int"}}, r"^features\.created: Feast's client sends"),
        ({"features": {"a": None}}, r"^features\.a = None: no such type"),
        ({"features": {7: "int"}}, r"^features\.7 is no name of a feature"),
        ({"features": {"a": {"type": "int"}}}, r"^features\.a = \{'type': 'int'\}: no such type"),
        ({"features": ["a"]}, r"^features = \['a'\]: want a table"),
        ({"features": {f"f{number}": "int" for number in range(1001)}}, "a schema has at most 1000$"),
        ({"features": {"a": FeatureDefinition("string", default="\ud800")}}, "a default of type string is text"),
        (
            {"features": {"a": FeatureDefinition("float", default=10**5000)}},
            "a default of type float is a finite number",
        ),
        ({"features": {"a": "int"}, "entity": None}, "^entity = None: want a letter"),
        ({"features": {"a": "int"}, "services": {"s": None}}, r"^services\.s = None: want a list"),
        ({"features": {"a": "int"}, "max_age": 1000}, "^max_age = 1000: want a span of time"),
    ],
)
def test_definitions_made_in_python_are_checked_too(options: dict[str, Any], message: str) -> None:
    transport = FakeTransport()
    with pytest.raises(SchemaError, match=message):
        FeatureStore(transport).apply(Definition(**options))
    assert transport.command("KEYS", "*") == []


def test_reserved_names_are_those_of_feasts_columns() -> None:
    assert {"created", "event_timestamp"} == RESERVED_NAMES


def test_the_keys_of_an_entity_are_named_after_it() -> None:
    assert Keys() == Keys("user", "all_users", "user:schema")
    assert Keys("customer") == Keys("customer", "all_customers", "customer:schema") == Keys.of("customer")
    assert Keys("item", "goods") == Keys("item", "goods", "item:schema") == Keys.of("item", "goods")
    assert Keys("item", schema="s") == Keys("item", "all_items", "s")
    assert Keys(members="m").schema == "user:schema"


def test_a_store_of_another_entity_leaves_the_user_alone() -> None:
    transport = FakeTransport()
    customers = FeatureStore(transport, Keys("customer"))
    customers.apply(Definition(features={"age": "int"}, entity="customer"))
    customers.upsert([("c", {"age": 1})])
    assert sorted(transport.command("KEYS", "*")) == [
        b"all_customers",
        b"customer:c:features",
        b"customer:schema",
        b"featurestore:schemas",
    ]
