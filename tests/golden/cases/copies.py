"""copy_entities: entities as another Redis holds them."""

from golden.declaring import NEVER, Step, T, Word, call, case, clocked, delete, get, keys, look, schema, store, upsert

SET_UP = (
    schema("f", "float", "i", "int", "s", "string"),
    upsert("f i s", ("ann", "1.5", "7", "x")),
    upsert("i", ("ann", "8"), time=T + 10),
)
LATER = T + 20


def copy(keeps: Word, *entities: tuple[Word, ...]) -> Step:
    """Copy entities, each a tuple of its id, whether it is known, when it expires, and fields with their values."""
    words = [word for one in entities for word in (*one[:3], (len(one) - 3) // 2, *one[3:])]
    return call("copy_entities", keys(*(one[0] for one in entities)), keeps, *words)


def live(entity_id: Word, time: int, *fields: Word, older: str = "") -> tuple[Word, ...]:
    """Return a known entity of that time."""
    row = f"@0000000|{older}|" if older else "@0000000"
    return (entity_id, "1", "", *fields, "@event_time", time, "@row", row)


def buried(entity_id: Word, time: int) -> tuple[Word, ...]:
    """Return the tombstone of an entity that was deleted at that time."""
    return (entity_id, "0", NEVER, "@event_time", time, "@row", "deleted", "@floor", time)


def metadata(entity_id: str) -> Step:
    """Read an entity with the times of its features."""
    return clocked(get(entity_id, "?metadata", "f", "i", "s"), (2,))


def fields(entity_id: str = "ann") -> tuple[Step, ...]:
    """Look at what is stored of an entity, known or not."""
    key = f"user:{entity_id}:features"
    return (
        look("HMGET", key, "f", "i", "s", "@event_time", "@floor", "other"),
        look("SISMEMBER", "all_users", entity_id),
    )


def stored(entity_id: str = "ann") -> tuple[Step, ...]:
    """Look at what is stored of a known entity, and read it."""
    return (*fields(entity_id), metadata(entity_id))


CASES = [
    case(
        "where nothing is, an entity is stored as it is, with fields that are no features, and becomes known",
        schema("f", "float", "i", "int", "s", "string"),
        copy("newer", live("ann", T, "f", "0.5", "other", "kept"), ("bob", "0", "", "f", "1")),
        *stored(),
        *fields("bob"),
        get("bob"),
        look("PTTL", "user:ann:features"),
    ),
    case(
        "where all that is stored is older or as old, it is put in its place, with nothing of before",
        *SET_UP,
        store("HSET", "user:ann:features", "other", "gone"),
        copy("newer", live("ann", T + 10, "f", "0.5", "i", "9", "s", "y")),
        *stored(),
    ),
    case(
        "what is newer here stays, feature by feature, and each has its own time",
        *SET_UP,
        copy("newer", live("ann", T + 5, "f", "0.5", "i", "9", "s", "y")),
        *stored(),
        copy("newer", live("ann", T + 30, "f", "0.25", "i", "1", "s", "z", older=f"{T + 6}=i,s")),
        *stored(),
    ),
    case(
        "a feature that there never was there stays here",
        *SET_UP,
        copy("newer", live("ann", LATER, "f", "0.5")),
        *stored(),
    ),
    case(
        "a feature that was removed there later than it was written here is removed",
        *SET_UP,
        copy("newer", live("ann", LATER, "f", "0.5", older=f"{T + 5}=i,s")),
        *stored(),
    ),
    case(
        "what is as old stays where that is asked for",
        *SET_UP,
        copy("same", live("ann", T, "f", "0.5", "i", "9", "s", "y")),
        copy("same", live("ann", T + 10, "f", "0.5", "i", "9", "s", "y", older=f"{T}=f,s")),
        *stored(),
    ),
    case(
        "nothing stays where that is asked for",
        *SET_UP,
        copy("none", live("ann", 5, "f", "0.5", "other", "kept")),
        *stored(),
    ),
    case(
        "a deletion that is later takes the entity away, and its tombstone expires as it does there",
        *SET_UP,
        copy("newer", buried("ann", LATER)),
        *fields(),
        get("ann"),
        upsert("f", ("ann", "2"), time=LATER),
    ),
    case(
        "a deletion that is later than some of what is here takes that away",
        *SET_UP,
        copy("newer", buried("ann", T + 5)),
        *stored(),
    ),
    case(
        "what was deleted here at that time or later stays deleted",
        *SET_UP,
        delete("ann", LATER, NEVER),
        copy("newer", live("ann", LATER - 1, "f", "0.5")),
        copy("newer", live("ann", LATER + 1, "f", "0.5", "i", "9", older=f"{LATER - 1}=i")),
        *stored(),
    ),
    case(
        "the buckets of a window are those of the side whose last event is later",
        schema("f", "float", "n", "count(1d)"),
        copy("newer", live("ann", T, "f", "0.5", "n", "1:1 2:2")),
        look("HMGET", "user:ann:features", "f", "n"),
        upsert("f", ("ann", "1.5"), time=LATER),
        copy("newer", live("ann", T + 5, "f", "0.25", "n", "1:1 2:3", "@seen", "0123456789abcdef")),
        look("HMGET", "user:ann:features", "f", "n", "@seen", "@event_time"),
        copy("newer", live("ann", T, "f", "0.25", "n", "1:1")),
        look("HMGET", "user:ann:features", "f", "n"),
    ),
    case(
        "a key that holds no hash is left, and the others are stored",
        *SET_UP,
        store("SET", "user:bob:features", "x"),
        copy("newer", live("bob", T, "f", "1"), live("eve", T, "f", "2")),
        look("SISMEMBER", "all_users", "bob"),
        *stored("eve"),
    ),
    case(
        "a key that is not the id's own, and words that do not fit, store nothing",
        *SET_UP,
        call("copy_entities", keys("ann"), "newer", "bob", "1", "", 1, "f", "1"),
        call("copy_entities", keys("ann"), "older", "ann", "1", "", 1, "f", "1"),
        call("copy_entities", keys("ann"), "newer", "ann", "1", "", 2, "f", "1"),
        call("copy_entities", keys("ann"), "newer", "ann", "1", "", 0),
        call("copy_entities", keys("ann"), "newer", "ann", "1", "soon", 1, "f", "1"),
        call("copy_entities", keys(), "newer"),
        *stored(),
    ),
    case(
        "without a schema nothing is stored",
        copy("none", live("ann", T, "f", "1")),
        look("EXISTS", "user:ann:features"),
    ),
]
