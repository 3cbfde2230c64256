"""What gunicorn's master does beside gunicorn: the embedded server, warnings, and the terminal's end.

Imports neither redis nor asyncio, which workers patch for gevent before they use them.
"""

import contextlib
import logging
import os
import signal
import sys
from typing import Any, NoReturn

from featurestore.children import tie_to
from featurestore.embedded import embedded_url
from featurestore.errors import ConfigurationError, FeatureStoreError
from featurestore.native import advice
from featurestore.settings import Settings, unknown_variables

_logger = logging.getLogger("featurestore")


class _State:
    """What the master knows between its hooks."""

    failed = False
    survives_hangups = False


def log_as_gunicorn_does() -> None:
    """Have the package's messages go where gunicorn's go."""
    ours, gunicorns = logging.getLogger("featurestore"), logging.getLogger("gunicorn.error")
    ours.handlers, ours.propagate = gunicorns.handlers, not gunicorns.handlers
    ours.setLevel(gunicorns.level)


def prepare(server: Any) -> None:
    """Warn of what is amiss, and start the embedded server where no Redis is named: workers only use it.

    Args:
        server: gunicorn's arbiter, before it listens.
    """
    log_as_gunicorn_does()
    _State.survives_hangups = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # as nohup sets it
    for warning in (*unknown_variables(), advice()):
        if warning:
            _logger.warning(warning)
    settings = Settings.from_environment()
    if settings.url is not None:
        if not _is_usable(settings.url):
            _leave(server, 2)
        return
    try:
        url = embedded_url(settings.data_dir, _end_master)
    except FeatureStoreError as error:
        _logger.error("%s", error)  # noqa: TRY400 - no bug of ours
        _leave(server, 2 if isinstance(error, ConfigurationError) else 1)
    _logger.info("embedded server at %s", url)


def heed_the_terminal(server: Any) -> None:
    """Have SIGHUP, which a closing terminal sends, stop a server that was started from a terminal.

    Without a terminal it goes on meaning what gunicorn says: reload. So it does under `nohup`.
    """
    if _State.survives_hangups or not has_terminal():
        return
    signal.signal(signal.SIGHUP, lambda _number, frame: server.signal(signal.SIGTERM, frame))


def tie_worker(worker: Any) -> None:
    """End a worker with its master, at once, and leave it to the master what a SIGHUP to the whole group means.

    gunicorn's own sync worker looks after its master only every 15 seconds.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    tie_to(worker.ppid)


def tell_failure(_server: Any) -> None:
    """End the master with code 1 where the embedded server is lost, once gunicorn has stopped its workers."""
    if _State.failed:
        sys.exit(1)


def _end_master(_error: FeatureStoreError) -> None:
    _State.failed = True
    os.kill(os.getpid(), signal.SIGTERM)


def _is_usable(url: str) -> bool:
    """Return whether redis-py can use a URL, told by a process of its own, since the master must not import redis.

    Workers would each tell it with a traceback, and gunicorn another one.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):  # whatever else happens is the workers' to meet
            from featurestore.transport.dial import open_pool  # noqa: PLC0415

            try:
                open_pool(url, timeout=1, connect_timeout=1, max_connections=1)
            except ConfigurationError as error:
                _logger.error("%s", error)  # noqa: TRY400 - no bug of ours
                os._exit(2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _leave(server: Any, code: int) -> NoReturn:
    if server.pidfile is not None:
        server.pidfile.unlink()
    sys.exit(code)


def has_terminal() -> bool:
    """Return whether this process has a terminal; one that was closed does not count."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
