"""What is stored of an entity's ids, written to a file."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from featurestore.contract.hashes import StoredEntity, caster, is_window
from featurestore.errors import BadArgumentsError, SchemaChangedError, UnavailableError
from featurestore.schema.stored import Schema
from featurestore.schema.types import vector_length
from featurestore.schema.values import shown

from .outputs import Output
from .redis_clock import redis_ms
from .rows import Columns, Rows
from .scan import HashReader, Scan

_logger = logging.getLogger("featurestore.ingest")
_MOST_TOLD = 5
_MOST_ROWS, _MOST_BYTES = 1000, 8 << 20  # so much is gathered before it is handed to the output


class Exported(msgspec.Struct):
    """What became of the ids.

    Attributes:
        seen: Ids looked at.
        written: Rows in the file.
        unknown: Ids of which nothing is stored any more: they expired, were evicted or deleted.
        no_text: Ids that are no text, which no file can hold.
        misfits: Feature → how many stored values are not of its type. Reads answer null for them, and so has the file.
    """

    seen: int = 0
    written: int = 0
    unknown: int = 0
    no_text: int = 0
    misfits: dict[str, int] = {}


def columns_of(entity: str, schema: Schema, names: Sequence[str] | None, id_name: str | None) -> Columns:
    """Return what a file is to have: the features named, or all, but windows.

    Args:
        entity: The entity's name.
        schema: What is declared.
        names: The features wanted; None for all.
        id_name: The name of the column of ids; None for the schema's.

    Raises:
        BadArgumentsError: A feature is not declared, or is a window, or is called as the ids are.
    """
    id_name = id_name or schema.id_name(entity)
    for name in names or ():
        if name not in schema.features:
            raise BadArgumentsError(f"{shown(name)} is not declared: {entity} has {', '.join(schema.features)}")
        if is_window(schema.features[name]):
            raise BadArgumentsError(f"{name} is a sliding window, {schema.features[name]}: it holds events, no value")
    features = {
        name: kind for name, kind in schema.features.items() if not is_window(kind) and (names is None or name in names)
    }
    if id_name in features:
        raise BadArgumentsError(f"{id_name} is a feature, too: name the column of ids by --id")
    return Columns(entity, id_name, features)


class Export:
    """One export under way.

    Args:
        reader: Reads the entity's hashes.
        columns: What the file has.
        output: Takes the rows.
        ttl_ms: How long after its event time an entity is known; 0 for ever.
        told: Called after each step with the number of ids looked at.

    Attributes:
        result: What became of the ids so far.
    """

    def __init__(
        self,
        reader: HashReader,
        columns: Columns,
        output: Output,
        *,
        ttl_ms: int = 0,
        told: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._reader, self._columns, self._output, self._told = reader, columns, output, told
        vectors = sum(4 * (vector_length(kind) or 0) for kind in columns.features.values())
        self._in_write = max(1, min(_MOST_ROWS, _MOST_BYTES // (vectors or 1)))
        self._casters = [caster(kind) for kind in columns.features.values()]
        self._oldest = redis_ms(reader.store) - ttl_ms if ttl_ms else None
        self.result = Exported()

    def run(self) -> Exported:
        """Write all ids, each once, and give the file its name.

        Raises:
            UnavailableError: Redis was restarted or replaced, so ids may be missing, and rows are on stdout already.
            SchemaChangedError: A feature is not declared any more, or with another type.
        """
        while not self._scan():
            _logger.warning("Redis was restarted or replaced: its ids are in another order now, so all are read again")
            if not self._output.restart():
                raise UnavailableError(
                    "Redis was restarted or replaced while its ids were read, and rows are on stdout already: "
                    "the output is not whole, export again"
                )
            self.result = Exported()
        self._check_schema()
        self._output.finish()
        return self.result

    def _scan(self) -> bool:
        """Write all ids; return False if some may be missing."""
        scan, rows = Scan(self._reader), Rows.of(self._columns.features)
        for ids in scan.parts():
            self._add(rows, ids, self._reader.read(ids))
            if len(rows.ids) >= self._in_write:
                self._write(rows)
                rows = Rows.of(self._columns.features)
            self.result.seen += len(ids)
            self._told(self.result.seen)
        self._write(rows)
        return scan.is_whole

    def _write(self, rows: Rows) -> None:
        if rows.ids:
            self._output.write(rows)
            self.result.written += len(rows.ids)

    def _add(self, rows: Rows, ids: Sequence[bytes], entities: Sequence[StoredEntity | None]) -> None:
        """Add those of the ids of which something is stored."""
        for raw_id, entity in zip(ids, entities, strict=True):
            if entity is None or entity.deleted or self._is_expired(entity):
                self.result.unknown += 1
                continue
            try:
                rows.ids.append(raw_id.decode())
            except UnicodeDecodeError:
                self.result.no_text += 1
                if self.result.no_text <= _MOST_TOLD:
                    _logger.warning("the id %s is no text: it is left out", shown(raw_id))
                continue
            self._append(rows, entity)

    def _append(self, rows: Rows, entity: StoredEntity) -> None:
        row = len(rows.event_times)
        rows.event_times.append(entity.event_time)
        fields = zip(rows.values.items(), self._casters, entity.texts, strict=True)
        for (name, column), cast, text in fields:
            value = None if text is None else cast(text)
            if value is None and text is not None:
                self._count_misfit(rows.ids[row], name, text)
            column.append(value)
        for name, ms in entity.times.items():
            if name in rows.values:
                rows.times.setdefault(name, {})[row] = ms

    def _is_expired(self, entity: StoredEntity) -> bool:
        """Return whether reads take the id for unknown, because it was not written for longer than the schema's ttl."""
        return self._oldest is not None and entity.event_time is not None and entity.event_time < self._oldest

    def _count_misfit(self, entity_id: str, name: str, text: bytes) -> None:
        count = self.result.misfits[name] = self.result.misfits.get(name, 0) + 1
        if count <= _MOST_TOLD:
            kind = self._columns.features[name]
            _logger.warning("%s of %s is %s, not %s: left out", name, shown(entity_id), kind, _shown_text(text))

    def _check_schema(self) -> None:
        """Make sure that the types by which values were read are still those of the schema."""
        now = self._reader.patience.run(self._reader.store.schema).features
        changed = [name for name, kind in self._columns.features.items() if now.get(name) != kind]
        if changed:
            raise SchemaChangedError(f"{', '.join(changed)} changed in the schema meanwhile: export again")


def _shown_text(text: bytes) -> str:
    return shown(text.decode(errors="backslashreplace"))


def summary(result: Exported, schema: Schema, took: float) -> Iterator[str]:
    """Yield what to say of an export in the end, line by line."""
    yield f"Exported {result.written} of {result.seen} ids in {took:.1f} s"
    if result.unknown:
        yield f"{result.unknown} ids have no features any more (expired, evicted or deleted): featurestore sweep"
    if result.no_text:
        yield f"{result.no_text} ids are no text, and were left out"
    for name, count in result.misfits.items():
        yield f"{name}: {count} stored values are not {schema.features[name]}, and were left out"
    windows = [name for name, kind in schema.features.items() if is_window(kind)]
    kept = f"sliding windows ({', '.join(windows)}) and " if windows else ""
    yield f"Not in the file: {kept}the times of deletions"


def exported(export: Export, schema: Schema) -> Exported:
    """Run an export, and log what came of it."""
    began = time.monotonic()
    result = export.run()
    for line in summary(result, schema, time.monotonic() - began):
        _logger.info("%s", line)
    return result
