"""tests/audit.py: what it makes of a database that knows a vulnerability, that knows none, and of none at all."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.servers import free_port

ROOT = Path(__file__).parents[2]
FLAW = {"id": "PYSEC-0", "schema_version": "1.0.0", "affected": []}


@pytest.fixture(autouse=True)
def pip_audit() -> None:
    found = importlib.util.find_spec("pip_audit")
    assert found or not os.environ.get("CI"), "CI installs pip-audit, yet it is not there"
    if not found:
        pytest.skip("this environment has no pip-audit")


@contextmanager
def database(*flawed: str, broken: bool = False) -> Iterator[str]:
    """A database that speaks as osv.dev does, and knows a flaw of some packages."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
            body = json.dumps({"vulns": [FLAW]} if asked in flawed else {}).encode()
            self.send_response(500 if broken else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like an environment with two packages."""
    folder = tmp_path_factory.mktemp("environment")
    for name in ("good", "bad"):
        info = folder / "lib" / "python3.11" / "site-packages" / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    return folder


def audit(environment: Path, service: str, cache: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "audit.py", environment, "--service", service],
        check=False, capture_output=True, text=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_known_vulnerability_fails(environment: Path, tmp_path: Path) -> None:
    with database("bad") as service:
        assert audit(environment, service, tmp_path) == (1, "bad 1.0: PYSEC-0; mended in none\n")


def test_none_is_told(environment: Path, tmp_path: Path) -> None:
    with database() as service:
        assert audit(environment, service, tmp_path) == (0, "no known vulnerability in 2 packages\n")


def test_a_database_that_is_away_fails_nothing_and_is_told(environment: Path, tmp_path: Path) -> None:
    code, said = audit(environment, f"http://127.0.0.1:{free_port()}/v1/query", tmp_path)
    assert code == 0
    assert said.startswith("NOT CHECKED for known vulnerabilities: the database cannot be reached (127.0.0.1: ")


def test_a_database_that_is_broken_fails(environment: Path, tmp_path: Path) -> None:
    with database(broken=True) as service:
        code, said = audit(environment, service, tmp_path)
    assert code == 1
    assert "pip-audit cannot tell" in said
