"""Runs the steps of cases on a server, by one connection that takes replies as they are."""

import socket
from collections.abc import Callable
from typing import Protocol, Self

import hiredis

from featurestore.contract.library import LIBRARY, function_library
from featurestore.contract.scripts import SCRIPTS
from golden.forms import Json, Reply, differences, word_bytes

SCRIPT = {script.name: script for script in SCRIPTS}


class Connection(Protocol):
    """What sends a command and returns the reply; an error reply is returned as an exception."""

    def __call__(self, *words: bytes) -> Reply:
        """Send one command."""


class Wire:
    """A connection to a server.

    Args:
        path: Of the server's unix socket.
        protocol: 2 or 3: which version of RESP it speaks.
    """

    def __init__(self, path: str, protocol: int = 2) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(path)
        self._reader = hiredis.Reader()
        if protocol != 2:
            hello = self(b"HELLO", str(protocol).encode())
            assert not isinstance(hello, Exception), hello

    def __call__(self, *words: bytes) -> Reply:
        self._socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(1 << 16)
            assert data, "the server closed the connection"
            self._reader.feed(data)
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def by_script(script: str) -> list[bytes]:
    """Return the first words of a call by EVALSHA."""
    return [b"EVALSHA", SCRIPT[script].sha.encode()]


def by_function(script: str) -> list[bytes]:
    """Return the first words of a call by FCALL."""
    return [b"FCALL", SCRIPT[script].function.encode()]


def load_scripts(connection: Connection) -> None:
    """Load every script."""
    for script in SCRIPTS:
        loaded = connection(b"SCRIPT", b"LOAD", script.source.encode())
        assert loaded == script.sha.encode(), loaded


def load_functions(connection: Connection) -> None:
    """Load the library of functions."""
    loaded = connection(b"FUNCTION", b"LOAD", b"REPLACE", function_library().encode())
    assert loaded == LIBRARY.encode(), loaded


def wrong_replies(answer: Callable[[Json], Reply], content: Json) -> list[str]:
    """Run a file's cases; return for each step that is answered otherwise which it is, and what is the difference.

    `answer` takes a step and returns the reply.
    """
    wrong = []
    for case in content["cases"]:
        answer({"command": ["FLUSHALL"]})
        for number, step in enumerate(case["steps"]):
            reply = answer(step)
            difference = differences(step["reply"], reply) if "reply" in step else ""
            if difference:
                wrong.append(f"{case['name']}, step {number}: {difference}")
    return wrong


def words_of(step: Json, door: Callable[[str], list[bytes]] = by_script) -> list[bytes]:
    """Return the words of a step's command; `door` makes the first ones of a call."""
    if "command" in step:
        return [word_bytes(word) for word in step["command"]]
    keys, args = ([word_bytes(word) for word in step[part]] for part in ("keys", "args"))
    return [*door(step["script"]), str(len(keys)).encode(), *keys, *args]
