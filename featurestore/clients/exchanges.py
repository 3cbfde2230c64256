"""The calls of the HTTP clients, without any I/O: the request to send, and how to read its response."""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from featurestore.clients.plain import numbers_body, row_body
from featurestore.clients.responses import Response, check, tells_of_no_such_entity
from featurestore.contract import arrow
from featurestore.contract.arguments import (
    EventTime,
    Rows,
    label_of,
    listed_rows,
    pair_of,
    plain_event_id,
    plain_id,
    plain_ids,
    plain_mapping,
    plain_max_age,
    plain_name,
    plain_names,
    plain_query_rows,
    plain_time,
    plain_values,
)
from featurestore.contract.words import EVENT_ID, to_time
from featurestore.errors import (
    BadArgumentsError,
    BadTimeError,
    BadValueError,
    FeatureStoreError,
    UndeclaredFeatureError,
    UnknownEntityError,
)
from featurestore.keys import ENTITY_NAME, MAX_ID_BYTES
from featurestore.schema.types import Status, Value
from featurestore.schema.values import shown
from featurestore.store.results import Description, Health, MaxAge, Outcome
from featurestore.store.table import FeatureTable, TableRow

T = TypeVar("T")

_JSON, _NDJSON = "application/json", "application/x-ndjson"
_ROUTES = frozenset({"batch", "ingest", "query"})
_encode = msgspec.json.encode


class Exchange(msgspec.Struct, Generic[T], frozen=True):
    """One call: the request to send, and what its response means.

    Attributes:
        method: The request's method.
        target: Its path and query, to be put behind the server's base URL.
        read: From the response to the call's result; raises the exception that an error status stands for.
        body: The request's body, where it has one.
        media_type: The body's type.
        accept: What the response may be, where that is not JSON alone.
        repeats: Whether it may be sent again after its connection broke. A read may. A write may have taken place.
        known: The result, where it is known without a request.
    """

    method: str
    target: str
    read: Callable[[Response], T]
    body: bytes | None = None
    media_type: str = _JSON
    accept: str | None = None
    repeats: bool = False
    known: Any = None

    @property
    def tries(self) -> int:
        """How often the request may be sent."""
        return 0 if self.known is not None else 2 if self.repeats else 1

    @property
    def headers(self) -> dict[str, str]:
        """The headers that describe the body, and what is accepted."""
        headers = {} if self.body is None else {"content-type": self.media_type}
        return headers if self.accept is None else {**headers, "accept": self.accept}


class _Entity(msgspec.Struct):
    features: TableRow


class _Metadata(msgspec.Struct):
    event_time: int | None
    age_ms: int | None
    statuses: dict[str, Status]


class _Described(msgspec.Struct):
    features: TableRow
    metadata: _Metadata | None = None

    @property
    def description(self) -> Description | None:
        if self.features is None:
            return None
        if self.metadata is None:
            raise FeatureStoreError("this is no answer of a feature server: there are no metadata")
        return Description(self.features, self.metadata.event_time, self.metadata.age_ms, self.metadata.statuses)


class _Table(msgspec.Struct):
    names: list[str]
    rows: list[list[Value | None]]


class _Verdict(msgspec.Struct):
    verdict: str


_entity = msgspec.json.Decoder(_Entity)
_entities = msgspec.json.Decoder(list[_Entity])
_described = msgspec.json.Decoder(_Described)
_all_described = msgspec.json.Decoder(list[_Described])
_table = msgspec.json.Decoder(_Table)
_verdict = msgspec.json.Decoder(_Verdict)
_outcome = msgspec.json.Decoder(Outcome)
_health = msgspec.json.Decoder(Health)


# Reading


class Wanted(msgspec.Struct, frozen=True):
    """What a read asks for, as plain values.

    Attributes:
        names: The features' names, each once; all of the packed row when left out.
        service: In their place, the features that the schema lists under this name.
        max_age_ms: How old values may be.
        metadata: Whether to tell the age and the status of the values.
        passed: Values that take the place of stored ones.
    """

    names: list[str] | None
    service: str | None
    max_age_ms: int | None
    metadata: bool
    passed: dict[str, Any] | None

    @classmethod
    def of(
        cls,
        features: Iterable[str] | None,
        service: str | None,
        max_age: MaxAge,
        *,
        metadata: bool = False,
        passed: Mapping[str, Any] | None = None,
    ) -> "Wanted":
        """Return what callers ask for.

        Raises:
            BadArgumentsError: An argument cannot be used.
            BadValueError: A passed value cannot be sent.
        """
        return cls(
            plain_names(features, service),
            None if service is None else plain_name(service, "a service's name"),
            plain_max_age(max_age),
            metadata,
            None if passed is None else plain_values(passed, "passed"),
        )

    def query(self) -> str:
        """Return it as the query of a URL."""
        names = self.names
        for name in names or ():
            if "," in name:  # which would be two names in a URL
                raise UndeclaredFeatureError(f"{shown(name)} is not declared in the schema")
        parts = [] if names is None else ["features=" + ",".join(quote(name, safe="") for name in names)]
        if self.service is not None:
            parts.append("service=" + quote(self.service, safe=""))
        if self.max_age_ms is not None:
            parts.append(f"max_age={self.max_age_ms}")
        if self.metadata:
            parts.append("metadata=true")
        return "?" + "&".join(parts) if parts else ""

    def body(self) -> dict[str, Any]:
        """Return it as the members of a JSON object."""
        members = {
            "features": self.names,
            "service": self.service,
            "max_age": None if self.max_age_ms is None else str(self.max_age_ms),
            "metadata": self.metadata or None,
            "passed": self.passed,
        }
        return {name: value for name, value in members.items() if value is not None}


