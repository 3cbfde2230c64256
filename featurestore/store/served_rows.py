"""From what reads found to the rows that are kept of it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from featurestore.contract.selection import Fresh, Selection
from featurestore.contract.served import LETTERS, Occasion, ServedRow, letters_of
from featurestore.schema.types import Status
from featurestore.store.query_table import QueryTable


class Served(msgspec.Struct, frozen=True):
    """What was served to a request that was chosen.

    Attributes:
        occasion: The request.
        columns: Feature → type, in the order of every row.
        rows: What was served.
    """

    occasion: Occasion
    columns: Mapping[str, str]
    rows: Sequence[ServedRow]


def served_entities(
    occasion: Occasion,
    ids: Sequence[str],
    selection: Selection,
    entries: Sequence[Fresh | None],
    passed: Mapping[str, Any],
) -> Served:
    """Return what a read of one entity's ids served. Of an unknown id nothing is there, also of what was passed.

    Args:
        occasion: The request.
        ids: The ids.
        selection: The features.
        entries: What was found of each id.
        passed: The values that the request brought along, as rows hold them.
    """
    entity, count = occasion.entity, len(selection.names)
    nothing, missing = (None,) * count, "M" * count
    rows = [
        ServedRow({entity: (entity_id, None)}, nothing, missing)
        if entry is None
        else ServedRow(
            {entity: (entity_id, entry.event_time)},
            selection.with_values(entry.values, passed) if passed else entry.values,
            _letters(selection.names, entry.statuses, passed),
        )
        for entity_id, entry in zip(ids, entries, strict=True)
    ]
    return Served(occasion, selection.kinds, rows)


def served_query(  # noqa: PLR0913, PLR0917 - what a query is made of
    occasion: Occasion,
    default: str,
    asked: Sequence[Mapping[str, str]],
    names: Sequence[str],
    table: QueryTable,
    passed: Collection[str],
) -> Served:
    """Return what a query served.

    Args:
        occasion: The request.
        default: The entity of names without a prefix.
        asked: For each row the id of each entity.
        names: The features, as they were asked for.
        table: What was found, with metadata, and with the passed values in it.
        passed: The names of these.
    """
    prefix = f"{occasion.entity}:"
    places = {
        (name if ":" in name else f"{default}:{name}").removeprefix(prefix): place for place, name in enumerate(names)
    }
    given = {place for place, name in enumerate(names) if name in passed}
    rows = []
    for ids, values, statuses, entities in zip(asked, table.rows, table.statuses, table.entities, strict=True):
        whose = {entity: (entity_id, (entities[entity] or {}).get("event_time")) for entity, entity_id in ids.items()}
        letters = [
            LETTERS[statuses[place]].lower() if place in given else LETTERS[statuses[place]]
            for place in places.values()
        ]
        rows.append(ServedRow(whose, [values[place] for place in places.values()], "".join(letters)))
    return Served(occasion, {ref: table.types[place] for ref, place in places.items()}, rows)


def _letters(names: Sequence[str], statuses: tuple[Status, ...], passed: Mapping[str, Any]) -> str:
    letters = letters_of(statuses)
    if not passed:
        return letters
    return "".join(
        [
            letter if name not in passed else "m" if passed[name] is None else "p"
            for name, letter in zip(names, letters, strict=True)
        ]
    )
