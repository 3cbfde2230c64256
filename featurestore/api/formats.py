"""What answers to reads are written as: JSON, msgpack or a stream of Apache Arrow; and which a request accepts."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import falcon
import msgspec
from falcon import Request, Response, mediatypes

from featurestore.contract import arrow
from featurestore.contract.columns import Column, Table, bools, column_of, shown_kind, table_of
from featurestore.contract.json_rows import encodable_value, encode, entity_type
from featurestore.contract.selection import Fresh, Selection
from featurestore.contract.vector_msgpack import packed_value
from featurestore.schema.types import Row
from featurestore.store.query_table import QueryTable
from featurestore.worker.interface import PLAIN_ACCEPTS

VARY = ("vary", "Accept")
"""On every answer whose format was chosen by `Accept`, so that a cache keeps the formats apart."""


class Format(msgspec.Struct, frozen=True):
    """A way to write an answer that is made of objects and lists.

    Attributes:
        media_type: What the answer is called.
        encode: From objects and lists to bytes.
        value: From a value of a row, a vector as bytes, to what `encode` takes.
    """

    media_type: str
    encode: Callable[[Any], bytes]
    value: Callable[[Any], Any]


JSON = Format(falcon.MEDIA_JSON, encode, encodable_value)
MSGPACK = Format(falcon.MEDIA_MSGPACK, msgspec.msgpack.Encoder().encode, packed_value)
ARROW = Format(arrow.MEDIA_ARROW, encode, encodable_value)
"""Streams of Arrow are made by functions of their own, below."""

_OF_OBJECTS = (JSON, MSGPACK)
_ALL = (JSON, MSGPACK, ARROW)


# What is accepted


def accepted(req: Request, *, columns: bool = False) -> Format:
    """Return the format that a request wants most; JSON if several suit it as well.

    Args:
        req: The request.
        columns: Whether the answer can be a stream of Arrow.

    Raises:
        falcon.HTTPNotAcceptable: There is none that the request accepts.
    """
    accept = req.env.get("HTTP_ACCEPT")
    if accept in PLAIN_ACCEPTS:
        return JSON
    offered = (_ALL if arrow.is_there() else _OF_OBJECTS) if columns else _OF_OBJECTS
    found = _best(accept, offered)
    if found is None:
        types = ", ".join(each.media_type for each in offered)
        hint = ""
        if columns and offered is not _ALL and _best(accept, (ARROW,)):
            hint = f"; for {arrow.MEDIA_ARROW} the server needs pyarrow: {arrow.EXTRA}"
        raise falcon.HTTPNotAcceptable(description=f"the answer can be {types}{hint}", headers=dict([VARY]))
    return found


def accepts_json(accept: str | None) -> bool:
    """Return whether JSON is what an entity's features are answered as, by the field `Accept`."""
    return accept in PLAIN_ACCEPTS or _best(accept, _OF_OBJECTS) is JSON


@lru_cache(maxsize=128)
def _best(accept: str, offered: tuple[Format, ...]) -> Format | None:
    """Return the format that is accepted most; JSON if the field is malformed, as if it were not there."""
    try:
        name = mediatypes.best_match([each.media_type for each in offered], accept.lower())
    except ValueError:
        return JSON
    return next((each for each in offered if each.media_type == name), None)


def answer(resp: Response, written_as: Format, body: bytes) -> None:
    """Set the body of a response that `accepted` chose the format of, and its type."""
    resp.content_type = written_as.media_type
    resp.set_header(*VARY)
    resp.data = body


# Objects


def entities(
    written_as: Format, id_name: str, ids: Sequence[str], selection: Selection, rows: Sequence[Row | None]
) -> list[Any]:
    """Return entities as answers without metadata have them; the features are null for an unknown id."""
    entity, features, value = _entity_type(id_name), selection.vector_type, written_as.value
    if selection.vectors:
        rows = [None if row is None else tuple(map(value, row)) for row in rows]
    return [entity(each, None if row is None else features(*row)) for each, row in zip(ids, rows, strict=True)]


