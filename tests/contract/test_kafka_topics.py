"""Topics of Kafka as a source: what is in hand while partitions come and go, offsets, and dead letters."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from featurestore.ingest.streams.consumer import Consumer
from featurestore.ingest.streams.counts import Counts
from featurestore.ingest.streams.interface import DeadLetter, Entry
from featurestore.ingest.streams.kafka import KafkaTopics
from featurestore.ingest.streams.writing import Target
from support.kafka import Cluster, confluent_kafka
from support.servers import Server, wait_until
from support.streams import declare

from featurestore import FeatureStore
from featurestore.errors import DeadlineExceededError, UnavailableError

QUICK = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}
PARTITIONS = 4  # of a topic of the cluster for tests


class Members:
    """Members of one group."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.made: list[KafkaTopics] = []

    def join(self, **options: str) -> KafkaTopics:
        topics = KafkaTopics(
            self.cluster.brokers, ["clicks"], group="g", batch=1000, start="0", dead=".dead", options=QUICK | options
        )
        topics.open()
        self.made.append(topics)
        return topics


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.producer.flush(5)


@pytest.fixture
def members(cluster: Cluster) -> Iterator[Members]:
    made = Members(cluster)
    yield made
    for each in made.made:
        with contextlib.suppress(RuntimeError):  # it is closed
            each.close()


def fill(cluster: Cluster, word: str, each: int = 10) -> set[bytes]:
    """Add messages to every partition, and return them."""
    added = {f"{word}{number}".encode() for number in range(PARTITIONS * each)}
    for number, message in enumerate(sorted(added)):
        cluster.add("clicks", message, partition=number % PARTITIONS)
    return added


def read_until(member: KafkaTopics, count: int) -> list[Entry]:
    """Read so many messages."""
    found: list[Entry] = []

    def enough() -> bool:
        found.extend(member.read())
        return len(found) >= count

    wait_until(enough, timeout=60, what=f"{count} messages")
    return found


def share(one: KafkaTopics, other: KafkaTopics) -> None:
    """Return once each has half of the partitions, and nothing is left of what was read on the way."""

    def shared() -> bool:
        for each in (one, other):
            if entries := each.read():
                each.settle(entries, [])
        return len(owned(one)) == len(owned(other)) == PARTITIONS // 2

    wait_until(shared, timeout=60, what="two members with half of the partitions each")


def owned(member: KafkaTopics) -> set[str]:
    return {f"{place.topic}:{place.partition}" for place in member._consumer.assignment()}


def payloads(entries: Sequence[Entry]) -> set[bytes]:
    return {entry.fields[1] for entry in entries}


@pytest.mark.parametrize("options", [{}, {"partition.assignment.strategy": "cooperative-sticky"}])
def test_messages_of_partitions_that_come_while_others_are_held_are_read_afterwards(
    cluster: Cluster, members: Members, options: dict[str, str]
) -> None:
    fill(cluster, "before", 1)
    staying, leaving = members.join(**options), members.join(**options)
    share(staying, leaving)
    added = fill(cluster, "m")
    in_hand = read_until(staying, 1)
    leaving.close()

    def has_all() -> bool:
        staying.hold(in_hand)
        return len(owned(staying)) == PARTITIONS

    wait_until(has_all, timeout=60, what="the partitions of the one that left")
    for _ in range(200):  # long enough for messages to be there, were nothing paused
        staying.hold(in_hand)
        staying._producer.poll(0.01)
    staying.settle(in_hand, [])
    found = payloads(in_hand)

    def complete() -> bool:
        entries = staying.read()
        found.update(payloads(entries))
        return found >= added

    wait_until(complete, timeout=60, what="all messages")


def test_offsets_of_partitions_that_went_to_others_are_not_committed(cluster: Cluster, members: Members) -> None:
    fill(cluster, "m")
    before = members.join()
    in_hand = read_until(before, PARTITIONS * 10)
    after = members.join()
    found: list[Entry] = []

    def shared() -> bool:
        before.hold(in_hand)
        found.extend(after.read())
        return len(owned(before)) == len(owned(after)) == PARTITIONS // 2 and bool(found)

    wait_until(shared, timeout=60, what="partitions of both, and messages of the other")
    assert payloads(found) <= payloads(in_hand)
    assert before.settle(in_hand, []) is False
    assert all(each.offset < 0 for each in after._consumer.committed(after._consumer.assignment(), timeout=10))
    assert after.settled_below() == {}
    assert after.settle(found, []) is True
    assert after.settled_below() == dict.fromkeys({entry.source for entry in found}, (10,))
    assert before.settle(read_until(before, 10), []) is True


