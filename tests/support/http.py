"""The real HTTP server in a process of its own, and a client that shows whole responses."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support import openapi
from support.servers import free_port, wait_until


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _patient(timeout_ms: str) -> dict[str, str]:
    """Return settings by which connections and writes have so many ms, too; writes no less than they have anyway."""
    write_timeout_ms = str(max(1000, int(timeout_ms)))
    return {"FEATURESTORE_CONNECT_TIMEOUT_MS": timeout_ms, "FEATURESTORE_WRITE_TIMEOUT_MS": write_timeout_ms}


class HttpServer:
    """`featurestore serve` on a loopback port. Connections to Redis and writes have the time of reads."""

    def __init__(self, redis_url: str, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.log = folder / f"server-{self.port}.log"
        self._environment = {
            **os.environ,
            "REDIS_URL": redis_url,
            "FEATURESTORE_BIND": f"127.0.0.1:{self.port}",
            "FEATURESTORE_WORKERS": "1",
            **(_patient(settings["timeout_ms"]) if "timeout_ms" in settings else {}),
            **{f"FEATURESTORE_{name.upper()}": value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "featurestore", "serve"], env=self._environment, stderr=log
            )
        wait_until(self._alive, what=f"an answer of the HTTP server; it said {self.log.read_text()}")

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def _alive(self) -> bool:
        with contextlib.suppress(OSError):
            return self.request("GET", "/livez").status == 200
        return False

    def request(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """Send one request on a connection of its own; a dict or list is sent as JSON.

        Fail where the answer is not in the OpenAPI document.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            data = json.dumps(body).encode() if isinstance(body, dict | list) else body
            connection.request(method, target, data, headers, encode_chunked="Transfer-Encoding" in headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
            openapi.check(method, target, answer.status, answer.headers, answer.body)
            return answer
        finally:
            connection.close()

    def get(self, target: str) -> Answer:
        return self.request("GET", target)


@contextlib.contextmanager
def serving(redis_url: str, folder: Path, **settings: str) -> Iterator[HttpServer]:
    """A running server, stopped afterwards."""
    server = HttpServer(redis_url, folder, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
