"""How often refused clients may come again."""

import itertools

import pytest

from featurestore.worker.pacing import REFUSALS_PER_S, Pacer


def test_a_few_refusals_make_nobody_wait() -> None:
    pacer = Pacer()
    assert [pacer.pause(5.0) for _ in range(200)] == [0.0] * 200
    assert max(pacer.pause(5.0) for _ in range(3)) > 0


def test_many_refusals_are_spread() -> None:
    pacer = Pacer()
    due = [pacer.pause(7.0) for _ in range(1200)][210:]
    assert due[-1] == pytest.approx(0.5)
    assert [later - sooner for sooner, later in itertools.pairwise(due)] == pytest.approx([1 / REFUSALS_PER_S] * 989)


def test_nobody_waits_longer_than_a_second() -> None:
    pacer = Pacer()
    assert max(pacer.pause(0.0) for _ in range(5000)) == 1.0


def test_time_makes_up_for_it() -> None:
    pacer = Pacer()
    for _ in range(2000):
        pacer.pause(0.0)
    assert pacer.pause(1.0) == 0.0
