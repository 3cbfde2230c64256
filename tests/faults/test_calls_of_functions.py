"""Calls by FCALL on servers that have no library, an older one, a newer one, or no functions at all."""

import re
from typing import Any

import pytest
from featurestore.ingest.writer import BulkWriter
from support.kinds import Kind, over_each
from support.scripted_async import reply_once
from support.servers import Server

from featurestore import AccessDeniedError, Definition, RedisError, UnavailableError, WriteRefusedError
from featurestore.contract.library import LIBRARY, VERSION_FUNCTION, build, function_library
from featurestore.contract.scripts import SCRIPTS


def library_of(told: str) -> str:
    """A library of our name with nothing in it but what tells its build."""
    return f"#!lua name={LIBRARY}\nredis.register_function('{VERSION_FUNCTION}', function() return '{told}' end)\n"


async def calls_of(admin: Any) -> dict[str, int]:
    """How often each command was called since the statistics were reset."""
    told = (await admin.command("INFO", "commandstats")).decode()
    return {name: int(count) for name, count in re.findall(r"^cmdstat_([^:]+):calls=(\d+)", told, re.MULTILINE)}


async def declared(kind: Kind, server: Server) -> Any:
    """A store over functions with a schema and a row."""
    store = kind.store(kind.connect(server.url, call="functions"))
    await store.apply(Definition({"age": "int"}))
    await store.upsert([("ann", {"age": 1})])
    return store


@over_each
async def test_the_first_connection_brings_the_library_and_no_other_does(kind: Kind, valkey: Server) -> None:
    admin = kind.connect(valkey.url)
    await admin.command("CONFIG", "RESETSTAT")
    for _ in range(2):
        store = await declared(kind, valkey)
        assert await store.get("ann") == {"age": 1}
    calls = await calls_of(admin)
    assert calls["function|load"] == 1
    assert calls["fcall"] >= 2 * 3
    assert not calls.keys() & {"evalsha", "script|load"}


@over_each
async def test_a_library_that_was_lost_is_loaded_again_and_the_calls_are_repeated(kind: Kind, valkey: Server) -> None:
    admin, store = kind.connect(valkey.url), await declared(kind, valkey)
    await admin.command("FUNCTION", "FLUSH")
    await admin.command("CONFIG", "RESETSTAT")
    assert await store.get_many(["ann", "bob"] * 300) == [{"age": 1}, None] * 300
    assert (await calls_of(admin))["function|load"] == 1
    await admin.command("FUNCTION", "FLUSH")
    assert (await store.upsert([(f"u{number}", {"age": number}) for number in range(300)])).written == 300
    await admin.command("FUNCTION", "FLUSH")
    assert await store.increment("ann", {"age": 1}) == {"age": 2}


@over_each
@pytest.mark.parametrize(
    ("stored", "after"),
    [
        ("", build()),
        ("0.0.9 0123", build()),
        (f"{build().split()[0]} 0123", build()),  # another build of this version
        (build(), build()),
        ("999.0.0 0123", "999.0.0 0123"),
        ("999.0.0rc1 0123", "999.0.0rc1 0123"),
    ],
)
async def test_an_older_library_is_replaced_and_a_newer_one_stays(
    kind: Kind, valkey: Server, stored: str, after: str
) -> None:
    admin = kind.connect(valkey.url)
    await admin.command("FUNCTION", "LOAD", library_of(stored))
    await admin.command("CONFIG", "RESETSTAT")
    await kind.connect(valkey.url, call="functions").command("PING")
    assert (await admin.command("FCALL", VERSION_FUNCTION, 0)).decode() == after
    assert ("function|load" in await calls_of(admin)) == (stored != after)


