"""The calls of the HTTP clients, without any I/O: the request to send, and how to read its response. Here are reads."""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from featurestore.clients.responses import Response, check, tells_of_no_such_entity
from featurestore.contract import arrow
from featurestore.contract.arguments import (
    label_of,
    plain_id,
    plain_ids,
    plain_max_age,
    plain_name,
    plain_names,
    plain_query_rows,
    plain_read_from,
    plain_values,
)
from featurestore.errors import (
    BadArgumentsError,
    FeatureStoreError,
    UndeclaredFeatureError,
    UnknownEntityError,
)
from featurestore.keys import ENTITY_NAME, MAX_ID_BYTES
from featurestore.schema.types import Status, Value
from featurestore.schema.values import shown
from featurestore.store.results import Description, Health, MaxAge, ReadFrom
from featurestore.store.table import FeatureTable, TableRow

T = TypeVar("T")

_JSON = "application/json"
encode = msgspec.json.encode
"""A body as JSON."""


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
        read_from: `primary` where no replica is to answer.
    """

    method: str
    target: str
    read: Callable[[Response], T]
    body: bytes | None = None
    media_type: str = _JSON
    accept: str | None = None
    repeats: bool = False
    known: Any = None
    read_from: str | None = None

    @property
    def tries(self) -> int:
        """How often the request may be sent."""
        return 0 if self.known is not None else 2 if self.repeats else 1

    @property
    def headers(self) -> dict[str, str]:
        """The headers that describe the body, and what is accepted."""
        headers = {} if self.body is None else {"content-type": self.media_type}
        if self.read_from is not None:
            headers["featurestore-read-from"] = self.read_from
        return headers if self.accept is None else {**headers, "accept": self.accept}

    def preferring(self, read_from: ReadFrom) -> "Exchange[T]":
        """Return this call, answered by whom the caller prefers.

        Raises:
            BadArgumentsError: That is something else than `primary`.
        """
        return msgspec.structs.replace(self, read_from=read_from) if plain_read_from(read_from) else self


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


ENTITY = msgspec.json.Decoder(_Entity)
"""Decodes the features of one entity."""
_entities = msgspec.json.Decoder(list[_Entity])
_described = msgspec.json.Decoder(_Described)
_all_described = msgspec.json.Decoder(list[_Described])
_table = msgspec.json.Decoder(_Table)
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
    return Exchange("GET", path_of(entity_id, entity) + wanted.query(), _read_entity, repeats=True)


def describe(entity_id: str, wanted: Wanted, entity: str | None) -> Exchange[Description | None]:
    """Return the call that reads one entity's features with their age; None for an unknown id."""

    def read(response: Response) -> Description | None:
        if tells_of_no_such_entity(response):
            return None
        check(response)
        return response.decode(_described).description

    return Exchange("GET", path_of(entity_id, entity) + wanted.query(), read, repeats=True)


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

    body = encode({"rows": plain_rows, **wanted.body()})
    known = None if plain_rows else FeatureTable((), (), names or ())
    return Exchange("POST", "/features/query", read, body, accept=_of_tables(), repeats=True, known=known)


def _of_tables() -> str | None:
    """Return what answers that are tables may be: columns if pyarrow is there, else JSON. A server may lack it, too."""
    return f"{arrow.MEDIA_ARROW}, {_JSON};q=0.5" if arrow.is_there() else None


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
    return f"{prefix_of(entity)}/features/batch", read, encode({"ids": ids, **wanted.body()})


def _read_entity(response: Response) -> TableRow:
    if tells_of_no_such_entity(response):
        return None
    check(response)
    return response.decode(ENTITY).features


def health() -> Exchange[Health]:
    """Return the call that asks whether the server can serve."""

    def read(response: Response) -> Health:
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE and response.body.startswith(b'{"status"'):
            return response.decode(_health)
        check(response)
        return response.decode(_health)

    return Exchange("GET", "/health", read, repeats=True)


# Requests


def _quoted(text: str) -> str:
    # Dots too: whoever normalises paths on the way takes an id `..` for the folder above.
    return quote(text, safe="").replace(".", "%2E")


def prefix_of(entity: str | None) -> str:
    """Return what stands before `/features` in the paths of an entity."""
    if entity is None:
        return ""
    name = plain_name(entity, "an entity's name")
    if not ENTITY_NAME.fullmatch(name):
        raise UnknownEntityError(f"{shown(name)} is no entity's name")
    return f"/entities/{_quoted(name)}"


def path_of(entity_id: str, entity: str | None) -> str:
    """Return the path of an entity's features."""
    return f"{prefix_of(entity)}/features/{_quoted(plain_id(entity_id))}"
