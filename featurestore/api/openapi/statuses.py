"""Statuses of problems: what each means, and which codes go with it, by the table that the server answers by."""

import falcon

from featurestore import errors
from featurestore.api import problems
from featurestore.errors import FeatureStoreError

BY_THE_SERVER = (400, 408, 413, 414, 431, 500, 503)
"""What any request may be answered with, whatever it asks for."""

MEANINGS = {
    400: "Malformed HTTP or JSON, or a parameter that is no value of its type.",
    401: "The API key is missing.",
    403: "The API key may not do this.",
    404: "An id or an entity that is not known.",
    405: "Writing over HTTP is off, or the method is wrong.",
    406: "`Accept` has nothing that there is.",
    408: "The request did not arrive in time.",
    409: "Newer values are stored.",
    413: "The body is too large.",
    414: "The target is too long.",
    415: "A type or an encoding of the body that is not taken.",
    422: "A wrong shape, value or parameter, or an undeclared feature.",
    431: "A header field is too long, or there are too many.",
    500: "The server has failed; its log says why.",
    501: "Not offered here.",
    503: "Redis is down, empty or full, or more is asked than can be done in time.",
    504: "Redis is too slow, or whether a write took place is unknown.",
}
"""Status → what it means."""

BY_NEED = {"write": (401, 403, 405)}
"""What an operation needs an API key for → what who has none is answered with."""

HEADERS = {401: ("WWW-Authenticate",), 405: ("Allow",), 503: ("Retry-After",)}
"""Status → header fields that its answers have."""


def codes() -> dict[str, type[FeatureStoreError]]:
    """Return every code that a problem may have, and the exception that it stands for."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, FeatureStoreError)]
    found: dict[str, type[FeatureStoreError]] = {}
    for kind in kinds:
        if kind.code is not None and "code" in vars(kind):
            found[kind.code] = kind
    return found


def codes_with(status: int) -> list[str]:
    """Return the codes of problems with this status."""
    return [code for code, kind in codes().items() if problems.status_of_kind(kind).startswith(str(status))]


def meaning(status: int) -> str:
    """Return what a status means, with its codes."""
    found = codes_with(status)
    return f"{MEANINGS[status]} `code`: {', '.join(f'`{code}`' for code in found)}." if found else MEANINGS[status]


def component(status: int) -> str:
    """Return the name of the response in the document, such as `NotFound`."""
    _, *words = falcon.code_to_http_status(status).replace("-", " ").split()
    return "".join(map(str.capitalize, words))


def code_schema() -> dict[str, object]:
    """Return the schema of `code`: each value with what it means, by the exceptions' own words."""
    told = [f"- `{code}`: {(kind.__doc__ or '').partition(chr(10))[0]}" for code, kind in codes().items()]
    return {
        "type": "string",
        "enum": list(codes()),
        "description": "What is wrong, for programs.\n\n" + "\n".join(told),
    }
