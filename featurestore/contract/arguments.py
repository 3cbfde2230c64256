"""Checks what callers pass to stores and HTTP clients: returns plain Python values, or raises an error of the package.

Text is any `str`, subclasses such as `np.str_` and `StrEnum` included. A list of texts is any iterable but a text.
Neither JSON nor RESP has subclasses, so everything behind this module sees Python's own types only.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from numbers import Real
from operator import index
from typing import Any

from featurestore.contract.words import EVENT_ID, EVENT_TIME, encode_id
from featurestore.errors import (
    BadArgumentsError,
    BadIdError,
    BadTimeError,
    BadValueError,
    ConfigurationError,
    UnsuitableValueError,
)
from featurestore.schema.times import parse_duration
from featurestore.schema.types import Status
from featurestore.schema.values import held, is_unicode, numbers_of, row_value, shown, unwrapped

Rows = Iterable[tuple[str, Mapping[str, Any]]]
"""Ids with their features; None removes a feature, one that is not named stays as it is stored. A vector is a sequence
of numbers. Under `@event_time` a row may have an event time of its own."""

EventTime = int | str | datetime | None
"""ms since 1970, ISO 8601 text or an aware datetime; None: now."""

_NO_LISTS = (str, bytes, bytearray, memoryview, Mapping, AbstractSet)
_LONGEST_S = 1_000_000.0
"""The longest time-out, 11 days. Longer ones are cut to it: sockets take no more than 24 days."""


# Text


def plain_text(value: object, what: str) -> str:
    """Return text as Python's own `str`.

    Args:
        value: The text.
        what: What it is, for the message: "an id", "a feature's name".

    Raises:
        BadArgumentsError: It is no text, or none that UTF-8 can hold.
    """
    if type(value) is not str:
        if not isinstance(value, str):
            raise BadArgumentsError(f"{what} is unicode text, not {shown(value)}")
        value = str.__str__(value)
    if not is_unicode(value):
        raise BadArgumentsError(f"{what} is unicode text, not {shown(value)}")
    return value


def plain_name(value: object, what: str) -> str:
    """Return text that is not empty; errors as in `plain_text`."""
    name = plain_text(value, what)
    if not name:
        raise BadArgumentsError(f"{what} is not empty")
    return name


def plain_id_text(entity_id: object) -> str:
    """Return an entity's id as text; an int stands for its digits. `encode_id` then refuses empty and long ones.

    Raises:
        BadIdError: It is neither.
    """
    if type(entity_id) is not str:
        number = _int_of(entity_id)
        if type(number) is int:
            return str(number) if -(2**63) <= number < 2**63 else _refuse_id(entity_id)
    try:
        return plain_text(entity_id, "an id")
    except BadArgumentsError as error:
        raise BadIdError(str(error)) from None


def _refuse_id(entity_id: object) -> str:
    raise BadIdError(f"an id is unicode text or an int of 64 bits, not {shown(entity_id)}")


def plain_id(entity_id: object) -> str:
    """Return an entity's id.

    Raises:
        BadIdError: It is no text, is empty, or is longer than 256 bytes.
    """
    text = plain_id_text(entity_id)
    encode_id(text)
    return text


def plain_ids(entity_ids: Iterable[str]) -> list[str]:
    """Return ids as a list of texts. `encode_id` then refuses empty and long ones.

    Raises:
        BadArgumentsError: An id is no text, or `entity_ids` is a text or no iterable.
    """
    ids = _listed(entity_ids, "ids", "ids")
    if set(map(type, ids)) <= {str}:
        return ids
    return [plain_id_text(entity_id) for entity_id in ids]


def plain_names(features: Iterable[str] | None, service: str | None) -> list[str] | None:
    """Return features' names, each once; None if a service stands for them or all are wanted.

    Raises:
        BadArgumentsError: The list is empty, a name is no text, or there is a service too.
    """
    if service is not None:
        plain_name(service, "a service's name")
        if features is not None:
            raise BadArgumentsError("name the features or a service, not both")
    if features is None:
        return None
    names = [plain_name(name, "a feature's name") for name in _listed(features, "features", "names")]
    if not names:
        raise BadArgumentsError("name at least one feature, or leave the names out for all")
    return list(dict.fromkeys(names))


def _listed(values: Any, what: str, of: str) -> list[Any]:
    if isinstance(values, str | bytes | bytearray):
        kind = "text" if isinstance(values, str) else "bytes"
        raise BadArgumentsError(f"{what} is a list of {of}, not the {kind} {shown(values)}")
    try:
        values = unwrapped(values)
        if not isinstance(values, str):  # of an array without dimensions
            return list(values)
    except TypeError:
        pass
    raise BadArgumentsError(f"{what} is a list of {of}, not {shown(values)}")


# Times


def plain_max_age(max_age: object) -> int | None:
    """Return a span of time in ms: from `10m`, or from ms as a number; None stays None.

    Raises:
        BadArgumentsError: It is no span of time.
    """
    if max_age is None:
        return None
    text = plain_text(max_age, "max_age") if isinstance(max_age, str) else shown(_int_of(max_age))
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadArgumentsError(f"max_age: {error}") from None


def plain_time(event_time: object) -> Any:
    """Return an event time as `to_time` takes it: None, an int, text or an aware datetime.

    Raises:
        BadTimeError: It is none of these.
    """
    if type(event_time) in {type(None), int, str}:
        return event_time
    if isinstance(event_time, str):
        return str.__str__(event_time)
    if type(event_time).__name__ == "datetime64" and held(event_time) is not None:
        return held(event_time)
    if isinstance(event_time, datetime):
        if event_time.tzinfo is None or event_time.utcoffset() is None:
            raise BadTimeError(f"the event time {shown(event_time)} has no time zone")
        return event_time
    number = _int_of(event_time)
    if type(number) is int:
        return number
    raise BadTimeError(f"the event time must be ms since 1970, ISO 8601 or an aware datetime, not {shown(event_time)}")


def time_among(values: Mapping[Any, Any], event_time: object) -> Any:
    """Return a row's event time: its own `@event_time`, else that of all rows; errors as in `plain_time`."""
    own = values.get(EVENT_TIME)
    return plain_time(event_time if own is None else own)


