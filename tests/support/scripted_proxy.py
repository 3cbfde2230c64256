"""A proxy before a real server that puts other replies in the place of some, as a broken one would."""

import contextlib
import socket
from typing import Any

import hiredis
from hiredis import pack_command

from support.threaded import ThreadedListener

LIES = {
    "number": b":1\r\n",
    "double": b",1.5\r\n",
    "boolean": b"#t\r\n",
    "status": b"+OK\r\n",
    "text": b"$1\r\nx\r\n",
    "array of a number": b"*1\r\n:1\r\n",
    "array of a text": b"*1\r\n$1\r\nx\r\n",
    "array of too many": b"*300\r\n" + b"$-1\r\n" * 300,
    "arrays in an array": b"*2\r\n*1\r\n:1\r\n*0\r\n",
    "error in an array": b"*2\r\n-ERR inner\r\n$-1\r\n",
    "deep nesting": b"*1\r\n" * 5000 + b":1\r\n",
    "map": b"%1\r\n+a\r\n:1\r\n",
    "push": b">2\r\n+invalidate\r\n:1\r\n",
    "no RESP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}
"""Replies that none of the read scripts gives to calls for fewer than 300 entities."""


class LyingProxy(ThreadedListener):
    """Hands commands on, one after the other, and their replies back.

    Attributes:
        lie: What comes back in place of the replies to `commands`; None for the truth.
        commands: About which it lies.
        told: How many lies were told.
        accepted: How many connections were made.
    """

    def __init__(self, port: int, *commands: bytes) -> None:
        super().__init__()
        self.lie: bytes | None = None
        self.commands = commands or (b"EVALSHA",)
        self.told = 0
        self._port = port

    @property
    def accepted(self) -> int:
        return len(self._threads) - 1

    def _serve(self, client: socket.socket, _address: object) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._port)) as server:
            self._connections.append(server)
            commands = hiredis.Reader()
            while data := client.recv(65_536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    client.sendall(self._reply(server, command))

    def _reply(self, server: socket.socket, command: Any) -> bytes:
        server.sendall(pack_command(tuple(command)))
        replies, raw = hiredis.Reader(notEnoughData=self), b""
        while replies.gets() is self:
            data = server.recv(65_536)
            if not data:
                raise ConnectionError
            raw += data
            replies.feed(data)
        if self.lie is None or command[0] not in self.commands:
            return raw
        self.told += 1
        return self.lie
