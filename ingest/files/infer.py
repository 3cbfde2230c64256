"""A schema file made from data: what `featurestore apply` takes, with a word on each guess."""

import math
import re
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import msgspec

from featurestore.contract import arrow
from featurestore.contract.words import EVENT_TIME
from featurestore.errors import ConfigurationError
from featurestore.keys import ENTITY_NAME
from featurestore.schema.definition import RESERVED_NAMES, RESPONSE_FIELDS

from .columns import Wishes, is_index
from .parts import Part
from .survey import Reader
from .times import likely_unit

_MOST_ROWS = 1_000_000
"""Rows of each file that are looked at."""

_STEP = 10_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_INT = re.compile(r"[+-]?(0|[1-9]\d{0,18})")
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")
_BOOLS = frozenset({"true", "false"})
_TIME_WORDS = re.compile(r"(^|_)(ts|time|timestamp|date|datetime|at)$")
_EXACT = 2.0**53
_MOST_NUMBERS = 2048


class Seen(msgspec.Struct):
    """What a column was seen to hold.

    Attributes:
        kinds: The kinds of its values: int, float, whole, bool, string, moment, vector, list, nested, bytes, big.
        lengths: The lengths of its lists of numbers.
        values: How many values it has.
        gaps: How many rows have none.
        least: The least number.
        most: The largest one.
    """

    kinds: set[str] = msgspec.field(default_factory=set)
    lengths: set[int] = msgspec.field(default_factory=set)
    values: int = 0
    gaps: int = 0
    least: float = math.inf
    most: float = -math.inf

    def look(self, values: Iterable[Any], *, text: bool) -> None:
        """Take note of values; of text, of what it stands for."""
        for value in values:
            if value is None or value != value or (text and value == ""):  # noqa: PLR0124 - NaN
                self.gaps += 1
                continue
            self.values += 1
            kind = _kind_of_text(value) if text and isinstance(value, str) else _kind_of(value)
            self.kinds.add(kind)
            if kind == "vector":
                self.lengths.add(len(msgspec.json.decode(value) if isinstance(value, str) else value))
            elif kind in {"int", "float", "whole"}:
                self.least, self.most = min(self.least, float(value)), max(self.most, float(value))


def _kind_of_text(text: str) -> str:
    text = text.strip()
    if text.lower() in _BOOLS:
        return "bool"
    if _INT.fullmatch(text):
        return "int" if -(2**63) <= int(text) < 2**63 else "big"
    if _FLOAT.fullmatch(text) and not (text.lstrip("+-").startswith("0") and text.lstrip("+-")[1:2].isdigit()):
        return "whole" if float(text).is_integer() and abs(float(text)) < _EXACT else "float"
    if text.startswith("[") and text.endswith("]"):
        try:
            return _kind_of(msgspec.json.decode(text))
        except msgspec.DecodeError:
            return "string"
    return "moment text" if _MOMENT.fullmatch(text) else "string"


def _kind_of(value: Any) -> str:  # noqa: PLR0911 - a table of types
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "big"
    if isinstance(value, float):
        return "whole" if value.is_integer() and abs(value) < _EXACT else "float"
    if isinstance(value, str):
        return "moment text" if _MOMENT.fullmatch(value) else "string"
    if isinstance(value, list | tuple):
        numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in value)
        return "vector" if numbers and value else "list"
    if isinstance(value, bytes):
        return "bytes"
    if isinstance(value, dict):
        return "nested"
    return "float" if type(value).__name__ == "Decimal" else "moment"


class Guess(msgspec.Struct, frozen=True):
    """What a column may be: a type, None where it can be no feature; and why, where that is not plain."""

    type: str | None
    note: str = ""