_entity_type = lru_cache(maxsize=1024)(entity_type)


# Streams of Arrow


def batch_stream(id_name: str, ids: Sequence[str], selection: Selection, table: Table) -> bytes:
    """Return the stream of a batch: the ids, whether they are known, and a column for each feature."""
    names = [id_name, arrow.KNOWN, *selection.names]
    return arrow.stream_of(table.rows, names, [column_of("string", ids), table.known, *table.columns])


def fresh_stream(  # noqa: PLR0913, PLR0917 - what an answer is made of
    id_name: str,
    ids: Sequence[str],
    selection: Selection,
    entries: Sequence[Fresh | None],
    passed: Mapping[str, Any],
    statuses: Callable[[Fresh], Sequence[str]] | None,
) -> bytes:
    """Return the stream of a batch with passed values, and with metadata if `statuses` returns those of a row.

    Behind the features are the entity's event time and its age, and then the status and the event time of each feature.
    """
    kinds = list(map(shown_kind, selection.types))
    rows = [None if entry is None else _with_passed(selection, entry.values, passed) for entry in entries]
    table = table_of(kinds, rows)
    names = [id_name, arrow.KNOWN, *selection.names]
    columns = [column_of("string", ids), table.known, *table.columns]
    if statuses is not None:
        names += [arrow.EVENT_TIME, arrow.AGE]
        columns += [
            _times(entry and entry.event_time for entry in entries),
            column_of("int", (entry and entry.age_ms for entry in entries)),
        ]
        told = [entry and statuses(entry) for entry in entries]
        for place, name in enumerate(selection.names):
            names += [name + arrow.STATUS, name + arrow.TIME]
            columns += [
                column_of("string", (each and each[place] for each in told)),
                _times(entry and entry.event_times[place] for entry in entries),
            ]
    return arrow.stream_of(table.rows, names, columns)


def _with_passed(selection: Selection, row: Row, passed: Mapping[str, Any]) -> Row:
    return tuple(passed.get(name, value) for name, value in zip(selection.names, row, strict=True)) if passed else row


def _times(values: Any) -> Column:
    return column_of("int", values)._replace(kind=arrow.TIME_KIND)


def query_stream(
    rows: Sequence[Mapping[str, str]],
    names: Sequence[str],
    known: Mapping[str, Column],
    features: Sequence[Column],
    behind: Mapping[str, Column] | None = None,
) -> bytes:
    """Return the stream of a query: for each entity its ids and whether they are known, and a column for each feature.

    Args:
        rows: For each row the id of each entity.
        names: The features, as they were asked for.
        known: For each entity, whether a row has an id of it that is known.
        features: The values.
        behind: Columns behind them.
    """
    columns: dict[str, Column] = {}
    for name, of_rows in known.items():
        columns[f"{name}:{arrow.ID}"] = column_of("string", (row.get(name) for row in rows))
        columns[f"{name}:{arrow.KNOWN}"] = of_rows
    columns.update(zip(names, features, strict=True))
    columns.update(behind or {})
    return arrow.stream_of(len(rows), list(columns), list(columns.values()))


def query_table_stream(rows: Sequence[Mapping[str, str]], names: Sequence[str], table: QueryTable) -> bytes:
    """Return the stream of a query, from the rows that were found.

    With metadata, behind the features are the event time and the age of each entity, and the status of each feature.
    """
    known = {name: bools(of_rows) for name, of_rows in table.known.items()}
    features = table_of(list(map(shown_kind, table.types)), [tuple(row) for row in table.rows]).columns
    behind: dict[str, Column] = {}
    if table.statuses:
        for name in known:
            told = [entities.get(name) or {} for entities in table.entities]
            behind[f"{name}:{arrow.EVENT_TIME}"] = _times(each.get("event_time") for each in told)
            behind[f"{name}:{arrow.AGE}"] = column_of("int", (each.get("age_ms") for each in told))
        for place, name in enumerate(names):
            behind[name + arrow.STATUS] = column_of("string", (each[place] for each in table.statuses))
    return query_stream(rows, names, known, features, behind)
