"""The log of whole processes: JSON where nobody looks, lines for people on a terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

from support.http import HttpServer
from support.processes import clean_environment
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore

LOAD = (sys.executable, "-m", "featurestore", "load", "rows.ndjson")


def environment_of(valkey: Server, folder: Path) -> dict[str, str]:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        store.apply(Definition(features={"age": "int"}))
    (folder / "rows.ndjson").write_text('{"user_id":"ann","age":"x\\n{}"}\n{"user_id":"bob","age":3}\n')
    environment = clean_environment(folder) | {"REDIS_URL": valkey.url}
    del environment["FEATURESTORE_LOG_FORMAT"]
    return environment


def test_a_command_logs_json_where_nobody_looks(valkey: Server, tmp_path: Path) -> None:
    environment = environment_of(valkey, tmp_path)
    done = subprocess.run(LOAD, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    (rejected,) = (line for line in lines if "BADTYPE" in line["message"])
    assert rejected.items() >= {"level": "warning", "logger": "featurestore.ingest"}.items()
    assert "worker" not in rejected


def test_a_command_logs_for_people_on_a_terminal(valkey: Server, tmp_path: Path) -> None:
    environment = environment_of(valkey, tmp_path) | {"COLUMNS": "300"}  # the bar's, which lines would be cut by
    master, terminal = os.openpty()
    with os.fdopen(master, "rb", 0) as shown:
        subprocess.run(LOAD, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=terminal, check=False)
        os.close(terminal)
        text = shown.read(65_536).decode()
    assert " WARNING rows.ndjson, row 0: BADTYPE" in text, text
    assert '{"time"' not in text


def test_every_line_of_a_server_is_json_whatever_happens(valkey: Server, tmp_path: Path) -> None:
    environment_of(valkey, tmp_path)
    server = HttpServer(valkey.url, tmp_path, log_format="json", log_level="DEBUG", access_log="true")
    server.start()
    assert server.request("GET", "/features/a%0ab", **{"X-Request-Id": "a"}).status == 404
    valkey.stop()
    assert server.get("/features/ann").status == 503
    assert server.stop() == 0
    wait_until(lambda: "Shutting down" in server.log.read_text())
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"gunicorn.error", "gunicorn.access", "featurestore"} <= {line["logger"] for line in lines}
    assert all({"time", "level", "logger", "message", "pid"} <= line.keys() for line in lines)
    assert {line.get("worker") for line in lines} == {None, 0}
