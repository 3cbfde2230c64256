"""A population of users whose features change, made from a seed."""

import random
from collections.abc import Iterator

COLUMNS = (
    "age",
    "purchase_count_30d",
    "avg_session_duration_min",
    "preferred_category",
    "country",
    "device",
    "ctr_7d",
    "spend_90d",
    "score",
    "n_logins",
)
"""The features of the schema that ships with the package, in its order."""

_CATEGORIES = ("food", "fashion", "electronics", "home", "sports", "books", "beauty", "toys")
_COUNTRIES = ("DE", "FR", "GB", "US", "IN", "BR", "JP", "NG", "PL", "ES", "IT", "SE")
_DEVICES = ("mobile", "desktop", "tablet")

SimulatedRow = tuple[str, float, float, float, str, str, str, float, float, float, int]
"""An id and a value for each of `COLUMNS`."""


class Simulator:
    """Makes rows for `user00000` to the last of `users`; the same seed makes the same rows.

    Args:
        users: How many users there are.
        seed: Start of the random numbers.
    """

    def __init__(self, users: int, seed: int) -> None:
        self._users = users
        self._random = random.Random(seed)  # noqa: S311 - reproducible, not secret

    def everyone(self) -> Iterator[SimulatedRow]:
        """Yield a row for each user once."""
        for number in range(self._users):
            yield self._row(number)

    def some(self, count: int) -> list[SimulatedRow]:
        """Return new rows for `count` users chosen at random, none twice (all, when there are fewer)."""
        return [self._row(number) for number in self._random.sample(range(self._users), min(count, self._users))]

    def _row(self, number: int) -> SimulatedRow:
        uniform, choose = self._random.random, self._random.choice
        logins = int(uniform() * 1000)
        return (
            f"user{number:05d}",
            float(18 + int(uniform() * 73)),
            float(int(uniform() * 50)),
            round(uniform() * 60, 2),
            choose(_CATEGORIES),
            choose(_COUNTRIES),
            choose(_DEVICES),
            round(uniform(), 4),
            round(uniform() * 1000, 2),
            uniform(),
            logins,
        )
