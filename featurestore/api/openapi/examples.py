"""Examples of requests with their answers. A test sends each to a server and compares the answer."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from featurestore.api.formats import JSON
from featurestore.api.problems import MEDIA_PROBLEM

_NDJSON = "application/x-ndjson"


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its answer.

    Attributes:
        operation: The id of the operation.
        name: The example's.
        summary: What it shows.
        target: Path and query.
        body: JSON, or text of another media type.
        sent_as: The media type of the body, where there is one.
        headers: Further header fields.
        status: The answer's.
        answer: Its body, as JSON or text; `age_ms` in it changes all the time.
        answered_as: Its media type.
    """

    operation: str
    name: str
    summary: str
    target: str
    body: Any = None
    sent_as: str = JSON.media_type
    headers: Mapping[str, str] = {}
    status: int = 200
    answer: Any = None
    answered_as: str = JSON.media_type

    def as_request(self) -> dict[str, Any]:
        """Return the example of the request's body."""
        return {"summary": self.summary, "value": self.body}

    def as_answer(self) -> dict[str, Any]:
        """Return the example of the answer's body."""
        return {"summary": self.summary, "value": self.answer}


def of(operation: str) -> list[Example]:
    """Return the examples of an operation."""
    return _by_operation().get(operation, [])


@cache
def _by_operation() -> dict[str, list[Example]]:
    found: dict[str, list[Example]] = {}
    for each in EXAMPLES:
        found.setdefault(each.operation, []).append(each)
    return found


def _problem(title: str, status: int, detail: str, code: str | None = None) -> dict[str, Any]:
    problem = {"title": title, "status": status, "detail": detail}
    return problem if code is None else {**problem, "code": code}


_UNDECLARED = _problem("Unprocessable Entity", 422, "shoe_size is not declared in the schema", "UNDECLARED")
_STALE = _problem(
    "Conflict", 409, "newer values are stored for all of these features, or a later deletion, or the ttl is over"
)