def plain_read_from(read_from: object) -> bool:
    """Return whether a read is to be answered by primaries only; None means that it need not.

    Raises:
        BadArgumentsError: It is something else than `primary`.
    """
    if read_from is not None and read_from != "primary":
        raise BadArgumentsError(f"read_from is 'primary' or left out, not {shown(read_from)}")
    return read_from is not None


def plain_timeout(timeout: object) -> float | None:
    """Return the seconds that one call may take; None means the default.

    Raises:
        BadArgumentsError: It is no number above 0.
    """
    if timeout is None:
        return None
    number: Any = timeout
    if isinstance(timeout, bool) or not isinstance(timeout, Real) or not number > 0:
        raise BadArgumentsError(f"timeout is a number of seconds above 0, not {shown(timeout)}")
    return float(number) if number < _LONGEST_S else _LONGEST_S


def lasting_timeout(timeout: object) -> float | None:
    """Return the seconds that each call of a client or store may take; None means the default.

    Raises:
        ConfigurationError: It is no number above 0.
    """
    try:
        return plain_timeout(timeout)
    except BadArgumentsError as error:
        raise ConfigurationError(str(error)) from None


def _int_of(value: Any) -> Any:
    """Return the int that a value stands for, as numpy's ints do; any other value as it is."""
    if isinstance(value, bool):
        return value
    try:
        return index(value)
    except TypeError:
        return value


# Values


def plain_value(name: str, value: Any) -> Any:
    """Return a feature's value as JSON has it, by the rules of `held`: NaN is None. Arrays count as what they hold.

    Raises:
        BadValueError: JSON cannot hold it.
    """
    try:
        if getattr(value, "ndim", None) != 0:
            value = unwrapped(value)
    except TypeError:  # a class such as np.float64 itself
        raise BadValueError(f"{name} cannot be {shown(value)}") from None
    if isinstance(value, Iterable) and not isinstance(value, _NO_LISTS) and getattr(value, "ndim", 1) != 0:
        return [_plain_number(name, number) for number in value]
    return _plain_scalar(name, value)


def _plain_number(name: str, value: Any) -> Any:
    """Return a number of a vector, all of which are there."""
    if isinstance(value, float) and math.isnan(value):
        raise BadValueError(f"{name} cannot be {shown(value)}")
    return _plain_scalar(name, value)


def _plain_scalar(name: str, value: Any) -> Any:
    value = held(value)
    if value is None or type(value) is bool:
        return value
    if isinstance(value, str):
        text = str.__str__(value)
        if is_unicode(text):
            return text
    elif isinstance(value, float):
        if math.isfinite(value):
            return float(value)
    else:
        number = _int_of(value)
        if type(number) is int and -(2**63) <= number < 2**63:
            return number
    raise BadValueError(f"{name} cannot be {shown(value)}")


def plain_values(values: object, what: str) -> dict[str, Any]:
    """Return values by name as JSON has them, without the event time; `what` names them in the message.

    Raises:
        BadArgumentsError: `values` is no mapping, or a name in it no text.
        BadValueError: As in `plain_value`.
    """
    return {name: plain_value(name, value) for name, value in plain_mapping(values, what) if name != EVENT_TIME}


