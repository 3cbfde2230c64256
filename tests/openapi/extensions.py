"""How schemathesis makes, writes and reads bodies that are not JSON, and which names it knows."""

import json
from typing import Any

import msgpack
import pyarrow as pa
import schemathesis
from hypothesis import strategies

_ARROW = "application/vnd.apache.arrow.stream"
_FEATURES = {"user": ("age", "country", "n_logins"), "item": ("price", "clicks_10m", "embedding")}
_IDS = {"user": "user00001", "item": "i1"}
_LONGEST = 256


def _stream(ids: list[str], prices: list[float | None]) -> bytes:
    """Return rows of items as a stream of Arrow."""
    table = pa.table({"id": pa.array(ids, pa.utf8()), "price": pa.array(prices, pa.float64())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


_rows = strategies.lists(strategies.tuples(strategies.text(), strategies.none() | strategies.floats()), max_size=5)
schemathesis.openapi.media_type(
    _ARROW, _rows.map(lambda rows: _stream([each for each, _ in rows], [price for _, price in rows]))
)


@schemathesis.serializer("application/x-ndjson", "application/jsonl", _ARROW)
def write_as_it_is(_context: Any, value: Any) -> bytes:
    """Send text and bytes as they are, and anything else, which is no such body, as JSON."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode(errors="replace")


@schemathesis.deserializer("application/msgpack")
def read_msgpack(_context: Any, response: Any) -> Any:
    """Return what msgpack holds."""
    return msgpack.unpackb(response.content, strict_map_key=False)


# Names made at random are hardly ever those of entities, ids and features: about every other one is made one that is.


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return path parameters of what there is, in place of some that are valid."""
    if path_parameters and all(_is_text(path_parameters.get(name, "x")) for name in ("entity", "id")):
        if len(path_parameters.get("entity", "")) % 2:
            path_parameters["entity"] = "item"
        if len(path_parameters.get("id", "")) % 2:
            path_parameters["id"] = _IDS[_entity_of(context)]
    return path_parameters


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a query that names features that there are, in place of one that is valid."""
    if query and _names(query.get("features")):
        query["features"] = list(_FEATURES[_entity_of(context)][: len(query["features"])])
    return query


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Return a body that names features that there are, in place of one that is valid."""
    known = _FEATURES[_entity_of(context)]
    if isinstance(body, dict) and _names(body.get("features")):
        body["features"] = list(known[: len(body["features"])])
    for field in ("features", "incr", "event"):
        if isinstance(body, dict) and isinstance(body.get(field), dict) and len(body[field]) % 2:
            body[field] = dict(zip(known, body[field].values(), strict=False))
    return body


def _entity_of(context: Any) -> str:
    return "item" if context.operation.path.startswith("/entities/") else "user"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST


def _names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value)) and len(value) % 2 == 1
