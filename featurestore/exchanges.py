"""What the HTTP clients say and hear: each call as a request and the reading of its response, without any I/O."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from featurestore.errors import (
    AccessDeniedError,
    BadArgumentsError,
    BadTimeError,
    BadValueError,
    DeadlineExceededError,
    FeatureStoreError,
    NoSchemaError,
    OverloadedError,
    UnavailableError,
    UndeclaredFeatureError,
)
from featurestore.schema import Value
from featurestore.table import FeatureTable, TableRow
from featurestore.text import EVENT_TIME, encode_id, to_time

if TYPE_CHECKING:
    from featurestore.store import EventTime, Rows  # brings redis along, which callers over HTTP do without

T = TypeVar("T")

_JSON, _NDJSON = "application/json", "application/x-ndjson"
_ROUTES = frozenset({"batch", "ingest", "query"})
_encode = msgspec.json.encode


class Outcome(msgspec.Struct, frozen=True):
    """What became of one row of `upsert_many`.

    Attributes:
        verdict: `created`, `applied`, `partly stale`, `stale`, `duplicate` or `rejected`.
        code: For a rejected row BADID, BADTIME, BADTYPE, UNDECLARED …
        reason: For a rejected row what was wrong, with the value.
    """

    verdict: str
    code: str | None = None
    reason: str | None = None


class Health(msgspec.Struct, frozen=True):
    """Whether the server can serve.

    Attributes:
        status: `healthy` or `unhealthy`.
        reason: Why it is not healthy.
    """

    status: str
    reason: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """A response, whole.

    Attributes:
        status: The status code.
        body: The body.
    """

    status: int
    body: bytes

    def decode(self, decoder: "msgspec.json.Decoder[T]") -> T:
        """Return what the body holds.

        Raises:
            FeatureStoreError: It is something else than the server answers.
        """
        try:
            return decoder.decode(self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise FeatureStoreError(f"this is no answer of a feature server: {error}: {self.body[:80]!r}") from error


class Exchange(msgspec.Struct, Generic[T], frozen=True):
    """One call: the request to send, and what its response means.

    Attributes:
        method: The request's method.
        target: Its path and query, to be put behind the server's base URL.
        read: From the response to the call's result; raises the exception that an error status stands for.
        body: The request's body, where it has one.
        media_type: The body's type.
        repeats: Whether it may be sent again after its connection broke: a read may, a write may have taken place.
        known: The result, where nothing has to be asked.
    """

    method: str
    target: str
    read: Callable[[Answer], T]
    body: bytes | None = None
    media_type: str = _JSON
    repeats: bool = False
    known: Any = None

    @property
    def tries(self) -> int:
        """How often the request may be sent."""
        return 0 if self.known is not None else 2 if self.repeats else 1

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the request has on account of its body."""
        return {} if self.body is None else {"content-type": self.media_type}


class _Entity(msgspec.Struct):
    features: TableRow


class _Verdict(msgspec.Struct):
    verdict: str


class _Problem(msgspec.Struct):
    title: str
    detail: str = ""


_entity = msgspec.json.Decoder(_Entity)
_entities = msgspec.json.Decoder(list[_Entity])
_verdict = msgspec.json.Decoder(_Verdict)
_outcome = msgspec.json.Decoder(Outcome)
_health = msgspec.json.Decoder(Health)
_problem = msgspec.json.Decoder(_Problem)


# Reading


def get(entity_id: str, features: Sequence[str] | None, entity: str | None) -> Exchange[TableRow]:
    """Return the call that reads one entity's features; None for an unknown id."""
    names = _distinct(features)
    query = "" if names is None else "?features=" + ",".join(quote(name, safe="") for name in names)
    return Exchange("GET", _path(entity_id, entity) + query, _read_entity, repeats=True)


def get_many(entity_ids: Sequence[str], features: Sequence[str] | None, entity: str | None) -> Exchange[FeatureTable]:
    """Return the call that reads many entities' features."""
    ids, names = list(entity_ids), _distinct(features)
    for entity_id in ids:
        encode_id(entity_id)
    wanted = {"ids": ids} if names is None else {"ids": ids, "features": names}

    def read(answer: Answer) -> FeatureTable:
        _check(answer)
        return FeatureTable.of(ids, [row.features for row in answer.decode(_entities)], names)

    known = None if ids else FeatureTable.of((), (), names)
    return Exchange("POST", f"{_prefix(entity)}/features/batch", read, _encode(wanted), repeats=True, known=known)


