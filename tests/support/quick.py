"""What `make quick` runs, and what keeps tests/unit quick: no server, no connection, no build."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

_ELSEWHERE = {
    "os.exec": "starts a program",
    "os.fork": "forks",
    "os.system": "starts a program",
    "pty.spawn": "starts a program",
    "socket.bind": "listens",
    "socket.connect": "connects",
    "socket.getaddrinfo": "looks up a name",
}
_watched: list[str] = []
"""The test that runs now, where it is one of tests/unit."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched:
        return
    what = _ELSEWHERE.get(event)
    if event in {"subprocess.Popen", "os.posix_spawn"} and list(arguments[1][:2]) != [sys.executable, "-c"]:
        what = f"starts {arguments[1]}"
    if what:
        # No subclass of Exception, so that the code under test does not take it for a failure of the network.
        pytest.fail(f"{_watched[0]} {what}: it belongs into tests/processes, tests/install or another folder")


sys.addaudithook(_watch)


def is_quick(test: pytest.Item) -> bool:
    """Return whether a test needs no server: by its folder, or by the backend that it runs on."""
    parameters = test.callspec.params.values() if hasattr(test, "callspec") else ()
    return test.path.parent.name == "unit" or any(type(each) is str and each == "fakeredis" for each in parameters)


@contextlib.contextmanager
def python_alone(test: str) -> Iterator[None]:
    """Fail a test that meanwhile starts a program (but `python -c`), forks, or uses a socket with an address."""
    _watched.append(test)
    try:
        yield
    finally:
        _watched.clear()
