"""Features of several entities side by side: the query, and the table that the replies fill."""

from collections.abc import Mapping, Sequence
from typing import Any

from featurestore.contract.arguments import passed_values, status_with
from featurestore.contract.selection import Fresh, Selection
from featurestore.errors import BadArgumentsError
from featurestore.schema.types import Row, Status

_SHOWN = 64


class Query:
    """What is asked for.

    Args:
        default: The entity of names without a prefix.
        rows: For each row the id of each entity, by the entity's name.
        names: `entity:feature`, or the feature alone.
        metadata: Whether to read the age and the status of each value.
        max_age_ms: Values older than that are None.

    Attributes:
        names: The names as they were given.
        refs: The names, each with its entity.
        wanted: Entity → its features.
        options: The options of the script calls.

    Raises:
        BadArgumentsError: A row names an entity of which no feature is wanted, or a name has a colon and no entity.
    """

    def __init__(
        self,
        default: str,
        rows: Sequence[Mapping[str, str]],
        names: Sequence[str],
        *,
        metadata: bool,
        max_age_ms: int | None,
    ) -> None:
        self.rows, self.names = rows, names
        self.refs = [name if ":" in name else f"{default}:{name}" for name in names]
        self.wanted: dict[str, list[str]] = {}
        for ref in self.refs:
            entity, _, feature = ref.rpartition(":")
            if not entity:
                raise BadArgumentsError(f"{ref[:_SHOWN]!r} names no entity before the colon")
            self.wanted.setdefault(entity, []).append(feature)
        for row in rows:
            for entity in row:
                if entity not in self.wanted:
                    raise BadArgumentsError(f"no feature of {entity[:_SHOWN]!r} is asked for")
        self.metadata = metadata
        limit = [] if max_age_ms is None else [f"?max_age={max_age_ms}"]
        self.options = (*(["?metadata"] if metadata else []), *limit)

    def ids_of(self, entity: str) -> list[str]:
        """Return an entity's ids, from the rows that have one."""
        return [row[entity] for row in self.rows if entity in row]


class QueryTable:
    """What was found.

    Args:
        query: What was asked for.

    Attributes:
        rows: For each row of the query the values, vectors as bytes, aligned with the names.
        types: The features' types.
        statuses: For each row the values' statuses; MISSING if the id is unknown or the row has none.
        entities: For each row entity → event time and age; None if the entity is unknown.
        known: Entity → whether each row has an id of it that is known.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._places: dict[str, list[int]] = {}
        for place, ref in enumerate(query.refs):
            self._places.setdefault(ref, []).append(place)
        width = len(query.refs)
        self.types = [""] * width
        self.rows: list[list[Any]] = [[None] * width for _ in query.rows]
        self.statuses: list[list[Status]] = [["MISSING"] * width for _ in query.rows] if query.metadata else []
        self.known = {entity: [False] * len(query.rows) for entity in query.wanted}
        self.entities: list[dict[str, Any]] = [dict.fromkeys(row) for row in query.rows] if query.metadata else []

    def add(self, entity: str, selection: Selection, replies: Sequence[Any]) -> None:
        """Fill in an entity's features, from the replies that cover its ids in order."""
        columns = [self._places[f"{entity}:{name}"] for name in selection.names]
        for places, kind in zip(columns, selection.types, strict=True):
            for place in places:
                self.types[place] = kind
        decode = selection.decode_fresh if self._query.metadata else selection.decode_many
        found: list[Fresh | Row | None] = [entry for reply in replies for entry in decode(reply)]
        numbers = [number for number, row in enumerate(self._query.rows) if entity in row]
        for number, entry in zip(numbers, found, strict=True):
            if entry is None:
                continue
            self.known[entity][number] = True
            values = entry
            if isinstance(entry, Fresh):
                values = entry.values
                self.entities[number][entity] = {"event_time": entry.event_time, "age_ms": entry.age_ms}
                _place(self.statuses[number], columns, entry.statuses)
            _place(self.rows[number], columns, values)

    def put(self, passed: Mapping[str, Any]) -> None:
        """Replace stored values by `passed` ones, by name as asked for, in every row.

        Raises:
            BadArgumentsError: A value is for a feature that is not asked for.
            BadValueError: A value does not have its feature's type.
        """
        names = self._query.names
        values = passed_values(passed, dict(zip(names, self.types, strict=True)))
        places = [(place, name) for place, name in enumerate(names) if name in values]
        for place, name in places:
            for row in self.rows:
                row[place] = values[name]
            for statuses in self.statuses:
                statuses[place] = status_with(values, name, statuses[place])


def _place(row: list[Any], columns: Sequence[Sequence[int]], values: Any) -> None:
    for places, value in zip(columns, values, strict=True):
        for place in places:
            row[place] = value
