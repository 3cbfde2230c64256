"""What a worker and its app agree on beyond WSGI. Types and one constant: an app can import them without any server."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

Headers = list[tuple[str, str]]
"""Header fields, as WSGI has them."""

Answer = tuple[str, Headers, bytes]
"""Status line, header fields, and the whole body.

The status must allow a body. The worker adds Content-Length, Date and Connection.
"""

Respond = Callable[[Answer | None], object]
"""Takes the answer to a request, once. None gives the request back: the worker then makes a WSGI call of it."""

Begin = Callable[[str, Respond], bool]
"""`FastApp.begin`."""

StartResponse = Callable[..., Any]

PLAIN_ACCEPTS: frozenset[str | None] = frozenset(
    {
        None,
        "*/*",
        "application/json",
        "application/json, */*",
        "application/json, application/*+json",
        "application/json, text/plain, */*",
    }
)
"""Values of `Accept`, None where the field is missing, that want JSON: those that clients send. The worker takes a GET
with any other value for one that is not plain, and the app looks at the value."""
BEGIN = "featurestore.begin"
"""Key of a WSGI environment that is there for the first plain GET of a connection.

An app that lets in some clients only puts there what is called in place of its `begin` for later GETs with exactly the
same header fields, or False if they are to be looked at anew: it has refused this one.
"""

REFUSED = "featurestore.refused"
"""Key of a WSGI environment in which an app tells that it refused the request because there are too many.

The worker then spreads what such clients send next, see `pacing.py`.
"""

NO_ROOM = ""
"""In a status line's place: a client waits to be taken, for want of descriptors or memory."""
REQUEST_ID = "featurestore.request_id"
"""Key of a WSGI environment in which an app tells the request's id."""

ID_FIELD = "x-request-id"
"""The header field that has a request's id, in requests and responses. An app puts it last."""

ROUTE = "featurestore.route"
"""Key of a WSGI environment in which an app tells the request's route, with names in place of what varies."""

KEY = "featurestore.key"
"""Key of a WSGI environment in which an app tells the name of the API key that a request came with."""

PLAIN_ROUTE = "/features/{entity_id:path}"
"""The route of the plain GETs that an app answers in the event loop."""


@runtime_checkable
class FastApp(Protocol):
    """A WSGI app that can also answer plain GETs in the event loop, so that no greenlet waits for each.

    A plain GET has a path of plain characters, perhaps a query of such, no body, and exactly the header fields of an
    earlier request on its connection, whose `Accept` is one of `PLAIN_ACCEPTS`.
    """

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer any request, as WSGI has it."""

    def begin(self, path: str, respond: Respond) -> bool:
        """Begin to answer a plain GET, without waiting. `respond` is called in the hub, at once or later.

        `path` has the query, if there is one.

        Return False if the worker is to make a WSGI call of the request; then `respond` is not called.
        """

    def count_refusal(self, status: str) -> None:
        """Count a request that the worker has refused, with this status line; `NO_ROOM` for a client not taken."""
