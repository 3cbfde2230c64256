"""What a worker may take of its machine: memory for what clients send, and open files."""

import contextlib
import gzip
import json
import os
import re
import socket
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import falcon
import pytest
from support.gunicorn import GET, Gunicorn, close, environ_of, read_all, read_response, request
from support.http import serving
from support.reading import LIMITS, is_fresh, reader, taken
from support.servers import Server, wait_until

from featurestore.api.bodies import read_body
from featurestore.worker.budget import Budget
from featurestore.worker.capacity import CLIENTS, FILES, clients_within
from featurestore.worker.requests import RequestReader

MEGABYTE = 1_000_000
BODY = b"x" * MEGABYTE
POST = request("/echo", f"Content-Length: {MEGABYTE}", method="POST", body=BODY)


def status_of(client: socket.socket) -> bytes:
    return read_response(client)[0].split()[1]


# Memory


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[Gunicorn]:
    """A server that holds no more than one large request."""
    running = Gunicorn(tmp_path, worker="probe_workers.Frank", FEATURESTORE_MAX_BUFFERED_BYTES="1")
    yield running
    assert running.stop() == 0


def held(server: Gunicorn) -> int:
    """Return how many bytes the worker says that it holds."""
    return int(environ_of(server.exchange(close("/x")))["probe.held"])


def wait_until_held(server: Gunicorn, size: int) -> None:
    wait_until(lambda: held(server) == size, what=f"{size} bytes being held")


def test_a_request_that_finds_no_room_is_refused_and_others_are_served(tight: Gunicorn) -> None:
    with tight.connect() as first:
        first.sendall(POST[:-1])
        wait_until_held(tight, len(POST) - 1)
        for _ in range(3):
            with tight.connect() as second:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    second.sendall(POST)
                head, _, body = read_all(second).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n")
            assert b"\r\nretry-after: 1\r\n" in head
            assert json.loads(body).items() >= {"title": "Service Unavailable", "status": 503}.items()
        assert held(tight) == len(POST) - 1
        small = close("/echo", "Content-Length: 2000", method="POST", body=b"y" * 2000)
        assert tight.exchange(small).endswith(b"y" * 2000)
        first.sendall(POST[-1:])
        assert read_response(first)[1] == BODY
    wait_until_held(tight, 0)
    wait_until(lambda: "requests were refused" in tight.text(), what="a line in the log")
    assert tight.text().count("requests were refused") == 1
    assert "FEATURESTORE_MAX_BUFFERED_BYTES" in tight.text()
    assert "Invalid request" not in tight.text()


def test_a_request_that_is_itself_too_large_is_413_while_others_are_held(tight: Gunicorn) -> None:
    with tight.connect() as first:
        first.sendall(POST[:-1])
        wait_until_held(tight, len(POST) - 1)
        assert b" 413 " in tight.exchange(request("/echo", "Content-Length: 1048577", method="POST"))


