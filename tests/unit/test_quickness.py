"""What support/quick.py keeps out of this folder: servers, connections, builds."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.servers import Server, binaries, free_port


def connect(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{folder}/none")


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda _: os.fork(), id="fork"),
        pytest.param(lambda _: free_port(), id="listen"),
        pytest.param(connect, id="connect"),
        pytest.param(lambda folder: Server(binaries()["valkey9"], folder).start(), id="start a server"),
        pytest.param(lambda _: subprocess.run([sys.executable, "-m", "featurestore"], check=False), id="run a command"),
    ],
)
def test_a_unit_test_that_wants_more_than_python_fails(act: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"test_quickness\.py.*: it belongs into tests/processes"):
        act(tmp_path)
