"""Request ids, the access log and slow requests, on real servers of each kind."""

import http.client
import json
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.api_keys import made
from support.binaries import binaries
from support.gunicorn import read_response, request
from support.http import HttpServer, serving
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, SyncTransport
from featurestore.api.identity import id_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
MADE = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this module's own, to freeze."""
    running = Server(binaries()["valkey9"], tmp_path_factory.mktemp("valkey"))
    running.start()
    with FeatureStore(SyncTransport(running.url, timeout=5, connect_timeout=5)) as opened:
        opened.apply(Definition(features={"age": "int"}))
        opened.upsert([("ann", {"age": 31})])
    yield running
    running.stop()


@pytest.fixture(scope="module", params=["featurestore", "gthread"])
def server(
    request: pytest.FixtureRequest, redis: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpServer]:
    settings = {"log_format": "json", "access_log": "true", "timeout_ms": "1000", "write_keys": "k"}
    with serving(redis.url, tmp_path_factory.mktemp("server"), worker_class=request.param, **settings) as running:
        yield running


@pytest.fixture
def connection(server: HttpServer) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    yield made
    made.close()


def asked(connection: http.client.HTTPConnection, path: str, **headers: str) -> tuple[str | None, bytes]:
    """Send a GET; return the id that the response has, and its body."""
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.headers["x-request-id"], response.read()


def gathered(client: socket.socket, path: str, *lines: str) -> bytes:
    """Send a plain GET until it is answered in the event loop; return the body."""
    bodies = []

    def answered() -> bool:
        client.sendall(request(path, *lines))
        head, body = read_response(client)
        bodies.append(body)
        return b"x-request-id" not in head

    wait_until(answered, what=f"a gathered {path}")
    return bodies[-1]


def records(server: HttpServer, **wanted: Any) -> list[dict[str, Any]]:
    whole = server.log.read_text().rpartition("\n")[0]  # the last line may be half written
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line for line in lines if line.items() >= wanted.items()]


def awaited(server: HttpServer, **wanted: Any) -> dict[str, Any]:
    wait_until(lambda: records(server, **wanted), what=f"a record of {wanted}")
    return records(server, **wanted)[0]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("target", ["/features/ann", "/features/nobody", "/features/ann?features=age", "/nowhere"])
def test_a_response_has_the_id_of_its_request(server: HttpServer, method: str, target: str) -> None:
    given = server.request(method, target, **{"X-Request-Id": "a.b_c~d+e/f=g:h@i-1"})
    made = server.request(method, target)
    assert given.headers.get_all("x-request-id") == ["a.b_c~d+e/f=g:h@i-1"]
    assert MADE.fullmatch(made.headers["x-request-id"])
    assert given.status == made.status


@pytest.mark.parametrize("wrong", ["", "a b", "x" * 129, 'a"b', "a,b", "a\tb", "\u00e9", "a<b>", "${jndi:x}"])
def test_an_id_that_is_not_well_formed_is_replaced(server: HttpServer, wrong: str) -> None:
    answer = server.request("GET", "/features/ann", **{"X-Request-Id": wrong})
    assert answer.status == 200
    assert MADE.fullmatch(answer.headers["x-request-id"])


def test_requests_of_a_connection_have_ids_of_their_own(connection: http.client.HTTPConnection) -> None:
    for number in (*range(40), 7, 7, 7):  # the same again is no reason to answer without it
        given, body = asked(connection, "/features/ann", **{"X-Request-Id": f"id-{number}"})
        assert given == f"id-{number}"
        assert b'"age":31' in body
    for _ in range(3):
        assert "id-" not in (asked(connection, "/features/ann")[0] or "")


def test_requests_at_once_have_their_own_ids_and_answers(server: HttpServer) -> None:
    def client(number: int) -> None:
        made = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for turn in range(20):
            given, body = asked(made, "/features/ann", **{"X-Request-Id": f"{number}-{turn}"})
            assert given == f"{number}-{turn}"
            assert b'"age":31' in body
        made.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))


