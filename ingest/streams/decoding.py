"""Entries to writes: rows of features, increments, events.

An entry is flat, a field for each feature, or it has one field `json` or `payload` with an object. Fields that start
with @ are those of a dead letter; they tell where it came from.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from featurestore.contract.words import EVENT_ID
from featurestore.errors import FeatureStoreError
from featurestore.schema.types import vector_length
from featurestore.schema.values import shown

from .interface import Entry

Kind = Literal["rows", "increments", "events"]

_PAYLOADS = frozenset({b"json", b"payload"})
_PARTS: Mapping[str, Kind] = {"features": "rows", "incr": "increments", "event": "events"}
_NUMBER = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_BOOLS = {b"true": True, b"1": True, b"false": False, b"0": False}
_INFINITE = (math.inf, -math.inf)
_MOST_SHAPES = 1000
_FLOAT_BYTES = 4
_ONE_FIELD = 2  # words: its name and its value

_decode_number = msgspec.json.Decoder(int | float).decode
_decode_numbers = msgspec.json.Decoder(list[float]).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class MalformedEntryError(FeatureStoreError):
    """An entry that can never be written, since it has not the form of one.

    Args:
        code: As dead letters have it.
        reason: What is wrong, with the value.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Write(NamedTuple):
    """What an entry writes.

    Attributes:
        kind: What the columns are.
        columns: Features, or the fields of an event.
        row: The entity's id, the event time, and a value for each column.
        origin: Source and id by which the entry is counted once.
    """

    kind: Kind
    columns: tuple[str, ...]
    row: list[Any]
    origin: tuple[str, str]


class _Shape(NamedTuple):
    """How flat entries with the same names are read; positions are those of their values."""

    columns: tuple[str, ...]
    id_at: int
    time_at: int | None
    values: list[tuple[int, Callable[[bytes], Any]]]


