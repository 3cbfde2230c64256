"""What is known of each request but its answer: its id, and where its time went.

Plain GETs that are gathered come by here only if their call was slow, or in `traced_reads`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Protocol

from featurestore.api.identity import id_of
from featurestore.api.slow import SlowLog
from featurestore.transport.timings import Timings, noted
from featurestore.worker.interface import ID_FIELD, REQUEST_ID, Headers, StartResponse

App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class Tracing(Protocol):
    """What makes traces of requests."""

    def record(self, environ: dict[str, Any], timings: Timings, sent: float) -> None:
        """Make a trace of a request whose response was sent at that time."""

    def record_read(self, status: str, began: float, sent: float, came: float, count: int) -> None:
        """Make a trace of a plain GET that was answered in a call with others.

        Args:
            status: The status line of its answer.
            began: When the first of them came.
            sent: When the call was sent.
            came: When its reply came.
            count: How many reads the call had.
        """

    def start(self) -> None:
        """Get ready, in the process that serves."""

    def stop(self) -> None:
        """Send what is left."""


class Body(list[bytes]):
    """The pieces of a response. The server calls `close` once they are sent (PEP 3333).

    Args:
        pieces: The body.
        close: Called then.
    """

    __slots__ = ("close",)

    def __init__(self, pieces: Iterable[bytes], close: Callable[[], None]) -> None:
        super().__init__(pieces)
        self.close = close


class Observer:
    """Gives each request its id, and tells what became of it.

    Args:
        slow_ms: What takes longer is logged; 0 for nothing.
        shows_ids: Whether logs and traces may have the paths of requests.
        tracing: Makes traces.

    Attributes:
        slow_s: Seconds from which on a request is slow.
        slow: Where these are logged.
        tracing: As above.
    """

    def __init__(self, slow_ms: int = 0, *, shows_ids: bool = False, tracing: Tracing | None = None) -> None:
        self.slow_s = slow_ms / 1000 or inf
        self.slow = SlowLog(shows_ids=shows_ids)
        self.tracing = tracing
        self._times = slow_ms > 0 or tracing is not None

    def answer(self, app: App, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Have `app` answer a request; put the request's id on the response."""
        environ[REQUEST_ID] = identity = id_of(environ)
        timings = Timings() if self._times else None

        def start(status: str, headers: Headers, *error: Any) -> Any:
            if timings is not None:
                timings.status = status
            return start_response(status, [*headers, (ID_FIELD, identity)], *error)

        if timings is None:
            return app(environ, start)
        token = noted.set(timings)
        try:
            body = app(environ, start)
        except BaseException:
            timings.status, timings.answered = "500", monotonic()
            self._over(environ, timings)
            raise
        finally:
            noted.reset(token)
        timings.answered = monotonic()
        if isinstance(body, list):
            return Body(body, partial(self._over, environ, timings))
        self._over(environ, timings)
        return body

    def _over(self, environ: dict[str, Any], timings: Timings) -> None:
        """Take note that a response was sent."""
        sent = monotonic()
        if self.tracing is not None:
            self.tracing.record(environ, timings, sent)
        if sent - timings.began > self.slow_s:
            self.slow.tell(environ, timings, sent)
