"""How often refused clients may come again."""

import itertools

import pytest

from featurestore.worker.pacing import Pacer

TOOK = 0.000075
"""So long a refusal takes that one a millisecond is what may be."""


def test_a_few_refusals_make_nobody_wait() -> None:
    pacer = Pacer()
    assert [pacer.pause(5.0, TOOK) for _ in range(100)] == [0.0] * 100
    assert max(pacer.pause(5.0, TOOK) for _ in range(3)) > 0


def test_many_refusals_are_spread() -> None:
    pacer = Pacer()
    due = [pacer.pause(7.0, TOOK) for _ in range(600)][110:]
    assert due[-1] == pytest.approx(0.5)
    assert [later - sooner for sooner, later in itertools.pairwise(due)] == pytest.approx([0.001] * 489)


def test_refusals_that_take_longer_are_spread_more() -> None:
    pacer = Pacer()
    pauses = [pacer.pause(7.0, 2 * TOOK) for _ in range(200)]
    assert pauses[-1] == pytest.approx(0.3)


def test_nobody_waits_longer_than_a_second() -> None:
    pacer = Pacer()
    assert max(pacer.pause(0.0, TOOK) for _ in range(5000)) == 1.0


def test_time_makes_up_for_it() -> None:
    pacer = Pacer()
    for _ in range(1000):
        pacer.pause(0.0, TOOK)
    assert pacer.pause(1.0, TOOK) == 0.0
