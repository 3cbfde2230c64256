"""apply_schema and describe_entity: what is declared, and what callers learn of it."""

import json

from golden.declaring import Step, call, case, fails, look, schema, store

EVERYTHING = (
    *("f", "float", "i", "int", "b", "bool", "s", "string", "v", "float32[2]", "w", "float32[1]"),
    *("often", "count(10m)", "spent", "sum(amount, 1h)"),
    *(
        "@ttl",
        "1000000",
        "@max_age",
        "2000",
        "@max_age:i",
        "3000",
        "@default:i",
        "7",
        "@default:s",
        "ä",
        "@always:w",
        "1",
    ),
    *("@service:risk", '["s","f","v"]', "@service:a", '["i"]', "@service:mixed", '["i","item:price"]'),
    *("@tombstone", "5000", "@join_key", "user_id", "@members", "everybody", "@max_ahead", "60000"),
)


COPY = ("@version", "1", "@layout", "@0123456", "@features", '["f","float"]', "f", "float", "@partitions", "4")


def describe(entity: str = "user") -> Step:
    """Ask for all that a client needs at its start."""
    return call("describe_entity", [f"{entity}:schema"])


CASES = [
    case(
        "a version goes up where something changes, and only there",
        schema("f", "float", "i", "int"),
        schema("f", "float", "i", "int"),
        schema("i", "int"),
        schema("s", "string"),
        schema("@ttl", "1000"),
        schema("@ttl", "1000"),
        schema("@ttl", ""),
        schema("@ttl", ""),
        schema("@service:a", '["f"]'),
        schema("@service:a", '["f"]'),
        schema("@service:a", ""),
        schema("@service:a", ""),
        look("HGET", "user:schema", "@version"),
        look("HGET", "user:schema", "f"),
    ),
    case(
        "a dry run tells the version that there would be, and stores nothing",
        schema("@dry_run", "1", "f", "float"),
        look("EXISTS", "user:schema"),
        schema("f", "float"),
        schema("f", "float", "@dry_run", "1"),
        schema("@dry_run", "1", "i", "int", "@ttl", "1000"),
        schema("@dry_run", "1", "f", "int"),
        schema("@dry_run", "1", "@service:a", '["i"]'),
        schema("@dry_run", "", "i", "int"),
        look("HGET", "user:schema", "i"),
        look("HEXISTS", "user:schema", "@dry_run"),
    ),
    case(
        "notes are kept for people, and do not matter to rows",
        schema("f", "float", "i", "int"),
        look("HGET", "user:schema", "@layout"),
        schema("@description", "users", "@owner", "crm", "@tags", '["a","b"]'),
        schema("@description:f", "ä\nfloat", "@owner:f", "me", "@tags:f", '["a"]'),
        schema("@description:f", "ä\nfloat", "@owner:f", "me", "@tags:f", '["a"]'),
        look("HGET", "user:schema", "@layout"),
        look("HGET", "user:schema", "@description:f"),
        describe(),
        schema("i", "int", "@owner", ""),
        look("HGET", "user:schema", "@owner"),
        schema("f", "float"),
        look("HEXISTS", "user:schema", "@description:f"),
        schema("@owner:f", "me", "f", "float"),
        look("HEXISTS", "user:schema", "@owner:f"),
    ),
    case(
        "notes that are refused",
        schema("f", "float", "@description:f", "d" * 2000, "@owner:f", "o" * 200, "@tags:f", f'["{"t" * 64}"]'),
        schema("@description", "d" * 2001),
        schema("@owner:f", "ä" * 101),
        schema("@tags", "a"),
        schema("@tags", "[]"),
        schema("@tags", '{"a":"b"}'),
        schema("@tags", '["a",1]'),
        schema("@tags", '["a",""]'),
        schema("@tags", f'["{"t" * 65}"]'),
        schema("@tags", json.dumps([str(number) for number in range(21)])),
        schema("@description:nope", "x"),
        schema("@description", b"\xff"),
        look("HGET", "user:schema", "@version"),
    ),
    case(
        "a schema joins the set of all schemas",
        call("apply_schema", ["user:schema", "featurestore:schemas"], "f", "float"),
        call("apply_schema", ["item:schema", "featurestore:schemas"], "f", "float"),
        call("apply_schema", ["user:schema", "featurestore:schemas"], "f", "float"),
        look("SISMEMBER", "featurestore:schemas", "user:schema"),
        look("SCARD", "featurestore:schemas"),
        call("apply_schema", ["user:schema", "user:schema"], "g", "float"),
        look("HGET", "user:schema", "g"),
    ),
    case(
        "types that are taken",
        schema(
            *("a", "float32[1]", "b", "float32[2048]", "c", "count(1s)", "d", "count(5m)", "e", "count(24h)"),
            *("f", "count(999999d)", "g", "sum(x,1h)", "h", "sum(x, 1h)", "_i.j-k", "int"),
        ),
        describe(),
    ),
    case(
        "types that are refused",
        *(
            schema("a", kind)
            for kind in (
                *("", "Float", "integer", "double", "float32", "float32[0]", "float32[2049]", "float32[01]"),
                *(
                    "float32[-1]",
                    "float32[1.5]",
                    "float64[2]",
                    "count",
                    "count()",
                    "count(0m)",
                    "count(10)",
                    "count(10w)",
                ),
                *("count(1000000d)", "sum(1h)", "sum(,1h)", "sum(x,  1h)", "int "),
            )
        ),
        describe(),
    ),
    case(
        "names that are refused",
        *(schema(name, "int") for name in ("", "1a", "-a", "a b", "a:b", "ä", "a\n", "x" * 129, "?a", b"\xff")),
        schema("x" * 128, "int"),
    ),
    case(
        "a declared type stays",
        schema("f", "float", "v", "float32[2]", "c", "count(1h)"),
        schema("f", "int"),
        schema("new", "int", "f", "string"),
        schema("v", "float32[3]"),
        schema("c", "count(2h)"),
        schema("f", "float"),
        describe(),
    ),
    case(
        "options that are refused",
        schema("f", "float", "i", "int", "v", "float32[2]", "c", "count(1h)"),
        *(
            schema(*words)
            for words in (
                *(("@unknown", "1"), ("@", "1"), ("@ttl:f", "1"), ("@version", "5"), ("@features", "[]")),
                *(("@layout", "@0000000"), ("@rules", "[]"), ("@join_key:f", "x")),
                *(
                    (word, value)
                    for word in ("@ttl", "@max_age", "@max_age:f", "@tombstone", "@max_ahead")
                    for value in ("x", "-1", "1.5", "10000000000000")
                ),
                *(("@max_age:nothing", "1"), ("@default:nothing", "1"), ("@always:nothing", "1")),
                *(("@default:i", "1.5"), ("@default:f", "nan"), ("@default:v", "x"), ("@default:c", "1")),
                *(("@always:f", "1"), ("@service", '["f"]'), ("@service:a b", '["f"]')),
                *(
                    ("@service:a", value)
                    for value in ("f", "[]", "{}", '"f"', "[1]", '["f",null]', '["a b"]', '["@row"]')
                ),
                *(("@service:a", '["f","nothing"]'), ("@join_key", "f")),
            )
        ),
        describe(),
    ),
    case(
        "a refused call changes nothing",
        schema("f", "float"),
        schema("g", "float", "h", "nothing"),
        schema("@ttl", "5", "@unknown", "1"),
        describe(),
    ),
    case(
        "a service may list what the same call declares, before or behind it",
        schema("@service:a", '["f","g"]', "f", "float", "g", "int"),
        describe(),
    ),
    case(
        "to name a feature takes back its options",
        schema("i", "int", "@default:i", "7", "@max_age:i", "5"),
        describe(),
        schema("i", "int"),
        describe(),
    ),
    case(
        "the wrong number of keys or arguments",
        call("apply_schema", []),
        call("apply_schema", [], "f", "float"),
        schema(),
        schema("f"),
        schema("f", "float", "g"),
        call("apply_schema", ["user:schema", "featurestore:schemas", "one more"], "f", "float"),
    ),
    case(
        "a key that is no schema's, or holds no hash",
        call("apply_schema", ["user"], "f", "float"),
        store("SET", "user:schema", "x"),
        fails(schema("f", "float"), "WRONGTYPE"),
        fails(describe(), "WRONGTYPE"),
    ),
    case("what a client learns at its start", schema(*EVERYTHING), describe()),
    case("what it learns of a schema without options", schema("f", "float"), describe()),
    case("what it learns where only options are declared", schema("@join_key", "user_id"), describe()),
    case(
        "nothing is learned where no schema is stored, or by a wrong call",
        describe(),
        call("describe_entity", []),
        call("describe_entity", ["user:schema", "item:schema"]),
        schema("f", "float"),
        call("describe_entity", ["user:schema"], "f"),
        call("describe_entity", ["all_users", "user:schema"]),
    ),
    case(
        "a partition's copy is taken where it is newer, with the partition's own set of ids",
        call("copy_schema", ["{1}user:schema"], *COPY),
        call("copy_schema", ["{1}user:schema"], *COPY),
        call("copy_schema", ["{1}user:schema"], "@version", "2", *COPY[2:], "@members", "everybody"),
        look("HMGET", "{1}user:schema", "@version", "@members_key", "f"),
        call("copy_schema", ["{1}user:schema"], "@version", "3", *COPY[2:-1], "8"),
        call("copy_schema", ["{1}user:schema"], "f", "float"),
        call("copy_schema", ["{1}user:schema"]),
    ),
]