@over_each
async def test_a_user_who_may_not_load_a_library_may_call_it(
    kind: Kind, valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    admin = kind.connect(valkey.url)
    await declared(kind, valkey)
    rules = ("on", ">secret", "~*", "+fcall", "+ping", "+@read", "+@write", "+time", "-function")
    await admin.command("ACL", "SETUSER", "caller", *rules)
    url = f"redis://caller:secret@127.0.0.1:{valkey.port}"
    assert await kind.store(kind.connect(url, call="functions")).get("ann") == {"age": 1}
    assert not caplog.records
    await admin.command("FUNCTION", "LOAD", "REPLACE", function_library().replace(build(), "0.0.9 0123"))
    assert await kind.store(kind.connect(url, call="functions")).get("ann") == {"age": 1}
    (told,) = caplog.messages
    assert told.startswith(f"Redis has an older library {LIBRARY} (0.0.9 0123), which cannot be replaced: NOPERM ")
    await admin.command("FUNCTION", "FLUSH")
    for reads in (kind.store(kind.connect(url, call="functions")), kind.store(kind.connect(url, call="functions"))):
        with pytest.raises(AccessDeniedError, match=r"function\|load"):
            await reads.get("ann", ["age"])


@over_each
async def test_a_server_without_functions_is_told_in_clear_words(kind: Kind, servers: dict[str, Server]) -> None:
    transport = kind.connect(servers["redis62"].url, call="functions")
    told = "this server has no functions: Redis has them from 7.0 on, and so has Valkey; FEATURESTORE_CALL=scripts"
    with pytest.raises(RedisError, match=told):
        await kind.delete(transport, "nobody")


@over_each
async def test_a_server_that_cannot_tell_yet_is_asked_again_on_another_connection(kind: Kind) -> None:
    told = build().encode()
    loading, serving = reply_once(b"-LOADING Redis is loading\r\n"), reply_once(b"$%d\r\n%s\r\n" % (len(told), told))
    async with kind.server(loading, serving) as server:
        transport = kind.connect(server.url, call="functions")
        with pytest.raises(UnavailableError, match="LOADING"):
            await transport.command("ECHO", "x")
        kind.without_pause(transport)
        assert await transport.command("ECHO", "x") == b"x"
        assert server.received == [[b"FCALL", b"featurestore_1_version", b"0"]] * 2 + [[b"ECHO", b"x"]]


@over_each
async def test_a_replica_reads_by_functions_that_it_has_from_its_primary(
    kind: Kind, valkey: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await declared(kind, valkey)
    await kind.connect(valkey.url).command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    replica = Server(valkey.binary, tmp_path_factory.mktemp("replica"), "--replicaof", f"127.0.0.1 {valkey.port}")
    replica.start()
    try:
        admin = kind.connect(replica.url)

        async def caught_up() -> bool:
            return b"master_link_status:up" in await admin.command("INFO", "replication")

        await kind.eventually(caught_up, what="the replica's link")
        store = kind.store(kind.connect(replica.url, call="functions"))
        assert await store.get("ann") == {"age": 1}
        assert "function|load" not in await calls_of(admin)
        with pytest.raises(WriteRefusedError, match="READONLY"):
            await store.upsert([("ann", {"age": 2})])
    finally:
        replica.stop()


def test_bulk_writing_goes_on_when_the_library_is_lost(valkey: Server) -> None:
    admin, writer = BulkWriter(valkey.url).store, BulkWriter(valkey.url, call="functions")
    writer.store.apply(Definition({"age": "int"}))
    rows = [(f"u{number}", number) for number in range(3000)]

    def losing() -> Any:
        for number, row in enumerate(rows):
            if number in {0, 1500}:
                admin.transport.command("FUNCTION", "FLUSH")
            yield row

    assert writer.write_table(["age"], losing()).written == len(rows)
    assert admin.get_many([row[0] for row in rows]) == [{"age": number} for _, number in rows]
    assert "cmdstat_fcall:" in admin.transport.command("INFO", "commandstats").decode()
    for store in (admin, writer.store):
        store.close()


def test_every_script_is_registered_under_its_name_and_the_contracts_major_version() -> None:
    names = re.findall(r"function_name = '(\w+)'", function_library())
    assert names == [*(f"featurestore_1_{script.name}" for script in SCRIPTS), "featurestore_1_version"]
