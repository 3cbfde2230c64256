"""A server in this process that answers, stalls, lies and hangs up as a test tells it to; for gevent, unpatched."""

import hashlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import gevent
import hiredis
from gevent.server import StreamServer


def eventually(condition: Callable[[], object], *, timeout: float = 20.0, what: str = "the condition") -> None:
    """Return once `condition()` is true, other greenlets running meanwhile; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        gevent.sleep(0.002)


class Peer:
    """One connection, seen from the server. Loading scripts works by itself and is not counted as a command."""

    def __init__(self, connection: Any, received: list[list[bytes]]) -> None:
        self._connection = connection
        self._received = received
        self._reader = hiredis.Reader()

    def command(self) -> list[bytes]:
        """Return the next command; end the behaviour when the client hangs up."""
        while True:
            command: Any = self._reader.gets()
            if command is False:
                data = self._connection.recv(65_536)
                if not data:
                    raise gevent.GreenletExit
                self._reader.feed(data)
            elif command[:2] == [b"SCRIPT", b"LOAD"]:
                self.send(b"$40\r\n%s\r\n" % hashlib.sha1(command[2]).hexdigest().encode())
            else:
                words: list[bytes] = command
                self._received.append(words)
                return words

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)


Behaviour = Callable[[Peer], object]


def echo(peer: Peer) -> None:
    """Answer each command with its last word."""
    while True:
        word = peer.command()[-1]
        peer.send(b"$%d\r\n%s\r\n" % (len(word), word))


def hang_up(peer: Peer) -> None:
    """Take one command and close."""
    peer.command()


def ignore(peer: Peer) -> None:
    """Take every command and answer none."""
    while True:
        peer.command()


def reply_once(reply: bytes) -> Behaviour:
    """Answer the first command with `reply`, later ones with their last word."""

    def behave(peer: Peer) -> None:
        peer.command()
        peer.send(reply)
        echo(peer)

    return behave


class ScriptedServer:
    """A server whose first connection gets the first behaviour, and so on; the last one serves all further ones."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.accepted = 0
        self.received: list[list[bytes]] = []
        self._behaviours = behaviours
        self._server = StreamServer(("127.0.0.1", 0), self._serve)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(timeout=0)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.server_port}"

    def _serve(self, connection: Any, _address: object) -> None:
        behaviour = self._behaviours[min(self.accepted, len(self._behaviours) - 1)]
        self.accepted += 1
        try:
            behaviour(Peer(connection, self.received))
        except OSError:
            pass  # the client is gone
        finally:
            connection.close()
