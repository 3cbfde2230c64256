"""What a stream is to the consumer: entries in batches, acknowledged or moved to the dead letters."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

ALONE = 2
"""An entry that was delivered so often already comes alone."""


class Entry(msgspec.Struct, gc=False):
    """An entry as it was delivered.

    Attributes:
        source: The stream; of Kafka `topic:partition`.
        id: What tells it from all others of the source: the entry's id, the message's offset.
        time: When it was added, in ms since 1970; None where the source does not tell.
        fields: Names and values in turn.
        deliveries: How often it was delivered, this time included; of Kafka how often it came alone, or 1.
        key: Kafka's key of the message; the id of the entity where the payload has none.
    """

    source: str
    id: str
    time: int | None
    fields: list[bytes]
    deliveries: int = 1
    key: bytes | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """An entry that cannot be written, and why.

    Attributes:
        entry: The entry.
        code: BADROW, POISON, or a code of the scripts, such as BADTYPE.
        reason: What is wrong, with the value.
    """

    entry: Entry
    code: str
    reason: str


class Lag(msgspec.Struct, frozen=True):
    """How far a source is consumed; None where it cannot be told.

    Attributes:
        source: As entries have it.
        entries: How many nobody of the group has been given.
        pending: How many were given to somebody and are not acknowledged.
        seconds: How much younger the newest entry is than the last one that was given to somebody.
    """

    source: str
    entries: int | None
    pending: int | None
    seconds: float | None


def id_numbers(entry_id: bytes) -> tuple[int, ...] | None:
    """Return an entry's id so that it can be compared with others of its source; None if it is no id."""
    parts = entry_id.split(b"-")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else None


class Source(Protocol):
    """One or several streams, read as one member of a group.

    Every method raises `UnavailableError` and its kin where the stream cannot be reached. It may be called again then.
    """

    drained: bool
    """Whether the last read found nothing, and nothing is left of what was delivered to this consumer before."""

    lost: int
    """How many entries were gone before they were written: the stream was trimmed."""

    def open(self) -> None:
        """Make sure that the group is there."""

    def read(self) -> list[Entry]:
        """Return the next entries, in their order; none after about half a second without any.

        An entry that was delivered several times already comes alone, so that others do not suffer from it.
        """

    def settle(self, entries: Sequence[Entry], dead: Sequence[DeadLetter]) -> bool:
        """Move `dead`, which are among `entries`, to the dead letters, and acknowledge `entries`.

        Return whether certainly nobody else was given them meanwhile.
        """

    def give_up(self, entries: Sequence[Entry]) -> None:
        """Have entries delivered again, since writing them failed."""

    def hold(self, entries: Sequence[Entry]) -> None:
        """Keep entries from being given to others while they wait to be written."""

    def lags(self) -> list[Lag]:
        """Return how far each source is consumed."""

    def settled_below(self) -> dict[str, tuple[int, ...]]:
        """Return, for sources of which it can be told, an id below which the group has acknowledged every entry.

        Ids are as `id_numbers` has them.
        """

    def close(self) -> None:
        """Leave the group, and close connections."""