def vanish(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


CHUNKED = request("/echo", "Transfer-Encoding: chunked", method="POST", body=b"80000\r\n" + BODY[:0x80000])
FIELDS = request("/x", *["A: " + "b" * 8000] * 5)
Finish = Callable[[socket.socket], object]


def sends(data: bytes, read: Finish = read_response) -> Finish:
    """Return what sends the rest of a request and reads the answer, or everything with `read_all`."""

    def finish(client: socket.socket) -> None:
        client.sendall(data)
        assert read(client)

    return finish


HALVES: dict[str, tuple[bytes, int, Finish]] = {
    "answered": (POST[:-1], len(POST) - 1, sends(b"x")),
    "answered, chunked": (CHUNKED, len(CHUNKED) - 7, sends(b"\r\n0\r\n\r\n")),
    "answered, large head": (FIELDS[:-2], len(FIELDS) - 2, sends(b"\r\n")),
    "refused": (CHUNKED, len(CHUNKED) - 7, sends(b"!!", read_all)),
    "refused head": (FIELDS[:-2], len(FIELDS) - 2, sends(b"!\n", read_all)),
    "client gone": (POST[:-1], len(POST) - 1, vanish),
    "half closed": (POST[:-1], len(POST) - 1, lambda client: client.shutdown(socket.SHUT_WR)),
    "too slow": (POST[:-1], len(POST) - 1, lambda client: read_all(client).index(b"HTTP/1.1 408 ")),
    "app raises": (POST.replace(b"/echo", b"/raise")[:-1], len(POST), sends(b"x", read_all)),
}


@pytest.mark.parametrize("end", HALVES)
def test_what_a_request_held_is_free_again_however_it_ends(tight: Gunicorn, end: str) -> None:
    start, size, finish = HALVES[end]
    with tight.connect() as client:
        client.sendall(start)
        wait_until_held(tight, size)
        finish(client)
        wait_until_held(tight, 0)


def test_requests_that_wait_behind_one_another_are_bytes_until_it_is_their_turn() -> None:
    budget = Budget(100_000)
    ours = reader(budget=budget)
    ours.feed(GET * 2000)
    for left in range(1999, 1900, -1):
        assert ours.next()
        assert left * len(GET) <= budget.held <= 2000 * len(GET)
    while ours.next():
        assert budget.held <= 2000 * len(GET)
    assert budget.held == 0


def test_a_response_that_a_client_does_not_take_counts_too(tight: Gunicorn) -> None:
    with tight.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(request("/large"))
        wait_until(lambda: held(tight) > 10 * MEGABYTE, what="the response being held")
        assert b" 503 " in tight.exchange(POST)
        assert tight.exchange(close("/x")).startswith(b"HTTP/1.1 200 ")
        vanish(client)
        wait_until_held(tight, 0)


def test_a_head_has_64_kib_at_most() -> None:
    fields = ["A: " + "b" * 8000] * 8
    for length, refused in ((65_536, False), (65_537, True)):
        rest = length - len(request("/x", *fields, "B: "))
        head = request("/x", *fields, "B: " + "c" * rest)
        assert len(head) == length
        ours = reader()
        assert len(taken(ours, head)) == (not refused)
        assert (ours.refusal and ours.refusal.status) == (431 if refused else None)
    assert LIMITS.head == 65_536


def test_a_reader_holds_no_more_than_its_budget_and_gives_all_of_it_back() -> None:
    budget = Budget(100_000)
    first, second = reader(budget=budget), reader(budget=budget)
    assert taken(first, request("/", "Content-Length: 90000", method="POST"), b"x" * 80_000) == []
    assert 80_000 < budget.held < 80_100
    assert taken(second, GET) != []
    assert taken(second, request("/", "Content-Length: 90000", method="POST"), b"x" * 40_000, b"x" * 50_000) == []
    assert second.refusal
    assert second.refusal.status == 503
    assert 80_000 < budget.held < 80_100
    assert repr(budget) == f"<Budget {budget.held} of 100000 bytes, peak {budget.peak}>"
    first.feed(b"x" * 10_000)
    assert first.next()
    assert budget.held > 90_000  # it is being answered
    assert first.next() is None
    assert budget.held == 0
    first.drop()
    assert budget.held == 0
    assert budget.peak <= 100_000


@pytest.mark.parametrize(
    "wrong",
    [
        [CHUNKED, b"!!"],
        [request("/x", *["A: " + "b" * 8000] * 8, "C: " + "d" * 8000)],
        [request("/x", *["A: " + "b" * 8000] * 7, "Transfer-Encoding: gzip")],
        [request("/x", *["A: " + "b" * 8000] * 7, "Host: other")],
        [request("/x", *["A: " + "b" * 8000] * 7, "Content-Length: 99999999999999999999")],
    ],
)
def test_nothing_is_kept_of_a_request_that_is_refused(wrong: list[bytes]) -> None:
    readers = [reader() for _ in range(50)]
    tracemalloc.start()
    try:
        for ours in readers:
            assert taken(ours, *wrong) == []
            assert ours.refusal
        assert tracemalloc.get_traced_memory()[0] < 50 * 5000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("answered", [POST, CHUNKED + b"\r\n0\r\n\r\n", FIELDS, GET * 2000], ids=len)
def test_nothing_is_kept_of_a_request_that_is_answered(answered: bytes) -> None:
    readers = [reader() for _ in range(50)]
    tracemalloc.start()
    try:
        for ours in readers:
            ours.feed(answered)
            while ours.next():
                pass
            assert is_fresh(ours)
        assert tracemalloc.get_traced_memory()[0] < 50 * 5000
    finally:
        tracemalloc.stop()


def test_small_requests_are_not_counted() -> None:
    budget = Budget(0)
    assert (
        len(
            taken(
                reader(budget=budget), GET * 100, request("/", "Content-Length: 7000", method="POST", body=BODY[:7000])
            )
        )
        == 101
    )
    assert budget.peak == 0


def test_what_gzip_inflates_to_counts_until_the_request_is_answered() -> None:
    encoded = gzip.compress(bytes(900_000))
    lines = (f"Content-Length: {len(encoded)}", "Content-Encoding: gzip")
    message = request("/", *lines, method="POST", body=encoded)
    budget = Budget(2 * MEGABYTE)
    readers = [reader(budget=budget) for _ in range(3)]
    for number, each in enumerate(readers[:2], 1):
        (read,) = taken_one(each, message)
        assert len(read_body(read, MEGABYTE)) == 900_000
        assert budget.held == number * 900_000
    (read,) = taken_one(readers[2], message)
    with pytest.raises(falcon.HTTPServiceUnavailable):
        read_body(read, MEGABYTE)
    assert readers[0].next() is None
    assert budget.held == 900_000
    readers[1].drop()
    assert budget.held == 0


def taken_one(reader: RequestReader, message: bytes) -> list[falcon.Request]:
    """Return the request that is complete, as the app has it while it is not answered."""
    reader.feed(message)
    found = reader.next()
    return [falcon.Request({**found.environ, "wsgi.errors": sys.stderr})] if found else []


def test_memory_is_bounded_under_load_and_goes_back_afterwards(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--keep-alive", "60", FEATURESTORE_MAX_BUFFERED_BYTES=str(64 * MEGABYTE))
    try:
        assert server.exchange(close("/echo", f"Content-Length: {MEGABYTE}", method="POST", body=BODY)).endswith(BODY)
        before = resident(server.worker_pid)
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                client = stack.enter_context(server.connect())
                with contextlib.suppress(OSError):  # as the server may have refused it
                    client.sendall(POST[:-1])
            assert server.exchange(close("/x")).startswith(b"HTTP/1.1 200 ")
            wait_until(lambda: "requests were refused" in server.text(), what="a refusal, as all memory is taken")
        assert 40 * MEGABYTE < resident(server.worker_pid, "VmHWM") - before < 120 * MEGABYTE
        wait_until(lambda: resident(server.worker_pid) - before < 25 * MEGABYTE, what="memory going back")
        assert server.exchange(close("/echo", f"Content-Length: {MEGABYTE}", method="POST", body=BODY)).endswith(BODY)
    finally:
        assert server.stop() == 0


def resident(pid: int, which: str = "VmRSS") -> int:
    """Return the bytes of memory that a process has, or with `VmHWM` the most that it had."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_refusals_for_want_of_memory_are_counted(valkey: Server, tmp_path: Path) -> None:
    with serving(valkey.url, tmp_path, max_buffered_bytes="1") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as first:
            first.sendall(POST[:-1])
            line = 'featurestore_requests_total{method="other",route="other",status="503"} 1.0'

            def refused() -> bool:
                with contextlib.suppress(OSError):
                    return server.request("POST", "/features/batch", BODY).status == 503
                return False

            wait_until(refused, what="a refusal")
        assert line in server.get("/metrics").body.decode()


# Open files


def limited(files: int) -> tuple[str, ...]:
    """Return what starts a command with that limit of open files, soft and hard."""
    program = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files})); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return sys.executable, "-c", program


def open_files(pid: int) -> int:
    """Return how many files a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.parametrize(
    ("limit", "clients"),
    [(1, 1), (20, 10), (80, 40), (256, 128), (512, 256), (1024, 768), (4351, 4095), (4352, 4096), (1 << 20, CLIENTS)],
)
def test_how_many_clients_a_limit_of_open_files_allows(limit: int, clients: int) -> None:
    assert clients_within(limit) == clients


def test_other_files_are_kept_back_too() -> None:
    assert clients_within(80, others=8) == 32
    assert clients_within(80, others=1000) == 1


def serve(folder: Path, redis_url: str, files: int, worker_class: str = "featurestore", *options: str) -> Gunicorn:
    """Start the real app as `featurestore serve` does, under a limit of open files."""
    kind = {"featurestore": "featurestore.worker.worker.Worker"}.get(worker_class, worker_class)
    return Gunicorn(
        folder, "-c", "python:featurestore.serving.gunicorn_settings", *options, worker=kind, before=limited(files),
        app="featurestore.serving.build:build_app()", REDIS_URL=redis_url, FEATURESTORE_WORKER_CLASS=worker_class,
        FEATURESTORE_WORKERS="1", FEATURESTORE_TIMEOUT_MS="2000", FEATURESTORE_CONNECT_TIMEOUT_MS="2000",
    )  # fmt: skip


def test_idle_clients_beyond_the_limit_of_open_files_do_not_keep_out_redis_nor_others(
    valkey: Server, tmp_path: Path
) -> None:
    server = serve(tmp_path, valkey.url, 80)
    try:
        wait_until(lambda: server.exchange(close("/livez")).startswith(b"HTTP/1.1 200 "), what="a worker")
        line = f"at most 40 clients a worker: the limit of open files is 80; {FILES} are wanted"
        assert server.text().count(line) == 1
        with contextlib.ExitStack() as stack:
            for _ in range(120):
                stack.enter_context(server.connect())
            valkey.stop()
            assert b" 503 " in server.exchange(close("/features/a"))
            valkey.start()
            wait_until(lambda: b"no schema" in server.exchange(close("/features/a")), what="Redis being reached again")
            for _ in range(32):
                assert b"no schema" in server.exchange(close("/features/a"))
            assert open_files(server.worker_pid) < 80
        assert "Traceback" not in server.text()
    finally:
        assert server.stop() == 0


def chunked_response(client: socket.socket) -> bytes:
    """Return one response as gunicorn's own workers send it."""
    received = b""
    while not received.endswith(b"\r\n0\r\n\r\n"):
        piece = client.recv(65_536)
        assert piece
        received += piece
    return received


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_gunicorns_own_workers_keep_back_files_for_redis(valkey: Server, tmp_path: Path, worker_class: str) -> None:
    server = serve(
        tmp_path, valkey.url, 80, worker_class, "-b", f"unix:{tmp_path}/other", "--worker-connections", "999"
    )
    try:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(server.connect())
            first.sendall(request("/features/a"))
            assert b"no schema" in chunked_response(first)
            for _ in range(60):
                other = stack.enter_context(socket.socket(socket.AF_UNIX))
                other.connect(f"{tmp_path}/other")
                for idle in (other, stack.enter_context(server.connect())):
                    idle.sendall(request("/livez"))
            valkey.stop()
            valkey.start()

            def reached() -> bool:
                first.sendall(request("/features/a"))
                return b"no schema" in chunked_response(first)

            wait_until(reached, what="Redis being reached again")
            assert open_files(server.worker_pid) < 80
    finally:
        server.process.kill()  # gunicorn's workers wait for idle clients
        server.process.wait()


def test_a_worker_without_our_configuration_fits_its_clients_too(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    server = Gunicorn(tmp_path, "-c", f"{tmp_path}/empty.py", "--worker-connections", "999", before=limited(100))
    try:
        wait_until(lambda: "at most 50 clients a worker: the limit of open files is 100" in server.text())
        assert server.exchange(close("/x")).startswith(b"HTTP/1.1 200 ")
    finally:
        assert server.stop() == 0


def test_all_listeners_of_a_worker_share_the_number_of_clients(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "-b", f"unix:{tmp_path}/s", "--worker-connections", "2", "--keep-alive", "60")
    try:
        with server.connect() as first, socket.socket(socket.AF_UNIX) as second, server.connect() as third:
            second.connect(f"{tmp_path}/s")
            for client in (first, second):
                client.sendall(GET + GET[:9])
                assert status_of(client) == b"200"
            third.sendall(GET)
            third.settimeout(0.3)
            with pytest.raises(TimeoutError):
                third.recv(1)
            third.settimeout(10)
            second.close()
            assert status_of(third) == b"200"
    finally:
        assert server.stop() == 0


def processor_seconds(pid: int) -> float:
    """Return how long a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_worker_without_descriptors_neither_spins_nor_ends_and_recovers(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--keep-alive", "60", before=limited(64))
    pid = server.worker_pid
    try:
        with server.connect() as busy:
            busy.sendall(request("/hoard") + b"GET /rel")  # half a request under way, so that it is not idle
            assert status_of(busy) == b"200"
            before = processor_seconds(pid)
            with server.connect() as another:
                another.sendall(GET)
                another.settimeout(2)
                with pytest.raises(TimeoutError):
                    another.recv(1)
                assert processor_seconds(pid) - before < 1
                wait_until(lambda: "no new client can be taken" in server.text(), what="a line in the log")
                another.settimeout(10)
                busy.sendall(b"ease HTTP/1.1\r\nHost: h\r\n\r\n")
                assert status_of(busy) == b"200"
                assert status_of(another) == b"200"
        assert server.text().count("no new client can be taken") == 1
        assert "Traceback" not in server.text()
        assert server.worker_pid == pid
    finally:
        assert server.stop() == 0


def test_an_idle_client_makes_room_where_descriptors_have_run_out(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--keep-alive", "60", before=limited(64))
    try:
        with server.connect() as idle:
            idle.sendall(request("/hoard"))
            assert status_of(idle) == b"200"
            with server.connect() as another:
                another.sendall(GET)
                assert status_of(another) == b"200"
            assert idle.recv(1) == b""
    finally:
        assert server.stop() == 0


def test_of_idle_clients_those_go_first_that_have_waited_for_longest(tmp_path: Path) -> None:
    server = Gunicorn(tmp_path, "--worker-connections", "3", "--keep-alive", "60")
    try:
        with server.connect() as oldest, server.connect() as newer:
            oldest.sendall(GET)
            assert status_of(oldest) == b"200"
            for _ in range(2):
                newer.sendall(GET)
                assert status_of(newer) == b"200"
            with server.connect():  # it has sent nothing yet
                assert oldest.recv(1) == b""
                newer.sendall(GET)
                assert status_of(newer) == b"200"
    finally:
        assert server.stop() == 0
