"""A real gunicorn with the worker, and HTTP said and read byte by byte."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.servers import free_port, wait_until
from support.tls import Certificate

APPS = Path(__file__).parent.parent / "worker"
GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"


class Gunicorn:
    def __init__(
        self,
        folder: Path,
        *options: str,
        worker: str = "featurestore.worker.worker.Worker",
        before: tuple[str, ...] = (),
        app: str = "probe_app:app",
        certificate: Certificate | None = None,
        **settings: str,
    ) -> None:
        self.port = free_port()
        self._context = None
        if certificate is not None:
            self._context, options = certificate.context(), (*options, *certificate.options)
        self.log = folder / f"gunicorn-{self.port}.log"
        environment = {**os.environ, "PYTHONPATH": str(APPS), **settings}
        # gunicorn reads the checkout's gunicorn.conf.py; the worker has to do with gunicorn's own log, too.
        options = ("--logger-class", "gunicorn.glogging.Logger", *options)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", worker, "-w", "1",
                 "-b", f"127.0.0.1:{self.port}", *options, app],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        wait_until(lambda: "Booting worker" in self.text(), what="a worker")

    @property
    def worker_pid(self) -> int:
        """The process of the one worker."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def text(self) -> str:
        return self.log.read_text()

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return self._context.wrap_socket(client, server_hostname="localhost") if self._context else client

    def exchange(self, data: bytes) -> bytes:
        """Send `data` and return everything until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(20)


def read_all(client: socket.socket) -> bytes:
    """Return everything until the server closes; fail when it does not."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            received += piece
    return bytes(received)


def read_response(client: socket.socket) -> tuple[bytes, bytes]:
    """Return head and body of one response that has a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(1)
    found = re.search(rb"content-length: (\d+)", received, re.IGNORECASE)
    body = b""
    while found and len(body) < int(found[1]):
        body += client.recv(int(found[1]) - len(body))
    return received, body


def request(path: str, *lines: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: h", *lines, "", ""]).encode() + body


def close(path: str, *lines: str, **rest: Any) -> bytes:
    return request(path, *lines, "Connection: close", **rest)


def environ_of(response: bytes) -> dict[str, str]:
    shown: dict[str, str] = json.loads(response.partition(b"\r\n\r\n")[2])
    return shown
