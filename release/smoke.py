"""Try an installed package, in an environment that has nothing else: the extensions, a Redis, a GET over HTTP."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from featurestore import EmbeddedServer, FeatureStore, read_definition
from featurestore.native import missing_extensions

PATIENCE_S = 20.0


def free_address() -> str:
    """Return an address on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def get(address: str, target: str) -> Any:
    """Return the JSON of a response, once the server answers.

    Raises:
        TimeoutError: It did not within `PATIENCE_S`.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{address}{target}", timeout=5) as response:
                return json.load(response)
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nobody answers at {address}")


def main() -> None:
    """Try all of it; an exception is what fails."""
    missing = missing_extensions()
    if missing:
        raise SystemExit(f"this wheel lacks the extensions {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        with FeatureStore.connect(server.url) as store:
            store.apply(read_definition())
            store.upsert([("ann", {"age": 31.0, "country": "DE"})])
        address = free_address()
        environment = {**os.environ, "REDIS_URL": server.url, "FEATURESTORE_BIND": address, "FEATURESTORE_WORKERS": "1"}
        command = [sys.executable, "-m", "featurestore", "serve"]
        serving = subprocess.Popen(command, env=environment)
        try:
            features = get(address, "/features/ann")["features"]
        finally:
            serving.terminate()
            serving.wait(PATIENCE_S)
    if (features["age"], features["country"]) != (31.0, "DE"):
        raise SystemExit(f"a GET answers {features}")
    print("the extensions, the embedded server and a GET over HTTP work")


if __name__ == "__main__":
    main()
