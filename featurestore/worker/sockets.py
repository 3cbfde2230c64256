"""What a worker does for each plain GET of a connection, at the socket: in C where that was built, else in Python.

For TLS it is Python alone.
"""

import os
import re
from collections.abc import Callable
from ssl import SSLWantReadError
from typing import Any

_READ_BYTES = 4096
_TLS_READ_BYTES = 65_536  # more than a TLS record holds: nothing stays behind where no event would tell of it
_PLAIN_LINE = re.compile(rb"GET (/[A-Za-z0-9_.~/,?=-]*) HTTP/1\.1")


def plain_path(data: bytes, usual: bytes | None, longest_line: int) -> str | None:
    """Return path and query when `data` is one GET of a plain path with certain header fields, else None.

    Args:
        data: What a client sent.
        usual: The header fields, from the end of the request line to the empty line; None for none at all.
        longest_line: Most bytes of the request line; 0 for any number.
    """
    if usual is None or not data.endswith(usual):
        return None
    line = _PLAIN_LINE.fullmatch(data, 0, len(data) - len(usual))
    if line is None or line.end() > longest_line > 0:
        return None
    return line[1].decode()


def is_plain_line(line: bytes) -> bool:
    """Return whether `plain_path` takes that request line."""
    return _PLAIN_LINE.fullmatch(line) is not None


def take_in_python(descriptor: int, usual: bytes | None, longest_line: int) -> str | bytes | None:
    """Read what a socket has and return the path where `plain_path` finds one, else the bytes.

    None means that nothing has come yet, and `b""` that the client is gone.
    """
    try:
        data = os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""
    path = plain_path(data, usual, longest_line)
    return data if path is None else path


def send_in_python(descriptor: int, pieces: tuple[bytes, ...]) -> int:
    """Send the pieces one behind the other; return how many bytes the socket did not take now.

    Raises:
        OSError: The client is gone.
    """
    data = b"".join(pieces)
    try:
        return len(data) - os.write(descriptor, data)
    except BlockingIOError:
        return len(data)


class TlsSocket:
    """`take` and `send` for a connection by TLS.

    Args:
        client: gevent's socket, with the handshake done and a time-out of 0.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def take(self, _descriptor: int, usual: bytes | None, longest_line: int) -> str | bytes | None:
        """Do what `take_in_python` does."""
        try:
            data: bytes = self._client.recv(_TLS_READ_BYTES)
        except SSLWantReadError:
            return None
        except OSError:
            return b""
        path = plain_path(data, usual, longest_line)
        return data if path is None else path

    def send(self, _descriptor: int, pieces: tuple[bytes, ...]) -> int:
        """Do what `send_in_python` does; what is left must be sent next, and as it is."""
        data = b"".join(pieces)
        sent: int = self._client.send(data)  # 0 where TLS would have to wait
        return len(data) - sent


take: Callable[[int, bytes | None, int], str | bytes | None]
send: Callable[[int, tuple[bytes, ...]], int]

try:
    from featurestore.native.sockets import send, take
except ImportError:
    take, send = take_in_python, send_in_python
