"""The measure by which answers are judged while servers break: what it accuses, and what it lets pass."""

from collections import Counter
from typing import Any

import pytest
from support.checking import Answer, seen_of
from support.truth import Truth, row_of


@pytest.fixture
def truth() -> Truth:
    """Version 2 of ann was acknowledged, and 3 tried; nobody knows bob."""
    truth = Truth()
    truth.know(["ann"])
    for n in (1, 2):
        assert truth.next_version("ann") == n
        truth.acknowledge("ann", n)
    assert truth.next_version("ann") == 3
    return truth


@pytest.mark.parametrize("n", [2, 3])
def test_what_was_acknowledged_or_tried_may_be_found(truth: Truth, n: int) -> None:
    truth.judge("ann", row_of("ann", n), truth.least("ann"))
    truth.judge("bob", None, truth.least("bob"))
    assert (truth.wrong, truth.stale) == ([], Counter())


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (row_of("ann", 4), "nobody wrote"),
        (row_of("bob", 2), "the values of one row"),
        ({**row_of("ann", 2), "half": 1.5}, "the values of one row"),
        ({**row_of("ann", 2), "n": None}, "n = None"),
        ({**row_of("ann", 2), "n": "2"}, "n = '2'"),
        ({**row_of("ann", 2), "n": 2.0}, r"n = 2\.0"),
    ],
)
def test_what_cannot_be_true_is_accused(truth: Truth, found: Any, why: str) -> None:
    truth.judge("ann", found, truth.least("ann"))
    assert why.replace("\\", "") in " ".join(truth.wrong)


def test_a_row_of_nobody_is_accused(truth: Truth) -> None:
    truth.judge("bob", row_of("bob", 0), truth.least("bob"))
    assert truth.wrong == ["bob has n = 0, which nobody wrote"]


@pytest.mark.parametrize("found", [None, row_of("ann", 1)])
def test_what_is_older_than_acknowledged_counts_once(truth: Truth, found: Any) -> None:
    for _ in range(2):
        truth.judge("ann", found, truth.least("ann"))
    assert (truth.wrong, truth.stale) == ([], {"ann": 1})


def test_a_read_that_began_before_the_acknowledgement_may_find_what_was_before(truth: Truth) -> None:
    least = truth.least("ann")
    truth.acknowledge("ann", 3)
    truth.judge("ann", row_of("ann", 2), least)
    assert not truth.stale


def test_increments_count_what_was_tried(truth: Truth) -> None:
    truth.know(["hits"])
    for _ in range(2):
        truth.next_version("hits")
    truth.count_acknowledged("hits")
    truth.judge("hits", {"clicks": 2}, truth.least("hits"), name="clicks")
    assert truth.wrong == []
    truth.judge("hits", {"clicks": 3}, truth.least("hits"), name="clicks")
    assert truth.wrong == ["hits has clicks = 3, which nobody wrote"]
    assert truth.acknowledged("hits") == 1
    assert sorted(truth.written) == ["ann", "hits"]


def test_what_was_seen_is_told_by_kind_and_from_the_fault_on() -> None:
    answers = [
        Answer(at=8.0, took=0.5, writes=False, status="503"),  # before
        Answer(at=9.9, took=0.2, writes=False, status="503"),  # under way
        Answer(at=10.5, took=0.1, writes=False, status="504"),
        Answer(at=10.6, took=0.3, writes=False, status="404"),
        Answer(at=11.0, took=0.1, writes=True, status="200"),
    ]
    reads, writes = seen_of(answers, 10.0, writes=False), seen_of(answers, 10.0, writes=True)
    assert (reads.asked, dict(reads.failed)) == (3, {"503": 1, "504": 1})
    assert (reads.first, reads.last, reads.last_asked) == pytest.approx((-0.1, 0.6, 0.5))
    assert (reads.slowest, writes.asked, writes.last) == pytest.approx((0.3, 1, 0.0))
