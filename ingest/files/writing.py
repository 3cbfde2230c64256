"""Record batches and lists of objects as the rows of `BulkWriter`: values by the rules of their features' types."""

import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import repeat
from typing import Any, Literal

import msgspec

from featurestore.contract.upsert_calls import RejectedRow, UpsertResult
from featurestore.contract.words import EVENT_TIME, FORGET, LEAVE, encode_id, to_text, to_time
from featurestore.errors import BadIdError, BadTimeError, UnsuitableValueError
from featurestore.keys import Keys
from featurestore.schema.types import vector_length
from featurestore.schema.values import shown
from featurestore.settings import CallBy

from ..writer import BulkWriter  # noqa: TID252 - this package has two names

Nulls = Literal["remove", "keep"]
"""What becomes of a stored value where a row has none: it is removed, or stays."""

_TRUE, _FALSE = frozenset({"true", "t", "yes", "1"}), frozenset({"false", "f", "no", "0"})
_ABSENT = object()

Rows = list[tuple[int, list[Any]]]
"""Each row's position in its batch; its id, event time and values."""


class FrameWriter:
    """Writes batches of rows by `BulkWriter`.

    Args:
        url: Redis's address.
        entity: Whose rows they are.
        call: How Redis runs the scripts, see FEATURESTORE_CALL.
        timeout: Seconds a reply may take.

    Raises:
        NoSchemaError: The entity has no schema.
    """

    def __init__(self, url: str, *, entity: str = "user", call: CallBy = "scripts", timeout: float = 5.0) -> None:
        first = BulkWriter(url, keys=Keys.of(entity), call=call, timeout=timeout)
        try:
            members = first.store.schema().members
        finally:
            first.close()
        self._bulk = BulkWriter(url, keys=Keys.of(entity, members), call=call, timeout=timeout)
        self.store = self._bulk.store

    def close(self) -> None:
        """Close the connections."""
        self._bulk.close()

    def write(
        self,
        batch: Any,
        *,
        id: str,  # noqa: A002 - as BulkWriter calls it
        overwrite: bool = False,
        nulls: Nulls = "remove",
        text: bool = False,
    ) -> UpsertResult:
        """Write a batch; each row stands or falls by itself.

        Args:
            batch: A `pyarrow.RecordBatch`, or a list of objects. The column `@event_time` has ms since 1970, the others
                are features or `FEATURE@event_time`. An object that lacks a feature leaves what is stored.
            id: The column of the ids.
            overwrite: Write values that are older than the stored ones too.
            nulls: What null does: `remove` the stored value, or `keep` it.
            text: Whether all values are text: `12` is an int where the schema says int, empty text is no value.
        """
        names, rows, rejected = self._rows(batch, id, nulls, text=text)
        columns, values = [EVENT_TIME, *names], [row for _, row in rows]
        if overwrite:
            result = self.store.upsert_table(columns, values, overwrite=True)
        else:
            result = self._bulk.write(columns, values)
        told = {rejection.row: rejection for rejection in rejected}
        for each in result.rejected:
            told.setdefault(rows[each.row][0], RejectedRow(rows[each.row][0], each.code, each.reason))
        result.rejected = [told[row] for row in sorted(told)]
        return result

    def check(self, batch: Any, *, id: str, nulls: Nulls = "remove", text: bool = False) -> list[RejectedRow]:  # noqa: A002 - as in `write`
        """Return the rows of a batch that `write` would reject; nothing is written."""
        names, rows, rejected = self._rows(batch, id, nulls, text=text)
        features = self.store.schema().features
        for position, row in rows:
            wrong = _wrong(row, names, features)
            if wrong:
                rejected.append(RejectedRow(position, *wrong))
        told = {rejection.row: rejection for rejection in reversed(rejected)}
        return [told[row] for row in sorted(told)]

    def _rows(
        self, batch: Any, id_column: str, nulls: Nulls, *, text: bool
    ) -> tuple[list[str], Rows, list[RejectedRow]]:
        """Return the features that rows give, the rows, and those that are rejected already."""
        features = self.store.schema().features
        read = _Cells(features, nulls, text=text)
        if isinstance(batch, list):
            names = list(dict.fromkeys(name for row in batch for name in row if name not in {id_column, EVENT_TIME}))
            columns: list[Iterable[Any]] = [
                [row.get(name, _ABSENT) for row in batch] for name in (id_column, EVENT_TIME, *names)
            ]
            count = len(batch)
        else:
            names = [name for name in batch.schema.names if name not in {id_column, EVENT_TIME}]
            columns = [batch.column(name).to_pylist() for name in (id_column, EVENT_TIME, *names)]
            count = batch.num_rows
        own_times = {name.removesuffix(EVENT_TIME): name for name in names if name.endswith(EVENT_TIME)}
        given = [name for name in names if not name.endswith(EVENT_TIME)]
        by_name = dict(zip((id_column, EVENT_TIME, *names), columns, strict=True))
        cells = [read.column(name, by_name[name]) for name in given]
        rows: Rows = []
        rejected: list[RejectedRow] = []
        for position, row_id, time, values in zip(
            range(count), columns[0], columns[1], zip(*cells, strict=True) if cells else repeat(()), strict=False
        ):
            wrong = next((value for value in values if isinstance(value, _Wrong)), None)
            if wrong is not None:
                rejected.append(RejectedRow(position, "BADTYPE", wrong.reason))
                continue
            try:
                row = [_id_text(row_id, id_column), None if time is _ABSENT else time, *values]
            except BadIdError as error:
                rejected.append(RejectedRow(position, "BADID", str(error)))
                continue
            rows.append((position, row))
        if own_times:
            rows = list(_with_own_times(rows, given, {name: by_name[own] for name, own in own_times.items()}))
        return given, rows, rejected


