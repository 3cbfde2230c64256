"""What the doctor finds, on real servers in the states that it is to tell."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.binaries import binaries
from support.keys import single
from support.servers import EVERYDAY, Server, free_port, real, wait_until

from featurestore import Definition, FeatureStore, Keys, NoSchemaError, SyncTransport
from featurestore.contract.library import LIBRARY, build, function_library
from featurestore.contract.scripts import APPLY_SCHEMA, script_folder
from featurestore.settings import CallBy
from featurestore.store import doctor
from featurestore.store.doctor import diagnose
from featurestore.store.maintenance import sweep

SOUND = ("--appendonly", "yes", "--hash-max-ziplist-value", "1024")
Start = Callable[..., FeatureStore]


@pytest.fixture(params=real(*EVERYDAY))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts servers of one kind with the options given, and returns a store over each."""
    running: list[Server] = []
    links: list[SyncTransport] = []

    def begin(*options: str, credentials: str = "") -> FeatureStore:
        if not options or options[0] != "again":
            folder = tmp_path / str(len(running))
            folder.mkdir()
            running.append(Server(binaries()[request.param], folder, *options))
            while running[-1].port > 50_000:  # a cluster's bus has a port 10,000 above
                running[-1].port = free_port()
            running[-1].start()
        url = f"redis://{credentials}127.0.0.1:{running[-1].port}"
        links.append(SyncTransport(url, timeout=5, connect_timeout=5))
        return FeatureStore(links[-1])

    if request.param not in binaries():
        pytest.skip(f"this machine has no {request.param}")
    yield begin
    for link in links:
        link.close()
    for server in running:
        server.stop()


def warnings(store: FeatureStore, entity: str | None = None) -> list[str]:
    return [finding.text for finding in diagnose(store, entity) if not finding.good]


def test_a_sound_server_has_no_findings_but_good_ones(start: Start) -> None:
    store = start(*SOUND)
    brings = "featurestore apply FILE declares features, and featurestore migrate brings those of another store"
    assert warnings(store) == [f"no schema of user is stored: {brings}"]
    store.apply(Definition(features={"city": "string", "n": "int"}))
    store.upsert([("u", {"city": "x" * 100})])
    findings = list(diagnose(store))
    assert [finding.text for finding in findings if not finding.good] == []
    told = "\n".join(finding.text for finding in findings)
    for what in (
        "answers at redis://127.0.0.1:",
        "primary with 0 replicas",
        "clock",
        "C extensions are built",
        "version 1",
    ):
        assert what in told
    for what in (
        "maxmemory-policy is noeviction",
        "append-only file",
        "may do what the scripts do",
        "1 of 1 sampled hashes",
    ):
        assert what in told


def test_all_entities_are_looked_at_or_one(start: Start) -> None:
    store = start(*SOUND)
    item = FeatureStore(store.transport, Keys.of("item"))
    item.apply(Definition(features={"price": "float"}, entity="item"))
    item.upsert([("i", {"price": 1.0})])
    assert warnings(store) == []
    assert warnings(store, "item") == []
    missing = "no schema of user is stored: featurestore apply FILE declares features; there are schemas of item"
    assert warnings(store, "user") == [missing]
    assert store.entities() == ["item"]


def test_eviction_and_what_it_has_taken(start: Start) -> None:
    """A member without a hash is not known, and the doctor says where such members come from."""
    store = start("--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru", *SOUND)
    command, definition = store.transport.command, Definition(features={"city": "string"})
    ids: list[str] = []
    for first in range(0, 100_000, 1000):
        store.apply(definition)  # which Redis may evict, as it may the set of all ids
        with contextlib.suppress(NoSchemaError):
            store.upsert((f"u{number}", {"city": "x" * 80}) for number in range(first, first + 1000))
        ids = [raw_id.decode() for raw_id in command("SMEMBERS", "all_users")]
        text = "\n".join(warnings(store))
        gone = len(ids) - sum(command("EXISTS", single(store).features(each)) for each in ids)
        if gone > 0.2 * len(ids) and "(maxmemory) are used" in text:  # a sample will show it, and memory is full again
            break
    assert "maxmemory-policy is allkeys-lru: when memory is full" in text
    assert "keys were evicted since the server started" in text
    assert "of 6 MB (maxmemory) are used" in text
    for option, value in (("maxmemory-policy", "noeviction"), ("maxmemory", "100mb")):
        command("CONFIG", "SET", option, value)
    command("CONFIG", "RESETSTAT")
    store.apply(definition)
    known = sum(row is not None for row in store.get_many(ids))
    assert known == sum(command("EXISTS", single(store).features(each)) for each in ids) < len(ids)
    assert "sampled ids have no features: expired, evicted" in warnings(store)[0]
    *_, progress = sweep(store)
    assert (progress.removed, store.count()) == (len(ids) - known, known)
    assert warnings(store) == []


