"""A response of the server, and the exception that its status stands for."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from featurestore.errors import (
    BY_CODE,
    AccessDeniedError,
    BadArgumentsError,
    DeadlineExceededError,
    FeatureStoreError,
    OverloadedError,
    UnavailableError,
    UnconfirmedWriteError,
    UnknownIdError,
)
from featurestore.store.results import UnconfirmedRows

T = TypeVar("T")


class _Problem(msgspec.Struct):
    title: str
    detail: str = ""
    code: str | None = None
    written: int = 0
    skipped: int = 0
    rejected: int = 0
    unconfirmed: int | None = None


_problem = msgspec.json.Decoder(_Problem)


class Response(msgspec.Struct, frozen=True):
    """A whole response.

    Attributes:
        status: The status code.
        body: The body.
        media_type: The body's type, with its parameters.
        request_id: The request's id, where the server told it.
    """

    status: int
    body: bytes
    media_type: str = ""
    request_id: str | None = None

    def decode(self, decoder: "msgspec.json.Decoder[T]") -> T:
        """Return what the body holds.

        Raises:
            FeatureStoreError: No feature server answers like that.
        """
        try:
            return decoder.decode(self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self.unforeseen(error) from error

    def unforeseen(self, error: object) -> FeatureStoreError:
        """Return the exception that says what is wrong with the body."""
        return FeatureStoreError(f"this is no answer of a feature server: {error}: {self.body[:80]!r}")


def response_of(found: Any, body: bytes) -> Response:
    """Return a response of httpx's, whose body was read."""
    fields = found.headers
    return Response(found.status_code, body, fields.get("content-type", ""), fields.get("x-request-id"))


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


def error_of(response: Response) -> FeatureStoreError:
    """Return the exception that stands for an error response, with its detail as the text and the request's id."""
    error = _error_of(response)
    error.request_id = response.request_id
    return error


def _error_of(response: Response) -> FeatureStoreError:
    problem = _problem_of(response)
    detail = problem.detail or problem.title if problem else repr(response.body[:80])
    kind = (BY_CODE.get(problem.code) if problem else None) or _BY_STATUS.get(response.status)
    if problem and kind is UnconfirmedWriteError:
        return UnconfirmedWriteError(detail, _counted(problem))
    return FeatureStoreError(f"the server answered {response.status}: {detail}") if kind is None else kind(detail)


def _counted(problem: _Problem) -> UnconfirmedRows | None:
    """Return the counts of a write of rows; None where it was none."""
    if problem.unconfirmed is None:
        return None
    return UnconfirmedRows(problem.written, problem.skipped, problem.rejected, problem.unconfirmed)


def check(response: Response) -> None:
    """Raise the exception that an error response stands for; return where it is none."""
    if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        raise error_of(response)


def tells_of_no_such_entity(response: Response) -> bool:
    """Return whether the id is unknown. Other 404s mean an entity without a schema, or a URL of another server."""
    problem = _problem_of(response) if response.status == HTTPStatus.NOT_FOUND else None
    return problem is not None and problem.code == UnknownIdError.code


def _problem_of(response: Response) -> _Problem | None:
    try:
        return _problem.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
