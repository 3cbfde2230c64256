"""What each column of a file is for: the id, the event time, features."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from featurestore.contract import arrow
from featurestore.contract.words import EVENT_TIME
from featurestore.errors import ConfigurationError
from featurestore.schema.types import SCALARS, vector_length

_TIME_NAMES = (EVENT_TIME, "event_time")
_INDEX = re.compile(r"|__index_level_\d+__")
"""What pandas calls the index of a frame in CSV and in Parquet."""

_LIKE_A_TIME = re.compile(r"(^|_)(ts|time|timestamp|date|datetime|at)$")
_OF_FEATURE = EVENT_TIME  # behind a feature's name: the column of its own event times


class Wishes(msgspec.Struct, frozen=True):
    """What a caller says of the columns.

    Attributes:
        id: The column of the ids; None: the schema's name for it, `<entity>_id` or `id`.
        time: The column of the event times; None: `@event_time` or `event_time`, where there is one.
        rename: Column → feature.
        only: The columns that are taken, beside the id and the event time; None: all.
        ignore_undeclared: Whether columns that are no feature are left out without a word.
    """

    id: str | None = None
    time: str | None = None
    rename: Mapping[str, str] = {}
    only: tuple[str, ...] | None = None
    ignore_undeclared: bool = False


def renamed(pairs: Iterable[str]) -> dict[str, str]:
    """Return column → feature of the options `--map COLUMN=FEATURE`.

    Raises:
        ConfigurationError: One is something else.
    """
    found = {}
    for pair in pairs:
        column, _, feature = pair.rpartition("=")
        if not column or not feature:
            raise ConfigurationError(f"--map wants COLUMN=FEATURE, not {pair}")
        found[column] = feature
    return found


class Columns(msgspec.Struct, frozen=True):
    """What the columns of a file are for.

    Attributes:
        id: The column of the ids.
        time: The column of the event times; None if there is none.
        features: Column → feature, or `FEATURE@event_time`.
    """

    id: str
    time: str | None
    features: dict[str, str]

    @property
    def wanted(self) -> list[str]:
        """All columns that are read."""
        return list(dict.fromkeys((self.id, *([self.time] if self.time else []), *self.features)))


class ColumnPlanner:
    """Tells what columns are for, by the schema and by what a caller says.

    Args:
        features: Feature → type.
        id_names: What the column of the ids may be called; the first that is there counts.
        wishes: What the caller says.
    """

    def __init__(self, features: Mapping[str, str], id_names: Sequence[str], wishes: Wishes) -> None:
        self.features, self.id_names, self.wishes = features, list(dict.fromkeys(id_names)), wishes
        self._time_names = [name for name in _TIME_NAMES if name not in features and name not in wishes.rename]
        for column, feature in wishes.rename.items():
            if feature not in features:
                raise ConfigurationError(f"--map {column}={feature}: no feature {feature}{_meant(feature, features)}")
            if features[feature] not in SCALARS and vector_length(features[feature]) is None:
                raise ConfigurationError(f"--map {column}={feature}: {_window(feature)}")

    def plan(self, path: str, columns: Mapping[str, Any]) -> Columns:
        """Return what the columns of a file are for.

        Args:
            path: The file, for messages.
            columns: Column → its type in Arrow; None for text.

        Raises:
            ConfigurationError: A column is missing, is undeclared, or cannot hold what it is for.
        """
        found, undeclared = self.roles(path, columns)
        if undeclared and not self.wishes.ignore_undeclared:
            raise ConfigurationError(self.undeclared(path, undeclared))
        if not found.features:
            raise ConfigurationError(
                f"{path}: none of its columns is a feature (columns: {_listed(columns)}; features: "
                f"{_listed(self.features)}); --map COLUMN=FEATURE says which is which"
            )
        self._check_types(path, columns, found.id, found.time, found.features)
        return found

    def roles(self, path: str, columns: Collection[str]) -> tuple[Columns, list[str]]:
        """Return what columns are for by their names alone, and those that are no features.

        Args:
            path: The file, for messages.
            columns: Their names.

        Raises:
            ConfigurationError: There is none for the ids, or none of a name that the caller gives, or two for the same.
        """
        wishes = self.wishes
        found = self._id(path, columns)
        time = self._time(path, columns)
        for name in (*wishes.rename, *(wishes.only or ())):
            if name not in columns:
                option = "--map" if name in wishes.rename else "--columns"
                raise ConfigurationError(f"{option}: {_no_column(path, name, columns)}")
        rest = [name for name in columns if not is_index(name) and name not in {found, time}]
        rest += [name for name in wishes.rename if name not in rest]
        if wishes.only is not None:
            rest = [name for name in rest if name in wishes.only or name in wishes.rename]
        features: dict[str, str] = {}
        undeclared: list[str] = []
        for name in rest:
            feature = wishes.rename.get(name, name)
            if not self.is_known(feature):
                undeclared.append(name)
                continue
            if feature in features.values():
                twin = next(column for column, taken in features.items() if taken == feature)
                raise ConfigurationError(f"{path}: columns {twin} and {name} are both for the feature {feature}")
            features[name] = feature
        return Columns(found, time, features), undeclared

    def time_name(self, row: Mapping[str, Any]) -> str | None:
        """Return the name under which an object has its event time; None if it has none."""
        if self.wishes.time is not None and self.wishes.time in row:
            return self.wishes.time
        return next((name for name in self._time_names if name in row), None)

    def check_rows(self, path: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Refuse a file of objects by its first ones, before anything is written.

        Raises:
            ConfigurationError: The first has no id, or names that are no features; or none has the event time that the
                caller names.
        """
        row = rows[0]
        if self.wishes.time is not None and not any(self.time_name(each) for each in rows):
            self._time(path, row)
        if self.wishes.id is not None or not any(name in row for name in self.id_names):
            self._id(path, row)
        if self.wishes.ignore_undeclared or self.wishes.only is not None:
            return
        known = {*self.id_names, *self._time_names, self.wishes.id, self.wishes.time, *self.wishes.rename}
        undeclared = [name for name in row if name not in known and not self.is_known(name)]
        if undeclared:
            raise ConfigurationError(self.undeclared(path, undeclared))

    def is_known(self, name: str) -> bool:
        """Return whether rows may give it: a feature that is no window, or a feature's event time."""
        kind = self.features.get(name.removesuffix(_OF_FEATURE), "")
        return kind in SCALARS or vector_length(kind) is not None

    def undeclared(self, path: str, names: Sequence[str]) -> str:
        """Return what to say of columns that are no features."""
        windows = [name for name in names if name in self.features]
        hints = [hint for name in names if (hint := _meant(name, self.features, start=f"{name} ("))]
        meant = "".join(f" {hint.replace(': did', 'did', 1)})" for hint in hints[:3])
        told = f" {_window(windows[0])}." if windows else ""
        times = [name for name in names if _LIKE_A_TIME.search(name.lower())]
        if times and self.wishes.time is None:
            told += f" --event-time {times[0]} takes {times[0]} for the rows' event time."
        return (
            f"{path} has columns that are no features of the schema: {_listed(names)}.{told}{meant and meant + '.'} "
            "--ignore-undeclared leaves them out, --columns A,B takes some alone, --map COLUMN=FEATURE renames one"
        )

    def _id(self, path: str, columns: Iterable[str]) -> str:
        columns = list(columns)
        if self.wishes.id is not None:
            if self.wishes.id not in columns:
                raise ConfigurationError(f"--id: {_no_column(path, self.wishes.id, columns)}")
            return self.wishes.id
        found = next((name for name in self.id_names if name in columns), None)
        if found is None:
            tell = f" (only one column: is another --delimiter right? {columns[0]!r})" if len(columns) == 1 else ""
            raise ConfigurationError(
                f"{path} has no column {' or '.join(self.id_names)}: --id COLUMN tells which has the ids "
                f"(columns: {_listed(columns)}){tell}"
            )
        return found

    def _time(self, path: str, columns: Iterable[str]) -> str | None:
        columns = list(columns)
        if self.wishes.time is not None:
            if self.wishes.time not in columns:
                raise ConfigurationError(f"--event-time: {_no_column(path, self.wishes.time, columns)}")
            return self.wishes.time
        return next((name for name in self._time_names if name in columns), None)

    def _check_types(
        self, path: str, columns: Mapping[str, Any], found: str, time: str | None, features: Mapping[str, str]
    ) -> None:
        if columns[found] is not None and not _is_id(columns[found]):
            raise ConfigurationError(f"{path}: column {found} is {columns[found]}, and ids are text or integers")
        if time is not None and columns[time] is not None and not is_time(columns[time]):
            raise ConfigurationError(
                f"{path}: column {time} is {columns[time]}, and event times are numbers, timestamps or ISO 8601 text"
            )
        for name, feature in features.items():
            kind = columns[name]
            if kind is None:
                continue
            wrong = wrong_type(kind, self.features.get(feature, EVENT_TIME))
            if wrong:
                raise ConfigurationError(
                    f"{path}: column {name} is {kind}: {wrong}. The feature {feature} is "
                    f"{self.features.get(feature, 'an event time')}; --columns leaves columns out"
                )


