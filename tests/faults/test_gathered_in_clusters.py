"""Reads that nobody waits for in a cluster: a call a partition, and a node that fails fails its own reads alone."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import msgspec
import pytest
from support.cluster import Cluster, Node
from support.partitioned import three_primaries, write_by_hand
from support.scripted import eventually
from support.servers import wait_until

from featurestore import FeatureStore
from featurestore.api.app import create_app
from featurestore.api.counters import STATUSES, Board, Meter
from featurestore.api.gathered_reads import GatheredReads
from featurestore.keys import partition_of, slot_of
from featurestore.schema.definition import Definition
from featurestore.transport.gevent_cluster import GeventClusterTransport
from featurestore.worker.interface import Answer

IDS = [f"u{number}" for number in range(60)]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of three primaries with sixty users."""
    with three_primaries(tmp_path_factory.mktemp("three")) as cluster:
        with FeatureStore.connect(cluster.url, timeout=10) as store:
            store.apply(Definition({"age": "int", "score": "float"}))
            store.schema()
            write_by_hand(store, {each: {"age": number, "score": number / 4} for number, each in enumerate(IDS)})
        yield cluster


class Reader:
    """A store over a cluster's transport for greenlets, and what the app answers for it."""

    def __init__(self, cluster: Cluster, timeout: float = 20.0) -> None:
        self.cluster = cluster
        self.transport = GeventClusterTransport(cluster.url, timeout=timeout, connect_timeout=20)
        self.store = FeatureStore(self.transport)
        self.meter = Meter(Board())
        run_soon = gevent.get_hub().loop.run_callback
        self.app = GatheredReads(
            self.store, create_app(self.store, meter=self.meter), self.meter, self.transport, run_soon
        )

    def begin(self, *ids: str) -> dict[int, Answer | None]:
        """Begin to read every id in one turn; return where the answers will be, by position."""
        answers: dict[int, Answer | None] = {}

        def respond(number: int) -> Callable[[Answer | None], None]:
            return lambda answer: answers.update({number: answer})

        for number, entity_id in enumerate(ids):
            assert self.app.begin(f"/features/{entity_id}", respond(number))
        return answers

    def read(self, *ids: str) -> list[Answer | None]:
        """Read every id in one turn; return the answers."""
        answers = self.begin(*ids)
        eventually(lambda: len(answers) == len(ids), what="an answer for every read")
        return [answers[number] for number in range(len(ids))]

    def node_of(self, entity_id: str) -> Node:
        """Return the node that has an id."""
        return self.cluster.primary_of(slot_of(self.store.keys.holding(entity_id.encode()).schema.encode()))


@pytest.fixture
def reader(three: Cluster) -> Iterator[Reader]:
    """A reader that knows the schema, with a connection to every node."""
    made = connected(Reader(three))
    yield made
    made.transport.close()


def connected(reader: Reader) -> Reader:
    """Read the schema and everybody once; let the schema be sure from now on."""
    gevent.spawn(reader.store.get_many, IDS).get()
    gevent.spawn(reader.store.get, IDS[0]).get()
    reader.store._plans._sure_until = float("inf")
    return reader


def features_of(answer: Answer | None) -> Any:
    assert answer is not None
    return answer[0], msgspec.json.decode(answer[2]).get("features")


def expected(entity_id: str) -> Any:
    number = IDS.index(entity_id)
    return "200 OK", {"age": number, "score": number / 4}


def test_a_round_is_a_call_for_each_partition_and_a_write_for_each_node(reader: Reader) -> None:
    calls, writes = reader.transport.calls, reader.transport.writes
    answers = reader.read(*IDS)
    assert list(map(features_of, answers)) == list(map(expected, IDS))
    assert reader.transport.calls - calls == len({partition_of(each.encode(), 64) for each in IDS})
    assert reader.transport.writes - writes == 3


def test_duplicates_and_unknown_ids_have_answers_of_their_own(reader: Reader) -> None:
    answers = reader.read("u1", "nobody", "u1", "u2", "nobody")
    assert [answer and answer[0][:3] for answer in answers] == ["200", "404", "200", "200", "404"]
    assert features_of(answers[2]) == expected("u1")
    (answer,) = reader.read("u3")
    assert answer is not None
    assert answer[2] == reader.store.get_json("u3")
    (totals,) = reader.meter.board.requests()
    counted = {status: count for status, count in zip(STATUSES, totals.statuses, strict=True) if count}
    assert counted == {"200": 4, "404": 2}


def test_named_features_are_gathered_too(reader: Reader) -> None:
    gevent.spawn(reader.store.get_many, IDS[:2], ["age"]).get()
    answers: dict[str, Answer | None] = {}

    def respond(entity_id: str) -> Callable[[Answer | None], None]:
        return lambda answer: answers.update({entity_id: answer})

    for each in IDS:
        assert reader.app.begin(f"/features/{each}?features=age", respond(each))
    eventually(lambda: len(answers) == len(IDS), what="answers")
    assert {each: features_of(answer)[1] for each, answer in answers.items()} == {
        each: {"age": number} for number, each in enumerate(IDS)
    }