class Decoder:
    """Reads the entries for one entity.

    Args:
        id_names: What entries may call the id.
        features: Declared feature → its type.
        ignores_undeclared: Whether fields that are no features are left out, not refused.
    """

    def __init__(self, id_names: Sequence[str], features: Mapping[str, str], *, ignores_undeclared: bool) -> None:
        self.features = features
        self._summed = _summed_fields(features)
        self._id_names, self._ignores_undeclared = tuple(dict.fromkeys((*id_names, "id"))), ignores_undeclared
        self._shapes: dict[tuple[bytes, ...], _Shape] = {}

    def decode(self, entry: Entry) -> Write:
        """Return what an entry writes.

        Raises:
            MalformedEntryError: It has not the form of an entry.
        """
        fields = entry.fields
        if len(fields) == _ONE_FIELD and fields[0] in _PAYLOADS:
            return self._decode_payload(entry, fields[1], {})
        shape = self._shapes.get(tuple(fields[::2]))
        if shape is None:
            found = self._decode_new(entry)
            if isinstance(found, Write):
                return found
            shape = found
        values = fields[1::2]
        at = shape.time_at
        try:
            row = [
                values[shape.id_at].decode(),
                entry.time if at is None else _time_of(values[at]),
                *[read(values[position]) for position, read in shape.values],
            ]
        except (ValueError, KeyError, msgspec.MsgspecError):
            raise self._complaint(shape, values) from None
        return Write("rows", shape.columns, row, (entry.source, entry.id))

    def _decode_new(self, entry: Entry) -> Write | _Shape:
        """Return how entries of these names are read; what this one writes, where they have to be read one by one."""
        names = entry.fields[::2]
        told = dict(zip(names, entry.fields[1::2], strict=False))
        if len(told) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise MalformedEntryError("BADROW", f"the field {_shown(twice)} stands twice")
        own = {name: value for name, value in told.items() if not name.startswith(b"@")}
        if len(own) == 1 and own.keys() <= _PAYLOADS:
            return self._decode_payload(entry, next(iter(own.values())), told)
        counted = [name for name in ("incr", "event") if name.encode() in own and name not in self.features]
        if counted or len(own) < len(told):
            return self._decode_one(entry, own, told, counted)
        shape = self._shape_of([name.decode(errors="replace") for name in names])
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        self._shapes[tuple(names)] = shape
        return shape

    def _shape_of(self, names: Sequence[str]) -> _Shape:
        id_names = [name for name in self._id_names if name in names and name not in self.features]
        if len(id_names) != 1:
            raise MalformedEntryError("BADROW", f"want the id once, as {self._id_names[0]}, among {_listed(names)}")
        time_at = names.index("event_time") if "event_time" in names and "event_time" not in self.features else None
        columns, values = [], []
        for position, name in enumerate(names):
            if name == id_names[0] or position == time_at:
                continue
            kind = self.features.get(name)
            if kind is None and self._ignores_undeclared:
                continue
            if kind is None:
                raise MalformedEntryError("UNDECLARED", f"{name} is not declared in the schema")
            columns.append(name)
            values.append((position, _reader_of(kind)))
        return _Shape(tuple(columns), names.index(id_names[0]), time_at, values)

    def _complaint(self, shape: _Shape, values: Sequence[bytes]) -> MalformedEntryError:
        """Return what is wrong with a flat entry that could not be read."""
        for name, (position, read) in zip(shape.columns, shape.values, strict=True):
            try:
                read(values[position])
            except (ValueError, KeyError, msgspec.MsgspecError):
                reason = f"{name} is {self.features[name]}, not {_shown(values[position])}"
                return MalformedEntryError("BADTYPE", reason)
        try:
            values[shape.id_at].decode()
        except UnicodeDecodeError:
            return MalformedEntryError("BADID", f"an id is text in UTF-8, not {_shown(values[shape.id_at])}")
        return MalformedEntryError("BADTIME", f"event_time is text, not {_shown(values[shape.time_at or 0])}")

    def _decode_one(
        self, entry: Entry, own: dict[bytes, bytes], told: Mapping[bytes, bytes], counted: Sequence[str]
    ) -> Write:
        """Return what a flat dead letter writes, or a flat entry with increments or an event as JSON."""
        if not counted:
            plain = [word for pair in own.items() for word in pair]
            origin = _origin(entry, told)
            inner = Entry(*origin, _time_in(origin[1], entry.time), plain, entry.deliveries)
            return self.decode(inner)
        content: dict[str, Any] = {}
        for raw, value in own.items():
            name = _text(raw, "a field's name")
            content[name] = _object(value, name) if name in counted else _text(value, name)
        return self._write_of(entry, content, told)

    def _decode_payload(self, entry: Entry, payload: bytes, told: Mapping[bytes, bytes]) -> Write:
        content = _object(payload, "an entry's payload")
        if entry.key is not None and not any(name in content for name in self._id_names):
            content["id"] = _text(entry.key, "the message's key")
        return self._write_of(entry, content, told)

    def _write_of(self, entry: Entry, content: dict[str, Any], told: Mapping[bytes, bytes]) -> Write:
        """Return what an object writes: one with `features`, `incr` or `event`, or with the features themselves."""
        source, entry_id = _origin(entry, told)
        given = [name for name in self._id_names if content.get(name) is not None and name not in self.features]
        if len(given) != 1:
            raise MalformedEntryError("BADROW", f"want the id once, as {self._id_names[0]}, among {_listed(content)}")
        entity_id = content.pop(given[0])
        if type(entity_id) is int:
            entity_id = str(entity_id)
        if not isinstance(entity_id, str):
            raise MalformedEntryError("BADID", f"an id is text, not {shown(entity_id)}")
        time = content.pop("event_time", None) if "event_time" not in self.features else None
        if time is None:
            time = _time_in(entry_id, entry.time)
        kind, columns = self._part_of(content)
        row = [entity_id, time, *columns.values()]
        return Write(kind, tuple(columns), row, (source, entry_id))

    def _part_of(self, content: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
        """Return what the rest of an object is, and its values by name."""
        parts = [name for name in _PARTS if name in content and name not in self.features]
        if not parts:
            return "rows", self._declared(content)
        part, values = parts[0], content.pop(parts[0])
        event_id = content.pop("event_id", None) if part == "event" else None
        if content:
            raise MalformedEntryError("BADROW", f"{part} is not to stand beside {_listed(content)}")
        if not isinstance(values, dict):
            raise MalformedEntryError("BADROW", f"{part} is an object of names and values, not {shown(values)}")
        kind = _PARTS[part]
        if kind == "rows":
            return kind, self._declared(values)
        if kind == "events":
            values = self._summed_of(values)
        elif not values:
            raise MalformedEntryError("BADROW", "incr names nothing to add to")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise MalformedEntryError("BADTYPE", f"{name} cannot be {shown(value)}: want a number")
        return kind, values if event_id is None else {EVENT_ID: _event_id(event_id), **values}

    def _summed_of(self, values: dict[str, Any]) -> dict[str, Any]:
        if self._summed is None:
            raise MalformedEntryError("UNDECLARED", "no sliding window is declared in the schema")
        unknown = [name for name in values if name not in self._summed]
        if unknown and not self._ignores_undeclared:
            raise MalformedEntryError("UNDECLARED", f"{unknown[0]} of an event is summed by no window")
        return {name: value for name, value in values.items() if name in self._summed} if unknown else values

    def _declared(self, values: dict[str, Any]) -> dict[str, Any]:
        undeclared = [name for name in values if name not in self.features]
        if undeclared and not self._ignores_undeclared:
            raise MalformedEntryError("UNDECLARED", f"{undeclared[0]} is not declared in the schema")
        return {name: value for name, value in values.items() if name in self.features} if undeclared else values


def _summed_fields(features: Mapping[str, str]) -> frozenset[str] | None:
    """Return the fields of events that windows sum; None where there are no windows."""
    windows = [kind for kind in features.values() if kind.endswith(")")]
    fields = [kind.removeprefix("sum(").partition(",")[0] for kind in windows if kind.startswith("sum(")]
    return frozenset(fields) if windows else None


def _event_id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise MalformedEntryError("BADROW", f"event_id is text, not {shown(value)}")
    return str(value)


# Values


def _reader_of(kind: str) -> Callable[[bytes], Any]:
    """Return what makes a value of a feature's text; ValueError, KeyError or MsgspecError for others."""
    if kind == "string":
        return bytes.decode
    if kind == "bool":
        return _BOOLS.__getitem__
    length = vector_length(kind)
    if length is not None:
        return lambda value: _vector(value, length)
    return _number


def _number(text: bytes) -> int | float:
    try:
        number: int | float = _decode_number(text)
    except msgspec.MsgspecError:
        if not _NUMBER.fullmatch(text):
            raise
        number = float(text)  # `5.`, which is no JSON
    if number in _INFINITE:
        raise ValueError
    return number


def _vector(value: bytes, length: int) -> Any:
    """Return a vector: from a JSON array, or from the bytes of its numbers."""
    if value[:1] == b"[" and value[-1:] == b"]" and len(value) != length * _FLOAT_BYTES:
        return _decode_numbers(value)
    try:
        return _decode_numbers(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if len(value) != length * _FLOAT_BYTES:
            raise
        return value


def _time_of(value: bytes) -> int | str:
    text = value.decode("ascii")
    return int(text) if text.isdigit() and len(text) < 16 else text  # noqa: PLR2004 - digits of ms that scripts take


def _time_in(entry_id: str, time: int | None) -> int | None:
    """Return the time that the id of a Redis Stream's entry tells; `time` for other ids."""
    ms, dash, _ = entry_id.partition("-")
    return int(ms) if dash and ms.isdigit() else time


def _origin(entry: Entry, told: Mapping[bytes, bytes]) -> tuple[str, str]:
    """Return the stream that an entry came from first, and its id there."""
    if b"@stream" in told and b"@id" in told:
        return told[b"@stream"].decode(errors="replace"), told[b"@id"].decode(errors="replace")
    return entry.source, entry.id


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        return _decode_object(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEntryError("BADROW", f"{what} is a JSON object, not {_shown(text)}: {error}") from None


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedEntryError("BADROW", f"{what} is text in UTF-8, not {_shown(value)}") from None


def _shown(value: bytes) -> str:
    return shown(value.decode(errors="backslashreplace"))


def _listed(names: Sequence[str] | dict[str, Any]) -> str:
    return shown(", ".join(map(str, names)))
