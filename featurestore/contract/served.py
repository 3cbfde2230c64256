"""What a service was served, as an entry of a stream: made here for `log_served`, and read again for exports."""

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from math import log1p
from typing import Any

import msgspec

from featurestore.contract.resp import Word, encode_call
from featurestore.contract.scripts import LOG_SERVED
from featurestore.errors import BadReplyError
from featurestore.keys import EntityKeys, Keys
from featurestore.schema.types import Status

MOST_ROWS = 100
"""Most rows of a call, so that none holds Redis for long."""

MOST_BYTES = 1 << 18
"""So many bytes of values are the last ones that a call takes."""

MOST_REQUEST_ID = 200
"""Longest id of a request, in characters. Of a longer one that many are kept."""

ROW_US = 6.0
"""About what a row takes of Redis's time, in µs."""

LETTERS: Mapping[Status, str] = {"PRESENT": "P", "MISSING": "M", "DEFAULT": "D", "STALE": "S"}
"""Status → its letter in an entry."""

STATUSES: Mapping[str, Status] = {
    **{letter: status for status, letter in LETTERS.items()},
    "p": "PRESENT",
    "m": "MISSING",
}
"""Letter in an entry → the status that was answered. Small letters are of values that the request passed."""

_HASHES = 2**32
_FARTHEST = 2.0**62
_FIXED = (b"request", b"schema", b"entities", b"statuses")
_FIELDS = 2 * len(_FIXED) + 2

_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode

Entities = Mapping[str, tuple[str, int | None]]
"""Entity → the id that the row is for, and the event time of what is stored of it, in ms since 1970."""


class ServedRow(msgspec.Struct, frozen=True, gc=False):
    """One row as it was served.

    Attributes:
        entities: Whose it is.
        values: The features' values, vectors as bytes; None where there is none.
        letters: The status of each value, see `STATUSES`.
    """

    entities: Entities
    values: Sequence[Any]
    letters: str


class Kept(msgspec.Struct, frozen=True):
    """An entry of a stream.

    Attributes:
        entry: Its id, which begins with the time at which it was added, in ms since 1970 by Redis's clock.
        request: The id of the request; empty for none.
        version: The version of the schema by which it was served.
        columns: Feature → type, in the order of the values.
        row: The row.
    """

    entry: bytes
    request: str
    version: int
    columns: dict[str, str]
    row: ServedRow

    @property
    def served_ms(self) -> int:
        """When it was served, in ms since 1970."""
        return int(self.entry.partition(b"-")[0])


class Sampler:
    """Chooses which requests are kept.

    Those with an id are chosen by it, so that all that was served to one request is kept, or none of it, whichever
    process serves it. Of others each is chosen with the same probability: how many are passed over until the next one
    is drawn at once.

    Args:
        sample: Which part of the requests is chosen.
    """

    __slots__ = ("_below", "_left", "_sample")

    def __init__(self, sample: float) -> None:
        self._sample, self._below = sample, sample * _HASHES
        self._left = self._drawn()

    def takes(self, request_id: str) -> bool:
        """Return whether a request is chosen; one without an id has an empty one."""
        if request_id:
            return zlib.crc32(request_id.encode(errors="replace")) < self._below
        if self._left:
            self._left -= 1
            return False
        self._left = self._drawn()
        return True

    def passes_over(self) -> bool:
        """Pass over the next request without an id; return False, and leave it to `takes`, if that one is chosen."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def _drawn(self) -> int:
        """Return how many requests are passed over until the next one is chosen."""
        if self._sample >= 1:
            return 0
        return int(min(random.expovariate(-log1p(-self._sample)), _FARTHEST))


def plain_request_id(text: str | None) -> str:
    """Return the id of a request as it is kept: at most 200 characters, all of them printable; empty for none."""
    if not text:
        return ""
    return "".join([each if each.isprintable() else "?" for each in text[:MOST_REQUEST_ID]]).strip()


class Occasion(msgspec.Struct, frozen=True):
    """A request that was chosen.

    Attributes:
        keys: The keys of the entity whose schema has the service.
        service: The service, without an entity in front.
        version: The version of that schema.
        request_id: The id of the request; empty for none.
    """

    keys: EntityKeys
    service: str
    version: int
    request_id: str

    @property
    def entity(self) -> str:
        """The entity whose schema has the service."""
        return self.keys.entity

    def calls(self, columns: Mapping[str, str], rows: Sequence[ServedRow]) -> Iterator[tuple[bytes, int]]:
        """Yield the calls of `log_served` that keep rows, and how many rows each has.

        Args:
            columns: Feature → type, in the order of every row; `entity:feature` for one of another entity.
            rows: What was served. A row is kept where its id of this entity is.
        """
        listed = _to_json([word for pair in columns.items() for word in pair])
        before: tuple[Word, ...] = (self.service, listed, self.version, self.request_id)
        groups: dict[Keys, list[ServedRow]] = {}
        for row in rows:
            own = row.entities.get(self.entity)
            groups.setdefault(self.keys.holding(own[0].encode() if own else b""), []).append(row)
        for keys, some in groups.items():
            for count, words in _pieces(some):
                yield encode_call(LOG_SERVED, (keys.schema, keys.served(self.service)), (*before, *words)), count


def _pieces(rows: Sequence[ServedRow]) -> Iterator[tuple[int, list[Word]]]:
    """Yield the words of rows, as many as fit a call, and how many rows these are."""
    words: list[Word] = []
    size = count = 0
    for row in rows:
        packed = _to_msgpack(row.values)
        words += (_to_json(row.entities), row.letters, packed)
        count, size = count + 1, size + len(packed)
        if count == MOST_ROWS or size >= MOST_BYTES:
            yield count, words
            words, size, count = [], 0, 0
    if words:
        yield count, words


def kept_entry(reply: Sequence[Any]) -> Kept:
    """Return an entry as XRANGE answers it.

    Raises:
        BadReplyError: It is none that `log_served` made.
    """
    entry, fields = reply
    if len(fields) != _FIELDS or tuple(fields[:8:2]) != _FIXED:
        raise BadReplyError(f"the entry {entry.decode()} is none that log_served made: something else writes there")
    request, version, entities, letters = fields[1:8:2]
    try:
        words = msgspec.json.decode(fields[8], type=list[str])
        columns = dict(zip(words[::2], words[1::2], strict=True))
        values = msgspec.msgpack.decode(fields[9], type=list[Any])
        whose = msgspec.json.decode(entities, type=dict[str, tuple[str, int | None]])
        row = ServedRow(whose, values, letters.decode())
        if not len(columns) == len(values) == len(row.letters):
            raise ValueError("its values are not as many as its columns")  # noqa: TRY301 - one error for all of it
        return Kept(entry, request.decode(), int(version), columns, row)
    except ValueError as error:  # msgspec's are
        raise BadReplyError(f"the entry {entry.decode()} cannot be read: {error}") from error
