"""Gathered reads with traces: a span a request. Only where tracing is on, so that it costs nothing elsewhere."""

import logging
from typing import Any

from featurestore.api.gathered_reads import GatheredReads
from featurestore.api.gathering import Reads
from featurestore.contract.resp import Reply
from featurestore.transport.pipeline import Failure, Waiter
from featurestore.worker.interface import Answer

_logger = logging.getLogger("featurestore")


class TracedReads(GatheredReads):
    """Gathered reads that are traced once they are answered."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        assert self._observer.tracing is not None  # noqa: S101 - or this class would not be used
        self._tracing = self._observer.tracing
        self._found: list[Answer | None] = []

    def _settle(self, reads: Reads, waiter: Waiter, outcome: Reply | Failure, came: float) -> None:
        count, sent = len(reads.ids), waiter.deadline - waiter.allowed
        self._found.clear()
        super()._settle(reads, waiter, outcome, came)
        try:
            for answer in self._found:
                if answer is not None:  # else it is given back, and traced as a WSGI call
                    self._tracing.record_read(answer[0], reads.began, sent, came, count)
        except Exception:
            _logger.exception("reads that were answered could not be traced")

    def _answers(self, reads: Reads, outcome: Reply | Failure) -> list[Answer | None] | None:
        found = super()._answers(reads, outcome)
        self._found = list(found or ())
        return found
