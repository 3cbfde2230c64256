"""Starting and stopping the processes behind `featurestore serve` and `featurestore demo`."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from urllib.error import URLError
from urllib.request import urlopen

from featurestore.definition import read_definition
from featurestore.dialling import open_pool
from featurestore.embedded import EmbeddedServer
from featurestore.errors import FeatureStoreError
from featurestore.keys import Keys
from featurestore.settings import Settings
from featurestore.store import FeatureStore

_logger = logging.getLogger("featurestore")
_GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "python:featurestore.gunicorn_config"]
_START_TIMEOUT_S = 30.0
_EXTRA_STOP_S = 5.0


def exit_on_signals() -> None:
    """Make SIGTERM and SIGINT end this process in order, so that an embedded server is stopped with it.

    Shells start background jobs with SIGINT ignored, which would leave no way to stop them by it.
    """

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def serve(settings: Settings) -> int:
    """Run gunicorn until it ends; return its exit code. With a Redis of its own, this process becomes gunicorn."""
    if settings.url:
        open_pool(settings.url, timeout=1, connect_timeout=1, max_connections=1)  # a wrong URL is told here, once
        os.execv(sys.executable, _GUNICORN)  # noqa: S606 - our own interpreter
    with EmbeddedServer(settings.data_dir) as server:
        _logger.info("embedded server with its data in %s", server.data_dir)
        with _running(_GUNICORN, {"REDIS_URL": server.url}, settings.graceful_timeout_s) as gunicorn:
            return gunicorn.wait()


def demo(settings: Settings, users: int) -> int:
    """Apply the schema, ingest `users`, serve, and keep them fresh until stopped; return an exit code."""
    with contextlib.ExitStack() as stack:
        url = settings.url
        if url is None:
            server = stack.enter_context(EmbeddedServer(settings.data_dir))
            _logger.info("embedded server with its data in %s", server.data_dir)
            url = server.url
        definition = read_definition()
        with FeatureStore.connect(url, timeout=5.0, keys=Keys.of(definition.entity, definition.members)) as store:
            store.apply(definition)
        environment, patience = {"REDIS_URL": url}, settings.graceful_timeout_s
        simulate = [sys.executable, "-m", "featurestore", "simulate", "--users", str(users)]
        with _running([*simulate, "--once"], environment, patience) as load:
            if load.wait() != 0:
                return load.returncode
        gunicorn = stack.enter_context(_running(_GUNICORN, environment, patience))
        _wait_until_serving(gunicorn, settings.bind)
        _logger.info("try: curl http://%s/features/user00001", settings.bind)
        updates = stack.enter_context(_running([*simulate, "--no-load"], environment, patience))
        while gunicorn.poll() is None and updates.poll() is None:
            time.sleep(0.2)
        return gunicorn.poll() or updates.poll() or 0


@contextlib.contextmanager
def _running(command: list[str], environment: Mapping[str, str], patience: float) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of ours; on leaving, ask it to stop, and make it after `patience` seconds."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
        command,
        env={**os.environ, **environment},
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops its children in order
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience + _EXTRA_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_serving(gunicorn: subprocess.Popen[bytes], bind: str) -> None:
    if bind.startswith("unix:"):
        return
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if gunicorn.poll() is not None:
            raise FeatureStoreError(f"the HTTP server did not start on {bind}; see its messages above")
        with contextlib.suppress(URLError, OSError), urlopen(f"http://{bind}/livez", timeout=1):
            return
        time.sleep(0.05)
    raise FeatureStoreError(f"the HTTP server does not answer on {bind}")
