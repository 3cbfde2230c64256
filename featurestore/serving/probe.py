"""Checks that the HTTP server answers; `python -m featurestore.serving.probe` starts faster than the command line."""

import http.client
import socket
import sys

from featurestore.errors import ConfigurationError
from featurestore.serving.binding import split_address
from featurestore.settings import Settings

_TIMEOUT_S = 1.5
_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound to it here


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket.

    Args:
        path: Where the socket is.
        timeout: Seconds to wait for it.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def reachable(bind: str) -> tuple[str, int] | str:
    """Return where this machine reaches a server that listens on `bind`: loopback, if that is every address."""
    address = split_address(bind)
    return address if isinstance(address, str) else (_EVERY_ADDRESS.get(address[0], address[0]), address[1])


def is_alive(bind: str, timeout: float = _TIMEOUT_S) -> bool:
    """Return whether the server on `bind` answers `GET /livez` with 200. That does not depend on Redis.

    Args:
        bind: The server's address, as in FEATURESTORE_BIND.
        timeout: Seconds to wait for the answer.
    """
    address = reachable(bind)
    if isinstance(address, str):
        connection: http.client.HTTPConnection = _UnixConnection(address, timeout)
    else:
        connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def check() -> int:
    """Return 0 if the server of the settings answers, else 1."""
    bind = Settings.from_environment().bind
    if is_alive(bind):
        return 0
    sys.stderr.write(f"featurestore: no server answers on {bind}\n")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(check())
    except ConfigurationError as error:
        sys.stderr.write(f"featurestore: {error}\n")
        sys.exit(2)
