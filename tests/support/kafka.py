"""The cluster that librdkafka has for tests; it lives in the process that makes it."""

from typing import Any

import pytest

from support.servers import wait_until
from support.streams import T

confluent_kafka = pytest.importorskip("confluent_kafka")


class Cluster:
    """A cluster of one broker, and what is in it."""

    def __init__(self) -> None:
        self.producer = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 3})
        (broker,) = self.producer.list_topics(timeout=10).brokers.values()
        self.brokers = f"{broker.host}:{broker.port}"

    def add(
        self, topic: str, *payloads: str | bytes, key: str | None = None, time: int = T, partition: int = -1
    ) -> None:
        for payload in payloads:
            self.producer.produce(topic, payload, key, timestamp=time, partition=partition)
        assert self.producer.flush(10) == 0

    def messages(self, topic: str, count: int) -> list[Any]:
        reader = confluent_kafka.Consumer(
            {"bootstrap.servers": self.brokers, "group.id": f"reads-{topic}", "auto.offset.reset": "earliest"}
        )
        reader.subscribe([topic])
        found: list[Any] = []

        def enough() -> bool:
            found.extend(message for message in reader.consume(count, 0.2) if message.error() is None)
            return len(found) >= count

        wait_until(enough, what=f"{count} messages of {topic}")
        reader.close()
        return found
