"""The plans of reads by a service of which is kept, for a sample of the requests, what they were served."""

from __future__ import annotations  # those of inner functions would cost 2 us a read

from collections.abc import Iterable, Mapping
from typing import Any

from featurestore.contract.arguments import (
    label_of,
    listed_vectors,
    passed_values,
    plain_ids,
    plain_max_age,
    plain_name,
    plain_query_rows,
    plain_values,
)
from featurestore.contract.served import Occasion, plain_request_id
from featurestore.schema.types import Value
from featurestore.store.plan import Plan
from featurestore.store.query import QueryPlans
from featurestore.store.results import MaxAge
from featurestore.store.served_rows import Served, served_entities, served_query
from featurestore.store.table import FeatureTable


class ServePlans(QueryPlans):
    """The plans of reads, those by a service among them that are kept.

    Each returns what was read, and what is to be kept of it: None for requests that are not chosen.
    """

    def occasion_of(self, service: str, request_id: str) -> Occasion | None:
        """Do what `occasion` does for a query: `item:ranking` is a service in the schema of `item`."""
        entity, _, name = service.rpartition(":")
        plans = self._entities.get(entity) if entity and entity != self.keys.entity else self
        return None if plans is None else plans.occasion(name, request_id)

    def serve(
        self,
        service: str,
        entity_ids: Iterable[str],
        request_id: str | None,
        max_age: MaxAge,
        passed: Mapping[str, Any] | None,
    ) -> Plan[tuple[list[dict[str, Value | None] | None], Served | None]]:
        """Read a service's features of each id."""
        service, ids = plain_name(service, "a service's name"), plain_ids(entity_ids)
        max_age_ms = plain_max_age(max_age)
        given = {} if passed is None else plain_values(passed, "passed")
        names = yield from self.service(service)
        occasion = self.occasion(service, plain_request_id(request_id)) if ids else None
        if occasion is None:
            return (yield from self.get_many(ids, names, None, max_age_ms, given)), None
        selection, entries = yield from self.fetch_fresh(ids, names, max_age_ms)
        values = passed_values(given, selection.kinds)
        listed = listed_vectors(values)
        found = [None if entry is None else selection.values(entry.values) | listed for entry in entries]
        return found, served_entities(occasion, ids, selection, entries, values)

    def serve_query(
        self,
        service: str,
        rows: Iterable[Mapping[str, str]],
        request_id: str | None,
        max_age: MaxAge,
        passed: Mapping[str, Any] | None,
    ) -> Plan[tuple[FeatureTable, Served | None]]:
        """Read a service's features of several entities side by side."""
        service, plain_rows = plain_name(service, "a service's name"), plain_query_rows(rows)
        max_age_ms = plain_max_age(max_age)
        given = {} if passed is None else plain_values(passed, "passed")
        names = yield from self.query_names(service)
        occasion = self.occasion_of(service, plain_request_id(request_id)) if plain_rows else None
        if occasion is None:
            return (yield from self.query(plain_rows, names, None, max_age_ms, given)), None
        table = yield from self.query_table(plain_rows, names, max_age_ms, metadata=True)
        table.put(given)
        served = served_query(occasion, self.keys.entity, plain_rows, names, table, given.keys())
        found = [listed_vectors(dict(zip(names, row, strict=True))) for row in table.rows]
        types = dict(zip(names, table.types, strict=True))
        return FeatureTable(map(label_of, plain_rows), found, names, types), served
