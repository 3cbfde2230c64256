"""A Redis that wants a password, another one, or a user with more permissions: callers and the log are told so."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.binaries import binaries
from support.http import serving
from support.scripted import ThreadedServer, eventually
from support.servers import Server, wait_until

from featurestore import AsyncFeatureStore, AsyncTransport, Definition, FeatureStore, SyncTransport
from featurestore.errors import AccessDeniedError, FeatureStoreError, UnavailableError
from featurestore.transport.gevent_transport import GeventTransport

PATIENT_S = 20.0
IDS = [f"u{number}" for number in range(250)]

Ask = Callable[[str], Any]
"""Write two users and read many by a store at that URL; return the error, None where there is none."""


def ask_blocking(kind: Any, url: str) -> FeatureStoreError | None:
    with FeatureStore(kind(url, timeout=PATIENT_S, connect_timeout=PATIENT_S)) as store:
        try:
            store.get_many(IDS, ["n"])
            store.upsert([("u1", {"n": 1}), ("u2", {"n": 2})])
        except FeatureStoreError as error:
            return error
    return None


def ask_async(url: str) -> FeatureStoreError | None:
    async def ask() -> FeatureStoreError | None:
        async with AsyncFeatureStore(AsyncTransport(url, timeout=PATIENT_S, connect_timeout=PATIENT_S)) as store:
            try:
                await store.get_many(IDS, ["n"])
                await store.upsert([("u1", {"n": 1}), ("u2", {"n": 2})])
            except FeatureStoreError as error:
                return error
        return None

    return asyncio.run(ask())


@pytest.fixture(params=["gevent", "pool", "asyncio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    kinds: dict[str, Any] = {"gevent": GeventTransport, "pool": SyncTransport}
    if request.param == "asyncio":
        return ask_async
    return lambda url: ask_blocking(kinds[request.param], url)


@pytest.fixture(params=["valkey9", "redis62", "redis7"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that holds a schema and wants the password `right`."""
    if request.param not in binaries():
        pytest.skip(f"this machine has no {request.param}")
    server = Server(binaries()[request.param], tmp_path)
    server.start()
    with FeatureStore(SyncTransport(server.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)) as store:
        store.apply(Definition({"n": "int"}))
        store.transport.command("CONFIG", "SET", "requirepass", "right")
    yield server
    server.stop()


def url_of(server: Server, credentials: str = "") -> str:
    return f"redis://{credentials}127.0.0.1:{server.port}"


def test_no_password_is_told_at_once_with_the_place_for_it(ask: Ask, guarded: Server) -> None:
    error = ask(url_of(guarded))
    assert isinstance(error, AccessDeniedError)
    assert str(error).startswith("Redis wants a password and was given none")
    assert "REDIS_URL" in str(error)
    assert "REDIS_PASSWORD" in str(error)
    assert "NOAUTH" in str(error)


@pytest.mark.parametrize("credentials", [":wrong@", "nobody:right@", "default:wrong@", "nobody@"])
def test_wrong_credentials_are_told_with_the_place_for_them(ask: Ask, guarded: Server, credentials: str) -> None:
    error = ask(url_of(guarded, credentials))
    assert isinstance(error, AccessDeniedError)
    assert str(error).startswith("Redis refused the user or the password")
    assert "REDIS_URL" in str(error)
    assert "WRONGPASS" in str(error)


def test_the_right_credentials_serve(ask: Ask, guarded: Server) -> None:
    assert ask(url_of(guarded, ":right@")) is None


def test_a_password_where_none_is_wanted_is_told(ask: Ask, servers: dict[str, Server]) -> None:
    error = ask(url_of(servers["valkey9"], ":some@"))
    assert isinstance(error, AccessDeniedError)
    assert "without any password configured" in str(error)


@pytest.mark.parametrize(
    ("rights", "lack"),
    [
        (("~*", "+@all", "-evalsha"), "evalsha"),
        (("~*", "+@all", "-hmget", "-hget"), "command"),
        (("~other*", "+@all"), "key"),
        (("~*", "+@all", "-script"), "script"),
        (("~*", "+@all", "-ping"), None),
    ],
    ids=["evalsha", "inside", "keys", "script", "ping"],
)
def test_a_user_without_a_permission_is_told_which(
    ask: Ask, guarded: Server, rights: tuple[str, ...], lack: str | None
) -> None:
    with FeatureStore(SyncTransport(url_of(guarded, ":right@"), timeout=PATIENT_S, connect_timeout=PATIENT_S)) as admin:
        command = admin.transport.command
        command("ACL", "SETUSER", "limited", "on", ">secret", *rights)
        if lack != "script":
            assert ask(url_of(guarded, ":right@")) is None  # the scripts are loaded
        else:
            command("SCRIPT", "FLUSH")
    error = ask(url_of(guarded, "limited:secret@"))
    if lack is None:
        assert error is None
    else:
        assert isinstance(error, AccessDeniedError)
        assert "NOPERM" in str(error)
        assert lack in str(error)


