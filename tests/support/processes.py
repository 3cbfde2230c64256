"""Commands of ours as processes of their own, perhaps on a terminal, and what is left of them."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.servers import free_port, wait_until

SERVE = (sys.executable, "-m", "featurestore", "serve")
DEMO = (sys.executable, "-m", "featurestore", "demo", "--users", "2000")
GUNICORN = (sys.executable, "-m", "gunicorn", "-c", "python:featurestore.serving.gunicorn_settings")


def clean_environment(folder: Path) -> dict[str, str]:
    """An environment without settings but a place and a port of a test's own, and a log that people read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "FEATURESTORE_"))}
    place = {"FEATURESTORE_DATA_DIR": str(folder / "data"), "FEATURESTORE_BIND": f"127.0.0.1:{free_port()}"}
    return {**kept, **place, "FEATURESTORE_LOG_FORMAT": "text"}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def processes_of(environment: dict[str, str]) -> set[int]:
    """All processes that were started with this environment's data directory, and the servers that use it."""
    data = environment["FEATURESTORE_DATA_DIR"]
    started = {pid for pid in _pids("environ", f"FEATURESTORE_DATA_DIR={data}") if not _is_dead(pid)}
    return started | _pids("cmdline", f"valkey-server unixsocket:{data}/")  # its title overwrites its environment


def server_of(environment: dict[str, str]) -> int:
    """The embedded server's process."""
    (pid,) = _pids("cmdline", f"valkey-server unixsocket:{environment['FEATURESTORE_DATA_DIR']}/")
    return pid


def _pids(file: str, text: str) -> set[int]:
    paths = Path("/proc").glob(f"[0-9]*/{file}")
    return {int(path.parent.name) for path in paths if text.encode() in _read(path)}


def _is_dead(pid: int) -> bool:
    return b") Z " in _read(Path(f"/proc/{pid}/stat"))


class Started:
    """A command in a session of its own, whose output goes to a file; on a terminal of its own where `terminal` is set.

    Attributes:
        process: The command.
        terminal: The descriptor by which the terminal is held; closing it closes the terminal.
    """

    def __init__(self, command: tuple[str, ...], environment: dict[str, str], log: Path, *, terminal: bool) -> None:
        self.log, self.environment, self.terminal = log, environment, None
        self._inner: int | None = None
        if terminal:
            self.terminal, self._inner = os.openpty()
        take = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        log.unlink(missing_ok=True)  # what an earlier command still writes goes to the old file
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", take, *command] if terminal else command,
                env=environment, stdin=self._inner or subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        if self._inner is not None:
            os.close(self._inner)

    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, count: int = 1) -> None:
        wait_until(
            lambda: self.text().count(text) >= count or self.process.poll() is not None,
            timeout=60, what=f"{text!r} in {self.text()}",
        )  # fmt: skip
        assert self.text().count(text) >= count, self.text()

    def hang_up(self) -> None:
        """Do to its group what a terminal that closes does."""
        os.killpg(self.process.pid, signal.SIGHUP)


@contextlib.contextmanager
def started(
    command: tuple[str, ...], environment: dict[str, str], folder: Path, *, terminal: bool = False
) -> Iterator[Started]:
    """Run a command; afterwards, kill what is left of it."""
    running = Started(command, environment, folder / "output.log", terminal=terminal)
    try:
        yield running
    finally:
        for pid in processes_of(environment):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.process.wait(10)
        if running.terminal is not None:
            with contextlib.suppress(OSError):
                os.close(running.terminal)
