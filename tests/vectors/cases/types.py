"""Types: what is stored and what comes back."""

from vectors.declaring import case, get, get_batch, schema, upsert

CASES = [
    case(
        "every scalar type comes back as its own",
        schema("f", "float", "i", "int", "b", "bool", "s", "string"),
        upsert("f i b s", ("ann", "0.1", "-7", "true", "00123"), ("bob", "5", "0", "0", "")),
        get("ann", "f", "i", "b", "s"),
        get("ann", "s", "f"),
        get("bob"),
        get_batch("f i b s", "ann", "nobody", "bob"),
    ),
]
