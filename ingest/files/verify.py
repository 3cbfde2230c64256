"""The store against files: what is there, what differs, and whether the store is only newer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from featurestore.contract.hashes import StoredEntity, caster
from featurestore.schema.types import vector_length
from featurestore.schema.values import numbers_of

from .file_rows import FileRows, Unsuitable
from .scan import HashReader


class FeatureCounts(msgspec.Struct):
    """What was found of one feature.

    Attributes:
        rows: Rows of the file that have the column.
        known: Of these, those whose ids the store knows.
        different: Of these, those whose values differ.
        newer: Those whose values differ because the store's are newer.
        null_in_file: Rows without a value in the file.
        null_in_store: Rows with a known id of which no value is stored.
    """

    rows: int = 0
    known: int = 0
    different: int = 0
    newer: int = 0
    null_in_file: int = 0
    null_in_store: int = 0


class Difference(msgspec.Struct, frozen=True):
    """One value that differs.

    Attributes:
        id: The entity's id.
        feature: The feature; None where the id is unknown to the store.
        file: The file's value.
        store: The store's value.
    """

    id: str
    feature: str | None
    file: Any
    store: Any


class Comparison(msgspec.Struct):
    """What was found.

    Attributes:
        rows: Rows compared.
        equal: Rows whose values are all equal.
        different: Rows with a value that differs, and is not older than the store's.
        newer: Rows that differ only where the store is newer.
        unknown: Rows whose ids the store does not know.
        expired: Rows whose ids it does not know since the schema's ttl is over.
        no_id: Rows without an id that can be one.
        unread: Rows that cannot be read.
        features: What was found of each feature.
        examples: Some of what differs.
    """

    rows: int = 0
    equal: int = 0
    different: int = 0
    newer: int = 0
    unknown: int = 0
    expired: int = 0
    no_id: int = 0
    unread: int = 0
    features: dict[str, FeatureCounts] = {}
    examples: list[Difference] = []

    @property
    def agrees(self) -> bool:
        """Whether the store has all that the file has, or newer."""
        return self.different == self.unknown == self.no_id == self.unread == 0


class Verification:
    """One comparison under way.

    Args:
        reader_of: Returns what reads the hashes of the entity's ids, for some features with their types.
        features: The features of the entity, with their types.
        keeps_null: Whether null in the file says nothing of what is stored.
        examples: How many differences to keep, of unknown ids and of each feature.
        oldest: Entities with an older event time, in ms, are unknown by the schema's ttl; None for none.

    Attributes:
        result: What was found so far.
    """

    def __init__(
        self,
        reader_of: Callable[[Mapping[str, str]], HashReader],
        features: Mapping[str, str],
        *,
        keeps_null: bool = False,
        examples: int = 5,
        oldest: int | None = None,
    ) -> None:
        self._reader_of, self._kinds = reader_of, features
        self._readers: dict[tuple[str, ...], HashReader] = {}
        self._casters = {name: caster(kind) for name, kind in features.items()}
        self._keeps_null, self._examples, self._oldest = keeps_null, examples, oldest
        self._told: dict[str | None, int] = {}
        self.result = Comparison()

    def compare(self, rows: FileRows) -> None:
        """Compare some rows."""
        self.result.rows += len(rows)
        for name, column in rows.values.items():
            counts = self.result.features.setdefault(name, FeatureCounts())
            counts.rows += len(column)
            counts.null_in_file += sum(value is None for value in column)
        with_id = [row for row, each in enumerate(rows.ids) if each is not None]
        self.result.no_id += len(rows) - len(with_id)
        reader = self._reader(tuple(rows.values))
        for first in range(0, len(with_id), reader.in_call):
            part = with_id[first : first + reader.in_call]
            ids = [each for row in part if (each := rows.ids[row]) is not None]
            for row, raw_id, (is_known, entity) in zip(part, ids, reader.read_known(ids), strict=True):
                if not is_known or entity is None or entity.deleted or self._is_expired(entity.event_time):
                    self._count_unknown(raw_id, rows.times[row], entity)
                else:
                    self._compare_row(rows, row, raw_id, entity)

    def _reader(self, names: tuple[str, ...]) -> HashReader:
        """Return what reads these features."""
        reader = self._readers.get(names)
        if reader is None:
            reader = self._readers[names] = self._reader_of({name: self._kinds[name] for name in names})
        return reader

    def _is_expired(self, event_time: int | None) -> bool:
        return self._oldest is not None and event_time is not None and event_time < self._oldest

    def _count_unknown(self, raw_id: bytes, file_time: int | None, entity: StoredEntity | None) -> None:
        """Count a row whose id is unknown: it may have expired, or was deleted after the row's time."""
        deleted = (entity.floor or entity.event_time) if entity and entity.deleted else None
        if self._is_expired(file_time):
            self.result.expired += 1
        elif deleted is not None and file_time is not None and deleted >= file_time:
            self.result.newer += 1
        else:
            self.result.unknown += 1
            self._keep(Difference(raw_id.decode(), None, None, None))

    def _compare_row(self, rows: FileRows, row: int, raw_id: bytes, entity: StoredEntity) -> None:
        different = newer = False
        for (name, column), text in zip(rows.values.items(), entity.texts, strict=True):
            counts = self.result.features[name]
            stored = None if text is None else self._casters[name](text)
            counts.known += 1
            counts.null_in_store += stored is None
            value = column[row]
            if value is None and self._keeps_null:
                continue
            if value == stored:
                continue
            own = rows.own_times.get(name)
            file_time = (own[row] if own else None) or rows.times[row]
            if _is_newer(name, stored, entity, file_time):
                newer = True
                counts.newer += 1
            else:
                different = True
                counts.different += 1
                shown = self._shown(name, value), self._shown(name, stored)
                self._keep(Difference(raw_id.decode(), name, *shown))
        if different:
            self.result.different += 1
        elif newer:
            self.result.newer += 1
        else:
            self.result.equal += 1

    def _keep(self, difference: Difference) -> None:
        count = self._told[difference.feature] = self._told.get(difference.feature, 0) + 1
        if count <= self._examples:
            self.result.examples.append(difference)

    def _shown(self, name: str, value: Any) -> Any:
        if isinstance(value, Unsuitable):
            return value.value
        return numbers_of(value) if value is not None and vector_length(self._kinds[name]) else value