def test_an_error_of_one_call_gives_back_its_reads_alone(reader: Reader) -> None:
    part = reader.store.keys.holding(b"u1")
    node = reader.node_of("u1")
    node.command("RENAME", part.members, f"{part.members}:aside")
    node.command("SET", part.members, "no set")
    try:
        answers = reader.read(*IDS)
    finally:
        node.command("DEL", part.members)
        node.command("RENAME", f"{part.members}:aside", part.members)
    for each, answer in zip(IDS, answers, strict=True):
        if reader.store.keys.holding(each.encode()) is part:
            assert answer is None
        else:
            assert features_of(answer) == expected(each)


def test_scripts_lost_on_one_node_give_back_the_reads_of_that_node(reader: Reader) -> None:
    node = reader.node_of("u1")
    node.command("SCRIPT", "FLUSH")
    answers = dict(zip(IDS, reader.read(*IDS), strict=True))
    assert {each for each, answer in answers.items() if answer is None} == {
        each for each in IDS if reader.node_of(each) is node
    }
    assert gevent.spawn(reader.store.get_many, IDS).get()[1] == expected("u1")[1]
    assert features_of(reader.read("u1")[0]) == expected("u1")


def test_a_node_that_does_not_answer_holds_up_nobody_else(three: Cluster) -> None:
    reader = connected(Reader(three, timeout=1.0))
    frozen = reader.node_of("u1")
    others = [each for each in IDS if reader.node_of(each) is not frozen]
    with frozen.frozen():
        late = [reader.begin(*IDS) for _ in range(2)]
        eventually(lambda: all(len(answers) >= len(others) for answers in late), what="answers of the other nodes")
        for _ in range(8):  # more rounds than may be under way
            mixed = reader.begin(*others, "u1")
            late.append(mixed)
            eventually(lambda: len(mixed) >= len(others), what="answers of the other nodes")  # noqa: B023 - called here
            assert [features_of(mixed[place]) for place in range(len(others))] == list(map(expected, others))
        assert all(place not in answers for answers in late[:2] for place, each in enumerate(IDS) if each == "u1")
        eventually(lambda: all(len(answers) > len(others) for answers in late), what="time-outs")
    assert {answers[place][0] for answers in late[:2] for place, each in enumerate(IDS) if each not in others} == {  # type: ignore[index]
        "504 Gateway Timeout"
    }
    reader.transport.close()


# Replicas


@pytest.fixture
def doubled(cluster: Cluster) -> Iterator[Reader]:
    """A reader of a cluster whose primaries have replicas, which have all users."""
    with FeatureStore.connect(cluster.url, timeout=10) as store:
        store.apply(Definition({"age": "int", "score": "float"}))
        store.upsert([(each, {"age": number, "score": number / 4}) for number, each in enumerate(IDS)])
    for primary in [node for node in cluster.nodes if node.is_primary]:
        (replica,) = cluster.replicas_of(primary)
        wait_until(lambda: replica.command("DBSIZE") == primary.command("DBSIZE"), what="copies")  # noqa: B023 - called here
    made = connected(Reader(cluster, timeout=0.4))  # all of a test is over before another primary is elected
    yield made
    made.transport.close()


def given_back(reader: Reader, entity_id: str) -> bytes | None:
    """Read an id as the worker does that gets it back; return its JSON."""
    body: bytes | None = gevent.spawn(reader.store.get_json, entity_id).get()
    return body


def test_reads_of_a_primary_that_hangs_are_its_replicas_within_the_request(doubled: Reader) -> None:
    frozen = doubled.node_of("u1")
    own = [each for each in IDS if doubled.node_of(each) is frozen]
    with frozen.frozen():
        for _ in range(3):
            began = time.monotonic()
            (answer,) = doubled.read("u1")
            if answer is None:
                body = given_back(doubled, "u1")
                assert body is not None
                assert msgspec.json.decode(body)["features"] == expected("u1")[1]
            else:
                assert features_of(answer) == expected("u1")
            assert time.monotonic() - began < 2.0
        shard = doubled.transport.cluster.shard(slot_of(doubled.store.keys.holding(b"u1").schema.encode()))
        assert shard is not None
        assert doubled.transport.cluster.reading.is_failing(shard.primary)
        answers = doubled.read(*own)  # at once from now on, but for one that tries the primary
        assert [answer for answer in answers if answer is not None and answer[0] != "200 OK"] == []
        assert sum(answer is None for answer in answers) <= 1
    eventually(lambda: given_back(doubled, "u1") and doubled.transport.cluster.reading.settled, what="the primary")
    assert features_of(doubled.read("u1")[0]) == expected("u1")


def test_reads_of_a_primary_that_is_gone_are_given_back_and_its_replicas(doubled: Reader) -> None:
    gone = doubled.node_of("u1")
    own = [each for each in IDS if doubled.node_of(each) is gone]
    gone.stop()
    answers = dict(zip(own, doubled.read(*own), strict=True))
    for each, answer in answers.items():
        if answer is None:
            body = given_back(doubled, each)
            assert body is not None
            assert msgspec.json.decode(body)["features"] == expected(each)[1]
        else:
            assert features_of(answer) == expected(each)
    assert features_of(doubled.read("u1")[0]) == expected("u1")
    gone.start()


def test_calls_are_given_up_early_only_where_a_replica_may_answer(doubled: Reader, reader: Reader) -> None:
    doubled.read("u1")
    reader.read("u1")
    assert [node.hurry for node in doubled.transport._by_slot.values()] == [0.2] * len(doubled.transport._by_slot)
    assert {node.hurry for node in reader.transport._by_slot.values()} == {None}
