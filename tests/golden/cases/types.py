"""Types: which texts are taken, what is stored, what comes back."""

from golden.declaring import Case, call, case, floats, get, get_batch, keys, look, schema, store, upsert

INTS = ("0", "1", "-1", "127", "128", "255", "256", "65535", "65536", "2147483647", "2147483648",
        "4294967295", "4294967296", "9007199254740991", "9007199254740992", "9007199254740993",
        "9223372036854775807", "-32", "-33", "-128", "-129", "-32768", "-32769", "-2147483648",
        "-2147483649", "-9007199254740991", "-9007199254740992", "-9007199254740993",
        "-9223372036854775808")  # fmt: skip
NO_INTS = ("", "-0", "01", "+1", "1.0", "1e3", " 1", "1 ", "0x10", "1_000", "abc", "-", "1\x00", "٣",
           "9223372036854775808", "-9223372036854775809", "99999999999999999999", "5" * 80)  # fmt: skip
FLOATS = ("0", "-0", "-0.0", "1", "-1", "0.1", "-0.1", "0.30000000000000004", "5.", "5.0", "1e3", "1E3",
          "1e+3", "1e-3", "2147483647", "2147483648", "4294967295", "4294967295.5", "4294967296",
          "-2147483648", "-2147483649", "1e15", "9007199254740993", "1e16", "1e22", "1e300",
          "1.7976931348623157e308", "-1.7976931348623157e308", "2.2250738585072014e-308", "5e-324",
          "-5e-324", "1e-400", "123456789.12345679")  # fmt: skip
NO_FLOATS = ("", "+5", "007", ".5", "-.5", "0x10", "nan", "NaN", "inf", "Infinity", "-inf", "1e309", "-1e309", " 12",
             "12 ", "1,5", "1e", "--1", "1.2.3", "5\x00", "5\n", "true")  # fmt: skip
STRINGS = ("", "00123", "1e5", "true", "é", "日本語", "😀", "\x00", "a\nb\tc", '"quoted"', "nil", "@row", "x" * 31,
           "x" * 32, "y" * 255, "z" * 256, "a\u0301")  # fmt: skip
NO_STRINGS = (b"\x80", b"\xc0\xaf", b"\xc3", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
              b"abc\xff", b"\xff\xff", b"\xfe\xff")  # fmt: skip
NO_BOOLS = ("", "True", "TRUE", "yes", "t", "2", "-1", "1.0", " true")
NAN, INF = float("nan"), float("inf")


def taken(kind: str, texts: tuple[str, ...]) -> Case:
    """Write each text, and read it by name and by layout."""
    ids = [f"n{number}" for number in range(len(texts))]
    return case(
        f"{kind}: what is taken",
        schema("value", kind),
        upsert("value", *zip(ids, texts, strict=True)),
        get_batch("value", *ids),
        get_batch("", *ids),
        *(look("HGET", f"user:{each}:features", "value") for each in ids),
    )


def refused(kind: str, texts: tuple[str | bytes, ...]) -> Case:
    """Try to write each text; and have something else store it, which reads as nil."""
    ids = [f"n{number}" for number in range(len(texts))]
    return case(
        f"{kind}: what is refused, and reads as nil where something else has stored it",
        schema("value", kind, "other", "int"),
        upsert("value other", *((each, text, "7") for each, text in zip(ids, texts, strict=True))),
        store("SADD", "all_users", *ids),
        *(
            store("HSET", f"user:{each}:features", "value", text, "other", "7")
            for each, text in zip(ids, texts, strict=True)
        ),
        get_batch("value other", *ids),
        get_batch("", *ids),
    )


CASES = [
    taken("int", INTS),
    refused("int", NO_INTS),
    taken("float", FLOATS),
    refused("float", NO_FLOATS),
    taken("bool", ("true", "1", "false", "0")),
    refused("bool", NO_BOOLS),
    taken("string", STRINGS),
    refused("string", NO_STRINGS),
    case(
        "every scalar type in one row, in the order of the names, or as declared",
        schema("f", "float", "i", "int", "b", "bool", "s", "string"),
        upsert("f i b s", ("ann", "0.1", "-7", "true", "00123"), ("bob", "5", "0", "0", "")),
        get("ann", "s", "b", "i", "f"),
        get("ann", "f", "f"),
        get("ann"),
        get("bob"),
    ),
    case(
        "features that are missing are nil",
        schema("f", "float", "i", "int", "b", "bool", "s", "string", "v", "float32[1]"),
        upsert("s", ("ann", "x")),
        get("ann", "f", "i", "b", "s", "v"),
        get("ann"),
    ),
    case(
        "fields that the schema does not declare are never read",
        schema("f", "float"),
        upsert("f", ("ann", "1.5")),
        store("HSET", "user:ann:features", "other", "5"),
        get("ann", "other"),
        get("ann"),
    ),
    case(
        "vectors come back as the bytes that were sent",
        schema("one", "float32[1]", "three", "float32[3]", "many", "float32[64]", "name", "string"),
        upsert(
            "one three many name",
            ("ann", floats(0.5), floats(1, -0.0, 3.4028234663852886e38), floats(*range(64)), "x"),
            ("bob", floats(1e-45), floats(0, 0, 0), floats(*[-0.25] * 64), "y"),
        ),
        get("ann", "one", "name", "three", "many"),
        get("bob", "name", "one", "three", "one"),
        get("ann"),
        get_batch("three one", "ann", "nobody", "bob"),
        get_batch("name three", "ann", "bob"),
        look("HGET", "user:ann:features", "three"),
    ),
    case(
        "vectors: what is refused, and reads as nil where something else has stored it",
        schema("v", "float32[2]", "name", "string"),
        upsert(
            "v name",
            *(
                (f"n{number}", each, "x")
                for number, each in enumerate(
                    (b"", b"\x00", floats(1), floats(1, 2, 3), floats(NAN, 1), floats(1, INF), floats(-INF, 1))
                )
            ),
            ("fine", floats(1, 2), "x"),
        ),
        store("SADD", "all_users", "n0"),
        store("HSET", "user:n0:features", "v", floats(1, NAN), "name", "x"),
        get("n0", "v", "name"),
        get("fine", "v", "name"),
    ),
    case(
        "a vector that is always read is in the row",
        schema("id", "int", "v", "float32[2]", "w", "float32[1]", "s", "string", "@always:v", "yes"),
        upsert("id v w s", ("ann", "1", floats(0.5, -2), floats(1), "x")),
        upsert("id s", ("bob", "2", "y")),
        get("ann"),
        get("bob"),
        get_batch("", "ann", "bob", "nobody"),
        get("ann", "w", "v"),
    ),
    case(
        "a text that is no UTF-8, stored by something else, spoils no other feature",
        schema("s", "string", "i", "int"),
        upsert("s i", ("ann", "x", "1")),
        call("repack_rows", keys("ann"), "ann"),
        store("HSET", "user:ann:features", "s", b"\xc3("),
        get("ann", "s", "i"),
    ),
]
