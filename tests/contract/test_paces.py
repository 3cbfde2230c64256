"""How a bulk write makes room for those whom Redis serves meanwhile."""

from collections.abc import Iterator

import pytest
from featurestore.ingest import BulkWriter
from featurestore.ingest.pace import FAIR_US, Pace
from support.cluster import Cluster
from support.servers import Server
from support.whole_rows import COLUMNS, FEATURES, PLAIN, TIME, calls_of, empty

from featurestore import Definition
from featurestore.contract.bulk_calls import ListedPart, Part
from featurestore.keys import Keys


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def writer(valkey: Server) -> Iterator[BulkWriter]:
    with BulkWriter(valkey.url) as made:
        empty(made.store)
        yield made


def table(count: int) -> list[dict[str, object]]:
    return [{"id": f"u{row}", **dict(zip(COLUMNS, PLAIN, strict=True))} for row in range(count)]


def test_a_rate_bounds_the_rows_a_second() -> None:
    clock = Clock()
    pace = Pace(None, 1000.0, clock=clock, sleep=clock.sleep)
    parts: list[Part] = [ListedPart([(row, ("u", 1)) for row in range(100)], Keys()) for _ in range(6)]
    for sent, _ in enumerate(pace.parts(parts)):
        assert clock.now == pytest.approx(sent * 0.1)
    assert sum(clock.waits) == pytest.approx(0.5)


def test_a_pace_is_fair_while_others_are_served_and_quick_again_after(writer: BulkWriter, valkey: Server) -> None:
    clock, store = Clock(), writer.store
    pace = Pace(store.transport, call_us=1000.0, in_flight=4, clock=clock, sleep=clock.sleep)
    pace.look()
    for others, fair in ((50, False), (500, True), (500, True), (0, False)):
        for _ in range(others):
            store.get("u1")
        clock.now += 1
        pace.look()
        assert (pace.fair, pace.call_us, pace.in_flight) == ((True, FAIR_US, 1) if fair else (False, 1000.0, 4))


def test_own_calls_are_no_others(writer: BulkWriter) -> None:
    clock = Clock()
    pace = Pace(writer.store.transport, clock=clock, sleep=clock.sleep)
    pace.look()
    for _ in pace.calls([b"call"] * 300):
        writer.store.get("u1")
    clock.now += 1
    pace.look()
    assert not pace.fair


def test_pauses_are_as_long_as_calls_take_of_others() -> None:
    clock = Clock()
    pace = Pace(None, clock=clock, sleep=clock.sleep)
    pace.fair = True
    for _ in pace.calls([b"call", None, b"call"]):
        clock.now += 0.002
    assert clock.waits == [pytest.approx(0.006)] * 2


def test_in_a_cluster_pauses_follow_a_call_to_each_primary(cluster: Cluster) -> None:
    clock = Clock()
    with BulkWriter(cluster.url) as writer:
        writer.store.apply(Definition(features=FEATURES))
        pace = Pace(writer.store.transport, clock=clock, sleep=clock.sleep)
        pace.look()
        for _ in range(500):
            writer.store.upsert([("u1", {"i": 1})])
        clock.now += 1
        clock.waits.clear()
        pace.look()
        assert pace.fair
        calls = []
        for call in pace.calls([b"call"] * 7):
            clock.now += 0.002 if call is None else 0.0  # the time is over once all are answered
            calls.append(call)
    assert calls == [*[b"call"] * 3, None, *[b"call"] * 3, None, b"call"]
    assert clock.waits == [pytest.approx(0.006)] * 2


def test_a_node_that_is_away_does_not_keep_the_others_from_being_looked_at(cluster: Cluster) -> None:
    clock = Clock()
    with BulkWriter(cluster.url, timeout=0.3) as writer:
        pace = Pace(writer.store.transport, clock=clock, sleep=clock.sleep)
        pace.look()
        with next(node for node in cluster.nodes if node.is_primary).frozen():
            clock.now += 1
            pace.look()
            assert len(pace._seen) == 2
    cluster.settle()


def test_a_fair_write_makes_short_calls(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "look", lambda self: setattr(self, "fair", True))
    counts = []
    for fair in (True, False):
        with BulkWriter(valkey.url, fair=fair) as writer:
            empty(writer.store)
            writer.store.transport.command("CONFIG", "RESETSTAT")
            assert writer.write(table(500), event_time=TIME).written == 500
            counts.append(calls_of(writer.store)["evalsha"])
        monkeypatch.undo()
    assert counts[0] >= 4 * counts[1]


def test_a_user_who_may_not_ask_has_no_pauses(writer: BulkWriter, valkey: Server) -> None:
    command = writer.store.transport.command
    command("ACL", "SETUSER", "loader", "on", ">secret", "~*", "+@all", "-info")
    with BulkWriter(valkey.url.replace("redis://", "redis://loader:secret@")) as limited:
        assert limited.write(table(10), event_time=TIME).written == 10
        pace = Pace(limited.store.transport)
        pace.look()
        assert not pace.fair
    command("ACL", "DELUSER", "loader")
