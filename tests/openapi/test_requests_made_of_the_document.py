"""Requests that schemathesis makes of `/openapi.json`, right and wrong ones, to the server over a Redis.

`make test-openapi` runs this file in an environment that has schemathesis and not this package; the server is a process
of the package's own environment.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / os.environ.get("COMMAND_UNDER_TEST", ".venv/bin/featurestore")
CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
MOST_S = 240
"""On a busy machine. It takes 30 s."""

LEAST = 1000
"""So many requests there are at least, or nothing was tested."""

ITEMS = """
entity = "item"
[features]
price = "float"
embedding = "float32[4]"
clicks_10m = "count(10m)"
spent_1h = "sum(amount, 1h)"
[services]
ranking = ["price"]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    pause = threading.Event()
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None, f"{process.args!r} stopped"
        assert time.monotonic() < deadline, f"{process.args!r} does not listen"
        pause.wait(0.02)


@contextlib.contextmanager
def running(port: int, *words: str | Path, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen([*map(str, words)], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until_open(port, process)
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server with two entities, over a Redis of its own."""
    folder = tmp_path_factory.mktemp("server")
    redis = shutil.which("redis-server")
    assert redis or not os.environ.get("CI"), "CI installs redis-server, yet it is not there"
    if not redis:
        pytest.skip("this machine has no redis-server")
    redis_port, port = free_port(), free_port()
    environment = os.environ | {
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "FEATURESTORE_BIND": f"127.0.0.1:{port}",
        "FEATURESTORE_WORKERS": "1",
        "FEATURESTORE_TIMEOUT_MS": "5000",
        "FEATURESTORE_WRITE_TIMEOUT_MS": "5000",
        "FEATURESTORE_WRITE_KEYS": "secret",
    }
    options = ("--bind", "127.0.0.1", "--port", str(redis_port), "--dir", str(folder), "--save", "")
    with running(redis_port, redis, *options, environment=environment):
        schema = folder / "item.toml"
        schema.write_text(ITEMS)
        for words in (("apply",), ("apply", schema), ("simulate", "--users", "50", "--once")):
            subprocess.run([COMMAND, *words], env=environment, check=True)
        with running(port, COMMAND, "serve", environment=environment):
            url = f"http://127.0.0.1:{port}"
            row = b'{"id":"i1","features":{"price":9.5}}'
            headers = {"X-API-Key": "secret", "Content-Type": "application/x-ndjson"}
            with urllib.request.urlopen(
                urllib.request.Request(f"{url}/entities/item/features/ingest", row, headers), timeout=10
            ) as answer:
                assert b"created" in answer.read()
            yield url


def test_every_answer_is_as_the_document_says(url: str, tmp_path: Path) -> None:
    tool = Path(sys.executable).parent / "st"
    words: list[str | Path] = [tool, "--config-file", CONFIGURATION, "run", f"{url}/openapi.json"]
    environment = os.environ | {"PYTHONPATH": str(CONFIGURATION.parent)}  # where the hooks are
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=MOST_S
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    tested = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert tested, done.stdout
    assert int(tested[1]) == int(tested[2]) > LEAST
