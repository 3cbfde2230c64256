"""count_entries: increments and events of a stream, each counted once."""

from golden.declaring import LEAVE, T, call, case, count, delete, fails, get, get_batch, look, schema, store

WINDOWS = ("often", "count(999999d)", "spent", "sum(amount, 999999d)")
SET_UP = schema("i", "int", "f", "float", "s", "string", "v", "float32[1]", "d", "int", *WINDOWS, "@default:d", "10")
INCREMENTS, EVENTS = "?increments", "?events"
COUNTED = "user:clicks:counted"

CASES = [
    case(
        "increments are counted once, in this call and in later ones",
        SET_UP,
        count(
            INCREMENTS,
            "@entry_id i f",
            ("ann", "1-0", "5", "0.5"),
            ("ann", "1-0", "5", "0.5"),
            ("bob", "1-1", "1", LEAVE),
        ),
        count(INCREMENTS, "@entry_id i f", ("bob", "1-1", "1", LEAVE), ("ann", "1-2", "-7", LEAVE)),
        count(INCREMENTS, "@entry_id d", ("ann", "1-3", "1")),
        get_batch("i f d", "ann", "bob"),
        look("SCARD", COUNTED),
        look("SISMEMBER", COUNTED, "1-1"),
        look("SREM", COUNTED, "1-1"),
        count(INCREMENTS, "@entry_id i", ("bob", "1-1", "1")),
        count(INCREMENTS, "@entry_id i", ("bob", "1-1", "1"), source="views"),
        get("bob", "i"),
    ),
    case(
        "events are counted once, by their entries and by their own ids",
        SET_UP,
        count(EVENTS, "@entry_id @event_id amount", ("ann", "1-0", "", "2"), ("ann", "1-0", "", "2")),
        count(EVENTS, "@entry_id @event_id amount", ("ann", "1-1", "e1", "1"), ("ann", "1-2", "e1", "1")),
        count(EVENTS, "@entry_id amount", ("ann", "1-2", "1"), ("bob", "1-3", LEAVE), ("ann", "1-4", "1")),
        get_batch("often spent", "ann", "bob"),
    ),
    case(
        "each entry its own time, and none from before the entity's deletion",
        SET_UP,
        count(
            INCREMENTS,
            "@event_time @entry_id i",
            ("ann", T, "1-0", "1"),
            ("ann", "x", "1-1", "1"),
            ("bob", "", "1-2", "1"),
        ),
        delete("ann", T + 5),
        count(INCREMENTS, "@event_time @entry_id i", ("ann", T + 5, "1-3", "1"), ("ann", T + 6, "1-4", "2")),
        count(EVENTS, "@event_time @entry_id", ("ann", T + 5, "1-5"), ("ann", T + 7, "1-6")),
        get_batch("i often", "ann", "bob"),
    ),
    case(
        "entries that are rejected do not keep out the others, and are not in the set",
        SET_UP,
        store("SET", "user:cid:features", "x"),
        count(
            INCREMENTS,
            "@entry_id i s v",
            ("ann", "1-0", "1", LEAVE, LEAVE),
            ("ann", "1-1", "x", LEAVE, LEAVE),
            ("ann", "1-2", LEAVE, "1", LEAVE),
            ("ann", "1-3", LEAVE, LEAVE, "1"),
            ("", "1-4", "1", LEAVE, LEAVE),
            ("cid", "1-5", "1", LEAVE, LEAVE),
            ("ann", "1-6", LEAVE, LEAVE, LEAVE),
            ("ann", "1-7", "9007199254740992", LEAVE, LEAVE),
            ("bob", "1-8", "2", LEAVE, LEAVE),
        ),
        count(EVENTS, "@entry_id amount", ("ann", "2-0", "x"), ("bob", "2-1", "1")),
        look("SCARD", COUNTED),
        get_batch("i spent", "ann", "bob"),
    ),
    case(
        "what cannot be counted",
        SET_UP,
        count(INCREMENTS, "@entry_id nope", ("ann", "1-0", "1")),
        count(EVENTS, "@entry_id i", ("ann", "1-0", "1")),
        count(INCREMENTS, "i @entry_id", ("ann", "1", "1-0")),
        count(INCREMENTS, "@entry_id @event_id", ("ann", "1-0", "e1")),
        count("?both", "@entry_id i", ("ann", "1-0", "1")),
        count(EVENTS, "@entry_id", ("ann", "1-0"), time="soon"),
        call("count_entries", ["all_users", "user:schema", COUNTED], T, "2", EVENTS, "@entry_id"),
        call(
            "count_entries",
            ["all_users", "user:schema", COUNTED, "user:ann:features"],
            T,
            "2",
            EVENTS,
            "@entry_id",
            "ann",
        ),
        call(
            "count_entries",
            ["all_users", "user:schema", COUNTED, "user:bob:features"],
            T,
            "2",
            EVENTS,
            "@entry_id",
            "ann",
            "1",
        ),
        store("SET", COUNTED, "x"),
        fails(count(EVENTS, "@entry_id", ("ann", "1-0")), "WRONGTYPE"),
        look("EXISTS", "user:ann:features"),
    ),
    case(
        "a schema without windows has no events",
        schema("i", "int"),
        count(EVENTS, "@entry_id", ("ann", "1-0")),
    ),
    case("no schema", count(INCREMENTS, "@entry_id i", ("ann", "1-0", "1"))),
]
