"""redis-py's insides that featurestore/transport/dial.py uses: each that a release lacks is named here."""

import ast
import asyncio
import inspect
import socket
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from featurestore.transport import dial

PACKAGE = Path(dial.__file__).parents[1]
MISSING = f"redis-py {redis.__version__} has no {{}}, which featurestore/transport/dial.py uses"


def has(owner: Any, *names: str) -> None:
    for name in names:
        assert hasattr(owner, name), MISSING.format(f"{owner!r}.{name}")


def takes(function: Any, *names: str) -> None:
    for name in names:
        assert name in inspect.signature(function).parameters, MISSING.format(f"{name} of {function.__qualname__}")


@pytest.mark.parametrize("pool", [redis.ConnectionPool, redis.asyncio.ConnectionPool])
def test_pools_tell_how_to_make_a_connection(pool: Any) -> None:
    made = pool.from_url("redis://127.0.0.1:1", driver_info=None)
    has(made, "connection_class", "connection_kwargs")
    connection = made.connection_class(**made.connection_kwargs)
    has(connection, "connect", "disconnect", "send_command", "read_response")
    takes(connection.send_command, "args", "kwargs")
    takes(connection.read_response, "disconnect_on_error")
    takes(redis.asyncio.Connection.disconnect, "nowait")


def test_connections_that_block_have_a_socket_and_a_parser_of_our_own() -> None:
    has(redis.ConnectionPool, "get_connection", "release", "disconnect")
    connection = redis.Connection(parser_class=dial._PunctualParser, redis_connect_func=dial._greet, protocol=2)
    has(connection, "_sock", "_parser", "on_connect")
    assert isinstance(connection._parser, dial._PunctualParser), MISSING.format("parser_class")
    takes(connection.send_packed_command, "check_health")
    takes(connection.read_response, "disable_decoding", "timeout", "disconnect_on_error")


def test_the_parser_reads_as_ours_overrides_it() -> None:
    parser: Any = dial._PunctualParser.__mro__[1]
    takes(parser.on_connect, "connection")
    takes(parser.read_response, "disable_decoding", "push_request", "timeout")
    takes(parser.read_from_socket, "timeout", "raise_on_timeout")
    kind: Any = dial._PunctualParser
    ours, (near, far) = kind(socket_read_size=100), socket.socketpair()
    with near, far:
        connection: Any = redis.Connection(socket_timeout=0.5)
        connection._sock = near
        ours.on_connect(connection)
        has(ours, "_socket_timeout", "_hiredis_PushNotificationType")
        assert ours._socket_timeout == 0.5
        far.sendall(b"+PONG\r\n")
        assert ours.read_response(disable_decoding=True) == b"PONG"
        connection._sock = None


def test_connections_of_asyncio_have_streams() -> None:
    async def check() -> None:
        has(redis.asyncio.Connection(), "_reader", "_writer")
        has(asyncio.StreamReader(), "at_eof")

    asyncio.run(check())


def test_errors_have_the_names_that_are_told_apart() -> None:
    has(
        redis,
        "RedisError",
        "TimeoutError",
        "AuthenticationError",
        "ResponseError",
        "InvalidResponse",
        "BusyLoadingError",
    )
    has(redis.exceptions, "MaxConnectionsError")
    has(redis.RedisError("x"), "status_code")


def test_no_other_module_reaches_into_redis_py() -> None:
    importing = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "redis" for name in names):
                importing.add(path.relative_to(PACKAGE).as_posix())
    assert importing == {"transport/dial.py"}
