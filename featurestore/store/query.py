"""The plans of reads of several entities at once. `reads.py` has those of one entity."""

from __future__ import annotations  # those of inner functions would cost 2 us a read

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

from featurestore.contract.arguments import (
    label_of,
    listed_vectors,
    plain_max_age,
    plain_names,
    plain_query_rows,
    plain_values,
)
from featurestore.contract.columns import Column
from featurestore.contract.json_rows import encodable_value, encode
from featurestore.contract.selection import Batch, Fresh, Selection
from featurestore.errors import BadArgumentsError, UndeclaredFeatureError, UnknownEntityError
from featurestore.schema.stored import Schema
from featurestore.store.batches import read_json
from featurestore.store.plan import Plan, with_current_schema
from featurestore.store.query_table import Query, QueryTable
from featurestore.store.reads import ReadPlans
from featurestore.store.results import MaxAge
from featurestore.store.table import FeatureTable

T = TypeVar("T")


Selections = list[Selection]
"""What is read of each entity."""


class QueryPlans(ReadPlans):
    """The plans of reads, of one entity and of several side by side."""

    def query_names(self, service: str) -> Plan[list[str]]:
        """Return the features of a service for a query; `item:ranking` is a service in the schema of `item`."""
        entity, _, name = service.rpartition(":")
        if entity:
            listed = yield from (yield from self._entity(entity)).listed(name)
            return list(dict.fromkeys(each if ":" in each else f"{entity}:{each}" for each in listed))
        try:
            return list(dict.fromkeys((yield from self.listed(name))))
        except UndeclaredFeatureError as error:
            places = [f"{entity}:{name}" for entity, plans in self._entities.items() if plans.lists(name)]
            raise UndeclaredFeatureError(f"{error}; there is {', '.join(places)}" if places else str(error)) from None

    def query(
        self,
        rows: Iterable[Mapping[str, str]],
        features: Iterable[str] | None,
        service: str | None,
        max_age: MaxAge,
        passed: Mapping[str, Any] | None,
    ) -> Plan[FeatureTable]:
        """Return features of several entities side by side."""
        plain_rows, names, max_age_ms = plain_query_rows(rows), plain_names(features, service), plain_max_age(max_age)
        given = {} if passed is None else plain_values(passed, "passed")
        if names is None and service is None:
            raise BadArgumentsError("name the features or a service")
        if not plain_rows:
            return FeatureTable((), (), names or ())
        if names is None:
            names = yield from self.query_names(str.__str__(service))
        table = yield from self.query_table(plain_rows, names, max_age_ms, metadata=False)
        table.put(given)
        found = [listed_vectors(dict(zip(names, row, strict=True))) for row in table.rows]
        return FeatureTable(map(label_of, plain_rows), found, names, dict(zip(names, table.types, strict=True)))

    def query_table(
        self, rows: Sequence[Mapping[str, str]], names: Sequence[str], max_age_ms: int | None, *, metadata: bool
    ) -> Plan[QueryTable]:
        """Return features of several entities side by side, with types and statuses, as the HTTP server needs them."""
        query = Query(self.keys.entity, rows, names, metadata=metadata, max_age_ms=max_age_ms)

        def read(selections: Selections) -> Plan[QueryTable]:
            return self._query(query, selections)

        return self._read_of(list(query.wanted.items()), read, "a query", aged=bool(query.options))

    def query_json(self, rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> Plan[bytes]:
        """Return features of several entities side by side, as the JSON of a response without metadata.

        Where they are of one entity, the replies become JSON without being read.
        """
        query = Query(self.keys.entity, rows, names, metadata=False, max_age_ms=None)

        def read(selections: Selections) -> Plan[bytes]:
            (selection,) = selections
            ids = query.ids_of(entity)
            self._check_values([Batch(selection, ids)])
            return read_json(selection, ids, selection.table_renderer)

        entity, *others = query.wanted
        if others or len(set(query.refs)) < len(names) or not all(entity in row for row in rows):
            table = yield from self.query_table(rows, names, None, metadata=False)
            listed = encode([[encodable_value(value) for value in row] for row in table.rows])
        else:
            listed = yield from self._read_of(list(query.wanted.items()), read, "a query", aged=False)
        return b'{"names":%b,"rows":%b}' % (encode(names), listed)

    def query_columns(
        self, rows: Sequence[Mapping[str, str]], names: Sequence[str]
    ) -> Plan[tuple[dict[str, Column], list[Column]] | None]:
        """Return for each entity which ids are known, and the features' columns; None if a row lacks an entity's id."""
        query = Query(self.keys.entity, rows, names, metadata=False, max_age_ms=None)
        if any(len(row) < len(query.wanted) for row in rows):
            return None

        def read(selections: Selections) -> Plan[tuple[dict[str, Column], list[Column]]]:
            found = yield from self._read_many(
                [Batch(each, query.ids_of(entity)) for entity, each in zip(query.wanted, selections, strict=True)]
            )
            known: dict[str, Column] = {}
            columns: dict[str, Column] = {}
            for entity, selection, replies in zip(query.wanted, selections, found, strict=True):
                table = selection.columns.read(len(rows), replies)
                known[entity] = table.known
                for name, column in zip(selection.names, table.columns, strict=True):
                    columns[f"{entity}:{name}"] = column
            return known, [columns[ref] for ref in query.refs]

        return (yield from self._read_of(list(query.wanted.items()), read, "a query", aged=False))

    def _query(self, query: Query, selections: Selections) -> Plan[QueryTable]:
        batches = [
            Batch(selection, query.ids_of(entity), query.options)
            for entity, selection in zip(query.wanted, selections, strict=True)
        ]
        found = yield from self._read_many(batches)
        table = QueryTable(query)
        for entity, selection, replies in zip(query.wanted, selections, found, strict=True):
            table.add(entity, selection, replies)
        return table

    def _read_of(
        self,
        wanted: Sequence[tuple[str, Sequence[str]]],
        read: Callable[[Selections], Plan[T]],
        what: str,
        *,
        aged: bool,
    ) -> Plan[T]:
        """Read features of several entities; read all their schemas again if one is outdated."""

        def select() -> Plan[Selections]:
            selections: Selections = []
            for entity, features in wanted:
                plans = yield from self._entity(entity)
                selections.append((yield from plans.select(features, aged=aged)))
            return selections

        def refresh() -> Plan[Schema]:
            for entity, _ in wanted:
                schema = yield from (yield from self._entity(entity)).reread()
            return schema

        return with_current_schema(select, read, refresh, what)

    def _entity(self, name: str) -> Plan[Self]:
        """Do what `entity` does, with an error that names the entity."""
        try:
            return (yield from self.entity(name))
        except UnknownEntityError:
            raise UnknownEntityError(f"no entity {name} has a schema") from None

    def fetch_fresh_of(
        self, wanted: Sequence[tuple[str, Sequence[str], Sequence[str]]]
    ) -> Plan[list[tuple[Selection, list[Fresh | None]]]]:
        """Return what `fetch_fresh` does for each entity's name, ids and features, in one round trip."""

        def read(selections: Selections) -> Plan[list[tuple[Selection, list[Fresh | None]]]]:
            batches = [
                Batch(selection, ids, ("?metadata",)) for (_, ids, _), selection in zip(wanted, selections, strict=True)
            ]
            found = yield from self._read_many(batches)
            return [
                (selection, [entry for reply in replies for entry in selection.decode_fresh(reply)])
                for selection, replies in zip(selections, found, strict=True)
            ]

        return self._read_of([(entity, features) for entity, _, features in wanted], read, "a read", aged=True)