def guess(seen: Seen, rows: int) -> Guess:  # noqa: PLR0911 - a table of kinds
    """Return what a column may be by what it was seen to hold in so many rows."""
    kinds = seen.kinds
    if not kinds:
        return Guess(None, f'no value in {rows:,} rows: choose a type, such as "float"')
    if kinds & {"nested", "list", "bytes"}:
        what = "nested values" if "nested" in kinds else "lists that are not of numbers" if "list" in kinds else "bytes"
        return Guess(None, f"{what} are no features")
    if kinds == {"vector"}:
        return _guess_vector(seen)
    if kinds <= {"moment"}:
        return Guess(None, "times are no features: ms since 1970 are an int, and --event-time names the rows' own time")
    if kinds == {"bool"}:
        return Guess("bool")
    if kinds <= {"int", "whole", "float"}:
        return _guess_number(seen)
    if kinds <= {"int", "big"}:
        return Guess("string", "some are beyond 64 bits; they have to be text in the data")
    if kinds == {"moment text"}:
        return Guess("string", "looks like a time; --event-time names the rows' own time")
    mixed = ", ".join(sorted(kinds - {"string", "moment text"}))
    if kinds & {"vector"}:
        return Guess(None, f"values of several types: {mixed}, string")
    return Guess("string", f"has {mixed} as well" if mixed else "")


def _guess_vector(seen: Seen) -> Guess:
    if len(seen.lengths) > 1:
        return Guess(None, f"lists of {min(seen.lengths)} to {max(seen.lengths)} numbers: a vector has one length")
    (length,) = seen.lengths
    return Guess(f"float32[{length}]") if length <= _MOST_NUMBERS else Guess(None, f"{length} numbers are too many")


def _guess_number(seen: Seen) -> Guess:
    if seen.kinds == {"int"}:
        zero_one = "0 and 1 alone: bool, perhaps" if (seen.least, seen.most) == (0, 1) else ""
        return Guess("int", zero_one)
    if "float" not in seen.kinds and seen.gaps:
        return Guess("int", 'whole numbers with gaps, which pandas makes floats; "float" if they may have fractions')
    if "float" not in seen.kinds:
        return Guess("float", 'whole numbers alone; "int" would do as long as they are')
    return Guess("float")


def infer_schema(paths: Sequence[str], reader: Reader, wishes: Wishes, entity: str | None) -> str:
    """Return a schema file made from the rows of files.

    Args:
        paths: The files.
        reader: Opens them.
        wishes: What the caller says of the columns.
        entity: The entity; None: the id's column tells, `user` if it does not.

    Raises:
        ConfigurationError: There is no row, no column may have the ids, or the name is none of an entity.
        SourceError: A file cannot be read.
    """
    seen: dict[str, Seen] = {}
    rows = 0
    for path in paths:
        source = reader.open(path)
        looked = 0
        for name in source.columns or ():
            seen.setdefault(name, Seen())
        for part in source.parts(0, _STEP):
            _look(seen, part)
            looked += len(part.positions)
            if looked >= _MOST_ROWS:
                break
        rows += looked
    if not rows:
        raise ConfigurationError(f"{', '.join(paths)}: there are no rows to make a schema from")
    found = _id_column(seen, wishes, entity)
    name = entity or (found.removesuffix("_id") if found.endswith("_id") and found != "_id" else "user")
    if not ENTITY_NAME.fullmatch(name):
        raise ConfigurationError(f"{name} is no name of an entity: --entity gives one")
    return _written(paths, rows, seen, _Named(name, found, wishes))


def _look(seen: dict[str, Seen], part: Part) -> None:
    if part.rows is None:
        return
    if isinstance(part.rows, list):
        names = dict.fromkeys(name for row in part.rows for name in row)
        columns: Iterable[tuple[str, Iterable[Any]]] = [(name, [row.get(name) for row in part.rows]) for name in names]
    else:
        columns = zip(part.rows.schema.names, (_values(column) for column in part.rows), strict=True)
    for name, values in columns:
        seen.setdefault(name, Seen()).look(values, text=part.text)


