"""`featurestore consume` as a process: signals, crashes, a Redis that is away or full, metrics, usage."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Started, clean_environment, server_of, started
from support.servers import Server, free_port, wait_until
from support.streams import WHOLE, add, dead_letters, declare, expected_of, mixed_entries, pending, stored_of

from featurestore import Definition, EmbeddedServer, FeatureStore, Keys

CONSUME = (sys.executable, "-m", "featurestore", "consume")
QUICK = ("--claim-after", "300ms", "--log-every", "200ms", "--batch", "100")


@pytest.fixture
def environment(valkey: Server, tmp_path: Path) -> dict[str, str]:
    return {**clean_environment(tmp_path), "REDIS_URL": valkey.url}


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        declare(store)
        yield store


def folder(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    made.mkdir(exist_ok=True)
    return made


def lag(store: FeatureStore, stream: str = "clicks") -> int:
    """How many entries nobody was given, and how many are not acknowledged."""
    (group,) = store.transport.command("XINFO", "GROUPS", stream) or ([],)
    told = dict(zip(group[::2], group[1::2], strict=True))
    return int(told[b"lag"]) + int(told[b"pending"]) if told else 10**9


def ended(running: Started) -> int:
    return running.process.wait(30)


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CONSUME, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_consumers_that_are_killed_again_and_again_leave_what_one_clean_run_does(
    environment: dict[str, str], store: FeatureStore, tmp_path: Path
) -> None:
    entries = mixed_entries(20_000, 50, 5, timed=True)
    add(store, "clicks", entries)
    draw = random.Random(5)
    for _ in range(6):
        before = lag(store)
        with started((*CONSUME, "clicks", *QUICK), environment, tmp_path) as running:
            goal = before - draw.randrange(300, 2500)
            wait_until(lambda goal=goal: lag(store) < goal, what="some entries")  # type: ignore[misc]
            os.kill(running.process.pid, signal.SIGKILL)
            ended(running)
    assert 0 < lag(store) < 20_000
    apart = {**environment, "FEATURESTORE_DATA_DIR": str(tmp_path / "apart")}
    with started((*CONSUME, "clicks", *QUICK), environment, folder(tmp_path, "a")) as one:
        with started((*CONSUME, "clicks", *QUICK), apart, folder(tmp_path, "b")) as other:
            wait_until(lambda: lag(store) == 0, timeout=60, what="all entries")
            other.process.terminate()
            assert ended(other) == 0
        one.process.terminate()
        assert ended(one) == 0
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected
    assert dead_letters(store, "clicks") == []
    assert store.transport.command("SCARD", "user:clicks:counted") <= 700  # a batch of each that was killed, at most


def test_a_consumer_that_is_killed_goes_on_in_order_under_its_name(
    environment: dict[str, str], store: FeatureStore, tmp_path: Path
) -> None:
    entries = mixed_entries(10_000, 20, 6, timed=False)
    add(store, "clicks", entries)
    command = (*CONSUME, "clicks", *QUICK, "--consumer", "one")
    for _ in range(4):
        before = lag(store)
        with started(command, environment, tmp_path) as running:
            wait_until(lambda before=before: lag(store) < before - 700, what="some entries")  # type: ignore[misc]
            os.kill(running.process.pid, signal.SIGKILL)
            ended(running)
    assert lag(store) > 0
    assert run(environment, "clicks", "--consumer", "one", "--until-drained").returncode == 0
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected


def test_a_redis_that_restarts_is_waited_for_and_nothing_is_lost_or_counted_twice(
    environment: dict[str, str], store: FeatureStore, tmp_path: Path, valkey: Server
) -> None:
    entries = mixed_entries(10_000, 20, 7, timed=False)
    add(store, "clicks", entries)
    with started((*CONSUME, "clicks", *QUICK), environment, tmp_path) as running:
        for goal in (8500, 6000):
            wait_until(lambda goal=goal: lag(store) < goal, what="some entries")  # type: ignore[misc]
            valkey.stop()
            running.wait_for("waiting, and nothing is read: Redis cannot be reached", 1 if goal == 8500 else 2)
            valkey.start()
        wait_until(lambda: lag(store) == 0, what="all entries")
        running.process.terminate()
        assert ended(running) == 0
        assert "going on after" in running.text()
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected
    assert dead_letters(store, "clicks") == []


def test_a_redis_that_is_not_there_yet_is_waited_for(
    environment: dict[str, str], tmp_path: Path, valkey: Server
) -> None:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        declare(store)
        add(store, "clicks", [{"user_id": "ann", "age": "1"}])
        valkey.stop()
        with started((*CONSUME, "clicks", "--until-drained"), environment, tmp_path) as running:
            running.wait_for("waiting, and nothing is read")
            valkey.start()
            assert ended(running) == 0
        assert store.get("ann", ["age"]) == {"age": 1.0}


def test_a_frozen_redis_is_waited_for(
    environment: dict[str, str], store: FeatureStore, tmp_path: Path, valkey: Server
) -> None:
    entries = mixed_entries(200, 5, 8, timed=False)
    with started((*CONSUME, "clicks", *QUICK), environment, tmp_path) as running:
        running.wait_for("last write never")
        with valkey.frozen():
            running.wait_for("did not answer in time")
        add(store, "clicks", entries)
        wait_until(lambda: lag(store) == 0, what="all entries")
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected


def test_a_redis_without_memory_is_told_and_waited_for(
    environment: dict[str, str], store: FeatureStore, tmp_path: Path
) -> None:
    entries = mixed_entries(2000, 20, 9, timed=False)
    add(store, "clicks", [*entries, {"nobody": "x"}])
    command = store.transport.command
    command("CONFIG", "SET", "maxmemory", "1")
    with started((*CONSUME, "clicks", *QUICK), environment, tmp_path) as running:
        running.wait_for("OOM")
        assert lag(store) in {10**9, 2001}
        command("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: lag(store) == 0, what="all entries")
        running.process.terminate()
        assert ended(running) == 0
        told = running.text()
    assert "waiting, and nothing is read: OOM" in told
    assert "going on after" in told
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected
    assert [letter["@code"] for letter in dead_letters(store, "clicks")] == ["BADROW"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_in_hand(
    number: int, environment: dict[str, str], store: FeatureStore, tmp_path: Path
) -> None:
    entries = mixed_entries(20_000, 50, 10, timed=False)
    add(store, "clicks", entries)
    with started((*CONSUME, "clicks", "--batch", "500"), environment, tmp_path) as running:
        wait_until(lambda: lag(store) < 19_000, what="some entries")
        running.process.send_signal(number)
        assert ended(running) == 0
        told = running.text()
    assert pending(store, "clicks") == 0
    settled = 20_000 - lag(store)
    assert 0 < settled < 20_000
    assert re.search(rf"{settled} entries .*: {settled} written, 0 skipped, 0 dead", told)
    expected = expected_of(entries[:settled])
    assert stored_of(store, list(expected)) == expected
    assert (
        store.transport.command("XINFO", "CONSUMERS", "clicks", "featurestore") == []
    )  # its passing name is forgotten


def test_a_signal_while_the_store_takes_nothing_leaves_what_is_in_hand_to_others(
    environment: dict[str, str], store: FeatureStore, tmp_path: Path, servers: dict[str, Server]
) -> None:
    other = servers["redis7"]
    store.transport.command("CONFIG", "SET", "maxmemory", "1")
    with FeatureStore.connect(other.url, timeout=5) as elsewhere:
        elsewhere.transport.command("FLUSHALL")
        add(elsewhere, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}])
        with started((*CONSUME, "clicks", "--stream-url", other.url), environment, tmp_path) as running:
            running.wait_for("waiting, and nothing is read: OOM")
            running.process.terminate()
            assert ended(running) == 1
            assert "1 entries in hand are not acknowledged and will be delivered again" in running.text()
        assert pending(elsewhere, "clicks") == 1
        store.transport.command("CONFIG", "SET", "maxmemory", "0")
        again = run(environment, "clicks", "--until-drained", "--claim-after", "1ms", "--stream-url", other.url)
        assert again.returncode == 0
        assert pending(elsewhere, "clicks") == 0
    assert store.get("ann", ["logins"]) == {"logins": 1}


def test_a_stream_may_be_in_another_redis(
    environment: dict[str, str], store: FeatureStore, servers: dict[str, Server]
) -> None:
    other = servers["redis7"]
    with FeatureStore.connect(other.url, timeout=5) as elsewhere:
        elsewhere.transport.command("FLUSHALL")
        add(elsewhere, "clicks", [{"user_id": "ann", "age": "1"}, {"nobody": "x"}])
        assert run(environment, "clicks", "--until-drained", "--stream-url", other.url).returncode == 0
        assert pending(elsewhere, "clicks") == 0
        assert len(dead_letters(elsewhere, "clicks")) == 1
        assert elsewhere.transport.command("KEYS", "user*") == []
    assert store.get("ann", ["age"]) == {"age": 1.0}


def test_metrics_and_the_log_tell_how_far_it_is(
    environment: dict[str, str], store: FeatureStore, tmp_path: Path
) -> None:
    add(store, "clicks", [{"user_id": "ann", "age": str(age)} for age in range(20)])
    add(store, "clicks", [{"user_id": "ann", "age": "old"}])
    port = free_port()
    command = (*CONSUME, "clicks", *QUICK, "--metrics", f":{port}")
    with started(command, environment, tmp_path) as running:
        running.wait_for("21 entries")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        running.process.terminate()
        assert ended(running) == 0
        told = running.text()
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(found['featurestore_consumer_entries_total{source="clicks"}']) == 21
    assert float(found['featurestore_consumer_rows_total{outcome="written"}']) == 20
    assert float(found['featurestore_consumer_dead_letters_total{code="BADTYPE"}']) == 1
    assert float(found['featurestore_consumer_lag_entries{source="clicks"}']) in {0, 21}
    assert float(found["featurestore_consumer_last_write_timestamp_seconds"]) > 1e9
    assert float(found["featurestore_consumer_waiting"]) == 0
    assert f"metrics: http://127.0.0.1:{port}/metrics" in told
    assert "clicks" in told
    assert "is dead: BADTYPE age is float, not 'old'" in told
    assert re.search(r"21 entries \([1-9]\d*/s\): 20 written, 0 skipped, 1 dead; 0 delivered again", told)


def test_a_metrics_port_that_is_taken_is_told(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(environment, "clicks", "--metrics", f":{port}")
    assert result.returncode == 1
    assert result.stderr == f"featurestore: cannot answer Prometheus on 127.0.0.1:{port}: Address already in use\n"


def test_without_a_schema_it_says_what_to_do(environment: dict[str, str]) -> None:
    result = run(environment, "clicks", "--until-drained")
    assert result.returncode == 1
    assert "featurestore apply" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name a STREAM, or --kafka BROKERS and --topic TOPIC"),
        (("clicks", "--topic", "clicks"), "--topic wants --kafka BROKERS"),
        (("clicks", "--kafka", "localhost:9092", "--topic", "a"), "name the topics by --topic, and no STREAM"),
        (("--kafka", "localhost:9092"), "name the topics by --topic"),
        (("clicks", "--metrics", "host"), "want HOST:PORT"),
        (("clicks", "--metrics", ":99999"), "want HOST:PORT"),
        (("clicks", "--from", "first"), "want 0 for the first entry"),
        (("clicks", "--claim-after", "soon"), "no span of time"),
        (("clicks", "--claim-after", "0s"), "no span above 0"),
        (("clicks", "--tries", "0"), "--tries"),
        (("clicks", "--batch", "0"), "--batch"),
        (("clicks", "--kafka-option", "ssl"), "want NAME=VALUE"),
        (("clicks", "--frob"), "--frob"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    result = run(clean_environment(tmp_path), *words)
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert told in result.stderr


def test_whole_rows_of_several_streams_drain_on_the_embedded_server(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path)
    schema = tmp_path / "user.toml"
    schema.write_text("[features]\n" + "".join(f'{name} = "{kind}"\n' for name, kind in WHOLE.items()))
    apply = subprocess.run(
        [sys.executable, "-m", "featurestore", "apply", str(schema)],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "4 features" in apply.stderr
    result = run(environment, "clicks", "views", "--until-drained")
    assert result.returncode == 0
    assert "0 entries" in result.stderr
    assert json.dumps(result.stdout) == '""'


def test_an_embedded_server_that_is_killed_is_waited_for(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path)
    with EmbeddedServer(environment["FEATURESTORE_DATA_DIR"]) as server, FeatureStore.connect(server.url) as store:
        declare(store)
    with started((*CONSUME, "clicks", *QUICK), environment, tmp_path) as running:
        running.wait_for("last write never")
        os.kill(server_of(environment), signal.SIGKILL)
        running.wait_for("going on after")
        with EmbeddedServer(environment["FEATURESTORE_DATA_DIR"]) as server, FeatureStore.connect(server.url) as store:
            add(store, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}])
            wait_until(lambda: lag(store) == 0, what="the entry")
            assert store.get("ann", ["logins"]) == {"logins": 1}
        running.process.terminate()
        assert ended(running) == 0


def test_scripts_may_be_called_as_functions(environment: dict[str, str], store: FeatureStore) -> None:
    entries = mixed_entries(300, 10, 13, timed=False)
    add(store, "clicks", entries)
    result = run({**environment, "FEATURESTORE_CALL": "functions"}, "clicks", "--until-drained")
    assert result.returncode == 0, result.stderr
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected
    assert "cmdstat_fcall:" in store.transport.command("INFO", "commandstats").decode()


def test_another_entity_has_ids_of_its_own_name(environment: dict[str, str], store: FeatureStore) -> None:
    definition = Definition(entity="item", members="goods", join_key="sku", features={"price": "float", "sold": "int"})
    with FeatureStore.connect(environment["REDIS_URL"], timeout=5, keys=Keys.of("item", "goods")) as items:
        items.apply(definition)
        add(
            store,
            "sales",
            [{"sku": "i1", "price": "2.5"}, {"id": "i1", "incr": '{"sold": 2}'}, {"user_id": "i1", "price": "1"}],
        )
        assert run(environment, "sales", "--entity", "item", "--until-drained").returncode == 0
        assert items.get("i1") == {"price": 2.5, "sold": 2}
        assert items.transport.command("SMEMBERS", "goods") == [b"i1"]
    (letter,) = dead_letters(store, "sales")
    assert letter["@reason"] == "want the id once, as sku, among 'user_id, price'"
    unknown = run(environment, "sales", "--entity", "shop")
    assert unknown.returncode == 1
    assert "shop" in unknown.stderr


def test_a_url_that_cannot_be_one_is_told(environment: dict[str, str]) -> None:
    result = run(environment, "clicks", "--stream-url", "http://127.0.0.1")
    assert (result.returncode, result.stdout) == (2, "")
    assert "cannot use the Redis URL" in result.stderr
