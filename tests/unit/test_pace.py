"""How much of big requests is sent beside small ones."""

from math import inf

import pytest

from featurestore.transport.pace import Pace


def sent_in(pace: Pace, seconds: float, took: float, *, each_us: float = 50.0, begin: float = 0.0) -> float:
    """Return how much is sent while a small request is answered each millisecond, and a call when it may be."""
    sent, now, noted = 0.0, begin, begin
    while now < begin + seconds:
        if now >= noted:
            pace.note(took, 0.0001, now, beside=True)
            noted += 0.001
        if pace.credit(now) > 0:
            pace.spend(each_us)
            sent += each_us
            now += each_us * 1e-6
        else:
            now = min(noted, now + max(pace.until_credit(), 0.00005))
    return sent


def test_without_small_requests_there_is_no_bound() -> None:
    pace = Pace(250.0)
    assert pace.credit(1.0) == inf
    pace.note(1.0, 0.0001, 2.0, beside=True)
    assert pace.credit(2.0) < inf
    assert pace.credit(2.1) == inf


def test_quick_small_requests_leave_the_others_alone() -> None:
    assert sent_in(Pace(250.0), 1.0, took=0.0003) > 900_000


def test_slow_ones_slow_the_others_down_to_a_share() -> None:
    pace = Pace(250.0)
    sent_in(pace, 0.5, took=0.005)
    assert sent_in(pace, 1.0, took=0.005, begin=0.5) == pytest.approx(50_000, rel=0.1)


def test_what_was_slowed_down_recovers() -> None:
    pace = Pace(250.0)
    sent_in(pace, 0.5, took=0.005)
    sent_in(pace, 0.5, took=0.0003, begin=0.5)
    assert sent_in(pace, 1.0, took=0.0003, begin=1.0) > 900_000


def test_small_requests_that_are_slow_anyway_slow_nobody_down() -> None:
    pace = Pace(250.0)
    for step in range(2000):
        pace.note(0.005, 0.0001, step / 1000, beside=False)
    assert sent_in(pace, 1.0, took=0.007, begin=2.0) > 900_000


def test_a_call_that_takes_long_is_sent_and_paid_for_later() -> None:
    pace = Pace(250.0)
    pace.note(0.001, 0.0001, 0.0, beside=True)
    assert pace.credit(0.0) > 0
    pace.spend(10_000.0)
    assert pace.credit(0.0) < 0
    wait = pace.until_credit()
    assert 0.003 < wait < 0.01
    assert pace.credit(wait - 0.0001) < 0
    assert pace.credit(wait) > 0
