"""Errors as HTTP says them: `application/problem+json` (RFC 9457), with one table from exceptions to statuses."""

import logging
from collections.abc import Callable

import falcon
import msgspec

from featurestore.errors import (
    BadArgumentsError,
    DeadlineExceededError,
    FeatureStoreError,
    NoSchemaError,
    OverloadedError,
    RedisError,
    SchemaChangedError,
    UnavailableError,
    UndeclaredFeatureError,
    WriteRefusedError,
)

_logger = logging.getLogger("featurestore")
_RETRY_AFTER_S = 1

_STATUSES: tuple[tuple[type[FeatureStoreError], Callable[..., falcon.HTTPError]], ...] = (
    # The first that fits counts.
    (DeadlineExceededError, falcon.HTTPGatewayTimeout),
    (OverloadedError, falcon.HTTPServiceUnavailable),
    (UnavailableError, falcon.HTTPServiceUnavailable),
    (WriteRefusedError, falcon.HTTPServiceUnavailable),
    (RedisError, falcon.HTTPServiceUnavailable),
    (NoSchemaError, falcon.HTTPServiceUnavailable),
    (SchemaChangedError, falcon.HTTPServiceUnavailable),
    (UndeclaredFeatureError, falcon.HTTPUnprocessableEntity),
    (BadArgumentsError, falcon.HTTPUnprocessableEntity),
    (FeatureStoreError, falcon.HTTPInternalServerError),
)


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of an error response."""

    title: str
    status: int
    detail: str | None = None
    type: str = "about:blank"


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Make `app` answer every error, foreseen or not, with a problem document and without a stack trace."""
    app.set_error_serializer(_serialize)
    app.add_error_handler(FeatureStoreError, _answer_store_error)
    app.add_error_handler(Exception, _answer_unforeseen)


def _serialize(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    detail = error.description
    if detail is None and isinstance(error, falcon.HTTPNotFound):
        detail = "no such resource"
    if detail is None and isinstance(error, falcon.HTTPMethodNotAllowed):
        detail = f"{request.method} is not allowed here"
    response.content_type = "application/problem+json"
    title = error.title.removeprefix(f"{error.status_code} ")  # Falcon's own titles start with the status
    response.data = msgspec.json.encode(Problem(title, error.status_code, detail))


def _answer_store_error(
    _request: falcon.Request, _response: falcon.Response, error: FeatureStoreError, _params: dict[str, str]
) -> None:
    kind = next(status for exception, status in _STATUSES if isinstance(error, exception))
    if kind is falcon.HTTPServiceUnavailable:
        raise falcon.HTTPServiceUnavailable(description=str(error), retry_after=_RETRY_AFTER_S) from error
    raise kind(description=str(error)) from error


def _answer_unforeseen(
    request: falcon.Request, _response: falcon.Response, error: Exception, _params: dict[str, str]
) -> None:
    if isinstance(error, falcon.HTTPError | falcon.HTTPStatus):
        raise error
    _logger.error("%s %s failed", request.method, request.path, exc_info=error)
    raise falcon.HTTPInternalServerError(description="the request failed inside the server; its log says why")
