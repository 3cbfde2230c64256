"""Put a distance between a server on this machine and its callers: perf/distance.py PORT ROUND_TRIP_MS.

A proxy on a loopback port of its own, which it prints, delays each direction by half the round trip. The order stays,
and any number of bytes may be on their way. It adds some 20 µs of its own, and takes a processor's time only for what
passes through it.
"""

import argparse
import contextlib
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator

from compiled import compiled


@contextlib.contextmanager
def distance(port: int, round_trip_ms: float) -> Iterator[int]:
    """Give the port on which what listens on `port` is as far away as that, until the end of the block."""
    command = [compiled("distance"), str(port), str(round_trip_ms * 1000 / 2)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        try:
            yield int(proxy.stdout.readline())
        finally:
            proxy.terminate()


def round_trip_of(port: int, times: int = 1000) -> float:
    """Return the median of what a PING to a Redis takes by a blocking socket, one after the other, in ms."""
    took = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            started = time.perf_counter()
            connection.sendall(b"PING\r\n")
            assert connection.recv(16) == b"+PONG\r\n"
            took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000


def main() -> None:
    """Run a proxy until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int, help="where the server listens")
    parser.add_argument("round_trip", type=float, help="in ms")
    arguments = parser.parse_args()
    with distance(arguments.port, arguments.round_trip) as port, contextlib.suppress(KeyboardInterrupt):
        print(port, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