class _Wrong(msgspec.Struct, frozen=True):
    """In a value's place: what is wrong with it."""

    reason: str


class _Cells:
    """Reads the values of columns by their features' types."""

    def __init__(self, features: dict[str, str], nulls: Nulls, *, text: bool) -> None:
        self._features, self._text = features, text
        self._null: Any = FORGET if nulls == "remove" else LEAVE

    def column(self, name: str, values: Iterable[Any]) -> list[Any]:
        """Return a column's values as `BulkWriter` takes them."""
        kind = self._features.get(name, "")
        read = _text_reader(kind) if self._text else _READERS.get(kind, _as_is)
        return [self._cell(name, kind, read, value) for value in values]

    def _cell(self, name: str, kind: str, read: Callable[[Any], Any], value: Any) -> Any:
        if value is _ABSENT:
            return LEAVE
        if value is None or value != value or (self._text and value == ""):  # noqa: PLR0124 - NaN
            return None if self._null is FORGET else LEAVE
        try:
            return read(value)
        except (ValueError, ArithmeticError, TypeError):
            return _Wrong(f"{name} is {kind}, not {shown(value)}")


def _as_is(value: Any) -> Any:
    return value


def _number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


_READERS: dict[str, Callable[[Any], Any]] = {"float": _number, "int": _number}


def _text_reader(kind: str) -> Callable[[str], Any]:
    """Return what reads a value of that type from text; it raises ValueError for text that is none."""
    if kind == "float":
        return _finite
    if kind == "int":
        return _whole
    if kind == "bool":
        return _truth
    return msgspec.json.decode if vector_length(kind) is not None else _as_is


def _finite(text: str) -> float:
    number = float(text.strip())
    if "_" in text or not math.isfinite(number):
        raise ValueError(text)
    return number


def _whole(text: str) -> int:
    text = text.strip()
    if "_" in text:
        raise ValueError(text)
    try:
        return int(text)
    except ValueError:
        number = Decimal(text)
        if number != number.to_integral_value() or abs(number.adjusted()) > 20:  # noqa: PLR2004 - digits
            raise
        return int(number)


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(text)
    return word in _TRUE


def _id_text(value: Any, column: str) -> str:
    if value is None or value is _ABSENT or value == "":
        raise BadIdError(f"{column} has no value: each row needs an id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadIdError(f"{column} is text or an integer, not {shown(value)}")
    encode_id(value)
    return value


def _with_own_times(rows: Rows, given: Sequence[str], times: dict[str, list[Any]]) -> Iterable[tuple[int, list[Any]]]:
    """Yield each row, and one more for each other event time that some of its features have."""
    places = {name: index for index, name in enumerate(given, 2) if name in times}
    for position, row in rows:
        apart: dict[Any, list[Any]] = {}
        for name, place in places.items():
            time = times[name][position]
            if time is None or time is _ABSENT or time == row[1]:
                continue
            other = apart.setdefault(time, [row[0], time, *repeat(LEAVE, len(given))])
            other[place], row[place] = row[place], LEAVE
        yield position, row
        for other in apart.values():
            yield position, other


def _wrong(row: Sequence[Any], names: Sequence[str], features: dict[str, str]) -> tuple[str, str] | None:
    """Return code and reason if a row would be rejected, else None."""
    for name, value in zip(names, row[2:], strict=True):
        if value is LEAVE:
            continue
        if name not in features:
            return "UNDECLARED", f"{name} is not declared in the schema"
        try:
            to_text(features[name], value)
        except UnsuitableValueError as error:
            return "BADTYPE", f"{name} {error}"
    try:
        to_time(row[1])
    except BadTimeError as error:
        return "BADTIME", str(error)
    return None
