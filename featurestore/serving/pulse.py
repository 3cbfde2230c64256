"""What a worker does once a second beside its requests."""

import logging
from collections.abc import Callable
from typing import Any

_PERIOD_S = 1.0
_logger = logging.getLogger("featurestore")


def begin_pulse(worker: Any, beat: Callable[[], None]) -> None:
    """Call `beat` once a second for as long as the worker takes requests: in a thread, which gevent makes a greenlet.

    Args:
        worker: gunicorn's, after what it has gevent patch is patched.
        beat: What is to be done. What it raises is logged, the same only once in a row.
    """
    import threading  # noqa: PLC0415 - only now it is certain which kind of threads there are

    def run() -> None:
        told, pause = "", threading.Event()
        while worker.alive:
            try:
                beat()
                told = ""
            except Exception as error:
                if repr(error) != told:
                    _logger.exception("what is done once a second failed")
                told = repr(error)
            pause.wait(_PERIOD_S)

    threading.Thread(target=run, name="pulse", daemon=True).start()
