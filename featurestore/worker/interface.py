"""What a worker and its app agree on beside WSGI. Types only: an app may import them without any server."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

Headers = list[tuple[str, str]]
"""Header fields, as WSGI has them."""

Answer = tuple[str, Headers, bytes]
"""Status and reason, header fields, and the whole body.

The status is not one that rules out a body. The worker adds Content-Length, Date and Connection.
"""

Respond = Callable[[Answer | None], object]
"""Takes the answer to a request, once. None gives the request back: the worker then makes a WSGI call of it."""

Begin = Callable[[str, Respond], bool]
"""`FastApp.begin`."""

StartResponse = Callable[..., Any]


@runtime_checkable
class FastApp(Protocol):
    """A WSGI app that can also answer plain GETs in the event loop, without a greenlet that waits for each.

    A plain GET has a path of plain characters, no query and no body, and the header fields of an earlier request on its
    connection.
    """

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer any request, as WSGI has it."""

    def begin(self, path: str, respond: Respond) -> bool:
        """Begin to answer a plain GET; `respond` is called in the hub, at once or later. This must not wait.

        Return False where the worker has to make a WSGI call of the request; `respond` is not called then.
        """

    def count_refusal(self, status: str) -> None:
        """Count a request that the worker has refused for want of memory, with this status."""
