"""How much of big requests is sent beside small ones."""

from math import inf

from featurestore.transport.pace import Pace


def sent_in(pace: Pace, seconds: float, took: float, *, each_us: float = 50.0, begin: float = 0.0) -> float:
    """Return how much is sent while a small request is answered each millisecond."""
    sent, steps = 0.0, int(seconds * 1000)
    for step in range(steps):
        now = begin + step / 1000
        pace.note(took, 0.0001, now)
        while (credit := pace.credit(now)) > 0:
            assert credit < inf
            pace.spend(each_us)
            sent += each_us
    return sent


def test_without_small_requests_there_is_no_bound() -> None:
    pace = Pace(250.0)
    assert pace.credit(1.0) == inf
    pace.note(1.0, 0.0001, 2.0)
    assert pace.credit(2.0) < inf
    assert pace.credit(2.1) == inf


def test_quick_small_requests_leave_the_others_alone() -> None:
    assert sent_in(Pace(2000.0), 1.0, took=0.0003) > 1_000_000


def test_slow_ones_slow_the_others_down() -> None:
    pace = Pace(250.0)
    sent_in(pace, 0.3, took=0.005)
    assert sent_in(pace, 1.0, took=0.005, begin=0.3) < 40_000


def test_what_was_slowed_down_recovers() -> None:
    pace = Pace(2000.0)
    sent_in(pace, 0.5, took=0.005)
    sent_in(pace, 0.5, took=0.0003, begin=0.5)
    assert sent_in(pace, 1.0, took=0.0003, begin=1.0) > 1_000_000


def test_a_call_that_takes_long_is_sent_and_paid_for_later() -> None:
    pace = Pace(250.0)
    pace.note(0.001, 0.0001, 0.0)
    assert pace.credit(0.0) > 0
    pace.spend(5000.0)
    assert pace.credit(0.0) == -250.0
