"""`featurestore consume --kafka`, on the cluster that librdkafka has for tests, which lives in this process."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kafka import Cluster
from support.processes import clean_environment, started
from support.servers import Server, wait_until
from support.streams import T, declare, expected_of, mixed_entries, stored_of

from featurestore import FeatureStore

CONSUME = (sys.executable, "-m", "featurestore", "consume")
QUICK = ("--kafka-option", "session.timeout.ms=6000", "--kafka-option", "heartbeat.interval.ms=500")
"""The cluster for tests takes a member that has left for one that is silent."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.producer.flush(5)


@pytest.fixture
def environment(valkey: Server, tmp_path: Path) -> dict[str, str]:
    return {**clean_environment(tmp_path), "REDIS_URL": valkey.url}


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        declare(store)
        yield store


def run(environment: dict[str, str], cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*CONSUME, "--kafka", cluster.brokers, "--topic", "clicks", "--until-drained", *QUICK, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def payloads_of(entries: list[dict[str, str]]) -> list[str]:
    """Return entries as objects; what is JSON already stays so."""
    texts = []
    for entry in entries:
        parts = [f'"id": "{entry["user_id"]}"', f'"event_time": {entry["event_time"]}']
        features = {name: value for name, value in entry.items() if name in {"age", "name", "vip"}}
        if "incr" in entry or "event" in entry:
            name = "incr" if "incr" in entry else "event"
            parts.append(f'"{name}": {entry[name]}')
        else:
            listed = (
                f'"{each}": {value if each != "name" else chr(34) + value + chr(34)}'
                for each, value in features.items()
            )
            parts.append(f'"features": {{{", ".join(listed)}}}')
        texts.append(f"{{{', '.join(parts)}}}")
    return texts


def test_messages_end_in_the_store_and_their_offsets_are_committed(
    environment: dict[str, str], store: FeatureStore, cluster: Cluster
) -> None:
    entries = mixed_entries(500, 10, 11, timed=True)
    cluster.add("clicks", *payloads_of(entries))
    first = run(environment, cluster)
    assert first.returncode == 0, first.stderr
    assert "500 entries" in first.stderr
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected
    again = run(environment, cluster)
    assert again.returncode == 0
    assert "0 entries" in again.stderr
    assert stored_of(store, list(expected)) == expected


def test_the_key_is_the_id_and_the_messages_time_the_event_time(
    environment: dict[str, str], store: FeatureStore, cluster: Cluster
) -> None:
    cluster.add("clicks", '{"age": 5}', key="ann")
    assert run(environment, cluster).returncode == 0
    assert store.get("ann", ["age"]) == {"age": 5.0}
    assert store.transport.command("HGET", "user:ann:features", "@event_time") == str(T).encode()


def test_what_cannot_be_written_goes_to_another_topic_and_the_rest_goes_on(
    environment: dict[str, str], store: FeatureStore, cluster: Cluster
) -> None:
    cluster.add("clicks", '{"id": "ann", "age": "old"}', '{"id": "bob", "age": 1}', "{", b"\xff")
    result = run(environment, cluster)
    assert result.returncode == 0, result.stderr
    assert store.get("bob", ["age"]) == {"age": 1.0}
    letters = {message.value(): dict(message.headers()) for message in cluster.messages("clicks.dead", 3)}
    assert letters.keys() == {b'{"id": "ann", "age": "old"}', b"{", b"\xff"}
    told = letters[b'{"id": "ann", "age": "old"}']
    assert told["code"] == b"BADTYPE"
    assert told["reason"] == b"age is float, not 'old'"
    assert told["source"].startswith(b"clicks:")
    assert (told["offset"].isdigit(), told["deliveries"]) == (True, b"1")


def test_a_consumer_that_is_killed_counts_nothing_twice(
    environment: dict[str, str], store: FeatureStore, cluster: Cluster, tmp_path: Path
) -> None:
    entries = mixed_entries(4000, 10, 12, timed=True)
    cluster.add("clicks", *payloads_of(entries))
    command = (*CONSUME, "--kafka", cluster.brokers, "--topic", "clicks", "--batch", "100")
    with started((*command, *QUICK), environment, tmp_path) as running:
        wait_until(lambda: store.count() > 0, timeout=60, what="some entries")
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(10)
    result = run(environment, cluster, "--batch", "100")
    assert result.returncode == 0, result.stderr
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected


def test_a_signal_finishes_what_is_in_hand(
    environment: dict[str, str], store: FeatureStore, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.add("clicks", '{"id": "ann", "incr": {"logins": 1}}')
    command = (*CONSUME, "--kafka", cluster.brokers, "--topic", "clicks", "--log-every", "200ms", *QUICK)
    with started(command, environment, tmp_path) as running:
        running.wait_for("1 entries")
        running.process.terminate()
        assert running.process.wait(20) == 0
    cluster.add("clicks", '{"id": "ann", "incr": {"logins": 2}}')
    assert run(environment, cluster).returncode == 0
    assert store.get("ann", ["logins"]) == {"logins": 3}


def test_a_store_that_is_away_is_waited_for(
    environment: dict[str, str], store: FeatureStore, cluster: Cluster, tmp_path: Path, valkey: Server
) -> None:
    command = (*CONSUME, "--kafka", cluster.brokers, "--topic", "clicks", "--log-every", "200ms", *QUICK)
    cluster.add("clicks", '{"id": "ann", "incr": {"logins": 1}}')
    with started(command, environment, tmp_path) as running:
        running.wait_for("1 entries")
        valkey.stop()
        cluster.add("clicks", '{"id": "ann", "incr": {"logins": 2}}')
        running.wait_for("waiting, and nothing is read")
        valkey.start()
        running.wait_for("2 entries")
        running.process.terminate()
        assert running.process.wait(20) == 0
    assert store.get("ann", ["logins"]) == {"logins": 3}


def test_a_setting_that_librdkafka_does_not_know_is_told(environment: dict[str, str], cluster: Cluster) -> None:
    result = run(environment, cluster, "--kafka-option", "frob=1")
    assert result.returncode == 2
    assert "frob" in result.stderr


def test_without_the_extra_it_says_what_to_install(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "confluent_kafka.py").write_text("raise ImportError")
    result = subprocess.run(
        [*CONSUME, "--kafka", "127.0.0.1:1", "--topic", "clicks"],
        env={**environment, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert "pip install 'redis-featurestore[kafka]'" in result.stderr
