"""Files of users, what loads them, and how long and how much memory a program takes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import redis
from servers import HERE

from featurestore import Definition, FeatureStore, read_definition


class Took(msgspec.Struct, frozen=True):
    """What a program took: seconds from its start to its end, MiB of memory at most, and what it printed."""

    seconds: float
    mib: float
    output: str


def run(command: list[str], environment: Mapping[str, str] | None = None) -> Took:
    """Run a program to its end; stop if it fails.

    The system tells its memory when it has ended. That is never less than what the caller takes as this starts it, so
    the caller has to be small.
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        running = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=output, stderr=errors)
        _, status, usage = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - started
        running.returncode = os.waitstatus_to_exitcode(status)
        for file in (errors, output):
            file.seek(0)
        if running.returncode:
            sys.exit(f"{' '.join(command)} failed: {errors.read().decode()[-2000:]}")
        return Took(seconds, usage.ru_maxrss / 1024, output.read().decode())


def user_file(rows: int, gaps: float = 0.0, vector: int = 0) -> Path:
    """Return a Parquet file of so many users; see `user_files.py`, which makes it in a process of its own."""
    options = ["--rows", str(rows), "--gaps", str(gaps), "--vector", str(vector)]
    return Path(run([sys.executable, str(HERE / "user_files.py"), *options]).output.strip())


def load_command(path: Path, url: str, *options: str) -> tuple[list[str], dict[str, str]]:
    """Return what loads a file of users, and its environment: `featurestore load`."""
    command = [
        sys.executable,
        "-m",
        "featurestore",
        "load",
        str(path),
        "--id",
        "user_id",
        "--event-time",
        "ts",
        *options,
    ]
    return command, {"REDIS_URL": url}


def declare(url: str, vector: int = 0) -> None:
    """Declare the features of the files' users."""
    features = dict(read_definition().features)
    if vector:
        features["embedding"] = f"float32[{vector}]"
    with FeatureStore.connect(url, timeout=10) as store:
        store.apply(Definition(features))


def check(url: str, rows: int, gaps: float = 0.0) -> None:
    """Stop unless every user is there, and the last one has all features where there are no gaps."""
    with FeatureStore.connect(url, timeout=10) as store, redis.Redis.from_url(url) as client:
        found = client.scard("all_users")
        assert found == rows, f"{found} users are there, not {rows}"
        last = store.get(f"user{rows - 1:05d}")
        assert last is not None
        assert gaps or None not in last.values(), last
