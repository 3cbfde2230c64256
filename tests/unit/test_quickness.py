"""What support/quick.py keeps out of this folder: servers, connections, builds."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.binaries import binaries
from support.quick import is_quick
from support.servers import Server, free_port


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


@pytest.mark.parametrize(
    ("path", "parameters", "expected"),
    [
        ("tests/unit/test_architecture.py", {"room": "contract"}, True),
        ("tests/unit/test_pipeline.py", None, True),
        ("tests/contract/test_scripts.py", {"shared_transport": "fakeredis", "value": "x"}, True),
        ("tests/contract/test_scripts.py", {"shared_transport": "valkey9", "value": "x"}, False),
        ("tests/contract/test_doctor.py", None, False),
    ],
)
def test_what_a_quick_run_takes(path: str, parameters: dict[str, str] | None, expected: bool) -> None:  # noqa: FBT001 - a parameter
    test: Any = SimpleNamespace(path=Path(path))
    if parameters is not None:
        test.callspec = SimpleNamespace(params=parameters)
    assert is_quick(test) is expected
