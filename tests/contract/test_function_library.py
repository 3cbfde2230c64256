"""The scripts as a library of Redis Functions: FCALL does what EVALSHA does."""

import re
import time
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from support.servers import Server, real, wait_until

from featurestore import SyncTransport
from featurestore.contract.library import LIBRARY, VERSION_FUNCTION, build, function_library
from featurestore.contract.manifest import manifest
from featurestore.contract.resp import Reply, Word
from featurestore.contract.scripts import CONTRACT, SCRIPTS
from featurestore.errors import FeatureStoreError, WriteRefusedError

Call = tuple[str, Sequence[Word], Sequence[Word]]

TIME, LATER = 1_700_000_000_000, 1_700_000_001_000
KEYS = ["all_users", "user:schema"]
ITEM_KEYS = ["all_items", "item:schema"]
ITEM_LAYOUT = "@00ebc33"  # the first of the SHA-1 of its features as JSON
ITEM_ROW = b"\x94\xa11\xb0%b\x92\xca\x3f\x00\x00\x00\xa1x\xa30.5\xa1x" % ITEM_LAYOUT.encode()  # id, packed row, texts


def hashes(*entity_ids: str) -> list[str]:
    return [f"user:{entity_id}:features" for entity_id in entity_ids]


TOKEN = re.compile(rb"(?<![0-9])[0-9]{13}(?![0-9])")


def calls(now: int) -> list[Call]:
    """Return calls of every script: usual ones, then what is refused."""
    names = ["plays", "score", "name"]
    return [
        ("apply_schema", ["user:schema", "featurestore:schemas"],
         ["plays", "int", "score", "float", "name", "string", "often", "count(1d)", "@default:plays", "7"]),
        ("apply_schema", ["item:schema"], ["price", "float", "title", "string"]),
        ("upsert_features", [*KEYS, *hashes("a", "b", "c")],
         [TIME, 4, "?verdicts", *names, "a", "1", "0.5", "x", "b", "\xff", "1e3", "\xfe", "c", "no", "1", "x"]),
        ("upsert_features", [*KEYS, *hashes("a", "b")],
         ["", 3, "?verdicts", "@event_time", "plays", "a", LATER, "2", "b", "2020-01-01T00:00:00Z", "3"]),
        ("increment_features", [*KEYS, *hashes("a")], ["a", LATER, "plays", "5", "score", "-0.25"]),
        ("record_events", [*KEYS, *hashes("a", "a", "b")], [now, 1, "@event_id", "a", "1", "a", "1", "b", "2"]),
        ("replace_rows", [*ITEM_KEYS, "item:1:features"],
         [ITEM_LAYOUT, TIME, 2, "price", "title", ITEM_ROW]),
        ("get_features", [*KEYS, *hashes("a")], ["a"]),
        ("get_features", [*KEYS, *hashes("a")], ["a", "name", "often", "?max_age=100000000000000"]),
        ("get_features", [*ITEM_KEYS, "item:1:features"], ["1", ITEM_LAYOUT]),
        ("get_features_batch", [*KEYS, *hashes("a", "x", "b")], [2, "plays", "score", "a", "x", "b"]),
        ("get_features_batch", [*ITEM_KEYS, "item:1:features"], [1, ITEM_LAYOUT, "1"]),
        ("apply_schema", ["user:schema"], ["new", "bool"]),
        ("repack_rows", [*KEYS, *hashes("a", "b", "x")], ["a", "b", "x"]),
        ("delete_entity", [*KEYS, *hashes("b")], ["b", now + 1000, 86_400_000]),
        ("delete_entity", [*KEYS, *hashes("x")], ["x"]),
        ("sweep_members", [*KEYS, *hashes("a", "b")], ["a", "b"]),
        ("copy_entities", [*KEYS, *hashes("a", "b")],
         ["newer", "a", "1", "", 2, "score", "2.5", "@event_time", LATER,
          "b", "0", "", 2, "name", "y", "@event_time", TIME]),
        ("retire_features", ["user:schema"], ["score"]),
        ("clear_hashes", [*KEYS, *hashes("a", "b")], ["a", "b"]),
        ("free_names", ["user:schema"], ["score", "1"]),
        ("drop_entity", ["all_items", "item:schema"], []),
        ("clear_hashes", [*ITEM_KEYS, "item:1:features"], ["1"]),
        ("free_names", ["item:schema", "featurestore:schemas"], ["@dropping", "1"]),
        ("get_features", [*KEYS, *hashes("a")], ["a", "unheard-of"]),
        ("upsert_features", [*KEYS, *hashes("a")], ["yesterday", 1, "plays", "a", "1"]),
        ("upsert_features", ["user:schema", "user:schema", *hashes("a")], ["", 1, "plays", "a", "1"]),
        ("replace_rows", [*ITEM_KEYS, "item:1:features"], ["@another", TIME, 2, "price", "title", ITEM_ROW]),
        *((script.name, [], []) for script in SCRIPTS),
    ]  # fmt: skip


def outcome(transport: SyncTransport, command: str, name: str, keys: Sequence[Word], words: Sequence[Word]) -> object:
    try:
        return transport.command(command, name, len(keys), *keys, *words)
    except FeatureStoreError as error:
        return type(error), str(error)


def everything_stored(transport: SyncTransport) -> dict[object, Reply]:
    """Return all that is stored, but for the tokens of retirements, which are times."""
    keys = transport.command("KEYS", "*")
    read = {b"hash": "HGETALL", b"set": "SMEMBERS"}
    found = {key: transport.command(read[transport.command("TYPE", key)], key) for key in sorted(keys)}
    for key in {b"user:schema", b"item:schema"} & found.keys():
        found[key] = [TOKEN.sub(b"TOKEN", word) for word in found[key]]
    return {key: sorted(words) for key, words in found.items()}


