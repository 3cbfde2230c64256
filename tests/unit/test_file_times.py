"""Event times of files: their units, and as ms."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from featurestore.ingest.files.times import PER_SECOND, UnitFinder, likely_unit, time_of, to_ms
from hypothesis import given
from hypothesis import strategies as st

from featurestore import BadTimeError, ConfigurationError

S = 1_767_225_600


def in_ms(values: Any, unit: Any, *, plausible: bool) -> tuple[list[int | None], dict[int, str]]:
    """Return what `to_ms` does, as lists."""
    times, wrong = to_ms(values, unit, plausible=plausible)
    return (times if isinstance(times, list) else times.to_pylist()), wrong


@given(st.integers(10**8, 4_133_980_799), st.sampled_from(sorted(PER_SECOND)))
def test_a_moments_magnitude_tells_its_unit(second: int, unit: Any) -> None:
    assert likely_unit(second * PER_SECOND[unit]) == unit


@pytest.mark.parametrize("number", [-1, 0, 1, 99_999_999, 5 * 10**9, 99 * 10**9, 10**20])
def test_a_number_that_is_no_moment_has_no_unit(number: int) -> None:
    assert likely_unit(number) is None


@given(st.integers(10**8, 4_133_980_799), st.sampled_from(sorted(PER_SECOND)))
def test_columns_and_single_values_are_read_alike(second: int, unit: Any) -> None:
    numbers = [second * PER_SECOND[unit], None]
    expected = [second * 1000, None]
    for values in (pa.array(numbers, pa.int64()), pa.array([str(numbers[0]), None]), pa.array([str(numbers[0]), ""])):
        assert in_ms(values, unit, plausible=True) == (expected, {})
    assert in_ms(numbers, unit, plausible=True) == (expected, {})
    assert time_of(str(numbers[0]), unit, plausible=True) == expected[0]


@pytest.mark.parametrize(
    "value",
    [
        S, float(S), Decimal(S), str(S), f" {S}.0 ", "2026-01-01", "2026-01-01T00:00Z", "2026-01-01T01:00:00+01:00",
        datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1), date(2026, 1, 1),  # noqa: DTZ001 - as Arrow has them
    ],
)  # fmt: skip
def test_times_in_every_form(value: object) -> None:
    assert time_of(value, "s") == S * 1000


@pytest.mark.parametrize("value", [None, "", float("nan")])
def test_no_time(value: object) -> None:
    assert time_of(value, "s") is None


@pytest.mark.parametrize("value", [-1, "soon", True, [S], {}, "2026-13-01", 10**13, "1960-01-01", float("inf")])
def test_what_is_no_time_is_told_with_its_value(value: object) -> None:
    with pytest.raises(BadTimeError, match="event time"):
        time_of(value, "s")


def test_a_wrong_time_is_told_by_its_place_and_the_others_are_read() -> None:
    for values in (pa.array([S, 7, None]), [S, 7, None], pa.array([str(S), "7", ""])):
        times, wrong = in_ms(values, "s", plausible=True)
        assert times == [S * 1000, None, None]
        assert wrong == {
            1: "the event time 7 is no moment between 1973 and 2100 in seconds (--event-time-unit tells the unit)"
        }
        assert in_ms(values, "s", plausible=False) == ([S * 1000, 7000, None], {})


def test_ns_are_cut_to_ms_not_rounded() -> None:
    assert in_ms(pa.array([S * 10**9 + 999_999_999]), "ns", plausible=True)[0] == [S * 1000 + 999]
    stamps = pa.array([S * 10**9 + 999_999_999], pa.timestamp("ns", "UTC"))
    assert in_ms(stamps, None, plausible=True)[0] == [S * 1000 + 999]


def finder(*columns: Any) -> UnitFinder:
    found = UnitFinder()
    for number, column in enumerate(columns):
        found.look(column, f"file{number}", range(len(column)))
    return found


def test_one_unit_is_found_whatever_the_form() -> None:
    column = [S, None, 0, "x", float(S)]
    assert finder(pa.array([S, S + 1]), pa.array([str(S)]), column).unit("ts") == "s"
    assert finder(pa.array([None, None], pa.int64()), pa.array([S], pa.timestamp("s"))).unit("ts") is None
    assert finder(["2026-01-01"]).unit("ts") is None


def test_two_units_are_refused_with_an_example_of_each() -> None:
    text = rf"{S} \(seconds; file0, row 0\), {S * 10**6} \(microseconds; file1, row 1\).*--event-time-unit s takes"
    with pytest.raises(ConfigurationError, match=text):
        finder([S], pa.array([S, S * 10**6])).unit("ts")


def test_numbers_that_are_no_times_are_refused_with_an_example() -> None:
    with pytest.raises(ConfigurationError, match=r"column n has 3 \(file0, row 1\).*Is it the column of event times"):
        finder([None, 3]).unit("n")
