"""Rows as they leave the store: column by column, a few hundred at a time."""

from collections.abc import Mapping
from typing import Any

import msgspec

from featurestore.contract import arrow

ABOUT = "featurestore"
"""The metadata of an exported Parquet file, as JSON: what it is of, and when it was made."""


class Columns(msgspec.Struct, frozen=True):
    """What an exported file has.

    Attributes:
        entity: The entity's name.
        id_name: The name of the column of ids.
        features: The features in declared order, with their types.
    """

    entity: str
    id_name: str
    features: Mapping[str, str]


class Rows(msgspec.Struct):
    """Some rows.

    Attributes:
        ids: Of each row.
        event_times: Of each row, in ms since 1970; None for none.
        values: Feature → the value in each row, None where none is stored; a vector is the bytes of its numbers.
        times: Feature → row → event time in ms, of the values, and the removed ones, that have their own.
    """

    ids: list[str]
    event_times: list[int | None]
    values: dict[str, list[Any]]
    times: dict[str, dict[int, int]]

    @classmethod
    def of(cls, features: Mapping[str, str]) -> "Rows":
        """Return no rows yet, with these features."""
        return cls([], [], {name: [] for name in features}, {})


def own_time_column(feature: str) -> str:
    """Return the name of the column with a feature's own event times."""
    return f"{feature}{arrow.TIME}"