def get(entity_id: str, wanted: Wanted, entity: str | None) -> Exchange[TableRow]:
    """Return the call that reads one entity's features; None for an unknown id."""
    return Exchange("GET", _path(entity_id, entity) + wanted.query(), _read_entity, repeats=True)


def describe(entity_id: str, wanted: Wanted, entity: str | None) -> Exchange[Description | None]:
    """Return the call that reads one entity's features with their age; None for an unknown id."""

    def read(response: Response) -> Description | None:
        if tells_of_no_such_entity(response):
            return None
        check(response)
        return response.decode(_described).description

    return Exchange("GET", _path(entity_id, entity) + wanted.query(), read, repeats=True)


def get_many(entity_ids: Iterable[str], wanted: Wanted, entity: str | None) -> Exchange[FeatureTable]:
    """Return the call that reads many entities' features."""
    ids, names = _checked_ids(entity_ids), wanted.names

    def read(response: Response) -> FeatureTable:
        check(response)
        if _is_arrow(response):
            return _columns(response, ids)
        return FeatureTable.of(ids, [row.features for row in response.decode(_entities)], names)

    known = None if ids else FeatureTable.of((), (), names)
    return Exchange("POST", *_batch(ids, wanted, entity, read), accept=_of_tables(), repeats=True, known=known)


def describe_many(entity_ids: Iterable[str], wanted: Wanted, entity: str | None) -> Exchange[list[Description | None]]:
    """Return the call that reads many entities' features with their age."""
    ids = _checked_ids(entity_ids)

    def read(response: Response) -> list[Description | None]:
        check(response)
        return [row.description for row in response.decode(_all_described)]

    return Exchange("POST", *_batch(ids, wanted, entity, read), repeats=True, known=None if ids else [])


def query(rows: Iterable[Mapping[str, str]], wanted: Wanted) -> Exchange[FeatureTable]:
    """Return the call that reads features of several entities side by side."""
    names = wanted.names
    if names is None and wanted.service is None:
        raise BadArgumentsError("name the features or a service")
    plain_rows = plain_query_rows(rows)
    labels = [label_of(row) for row in plain_rows]

    def read(response: Response) -> FeatureTable:
        check(response)
        if _is_arrow(response):
            return _columns(response, labels)
        table = response.decode(_table)
        try:
            return FeatureTable(labels, [dict(zip(table.names, row, strict=True)) for row in table.rows], table.names)
        except ValueError as error:
            raise FeatureStoreError(f"the server answered rows of another length than names: {error}") from error

    body = _encode({"rows": plain_rows, **wanted.body()})
    known = None if plain_rows else FeatureTable((), (), names or ())
    return Exchange("POST", "/features/query", read, body, accept=_of_tables(), repeats=True, known=known)


def _of_tables() -> str | None:
    """Return what answers that are tables may be: columns if pyarrow is there, else JSON. A server may lack it, too."""
    return f"{arrow.MEDIA_ARROW}, {_JSON};q=0.5" if arrow.is_usable() else None


def _is_arrow(response: Response) -> bool:
    return response.media_type.partition(";")[0].strip().lower() == arrow.MEDIA_ARROW


def _columns(response: Response, ids: list[str]) -> FeatureTable:
    """Return the table in a response of Arrow."""
    try:
        return FeatureTable.of_arrow(ids, arrow.read_batch(response.body))
    except (ValueError, BadArgumentsError) as error:
        raise response.unforeseen(error) from error


def _checked_ids(entity_ids: Iterable[str]) -> list[str]:
    """Return ids as a list of texts; errors as in `plain_id`. Nearly all are short and of ASCII."""
    return [
        entity_id if entity_id.isascii() and 0 < len(entity_id) <= MAX_ID_BYTES else plain_id(entity_id)
        for entity_id in plain_ids(entity_ids)
    ]


def _batch(
    ids: list[str], wanted: Wanted, entity: str | None, read: Callable[[Response], T]
) -> tuple[str, Callable[[Response], T], bytes]:
    return f"{_prefix(entity)}/features/batch", read, _encode({"ids": ids, **wanted.body()})


def _read_entity(response: Response) -> TableRow:
    if tells_of_no_such_entity(response):
        return None
    check(response)
    return response.decode(_entity).features