@pytest.fixture(params=real("valkey9", "redis7"))
def library(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[SyncTransport]:
    """A transport to an empty server that has the scripts and the library."""
    transport = SyncTransport(servers[request.param].socket_url, timeout=5, connect_timeout=5)
    if transport.command("COMMAND", "INFO", "FUNCTION") == [None]:
        pytest.skip("Functions are of Redis 7.0")
    transport.command("FLUSHALL")
    for script in SCRIPTS:
        transport.command("SCRIPT", "LOAD", script.source)
    assert transport.command("FUNCTION", "LOAD", "REPLACE", function_library()) == LIBRARY.encode()
    yield transport
    transport.command("CONFIG", "SET", "maxmemory", 0)
    transport.command("FLUSHALL")
    transport.close()


def test_a_function_does_what_the_script_does(library: SyncTransport) -> None:
    made = calls(int(time.time() * 1000))
    assert {name for name, _, _ in made} == {script.name for script in SCRIPTS}
    sha_of = {script.name: script.sha for script in SCRIPTS}
    by_script = [outcome(library, "EVALSHA", sha_of[name], keys, words) for name, keys, words in made]
    stored = everything_stored(library)
    library.command("FLUSHALL")
    function_of = {script.name: script.function for script in SCRIPTS}
    by_function = [outcome(library, "FCALL", function_of[name], keys, words) for name, keys, words in made]
    assert by_function == by_script
    assert everything_stored(library) == stored
    errors = [reply for reply in by_script[: -len(SCRIPTS) - 5] if isinstance(reply, tuple)]
    assert errors == []


def test_nothing_of_a_call_is_left_for_the_next(library: SyncTransport) -> None:
    def upsert() -> int:
        library.command("FCALL", "featurestore_1_upsert_features", 3, *KEYS, *hashes("a"), "", 1, "plays", "a", "1")
        return int(library.command("HGET", *hashes("a"), "@event_time"))

    def clock() -> int:
        seconds, microseconds = library.command("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    library.command("FCALL", "featurestore_1_apply_schema", 1, "user:schema", "plays", "int")
    first = upsert()
    wait_until(lambda: clock() > first)
    assert upsert() > first


def test_reads_are_known_to_write_nothing(library: SyncTransport) -> None:
    read_only = {script.name for script in SCRIPTS if not script.writes}
    assert read_only == {"describe_entity", "get_features", "get_features_batch"}
    for script in SCRIPTS:
        refused = "Can not execute a script with write flag using *_ro command" in str(
            outcome(library, "FCALL_RO", script.function, [], [])
        )
        assert refused == script.writes, script.name


@pytest.mark.parametrize("command", ["EVALSHA", "FCALL"])
def test_full_memory_stops_no_read_and_nothing_that_makes_room(library: SyncTransport, command: str) -> None:
    by_name = {script.name: script.sha if command == "EVALSHA" else script.function for script in SCRIPTS}

    def call(name: str, keys: Sequence[Word], words: Sequence[Word]) -> object:
        return outcome(library, command, by_name[name], keys, words)

    call("apply_schema", KEYS[1:], ["plays", "int"])
    call("upsert_features", [*KEYS, *hashes("a", "b", "c")], ["", 1, "plays", "a", 1, "b", 2, "c", 3])
    library.command("DEL", *hashes("c"))
    library.command("CONFIG", "SET", "maxmemory", 1)
    refused = call("upsert_features", [*KEYS, *hashes("a")], ["", 1, "plays", "a", 5])
    assert isinstance(refused, tuple)
    assert (refused[0], refused[1].partition(" ")[0]) == (WriteRefusedError, "OOM")
    assert call("get_features", [*KEYS, *hashes("a")], ["a", "plays"]) == b"\x91\x01"
    assert call("delete_entity", [*KEYS, *hashes("a")], ["a", "", 60_000]) == 1
    assert library.command("HGET", *hashes("a"), "@event_time") is not None  # of the tombstone, which is new
    assert call("delete_entity", [*KEYS, *hashes("nobody")], ["nobody", "", 60_000]) == 0
    assert library.command("EXISTS", *hashes("nobody")) == 1
    assert call("sweep_members", [*KEYS, *hashes("b", "c")], ["b", "c"]) == 1
    assert library.command("SMEMBERS", "all_users") == [b"b"]


def test_the_library_tells_its_build(library: SyncTransport) -> None:
    assert library.command("FCALL_RO", VERSION_FUNCTION, 0) == build().encode()


def test_an_entity_is_described_with_the_contract_that_the_names_have(library: SyncTransport) -> None:
    library.command("FCALL", "featurestore_1_apply_schema", 1, "user:schema", "plays", "int")
    described = library.command("FCALL_RO", "featurestore_1_describe_entity", 1, "user:schema")
    assert msgspec.msgpack.decode(described)["contract"] == CONTRACT


def test_redis_knows_the_flags_that_the_manifest_has(library: SyncTransport) -> None:
    ((*_, functions),) = [library.command("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY)[0]]
    told = {each[1].decode(): {flag.decode() for flag in each[5]} for each in functions}
    assert told.pop(VERSION_FUNCTION) == {"no-writes"}
    assert told == {contract.function: set(contract.flags) for contract in manifest().scripts}
    assert [script.name for script in SCRIPTS if script.flags == ("allow-oom",)] == [
        "delete_entity", "sweep_members", "retire_features", "drop_entity", "clear_hashes", "free_names",
    ]  # fmt: skip