class Failing(Target):  # type: ignore[misc]  # the package's name in a wheel is not checked
    """A target that fails a group with a certain user."""

    def write(self, group: Any) -> Any:
        if any(row[0] == "m4" for row in group.rows):
            raise DeadlineExceededError("too long")
        return super().write(group)


@pytest.mark.parametrize("tries", [1, 3])
def test_a_message_is_never_dead_for_the_failure_of_a_batch(
    cluster: Cluster, members: Members, valkey: Server, tries: int
) -> None:
    cluster.add("clicks", *(f'{{"id": "m{number}", "incr": {{"logins": 1}}}}' for number in range(10)), partition=0)
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        declare(store)
        counts, target = Counts(), Failing(valkey.url, "user", timeout=5, call="scripts")
        assert Consumer(members.join(), target, counts, tries=tries).run(until_drained=True)
        target.close()
        (letter,) = cluster.messages("clicks.dead", 1)
        assert dict(letter.headers())["deliveries"] == str(tries).encode()
        assert (counts.outcomes["written"], counts.dead) == (9, {"POISON": 1})
        assert store.count() == 9


def letter_of(source: str, offset: int, value: bytes, key: bytes | None = None) -> DeadLetter:
    return DeadLetter(Entry(source, str(offset), None, [b"payload", value], 1, key), "BADROW", "no object")


@pytest.mark.parametrize("options", [{}, {"message.max.bytes": "10000"}, {"queue.buffering.max.messages": "2"}])
def test_dead_letters_that_are_too_large_or_too_many_are_sent_all_the_same(
    cluster: Cluster, members: Members, options: dict[str, str]
) -> None:
    fill(cluster, "m", 1)
    member = members.join(**options)
    entries = read_until(member, PARTITIONS)
    large = b"x" * 2_000_000
    letters = [DeadLetter(entry, "BADROW", "no object") for entry in entries]
    letters.append(letter_of("clicks:0", 7, large, b"k" * 200_000))
    assert member.settle(entries, letters) is True
    found = {message.value(): message for message in cluster.messages("clicks.dead", len(letters))}
    (cut,) = (message for value, message in found.items() if value.startswith(b"xxx"))
    assert payloads(entries) < found.keys()
    kept = len(cut.value())
    assert kept == len(cut.key()) == (1000 if "message.max.bytes" in options else 100_000)
    told = f"too large: at most {kept} bytes of the value's 2000000 and of the key's are here"
    assert dict(cut.headers())["cut"] == told.encode()


class Refusing:
    """A consumer of librdkafka whose first commit fails."""

    def __init__(self, consumer: Any, error: Exception) -> None:
        self._consumer, self._errors = consumer, [error]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def commit(self, **words: Any) -> Any:
        if self._errors:
            raise self._errors.pop()
        return self._consumer.commit(**words)


def test_dead_letters_are_not_sent_twice_when_the_commit_is_repeated(cluster: Cluster, members: Members) -> None:

    fill(cluster, "m", 1)
    member = members.join()
    entries = read_until(member, PARTITIONS)
    letters = [DeadLetter(entry, "BADROW", "no object") for entry in entries]
    error = confluent_kafka.KafkaError(confluent_kafka.KafkaError._TRANSPORT)
    member._consumer = Refusing(member._consumer, confluent_kafka.KafkaException(error))
    with pytest.raises(UnavailableError):
        member.settle(entries, letters)
    assert member.settle(entries, letters) is True
    assert member.settle([], [letter_of("clicks:0", 99, b"last")]) is True
    values = [message.value() for message in cluster.messages("clicks.dead", PARTITIONS + 1)]
    assert sorted(values) == sorted([*payloads(entries), b"last"])
