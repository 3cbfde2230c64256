"""What workers count in shared memory: places, entities and series, and what is left of a worker that has ended."""

import pytest

from featurestore.api import board, counters
from featurestore.api.board import METHODS, MOST_ENTITIES, MOST_SERIES, PROBLEMS, ROUTES, Board, key_of, parts_of
from featurestore.api.counters import Meter
from featurestore.contract.replies import Answers, any_plain
from featurestore.contract.scripts import GET_FEATURES, SCRIPTS
from featurestore.contract.words import VERDICTS
from featurestore.errors import BY_CODE
from featurestore.transport.pipeline import Waiter


def counted(shared: Board) -> dict[tuple[str, str, str | None], float]:
    return {(each.method, each.route, each.entity): sum(each.statuses) for each in shared.requests()}


def test_requests_of_entities_are_counted_apart_and_together_over_all_workers() -> None:
    shared = Board(2)
    first, second = Meter(shared, 0), Meter(shared, 1)
    second.series("GET", "/features/batch", "item").add("200", 0.1)  # so that slots differ
    for meter in (first, second):
        meter.series("GET", "/features/{entity_id:path}", "user").add("200 OK", 0.1, 3)
        meter.series("GET", "/features/{entity_id:path}", "item").add("404", 0.1)
        meter.series("GET", "/health").add("200 OK", 0.1)
    assert counted(shared) == {
        ("GET", "/features/batch", "item"): 1,
        ("GET", "/features/{entity_id:path}", "item"): 2,
        ("GET", "/features/{entity_id:path}", "user"): 6,
        ("GET", "/health", None): 2,
    }


def test_entities_beyond_the_last_slot_are_counted_as_others() -> None:
    shared = Board()
    meter = Meter(shared)
    for number in range(MOST_ENTITIES + 5):
        meter.series("GET", "/schema", f"entity{number}").add("200", 0.0)
        meter.count_rows("A", f"entity{number}")
        meter.set_version(f"entity{number}", 7)
    found = counted(shared)
    assert len(found) == MOST_ENTITIES + 1
    assert found["GET", "/schema", "other"] == 5
    rows = shared.by_entity(board.ROWS)
    assert sum(rows["other"]) == 5
    assert sum(rows["entity0"]) == 1
    assert shared.rows() == dict.fromkeys(VERDICTS, 0) | {"A": MOST_ENTITIES + 5}


def test_series_beyond_the_last_one_are_counted_as_others() -> None:
    shared = Board()
    meter = Meter(shared)
    wanted = [(method, route, f"entity{number}") for number in range(20) for route in ROUTES for method in METHODS]
    for method, route, entity in wanted:
        meter.series(method, route, entity).add("200", 0.0)
    found = counted(shared)
    assert len(found) == MOST_SERIES
    assert sum(found.values()) == len(wanted)
    assert found["other", "other", None] == len(wanted) - (MOST_SERIES - 1)


def test_a_worker_goes_on_from_the_counts_of_the_one_before_and_not_from_its_gauges() -> None:
    shared = Board(2)
    first = Meter(shared, 1)
    first.series("GET", "/schema", "item").add("200", 0.5)
    first.count_rows("AR", "item", ["BADTYPE"])
    first.add("reconnects", 2)
    first.set("pid", 77)
    first.set("connected", 3)
    first.set_version("item", 9)
    assert [number for number, _ in shared.living()] == [1]
    shared.leave(1)
    assert not list(shared.living())
    assert shared.by_entity(board.VERSIONS) == {"item": [0]}
    second = Meter(shared, 1)
    second.series("GET", "/schema", "item").add("200", 0.5)
    second.series("GET", "/schema", "user").add("200", 0.5)
    second.count_rows("A", "item")
    assert counted(shared) == {("GET", "/schema", "item"): 2, ("GET", "/schema", "user"): 1}
    assert shared.by_entity(board.ROWS)["item"][list(VERDICTS).index("A")] == 2
    assert shared.sums(board.COUNTED)[board.COUNTS.index("reconnects")] == 2
    assert shared.sums(board.REJECTED)[board.REJECTIONS.index("BADTYPE")] == 1


