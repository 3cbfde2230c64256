"""Dead letters of Kafka: each sent until the cluster has it, cut where it is too large."""

import time
from collections.abc import Sequence
from typing import Any

from featurestore.errors import UnavailableError

from .interface import DeadLetter, Entry

FLUSH_S = 10.0
"""How long the cluster may take for dead letters before they count as not sent."""

_CUTS = (None, 100_000, 1000)
"""Bytes that are kept of the value and of the key: all, and fewer each time that the message was too large."""

_SENT = object()


class KafkaLetters:
    """Sends dead letters to `<topic><suffix>`: the message as it was, with what it is about in its headers.

    What was sent is not sent again when sending is repeated, until `forget` is called.

    Args:
        library: confluent_kafka.
        producer: Its producer.
        suffix: What is put behind a topic's name.
    """

    def __init__(self, library: Any, producer: Any, suffix: str) -> None:
        self._library, self._producer, self._suffix = library, producer, suffix
        self._outcomes: dict[tuple[str, str], Any] = {}  # None while the cluster has not answered

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """Return once the cluster has all letters.

        Raises:
            UnavailableError: It has not taken one of them, or has not answered within 10 s.
        """
        wanted, too_large = list(letters), self._library.KafkaError.MSG_SIZE_TOO_LARGE
        for cut in _CUTS:
            for letter in wanted:
                self._produce(letter, cut)
            if wanted and self._producer.flush(FLUSH_S):
                raise UnavailableError("Kafka took no dead letter: it did not answer in time")
            wanted = [letter for letter in wanted if _code(self._outcomes[_name(letter.entry)]) == too_large]
        for letter in letters:
            outcome = self._outcomes[_name(letter.entry)]
            if outcome is not _SENT:
                raise UnavailableError(f"Kafka took no dead letter: {outcome.str()}")

    def forget(self) -> None:
        """Forget which letters were sent."""
        self._outcomes.clear()

    def _produce(self, letter: DeadLetter, cut: int | None) -> None:
        """Hand a letter to the producer, unless the cluster has it or may still take it."""
        entry = letter.entry
        name = _name(entry)
        if name in self._outcomes and (self._outcomes[name] is None or self._outcomes[name] is _SENT):
            return

        def note(error: Any, _message: Any) -> None:
            self._outcomes[name] = error or _SENT

        topic = f"{entry.source.rpartition(':')[0]}{self._suffix}"
        value, key = entry.fields[1][:cut], entry.key if entry.key is None else entry.key[:cut]
        headers = _headers(letter, cut)
        until = time.monotonic() + FLUSH_S
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=note)
            except BufferError:  # too many wait to be sent
                if time.monotonic() > until:
                    raise UnavailableError("Kafka took no dead letter: those before were not taken in time") from None
                self._producer.poll(0.1)
            except self._library.KafkaException as error:
                self._outcomes[name] = error.args[0]
                return
            else:
                self._outcomes[name] = None
                return


def _headers(letter: DeadLetter, cut: int | None) -> list[tuple[str, bytes]]:
    entry = letter.entry
    told = {"code": letter.code, "reason": letter.reason, "source": entry.source, "offset": entry.id}
    told["deliveries"] = str(entry.deliveries)
    if cut is not None:
        told["cut"] = f"too large: at most {cut} bytes of the value's {len(entry.fields[1])} and of the key's are here"
        told["reason"] = letter.reason[:cut]
    return [(name, value.encode()) for name, value in told.items()]


def _name(entry: Entry) -> tuple[str, str]:
    return entry.source, entry.id


def _code(outcome: Any) -> int | None:
    return None if outcome is None or outcome is _SENT else outcome.code()