EXAMPLES: tuple[Example, ...] = (
    Example(
        operation="getFeatures", name="some", summary="Two features of a user",
        target="/features/ann?features=age,country",
        answer={"user_id": "ann", "features": {"age": 31.0, "country": "DE"}},
    ),
    Example(
        operation="getFeatures", name="described", summary="With times and statuses",
        target="/features/ann?features=age,device&metadata=true",
        answer={
            "user_id": "ann", "features": {"age": 31.0, "device": None},
            "metadata": {
                "event_time": 1767225600000, "age_ms": 28412077319, "statuses": {"age": "PRESENT", "device": "MISSING"},
            },
        },
    ),
    Example(
        operation="getFeatures", name="unknown", summary="A user that is not known", target="/features/nope",
        status=404, answer=_problem("Not Found", 404, "User nope not found", "UNKNOWN"), answered_as=MEDIA_PROBLEM,
    ),
    Example(
        operation="getFeatures", name="undeclared", summary="A feature that the schema does not declare",
        target="/features/ann?features=shoe_size", status=422, answer=_UNDECLARED, answered_as=MEDIA_PROBLEM,
    ),
    Example(
        operation="getFeaturesOfEntity", name="some", summary="A feature of an item",
        target="/entities/item/features/i9?features=price", answer={"item_id": "i9", "features": {"price": 9.5}},
    ),
    Example(
        operation="getFeaturesOfEntity", name="no_entity", summary="An entity that has no schema",
        target="/entities/shop/features/s1", status=404,
        answer=_problem("Not Found", 404, "no entity shop has a schema", "NOENTITY"), answered_as=MEDIA_PROBLEM,
    ),
    Example(
        operation="getBatch", name="some", summary="Two users, of whom one is not known", target="/features/batch",
        body={"user_ids": ["ann", "nope"], "features": ["age"]},
        answer=[{"user_id": "ann", "features": {"age": 31.0}}, {"user_id": "nope", "features": None}],
    ),
    Example(
        operation="getBatch", name="passed", summary="With a value of the request's own in place of the stored one",
        target="/features/batch", body={"ids": ["ann"], "features": ["age", "device"], "passed": {"device": "tablet"}},
        answer=[{"user_id": "ann", "features": {"age": 31.0, "device": "tablet"}}],
    ),
    Example(
        operation="getBatchOfEntity", name="some", summary="An item", target="/entities/item/features/batch",
        body={"ids": ["i9"]},
        answer=[{"item_id": "i9", "features": {"price": 9.5, "clicks_10m": 0}}],
    ),
    Example(
        operation="queryFeatures", name="some", summary="A user's and an item's features, side by side",
        target="/features/query",
        body={"rows": [{"user": "ann", "item": "i9"}], "features": ["user:age", "item:price"]},
        answer={"names": ["user:age", "item:price"], "rows": [[31.0, 9.5]]},
    ),
    Example(
        operation="queryFeatures", name="described", summary="With times and statuses", target="/features/query",
        body={"rows": [{"user": "nope"}], "features": ["age"], "metadata": True},
        answer={
            "names": ["age"], "rows": [[None]],
            "metadata": [{"entities": {"user": None}, "statuses": ["MISSING"]}],
        },
    ),
    Example(
        operation="putFeatures", name="some", summary="Write a feature", target="/features/ann",
        body={"features": {"age": 32.0}, "event_time": "2026-01-02T00:00:00Z"},
        answer={"user_id": "ann", "verdict": "applied", "features": {"age": 32.0}},
    ),
    Example(
        operation="putFeatures", name="stale", summary="An event that came late", target="/features/ann",
        body={"features": {"age": 30.0}, "event_time": "2025-01-01T00:00:00Z"}, status=409, answer=_STALE,
        answered_as=MEDIA_PROBLEM,
    ),
    Example(
        operation="putFeatures", name="wrong_type", summary="A value that is not of its feature's type",
        target="/features/ann", body={"features": {"age": "rubbish"}}, status=422,
        answer=_problem("Unprocessable Entity", 422, "age is float, not 'rubbish'", "BADTYPE"),
        answered_as=MEDIA_PROBLEM,
    ),
    Example(
        operation="putFeaturesOfEntity", name="new", summary="A new item", target="/entities/item/features/i10",
        body={"features": {"price": 3.25}},
        answer={"item_id": "i10", "verdict": "created", "features": {"price": 3.25}},
    ),
    Example(
        operation="postToFeatures", name="increment", summary="Add to a counter", target="/features/ann",
        body={"incr": {"n_logins": 1}}, answer={"user_id": "ann", "features": {"n_logins": 8}},
    ),
    Example(
        operation="postToFeaturesOfEntity", name="event", summary="Count an event in the sliding windows, once",
        target="/entities/item/features/i9", body={"event": {}, "event_id": "click-1"},
        answer={"item_id": "i9", "verdict": "applied"},
    ),
    Example(
        operation="deleteEntity", name="unknown", summary="A user that is not known", target="/features/nope",
        status=404, answer=_problem("Not Found", 404, "User nope not found", "UNKNOWN"), answered_as=MEDIA_PROBLEM,
    ),
    Example(
        operation="ingestRows", name="rows", summary="Two rows, of which one is bad", target="/features/ingest",
        body='{"user_id":"bob","features":{"age":23}}\n{"user_id":"eve","features":{"age":"young"}}\n', sent_as=_NDJSON,
        answer='{"line":1,"verdict":"created"}\n{"line":2,"verdict":"rejected","code":"BADTYPE","reason":'
        '"age is float, not \'young\'"}\n', answered_as=_NDJSON,
    ),
    Example(
        operation="ingestRowsOfEntity", name="rows", summary="A row", target="/entities/item/features/ingest",
        body='{"id":"i11","features":{"price":1.5}}\n', sent_as=_NDJSON, answer='{"line":1,"verdict":"created"}\n',
        answered_as=_NDJSON,
    ),
    Example(
        operation="getSchemaOfEntity", name="item", summary="The schema of items", target="/entities/item/schema",
        answer={
            "entity": "item", "version": 1, "features": {"price": "float", "clicks_10m": "count(10m)"},
            "services": {"ranking": ["price"]},
        },
    ),
    Example(
        operation="feastGetOnlineFeatures", name="some", summary="A feature of a user", target="/get-online-features",
        body={"entities": {"user_id": ["ann"]}, "features": ["user:age"]},
        answer={
            "results": [
                {"values": ["ann"], "statuses": ["PRESENT"], "event_timestamps": ["1970-01-01T00:00:00Z"]},
                {"values": [31.0], "statuses": ["PRESENT"], "event_timestamps": ["2026-01-01T00:00:00Z"]},
            ],
            "metadata": {"feature_names": ["user_id", "age"]},
        },
    ),
    Example(
        operation="feastWriteToOnlineStore", name="table", summary="A table of one row",
        target="/write-to-online-store",
        body={"feature_view_name": "user", "df": {"user_id": ["bob"], "age": [23.0]}}, answer=None,
    ),
    Example(
        operation="feastPush", name="no_source", summary="A push source that there is none of", target="/push",
        body={"push_source_name": "shop", "df": {"shop_id": ["s1"]}}, status=422,
        answer='{"module":"feast.errors","class":"PushSourceNotFoundException","message":"Unable to find push source '
        "'shop'.\"}",
    ),
    Example(
        operation="getReadiness", name="healthy", summary="Redis answers and has a schema", target="/readyz",
        answer={"status": "healthy"},
    ),
    Example(
        operation="getLiveness", name="alive", summary="It takes requests", target="/livez", answer={"status": "alive"},
    ),
)  # fmt: skip
"""All examples. They assume what `tests/http/test_openapi.py` writes before each of them."""
