"""Real servers for the tests; support/binaries.py has where they are from."""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


def wait_until(condition: Callable[[], object], *, timeout: float = 20.0, what: str = "the condition") -> None:
    """Return once `condition()` is true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        pause.wait(0.005)


_SIDE = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_SIDES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_FIRST_PORT = 10_000
"""Ports below are well known ones, or what people start by hand."""


def _own_ports() -> Iterator[int]:
    """Return ports, again and again, from below those that the kernel gives away: none is taken before it is used."""
    kernels_first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    own = range(_FIRST_PORT + _SIDE, kernels_first, _SIDES)
    first = random.Random().randrange(len(own))  # two runs of tests on one machine begin apart
    return itertools.cycle([*own[first:], *own[:first]])


_ports = _own_ports()


def free_port() -> int:
    """Return a loopback port that nothing uses, and that no run of tests beside this one is given meanwhile."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise LookupError("no port is free")


class Server:
    """A Redis-compatible server of the tests' own, on a loopback port and a unix socket."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        self.binary, self.folder, self.options = binary, folder, options
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        return f"unix://{self.folder}/s"

    def start(self) -> None:
        self._run(self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", f"{self.folder}/s",
                  "--dir", str(self.folder), "--save", "", *self.options)  # fmt: skip

    def _run(self, *words: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
        wait_until(lambda: self.answers() or process.poll() is not None, what=f"PONG from {self.binary}")
        if process.poll() is not None:
            told = (self.folder / "log").read_text(errors="replace").splitlines()[-10:]
            raise RuntimeError("\n".join([f"{self.binary} did not start:", *told]))

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        return False

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.kill()
            self.process.wait()
            self.process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """While this lasts, the server takes connections (the kernel does) but answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


EVERYDAY = ("valkey9", "redis62", "redis7")
"""The servers that tests of scripts run on, unless `make test-servers` names others."""

UNDER_TEST = tuple(os.environ.get("SERVERS_UNDER_TEST", "").split())
"""The servers that it names."""


def real(*names: str, ways: Sequence[str] = ("",)) -> tuple[str, ...]:
    """Return what a test is for: the names given or, where `make test-servers` names servers, each of these.

    Args:
        names: Servers, perhaps with one of `ways` behind their names.
        ways: How a server is called: `-resp3`, over that protocol; `-functions`, by FCALL, which Redis 6.2 has not.
    """
    each = tuple(f"{name}{way}" for name in UNDER_TEST for way in ways)
    return tuple(name for name in each if name != "redis62-functions") or names