def wrong_type(kind: Any, feature: str) -> str | None:  # noqa: PLR0911 - a table of cases
    """Return why no value of an Arrow type can be one of a feature; None if some may be.

    Args:
        kind: The type in Arrow.
        feature: The feature's type; `@event_time` for event times.
    """
    types = arrow.library().types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_null(kind):
        return None
    if feature == EVENT_TIME:
        return None if is_time(kind) else "event times are numbers, timestamps or ISO 8601 text"
    if types.is_struct(kind) or types.is_map(kind) or types.is_union(kind):
        return "nested values are no features; make a column of each of its fields"
    if types.is_timestamp(kind) and feature in {"int", "float"}:
        return None  # ms since 1970
    if types.is_temporal(kind):
        told = "timestamps may be those of an int or a float, as ms since 1970; --event-time names the rows' own"
        return f"times are no values of features; {told}"
    length = vector_length(feature)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        if length is None or not (types.is_floating(inner) or types.is_integer(inner) or types.is_null(inner)):
            return "a list of numbers is a vector, float32[N], and no other list is a feature"
        if types.is_fixed_size_list(kind) and kind.list_size != length:
            return f"a list of {kind.list_size} numbers"
        return None
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return None if length is not None else "bytes are values of vectors alone, as float32s"
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    text = types.is_string(kind) or types.is_large_string(kind) or "view" in str(kind)
    fits = {"float": number, "int": number, "bool": types.is_boolean(kind), "string": text}.get(feature, False)
    return None if fits else f"its values cannot be {feature}"


def is_index(name: str) -> bool:
    """Return whether a column is the index that pandas writes beside the columns of a frame, which is no feature."""
    return _INDEX.fullmatch(name) is not None


def is_time(kind: Any) -> bool:
    """Return whether a column of that Arrow type may have event times."""
    return _is_one_of(kind, "timestamp", "date", "integer", "floating", "decimal", "string", "large_string", "null")


def _is_id(kind: Any) -> bool:
    return _is_one_of(kind, "integer", "string", "large_string", "null") or "string_view" in str(kind)


def _is_one_of(kind: Any, *names: str) -> bool:
    """Return whether a type of Arrow, or that of the values of its dictionary, is of one of these families."""
    types = arrow.library().types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return any(getattr(types, f"is_{name}")(kind) for name in names)


def _window(name: str) -> str:
    return f"{name} is a sliding window, which counts events and takes no rows"


def _no_column(path: str, name: str, columns: Iterable[str]) -> str:
    columns = list(columns)
    return f"{path} has no column {name}{_meant(name, columns)} (columns: {_listed(columns)})"


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _meant(word: str, known: Iterable[str], start: str = "") -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"{start}: did you mean {near[0]}?" if near else ""
