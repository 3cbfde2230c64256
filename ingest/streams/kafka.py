"""Kafka's topics, read as a member of a consumer group. It wants the extra `kafka`."""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from featurestore.errors import ConfigurationError, UnavailableError

from .interface import DeadLetter, Entry, Lag
from .kafka_letters import FLUSH_S, KafkaLetters

_logger = logging.getLogger("featurestore.ingest")

READ_S = 0.5
"""How long a read waits for messages: so long SIGTERM may have to wait."""

_ASK_S = 5.0
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
        self._topics, self._group, self._batch = list(topics), group, batch
        self._again: deque[Entry] = deque()
        self._waiting: list[Any] = []  # messages that arrived while others were in hand
        self._gone: set[tuple[str, int]] = set()  # partitions that were taken away since the last read began
        self._may_be_paused = False
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
        self._letters = KafkaLetters(self._library, self._producer, dead)

    def __repr__(self) -> str:
        return f"<KafkaTopics {self}>"

    def __str__(self) -> str:
        return f"{' '.join(self._topics)} of Kafka in group {self._group}"

    def open(self) -> None:
        """Join the group."""
        calls = {"on_assign": self._take_on, "on_revoke": self._let_go, "on_lost": self._let_go}
        self._surely(partial(self._consumer.subscribe, **calls), self._topics)

    def read(self) -> list[Entry]:
        """Return the next messages; see `Source.read`."""
        self.drained = False
        self._gone.clear()
        if self._may_be_paused:
            self._surely(self._consumer.resume, self._consumer.assignment())
            self._may_be_paused = False
        if self._again:
            return [self._again.popleft()]
        found = self._surely(self._consumer.consume, self._batch, 0 if self._waiting else READ_S)
        messages, self._waiting = [*self._waiting, *found], []
        entries, wrong = [], None
        for message in messages:
            error = message.error()
            place = (message.topic(), message.partition())
            if error is None:
                self._ended.discard(place)
                entries.append(_entry(message))
            elif error.code() == self._library.KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name has the underscore
                self._ended.add(place)
            else:
                wrong = error
        if wrong is not None and not entries:  # beside entries it is told by the next read, if it lasts
            raise UnavailableError(f"Kafka: {wrong.str()}")
        self.drained = not entries and self._assigned and self._all_ended()
        return entries

    def settle(self, entries: Sequence[Entry], dead: Sequence[DeadLetter]) -> bool:
        """Send dead ones to `<topic>.dead`, then commit the offsets behind the entries.

        Partitions that were taken away since the read are left alone: whoever has them reads these messages again.
        """
        self._letters.send(dead)
        ends: dict[tuple[str, int], int] = {}
        for entry in entries:
            place = _place(entry)
            ends[place] = max(ends.get(place, 0), int(entry.id) + 1)
        kept = {place: end for place, end in ends.items() if place not in self._gone}
        surely = (not kept or self._commit(kept)) and len(kept) == len(ends)
        self._letters.forget()
        if not surely:
            _logger.warning("of %d messages some were given to another consumer meanwhile", len(entries))
        return surely

    def give_up(self, entries: Sequence[Entry]) -> None:
        """Have messages come again, one by one, before any other."""
        self._again.extendleft(entry for entry in reversed(entries) if _place(entry) not in self._gone)

    def hold(self, entries: Sequence[Entry]) -> None:  # noqa: ARG002 - a member holds its partitions
        """Stay in the group without reading on."""
        self._pause()
        message = self._surely(self._consumer.poll, 0)
        if message is not None:
            self._waiting.append(message)
        self._pause()  # what was assigned meanwhile

    def lags(self) -> list[Lag]:
        """Return how far each partition of this consumer is read."""
        assigned = self._consumer.assignment()
        return [self._lag(place) for place in self._surely(self._consumer.position, assigned)] if assigned else []

    def settled_below(self) -> dict[str, tuple[int, ...]]:
        """Return the committed offset of each partition of this consumer."""
        assigned = self._consumer.assignment()
        committed = self._surely(partial(self._consumer.committed, timeout=_ASK_S), assigned) if assigned else []
        return {f"{each.topic}:{each.partition}": (each.offset,) for each in committed if each.offset >= 0}

    def close(self) -> None:
        """Leave the group."""
        self._producer.flush(FLUSH_S)
        self._surely(self._consumer.close)

    def _pause(self) -> None:
        self._may_be_paused = True
        self._surely(self._consumer.pause, self._consumer.assignment())

    def _commit(self, ends: Mapping[tuple[str, int], int]) -> bool:
        """Commit offsets; return whether the group still takes them from this member."""
        offsets = [self._library.TopicPartition(*place, end) for place, end in ends.items()]
        try:
            committed = self._consumer.commit(offsets=offsets, asynchronous=False)
        except self._library.KafkaException as error:
            wrong = [error.args[0]]
        else:
            wrong = [each.error for each in committed or () if each.error is not None]
        for each in wrong:
            if each.name() not in _FENCED:
                raise UnavailableError(f"Kafka: {each.str()}")
        return not wrong

    def _lag(self, place: Any) -> Lag:
        _, end = self._surely(partial(self._consumer.get_watermark_offsets, place, cached=True))
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
        self._assigned = self._may_be_paused = True
        self._ended.clear()
        _logger.info("reads %s", ", ".join(f"{place.topic}:{place.partition}" for place in places) or "no partition")

    def _let_go(self, _consumer: Any, places: Sequence[Any]) -> None:
        """Forget messages of partitions that others have from now on."""
        gone = {(place.topic, place.partition) for place in places}
        self._gone |= gone
        self._again = deque(entry for entry in self._again if _place(entry) not in gone)
        self._waiting = [each for each in self._waiting if (each.topic(), each.partition()) not in gone]
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
