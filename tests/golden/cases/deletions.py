"""delete_entity and sweep_members."""

from golden.declaring import (
    Step,
    T,
    Word,
    call,
    case,
    delete,
    fails,
    get,
    get_batch,
    keys,
    look,
    schema,
    store,
    upsert,
)

SET_UP = (schema("f", "float"), upsert("f", ("ann", "1"), ("bob", "2"), ("cid", "3")))


def sweep(*entity_ids: Word) -> Step:
    """Take ids without a hash out of the set."""
    return call("sweep_members", keys(*entity_ids), *entity_ids)


CASES = [
    case(
        "without a time, nothing is left",
        *SET_UP,
        delete("ann"),
        delete("ann"),
        delete("nobody"),
        look("EXISTS", "user:ann:features"),
        look("SISMEMBER", "all_users", "ann"),
        get_batch("f", "ann", "bob"),
        upsert("?verdicts f", ("ann", "5"), time=T - 5),
        get("ann", "f"),
    ),
    case(
        "with a time, a tombstone is left, which expires",
        *SET_UP,
        delete("ann", T + 5),
        delete("ann", T + 5),
        delete("ann", T + 4),
        delete("ann", T + 6),
        delete("nobody", T),
        look("HGET", "user:ann:features", "@event_time"),
        look("HEXISTS", "user:ann:features", "f"),
        look("SISMEMBER", "all_users", "ann"),
        look("HGET", "user:nobody:features", "@event_time"),
        upsert("?verdicts f", ("ann", "5"), ("nobody", "5")),
        upsert("?verdicts f", ("ann", "5"), ("nobody", "5"), time=T + 7),
        get_batch("f", "ann", "nobody"),
    ),
    case(
        "what is newer than the deletion stays",
        *SET_UP,
        delete("ann", T - 1),
        delete("ann", T),
        get_batch("f", "ann", "bob"),
    ),
    case(
        "a time that is left empty is now",
        *SET_UP,
        delete("ann", ""),
        delete("nobody", ""),
        upsert("?verdicts f", ("ann", "5"), ("nobody", "5"), time=T + 5),
        get("ann", "f"),
    ),
    case(
        "how long a tombstone stays: as the call says, as the schema says, or a day",
        *SET_UP,
        delete("ann", T, "0"),
        look("EXISTS", "user:ann:features"),
        delete("nobody", T, "0"),
        look("EXISTS", "user:nobody:features"),
        schema("@tombstone", "9999999999999"),
        delete("bob", T),
        look("EXISTS", "user:bob:features"),
        schema("@tombstone", "0"),
        delete("cid", T),
        look("EXISTS", "user:cid:features"),
    ),
    case(
        "a hash of somebody who is not known is removed too, and an id without a hash",
        *SET_UP,
        store("SREM", "all_users", "ann"),
        store("DEL", "user:bob:features"),
        delete("ann"),
        delete("bob"),
        look("EXISTS", "user:ann:features"),
        look("SISMEMBER", "all_users", "bob"),
    ),
    case(
        "a key that is not the id's, or holds no hash, is not touched",
        *SET_UP,
        *(
            call("delete_entity", ["all_users", "user:schema", key], "ann", *words)
            for key in ("user:bob:features", "all_users", "user:schema", "user:ann")
            for words in ((), (T,))
        ),
        call("delete_entity", ["user:ann:features", "all_users", "user:schema"], "ann"),
        call("delete_entity", ["user:ann:features", "all_users"], "ann"),
        get_batch("f", "ann", "bob", "cid"),
        store("RPUSH", "user:list:features", "x"),
        fails(delete("list"), "WRONGTYPE"),
        fails(delete("list", T), "WRONGTYPE"),
        look("LLEN", "user:list:features"),
    ),
    case(
        "members or schema of another type",
        *SET_UP,
        store("SADD", "all_items", "ann"),
        call("delete_entity", ["all_items", "user:schema", "user:ann:features"], "ann"),
        look("SMEMBERS", "all_items"),
        get("ann", "f"),
    ),
    case("without a schema", delete("ann"), delete("ann", T), look("EXISTS", "user:ann:features"), sweep("ann")),
    case(
        "times and numbers that are refused",
        *SET_UP,
        *(delete("ann", *words) for words in (("x",), ("1700000000",), (T, "x"), (T, "-1"), (T, ""), (T, "1" * 14))),
        get("ann", "f"),
    ),
    case(
        "the wrong number of keys or arguments",
        *SET_UP,
        call("delete_entity", []),
        call("delete_entity", keys(), "ann"),
        call("delete_entity", keys("ann", "bob"), "ann"),
        call("delete_entity", keys("ann")),
        call("delete_entity", keys("ann"), "ann", T, "0", "0"),
        call("sweep_members", []),
        call("sweep_members", keys()),
        call("sweep_members", keys("ann")),
        call("sweep_members", keys("ann"), "ann", "bob"),
        get("ann", "f"),
    ),
    case(
        "sweep_members takes out ids that have no hash, and no others",
        *SET_UP,
        store("DEL", "user:ann:features"),
        store("DEL", "user:bob:features"),
        store("SET", "user:bob:features", "x"),
        sweep("ann", "bob", "cid", "nobody"),
        sweep("ann", "cid"),
        look("SISMEMBER", "all_users", "ann"),
        look("SISMEMBER", "all_users", "bob"),
        get_batch("f", "ann", "bob", "cid"),
    ),
    case(
        "keys that are not the ids' take out nobody",
        *SET_UP,
        call(
            "sweep_members", ["all_users", "user:schema", "user:nobody:features", "user:ann:features"], "ann", "nobody"
        ),
        call("sweep_members", ["all_users", "user:schema", "user:none:features"], "ann"),
        call("sweep_members", ["all_users", "user:ann:features", "user:bob:features"], "ann", "bob"),
        get_batch("f", "ann", "bob", "cid"),
        store("SADD", "all_items", "gone"),
        call("sweep_members", ["all_items", "user:schema", "user:gone:features"], "gone"),
        look("SMEMBERS", "all_items"),
    ),
]
