"""Starting and stopping the processes behind `featurestore serve` and `featurestore demo`."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from featurestore.access.keyring import Keyring
from featurestore.children import tied
from featurestore.embedded import EmbeddedServer
from featurestore.errors import FeatureStoreError
from featurestore.serving.probe import is_alive
from featurestore.settings import Settings
from featurestore.store.functions import check_server
from featurestore.transport.opening import check

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "python:featurestore.serving.gunicorn_settings"]
_START_TIMEOUT_S = 30.0
_EXTRA_STOP_S = 5.0
_LOOK_S = 0.02


def exit_on_signals() -> None:
    """Make SIGTERM, SIGINT and SIGHUP end this process in order, so that it stops its children.

    Shells start background jobs with SIGINT ignored; here it works for them too. SIGHUP stays ignored if it was, as
    under `nohup`: then the process is meant to outlive its terminal.
    """

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, leave)


def serve(settings: Settings) -> None:
    """Become gunicorn. Its master starts and watches the embedded server if no Redis is named.

    Raises:
        ConfigurationError: The Redis URL, the file of keys, or the embedded server's folder, cannot be used, or Redis
            is too old for functions.
    """
    check(settings.url or "unix:///embedded", settings)
    Keyring.of(settings)
    if settings.url:
        if settings.call == "functions":
            check_server(settings.url, settings.address_map or "")
    else:
        EmbeddedServer(settings.data_dir).prepare()
    os.execv(sys.executable, GUNICORN)  # noqa: S606 - our own interpreter


@contextlib.contextmanager
def running(command: list[str], environment: Mapping[str, str], patience: float) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of ours. On leaving, ask it to stop; kill it and its children after `patience` seconds.

    Args:
        command: The command. Linux ends it with this process, even if this process is killed.
        environment: Its whole environment.
        patience: Seconds that it may take to stop.
    """
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
        tied(command),
        env=environment,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops its children in order
    )
    try:
        yield process
    finally:
        deadline = time.monotonic() + patience + _EXTRA_STOP_S
        process.terminate()
        while _has_members(process) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _has_members(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the process or one of its children lives; children may outlive a killed parent by a moment."""
    process.poll()  # reaps it, or a zombie would count as alive
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_serving(gunicorn: subprocess.Popen[bytes], bind: str) -> None:
    """Return once the HTTP server answers.

    Raises:
        FeatureStoreError: The server has ended, or does not answer in time.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if gunicorn.poll() is not None:
            raise FeatureStoreError(f"the HTTP server did not start on {bind}; see its messages above")
        if is_alive(bind):
            return
        time.sleep(0.05)
    raise FeatureStoreError(f"the HTTP server does not answer on {bind}")
