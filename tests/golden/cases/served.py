"""log_served: what a service was served, in a stream, as far as the schema keeps it."""

import json
from typing import Any

from golden.declaring import Step, T, call, case, fails, look, schema, store

COLUMNS = '["f","float","i","int"]'
ROW = ("PP", b"\x92\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x07")
SET_UP = (
    schema("f", "float", "i", "int", "@service:risk", '["f","i"]', "@log:risk", '{"sample":0.5,"max_entries":1000}'),
)


def keep(*ids: str, service: str = "risk", stream: str = "user:risk:served", request: str = "r-1") -> Step:
    """Keep the same values for each id."""
    whose: list[Any] = [json.dumps({"user": [each, T]}) for each in ids]
    words = [word for each in whose for word in (request, each, *ROW)]
    return call("log_served", ["user:schema", stream], service, COLUMNS, "1", *words)


def declared_log(value: str) -> Step:
    """Declare what is kept of the service."""
    return schema("@log:risk", value)


CASES = [
    case(
        "each row is an entry",
        *SET_UP,
        keep("ann"),
        keep("ann", "bob", request=""),
        look("XLEN", "user:risk:served"),
        look("TTL", "user:risk:served"),
    ),
    case(
        "nothing is kept where the schema says nothing of the service",
        *SET_UP,
        keep("ann", service="other", stream="user:other:served"),
        declared_log(""),
        keep("ann"),
        look("EXISTS", "user:risk:served", "user:other:served"),
    ),
    case(
        "no more is kept than the schema says",
        *SET_UP,
        store("XADD", "user:risk:served", "1-0", "old", "x"),
        schema("@log:risk", '{"sample":1,"keep_ms":1000,"max_entries":1000000000}'),
        keep("ann"),
        look("XLEN", "user:risk:served"),
        look("EXISTS", "user:risk:served"),
    ),
    case(
        "keys and words that do not fit keep nothing",
        *SET_UP,
        keep(),
        keep("ann", stream="user:other:served"),
        keep("ann", stream="elsewhere"),
        call("log_served", ["user:schema"], "risk", COLUMNS, "1", "", "{}", *ROW),
        call("log_served", ["user:schema", "user:risk:served"], "risk", COLUMNS, "1", "", "{}", ROW[0]),
        call("log_served", ["user:schema", "user:risk:served"]),
        look("EXISTS", "user:risk:served"),
    ),
    case(
        "without a schema nothing is kept",
        keep("ann"),
        look("EXISTS", "user:risk:served"),
    ),
    case(
        "a key that holds no stream is left as it is",
        *SET_UP,
        store("SET", "user:risk:served", "mine"),
        fails(keep("ann"), "WRONGTYPE"),
        look("GET", "user:risk:served"),
    ),
    case(
        "a log is the service's: naming that takes it back, and there is none without it",
        *SET_UP,
        look("HGET", "user:schema", "@log:risk"),
        schema("@log:risk", '{"sample":1,"keep_ms":1000}', "@service:risk", '["f"]'),
        look("HGET", "user:schema", "@log:risk"),
        schema("@service:risk", '["f"]'),
        look("HEXISTS", "user:schema", "@log:risk"),
        schema("@log:other", '{"sample":1,"keep_ms":1000}'),
        schema("@service:risk", "", "@log:risk", '{"sample":1,"keep_ms":1000}'),
        *(declared_log(wrong) for wrong in ("x", "{}", '{"sample":1}', '{"sample":2,"keep_ms":1}',
                                            '{"sample":1,"keep_ms":0.5}', '{"sample":1,"keep_ms":1,"more":1}')),
        schema("@log:", '{"sample":1,"keep_ms":1000}'),
        schema("@log", '{"sample":1,"keep_ms":1000}'),
    ),
]  # fmt: skip