def health() -> Exchange[Health]:
    """Return the call that asks whether the server can serve."""

    def read(answer: Answer) -> Health:
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and answer.body.startswith(b'{"status"'):
            return answer.decode(_health)
        _check(answer)
        return answer.decode(_health)

    return Exchange("GET", "/health", read, repeats=True)


# Writing


def upsert(
    entity_id: str, features: Mapping[str, Any], event_time: "EventTime", entity: str | None, *, overwrite: bool
) -> Exchange[str]:
    """Return the call that writes one entity's features."""
    body = _row(features, event_time)
    if overwrite:
        body["mode"] = "overwrite"

    def read(answer: Answer) -> str:
        if answer.status == HTTPStatus.CONFLICT:
            return "stale"
        _check(answer)
        return answer.decode(_verdict).verdict

    return Exchange("PUT", _writable_path(entity_id, entity), read, _encode(body))


def upsert_many(
    rows: "Rows", event_time: "EventTime", entity: str | None, *, overwrite: bool
) -> Exchange[list[Outcome]]:
    """Return the call that writes many entities' features."""
    to_time(event_time)
    lines: list[bytes] = []
    outcomes: list[Outcome | None] = []
    for entity_id, features in rows:
        line = _line(entity_id, features, event_time)
        if isinstance(line, bytes):
            lines.append(line)
        outcomes.append(None if isinstance(line, bytes) else line)

    def read(answer: Answer) -> list[Outcome]:
        _check(answer)
        answered = [Answer(answer.status, line).decode(_outcome) for line in answer.body.splitlines()]
        if len(answered) != len(lines):
            raise FeatureStoreError(f"the server answered {len(answered)} outcomes to {len(lines)} rows")
        replies = iter(answered)
        return [outcome or next(replies) for outcome in outcomes]

    target = f"{_prefix(entity)}/features/ingest{'?mode=overwrite' if overwrite else ''}"
    return Exchange("POST", target, read, b"\n".join(lines), _NDJSON, known=None if lines else outcomes)


def _line(entity_id: str, features: Mapping[str, Any], event_time: "EventTime") -> bytes | Outcome:
    """Return the line that writes a row, or the outcome of a row that cannot be sent."""
    try:
        encode_id(entity_id)
        return _encode({"id": entity_id, **_row(features, event_time)})
    except BadTimeError as error:
        return Outcome("rejected", "BADTIME", str(error))
    except BadValueError as error:
        return Outcome("rejected", "BADTYPE", str(error))
    except BadArgumentsError as error:
        return Outcome("rejected", "BADID", str(error))


def increment(
    entity_id: str, amounts: Mapping[str, float], event_time: "EventTime", entity: str | None
) -> Exchange[dict[str, Value | None] | None]:
    """Return the call that adds to counters; None where the entity was deleted at a later time."""
    row = _row(amounts, event_time)
    row["incr"] = row.pop("features")

    def read(answer: Answer) -> dict[str, Value | None] | None:
        if answer.status == HTTPStatus.CONFLICT:
            return None
        _check(answer)
        return answer.decode(_entity).features

    return Exchange("POST", _writable_path(entity_id, entity), read, _encode(row))


def delete(entity_id: str, entity: str | None) -> Exchange[bool]:
    """Return the call that removes an entity; False when there was none."""

    def read(answer: Answer) -> bool:
        if _tells_of_no_such_entity(answer):
            return False
        _check(answer)
        return True

    return Exchange("DELETE", _writable_path(entity_id, entity), read)


# Requests


def _distinct(features: Sequence[str] | None) -> list[str] | None:
    if features is None:
        return None
    if isinstance(features, str):
        raise BadArgumentsError(f"features is a list of names, not the text {features!r}")
    if not features:
        raise BadArgumentsError("name at least one feature, or leave the names out for all")
    return list(dict.fromkeys(features))


def _quoted(text: str | bytes) -> str:
    # Dots too: whoever normalises paths on the way takes an id `..` for the folder above.
    return quote(text, safe="").replace(".", "%2E")


def _prefix(entity: str | None) -> str:
    return "" if entity is None else f"/entities/{_quoted(entity)}"