def plain_numbers(values: object, what: str) -> dict[str, int | float]:
    """Return numbers by name: amounts to add, or an event's numbers, without its time and its id.

    Raises:
        BadArgumentsError: `values` is no mapping, or a name in it no text.
        BadValueError: A value is no finite number, or an int beyond 64 bits.
    """
    numbers = {}
    for name, value in plain_mapping(values, what):
        if name in {EVENT_TIME, EVENT_ID}:
            continue
        number = plain_value(name, value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise BadValueError(f"{name} cannot be {shown(value)}: want a number")
        numbers[name] = number
    return numbers


def plain_mapping(values: object, what: str) -> list[tuple[str, Any]]:
    """Return the pairs of a mapping; errors as in `plain_numbers`."""
    if not isinstance(values, Mapping):
        raise BadArgumentsError(f"{what} is a mapping of names to values, not {shown(values)}")
    return [(plain_text(name, "a feature's name"), value) for name, value in values.items()]


def plain_event_id(event_id: object) -> str | None:
    """Return an event's id: text, or an int as text. None if there is none or it is empty.

    Raises:
        BadArgumentsError: It is neither.
    """
    if event_id is None:
        return None
    number = _int_of(event_id)
    return str(number) if type(number) is int else plain_text(event_id, "an event's id") or None


# Rows


def listed_rows(rows: Any, of: str) -> list[Any]:
    """Return rows as a list; `of` names them in the message.

    Raises:
        BadArgumentsError: `rows` is a text, a mapping or no iterable.
    """
    if isinstance(rows, Mapping):
        raise BadArgumentsError(f"rows is a list of {of}, not the mapping {shown(rows)}")
    if type(rows) is list:
        return rows
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):
        raise BadArgumentsError(f"rows is a list of {of}, not a data frame: `write` takes data frames and tables")
    return _listed(rows, "rows", of)


def listed_columns(columns: Iterable[str]) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        BadArgumentsError: One is no text, or `columns` is a text.
    """
    return [plain_name(name, "a column's name") for name in _listed(columns, "columns", "names")]


def listed_values(row: Any) -> Sequence[Any]:
    """Return a table's row, an id followed by values, which are not checked yet.

    Raises:
        BadArgumentsError: It is no list or tuple, or it is empty.
    """
    row = unwrapped(row)
    if not isinstance(row, tuple | list) or not row:
        raise BadArgumentsError(f"a row is an id and its values, not {shown(row)}")
    return row


def pair_of(row: Any) -> tuple[Any, Any]:
    """Return a row's id and features, neither of them checked yet.

    Raises:
        BadArgumentsError: It is no pair.
    """
    if type(row) is not tuple:
        row = unwrapped(row)
    if not isinstance(row, tuple | list) or len(row) != 2:  # noqa: PLR2004 - a pair
        raise BadArgumentsError(f"a row is a pair of id and features, not {shown(row)}")
    return row[0], row[1]


def plain_query_rows(rows: Any) -> list[dict[str, str]]:
    """Return the rows of a query, each of them entity → id.

    Raises:
        BadArgumentsError: A row is no mapping of text to ids, or `rows` is no list of such.
    """
    plain = []
    for row in listed_rows(rows, "mappings of entities to ids"):
        if not isinstance(row, Mapping):
            raise BadArgumentsError(f"a row is a mapping of entities to ids, not {shown(row)}")
        plain.append({plain_text(name, "an entity's name"): plain_id(entity_id) for name, entity_id in row.items()})
    return plain


def label_of(row: Mapping[str, str]) -> str:
    """Return what a table calls a row of a query: `user:u1 item:i9`."""
    return " ".join(f"{entity}:{entity_id}" for entity, entity_id in row.items())


# Passed values


def passed_values(passed: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that a request brings along, as rows hold them, vectors as bytes.

    Args:
        passed: The values by name.
        types: The features asked for → their types.

    Raises:
        BadArgumentsError: A value is for a feature that is not asked for.
        BadValueError: A value does not have its feature's type.
    """
    values = {}
    for name, value in passed.items():
        if name not in types:
            raise BadArgumentsError(f"{name} is not asked for - at `$.passed`")
        try:
            values[name] = row_value(types[name], value)
        except UnsuitableValueError as error:
            raise BadValueError(f"{name} {error} - at `$.passed`") from error
    return values


def listed_vectors(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's values by name, vectors as lists of numbers."""
    return {name: numbers_of(value) if isinstance(value, bytes) else value for name, value in values.items()}


def status_with(passed: Mapping[str, Any], name: str, status: Status) -> Status:
    """Return a value's status when `passed` values replace stored ones."""
    if name not in passed:
        return status
    return "MISSING" if passed[name] is None else "PRESENT"
