"""What a service was served, as an entry of a stream: made here for `log_served`, and read again for exports."""

import random
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
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

ROW_US = 3.0
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


Kind = tuple[str, str, str, bytes, int]
"""What rows of one call have in common: the keys of the schema and the stream, service, columns, version."""

Piece = tuple[Kind, tuple[str, bytes, str, bytes]]
"""A row for a call: what it has in common with others, and its own words."""

ROW_WORDS = 4
"""Words of a row in a call."""


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


@lru_cache(maxsize=1024)
def letters_of(statuses: tuple[Status, ...]) -> str:
    """Return the letters of statuses; few rows have others than the row before."""
    return "".join([LETTERS[status] for status in statuses])


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

    def pieces(self, columns: Mapping[str, str], rows: Iterable[ServedRow]) -> Iterator[Piece]:
        """Yield rows as `log_served` takes them.

        Args:
            columns: Feature → type, in the order of every row; `entity:feature` for one of another entity.
            rows: What was served. A row is kept where its id of this entity is.
        """
        listed = _to_json([word for pair in columns.items() for word in pair])
        entity, request_id, whole = self.entity, self.request_id, isinstance(self.keys, Keys)
        kinds: dict[Keys, Kind] = {}
        for row in rows:
            own = None if whole else row.entities.get(entity)
            keys = self.keys.holding(own[0].encode() if own else b"")
            kind = kinds.get(keys)
            if kind is None:
                kind = kinds[keys] = (keys.schema, keys.served(self.service), self.service, listed, self.version)
            yield kind, (request_id, _to_json(row.entities), row.letters, _to_msgpack(row.values))


def served_calls(pieces: Iterable[Piece]) -> Iterator[tuple[bytes, int]]:
    """Yield calls of `log_served` that keep pieces, in their order for each stream, and how many rows each has."""
    under_way: dict[Kind, list[Word]] = {}
    sizes: dict[Kind, int] = {}
    for kind, words in pieces:
        gathered = under_way.setdefault(kind, [])
        gathered += words
        sizes[kind] = sizes.get(kind, 0) + len(words[-1])
        if len(gathered) == MOST_ROWS * ROW_WORDS or sizes[kind] >= MOST_BYTES:
            yield _call(kind, under_way.pop(kind))
            del sizes[kind]
    for kind, gathered in under_way.items():
        yield _call(kind, gathered)


def _call(kind: Kind, words: Sequence[Word]) -> tuple[bytes, int]:
    schema, stream, service, listed, version = kind
    encoded = encode_call(LOG_SERVED, (schema, stream), (service, listed, version, *words))
    return encoded, len(words) // ROW_WORDS


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