def test_two_workers_at_one_place_do_not_mix_their_series() -> None:
    shared = Board()
    first, second = Meter(shared, 0), Meter(shared, 5)
    first.series("GET", "/schema").add("200", 0.0)
    second.series("GET", "/health").add("200", 0.0)
    first.series("GET", "/health").add("200", 0.0)
    assert counted(shared) == {("GET", "/schema", None): 1, ("GET", "/health", None): 2}


@pytest.mark.parametrize("slot", [0, 1, MOST_ENTITIES + 1])
def test_keys_tell_their_parts(slot: int) -> None:
    for route in range(len(ROUTES)):
        for method in range(len(METHODS)):
            assert parts_of(key_of(slot, route, method)) == (slot, route, method)


def test_an_entity_with_the_longest_name_keeps_it() -> None:
    shared, name = Board(), "e" * 64
    Meter(shared).count_rows("A", name)
    assert list(shared.by_entity(board.ROWS)) == [name]


def test_every_code_of_a_problem_and_every_script_has_a_count_of_its_own() -> None:
    assert {code for code in BY_CODE if code} <= set(PROBLEMS)
    assert {script.name for script in SCRIPTS} <= set(board.CALLS)


def test_what_is_not_foreseen_counts_as_other() -> None:
    shared = Board()
    meter = Meter(shared)
    meter.count_problem("TEAPOT", 2)
    meter.count_rows("R", "user", ["TEAPOT"])
    assert shared.sums(board.FAILED)[-1] == 2
    assert shared.sums(board.REJECTED)[-1] == 1


def test_calls_are_counted_by_what_was_called_once_they_are_published() -> None:
    shared = Board()
    meter = Meter(shared)
    calls = meter.calls
    calls.took("get_features", 0.0003, 1)
    calls.took("a write and a read", 0.0003, 2)
    calls.took("PING", 60.0, 1)
    far = 0.0  # a deadline of long ago, by any monotonic clock
    calls.answered([Waiter(None, Answers("a read", any_plain, []), far, 0.05, 0, 4, None)])
    assert not any(shared.sums(board.TIMED))
    calls.publish()
    calls.publish()
    found = shared.sums(board.TIMED)
    counts = {name: sum(found[place * board.TIMED.each : (place + 1) * board.TIMED.each - 1])
              for place, name in enumerate(board.CALLS)}  # fmt: skip
    assert {name: count for name, count in counts.items() if count} == {
        "get_features": 1, "upsert_and_get": 2, "command": 1, "reads": 4,
    }  # fmt: skip
    first = board.CALLS.index("get_features") * board.TIMED.each
    assert found[first + board.CALL_BUCKETS_S.index(0.0005)] == 1
    assert found[first + board.TIMED.each - 1] == pytest.approx(0.0003)


def test_a_busy_worker_looks_at_one_read_of_replies_in_eight_which_counts_for_eight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(counters, "monotonic", lambda: now[0])
    shared = Board()
    calls = Meter(shared).calls
    waiters = [Waiter(None, GET_FEATURES.answers([]), 100.0, 0.05, 0, 1, None)]

    def read(times: int) -> None:
        for _ in range(times):
            calls.reads += 1
            if not calls.reads & calls.mask:
                calls.answered(waiters)

    def after_a_second() -> float:
        now[0] += 1
        calls.publish()
        return sum(shared.sums(board.TIMED)[: len(board.CALL_BUCKETS_S) + 1])

    read(500)
    assert (after_a_second(), calls.mask) == (500, 0)
    read(2000)
    assert (after_a_second(), calls.mask) == (2500, 7)
    read(4000)
    assert (after_a_second(), calls.mask) == (6500, 7)
    read(80)
    calls.given_up(waiters)
    assert (after_a_second(), calls.mask) == (6581, 0)
