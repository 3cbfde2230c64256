"""What each handler of the app does, by the handler's name. A test fails where a handler is not here, or is gone."""

from collections.abc import Mapping
from typing import Any

from featurestore.api.bodies import NDJSON_TYPES
from featurestore.api.feast import OnlineRequest, PushRequest, WriteRequest
from featurestore.api.formats import ARROW, JSON, MSGPACK
from featurestore.api.inspection import MOST_SAMPLED, MOST_STORED
from featurestore.api.openapi.answers import (
    Alive,
    Entity,
    Health,
    HeldEntities,
    Incremented,
    Links,
    OnlineAnswer,
    Outcome,
    QueryAnswer,
    Recorded,
    SampleAnswer,
    Schema,
    StoredAnswer,
    Written,
)
from featurestore.api.openapi.operations import BINARY, Answer, Body, Operation, Parameter, lines_of
from featurestore.api.preference import READ_FROM
from featurestore.api.read_requests import BatchRequest, QueryRequest
from featurestore.api.writes import IngestRow, PostRequest, PutRequest

_JSON = JSON.media_type
_SPAN = {"type": "string", "pattern": "^[0-9]{1,13}(ms|s|m|h|d)?$", "examples": ["10m"]}
_NAME = {"type": "string", "minLength": 1}

PARAMETERS = {
    each.name: each
    for each in (
        Parameter(
            "id", "path", {"type": "string", "minLength": 1, "maxLength": 256},
            "The id: any text of up to 256 bytes in UTF-8, percent-encoded.",
        ),
        Parameter("entity", "path", _NAME, "The name of an entity that has a schema."),
        Parameter("features", "query", {"type": "array", "items": _NAME, "minItems": 1}, "The features wanted; all of "
                  "the packed row if left out.", is_list=True),
        Parameter("service", "query", _NAME, "Instead of `features`: the service whose features are wanted."),
        Parameter("metadata", "query", {"type": "boolean"}, "Whether to answer with times and statuses, too."),
        Parameter("max_age", "query", _SPAN, "A span of time: older values are null."),
        Parameter(READ_FROM, "header", {"type": "string", "enum": ["primary"]}, "Read from primaries, which see every "
                  "write that was answered before, whatever the server is set to."),
        Parameter("mode", "query", {"type": "string", "enum": ["newest", "overwrite"], "default": "newest"},
                  "`overwrite` also writes values that are older than the stored ones."),
        Parameter("name", "path", _NAME, "The name of a file of the page."),
        Parameter("v", "query", {"type": "string"}, "The file's digest: caches may keep what has it for good."),
        Parameter("count", "query", {"type": "integer", "minimum": 1, "maximum": MOST_SAMPLED}, "How many ids."),
    )
}  # fmt: skip
"""Every parameter, by its name."""

STORED_IDS = "stored_ids"
PARAMETERS[STORED_IDS] = Parameter(
    "id", "query", {"type": "array", "items": PARAMETERS["id"].schema, "minItems": 1, "maxItems": MOST_STORED},
    "The ids, each as `id=`.",
)  # fmt: skip

HEADERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "Retry-After": ({"type": "integer"}, "Seconds after which to ask again."),
    "WWW-Authenticate": ({"type": "string"}, "How to authenticate."),
    "Allow": ({"type": "string"}, "The methods that there are."),
    "Vary": ({"type": "string"}, "The format depends on `Accept`."),
    "Location": ({"type": "string"}, "Where it is."),
    "ETag": ({"type": "string"}, "Identifies this content; send it back as `If-None-Match`."),
}
"""Header fields of answers: schema and meaning."""

TAGS = {
    "reads": "Features of one entity, of many, and of several entities side by side.",
    "writes": "Writing needs an API key that may write: one of FEATURESTORE_WRITE_KEYS, or of FEATURESTORE_KEYS_FILE.",
    "schema": "The declared features.",
    "feast": "What Feast's `remote` online store expects; a feature view is an entity of that name.",
    "operation": "Health and metrics.",
    "ids": "GETs of the ids that are names of paths, too. They cannot be written under these paths.",
    "pages": "This document, and pages for people.",
}
"""Groups of operations, in the order shown."""