def test_memory_that_is_nearly_full(start: Start) -> None:
    store = start(*SOUND)
    store.apply(Definition(features={"city": "string"}, ttl="1d"))
    store.transport.command("CONFIG", "SET", "maxmemory", "1mb")
    (text,) = warnings(store)
    assert "of 1 MB (maxmemory) are used: writes fail when it is full" in text
    store.transport.command("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    assert "maxmemory-policy is volatile-ttl, and a schema has a ttl" in warnings(store)[0]


def test_a_server_that_keeps_nothing_on_disk(start: Start) -> None:
    store = start("--save", "", "--hash-max-ziplist-value", "1024")
    store.apply(Definition(features={"city": "string"}))
    assert warnings(store) == ["nothing is kept on disk: a restart loses features and schema; set appendonly yes"]
    store.transport.command("CONFIG", "SET", "save", "3600 1")
    assert warnings(store) == []


def test_rows_and_encodings(start: Start) -> None:
    store = start("--appendonly", "yes")
    store.apply(Definition(features={"city": "string"}))
    store.upsert([(name, {"city": "x" * 100}) for name in "uvw"])
    store.transport.command("HDEL", "user:v:features", "@row")
    store.transport.command("SADD", "all_users", "ghost", "stranger")
    store.transport.command("SET", "user:stranger:features", "text")
    listpack, ghosts, strangers, rows, large = warnings(store)
    assert listpack.startswith("hash-max-listpack-value is 64: packed rows are longer")
    assert ghosts.startswith("user: 1 of 5 sampled ids have no features: expired, evicted")
    assert strangers.startswith(
        "user: 1 of 5 sampled ids have a key that is no hash, such as b'user:stranger:features'"
    )
    assert rows == "user: 2 of 3 sampled hashes have a row of this layout: run featurestore repack --entity user"
    assert "3 of 3 in the large encoding" in large


def test_a_replica_and_one_that_has_lost_its_primary(start: Start) -> None:
    primary = start(*SOUND)
    primary.apply(Definition(features={"city": "string"}))
    port = primary.transport.address.rpartition(":")[2]  # type: ignore[attr-defined]
    replica = start("--replicaof", "127.0.0.1", port, *SOUND)

    def texts() -> list[str]:
        return warnings(replica)

    wait_until(lambda: "it is a replica of" in texts()[0], what="the replica's link")
    (text,) = texts()
    assert text.startswith(f"it is a replica of 127.0.0.1:{port}: reads are served, writes fail")
    replica.transport.command("REPLICAOF", "127.0.0.1", "1")
    assert texts()[0].startswith("it is a replica that has lost its primary 127.0.0.1:1: what it serves gets older")


def test_a_cluster(start: Start) -> None:
    cluster = start("--cluster-enabled", "yes", *SOUND)
    (told,) = warnings(cluster)
    assert "is a node of a cluster" in told
    assert "redis+cluster://HOST:PORT" in told


@pytest.mark.parametrize("name", real("valkey9"))
def test_a_sentinel_is_told_from_a_store(name: str, tmp_path: Path) -> None:
    server = Server(binaries()[name], tmp_path)
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text("sentinel monitor store 127.0.0.1 1 1\n")
    server.process = subprocess.Popen(
        [server.binary, configuration, "--sentinel", "--port", str(server.port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(server.answers, what="the sentinel's answer")
        link = SyncTransport(f"redis://127.0.0.1:{server.port}", timeout=5, connect_timeout=5)
        (text,) = warnings(FeatureStore(link))
        assert text.endswith(
            "is a Sentinel, which holds no data: REDIS_URL wants redis+sentinel://HOST:PORT/NAME, or the address of"
            " the primary that it watches"
        )
        link.close()
    finally:
        server.stop()


def test_a_user_that_may_not_do_what_the_scripts_do(start: Start) -> None:
    store = start(*SOUND)
    store.apply(Definition(features={"city": "string"}))
    rules = ("on", ">secret", "~*", "+@all", "-hdel", "-info", "-sadd", "-@admin")
    store.transport.command("ACL", "SETUSER", "limited", *rules)
    limited = start("again", credentials="limited:secret@")
    first, *rest = warnings(limited)
    assert first == "this user may not use INFO, so the server's state is unknown: allow +info"
    assert any("user: this user may not HDEL on all_users and user:*:features" in text for text in rest)
    if not store.transport.command("INFO", "server").decode().partition("redis_version:")[2].startswith("6."):
        store.transport.command("ACL", "SETUSER", "limited", "+acl|dryrun", "+acl|whoami")
        assert any("may not HDEL, SADD on" in text for text in warnings(limited))


def test_a_user_that_may_only_do_what_the_scripts_do_is_told_what_it_may_not_see(start: Start) -> None:
    store = start(*SOUND)
    store.apply(Definition(features={"city": "string", "e": "float32[2]"}))
    tried = {line.split()[0] for line in (*doctor._CALLS["scripts"], *doctor._READS, *doctor._WRITES, *doctor._CHANGES)}
    sources = [path.read_text() for path in script_folder().rglob("*.lua")]
    used = {name for source in sources for name in re.findall(r"call\('([A-Z]+)'", source)} | {"EVALSHA", "SCRIPT"}
    for_some = {
        "UNLINK",
        "XADD",
        "XTRIM",
        "GET",
        "SET",
    }  # who retires features, keeps what is served, has keys with rates
    assert used - for_some <= tried
    allowed = [f"+{name.lower()}" for name in sorted(tried | {"PING", "SMEMBERS"})]
    store.transport.command("ACL", "SETUSER", "frugal", "on", ">secret", "~*", *allowed)
    frugal = start("again", credentials="frugal:secret@")
    assert frugal.upsert([("u", {"city": "x", "e": [1, 2]})]).verdicts == "C"
    assert frugal.get("u") == {"city": "x"}
    findings = [finding.text for finding in diagnose(frugal)]
    assert "user: this user may do what the scripts do" in findings
    assert any(text.startswith("user: a sample of the ids is not for this user to see") for text in findings)
    store.transport.command("ACL", "SETUSER", "frugal", "-time")
    assert any("may not TIME on" in text for text in warnings(start("again", credentials="frugal:secret@")))


def test_the_library_of_functions(start: Start) -> None:
    store = start(*SOUND)
    store.apply(Definition(features={"city": "string"}))
    command = store.transport.command

    def told(call: CallBy) -> list[tuple[bool, str]]:
        findings = diagnose(store, call=call)
        return [(finding.good, finding.text) for finding in findings if "functions" in finding.text]

    assert told("scripts") == []
    ((good, text),) = told("functions")
    assert not good
    if command("INFO", "server").decode().partition("redis_version:")[2].startswith("6."):
        assert text.startswith("FEATURESTORE_CALL=functions, and this server has no functions: Redis has them from 7.0")
        return
    assert text == (
        f"FEATURESTORE_CALL=functions, and the library {LIBRARY} is not there: run featurestore functions load"
    )
    command("FUNCTION", "LOAD", function_library())
    assert told("scripts") == told("functions") == [(True, f"the library of functions {LIBRARY} {build()} serves")]
    command("FUNCTION", "LOAD", "REPLACE", function_library().replace(build(), "0.0.9 0123"))
    older = (
        f"the library of functions {LIBRARY} 0.0.9 0123 is older than this package, or of another build of its version"
    )
    assert told("scripts") == told("functions") == [(False, f"{older}: run featurestore functions load")]
    command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-fcall")
    limited = start("again", credentials="limited:secret@")
    texts = [finding.text for finding in diagnose(limited, call="functions") if not finding.good]
    assert any("user: this user may not FCALL on" in text for text in texts)
    assert not any("FCALL" in text for text in warnings(limited))


def test_a_schema_that_stands_in_no_set_is_looked_at_too(start: Start) -> None:
    store = start(*SOUND)
    store.transport.run(APPLY_SCHEMA, ["user:schema"], ["age", "float"])  # by a caller of the script
    FeatureStore(store.transport, Keys("item")).apply(Definition(features={"price": "float"}, entity="item"))
    assert store.entities() == ["item", "user"]
    assert [text.partition(":")[0] for text in (each.text for each in diagnose(store)) if "schema version" in text] == [
        "item",
        "user",
    ]


def test_clocks_that_differ(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    store = start(*SOUND)
    store.apply(Definition(features={"city": "string"}))
    now = time.time
    for ahead, words in ((60, "behind this machine's"), (-60, "ahead of this machine's")):
        monkeypatch.setattr(time, "time", lambda ahead=ahead: now() + ahead)
        (text,) = warnings(store)
        assert words in text


def test_extensions_that_are_not_built(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    store = start(*SOUND)
    store.apply(Definition(features={"city": "string"}))
    monkeypatch.setitem(sys.modules, "featurestore.native.sockets", None)
    (text,) = warnings(store)
    assert text.startswith(
        "C extensions are missing (sockets), so slower Python code does their work: to have them, install"
    )
