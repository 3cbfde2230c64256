"""The two programs in C with which perf/ measures: the proxy that makes a distance, and the sender of an open loop."""

import contextlib
import shutil
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "perf"))

from distance import distance
from open_loop import LATE, LOST, Answers, Kind, message, run, seconds_to_normal, with_probe

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="cc is not installed")

ROUND_TRIP_MS = 20.0
Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """The port of a server that gives each connection to `serve` in a thread of its own."""
    threads = []

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=one, args=(listener.accept()[0],), daemon=True))
                threads[-1].start()

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            serve(connection)

    # Room for every connection of a test at once: on a busy machine the kernel resets what a full queue cannot take.
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        acceptor = threading.Thread(target=accept, args=(listener,), daemon=True)
        acceptor.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    acceptor.join()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def echo(connection: socket.socket) -> None:
    while received := connection.recv(1 << 16):
        connection.sendall(received)


def received_of(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = connection.recv(1 << 20)
        assert part
        found += part
    return found


@contextlib.contextmanager
def far(serve: Serve) -> Iterator[socket.socket]:
    """A connection to such a server, which is some way off."""
    with (
        serving(serve) as port,
        distance(port, ROUND_TRIP_MS) as away,
        socket.create_connection(("127.0.0.1", away)) as one,
    ):
        yield one


def test_an_answer_takes_the_round_trip_and_nothing_is_lost_on_the_way() -> None:
    with far(echo) as connection:
        for number in range(5):
            started = time.monotonic()
            connection.sendall(b"%d" % number)
            assert connection.recv(16) == b"%d" % number
            assert time.monotonic() - started >= ROUND_TRIP_MS / 1000


def test_many_bytes_are_on_their_way_and_stay_in_order() -> None:
    sent = b"".join(struct.pack("<I", number) for number in range(2_000_000))
    with far(echo) as connection:
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        assert received_of(connection, len(sent)) == sent
        sender.join()


def test_the_end_of_one_side_arrives_behind_its_bytes_and_the_other_side_may_go_on() -> None:
    def when_all_is_there(connection: socket.socket) -> None:
        heard = b""
        while part := connection.recv(1 << 16):
            heard += part
        connection.sendall(heard.upper())

    with far(when_all_is_there) as connection:
        connection.sendall(b"all that i have to say")
        connection.shutdown(socket.SHUT_WR)
        assert received_of(connection, 22) == b"ALL THAT I HAVE TO SAY"
        assert connection.recv(1) == b""


def test_a_connection_that_is_broken_off_ends_on_the_other_side_and_others_go_on() -> None:
    ended = threading.Event()

    def until_the_end(connection: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            while connection.recv(1 << 16):
                pass
        ended.set()

    with serving(until_the_end) as port, distance(port, ROUND_TRIP_MS) as away:
        with socket.create_connection(("127.0.0.1", away)) as connection:
            connection.sendall(b"x" * 100_000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it ends by a reset
        assert ended.wait(10)
        ended.clear()
        socket.create_connection(("127.0.0.1", away)).close()
        assert ended.wait(10)


BODY = b"x" * 150_000


def answers_by_target(connection: socket.socket) -> None:
    """Answers each request as its target says."""
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            part = connection.recv(1 << 16)
            if not part:
                return
            buffer += part
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        target = head.split(b" ", 2)[1]
        length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), 0)
        while len(buffer) < length:
            buffer += connection.recv(1 << 16)
        buffer = buffer[length:]
        if target == b"/lost":
            return
        if target == b"/late":
            connection.recv(1)
            return
        status, body = {b"/busy": (503, b"{}"), b"/none": (404, b""), b"/big": (200, BODY)}.get(target, (200, b"{}"))
        fields = b"Content-Length: %d\r\n" % len(body) + (b"Connection: close\r\n" if target == b"/last" else b"")
        connection.sendall(b"HTTP/1.1 %d Some reason\r\n%s\r\n%s" % (status, fields, body))
        if target == b"/last":
            return


def asked(*kinds: Kind, patience_ms: int = 5000) -> dict[str, Answers]:
    with serving(answers_by_target) as port:
        return run(port, kinds, patience_ms=patience_ms)


def test_every_request_of_the_plan_is_sent_and_its_status_counted() -> None:
    kinds = [
        Kind(target, [message(method, target, body)], rate, 0.5, connections=20)
        for method, target, body, rate in (
            ("GET", "/big", b"", 100.0), ("POST", "/also", b"y" * 100_000, 50.0), ("GET", "/busy", b"", 200.0),
            ("GET", "/none", b"", 40.0), ("GET", "/last", b"", 40.0),
        )
    ]  # fmt: skip
    found = asked(*kinds)
    seen = {name: Counter(answers.status.tolist()) for name, answers in found.items()}
    statuses = {"/big": 200, "/also": 200, "/busy": 503, "/none": 404, "/last": 200}
    assert {name: set(counts) for name, counts in seen.items()} == {name: {each} for name, each in statuses.items()}
    assert all(0.5 < counts.total() / (kind.rate * kind.seconds) < 1.5
               for kind, counts in zip(kinds, seen.values(), strict=True))  # fmt: skip
    assert all((answers.took > 0).all() and (answers.planned < 0.5).all() for answers in found.values())


def test_the_same_seed_plans_the_same_arrivals() -> None:
    kind = Kind("some", [message("GET", "/busy")], 100.0, 0.3)
    assert asked(kind)["some"].planned.tolist() == asked(kind)["some"].planned.tolist()


def test_requests_without_an_answer_are_told_apart_and_do_not_hold_up_others() -> None:
    found = asked(
        Kind("lost", [message("GET", "/lost")], 50.0, 0.4),
        Kind("late", [message("GET", "/late")], 50.0, 0.4),
        Kind("good", [message("GET", "/big")], 50.0, 0.4),
        patience_ms=2000,
    )
    assert {name: set(answers.status.tolist()) for name, answers in found.items()} == {
        "lost": {LOST}, "late": {LATE}, "good": {200},
    }  # fmt: skip
    assert (found["late"].took >= 2000).all()


def test_latencies_count_the_wait_for_a_connection() -> None:
    found = asked(Kind("late", [message("GET", "/late")], 20.0, 0.5, connections=1, steady=True), patience_ms=200)[
        "late"
    ]
    assert len(found.status) == 10
    assert found.waited.sum() == 9
    assert found.status[0] == LATE
    assert (found.took >= 200).all()


def probed(status_at: Callable[[float], int], ms_at: Callable[[float], float]) -> float | None:
    """How long after a load that ends at 2 s the server is back to normal, by a probe with these answers."""
    _, probe = with_probe([Kind("load", [], 10.0, 1.0)], users=10)
    found = {}
    for kind, times in ((Kind("load", [], 10.0, 1.0), [1.0, 2.0]), (probe, np.arange(0, 5, 0.01))):
        plan = np.array([(time * 1e9,) for time in times], [("planned", "<u8")])
        results = np.array([(ms_at(time) * 1e6, status_at(time), 0, 0) for time in times],
                           [("took", "<i8"), ("status", "<u2"), ("waited", "<u2"), ("lag", "<u4")])  # fmt: skip
        found[kind.name] = Answers(kind, plan, results)
    return seconds_to_normal(found)


def test_the_probe_tells_when_a_server_is_back_to_normal() -> None:
    assert probed(lambda _: 200, lambda _: 1.0) == 0
    assert probed(lambda time: 503 if 1 < time < 2.55 else 200, lambda _: 1.0) == pytest.approx(0.6)
    assert probed(lambda _: 200, lambda time: 9.0 if 1 < time < 2.45 else 1.0) == pytest.approx(0.5)
    assert probed(lambda time: 504 if time > 1 else 200, lambda _: 1.0) is None
    assert probed(lambda _: 200, lambda time: 9.0 if time > 1 else 1.0) is None