_READ = (*("features", "service", "metadata", "max_age"), READ_FROM)
_ONE = {_JSON: Entity, MSGPACK.media_type: Entity}
_MANY = {_JSON: list[Entity], MSGPACK.media_type: list[Entity], ARROW.media_type: BINARY}
_ROWS = {_JSON: QueryAnswer, MSGPACK.media_type: QueryAnswer, ARROW.media_type: BINARY}
_PARAMETRIC = {422: ""}
_TEXT = {"type": "string"}
_HTML = {"text/html": _TEXT}
_FEAST_DONE = {200: Answer("Every row is written.", {_JSON: {"type": "null"}})}
_UNCHANGED = Answer("The content has the ETag of `If-None-Match`.", headers=("ETag",))
_HEALTHY = {
    200: Answer("Features can be served.", {_JSON: Health}),
    503: Answer("Features cannot be served, for the reason in the answer.", {_JSON: Health}),
}
_READ_NOTE = "With `Accept: application/msgpack` as msgpack."
_COLUMNS_NOTE = (
    "With `Accept: application/msgpack` as msgpack, and with `application/vnd.apache.arrow.stream` as columns of "
    "Apache Arrow, where the server has pyarrow."
)

OPERATIONS: Mapping[str, Operation] = {
    "EntityReader.on_get": Operation(
        "getFeatures", "reads", "Read the features of one entity",
        {200: Answer("The features.", _ONE, ("Vary",))},
        f"All features of the packed row, or those of `features` or `service`. {_READ_NOTE}",
        _READ, refusals={404: ""},
    ),
    "BatchResource.on_post": Operation(
        "getBatch", "reads", "Read the features of many entities",
        {200: Answer("An entry for each id, in the order asked, duplicates included.", _MANY, ("Vary",))},
        "In one round trip to Redis. `ids` may also be called by the id's name and an s, such as `item_ids`, and has "
        f"at most FEATURESTORE_MAX_BATCH ids. {_COLUMNS_NOTE}",
        (READ_FROM,),
        Body({_JSON: BatchRequest}, {"ids": "user_ids"}, ("features", "service")),
    ),
    "BatchResource.on_post_query": Operation(
        "queryFeatures", "reads", "Read features of several entities side by side",
        {200: Answer("A row of values for each row of ids.", _ROWS, ("Vary",))},
        f"In one round trip to Redis. {_COLUMNS_NOTE}",
        (READ_FROM,),
        Body({_JSON: QueryRequest}, either=("features", "service"), needs_one=True),
        {404: ""},
    ),
    "EntityWriter.on_put": Operation(
        "putFeatures", "writes", "Write some features of one entity",
        {200: Answer("What became of the row, and what is stored now.", {_JSON: Written})},
        "Features that are not named stay. A value that is not of its feature's type is refused, and then "
        "nothing is written.",
        body=Body({_JSON: PutRequest}),
        refusals={409: "Newer values are stored for all of these features, or a later deletion, or the ttl is over."},
        needs="write",
    ),
    "EntityWriter.on_post": Operation(
        "postToFeatures", "writes", "Add to counters, or count an event in sliding windows",
        {200: Answer("The counters' values, or what became of the event.", {_JSON: (Incremented, Recorded)})},
        "An increment that is sent twice counts twice; an event that has an `event_id` counts once.",
        body=Body({_JSON: PostRequest}, either=("incr", "event"), needs_one=True),
        refusals={409: "It was deleted at a later time, has expired since, or the event is out of every window."},
        needs="write",
    ),
    "EntityWriter.on_delete": Operation(
        "deleteEntity", "writes", "Remove one entity",
        {204: Answer("It is removed. Late events do not bring it back.")},
        refusals={404: "", **_PARAMETRIC},
        needs="write",
    ),
    "Ingest.on_post": Operation(
        "ingestRows", "writes", "Write many rows",
        {200: Answer("An outcome for each line or row, in the same order.", {NDJSON_TYPES[0]: lines_of(Outcome)})},
        "A bad row is rejected with a reason, a row older than the stored values is skipped, and the others are "
        "written. Rows are lines of NDJSON, or a stream of Apache Arrow where the server has pyarrow. The body may be "
        "gzip, with `Content-Encoding: gzip`. In a line `id` may also be called by its name, such as `item_id`.",
        ("mode",),
        Body({**dict.fromkeys(NDJSON_TYPES[:2], lines_of(IngestRow)), _JSON: IngestRow, ARROW.media_type: BINARY},
             {"id": "user_id"}, is_required=False),
        needs="write",
    ),
    "SchemaResource.on_get": Operation(
        "getSchema", "schema", "Read the schema",
        {200: Answer("The declared features, and all options.", {_JSON: Schema})},
    ),
    "FeastResource.on_post_online": Operation(
        "feastGetOnlineFeatures", "feast", "Read features as Feast's client does",
        {200: Answer("A result for each join key and each feature.", {_JSON: OnlineAnswer})},
        parameters=(READ_FROM,), body=Body({_JSON: OnlineRequest}), refusals={404: ""}, is_feast=True,
    ),
    "FeastResource.on_post_write": Operation(
        "feastWriteToOnlineStore", "feast", "Write a table of a feature view", _FEAST_DONE,
        "If rows are rejected the others are written, and the answer is 422.",
        body=Body({_JSON: WriteRequest}), refusals={404: ""}, needs="write", is_feast=True,
    ),
    "FeastResource.on_post_push": Operation(
        "feastPush", "feast", "Write a table by its push source", _FEAST_DONE,
        "The push source has the name of its feature view. If rows are rejected the others are written, and the answer "
        "is 422.",
        body=Body({_JSON: PushRequest}), refusals={404: ""}, needs="write", is_feast=True,
    ),
    "FeastResource.on_post_materialize": Operation(
        "feastMaterialize", "feast", "Not offered: no offline store is here", {},
        refusals={501: ""}, asks_redis=False, is_feast=True,
    ),
    "HealthResource.on_get": Operation(
        "getHealth", "operation", "Tell whether features can be served, with all servers", _HEALTHY, asks_redis=False
    ),
    "HealthResource.on_get_ready": Operation(
        "getReadiness", "operation", "Tell whether features can be served", _HEALTHY, asks_redis=False
    ),
    "HealthResource.on_get_live": Operation(
        "getLiveness", "operation", "Tell that the process takes requests",
        {200: Answer("It does.", {_JSON: Alive})}, "It does not depend on Redis.", asks_redis=False,
    ),
    "MetricsResource.on_get": Operation(
        "getMetrics", "operation", "Read the metrics of all workers",
        {200: Answer("Metrics for Prometheus.", {"text/plain": _TEXT, "application/openmetrics-text": _TEXT})},
        asks_redis=False,
    ),
    "EntitiesResource.on_get": Operation(
        "listEntities", "schema", "List the entities that Redis holds",
        {200: Answer("Each entity with its version, features and ids.", {_JSON: HeldEntities})},
    ),
    "SampleResource.on_get": Operation(
        "sampleIds", "schema", "Pick known ids at random",
        {200: Answer("Some ids, each once.", {_JSON: SampleAnswer})},
        "Ids that are no text are left out.", ("count", READ_FROM),
    ),
    "StoredResource.on_get": Operation(
        "getStored", "schema", "Look at what Redis holds of ids",
        {200: Answer("The state of each id's packed row, its event times and its texts.", {_JSON: StoredAnswer})},
        "For people who look for what is wrong; reads of features answer what is served.", (STORED_IDS, READ_FROM),
    ),
    "UiResource.on_get": Operation(
        "getUi", "pages", "Look at features, the schema and the server in a browser",
        {200: Answer("The page.", _HTML, ("ETag",)), 304: _UNCHANGED}, asks_redis=False,
    ),
    "UiResource.on_get_file": Operation(
        "getUiFile", "pages", "Read a file of that page",
        {200: Answer("The file.", {"text/javascript": BINARY, "text/css": BINARY, "text/html": BINARY}, ("ETag",)),
         304: _UNCHANGED, 308: Answer("`/ui/` is `/ui`.", headers=("Location",))},
        refusals={404: "There is no such file."}, asks_redis=False,
    ),
    "RootResource.on_get": Operation(
        "getLinks", "pages", "Tell what there is", {200: Answer("Links.", {_JSON: Links, **_HTML}, ("Vary",))},
        asks_redis=False,
    ),
    "DocumentResource.on_get": Operation(
        "getOpenapi", "pages", "Read this document",
        {200: Answer("OpenAPI 3.1.", {_JSON: {"type": "object"}}, ("ETag",)), 304: _UNCHANGED}, asks_redis=False,
    ),
    "DocsResource.on_get": Operation(
        "getDocs", "pages", "Read this document as a page",
        {200: Answer("The page.", _HTML, ("ETag",)), 304: _UNCHANGED},
        asks_redis=False,
    ),
    "DocsResource.on_get_file": Operation(
        "getDocsFile", "pages", "Read a file of the page",
        {200: Answer("The file.", {"text/javascript": BINARY, "text/css": BINARY}, ("ETag",)), 304: _UNCHANGED,
         308: Answer("`/docs/` is `/docs`.", headers=("Location",))},
        refusals={404: "There is no such file."}, asks_redis=False,
    ),
}  # fmt: skip
"""Name of the handler → what it does."""
