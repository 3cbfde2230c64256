"""Workers that lose patience sooner than tests do, or tell what they hold."""

from collections.abc import Callable

from featurestore.worker.requests import Request
from featurestore.worker.worker import Worker


class Impatient(Worker):
    request_timeout = 0.4
    send_timeout = 2.0


class Frank(Worker):
    request_timeout = 2.0

    def answer(self, request: Request, send: Callable[[bytes], None]) -> float | None:
        request.environ["probe.held"] = str(self.budget.held)
        return super().answer(request, send)
