"""Errors as `application/problem+json` (RFC 9457), and the one table from exceptions to statuses."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from time import monotonic
from typing import ClassVar

import falcon
import msgspec

from featurestore.api.slow import shown_route
from featurestore.contract.upsert_calls import UpsertResult
from featurestore.errors import (
    AccessDeniedError,
    BadArgumentsError,
    BadKeyError,
    BadReplyError,
    BadValueError,
    DeadlineExceededError,
    FeatureStoreError,
    ForbiddenError,
    InDoubtError,
    NoKeyError,
    NoSchemaError,
    OverloadedError,
    RateLimitedError,
    RedisError,
    SchemaChangedError,
    UnavailableError,
    UnconfirmedWriteError,
    UndeclaredFeatureError,
    UnknownEntityError,
    UnknownIdError,
    WriteRefusedError,
)
from featurestore.worker.interface import REFUSED, REQUEST_ID, Answer

_logger = logging.getLogger("featurestore")
_RETRY_AFTER_S = 1

MEDIA_PROBLEM = "application/problem+json"

_TOLD_EACH_S = 10.0
_MOST_TOLD = 100
_VARYING = re.compile(r"\b\d+(\.\d+)? (ms|s)\b|\bslot \d+")
"""What differs from one error to the next of the same kind, as in `next attempt in 15 ms`."""

_WHERE = re.compile(r" ?\((?:node|slot)[ s][^)]*\)")
_URL = re.compile(r"\b(?:redis|rediss|unix)(?:\+\w+)?://(?!:PASSWORD@|HOST:PORT)[^\s;)]*[^\s,;):.]")
_SOCKET = re.compile(r"(?<!\S)/[^\s,;:)]*[^\s,;:).]")
_CERTIFIED = re.compile(r"(?<= is not valid for )'[^']*'")
_HOST = re.compile(
    r"(?<![\w.:])(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*):\d{1,5}\b(?!:[0-9A-Fa-f])"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b|(?<![\w.])(?:[0-9A-Fa-f]{0,4}:){2,}[0-9A-Fa-f:.]*[0-9A-Fa-f]"
)

UNFORESEEN = "the request failed inside the server; its log says why"


class RowRefusedError(FeatureStoreError):
    """The one row that a request writes was rejected."""

    def __init__(self, code: str, reason: str) -> None:
        """Take code and reason of a rejected row (lua/upsert_features.lua)."""
        super().__init__(reason)
        self.code = code


_STATUSES: tuple[tuple[type[FeatureStoreError], str], ...] = (
    # The first that fits counts.
    (NoKeyError, falcon.HTTP_UNAUTHORIZED),
    (BadKeyError, falcon.HTTP_UNAUTHORIZED),
    (ForbiddenError, falcon.HTTP_FORBIDDEN),
    (RateLimitedError, falcon.HTTP_TOO_MANY_REQUESTS),
    (DeadlineExceededError, falcon.HTTP_GATEWAY_TIMEOUT),
    (InDoubtError, falcon.HTTP_GATEWAY_TIMEOUT),
    (RedisError, falcon.HTTP_SERVICE_UNAVAILABLE),
    (UnknownEntityError, falcon.HTTP_NOT_FOUND),
    (UnknownIdError, falcon.HTTP_NOT_FOUND),
    (NoSchemaError, falcon.HTTP_SERVICE_UNAVAILABLE),
    (SchemaChangedError, falcon.HTTP_SERVICE_UNAVAILABLE),
    (UndeclaredFeatureError, falcon.HTTP_UNPROCESSABLE_ENTITY),
    (BadArgumentsError, falcon.HTTP_UNPROCESSABLE_ENTITY),
    (BadValueError, falcon.HTTP_UNPROCESSABLE_ENTITY),
    (RowRefusedError, falcon.HTTP_UNPROCESSABLE_ENTITY),
    (FeatureStoreError, falcon.HTTP_INTERNAL_SERVER_ERROR),
)


_KINDS: tuple[tuple[type[Exception], str], ...] = (
    # The first that fits counts.
    (DeadlineExceededError, "timeout"),
    (AccessDeniedError, "access_denied"),
    (WriteRefusedError, "write_refused"),
    (BadReplyError, "bad_reply"),
    (UnavailableError, "unavailable"),
    (RedisError, "redis_error"),
    (falcon.HTTPError, "http"),
)
"""What metrics call problems that have no code."""


_REFUSALS = (NoKeyError, BadKeyError, ForbiddenError, RateLimitedError)
"""What the server itself says of a key: there is no address in it."""


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of an error response; with counts of rows where a write is not confirmed."""

    title: str
    status: int
    detail: str | None = None
    code: str | None = None
    type: str = "about:blank"
    written: int | None = None
    skipped: int | None = None
    rejected: int | None = None
    unconfirmed: int | None = None
    request_id: str | None = None


def answer(
    status: str,
    detail: str,
    code: str | None = None,
    counts: Mapping[str, int] | None = None,
    *,
    request_id: str | None = None,
) -> Answer:
    """Return an error response; `code` and `counts` are for programs, and `request_id` finds it in the log."""
    number, _, title = status.partition(" ")
    headers = [("content-type", MEDIA_PROBLEM)]
    if status == falcon.HTTP_SERVICE_UNAVAILABLE:
        headers.append(("retry-after", str(_RETRY_AFTER_S)))
    problem = Problem(title, int(number), detail, code, request_id=_told(int(number), request_id))
    for name, rows in (counts or {}).items():
        setattr(problem, name, rows)
    return status, headers, msgspec.json.encode(problem)


