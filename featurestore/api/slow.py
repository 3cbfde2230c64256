"""The log of slow requests, which says where their time went."""

import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any

from featurestore.api.identity import trace_of
from featurestore.transport.timings import Timings
from featurestore.worker.interface import KEY, PLAIN_ROUTE, REQUEST_ID, ROUTE

_MOST_TOLD = 10
_WINDOW_S = 10.0
_MOST_IDS = 10
_MS = 1000

_logger = logging.getLogger("featurestore")


class SlowLog:
    """Logs slow requests: at most ten in ten seconds, since where one is slow all may be.

    Args:
        shows_ids: Whether to show the paths of requests.
    """

    def __init__(self, *, shows_ids: bool) -> None:
        self._shows_ids = shows_ids
        self._window, self._told, self._untold = -_WINDOW_S, 0, 0

    def tell(self, environ: dict[str, Any], timings: Timings, sent: float) -> None:
        """Log a request, whose response was sent at that time."""
        if not self._may_tell():
            return
        fields: dict[str, Any] = {"method": environ["REQUEST_METHOD"], "route": shown_route(environ.get(ROUTE))}
        number = timings.status[:3]
        fields["status"] = int(number) if number.isdigit() else number
        fields["duration_ms"] = _ms(sent - timings.began)
        fields.update(stages(timings, sent))
        known = {
            "request_id": environ.get(REQUEST_ID),
            "trace_id": trace_of(environ),
            "key": environ.get(KEY),
            "target": environ.get("RAW_URI") if self._shows_ids else None,
        }
        self._log(fields | {name: value for name, value in known.items() if value})

    def tell_gathered(self, ids: Sequence[str], began: float, sent: float, came: float) -> None:
        """Log a call of plain GETs.

        Args:
            ids: Whose features they ask for.
            began: When the first of them came.
            sent: When the call was sent.
            came: When its reply came. Now the responses are sent.
        """
        if not self._may_tell():
            return
        now = monotonic()
        fields: dict[str, Any] = {
            "method": "GET",
            "route": shown_route(PLAIN_ROUTE),
            "requests": len(ids),
            "duration_ms": _ms(now - began),
            "turn_ms": _ms(sent - began),
            "redis_ms": _ms(came - sent),
            "answer_ms": _ms(now - came),
        }
        if self._shows_ids:
            fields["ids"] = ",".join(ids[:_MOST_IDS])
        self._log(fields)

    def _may_tell(self) -> bool:
        """Return whether one more may be logged now; count it where not."""
        now = monotonic()
        if now - self._window >= _WINDOW_S:
            self._window, self._told = now, 0
        if self._told >= _MOST_TOLD:
            self._untold += 1
            return False
        self._told += 1
        return True

    def _log(self, fields: dict[str, Any]) -> None:
        if self._untold:
            fields["suppressed"], self._untold = self._untold, 0
        _logger.warning("slow request", extra={"fields": fields})


def stages(timings: Timings, sent: float) -> dict[str, float]:
    """Return how long each stage took, in ms.

    `prepare_ms` is until the first call to Redis, `turn_ms` the wait of big requests for their turn, `redis_ms` the
    round trips without it, `between_ms` what was done between them, `encode_ms` the rest until the app had its answer,
    and `send_ms` until the server had sent it. `calls` counts the calls of scripts and commands.
    """
    asked = timings.asked
    if not asked:
        return {"prepare_ms": _ms(timings.answered - timings.began), "send_ms": _ms(sent - timings.answered)}
    on_the_way = sum(each.ended - each.began for each in asked)
    return {
        "prepare_ms": _ms(asked[0].began - timings.began),
        "turn_ms": _ms(timings.turn_s),
        "redis_ms": _ms(max(0.0, on_the_way - timings.turn_s)),
        "between_ms": _ms(asked[-1].ended - asked[0].began - on_the_way),
        "encode_ms": _ms(timings.answered - asked[-1].ended),
        "send_ms": _ms(sent - timings.answered),
        "calls": sum(each.count for each in asked) + timings.further,
    }


def shown_route(route: str | None) -> str:
    """Return a route of the app as the metrics have it."""
    return "other" if route is None else route.replace("{entity_id:path}", "{id}")


def _ms(seconds: float) -> float:
    return round(seconds * _MS, 1)
