"""Event times: which texts are taken, what they mean, what is refused."""

from golden.declaring import (
    NEVER,
    T,
    Word,
    call,
    case,
    clocked,
    delete,
    get_batch,
    increment,
    keys,
    look,
    record,
    schema,
    upsert,
)

TAKEN = (
    *("0", "1", "9999999", "10000000000", "1700000000000", "000001700000000000"[-15:]),
    *("2023-11-14", "2023-11-14T22:13", "2023-11-14 22:13", "2023-11-14T22:13Z", "2023-11-14T22:13:20"),
    *("2023-11-14T22:13:20Z", "2023-11-14T22:13:20.5Z", "2023-11-14T22:13:20.123Z", "2023-11-14T22:13:20.123456789Z"),
    *("2023-11-14T22:13:20.0009", "2023-11-14T23:13:20+01", "2023-11-14T23:13:20+0100", "2023-11-14T23:13:20+01:00"),
    *("2023-11-15T03:43:20.5+05:30", "2023-11-14T10:13:20-12", "2023-11-14T23:13+01:00", "2023-11-14T23:59:59.999Z"),
    *("1970-01-01", "1970-01-01T00:00:00.001Z", "2000-02-29", "2024-02-29T12:00Z"),
)
REFUSED: tuple[Word, ...] = (
    *("yesterday", "-1", "+1", "1.5", "1e12", "0x10", " 1", "1 ", "nan", "1700000000000ms"),
    *(
        "10000000",
        "20231114",
        "100000000",
        "1700000000",
        "9999999999",
        "1700000000.5",
        "1700000000000000",
        "1700000000000000000",
    ),
    *("999999999999999", "9999-12-31", "2999-01-01T00:00:00Z"),
    *("2023-11", "2023-11-14T", "2023-11-14T22", "2023-11-14T22:13:", "2023-11-14T22:13:20.", "2023-1-1"),
    *("2023-11-14t22:13:20z", "2023-11-14T22:13:20 Z", "2023-11-14Z", "2023-11-14+01:00", "20231114T221320Z"),
    *("2023-00-14", "2023-13-14", "2023-11-00", "2023-11-31", "2023-02-29", "1900-02-29", "2023-11-14T24:00"),
    *("2023-11-14T22:60", "2023-11-14T22:13:60", "2023-11-14T22:13:20+24", "2023-11-14T22:13:20+01:60"),
    *("2023-11-14T22:13:20+1", "2023-11-14T22:13:20+010", "1969-12-31", "1970-01-01T00:00:00+01:00"),
    *("2023-11-14T22:13:20\n", "é", b"\xff", "x" * 100),
)
DECLARED = ("f", "float", "i", "int", "often", "count(999999d)")

CASES = [
    case(
        "what is taken, and the ms since 1970 that it means",
        schema(*DECLARED),
        *(upsert("f", (f"n{number}", "1"), time=text) for number, text in enumerate(TAKEN)),
        clocked(
            get_batch("?metadata f", *(f"n{number}" for number in range(len(TAKEN)))),
            *((number, 2) for number in range(len(TAKEN))),
        ),
    ),
    case(
        "what is refused, for the rows of a call",
        schema(*DECLARED),
        *(upsert("f", ("ann", "1"), time=text) for text in REFUSED),
        look("EXISTS", "user:ann:features", "all_users"),
    ),
    case(
        "what is refused, for one row",
        schema(*DECLARED),
        upsert("@event_time f", *(("ann", text, "1") for text in REFUSED)),
        look("EXISTS", "user:ann:features", "all_users"),
    ),
    case(
        "the same rule for every script",
        schema(*DECLARED),
        upsert("f", ("ann", "1")),
        *(
            step
            for text in ("", "1700000000", "yesterday", "9999-12-31", "2023-11-14T22:13Z")
            for step in (
                increment("ann", "f", "0", time=text),
                *([record("", ("ann",), time=text)] if text else []),
                record("@event_time", ("ann", text), time=T),
            )
        ),
        delete("ann", "1700000000"),
        delete("ann", "yesterday"),
        delete("ann", "9999-12-31"),
        delete("ann", "2023-11-14T22:13Z"),
    ),
    case(
        "how far ahead of the clock an event time may be, the schema says",
        schema(*DECLARED),
        upsert("f", ("ann", "1"), time=T * 2),
        schema("@max_ahead", str(NEVER)),
        upsert("f", ("ann", "1"), time=T * 2),
        upsert("f", ("ann", "1"), time="2100-01-01"),
        upsert("f", ("ann", "1"), time="999999999999999"),
        clocked(get_batch("?metadata f", "ann"), (0, 2), least=0),
        schema("@max_ahead", ""),
        upsert("f", ("bob", "1"), time=T * 2),
        schema("@max_ahead", "0"),
        upsert("f", ("bob", "1"), time=T),
        call("upsert_features", keys("bob"), "", "1", "f", "bob", "2"),
    ),
]