def test_two_ids_are_none(server: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(request("/features/ann", "X-Request-Id: a", "X-Request-Id: b"))
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
    found = re.findall(r"x-request-id: (\S+)", head.decode())
    assert len(found) == 1
    assert MADE.fullmatch(found[0])


def test_an_error_of_the_server_has_its_id_in_the_body_and_one_of_the_client_has_not(
    server: HttpServer, redis: Server
) -> None:
    assert "request_id" not in server.request("GET", "/features/nobody", **{"X-Request-Id": "r1"}).json
    with redis.frozen():
        for target in ("/features/ann", "/features/ann?max_age=1d"):
            answer = server.request("GET", target, **{"X-Request-Id": "r2"})
            assert (answer.status, answer.json["request_id"]) == (504, "r2")


def test_the_access_log_has_a_record_a_request_without_ids_of_entities(server: HttpServer) -> None:
    trace = f"00-{TRACE}-b7ad6b7169203331-01"
    server.request("GET", "/features/ann?features=age", **{"X-Request-Id": "q1", "traceparent": trace})
    found = awaited(server, request_id="q1")
    assert found.items() >= {
        "level": "info", "logger": "gunicorn.access", "method": "GET", "route": "/features/{id}", "status": 200,
        "query": "features", "client": "127.0.0.1", "trace_id": TRACE,
    }.items()  # fmt: skip
    assert found["bytes"] > 10
    assert 0 < found["duration_ms"] < 20_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])
    assert (found["worker"], type(found["pid"])) == (0, int)
    server.request("PUT", "/features/zoe", {"features": {"age": 31415926}}, **{"X-API-Key": "k", "X-Request-Id": "q2"})
    assert awaited(server, request_id="q2")["status"] == 200
    text = server.log.read_text()
    assert not {word for word in ("ann", "zoe") if f'"{word}' in text or f"/{word}" in text}
    assert "31415926" not in text


def test_gathered_gets_are_in_the_access_log_too(redis: Server, tmp_path: Path) -> None:
    settings = {"log_format": "json", "access_log": "true", "log_ids": "true", "timeout_ms": "2000"}
    with serving(redis.url, tmp_path, **settings) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            paths = ("/features/ann", "/features/nobody", "/features/ann?features=age")
            bodies = [gathered(client, path) for path in paths]
        for path, body, status in zip(paths, bodies, (200, 404, 200), strict=True):
            found = awaited(server, target=path, status=status, bytes=len(body), route="/features/{id}")
            wait_until(lambda path=path: "request_id" not in records(server, target=path)[-1])  # type: ignore[misc]
            assert found["client"] == "127.0.0.1"
            assert found.get("query") == ("features" if "?" in path else None)


def test_gathered_gets_are_logged_with_their_key_and_the_client_of_a_proxy(redis: Server, tmp_path: Path) -> None:
    secret = made(tmp_path / "keys.toml", "ranking", "read")
    settings = {"log_format": "json", "access_log": "true", "log_ids": "true", "timeout_ms": "2000"}
    for keys, fields, key in (({}, (), None), ({"keys_file": str(tmp_path / "keys.toml")}, (secret,), "ranking")):
        lines = ["X-Forwarded-For: 203.0.113.9", *(f"X-API-Key: {each}" for each in fields)]
        with serving(redis.url, tmp_path, **settings, **keys) as server:
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                gathered(client, "/features/ann", *lines)
            wait_until(lambda server=server: len(records(server, target="/features/ann")) > 1)  # type: ignore[misc]
            found = records(server, target="/features/ann")
            assert {(each["client"], each.get("key")) for each in found} == {("203.0.113.9", key)}


def test_hostile_text_stays_in_its_line_and_field(server: HttpServer) -> None:
    hostile = "/features/%0a%7b%22level%22%3a%22forged%22%7d?%0aforged=1"
    server.request("GET", hostile, **{"X-Request-Id": "$(forged)", "User-Agent": "forged"})
    server.request("GET", "/nowhere", **{"X-Request-Id": "h1"})
    awaited(server, request_id="h1")
    assert not records(server, level="forged")


def test_slow_requests_say_where_their_time_went(redis: Server, tmp_path: Path) -> None:
    settings = {"log_format": "json", "slow_ms": "500", "timeout_ms": "1000"}
    with serving(redis.url, tmp_path, **settings) as server:
        assert server.request("POST", "/features/batch", {"user_ids": ["ann"]}).status == 200
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            gathered(client, "/features/ann")
            with redis.frozen():
                client.sendall(request("/features/ann"))
                assert b" 504 " in read_response(client)[0]
                posted = server.request("POST", "/features/batch", {"user_ids": ["ann"]}, **{"X-Request-Id": "s1"})
                assert posted.status == 504
        batch = awaited(server, message="slow request", request_id="s1")
        found = awaited(server, message="slow request", requests=1)
    assert batch.items() >= {"level": "warning", "method": "POST", "route": "/features/batch", "status": 504}.items()
    assert batch["redis_ms"] >= 900
    stages = ("prepare_ms", "turn_ms", "redis_ms", "between_ms", "encode_ms", "send_ms")
    assert abs(sum(batch[name] for name in stages) - batch["duration_ms"]) < 1
    assert found["redis_ms"] >= 900
    assert found["route"] == "/features/{id}"


def test_made_ids_differ_also_in_children() -> None:
    made = {id_of({}) for _ in range(1000)}
    assert len(made) == 1000
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(sender, id_of({}).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(receiver, 100).decode()
    assert theirs.partition("-")[0] != id_of({}).partition("-")[0]
