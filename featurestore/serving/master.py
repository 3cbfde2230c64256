"""What gunicorn's master does for us: the embedded server, warnings, the end of the terminal.

Imports neither redis nor asyncio: workers have gevent patch those after the fork, before they use them.
"""

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from featurestore.access.keyring import Keyring
from featurestore.children import tie_to
from featurestore.embedded import embedded_url
from featurestore.errors import ConfigurationError, FeatureStoreError
from featurestore.native import advice
from featurestore.settings import Settings, may_have_replicas, unknown_variables

_logger = logging.getLogger("featurestore")


class _State:
    """What the master keeps from one hook to the next."""

    failed = False
    survives_hangups = False


def log_as_gunicorn_does() -> None:
    """Send the package's log messages where gunicorn's go."""
    ours, gunicorns = logging.getLogger("featurestore"), logging.getLogger("gunicorn.error")
    ours.handlers, ours.propagate = gunicorns.handlers, not gunicorns.handlers
    ours.setLevel(gunicorns.level)


def prepare(server: Any) -> None:
    """Warn of what is amiss, and start the embedded server if no Redis is named. Workers only use it.

    Args:
        server: gunicorn's arbiter, before it listens.
    """
    log_as_gunicorn_does()
    _State.survives_hangups = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # as nohup sets it
    for warning in (*unknown_variables(), advice()):
        if warning:
            _logger.warning(warning)
    settings = Settings.from_environment()
    try:
        Keyring.of(settings)  # which workers then remember, even if they are started while its file is broken
    except ConfigurationError as error:
        _logger.error("%s", error)  # noqa: TRY400 - no bug of ours
        _leave(server, 2)
    blocked = _blocked_socket(settings.bind)
    if blocked:
        _logger.error("%s", blocked)
        _leave(server, 2)
    if settings.read_from != "primary" and not may_have_replicas(settings.url):
        _logger.warning("FEATURESTORE_READ_FROM=%s has no effect: the server has no replicas", settings.read_from)
    if not _is_usable(settings.url or "unix:///embedded", settings):
        _leave(server, 2)
    if settings.url is not None:
        return
    try:
        url = embedded_url(settings.data_dir, _end_master)
    except FeatureStoreError as error:
        _logger.error("%s", error)  # noqa: TRY400 - no bug of ours
        _leave(server, 2 if isinstance(error, ConfigurationError) else 1)
    _logger.info("embedded server at %s", url)


def heed_the_terminal(server: Any) -> None:
    """Let SIGHUP, which a closing terminal sends, stop a server that was started from a terminal.

    Without a terminal, and under `nohup`, SIGHUP means what gunicorn says: reload.
    """
    if _State.survives_hangups or not has_terminal():
        return
    signal.signal(signal.SIGHUP, lambda _number, frame: server.signal(signal.SIGTERM, frame))


def tie_worker(worker: Any) -> None:
    """Let a worker end at once when its master ends, and ignore SIGHUP, which is the master's to handle.

    gunicorn's own sync worker checks on its master only every 15 seconds.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    tie_to(worker.ppid)


def tell_failure(_server: Any) -> None:
    """End the master with code 1 if the embedded server was lost. gunicorn has stopped the workers by then."""
    if _State.failed:
        sys.exit(1)


def _blocked_socket(bind: str) -> str:
    """Return what is wrong where something else stands in the place of a unix socket; gunicorn would fail over it."""
    path = Path(bind.removeprefix("unix:"))
    if not bind.startswith("unix:") or not path.exists() or path.is_socket():
        return ""
    return f"FEATURESTORE_BIND={bind}: {path} is there and no socket: remove it, or name another path"


def _end_master(_error: FeatureStoreError) -> None:
    _State.failed = True
    os.kill(os.getpid(), signal.SIGTERM)


def _is_usable(url: str, settings: Settings) -> bool:
    """Return whether workers can make a transport to a URL.

    A child process finds out, because the master must not import redis.

    Without this check every worker would log a traceback, and gunicorn another.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):  # workers will meet and report any other failure
            from featurestore.transport.opening import check  # noqa: PLC0415

            try:
                check(url, settings)
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
    """Return whether this process has a terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
