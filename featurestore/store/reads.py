"""The plans of the reads of one entity."""

from __future__ import annotations  # those of inner functions would cost 2 us a read

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from featurestore.contract.arguments import (
    listed_vectors,
    passed_values,
    plain_id_text,
    plain_ids,
    plain_max_age,
    plain_names,
    plain_values,
    status_with,
)
from featurestore.contract.columns import Table
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.contract.selection import Batch, Fresh, Selection
from featurestore.contract.words import encode_id
from featurestore.errors import BadArgumentsError
from featurestore.schema.types import Row, Value
from featurestore.store.batches import read_json, read_many, read_one
from featurestore.store.catalog import Catalog
from featurestore.store.plan import Plan, with_current_schema
from featurestore.store.results import Description, MaxAge

T = TypeVar("T")


class ReadPlans(Catalog):
    """The plans of the reads of one entity."""

    def get(
        self, entity_id: str, features: Iterable[str] | None, service: str | None, max_age: MaxAge
    ) -> Plan[dict[str, Value | None] | None]:
        """Return an entity's features by name; None if the id is unknown."""
        entity_id = plain_id_text(entity_id)
        if max_age is not None:
            return (yield from self.get_many([entity_id], features, service, max_age, None))[0]
        names = yield from self._wanted(plain_names(features, service), service)
        selection, row = yield from self.fetch(entity_id, names)
        return None if row is None else selection.values(row)

    def get_many(
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None,
        service: str | None,
        max_age: MaxAge,
        passed: Mapping[str, Any] | None,
    ) -> Plan[list[dict[str, Value | None] | None]]:
        """Return what `get` returns, for each id; `passed` values replace stored ones."""
        ids, names, max_age_ms = plain_ids(entity_ids), plain_names(features, service), plain_max_age(max_age)
        given = None if passed is None else plain_values(passed, "passed")
        if not ids:
            return []
        names = yield from self._wanted(names, service)
        if max_age_ms is None:
            selection, rows = yield from self.fetch_many(ids, names)
        else:
            selection, entries = yield from self.fetch_fresh(ids, names, max_age_ms)
            rows = [None if entry is None else entry.values for entry in entries]
        found = [None if row is None else selection.values(row) for row in rows]
        if given:
            values = listed_vectors(passed_values(given, selection.kinds))
            for known in filter(None, found):
                known.update(values)
        return found

    def describe_many(
        self,
        entity_ids: Iterable[str],
        features: Iterable[str] | None,
        service: str | None,
        max_age: MaxAge,
        passed: Mapping[str, Any] | None,
    ) -> Plan[list[Description | None]]:
        """Return each id's features with their age; None for an unknown id."""
        ids, names, max_age_ms = plain_ids(entity_ids), plain_names(features, service), plain_max_age(max_age)
        given = {} if passed is None else plain_values(passed, "passed")
        if not ids:
            return []
        names = yield from self._wanted(names, service)
        selection, entries = yield from self.fetch_fresh(ids, names, max_age_ms)
        values = listed_vectors(passed_values(given, selection.kinds))
        return [
            None
            if entry is None
            else Description(
                selection.values(entry.values) | values,
                entry.event_time,
                entry.age_ms,
                {
                    name: status_with(values, name, status)
                    for name, status in zip(selection.names, entry.statuses, strict=True)
                },
            )
            for entry in entries
        ]

    def get_json(self, entity_id: str, features: Sequence[str] | None) -> Plan[bytes | None]:
        """Return an entity's id and features as JSON; None if the id is unknown."""
        raw_id = encode_id(entity_id)

        def read(selection: Selection) -> Plan[bytes | None]:
            reply = yield from read_one(selection, raw_id)
            return None if reply is None else selection.renderer.one(entity_id, reply)

        return self._read(features, read, GET_FEATURES.name)

    def get_many_json(self, entity_ids: list[str], features: Sequence[str] | None) -> Plan[bytes]:
        """Return a JSON list with the id and features of each id; null features for an unknown one."""

        def read(selection: Selection) -> Plan[bytes]:
            self._check_values([Batch(selection, entity_ids)])
            return read_json(selection, entity_ids, selection.renderer)

        return self._read(features, read, GET_FEATURES_BATCH.name)

    def fetch_columns(self, entity_ids: list[str], features: Sequence[str] | None) -> Plan[tuple[Selection, Table]]:
        """Return a selection, which names the columns, and the columns with a row for each id."""

        def read(selection: Selection) -> Plan[tuple[Selection, Table]]:
            (replies,) = yield from self._read_many([Batch(selection, entity_ids)])
            return selection, selection.columns.read(len(entity_ids), replies)

        return self._read(features, read, GET_FEATURES_BATCH.name)

    def fetch(self, entity_id: str, features: Sequence[str] | None) -> Plan[tuple[Selection, Row | None]]:
        """Return a selection, which names the columns, and the entity's row; None if the id is unknown."""
        raw_id = encode_id(entity_id)

        def read(selection: Selection) -> Plan[tuple[Selection, Row | None]]:
            reply = yield from read_one(selection, raw_id)
            return selection, None if reply is None else selection.decode(reply)

        return self._read(features, read)

    def fetch_many(
        self, entity_ids: Sequence[str], features: Sequence[str] | None
    ) -> Plan[tuple[Selection, list[Row | None]]]:
        """Return a selection, which names the columns, and a row for each id; None for an unknown one."""

        def read(selection: Selection) -> Plan[tuple[Selection, list[Row | None]]]:
            (replies,) = yield from self._read_many([Batch(selection, entity_ids)])
            return selection, [row for reply in replies for row in selection.decode_many(reply)]

        return self._read(features, read)

    def fetch_fresh(
        self, entity_ids: Sequence[str], features: Sequence[str] | None, max_age_ms: int | None
    ) -> Plan[tuple[Selection, list[Fresh | None]]]:
        """Return a selection, and for each id its row with ages and statuses; None for an unknown one."""
        options = ("?metadata",) if max_age_ms is None else ("?metadata", f"?max_age={max_age_ms}")

        def read(selection: Selection) -> Plan[tuple[Selection, list[Fresh | None]]]:
            (replies,) = yield from self._read_many([Batch(selection, entity_ids, options)])
            return selection, [entry for reply in replies for entry in selection.decode_fresh(reply)]

        return self._read(features, read, aged=True)

    def _read_many(self, batches: Sequence[Batch]) -> Plan[list[list[Any]]]:
        """Do what `read_many` does, unless that is more than may be asked for."""
        self._check_values(batches)
        return read_many(batches)

    def _check_values(self, batches: Sequence[Batch]) -> None:
        """Refuse what would take too much memory and time.

        Raises:
            BadArgumentsError: The batches ask for too many values.
        """
        values = sum(len(batch.ids) * batch.selection.weight for batch in batches)
        if values > self._most_values:
            raise BadArgumentsError(
                f"{values:,.0f} values are asked for, at most {self._most_values:,.0f} at once "
                "(FEATURESTORE_MAX_CELLS): ask for fewer ids or features"
            )

    def _read(
        self,
        features: Sequence[str] | None,
        read: Callable[[Selection], Plan[T]],
        what: str = "a read",
        *,
        aged: bool = False,
    ) -> Plan[T]:
        return with_current_schema(lambda: self.select(features, aged=aged), read, self.reread, what)

    def _wanted(self, names: list[str] | None, service: str | None) -> Plan[list[str] | None]:
        return names if service is None else (yield from self.service(str.__str__(service)))
