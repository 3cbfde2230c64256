"""Upserts: verdicts, rejected rows, marks."""

from vectors.declaring import FORGET, LEAVE, case, get, schema, upsert

CASES = [
    case(
        "rows that are rejected do not keep out the others",
        schema("f", "float", "i", "int"),
        upsert("?verdicts f i", ("ann", "1.5", "2"), ("bob", "x", "2"), ("", "1", "2")),
        get("ann", "f", "i"),
        upsert("?verdicts f i", ("ann", FORGET, LEAVE)),
        get("ann", "f", "i"),
        get("bob", "f"),
    ),
]
