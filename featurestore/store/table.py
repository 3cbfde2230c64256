"""Rows of features as a table: a sequence of dicts, a matrix for a model, a data frame."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from featurestore.contract.arguments import listed_columns, plain_ids
from featurestore.errors import BadArgumentsError, BadValueError, ConfigurationError, UndeclaredFeatureError
from featurestore.schema.types import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

TableRow = dict[str, Value | None] | None
"""Feature → value, None if there is none; None for an unknown id."""

_NUMBERS = frozenset({float, int, bool, type(None)})
_PANDAS_TYPES: Mapping[frozenset[type], str] = {
    frozenset({int}): "Int64",
    frozenset({bool}): "boolean",
    frozenset({float}): "float64",
    frozenset(): "float64",
}


class FeatureTable(Sequence[TableRow]):
    """Features of many entities: a row for each id, in the order asked, duplicates included.

    It is a sequence of its rows, each a dict or None for an unknown id.

    Args:
        ids: The ids.
        rows: A row for each id.
        names: The features that the rows have.

    Attributes:
        ids: The ids, aligned with the rows.
        names: The features, in the order of the columns.
    """

    __slots__ = ("_rows", "ids", "names")

    def __init__(self, ids: Iterable[str], rows: Iterable[TableRow], names: Iterable[str]) -> None:
        self.ids = tuple(ids)
        self.names = tuple(names)
        self._rows = list(rows)
        if len(self.ids) != len(self._rows):
            raise BadArgumentsError(f"{len(self._rows)} rows for {len(self.ids)} ids")

    @classmethod
    def of(cls, ids: Iterable[str], rows: Iterable[TableRow], features: Iterable[str] | None = None) -> Self:
        """Return the table of what `FeatureStore.get_many` returned for `ids`.

        Args:
            ids: The ids that were asked for.
            rows: What was returned, a row for each.
            features: The features that were asked for; those in the rows if left out. A table of unknown ids only has
                columns if they are given.

        Raises:
            BadArgumentsError: There are more rows than ids, or fewer, or an id or a name is no text.
        """
        ids, rows = plain_ids(ids), list(rows)
        names = (
            dict.fromkeys(listed_columns(features))
            if features is not None
            else {name: None for row in rows for name in row or ()}
        )
        return cls(ids, rows, names)

    def __repr__(self) -> str:
        return f"<FeatureTable of {len(self)} rows and {len(self.names)} features>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeatureTable):
            return NotImplemented
        return (self.ids, self.names, self._rows) == (other.ids, other.names, other._rows)

    __hash__ = None  # type: ignore[assignment]  # the rows can be changed

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[TableRow]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int) -> TableRow: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> TableRow | Self:
        if isinstance(index, slice):
            return type(self)(self.ids[index], self._rows[index], self.names)
        return self._rows[index]

    def to_dict(self) -> list[TableRow]:
        """Return the rows as a list. The caller may change it and its dicts."""
        return [None if row is None else dict(row) for row in self._rows]

    def to_numpy(self, features: Iterable[str] | None = None) -> "npt.NDArray[np.float64]":
        """Return a float64 matrix of shape (rows, features).

        A missing value is NaN, and so is the whole row of an unknown id. A bool is 0 or 1. Ints beyond 2^53 are rounded
        to the nearest float64.

        Args:
            features: The columns wanted, in that order; all of `names` if left out.

        Raises:
            BadValueError: A column holds text or vectors: leave it out.
            UndeclaredFeatureError: A feature is not among `names`.
            ConfigurationError: numpy is not installed.
        """
        try:
            import numpy as np  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError("to_numpy needs numpy: pip install '.[numpy]' in a checkout") from error
        names = self.names if features is None else tuple(listed_columns(features))
        matrix = np.empty((len(self), len(names)), np.float64)
        for place, name in enumerate(names):
            column = self._column(name)
            if not _NUMBERS.issuperset(map(type, column)):
                _refuse_column(name, column)
            matrix[:, place] = [math.nan if value is None else value for value in column]
        return matrix

    def to_pandas(self) -> "pd.DataFrame":
        """Return a data frame with a column for each feature, indexed by the ids.

        Ints are Int64 and bools boolean, so that a missing value changes neither. Floats are float64; other values stay
        objects. All values in the row of an unknown id are missing.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError("to_pandas needs pandas: pip install '.[pandas]' in a checkout") from error
        index = pd.Index(self.ids, dtype=object, name="id")
        columns = {}
        for name in self.names:
            column = self._column(name)
            kind = _PANDAS_TYPES.get(frozenset(map(type, column)) - {type(None)}, "object")
            columns[name] = pd.Series(column, index, dtype=kind)
        return pd.DataFrame(columns, index=index, columns=list(self.names))

    def _column(self, name: str) -> list[Any]:
        if name not in self.names:
            raise UndeclaredFeatureError(f"{name} is none of this table's features: {', '.join(self.names) or 'none'}")
        return [None if row is None else row.get(name) for row in self._rows]


def _refuse_column(name: str, column: list[Any]) -> None:
    """Say which value of a column does not fit into a matrix.

    Raises:
        BadValueError: Always.
    """
    value = next(value for value in column if type(value) not in _NUMBERS)
    kind = "text" if isinstance(value, str) else "vectors" if isinstance(value, list) else type(value).__name__
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}…"  # noqa: PLR2004 - enough to recognise it by
    raise BadValueError(f"{name} holds {kind} ({shown}), a matrix only numbers: name the features wanted without it")