def health() -> Exchange[Health]:
    """Return the call that asks whether the server can serve."""

    def read(response: Response) -> Health:
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE and response.body.startswith(b'{"status"'):
            return response.decode(_health)
        check(response)
        return response.decode(_health)

    return Exchange("GET", "/health", read, repeats=True)


# Writing


def upsert(
    entity_id: str, features: Mapping[str, Any], event_time: EventTime, entity: str | None, *, overwrite: bool
) -> Exchange[str]:
    """Return the call that writes one entity's features."""
    body = row_body(features, event_time)
    if overwrite:
        body["mode"] = "overwrite"
    return Exchange("PUT", _writable_path(entity_id, entity), _read_verdict, _encode(body))


def upsert_many(rows: Rows, event_time: EventTime, entity: str | None, *, overwrite: bool) -> Exchange[list[Outcome]]:
    """Return the call that writes many entities' features."""
    to_time(plain_time(event_time))
    lines: list[bytes] = []
    outcomes: list[Outcome | None] = []
    for row in listed_rows(rows, "pairs of id and features"):
        line = _line(row, event_time)
        if isinstance(line, bytes):
            lines.append(line)
        outcomes.append(None if isinstance(line, bytes) else line)

    def read(response: Response) -> list[Outcome]:
        check(response)
        answered = [Response(response.status, line).decode(_outcome) for line in response.body.splitlines()]
        if len(answered) != len(lines):
            raise FeatureStoreError(f"the server answered {len(answered)} outcomes to {len(lines)} rows")
        replies = iter(answered)
        return [outcome or next(replies) for outcome in outcomes]

    target = f"{_prefix(entity)}/features/ingest{'?mode=overwrite' if overwrite else ''}"
    return Exchange("POST", target, read, b"\n".join(lines), _NDJSON, known=None if lines else outcomes)


def _line(row: Any, event_time: EventTime) -> bytes | Outcome:
    """Return the line that writes a row, or the outcome of a row that cannot be sent."""
    try:
        entity_id, features = pair_of(row)
        body = row_body(features, event_time)
    except (BadArgumentsError, BadTimeError, BadValueError) as error:
        return Outcome("rejected", error.code, str(error))
    try:
        return _encode({"id": plain_id(entity_id), **body})
    except BadArgumentsError as error:
        return Outcome("rejected", "BADID", str(error))


def increment(
    entity_id: str, amounts: Mapping[str, float], event_time: EventTime, entity: str | None
) -> Exchange[dict[str, Value | None] | None]:
    """Return the call that adds to counters; None where the entity was deleted later, or is too old."""
    body = numbers_body("incr", amounts, event_time)
    if not body["incr"]:
        raise BadArgumentsError("name at least one feature to add to")

    def read(response: Response) -> dict[str, Value | None] | None:
        if response.status == HTTPStatus.CONFLICT:
            return None
        check(response)
        return response.decode(_entity).features

    return Exchange("POST", _writable_path(entity_id, entity), read, _encode(body))


def record(
    entity_id: str, event: Mapping[str, float], event_time: EventTime, event_id: str | None, entity: str | None
) -> Exchange[str]:
    """Return the call that counts an event in an entity's sliding windows; with an id it may be sent again."""
    body = numbers_body("event", event, event_time)
    among = dict(plain_mapping(event, "an event")).get(EVENT_ID)
    identity = plain_event_id(event_id if among is None else among)
    if identity is not None:
        body["event_id"] = identity
    path = _writable_path(entity_id, entity)
    return Exchange("POST", path, _read_verdict, _encode(body), repeats=identity is not None)


def delete(entity_id: str, entity: str | None) -> Exchange[bool]:
    """Return the call that removes an entity; False when there was none."""

    def read(response: Response) -> bool:
        if tells_of_no_such_entity(response):
            return False
        check(response)
        return True

    return Exchange("DELETE", _writable_path(entity_id, entity), read)


def _read_verdict(response: Response) -> str:
    if response.status == HTTPStatus.CONFLICT:
        return "stale"
    check(response)
    return response.decode(_verdict).verdict


# Requests


def _quoted(text: str) -> str:
    # Dots too: whoever normalises paths on the way takes an id `..` for the folder above.
    return quote(text, safe="").replace(".", "%2E")


def _prefix(entity: str | None) -> str:
    if entity is None:
        return ""
    name = plain_name(entity, "an entity's name")
    if not ENTITY_NAME.fullmatch(name):
        raise UnknownEntityError(f"{shown(name)} is no entity's name")
    return f"/entities/{_quoted(name)}"


def _path(entity_id: str, entity: str | None) -> str:
    return f"{_prefix(entity)}/features/{_quoted(plain_id(entity_id))}"


def _writable_path(entity_id: str, entity: str | None) -> str:
    plain = plain_id(entity_id)
    if plain in _ROUTES:
        raise BadArgumentsError(f"the id {plain} can be written by upsert_many alone: its path is a route's")
    return _path(plain, entity)
