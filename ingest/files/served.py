"""What a service was served, read from its streams in pages while others write there, and kept on disk until all is."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from featurestore.contract.served import Kept, kept_entry
from featurestore.errors import BadReplyError, SourceError
from featurestore.store.blocking import FeatureStore

from .redis_clock import redis_ms
from .scan import ReadRetries, Throttle

MOST_PAGE = 1000
"""Most entries in a call."""

_FIRST_PAGE = 50
_PAGE_BYTES = 2 << 20
_LENGTH = 4

Raw = tuple[bytes, list[bytes]]
"""An entry as XRANGE answers it."""

_to_msgpack = msgspec.msgpack.Encoder().encode
_from_msgpack = msgspec.msgpack.Decoder(tuple[bytes, list[bytes]]).decode


class Progress(msgspec.Struct):
    """How far the exports of a service are, for the next one to go on from.

    Attributes:
        entity: The entity whose schema has the service.
        service: The service.
        last: Key of a stream → the id of its last entry that was exported.
    """

    entity: str
    service: str
    last: dict[str, str] = {}


def read_progress(path: Path, entity: str, service: str) -> Progress:
    """Return what the last export has left in a file; nothing yet if there is none.

    Raises:
        SourceError: The file is none of these, or is of another service.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Progress)
    except FileNotFoundError:
        return Progress(entity, service)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} does not tell how far an export is: {error}") from error
    if (found.entity, found.service) != (entity, service):
        text = f"{path} tells how far exports of {found.service} of {found.entity} are, not those of {service}"
        raise SourceError(f"{text} of {entity}: name another file")
    return found


class ServedReader:
    """Reads the streams of a service, those of all partitions one after the other, each in its order.

    Args:
        store: The store of the entity whose schema has the service.
        service: The service.
        throttle: When calls may be made.
        patience: What to do while Redis is away.
        most: Most entries in a call.
    """

    def __init__(
        self,
        store: FeatureStore,
        service: str,
        throttle: Throttle,
        patience: ReadRetries,
        most: int = MOST_PAGE,
    ) -> None:
        self._store, self._service = store, service
        self._throttle, self._patience, self._most = throttle, patience, most
        self._parts = patience.run(store.parts)

    def count(self) -> int:
        """Return how many entries there are."""
        return sum(self._command(0, "XLEN", part.served(self._service)) for part in self._parts)

    def entries(self, progress: Progress, since: int | None, until: int | None) -> Iterator[list[Raw]]:
        """Yield pages of entries, and note in `progress` how far they go.

        Args:
            progress: Where the last export has ended.
            since: The first moment, in ms since 1970; None for all that is there.
            until: The last moment; None for now, so that an export ends however much is written meanwhile.
        """
        end = redis_ms(self._store) if until is None else until
        for part in self._parts:
            key = part.served(self._service)
            start = f"({progress.last[key]}" if key in progress.last else "-" if since is None else str(since)
            yield from self._pages(key, start, str(end), progress)

    def lost(self, progress: Progress) -> list[str]:
        """Return the streams that may have dropped entries that no export has: the last one that was exported is gone.

        The oldest entries are dropped first.
        """
        found = []
        for part in self._parts:
            key = part.served(self._service)
            last = progress.last.get(key)
            if last is not None and not self._command(0, "XRANGE", key, last, last):
                found.append(key)
        return found

    def _pages(self, key: str, start: str, end: str, progress: Progress) -> Iterator[list[Raw]]:
        count = min(_FIRST_PAGE, self._most)
        while True:
            page = self._command(count, "XRANGE", key, start, end, "COUNT", count)
            if page:
                progress.last[key] = page[-1][0].decode()
                start = f"({progress.last[key]}"
                yield [(entry, fields) for entry, fields in page]
            if len(page) < count:
                return
            size = sum(len(word) for _, fields in page for word in fields)
            count = max(1, min(self._most, _PAGE_BYTES * len(page) // max(1, size)))

    def _command(self, weight: int, *words: Any) -> Any:
        """Ask the primary that has the key: a replica may lack some entries."""
        command = self._store.transport.command
        return self._patience.run(lambda: self._throttle.run(lambda: command(*words, writes=True), weight))


class ServedColumns:
    """The columns of a file: those of all entries, whatever the schema was when they were served.

    A feature that has had another type since has a column for each: `age`, and `age@string`.

    Args:
        entity: The entity whose schema has the service.
        id_name: What its ids are called.

    Attributes:
        others: The other entities that rows are of, in the order in which they came.
        features: Name and type of a feature → the name of its column, in the order in which they came.
    """

    def __init__(self, entity: str, id_name: str) -> None:
        self.entity, self.id_name = entity, id_name
        self.others: dict[str, None] = {}
        self.features: dict[tuple[str, str], str] = {}

    def note(self, kept: Kept) -> None:
        """Make room for what an entry has."""
        for entity in kept.row.entities:
            if entity != self.entity:
                self.others[entity] = None
        for name, kind in kept.columns.items():
            if (name, kind) not in self.features:
                taken = name in self.features.values()
                self.features[name, kind] = f"{name}@{kind}" if taken else name


class Spool:
    """Entries on disk, so that the columns are known before the first row is written.

    Args:
        folder: Where; None for where temporary files are.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `close`

    def add(self, page: list[Raw]) -> None:
        """Take entries."""
        for raw in page:
            packed = _to_msgpack(raw)
            self._file.write(len(packed).to_bytes(_LENGTH, "big") + packed)

    def entries(self) -> Iterator[Kept]:
        """Yield all entries, in the order in which they came."""
        self._file.seek(0)
        while head := self._file.read(_LENGTH):
            yield kept_entry(_from_msgpack(self._file.read(int.from_bytes(head, "big"))))

    def close(self) -> None:
        """Forget all entries."""
        self._file.close()


class Gathered(msgspec.Struct):
    """What was read.

    Attributes:
        rows: How many rows.
        strange: How many entries were none that the store makes. They are left out.
    """

    rows: int = 0
    strange: int = 0


def gather(pages: Iterator[list[Raw]], columns: ServedColumns, spool: Spool, told: Callable[[int], object]) -> Gathered:
    """Read all pages; note their columns, and keep their entries."""
    found = Gathered()
    for page in pages:
        fine = []
        for raw in page:
            try:
                columns.note(kept_entry(raw))
            except BadReplyError:
                found.strange += 1
            else:
                fine.append(raw)
        spool.add(fine)
        found.rows += len(fine)
        told(found.rows)
    return found
