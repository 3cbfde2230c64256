"""Kafka's topics, read as a member of a consumer group. It wants the extra `kafka`."""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from featurestore.errors import ConfigurationError, UnavailableError

from .interface import DeadLetter, Entry, Lag

_logger = logging.getLogger("featurestore.ingest")

READ_S = 0.5
"""How long a read waits for messages: so long SIGTERM may have to wait."""

_FLUSH_S = 10.0
_FENCED = ("ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "FENCED_INSTANCE_ID")


class KafkaTopics:
    """Messages of topics; see `Source`.

    Offsets are committed after the write. Kafka does not count deliveries: what counts is how often this process has
    tried. After a failure the messages in hand come again one by one.

    Args:
        brokers: Where the cluster is found: `host:port,host:port`.
        topics: What is read.
        group: The group.
        batch: Most messages in one read.
        start: Where a new group starts: `0` for the first message, `$` for those to come.
        dead: What is put behind a topic's name to name its dead letters.
        options: Further settings of librdkafka, such as those of TLS and SASL.

    Raises:
        ConfigurationError: The extra is not installed, or librdkafka does not take a setting.
    """

    def __init__(  # noqa: PLR0913 - what a consumer is told
        self,
        brokers: str,
        topics: Sequence[str],
        *,
        group: str,
        batch: int,
        start: str,
        dead: str,
        options: Mapping[str, str],
    ) -> None:
        self._library = _library()
        self._topics, self._group, self._batch, self._dead = list(topics), group, batch, dead
        self._again: deque[Entry] = deque()
        self._paused: list[Any] = []
        self._ended: set[tuple[str, int]] = set()
        self.drained = False
        self.lost = 0
        self._assigned = False
        shared = {"bootstrap.servers": brokers, "error_cb": _note_error, **options}
        reading = {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "latest" if start == "$" else "earliest",
        }
        self._consumer = self._made(self._library.Consumer, {**shared, **reading})
        self._producer = self._made(self._library.Producer, {**shared, "enable.idempotence": True})

    def __repr__(self) -> str:
        return f"<KafkaTopics {self}>"

    def __str__(self) -> str:
        return f"{' '.join(self._topics)} of Kafka in group {self._group}"

    def open(self) -> None:
        """Join the group."""
        self._consumer.subscribe(self._topics, on_assign=self._take_on, on_revoke=self._let_go, on_lost=self._let_go)

    def read(self) -> list[Entry]:
        """Return the next messages; see `Source.read`."""
        self.drained = False
        if self._paused:
            self._consumer.resume(self._paused)
            self._paused = []
        if self._again:
            return [self._again.popleft()]
        entries = []
        for message in self._surely(self._consumer.consume, self._batch, READ_S):
            error = message.error()
            place = (message.topic(), message.partition())
            if error is None:
                self._ended.discard(place)
                entries.append(_entry(message))
            elif error.code() == self._library.KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name has the underscore
                self._ended.add(place)
            else:
                raise UnavailableError(f"Kafka: {error.str()}")
        self.drained = not entries and self._assigned and self._all_ended()
        return entries

    def settle(self, entries: Sequence[Entry], dead: Sequence[DeadLetter]) -> bool:
        """Send dead ones to `<topic>.dead`, then commit the offsets behind the entries."""
        failures: list[str] = []
        for letter in dead:
            _produce(self._producer, self._dead, letter, failures)
        if dead and (self._producer.flush(_FLUSH_S) or failures):
            raise UnavailableError(
                f"Kafka took no dead letter: {failures[0] if failures else 'it did not answer in time'}"
            )
        ends: dict[tuple[str, int], int] = {}
        for entry in entries:
            place = _place(entry)
            ends[place] = max(ends.get(place, 0), int(entry.id) + 1)
        offsets = [self._library.TopicPartition(*place, end) for place, end in ends.items()]
        try:
            committed = self._consumer.commit(offsets=offsets, asynchronous=False)
        except self._library.KafkaException as error:
            if error.args[0].name() in _FENCED:
                _logger.warning("%d messages were given to another consumer meanwhile", len(entries))
                return False
            raise UnavailableError(f"Kafka: {error.args[0].str()}") from error
        wrong = next((each.error for each in committed or () if each.error is not None), None)
        if wrong is not None:
            raise UnavailableError(f"Kafka: {wrong.str()}")
        return True

    def give_up(self, entries: Sequence[Entry]) -> None:
        """Have messages come again, one by one, before any other."""
        for entry in reversed(entries):
            entry.deliveries += 1
            self._again.appendleft(entry)

    def hold(self, entries: Sequence[Entry]) -> None:  # noqa: ARG002 - a member holds its partitions
        """Stay in the group without reading on."""
        if not self._paused:
            self._paused = self._consumer.assignment()
            self._consumer.pause(self._paused)
        self._surely(self._consumer.poll, 0)

    def lags(self) -> list[Lag]:
        """Return how far each partition of this consumer is read."""
        assigned = self._consumer.assignment()
        return [self._lag(place) for place in self._surely(self._consumer.position, assigned)] if assigned else []

    def close(self) -> None:
        """Leave the group."""
        self._producer.flush(_FLUSH_S)
        self._consumer.close()

    def _lag(self, place: Any) -> Lag:
        _, end = self._consumer.get_watermark_offsets(place, cached=True)
        left = end - place.offset if end >= 0 and place.offset >= 0 else None
        return Lag(f"{place.topic}:{place.partition}", left, None, None)

    def _surely(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call the library; its exceptions are those of a cluster that is away."""
        try:
            return call(*arguments)
        except self._library.KafkaException as error:
            raise UnavailableError(f"Kafka: {error.args[0].str()}") from error

    def _made(self, kind: Callable[[dict[str, Any]], Any], settings: dict[str, Any]) -> Any:
        try:
            return kind(settings)
        except self._library.KafkaException as error:
            raise ConfigurationError(f"cannot consume Kafka: {error.args[0].str()}") from error

    def _take_on(self, _consumer: Any, places: Sequence[Any]) -> None:
        self._assigned = True
        self._ended.clear()
        _logger.info("reads %s", ", ".join(f"{place.topic}:{place.partition}" for place in places) or "no partition")

    def _let_go(self, _consumer: Any, places: Sequence[Any]) -> None:
        """Forget messages of partitions that others have from now on."""
        gone = {(place.topic, place.partition) for place in places}
        self._again = deque(entry for entry in self._again if _place(entry) not in gone)
        self._ended.clear()

    def _all_ended(self) -> bool:
        return all((place.topic, place.partition) in self._ended for place in self._consumer.assignment())


def _library() -> Any:
    """Return the library; it is loaded when a topic is consumed, not by every command."""
    try:
        return import_module("confluent_kafka")
    except ImportError as error:
        raise ConfigurationError(
            "to consume Kafka, install the extra: pip install 'redis-featurestore[kafka]'"
        ) from error


def _produce(producer: Any, dead: str, letter: DeadLetter, failures: list[str]) -> None:
    """Send a dead letter: the message as it was, with what it is about in its headers."""
    entry = letter.entry
    topic, _ = _place(entry)

    def note(error: Any, _message: Any) -> None:
        if error is not None:
            failures.append(error.str())

    headers = {"code": letter.code, "reason": letter.reason, "source": entry.source, "offset": entry.id}
    told = [(name, value.encode()) for name, value in {**headers, "deliveries": str(entry.deliveries)}.items()]
    producer.produce(f"{topic}{dead}", entry.fields[1], entry.key, headers=told, on_delivery=note)


def _entry(message: Any) -> Entry:
    kind, time = message.timestamp()
    source = f"{message.topic()}:{message.partition()}"
    at = time if kind else None  # 0: the message has none
    return Entry(source, str(message.offset()), at, [b"payload", message.value() or b""], 1, message.key())


def _place(entry: Entry) -> tuple[str, int]:
    topic, _, partition = entry.source.rpartition(":")
    return topic, int(partition)


def _note_error(error: Any) -> None:
    _logger.warning("Kafka: %s", error.str())
