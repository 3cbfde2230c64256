"""Servers in this process that answer, stall, lie and hang up as a test tells them to: for gevent, unpatched, and for
threads.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import gevent
import hiredis
from gevent.server import StreamServer

from support.threaded import ThreadedListener


def eventually(condition: Callable[[], object], *, timeout: float = 20.0, what: str = "the condition") -> None:
    """Return once `condition()` is true, other greenlets running meanwhile; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        gevent.sleep(0.002)


class Peer:
    """One connection, seen from the server.

    The first PING, and loading scripts, work by themselves and are not counted as commands.
    """

    def __init__(self, connection: Any, received: list[list[bytes]]) -> None:
        self._connection = connection
        self._received = received
        self._reader = hiredis.Reader()

    def greet(self) -> None:
        """Answer the PING that every connection begins with."""
        command: Any = False
        while command is False:
            data = self._connection.recv(65_536)
            if not data:
                raise gevent.GreenletExit
            self._reader.feed(data)
            command = self._reader.gets()
        assert command == [b"PING"]
        self.send(b"+PONG\r\n")

    def data(self) -> bytes:
        """Return what arrives next, whatever it is; nothing at the end."""
        data: bytes = self._connection.recv(65_536)
        return data

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


def encoded(word: str | bytes) -> bytes:
    """Return a word as a row of one feature, as a reply of get_features may be."""
    text = word.encode() if isinstance(word, str) else word
    head = bytes([0xA0 + len(text)]) if len(text) < 32 else b"\xdb" + len(text).to_bytes(4)
    return b"\x91" + head + text


def unpacked(reply: Any) -> Any:
    """Return the word of such a row; what is none as it is."""
    if not isinstance(reply, bytes) or not reply.startswith(b"\x91"):
        return reply
    return reply[6:] if reply[1] == 0xDB else reply[2:]


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
    """A server whose first connection gets the first behaviour, and so on; the last one serves all further ones.

    A server that is not `polite` leaves the first PING to the behaviours too.
    """

    def __init__(self, *behaviours: Behaviour, polite: bool = True) -> None:
        self._polite = polite
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
        peer = Peer(connection, self.received)
        try:
            if self._polite:
                peer.greet()
            behaviour(peer)
        except OSError:
            pass  # the client is gone
        finally:
            connection.close()


class ThreadedServer(ThreadedListener, ScriptedServer):
    """The same with a thread for each connection: for clients that block, and for other processes."""

    def __init__(self, *behaviours: Behaviour, polite: bool = True) -> None:
        ThreadedListener.__init__(self)
        ScriptedServer.__init__(self, *behaviours, polite=polite)

    def _serve(self, connection: Any, address: object) -> None:
        with contextlib.suppress(gevent.GreenletExit):
            ScriptedServer._serve(self, connection, address)