def _path(entity_id: str, entity: str | None) -> str:
    return f"{_prefix(entity)}/features/{_quoted(encode_id(entity_id))}"


def _writable_path(entity_id: str, entity: str | None) -> str:
    if entity_id in _ROUTES:
        raise BadArgumentsError(f"the id {entity_id} can be written by upsert_many alone: its path is a route's")
    return _path(entity_id, entity)


def _row(features: Mapping[str, Any], event_time: "EventTime") -> dict[str, Any]:
    """Return features and event time as the body of a write has them; a time among the features takes precedence."""
    values = {name: _plain(name, value) for name, value in features.items() if name != EVENT_TIME}
    row: dict[str, Any] = {"features": values}
    time = event_time if features.get(EVENT_TIME) is None else features[EVENT_TIME]
    text = to_time(time)
    if text:
        row["event_time"] = text if isinstance(time, str) else int(text)
    return row


def _plain(name: str, value: Any) -> Any:
    """Return a value as JSON has it; numpy's scalars and arrays count as what they hold.

    Raises:
        BadValueError: JSON has nothing that stands for it. (Written as null, as encoders do, NaN would remove the
            feature.)
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(name, number) for number in value]
    fits = value is None or (
        math.isfinite(value)
        if isinstance(value, float)
        else -(2**63) <= value < 2**63
        if isinstance(value, int)
        else isinstance(value, str) and _is_unicode(value)
    )
    if not fits:
        raise BadValueError(f"{name} cannot be {ascii(value)[:64]}")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Responses

_BY_STATUS: Mapping[int, type[FeatureStoreError]] = {
    HTTPStatus.BAD_REQUEST: BadArgumentsError,
    HTTPStatus.UNAUTHORIZED: AccessDeniedError,
    HTTPStatus.FORBIDDEN: AccessDeniedError,
    HTTPStatus.METHOD_NOT_ALLOWED: AccessDeniedError,  # how a server answers on which writing is off
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: BadArgumentsError,
    HTTPStatus.UNPROCESSABLE_ENTITY: BadArgumentsError,
    HTTPStatus.TOO_MANY_REQUESTS: OverloadedError,
    HTTPStatus.BAD_GATEWAY: UnavailableError,
    HTTPStatus.SERVICE_UNAVAILABLE: UnavailableError,
    HTTPStatus.GATEWAY_TIMEOUT: DeadlineExceededError,
}
_BY_CODE: Mapping[str, type[FeatureStoreError]] = {
    "BADTIME": BadTimeError,
    "BADTYPE": BadValueError,
    "UNDECLARED": UndeclaredFeatureError,
}
_UNDECLARED = re.compile(r"\S+ is not declared in the schema|no service .* is declared in the schema")
_NO_ENTITY = re.compile(r"no entity .* has a schema", re.DOTALL)
_NO_RESOURCE = "no such resource"


def error_of(answer: Answer) -> FeatureStoreError:
    """Return the exception that stands for an error response, with its detail as the text."""
    problem = _problem_of(answer)
    detail = problem.detail or problem.title if problem else repr(answer.body[:80])
    if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        code, _, reason = detail.partition(" ")
        if code in _BY_CODE:
            return _BY_CODE[code](reason)
        if _UNDECLARED.fullmatch(detail):
            return UndeclaredFeatureError(detail)
    if answer.status == HTTPStatus.NOT_FOUND and _NO_ENTITY.fullmatch(detail):
        return NoSchemaError(detail)
    kind = _BY_STATUS.get(answer.status)
    return FeatureStoreError(f"the server answered {answer.status}: {detail}") if kind is None else kind(detail)


def _check(answer: Answer) -> None:
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        raise error_of(answer)


def _read_entity(answer: Answer) -> TableRow:
    if _tells_of_no_such_entity(answer):
        return None
    _check(answer)
    return answer.decode(_entity).features


def _tells_of_no_such_entity(answer: Answer) -> bool:
    """Tell an unknown id from the other 404s: an entity without a schema, a base URL that leads elsewhere."""
    problem = _problem_of(answer) if answer.status == HTTPStatus.NOT_FOUND else None
    return problem is not None and problem.detail != _NO_RESOURCE and not _NO_ENTITY.fullmatch(problem.detail)


def _problem_of(answer: Answer) -> _Problem | None:
    try:
        return _problem.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
