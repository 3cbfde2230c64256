"""Rows of features as a table: a sequence of dicts, a matrix for a model, a data frame, columns of Arrow."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from featurestore.contract import arrow
from featurestore.contract.arguments import listed_columns, plain_ids
from featurestore.contract.columns import bools, column_of, shown_kind
from featurestore.errors import BadArgumentsError, BadValueError, ConfigurationError, UndeclaredFeatureError
from featurestore.schema.types import Value
from featurestore.store.column_values import ColumnValues

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

TableRow = dict[str, Value | None] | None
"""Feature → value, None if there is none; None for an unknown id."""

_NUMBERS = frozenset({float, int, bool, type(None)})
_KINDS: Mapping[frozenset[type], str] = {
    frozenset({int}): "int",
    frozenset({bool}): "bool",
    frozenset({float}): "float",
    frozenset({int, float}): "float",
    frozenset({str}): "string",
    frozenset(): "float",
}
"""The types of a column's values → what it is taken for where the feature's type is not known."""
_PANDAS_TYPES = {"int": "Int64", "bool": "boolean", "float": "float64"}
_MATRIX_KINDS = frozenset({"int", "bool", "float"})


class FeatureTable(Sequence[TableRow]):
    """Features of many entities: a row for each id, in the order asked, duplicates included.

    It is a sequence of its rows, each a dict or None for an unknown id. A table that came as columns makes them when
    they are first asked for; whoever wants to change rows takes those of `to_dict`.

    Args:
        ids: The ids.
        rows: A row for each id.
        names: The features that the rows have.
        types: Their types, as far as they are known. Otherwise the values tell.

    Attributes:
        ids: The ids, aligned with the rows.
        names: The features, in the order of the columns.
        types: Feature → `float`, `int`, `bool`, `string` or `float32[N]`, as far as they are known.
    """

    __slots__ = ("_batch", "_columns", "_made_rows", "ids", "names", "types")

    _batch: "pa.RecordBatch | None"  # the columns as they came
    _columns: dict[str, ColumnValues]  # those that were asked for
    _made_rows: list[TableRow] | None

    def __init__(
        self,
        ids: Iterable[str],
        rows: Iterable[TableRow],
        names: Iterable[str],
        types: Mapping[str, str] | None = None,
    ) -> None:
        self.ids = tuple(ids)
        self.names = tuple(names)
        self.types = {name: shown_kind(types[name]) for name in self.names if name in types} if types else {}
        self._batch, self._columns, self._made_rows = None, {}, list(rows)
        if len(self.ids) != len(self._made_rows):
            raise BadArgumentsError(f"{len(self._made_rows)} rows for {len(self.ids)} ids")

    @classmethod
    def of(
        cls,
        ids: Iterable[str],
        rows: Iterable[TableRow],
        features: Iterable[str] | None = None,
        types: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the table of what `FeatureStore.get_many` returned for `ids`.

        Args:
            ids: The ids that were asked for.
            rows: What was returned, a row for each.
            features: The features that were asked for; those in the rows if left out. A table of unknown ids only has
                columns if they are given.
            types: Feature → its type, such as `store.schema().features`. Without, the values tell.

        Raises:
            BadArgumentsError: There are more rows than ids, or fewer, or an id or a name is no text.
        """
        ids, rows = plain_ids(ids), list(rows)
        names = (
            dict.fromkeys(listed_columns(features))
            if features is not None
            else {name: None for row in rows for name in row or ()}
        )
        return cls(ids, rows, names, types)

    @classmethod
    def of_arrow(cls, ids: Iterable[str], batch: "pa.RecordBatch") -> Self:
        """Return the table over a record batch as the server answers it; its features are the columns without `@`.

        The first column has the ids, or none of them if it is a query's.

        Raises:
            BadArgumentsError: There are more rows than ids, or fewer, or a column has a type that no feature has.
        """
        self = cls.__new__(cls)
        self.ids = tuple(ids)
        if len(self.ids) != batch.num_rows:
            raise BadArgumentsError(f"{batch.num_rows} rows for {len(self.ids)} ids")
        schema = batch.schema
        first = 0 if batch.num_columns and "@" in schema.field(0).name else 1
        columns = list(zip(schema.names, schema.types, strict=True))[first:]
        kinds = {name: arrow.kind_of(kind) for name, kind in columns if "@" not in name}
        self.types = {name: kind for name, kind in kinds.items() if kind is not None}
        if len(self.types) != len(kinds):
            raise BadArgumentsError(f"column {next(iter(kinds.keys() - self.types.keys()))} is no feature's")
        self.names = tuple(kinds)
        self._batch, self._columns, self._made_rows = batch, {}, None
        return self

    def __repr__(self) -> str:
        return f"<FeatureTable of {len(self)} rows and {len(self.names)} features>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeatureTable):
            return NotImplemented
        return (self.ids, self.names, self._rows) == (other.ids, other.names, other._rows)

    __hash__ = None  # type: ignore[assignment]  # the rows can be changed

    def __reduce__(self) -> tuple[Any, ...]:
        if self._batch is None:
            return type(self), (self.ids, self._rows, self.names, self.types)
        return type(self).of_arrow, (self.ids, self._batch)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[TableRow]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int) -> TableRow: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> TableRow | Self:
        if not isinstance(index, slice):
            return self._rows[index]
        start, stop, step = index.indices(len(self))
        if self._batch is None or step != 1:
            return type(self)(self.ids[index], self._rows[index], self.names, self.types)
        return self.of_arrow(self.ids[index], self._batch.slice(start, max(stop - start, 0)))

    @property
    def _rows(self) -> list[TableRow]:
        if self._made_rows is None:
            columns = [self._values(name) for name in self.names]
            rows = zip(*columns, strict=True) if columns else [()] * len(self)
            known = self._known()
            self._made_rows = [
                dict(zip(self.names, row, strict=True)) if there else None
                for row, there in zip(rows, known, strict=True)
            ]
        return self._made_rows

    def _known(self) -> list[bool]:
        """Return which ids are known; all of them where the columns do not tell, as those of a query."""
        if self._batch is None:
            return [row is not None for row in self._rows]
        if arrow.KNOWN not in self._batch.schema.names:
            return [True] * len(self)
        return ColumnValues.of_arrow(self._batch.column(arrow.KNOWN)).python()

    def to_dict(self) -> list[TableRow]:
        """Return the rows as a list. The caller may change it and its dicts."""
        return [None if row is None else dict(row) for row in self._rows]

    def column(self, name: str) -> "np.ndarray[Any, Any]":
        """Return a column as an array of its own type, whatever values there are.

        - `float`: float64, NaN where there is no value.
        - `float32[N]`: float32 of shape (rows, N), a row of NaN where there is none.
        - `int` and `bool`: a masked array of int64 or bool.
        - `string`: objects, None where there is none.

        In a table that came as columns it is over their memory where that is possible, and read only.

        Raises:
            UndeclaredFeatureError: The feature is not among `names`.
            BadValueError: The values are not of one type.
            ConfigurationError: numpy is not installed.
        """
        _check_numpy("column")
        import numpy as np  # noqa: PLC0415 - an extra

        column = self._column(name)
        values, missing = column.numpy(), column.missing()
        if column.kind in {"int", "bool"}:
            masked: np.ndarray[Any, Any] = np.ma.MaskedArray(values, missing)
            return masked
        if column.nulls and column.kind != "string":
            values = values.copy()
            values[missing] = math.nan
        return values

    def to_numpy(self, features: Iterable[str] | None = None) -> "npt.NDArray[np.float64]":
        """Return a float64 matrix of shape (rows, features).

        A missing value is NaN, and so is the whole row of an unknown id. A bool is 0 or 1. Ints beyond 2^53 are rounded
        to the nearest float64.

        Args:
            features: The columns wanted, in that order; all of `names` if left out.

        Raises:
            BadValueError: A column holds text or vectors: leave it out, or take it by `column`.
            UndeclaredFeatureError: A feature is not among `names`.
            ConfigurationError: numpy is not installed.
        """
        _check_numpy("to_numpy")
        import numpy as np  # noqa: PLC0415 - an extra

        names = self.names if features is None else tuple(listed_columns(features))
        matrix = np.empty((len(self), len(names)), np.float64)
        for place, name in enumerate(names):
            self._check_name(name)
            if self.types.get(name, "float") not in _MATRIX_KINDS:
                _refuse_column(name, self.types[name], self._values(name))
            if self._batch is not None:
                column = self._column(name)
                matrix[:, place] = column.numpy()
                if column.nulls:
                    matrix[column.missing(), place] = math.nan
                continue
            values = self._values(name)
            if not _NUMBERS.issuperset(map(type, values)):
                _refuse_column(name, None, values)
            matrix[:, place] = [math.nan if value is None else value for value in values]
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
            raise ConfigurationError("to_pandas needs pandas: pip install 'redis-featurestore[pandas]'") from error
        index = pd.Index(self.ids, dtype=object, name="id")
        columns: dict[str, Any] = {}
        for name in self.names:
            kind = self.types.get(name)
            if self._batch is None or kind not in _PANDAS_TYPES:
                values = self._values(name)
                kind = kind or _KINDS.get(frozenset(map(type, values)) - {type(None)}, "")
                columns[name] = pd.Series(values, index, dtype=_PANDAS_TYPES.get(kind, "object"))
            elif kind == "float":
                columns[name] = self.column(name)
            else:
                column = self._column(name)
                array = pd.arrays.IntegerArray if kind == "int" else pd.arrays.BooleanArray
                columns[name] = array(column.numpy().copy(), column.missing())
        return pd.DataFrame(columns, index=index, columns=list(self.names))

    def to_arrow(self) -> "pa.Table":
        """Return a table of pyarrow: the ids, whether they are known (`@known`), and a column for each feature.

        In a table that came as columns it is over their memory, and the columns are those that came.

        Raises:
            BadValueError: The values of a column are not of one type.
            ConfigurationError: pyarrow is not installed.
        """
        pa = arrow.library()
        if self._batch is None:
            columns = [column_of("string", self.ids), bools(self._known())]
            arrays = [arrow.array_of(len(self), column) for column in columns]
            arrays += [arrow.array_of(len(self), self._column(name).column()) for name in self.names]
            return pa.Table.from_arrays(
                arrays, ["id" if "id" not in self.names else arrow.ID, arrow.KNOWN, *self.names]
            )
        return pa.Table.from_batches([self._batch])

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the columns of `to_arrow` by Arrow's C stream interface, which other libraries take."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _check_name(self, name: str) -> None:
        if name not in self.types and name not in self.names:  # the former is quick
            raise UndeclaredFeatureError(f"{name} is none of this table's features: {', '.join(self.names) or 'none'}")

    def _values(self, name: str) -> list[Any]:
        """Return a column as a list of Python's values."""
        self._check_name(name)
        if self._batch is not None and self._made_rows is None:
            return self._column(name).python()
        return [None if row is None else row.get(name) for row in self._rows]

    def _column(self, name: str) -> ColumnValues:
        """Return a column; errors as in `column`."""
        self._check_name(name)
        if self._batch is not None:
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = ColumnValues.of_arrow(self._batch.column(name))
            return column
        values = self._values(name)
        kind = self.types.get(name) or _kind_of(values)
        if not kind:
            raise BadValueError(f"{name} holds values of several types")
        try:
            return ColumnValues.of_values(kind, values)
        except (TypeError, OverflowError) as error:
            raise BadValueError(f"{name} holds values that are not {kind}: {error}") from error


def _kind_of(values: list[Any]) -> str:
    """Return the type that all values have; empty if they have several."""
    types = frozenset(map(type, values)) - {type(None)}
    if types == {list}:
        lengths = {len(value) for value in values if value is not None}
        return f"float32[{lengths.pop()}]" if len(lengths) == 1 else ""
    return _KINDS.get(types, "")


def _check_numpy(method: str) -> None:
    try:
        import numpy  # noqa: F401, ICN001, PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(f"{method} needs numpy: pip install 'redis-featurestore[numpy]'") from error


def _refuse_column(name: str, kind: str | None, column: list[Any]) -> None:
    """Say which value of a column does not fit into a matrix.

    Raises:
        BadValueError: Always.
    """
    value = next((value for value in column if type(value) not in _NUMBERS), None)
    if kind is None:
        kind = "string" if isinstance(value, str) else "float32[" if isinstance(value, list) else type(value).__name__
    held = "text" if kind == "string" else "vectors" if kind.startswith("float32[") else kind
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}…"  # noqa: PLR2004 - enough to recognise it by
    example = "" if value is None else f" ({shown})"
    raise BadValueError(f"{name} holds {held}{example}, a matrix only numbers: name the features wanted without it")
