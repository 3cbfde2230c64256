"""The least round trip of the last seconds."""

import pytest

from featurestore.transport.round_trip import RoundTrip


def test_the_quickest_call_counts() -> None:
    trip = RoundTrip()
    assert trip.least == 0.0
    for took in (0.004, 0.002, 0.003):
        trip.note(5.0, 5.0 + took)
    assert trip.least == pytest.approx(0.002)


def test_what_was_quick_long_ago_is_forgotten() -> None:
    trip = RoundTrip()
    trip.note(0.0, 0.001)
    for number in range(25):
        began = 1.0 * (number + 1)
        trip.note(began, began + 0.005)
        if began < 10:
            assert trip.least == pytest.approx(0.001)
    assert trip.least == pytest.approx(0.005)
    trip.note(60.0, 60.009)
    assert trip.least == pytest.approx(0.009)