def _is_newer(name: str, stored: Any, entity: StoredEntity, file_time: int | None) -> bool:
    """Return whether the store's value, or that it has none, is of a later time than the file's."""
    time = entity.times.get(name) or (entity.event_time if stored is not None else None) or entity.floor
    return time is not None and file_time is not None and time > file_time


def report(result: Comparison, id_name: str) -> Iterable[str]:
    """Yield what was found, line by line, for people."""
    for name, count in _totals(result):
        yield f"{name:24}{count:>12}"
    if result.features:
        yield ""
        yield from _table(result.features)
    if result.examples:
        yield ""
        for each in result.examples:
            yield msgspec.json.encode(_example(each, id_name)).decode()


def as_json(result: Comparison, id_name: str) -> dict[str, Any]:
    """Return the same for programs."""
    totals = {name.replace(" ", "_"): count for name, count in _totals(result)}
    features = {name: msgspec.to_builtins(counts) for name, counts in result.features.items()}
    return {**totals, "features": features, "examples": [_example(each, id_name) for each in result.examples]}


def _totals(result: Comparison) -> Sequence[tuple[str, int]]:
    return [
        ("rows", result.rows),
        ("equal", result.equal),
        ("different", result.different),
        ("newer in store", result.newer),
        ("unknown to store", result.unknown),
        ("expired in store", result.expired),
        ("without id", result.no_id),
        ("unreadable", result.unread),
    ]


def _table(features: Mapping[str, FeatureCounts]) -> Iterable[str]:
    width = max(24, *(len(name) + 2 for name in features))
    heads = ("different", "newer", "null in file", "null in store")
    yield f"{'feature':{width}}" + "".join(f"{head:>14}" for head in heads)
    for name, counts in features.items():
        rates = (_rate(counts.null_in_file, counts.rows), _rate(counts.null_in_store, counts.known))
        yield f"{name:{width}}{counts.different:>14}{counts.newer:>14}" + "".join(f"{rate:>14}" for rate in rates)


def _rate(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"


def _example(difference: Difference, id_name: str) -> dict[str, Any]:
    if difference.feature is None:
        return {id_name: difference.id, "unknown": True}
    return {id_name: difference.id, "feature": difference.feature, "file": difference.file, "store": difference.store}