def _values(column: Any) -> list[Any]:
    pa = arrow.library()
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.string())
        return [None if value is None else _A_MOMENT for value in column.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


_A_MOMENT = object()


def _id_column(seen: dict[str, Seen], wishes: Wishes, entity: str | None) -> str:
    if wishes.id is not None:
        if wishes.id not in seen:
            raise ConfigurationError(f"there is no column {wishes.id} (columns: {', '.join(seen)})")
        return wishes.id
    likely = [f"{entity}_id"] if entity else ["user_id"]
    found = [name for name in (*likely, *(name for name in seen if name.endswith("_id")), "id") if name in seen]
    if not found:
        raise ConfigurationError(f"which column has the ids? --id COLUMN tells (columns: {', '.join(seen)})")
    return found[0]


class _Named(msgspec.Struct, frozen=True):
    """The entity, the column of its ids, and what the caller says of the others."""

    entity: str
    id: str
    wishes: Wishes

    def feature(self, column: str) -> str:
        """Return what a column's feature is called."""
        return self.wishes.rename.get(column, column)


def _written(paths: Sequence[str], rows: int, seen: dict[str, Seen], named: _Named) -> str:
    """Return the file's text."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    lines = [
        f"# Made from {rows:,} rows of {Path(paths[0]).name}{more}.",
        "# Read it through, since a feature keeps its type. Then: featurestore apply THIS_FILE",
        f"entity = {_quoted(named.entity)}",
    ]
    if named.id == f"{named.entity}_id":
        lines.append(f"# ids: column {named.id}")
    elif named.id in {"id", *RESERVED_NAMES, *RESPONSE_FIELDS} or not named.id.isprintable():
        lines.append(f"# ids: column {named.id}, to be loaded with --id {named.id}")
    else:
        lines.append(f"join_key = {_quoted(named.id)}")
    lines += ["", "[features]"]
    taken = {name for name in map(named.feature, seen) if _can_be(name, named)}
    features = 0
    for column, found in seen.items():
        line, counts = _line(column, found, rows, named, taken)
        features += counts
        lines += line
    if not features:
        raise ConfigurationError(f"{', '.join(paths)}: no column can be a feature:\n" + "\n".join(lines[5:]))
    return "\n".join(lines) + "\n"


def _can_be(name: str, named: _Named) -> bool:
    """Return whether a feature can have that name."""
    return bool(_NAME.fullmatch(name)) and name not in {*RESERVED_NAMES, f"{named.entity}_id", named.id}


def _better(name: str, taken: set[str], named: _Named) -> str:
    """Return a name like that one which a feature can have and no other has; note it in `taken`."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:120]
    stem = stem if _NAME.fullmatch(stem) else f"f_{stem}"
    others = (f"{stem}_{number}" for number in count(2))
    better = next(each for each in chain([stem], others) if each not in taken and _can_be(each, named))
    taken.add(better)
    return better


def _line(column: str, seen: Seen, rows: int, named: _Named, taken: set[str]) -> tuple[list[str], bool]:
    """Return the lines of a column, and whether one of them declares a feature."""
    wishes = named.wishes
    if column == named.id or column.endswith(EVENT_TIME) or is_index(column):
        return [], False
    if wishes.only is not None and column not in wishes.only and column not in wishes.rename:
        return [], False
    if column in {wishes.time, "event_time"}:
        return [f"# {column}: the rows' event time"], False
    name = named.feature(column)
    found = guess(seen, rows)
    if found.type is None:
        return [f"# {_quoted(name)}: {found.note}"], False
    if not _can_be(name, named):
        better = _better(name, taken, named)
        return [f"# no feature can be called {_quoted(name)}: load it with --map {_quoted(column + '=' + better)}",
                f"{_key(better)} = {_quoted(found.type)}"], True  # fmt: skip
    note = found.note
    if not note and _TIME_WORDS.search(column) and likely_unit(seen.least) and likely_unit(seen.most):
        note = "looks like a time; --event-time names the rows' own time"
    return [f"{_key(name)} = {_quoted(found.type)}" + (f"  # {note}" if note else "")], True


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    """Return text as TOML quotes it, which is as JSON does."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
