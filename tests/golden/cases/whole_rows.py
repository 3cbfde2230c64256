"""replace_rows and repack_rows."""

from golden.declaring import (
    NEVER,
    Step,
    T,
    Word,
    call,
    case,
    clocked,
    delete,
    fails,
    floats,
    get,
    get_batch,
    keys,
    layout_of,
    look,
    replace,
    schema,
    store,
    strings,
    upsert,
)

DECLARED = ("price", "float", "title", "string")
LAYOUT = layout_of(*DECLARED)
SET_UP = call("apply_schema", ["item:schema"], *DECLARED)
HALF = b"\x92\xca\x3f\x00\x00\x00\xa1x"  # [0.5, "x"] in msgpack
TWO = b"\x92\x02\xa1y"  # [2, "y"]
NAMES = "price title"
VECTORS = layout_of("price", "float", "v", "float32[2]")


def row(array: bytes = HALF, layout: str = LAYOUT) -> bytes:
    """Return a packed row."""
    return layout.encode() + array


def gap(name: str) -> bytes:
    """Return the packed row of time T in which one feature was removed."""
    return (
        LAYOUT.encode()
        + f"|{T}={name}|".encode()
        + {"title": b"\x92\xca\x3f\x00\x00\x00\xc0", "price": b"\x92\xc0\xa1x"}[name]
    )


def one(entity_id: Word, *, time: Word = T, packed: bytes = row(), layout: str = LAYOUT) -> Step:
    """Write a whole row of 0.5 and "x", or what is said to be one."""
    return replace(layout, NAMES, (entity_id, packed, "0.5", "x"), time=time)