def test_a_user_who_may_not_ping_is_served_without_a_password_too(ask: Ask, servers: dict[str, Server]) -> None:
    with FeatureStore(SyncTransport(servers["redis62"].url, timeout=PATIENT_S, connect_timeout=PATIENT_S)) as admin:
        admin.transport.command("FLUSHALL")
        admin.apply(Definition({"n": "int"}))
        admin.transport.command("ACL", "SETUSER", "default", "-ping")
        try:
            assert ask(servers["redis62"].url) is None
        finally:
            admin.transport.command("ACL", "SETUSER", "default", "+ping")


def test_the_protected_mode_is_told(ask: Ask) -> None:
    def deny(peer: Any) -> None:
        peer.send(b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n")
        peer.command()

    with ThreadedServer(deny, polite=False) as server:
        error = ask(server.url)
        assert isinstance(error, AccessDeniedError)
        assert "protected mode" in str(error)


def test_a_server_with_too_many_clients_is_told(ask: Ask) -> None:
    def refuse(peer: Any) -> None:
        peer.send(b"-ERR max number of clients reached\r\n")
        peer.command()

    with ThreadedServer(refuse, polite=False) as server:
        error = ask(server.url)
        assert isinstance(error, UnavailableError)
        assert "max number of clients" in str(error)


# What the log tells


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the log says about Redis, shortened to what tells the lines apart."""
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    known = {"cannot be reached": "away", "closed": "away", "broke": "away", "reset": "away", "wants a pass": "none",
             "refused the user": "wrong", "connected again": "again"}  # fmt: skip
    return [next((short for words, short in known.items() if words in line), line) for line in said]


@pytest.mark.parametrize("kind", ["gevent", "asyncio"])
def test_the_log_speaks_again_when_the_trouble_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    server = Server(binaries()["valkey9"], tmp_path)
    url = url_of(server)

    with asyncio.Runner() as runner:
        made: Any = (GeventTransport if kind == "gevent" else AsyncTransport)(
            url, timeout=PATIENT_S, connect_timeout=PATIENT_S
        )

        def finish(call: Any) -> Any:
            return runner.run(call) if asyncio.iscoroutine(call) else call

        def said(*, served: bool) -> list[str]:
            """Ask until there is an answer, or else until several attempts were made; return the log."""
            made._backoff.reset(at_once=True)

            def ask() -> bool:
                try:
                    finish(made.command("PING"))
                except FeatureStoreError:
                    return not served and made._backoff._failures > 2
                return served

            eventually(ask)
            return lines(caplog)

        def reconfigure(password: str, requirepass: str) -> None:
            with FeatureStore(SyncTransport(url_of(server, password), timeout=20, connect_timeout=20)) as admin:
                admin.transport.command("CONFIG", "SET", "requirepass", requirepass)

        assert said(served=False) == ["away"]
        server.start()
        reconfigure("", "right")
        assert said(served=False) == ["away", "none"]
        server.stop()
        assert said(served=False) == ["away", "none", "away"]
        server.start()
        assert said(served=True) == ["away", "none", "away", "again"]
        server.stop()
        assert said(served=False) == ["away", "none", "away", "again", "away"]
        server.start()
        reconfigure("", "right")
        made._dialler._pool.connection_kwargs["password"] = "wrong"
        assert said(served=False) == ["away", "none", "away", "again", "away", "wrong"]
        made._dialler._pool.connection_kwargs["password"] = "right"
        assert said(served=True) == ["away", "none", "away", "again", "away", "wrong", "again"]
        finish(made.close())
    server.stop()


def test_a_server_says_why_it_cannot_serve_and_goes_on_when_it_can(guarded: Server, tmp_path: Path) -> None:
    with serving(url_of(guarded), tmp_path, timeout_ms="5000", connect_timeout_ms="5000") as server:
        for _ in range(5):
            answer = server.get("/features/u1")
            assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
            assert "Redis wants a password" in answer.json["detail"]
        assert server.log.read_text().count("Redis wants a password") == 1
        with FeatureStore(SyncTransport(url_of(guarded, ":right@"), timeout=20, connect_timeout=20)) as admin:
            admin.transport.command("CONFIG", "SET", "requirepass", "")
        wait_until(lambda: server.get("/features/u1").status == 404, what="an answer of the store")
        assert server.log.read_text().count("is connected again") == 1