def _told(status: int, request_id: str | None) -> str | None:
    """Return the id for the body of an error response: the log knows more only of what failed in the server."""
    return request_id if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None


def status_of(error: FeatureStoreError) -> str:
    """Return the status of the error response for an exception."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def answer_to(error: FeatureStoreError, request_id: str | None = None) -> Answer:
    """Return the error response for an exception."""
    status = status_of(error)
    counts: dict[str, int] = {}
    if isinstance(error, UnconfirmedWriteError) and isinstance(error.result, UpsertResult):
        found = error.result
        counts = {
            "written": found.written,
            "skipped": found.skipped,
            "rejected": len(found.rejected),
            "unconfirmed": found.unconfirmed,
        }
    text = str(error)
    if isinstance(error, RedisError) and not isinstance(error, _REFUSALS):
        text = _for_strangers(text)
    status, headers, body = answer(status, text, error.code, counts, request_id=request_id)
    return status, [*headers, *headers_of(error)], body


class _Told:
    """When the log was last told what strangers are not."""

    at: ClassVar[dict[str, float]] = {}


def without_addresses(text: str) -> str:
    """Return what an error of Redis says without the addresses in it: they are nothing to strangers."""
    for pattern in (_WHERE, _URL, _SOCKET, _CERTIFIED, _HOST):
        text = pattern.sub("" if pattern is _WHERE else "a server", text)
    return text


def _for_strangers(text: str) -> str:
    """Return what clients are told of an error; the log has all of it, now and then."""
    shown = without_addresses(text)
    if shown != text and _may_tell(_VARYING.sub("", text)):
        _logger.warning("%s", text)
    return shown


def _may_tell(text: str) -> bool:
    """Return whether the log may be told a text: each once in ten seconds, and no more than a hundred."""
    now, at = monotonic(), _Told.at
    if now - at.get(text, -_TOLD_EACH_S) < _TOLD_EACH_S:
        return False
    if len(at) >= _MOST_TOLD:
        _Told.at = at = {each: told for each, told in at.items() if now - told < _TOLD_EACH_S}
    if text not in at and len(at) >= _MOST_TOLD:
        return False
    at[text] = now
    return True


def headers_of(error: FeatureStoreError) -> list[tuple[str, str]]:
    """Return the header fields that an exception has beside its problem document: who may come, and when again."""
    if isinstance(error, NoKeyError):
        return [("www-authenticate", "Bearer")]
    if isinstance(error, BadKeyError):
        return [("www-authenticate", 'Bearer error="invalid_token"')]
    if not isinstance(error, RateLimitedError) or error.policy is None:
        return []
    wait, (name, burst, rate) = max(1, ceil(error.retry_s)), error.policy
    return [
        ("retry-after", str(wait)),
        ("ratelimit", f'"{name}";r=0;t={wait}'),
        ("ratelimit-policy", f'"{name}";q={burst};w={max(1, ceil(burst / rate))}'),
    ]


def kind_of(error: Exception) -> str:
    """Return what metrics call a problem: its code, or the kind of those that have none."""
    code: str | None = getattr(error, "code", None) if isinstance(error, FeatureStoreError) else None
    return code or next((name for kind, name in _KINDS if isinstance(error, kind)), "internal")


def status_of_kind(kind: type[FeatureStoreError]) -> str:
    """Return the status of the error responses for a kind of exception."""
    return next(status for each, status in _STATUSES if issubclass(kind, each))


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Make `app` answer every error, foreseen or not, with a problem document and without a stack trace."""
    app.set_error_serializer(_serialize)
    app.add_error_handler(FeatureStoreError, _answer_store_error)
    app.add_error_handler(Exception, _answer_unforeseen)


def _serialize(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    request.context.problem = getattr(request.context, "problem", None) or "http"
    detail = error.description
    if detail is None and isinstance(error, falcon.HTTPNotFound):
        detail = "no such resource"
    if detail is None and isinstance(error, falcon.HTTPMethodNotAllowed):
        detail = f"{request.method} is not allowed here"
    response.content_type = MEDIA_PROBLEM
    title = error.title.removeprefix(f"{error.status_code} ")  # Falcon's own titles start with the status
    response.data = msgspec.json.encode(
        Problem(title, error.status_code, detail, request_id=_told(error.status_code, request.env.get(REQUEST_ID)))
    )


def _answer_store_error(
    request: falcon.Request, response: falcon.Response, error: FeatureStoreError, _params: dict[str, str]
) -> None:
    request.context.problem = kind_of(error)
    if isinstance(error, OverloadedError) and not isinstance(error, RateLimitedError):
        request.env[REFUSED] = True
    response.status, headers, response.data = answer_to(error, request.env.get(REQUEST_ID))
    response.set_headers(headers)


def _answer_unforeseen(
    request: falcon.Request, _response: falcon.Response, error: Exception, _params: dict[str, str]
) -> None:
    if isinstance(error, falcon.HTTPError | falcon.HTTPStatus):
        raise error
    request.context.problem = "internal"
    fields = {"request_id": request.env[REQUEST_ID]} if REQUEST_ID in request.env else {}
    route = shown_route(request.uri_template)  # a path may have ids
    _logger.error("%s %s failed", request.method, route, exc_info=error, extra={"fields": fields})
    raise falcon.HTTPInternalServerError(description=UNFORESEEN)
