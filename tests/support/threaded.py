"""A server with a thread for each connection: for clients that block, and for other processes."""

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from typing import Self


class ThreadedListener(ABC):
    """Listens on a loopback port of its own while it is entered, and has `_serve` called for each connection.

    On leaving, connections are shut down, and threads waited for.
    """

    def __init__(self) -> None:
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads.append(threading.Thread(target=self._accept))
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    @abstractmethod
    def _serve(self, connection: socket.socket, address: object) -> None:
        """Serve one connection, in a thread of its own."""

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, address = self._listener.accept()
                self._connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection, address)))
                self._threads[-1].start()
