"""Errors: the exact words."""

from vectors.declaring import case, get, schema, upsert

CASES = [
    case("without a schema", get("ann", "f"), upsert("f", ("ann", "1"))),
    case(
        "a feature that is not declared",
        schema("f", "float"),
        upsert("f", ("ann", "1")),
        get("ann", "g"),
        upsert("g", ("ann", "1")),
    ),
]