CASES = [
    case(
        "whole rows are stored as they come",
        SET_UP,
        replace(LAYOUT, NAMES, ("1", row(), "0.5", "x"), ("2", row(TWO), "2", "y")),
        get_batch("", "1", "2", "3", entity="item"),
        get_batch("title price", "1", "2", "3", entity="item"),
        look("HMGET", "item:1:features", "price", "title", "@event_time", "@row"),
        look("SCARD", "all_items"),
        clocked(get("1", "?metadata", entity="item"), (2,)),
    ),
    case(
        "names may stand in another order than the schema's",
        SET_UP,
        replace(LAYOUT, "title price", ("1", row(), "x", "0.5")),
        get("1", "price", "title", entity="item"),
    ),
    case(
        "each row its own time",
        SET_UP,
        replace(LAYOUT, NAMES, ("1", T, row(), "0.5", "x"), ("2", T + 5, row(TWO), "2", "y"), time="@"),
        replace(LAYOUT, NAMES, ("1", T + 1, row(TWO), "2", "y"), ("2", T + 4, row(), "0.5", "x"), time="@"),
        replace(LAYOUT, NAMES, ("3", T + 1, row(TWO), "2", "y"), ("3", T, row(), "0.5", "x"), time="@"),
        replace(LAYOUT, NAMES, ("4", "", row(), "0.5", "x"), ("5", "1e999", row(), "0.5", "x"), time="@"),
        replace(LAYOUT, NAMES, ("4", "1700000000", row(), "0.5", "x"), ("5", "9" * 15, row(), "0.5", "x"), time="@"),
        get_batch("", *"12345", entity="item"),
        look("HGET", "item:1:features", "@event_time"),
    ),
    case(
        "rows are left where something newer is stored, and written where it is not",
        SET_UP,
        upsert(NAMES, ("1", "1", "a"), ("2", "1", "a"), entity="item", time=T + 5),
        replace(LAYOUT, NAMES, ("1", row(), "0.5", "x"), ("3", row(), "0.5", "x")),
        replace(LAYOUT, NAMES, ("2", row(), "0.5", "x"), time=T + 5),
        replace(LAYOUT, NAMES, ("2", row(), "0.5", "x"), time=T + 5),
        replace(LAYOUT, NAMES, ("1", row(), "0.5", "x"), time=""),
        get_batch("", *"123", entity="item"),
    ),
    case(
        "rows are left where the entity was deleted, or the key holds no hash",
        SET_UP,
        call("delete_entity", keys("1", entity="item"), "1", T),
        store("SET", "item:2:features", "x"),
        replace(LAYOUT, NAMES, ("1", row(), "0.5", "x"), ("2", row(), "0.5", "x"), ("3", row(), "0.5", "x")),
        replace(LAYOUT, NAMES, ("1", row(), "0.5", "x"), time=T + 1),
        get_batch("", *"123", entity="item"),
        upsert("?verdicts price", ("1", "9"), entity="item", time=T),
        get("1", entity="item"),
    ),
    case(
        "rows with gaps remove features, and tell since when",
        SET_UP,
        upsert(NAMES, ("1", "1", "a"), ("2", "1", "a"), entity="item", time=T - 5),
        replace(LAYOUT, f"?verdicts {NAMES}", ("1", gap("title"), "0.5", False), ("3", gap("price"), False, "x")),
        replace(LAYOUT, f"?verdicts {NAMES}", ("1", gap("title"), "0.5", False), ("2", gap("title"), "0.5", False)),
        get_batch("", *"123", entity="item"),
        look("HMGET", "item:1:features", "price", "title", "@event_time", "@row"),
        upsert("?verdicts title", ("1", "late"), entity="item", time=T - 1),
        upsert("?verdicts title", ("1", "new"), entity="item", time=T),
        one("4", packed=row(), time=T),
        replace(LAYOUT, NAMES, ("5", row(), "0.5", False), ("6", b"@0000000" + gap("title")[8:], "0.5", False)),
        replace(LAYOUT, NAMES, ("7", LAYOUT.encode() + b"|5=title|\x91\xc0", "0.5", False)),
        get_batch("", *"4567", entity="item"),
    ),
    case(
        "rows with vectors, outside of the packed row",
        call("apply_schema", ["item:schema"], "price", "float", "v", "float32[2]"),
        replace(VECTORS, "?verdicts v price", ("1", VECTORS.encode() + b"\x91\x02", floats(1, 2), "2")),
        replace(VECTORS, "?verdicts v price", ("1", VECTORS.encode() + b"\x91\x02", floats(1, 2), "2")),
        replace(VECTORS, "?verdicts v price", ("1", VECTORS.encode() + b"\x91\x02", floats(1, 3), "2")),
        get("1", "price", "v", entity="item"),
        replace(VECTORS, "price", ("2", VECTORS.encode() + b"\x91\x02", "2")),
    ),
    case(
        "rows are left whose key is not their id's, whose id is none, whose array is another",
        SET_UP,
        call(
            "replace_rows",
            keys("2", "3", entity="item"),
            LAYOUT,
            T,
            "2",
            "price",
            "title",
            strings("1", row(), "0.5", "x", "3", row(), "0.5", "x"),
        ),
        call(
            "replace_rows",
            ["all_items", "item:schema", "item:schema"],
            LAYOUT,
            T,
            "2",
            "price",
            "title",
            strings("1", row(), "0.5", "x"),
        ),
        one(""),
        one("x" * 257),
        one("1", packed=row(b"\x90")),
        one("1", packed=row(b"\x91\x01")),
        one("1", packed=row(b"\x93\x01\x01\x01")),
        one("1", packed=row(b"\xc0")),
        one("1", packed=row(b"")),
        one("1", packed=row(b"||1=price|\x92\x01\xa1x")),
        one("1", packed=row(layout="@0000000")),
        one("1", packed=b""),
        look("EXISTS", "item:1:features", "item:2:features"),
        look("HGET", "item:schema", "price"),
        get_batch("", "1", "2", "3", entity="item"),
    ),
    case(
        "calls that are refused write nothing",
        SET_UP,
        one("1", layout="@0000000"),
        *(one("1", time=time) for time in ("x", "1e999", "1700000000", "-1", "9" * 15, "2999-01-01")),
        replace(LAYOUT, "price", ("1", row(b"\x91\x01"), "1")),
        replace(LAYOUT, "price other", ("1", row(), "0.5", "x")),
        replace(LAYOUT, "price price", ("1", row(), "0.5", "0.5")),
        replace(LAYOUT, "price title more", ("1", row(), "0.5", "x", "y")),
        look("EXISTS", "item:1:features", "all_items"),
    ),
    case(
        "schemas with vectors or windows take no whole rows",
        schema("f", "float", "v", "float32[1]"),
        replace(layout_of("f", "float", "v", "float32[1]"), "f", ("a", b"\x91\x01", "1"), entity="user"),
        replace(layout_of("f", "float", "v", "float32[1]"), "f v", ("a", b"\x91\x01", "1", ""), entity="user"),
        call("apply_schema", ["item:schema"], "often", "count(1h)"),
        replace(layout_of("often", "count(1h)"), "often", ("a", b"\x91\x01", "1")),
    ),
    case(
        "rows that are too old to be served are left",
        call("apply_schema", ["item:schema"], *DECLARED, "@ttl", "1000"),
        replace(layout_of(*DECLARED, rules=("@ttl", "1000")), NAMES, ("1", row(), "0.5", "x")),
        one(
            "1",
            layout=layout_of(*DECLARED, rules=("@ttl", "1000")),
            packed=row(layout=layout_of(*DECLARED, rules=("@ttl", "1000"))),
        ),
        look("EXISTS", "item:1:features"),
        call("apply_schema", ["item:schema"], "@ttl", str(NEVER)),
        one(
            "1",
            layout=layout_of(*DECLARED, rules=("@ttl", str(NEVER))),
            packed=row(layout=layout_of(*DECLARED, rules=("@ttl", str(NEVER)))),
        ),
        get("1", entity="item"),
    ),
    case(
        "the wrong number of keys or arguments; words that are no array of strings",
        SET_UP,
        call("replace_rows", []),
        call("replace_rows", keys(entity="item"), LAYOUT, T, "2", "price", "title", strings()),
        call("replace_rows", keys("1", entity="item")),
        call("replace_rows", keys("1", entity="item"), LAYOUT, T, "2", "price", "title"),
        call("replace_rows", keys("1", entity="item"), LAYOUT, T, "2", "price", strings("1", row(), "0.5", "x")),
        call(
            "replace_rows", keys("1", entity="item"), LAYOUT, T, "x", "price", "title", strings("1", row(), "0.5", "x")
        ),
        call("replace_rows", keys("1", entity="item"), LAYOUT, T, "2", "price", "title", strings("1", row(), "0.5")),
        call("replace_rows", keys("1", entity="item"), LAYOUT, T, "2", "price", "title", "no msgpack"),
        call("replace_rows", keys("1", entity="item"), LAYOUT, T, "2", "price", "title", ""),
        call(
            "replace_rows",
            keys("1", entity="item"),
            LAYOUT,
            T,
            "2001",
            "price",
            "title",
            strings("1", row(), "0.5", "x"),
        ),
        look("EXISTS", "item:1:features", "all_items"),
    ),
    case(
        "without a schema; with keys of another type",
        one("1"),
        SET_UP,
        store("SET", "all_users", "x"),
        fails(
            call(
                "replace_rows",
                ["all_users", "item:schema", "item:1:features"],
                LAYOUT,
                T,
                "2",
                "price",
                "title",
                strings("1", row(), "0.5", "x"),
            ),
            "WRONGTYPE",
        ),
        look("EXISTS", "item:1:features"),
    ),
    case(
        "repack_rows builds the rows that are missing or of an older layout",
        schema("f", "float"),
        upsert("f", ("ann", "1.5"), ("bob", "2.5"), ("cid", "3.5")),
        call("repack_rows", keys("ann", "bob"), "ann", "bob"),
        schema("i", "int", "@default:i", "7"),
        store("SET", "user:cid:features", "x"),
        store("SADD", "all_users", "gone"),
        call("repack_rows", keys("ann", "bob", "cid", "gone", "nobody"), "ann", "bob", "cid", "gone", "nobody"),
        call("repack_rows", keys("ann", "bob"), "ann", "bob"),
        get_batch(layout_of("f", "float", "i", "int", rules=("@default:i", "7")), "ann", "bob", "cid", "gone"),
        look("EXISTS", "user:gone:features"),
        delete("ann", T + 1),
        call("repack_rows", keys("ann"), "ann"),
    ),
    case(
        "repack_rows: what is refused",
        call("repack_rows", keys("ann"), "ann"),
        schema("f", "float"),
        upsert("f", ("ann", "1.5"), ("bob", "2.5")),
        call("repack_rows", []),
        call("repack_rows", keys()),
        call("repack_rows", keys("ann")),
        call("repack_rows", keys("ann"), "ann", "bob"),
        call("repack_rows", keys("bob"), "ann"),
        call("repack_rows", keys("bob", "ann"), "ann", "bob"),
        call("repack_rows", ["all_users", "user:schema", "user:schema"], "ann"),
        store("SET", "all_items", "x"),
        fails(call("repack_rows", ["all_items", "user:schema", "user:ann:features"], "ann"), "WRONGTYPE"),
        get_batch("f", "ann", "bob"),
    ),
]
