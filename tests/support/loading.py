"""Loads of files as processes of their own, and what they leave in the store."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from featurestore import FeatureStore

LOAD = (sys.executable, "-m", "featurestore", "load")
FIRST_MS = 1_767_225_600_000
FEATURES: dict[str, Any] = {
    "age": "int",
    "score": "float",
    "country": "string",
    "is_active": "bool",
    "taste": "float32[3]",
}


def environment_of(url: str, base: dict[str, str]) -> dict[str, str]:
    """Return an environment whose Redis is at `url`."""
    return {**base, "REDIS_URL": url}


def rows_of(first: int, count: int) -> pa.Table:
    """Return rows of users from number `first` on, with gaps, times, and every fiftieth user's row twice."""
    numbers = range(first, first + count)
    users = [number - 1 if number % 50 == 49 else number for number in numbers]
    return pa.table(
        {
            "user_id": [f"u{user}" for user in users],
            "ts": pa.array([FIRST_MS + number for number in numbers], pa.int64()),
            "age": pa.array([None if number % 7 == 0 else float(number % 90) for number in numbers]),
            "score": [number / 3 for number in numbers],
            "country": [("DE", "FR", "Österreich", None)[number % 4] for number in numbers],
            "is_active": [number % 2 == 0 for number in numbers],
        }
    )


def write_files(folder: Path, count: int) -> list[Path]:
    """Write rows as Parquet, CSV and NDJSON, a third each; some of the last two are no rows of the schema."""
    third = count // 3
    folder.mkdir(exist_ok=True)
    paths = [folder / "a.parquet", folder / "b.csv", folder / "c.ndjson"]
    parquet.write_table(rows_of(0, third), paths[0], row_group_size=third // 2)
    csv.write_csv(rows_of(third, third), paths[1])
    lines = paths[1].read_text().splitlines()
    for number in range(10, len(lines), 47):
        lines[number] = lines[number].replace("true", "perhaps").replace("false", "perhaps")
    for number in range(20, len(lines), 301):
        lines[number] = "u7,1"
    paths[1].write_text("\n".join(lines) + "\n")
    objects = rows_of(2 * third, third).to_pylist()
    for number in range(5, third, 41):
        objects[number]["age"] = "old"
    texts = [json.dumps(each) for each in objects]
    for number in range(8, third, 211):
        texts[number] = texts[number][:-5]
    paths[2].write_text("\n".join(texts) + "\n")
    return paths


def contents(store: FeatureStore) -> dict[bytes, Any]:
    """Return everything that the store's Redis holds, but the scripts."""
    command = store.transport.command
    found: dict[bytes, Any] = {}
    for key in command("KEYS", "*"):
        if command("TYPE", key) in {b"set", "set"}:
            found[key] = sorted(command("SMEMBERS", key))
        else:
            reply = command("HGETALL", key)
            found[key] = dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply
    return found


class Loading:
    """A load under way; its messages are read as they come."""

    def __init__(self, arguments: Sequence[object], environment: dict[str, str], folder: Path) -> None:
        self.process = subprocess.Popen(
            [*LOAD, *map(str, arguments)],
            env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.messages = ""
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.messages += line

    def end(self, timeout: float = 90) -> dict[str, Any]:
        """Return what a load says at its end, with its exit code as `exit`."""
        assert self.process.stdout is not None
        self.process.wait(timeout)
        self._listener.join()
        told = self.process.stdout.read()
        return {"exit": self.process.returncode, **(json.loads(told) if told else {})}


@contextlib.contextmanager
def loading(arguments: Sequence[object], environment: dict[str, str], folder: Path) -> Iterator[Loading]:
    """Start a load; afterwards, end it if it runs still."""
    running = Loading(arguments, environment, folder)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        running._listener.join()
        for stream in (running.process.stdout, running.process.stderr):
            if stream is not None:
                stream.close()
