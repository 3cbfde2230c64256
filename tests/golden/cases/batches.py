"""get_features_batch: rows aligned with the ids."""

from golden.declaring import (
    Step,
    T,
    call,
    case,
    clocked,
    fails,
    floats,
    get_batch,
    keys,
    layout_of,
    schema,
    store,
    upsert,
)

DECLARED = ("f", "float", "i", "int", "s", "string")
LAYOUT = layout_of(*DECLARED)
ALWAYS = layout_of(*DECLARED, "v", "float32[2]", "w", "float32[1]", rules=("@always:w", "1"))
SET_UP = (
    schema(*DECLARED),
    upsert("f i s", ("ann", "0.5", "7", "x"), ("bob", "1", "-1", "")),
    upsert("s", ("cid", "y"), time=T + 1),
)


def with_metadata(words: str, *entity_ids: str, known: tuple[int, ...]) -> Step:
    """Read several entities with their metadata; the ages of the known ones depend on the clock."""
    return clocked(get_batch(f"?metadata {words}", *entity_ids), *((position, 2) for position in known))


CASES = [
    case(
        "by name: one msgpack array, nil for an unknown id",
        *SET_UP,
        get_batch("f s", "ann"),
        get_batch("f s", "nobody"),
        get_batch("s i f", "bob", "nobody", "cid", "ann"),
        get_batch("f", *(f"nobody{number}" for number in range(16))),
    ),
    case(
        "an id that is asked for twice is answered twice",
        *SET_UP,
        get_batch("f", "ann", "bob", "ann"),
        get_batch(LAYOUT, "ann", "bob", "ann"),
    ),
    case(
        "all features, without a name or by layout: a string for each id, the digest and then the values",
        *SET_UP,
        get_batch("", "ann", "nobody", "cid"),
        get_batch(LAYOUT, "ann", "nobody", "cid"),
        get_batch(f"?current {LAYOUT}", "ann", "nobody", "cid"),
        get_batch("?current", "ann", "nobody", "cid"),
        get_batch(LAYOUT, "nobody"),
        get_batch("", "nobody"),
    ),
    case(
        "rows that are not stored as they are read are made within the call",
        *SET_UP,
        store("HDEL", "user:ann:features", "@row"),
        store("DEL", "user:cid:features"),
        get_batch(LAYOUT, "ann", "bob", "cid"),
        get_batch("", "ann", "bob", "cid"),
    ),
    case(
        "another layout than the schema's",
        *SET_UP,
        get_batch("@0000000", "ann"),
        get_batch("@0000000", "nobody"),
        get_batch("?current @0000000", "ann"),
        schema("new", "bool"),
        get_batch(LAYOUT, "ann", "bob", "nobody"),
        get_batch(f"?current {LAYOUT}", "ann", "bob", "nobody"),
        get_batch(f"?current {LAYOUT}", "nobody"),
        upsert("i", ("bob", "5"), time=T + 1),
        get_batch(LAYOUT, "ann", "bob"),
    ),
    case(
        "services, ages and metadata",
        *SET_UP,
        schema("@service:risk", '["s","f"]'),
        get_batch("?service=risk", "ann", "nobody", "cid"),
        get_batch("?max_age=1 f s", "ann", "nobody"),
        get_batch("?max_age=1", "ann", "nobody"),
        get_batch("?max_age=1 ?service=risk", "ann", "nobody"),
        with_metadata("f s", "ann", "nobody", "cid", known=(0, 2)),
        with_metadata("", "cid", "ann", known=(0, 1)),
        with_metadata("?service=risk", "ann", known=(0,)),
        with_metadata("?max_age=1 f", "ann", known=(0,)),
        with_metadata("f", "nobody", known=()),
    ),
    case(
        "vectors in a batch",
        schema("v", "float32[2]", "s", "string"),
        upsert("v s", ("ann", floats(1, 2), "x"), ("bob", floats(-1, 0.5), "y")),
        upsert("s", ("cid", "z")),
        get_batch("v", "ann", "bob", "cid", "nobody"),
        get_batch("s v s", "ann", "cid"),
    ),
    case(
        "a layout and names: for each id its row, and behind it an array of the features named",
        schema(*DECLARED, "v", "float32[2]", "w", "float32[1]", "@always:w", "1"),
        upsert("f i s v w", ("ann", "0.5", "7", "x", floats(1, 2), floats(3))),
        upsert("s", ("bob", "y"), ("cid", "z")),
        upsert("w v", ("cid", floats(5), floats(0, 1)), time=T + 1),
        *(
            get_batch(f"{options}{ALWAYS} {names}", "ann", "bob", "nobody", "cid", "ann")
            for options in ("", "?current ", "?max_age=1 ")
            for names in ("v", "i v w i")
        ),
        with_metadata(f"{ALWAYS} v", "ann", "bob", "nobody", "cid", known=(0, 1, 3)),
        with_metadata(f"{ALWAYS}", "ann", "bob", "nobody", "cid", known=(0, 1, 3)),
        with_metadata(f"?max_age=1 {ALWAYS} s", "ann", "nobody", known=(0,)),
        get_batch(f"{ALWAYS} v", "nobody", "none"),
        store("HDEL", "user:ann:features", "@row"),
        store("SET", "user:bob:features", "x"),
        get_batch(f"{ALWAYS} v", "ann", "bob", "cid"),
        get_batch(f"{ALWAYS} nothing", "ann"),
        get_batch("@0000000 v", "ann"),
        get_batch(f"{ALWAYS} {ALWAYS}", "ann"),
    ),
    case(
        "?most: 0 stands for a row once so many values have been made, but for the first; stored rows are answered",
        *SET_UP,
        *(
            get_batch(f"{options} {LAYOUT}", "ann", "nobody", "bob", "cid")
            for options in ("?most=1", "?current ?most=1", "?most=1 ?current")
        ),
        store("HDEL", "user:ann:features", "@row"),
        store("HDEL", "user:bob:features", "@row"),
        store("HDEL", "user:cid:features", "@row"),
        *(get_batch(f"?most={most} {LAYOUT}", "ann", "nobody", "bob", "cid") for most in (1, 3, 5, 6, 8, 9, 1000000)),
        *(get_batch(f"?most={most}", "ann", "nobody", "bob", "cid") for most in (1, 6)),
        get_batch(f"?current ?most=3 {LAYOUT}", "ann", "nobody", "bob", "cid"),
        get_batch(f"?most=4 {LAYOUT} s", "ann", "nobody", "bob", "cid"),
        call("repack_rows", keys("bob"), "bob"),
        get_batch(f"?most=3 {LAYOUT}", "ann", "nobody", "bob", "cid"),
        get_batch(f"?most=3 {LAYOUT}", "bob", "cid", "ann", "bob"),
    ),
    case(
        "?most for services, names and metadata",
        *SET_UP,
        schema("@service:risk", '["s","f"]'),
        get_batch("?most=3 ?service=risk", "ann", "nobody", "bob", "cid"),
        get_batch("?most=4 ?service=risk", "ann", "nobody", "bob", "cid"),
        with_metadata("?most=2 s f", "ann", "nobody", "bob", known=(0,)),
        with_metadata("?most=2", "ann", "nobody", "bob", "cid", known=(0, 2)),
        get_batch("?most=3 s f", "ann"),
        get_batch("?most=0 ?service=risk", "ann"),
        get_batch(f"?most=0 {LAYOUT}", "ann"),
        get_batch(f"?most=1000001 {LAYOUT}", "ann"),
    ),
    case(
        "words that are refused",
        *SET_UP,
        get_batch("nothing", "ann"),
        get_batch("nothing", "nobody"),
        get_batch("?all", "ann"),
        get_batch("@row", "ann"),
        get_batch("@event_time", "ann"),
        get_batch(f"f {LAYOUT}", "ann"),
        get_batch("?service=none", "ann"),
        get_batch("?max_age=x f", "ann"),
    ),
    case(
        "without a schema",
        get_batch("", "ann"),
        get_batch("f", "ann"),
        get_batch(LAYOUT, "ann"),
        get_batch(f"?current {LAYOUT}", "ann"),
    ),
    case(
        "members of another type",
        *SET_UP,
        store("SET", "all_items", "x"),
        *(
            fails(call("get_features_batch", ["all_items", "user:schema", "user:ann:features"], *words), "WRONGTYPE")
            for words in (("0", "ann"), ("1", "f", "ann"), ("1", LAYOUT, "ann"))
        ),
    ),
    case(
        "the wrong number of keys or arguments",
        *SET_UP,
        call("get_features_batch", []),
        call("get_features_batch", keys(), "0"),
        call("get_features_batch", keys("ann")),
        call("get_features_batch", keys("ann"), "0"),
        call("get_features_batch", keys("ann"), "1", "ann"),
        call("get_features_batch", keys("ann"), "2", "f", "ann"),
        call("get_features_batch", keys("ann"), "0", "ann", "bob"),
        call("get_features_batch", keys("ann", "bob"), "1", LAYOUT, "ann"),
        call("get_features_batch", keys("ann"), "-1", "ann"),
        call("get_features_batch", keys("ann"), "1.0", "f", "ann"),
        call("get_features_batch", keys("ann"), "5001", "f", "ann"),
        call("get_features_batch", keys("ann"), "", "ann"),
    ),
    case(
        "keys that are not the ids'",
        *SET_UP,
        *(
            call("get_features_batch", ["all_users", "user:schema", *hashes], *words, "ann", "bob")
            for words in (("0",), ("1", "f"), ("1", LAYOUT), ("2", "?current", LAYOUT), ("2", "?metadata", "f"))
            for hashes in (
                ("user:bob:features", "user:ann:features"),
                ("user:ann:features", "user:ann:features"),
                ("user:ann:features", "user:cid:features"),
                ("user:ann:features", "user:schema"),
            )
        ),
        call("get_features_batch", ["user:schema", "all_users", "user:ann:features"], "1", "f", "ann"),
        call("get_features_batch", ["all_users", "user:schema", "user:bob:features"], "1", "f", "nobody"),
        call("get_features_batch", ["all_users", "user:schema", "user:bob:features"], "1", LAYOUT, "nobody"),
    ),
]
